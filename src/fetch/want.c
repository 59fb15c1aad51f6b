/*
 * want: a want looks in the cache, then for a flight to join; a new flight is held back only while
 * its maker looks once more (it may have come in between) and asks who should come along, with no
 * lock held.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define AHEAD_QUEUE_MAX 8192
#define SIZES_COMPANY 10000
#define LONE_NEIGHBOURS 64 /* what a miss would have brought along */
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
#define DIRECTORY_COMPANY 1000

/* ---- company ---- */

static void gather(const struct fetch_company *company, const struct fetch_budget *budget,
		   struct fetch_list *out)
{
	int status = company->gather(company->arg, budget, out);

	if (status)
		log_debug("fetch: no company: %s", strerror(-status));
}

/* ---- a want meets its flight ---- */

struct want {
	struct fetch *fetch;
	struct oid oid;
	enum flight_kind kind;
	enum object_type type;
	uint64_t size;
	const struct fetch_company *company;
	struct fetch_waiter *waiter;
	bool listed; /* its directory was listed, and did not tell its size */
	bool size_only;
	bool fresh;    /* the flight was made for it */
	bool walks;    /* it is one of a walk, which may have to go by id */
	unsigned step; /* of the crawl; CRAWL_NO_STEP */
};

/* Its content is on its way, and may be long; its size can be asked for beside that. */
static bool size_may_come_sooner_locked(const struct fetch *fetch, const struct flight *flight)
{
	return fetch_can_sizes_locked(fetch) && flight->size == SIZE_UNKNOWN &&
	       flight->state != FLIGHT_COVERED;
}

/* What there is: 1 and *out: it has just come; 0: joined; -ECANCELED; -EAGAIN: there is none. */
static int join_old_locked(struct want *want, struct content **out)
{
	struct flight_table *table = &want->fetch->table;
	struct flight *flight = flight_find_locked(table, &want->oid, FLIGHT_CONTENT);

	want->fetch->demand_ms = clock_ms();
	if (flight && flight->state == FLIGHT_ARRIVED) {
		*out = content_ref(flight->content);
		return 1;
	}
	if (want->waiter->state == FETCH_WAITER_CANCELED || want->fetch->closing)
		return -ECANCELED;
	if (flight && want->size_only && size_may_come_sooner_locked(want->fetch, flight))
		flight = NULL;
	if (!flight && want->size_only)
		flight = flight_find_locked(table, &want->oid, FLIGHT_SIZE);
	if (!flight)
		return -EAGAIN;
	flight_join_locked(table, flight, want->waiter, want->size_only, clock_ms());
	if (flight->size == SIZE_UNKNOWN)
		flight->size = want->size;
	flight_promote_locked(table, flight,
			      flight->way == WAY_OBJECTS || flight->way == WAY_LARGE ? LANE_DEMAND :
										       LANE_META);
	return 0;
}

/*
 * A new one, under `carrier` or (NULL) in its queue. When there is no way to ask for it the waiter
 * is as before, and the reason comes back.
 */
static int join_new_locked(struct want *want, struct flight *carrier)
{
	struct flight_table *table = &want->fetch->table;
	struct flight *flight =
		flight_new_locked(table, &want->oid, want->kind, want->type, want->size);
	int status = 0;

	if (!flight)
		return -ENOMEM;
	flight->above_limit = want->listed;
	flight_join_locked(table, flight, want->waiter, want->size_only, clock_ms());
	if (carrier)
		flight_cover_locked(table, flight, carrier);
	else
		status = fetch_route_locked(want->fetch, flight);
	if (status) {
		flight_leave_locked(table, want->waiter, FETCH_WAITER_IDLE);
		fetch_flight_free_locked(want->fetch, flight);
		return status;
	}
	want->fresh = true;
	return 0;
}

static bool is_here(const struct want *want)
{
	uint64_t size;

	return want->size_only ? fetch_size_known(want->fetch, &want->oid, &size) :
				 fetch_has(want->fetch, &want->oid);
}

/*
 * It may have come between the look into the cache and the flight. The waiter is not ours any more:
 * it may have been called, and be gone. So the flight goes to those that may call it.
 */
static void look_again(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *flight;

	if (!want->fresh || !is_here(want))
		return;
	lock_take(&fetch->lock);
	flight = flight_find_locked(&fetch->table, &want->oid, want->kind);
	if (flight && (flight->state == FLIGHT_QUEUED || flight->state == FLIGHT_COVERED)) {
		flight_hold_locked(&fetch->table, flight, &fetch->recheck);
		lock_cond_signal(&fetch->timer_cond);
	}
	lock_give(&fetch->lock);
}

