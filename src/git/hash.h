/*
 * hash: object ids, with libcrypto.
 *
 * The id of an object is the hash of "<type> <size>\0" and its bytes (git's
 * Documentation/technical, "hash-function-transition", and gitformat-pack for checksums).
 *
 *	hasher_init[_object] ---> hasher_update ... ---> hasher_final ---> (again) hasher_release
 *
 * Threads: a hasher belongs to one thread.
 */
#ifndef GIT_HASH_H
#define GIT_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/content.h"
#include "base/oid.h"

struct hasher {
	void *ctx; /* EVP_MD_CTX, owned */
	enum oid_algo algo;
};

/* Zero-initialise the struct before the first init. -ENOMEM or -EIO from libcrypto. */
int hasher_init(struct hasher *hasher, enum oid_algo algo);
int hasher_init_object(struct hasher *hasher, enum oid_algo algo, enum object_type type,
		       uint64_t size);
int hasher_update(struct hasher *hasher, const void *data, size_t len);
int hasher_final(struct hasher *hasher, struct oid *out);
void hasher_release(struct hasher *hasher);

/* The id of a whole object in memory. */
int object_hash(enum oid_algo algo, enum object_type type, const void *data, size_t len,
		struct oid *out);

#endif
