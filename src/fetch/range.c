/*
 * range: large files by ranges: what to ask for next, what an answer brings, what becomes of it.
 *
 * What a reader waits for comes first, then what is ahead of the runs. A window is cut into
 * several calls, so that a long link is filled in spite of each connection's slow start, and the
 * reader's next bytes do not come last. Until a remote has shown that it can, fewer calls at a time
 * are made: the answer to one that begins the file does not tell a range from the whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define RANGES_PER_FILE 16
#define RANGES_MAX 48
#define RANGES_UNPROVEN_MAX 8
#define PIECE_MIN_LEN ((uint64_t)128 << 10)
#define PIECE_MAX_LEN ((uint64_t)4 << 20)
#define PIECES 8
#define BRIDGE_BLOCKS 2
/* What a call holds at most: its queue, the block in the making, what the transport has at hand. */
#define CALL_MEMORY_LEN ((uint64_t)512 << 10)
#define TRIES_MAX 6
#define TRIES_BROKEN_MAX 3

/* ---- what to ask for ---- */

struct plan {
	uint32_t first, end;   /* blocks */
	struct window *window; /* that it is for; NULL */
	bool demanded;	       /* somebody waits for it */
};

static uint32_t block_end(const struct large *large, uint64_t off)
{
	uint64_t end = (off + CACHE_BLOCK_LEN - 1) / CACHE_BLOCK_LEN;

	return end < large->block_count ? (uint32_t)end : large->block_count;
}

/* What a bridge is about to bring need not be asked for. */
static bool is_bridged_locked(const struct large *large, uint32_t index)
{
	return large->bridge && large->stream && index >= large->stream_next &&
	       index < large->stream_next + BRIDGE_BLOCKS;
}

static bool is_missing_locked(const struct large *large, uint32_t index)
{
	return !bit_is_set(large->here, index) && !bit_is_set(large->coming, index) &&
	       !is_bridged_locked(large, index);
}

/* The first that nobody has asked for in [first, end), and those that follow it. */
static bool find_gap_locked(const struct large *large, uint32_t first, uint32_t end,
			    struct plan *out)
{
	while (first < end && !is_missing_locked(large, first))
		first++;
	out->first = out->end = first;
	while (out->end < end && is_missing_locked(large, out->end))
		out->end++;
	return out->first < out->end;
}

static struct window *window_at(struct large *large, uint64_t off)
{
	struct window *found = NULL;

	for (unsigned i = 0; i < WINDOW_COUNT; i++) {
		struct window *window = &large->windows.v[i];

		if (window->turn && off >= window->start && off < window_end(window) &&
		    (!found || window->turn > found->turn))
			found = window;
	}
	return found;
}

static uint32_t piece_blocks(const struct window *window)
{
	uint64_t len = window ? window->len / PIECES : PIECE_MIN_LEN;

	len = len < PIECE_MIN_LEN ? PIECE_MIN_LEN : len > PIECE_MAX_LEN ? PIECE_MAX_LEN : len;
	return (uint32_t)(len / CACHE_BLOCK_LEN);
}

/* At most one piece; a stretch that is read at random is one, whatever its length. */
static void cut(struct plan *plan)
{
	uint32_t max = piece_blocks(plan->window);

	if (plan->window && !plan->window->goes_on && plan->window->start)
		max = FETCH_PART_BLOCKS;
	if (plan->end - plan->first > max)
		plan->end = plan->first + max;
}

static bool plan_demand_locked(struct large *large, struct plan *out)
{
	const struct fetch_waiter *waiter;

	TAILQ_FOREACH(waiter, &large->waiters, entry) {
		uint64_t end = waiter->off + waiter->len;
		uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);

		if (!find_gap_locked(large, first, block_end(large, end), out))
			continue;
		out->demanded = true;
		out->window = window_at(large, waiter->off);
		/* together with what comes next */
		if (out->window && window_end(out->window) > end)
			find_gap_locked(large, out->first,
					block_end(large, window_end(out->window)), out);
		return true;
	}
	return false;
}

