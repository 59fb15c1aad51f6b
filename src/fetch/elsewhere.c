/*
 * elsewhere: blocks of large files that other processes on the cache fetch. What is about to be
 * asked for is claimed, a run of blocks at a time; what another process has claimed is not asked
 * for but looked for, every few milliseconds, as is what it may have brought already: the blocks
 * that come next, and those that somebody waits for.
 *
 *	elsewhere_claim_locked ---> some: this process asks for them
 *	                       \-> none: a run of large->elsewhere ---> elsewhere_look ... ---> here;
 *	or claimed no more, or nothing has come for too long: they are asked for like any others
 *
 * A stream is claimed with its flight (neighbours.c): while that waits, its blocks are looked for
 * from the first one that is missing.
 */
#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define LOOKS_MAX 256
#define LOOK_BLOCKS 64
#define ROUNDS_MAX 1024

enum look_kind {
	LOOK_RUN,    /* one of large->elsewhere */
	LOOK_WAITED, /* somebody waits for them */
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

/* ---- runs ---- */

bool elsewhere_was_looked_for_locked(struct large *large, uint32_t first, uint32_t end)
{
	struct large_run looked = large->looked;

	if (!large->shared)
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
	*run = (struct large_run){ .first = first, .count = count, .since_ms = clock_ms() };
	large->elsewhere_count++;
	large->fetch->larges.elsewhere++;
}

uint32_t elsewhere_claim_locked(struct large *large, uint32_t first, uint32_t count)
{
	struct fetch *fetch = large->fetch;
	uint32_t others, taken;

	if (!fetch->neighbours)
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

void elsewhere_tick_locked(struct fetch *fetch, uint64_t now_ms)
{
	struct large *large;
	bool late = false;

	if (!fetch->larges.elsewhere)
		return;
	TAILQ_FOREACH(large, &fetch->larges.all, entry) {
		for (unsigned i = 0; i < large->elsewhere_count && !late; i++)
			late = neighbours_are_late_locked(fetch, large->elsewhere[i].since_ms,
							  now_ms);
	}
	if (!late)
		return;
	TAILQ_FOREACH(large, &fetch->larges.all, entry)
		elsewhere_drop_locked(large);
}

/* ---- what to look for ---- */

static void add_locked(struct looks *looks, struct large *large, uint32_t first, uint32_t end,
		       enum look_kind kind)
{
	struct look *look = &looks->v[looks->count];

	if (looks->count == LOOKS_MAX || first >= end)
		return;
	*look = (struct look){ .large = large, .first = first, .count = end - first, .kind = kind };
	if (look->count > LOOK_BLOCKS)
		look->count = LOOK_BLOCKS;
	large->users++;
	looks->count++;
}

/* Its flight waits for what another process streams. */
static bool is_streamed_elsewhere_locked(const struct large *large)
{
	const struct flight *flight =
		large->streaming && !large->stream ? large->stream_waiter.flight : NULL;

	return flight && flight->elsewhere_ms && flight->state != FLIGHT_RIDING;
}

static uint32_t first_missing_locked(const struct large *large)
{
	uint32_t index = 0;

	while (index < large->block_count && bit_is_set(large->here, index))
		index++;
	return index;
}

static void add_large_locked(struct looks *looks, struct large *large)
{
	const struct fetch_waiter *waiter;
	uint32_t first, end;

	large->shared = large->shared || large->fetch->neighbours;
	if (!large->shared || large->distrusted || large->whole ||
	    large->here_count == large->block_count)
		return;
	for (unsigned i = 0; i < large->elsewhere_count; i++)
		add_locked(looks, large, large->elsewhere[i].first,
			   large->elsewhere[i].first + large->elsewhere[i].count, LOOK_RUN);
	TAILQ_FOREACH(waiter, &large->waiters, entry) {
		first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);
		end = (uint32_t)((waiter->off + waiter->len - 1) / CACHE_BLOCK_LEN) + 1;
		add_locked(looks, large, first, end, LOOK_WAITED);
	}
	if (is_streamed_elsewhere_locked(large))
		add_locked(looks, large, first_missing_locked(large), large->block_count,
			   LOOK_WAITED);
	else if (large_next_stretch_locked(large, &first, &end))
		add_locked(looks, large, first, end, LOOK_NEXT);
}

/* ---- looking ---- */

static bool is_wanted_locked(const struct large *large, uint32_t index)
{
	const struct fetch_waiter *waiter;

	TAILQ_FOREACH(waiter, &large->waiters, entry) {
		uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);
		uint32_t last = (uint32_t)((waiter->off + waiter->len - 1) / CACHE_BLOCK_LEN);

		if (index >= first && index <= last && !waiter->blocks[index - first])
			return true;
	}
	return false;
}

