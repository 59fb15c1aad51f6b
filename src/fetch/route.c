/*
 * route: where a flight stands: in which queue, under which carrier, or nowhere any more. A
 * carrier's answer holds things that it does not name (a commit's trees, a directory's small
 * files); who wants one of those waits under it, and when it goes what it did not bring is looked
 * for in the cache and then asked for by itself.
 */
#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

/* ---- what can be asked for ---- */

bool fetch_can_filter_locked(const struct fetch *fetch, enum filter_kind kind)
{
	return (fetch->caps & REMOTE_SUBTREE) && !(fetch->refused & kind);
}

bool fetch_can_sizes_locked(const struct fetch *fetch)
{
	return (fetch->caps & REMOTE_SIZES) && clock_ms() >= fetch->sizes_refused_until_ms;
}

bool fetch_can_list_locked(const struct fetch *fetch)
{
	return (fetch->caps & REMOTE_OBJECTS) && fetch_can_filter_locked(fetch, FILTER_COMBINE);
}

bool fetch_steps_with_blobs_locked(const struct fetch *fetch)
{
	return fetch->step_whole && !oid_is_null(&fetch->step) &&
	       fetch_can_filter_locked(fetch, FILTER_LIMIT);
}

bool fetch_can_crawl_locked(const struct fetch *fetch)
{
	return (fetch->caps & REMOTE_OBJECTS) && fetch_can_filter_locked(fetch, FILTER_LIMIT) &&
	       clock_ms() >= fetch->walks_until_ms;
}

struct flight *fetch_carrier_of_tree_locked(struct fetch *fetch, const struct oid *tree,
					    enum flight_kind kind)
{
	struct flight *flight = flight_find_locked(&fetch->table, tree, kind);

	if (flight)
		return flight;
	flight = flight_new_locked(&fetch->table, tree, kind, OBJECT_TREE, SIZE_UNKNOWN);
	if (!flight)
		return NULL;
	if (kind == FLIGHT_SUBTREE)
		flight_queue_locked(&fetch->table, flight, LANE_DEMAND, WAY_SUBTREE);
	else
		flight_queue_locked(&fetch->table, flight, LANE_META, WAY_LISTING);
	return flight;
}

struct flight *fetch_carrier_locked(struct fetch *fetch, enum object_type type)
{
	if (!fetch->everything)
		return NULL;
	/* Filtered, it brings no blobs; a step from a commit that is here whole does. */
	if (type == OBJECT_BLOB && fetch_can_filter_locked(fetch, FILTER_BLOB_NONE) &&
	    !fetch_steps_with_blobs_locked(fetch))
		return NULL;
	return fetch->everything;
}

/* ---- flights and their places ---- */

void fetch_flight_free_locked(struct fetch *fetch, struct flight *flight)
{
	if (fetch->everything == flight)
		fetch->everything = NULL;
	flight_free_locked(&fetch->table, flight);
}

/* With all that it covers. */
void fetch_fail_locked(struct fetch *fetch, struct flight *flight, struct ending *ending,
		       int status)
{
	struct flight *covered;

	while ((covered = TAILQ_FIRST(&flight->covered)))
		fetch_fail_locked(fetch, covered, ending, status);
	ending_add_locked(&fetch->table, flight, ending, status, NULL, 0);
	fetch_flight_free_locked(fetch, flight);
}

struct flight *fetch_everything_locked(struct fetch *fetch, const struct oid *commit)
{
	struct flight *flight = flight_find_locked(&fetch->table, commit, FLIGHT_EVERYTHING);

	if (flight)
		return flight;
	flight = flight_new_locked(&fetch->table, commit, FLIGHT_EVERYTHING, OBJECT_COMMIT,
				   SIZE_UNKNOWN);
	if (!flight)
		return NULL;
	flight_queue_locked(&fetch->table, flight, LANE_META, WAY_EVERYTHING);
	fetch->everything = flight;
	fetch->commit = *commit;
	return flight;
}

