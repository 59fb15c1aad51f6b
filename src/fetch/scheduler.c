/*
 * scheduler: what leaves when. A slot that is free and a queue that is not: a batch leaves at once
 * and takes all that waits, company last.
 *
 * A second batch of the same way waits until it is worth a request of its own (32 wants), or until
 * the youngest one under way should have had its answer by now: so a thousand readers make a
 * handful of batches, and two readers do not wait long for each other.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define WORTH_A_REQUEST 32
#define PATIENCE_WITH_OTHERS_MIN_MS 20
#define ROUND_TRIP_GUESS_MS 50
/* How often at once to look for what other processes may have brought. */
#define LOOKS_MAX 32

size_t fetch_queued_locked(const struct fetch *fetch, enum way way)
{
	size_t count = 0;

	for (int lane = 0; lane < LANE_COUNT; lane++)
		count += fetch->table.queued[lane][way];
	return count;
}

/* Only company: it leaves when nothing of its way is under way. */
static size_t demanded_locked(const struct fetch *fetch, enum way way)
{
	return fetch->table.queued[LANE_META][way] + fetch->table.queued[LANE_DEMAND][way];
}

static bool worth_another_locked(const struct fetch *fetch, enum way way, uint64_t now_ms)
{
	uint64_t round_trip_ms = fetch->round_trip_ms ? fetch->round_trip_ms : ROUND_TRIP_GUESS_MS;
	uint64_t patience_ms = round_trip_ms * 2;
	uint64_t youngest_ms = 0;
	const struct batch *batch;
	bool company_alone = true;

	if (!fetch->running[way])
		return true;
	if (!demanded_locked(fetch, way))
		return false;
	if (demanded_locked(fetch, way) >= WORTH_A_REQUEST)
		return true;
	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		if (batch->way != way)
			continue;
		company_alone = company_alone && batch->lane >= LANE_AHEAD;
		if (batch->start_ms > youngest_ms)
			youngest_ms = batch->start_ms;
	}
	if (company_alone) /* nobody waits behind what nobody waits for */
		return true;
	if (patience_ms < PATIENCE_WITH_OTHERS_MIN_MS)
		patience_ms = PATIENCE_WITH_OTHERS_MIN_MS;
	return now_ms >= youngest_ms + patience_ms;
}

static unsigned running_meta_locked(const struct fetch *fetch)
{
	return fetch->running[WAY_EVERYTHING] + fetch->running[WAY_TREES] +
	       fetch->running[WAY_SIZES] + fetch->running[WAY_PEEK];
}

static unsigned running_content_locked(const struct fetch *fetch)
{
	return fetch->running[WAY_OBJECTS] + fetch->running[WAY_LISTING] +
	       fetch->running[WAY_SUBTREE] + fetch->running[WAY_LARGE];
}

/* The last slot is not for what takes long. */
static bool slot_to_spare(unsigned running, unsigned slots)
{
	return running < (slots > 1 ? slots - 1 : 1);
}

static bool may_leave_locked(const struct fetch *fetch, enum way way, uint64_t now_ms)
{
	if (!fetch_queued_locked(fetch, way))
		return false;
	switch (way) {
	case WAY_EVERYTHING:
		return true;
	case WAY_SIZES:
		/* Their request is long on the way: many do not wait for those before them. */
		return !fetch->size_gathering &&
		       (worth_another_locked(fetch, way, now_ms) ||
			(fetch_queued_locked(fetch, way) >= WORTH_A_REQUEST &&
			 fetch->running[way] < fetch->config.meta_slots));
	case WAY_TREE_SIZES:
		return !fetch->running[WAY_TREE_SIZES];
	case WAY_PEEK:
		return slot_to_spare(fetch->running[WAY_PEEK], fetch->config.meta_slots);
	case WAY_SUBTREE: /* each takes all that the line gives */
		return !fetch->running[WAY_SUBTREE];
	case WAY_LISTING: /* brings contents, and many of them */
	case WAY_LARGE:
		return slot_to_spare(fetch->running[WAY_LISTING] + fetch->running[WAY_SUBTREE] +
					     fetch->running[WAY_LARGE],
				     fetch->config.content_slots);
	default:
		return worth_another_locked(fetch, way, now_ms);
	}
}

/* While the remote fails, one attempt at a time finds out whether it is back. */
static bool probing_locked(const struct fetch *fetch)
{
	const struct batch *batch;

	if (!fetch->retry.failures)
		return false;
	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		if (!batch->heard)
			return true;
	}
	return false;
}

