/*
 * want_walk: misses that are steps of a walk (crawl.h) go under one carrier that brings all that is
 * below a directory: as much as the line brings soon, and not where most of it is here already.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/want.h"

/*
 * What the line brings in a few seconds is soon brought, and let go of when it was wrong; a larger
 * subtree when a part of it has been read.
 */
#define WALK_SECONDS 5
#define WALK_FILE_LEN 4096 /* of the average file, on the wire */
#define WALK_FILES_MIN 2048
#define WALK_FILES_MAX 65536
#define WALK_FILES 8192 /* while the line is not known */
#define WALK_FILES_PER_USED 32

#define LONES_MIN 3
#define LONES_FOR_MS 10000
#define LONE_FILES 64 /* what may come along with a miss */

bool want_has_place(const struct fetch_company *company)
{
	return company && company->tree;
}

/* What is under way and will bring all that is below some directory above this one. */
struct flight *want_walk_above_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *flight = NULL;
	struct oid tree;

	if (!want_has_place(want->company) ||
	    (!fetch->running[WAY_SUBTREE] && !fetch_queued_locked(fetch, WAY_SUBTREE)))
		return NULL;
	for (unsigned up = 0; !flight && !want->company->tree(want->company->arg, up, &tree); up++)
		flight = flight_find_locked(&fetch->table, &tree, FLIGHT_SUBTREE);
	if (flight)
		fetch->walk_ms = clock_ms();
	return flight;
}

bool want_place(const struct want *want, struct crawl_place *out)
{
	struct oid tree;

	out->count = 0;
	if (!want_has_place(want->company))
		return false;
	out->listed = want->company->listed || want->goes_on;
	for (unsigned up = 0; !want->company->tree(want->company->arg, up, &tree); up++) {
		if (!crawl_place_add(out, &tree))
			return false;
	}
	return out->count > 0;
}

/* The largest tree on the way up to `up` that does not hold too much yet. -1: none does. */
static int walk_that_fits(const struct want *want, int up, size_t max)
{
	const struct fetch_company *company = want->company;
	size_t count, missing;

	for (; up >= 0; up--) {
		count = company->count(company->arg, (unsigned)up, max + 1, &missing);
		if (count > max)
			continue;
		/* Most is here: what is not is cheaper asked for by id. */
		return missing * 2 < count ? -1 : up;
	}
	return -1;
}

static size_t walk_files_max_locked(const struct fetch *fetch)
{
	uint64_t used = atomic_load_explicit(&fetch->ahead.total_used, memory_order_relaxed);
	uint64_t files = fetch->rate ? fetch->rate * WALK_SECONDS / WALK_FILE_LEN : WALK_FILES;

	if (files < WALK_FILES_MIN)
		files = WALK_FILES_MIN;
	if (files > WALK_FILES_MAX)
		files = WALK_FILES_MAX;
	return (size_t)(files + WALK_FILES_PER_USED * used);
}

static void walk_release(struct walk *walk)
{
	if (walk->parts)
		fetch_list_release(walk->parts);
	free(walk->parts);
}

/*
 * The tree's own files need not come again: the trees in it, without those that have come whole.
 * -ENOENT when there are none.
 */
static int walk_in_parts(const struct want *want, unsigned up, struct walk *walk)
{
	struct fetch_list *parts = calloc(1, sizeof(*parts));
	size_t left = 0;
	int status;

	if (!parts)
		return -ENOMEM;
	walk->parts = parts;
	status = want->company->children(want->company->arg, up, parts);
	if (status)
		return status;
	for (size_t i = 0; i < parts->count; i++) {
		if (!fetch_listed(want->fetch, &parts->v[i], true))
			parts->v[left++] = parts->v[i];
	}
	parts->count = left;
	return left ? 0 : -ENOENT;
}

/* Its own files are here but for large ones, or on their way. */
static bool is_listed(struct fetch *fetch, const struct oid *tree)
{
	bool under_way;

	lock_take(&fetch->lock);
	under_way = flight_find_locked(&fetch->table, tree, FLIGHT_LISTING) != NULL;
	lock_give(&fetch->lock);
	return under_way || fetch_listed(fetch, tree, false);
}

