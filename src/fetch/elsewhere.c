/*
 * elsewhere: blocks of large files that other processes on the cache fetch. What is about to be
 * asked for is claimed, a run of blocks at a time; what another process has claimed is not asked
 * for but looked for, every few milliseconds, as are the blocks that would be asked for next: it
 * may have brought them already.
 *
 *	elsewhere_claim_locked ---> some: this process asks for them
 *	                       \-> none: a run of large->elsewhere ---> elsewhere_look ... ---> here;
 *	or claimed no more, or too slow: they are asked for like any others
 *	elsewhere_look ---> blocks that are here ---> elsewhere_serve: to those who wait
 *
 * A stream is claimed with its flight (neighbours.c): while that waits, its blocks are looked for
 * from the first one that is missing.
 *
 * The index may name what cannot be read: then this large looks nowhere for a while, and asks.
 *
 * Threads: looks are anybody's, who starts calls; who waits is called back by the timer thread.
 */
#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define LOOKS_MAX 256
#define LOOK_BLOCKS 64
#define ROUNDS_MAX 1024
#define LOOK_AGAIN_NS 20000000u
#define PERIOD_MS 3000
#define ALONE_MS 60000
#define BLIND_MS 1000
/*
 * Bytes a second that are worth waiting for: a part of what the line brings, within bounds. A fast
 * line says little of what a processor can do with what it brings.
 */
#define SLOW_PART 4
#define SLOW_MIN_RATE ((uint64_t)64 << 10)
#define SLOW_MAX_RATE ((uint64_t)2 << 20)

enum look_kind {
	LOOK_RUN,    /* one of large->elsewhere */
	LOOK_STREAM, /* of a stream of another process */
	LOOK_NEXT,   /* they would be asked for next */
};

struct look {
	struct large *large; /* in use */
	uint32_t first, count;
	enum look_kind kind;
};

struct looks {
	struct look v[LOOKS_MAX];
	unsigned count;
};

static bool is_blind_locked(const struct large *large)
{
	return clock_ms() < large->blind_until_ms;
}

void elsewhere_blind_locked(struct large *large)
{
	large->blind_until_ms = clock_ms() + BLIND_MS;
}

/* ---- whether it is worth waiting ---- */

void elsewhere_begin_locked(struct large *large)
{
	large->period_ms = clock_ms();
	large->period_len = 0;
}

/* Somebody waits, and in this while less came than the line would have brought, by far. */
bool elsewhere_is_slow_locked(struct large *large)
{
	uint64_t least = large->fetch->rate / SLOW_PART;
	uint64_t now_ms = clock_ms();
	bool slow;

	if (TAILQ_EMPTY(&large->waiters)) {
		elsewhere_begin_locked(large);
		return false;
	}
	if (now_ms < large->period_ms + PERIOD_MS)
		return false;
	least = least < SLOW_MIN_RATE ? SLOW_MIN_RATE :
		least > SLOW_MAX_RATE ? SLOW_MAX_RATE :
					least;
	slow = large->period_len < least * PERIOD_MS / 1000;
	elsewhere_begin_locked(large);
	return slow;
}

/* ---- runs ---- */

bool elsewhere_was_looked_for_locked(struct large *large, uint32_t first, uint32_t end)
{
	struct large_run looked = large->looked;

	if (!large->shared || is_blind_locked(large))
		return true;
	large->looked.count = 0;
	if (first >= looked.first && end <= looked.first + looked.count)
		return true;
	large->fetch->larges.unlooked = true;
	return false;
}

/*
 * Of what was claimed: how many are missing still, from the first on. Another process may have
 * brought and given up some between the look and the claim. The look has just read what this
 * reads: so it does not wait for the disk.
 */
static uint32_t still_missing_locked(struct large *large, uint32_t first, uint32_t count)
{
	struct cache *cache = large->fetch->config.cache;
	uint32_t missing = 0;

	if (is_blind_locked(large))
		return count;
	while (missing < count && !cache_part_has(cache, &large->part, first + missing))
		missing++;
	if (missing < count)
		cache_unclaim_blocks(cache, &large->part.name, first + missing, count - missing,
				     true);
	if (!missing)
		large->fetch->larges.unlooked = true;
	return missing;
}