/* Whole pieces, so that a reader's every step is no call of its own. */
static bool plan_ahead_locked(struct large *large, struct plan *out)
{
	for (unsigned i = 0; i < WINDOW_COUNT; i++) {
		struct window *window = &large->windows.v[i];
		uint32_t end = block_end(large, window_end(window));

		if (!window->turn ||
		    !find_gap_locked(large, (uint32_t)(window->next / CACHE_BLOCK_LEN), end, out))
			continue;
		if (out->end - out->first < piece_blocks(window) && out->end == end &&
		    end < large->block_count && window->goes_on)
			continue;
		out->window = window;
		return true;
	}
	return false;
}

static uint64_t plan_len(const struct large *large, const struct plan *plan)
{
	uint64_t len = (uint64_t)(plan->end - plan->first) * CACHE_BLOCK_LEN;
	uint64_t rest = large->part.size - (uint64_t)plan->first * CACHE_BLOCK_LEN;

	return len < rest ? len : rest;
}

static uint64_t plan_memory(const struct large *large, const struct plan *plan)
{
	uint64_t len = plan_len(large, plan);

	return len < CALL_MEMORY_LEN ? len : CALL_MEMORY_LEN;
}

/* A window is not to be larger than a fair part of what one file alone may have. */
static void share_locked(struct large *large, struct window *window)
{
	const struct larges *larges = &large->fetch->larges;
	const struct large *other;
	uint64_t count = 0;

	TAILQ_FOREACH(other, &larges->all, entry)
		count += other->ranges > 0 || !TAILQ_EMPTY(&other->waiters);
	if (window && count && window->len > large->windows.max_len / count)
		window_shrink(window);
}

/* Room for it. Who waits and has nothing under way gets less where memory is short, but a block. */
static bool reserve_locked(struct large *large, struct plan *plan)
{
	struct budget *budget = &large->fetch->larges.budget;

	if (budget_take(budget, plan_memory(large, plan)))
		return true;
	share_locked(large, plan->window);
	if (!plan->demanded || large->ranges)
		return false;
	while (plan->end - plan->first > 1) {
		plan->end = plan->first + (plan->end - plan->first) / 2;
		if (budget_take(budget, plan_memory(large, plan)))
			return true;
	}
	budget_force(budget, plan_memory(large, plan));
	return true;
}

static bool choose_locked(struct large *large, struct plan *out)
{
	*out = (struct plan){ 0 };
	if (large_way_locked(large) != LARGE_RANGE || !large->path || large->whole ||
	    (large->stream && !large->bridge) || large->ranges >= RANGES_PER_FILE ||
	    large->elsewhere_count == LARGE_RUNS_MAX ||
	    (large->tries && large->ranges)) /* one at a time finds out whether it works again */
		return false;
	if (!plan_demand_locked(large, out) && !plan_ahead_locked(large, out))
		return false;
	cut(out);
	return true;
}

bool large_next_stretch_locked(struct large *large, uint32_t *out_first, uint32_t *out_end)
{
	struct plan plan;
	bool chosen = choose_locked(large, &plan);

	*out_first = plan.first;
	*out_end = plan.end;
	return chosen;
}

/* What other processes do not fetch already. */
static bool plan_locked(struct large *large, struct plan *out)
{
	while (choose_locked(large, out) &&
	       elsewhere_was_looked_for_locked(large, out->first, out->end) &&
	       reserve_locked(large, out)) {
		uint64_t reserved = plan_memory(large, out);
		uint32_t count = elsewhere_claim_locked(large, out->first, out->end - out->first);

		out->end = out->first + count;
		budget_give(&large->fetch->larges.budget, reserved - plan_memory(large, out));
		if (count)
			return true;
	}
	return false;
}

static struct batch *make_locked(struct large *large, const struct plan *plan)
{
	struct fetch *fetch = large->fetch;
	struct batch *batch = batch_new(fetch, WAY_RANGE, 0);

