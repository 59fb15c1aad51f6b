/*
 * neighbours: other processes that use the same cache at the same time. What one of them is
 * fetching the others wait for: they look into the cache every few milliseconds, where it appears
 * object by object. When nothing has come from it for a while it is not waited for any more.
 *
 * A large file's stream is claimed like any object; what of it may be read meanwhile, and its
 * ranges, are elsewhere.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"
#include "fetch/want.h"

#define PATIENCE_MS 3000
#define ALONE_MS 60000

static bool is_carrier(const struct flight *flight)
{
	return flight->kind != FLIGHT_CONTENT && flight->kind != FLIGHT_SIZE;
}

static enum cache_claim claim_of(enum way way)
{
	if (way == WAY_SIZES || way == WAY_TREE_SIZES)
		return CACHE_CLAIM_SIZES;
	return way == WAY_SUBTREE || way == WAY_LISTING || way == WAY_EVERYTHING ?
		       CACHE_CLAIM_BELOW :
		       CACHE_CLAIM_OBJECT;
}

static bool is_claimed(const struct fetch *fetch, enum way way)
{
	/* What cannot be shown before it is whole comes to the cache behind the claim's end. */
	if (way == WAY_LARGE)
		return fetch->caps & REMOTE_EARLY;
	return way == WAY_EVERYTHING || way == WAY_TREES || way == WAY_SIZES ||
	       way == WAY_LISTING || way == WAY_SUBTREE || way == WAY_OBJECTS || way == WAY_LARGE ||
	       way == WAY_TREE_SIZES;
}

void neighbours_look_locked(struct fetch *fetch)
{
	fetch->neighbours = clock_ms() >= fetch->alone_until_ms &&
			    cache_has_neighbours(fetch->config.cache);
}

bool neighbours_walk(struct fetch *fetch, const struct fetch_company *company, struct oid *out)
{
	bool matters;

	if (!want_has_place(company) || !cache_has_neighbours(fetch->config.cache))
		return false;
	lock_take(&fetch->lock);
	matters = clock_ms() >= fetch->alone_until_ms;
	lock_give(&fetch->lock);
	for (unsigned up = 0; matters && !company->tree(company->arg, up, out); up++)
		if (cache_is_claimed(fetch->config.cache, out, CACHE_CLAIM_BELOW))
			return true;
	return false;
}

/* Who was waited for in vain is not waited for again, for a while. */
static bool are_late_locked(struct fetch *fetch, uint64_t since_ms, uint64_t now_ms)
{
	if (since_ms < fetch->neighbour_ms)
		since_ms = fetch->neighbour_ms;
	if (now_ms < since_ms + PATIENCE_MS)
		return false;
	log_debug("fetch: nothing came from another process for %d ms", PATIENCE_MS);
	fetch->alone_until_ms = now_ms + ALONE_MS;
	fetch->neighbours = false;
	return true;
}

/* What it covers comes to the cache one by one, and is looked for one by one. */
static void wait_elsewhere_locked(struct fetch *fetch, struct flight *flight, uint64_t now_ms)
{
	struct flight *covered;
	struct large *large;

	if (!flight->elsewhere_ms && flight->way == WAY_LARGE &&
	    (large = large_find_locked(fetch, &flight->oid)))
		elsewhere_begin_locked(large);
	if (!flight->elsewhere_ms)
		flight->elsewhere_ms = now_ms;
	if (!is_carrier(flight)) {
		flight_hold_locked(&fetch->table, flight, &fetch->elsewhere);
		return;
	}
	while ((covered = TAILQ_FIRST(&flight->covered))) {
		covered->walk = flight->oid;
		covered->elsewhere_ms = now_ms;
		flight_hold_locked(&fetch->table, covered, &fetch->elsewhere);
	}
	fetch_flight_free_locked(fetch, flight);
}

static bool claims_reserve(struct batch *batch)
{
	struct oid *claims;

	if (batch->claim_count & (batch->claim_count + 1))
		return true; /* grown when the count is one below a power of two */
	claims = realloc(batch->claims, (batch->claim_count + 1) * 2 * sizeof(*claims));
	if (!claims)
		return false;
	batch->claims = claims;
	return true;
}