/* A server that gives nothing by id: it all comes with the commit, once more. */
static int route_to_everything_locked(struct fetch *fetch, struct flight *flight)
{
	struct flight *carrier;

	if (flight->asked_everything)
		return -ENOENT;
	if (oid_is_null(&fetch->commit))
		return -EIO;
	carrier = fetch_everything_locked(fetch, &fetch->commit);
	if (!carrier)
		return -ENOMEM;
	flight_cover_locked(&fetch->table, flight, carrier);
	return 0;
}

static enum way way_of_locked(const struct fetch *fetch, const struct flight *flight)
{
	switch (flight->kind) {
	case FLIGHT_EVERYTHING:
		return WAY_EVERYTHING;
	case FLIGHT_LISTING:
		return WAY_LISTING;
	case FLIGHT_SUBTREE:
		return WAY_SUBTREE;
	case FLIGHT_TREE_SIZES:
		return WAY_TREE_SIZES;
	case FLIGHT_SIZE:
		if (fetch_can_sizes_locked(fetch))
			return WAY_SIZES;
		return flight->above_limit ? WAY_PEEK : WAY_OBJECTS;
	case FLIGHT_CONTENT:
		break;
	}
	if (flight->type != OBJECT_BLOB)
		return WAY_TREES;
	if (flight->above_limit ||
	    (flight->size != SIZE_UNKNOWN && flight->size > fetch->config.large_limit))
		return WAY_LARGE;
	return WAY_OBJECTS;
}

static enum lane lane_of(const struct flight *flight, enum way way)
{
	bool carrier = flight->kind != FLIGHT_CONTENT && flight->kind != FLIGHT_SIZE;

	if (!carrier && !flight->waiter_count)
		return LANE_AHEAD;
	return way == WAY_OBJECTS || way == WAY_LARGE || way == WAY_SUBTREE ? LANE_DEMAND :
									      LANE_META;
}

int fetch_route_locked(struct fetch *fetch, struct flight *flight)
{
	enum way way = way_of_locked(fetch, flight);
	bool by_id = way != WAY_EVERYTHING && way != WAY_SIZES && way != WAY_TREE_SIZES;

	assert(lock_held(&fetch->lock));
	if (by_id && !(fetch->caps & REMOTE_OBJECTS))
		return route_to_everything_locked(fetch, flight);
	flight_queue_locked(&fetch->table, flight, lane_of(flight, way), way);
	return 0;
}

void fetch_route_or_fail_locked(struct fetch *fetch, struct flight *flight, struct ending *ending)
{
	int status = fetch_route_locked(fetch, flight);

	if (status)
		fetch_fail_locked(fetch, flight, ending, status);
}

/*
 * A carrier that goes: what it covered and did not bring is looked for in the cache, then asked
 * for by itself.
 */
void fetch_dissolve_locked(struct fetch *fetch, struct flight *carrier, bool complete)
{
	struct flight *covered;

	while ((covered = TAILQ_FIRST(&carrier->covered))) {
		if (complete && carrier->kind != FLIGHT_EVERYTHING)
			covered->above_limit = true;
		if (complete && carrier->kind == FLIGHT_EVERYTHING)
			covered->asked_everything = true;
		flight_hold_locked(&fetch->table, covered, &fetch->recheck);
	}
	fetch_flight_free_locked(fetch, carrier);
}

void fetch_drop_locked(struct fetch *fetch, struct flight *flight)
{
	struct flight *covered;

	while ((covered = TAILQ_FIRST(&flight->covered)))
		fetch_flight_free_locked(fetch, covered);
	fetch_flight_free_locked(fetch, flight);
}

