/*
 * ingest: what the pack parser finds, made into objects.
 *
 *	entry ---> whole object: hashed ------------------------------> resolved: handed on, kept
 *	     \---> delta: base at hand? applied, hashed ----------------^   |
 *	                  not yet: waits for an offset or an id <-----------'  what waited is next
 *
 * Where a base is looked for: the window, the spool of what left the window and is not in the
 * cache, the cache by id. Chains are worked off with a list, not by recursion: their length is the
 * server's choice.
 */
#include "fetch/ingest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "fetch/entries.h"
#include "fetch/spool.h"
#include "git/delta.h"
#include "git/hash.h"

#define WAITING_BUCKETS 256
#define WAITING_MAX_COUNT 16384 /* each new object is compared with those of its buckets */
#define WAITING_MAX_LEN (1u << 20)
#define WINDOW_FILES 8 /* as many open files as the window may hold */
#define READ_LEN ((size_t)512 * 1024)

/* A recent object, kept as a base. */
struct held {
	TAILQ_ENTRY(held) lru;
	uint32_t index;
	size_t cost;
	struct content *content; /* owned */
};

/* A delta whose base has not come. */
struct waiting {
	LIST_ENTRY(waiting) bucket;
	STAILQ_ENTRY(waiting) ready;
	uint32_t index;	     /* its own entry */
	uint32_t base_index; /* once it is ready */
	uint64_t base_off;   /* 0: by id */
	struct oid base_oid;
	size_t len;
	uint8_t *data; /* owned; NULL: spilled */
	uint64_t spill_off;
};

/* The bytes of a delta, wherever they are. */
struct delta_bytes {
	const uint8_t *data;
	size_t len;
};

/* An object that a delta is applied to. */
struct base {
	enum object_type type;
	uint64_t size;
	struct content *content; /* owned; NULL: read by id */
	struct oid oid;
};

struct ingest {
	struct ingest_config config;
	struct pack_parser *parser;

	struct entries entries;

	TAILQ_HEAD(, held) window; /* most recent last */
	size_t window_len;
	struct spool evicted;

	LIST_HEAD(, waiting) waiting[WAITING_BUCKETS];
	STAILQ_HEAD(, waiting) ready;
	size_t waiting_count, waiting_len;
	struct spool spilled;

	/* the entry under way */
	struct pack_entry entry;
	uint32_t index;
	bool lost;  /* its bytes are not kept: trouble */
	bool early; /* they are the caller's */
	struct block *block;
	uint8_t *delta;
	size_t filled;
	struct spool large;
	struct hasher hasher;

	size_t unresolved;
	int trouble;
};

static bool is_delta(const struct pack_entry *entry)
{
	return entry->kind == PACK_OFS_DELTA || entry->kind == PACK_REF_DELTA;
}

static void lose(struct ingest *ingest, int status)
{
	ingest->unresolved++;
	if (status != -ENOENT && status != -EPROTO)
		ingest->trouble = status;
}

/* ---- the window ---- */

static void window_remove(struct ingest *ingest, struct held *held)
{
	TAILQ_REMOVE(&ingest->window, held, lru);
	ingest->window_len -= held->cost;
	entries_at(&ingest->entries, held->index)->held = NULL;
	content_unref(held->content);
	free(held);
}

/* What nobody else keeps goes to a file, so that a later delta still finds it. */
static void evict(struct ingest *ingest, struct held *held)
{
	struct entry *entry = entries_at(&ingest->entries, held->index);
	struct block *block = held->content->block;

	if (!entry->elsewhere && !entry->spooled && block) {
		uint64_t off = ingest->evicted.len;

		if (!spool_append(&ingest->evicted, block->data, block->len)) {
			entry->spool_off = off;
			entry->spooled = true;
		}
	}
	window_remove(ingest, held);
}

static void window_add(struct ingest *ingest, uint32_t index, struct content *content)
{
	struct held *held = calloc(1, sizeof(*held));

	if (!held)
		return; /* then it is read back, or its deltas are asked for again */
	held->index = index;
	held->content = content_ref(content);
	held->cost = content->block ? content->block->len + sizeof(*held) + sizeof(*content) :
				      ingest->config.window_max_len / WINDOW_FILES;
	TAILQ_INSERT_TAIL(&ingest->window, held, lru);
	ingest->window_len += held->cost;
	entries_at(&ingest->entries, index)->held = held;
	while (ingest->window_len > ingest->config.window_max_len)
		evict(ingest, TAILQ_FIRST(&ingest->window));
}