/* There is room for it: see choose_locked() of range.c. */
static void add_run_locked(struct large *large, uint32_t first, uint32_t count)
{
	struct large_run *run = &large->elsewhere[large->elsewhere_count];

	if (count > LOOK_BLOCKS)
		count = LOOK_BLOCKS;
	for (uint32_t i = 0; i < count; i++)
		bit_set(large->coming, first + i, true);
	for (unsigned i = 0; i < large->elsewhere_count; i++) {
		struct large_run *before = &large->elsewhere[i];

		if (before->first + before->count == first &&
		    before->count + count <= LOOK_BLOCKS) {
			before->count += count;
			return;
		}
	}
	if (!large->elsewhere_count)
		elsewhere_begin_locked(large);
	*run = (struct large_run){ .first = first, .count = count };
	large->elsewhere_count++;
	large->fetch->larges.elsewhere++;
}

uint32_t elsewhere_claim_locked(struct large *large, uint32_t first, uint32_t count)
{
	struct fetch *fetch = large->fetch;
	uint32_t others, taken;

	if (!fetch->neighbours || clock_ms() < large->alone_until_ms)
		return count;
	taken = cache_claim_blocks(fetch->config.cache, &large->part.name, first, count, &others);
	if (taken)
		return still_missing_locked(large, first, taken);
	add_run_locked(large, first, others);
	return 0;
}

static void drop_locked(struct large *large, unsigned at)
{
	struct large_run run = large->elsewhere[at];

	for (uint32_t i = 0; i < run.count; i++)
		bit_set(large->coming, run.first + i, false);
	large->elsewhere[at] = large->elsewhere[--large->elsewhere_count];
	large->fetch->larges.elsewhere--;
}

void elsewhere_drop_locked(struct large *large)
{
	while (large->elsewhere_count)
		drop_locked(large, large->elsewhere_count - 1);
}

void elsewhere_tick_locked(struct fetch *fetch)
{
	struct large *large;

	if (!fetch->larges.elsewhere)
		return;
	TAILQ_FOREACH(large, &fetch->larges.all, entry) {
		if (!large->elsewhere_count || !elsewhere_is_slow_locked(large))
			continue;
		log_debug("fetch: another process is too slow with a large file");
		large->alone_until_ms = clock_ms() + ALONE_MS;
		elsewhere_drop_locked(large);
	}
}

/* ---- what to look for ---- */

/* False: there is no room. */
static bool add_locked(struct looks *looks, struct large *large, uint32_t first, uint32_t end,
		       enum look_kind kind)
{
	struct look *look = &looks->v[looks->count];

	if (looks->count == LOOKS_MAX)
		return false;
	if (first >= end)
		return true;
	*look = (struct look){ .large = large, .first = first, .count = end - first, .kind = kind };
	if (look->count > LOOK_BLOCKS)
		look->count = LOOK_BLOCKS;
	large->users++;
	looks->count++;
	return true;
}

/* Its flight waits for what another process streams. */
static bool is_streamed_elsewhere_locked(const struct large *large)
{
	const struct flight *flight =
		large->streaming && !large->stream ? large->stream_waiter.flight : NULL;

	return flight && flight->elsewhere_ms && flight->state != FLIGHT_RIDING &&
	       large_way_locked(large) == LARGE_STREAM;
}

static uint32_t first_missing_locked(const struct large *large)
{
	uint32_t index = 0;

	while (index < large->block_count && bit_is_set(large->here, index))
		index++;
	return index;
}

static bool may_look_locked(struct large *large)
{
	large->shared = large->shared || large->fetch->neighbours;
	return large->shared && !large->distrusted && !large->whole && !is_blind_locked(large) &&
	       large->here_count < large->block_count;
}

static bool is_recent(uint64_t then_ns, uint64_t now_ns)
{
	return then_ns && now_ns - then_ns < LOOK_AGAIN_NS;
}

/* First of all: without that nothing more is asked for. */
static void add_next_locked(struct looks *looks, struct large *large, uint64_t now_ns)
{
	const struct large_run *looked = &large->looked;
	uint32_t first, end;

	if (!may_look_locked(large) || !large_next_stretch_locked(large, &first, &end) ||
	    (is_recent(large->looked_ns, now_ns) && first >= looked->first &&
	     end <= looked->first + looked->count))
		return;
	large->looked_ns = now_ns;
	/* No room for it: the look under the claim has to do. */
	if (!add_locked(looks, large, first, end, LOOK_NEXT))
		large->looked = (struct large_run){ .first = first, .count = end - first };
}

