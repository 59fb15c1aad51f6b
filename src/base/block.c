/*
 * block: counted bytes. The count starts at one and orders the maker's writes before everybody's
 * free.
 */
#include "base/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct block *block_new(size_t len)
{
	struct block *block;

	if (len > SIZE_MAX / 2)
		return NULL;
	block = malloc(sizeof(*block) + len);
	if (!block)
		return NULL;
	atomic_init(&block->refs, 1);
	block->len = len;
	return block;
}

struct block *block_copy(const void *data, size_t len)
{
	struct block *block = block_new(len);

	if (block && len > 0)
		memcpy(block->data, data, len);
	return block;
}

struct block *block_ref(struct block *block)
{
	atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
	return block;
}

void block_unref(struct block *block)
{
	/*
	 * acquire and release: the last one sees all that others did with the bytes before it frees
	 * them
	 */
	if (block && atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1)
		free(block);
}

int spans_add_take(struct spans *spans, struct block *block, size_t off, size_t len)
{
	if (spans->count == SPANS_MAX) {
		block_unref(block);
		return -E2BIG;
	}
	spans->v[spans->count++] = (struct span){ block, off, len };
	spans->len += len;
	return 0;
}

void spans_release(struct spans *spans)
{
	for (unsigned i = 0; i < spans->count; i++)
		block_unref(spans->v[i].block);
	spans->count = 0;
	spans->len = 0;
}
