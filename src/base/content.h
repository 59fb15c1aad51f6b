/*
 * content: the whole bytes of one verified git object, immutable and counted.
 *
 * Small objects are in memory (a block), large ones in an unlinked file that lives as long as the
 * content. A content exists only after its bytes were hashed and found to be `oid`, or after they
 * came out of the cache with good checksums.
 *
 *	content_from_block_take, content_from_fd_take ---> content_ref, content_unref ---> freed
 *
 * Threads: any; the count is atomic, everything else is set at the start.
 */
#ifndef BASE_CONTENT_H
#define BASE_CONTENT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/oid.h"

/* git's own numbers, as in pack entry headers. */
enum object_type {
	OBJECT_NONE = 0,
	OBJECT_COMMIT = 1,
	OBJECT_TREE = 2,
	OBJECT_BLOB = 3,
	OBJECT_TAG = 4,
};
const char *object_type_name(enum object_type type); /* "commit", ...; "none" for anything else */

struct content {
	_Atomic unsigned refs;
	struct oid oid;
	enum object_type type;
	uint64_t size;
	struct block *block; /* owned; NULL when the bytes are in fd */
	int fd;		     /* owned; -1 when the bytes are in block */
};

/* Both take over what they are given, also when they fail (NULL: out of memory). */
struct content *content_from_block_take(const struct oid *oid, enum object_type type,
					struct block *block);
struct content *content_from_fd_take(const struct oid *oid, enum object_type type, int fd,
				     uint64_t size);

struct content *content_ref(struct content *content);
void content_unref(struct content *content); /* NULL is fine */

/*
 * The bytes [off, off+len) cut at the end of the object, as spans. Copies only from a file.
 * Returns 0, -ENOMEM, or the file's read error. May wait on disk.
 */
int content_read(struct content *content, uint64_t off, size_t len, struct spans *out);

/* The whole as one block (a new reference); -EFBIG when larger than max_len. */
int content_block(struct content *content, size_t max_len, struct block **out);

#endif
