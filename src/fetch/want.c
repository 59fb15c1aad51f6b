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

/* ---- a new flight takes its place ---- */

/* A flight that was HELD by the caller all the while, unless somebody else found a place for it. */
static void leave(struct fetch *fetch, const struct oid *oid, enum flight_kind kind,
		  const struct fetch_list *company, enum flight_kind company_kind)
{
	struct ending ending = ENDING_INIT(ending);
	struct flight *flight;

	lock_take(&fetch->lock);
	flight = flight_find_locked(&fetch->table, oid, kind);
	if (flight && flight->state == FLIGHT_HELD && !flight->list) {
		if (flight->waiter_count)
			fetch_route_locked(fetch, flight, &ending);
		else
			fetch_flight_free_locked(fetch, flight);
	}
	if (company)
		add_company_locked(fetch, company, company_kind);
	lock_give(&fetch->lock);
	ending_run(&ending);
	fetch_pump(fetch);
}

/*
 * It is here after all. 1: the caller's own wait is undone, *out is its answer; 0: somebody has
 * ended it already.
 */
static int found_late(struct fetch *fetch, struct fetch_waiter *waiter, struct content *content)
{
	bool own;

	lock_take(&fetch->lock);
	own = waiter->state == FETCH_WAITER_PARKED;
	if (own)
		flight_leave_locked(&fetch->table, waiter, FETCH_WAITER_IDLE);
	lock_give(&fetch->lock);
	fetch_deliver_hit(fetch, content);
	return own;
}

/* ---- content ---- */

struct want {
	struct fetch *fetch;
	struct oid oid;
	enum object_type type;
	uint64_t size;
	const struct fetch_company *company;
	struct fetch_waiter *waiter;
};

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

enum joined {
	JOINED_HIT,
	JOINED_CANCELED,
	JOINED_NO_MEMORY,
	JOINED_OLD,
	JOINED_COVERED,
	JOINED_NEW
};

static enum joined join_new_locked(struct want *want)
{
	struct fetch *fetch = want->fetch;
	struct flight *carrier = carrier_of_content_locked(want);
	struct flight *flight = flight_new_locked(&fetch->table, &want->oid, FLIGHT_CONTENT,
						  want->type, want->size);

	if (!flight)
		return JOINED_NO_MEMORY;
	flight_join_locked(&fetch->table, flight, want->waiter, false, clock_ms());
	if (!carrier)
		return JOINED_NEW;
	flight_cover_locked(&fetch->table, flight, carrier);
	return JOINED_COVERED;
}

static enum joined join_content_locked(struct want *want, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct flight *flight = flight_find_locked(&fetch->table, &want->oid, FLIGHT_CONTENT);

	if (flight && flight->state == FLIGHT_ARRIVED) {
		*out = content_ref(flight->content);
		return JOINED_HIT;
	}
	if (want->waiter->state == FETCH_WAITER_CANCELED || fetch->closing)
		return JOINED_CANCELED;
	if (!flight)
		return join_new_locked(want);
	flight_join_locked(&fetch->table, flight, want->waiter, false, clock_ms());
	if (flight->size == SIZE_UNKNOWN)
		flight->size = want->size;
	flight_promote_locked(&fetch->table, flight,
			      want->type == OBJECT_BLOB ? LANE_DEMAND : LANE_META);
	return JOINED_OLD;
}

static bool wants_company(const struct want *want)
{
	const struct fetch *fetch = want->fetch;

	return want->company && want->type == OBJECT_BLOB && (fetch->caps & REMOTE_OBJECTS) &&
	       (want->size == SIZE_UNKNOWN || want->size <= fetch->config.large_limit);
}

static void leave_with_company(struct want *want)
{
	struct fetch_list list = { 0 };
	struct fetch_budget budget;

	if (wants_company(want)) {
		ahead_budget(&want->fetch->ahead, &budget);
		gather(want->company, &budget, &list);
	}
	leave(want->fetch, &want->oid, FLIGHT_CONTENT, &list, FLIGHT_CONTENT);
	fetch_list_release(&list);
}

