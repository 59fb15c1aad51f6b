/*
 * blocks: unpacked blocks kept at hand, the least recently used one goes first.
 *
 * Content is named by its hash, so a block in here is right for ever; only what goes by another
 * name may have to leave (blocks_drop()).
 *
 *	blocks_new(max_len) ---> blocks_get / blocks_add ... ---> blocks_free
 *
 * Threads: any. Several shards, each with a leaf lock that is never held over anything that waits.
 */
#ifndef CACHE_BLOCKS_H
#define CACHE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/oid.h"

struct blocks;

struct blocks *blocks_new(size_t max_len); /* NULL when out of memory */
void blocks_free(struct blocks *blocks);

/* A new reference, or NULL. */
struct block *blocks_get(struct blocks *blocks, const struct oid *oid, uint32_t index);

/* Takes its own reference. What does not fit, or no memory is left for, is not kept. */
void blocks_add(struct blocks *blocks, const struct oid *oid, uint32_t index, struct block *block);

/* Those of one object leave: it was none. */
void blocks_drop(struct blocks *blocks, const struct oid *oid);

size_t blocks_len(struct blocks *blocks); /* bytes kept now */

#endif
