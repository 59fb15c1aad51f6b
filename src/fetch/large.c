/*
 * large: the table of large files that are being read, who waits for which of their blocks, and
 * what happens when one comes. Where the blocks come from is range.c's and stream.c's business.
 */
#include "fetch/large.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

/* ---- life ---- */

void larges_init(struct fetch *fetch)
{
	struct larges *larges = &fetch->larges;

	TAILQ_INIT(&larges->all);
	TAILQ_INIT(&larges->proofs);
	budget_init(&larges->budget, fetch->config.large_memory_len);
	retry_init(&larges->retry, fetch->config.patience_ms, clock_ns());
}

static void large_free(struct large *large)
{
	hasher_release(&large->hasher);
	free(large->here);
	free(large->coming);
	free(large->path);
	free(large);
}

static void remove_locked(struct larges *larges, struct large *large)
{
	assert(!large->users && !large->streaming && TAILQ_EMPTY(&large->waiters));
	elsewhere_drop_locked(large);
	if (large->proving)
		TAILQ_REMOVE(&larges->proofs, large, proof);
	TAILQ_REMOVE(&larges->all, large, entry);
	larges->count--;
	large_free(large);
}

void larges_release(struct fetch *fetch)
{
	struct large *large;

	lock_take(&fetch->lock);
	/* The analyzer takes the next one for the one that has just left the list. */
	while ((large = TAILQ_FIRST(&fetch->larges.all)))
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		remove_locked(&fetch->larges, large);
	lock_give(&fetch->lock);
}

struct large *large_find_locked(struct fetch *fetch, const struct oid *oid)
{
	struct large_list *all = &fetch->larges.all;
	struct large *large;

	TAILQ_FOREACH(large, all, entry) {
		if (!oid_equal(&large->oid, oid))
			continue;
		TAILQ_REMOVE(all, large, entry);
		TAILQ_INSERT_HEAD(all, large, entry);
		return large;
	}
	return NULL;
}

/*
 * The name in the cache of what this repository says of a blob. No object has it: objects' ids are
 * hashes of bytes that begin with a type.
 */
static int part_name(struct fetch *fetch, const struct oid *oid, struct oid *out)
{
	static const char words[] = "xcpfs part";
	struct hasher hasher = { 0 };
	int status = hasher_init(&hasher, OID_SHA256);

	if (!status)
		status = hasher_update(&hasher, words, sizeof(words));
	if (!status)
		status = hasher_update(&hasher, fetch->config.identity,
				       strlen(fetch->config.identity) + 1);
	if (!status)
		status = hasher_update(&hasher, oid, sizeof(*oid));
	if (!status)
		status = hasher_final(&hasher, out);
	hasher_release(&hasher);
	return status;
}

static int count_bits(const uint8_t *bits, uint32_t count)
{
	int set = 0;

	for (uint32_t i = 0; i < count; i++)
		set += bit_is_set(bits, i);
	return set;
}

/* Its own memory, and what earlier times left in the cache. */
static int prepare(struct fetch *fetch, const struct fetch_part *part, struct large *large)
{
	size_t map_len = large->block_count / 8 + 1;
	int status = part_name(fetch, &part->oid, &large->part.name);

	if (status)
		return status;
	large->here = calloc(1, map_len);
	large->coming = calloc(1, map_len);
	if (!large->here || !large->coming)
		return -ENOMEM;
	if (!cache_part_map(fetch->config.cache, &large->part, large->here))
		large->here_count = (uint32_t)count_bits(large->here, large->block_count);
	else
		memset(large->here, 0, map_len);
	return 0;
}

static struct large *large_new(struct fetch *fetch, const struct fetch_part *part)
{
	struct large *large = calloc(1, sizeof(*large));

	if (!large)
		return NULL;
	large->fetch = fetch;
	large->oid = part->oid;
	large->part.type = OBJECT_BLOB;
	large->part.size = part->size;
	large->block_count = (uint32_t)((part->size + CACHE_BLOCK_LEN - 1) / CACHE_BLOCK_LEN);
	large->used_ms = large->progress_ms = clock_ms();
	TAILQ_INIT(&large->waiters);
	windows_init(&large->windows, WINDOW_MAX_LEN);
	return large;
}

