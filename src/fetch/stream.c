/*
 * stream: a large blob's pack entry, shown while it inflates. The large itself waits in the blob's
 * flight like any reader, so slots, retries and deadlines are those of all flights; what is special
 * begins when the entry does. A stream begins at the start each time: what came of an earlier one
 * is in the cache, and is passed over.
 */
#include <assert.h>
#include <errno.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

static struct large *large_of_waiter(struct fetch_waiter *waiter)
{
	return (struct large *)((char *)waiter - offsetof(struct large, stream_waiter));
}

/* ---- asking for it ---- */

/*
 * The flight is over. A good end, whole or streamed: who still waits asks again, and finds the
 * whole, or begins another stream.
 */
static void on_end(struct fetch_waiter *waiter, int status, struct content *content, uint64_t size)
{
	struct large *large = large_of_waiter(waiter);
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);

	(void)size;
	lock_take(&fetch->lock);
	large->streaming = false;
	/* It came, but not as a stream: as a delta, or from another batch, or of another size. */
	if (!status && content)
		large->no_stream = true;
	large_fail_locked(large, &ending, status);
	lock_give(&fetch->lock);
	ending_run(&ending);
}

static struct large *next_locked(struct fetch *fetch)
{
	struct large *large;

	if (fetch->closing)
		return NULL;
	TAILQ_FOREACH(large, &fetch->larges.all, entry) {
		/* A range that turned out to be the whole, one on its way out; or it is here. */
		if (large->stream || large->serve)
			continue;
		if (!large->streaming && !TAILQ_EMPTY(&large->waiters) &&
		    large_way_locked(large) != LARGE_RANGE)
			return large;
	}
	return NULL;
}

static void ask(struct large *large)
{
	struct fetch *fetch = large->fetch;
	struct content *content = NULL;
	int status = fetch_content(fetch, &large->oid, OBJECT_BLOB, large->part.size, NULL,
				   &large->stream_waiter, &content);

	if (status)
		on_end(&large->stream_waiter, status < 0 ? status : 0, content, 0);
	content_unref(content);
}

void large_pump_streams(struct fetch *fetch)
{
	struct large *large;

	do {
		lock_take(&fetch->lock);
		large = next_locked(fetch);
		if (large) {
			large->streaming = true;
			large->users++;
			fetch_waiter_init(&large->stream_waiter, on_end);
		}
		lock_give(&fetch->lock);
		if (!large)
			return;
		ask(large);
		lock_take(&fetch->lock);
		large_put_locked(large);
		lock_give(&fetch->lock);
	} while (true);
}

/* ---- while it comes ---- */

/* Who waits for the whole of it, not knowing how large it is, may ask for parts. */
static void turn_over_locked(struct large *large, struct flight *flight, struct ending *ending)
{
	struct fetch *fetch = large->fetch;

	if (large->streaming) /* it waits there itself */
		return;
	ending_add_locked(&fetch->table, flight, ending, 0, NULL, large->part.size);
	large->streaming = true;
	fetch_waiter_init(&large->stream_waiter, on_end);
	flight_join_locked(&fetch->table, flight, &large->stream_waiter, false, clock_ms());
	large->used_ms = clock_ms();
}

static void begin_locked(struct large *large, struct batch *batch)
{
	large->users++;
	large->stream = batch;
	large->stream_next = 0;
	batch->large = large;
	batch->runs_on = true;
}

static int begin_or_not_locked(struct large *large, struct batch *batch, struct ending *ending)
{
	struct fetch *fetch = large->fetch;
	struct flight *flight = flight_find_locked(&fetch->table, &large->oid, FLIGHT_CONTENT);

	if (!flight || flight->batch != batch || large->stream)
		return 0;
	if (large_way_locked(large) == LARGE_WHOLE)
		return 0;
	if (fetch->caps & REMOTE_EARLY) {
		turn_over_locked(large, flight, ending);
		begin_locked(large, batch);
		large->bridge = large_way_locked(large) == LARGE_RANGE;
		return 1;
	}
	ending_add_locked(&fetch->table, flight, ending, 0, NULL, large->part.size);
	fetch_flight_free_locked(fetch, flight);
	batch->peeked = true;
	return -ECANCELED;
}