static bool choose_way_locked(const struct fetch *fetch, uint64_t now_ms, enum way *out)
{
	static const enum way meta[] = { WAY_EVERYTHING, WAY_TREES, WAY_SIZES, WAY_TREE_SIZES,
					 WAY_PEEK };
	static const enum way content[] = { WAY_OBJECTS, WAY_LISTING, WAY_SUBTREE, WAY_LARGE };

	if (fetch->closing || probing_locked(fetch) || retry_wait_ms(&fetch->retry, now_ms))
		return false;
	for (size_t i = 0; i < sizeof(meta) / sizeof(*meta); i++) {
		*out = meta[i];
		if (running_meta_locked(fetch) < fetch->config.meta_slots &&
		    may_leave_locked(fetch, meta[i], now_ms))
			return true;
	}
	for (size_t i = 0; i < sizeof(content) / sizeof(*content); i++) {
		*out = content[i];
		if (running_content_locked(fetch) < fetch->config.content_slots &&
		    may_leave_locked(fetch, content[i], now_ms))
			return true;
	}
	return false;
}

static size_t wants_max(enum way way)
{
	switch (way) {
	case WAY_SIZES:
		return BATCH_SIZES_MAX;
	case WAY_TREES:
	case WAY_OBJECTS:
		return BATCH_IDS_MAX;
	default:
		return 1;
	}
}

/* A commit is asked for with a depth, which nothing else may be. */
static bool rides_with(const struct batch *batch, const struct flight *flight, size_t max)
{
	bool commit = flight->type == OBJECT_COMMIT || flight->type == OBJECT_TAG;

	if (batch->want_count >= max)
		return false;
	if (!batch->want_count)
		return true;
	if (flight->group && batch->want_count >= flight->group)
		return false;
	if (flight->size != SIZE_UNKNOWN && batch->way == WAY_OBJECTS &&
	    batch->bytes + flight->size > BATCH_BYTES_MAX)
		return false;
	return !commit;
}

static void load_locked(struct fetch *fetch, struct batch *batch)
{
	size_t max = wants_max(batch->way);
	uint64_t now_ms = clock_ms();

	neighbours_look_locked(fetch);
	for (int lane = 0; lane < LANE_COUNT; lane++) {
		struct flight *next, *flight = TAILQ_FIRST(&fetch->table.queues[lane][batch->way]);

		for (; flight && batch->want_count < max; flight = next) {
			next = TAILQ_NEXT(flight, link);
			if (!rides_with(batch, flight, max) ||
			    !neighbours_claim_locked(fetch, batch, flight, now_ms))
				continue;
			if (flight->group && flight->group < max)
				max = flight->group;
			if (flight->kind != FLIGHT_EVERYTHING &&
			    (flight->type == OBJECT_COMMIT || flight->type == OBJECT_TAG)) {
				batch->deepen = 1;
				max = 1;
			}
			if (!batch->want_count)
				batch->lane = flight->lane;
			batch_ride_locked(&fetch->table, batch, flight);
		}
	}
}

static void filter_by_locked(struct fetch *fetch, struct batch *batch, enum filter_kind kind,
			     const char *filter)
{
	if (batch->filter_kind != FILTER_NONE || !fetch_can_filter_locked(fetch, kind))
		return;
	batch->filter_kind = kind;
	snprintf(batch->filter, sizeof(batch->filter), "%s", filter);
}

/* git leaves out what is as large as the limit, we fetch alone what is larger. */
static void filter_by_limit_locked(struct fetch *fetch, struct batch *batch)
{
	char limit[sizeof(batch->filter)];

	snprintf(limit, sizeof(limit), "blob:limit=%" PRIu64, fetch->config.large_limit + 1);
	filter_by_locked(fetch, batch, FILTER_LIMIT, limit);
}

/* Blobs by id need no filter: what is wanted by name is always sent. */
static void spec_locked(struct fetch *fetch, struct batch *batch)
{
	char limit[sizeof(batch->filter)];

	switch (batch->way) {
	case WAY_EVERYTHING:
		batch->deepen = 1;
		batch->step = fetch->step;
		if (fetch_steps_with_blobs_locked(fetch))
			filter_by_limit_locked(fetch, batch);
		filter_by_locked(fetch, batch, FILTER_BLOB_NONE, "blob:none");
		break;
	case WAY_TREES:
		filter_by_locked(fetch, batch, FILTER_TREE, "tree:0");
		filter_by_locked(fetch, batch, FILTER_BLOB_NONE, "blob:none");
		break;
	case WAY_LISTING:
		snprintf(limit, sizeof(limit), "combine:tree:1+blob:limit=%" PRIu64,
			 fetch->config.large_limit + 1);
		filter_by_locked(fetch, batch, FILTER_COMBINE, limit);
		break;
	case WAY_SUBTREE:
		filter_by_limit_locked(fetch, batch);
		break;
	case WAY_TREE_SIZES:
		batch->direct = tree_sizes_is_cut_locked(fetch, &batch->first);
		break;
	default:
		break;
	}
	if (!(fetch->caps & REMOTE_SHALLOW))
		batch->deepen = 0;
}