struct large *large_use(struct fetch *fetch, const struct oid *oid)
{
	struct large *large;

	lock_take(&fetch->lock);
	large = large_find_locked(fetch, oid);
	if (large)
		large->users++;
	lock_give(&fetch->lock);
	return large;
}

int large_open(struct fetch *fetch, const struct fetch_part *part, struct large **out)
{
	struct large *large, *other;
	int status;

	*out = large_use(fetch, &part->oid);
	if (*out)
		return 0;

	if (!part->size || part->size / CACHE_BLOCK_LEN >= LARGE_BLOCKS_MAX)
		return -EFBIG;
	large = large_new(fetch, part);
	if (!large)
		return -ENOMEM;
	status = prepare(fetch, part, large);
	if (status) {
		large_free(large);
		return status;
	}
	lock_take(&fetch->lock);
	other = large_find_locked(fetch, &part->oid); /* somebody was quicker */
	if (!other) {
		TAILQ_INSERT_HEAD(&fetch->larges.all, large, entry);
		fetch->larges.count++;
	}
	*out = other ? other : large;
	(*out)->users++;
	lock_give(&fetch->lock);
	if (other)
		large_free(large);
	return 0;
}

/* Where it is, when that may be of use; NULL. The caller frees. */
static char *find_place(const struct large *large, const struct fetch_part *part,
			struct oid *out_commit)
{
	struct buf path = BUF_INIT;
	char *text = NULL;
	size_t len;

	if (part->place && (large->fetch->caps & REMOTE_RANGE) &&
	    !part->place(part->arg, out_commit, &path) && buf_str(&path))
		text = (char *)buf_detach(&path, &len);
	buf_release(&path);
	return text;
}

void large_place(struct large *large, const struct fetch_part *part)
{
	struct fetch *fetch = large->fetch;
	struct oid commit = { 0 };
	bool placed;
	char *path;

	lock_take(&fetch->lock);
	placed = large->placed;
	lock_give(&fetch->lock);
	if (placed)
		return;
	path = find_place(large, part, &commit);
	lock_take(&fetch->lock);
	if (!large->placed) {
		large->placed = true;
		large->commit = commit;
		large->path = path;
		path = NULL;
	}
	lock_give(&fetch->lock);
	free(path);
}

void large_put_locked(struct large *large)
{
	assert(large->users);
	large->users--;
}

/* Also while nobody has said where it is: who reads will. */
static bool has_ranges_locked(const struct large *large)
{
	const struct fetch *fetch = large->fetch;

	return (fetch->caps & REMOTE_RANGE) && !fetch->larges.refused && !large->no_range &&
	       (large->path || !large->placed);
}

enum large_way large_way_locked(const struct large *large)
{
	struct fetch *fetch = large->fetch;
	const struct flight *flight;

	if (large->distrusted)
		return LARGE_WHOLE;
	flight = flight_find_locked(&fetch->table, &large->oid, FLIGHT_CONTENT);
	if (flight && flight->state == FLIGHT_ARRIVED)
		return LARGE_WHOLE;
	if (has_ranges_locked(large))
		return LARGE_RANGE;
	if ((fetch->caps & REMOTE_EARLY) && (fetch->caps & REMOTE_OBJECTS) && !large->no_stream)
		return LARGE_STREAM;
	return LARGE_WHOLE;
}

/* ---- waits ---- */

static void unpark_locked(struct fetch_waiter *waiter, int state)
{
	struct large *large = waiter->large;

	assert(waiter->state == FETCH_WAITER_PARKED);
	TAILQ_REMOVE(&large->waiters, waiter, entry);
	large->fetch->table.waiter_count--;
	waiter->large = NULL;
	waiter->state = state;
}

void large_leave_locked(struct fetch_waiter *waiter, int state)
{
	unpark_locked(waiter, state);
}

static void end_locked(struct fetch_waiter *waiter, struct ending *ending, int status)
{
	waiter->status = status;
	waiter->content = NULL;
	/* The analyzer takes the next waiter for the one that has just left. */
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	waiter->size = waiter->large->part.size;
	unpark_locked(waiter, FETCH_WAITER_DONE);
	TAILQ_INSERT_TAIL(&ending->waiters, waiter, entry);
}