static int walk_plan(const struct want *want, unsigned up, struct walk *walk)
{
	int status = want->company->tree(want->company->arg, up, &walk->tree);

	if (status)
		return status;
	walk->kind = FLIGHT_SUBTREE;
	if (fetch_listed(want->fetch, &walk->tree, true))
		return -ENOENT;
	if (!is_listed(want->fetch, &walk->tree))
		return 0;
	status = walk_in_parts(want, up, walk);
	if (status)
		walk_release(walk);
	return status;
}

/*
 * A miss: whether it is one of a walk, and what that is to bring. `sizes`: it asks for a size, and what it
 * brings along need not be read.
 */
bool want_is_walk(struct want *want, bool sizes, struct walk *out)
{
	struct fetch *fetch = want->fetch;
	struct crawl_place place;
	size_t files_max;
	bool can;
	int up;

	if (!want_place(want, &place))
		return false;
	lock_take(&fetch->lock);
	up = crawl_miss_locked(&fetch->crawl, &place, sizes, clock_ms(), &want->step);
	can = fetch_can_crawl_locked(fetch);
	files_max = walk_files_max_locked(fetch);
	lock_give(&fetch->lock);
	if (!can || up < 0)
		return false;
	want->walks = true;
	up = walk_that_fits(want, up, files_max);
	return up >= 0 && !walk_plan(want, (unsigned)up, out);
}

/* How many files were asked for by themselves of late, below each of the trees of `place`. */
static void count_lones_locked(const struct fetch *fetch, const struct crawl_place *place,
			       unsigned *out)
{
	uint64_t now_ms = clock_ms();

	for (unsigned i = 0; i < LONE_COUNT; i++) {
		const struct crawl_place *other = &fetch->lones[i].place;

		if (oid_is_null(&fetch->lones[i].tree) ||
		    now_ms > fetch->lones[i].when_ms + LONES_FOR_MS)
			continue;
		/* from the root on, which is the last of both */
		for (unsigned level = 1; level <= place->count && level <= other->count; level++) {
			unsigned up = place->count - level;

			if (place->trees[up] != other->trees[other->count - level])
				break;
			out[up]++;
		}
	}
}

/*
 * Files that are read one by one here and there, in a subtree that is not larger than what their
 * neighbours would have been: the rest of it comes at once. So a wrong guess costs no more than was
 * paid already.
 */
bool want_is_cheaper_whole(struct want *want, struct walk *out)
{
	const struct fetch_company *company = want->company;
	unsigned lones[CRAWL_DEPTH_MAX] = { 0 };
	struct fetch *fetch = want->fetch;
	struct crawl_place place;
	bool can;

	if (!want_place(want, &place) || company->listed)
		return false;
	lock_take(&fetch->lock);
	can = fetch_can_crawl_locked(fetch) &&
	      !flight_find_locked(&fetch->table, &want->oid, FLIGHT_CONTENT) &&
	      !flight_find_locked(&fetch->table, &want->oid, FLIGHT_SIZE);
	count_lones_locked(fetch, &place, lones);
	lock_give(&fetch->lock);
	for (unsigned up = place.count; can && up-- > 0;) {
		size_t max = (size_t)lones[up] * LONE_FILES;

		if (lones[up] >= LONES_MIN && walk_that_fits(want, (int)up, max) == (int)up)
			return !walk_plan(want, up, out);
	}
	return false;
}

static struct flight *walk_carrier_locked(struct want *want, struct walk *walk)
{
	struct flight *carrier = want_walk_above_locked(want);

	if (carrier)
		return carrier;
	carrier = fetch_carrier_of_tree_locked(want->fetch, &walk->tree, walk->kind);
	if (carrier && TAILQ_EMPTY(&carrier->covered) && !carrier->parts) {
		carrier->parts = walk->parts;
		walk->parts = NULL;
	}
	return carrier;
}

int want_join_walk_take(struct want *want, struct walk *walk, struct content **out)
{
	struct fetch *fetch = want->fetch;
	int status;

	lock_take(&fetch->lock);
	status = want_join_old_locked(want, out);
	if (status == -EAGAIN) {
		fetch->walk_ms = clock_ms();
		status = want_join_new_locked(want, walk_carrier_locked(want, walk));
	}
	lock_give(&fetch->lock);
	walk_release(walk);
	return status;
}
