/*
 * blocks: sharded by key, so that readers on several processors seldom meet. What leaves is
 * unreferenced after the shard's lock is given back.
 */
#include "cache/blocks.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <xxhash.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, key_len, out) (out) = (unsigned)XXH3_64bits(key, key_len)
#include <uthash.h>

#include "base/lock.h"

#define SHARD_COUNT 8

struct kept {
	UT_hash_handle hh;
	TAILQ_ENTRY(kept) link;
	struct block_key key;
	struct block *block; /* counted */
};
TAILQ_HEAD(kept_list, kept);

struct shard {
	struct lock lock;
	struct lock_cond settled;
	/* under lock */
	struct kept *table;
	struct kept_list by_use; /* the most recent one first */
	size_t len;
	LIST_HEAD(, blocks_claim) claims;
	unsigned waiting; /* threads, for any of the claims */
};

struct blocks {
	size_t shard_max_len;
	struct shard shards[SHARD_COUNT];
};

static struct block_key block_key(const struct oid *oid, uint32_t index)
{
	struct block_key key = { .oid = *oid, .index = index };

	return key;
}

static struct shard *shard_of(struct blocks *blocks, const struct block_key *key)
{
	return &blocks->shards[(key->oid.hash[19] + key->index) % SHARD_COUNT];
}

static size_t kept_cost(const struct kept *kept)
{
	return kept->block->len + sizeof(*kept) + sizeof(struct block);
}

static void kept_free(struct kept *kept)
{
	block_unref(kept->block);
	free(kept);
}

struct blocks *blocks_new(size_t max_len)
{
	struct blocks *blocks = calloc(1, sizeof(*blocks));

	if (!blocks)
		return NULL;
	blocks->shard_max_len = max_len / SHARD_COUNT;
	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		lock_init(&blocks->shards[i].lock);
		lock_cond_init(&blocks->shards[i].settled);
		LIST_INIT(&blocks->shards[i].claims);
		TAILQ_INIT(&blocks->shards[i].by_use);
	}
	return blocks;
}

static void shard_empty(struct shard *shard)
{
	struct kept *kept;

	while ((kept = TAILQ_FIRST(&shard->by_use))) {
		TAILQ_REMOVE(&shard->by_use, kept, link);
		HASH_DELETE(hh, shard->table, kept);
		kept_free(kept);
	}
}

void blocks_free(struct blocks *blocks)
{
	if (!blocks)
		return;
	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		shard_empty(&blocks->shards[i]);
		lock_cond_release(&blocks->shards[i].settled);
		lock_release(&blocks->shards[i].lock);
	}
	free(blocks);
}

static struct block *shard_find_locked(struct shard *shard, const struct block_key *key)
{
	struct kept *kept;

	HASH_FIND(hh, shard->table, key, sizeof(*key), kept);
	if (!kept)
		return NULL;
	TAILQ_REMOVE(&shard->by_use, kept, link);
	TAILQ_INSERT_HEAD(&shard->by_use, kept, link);
	return block_ref(kept->block);
}

struct block *blocks_get(struct blocks *blocks, const struct oid *oid, uint32_t index)
{
	struct block_key key = block_key(oid, index);
	struct shard *shard = shard_of(blocks, &key);
	struct block *block;

	lock_take(&shard->lock);
	block = shard_find_locked(shard, &key);
	lock_give(&shard->lock);
	return block;
}

static bool is_claimed_locked(struct shard *shard, const struct block_key *key)
{
	struct blocks_claim *claim;

	LIST_FOREACH(claim, &shard->claims, link)
		if (memcmp(&claim->key, key, sizeof(*key)) == 0)
			return true;
	return false;
}

struct block *blocks_claim(struct blocks *blocks, const struct oid *oid, uint32_t index,
			   struct blocks_claim *claim)
{
	struct shard *shard;
	struct block *block;

