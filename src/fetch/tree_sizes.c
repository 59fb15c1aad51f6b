/*
 * tree_sizes: sizes from the API of a host, which tells those of all files below a tree in one
 * answer. Such answers are few (60 an hour, perhaps): so the whole tree that is shown is asked about
 * at once, and where the server can tell sizes by id, it is asked instead.
 *
 *	want_size.c ---> the flight of a tree, which covers those of its files' sizes
 *		---> told: they end;   not told: the rest goes git's way
 *
 * A tree that is too large for one answer is remembered. What is wanted next is asked for with the
 * largest tree around it that is not, or, in the end, with its own directory alone.
 *
 * Nobody depends on it: whatever goes wrong, git's own way is open.
 */
#include <inttypes.h>

#include "base/clock.h"
#include "fetch/want.h"

/* After a failure that may pass, and twice as long after each one more. */
#define REST_MIN_MS 60000
#define REST_DOUBLINGS 6

bool tree_sizes_can_locked(const struct fetch *fetch)
{
	return (fetch->caps & REMOTE_TREE_SIZES) && clock_ms() >= fetch->tree_sizes_from_ms;
}

enum fetch_api tree_sizes_state_locked(const struct fetch *fetch, uint64_t *out_rests_ms)
{
	uint64_t now_ms = clock_ms();

	*out_rests_ms = 0;
	if (!(fetch->caps & REMOTE_TREE_SIZES))
		return FETCH_API_NONE;
	if (fetch->tree_sizes_from_ms == UINT64_MAX)
		return FETCH_API_REFUSED;
	if (now_ms >= fetch->tree_sizes_from_ms)
		return FETCH_API_ASKED;
	*out_rests_ms = fetch->tree_sizes_from_ms - now_ms;
	return FETCH_API_RESTS;
}

static struct cut_tree *cut_find_locked(struct fetch *fetch, const struct oid *tree)
{
	for (unsigned i = 0; i < CUT_COUNT; i++)
		if (oid_equal(&fetch->cut_trees[i].oid, tree))
			return &fetch->cut_trees[i];
	return NULL;
}

bool tree_sizes_is_cut_locked(struct fetch *fetch, const struct oid *tree)
{
	return cut_find_locked(fetch, tree);
}

/* The tree to ask about for the sake of one file; false: none would tell. */
static bool choose_locked(struct fetch *fetch, const struct fetch_company *company, struct oid *out)
{
	const struct cut_tree *cut = NULL;
	struct oid tree;
	bool found = false;

	for (unsigned up = 0; !company->tree(company->arg, up, &tree); up++) {
		const struct cut_tree *this = cut_find_locked(fetch, &tree);

		if (up == 0)
			cut = this;
		if (this && up > 0)
			break; /* what is above is larger still */
		if (this && cut->direct)
			continue;
		*out = tree;
		found = true;
	}
	return found;
}

struct flight *tree_sizes_carrier_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *flight;
	struct oid tree;

	if (!want_has_place(want->company) || !tree_sizes_can_locked(fetch) ||
	    !choose_locked(fetch, want->company, &tree))
		return NULL;
	flight = flight_find_locked(&fetch->table, &tree, FLIGHT_TREE_SIZES);
	if (flight)
		return flight;
	flight = flight_new_locked(&fetch->table, &tree, FLIGHT_TREE_SIZES, OBJECT_TREE,
				   SIZE_UNKNOWN);
	if (flight)
		flight_queue_locked(&fetch->table, flight, LANE_META, WAY_TREE_SIZES);
	return flight;
}

static void cut_put_locked(struct fetch *fetch, const struct oid *tree, bool direct)
{
	struct cut_tree *cut = cut_find_locked(fetch, tree);

	if (!cut)
		cut = &fetch->cut_trees[fetch->cut_next++ % CUT_COUNT];
	*cut = (struct cut_tree){ .oid = *tree, .direct = direct };
}

void tree_sizes_answered(struct fetch *fetch, const struct batch *batch)
{
	lock_take(&fetch->lock);
	if (batch->outcome.verdict == REMOTE_OK && batch->outcome.cut)
		cut_put_locked(fetch, &batch->first, batch->direct);
	lock_give(&fetch->lock);
}

static uint64_t rest_locked(struct fetch *fetch, uint64_t asked_ms)
{
	uint64_t rest_ms = (uint64_t)REST_MIN_MS << fetch->tree_sizes_failures;

	if (fetch->tree_sizes_failures < REST_DOUBLINGS)
		fetch->tree_sizes_failures++;
	return asked_ms > rest_ms ? asked_ms : rest_ms;
}

void tree_sizes_settle(struct fetch *fetch, struct batch *batch)
{
	const struct remote_outcome *outcome = &batch->outcome;
	uint64_t rest_ms = 0;
	struct flight *flight;
	bool closing;

	lock_take(&fetch->lock);
	closing = fetch->closing;
	switch (outcome->verdict) {
	case REMOTE_OK:
		fetch->tree_sizes_failures = 0;
		break;
	case REMOTE_CANCELED:
		if (!batch->stalled)
			break;
		/* fall through */
	case REMOTE_TRANSIENT:
		rest_ms = rest_locked(fetch, outcome->retry_after_ms);
		fetch->tree_sizes_from_ms = clock_ms() + rest_ms;
		break;
	default:
		fetch->tree_sizes_from_ms = UINT64_MAX;
		break;
	}
	/* What was not told is looked for in the cache, then goes another way. */
	while ((flight = TAILQ_FIRST(&batch->flights)))
		fetch_dissolve_locked(fetch, flight, false);
	TAILQ_REMOVE(&fetch->batches, batch, entry);
	fetch->running[batch->way]--;
	if (TAILQ_EMPTY(&fetch->batches))
		lock_cond_broadcast(&fetch->idle_cond);
	lock_give(&fetch->lock);

	if (rest_ms && !closing)
		fetch_complain(fetch, COMPLAIN_API,
			       "the host's API does not tell sizes just now: %s; for %" PRIu64
			       " s they are found by git alone",
			       batch->stalled ? "nothing came for too long" :
						outcome->error.message,
			       (rest_ms + 999) / 1000);
	else if (outcome->verdict != REMOTE_OK && outcome->verdict != REMOTE_CANCELED && !closing)
		fetch_complain(
			fetch, COMPLAIN_API,
			"the host's API does not tell sizes: %s; they are found by git alone",
			outcome->error.message);
	fetch_recheck(fetch);
	neighbours_unclaim(fetch, batch);
	batch_free(batch);
	fetch_pump(fetch);
}
