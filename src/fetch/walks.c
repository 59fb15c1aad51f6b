/*
 * walks: a subtree that is under way brings what a walk is about to read. It must neither run far
 * ahead of its readers nor go on when they have gone, and who waits for what comes last in it must
 * not wait for all the rest.
 *
 * What is brought in the background (fetch_fill) is the same without readers.
 *
 * Far ahead, it is paused: the server waits, the line is free for others. Followed by nobody for a
 * while, it is cancelled. A wait that takes long goes out by itself, asked for by id.
 */
#include <errno.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define AHEAD_MAX_LEN ((uint64_t)32 << 20)
#define AHEAD_MAX_COUNT (AHEAD_SLOTS / 2) /* beyond it the table forgets too much */
#define LET_GO_MS 3000
#define RESCUE_MIN_MS 1000
#define RESCUE_SILENT_MS 3000 /* while the server still thinks */
#define RESCUE_ROUND_TRIPS 8
#define FILL_IDLE_MS 1000

static bool far_ahead(const struct fetch *fetch, unsigned share)
{
	return ahead_unread_bytes(&fetch->ahead) > AHEAD_MAX_LEN / share ||
	       atomic_load_explicit(&fetch->ahead.unread, memory_order_relaxed) >
		       AHEAD_MAX_COUNT / share;
}

static bool wanted_locked(const struct batch *batch)
{
	const struct flight *carrier = TAILQ_FIRST(&batch->flights);

	return carrier && flight_wanted_locked(carrier);
}

bool fetch_walk_may_go_on_locked(struct fetch *fetch, struct batch *batch)
{
	if (batch->way != WAY_SUBTREE || batch->lane == LANE_FILL)
		return true;
	/* Once held it stays so, whatever bytes were on their way, until it is resumed. */
	batch->held = batch->held || (far_ahead(fetch, 1) && !wanted_locked(batch));
	batch->was_held = batch->was_held || batch->held;
	return !batch->held;
}

void fetch_walks_resume_locked(struct fetch *fetch)
{
	struct batch *batch;

	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		/* without its call there is nobody to tell; a moment later there is */
		if (!batch->held || !batch->call || batch->cancel_wanted ||
		    (far_ahead(fetch, 2) && !wanted_locked(batch)))
			continue;
		batch->held = false;
		batch->progress_ms = clock_ms(); /* the silence was ours */
		if (batch->queued_len >= BATCH_QUEUE_MAX / 2)
			continue; /* the ingest resumes it */
		batch->paused = false;
		remote_call_resume(batch->call);
	}
}

/* Nobody waits for it, and nothing of what it brought is read any more. */
static void let_go_locked(struct fetch *fetch, struct batch *batch, uint64_t now_ms)
{
	uint64_t used_ms = atomic_load_explicit(&fetch->ahead.used_ms, memory_order_relaxed);
	uint64_t last_ms = used_ms > fetch->walk_ms ? used_ms : fetch->walk_ms;

	if (wanted_locked(batch)) {
		fetch->walk_ms = now_ms;
		return;
	}
	if (batch->ended || now_ms < last_ms + LET_GO_MS || now_ms < batch->start_ms + LET_GO_MS)
		return;
	crawl_forget_locked(&fetch->crawl);
	batch_cancel_locked(batch);
}

/* Those who wait long under a carrier, which goes on without them. True when there were some. */
static bool rescue_locked(struct fetch *fetch, struct flight *carrier, bool heard, uint64_t now_ms,
			  struct ending *ending)
{
	uint64_t patience_ms = heard ? RESCUE_MIN_MS : RESCUE_SILENT_MS;
	struct flight *next, *flight = carrier ? TAILQ_FIRST(&carrier->covered) : NULL;
	bool rescued = false;