	if (!batch) {
		budget_give(&fetch->larges.budget, plan_memory(large, plan));
		if (fetch->neighbours)
			cache_unclaim_blocks(fetch->config.cache, &large->part.name, plan->first,
					     plan->end - plan->first, true);
		return NULL; /* the timer comes by again */
	}
	batch->large = large;
	batch->lane = LANE_DEMAND;
	batch->range_off = batch->feed_off = (uint64_t)plan->first * CACHE_BLOCK_LEN;
	batch->reserved = plan_memory(large, plan);
	batch->range_end = batch->range_off + plan_len(large, plan);
	batch->claimed = fetch->neighbours;
	batch->start_ms = batch->progress_ms = clock_ms();
	for (uint32_t i = plan->first; i < plan->end; i++)
		bit_set(large->coming, i, true);
	large->users++;
	large->ranges++;
	fetch->larges.ranges++;
	fetch->running[WAY_RANGE]++;
	fetch->counters.batches_ranges++;
	TAILQ_INSERT_TAIL(&fetch->batches, batch, entry);
	fetch_work_init(batch);
	return batch;
}

struct batch *large_next_range_locked(struct fetch *fetch)
{
	struct larges *larges = &fetch->larges;
	struct large *large;
	struct plan plan;

	if (fetch->closing || larges->refused || larges->ranges >= RANGES_MAX ||
	    (larges->ranges >= RANGES_UNPROVEN_MAX && !larges->proven) ||
	    (larges->ranges && larges->retry.failures) || retry_wait_ms(&larges->retry, clock_ms()))
		return NULL;
	TAILQ_FOREACH(large, &larges->all, entry) {
		if (plan_locked(large, &plan))
			return make_locked(large, &plan);
	}
	return NULL;
}

int large_start_range(struct fetch *fetch, struct batch *batch, struct remote_call **out)
{
	const struct large *large = batch->large;
	const struct range_spec spec = {
		.commit = large->commit,
		.path = large->path,
		.off = batch->range_off,
		.len = batch->range_end - batch->range_off,
		.size = large->part.size,
	};

	log_debug("fetch: range off=%" PRIu64 " len=%" PRIu64, spec.off, spec.len);
	return remote_start_range(fetch->config.remote, &spec, &batch->sink, out);
}

/* ---- what comes ---- */

/* The whole file instead: kept, unless another call brings it, or brought it. */
static bool takes_whole_locked(struct batch *batch)
{
	struct large *large = batch->large;

	if (large->stream || large->here_count == large->block_count)
		return false;
	large->stream = batch;
	large->stream_next = 0;
	batch->runs_on = true;
	return true;
}

static void prove_locked(struct fetch *fetch)
{
	if (fetch->larges.proven)
		return;
	fetch->larges.proven = true;
	lock_cond_signal(&fetch->timer_cond); /* others may leave now */
}

bool large_range_begins_locked(struct batch *batch, uint64_t off, uint64_t total)
{
	struct large *large = batch->large;

	batch->misfit = true;
	if (total != large->part.size)
		return false;
	if (off == batch->range_off) {
		batch->misfit = false;
		if (off)
			prove_locked(large->fetch);
		return true;
	}
	if (off || !takes_whole_locked(batch))
		return false;
	batch->feed_off = 0; /* no byte has been fed yet */
	return true;
}

/* What was asked for is exceeded only by a server that sends the whole file. */
static bool goes_on_locked(struct batch *batch)
{
	if (batch->runs_on || batch->feed_off < batch->range_end)
		return true;
	batch->misfit = true;
	return takes_whole_locked(batch);
}

static int next_block(struct batch *batch)
{
	struct fetch *fetch = batch->fetch;
	struct large *large = batch->large;
	bool goes_on;

	if (batch->feed_off >= large->part.size)
		return -EPROTO;
	lock_take(&fetch->lock);
	goes_on = goes_on_locked(batch);
	lock_give(&fetch->lock);
	if (!goes_on)
		return -ECANCELED;
	batch->feed_block =
		block_new(large_block_len(large, (uint32_t)(batch->feed_off / CACHE_BLOCK_LEN)));
	batch->feed_len = 0;
	return batch->feed_block ? 0 : -ENOMEM;
}

