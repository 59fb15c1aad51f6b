/*
 * part: a want for a stretch of a large file. The cache is asked for the whole object first, then
 * for blocks of it that came before; what is missing is waited for.
 */
#include <errno.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

/* How often to look again for what seems to be here, before it is taken for lost. */
#define LOOKS 3
/* Not an error: only the whole will do. */
#define ONLY_WHOLE (-EOPNOTSUPP)

static uint32_t block_of(uint64_t off)
{
	return (uint32_t)(off / CACHE_BLOCK_LEN);
}

/* The stretch, cut at the end of the file. */
struct stretch {
	uint64_t off;
	size_t len;
	uint32_t first, count; /* blocks */
};

static struct stretch stretch_of(const struct fetch_part *part)
{
	uint64_t rest = part->size - part->off;
	struct stretch stretch = { .off = part->off, .len = part->len };

	if (stretch.len > rest)
		stretch.len = (size_t)rest;
	stretch.first = block_of(stretch.off);
	stretch.count = block_of(stretch.off + stretch.len - 1) - stretch.first + 1;
	return stretch;
}

/* ---- what the waiter holds ---- */

static bool holds_all(const struct fetch_waiter *waiter, const struct stretch *stretch)
{
	for (uint32_t i = 0; i < stretch->count; i++) {
		if (!waiter->blocks[i])
			return false;
	}
	return true;
}

/* The blocks leave the waiter. */
static int take_all(struct fetch_waiter *waiter, const struct stretch *stretch, struct spans *out)
{
	uint64_t off = stretch->off, end = stretch->off + stretch->len;
	struct spans spans = SPANS_INIT;
	int status = 0;

	for (uint32_t i = 0; i < stretch->count && !status; i++) {
		struct block *block = waiter->blocks[i];
		size_t from = off % CACHE_BLOCK_LEN;
		size_t len = block->len - from < end - off ? block->len - from :
							     (size_t)(end - off);

		waiter->blocks[i] = NULL;
		status = spans_add_take(&spans, block, from, len);
		off += len;
	}
	if (status) {
		spans_release(&spans);
		return status;
	}
	*out = spans;
	return 1;
}

/* Blocks that are in the cache. */
static void gather(const struct large *large, const struct stretch *stretch,
		   struct fetch_waiter *waiter)
{
	for (uint32_t i = 0; i < stretch->count; i++) {
		struct spans spans = SPANS_INIT;

		if (waiter->blocks[i] ||
		    cache_part_read(large->fetch->config.cache, &large->part,
				    (uint64_t)(stretch->first + i) * CACHE_BLOCK_LEN,
				    CACHE_BLOCK_LEN, &spans))
			continue;
		waiter->blocks[i] = block_ref(spans.v[0].block);
		spans_release(&spans);
	}
}

/* ---- joining ---- */

/* The first block that the waiter lacks; -EAGAIN when some of them have come meanwhile. */
static int find_missing_locked(struct large *large, const struct stretch *stretch,
			       const struct fetch_waiter *waiter, bool last_look,
			       uint32_t *out_index)
{
	bool found = false;

	for (uint32_t i = 0; i < stretch->count; i++) {
		uint32_t index = stretch->first + i;

		if (waiter->blocks[i])
			continue;
		if (!found)
			*out_index = index;
		found = true;
		if (!bit_is_set(large->here, index))
			continue;
		if (!last_look)
			return -EAGAIN;
		large_lose_locked(large, index);
	}
	return 0;
}

/* A read that was answered, or is going to be. */
static struct window *note_locked(struct large *large, const struct stretch *stretch)
{
	large->used_ms = clock_ms();
	large->served = true;
	return windows_read(&large->windows, stretch->off, stretch->len);
}

static void park_locked(struct large *large, const struct stretch *stretch,
			struct fetch_waiter *waiter, uint32_t missing)
{
	uint64_t starved_off = (uint64_t)missing * CACHE_BLOCK_LEN;
	struct window *window = note_locked(large, stretch);

	if (large->whole) { /* it is not, after all */
		large->whole = false;
		elsewhere_blind_locked(large);
	}
	if (starved_off < stretch->off)
		starved_off = stretch->off;
	window_starved(&large->windows, window, starved_off, large->fetch->round_trip_ms);
	waiter->large = large;
	waiter->off = stretch->off;
	waiter->len = stretch->len;
	waiter->since_ms = large->used_ms;
	waiter->size_only = false;
	waiter->state = FETCH_WAITER_PARKED;
	TAILQ_INSERT_TAIL(&large->waiters, waiter, entry);
	large->fetch->table.waiter_count++;
	if (large->stream && missing < large->stream_next && !bit_is_set(large->coming, missing))
		large_stream_cancel_locked(large); /* it has gone by: from the start */
	large_stream_resume_locked(large);
}