	if (patience_ms < fetch->round_trip_ms * RESCUE_ROUND_TRIPS)
		patience_ms = fetch->round_trip_ms * RESCUE_ROUND_TRIPS;
	if (now_ms < fetch->rescued_ms + patience_ms)
		return false;
	for (; flight; flight = next) {
		const struct fetch_waiter *waiter = TAILQ_FIRST(&flight->waiters);

		next = TAILQ_NEXT(flight, link);
		if (!waiter || now_ms < waiter->since_ms + patience_ms)
			continue;
		rescued = true;
		fetch_route_or_fail_locked(fetch, flight, ending);
	}
	return rescued;
}

/* Carriers that cannot leave although the remote is well: others take long. */
static bool rescue_queued_locked(struct fetch *fetch, enum way way, uint64_t now_ms,
				 struct ending *ending)
{
	struct flight *carrier;
	bool rescued = false;

	for (int lane = 0; lane < LANE_COUNT && !fetch->retry.failures; lane++) {
		TAILQ_FOREACH(carrier, &fetch->table.queues[lane][way], link)
			rescued |= rescue_locked(fetch, carrier, false, now_ms, ending);
	}
	return rescued;
}

void fetch_walks_tick_locked(struct fetch *fetch, uint64_t now_ms, struct ending *ending)
{
	struct batch *batch;
	bool rescued = rescue_queued_locked(fetch, WAY_SUBTREE, now_ms, ending) |
		       rescue_queued_locked(fetch, WAY_LISTING, now_ms, ending);

	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		if (batch->way != WAY_SUBTREE)
			continue;
		if (batch->lane != LANE_FILL)
			let_go_locked(fetch, batch, now_ms);
		rescued |= rescue_locked(fetch, TAILQ_FIRST(&batch->flights), batch->heard, now_ms,
					 ending);
	}
	if (rescued)
		fetch->rescued_ms = now_ms;
}

/* ---- in the background ---- */

/* Others than those in the background are under way or wait. */
static bool line_needed_locked(const struct fetch *fetch)
{
	const struct batch *batch;

	for (int lane = 0; lane < LANE_FILL; lane++) {
		for (int way = 0; way < WAY_COUNT; way++) {
			if (fetch->table.queued[lane][way])
				return true;
		}
	}
	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		if (batch->lane != LANE_FILL)
			return true;
	}
	return false;
}

void fetch_fill_yield_locked(struct fetch *fetch)
{
	struct batch *batch;

	if (!line_needed_locked(fetch))
		return;
	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		if (batch->lane == LANE_FILL && !batch->cancel_wanted && !wanted_locked(batch))
			batch_cancel_locked(batch);
	}
}

static int fill_locked(struct fetch *fetch, const struct oid *tree, enum flight_kind kind)
{
	struct flight *flight = flight_find_locked(&fetch->table, tree, kind);

	if (flight)
		return FETCH_FILL_WAITS;
	if (fetch->closing)
		return -ECANCELED;
	if (!fetch_can_crawl_locked(fetch) || !fetch_can_list_locked(fetch))
		return -EOPNOTSUPP;
	if (line_needed_locked(fetch) || clock_ms() < fetch->demand_ms + FILL_IDLE_MS)
		return -EBUSY;
	flight = fetch_carrier_of_tree_locked(fetch, tree, kind);
	if (!flight)
		return -ENOMEM;
	flight_queue_locked(&fetch->table, flight, LANE_FILL, flight->way);
	return FETCH_FILL_ASKED;
}

int fetch_fill(struct fetch *fetch, const struct oid *tree, bool deep)
{
	int status;

	if (fetch_listed(fetch, tree, true) || (!deep && fetch_listed(fetch, tree, false)))
		return FETCH_FILL_HERE;
	if (fetch->config.offline)
		return -ENETUNREACH;
	lock_take(&fetch->lock);
	status = fill_locked(fetch, tree, deep ? FLIGHT_SUBTREE : FLIGHT_LISTING);
	lock_give(&fetch->lock);
	fetch_pump(fetch);
	return status;
}
