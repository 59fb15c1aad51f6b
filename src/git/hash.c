/*
 * hash: object ids through libcrypto's EVP.
 *
 * A context is kept from one object to the next: naming the digest anew costs more than hashing a
 * small object. SHA-1 collisions are not looked for: libcrypto has nothing for it.
 */
#include "git/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>

static const EVP_MD *digest_of(enum oid_algo algo)
{
	return algo == OID_SHA256 ? EVP_sha256() : EVP_sha1();
}

int hasher_init(struct hasher *hasher, enum oid_algo algo)
{
	const EVP_MD *digest = NULL; /* NULL: the one that the context already has */

	if (!hasher->ctx) {
		hasher->ctx = EVP_MD_CTX_new();
		if (!hasher->ctx)
			return -ENOMEM;
		hasher->algo = 0;
	}
	if (hasher->algo != algo)
		digest = digest_of(algo);
	if (!EVP_DigestInit_ex(hasher->ctx, digest, NULL)) {
		hasher->algo = 0;
		return -EIO;
	}
	hasher->algo = algo;
	return 0;
}

int hasher_init_object(struct hasher *hasher, enum oid_algo algo, enum object_type type,
		       uint64_t size)
{
	char head[32]; /* "commit 18446744073709551615" and its NUL fit */
	int len, rc;

	len = snprintf(head, sizeof(head), "%s %" PRIu64, object_type_name(type), size);
	if (len < 0 || (size_t)len >= sizeof(head))
		return -EINVAL;
	rc = hasher_init(hasher, algo);
	if (rc)
		return rc;
	return hasher_update(hasher, head, (size_t)len + 1);
}

int hasher_update(struct hasher *hasher, const void *data, size_t len)
{
	if (len == 0)
		return 0;
	if (!hasher->ctx || !EVP_DigestUpdate(hasher->ctx, data, len))
		return -EIO;
	return 0;
}

int hasher_final(struct hasher *hasher, struct oid *out)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!hasher->ctx || !EVP_DigestFinal_ex(hasher->ctx, hash, &len) ||
	    len != oid_algo_len(hasher->algo))
		return -EIO;
	*out = oid_from_bytes(hasher->algo, hash);
	return 0;
}

void hasher_release(struct hasher *hasher)
{
	EVP_MD_CTX_free(hasher->ctx);
	hasher->ctx = NULL;
	hasher->algo = 0;
}

int object_hash(enum oid_algo algo, enum object_type type, const void *data, size_t len,
		struct oid *out)
{
	struct hasher hasher = { 0 };
	int rc;

	rc = hasher_init_object(&hasher, algo, type, len);
	if (!rc)
		rc = hasher_update(&hasher, data, len);
	if (!rc)
		rc = hasher_final(&hasher, out);
	hasher_release(&hasher);
	return rc;
}