static void count_start_locked(struct fetch *fetch, enum way way)
{
	struct fetch_counters *counters = &fetch->counters;

	switch (way) {
	case WAY_EVERYTHING:
	case WAY_TREES:
		counters->batches_trees++;
		break;
	case WAY_SIZES:
	case WAY_TREE_SIZES:
		counters->batches_sizes++;
		break;
	case WAY_LISTING:
		counters->batches_listing++;
		break;
	case WAY_SUBTREE:
		counters->batches_subtree++;
		break;
	case WAY_OBJECTS:
		counters->batches_objects++;
		break;
	case WAY_RANGE:
		counters->batches_ranges++;
		break;
	default:
		counters->batches_large++;
		break;
	}
}

/* How many ids the next batch of this way may have to name. */
static size_t room_locked(const struct fetch *fetch, enum way way)
{
	size_t queued = fetch_queued_locked(fetch, way);
	const struct flight *subtree = TAILQ_FIRST(&fetch->table.queues[LANE_DEMAND][WAY_SUBTREE]);

	if (way == WAY_SUBTREE && subtree && subtree->parts)
		return subtree->parts->count;
	return queued < wants_max(way) ? queued : wants_max(way);
}

static struct batch *next_locked(struct fetch *fetch)
{
	uint64_t now_ms = clock_ms();
	struct batch *batch;
	enum way way;

	if (!choose_way_locked(fetch, now_ms, &way))
		return NULL;
	batch = batch_new(fetch, way, room_locked(fetch, way));
	if (!batch)
		return NULL; /* the timer comes by again */
	load_locked(fetch, batch);
	if (!batch->want_count) { /* all of it is fetched elsewhere */
		batch_free(batch);
		return NULL;
	}
	spec_locked(fetch, batch);
	fetch_work_init(batch);
	batch->start_ms = batch->progress_ms = now_ms;
	TAILQ_INSERT_TAIL(&fetch->batches, batch, entry);
	fetch->running[way]++;
	count_start_locked(fetch, way);
	return batch;
}

static int call_remote(struct fetch *fetch, struct batch *batch, struct remote_call **out)
{
	struct fetch_spec spec = {
		.wants = batch->wants,
		.want_count = batch->want_count,
		.deepen = batch->deepen,
		.filter = batch->filter_kind != FILTER_NONE ? batch->filter : NULL,
	};

	if (!oid_is_null(&batch->step)) {
		spec.haves = spec.shallows = &batch->step;
		spec.have_count = spec.shallow_count = 1;
		spec.thin = true;
	}

	if (batch->way == WAY_RANGE)
		return large_start_range(fetch, batch, out);
	if (batch->way == WAY_TREE_SIZES)
		return remote_start_tree_sizes(fetch->config.remote, &batch->first, !batch->direct,
					       &batch->sink, out);
	if (batch->way == WAY_SIZES)
		return remote_start_sizes(fetch->config.remote, batch->wants, batch->want_count,
					  &batch->sink, out);
	return remote_start_fetch(fetch->config.remote, &spec, &batch->sink, out);
}

static void start(struct fetch *fetch, struct batch *batch)
{
	struct remote_call *call = NULL;
	int status;

	if (batch->way == WAY_EVERYTHING && batch->filter_kind == FILTER_NONE)
		log_info("%s: the server has no filters, fetching the whole commit",
			 fetch->config.name);
	log_debug("fetch: call way=\"%s\" wants=%zu filter=%s", way_name(batch->way),
		  batch->want_count, batch->filter);
	status = call_remote(fetch, batch, &call);

	/* It may have come to its end by now; then `call` is gone. */
	lock_take(&fetch->lock);
	batch->starting = false;
	if (status) {
		batch->ended = true;
		batch->outcome.verdict = status == -EOPNOTSUPP ? REMOTE_REFUSED_FEATURE :
								 REMOTE_TRANSIENT;
		xcp_error_set(&batch->outcome.error, status, "the call could not be started: %s",
			      strerror(-status));
		batch->outcome.answered = true;
	}
	if (!batch->ended) {
		batch->call = call;
		if (batch->cancel_wanted)
			remote_call_cancel(call);
	}
	if (batch->ended || !TAILQ_EMPTY(&batch->chunks))
		fetch_work_schedule_locked(fetch, batch);
	lock_give(&fetch->lock);
}

void fetch_pump(struct fetch *fetch)
{
	unsigned looks = 0;
	bool unlooked;

	for (;;) {
		struct batch *batch;

		elsewhere_look(fetch);
		lock_take(&fetch->lock);
		fetch_fill_yield_locked(fetch);
		fetch_walks_resume_locked(fetch);
		batch = next_locked(fetch);
		if (!batch)
			batch = large_next_range_locked(fetch);
		unlooked = fetch->larges.unlooked;
		fetch->larges.unlooked = false;
		if (fetch->timer_idle &&
		    (fetch->table.count || batch || !TAILQ_EMPTY(&fetch->larges.all)))
			lock_cond_signal(&fetch->timer_cond);
		lock_give(&fetch->lock);
		if (batch)
			start(fetch, batch);
		else if (!unlooked || ++looks > LOOKS_MAX) /* the timer comes by again */
			break;
	}
	large_pump_streams(fetch);
}