static void add_runs_locked(struct looks *looks, struct large *large, uint64_t now_ns)
{
	if (!large->elsewhere_count || is_recent(large->runs_ns, now_ns) || !may_look_locked(large))
		return;
	large->runs_ns = now_ns;
	for (unsigned i = 0; i < large->elsewhere_count; i++)
		add_locked(looks, large, large->elsewhere[i].first,
			   large->elsewhere[i].first + large->elsewhere[i].count, LOOK_RUN);
}

static void add_stream_locked(struct looks *looks, struct large *large)
{
	const struct fetch_waiter *waiter;

	if (!is_streamed_elsewhere_locked(large) || !may_look_locked(large))
		return;
	add_locked(looks, large, first_missing_locked(large), large->block_count, LOOK_STREAM);
	/* A block may be missing for good: those behind it are not to wait for that. */
	TAILQ_FOREACH(waiter, &large->waiters, entry)
		add_locked(looks, large, (uint32_t)(waiter->off / CACHE_BLOCK_LEN),
			   (uint32_t)((waiter->off + waiter->len - 1) / CACHE_BLOCK_LEN) + 1,
			   LOOK_STREAM);
}

static void gather_locked(struct fetch *fetch, struct looks *looks)
{
	uint64_t now_ns = clock_ns();
	struct large *large;

	looks->count = 0;
	if (!is_recent(fetch->larges.neighbours_ns, now_ns)) {
		fetch->larges.neighbours_ns = now_ns;
		neighbours_look_locked(fetch);
	}
	TAILQ_FOREACH(large, &fetch->larges.all, entry)
		add_next_locked(looks, large, now_ns);
	TAILQ_FOREACH(large, &fetch->larges.all, entry) {
		add_runs_locked(looks, large, now_ns);
		add_stream_locked(looks, large);
	}
}

/* ---- looking ---- */

/* A block that is here and that somebody waits for; false: none. */
static bool find_wanted_locked(const struct large *large, uint32_t *out_index)
{
	const struct fetch_waiter *waiter;

	TAILQ_FOREACH(waiter, &large->waiters, entry) {
		uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);
		uint32_t last = (uint32_t)((waiter->off + waiter->len - 1) / CACHE_BLOCK_LEN);

		for (uint32_t i = first; i <= last; i++) {
			if (waiter->blocks[i - first] || !bit_is_set(large->here, i))
				continue;
			*out_index = i;
			return true;
		}
	}
	return false;
}

static void serve_soon_locked(struct large *large)
{
	large->serve = large->fetch->larges.serve = true;
	lock_cond_signal(&large->fetch->timer_cond);
}

/* Takes note of blocks that were found; true when some are new. */
static bool note_locked(const struct look *look, uint64_t found)
{
	struct large *large = look->large;
	bool fresh = false;
	uint32_t wanted;

	if (look->kind == LOOK_NEXT)
		large->looked = (struct large_run){ .first = look->first, .count = look->count };
	for (uint32_t i = 0; i < look->count; i++) {
		uint32_t index = look->first + i;

		/* What comes of our own calls is not for us to note. */
		if (!(found >> i & 1) || bit_is_set(large->here, index) ||
		    (look->kind != LOOK_RUN && bit_is_set(large->coming, index)))
			continue;
		bit_set(large->here, index, true);
		large->here_count++;
		large->period_len += large_block_len(large, index);
		fresh = true;
	}
	if (fresh)
		large->progress_ms = clock_ms();
	if (fresh && find_wanted_locked(large, &wanted))
		serve_soon_locked(large);
	if (large->bridge && fresh) /* it was to last till ranges come: they do */
		large_stream_cancel_locked(large);
	if (is_streamed_elsewhere_locked(large) && large->here_count == large->block_count)
		large_stream_cancel_locked(large);
	large_prove_locked(large);
	return fresh;
}

/* Another process has all of it, and has made an object of it: who waits finds that. */
static void note_whole_locked(struct large *large)
{
	large->whole = true;
	elsewhere_drop_locked(large);
	large_stream_cancel_locked(large);
	serve_soon_locked(large);
}