/* Of the blocks that were found: the new ones. *out_wanted: those that somebody waits for. */
static uint64_t note_locked(struct look *look, uint64_t found, uint64_t *out_wanted)
{
	struct large *large = look->large;
	uint64_t fresh = 0;

	*out_wanted = 0;
	if (look->kind == LOOK_NEXT)
		large->looked = (struct large_run){ .first = look->first, .count = look->count };
	for (uint32_t i = 0; i < look->count; i++) {
		uint32_t index = look->first + i;

		if (!(found >> i & 1))
			continue;
		if (is_wanted_locked(large, index))
			*out_wanted |= UINT64_C(1) << i;
		if (bit_is_set(large->here, index))
			continue;
		bit_set(large->here, index, true);
		large->here_count++;
		fresh |= UINT64_C(1) << i;
	}
	if (fresh)
		large->progress_ms = large->fetch->progress_ms = large->fetch->neighbour_ms =
			clock_ms();
	if (large->bridge && fresh) /* it was to last till ranges come: they do */
		large_stream_cancel_locked(large);
	if (is_streamed_elsewhere_locked(large) && large->here_count == large->block_count)
		large_stream_cancel_locked(large);
	large_prove_locked(large);
	return fresh;
}

static void give(struct large *large, uint32_t index)
{
	struct spans spans = SPANS_INIT;

	if (cache_part_read(large->fetch->config.cache, &large->part,
			    (uint64_t)index * CACHE_BLOCK_LEN, CACHE_BLOCK_LEN, &spans)) {
		large_found(large, index, NULL); /* it is gone again */
		return;
	}
	large_found(large, index, spans.v[0].block);
	spans_release(&spans);
}

/* Another process has all of it, and has made an object of it: who waits finds that. */
static bool is_whole(struct large *large)
{
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);
	struct cache_stat stat;

	if (cache_stat(fetch->config.cache, &large->oid, &stat) || !stat.has_content)
		return false;
	lock_take(&fetch->lock);
	large->whole = true;
	fetch->neighbour_ms = clock_ms();
	elsewhere_drop_locked(large);
	large_stream_cancel_locked(large);
	large_fail_locked(large, &ending, 0);
	lock_give(&fetch->lock);
	ending_run(&ending);
	return true;
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
static bool look_for(struct look *look)
{
	struct large *large = look->large;
	struct fetch *fetch = large->fetch;
	struct cache *cache = fetch->config.cache;
	uint64_t found = 0, wanted = 0, fresh;
	/* A claim ends behind what it is about: so this is asked first. */
	bool claimed = look->kind == LOOK_RUN &&
		       cache_are_blocks_claimed(cache, &large->part.name, look->first, look->count);

	for (uint32_t i = 0; i < look->count; i++)
		found |= (uint64_t)cache_part_has(cache, &large->part, look->first + i) << i;
	if (!found && is_whole(large))
		return true;
	lock_take(&fetch->lock);
	fresh = large->distrusted ? 0 : note_locked(look, found, &wanted);
	if (look->kind == LOOK_RUN)
		end_run_locked(look, claimed);
	lock_give(&fetch->lock);
	for (uint32_t i = 0; wanted && i < look->count; i++)
		if (wanted >> i & 1)
			give(large, look->first + i);
	return fresh;
}

static bool round_of(struct fetch *fetch)
{
	struct looks looks;
	struct large *large;
	bool found = false;

	looks.count = 0;
	lock_take(&fetch->lock);
	neighbours_look_locked(fetch);
	TAILQ_FOREACH(large, &fetch->larges.all, entry)
		add_large_locked(&looks, large);
	lock_give(&fetch->lock);
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
