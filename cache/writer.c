/*
 * writer: batches, steps of large objects, and what to do when the disk does not want them. It
 * may assume that it is the only one in this process that writes, opens or closes a store.
 *
 * Whatever goes wrong, things stay findable in memory till they are on disk or have to make
 * room; only a large object is given up at once when the disk is full, for smaller ones may
 * still fit.
 */
#include "cache/writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/cache_internal.h"
#include "cache/packer.h"
#include "cache/rebuild.h"
#include "cache/repack.h"
#include "cache/room.h"

#define BATCH_MAX_COUNT 1024
#define BATCH_MAX_LEN ((size_t)2 * 1024 * 1024)
#define LARGE_STEP_BLOCKS 8
#define RETRY_LOCK_MS 500
#define RETRY_DISK_MS 3000
#define SICK_MIN_MS 10000
#define SICK_MAX_MS 300000
#define SICK_FORGIVEN_MS 1800000
#define CLOSE_LARGE_MS 5000
#define DRAIN_MS 1000
#define PUBLISH_MS 60000
#define REPACK_IDLE_MS 2000
#define REBUILD_FIRST_MS 5000
#define REBUILD_SAY_LEN ((uint64_t)64 << 20)
#define FULL_MIN_LEN ((uint64_t)1 << 20)

/*
 * A part of the batch that stands or falls together: one item's records and what they make
 * known.
 */
struct entry {
	struct pending_item *item;
	size_t records_off, records_len;
	size_t op_first, op_count;
	bool known;  /* here already: nothing to write */
	bool broken; /* cannot be read: dropped */
};

struct writer {
	struct cache *cache;
	struct store *retired; /* closed when its last reader is gone; nothing is opened before */
	struct segment_writer *segment;
	struct room *room;
	bool was_forced; /* the disk is full, and room was made by force since it last was not */
	struct rebuild *rebuild; /* while something is left of it */
	struct packer packer;
	struct repack *repack;
	uint8_t *raw; /* one block of a content in a file */

	struct entry entries[BATCH_MAX_COUNT];
	size_t entry_count;
	struct buf records;
	struct index_op *ops; /* places are relative to `base` */
	size_t op_count, op_cap;
	uint64_t base; /* where the records go; 0 till that is known */

	uint64_t sick_ms, sick_pause_ms; /* when the disk was left alone last, and for how long */
	bool sick;			 /* just now */
	uint64_t next_try_ms;
	uint64_t repack_ms; /* not before */
	uint64_t stop_ms;
	bool trash_left;
};

/* ---- being degraded ---- */

static void degrade(struct cache *cache, const struct xcp_error *err)
{
	unsigned suppressed;
	bool say;

	lock_take(&cache->lock);
	say = !cache->degraded &&
	      log_limit_pass(&cache->degraded_limit, CACHE_LOG_INTERVAL_MS, &suppressed);
	cache->degraded = true;
	cache->degraded_said |= say;
	cache->failed_attempts++;
	snprintf(cache->degraded_why, sizeof(cache->degraded_why), "%.*s", CACHE_WHY_LEN - 1,
		 err->message);
	lock_cond_broadcast(&cache->room);
	lock_cond_broadcast(&cache->done);
	lock_give(&cache->lock);
	if (say)
		log_warn("cache: nothing is stored on disk for now: %s", err->message);
}

/* True when somebody was told that it was degraded. */
static bool recover_locked(struct cache *cache)
{
	bool said = cache->degraded_said;

	cache->degraded = cache->degraded_said = false;
	cache->degraded_why[0] = '\0';
	return said;
}

static void recover(struct cache *cache)
{
	bool was;

	lock_take(&cache->lock);
	was = recover_locked(cache);
	lock_give(&cache->lock);
	if (was)
		log_info("cache: stored on disk again");
}

/* ---- what the index does not know ---- */

static void rebuild_end(struct writer *w)
{
	rebuild_free(w->rebuild);
	w->rebuild = NULL;
	atomic_store_explicit(&w->cache->counters.rebuild_left, 0, memory_order_relaxed);
}

static void rebuild_begin(struct writer *w, struct store *store)
{
	struct rebuild_progress progress = { .total_bytes = 0 };

	rebuild_end(w);
	w->rebuild = rebuild_new(store);
	if (w->rebuild)
		rebuild_progress(w->rebuild, &progress);
	if (progress.total_bytes > REBUILD_SAY_LEN)
		log_info("cache: %llu MiB of segments are read to rebuild the index",
			 (unsigned long long)(progress.total_bytes >> 20));
}

/* A step; false when there is nothing to do, or it cannot be done now. */
static bool rebuild_go_on(struct writer *w, struct store *store)
{
	struct rebuild_progress progress;
	int rc;

	if (!w->rebuild)
		return false;
	rc = store_write_lock(store, NULL);
	if (rc)
		return false;
	rc = store_check(store);
	if (rc == 0)
		rc = store_mark_dirty(store, NULL);
	if (rc == 0)
		rc = rebuild_step(w->rebuild, store, NULL);
	store_write_unlock(store);
	rebuild_progress(w->rebuild, &progress);
	atomic_store_explicit(&w->cache->counters.rebuild_left,
			      progress.total_bytes - progress.done_bytes + 1, memory_order_relaxed);
	if (rc > 0)
		return true;
	if (rc == 0 && progress.total_bytes > REBUILD_SAY_LEN)
		log_info("cache: the index is rebuilt: %llu records, %llu were bad",
			 (unsigned long long)progress.records, (unsigned long long)progress.bad);
	if (rc == -EUCLEAN)
		atomic_store(&w->cache->index_damaged, true);
	rebuild_end(w);
	return false;
}

