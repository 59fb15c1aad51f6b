/*
 * flight: the table of what is on its way. A fixed number of buckets keyed by the id's own bytes,
 * so that nothing here can run out of memory but the flight itself.
 */
#include "fetch/flight.h"

#include <assert.h>
#include <stdlib.h>

#include "fetch/crawl.h"

#define assert_locked(table) assert(lock_held((table)->lock))

void flight_table_init(struct flight_table *table, struct lock *lock)
{
	*table = (struct flight_table){ .lock = lock };
	for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
		LIST_INIT(&table->buckets[i]);
	for (int lane = 0; lane < LANE_COUNT; lane++)
		for (int way = 0; way < WAY_COUNT; way++)
			TAILQ_INIT(&table->queues[lane][way]);
	TAILQ_INIT(&table->waited);
	TAILQ_INIT(&table->kept);
}

static struct flight_bucket *bucket_of(struct flight_table *table, const struct oid *oid)
{
	uint32_t hash;

	memcpy(&hash, oid->hash, sizeof(hash));
	return &table->buckets[hash % FLIGHT_BUCKETS];
}

struct flight *flight_find_locked(struct flight_table *table, const struct oid *oid,
				  enum flight_kind kind)
{
	struct flight *flight;

	assert_locked(table);
	LIST_FOREACH(flight, bucket_of(table, oid), bucket) {
		if (flight->kind == kind && oid_equal(&flight->oid, oid))
			return flight;
	}
	return NULL;
}

struct flight *flight_new_locked(struct flight_table *table, const struct oid *oid,
				 enum flight_kind kind, enum object_type type, uint64_t size)
{
	struct flight *flight = calloc(1, sizeof(*flight));

	assert_locked(table);
	if (!flight)
		return NULL;
	flight->oid = *oid;
	flight->kind = kind;
	flight->state = FLIGHT_HELD;
	flight->type = type;
	flight->size = size;
	flight->step = CRAWL_NO_STEP;
	TAILQ_INIT(&flight->covered);
	TAILQ_INIT(&flight->waiters);
	LIST_INSERT_HEAD(bucket_of(table, oid), flight, bucket);
	table->count++;
	return flight;
}

/* Takes it out of the one list that it is in. */
static void unlink_locked(struct flight_table *table, struct flight *flight)
{
	if (flight->list)
		TAILQ_REMOVE(flight->list, flight, link);
	if (flight->state == FLIGHT_ARRIVED)
		table->arrived_count--;
	if (flight->state == FLIGHT_QUEUED)
		table->queued[flight->lane][flight->way]--;
	flight->list = NULL;
	flight->batch = NULL;
	flight->carrier = NULL;
	flight->kept_ms = 0;
	flight->state = FLIGHT_HELD;
}

static void link_locked(struct flight *flight, struct flight_list *list, enum flight_state state)
{
	TAILQ_INSERT_TAIL(list, flight, link);
	flight->list = list;
	flight->state = state;
}

void flight_free_locked(struct flight_table *table, struct flight *flight)
{
	assert_locked(table);
	assert(!flight->waiter_count && TAILQ_EMPTY(&flight->covered));
	unlink_locked(table, flight);
	LIST_REMOVE(flight, bucket);
	table->count--;
	content_unref(flight->content);
	if (flight->parts)
		fetch_list_release(flight->parts);
	free(flight->parts);
	free(flight);
}

/* ---- where it stands ---- */

void flight_hold_locked(struct flight_table *table, struct flight *flight, struct flight_list *list)
{
	assert_locked(table);
	unlink_locked(table, flight);
	if (list)
		link_locked(flight, list, FLIGHT_HELD);
}

void flight_queue_locked(struct flight_table *table, struct flight *flight, enum lane lane,
			 enum way way)
{
	assert_locked(table);
	unlink_locked(table, flight);
	flight->lane = lane;
	flight->way = way;
	link_locked(flight, &table->queues[lane][way], FLIGHT_QUEUED);
	table->queued[lane][way]++;
}

void flight_ride_locked(struct flight_table *table, struct flight *flight, struct batch *batch,
			struct flight_list *riding)
{
	assert_locked(table);
	unlink_locked(table, flight);
	link_locked(flight, riding, FLIGHT_RIDING);
	flight->batch = batch;
}

void flight_cover_locked(struct flight_table *table, struct flight *flight, struct flight *carrier)
{
	assert_locked(table);
	unlink_locked(table, flight);
	link_locked(flight, &carrier->covered, FLIGHT_COVERED);
	flight->carrier = carrier;
}

