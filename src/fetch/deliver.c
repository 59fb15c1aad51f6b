/*
 * deliver: what has come goes to those who wait first, and to the cache next. While it is on its
 * way into the cache its flight stays in the table, ARRIVED, so that a want that comes in between
 * finds it; when the cache does not take it, it is kept there for a while: a reader that takes a
 * large file in many pieces must not bring it again for each.
 */
#include <errno.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define CACHE_WAIT_MS 300
#define CACHE_SLOW_MS 5000
#define KEPT_MAX_COUNT 64
#define KEPT_MAX_LEN (4u << 20)
#define KEPT_MAX_FILES 8
/* A blob whose size is all that is wanted is let come when it is not larger. */
#define PEEK_LET_COME_LEN (4u << 20)

void fetch_used(struct fetch *fetch, const struct oid *oid)
{
	unsigned step;

	if (ahead_used(&fetch->ahead, oid, &step))
		crawl_used(&fetch->crawl, step);
}

int fetch_hit(struct fetch *fetch, const struct oid *oid, struct content **out)
{
	struct cache_stat stat;
	int status;

	if (cache_stat(fetch->config.cache, oid, &stat) || !stat.has_content)
		return 0;
	if (stat.size > fetch->config.large_limit && stat.type == OBJECT_BLOB) {
		*out = NULL;
		return 1;
	}
	status = cache_get(fetch->config.cache, oid, SIZE_MAX, out);
	if (status)
		return 0;
	fetch_used(fetch, oid);
	return 1;
}

/* ---- the cache ---- */

static unsigned cache_wait_ms(struct fetch *fetch, bool large)
{
	unsigned wait_ms = large ? CACHE_WAIT_MS * 10 : CACHE_WAIT_MS;

	lock_take(&fetch->lock);
	if (clock_ms() < fetch->cache_slow_until_ms)
		wait_ms = 0;
	lock_give(&fetch->lock);
	return wait_ms;
}

/* Waiting for room is back-pressure; waiting in vain again and again would only be slow. */
static void remember_slow(struct fetch *fetch)
{
	lock_take(&fetch->lock);
	fetch->cache_slow_until_ms = clock_ms() + CACHE_SLOW_MS;
	lock_give(&fetch->lock);
}

static bool store(struct fetch *fetch, struct content *content)
{
	if (!cache_put(fetch->config.cache, content, cache_wait_ms(fetch, !content->block)))
		return true;
	remember_slow(fetch);
	return false;
}

bool fetch_store_part(struct fetch *fetch, const struct cache_part *part, uint32_t index,
		      struct block *block)
{
	if (!cache_part_put(fetch->config.cache, part, index, block, cache_wait_ms(fetch, false)))
		return true;
	remember_slow(fetch);
	return false;
}

/* ---- what the cache did not take ---- */

static void trim_kept_locked(struct fetch *fetch)
{
	size_t count = 0, len = 0, files = 0;
	struct flight *flight, *next;

	/* from the newest on, as many as fit */
	for (flight = TAILQ_LAST(&fetch->table.kept, flight_list); flight; flight = next) {
		next = TAILQ_PREV(flight, flight_list, link);
		count++;
		if (flight->content->block)
			len += flight->content->block->len;
		else
			files++;
		if (count > KEPT_MAX_COUNT || len > KEPT_MAX_LEN || files > KEPT_MAX_FILES)
			flight_free_locked(&fetch->table, flight);
	}
}

static void stored_locked(struct fetch *fetch, struct content *content, bool stored)
{
	struct flight *flight = flight_find_locked(&fetch->table, &content->oid, FLIGHT_CONTENT);

	if (!flight || flight->content != content || flight->kept_ms)
		return;
	if (stored) {
		flight_free_locked(&fetch->table, flight);
		return;
	}
	flight_keep_locked(&fetch->table, flight, clock_ms());
	trim_kept_locked(fetch);
}

/* ---- arrivals ---- */

static void brought(struct fetch *fetch, const struct content *content, unsigned step)
{
	ahead_brought(&fetch->ahead, &content->oid, content->size, step);
	crawl_brought(&fetch->crawl, step);
}

/*
 * All who wait for it, in either way. True when there were some. *out_fits: it is of the type that
 * they wanted.
 */
static bool end_waits_locked(struct fetch *fetch, struct content *content, struct ending *ending,
			     bool *out_fits)
{
	struct flight *flight = flight_find_locked(&fetch->table, &content->oid, FLIGHT_CONTENT);
	struct flight *size = flight_find_locked(&fetch->table, &content->oid, FLIGHT_SIZE);
	bool waited = false, fits = true;

	if (flight && flight->state != FLIGHT_ARRIVED) {
		/* A commit is what a person named by its id: a tag, perhaps. */
		fits = flight->type == OBJECT_NONE || flight->type == OBJECT_COMMIT ||
		       flight->type == content->type;
		waited = flight->waiter_count > 0;
		ending_add_locked(&fetch->table, flight, ending, fits ? 0 : -EBADMSG,
				  fits ? content : NULL, content->size);
		flight_arrive_locked(&fetch->table, flight, content);
	}
	if (size) {
		waited = waited || size->waiter_count > 0;
		ending_add_locked(&fetch->table, size, ending, 0, NULL, content->size);
		fetch_flight_free_locked(fetch, size);
	}
	*out_fits = fits;
	return waited;
}

static void say_misfit(struct fetch *fetch, const struct content *content)
{
	char hex[OID_MAX_HEX + 1];

	fetch_complain(fetch, COMPLAIN_DAMAGED,
		       "%s is a %s, but a directory that names it says otherwise: the repository "
		       "is damaged there, and reading it fails",
		       oid_to_hex(&content->oid, hex), object_type_name(content->type));
}