/* ---- bases ---- */

static void base_release(struct base *base)
{
	content_unref(base->content);
}

static int read_by_id(struct ingest *ingest, const struct oid *oid, uint64_t off, uint8_t *out,
		      size_t len)
{
	while (len) {
		struct spans spans = SPANS_INIT;
		size_t piece = len < READ_LEN ? len : READ_LEN;
		int status =
			ingest->config.ops->base_read(ingest->config.arg, oid, off, piece, &spans);

		if (status)
			return status;
		if (spans.len != piece)
			status = -ENOENT;
		for (unsigned i = 0; !status && i < spans.count; i++) {
			memcpy(out, spans.v[i].block->data + spans.v[i].off, spans.v[i].len);
			out += spans.v[i].len;
		}
		spans_release(&spans);
		if (status)
			return status;
		off += piece;
		len -= piece;
	}
	return 0;
}

static int base_from_elsewhere(struct ingest *ingest, const struct oid *oid, struct base *out)
{
	struct base base = { .oid = *oid };
	struct block *block;
	int status = ingest->config.ops->base_stat(ingest->config.arg, oid, &base.type, &base.size);

	if (status || base.size > ingest->config.large_limit) {
		if (!status)
			*out = base;
		return status;
	}
	block = block_new((size_t)base.size);
	if (!block)
		return -ENOMEM;
	status = read_by_id(ingest, oid, 0, block->data, block->len);
	if (status) {
		block_unref(block);
		return status;
	}
	base.content = content_from_block_take(oid, base.type, block);
	if (!base.content)
		return -ENOMEM;
	*out = base;
	return 0;
}

static int base_from_spool(struct ingest *ingest, uint32_t index, struct base *out)
{
	const struct entry *entry = entries_at(&ingest->entries, index);
	struct oid oid = entries_oid(&ingest->entries, index);
	struct block *block = block_new((size_t)entry->size);
	int status;

	if (!block)
		return -ENOMEM;
	status = spool_read(&ingest->evicted, entry->spool_off, block->data, block->len);
	if (status) {
		block_unref(block);
		return status;
	}
	*out = (struct base){ .type = entry->type, .size = entry->size, .oid = oid };
	out->content = content_from_block_take(&oid, entry->type, block);
	return out->content ? 0 : -ENOMEM;
}

/* The object of a resolved entry. */
static int base_from_entry(struct ingest *ingest, uint32_t index, struct base *out)
{
	struct entry *entry = entries_at(&ingest->entries, index);
	struct oid oid = entries_oid(&ingest->entries, index);
	struct held *held = entry->held;
	int status;

	if (held) {
		TAILQ_REMOVE(&ingest->window, held, lru);
		TAILQ_INSERT_TAIL(&ingest->window, held, lru);
		*out = (struct base){ .type = entry->type, .size = entry->size, .oid = oid };
		out->content = content_ref(held->content);
		return 0;
	}
	status = entry->spooled ? base_from_spool(ingest, index, out) :
				  base_from_elsewhere(ingest, &oid, out);
	if (!status && out->content)
		window_add(ingest, index, out->content);
	return status;
}

struct base_reader {
	struct ingest *ingest;
	const struct base *base;
};

static int base_read(void *arg, uint64_t off, uint8_t *out, size_t len)
{
	struct base_reader *reader = arg;
	struct content *content = reader->base->content;

	if (!content)
		return read_by_id(reader->ingest, &reader->base->oid, off, out, len);
	if (!content->block)
		return spool_fd_read(content->fd, off, out, len);
	memcpy(out, content->block->data + off, len);
	return 0;
}

/* ---- resolved objects ---- */

static size_t bucket_of_off(uint64_t off)
{
	return (off * 0x9e3779b97f4a7c15u) >> 56;
}

static size_t bucket_of_oid(const struct oid *oid)
{
	return oid->hash[0];
}