/* Before anybody looks: a miss now would be a request to the remote. But a mount is not to wait. */
static void rebuild_first(struct writer *w, struct store *store)
{
	uint64_t end_ms = clock_ms() + REBUILD_FIRST_MS;

	rebuild_begin(w, store);
	while (clock_ms() < end_ms && rebuild_go_on(w, store))
		;
}

/* ---- the store ---- */

static void nap_ms(unsigned ms)
{
	struct timespec t = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&t, NULL);
}

static void writer_retire_store(struct writer *w)
{
	struct cache *cache = w->cache;
	struct pending_item *item;
	struct store *store;

	segment_writer_close(&w->segment);
	rebuild_end(w);
	packer_forget(&w->packer);
	repack_forget(w->repack);
	lock_take(&cache->lock);
	store = cache->store;
	cache_store_set_locked(cache, NULL);
	/* What is half written went with it. */
	TAILQ_FOREACH(item, &cache->pending.large, link) {
		item->next_block = 0;
		item->stored_bytes = 0;
	}
	lock_give(&cache->lock);
	if (store)
		w->retired = store;
}

/*
 * LMDB wants one environment per process, so the old store has to be gone before the next is
 * opened.
 */
static bool retired_is_gone(struct writer *w)
{
	for (unsigned ms = 0; w->retired && ms < DRAIN_MS; ms++) {
		if (atomic_load_explicit(&w->retired->refs, memory_order_acquire) == 1) {
			store_unref(w->retired);
			w->retired = NULL;
			break;
		}
		nap_ms(1);
	}
	return !w->retired;
}

static int writer_open_store(struct writer *w, struct xcp_error *err)
{
	struct cache *cache = w->cache;
	char damaged[16] = "";
	struct store_config config = { .dir = cache->dir, .index_max_len = cache->index_max_len };
	struct store *store;
	int rc;

	if (atomic_exchange(&cache->index_damaged, false) && w->retired) {
		memcpy(damaged, w->retired->index_name, sizeof(damaged));
		config.unwanted = damaged;
		config.why = "it is damaged";
	}
	if (!retired_is_gone(w))
		return xcp_error_set(err, -EAGAIN,
				     "the cache directory was replaced while it was read");
	rc = store_open(&config, &store, err);
	if (rc)
		return rc;
	rebuild_first(w, store);
	packer_choose(&w->packer, store->dictionaries);
	lock_take(&cache->lock);
	cache_store_set_locked(cache, store);
	lock_give(&cache->lock);
	w->trash_left = true;
	return 0;
}

/*
 * Readers go past a disk that fails, straight to the remote; after a pause, which grows, it is
 * tried again.
 */
static int leave_alone(struct writer *w, struct xcp_error *err)
{
	w->sick_pause_ms *= 2;
	if (w->sick_pause_ms < SICK_MIN_MS || clock_ms() > w->sick_ms + SICK_FORGIVEN_MS)
		w->sick_pause_ms = SICK_MIN_MS;
	if (w->sick_pause_ms > SICK_MAX_MS)
		w->sick_pause_ms = SICK_MAX_MS;
	w->sick_ms = clock_ms();
	w->sick = true;
	writer_retire_store(w);
	return xcp_error_set(err, -EIO,
			     "the disk of the cache fails again and again, and is left alone for "
			     "%llu s",
			     (unsigned long long)w->sick_pause_ms / 1000);
}

/* The writer alone changes cache->store, so it may read it without the lock. */
static int writer_ensure_store(struct writer *w, struct xcp_error *err)
{
	if (atomic_exchange(&w->cache->disk_sick, false) && w->cache->store)
		return leave_alone(w, err);
	if (w->cache->store && atomic_load(&w->cache->index_damaged))
		writer_retire_store(w);
	return w->cache->store ? 0 : writer_open_store(w, err);
}

static int tail_of_segment(void *arg, uint64_t segment, uint64_t *out)
{
	const struct store *store = arg;
	struct index_segment known;
	int rc = index_get_segment(store->index, segment, &known);

	if (rc == 0 && known.head > 0)
		return -ESTALE;
	if (rc == 0)
		*out = known.tail;
	return rc;
}

static int writer_ensure_segment(struct writer *w, size_t len, struct xcp_error *err)
{
	struct store *store = w->cache->store;
	struct segment_tails tails = { .get = tail_of_segment, .arg = store };

	if (w->segment &&
	    (!segment_writer_has_room(w->segment, len) || !segment_writer_is_linked(w->segment))) {
		segment_writer_push(w->segment);
		segment_writer_close(&w->segment);
	}
	if (w->segment)
		return 0;
	return segment_writer_open(store->segments_fd,
				   limit_segment_len(&w->room->limit, w->cache->segment_max_len),
				   &tails, &w->segment, err);
}

/* ---- making a batch ---- */

static struct index_op *op_new(struct writer *w, enum index_op_kind kind)
{
	struct index_op *op;