void flight_arrive_locked(struct flight_table *table, struct flight *flight,
			  struct content *content)
{
	assert_locked(table);
	unlink_locked(table, flight);
	flight->state = FLIGHT_ARRIVED;
	table->arrived_count++;
	flight->content = content_ref(content);
	flight->size = content->size;
}

void flight_keep_locked(struct flight_table *table, struct flight *flight, uint64_t now_ms)
{
	assert_locked(table);
	unlink_locked(table, flight);
	link_locked(flight, &table->kept, FLIGHT_ARRIVED);
	table->arrived_count++;
	flight->kept_ms = now_ms ? now_ms : 1;
}

bool flight_promote_locked(struct flight_table *table, struct flight *flight, enum lane lane)
{
	assert_locked(table);
	if (flight->state != FLIGHT_QUEUED || flight->lane <= lane)
		return false;
	flight_queue_locked(table, flight, lane, flight->way);
	return true;
}

bool flight_wanted_locked(const struct flight *flight)
{
	const struct flight *covered;

	if (flight->waiter_count)
		return true;
	TAILQ_FOREACH(covered, &flight->covered, link) {
		if (covered->waiter_count)
			return true;
	}
	return false;
}

bool flight_content_wanted_locked(const struct flight *flight)
{
	const struct fetch_waiter *waiter;

	TAILQ_FOREACH(waiter, &flight->waiters, entry) {
		if (!waiter->size_only)
			return true;
	}
	return false;
}

/* ---- waiters ---- */

void flight_join_locked(struct flight_table *table, struct flight *flight,
			struct fetch_waiter *waiter, bool size_only, uint64_t now_ms)
{
	assert_locked(table);
	waiter->flight = flight;
	waiter->since_ms = now_ms;
	waiter->state = FETCH_WAITER_PARKED;
	waiter->size_only = size_only;
	TAILQ_INSERT_TAIL(&flight->waiters, waiter, entry);
	if (!flight->waiter_count++)
		TAILQ_INSERT_TAIL(&table->waited, flight, waited);
	table->waiter_count++;
}

void flight_leave_locked(struct flight_table *table, struct fetch_waiter *waiter, int state)
{
	struct flight *flight = waiter->flight;

	assert_locked(table);
	assert(waiter->state == FETCH_WAITER_PARKED);
	TAILQ_REMOVE(&flight->waiters, waiter, entry);
	waiter->flight = NULL;
	waiter->state = state;
	if (!--flight->waiter_count)
		TAILQ_REMOVE(&table->waited, flight, waited);
	table->waiter_count--;
}

void flight_move_waiters_locked(struct flight_table *table, struct flight *from, struct flight *to)
{
	struct fetch_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&from->waiters))) {
		flight_leave_locked(table, waiter, FETCH_WAITER_IDLE);
		flight_join_locked(table, to, waiter, waiter->size_only, waiter->since_ms);
	}
}

static void end_locked(struct flight_table *table, struct fetch_waiter *waiter,
		       struct ending *ending, int status, struct content *content, uint64_t size)
{
	flight_leave_locked(table, waiter, FETCH_WAITER_DONE);
	waiter->status = status;
	waiter->content = waiter->size_only ? NULL : content;
	waiter->size = size;
	TAILQ_INSERT_TAIL(&ending->waiters, waiter, entry);
}

void ending_add_locked(struct flight_table *table, struct flight *flight, struct ending *ending,
		       int status, struct content *content, uint64_t size)
{
	struct fetch_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&flight->waiters)))
		end_locked(table, waiter, ending, status, content, size);
}

void ending_add_sizes_locked(struct flight_table *table, struct flight *flight,
			     struct ending *ending, uint64_t size)
{
	struct fetch_waiter *waiter = TAILQ_FIRST(&flight->waiters);

	while (waiter) {
		struct fetch_waiter *next = TAILQ_NEXT(waiter, entry);

		if (waiter->size_only)
			end_locked(table, waiter, ending, 0, NULL, size);
		waiter = next;
	}
}

void ending_add_one_locked(struct flight_table *table, struct fetch_waiter *waiter,
			   struct ending *ending, int status)
{
	end_locked(table, waiter, ending, status, NULL, 0);
}

void ending_run(struct ending *ending)
{
	struct fetch_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&ending->waiters))) {
		struct content *content = waiter->content;

		/* It may be gone, or used again, as soon as it has been called. */
		TAILQ_REMOVE(&ending->waiters, waiter, entry);
		waiter->content = NULL;
		waiter->done(waiter, waiter->status, content, waiter->size);
	}
}
