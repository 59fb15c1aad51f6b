/*
 * cache: the public face. Every lookup asks in the same order: the blocks at hand, what is
 * pending, the index. Whatever is wrong with what is found there is a miss here; the writer is
 * told to forget it.
 */
#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/bytes.h"
#include "cache/cache_internal.h"
#include "cache/limit.h"
#include "cache/writer.h"

#define QUEUE_DEFAULT_LEN ((size_t)16 * 1024 * 1024)
#define MEMORY_DEFAULT_LEN ((size_t)8 * 1024 * 1024)
#define SEGMENT_DEFAULT_LEN ((size_t)256 * 1024 * 1024)
#define SEGMENT_MIN_LEN 4096u

/* Objects above this are written in steps, so that small ones need not wait for them. */
#define LARGE_MIN_LEN ((size_t)1024 * 1024)
#define READ_MAX_LEN ((size_t)1024 * 1024)
#define READ_MAX_BLOCKS (READ_MAX_LEN / CACHE_BLOCK_LEN + 1)
#define KIND_MAX_LEN 63
#define MOVED_TRIES 4

/* So many reads that the disk failed within so long: it is left alone for a while. */
#define SICK_ERRORS 8
#define SICK_WINDOW_MS 60000

/* ---- counting ---- */

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t counted(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void cache_fault(struct cache *cache, enum fault_kind kind, const char *fmt, ...)
{
	char text[256];
	unsigned suppressed;
	va_list args;

	count(&cache->counters.faults, 1);
	if (!log_limit_pass(&cache->limits[kind], CACHE_LOG_INTERVAL_MS, &suppressed))
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (suppressed > 0)
		log_warn("cache: %s (%u more like it)", text, suppressed);
	else
		log_warn("cache: %s", text);
}

/* ---- life ---- */

static char *absolute(const char *dir)
{
	char *cwd, *out;

	if (dir[0] == '/')
		return strdup(dir);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return strdup(dir);
	if (asprintf(&out, "%s/%s", cwd, dir) < 0)
		out = NULL;
	free(cwd);
	return out;
}

static void cache_free(struct cache *cache)
{
	blocks_free(cache->blocks);
	recency_free(cache->recency);
	for (unsigned i = 0; i < CACHE_DOOR_COUNT; i++)
		lock_release(&cache->doors[i].lock);
	lock_cond_release(&cache->work);
	lock_cond_release(&cache->room);
	lock_cond_release(&cache->done);
	lock_release(&cache->lock);
	free(cache->dir);
	free(cache);
}

static struct cache *cache_new(const struct cache_config *config)
{
	struct cache *cache = aligned_alloc(_Alignof(struct cache), sizeof(*cache));

	if (!cache)
		return NULL;
	memset(cache, 0, sizeof(*cache));
	for (unsigned i = 0; i < CACHE_DOOR_COUNT; i++)
		lock_init(&cache->doors[i].lock);
	lock_init(&cache->lock);
	lock_cond_init(&cache->work);
	lock_cond_init(&cache->room);
	lock_cond_init(&cache->done);
	cache->index_max_len = config->index_max_len;
	cache->queue_max_len = config->queue_max_len ? config->queue_max_len : QUEUE_DEFAULT_LEN;
	cache->segment_max_len = config->segment_max_len ? config->segment_max_len :
							   SEGMENT_DEFAULT_LEN;
	if (cache->segment_max_len < SEGMENT_MIN_LEN)
		cache->segment_max_len = SEGMENT_MIN_LEN;
	cache->size_max_len = config->size_max_len;
	if (cache->size_max_len && cache->size_max_len < LIMIT_MIN_LEN)
		cache->size_max_len = LIMIT_MIN_LEN;
	pending_init(&cache->pending, &cache->lock, cache->queue_max_len);
	cache->dir = absolute(config->dir);
	cache->blocks =
		blocks_new(config->memory_max_len ? config->memory_max_len : MEMORY_DEFAULT_LEN);
	cache->recency = recency_new();
	if (cache->dir && cache->blocks && cache->recency)
		return cache;
	cache_free(cache);
	return NULL;
}

int cache_open(const struct cache_config *config, struct cache **out, struct xcp_error *err)
{
	struct cache *cache = cache_new(config);
	int rc;

	if (err)
		err->code = 0;
	if (!cache)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache: out of memory");
	rc = writer_start(cache, err);
	if (rc) {
		cache_free(cache);
		return rc;
	}
	*out = cache;
	return 0;
}

void cache_close(struct cache **cache)
{
	struct cache *c = *cache;

	if (!c)
		return;
	lock_take(&c->lock);
	c->stopping = true;
	lock_cond_broadcast(&c->work);
	lock_cond_broadcast(&c->room);
	lock_give(&c->lock);
	writer_join(c);
	cache_free(c);
	*cache = NULL;
}

/* ---- putting ---- */

void cache_items_free(struct pending_list *list)
{
	struct pending_item *item;

	while ((item = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, item, link);
		pending_item_free(item);
	}
}

/* Degraded means that nothing leaves the queue by itself: then it keeps the newest. */
static bool room_make_locked(struct cache *cache, size_t cost, struct pending_list *out_gone)
{
	while (cache->degraded && !pending_has_room_locked(&cache->pending, cost)) {
		struct pending_item *oldest = pending_drop_oldest_locked(&cache->pending);

		if (!oldest)
			break;
		if (oldest->kind == PENDING_OBJECT || oldest->kind == PENDING_PART)
			count(&cache->counters.dropped, 1);
		TAILQ_INSERT_TAIL(out_gone, oldest, link);
	}
	if (!TAILQ_EMPTY(out_gone))
		lock_cond_broadcast(&cache->done);
	return pending_has_room_locked(&cache->pending, cost);
}

static bool room_wait_locked(struct cache *cache, size_t cost, unsigned wait_ms,
			     struct pending_list *out_gone)
{
	uint64_t end = clock_ns() + (uint64_t)wait_ms * 1000000;

	while (!room_make_locked(cache, cost, out_gone)) {
		uint64_t now = clock_ns();

		if (now >= end || cache->stopping)
			return false;
		lock_cond_wait_ms(&cache->room, &cache->lock, (end - now) / 1000000 + 1);
	}
	return true;
}

static bool is_here_locked(struct cache *cache, const struct pending_item *item)
{
	if (item->kind == PENDING_PART)
		return pending_find_part_locked(&cache->pending, &item->part.name,
						item->part.block);
	return item->kind == PENDING_OBJECT &&
	       pending_find_object_locked(&cache->pending, &item->oid);
}

int cache_item_add(struct cache *cache, struct pending_item *item, unsigned wait_ms)
{
	struct pending_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct pending_item *freed = item;
	int rc = -EAGAIN;

	lock_take(&cache->lock);
	if (is_here_locked(cache, item))
		rc = -EEXIST;
	else if (room_wait_locked(cache, item->cost, wait_ms, &gone)) {
		rc = pending_add_locked(&cache->pending, item, &freed);
		lock_cond_signal(&cache->work);
	}
	lock_give(&cache->lock);
	pending_item_free(freed);
	cache_items_free(&gone);
	return rc;
}

static bool content_is_storable(const struct content *content)
{
	return (content->oid.algo == OID_SHA1 || content->oid.algo == OID_SHA256) &&
	       content->type >= OBJECT_COMMIT && content->type <= OBJECT_TAG &&
	       content->size / CACHE_BLOCK_LEN < UINT32_MAX &&
	       (content->block ? content->block->len == content->size : content->fd >= 0);
}

int cache_put(struct cache *cache, struct content *content, unsigned wait_ms)
{
	struct pending_item *item;
	int rc;

	if (!content_is_storable(content))
		return -EINVAL;
	/* It would drive out everything, and be gone before it is read again. */
	if (cache->size_max_len && content->size > cache->size_max_len / 2)
		return -EFBIG;
	item = pending_item_object(content, cache->queue_max_len);
	if (!item)
		return -ENOMEM;
	item->large = content->size > LARGE_MIN_LEN;
	rc = cache_item_add(cache, item, wait_ms);
	if (rc == -EEXIST)
		return 0;
	if (rc) {
		count(&cache->counters.dropped, 1);
		return rc;
	}
	count(&cache->counters.puts, 1);
	count(&cache->counters.put_bytes, content->size);
	return 0;
}

int cache_put_sizes(struct cache *cache, const struct cache_size *sizes, size_t size_count)
{
	int rc = 0;

	for (size_t i = 0; i < size_count && rc == 0; i++) {
		struct pending_item *item = pending_item_size(&sizes[i].oid, sizes[i].size);

		if (!item)
			return -ENOMEM;
		rc = cache_item_add(cache, item, 100);
		if (rc == -EEXIST)
			rc = 0;
	}
	return rc;
}

int cache_fact_put(struct cache *cache, const char *kind, const void *key, size_t key_len,
		   const void *value, size_t value_len)
{
	struct pending_item *item;

	if (strlen(kind) > KIND_MAX_LEN || key_len > INDEX_KEY_MAX_LEN ||
	    value_len > INDEX_FACT_MAX_LEN)
		return -EINVAL;
	item = pending_item_fact(PENDING_FACT, kind, key, key_len, value, value_len);
	return item ? cache_item_add(cache, item, 100) : -ENOMEM;
}

void cache_flush(struct cache *cache)
{
	uint64_t seq, failed;

	lock_take(&cache->lock);
	seq = cache->pending.next_seq;
	failed = cache->failed_attempts;
	cache->flusher_count++;
	lock_cond_signal(&cache->work);
	/* The attempt that runs now may have begun before us; the one after it has not. */
	while (!pending_is_past_locked(&cache->pending, seq) && cache->failed_attempts - failed < 2)
		lock_cond_wait(&cache->done, &cache->lock);
	cache->flusher_count--;
	lock_give(&cache->lock);
}

static struct store *store_get(struct cache *cache);

int cache_sync(struct cache *cache, struct xcp_error *err)
{
	struct cache_counters counters;
	struct store *store;
	int rc;

	cache_flush(cache);
	cache_counters(cache, &counters);
	if (counters.degraded)
		return xcp_error_set(err, -EIO, "the cache is not stored on disk: %s",
				     counters.degraded_why);
	store = store_get(cache);
	if (!store)
		return xcp_error_set(err, -EIO, "there is no cache on disk");
	rc = store_sync(store, err);
	store_unref(store);
	return rc;
}

/* ---- forgetting what is bad ---- */

void cache_item_add_quietly(struct cache *cache, struct pending_item *item)
{
	struct pending_item *freed;

	if (!item)
		return;
	lock_take(&cache->lock);
	pending_add_locked(&cache->pending, item, &freed);
	lock_cond_signal(&cache->work);
	lock_give(&cache->lock);
	pending_item_free(freed);
}

static void writer_wake(struct cache *cache)
{
	lock_take(&cache->lock);
	lock_cond_signal(&cache->work);
	lock_give(&cache->lock);
}

/* The disk, not what is on it. One bad block is a miss; many errors mean that each costs time. */
static void disk_failed(struct cache *cache)
{
	uint64_t now_ms = clock_ms();

	if (now_ms - atomic_load(&cache->disk_errors_ms) > SICK_WINDOW_MS) {
		atomic_store(&cache->disk_errors_ms, now_ms);
		atomic_store(&cache->disk_errors, 0);
	}
	if (atomic_fetch_add(&cache->disk_errors, 1) + 1 < SICK_ERRORS)
		return;
	atomic_store(&cache->disk_errors, 0);
	atomic_store(&cache->disk_sick, true);
	writer_wake(cache);
}

static bool is_about_the_record(int rc)
{
	return rc == -EBADMSG || rc == -ENOENT || rc == -EIO;
}

int cache_record_failed(struct cache *cache, const struct oid *oid, uint32_t block,
			const struct place *place, int rc, const char *why)
{
	char hex[OID_MAX_HEX + 1];

	cache_fault(cache, FAULT_RECORD,
		    "the stored copy of %s (block %u, segment %016llx at %llu) is bad: %s (%s)",
		    oid_to_hex(oid, hex), block, (unsigned long long)place->segment,
		    (unsigned long long)place->off, why, strerror(-rc));
	if (is_about_the_record(rc))
		cache_item_add_quietly(cache, pending_item_forget(oid, block, place));
	if (rc != -EBADMSG && rc != -ENOENT && rc != -ENOMEM)
		disk_failed(cache);
	return -ENOENT;
}

int cache_index_failed(struct cache *cache, int rc)
{
	if (rc == -ENOENT)
		return rc;
	if (rc == -EUCLEAN) {
		cache_fault(cache, FAULT_INDEX, "the index is damaged");
		atomic_store(&cache->index_damaged, true);
		writer_wake(cache);
	} else if (rc == -EBADMSG) {
		cache_fault(cache, FAULT_VALUE, "a value in the index does not check");
	} else {
		cache_fault(cache, FAULT_INDEX, "the index cannot be read: %s", strerror(-rc));
	}
	return -ENOENT;
}

/* out->name is the one under which the records lie. */
static int index_object_get(struct cache *cache, struct store *store, const struct oid *oid,
			    struct index_object *out)
{
	int rc = index_get_object(store->index, oid, out);

	if (rc == 0 && out->content != CONTENT_ADOPTED)
		out->name = *oid;

	if (rc == -EBADMSG)
		cache_item_add_quietly(cache, pending_item_forget(oid, 0, NULL));
	return rc ? cache_index_failed(cache, rc) : 0;
}

/*
 * Between the look into the index and the read the hand came by: nothing is wrong, and it may lie
 * elsewhere now.
 */
bool cache_record_moved(struct store *store, const struct oid *name, bool whole, uint32_t block,
			const struct place *place)
{
	struct index_object object;
	struct place now;
	uint32_t bad;
	int rc;

	if (!whole) {
		rc = index_get_blocks(store->index, name, block, 1, &now, &bad);
		return rc == -ENOENT || (rc == 0 && !place_equal(&now, place));
	}
	rc = index_get_object(store->index, name, &object);
	return rc == -ENOENT || (rc == 0 && (object.content != CONTENT_RECORD ||
					     !place_equal(&object.place, place)));
}

static int record_failed(struct cache *cache, const struct oid *oid,
			 const struct index_object *object, uint32_t block,
			 const struct place *place, int rc, const char *why)
{
	/* Adopted: first the object goes, then the block itself. */
	if (object->content == CONTENT_ADOPTED && is_about_the_record(rc))
		cache_item_add_quietly(cache, pending_item_forget(oid, block, NULL));
	return cache_record_failed(cache, &object->name, block, place, rc, why);
}

/* ---- finding ---- */

/* What is pending of an object, and the store to go on with; both counted, either may be NULL. */
struct found {
	struct content *content;
	struct store *store;
	bool has_size;
	uint64_t size;
};

void cache_store_set_locked(struct cache *cache, struct store *store)
{
	cache->store = store;
	for (unsigned i = 0; i < CACHE_DOOR_COUNT; i++) {
		lock_take(&cache->doors[i].lock);
		cache->doors[i].store = store;
		lock_give(&cache->doors[i].lock);
	}
}

/* A new reference, or NULL. */
static struct store *store_get(struct cache *cache)
{
	struct cache_door *door = &cache->doors[thread_stripe(CACHE_DOOR_COUNT)];
	struct store *store;

	lock_take(&door->lock);
	store = door->store ? store_ref(door->store) : NULL;
	lock_give(&door->lock);
	return store;
}

static void find_pending(struct cache *cache, const struct oid *oid, struct found *out)
{
	struct pending_item *item;

	lock_take(&cache->lock);
	item = pending_find_object_locked(&cache->pending, oid);
	if (item)
		out->content = content_ref(item->content);
	item = pending_find_size_locked(&cache->pending, oid);
	if (item) {
		out->has_size = true;
		out->size = item->size;
	}
	lock_give(&cache->lock);
}

/* The store after what is pending: what leaves there meanwhile is found here. */
static void find(struct cache *cache, const struct oid *oid, struct found *out)
{
	memset(out, 0, sizeof(*out));
	if (pending_may_hold(&cache->pending, oid))
		find_pending(cache, oid, out);
	if (!out->content)
		out->store = store_get(cache);
}

static bool has_content(const struct index_object *object)
{
	return object->content != CONTENT_NONE && object->content != CONTENT_PARTIAL;
}

int cache_stat(struct cache *cache, const struct oid *oid, struct cache_stat *out)
{
	struct index_object object = { .content = CONTENT_NONE };
	struct found found;
	int rc = -ENOENT;

	find(cache, oid, &found);
	if (found.content) {
		*out = (struct cache_stat){ found.content->type, found.content->size, true, 0 };
		content_unref(found.content);
		return 0;
	}
	if (found.store)
		rc = index_object_get(cache, found.store, oid, &object);
	store_unref(found.store);
	if (found.has_size && object.content == CONTENT_NONE) {
		*out = (struct cache_stat){ OBJECT_BLOB, found.size, false, 0 };
		return 0;
	}
	if (rc == 0)
		*out = (struct cache_stat){ object.type, object.size, has_content(&object),
					    object.stored_bytes };
	return rc;
}

/* ---- claims ---- */

_Static_assert((int)CACHE_CLAIM_OBJECT == (int)CLAIM_OBJECT &&
		       (int)CACHE_CLAIM_BELOW == (int)CLAIM_BELOW &&
		       (int)CACHE_CLAIM_SIZES == (int)CLAIM_SIZES,
	       "one is cast to the other");

/* A new reference, or NULL. */
static struct claims *claims_get(struct cache *cache)
{
	struct store *store = store_get(cache);
	struct claims *claims = store ? claims_ref(store->claims) : NULL;

	store_unref(store);
	return claims;
}

bool cache_has_neighbours(struct cache *cache)
{
	struct claims *claims = claims_get(cache);
	bool others = claims_has_others(claims);

	claims_unref(claims);
	return others;
}

bool cache_claim(struct cache *cache, const struct oid *oid, enum cache_claim kind)
{
	struct claims *claims = claims_get(cache);
	bool taken = claims_take(claims, oid, (enum claim_kind)kind);

	claims_unref(claims);
	return taken;
}

void cache_unclaim(struct cache *cache, const struct oid *oid, enum cache_claim kind)
{
	struct claims *claims = claims_get(cache);
	struct pending_item *item =
		claims ? pending_item_unclaim(claims, oid, (enum claim_kind)kind) : NULL;

	/* Whatever becomes of the item: when it is freed the claim ends. */
	if (item)
		cache_item_add_quietly(cache, item);
	else
		claims_give(claims, oid, (enum claim_kind)kind);
	claims_unref(claims);
}

bool cache_is_claimed(struct cache *cache, const struct oid *oid, enum cache_claim kind)
{
	struct claims *claims = claims_get(cache);
	bool taken = claims_is_taken(claims, oid, (enum claim_kind)kind);

	claims_unref(claims);
	return taken;
}

uint32_t cache_claim_blocks(struct cache *cache, const struct oid *name, uint32_t first,
			    uint32_t count, uint32_t *out_others)
{
	struct claims *claims = claims_get(cache);
	uint32_t taken = claims_take_blocks(claims, name, first, count, out_others);

	claims_unref(claims);
	return taken;
}

bool cache_are_blocks_claimed(struct cache *cache, const struct oid *name, uint32_t first,
			      uint32_t count)
{
	struct claims *claims = claims_get(cache);
	bool taken = claims_are_blocks_taken(claims, name, first, count);

	claims_unref(claims);
	return taken;
}

void cache_unclaim_blocks(struct cache *cache, const struct oid *name, uint32_t first,
			  uint32_t count, bool at_once)
{
	struct claims *claims = claims_get(cache);
	struct pending_item *item =
		claims && !at_once ? pending_item_unclaim_blocks(claims, name, first, count) : NULL;

	if (item)
		cache_item_add_quietly(cache, item);
	else
		claims_give_blocks(claims, name, first, count);
	claims_unref(claims);
}

/* ---- reading ---- */

static struct record_want want_of(const struct index_object *object, uint32_t block)
{
	struct record_want want = {
		.oid = object->name,
		.block_index = block,
		.type = object->content == CONTENT_RECORD ? RECORD_OBJECT : RECORD_BLOCK,
		.object_type = object->type,
		.object_size = object->size,
	};

	return want;
}

/* -EAGAIN: it is not there any more; look it up again. */
static int block_read(struct cache *cache, struct store *store, const struct oid *oid,
		      const struct index_object *object, uint32_t index, const struct place *place,
		      struct block **out)
{
	struct record_want want = want_of(object, index);
	const char *why;
	int rc = segments_read(store->segments, place, &want, out, &why);

	if (rc &&
	    cache_record_moved(store, &object->name, want.type == RECORD_OBJECT, index, place))
		return -EAGAIN;
	return rc ? record_failed(cache, oid, object, index, place, rc, why) : 0;
}

/* The same, kept at hand; read once for all who want it at the same time. */
static int block_get(struct cache *cache, struct store *store, const struct oid *oid,
		     const struct index_object *object, uint32_t index, const struct place *place,
		     struct block **out)
{
	struct blocks_claim claim;
	int rc;

	*out = blocks_claim(cache->blocks, oid, index, &claim);
	if (*out)
		return 0;
	rc = block_read(cache, store, oid, object, index, place, out);
	blocks_settle(cache->blocks, &claim, rc ? NULL : *out);
	return rc;
}

static int places_get(struct cache *cache, struct store *store, const struct oid *oid,
		      const struct index_object *object, uint32_t first, uint32_t n,
		      struct place *out)
{
	uint32_t bad = first;
	int rc;

	if (object->content == CONTENT_RECORD) {
		out[0] = object->place;
		return 0;
	}
	rc = index_get_blocks(store->index, &object->name, first, n, out, &bad);
	if (rc == 0)
		return 0;
	/* One block made room for others: what is left of the object is not worth much. */
	if (rc == -ENOENT)
		cache_item_add_quietly(cache, pending_item_forget(oid, bad, NULL));
	if (rc == -EBADMSG)
		cache_item_add_quietly(cache, pending_item_forget(&object->name, bad, NULL));
	return cache_index_failed(cache, rc);
}

static uint32_t block_of(uint64_t off)
{
	return (uint32_t)(off / CACHE_BLOCK_LEN);
}

/* The part of a block that lies in [off, end) of the object; takes over the reference. */
static int spans_add_part(struct spans *spans, struct block *block, uint32_t index, uint64_t off,
			  uint64_t end)
{
	uint64_t start = (uint64_t)index * CACHE_BLOCK_LEN;
	uint64_t from = off > start ? off - start : 0;
	uint64_t to = end - start < block->len ? end - start : block->len;

	if (from >= to) {
		block_unref(block);
		return 0;
	}
	return spans_add_take(spans, block, (size_t)from, (size_t)(to - from));
}

/* -ENOENT when not every block is at hand. A block that is not full is the last one. */
static int read_at_hand(struct cache *cache, const struct oid *oid, uint64_t off, size_t len,
			struct spans *out)
{
	for (uint32_t i = block_of(off); i <= block_of(off + len - 1); i++) {
		struct block *block = blocks_get(cache->blocks, oid, i);
		bool last;
		int rc;

		if (!block)
			return -ENOENT;
		last = block->len < CACHE_BLOCK_LEN;
		recency_touch(cache->recency, oid, i);
		rc = spans_add_part(out, block, i, off, off + len);
		if (rc)
			return rc;
		if (last)
			break;
	}
	return 0;
}

static int read_stored_once(struct cache *cache, struct store *store, const struct oid *oid,
			    uint64_t off, size_t len, struct spans *out)
{
	struct place places[READ_MAX_BLOCKS];
	struct index_object object;
	uint32_t first, n;
	int rc = index_object_get(cache, store, oid, &object);

	if (rc)
		return rc;
	if (!has_content(&object))
		return -ENOENT;
	if (off >= object.size || len == 0)
		return 0;
	if (len > object.size - off)
		len = (size_t)(object.size - off);
	first = block_of(off);
	n = block_of(off + len - 1) - first + 1;
	rc = places_get(cache, store, oid, &object, first, n, places);
	for (uint32_t i = 0; i < n && rc == 0; i++) {
		struct block *block;

		rc = block_get(cache, store, oid, &object, first + i, &places[i], &block);
		if (rc == 0)
			rc = spans_add_part(out, block, first + i, off, off + len);
		if (rc == 0)
			recency_touch(cache->recency, &object.name, first + i);
	}
	return rc;
}

static int read_stored(struct cache *cache, struct store *store, const struct oid *oid,
		       uint64_t off, size_t len, struct spans *out)
{
	int rc = -EAGAIN;

	for (unsigned tries = 0; rc == -EAGAIN && tries < MOVED_TRIES; tries++) {
		spans_release(out);
		rc = read_stored_once(cache, store, oid, off, len, out);
	}
	return rc;
}

static int read_found(struct cache *cache, const struct oid *oid, uint64_t off, size_t len,
		      struct spans *out)
{
	struct found found;
	int rc = -ENOENT;

	find(cache, oid, &found);
	if (found.content)
		rc = content_read(found.content, off, len, out);
	else if (found.store)
		rc = read_stored(cache, found.store, oid, off, len, out);
	content_unref(found.content);
	store_unref(found.store);
	return rc;
}

int cache_read(struct cache *cache, const struct oid *oid, uint64_t off, size_t len,
	       struct spans *out)
{
	struct spans spans = SPANS_INIT;
	int rc = -ENOENT;

	if (len > READ_MAX_LEN)
		return -EINVAL;
	if (off > UINT64_MAX - len)
		len = (size_t)(UINT64_MAX - off);
	if (len > 0 && off / CACHE_BLOCK_LEN < UINT32_MAX - READ_MAX_BLOCKS)
		rc = read_at_hand(cache, oid, off, len, &spans);
	if (rc) {
		spans_release(&spans);
		rc = read_found(cache, oid, off, len, &spans);
	}
	count(rc ? &cache->counters.misses : &cache->counters.hits, 1);
	if (rc) {
		spans_release(&spans);
		return rc == -ENOMEM ? rc : -ENOENT;
	}
	*out = spans;
	return 0;
}

/* ---- whole objects ---- */

static int get_blocks(struct cache *cache, struct store *store, const struct oid *oid,
		      const struct index_object *object, struct block *whole)
{
	int rc = 0;

	for (uint64_t off = 0; off < object->size && rc == 0; off += CACHE_BLOCK_LEN) {
		struct place place;
		struct block *block;

		rc = places_get(cache, store, oid, object, block_of(off), 1, &place);
		if (rc == 0)
			rc = block_read(cache, store, oid, object, block_of(off), &place, &block);
		if (rc)
			break;
		memcpy(whole->data + off, block->data, block->len);
		block_unref(block);
	}
	return rc;
}

static int get_whole(struct cache *cache, struct store *store, const struct oid *oid,
		     const struct index_object *object, struct block **out)
{
	int rc;

	if (object->content == CONTENT_RECORD)
		return block_get(cache, store, oid, object, 0, &object->place, out);
	*out = block_new((size_t)object->size);
	if (!*out)
		return -ENOMEM;
	rc = get_blocks(cache, store, oid, object, *out);
	if (rc)
		block_unref(*out);
	return rc;
}

static int get_stored_once(struct cache *cache, struct store *store, const struct oid *oid,
			   size_t max_len, struct content **out)
{
	struct index_object object;
	struct block *block;
	int rc = index_object_get(cache, store, oid, &object);

	if (rc)
		return rc;
	if (!has_content(&object))
		return -ENOENT;
	if (object.size > max_len)
		return -EFBIG;
	rc = get_whole(cache, store, oid, &object, &block);
	if (rc)
		return rc;
	for (uint32_t i = 0; i == 0 || i < object.size / CACHE_BLOCK_LEN; i++)
		recency_touch(cache->recency, &object.name, i);
	*out = content_from_block_take(oid, object.type, block);
	return *out ? 0 : -ENOMEM;
}

static int get_stored(struct cache *cache, struct store *store, const struct oid *oid,
		      size_t max_len, struct content **out)
{
	int rc = -EAGAIN;

	for (unsigned tries = 0; rc == -EAGAIN && tries < MOVED_TRIES; tries++)
		rc = get_stored_once(cache, store, oid, max_len, out);
	return rc == -EAGAIN ? -ENOENT : rc;
}

int cache_get(struct cache *cache, const struct oid *oid, size_t max_len, struct content **out)
{
	struct found found;
	int rc = -ENOENT;

	find(cache, oid, &found);
	if (found.content && found.content->size > max_len) {
		content_unref(found.content);
		rc = -EFBIG;
	} else if (found.content) {
		*out = found.content;
		rc = 0;
	} else if (found.store) {
		rc = get_stored(cache, found.store, oid, max_len, out);
	}
	store_unref(found.store);
	if (rc != -EFBIG)
		count(rc ? &cache->counters.misses : &cache->counters.hits, 1);
	return rc;
}

/* ---- facts ---- */

static int fact_copy_locked(const struct pending_item *item, struct buf *out, int64_t *out_stored_s)
{
	int rc = buf_add(out, item->fact + item->fact_kind_len + 1 + item->fact_key_len,
			 item->fact_value_len);

	if (rc == 0 && out_stored_s)
		*out_stored_s = item->time_s;
	return rc;
}

int cache_fact_get(struct cache *cache, const char *kind, const void *key, size_t key_len,
		   struct buf *out, int64_t *out_stored_s)
{
	struct pending_item *item;
	struct store *store = NULL;
	int rc = -ENOENT;

	if (strlen(kind) > KIND_MAX_LEN || key_len > INDEX_KEY_MAX_LEN)
		return -EINVAL;
	lock_take(&cache->lock);
	item = pending_find_fact_locked(&cache->pending, kind, key, key_len);
	if (item)
		rc = fact_copy_locked(item, out, out_stored_s);
	else if (cache->store)
		store = store_ref(cache->store);
	lock_give(&cache->lock);
	if (!store)
		return rc;
	rc = index_get_fact(store->index, kind, key, key_len, out, out_stored_s);
	store_unref(store);
	if (rc == -EBADMSG)
		cache_item_add_quietly(
			cache, pending_item_fact(PENDING_FORGET_FACT, kind, key, key_len, NULL, 0));
	return rc == 0 || rc == -ENOMEM ? rc : cache_index_failed(cache, rc);
}

int cache_facts(struct cache *cache, const char *kind,
		int (*each)(void *arg, const void *key, size_t key_len, const void *value,
			    size_t value_len),
		void *arg)
{
	struct store *store = store_get(cache);
	struct buf all = BUF_INIT;
	int rc;

	if (!store)
		return 0;
	rc = index_list_facts(store->index, kind, &all);
	store_unref(store);
	if (rc)
		rc = cache_index_failed(cache, rc);
	for (size_t off = 0; rc == 0 && off < all.len;) {
		const uint8_t *key = all.data + off + 8;
		size_t key_len = get_le32(key - 8), value_len = get_le32(key - 4);

		rc = each(arg, key, key_len, key + key_len, value_len);
		off += 8 + key_len + value_len;
	}
	buf_release(&all);
	return rc;
}

/* ---- the rest ---- */

static int tmpfile_elsewhere(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	int fd;

	if (!dir || dir[0] != '/' || strlen(dir) > sizeof(path) - 32)
		dir = "/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "%s/xcpfs-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

int cache_tmpfile(struct cache *cache)
{
	struct store *store = store_get(cache);
	int fd = -ENOENT;

	if (store)
		fd = store_tmpfile(store);
	store_unref(store);
	return fd >= 0 ? fd : tmpfile_elsewhere();
}

void cache_counters(struct cache *cache, struct cache_counters *out)
{
	struct counters *c = &cache->counters;

	memset(out, 0, sizeof(*out));
	out->hits = counted(&c->hits);
	out->misses = counted(&c->misses);
	out->puts = counted(&c->puts);
	out->put_bytes = counted(&c->put_bytes);
	out->dropped = counted(&c->dropped);
	out->stored_bytes = counted(&c->stored_bytes);
	out->faults = counted(&c->faults);
	out->rebuild_left = counted(&c->rebuild_left);
	out->given_up = counted(&c->given_up);
	out->given_up_bytes = counted(&c->given_up_bytes);
	out->repacked = counted(&c->repacked);
	out->repacked_bytes = counted(&c->repacked_bytes);
	lock_take(&cache->lock);
	out->pending = cache->pending.count;
	out->pending_bytes = cache->pending.content_bytes;
	out->degraded = cache->degraded;
	memcpy(out->degraded_why, cache->degraded_why, sizeof(out->degraded_why));
	lock_give(&cache->lock);
}