/* They ride along with whatever leaves next. */
static void add_company_locked(const struct want *want, const struct fetch_list *list,
			       enum flight_kind kind)
{
	struct fetch *fetch = want->fetch;
	enum way way = kind == FLIGHT_SIZE ? WAY_SIZES : WAY_OBJECTS;
	size_t max = kind == FLIGHT_SIZE ? SIZES_COMPANY : AHEAD_QUEUE_MAX;

	for (size_t i = 0; i < list->count; i++) {
		struct flight *flight;

		if (fetch->table.queued[LANE_AHEAD][way] >= max)
			return;
		if (flight_find_locked(&fetch->table, &list->v[i], FLIGHT_CONTENT) ||
		    flight_find_locked(&fetch->table, &list->v[i], FLIGHT_SIZE))
			continue;
		flight = flight_new_locked(&fetch->table, &list->v[i], kind, OBJECT_BLOB,
					   SIZE_UNKNOWN);
		if (!flight)
			return;
		flight->step = want->step;
		flight_queue_locked(&fetch->table, flight, LANE_AHEAD, way);
	}
}

/* Company first, with no lock held and the waiter still ours; then the flight. */
static int join_with_company(struct want *want, const struct fetch_budget *budget,
			     struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct fetch_list list = { 0 };
	int status;

	gather(want->company, budget, &list);
	lock_take(&fetch->lock);
	if (budget->sizes)
		fetch->size_gathering = false;
	status = join_old_locked(want, out);
	if (status == -EAGAIN)
		status = join_new_locked(want, NULL);
	if (!status)
		add_company_locked(want, &list, budget->sizes ? FLIGHT_SIZE : FLIGHT_CONTENT);
	lock_give(&fetch->lock);
	fetch_list_release(&list);
	return status;
}

/* ---- walks ---- */

static bool has_place(const struct fetch_company *company)
{
	return company && company->tree;
}

/* What is under way and will bring all that is below some directory above this one. */
static struct flight *walk_above_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *flight = NULL;
	struct oid tree;

	if (!has_place(want->company) ||
	    (!fetch->running[WAY_SUBTREE] && !fetch_queued_locked(fetch, WAY_SUBTREE)))
		return NULL;
	for (unsigned up = 0; !flight && !want->company->tree(want->company->arg, up, &tree); up++)
		flight = flight_find_locked(&fetch->table, &tree, FLIGHT_SUBTREE);
	if (flight)
		fetch->walk_ms = clock_ms();
	return flight;
}