/* Those that waited for this entry become ready. */
static void wake_dependents(struct ingest *ingest, uint32_t index)
{
	const struct entry *entry = entries_at(&ingest->entries, index);
	struct oid oid = entries_oid(&ingest->entries, index);
	const size_t buckets[2] = { bucket_of_off(entry->off), bucket_of_oid(&oid) };

	if (!ingest->waiting_count)
		return;
	for (unsigned i = 0; i < 2; i++) {
		struct waiting *next, *waiting = LIST_FIRST(&ingest->waiting[buckets[i]]);

		for (; waiting; waiting = next) {
			next = LIST_NEXT(waiting, bucket);
			if (waiting->base_off ? waiting->base_off != entry->off :
						!oid_equal(&waiting->base_oid, &oid))
				continue;
			LIST_REMOVE(waiting, bucket);
			waiting->base_index = index;
			STAILQ_INSERT_TAIL(&ingest->ready, waiting, ready);
		}
	}
}

static void resolved(struct ingest *ingest, uint32_t index, struct content *content)
{
	struct entry *entry = entries_at(&ingest->entries, index);

	entries_name(&ingest->entries, index, content);
	entry->elsewhere = ingest->config.ops->object(ingest->config.arg, content);
	window_add(ingest, index, content);
	wake_dependents(ingest, index);
	content_unref(content);
}

static int finish_block_take(struct ingest *ingest, uint32_t index, enum object_type type,
			     struct block *block)
{
	struct content *content;
	struct oid oid;
	int status = object_hash(ingest->config.algo, type, block->data, block->len, &oid);

	if (status) {
		block_unref(block);
		return status;
	}
	content = content_from_block_take(&oid, type, block);
	if (!content)
		return -ENOMEM;
	resolved(ingest, index, content);
	return 0;
}

/* The file and the hasher have seen all of it. */
static int finish_large(struct ingest *ingest, uint32_t index, enum object_type type,
			struct spool *spool, struct hasher *hasher)
{
	struct content *content;
	struct oid oid;
	uint64_t size = spool->len;
	int status = hasher_final(hasher, &oid);
	int fd;

	if (status)
		return status;
	fd = spool_detach(spool);
	if (fd < 0)
		return fd;
	content = content_from_fd_take(&oid, type, fd, size);
	if (!content)
		return -ENOMEM;
	resolved(ingest, index, content);
	return 0;
}

/* ---- deltas ---- */

static bool stopped(const struct ingest *ingest)
{
	return ingest->config.ops->stopped && ingest->config.ops->stopped(ingest->config.arg);
}

struct large_out {
	struct ingest *ingest;
	struct spool spool;
	struct hasher hasher;
};

static int write_large(void *arg, const uint8_t *data, size_t len)
{
	struct large_out *out = arg;
	int status = stopped(out->ingest) ? -ECANCELED : hasher_update(&out->hasher, data, len);

	return status ? status : spool_append(&out->spool, data, len);
}

struct block_out {
	struct block *block;
	size_t filled;
};

static int write_block(void *arg, const uint8_t *data, size_t len)
{
	struct block_out *out = arg;

	if (len > out->block->len - out->filled)
		return -EPROTO;
	memcpy(out->block->data + out->filled, data, len);
	out->filled += len;
	return 0;
}

static int apply_to_large(struct ingest *ingest, uint32_t index, const struct delta_bytes *delta,
			  const struct base *base, uint64_t result_size)
{
	struct base_reader reader = { ingest, base };
	struct large_out out = { .ingest = ingest };
	int status;

	spool_init(&out.spool, ingest->config.ops->tmpfile, ingest->config.arg);
	status = spool_expect(&out.spool, result_size);
	if (!status)
		status = hasher_init_object(&out.hasher, ingest->config.algo, base->type,
					    result_size);
	if (!status)
		status = delta_apply(delta->data, delta->len, base->size, base_read, &reader,
				     write_large, &out);
	if (!status)
		status = finish_large(ingest, index, base->type, &out.spool, &out.hasher);
	hasher_release(&out.hasher);
	spool_release(&out.spool);
	return status;
}

