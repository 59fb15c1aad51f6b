/*
 * blocks: sharded by key, so that readers on several processors seldom meet. What leaves is
 * unreferenced after the shard's lock is given back.
 */
#include "cache/blocks.h"

#include <stdlib.h>
#include <sys/queue.h>
#include <xxhash.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, key_len, out) (out) = (unsigned)XXH3_64bits(key, key_len)
#include <uthash.h>

#include "base/lock.h"

#define SHARD_COUNT 8

struct block_key {
	struct oid oid;
	uint8_t zero[3]; /* the struct is a hash key: no holes */
	uint32_t index;
};

struct kept {
	UT_hash_handle hh;
	TAILQ_ENTRY(kept) link;
	struct block_key key;
	struct block *block; /* counted */
};
TAILQ_HEAD(kept_list, kept);

struct shard {
	struct lock lock;
	/* under lock */
	struct kept *table;
	struct kept_list by_use; /* the most recent one first */
	size_t len;
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
		lock_release(&blocks->shards[i].lock);
	}
	free(blocks);
}

struct block *blocks_get(struct blocks *blocks, const struct oid *oid, uint32_t index)
{
	struct block_key key = block_key(oid, index);
	struct shard *shard = shard_of(blocks, &key);
	struct block *block = NULL;
	struct kept *kept;

	lock_take(&shard->lock);
	HASH_FIND(hh, shard->table, &key, sizeof(key), kept);
	if (kept) {
		TAILQ_REMOVE(&shard->by_use, kept, link);
		TAILQ_INSERT_HEAD(&shard->by_use, kept, link);
		block = block_ref(kept->block);
	}
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

/* False when it is there already, or the table has no memory. */
static bool shard_insert_locked(struct shard *shard, struct kept *kept)
{
	struct kept *old;

	HASH_FIND(hh, shard->table, &kept->key, sizeof(kept->key), old);
	if (old)
		return false;
	HASH_ADD(hh, shard->table, key, sizeof(kept->key), kept);
	if (!kept->hh.tbl)
		return false;
	TAILQ_INSERT_HEAD(&shard->by_use, kept, link);
	shard->len += kept_cost(kept);
	return true;
}

void blocks_add(struct blocks *blocks, const struct oid *oid, uint32_t index, struct block *block)
{
	struct kept_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct kept *kept = calloc(1, sizeof(*kept));
	struct shard *shard;
	bool inserted;

	if (!kept)
		return;
	kept->key = block_key(oid, index);
	kept->block = block_ref(block);
	if (kept_cost(kept) > blocks->shard_max_len) {
		kept_free(kept);
		return;
	}
	shard = shard_of(blocks, &kept->key);
	lock_take(&shard->lock);
	inserted = shard_insert_locked(shard, kept);
	shard_make_room_locked(shard, blocks->shard_max_len, &gone);
	lock_give(&shard->lock);
	if (!inserted)
		kept_free(kept);
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