static bool is_whole(const struct large *large)
{
	struct cache_stat stat;

	return !cache_stat(large->fetch->config.cache, &large->oid, &stat) && stat.has_content;
}

/* A run that is here, or of which nobody fetches anything any more. */
static void end_run_locked(const struct look *look, bool claimed)
{
	struct large *large = look->large;

	for (unsigned i = 0; i < large->elsewhere_count; i++) {
		const struct large_run *run = &large->elsewhere[i];
		uint32_t here = 0;

		if (run->first != look->first || run->count != look->count)
			continue;
		while (here < run->count && bit_is_set(large->here, run->first + here))
			here++;
		if (!claimed || here == run->count)
			drop_locked(large, i);
		return;
	}
}

/* True when something was found. */
static bool look_for(const struct look *look)
{
	struct large *large = look->large;
	struct fetch *fetch = large->fetch;
	struct cache *cache = fetch->config.cache;
	/* A claim ends behind what it is about: so this is asked first. */
	bool claimed = look->kind == LOOK_RUN &&
		       cache_are_blocks_claimed(cache, &large->part.name, look->first, look->count);
	uint64_t found = 0;
	bool whole, fresh = false;

	for (uint32_t i = 0; i < look->count; i++)
		found |= (uint64_t)cache_part_has(cache, &large->part, look->first + i) << i;
	whole = !found && is_whole(large);
	lock_take(&fetch->lock);
	if (whole && !large->whole && !is_blind_locked(large)) {
		note_whole_locked(large);
		fresh = true;
	} else if (!large->distrusted && !is_blind_locked(large)) {
		fresh = note_locked(look, found);
	}
	if (look->kind == LOOK_RUN)
		end_run_locked(look, claimed);
	lock_give(&fetch->lock);
	return fresh;
}

static bool round_of(struct fetch *fetch)
{
	struct looks looks;
	bool found = false;

	lock_take(&fetch->lock);
	gather_locked(fetch, &looks);
	lock_give(&fetch->lock);
	if (!looks.count)
		return false;
	for (unsigned i = 0; i < looks.count; i++)
		found = look_for(&looks.v[i]) || found;
	lock_take(&fetch->lock);
	for (unsigned i = 0; i < looks.count; i++)
		large_put_locked(looks.v[i].large);
	lock_give(&fetch->lock);
	return found;
}

void elsewhere_look(struct fetch *fetch)
{
	unsigned rounds = 0;

	if (!atomic_load_explicit(&fetch->larges.count, memory_order_relaxed))
		return;
	while (round_of(fetch) && ++rounds < ROUNDS_MAX)
		;
}

/* ---- to those who wait ---- */

/* The next one to serve, in use once more; NULL. One that is whole is served here. */
static struct large *next_locked(struct fetch *fetch, uint32_t *out_index, struct ending *ending)
{
	struct large *large;

	TAILQ_FOREACH(large, &fetch->larges.all, entry) {
		if (!large->serve)
			continue;
		if (large->whole) {
			large_fail_locked(large, ending, 0);
		} else if (find_wanted_locked(large, out_index)) {
			large->users++;
			return large;
		}
		large->serve = false;
	}
	fetch->larges.serve = false;
	return NULL;
}

static void give(struct large *large, uint32_t index)
{
	struct spans spans = SPANS_INIT;

	if (cache_part_read(large->fetch->config.cache, &large->part,
			    (uint64_t)index * CACHE_BLOCK_LEN, CACHE_BLOCK_LEN, &spans)) {
		large_found(large, index, NULL);
		return;
	}
	large_found(large, index, spans.v[0].block);
	spans_release(&spans);
}

void elsewhere_serve(struct fetch *fetch)
{
	bool served = false;
	struct large *large;

	do {
		struct ending ending = ENDING_INIT(ending);
		uint32_t index = 0;

		lock_take(&fetch->lock);
		served = served || fetch->larges.serve;
		large = fetch->larges.serve ? next_locked(fetch, &index, &ending) : NULL;
		lock_give(&fetch->lock);
		ending_run(&ending);
		if (large) {
			give(large, index);
			lock_take(&fetch->lock);
			large_put_locked(large);
			lock_give(&fetch->lock);
		}
	} while (large);
	if (served)
		fetch_pump(fetch); /* what they still lack */
}