static int apply_to_block(struct ingest *ingest, uint32_t index, const struct delta_bytes *delta,
			  const struct base *base, size_t result_size)
{
	struct base_reader reader = { ingest, base };
	struct block_out out = { .block = block_new(result_size) };
	int status;

	if (!out.block)
		return -ENOMEM;
	status = delta_apply(delta->data, delta->len, base->size, base_read, &reader, write_block,
			     &out);
	if (status || out.filled != result_size) {
		block_unref(out.block);
		return status ? status : -EPROTO;
	}
	return finish_block_take(ingest, index, base->type, out.block);
}

static int apply(struct ingest *ingest, uint32_t index, const struct delta_bytes *delta,
		 const struct base *base)
{
	struct delta_header header;
	int status = delta_header(delta->data, delta->len, &header);

	if (status)
		return -EPROTO;
	if (header.base_size != base->size)
		return -EPROTO;
	if (header.result_size > ingest->config.large_limit)
		return apply_to_large(ingest, index, delta, base, header.result_size);
	return apply_to_block(ingest, index, delta, base, (size_t)header.result_size);
}

static void apply_or_lose(struct ingest *ingest, uint32_t index, const struct delta_bytes *delta,
			  uint32_t base_index)
{
	struct base base;
	int status = base_from_entry(ingest, base_index, &base);

	if (!status) {
		status = apply(ingest, index, delta, &base);
		base_release(&base);
	}
	if (status)
		lose(ingest, status);
}

/* ---- deltas that wait ---- */

static void waiting_free(struct ingest *ingest, struct waiting *waiting)
{
	if (waiting->data)
		ingest->waiting_len -= waiting->len;
	ingest->waiting_count--;
	free(waiting->data);
	free(waiting);
}

static void waiting_clear(struct ingest *ingest, size_t bucket)
{
	struct waiting *next, *waiting = LIST_FIRST(&ingest->waiting[bucket]);

	for (; waiting; waiting = next) {
		next = LIST_NEXT(waiting, bucket);
		waiting_free(ingest, waiting);
	}
}

static int waiting_store(struct ingest *ingest, struct waiting *waiting,
			 const struct delta_bytes *delta)
{
	if (delta->len <= WAITING_MAX_LEN - ingest->waiting_len) {
		waiting->data = malloc(delta->len ? delta->len : 1);
		if (!waiting->data)
			return -ENOMEM;
		memcpy(waiting->data, delta->data, delta->len);
		ingest->waiting_len += delta->len;
		return 0;
	}
	waiting->spill_off = ingest->spilled.len;
	return spool_append(&ingest->spilled, delta->data, delta->len);
}

static int wait_for_base(struct ingest *ingest, const struct delta_bytes *delta)
{
	struct waiting *waiting;
	size_t bucket;
	int status;

	if (ingest->waiting_count >= WAITING_MAX_COUNT)
		return -ENOENT;
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting)
		return -ENOMEM;
	waiting->index = ingest->index;
	waiting->len = delta->len;
	status = waiting_store(ingest, waiting, delta);
	if (status) {
		free(waiting);
		return status;
	}
	if (ingest->entry.kind == PACK_OFS_DELTA)
		waiting->base_off = ingest->entry.base_off;
	else
		waiting->base_oid = ingest->entry.base_oid;
	bucket = waiting->base_off ? bucket_of_off(waiting->base_off) :
				     bucket_of_oid(&waiting->base_oid);
	LIST_INSERT_HEAD(&ingest->waiting[bucket], waiting, bucket);
	ingest->waiting_count++;
	return 0;
}

static void apply_ready(struct ingest *ingest, struct waiting *waiting)
{
	struct delta_bytes delta = { waiting->data, waiting->len };
	struct spool_map map = { 0 };

	if (!waiting->data) {
		int status = spool_map(&ingest->spilled, waiting->spill_off, waiting->len, &map);

		if (status) {
			lose(ingest, status);
			return;
		}
		delta.data = map.data;
	}
	apply_or_lose(ingest, waiting->index, &delta, waiting->base_index);
	spool_unmap(&map);
}

static void work_off_ready(struct ingest *ingest)
{
	struct waiting *waiting;

	while ((waiting = STAILQ_FIRST(&ingest->ready))) {
		STAILQ_REMOVE_HEAD(&ingest->ready, ready);
		apply_ready(ingest, waiting);
		waiting_free(ingest, waiting);
	}
}

