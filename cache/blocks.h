/*
 * blocks: unpacked blocks kept at hand, the least recently used one goes first.
 *
 * Content is named by its hash, so a block in here is right for ever; only what goes by another
 * name may have to leave (blocks_drop()).
 *
 *	blocks_new(max_len) ---> blocks_get / blocks_claim + blocks_settle ... ---> blocks_free
 *
 * Who finds a block missing claims it, makes it, and settles the claim; whoever wants the same
 * block meanwhile waits for that, so that it is read and unpacked once.
 *
 * Threads: any. Several shards, each with a leaf lock that is never held over anything that waits.
 */
#ifndef CACHE_BLOCKS_H
#define CACHE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/block.h"
#include "base/oid.h"

struct blocks;

struct blocks *blocks_new(size_t max_len); /* NULL when out of memory */
void blocks_free(struct blocks *blocks);

/* A new reference, or NULL. Never waits. */
struct block *blocks_get(struct blocks *blocks, const struct oid *oid, uint32_t index);

struct block_key {
	struct oid oid;
	uint8_t zero[3]; /* the struct is a hash key: no holes */
	uint32_t index;
};

/* On the stack of the one who makes a block. */
struct blocks_claim {
	LIST_ENTRY(blocks_claim) link;
	struct block_key key;
};

/*
 * A new reference; or NULL, and then the block is the caller's to make, who must call
 * blocks_settle() before it claims another. Waits for a claim of the same block to be settled.
 */
struct block *blocks_claim(struct blocks *blocks, const struct oid *oid, uint32_t index,
			   struct blocks_claim *claim);

/*
 * Takes its own reference. NULL: it could not be made, and one of those who wait claims it. What
 * does not fit, or no memory is left for, is not kept.
 */
void blocks_settle(struct blocks *blocks, struct blocks_claim *claim, struct block *block);

/* Those of one object leave: it was none. */
void blocks_drop(struct blocks *blocks, const struct oid *oid);

size_t blocks_len(struct blocks *blocks); /* bytes kept now */

#endif