void large_fail_locked(struct large *large, struct ending *ending, int status)
{
	struct fetch_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&large->waiters)))
		end_locked(waiter, ending, status);
}

void larges_fail_locked(struct fetch *fetch, struct ending *ending, int status)
{
	struct large *large;

	TAILQ_FOREACH(large, &fetch->larges.all, entry)
		large_fail_locked(large, ending, status);
}

/* ---- blocks ---- */

size_t large_block_len(const struct large *large, uint32_t index)
{
	uint64_t rest = large->part.size - (uint64_t)index * CACHE_BLOCK_LEN;

	return rest < CACHE_BLOCK_LEN ? (size_t)rest : CACHE_BLOCK_LEN;
}

static bool is_complete(const struct fetch_waiter *waiter)
{
	uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);
	uint32_t last = (uint32_t)((waiter->off + waiter->len - 1) / CACHE_BLOCK_LEN);

	for (uint32_t i = first; i <= last; i++) {
		if (!waiter->blocks[i - first])
			return false;
	}
	return true;
}

/* It waits for this block, and the first `len` bytes of that will do. */
static bool is_for(const struct fetch_waiter *waiter, uint32_t index, size_t len)
{
	uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);
	uint64_t start = (uint64_t)index * CACHE_BLOCK_LEN, end = waiter->off + waiter->len;

	if (index < first || start >= end || waiter->blocks[index - first])
		return false;
	return (end - start < CACHE_BLOCK_LEN ? end - start : CACHE_BLOCK_LEN) <= len;
}

static void give_locked(struct large *large, uint32_t index, struct block *block,
			struct ending *ending)
{
	struct fetch_waiter *next, *waiter = TAILQ_FIRST(&large->waiters);

	for (; waiter; waiter = next) {
		uint32_t first = (uint32_t)(waiter->off / CACHE_BLOCK_LEN);

		next = TAILQ_NEXT(waiter, entry);
		if (!is_for(waiter, index, block->len))
			continue;
		waiter->blocks[index - first] = block_ref(block);
		large->served = true;
		if (is_complete(waiter))
			end_locked(waiter, ending, 0);
	}
}

void large_show(struct large *large, uint32_t index, const uint8_t *data, size_t len)
{
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);
	const struct fetch_waiter *waiter;
	struct block *block;
	bool wanted = false;

	lock_take(&fetch->lock);
	TAILQ_FOREACH(waiter, &large->waiters, entry)
		wanted = wanted || is_for(waiter, index, len);
	wanted = wanted && !large->distrusted;
	lock_give(&fetch->lock);
	block = wanted ? block_copy(data, len) : NULL;
	if (!block)
		return;
	lock_take(&fetch->lock);
	if (!large->distrusted)
		give_locked(large, index, block, &ending);
	lock_give(&fetch->lock);
	ending_run(&ending);
	block_unref(block);
}

/* The first half: those who wait. True when the cache should have it. */
static bool arrive(struct large *large, uint32_t index, struct block *block)
{
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);
	bool wanted;

	lock_take(&fetch->lock);
	wanted = !large->distrusted && !bit_is_set(large->here, index);
	if (!large->distrusted) {
		/* who comes from now on waits for the second half */
		bit_set(large->coming, index, true);
		give_locked(large, index, block, &ending);
	}
	if (wanted)
		large->tries = 0;
	large->progress_ms = fetch->progress_ms = clock_ms();
	lock_give(&fetch->lock);
	ending_run(&ending);
	return wanted;
}

/* There is no room: less is asked for. */
static void shrink_locked(struct large *large)
{
	for (unsigned i = 0; i < WINDOW_COUNT; i++)
		window_shrink(&large->windows.v[i]);
}

/* The second half: it is in the cache, or was dropped. */
static void settle(struct large *large, uint32_t index, struct block *block, bool wanted,
		   bool stored)
{
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);

	lock_take(&fetch->lock);
	bit_set(large->coming, index, false);
	if (!large->distrusted) {
		give_locked(large, index, block, &ending);
		if (stored && !bit_is_set(large->here, index)) {
			bit_set(large->here, index, true);
			large->here_count++;
		}
	}
	if (wanted && !stored)
		shrink_locked(large);
	large_prove_locked(large);
	lock_give(&fetch->lock);
	ending_run(&ending);
}