bool fetch_deliver(struct fetch *fetch, struct batch *batch, struct content *content)
{
	struct ending ending = ENDING_INIT(ending);
	bool waited, stored, known, fits;
	struct flight *flight;
	unsigned step;

	lock_take(&fetch->lock);
	flight = flight_find_locked(&fetch->table, &content->oid, FLIGHT_CONTENT);
	step = flight ? flight->step : CRAWL_NO_STEP;
	known = flight || flight_find_locked(&fetch->table, &content->oid, FLIGHT_SIZE);
	waited = end_waits_locked(fetch, content, &ending, &fits);
	if (known)
		fetch->progress_ms = clock_ms();
	fetch->counters.objects_fetched++;
	if (!waited && content->type == OBJECT_BLOB)
		fetch->counters.objects_prefetched++;
	lock_give(&fetch->lock);

	batch->arrived++;
	if (!known)
		batch->foreign++;
	if (!fits)
		say_misfit(fetch, content);
	ending_run(&ending);

	stored = store(fetch, content);
	if (!stored)
		batch->dropped++;
	if (!waited && stored && content->type == OBJECT_BLOB && batch->way != WAY_EVERYTHING &&
	    batch->lane != LANE_FILL)
		brought(fetch, content, step);
	lock_take(&fetch->lock);
	stored_locked(fetch, content, stored);
	lock_give(&fetch->lock);
	return stored;
}

void fetch_deliver_hit(struct fetch *fetch, struct content *content)
{
	struct ending ending = ENDING_INIT(ending);
	bool fits;

	lock_take(&fetch->lock);
	end_waits_locked(fetch, content, &ending, &fits);
	lock_give(&fetch->lock);
	if (!fits)
		say_misfit(fetch, content);
	ending_run(&ending);
	lock_take(&fetch->lock);
	stored_locked(fetch, content, true);
	lock_give(&fetch->lock);
}

void fetch_deliver_size(struct fetch *fetch, const struct oid *oid, uint64_t size)
{
	struct ending ending = ENDING_INIT(ending);
	struct flight *flight;

	lock_take(&fetch->lock);
	fetch->progress_ms = clock_ms();
	flight = flight_find_locked(&fetch->table, oid, FLIGHT_SIZE);
	if (flight) {
		ending_add_locked(&fetch->table, flight, &ending, 0, NULL, size);
		fetch_flight_free_locked(fetch, flight);
	}
	flight = flight_find_locked(&fetch->table, oid, FLIGHT_CONTENT);
	if (flight && flight->state != FLIGHT_ARRIVED) {
		flight->size = size;
		ending_add_sizes_locked(&fetch->table, flight, &ending, size);
	}
	lock_give(&fetch->lock);
	ending_run(&ending);
}

void fetch_deliver_unknown(struct fetch *fetch, const struct oid *oid, enum flight_kind kind)
{
	struct ending ending = ENDING_INIT(ending);
	struct flight *flight;

	lock_take(&fetch->lock);
	flight = flight_find_locked(&fetch->table, oid, kind);
	if (flight && flight->state == FLIGHT_RIDING) {
		ending_add_locked(&fetch->table, flight, &ending, -ENOENT, NULL, 0);
		fetch_flight_free_locked(fetch, flight);
	}
	lock_give(&fetch->lock);
	ending_run(&ending);
}

/* A want for the content that has not left yet comes aboard the peek that is on its way. */
static bool adopt_locked(struct fetch *fetch, struct batch *batch)
{
	struct flight *flight = flight_find_locked(&fetch->table, &batch->wants[0], FLIGHT_CONTENT);

	if (flight && flight->batch == batch)
		return flight_content_wanted_locked(flight);
	if (!flight || flight->state != FLIGHT_QUEUED)
		return false;
	flight_ride_locked(&fetch->table, flight, batch, &batch->flights);
	return true;
}

/*
 * Who asks for the size of one file mostly reads it next: a stream that has begun anyway waits a
 * moment for that, where it is in nobody's way.
 */
static bool lingers_locked(struct fetch *fetch, const struct batch *batch, uint64_t size)
{
	const struct flight *flight =
		flight_find_locked(&fetch->table, &batch->wants[0], FLIGHT_CONTENT);

	return batch->way == WAY_OBJECTS && size > fetch->config.large_limit &&
	       (fetch->caps & REMOTE_EARLY) && flight && flight->batch == batch &&
	       !fetch_queued_locked(fetch, WAY_OBJECTS) && !fetch_queued_locked(fetch, WAY_LARGE);
}

int fetch_deliver_header(struct fetch *fetch, struct batch *batch, uint64_t size)
{
	const struct cache_size known = { .oid = batch->wants[0], .size = size };
	bool adopted = true;

	/* A small one will be whole, and verified, in a moment. */
	if (size <= (batch->way == WAY_LARGE ? fetch->config.large_limit : PEEK_LET_COME_LEN))
		return 0;
	cache_put_sizes(fetch->config.cache, &known, 1);
	if (batch->way != WAY_LARGE) {
		lock_take(&fetch->lock);
		adopted = adopt_locked(fetch, batch);
		batch->lingers = !adopted && lingers_locked(fetch, batch, size);
		lock_give(&fetch->lock);
	}
	fetch_deliver_size(fetch, &known.oid, size);
	if (adopted || batch->lingers)
		return 0;
	batch->peeked = true;
	return -ECANCELED;
}
