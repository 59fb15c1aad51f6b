/*
 * want: a want looks in the cache, then for a flight to join; a new flight is held back only while
 * its maker looks once more (it may have come in between) and asks who should come along, with no
 * lock held.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define AHEAD_QUEUE_MAX 8192
#define SIZES_COMPANY 10000
#define DIRECTORY_COMPANY 1000

/* ---- company ---- */

static void gather(const struct fetch_company *company, const struct fetch_budget *budget,
		   struct fetch_list *out)
{
	int status = company->gather(company->arg, budget, out);

	if (status)
		log_debug("fetch: no company: %s", strerror(-status));
}

/* They ride along with whatever leaves next. */
static void add_company_locked(struct fetch *fetch, const struct fetch_list *list,
			       enum flight_kind kind)
{
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
		flight_queue_locked(&fetch->table, flight, LANE_AHEAD, way);
	}
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
	bool listed; /* SIZE: its directory was listed, and did not tell */
	bool fresh;  /* the flight was made for it */
};

/* What there is: 1 and *out: it has just come; 0: joined; -ECANCELED; -EAGAIN: there is none. */
static int join_old_locked(struct want *want, struct content **out)
{
	struct flight_table *table = &want->fetch->table;
	struct flight *flight = flight_find_locked(table, &want->oid, FLIGHT_CONTENT);

	if (flight && flight->state == FLIGHT_ARRIVED) {
		*out = content_ref(flight->content);
		return 1;
	}
	if (want->waiter->state == FETCH_WAITER_CANCELED || want->fetch->closing)
		return -ECANCELED;
	if (!flight && want->kind == FLIGHT_SIZE)
		flight = flight_find_locked(table, &want->oid, FLIGHT_SIZE);
	if (!flight)
		return -EAGAIN;
	flight_join_locked(table, flight, want->waiter, want->kind == FLIGHT_SIZE, clock_ms());
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
	flight_join_locked(table, flight, want->waiter, want->kind == FLIGHT_SIZE, clock_ms());
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

	return want->kind == FLIGHT_SIZE ? fetch_size_known(want->fetch, &want->oid, &size) :
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

/* Company first, with no lock held and the waiter still ours; then the flight. */
static int join_with_company(struct want *want, const struct fetch_budget *budget,
			     enum flight_kind company_kind, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct fetch_list list = { 0 };
	int status;

	gather(want->company, budget, &list);
	lock_take(&fetch->lock);
	if (company_kind == FLIGHT_SIZE)
		fetch->size_gathering = false;
	status = join_old_locked(want, out);
	if (status == -EAGAIN)
		status = join_new_locked(want, NULL);
	if (!status)
		add_company_locked(fetch, &list, company_kind);
	lock_give(&fetch->lock);
	fetch_list_release(&list);
	return status;
}

/* ---- content ---- */

/* What will hold it although it was asked for something else. */
static struct flight *carrier_of_content_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *carrier = fetch_carrier_locked(fetch, want->type);
	struct flight *size;

	if (carrier || want->type != OBJECT_BLOB || want->size != SIZE_UNKNOWN)
		return carrier;
	size = flight_find_locked(&fetch->table, &want->oid, FLIGHT_SIZE);
	if (size && size->state == FLIGHT_COVERED)
		return size->carrier;
	if (want->company && !oid_is_null(&want->company->tree))
		return flight_find_locked(&fetch->table, &want->company->tree, FLIGHT_LISTING);
	return NULL;
}

