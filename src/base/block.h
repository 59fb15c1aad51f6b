/*
 * block: immutable bytes in memory, counted.
 *
 *	block_new (its maker alone writes) ---> published (read-only) ---> last block_unref frees
 *
 * Threads: once published, any; the count is atomic.
 */
#ifndef BASE_BLOCK_H
#define BASE_BLOCK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct block {
	_Atomic unsigned refs;
	size_t len;
	uint8_t data[];
};

struct block *block_new(size_t len); /* one reference, bytes undefined; NULL when out of memory */
struct block *block_copy(const void *data, size_t len);
struct block *block_ref(struct block *block); /* returns its argument */
void block_unref(struct block *block);	      /* NULL is fine */

/* A stretch of a block; holds a reference. */
struct span {
	struct block *block;
	size_t off, len;
};

/*
 * The bytes that answer one read, in order. A kernel read is at most 1 MiB: nine blocks of 128 KiB
 * when it is not aligned.
 */
#define SPANS_MAX 16
struct spans {
	unsigned count;
	size_t len; /* of all */
	struct span v[SPANS_MAX];
};
#define SPANS_INIT                                                                                 \
	{                                                                                          \
		.count = 0, .len = 0                                                               \
	}

/* Takes over the caller's reference. -E2BIG when full (the reference is dropped). */
int spans_add_take(struct spans *spans, struct block *block, size_t off, size_t len);
void spans_release(struct spans *spans); /* gives back the references and empties it */

#endif