void large_lose_locked(struct large *large, uint32_t index)
{
	bit_set(large->here, index, false);
	large->here_count--;
	large->proof_stale = true;
}

void large_found(struct large *large, uint32_t index, struct block *block)
{
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);

	lock_take(&fetch->lock);
	if (block && !large->distrusted)
		give_locked(large, index, block, &ending);
	else if (!block && bit_is_set(large->here, index))
		large_lose_locked(large, index);
	if (!block)
		elsewhere_blind_locked(large);
	lock_give(&fetch->lock);
	ending_run(&ending);
}

bool large_arrived(struct large *large, uint32_t index, struct block *block)
{
	bool wanted = arrive(large, index, block);
	bool stored = wanted && fetch_store_part(large->fetch, &large->part, index, block);

	settle(large, index, block, wanted, stored);
	return wanted;
}

/* ---- the clock ---- */

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void expire_locked(struct large *large, uint64_t now_ms, struct ending *ending,
			  unsigned *out_expired)
{
	struct fetch *fetch = large->fetch;
	bool under_way = large->ranges || large->stream;
	uint64_t progress_ms = under_way ? large->progress_ms :
					   later(large->progress_ms, fetch->progress_ms);
	struct fetch_waiter *next, *waiter = TAILQ_FIRST(&large->waiters);

	for (; waiter; waiter = next) {
		next = TAILQ_NEXT(waiter, entry);
		if (now_ms < later(waiter->since_ms, progress_ms) + fetch->config.patience_ms)
			continue;
		end_locked(waiter, ending, -ETIMEDOUT);
		fetch->counters.timeouts++;
		++*out_expired;
	}
}

static void cancel_ranges_locked(struct large *large)
{
	struct batch *batch;

	TAILQ_FOREACH(batch, &large->fetch->batches, entry) {
		if (batch->way != WAY_RANGE || batch->large != large)
			continue;
		batch_abandon_locked(batch);
		fetch_work_schedule_locked(large->fetch, batch); /* it may wait for readers */
	}
}

/*
 * A stream that has stopped for its readers: as long as it would take to come here again, more or
 * less; not long when others wait for its place.
 */
static bool is_in_vain_locked(const struct large *large, uint64_t idle_ms)
{
	uint64_t len = (uint64_t)large->stream_next * CACHE_BLOCK_LEN;
	uint64_t limit_ms = LARGE_IDLE_MS * len / LARGE_IDLE_LEN;

	if (!large->stream || !large_stream_held_locked(large->stream))
		return false;
	if (fetch_queued_locked(large->fetch, WAY_LARGE) && limit_ms > LARGE_YIELD_MS)
		limit_ms = LARGE_YIELD_MS;
	return idle_ms >= later(limit_ms, LARGE_IDLE_MIN_MS);
}

static void tick_one_locked(struct large *large, uint64_t now_ms, struct ending *ending,
			    unsigned *out_expired)
{
	uint64_t idle_ms = now_ms > large->used_ms ? now_ms - large->used_ms : 0;
	uint64_t kept_ms = large->fetch->larges.count > LARGE_KEPT_MAX ? 0 : LARGE_KEPT_MS;

	expire_locked(large, now_ms, ending, out_expired);
	large_prove_locked(large);
	/* A stream that waits for its readers is not late. */
	if (large->stream && large_stream_held_locked(large->stream))
		large->stream->progress_ms = now_ms;
	if (!TAILQ_EMPTY(&large->waiters))
		return;
	if (idle_ms >= LARGE_IDLE_MS || is_in_vain_locked(large, idle_ms)) {
		cancel_ranges_locked(large);
		large_stream_cancel_locked(large);
	}
	/* Who was wrong once is remembered. */
	if (idle_ms >= LARGE_IDLE_MS + kept_ms && !large->users && !large->streaming &&
	    !large->distrusted)
		remove_locked(&large->fetch->larges, large);
}

void larges_tick_locked(struct fetch *fetch, uint64_t now_ms, struct ending *ending,
			unsigned *out_expired)
{
	struct large *next, *large = TAILQ_FIRST(&fetch->larges.all);

	for (; large; large = next) {
		next = TAILQ_NEXT(large, entry);
		tick_one_locked(large, now_ms, ending, out_expired);
	}
}