/* The base's entry when it is in this pack, and resolved. -EAGAIN: to come, perhaps. */
static int base_index_of(struct ingest *ingest, uint32_t *out_index)
{
	int status;

	if (ingest->entry.kind == PACK_REF_DELTA) {
		status = entries_find_oid(&ingest->entries, &ingest->entry.base_oid, out_index);
		return status == -ENOENT ? -EAGAIN : status;
	}
	status = entries_find_off(&ingest->entries, ingest->entry.base_off, out_index);
	if (status)
		return status;
	return entries_at(&ingest->entries, *out_index)->type == OBJECT_NONE ? -EAGAIN : 0;
}

static int resolve_from_elsewhere(struct ingest *ingest, const struct delta_bytes *delta)
{
	struct base base;
	int status = base_from_elsewhere(ingest, &ingest->entry.base_oid, &base);

	if (status)
		return status;
	status = apply(ingest, ingest->index, delta, &base);
	base_release(&base);
	return status;
}

static void delta_end(struct ingest *ingest, const struct delta_bytes *delta)
{
	uint32_t base_index;
	int status = base_index_of(ingest, &base_index);

	if (!status) {
		apply_or_lose(ingest, ingest->index, delta, base_index);
		return;
	}
	if (status == -EAGAIN && ingest->entry.kind == PACK_REF_DELTA) {
		status = resolve_from_elsewhere(ingest, delta);
		if (!status)
			return;
		if (status == -ENOENT)
			status = -EAGAIN;
	}
	if (status == -EAGAIN)
		status = wait_for_base(ingest, delta);
	if (status)
		lose(ingest, status);
}

/* ---- what the parser says ---- */

static int on_header(void *arg, uint32_t object_count)
{
	struct ingest *ingest = arg;

	return ingest->config.ops->header ?
		       ingest->config.ops->header(ingest->config.arg, object_count) :
		       0;
}

static int begin_large(struct ingest *ingest)
{
	const struct pack_entry *entry = &ingest->entry;
	int status = ingest->early ? 0 : spool_expect(&ingest->large, entry->size);

	if (status || is_delta(entry))
		return status;
	return hasher_init_object(&ingest->hasher, ingest->config.algo,
				  (enum object_type)entry->kind, entry->size);
}

static int begin_entry(struct ingest *ingest)
{
	const struct pack_entry *entry = &ingest->entry;

	if (entry->size > ingest->config.large_limit)
		return begin_large(ingest);
	if (is_delta(entry)) {
		ingest->delta = malloc(entry->size ? (size_t)entry->size : 1);
		return ingest->delta ? 0 : -ENOMEM;
	}
	ingest->block = block_new((size_t)entry->size);
	return ingest->block ? 0 : -ENOMEM;
}

static void lose_entry(struct ingest *ingest, int status)
{
	ingest->lost = true;
	lose(ingest, status);
}

/* Whose bytes these will be. */
static int ask_early(struct ingest *ingest, const struct pack_entry *entry)
{
	const struct ingest_ops *ops = ingest->config.ops;
	int status = 0;

	if (ops->early && !is_delta(entry) && entry->size > ingest->config.large_limit)
		status = ops->early(ingest->config.arg, entry);
	ingest->early = status == 1;
	return status < 0 ? status : 0;
}

static int on_entry(void *arg, const struct pack_entry *entry)
{
	struct ingest *ingest = arg;
	int status = entries_add(&ingest->entries, entry->off, &ingest->index);

	if (!status && ingest->config.ops->entry)
		status = ingest->config.ops->entry(ingest->config.arg, entry);
	if (!status)
		status = ask_early(ingest, entry);
	if (status)
		return status;
	ingest->entry = *entry;
	ingest->filled = 0;
	ingest->lost = false;
	status = begin_entry(ingest);
	if (status)
		lose_entry(ingest, status);
	return 0;
}

static int on_data(void *arg, const uint8_t *data, size_t len)
{
	struct ingest *ingest = arg;
	uint8_t *memory = ingest->block ? ingest->block->data : ingest->delta;
	int status = 0;

	if (ingest->lost)
		return 0;
	if (memory) {
		memcpy(memory + ingest->filled, data,
		       len); /* the parser never hands out more than the entry's size */
		ingest->filled += len;
		return 0;
	}
	if (stopped(ingest))
		return -ECANCELED;
	if (!is_delta(&ingest->entry))
		status = hasher_update(&ingest->hasher, data, len);
	if (!status && ingest->early)
		return ingest->config.ops->early_data(ingest->config.arg, data, len);
	if (!status)
		status = spool_append(&ingest->large, data, len);
	if (status)
		lose_entry(ingest, status);
	return 0;
}