	if (w->op_count == w->op_cap) {
		size_t cap = w->op_cap ? w->op_cap * 2 : 256;
		struct index_op *ops = realloc(w->ops, cap * sizeof(*ops));

		if (!ops)
			return NULL;
		w->ops = ops;
		w->op_cap = cap;
	}
	op = &w->ops[w->op_count++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	return op;
}

static uint32_t block_count_of(uint64_t size)
{
	return (uint32_t)((size + CACHE_BLOCK_LEN - 1) / CACHE_BLOCK_LEN);
}

/*
 * The raw bytes of a block: in memory already, or read into the scratch block. NULL: cannot be
 * read.
 */
static const uint8_t *raw_block(struct writer *w, const struct content *content, uint32_t block,
				size_t len)
{
	uint64_t off = (uint64_t)block * CACHE_BLOCK_LEN;
	size_t done = 0;

	if (content->block)
		return content->block->data + off;
	while (done < len) {
		ssize_t n = pread(content->fd, w->raw + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		done += (size_t)n;
	}
	return w->raw;
}

/* Puts one record behind the others; its place is relative to them. */
static int pack_bytes(struct writer *w, struct record_header header, const uint8_t *raw, size_t len,
		      struct place *out)
{
	size_t start = w->records.len, stored_len, whole_len;
	uint8_t *bytes;

	if (buf_reserve(&w->records, RECORD_HEADER_LEN + codec_bound(len) + 8))
		return -ENOMEM;
	bytes = w->records.data + start;
	packer_pack(&w->packer, &header, raw, len, bytes + RECORD_HEADER_LEN, &stored_len);
	header.raw_len = (uint32_t)len;
	header.stored_len = (uint32_t)stored_len;
	header.body_check = record_body_check(bytes + RECORD_HEADER_LEN, stored_len);
	record_header_encode(&header, bytes);
	whole_len = record_len(stored_len);
	memset(bytes + RECORD_HEADER_LEN + stored_len, 0,
	       whole_len - RECORD_HEADER_LEN - stored_len);
	w->records.len += whole_len;
	*out = (struct place){ .off = start,
			       .stored_len = header.stored_len,
			       .raw_len = header.raw_len,
			       .dictionary = header.dictionary,
			       .codec = (uint8_t)header.codec };
	return 0;
}

/* -EIO: the content cannot be read. */
static int pack_record(struct writer *w, const struct content *content, enum record_type type,
		       uint32_t block, struct place *out)
{
	uint64_t off = (uint64_t)block * CACHE_BLOCK_LEN;
	size_t len = content->size - off < CACHE_BLOCK_LEN ? (size_t)(content->size - off) :
							     CACHE_BLOCK_LEN;
	const uint8_t *raw = raw_block(w, content, block, len);
	const struct record_header header = {
		.type = type,
		.oid = content->oid,
		.block_index = block,
		.object_type = content->type,
		.object_size = content->size,
	};

	return raw ? pack_bytes(w, header, raw, len, out) : -EIO;
}

static int op_add_object(struct writer *w, struct pending_item *item, enum index_content content,
			 const struct place *place)
{
	struct index_op *op = op_new(w, OP_OBJECT);

	if (!op)
		return -ENOMEM;
	op->oid = item->oid;
	op->object.type = item->content->type;
	op->object.content = content;
	op->object.size = item->content->size;
	op->object.stored_bytes = item->stored_bytes;
	op->object.time_s = item->time_s;
	if (place) {
		op->place = *place;
		op->object.stored_bytes = record_len(place->stored_len);
	}
	return 0;
}

static int pack_whole(struct writer *w, struct pending_item *item)
{
	struct place place;
	int rc = pack_record(w, item->content, RECORD_OBJECT, 0, &place);

	return rc ? rc : op_add_object(w, item, CONTENT_RECORD, &place);
}

/* A block that an earlier, or another process's, attempt left behind, if it is still good. */
static bool block_is_known(struct writer *w, const struct pending_item *item, struct place *out)
{
	const struct store *store = w->cache->store;
	struct record_want want = { .oid = item->oid,
				    .block_index = item->next_block,
				    .type = RECORD_BLOCK,
				    .object_type = item->content->type,
				    .object_size = item->content->size };
	struct block *block;
	uint32_t bad;

	if (index_get_blocks(store->index, &item->oid, item->next_block, 1, out, &bad) ||
	    segments_read(store->segments, out, &want, &block, NULL))
		return false;
	block_unref(block);
	return true;
}

static int pack_block(struct writer *w, struct pending_item *item, struct place *out)
{
	struct index_op *op;
	int rc = pack_record(w, item->content, RECORD_BLOCK, item->next_block, out);

	if (rc)
		return rc;
	op = op_new(w, OP_BLOCK);
	if (!op)
		return -ENOMEM;
	op->oid = item->oid;
	op->block = item->next_block;
	op->place = *out;
	return 0;
}

/* From item->next_block on; names the object when the last block is among them. */
static int pack_blocks(struct writer *w, struct pending_item *item, uint32_t max_count)
{
	uint32_t end = block_count_of(item->content->size);

	while (item->next_block < end && max_count-- > 0) {
		struct place place;
		int rc = block_is_known(w, item, &place) ? 0 : pack_block(w, item, &place);

		if (rc)
			return rc;
		item->next_block++;
		item->stored_bytes += record_len(place.stored_len);
	}
	return item->next_block < end ? 0 : op_add_object(w, item, CONTENT_BLOCKS, NULL);
}

static bool object_is_known(struct writer *w, const struct oid *oid)
{
	struct index_object known;

	return index_get_object(w->cache->store->index, oid, &known) == 0 &&
	       known.content != CONTENT_NONE && known.content != CONTENT_PARTIAL;
}

static int prepare_object(struct writer *w, struct entry *entry)
{
	struct pending_item *item = entry->item;

	if (object_is_known(w, &item->oid)) {
		entry->known = true;
		return 0;
	}
	if (item->content->size <= CACHE_BLOCK_LEN)
		return pack_whole(w, item);
	return pack_blocks(w, item, item->large ? LARGE_STEP_BLOCKS : UINT32_MAX);
}

static bool part_is_known(struct writer *w, const struct pending_item *item)
{
	struct place place;
	uint32_t bad;

	return index_get_blocks(w->cache->store->index, &item->part.name, item->part.block, 1,
				&place, &bad) == 0;
}

static int prepare_part(struct writer *w, struct entry *entry)
{
	const struct pending_item *item = entry->item;
	const struct record_header header = {
		.type = RECORD_BLOCK,
		.oid = item->part.name,
		.block_index = item->part.block,
		.object_type = item->type,
		.object_size = item->size,
	};
	struct place place;
	struct index_op *op;
	int rc;

	entry->known = part_is_known(w, item);
	if (entry->known)
		return 0;
	rc = pack_bytes(w, header, item->bytes->data, item->bytes->len, &place);
	if (rc)
		return rc;
	op = op_new(w, OP_PART);
	if (!op)
		return -ENOMEM;
	op->oid = item->part.name;
	op->block = item->part.block;
	op->place = place;
	op->object = (struct index_object){ .type = item->type,
					    .size = item->size,
					    .time_s = item->time_s };
	return 0;
}

static int prepare_adopt(struct writer *w, const struct pending_item *item)
{
	struct index_op *op = op_new(w, OP_ADOPT);

	if (!op)
		return -ENOMEM;
	op->oid = item->oid;
	op->seal = item->seal;
	op->object = (struct index_object){ .type = item->type,
					    .size = item->size,
					    .time_s = item->time_s,
					    .name = item->part.name };
	return 0;
}

static int prepare_drop(struct writer *w, const struct pending_item *item)
{
	struct index_op *op = op_new(w, OP_DROP);

	if (!op)
		return -ENOMEM;
	op->oid = item->part.name;
	return 0;
}

static int prepare_fact(struct writer *w, const struct pending_item *item, enum index_op_kind kind)
{
	struct index_op *op = op_new(w, kind);

	if (!op)
		return -ENOMEM;
	op->fact_kind = (const char *)item->fact;
	op->fact_key = item->fact + item->fact_kind_len + 1;
	op->fact_key_len = item->fact_key_len;
	op->fact_value = item->fact + item->fact_kind_len + 1 + item->fact_key_len;
	op->fact_value_len = item->fact_value_len;
	op->object.time_s = item->time_s;
	return 0;
}

static int prepare_size(struct writer *w, const struct pending_item *item)
{
	struct index_op *op = op_new(w, OP_SIZE);

	if (!op)
		return -ENOMEM;
	op->oid = item->oid;
	op->object.type = OBJECT_BLOB;
	op->object.size = item->size;
	op->object.time_s = item->time_s;
	return 0;
}

static int prepare_forget(struct writer *w, const struct pending_item *item)
{
	struct index_op *op = op_new(w, OP_FORGET_OBJECT);

	if (!op)
		return -ENOMEM;
	op->oid = item->oid;
	op->block = item->block;
	op->place = item->place;
	return 0;
}

static int prepare_one(struct writer *w, struct entry *entry)
{
	switch (entry->item->kind) {
	case PENDING_OBJECT:
		return prepare_object(w, entry);
	case PENDING_SIZE:
		return prepare_size(w, entry->item);
	case PENDING_FACT:
		return prepare_fact(w, entry->item, OP_FACT);
	case PENDING_FORGET_FACT:
		return prepare_fact(w, entry->item, OP_FORGET_FACT);
	case PENDING_FORGET_OBJECT:
		return prepare_forget(w, entry->item);
	case PENDING_PART:
		return prepare_part(w, entry);
	case PENDING_ADOPT:
		return prepare_adopt(w, entry->item);
	case PENDING_DROP:
		return prepare_drop(w, entry->item);
	case PENDING_UNCLAIM:
		return 0;
	}
	return -EINVAL;
}

static int prepare_entry(struct writer *w, struct entry *entry)
{
	uint32_t next_block = entry->item->next_block;
	uint64_t stored_bytes = entry->item->stored_bytes;
	int rc;

	entry->records_off = w->records.len;
	entry->op_first = w->op_count;
	rc = prepare_one(w, entry);
	if (rc) {
		w->records.len = entry->records_off;
		w->op_count = entry->op_first;
		entry->item->next_block = next_block;
		entry->item->stored_bytes = stored_bytes;
	}
	if (rc == -EIO) {
		entry->broken = true;
		rc = 0;
	}
	entry->records_len = w->records.len - entry->records_off;
	entry->op_count = w->op_count - entry->op_first;
	return rc;
}

static void batch_clear(struct writer *w)
{
	w->records.len = 0;
	w->op_count = 0;
	w->base = 0;
	w->packer.poor = false;
}

static bool is_forget(const struct pending_item *item)
{
	return item->kind >= PENDING_FORGET_OBJECT;
}

static int prepare_all(struct writer *w, bool forgets, struct xcp_error *err)
{
	batch_clear(w);
	for (size_t i = 0; i < w->entry_count; i++)
		if (is_forget(w->entries[i].item) == forgets && prepare_entry(w, &w->entries[i]))
			return xcp_error_set(err, -ENOMEM,
					     "cannot write to the cache: out of memory");
	if (!forgets)
		packer_end(&w->packer);
	return 0;
}

/* ---- writing a batch ---- */

static bool has_place(const struct index_op *op)
{
	return op->kind == OP_OBJECT || op->kind == OP_BLOCK || op->kind == OP_PART ||
	       op->kind == OP_MOVE;
}

/* Closes the gap of an entry that another process wrote meanwhile. */
static void entry_cut(struct writer *w, struct entry *cut)
{
	size_t len = cut->records_len, count = cut->op_count;

	memmove(w->records.data + cut->records_off, w->records.data + cut->records_off + len,
		w->records.len - cut->records_off - len);
	memmove(w->ops + cut->op_first, w->ops + cut->op_first + count,
		(w->op_count - cut->op_first - count) * sizeof(*w->ops));
	w->records.len -= len;
	w->op_count -= count;
	for (size_t i = cut->op_first; i < w->op_count; i++)
		w->ops[i].place.off -= has_place(&w->ops[i]) ? len : 0;
	for (struct entry *e = cut + 1; e < w->entries + w->entry_count; e++) {
		e->records_off -= len;
		e->op_first -= count;
	}
	cut->records_len = cut->op_count = 0;
	cut->known = true;
}

static void cut_what_is_known(struct writer *w)
{
	for (size_t i = 0; i < w->entry_count; i++) {
		struct entry *entry = &w->entries[i];

		if (entry->item->kind == PENDING_OBJECT && entry->records_len > 0 &&
		    !entry->item->large && object_is_known(w, &entry->item->oid))
			entry_cut(w, entry);
	}
}

/* Now that it is known where the records go. */
static int places_settle(struct writer *w)
{
	uint64_t id = segment_writer_id(w->segment), base = segment_writer_tail(w->segment);
	struct index_op *tail;

	for (size_t i = 0; i < w->op_count; i++) {
		struct index_op *op = &w->ops[i];

		if (!has_place(op))
			continue;
		op->place.segment = id;
		op->place.off += base - w->base;
		if (op->kind == OP_OBJECT && op->object.content == CONTENT_RECORD)
			op->object.place = op->place;
	}
	w->base = base;
	tail = op_new(w, OP_TAIL);
	if (!tail)
		return -ENOMEM;
	tail->place.segment = id;
	tail->place.off = base + w->records.len;
	return 0;
}

/* For what is to be written now; `force`: the disk said that it is full. */
static int room_for(struct writer *w, uint64_t force, struct xcp_error *err)
{
	struct cache *cache = w->cache;
	uint64_t given_up = w->room->given_up, bytes = w->room->given_up_bytes;
	uint64_t len = w->records.len;
	int rc = 0;

	if (!w->segment && (force || limit_excess(&w->room->limit, cache->store, len) > 0))
		rc = writer_ensure_segment(w, len, err);
	if (rc == 0 && w->segment)
		rc = room_make(w->room, cache->store, cache->recency, w->segment, len, force, err);
	atomic_fetch_add_explicit(&cache->counters.given_up, w->room->given_up - given_up,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&cache->counters.given_up_bytes, w->room->given_up_bytes - bytes,
				  memory_order_relaxed);
	/* What was kept may have filled it. */
	return rc || len == 0 ? rc : writer_ensure_segment(w, len, err);
}

static bool is_full(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

static int commit_locked(struct writer *w, struct xcp_error *err)
{
	struct store *store = w->cache->store;
	uint64_t tail = w->segment ? segment_writer_tail(w->segment) : 0;
	size_t len;
	int rc;

	cut_what_is_known(w);
	len = w->records.len;
	if (len > 0) {
		if (places_settle(w))
			return xcp_error_set(err, -ENOMEM,
					     "cannot write to the cache: out of memory");
		rc = segment_append(w->segment, w->records.data, len, err);
		if (rc)
			return rc;
	}
	rc = w->op_count > 0 ? index_apply(store->index, w->ops, w->op_count, err) : 0;
	if (rc && len > 0)
		segment_rewind(w->segment, tail);
	if (rc == 0) {
		if (w->packer.poor && len > 0)
			repack_note(w->repack, segment_writer_id(w->segment), tail, tail + len);
		limit_written(&w->room->limit, len);
		atomic_fetch_add_explicit(&w->cache->counters.stored_bytes, len,
					  memory_order_relaxed);
	}
	return rc;
}

/* A disk that turns out to be full gets a second chance, with room that is made by force. */
static int commit_with_room(struct writer *w, struct xcp_error *err)
{
	int rc = room_for(w, 0, err);

	/* Facts alone are so small that they may pass the limit. */
	if (rc == 0 || (is_full(rc) && w->records.len == 0))
		rc = commit_locked(w, err);
	if (!is_full(rc)) {
		w->was_forced &= rc != 0;
		return rc;
	}
	/* Once: when that does not help, giving up everything would not, either. */
	if (w->was_forced)
		return rc;
	w->was_forced = true;
	rc = room_for(w, w->records.len + FULL_MIN_LEN, err);
	return rc ? rc : commit_locked(w, err);
}

static int commit(struct writer *w, struct xcp_error *err)
{
	struct store *store = w->cache->store;
	int rc;

	/* What is known is known only if the index is still the one that others see. */
	if (w->op_count == 0)
		return store_check(store);
	if (w->records.len > 0) {
		rc = writer_ensure_segment(w, w->records.len, err);
		if (rc)
			return store_check(store) ? -ESTALE : rc;
	}
	rc = store_write_lock(store, err);
	if (rc)
		return rc;
	rc = store_check(store);
	if (rc)
		xcp_error_set(err, rc, "the cache directory %s was removed or replaced",
			      store->path);
	if (rc == 0)
		rc = store_mark_dirty(store, err);
	if (rc == 0)
		rc = commit_with_room(w, err);
	store_write_unlock(store);
	return rc;
}

/* What is to be forgotten goes first, or new content would be taken for known. */
static int batch_write(struct writer *w, struct xcp_error *err)
{
	int rc = prepare_all(w, true, err);

	if (rc == 0)
		rc = commit(w, err);
	if (rc == 0)
		rc = prepare_all(w, false, err);
	if (rc == 0)
		rc = commit(w, err);
	return rc;
}

/* ---- dictionaries ---- */

static int dictionary_pack(struct writer *w, enum dictionary_kind kind, const struct buf *bytes,
			   struct xcp_error *err)
{
	const struct record_header header = {
		.type = RECORD_DICTIONARY,
		.oid = record_dictionary_oid(dictionary_id_of(bytes->data, bytes->len)),
		.object_type = dictionary_type(kind),
		.object_size = bytes->len,
	};
	struct place place;
	struct index_op *op;

	w->entry_count = 0;
	batch_clear(w);
	op = pack_bytes(w, header, bytes->data, bytes->len, &place) ? NULL : op_new(w, OP_OBJECT);
	if (!op)
		return xcp_error_set(err, -ENOMEM, "cannot store a dictionary: out of memory");
	op->oid = header.oid;
	op->place = place;
	op->object = (struct index_object){ .type = header.object_type,
					    .content = CONTENT_RECORD,
					    .pinned = true,
					    .size = bytes->len,
					    .stored_bytes = record_len(place.stored_len),
					    .time_s = clock_wall_s() };
	return 0;
}

/* Stores what has come out of a training; what cannot be stored is not used. */
static void dictionaries_take(struct writer *w)
{
	struct store *store = w->cache->store;

	for (enum dictionary_kind kind = 0; store && kind < DICTIONARY_KIND_COUNT; kind++) {
		struct buf bytes = BUF_INIT;

		if (trainer_take(w->packer.trainer, kind, &bytes) &&
		    dictionary_pack(w, kind, &bytes, NULL) == 0 && commit(w, NULL) == 0)
			packer_choose(&w->packer, store->dictionaries);
		buf_release(&bytes);
	}
}

/* ---- what becomes of the items ---- */

static bool entry_is_unfinished(const struct entry *entry)
{
	return entry->item->large && !entry->known && !entry->broken &&
	       entry->item->next_block < block_count_of(entry->item->content->size);
}

static void drop_count(struct cache *cache, const struct pending_item *item)
{
	if (item->kind == PENDING_OBJECT || item->kind == PENDING_PART)
		atomic_fetch_add_explicit(&cache->counters.dropped, 1, memory_order_relaxed);
}

static void items_free(struct pending_list *list)
{
	struct pending_item *item;

	while ((item = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, item, link);
		pending_item_free(item);
	}
}

static void batch_done(struct writer *w)
{
	struct pending_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct cache *cache = w->cache;
	bool was;

	lock_take(&cache->lock);
	/* Together with the items' leaving, so that a flush finds both. */
	was = recover_locked(cache);
	for (size_t i = 0; i < w->entry_count; i++) {
		struct entry *entry = &w->entries[i];

		if (entry_is_unfinished(entry)) {
			pending_put_back_locked(&cache->pending, entry->item);
			continue;
		}
		if (entry->broken)
			drop_count(cache, entry->item);
		pending_remove_locked(&cache->pending, entry->item);
		TAILQ_INSERT_TAIL(&gone, entry->item, link);
	}
	lock_cond_broadcast(&cache->room);
	lock_cond_broadcast(&cache->done);
	lock_give(&cache->lock);
	items_free(&gone);
	if (was)
		log_info("cache: stored on disk again");
}

static bool is_worth_waiting(const struct pending_item *item, int rc)
{
	switch (rc) {
	case -EAGAIN:
	case -ESTALE:
	case -EUCLEAN:
	case -ENOMEM:
		return true;
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
		return !item->large;
	default:
		return false;
	}
}

static void batch_failed(struct writer *w, int rc)
{
	struct pending_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct cache *cache = w->cache;

	lock_take(&cache->lock);
	for (size_t i = 0; i < w->entry_count; i++) {
		struct pending_item *item = w->entries[i].item;

		if (w->entries[i].broken || !is_worth_waiting(item, rc)) {
			drop_count(cache, item);
			pending_remove_locked(&cache->pending, item);
			TAILQ_INSERT_TAIL(&gone, item, link);
			continue;
		}
		/* A step that failed is not done: a large object begins again. */
		item->next_block = 0;
		item->stored_bytes = 0;
		pending_put_back_locked(&cache->pending, item);
	}
	lock_give(&cache->lock);
	items_free(&gone);
}

/* ---- one attempt ---- */

static size_t take_small(struct writer *w)
{
	struct pending_item *items[BATCH_MAX_COUNT];

	const struct pending *pending = &w->cache->pending;

	lock_take(&w->cache->lock);
	packer_begin(&w->packer, pending->len, pending->max_len, w->cache->stopping);
	w->entry_count =
		pending_take_locked(&w->cache->pending, items, BATCH_MAX_COUNT, BATCH_MAX_LEN);
	lock_give(&w->cache->lock);
	for (size_t i = 0; i < w->entry_count; i++)
		w->entries[i] = (struct entry){ .item = items[i] };
	return w->entry_count;
}

static size_t take_large(struct writer *w)
{
	struct pending_item *item;

	lock_take(&w->cache->lock);
	item = pending_take_large_locked(&w->cache->pending);
	lock_give(&w->cache->lock);
	w->entry_count = item ? 1 : 0;
	w->entries[0] = (struct entry){ .item = item };
	return w->entry_count;
}

static int write_taken(struct writer *w, struct xcp_error *err)
{
	int rc = batch_write(w, err);

	if (rc)
		batch_failed(w, rc);
	else
		batch_done(w);
	return rc;
}

/* One batch of small things and one step of a large one. */
static int attempt_once(struct writer *w, struct xcp_error *err)
{
	int rc = writer_ensure_store(w, err);

	if (rc == 0 && take_small(w) > 0)
		rc = write_taken(w, err);
	if (rc == 0 && take_large(w) > 0)
		rc = write_taken(w, err);
	return rc;
}

static int attempt(struct writer *w)
{
	struct xcp_error err = { .code = 0 };
	int rc = attempt_once(w, &err);

	for (unsigned tries = 0; (rc == -ESTALE || rc == -EUCLEAN) && tries < 2; tries++) {
		if (rc == -EUCLEAN)
			atomic_store(&w->cache->index_damaged, true);
		writer_retire_store(w);
		err.code = 0;
		rc = attempt_once(w, &err);
	}
	if (rc == 0) {
		recover(w->cache);
		w->next_try_ms = 0;
		dictionaries_take(w);
		if (w->rebuild && w->cache->store)
			rebuild_go_on(w, w->cache->store);
		return 0;
	}
	degrade(w->cache, &err);
	w->next_try_ms = clock_ms() + (w->sick			      ? w->sick_pause_ms :
				       rc == -EAGAIN || rc == -ESTALE ? RETRY_LOCK_MS :
									RETRY_DISK_MS);
	w->sick = false;
	return rc;
}

/* ---- the thread ---- */

static bool has_work_locked(const struct writer *w)
{
	return !pending_is_empty_locked(&w->cache->pending) ||
	       atomic_load(&w->cache->index_damaged) || atomic_load(&w->cache->disk_sick);
}

/* Milliseconds till something may be tried; 0: now. */
static uint64_t pause_ms_locked(const struct writer *w)
{
	uint64_t now = clock_ms();

	if (w->cache->flusher_count > 0 || now >= w->next_try_ms)
		return 0;
	return w->next_try_ms - now < 1000 ? w->next_try_ms - now : 1000;
}

static bool trash_step(struct writer *w)
{
	if (!w->trash_left || !w->cache->store)
		return false;
	w->trash_left = store_trash_step(w->cache->store->tmp_fd);
	return true;
}

/* ---- idle ---- */

static int repack_one(struct writer *w, const struct repack_record *record)
{
	struct place place;
	struct index_op *op;
	int rc = pack_bytes(w, record->header, record->raw->data, record->raw->len, &place);

	op = rc ? NULL : op_new(w, OP_MOVE);
	if (!op)
		return -ENOMEM;
	op->oid = record->header.oid;
	op->block = record->header.block_index;
	op->whole = record->header.type != RECORD_BLOCK;
	op->from = record->from;
	op->place = place;
	return 0;
}

static int repack_prepare(struct writer *w, const struct repack_portion *portion)
{
	int rc = 0;

	w->entry_count = 0;
	batch_clear(w);
	w->packer.effort = CODEC_IDLE;
	for (size_t i = 0; i < portion->count && rc == 0; i++)
		rc = repack_one(w, &portion->v[i]);
	w->packer.poor = false;
	return rc;
}

static void repack_count(struct writer *w)
{
	uint64_t records = 0, bytes = 0;

	for (size_t i = 0; i < w->op_count; i++) {
		const struct index_op *op = &w->ops[i];

		if (op->kind != OP_MOVE)
			continue;
		records++;
		bytes += record_len(op->from.stored_len) - record_len(op->place.stored_len);
	}
	atomic_fetch_add_explicit(&w->cache->counters.repacked, records, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->cache->counters.repacked_bytes, bytes, memory_order_relaxed);
}

/* What was on the disk before is there again before its place is given back. */
static void repack_end(struct writer *w, struct store *store, const struct repack_portion *portion)
{
	if (segment_writer_sync(w->segment) || store_write_lock(store, NULL))
		return;
	if (store_check(store) == 0)
		repack_give_back(w->repack, store, portion);
	store_write_unlock(store);
	limit_changed(&w->room->limit);
}

/* Half of the time at most: others may want the processor. */
static void repack_go_on(struct writer *w, struct store *store)
{
	struct repack_portion portion;
	uint64_t began_ms = clock_ms();

	repack_look(w->repack, store, &portion);
	/* Nothing makes room for copies. */
	if (repack_prepare(w, &portion) == 0 && repack_pays(&portion, w->records.len) &&
	    limit_excess(&w->room->limit, store, w->records.len) == 0 && commit(w, NULL) == 0) {
		repack_count(w);
		repack_end(w, store, &portion);
	}
	repack_portion_release(&portion);
	w->repack_ms = 2 * clock_ms() - began_ms + 1;
}

/* Something that can wait, and is never urgent. */
static void idle_step(struct writer *w)
{
	struct store *store = w->cache->store;

	if (w->rebuild && store && rebuild_go_on(w, store))
		return;
	rebuild_end(w);
	if (!trash_step(w))
		w->trash_left = false;
}

/* What was read, for those who make room. */
static void publish(struct writer *w)
{
	if (w->cache->store && store_check(w->cache->store) == 0)
		recency_publish(w->cache->recency, w->cache->store->v1_fd);
}

/* Waits for something to do; false when there is nothing and the cache closes. */
static bool work_wait(struct writer *w)
{
	struct cache *cache = w->cache;
	bool work, stopping;

	lock_take(&cache->lock);
	for (;;) {
		uint64_t pause_ms;

		work = has_work_locked(w);
		stopping = cache->stopping;
		pause_ms = pause_ms_locked(w);
		if (stopping || (work && pause_ms == 0))
			break;
		if (work) {
			lock_cond_wait_ms(&cache->work, &cache->lock, pause_ms);
			continue;
		}
		if (w->trash_left || w->rebuild) {
			lock_give(&cache->lock);
			idle_step(w);
			lock_take(&cache->lock);
			continue;
		}
		if (repack_is_due(w->repack) && cache->store) {
			uint64_t now = clock_ms();

			if (now < w->repack_ms) {
				lock_cond_wait_ms(&cache->work, &cache->lock, w->repack_ms - now);
				continue;
			}
			lock_give(&cache->lock);
			repack_go_on(w, cache->store);
			lock_take(&cache->lock);
			continue;
		}
		lock_cond_wait_ms(&cache->work, &cache->lock, PUBLISH_MS);
		if (!recency_is_dirty(cache->recency))
			continue;
		lock_give(&cache->lock);
		publish(w);
		lock_take(&cache->lock);
	}
	lock_give(&cache->lock);
	if (stopping && w->stop_ms == 0)
		w->stop_ms = clock_ms() + 1;
	return work;
}

static bool is_stopping(const struct writer *w)
{
	return w->stop_ms != 0;
}

static void drop_rest(struct writer *w, bool only_large)
{
	struct pending_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct cache *cache = w->cache;
	struct pending_item *item, *next;

	lock_take(&cache->lock);
	for (item = TAILQ_FIRST(&cache->pending.large); item; item = next) {
		next = TAILQ_NEXT(item, link);
		drop_count(cache, item);
		pending_remove_locked(&cache->pending, item);
		TAILQ_INSERT_TAIL(&gone, item, link);
	}
	while (!only_large && (item = pending_drop_oldest_locked(&cache->pending))) {
		drop_count(cache, item);
		TAILQ_INSERT_TAIL(&gone, item, link);
	}
	lock_cond_broadcast(&cache->room);
	lock_cond_broadcast(&cache->done);
	lock_give(&cache->lock);
	items_free(&gone);
}

static void writer_end(struct writer *w)
{
	struct cache *cache = w->cache;

	drop_rest(w, false);
	if (w->segment)
		segment_writer_push(w->segment);
	segment_writer_close(&w->segment);
	publish(w);
	if (cache->store && !atomic_load(&cache->index_damaged))
		store_mark_clean(cache->store);
	writer_retire_store(w);
	retired_is_gone(w);
}

static void *writer_run(void *arg)
{
	struct writer *w = arg;

	while (work_wait(w)) {
		int rc;

		if (is_stopping(w) && clock_ms() > w->stop_ms + CLOSE_LARGE_MS)
			drop_rest(w, true);
		rc = attempt(w);
		w->repack_ms = clock_ms() + REPACK_IDLE_MS;
		if (rc && is_stopping(w))
			break;
	}
	writer_end(w);
	return NULL;
}

static void writer_free(struct writer *w)
{
	if (!w)
		return;
	packer_release(&w->packer);
	repack_free(w->repack);
	room_free(w->room);
	rebuild_free(w->rebuild);
	buf_release(&w->records);
	free(w->ops);
	free(w->raw);
	free(w);
}

static struct writer *writer_new(struct cache *cache)
{
	struct writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->cache = cache;
	w->repack = repack_new();
	w->raw = malloc(CACHE_BLOCK_LEN);
	w->room = room_new(cache->size_max_len);
	if (packer_init(&w->packer) == 0 && w->repack && w->raw && w->room)
		return w;
	writer_free(w);
	return NULL;
}

int writer_start(struct cache *cache, struct xcp_error *err)
{
	struct writer *w = writer_new(cache);
	struct xcp_error why = { .code = 0 };
	int rc;

	if (!w)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache: out of memory");
	cache->writer = w;
	if (writer_open_store(w, &why)) {
		degrade(cache, &why);
		if (err)
			*err = why;
		w->next_try_ms = clock_ms() + RETRY_DISK_MS;
	}
	rc = thread_start(&cache->writer_thread, "cache", writer_run, w);
	if (rc == 0)
		return 0;
	writer_end(w);
	writer_free(w);
	cache->writer = NULL;
	return xcp_error_set(err, rc, "cannot start the cache's thread: %s", strerror(-rc));
}

void writer_join(struct cache *cache)
{
	pthread_join(cache->writer_thread, NULL);
	writer_free(cache->writer);
	cache->writer = NULL;
}