/* A large transfer ends with the last who wanted it; others are nearly there. */
static void cancel_unwanted_locked(struct batch *batch)
{
	const struct flight *flight;

	if (batch->way != WAY_LARGE && batch->way != WAY_PEEK)
		return;
	TAILQ_FOREACH(flight, &batch->flights, link) {
		if (flight_wanted_locked(flight))
			return;
	}
	batch_cancel_locked(batch);
}

void fetch_unwanted_locked(struct fetch *fetch, struct flight *flight)
{
	struct flight *carrier = flight->carrier;

	if (flight_wanted_locked(flight))
		return;
	if (flight->state == FLIGHT_RIDING) {
		cancel_unwanted_locked(flight->batch);
		return;
	}
	if (flight->state != FLIGHT_QUEUED && flight->state != FLIGHT_COVERED)
		return;
	fetch_flight_free_locked(fetch, flight);
	if (carrier && carrier->kind != FLIGHT_EVERYTHING && carrier->state == FLIGHT_QUEUED &&
	    !flight_wanted_locked(carrier))
		fetch_flight_free_locked(fetch, carrier);
}

/* Who waits for all of a file that turns out to be large may ask for parts. */
static void turn_over(struct fetch *fetch, const struct oid *oid, uint64_t size)
{
	struct ending ending = ENDING_INIT(ending);
	struct flight *flight;

	if (size <= fetch->config.large_limit || !(fetch->caps & (REMOTE_EARLY | REMOTE_RANGE)))
		return;
	lock_take(&fetch->lock);
	flight = flight_find_locked(&fetch->table, oid, FLIGHT_CONTENT);
	if (flight && flight->state == FLIGHT_HELD) {
		ending_add_locked(&fetch->table, flight, &ending, 0, NULL, size);
		fetch_flight_free_locked(fetch, flight);
	}
	lock_give(&fetch->lock);
	ending_run(&ending);
}

/* After a carrier's end; no lock held. */
void fetch_recheck(struct fetch *fetch)
{
	for (;;) {
		struct ending ending = ENDING_INIT(ending);
		struct content *content = NULL;
		struct cache_stat stat;
		struct flight *flight;
		enum flight_kind kind;
		bool elsewhere = false, sizeless = false;
		struct oid oid;

		lock_take(&fetch->lock);
		flight = TAILQ_FIRST(&fetch->recheck);
		if (flight) {
			oid = flight->oid;
			kind = flight->kind;
			elsewhere = flight->elsewhere_ms != 0;
			sizeless = flight->size == SIZE_UNKNOWN;
			flight_hold_locked(&fetch->table, flight, NULL);
		}
		lock_give(&fetch->lock);
		if (!flight)
			return;

		if (kind == FLIGHT_SIZE && !cache_stat(fetch->config.cache, &oid, &stat)) {
			if (elsewhere)
				neighbours_brought(fetch, kind);
			fetch_deliver_size(fetch, &oid, stat.size);
			continue;
		}
		if (kind == FLIGHT_CONTENT && fetch_hit(fetch, &oid, &content) && content) {
			if (elsewhere)
				neighbours_brought(fetch, kind);
			fetch_deliver_hit(fetch, content);
			content_unref(content);
			continue;
		}
		/* It may be all that is wanted, and a large file's content comes much later. */
		if (kind == FLIGHT_CONTENT && elsewhere && sizeless &&
		    !cache_stat(fetch->config.cache, &oid, &stat)) {
			neighbours_brought(fetch, FLIGHT_SIZE);
			fetch_deliver_size(fetch, &oid, stat.size);
			turn_over(fetch, &oid, stat.size);
		}
		lock_take(&fetch->lock);
		flight = flight_find_locked(&fetch->table, &oid, kind);
		if (flight && flight->state == FLIGHT_HELD) {
			if (flight->waiter_count)
				fetch_route_or_fail_locked(fetch, flight, &ending);
			else
				fetch_flight_free_locked(fetch, flight);
		}
		lock_give(&fetch->lock);
		ending_run(&ending);
	}
}