/* A size is asked for in this way only where a reader goes from file to file: as good as listed. */
static bool want_place(const struct want *want, struct crawl_place *out)
{
	struct oid tree;

	out->count = 0;
	if (!has_place(want->company))
		return false;
	out->listed = want->company->listed || want->size_only;
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

/* What a walk is to bring. */
struct walk {
	struct oid tree;
	enum flight_kind kind;
	struct fetch_list *parts; /* owned until it is taken; NULL: the tree itself */
};

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
static bool is_walk(struct want *want, bool sizes, struct walk *out)
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

static struct flight *walk_carrier_locked(struct want *want, struct walk *walk)
{
	struct flight *carrier = walk_above_locked(want);

	if (carrier)
		return carrier;
	carrier = fetch_carrier_of_tree_locked(want->fetch, &walk->tree, walk->kind);
	if (carrier && TAILQ_EMPTY(&carrier->covered) && !carrier->parts) {
		carrier->parts = walk->parts;
		walk->parts = NULL;
	}
	return carrier;
}

static int join_walk_take(struct want *want, struct walk *walk, struct content **out)
{
	struct fetch *fetch = want->fetch;
	int status;

	lock_take(&fetch->lock);
	status = join_old_locked(want, out);
	if (status == -EAGAIN) {
		fetch->walk_ms = clock_ms();
		status = join_new_locked(want, walk_carrier_locked(want, walk));
	}
	lock_give(&fetch->lock);
	walk_release(walk);
	return status;
}

/* ---- files of unknown size ---- */

/* A directory that was listed, or is below one that came whole: what did not tell is large. */
static bool was_listed(struct fetch *fetch, const struct fetch_company *company)
{
	struct oid tree;
	bool sizes;

	lock_take(&fetch->lock);
	sizes = fetch_can_sizes_locked(fetch);
	lock_give(&fetch->lock);
	if (!has_place(company) || sizes || !(fetch->caps & REMOTE_SUBTREE))
		return false;
	for (unsigned up = 0; !company->tree(company->arg, up, &tree); up++) {
		if ((up == 0 && fetch_listed(fetch, &tree, false)) ||
		    fetch_listed(fetch, &tree, true))
			return true;
	}
	return false;
}

/* Two of the last ones were near it: there is somebody who reads file by file. */
static bool has_lone_neighbours_locked(const struct fetch *fetch, const struct oid *tree,
				       uint32_t index)
{
	unsigned near = 0;

	for (unsigned i = 0; i < LONE_COUNT; i++) {
		const struct lone *lone = &fetch->lones[i];
		uint32_t apart = lone->index > index ? lone->index - index : index - lone->index;

		if (oid_equal(&lone->tree, tree) && apart <= LONE_NEIGHBOURS)
			near++;
	}
	return near >= 2;
}

/* So many in a row make a walk, however far apart they are. */
static bool take_lone_locked(struct fetch *fetch)
{
	uint64_t now_ms = clock_ms();
	uint64_t seconds = (now_ms - fetch->lones_counted_ms) / 1000;

	fetch->lones_counted_ms += seconds * 1000;
	fetch->lones_left = fetch->lones_left + seconds < LONES_IN_A_ROW ?
				    fetch->lones_left + (unsigned)seconds :
				    LONES_IN_A_ROW;
	if (!fetch->lones_left)
		return false;
	fetch->lones_left--;
	return true;
}

/* No content is under way or waits to be, and the remote is well: one more is there soon. */
static bool is_quiet_locked(const struct fetch *fetch)
{
	return !fetch->running[WAY_OBJECTS] && !fetch_queued_locked(fetch, WAY_OBJECTS) &&
	       !fetch->retry.failures;
}

/*
 * Nobody listed its directory, nobody reads beside it: this is one file that is about to be read,
 * and its content tells the size in one round trip.
 */
static bool is_lone_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	const struct fetch_company *company = want->company;
	struct oid tree;

	if (!has_place(company) || company->listed || !(fetch->caps & REMOTE_OBJECTS) ||
	    !is_quiet_locked(fetch) || company->tree(company->arg, 0, &tree) ||
	    has_lone_neighbours_locked(fetch, &tree, company->index) || !take_lone_locked(fetch))
		return false;
	fetch->lones[fetch->lones_next++ % LONE_COUNT] =
		(struct lone){ .tree = tree, .index = company->index };
	return true;
}

/* Where only contents tell sizes: the directory's, or those of a walk. */
static int join_listing(struct want *want, struct content **out)
{
	struct walk walk = { .kind = FLIGHT_LISTING };

	if (is_walk(want, true, &walk))
		return join_walk_take(want, &walk, out);
	walk = (struct walk){ .kind = FLIGHT_LISTING };
	if (want->company->tree(want->company->arg, 0, &walk.tree))
		return -EIO;
	return join_walk_take(want, &walk, out);
}

/* Others of unknown size are asked about in bulk; who comes meanwhile leaves with them. */
static int join_with_sizes(struct want *want, struct content **out)
{
	static const struct fetch_budget budget = {
		.sizes = true,
		.count = SIZES_COMPANY,
		.bytes = UINT64_MAX,
		.object_bytes = UINT64_MAX,
		.leave_directory = true,
	};

	return join_with_company(want, &budget, out);
}

/* ---- content ---- */

static bool is_small(const struct want *want)
{
	return want->type == OBJECT_BLOB &&
	       (want->size == SIZE_UNKNOWN || want->size <= want->fetch->config.large_limit);
}

/* What will hold it although it was asked for something else. */
static struct flight *carrier_of_content_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *carrier = fetch_carrier_locked(fetch, want->type);
	struct flight *size;
	struct oid tree;

	if (carrier || !is_small(want))
		return carrier;
	carrier = walk_above_locked(want);
	if (carrier || want->size != SIZE_UNKNOWN)
		return carrier;
	size = flight_find_locked(&fetch->table, &want->oid, FLIGHT_SIZE);
	if (size && size->state == FLIGHT_COVERED)
		return size->carrier;
	if (has_place(want->company) && !want->company->tree(want->company->arg, 0, &tree))
		return flight_find_locked(&fetch->table, &tree, FLIGHT_LISTING);
	return NULL;
}

static bool wants_company(const struct want *want)
{
	return want->company && is_small(want) && (want->fetch->caps & REMOTE_OBJECTS);
}

