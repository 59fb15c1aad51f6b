/*
 * part: objects in the making. Lookups go as in cache.c: blocks at hand, what is pending, the
 * index; but the caller says type and size, and what is missing is no fault.
 */
#include <errno.h>
#include <string.h>

#include "cache/cache.h"
#include "cache/cache_internal.h"

#define READ_MAX_LEN ((size_t)1024 * 1024)

static uint32_t block_count(const struct cache_part *part)
{
	return (uint32_t)((part->size + CACHE_BLOCK_LEN - 1) / CACHE_BLOCK_LEN);
}

static size_t block_len(const struct cache_part *part, uint32_t index)
{
	uint64_t rest = part->size - (uint64_t)index * CACHE_BLOCK_LEN;

	return rest < CACHE_BLOCK_LEN ? (size_t)rest : CACHE_BLOCK_LEN;
}

static bool is_sound(const struct cache_part *part)
{
	return part->size && part->size / CACHE_BLOCK_LEN < UINT32_MAX &&
	       part->type >= OBJECT_COMMIT && part->type <= OBJECT_TAG;
}

/* ---- putting ---- */

int cache_part_put(struct cache *cache, const struct cache_part *part, uint32_t index,
		   struct block *block, unsigned wait_ms)
{
	struct pending_item *item;
	int rc;

	if (!is_sound(part) || index >= block_count(part) || block->len != block_len(part, index))
		return -EINVAL;
	item = pending_item_part(part, index, block);
	if (!item)
		return -ENOMEM;
	rc = cache_item_add(cache, item, wait_ms);
	if (rc == -EEXIST)
		return 0;
	atomic_fetch_add_explicit(rc ? &cache->counters.dropped : &cache->counters.puts, 1,
				  memory_order_relaxed);
	if (rc == 0)
		atomic_fetch_add_explicit(&cache->counters.put_bytes, block->len,
					  memory_order_relaxed);
	return rc;
}

int cache_part_adopt(struct cache *cache, const struct cache_part *part, const struct oid *oid,
		     uint64_t seal)
{
	struct pending_item *item = pending_item_adopt(part, oid, seal);

	if (!item)
		return -ENOMEM;
	cache_item_add_quietly(cache, item);
	return 0;
}

void cache_part_drop(struct cache *cache, const struct oid *name)
{
	struct pending_list gone = TAILQ_HEAD_INITIALIZER(gone);

	lock_take(&cache->lock);
	pending_drop_parts_locked(&cache->pending, name, &gone);
	lock_cond_broadcast(&cache->room);
	lock_cond_broadcast(&cache->done);
	lock_give(&cache->lock);
	cache_items_free(&gone);
	cache_item_add_quietly(cache, pending_item_drop(name));
	blocks_drop(cache->blocks, name);
}

/* ---- finding ---- */

/* What is pending of a block (counted), or the store to go on with (counted). */
static struct block *find(struct cache *cache, const struct oid *name, uint32_t index,
			  struct store **out_store)
{
	struct pending_item *item;
	struct block *block = NULL;

	*out_store = NULL;
	lock_take(&cache->lock);
	item = pending_find_part_locked(&cache->pending, name, index);
	if (item)
		block = block_ref(item->bytes);
	else if (cache->store)
		*out_store = store_ref(cache->store);
	lock_give(&cache->lock);
	return block;
}

static int stored_get(struct cache *cache, struct store *store, const struct cache_part *part,
		      uint32_t index, struct block **out, struct place *out_place)
{
	const struct record_want want = {
		.oid = part->name,
		.block_index = index,
		.type = RECORD_BLOCK,
		.object_type = part->type,
		.object_size = part->size,
	};
	const char *why;
	uint32_t bad;
	int rc = index_get_blocks(store->index, &part->name, index, 1, out_place, &bad);

	if (rc == -EBADMSG)
		cache_item_add_quietly(cache, pending_item_forget(&part->name, index, NULL));
	if (rc)
		return cache_index_failed(cache, rc);
	rc = segments_read(store->segments, out_place, &want, out, &why);
	if (rc && cache_record_moved(store, &part->name, false, index, out_place))
		return -ENOENT;
	return rc ? cache_record_failed(cache, &part->name, index, out_place, rc, why) : 0;
}

static int block_get(struct cache *cache, const struct cache_part *part, uint32_t index,
		     struct block **out)
{
	struct blocks_claim claim;
	struct store *store;
	struct place place;
	int rc = 0;

	*out = blocks_claim(cache->blocks, &part->name, index, &claim);
	if (*out)
		return 0;
	*out = find(cache, &part->name, index, &store);
	if (!*out)
		rc = store ? stored_get(cache, store, part, index, out, &place) : -ENOENT;
	store_unref(store);
	blocks_settle(cache->blocks, &claim, rc ? NULL : *out);
	return rc;
}

int cache_part_read(struct cache *cache, const struct cache_part *part, uint64_t off, size_t len,
		    struct spans *out)
{
	struct spans spans = SPANS_INIT;
	uint64_t end;
	int rc = 0;

	if (!is_sound(part) || len > READ_MAX_LEN)
		return -EINVAL;
	if (off > part->size)
		off = part->size;
	end = len < part->size - off ? off + len : part->size;
	while (off < end && rc == 0) {
		uint32_t index = (uint32_t)(off / CACHE_BLOCK_LEN);
		size_t from = off % CACHE_BLOCK_LEN, piece;
		struct block *block;

		rc = block_get(cache, part, index, &block);
		if (rc)
			break;
		recency_touch(cache->recency, &part->name, index);
		piece = block->len - from < end - off ? block->len - from : (size_t)(end - off);
		rc = spans_add_take(&spans, block, from, piece);
		off += piece;
	}
	if (rc) {
		spans_release(&spans);
		return rc == -ENOMEM ? rc : -ENOENT;
	}
	*out = spans;
	return 0;
}

int cache_part_map(struct cache *cache, const struct cache_part *part, uint8_t *out)
{
	struct store *store = NULL;
	int rc = 0;

	if (!is_sound(part))
		return -EINVAL;
	/* What leaves the queue meanwhile is in the index before. */
	lock_take(&cache->lock);
	pending_map_parts_locked(&cache->pending, &part->name, block_count(part), out);
	if (cache->store)
		store = store_ref(cache->store);
	lock_give(&cache->lock);
	if (store)
		rc = index_get_map(store->index, &part->name, block_count(part), out);
	store_unref(store);
	return rc ? cache_index_failed(cache, rc) : 0;
}

bool cache_part_has(struct cache *cache, const struct cache_part *part, uint32_t index)
{
	struct store *store = NULL;
	struct block *block;
	struct place place;
	uint32_t bad;
	bool has = false;

	if (!is_sound(part) || index >= block_count(part))
		return false;
	block = find(cache, &part->name, index, &store);
	has = block ||
	      (store && !index_get_blocks(store->index, &part->name, index, 1, &place, &bad));
	block_unref(block);
	store_unref(store);
	return has;
}

int cache_part_block(struct cache *cache, const struct cache_part *part, uint32_t index,
		     struct block **out, uint64_t *seal)
{
	struct store *store = NULL;
	struct place place;
	int rc = -ENOENT;

	if (!is_sound(part) || index >= block_count(part))
		return -EINVAL;
	lock_take(&cache->lock);
	if (cache->store && !pending_find_part_locked(&cache->pending, &part->name, index))
		store = store_ref(cache->store);
	lock_give(&cache->lock);
	if (store)
		rc = stored_get(cache, store, part, index, out, &place);
	store_unref(store);
	if (rc == 0)
		*seal = place_seal(*seal, &place);
	return rc;
}