/* With all that is below a tree; a tree itself, with its commit. */
static bool is_below_claimed(struct fetch *fetch, const struct flight *flight)
{
	struct cache *cache = fetch->config.cache;

	if (!oid_is_null(&flight->walk))
		return cache_is_claimed(cache, &flight->walk, CACHE_CLAIM_BELOW) ||
		       (flight->kind == FLIGHT_SIZE &&
			cache_is_claimed(cache, &flight->walk, CACHE_CLAIM_SIZES));
	return flight->kind == FLIGHT_CONTENT && flight->type != OBJECT_BLOB &&
	       !oid_is_null(&fetch->commit) &&
	       cache_is_claimed(cache, &fetch->commit, CACHE_CLAIM_BELOW);
}

/*
 * There may be thousands of sizes, and the walks of two processes come by them in the same order: so
 * the first one stands for all that are asked for with it.
 */
static bool is_free_locked(struct fetch *fetch, struct batch *batch, const struct flight *flight)
{
	struct cache *cache = fetch->config.cache;

	if (batch->way != WAY_SIZES)
		return !is_below_claimed(fetch, flight) &&
		       cache_claim(cache, &flight->oid, claim_of(batch->way));
	if (batch->want_count == 0 && !batch->elsewhere)
		batch->elsewhere = !cache_claim(cache, &flight->oid, CACHE_CLAIM_SIZES);
	return !batch->elsewhere;
}

/*
 * A stream that was another process's: when its claim has ended all that it brought is in the
 * cache, and is to be looked for once more before it is begun anew.
 */
static bool is_looked_for_locked(struct fetch *fetch, const struct batch *batch,
				 struct flight *flight)
{
	if (batch->way != WAY_LARGE || !flight->elsewhere_ms || flight->seen_free)
		return true;
	flight->seen_free =
		!cache_is_claimed(fetch->config.cache, &flight->oid, CACHE_CLAIM_OBJECT);
	return false;
}

static bool is_late_locked(struct fetch *fetch, const struct flight *flight, uint64_t now_ms)
{
	struct large *large = flight->way == WAY_LARGE ? large_find_locked(fetch, &flight->oid) :
							 NULL;

	return large ? elsewhere_is_slow_locked(large) :
		       are_late_locked(fetch, flight->elsewhere_ms, now_ms);
}

bool neighbours_claim_locked(struct fetch *fetch, struct batch *batch, struct flight *flight,
			     uint64_t now_ms)
{
	bool looked;

	if (!fetch->neighbours || !is_claimed(fetch, batch->way) || !claims_reserve(batch))
		return true;
	looked = is_looked_for_locked(fetch, batch, flight);
	if (!looked || !is_free_locked(fetch, batch, flight)) {
		flight->seen_free = flight->seen_free && !looked;
		if (flight->elsewhere_ms && is_late_locked(fetch, flight, now_ms))
			return true;
		wait_elsewhere_locked(fetch, flight, now_ms);
		return false;
	}
	if (batch->way != WAY_SIZES || batch->claim_count == 0)
		batch->claims[batch->claim_count++] = flight->oid;
	return true;
}

void neighbours_brought(struct fetch *fetch, enum flight_kind kind)
{
	lock_take(&fetch->lock);
	fetch->neighbour_ms = clock_ms();
	fetch->counters.from_neighbours += kind == FLIGHT_CONTENT;
	lock_give(&fetch->lock);
}

void neighbours_tick_locked(struct fetch *fetch)
{
	struct flight *flight;

	while ((flight = TAILQ_FIRST(&fetch->elsewhere)))
		flight_hold_locked(&fetch->table, flight, &fetch->recheck);
}

void neighbours_unclaim(struct fetch *fetch, const struct batch *batch)
{
	for (size_t i = 0; i < batch->claim_count; i++)
		cache_unclaim(fetch->config.cache, &batch->claims[i], claim_of(batch->way));
}