static int join_content_locked(struct want *want, struct content **out)
{
	struct flight *carrier;
	int status = join_old_locked(want, out);

	if (status != -EAGAIN)
		return status;
	carrier = carrier_of_content_locked(want);
	if (!carrier && wants_company(want))
		return -EAGAIN;
	return join_new_locked(want, carrier);
}

static int join_alone(struct want *want, struct content **out)
{
	int status;

	lock_take(&want->fetch->lock);
	status = join_old_locked(want, out);
	if (status == -EAGAIN)
		status = join_new_locked(want, NULL);
	lock_give(&want->fetch->lock);
	return status;
}

/*
 * It is read, or mapped, before anybody asked for its size: by itself, or while the sizes of those
 * around it are learned, or with them.
 */
static int join_unsized(struct want *want, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct walk walk = { 0 };
	bool sizes, alone, gather;

	lock_take(&fetch->lock);
	sizes = fetch_can_sizes_locked(fetch);
	alone = want->listed || is_lone_locked(want) || (!sizes && !fetch_can_list_locked(fetch));
	lock_give(&fetch->lock);
	if (alone)
		return join_alone(want, out);
	if (!sizes)
		return join_listing(want, out);
	if (is_walk(want, false, &walk))
		return join_walk_take(want, &walk, out);
	lock_take(&fetch->lock);
	gather = !fetch->size_gathering;
	fetch->size_gathering = true;
	lock_give(&fetch->lock);
	return gather ? join_with_sizes(want, out) : join_alone(want, out);
}

static int join_content_anew(struct want *want, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct fetch_budget budget;
	struct walk walk = { 0 };
	bool climbs;

	if (want->size == SIZE_UNKNOWN && has_place(want->company))
		return join_unsized(want, out);
	if (is_walk(want, false, &walk))
		return join_walk_take(want, &walk, out);
	lock_take(&fetch->lock);
	climbs = has_place(want->company) && fetch_can_crawl_locked(fetch) && !want->walks;
	lock_give(&fetch->lock);
	ahead_budget(&fetch->ahead, climbs, &budget);
	return join_with_company(want, &budget, out);
}

int fetch_content(struct fetch *fetch, const struct oid *oid, enum object_type type,
		  uint64_t known_size, const struct fetch_company *company,
		  struct fetch_waiter *waiter, struct content **out)
{
	struct want want = { .fetch = fetch,
			     .oid = *oid,
			     .kind = FLIGHT_CONTENT,
			     .type = type,
			     .size = known_size,
			     .company = company,
			     .waiter = waiter,
			     .step = CRAWL_NO_STEP };
	int status;