int large_stream_begin(struct batch *batch, const struct oid *oid, uint64_t size)
{
	struct fetch *fetch = batch->fetch;
	const struct fetch_part part = { .oid = *oid, .size = size };
	struct ending ending = ENDING_INIT(ending);
	struct large *large;
	int status = 0;

	if (!(fetch->caps & (REMOTE_EARLY | REMOTE_RANGE)) || large_open(fetch, &part, &large))
		return 0;
	lock_take(&fetch->lock);
	if (large->part.size == size)
		status = begin_or_not_locked(large, batch, &ending);
	large_put_locked(large);
	lock_give(&fetch->lock);
	ending_run(&ending);
	return status;
}

/* The blob's flight ends without a content: the readers had it. */
static void arrive_locked(struct large *large, struct ending *ending)
{
	struct fetch *fetch = large->fetch;
	struct flight *flight = flight_find_locked(&fetch->table, &large->oid, FLIGHT_CONTENT);

	fetch->counters.objects_fetched++;
	if (!flight || flight->state == FLIGHT_ARRIVED)
		return;
	ending_add_locked(&fetch->table, flight, ending, 0, NULL, large->part.size);
	fetch_flight_free_locked(fetch, flight);
}

void large_stream_end(struct batch *batch, const struct oid *oid)
{
	struct fetch *fetch = batch->fetch;
	struct large *large = batch->large;
	struct ending ending = ENDING_INIT(ending);

	if (!oid_equal(&large->oid, oid)) {
		batch->foreign++;
		batch->arrived++;
		large_distrust(large);
		return;
	}
	lock_take(&fetch->lock);
	batch->arrived++;
	arrive_locked(large, &ending);
	large_prove_locked(large);
	lock_give(&fetch->lock);
	ending_run(&ending);
}

void large_stream_gone_locked(struct batch *batch)
{
	struct large *large = batch->large;

	if (!large)
		return;
	if (large->stream == batch) {
		large->stream = NULL;
		large->bridge = false;
	}
	batch->large = NULL;
	large_put_locked(large);
}

/* ---- not further than the readers want ---- */

static bool others_wait_locked(const struct large *large)
{
	return large->served && fetch_queued_locked(large->fetch, WAY_LARGE) &&
	       clock_ms() < large->used_ms + LARGE_YIELD_MS;
}

bool large_stream_held_locked(const struct batch *batch)
{
	const struct large *large = batch->large;
	const struct fetch_waiter *waiter;
	uint64_t end;

	if (!large || !batch->runs_on || batch->cancel_wanted || batch->abandoned ||
	    large->fetch->closing)
		return false;
	if (large->stream != batch)
		return false;
	/* Who reads on need not be waited for: its place is wanted. */
	if (others_wait_locked(large))
		return false;
	end = windows_end_careful(&large->windows);
	TAILQ_FOREACH(waiter, &large->waiters, entry) {
		if (waiter->off + waiter->len > end)
			end = waiter->off + waiter->len;
	}
	return (uint64_t)large->stream_next * CACHE_BLOCK_LEN >= end;
}

void large_stream_resume_locked(struct large *large)
{
	struct batch *batch = large->stream;

	if (!batch || large_stream_held_locked(batch) ||
	    (TAILQ_EMPTY(&batch->chunks) && !batch->ended))
		return;
	fetch_work_schedule_locked(large->fetch, batch);
}

static bool is_left_behind_locked(const struct large *large, const struct fetch_waiter *waiter)
{
	uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);
	uint32_t last = (uint32_t)((waiter->off + waiter->len - 1) / CACHE_BLOCK_LEN);

	for (uint32_t i = first; i <= last && i < large->stream_next; i++) {
		if (!waiter->blocks[i - first] && !bit_is_set(large->coming, i))
			return true;
	}
	return false;
}

void large_stream_rewind_locked(struct large *large)
{
	const struct fetch_waiter *waiter;

	if (!large->stream)
		return;
	TAILQ_FOREACH(waiter, &large->waiters, entry) {
		if (is_left_behind_locked(large, waiter)) {
			large_stream_cancel_locked(large);
			return;
		}
	}
}

void large_stream_cancel_locked(struct large *large)
{
	struct fetch *fetch = large->fetch;
	struct batch *batch = large->stream;
	struct flight *flight = large->stream_waiter.flight;

	if (large->streaming && large->stream_waiter.state == FETCH_WAITER_PARKED) {
		flight_leave_locked(&fetch->table, &large->stream_waiter, FETCH_WAITER_CANCELED);
		large->streaming = false;
		fetch_unwanted_locked(fetch, flight);
	}
	if (!batch)
		return;
	large->bridge = false;
	batch_abandon_locked(batch);
	fetch_work_schedule_locked(fetch, batch); /* it may wait for readers */
}