static int want_content(struct want *want, struct content **out)
{
	struct fetch *fetch = want->fetch;
	struct content *content = NULL;
	enum joined joined;
	int status;

	lock_take(&fetch->lock);
	joined = join_content_locked(want, &content);
	lock_give(&fetch->lock);
	switch (joined) {
	case JOINED_HIT:
		*out = content;
		return 1;
	case JOINED_CANCELED:
		return -ECANCELED;
	case JOINED_NO_MEMORY:
		return -ENOMEM;
	case JOINED_OLD:
		fetch_pump(fetch); /* a promotion may have made it due */
		return 0;
	case JOINED_COVERED:
	case JOINED_NEW:
		break;
	}

	/* It may have come between the look into the cache and the flight. */
	if (fetch_hit(fetch, &want->oid, &content) && content) {
		status = found_late(fetch, want->waiter, content);
		if (status)
			*out = content;
		else
			content_unref(content);
		return status;
	}
	if (joined == JOINED_NEW)
		leave_with_company(want);
	else
		fetch_pump(fetch);
	return 0;
}

int fetch_content(struct fetch *fetch, const struct oid *oid, enum object_type type,
		  uint64_t known_size, const struct fetch_company *company,
		  struct fetch_waiter *waiter, struct content **out)
{
	struct want want = { fetch, *oid, type, known_size, company, waiter };