	if (fetch_hit(fetch, oid, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	want.listed = known_size == SIZE_UNKNOWN && was_listed(fetch, company);
	lock_take(&fetch->lock);
	status = join_content_locked(&want, out);
	lock_give(&fetch->lock);
	if (status == -EAGAIN)
		status = join_content_anew(&want, out);
	look_again(&want);
	fetch_pump(fetch);
	return status;
}

/* ---- sizes ---- */

/* Where a new want for a size goes. */
enum size_way {
	SIZE_COVERED,	   /* under a carrier */
	SIZE_ALONE,	   /* into its queue */
	SIZE_GATHER_SIZES, /* there, with others that will be asked for */
	SIZE_LISTING,	   /* only contents tell: the directory's, or those of a walk's subtree */
	SIZE_GATHER_CONTENTS, /* the same where there are no filters: the directory's, by id */
};

static enum size_way size_way_locked(struct want *want, struct flight **out_carrier)
{
	struct fetch *fetch = want->fetch;
	const struct fetch_company *company = want->company;

	*out_carrier = fetch_carrier_locked(fetch, OBJECT_BLOB);
	if (!*out_carrier && !want->listed)
		*out_carrier = walk_above_locked(want);
	if (*out_carrier)
		return SIZE_COVERED;
	if (want->listed)
		return SIZE_ALONE;
	if (!flight_find_locked(&fetch->table, &want->oid, FLIGHT_CONTENT) &&
	    is_lone_locked(want)) {
		want->kind = FLIGHT_CONTENT;
		return SIZE_ALONE;
	}
	if (fetch_can_sizes_locked(fetch))
		/* Who comes while somebody gathers leaves with that company. */
		return company && !fetch->size_gathering ? SIZE_GATHER_SIZES : SIZE_ALONE;
	if (has_place(company) && fetch_can_list_locked(fetch))
		return SIZE_LISTING;
	return company && (fetch->caps & REMOTE_OBJECTS) ? SIZE_GATHER_CONTENTS : SIZE_ALONE;
}

static int join_size_locked(struct want *want, enum size_way *out_way, struct content **out)
{
	struct flight *carrier;
	int status = join_old_locked(want, out);

	if (status != -EAGAIN)
		return status;
	*out_way = size_way_locked(want, &carrier);
	switch (*out_way) {
	case SIZE_GATHER_SIZES:
		want->fetch->size_gathering = true;
		return -EAGAIN;
	case SIZE_GATHER_CONTENTS:
	case SIZE_LISTING:
		return -EAGAIN;
	default:
		return join_new_locked(want, carrier);
	}
}

static int join_size_gathering(struct want *want, enum size_way way, struct content **out)
{
	static const struct fetch_budget directory = {
		.count = DIRECTORY_COMPANY,
		.bytes = UINT64_MAX,
		.object_bytes = UINT64_MAX,
	};

	if (way == SIZE_LISTING)
		return join_listing(want, out);
	if (way == SIZE_GATHER_SIZES)
		return join_with_sizes(want, out);
	return join_with_company(want, &directory, out);
}

int fetch_size(struct fetch *fetch, const struct oid *oid, const struct fetch_company *company,
	       struct fetch_waiter *waiter, uint64_t *out)
{
	struct want want = { .fetch = fetch,
			     .oid = *oid,
			     .kind = FLIGHT_SIZE,
			     .size_only = true,
			     .type = OBJECT_BLOB,
			     .size = SIZE_UNKNOWN,
			     .company = company,
			     .waiter = waiter,
			     .step = CRAWL_NO_STEP };
	struct content *content = NULL;
	enum size_way way = SIZE_ALONE;
	int status;

	if (fetch_size_known(fetch, oid, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	want.listed = was_listed(fetch, company);
	lock_take(&fetch->lock);
	status = join_size_locked(&want, &way, &content);
	lock_give(&fetch->lock);
	if (status == -EAGAIN)
		status = join_size_gathering(&want, way, &content);
	if (content)
		*out = content->size;
	content_unref(content);
	look_again(&want);
	fetch_pump(fetch);
	return status;
}

/* ---- commits ---- */

bool fetch_commit_is_here(struct fetch *fetch, const struct oid *commit)
{
	char hex[OID_MAX_HEX + 1];
	struct buf value = BUF_INIT;
	int status = fetch_fact_get(fetch, "complete", oid_to_hex(commit, hex), &value, NULL);

	buf_release(&value);
	return !status;
}

static bool is_complete(struct fetch *fetch, const struct oid *commit, struct content **out)
{
	if (!fetch_commit_is_here(fetch, commit) && !fetch->config.offline)
		return false;
	return fetch_hit(fetch, commit, out) && *out;
}

void fetch_step_from(struct fetch *fetch, const struct oid *commit, bool whole)
{
	lock_take(&fetch->lock);
	if (fetch->caps & REMOTE_STEP) {
		fetch->step = *commit;
		fetch->step_whole = whole;
	}
	lock_give(&fetch->lock);
}

static int join_commit_locked(struct fetch *fetch, const struct oid *commit,
			      struct fetch_waiter *waiter)
{
	struct flight *flight = flight_find_locked(&fetch->table, commit, FLIGHT_CONTENT);
	struct flight *carrier;

	if (waiter->state == FETCH_WAITER_CANCELED || fetch->closing)
		return -ECANCELED;
	carrier = fetch_everything_locked(fetch, commit);
	if (!carrier)
		return -ENOMEM;
	if (flight && flight->state == FLIGHT_ARRIVED) {
		flight_free_locked(&fetch->table, flight); /* the carrier brings it again */
		flight = NULL;
	}
	if (!flight)
		flight = flight_new_locked(&fetch->table, commit, FLIGHT_CONTENT, OBJECT_COMMIT,
					   SIZE_UNKNOWN);
	if (!flight)
		return -ENOMEM;
	flight_join_locked(&fetch->table, flight, waiter, false, clock_ms());
	if (flight->state == FLIGHT_HELD || flight->state == FLIGHT_QUEUED)
		flight_cover_locked(&fetch->table, flight, carrier);
	return 0;
}

int fetch_commit(struct fetch *fetch, const struct oid *commit, struct fetch_waiter *waiter,
		 struct content **out)
{
	int status;

	if (is_complete(fetch, commit, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	lock_take(&fetch->lock);
	status = join_commit_locked(fetch, commit, waiter);
	lock_give(&fetch->lock);
	if (!status)
		fetch_pump(fetch);
	return status;
}