static int end_early(struct ingest *ingest)
{
	struct oid oid;
	int status = hasher_final(&ingest->hasher, &oid);

	if (!status)
		ingest->config.ops->early_end(ingest->config.arg, &oid);
	return status;
}

static int end_whole(struct ingest *ingest)
{
	enum object_type type = (enum object_type)ingest->entry.kind;
	struct block *block = ingest->block;

	ingest->block = NULL;
	if (block)
		return finish_block_take(ingest, ingest->index, type, block);
	if (ingest->early)
		return end_early(ingest);
	return finish_large(ingest, ingest->index, type, &ingest->large, &ingest->hasher);
}

static int end_delta(struct ingest *ingest)
{
	struct delta_bytes delta = { ingest->delta, ingest->filled };
	struct spool_map map = { 0 };

	if (!delta.data) {
		int status = spool_map(&ingest->large, 0, (size_t)ingest->large.len, &map);

		if (status)
			return status;
		delta = (struct delta_bytes){ map.data, (size_t)ingest->large.len };
	}
	delta_end(ingest, &delta);
	spool_unmap(&map);
	return 0;
}

static void entry_reset(struct ingest *ingest)
{
	block_unref(ingest->block);
	ingest->block = NULL;
	free(ingest->delta);
	ingest->delta = NULL;
	spool_release(&ingest->large);
}

static int on_end(void *arg)
{
	struct ingest *ingest = arg;

	if (!ingest->lost) {
		int status = is_delta(&ingest->entry) ? end_delta(ingest) : end_whole(ingest);

		if (status)
			lose(ingest, status);
	}
	entry_reset(ingest);
	work_off_ready(ingest);
	return 0;
}

static const struct pack_events events = { on_header, on_entry, on_data, on_end };

/* ---- the public face ---- */

struct ingest *ingest_new(const struct ingest_config *config)
{
	struct ingest *ingest = calloc(1, sizeof(*ingest));

	if (!ingest)
		return NULL;
	ingest->config = *config;
	entries_init(&ingest->entries, config->algo);
	TAILQ_INIT(&ingest->window);
	STAILQ_INIT(&ingest->ready);
	for (size_t i = 0; i < WAITING_BUCKETS; i++)
		LIST_INIT(&ingest->waiting[i]);
	spool_init(&ingest->evicted, config->ops->tmpfile, config->arg);
	spool_init(&ingest->spilled, config->ops->tmpfile, config->arg);
	spool_init(&ingest->large, config->ops->tmpfile, config->arg);
	ingest->parser = pack_parser_new(config->algo, &events, ingest);
	if (!ingest->parser) {
		free(ingest);
		return NULL;
	}
	return ingest;
}

void ingest_free(struct ingest *ingest)
{
	if (!ingest)
		return;
	pack_parser_free(ingest->parser);
	entry_reset(ingest);
	for (struct held *held = TAILQ_FIRST(&ingest->window), *next; held; held = next) {
		next = TAILQ_NEXT(held, lru);
		window_remove(ingest, held);
	}
	for (size_t i = 0; i < WAITING_BUCKETS; i++)
		waiting_clear(ingest, i);
	hasher_release(&ingest->hasher);
	spool_release(&ingest->evicted);
	spool_release(&ingest->spilled);
	entries_release(&ingest->entries);
	free(ingest);
}

int ingest_feed(struct ingest *ingest, const uint8_t *data, size_t len)
{
	return pack_parser_feed(ingest->parser, data, len);
}

bool ingest_finished(const struct ingest *ingest)
{
	return pack_parser_finished(ingest->parser);
}

size_t ingest_unresolved(const struct ingest *ingest)
{
	return ingest->unresolved + ingest->waiting_count;
}

int ingest_trouble(const struct ingest *ingest)
{
	return ingest->trouble;
}

const char *ingest_error(const struct ingest *ingest)
{
	return pack_parser_error(ingest->parser);
}