	claim->key = block_key(oid, index);
	shard = shard_of(blocks, &claim->key);
	lock_take(&shard->lock);
	while (!(block = shard_find_locked(shard, &claim->key)) &&
	       is_claimed_locked(shard, &claim->key)) {
		shard->waiting++;
		lock_cond_wait(&shard->settled, &shard->lock);
		shard->waiting--;
	}
	if (!block)
		LIST_INSERT_HEAD(&shard->claims, claim, link);
	lock_give(&shard->lock);
	return block;
}

static void shard_make_room_locked(struct shard *shard, size_t room_len, struct kept_list *out_gone)
{
	while (shard->len > room_len) {
		struct kept *last = TAILQ_LAST(&shard->by_use, kept_list);

		if (!last || !shard->table)
			break;
		TAILQ_REMOVE(&shard->by_use, last, link);
		HASH_DELETE(hh, shard->table, last);
		shard->len -= kept_cost(last);
		TAILQ_INSERT_TAIL(out_gone, last, link);
	}
}

/* False when the table has no memory. A claimed block is never there already. */
static bool shard_insert_locked(struct shard *shard, struct kept *kept)
{
	HASH_ADD(hh, shard->table, key, sizeof(kept->key), kept);
	if (!kept->hh.tbl)
		return false;
	TAILQ_INSERT_HEAD(&shard->by_use, kept, link);
	shard->len += kept_cost(kept);
	return true;
}

/* NULL for what does not fit, or when there is no memory. */
static struct kept *kept_new(const struct blocks *blocks, const struct block_key *key,
			     struct block *block)
{
	struct kept *kept = block ? calloc(1, sizeof(*kept)) : NULL;

	if (!kept)
		return NULL;
	kept->key = *key;
	kept->block = block_ref(block);
	if (kept_cost(kept) <= blocks->shard_max_len)
		return kept;
	kept_free(kept);
	return NULL;
}

void blocks_settle(struct blocks *blocks, struct blocks_claim *claim, struct block *block)
{
	struct kept_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct shard *shard = shard_of(blocks, &claim->key);
	struct kept *kept = kept_new(blocks, &claim->key, block);

	lock_take(&shard->lock);
	LIST_REMOVE(claim, link);
	if (kept && !shard_insert_locked(shard, kept))
		TAILQ_INSERT_TAIL(&gone, kept, link);
	shard_make_room_locked(shard, blocks->shard_max_len, &gone);
	if (shard->waiting > 0)
		lock_cond_broadcast(&shard->settled);
	lock_give(&shard->lock);
	while ((kept = TAILQ_FIRST(&gone))) {
		TAILQ_REMOVE(&gone, kept, link);
		kept_free(kept);
	}
}

static void shard_drop_locked(struct shard *shard, const struct oid *oid,
			      struct kept_list *out_gone)
{
	struct kept *next, *kept = TAILQ_FIRST(&shard->by_use);

	for (; kept; kept = next) {
		next = TAILQ_NEXT(kept, link);
		if (!oid_equal(&kept->key.oid, oid))
			continue;
		TAILQ_REMOVE(&shard->by_use, kept, link);
		/* What is in the list is in the table, which the analyzer cannot know. */
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
		HASH_DELETE(hh, shard->table, kept);
		shard->len -= kept_cost(kept);
		TAILQ_INSERT_TAIL(out_gone, kept, link);
	}
}

void blocks_drop(struct blocks *blocks, const struct oid *oid)
{
	struct kept_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct kept *kept;

	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		lock_take(&blocks->shards[i].lock);
		shard_drop_locked(&blocks->shards[i], oid, &gone);
		lock_give(&blocks->shards[i].lock);
	}
	while ((kept = TAILQ_FIRST(&gone))) {
		TAILQ_REMOVE(&gone, kept, link);
		kept_free(kept);
	}
}

size_t blocks_len(struct blocks *blocks)
{
	size_t len = 0;

	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		lock_take(&blocks->shards[i].lock);
		len += blocks->shards[i].len;
		lock_give(&blocks->shards[i].lock);
	}
	return len;
}