	if (fetch_hit(fetch, oid, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	return want_content(&want, out);
}

/* ---- sizes ---- */

/* Where a new want for a size goes, and who comes along. */
enum size_way { SIZE_JOINED, SIZE_COVERED, SIZE_ALONE, SIZE_GATHER_SIZES, SIZE_GATHER_CONTENTS };

static enum size_way place_size_locked(struct fetch *fetch, struct flight *flight,
				       const struct fetch_company *company, bool listed)
{
	struct flight *carrier = fetch_carrier_locked(fetch, OBJECT_BLOB);
	bool has_tree = company && !oid_is_null(&company->tree);

	if (!carrier && fetch_can_sizes_locked(fetch)) {
		if (!company || fetch->size_gathering)
			return SIZE_ALONE;
		fetch->size_gathering = true;
		return SIZE_GATHER_SIZES;
	}
	if (!carrier && has_tree && fetch_can_list_locked(fetch)) {
		if (listed) {
			flight->above_limit = true;
			return SIZE_ALONE;
		}
		carrier = flight_find_locked(&fetch->table, &company->tree, FLIGHT_LISTING);
		if (!carrier) {
			carrier = flight_new_locked(&fetch->table, &company->tree, FLIGHT_LISTING,
						    OBJECT_TREE, SIZE_UNKNOWN);
			if (carrier)
				flight_queue_locked(&fetch->table, carrier, LANE_META, WAY_LISTING);
		}
	}
	if (carrier) {
		flight_cover_locked(&fetch->table, flight, carrier);
		return SIZE_COVERED;
	}
	return company && (fetch->caps & REMOTE_OBJECTS) ? SIZE_GATHER_CONTENTS : SIZE_ALONE;
}

static int join_size_locked(struct fetch *fetch, const struct oid *oid,
			    const struct fetch_company *company, bool listed,
			    struct fetch_waiter *waiter, uint64_t *out, enum size_way *out_way)
{
	struct flight *flight = flight_find_locked(&fetch->table, oid, FLIGHT_CONTENT);

	*out_way = SIZE_JOINED;
	if (flight && flight->state == FLIGHT_ARRIVED) {
		*out = flight->content->size;
		return 1;
	}
	if (waiter->state == FETCH_WAITER_CANCELED || fetch->closing)
		return -ECANCELED;
	if (!flight)
		flight = flight_find_locked(&fetch->table, oid, FLIGHT_SIZE);
	if (flight) {
		flight_join_locked(&fetch->table, flight, waiter, true, clock_ms());
		flight_promote_locked(&fetch->table, flight,
				      flight->way == WAY_OBJECTS || flight->way == WAY_LARGE ?
					      LANE_DEMAND :
					      LANE_META);
		return 0;
	}
	flight = flight_new_locked(&fetch->table, oid, FLIGHT_SIZE, OBJECT_BLOB, SIZE_UNKNOWN);
	if (!flight)
		return -ENOMEM;
	flight_join_locked(&fetch->table, flight, waiter, true, clock_ms());
	*out_way = place_size_locked(fetch, flight, company, listed);
	return 0;
}

static void leave_for_sizes(struct fetch *fetch, const struct oid *oid,
			    const struct fetch_company *company)
{
	const struct fetch_budget budget = {
		.count = SIZES_COMPANY,
		.bytes = UINT64_MAX,
		.object_bytes = UINT64_MAX,
		.leave_directory = true,
	};
	struct fetch_list list = { 0 };

	gather(company, &budget, &list);
	lock_take(&fetch->lock);
	fetch->size_gathering = false;
	lock_give(&fetch->lock);
	leave(fetch, oid, FLIGHT_SIZE, &list, FLIGHT_SIZE);
	fetch_list_release(&list);
}

/* Nothing but the contents tells the sizes: those of the directory, in one batch. */
static void leave_for_contents(struct fetch *fetch, const struct oid *oid,
			       const struct fetch_company *company)
{
	const struct fetch_budget budget = {
		.count = DIRECTORY_COMPANY,
		.bytes = UINT64_MAX,
		.object_bytes = UINT64_MAX,
	};
	struct fetch_list list = { 0 };

	gather(company, &budget, &list);
	leave(fetch, oid, FLIGHT_SIZE, &list, FLIGHT_CONTENT);
	fetch_list_release(&list);
}

/* The size came between the look into the cache and the flight. */
static bool size_found_late(struct fetch *fetch, const struct oid *oid, struct fetch_waiter *waiter,
			    uint64_t *out)
{
	bool own;

	if (!fetch_size_known(fetch, oid, out))
		return false;
	lock_take(&fetch->lock);
	own = waiter->state == FETCH_WAITER_PARKED;
	if (own)
		flight_leave_locked(&fetch->table, waiter, FETCH_WAITER_IDLE);
	lock_give(&fetch->lock);
	fetch_deliver_size(fetch, oid, *out);
	return own;
}

static void leave_in_size_way(struct fetch *fetch, const struct oid *oid,
			      const struct fetch_company *company, enum size_way way)
{
	switch (way) {
	case SIZE_GATHER_SIZES:
		leave_for_sizes(fetch, oid, company);
		break;
	case SIZE_GATHER_CONTENTS:
		leave_for_contents(fetch, oid, company);
		break;
	case SIZE_ALONE:
		leave(fetch, oid, FLIGHT_SIZE, NULL, FLIGHT_SIZE);
		break;
	case SIZE_JOINED:
	case SIZE_COVERED:
		fetch_pump(fetch);
		break;
	}
}

static bool was_listed(struct fetch *fetch, const struct fetch_company *company)
{
	return company && !oid_is_null(&company->tree) && !(fetch->caps & REMOTE_SIZES) &&
	       fetch_listed(fetch, &company->tree);
}

int fetch_size(struct fetch *fetch, const struct oid *oid, const struct fetch_company *company,
	       struct fetch_waiter *waiter, uint64_t *out)
{
	enum size_way way;
	bool listed, late;
	int status;

	if (fetch_size_known(fetch, oid, out))
		return 1;
	if (fetch->config.offline)
		return -ENETUNREACH;
	listed = was_listed(fetch, company);
	lock_take(&fetch->lock);
	status = join_size_locked(fetch, oid, company, listed, waiter, out, &way);
	lock_give(&fetch->lock);
	if (status || way == SIZE_JOINED) {
		if (!status)
			fetch_pump(fetch);
		return status;
	}
	late = size_found_late(fetch, oid, waiter, out);
	leave_in_size_way(fetch, oid, company, way);
	return late;
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
