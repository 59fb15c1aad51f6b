/*
 * deadline: the timer thread. Waits without progress end, calls that are silent for too long are
 * cancelled, what was kept for too long is dropped; and what had to wait for its time may leave
 * now.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define KEPT_MS 30000
#define TICK_MS 100
#define TICK_QUEUED_MS 10
#define TICK_ELSEWHERE_MS 20
#define API_PATIENCE_MS 10000 /* there is another way */
#define SIZE_PATIENCE_MS 500
#define SIZE_ROUND_TRIPS 4

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The last sign that what this flight waits for goes on. */
static uint64_t progress_of_locked(const struct fetch *fetch, const struct flight *flight)
{
	const struct batch *batch = flight->carrier ? flight->carrier->batch : flight->batch;

	return batch ? batch->progress_ms : fetch->progress_ms;
}

static unsigned expire_flight_locked(struct fetch *fetch, struct flight *flight, uint64_t now_ms,
				     struct ending *ending)
{
	uint64_t progress_ms = progress_of_locked(fetch, flight);
	struct fetch_waiter *next, *waiter;
	unsigned expired = 0;

	if (now_ms < progress_ms + fetch->config.patience_ms)
		return 0;
	for (waiter = TAILQ_FIRST(&flight->waiters); waiter; waiter = next) {
		next = TAILQ_NEXT(waiter, entry);
		if (now_ms < later(waiter->since_ms, progress_ms) + fetch->config.patience_ms)
			continue;
		ending_add_one_locked(&fetch->table, waiter, ending, -ETIMEDOUT);
		expired++;
	}
	/* What is under way goes on without them. */
	if (expired && flight->state != FLIGHT_RIDING)
		fetch_unwanted_locked(fetch, flight);
	return expired;
}

static unsigned expire_waiters_locked(struct fetch *fetch, uint64_t now_ms, struct ending *ending)
{
	struct flight *next, *flight;
	unsigned expired = 0;

	for (flight = TAILQ_FIRST(&fetch->table.waited); flight; flight = next) {
		next = TAILQ_NEXT(flight, waited);
		expired += expire_flight_locked(fetch, flight, now_ms, ending);
	}
	fetch->counters.timeouts += expired;
	return expired;
}

static void cancel_stalled_locked(struct fetch *fetch, uint64_t now_ms)
{
	struct batch *batch;

	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		uint64_t patience_ms = fetch->config.patience_ms;

		if (batch->way == WAY_TREE_SIZES && patience_ms > API_PATIENCE_MS)
			patience_ms = API_PATIENCE_MS;
		if (batch->stalled || batch->ended || batch->queued_len || batch->held ||
		    now_ms < batch->progress_ms + patience_ms)
			continue;
		batch->stalled = true;
		batch_cancel_locked(batch);
	}
}

/* Who only wants a size and waits for a content that is slow: it is asked for beside that. */
static void ask_sizes_beside_locked(struct fetch *fetch, uint64_t now_ms)
{
	uint64_t patience_ms = later(fetch->round_trip_ms * SIZE_ROUND_TRIPS, SIZE_PATIENCE_MS);
	struct flight *flight;

	if (!fetch_can_sizes_locked(fetch))
		return;
	TAILQ_FOREACH(flight, &fetch->table.waited, waited) {
		const struct fetch_waiter *waiter = TAILQ_FIRST(&flight->waiters);
		struct flight *size;

		if (flight->kind != FLIGHT_CONTENT || flight->size != SIZE_UNKNOWN ||
		    !waiter->size_only || now_ms < waiter->since_ms + patience_ms ||
		    flight_find_locked(&fetch->table, &flight->oid, FLIGHT_SIZE))
			continue;
		size = flight_new_locked(&fetch->table, &flight->oid, FLIGHT_SIZE, OBJECT_BLOB,
					 SIZE_UNKNOWN);
		if (size)
			flight_queue_locked(&fetch->table, size, LANE_META, WAY_SIZES);
	}
}

static void drop_kept_locked(struct fetch *fetch, uint64_t now_ms)
{
	struct flight *flight;

	while ((flight = TAILQ_FIRST(&fetch->table.kept)) && now_ms >= flight->kept_ms + KEPT_MS)
		flight_free_locked(&fetch->table, flight);
}

void fetch_tick(struct fetch *fetch)
{
	struct ending ending = ENDING_INIT(ending);
	uint64_t now_ms = clock_ms();
	char last_error[sizeof(fetch->counters.last_error)];
	unsigned expired;

	lock_take(&fetch->lock);
	expired = expire_waiters_locked(fetch, now_ms, &ending);
	larges_tick_locked(fetch, now_ms, &ending, &expired);
	cancel_stalled_locked(fetch, now_ms);
	fetch_walks_tick_locked(fetch, now_ms, &ending);
	neighbours_tick_locked(fetch);
	elsewhere_tick_locked(fetch);
	ask_sizes_beside_locked(fetch, now_ms);
	drop_kept_locked(fetch, now_ms);
	memcpy(last_error, fetch->counters.last_error, sizeof(last_error));
	lock_give(&fetch->lock);
	if (expired)
		fetch_complain(fetch, COMPLAIN_SILENCE,
			       "%u waits ended: nothing came for %" PRIu64
			       " s; check the network and the server%s%s",
			       expired, fetch->config.patience_ms / 1000,
			       *last_error ? "; last error: " : "", last_error);
	ending_run(&ending);
	fetch_recheck(fetch);
	fetch_pump(fetch);
	elsewhere_serve(fetch);
}

/* How long until something may be due: coarse, and never, while nothing is under way. */
static uint64_t tick_due_locked(const struct fetch *fetch)
{
	uint64_t wait_ms;
	size_t queued = 0;

	for (int way = 0; way < WAY_COUNT; way++)
		queued += fetch_queued_locked(fetch, way);
	if (!queued)
		return TAILQ_EMPTY(&fetch->elsewhere) && !fetch->larges.elsewhere ?
			       TICK_MS :
			       TICK_ELSEWHERE_MS;
	wait_ms = later(retry_wait_ms(&fetch->retry, clock_ms()), TICK_QUEUED_MS);
	return wait_ms < TICK_MS ? wait_ms : TICK_MS;
}

void *fetch_timer_run(void *arg)
{
	struct fetch *fetch = arg;

	lock_take(&fetch->lock);
	while (!fetch->quit) {
		fetch->timer_idle = !fetch->table.count && TAILQ_EMPTY(&fetch->batches) &&
				    TAILQ_EMPTY(&fetch->larges.all);
		if (fetch->timer_idle)
			lock_cond_wait(&fetch->timer_cond, &fetch->lock);
		else if (TAILQ_EMPTY(&fetch->recheck) && !fetch->larges.serve)
			lock_cond_wait_ms(&fetch->timer_cond, &fetch->lock, tick_due_locked(fetch));
		if (fetch->quit)
			break;
		lock_give(&fetch->lock);
		fetch_tick(fetch);
		lock_take(&fetch->lock);
	}
	lock_give(&fetch->lock);
	return NULL;
}