static void block_done(struct batch *batch)
{
	struct fetch *fetch = batch->fetch;
	struct large *large = batch->large;
	struct block *block = batch->feed_block;
	uint32_t index = (uint32_t)(batch->feed_off / CACHE_BLOCK_LEN);

	batch->feed_block = NULL;
	batch->arrived += large_arrived(large, index, block);
	lock_take(&fetch->lock);
	if (batch->way == WAY_RANGE && large->bridge)
		large_stream_cancel_locked(large);
	batch->feed_off += block->len;
	if (large->stream == batch)
		large->stream_next = index + 1;
	lock_give(&fetch->lock);
	block_unref(block);
}

int large_feed(struct batch *batch, const uint8_t *data, size_t len)
{
	while (len) {
		size_t piece;
		int status = batch->feed_block ? 0 : next_block(batch);

		if (status)
			return status;
		piece = batch->feed_block->len - batch->feed_len;
		piece = piece < len ? piece : len;
		memcpy(batch->feed_block->data + batch->feed_len, data, piece);
		batch->feed_len += piece;
		data += piece;
		len -= piece;
		if (batch->feed_len == batch->feed_block->len)
			block_done(batch);
	}
	if (batch->feed_block)
		large_show(batch->large, (uint32_t)(batch->feed_off / CACHE_BLOCK_LEN),
			   batch->feed_block->data, batch->feed_len);
	return 0;
}

/* ---- its end ---- */

enum end {
	END_OK,
	END_CANCELED, /* by us */
	END_LATER,
	END_BROKEN,
	END_REFUSED,
};

static enum end end_of(const struct batch *batch)
{
	bool all = batch->feed_off >= batch->range_end;

	if (batch->misfit && !batch->runs_on)
		return END_REFUSED;
	if (batch->stalled)
		return END_LATER;
	if (batch->cancel_wanted && batch->ingest_status != -EPROTO)
		return END_CANCELED;
	switch (batch->outcome.verdict) {
	case REMOTE_OK:
		return batch->ingest_status ? END_BROKEN : all ? END_OK : END_LATER;
	case REMOTE_TRANSIENT:
		return END_LATER;
	case REMOTE_CANCELED:
		return END_CANCELED;
	case REMOTE_BROKEN:
		return END_BROKEN;
	default:
		return END_REFUSED;
	}
}

/* Ranges are not to be had: of this file; or of this remote, if it never gave any. */
static bool refuse_locked(struct large *large)
{
	struct larges *larges = &large->fetch->larges;
	bool remote = !larges->proven && !larges->refused;

	large->no_range = true;
	large->bridge = false;
	larges->refused = larges->refused || remote;
	return remote;
}

static void fail_later_locked(struct large *large, const struct batch *batch, struct ending *ending)
{
	struct fetch *fetch = large->fetch;
	struct larges *larges = &fetch->larges;
	bool heard = batch->heard || batch->outcome.answered;
	uint64_t silent_ms = large->progress_ms > batch->start_ms ? large->progress_ms :
								    batch->start_ms;

	retry_failed(&larges->retry, clock_ms(), batch->outcome.retry_after_ms, heard, silent_ms);
	fetch->counters.errors++;
	fetch->counters.retries++;
	/* While credentials are renewed nothing was tried yet: the readers' patience is the end. */
	if (!batch->arrived && !batch->outcome.renewing)
		large->tries++;
	if (heard && large->tries >= TRIES_MAX)
		large_fail_locked(large, ending, -EIO);
	if (retry_state(&larges->retry) == FETCH_OFFLINE)
		large_fail_locked(large, ending, -ENETUNREACH);
}

/* True when something is to be remembered of the remote. */
static bool judge_locked(struct large *large, const struct batch *batch, enum end end,
			 struct ending *ending)
{
	switch (end) {
	case END_OK:
		retry_succeeded(&large->fetch->larges.retry);
		if (batch->misfit) /* it came because the server does not know better */
			return refuse_locked(large);
		prove_locked(large->fetch);
		return false;
	case END_CANCELED:
		return batch->misfit && refuse_locked(large);
	case END_LATER:
		fail_later_locked(large, batch, ending);
		return false;
	case END_BROKEN:
		fail_later_locked(large, batch, ending);
		return large->tries >= TRIES_BROKEN_MAX && refuse_locked(large);
	case END_REFUSED:
		break;
	}
	retry_succeeded(&large->fetch->larges.retry);
	return refuse_locked(large);
}