static bool wants_company(const struct want *want)
{
	const struct fetch *fetch = want->fetch;

	return want->company && want->type == OBJECT_BLOB && (fetch->caps & REMOTE_OBJECTS) &&
	       (want->size == SIZE_UNKNOWN || want->size <= fetch->config.large_limit);
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

int fetch_content(struct fetch *fetch, const struct oid *oid, enum object_type type,
		  uint64_t known_size, const struct fetch_company *company,
		  struct fetch_waiter *waiter, struct content **out)
{
	struct want want = { fetch,   *oid,   FLIGHT_CONTENT, type, known_size,
			     company, waiter, false,	      false };
	struct fetch_budget budget;
	int status;

	if (fetch_hit(fetch, oid, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	lock_take(&fetch->lock);
	status = join_content_locked(&want, out);
	lock_give(&fetch->lock);
	if (status == -EAGAIN) {
		ahead_budget(&fetch->ahead, &budget);
		status = join_with_company(&want, &budget, FLIGHT_CONTENT, out);
	}
	look_again(&want);
	fetch_pump(fetch);
	return status;
}

/* ---- sizes ---- */

/* Where a new want for a size goes. */
enum size_way {
	SIZE_COVERED,	      /* under a carrier */
	SIZE_ALONE,	      /* into its queue */
	SIZE_GATHER_SIZES,    /* there, with others that will be asked for */
	SIZE_GATHER_CONTENTS, /* only contents tell: the directory's, in one batch */
};

static struct flight *listing_locked(struct fetch *fetch, const struct oid *tree)
{
	struct flight *flight = flight_find_locked(&fetch->table, tree, FLIGHT_LISTING);

	if (flight)
		return flight;
	flight = flight_new_locked(&fetch->table, tree, FLIGHT_LISTING, OBJECT_TREE, SIZE_UNKNOWN);
	if (flight)
		flight_queue_locked(&fetch->table, flight, LANE_META, WAY_LISTING);
	return flight;
}

static enum size_way size_way_locked(struct want *want, struct flight **out_carrier)
{
	struct fetch *fetch = want->fetch;
	const struct fetch_company *company = want->company;

	*out_carrier = fetch_carrier_locked(fetch, OBJECT_BLOB);
	if (*out_carrier)
		return SIZE_COVERED;
	if (fetch_can_sizes_locked(fetch))
		/* Who comes while somebody gathers leaves with that company. */
		return company && !fetch->size_gathering ? SIZE_GATHER_SIZES : SIZE_ALONE;
	if (want->listed)
		return SIZE_ALONE;
	if (company && !oid_is_null(&company->tree) && fetch_can_list_locked(fetch)) {
		*out_carrier = listing_locked(fetch, &company->tree);
		return *out_carrier ? SIZE_COVERED : SIZE_ALONE;
	}
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
		return -EAGAIN;
	default:
		return join_new_locked(want, carrier);
	}
}

static int join_size_with_company(struct want *want, enum size_way way, struct content **out)
{
	struct fetch_budget budget = {
		.count = way == SIZE_GATHER_SIZES ? SIZES_COMPANY : DIRECTORY_COMPANY,
		.bytes = UINT64_MAX,
		.object_bytes = UINT64_MAX,
		.leave_directory = way == SIZE_GATHER_SIZES,
	};

	return join_with_company(want, &budget,
				 way == SIZE_GATHER_SIZES ? FLIGHT_SIZE : FLIGHT_CONTENT, out);
}

/* A directory that was listed: what it did not tell is above the limit. */
static bool was_listed(struct fetch *fetch, const struct fetch_company *company)
{
	return company && !oid_is_null(&company->tree) && !(fetch->caps & REMOTE_SIZES) &&
	       (fetch->caps & REMOTE_SUBTREE) && fetch_listed(fetch, &company->tree);
}

int fetch_size(struct fetch *fetch, const struct oid *oid, const struct fetch_company *company,
	       struct fetch_waiter *waiter, uint64_t *out)
{
	struct want want = { fetch,   *oid,   FLIGHT_SIZE, OBJECT_BLOB, SIZE_UNKNOWN,
			     company, waiter, false,	   false };
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
		status = join_size_with_company(&want, way, &content);
	if (content)
		*out = content->size;
	content_unref(content);
	look_again(&want);
	fetch_pump(fetch);
	return status;
}

/* ---- commits ---- */

static bool is_complete(struct fetch *fetch, const struct oid *commit, struct content **out)
{
	char hex[OID_MAX_HEX + 1];
	struct buf value = BUF_INIT;
	int status = fetch_fact_get(fetch, "complete", oid_to_hex(commit, hex), &value, NULL);

	buf_release(&value);
	if (status && !fetch->config.offline)
		return false;
	return fetch_hit(fetch, commit, out) && *out;
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
