/*
 * want_size: files whose size nobody knows yet. One that is about to be read tells it by coming;
 * where a reader goes from file to file they are asked about in bulk, or, on a server that cannot
 * tell, come with all the small files of their directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/want.h"

#define SIZES_COMPANY 10000
#define DIRECTORY_COMPANY 1000
#define LONE_NEIGHBOURS 64 /* what a miss would have brought along */

/* A directory that was listed, or is below one that came whole: what did not tell is large. */
bool want_was_listed(struct fetch *fetch, const struct fetch_company *company)
{
	struct oid tree;
	bool sizes;

	lock_take(&fetch->lock);
	sizes = fetch_can_sizes_locked(fetch);
	lock_give(&fetch->lock);
	if (!want_has_place(company) || sizes || !(fetch->caps & REMOTE_SUBTREE))
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
	const struct batch *batch;

	if (fetch_queued_locked(fetch, WAY_OBJECTS) || fetch->retry.failures)
		return false;
	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		/* one that has brought all it was to bring is only about to end */
		if (batch->way == WAY_OBJECTS && !TAILQ_EMPTY(&batch->flights))
			return false;
	}
	return true;
}

/*
 * Nobody listed its directory, nobody reads beside it: this is one file that is about to be read,
 * and its content tells the size in one round trip.
 */
static bool is_lone_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	const struct fetch_company *company = want->company;
	struct lone *lone;
	struct oid tree;

	if (!want_has_place(company) || company->listed || !(fetch->caps & REMOTE_OBJECTS) ||
	    !is_quiet_locked(fetch) || company->tree(company->arg, 0, &tree))
		return false;
	want->goes_on = has_lone_neighbours_locked(fetch, &tree, company->index) ||
			!take_lone_locked(fetch);
	if (want->goes_on)
		return false;
	lone = &fetch->lones[fetch->lones_next++ % LONE_COUNT];
	*lone = (struct lone){ .tree = tree, .index = company->index, .when_ms = clock_ms() };
	want_place(want, &lone->place);
	return true;
}

/* Where only contents tell sizes: the directory's, or those of a walk. */
static int join_listing(struct want *want, struct content **out)
{
	struct walk walk = { .kind = FLIGHT_LISTING };

	if (want_is_walk(want, true, &walk))
		return want_join_walk_take(want, &walk, out);
	walk = (struct walk){ .kind = FLIGHT_LISTING };
	if (want->company->tree(want->company->arg, 0, &walk.tree))
		return -EIO;
	return want_join_walk_take(want, &walk, out);
}

/* Of the whole tree that is shown. */
static void note_rest(const struct want *want)
{
	struct oid tree = { .algo = 0 };

	if (!want_has_place(want->company))
		return;
	for (unsigned up = 0; !want->company->tree(want->company->arg, up, &tree); up++)
		;
	lock_take(&want->fetch->lock);
	size_rest_note_locked(want->fetch, &tree);
	lock_give(&want->fetch->lock);
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

	note_rest(want);
	return want_join_with_company(want, &budget, out);
}

/*
 * It is read, or mapped, before anybody asked for its size: by itself, or while the sizes of those
 * around it are learned, or with them.
 */
int want_join_unsized(struct want *want, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct walk walk = { 0 };
	bool sizes, alone, gather;

	if (!want->listed && want_is_cheaper_whole(want, &walk))
		return want_join_walk_take(want, &walk, out);
	lock_take(&fetch->lock);
	sizes = fetch_can_sizes_locked(fetch);
	alone = want->listed || is_lone_locked(want) || (!sizes && !fetch_can_list_locked(fetch));
	lock_give(&fetch->lock);
	if (alone)
		return want_join_alone(want, out);
	if (!sizes)
		return join_listing(want, out);
	if (want_is_walk(want, false, &walk))
		return want_join_walk_take(want, &walk, out);
	lock_take(&fetch->lock);
	gather = !fetch->size_gathering;
	fetch->size_gathering = true;
	lock_give(&fetch->lock);
	return gather ? join_with_sizes(want, out) : want_join_alone(want, out);
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
		*out_carrier = want_walk_above_locked(want);
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
	*out_carrier = tree_sizes_carrier_locked(want);
	if (*out_carrier)
		return SIZE_COVERED;
	if (want_has_place(company) && fetch_can_list_locked(fetch))
		return SIZE_LISTING;
	return company && (fetch->caps & REMOTE_OBJECTS) ? SIZE_GATHER_CONTENTS : SIZE_ALONE;
}

static int join_size_locked(struct want *want, enum size_way *out_way, struct content **out)
{
	struct flight *carrier;
	int status = want_join_old_locked(want, out);

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
		return want_join_new_locked(want, carrier);
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
	return want_join_with_company(want, &directory, out);
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
	struct walk walk = { 0 };
	int status;

	if (fetch_size_known(fetch, oid, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	want.listed = want_was_listed(fetch, company);
	if (neighbours_walk(fetch, company, &want.walk)) {
		want.kind = FLIGHT_CONTENT; /* which tells the size */
		status = want_join_alone(&want, &content);
	} else if (!want.listed && want_is_cheaper_whole(&want, &walk)) {
		status = want_join_walk_take(&want, &walk, &content);
	} else {
		lock_take(&fetch->lock);
		status = join_size_locked(&want, &way, &content);
		lock_give(&fetch->lock);
	}
	if (status == -EAGAIN)
		status = join_size_gathering(&want, way, &content);
	if (content)
		*out = content->size;
	content_unref(content);
	want_look_again(&want);
	fetch_pump(fetch);
	return status;
}