static void say(struct fetch *fetch, const struct batch *batch, enum end end, bool remote)
{
	const char *words = batch->stalled		  ? "nothing came for too long" :
			    *batch->outcome.error.message ? batch->outcome.error.message :
							    "the answer is not what was asked for";

	if (end == END_LATER || end == END_BROKEN)
		fetch_complain(fetch, COMPLAIN_TRANSIENT,
			       "fetching a part of %s failed: %s; trying again", batch->large->path,
			       words);
	else if (end == END_REFUSED || remote)
		fetch_complain(fetch, COMPLAIN_REFUSED,
			       "%s cannot be had in parts%s: %s; going another way",
			       batch->large->path,
			       remote ? ", nor can other files of this remote" : "", words);
}

/*
 * What did not come is free at once: behind what comes to the cache later the claim would end when
 * it has been taken anew.
 */
static void unclaim_rest_locked(const struct large *large, const struct batch *batch)
{
	uint32_t first = (uint32_t)(batch->feed_off / CACHE_BLOCK_LEN);
	uint32_t end = (uint32_t)((batch->range_end + CACHE_BLOCK_LEN - 1) / CACHE_BLOCK_LEN);

	if (!batch->claimed || batch->runs_on || batch->feed_off >= batch->range_end)
		return;
	cache_unclaim_blocks(large->fetch->config.cache, &large->part.name, first, end - first,
			     true);
}

/* What it was to bring, and did not. */
static void release_locked(struct large *large, struct batch *batch)
{
	struct fetch *fetch = large->fetch;
	uint64_t from = batch->runs_on ? batch->range_off : batch->feed_off;

	unclaim_rest_locked(large, batch);
	for (uint64_t off = from; off < batch->range_end; off += CACHE_BLOCK_LEN)
		bit_set(large->coming, (uint32_t)(off / CACHE_BLOCK_LEN), false);
	budget_give(&fetch->larges.budget, batch->reserved);
	batch->reserved = 0;
	large->ranges--;
	fetch->larges.ranges--;
	fetch->running[WAY_RANGE]--;
	TAILQ_REMOVE(&fetch->batches, batch, entry);
	if (TAILQ_EMPTY(&fetch->batches))
		lock_cond_broadcast(&fetch->idle_cond);
}

/* What came: others find it when the claim ends. */
static void unclaim(struct fetch *fetch, const struct oid *name, const struct batch *batch)
{
	bool all = batch->runs_on || batch->feed_off >= batch->range_end;
	uint64_t came = all ? batch->range_end : batch->feed_off;
	uint32_t first = (uint32_t)(batch->range_off / CACHE_BLOCK_LEN);
	uint32_t end = (uint32_t)((came + CACHE_BLOCK_LEN - 1) / CACHE_BLOCK_LEN);

	if (end > first)
		cache_unclaim_blocks(fetch->config.cache, name, first, end - first, false);
}

void large_settle_range(struct fetch *fetch, struct batch *batch)
{
	struct large *large = batch->large;
	struct ending ending = ENDING_INIT(ending);
	enum end end = end_of(batch);
	struct oid name = large->part.name;
	bool remote, closing;

	lock_take(&fetch->lock);
	remote = judge_locked(large, batch, end, &ending);
	closing = fetch->closing;
	lock_give(&fetch->lock);

	if (remote)
		fetch_fact_put(fetch, "refused", "range", "1", 1);
	if (!closing)
		say(fetch, batch, end, remote);
	ending_run(&ending);

	lock_take(&fetch->lock);
	release_locked(large, batch);
	large_stream_gone_locked(batch);
	large_stream_rewind_locked(large);
	lock_give(&fetch->lock);
	if (batch->claimed)
		unclaim(fetch, &name, batch);
	batch_free(batch);
	fetch_pump(fetch);
}