static int join_locked(struct large *large, const struct stretch *stretch,
		       struct fetch_waiter *waiter, bool last_look)
{
	struct fetch *fetch = large->fetch;
	uint32_t missing = 0;
	int status;

	if (waiter->state == FETCH_WAITER_CANCELED || fetch->closing)
		return -ECANCELED;
	status = find_missing_locked(large, stretch, waiter, last_look, &missing);
	if (status)
		return status;
	if (large_way_locked(large) == LARGE_WHOLE)
		return ONLY_WHOLE;
	if (fetch->config.offline)
		return -ENETUNREACH;
	park_locked(large, stretch, waiter, missing);
	return 0;
}

/* ---- asking ---- */

/* 0, ONLY_WHOLE, or -EBADMSG while wrong bytes are about. */
static int trust(struct large *large)
{
	int status;

	lock_take(&large->fetch->lock);
	status = large->withdrawing ? -EBADMSG : large->distrusted ? ONLY_WHOLE : 0;
	lock_give(&large->fetch->lock);
	return status;
}

/* All of it is here: the readers' windows hear of it all the same. */
static void note(struct large *large, const struct stretch *stretch)
{
	struct fetch *fetch = large->fetch;

	lock_take(&fetch->lock);
	note_locked(large, stretch);
	large_stream_resume_locked(large);
	lock_give(&fetch->lock);
	fetch_pump(fetch);
}

static int ask_without_waiting(struct large *large, const struct stretch *stretch,
			       struct spans *out)
{
	if (trust(large) || cache_part_read(large->fetch->config.cache, &large->part, stretch->off,
					    stretch->len, out))
		return -EAGAIN;
	note(large, stretch);
	return 1;
}

static int ask(struct large *large, const struct stretch *stretch, struct fetch_waiter *waiter,
	       struct spans *out)
{
	struct fetch *fetch = large->fetch;
	int status = trust(large);

	if (status)
		return status;
	status = -EAGAIN;
	for (unsigned look = 1; status == -EAGAIN; look++) {
		/* what was here and is no more may have been proven, and is the object's now */
		if (look > 1 &&
		    !cache_read(fetch->config.cache, &large->oid, stretch->off, stretch->len, out))
			return 1;
		gather(large, stretch, waiter);
		if (holds_all(waiter, stretch)) {
			note(large, stretch);
			return take_all(waiter, stretch, out);
		}
		lock_take(&fetch->lock);
		status = join_locked(large, stretch, waiter, look == LOOKS);
		lock_give(&fetch->lock);
	}
	return status;
}

/* As any other object. */
static int ask_whole(struct fetch *fetch, const struct fetch_part *part,
		     struct fetch_waiter *waiter, struct spans *out, struct content **out_content)
{
	int status = fetch_content(fetch, &part->oid, OBJECT_BLOB, part->size, NULL, waiter,
				   out_content);

	if (status != 1 || *out_content)
		return status;
	/* it has come into the cache meanwhile */
	status = cache_read(fetch->config.cache, &part->oid, part->off, part->len, out);
	return status == -ENOENT ? -EIO : status ? status : 1;
}

/* In use once more. -EAGAIN: there is none, and the caller does not want to wait for one. */
static int use_large(struct fetch *fetch, const struct fetch_part *part, bool may_open,
		     struct large **out)
{
	if (may_open)
		return large_open(fetch, part, out);
	*out = large_use(fetch, &part->oid);
	return *out ? 0 : -EAGAIN;
}

bool fetch_is_large(const struct fetch *fetch, uint64_t size)
{
	return size > fetch->config.large_limit;
}

int fetch_part(struct fetch *fetch, const struct fetch_part *part, struct fetch_waiter *waiter,
	       struct spans *out, struct content **out_content)
{
	struct stretch stretch;
	struct large *large = NULL;
	int status;

	*out_content = NULL;
	*out = (struct spans)SPANS_INIT;
	if (part->off >= part->size || !part->len)
		return 1;
	stretch = stretch_of(part);
	if (waiter && holds_all(waiter, &stretch)) /* it brought it */
		return take_all(waiter, &stretch, out);
	if (!cache_read(fetch->config.cache, &part->oid, part->off, part->len, out))
		return 1;
	if (!waiter && !atomic_load_explicit(&fetch->larges.count, memory_order_relaxed))
		return -EAGAIN;
	status = use_large(fetch, part, waiter, &large);
	if (!status) {
		large_place(large, part);
		status = large->part.size != part->size ? ONLY_WHOLE :
			 waiter				? ask(large, &stretch, waiter, out) :
							  ask_without_waiting(large, &stretch, out);
		lock_take(&fetch->lock);
		large_put_locked(large);
		lock_give(&fetch->lock);
	}
	if (status == ONLY_WHOLE || status == -EFBIG)
		return waiter ? ask_whole(fetch, part, waiter, out, out_content) : -EAGAIN;
	if (!status)
		fetch_pump(fetch);
	return status;
}
