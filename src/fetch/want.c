/*
 * want: a want looks in the cache, then for a flight to join; a new flight is held back only while
 * its maker looks once more (it may have come in between) and asks who should come along, with no
 * lock held.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/want.h"

#define AHEAD_QUEUE_MAX 8192
#define SIZES_QUEUE_MAX 10000

/* ---- company ---- */

static void gather(const struct fetch_company *company, const struct fetch_budget *budget,
		   struct fetch_list *out)
{
	int status = company->gather(company->arg, budget, out);

	if (status)
		log_debug("fetch: no company: %s", strerror(-status));
}

/* ---- a want meets its flight ---- */

/* Its content is on its way, and may be long; its size can be asked for beside that. */
static bool size_may_come_sooner_locked(const struct fetch *fetch, const struct flight *flight)
{
	return fetch_can_sizes_locked(fetch) && flight->size == SIZE_UNKNOWN && !flight->brief &&
	       flight->state != FLIGHT_COVERED;
}

/* What there is: 1 and *out: it has just come; 0: joined; -ECANCELED; -EAGAIN: there is none. */
int want_join_old_locked(struct want *want, struct content **out)
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
int want_join_new_locked(struct want *want, struct flight *carrier)
{
	struct flight_table *table = &want->fetch->table;
	struct flight *flight =
		flight_new_locked(table, &want->oid, want->kind, want->type, want->size);
	int status = 0;

	if (!flight)
		return -ENOMEM;
	flight->above_limit = want->listed;
	flight->walk = want->walk;
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
void want_look_again(struct want *want)
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
static void add_company_locked(struct fetch *fetch, const struct fetch_list *list,
			       enum flight_kind kind, unsigned step, bool brief)
{
	enum way way = kind == FLIGHT_SIZE ? WAY_SIZES : WAY_OBJECTS;
	size_t max = kind == FLIGHT_SIZE ? SIZES_QUEUE_MAX : AHEAD_QUEUE_MAX;

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
		flight->step = step;
		flight->brief = brief;
		flight_queue_locked(&fetch->table, flight, LANE_AHEAD, way);
	}
}

/* Company first, with no lock held and the waiter still ours; then the flight. */
int want_join_with_company(struct want *want, const struct fetch_budget *budget,
			   struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct fetch_list list = { 0 };
	int status;

	gather(want->company, budget, &list);
	lock_take(&fetch->lock);
	if (budget->sizes)
		fetch->size_gathering = false;
	status = want_join_old_locked(want, out);
	if (status == -EAGAIN)
		status = want_join_new_locked(want, NULL);
	if (!status)
		add_company_locked(fetch, &list, budget->sizes ? FLIGHT_SIZE : FLIGHT_CONTENT,
				   want->step, false);
	lock_give(&fetch->lock);
	fetch_list_release(&list);
	return status;
}

int want_join_alone(struct want *want, struct content **out)
{
	int status;

	lock_take(&want->fetch->lock);
	status = want_join_old_locked(want, out);
	if (status == -EAGAIN)
		status = want_join_new_locked(want, NULL);
	lock_give(&want->fetch->lock);
	return status;
}

void fetch_sizes_together(struct fetch *fetch, const struct fetch_list *list)
{
	lock_take(&fetch->lock);
	if (fetch_can_sizes_locked(fetch) && !fetch->closing && !fetch->config.offline)
		add_company_locked(fetch, list, FLIGHT_SIZE, CRAWL_NO_STEP, false);
	lock_give(&fetch->lock);
}

void fetch_together(struct fetch *fetch, const struct fetch_list *list, bool now)
{
	if (!list->count)
		return;
	lock_take(&fetch->lock);
	if ((fetch->caps & REMOTE_OBJECTS) && !fetch->closing && !fetch->config.offline)
		add_company_locked(fetch, list, FLIGHT_CONTENT, CRAWL_NO_STEP, true);
	lock_give(&fetch->lock);
	if (now)
		fetch_pump(fetch);
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
	carrier = want_walk_above_locked(want);
	if (carrier || want->size != SIZE_UNKNOWN)
		return carrier;
	size = flight_find_locked(&fetch->table, &want->oid, FLIGHT_SIZE);
	if (size && size->state == FLIGHT_COVERED && size->carrier->kind != FLIGHT_TREE_SIZES)
		return size->carrier;
	if (want_has_place(want->company) && !want->company->tree(want->company->arg, 0, &tree))
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
	int status = want_join_old_locked(want, out);

	if (status != -EAGAIN)
		return status;
	carrier = carrier_of_content_locked(want);
	if (!carrier && wants_company(want))
		return -EAGAIN;
	return want_join_new_locked(want, carrier);
}

static int join_content_anew(struct want *want, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct fetch_budget budget;
	struct walk walk = { 0 };
	bool climbs;

	if (neighbours_walk(fetch, want->company, &want->walk))
		return want_join_alone(want, out);
	if (want->size == SIZE_UNKNOWN && want_has_place(want->company))
		return want_join_unsized(want, out);
	if (want_is_walk(want, false, &walk))
		return want_join_walk_take(want, &walk, out);
	lock_take(&fetch->lock);
	climbs = want_has_place(want->company) && fetch_can_crawl_locked(fetch) && !want->walks;
	lock_give(&fetch->lock);
	ahead_budget(&fetch->ahead, climbs, &budget);
	return want_join_with_company(want, &budget, out);
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
	want.listed = known_size == SIZE_UNKNOWN && want_was_listed(fetch, company);
	lock_take(&fetch->lock);
	status = join_content_locked(&want, out);
	lock_give(&fetch->lock);
	if (status == -EAGAIN)
		status = join_content_anew(&want, out);
	want_look_again(&want);
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
