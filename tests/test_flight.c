/* Tests of fetch/flight: places, waiters, endings. */
#include "fetch/flight.h"

#include "tap.h"

static struct lock lock;
static struct flight_table table;
static unsigned called, last_status;

static void on_done(struct fetch_waiter *waiter, int status, struct content *content, uint64_t size)
{
	(void)waiter, (void)content, (void)size;
	called++;
	last_status = (unsigned)-status;
}

static struct oid oid_of(uint8_t n)
{
	struct oid oid = { .algo = OID_SHA1 };

	oid.hash[0] = n;
	return oid;
}

static struct flight *new_flight(uint8_t n, enum flight_kind kind)
{
	struct oid oid = oid_of(n);

	return flight_new_locked(&table, &oid, kind, OBJECT_BLOB, SIZE_UNKNOWN);
}

static void start(void)
{
	lock_init(&lock);
	flight_table_init(&table, &lock);
	lock_take(&lock);
	called = 0;
}

static void end(void)
{
	lock_give(&lock);
	lock_release(&lock);
}

static void test_flight_is_found_by_id_and_kind(void)
{
	struct flight *content, *size;
	struct oid oid = oid_of(1), other = oid_of(2);

	start();
	content = new_flight(1, FLIGHT_CONTENT);
	size = new_flight(1, FLIGHT_SIZE);
	CHECK_PTR(flight_find_locked(&table, &oid, FLIGHT_CONTENT), content);
	CHECK_PTR(flight_find_locked(&table, &oid, FLIGHT_SIZE), size);
	CHECK_NULL(flight_find_locked(&table, &oid, FLIGHT_LISTING));
	CHECK_NULL(flight_find_locked(&table, &other, FLIGHT_CONTENT));
	CHECK_UINT(table.count, 2);
	flight_free_locked(&table, content);
	flight_free_locked(&table, size);
	CHECK_UINT(table.count, 0);
	end();
}

static void test_flight_is_in_one_list_at_a_time(void)
{
	struct flight_list riding = TAILQ_HEAD_INITIALIZER(riding);
	struct flight *flight, *carrier;

	start();
	flight = new_flight(1, FLIGHT_CONTENT);
	carrier = new_flight(2, FLIGHT_LISTING);
	flight_queue_locked(&table, flight, LANE_AHEAD, WAY_OBJECTS);
	CHECK_UINT(table.queued[LANE_AHEAD][WAY_OBJECTS], 1);
	CHECK(flight_promote_locked(&table, flight, LANE_DEMAND));
	CHECK(!flight_promote_locked(&table, flight, LANE_DEMAND));
	CHECK_UINT(table.queued[LANE_AHEAD][WAY_OBJECTS], 0);
	CHECK_UINT(table.queued[LANE_DEMAND][WAY_OBJECTS], 1);
	flight_ride_locked(&table, flight, NULL, &riding);
	CHECK_UINT(table.queued[LANE_DEMAND][WAY_OBJECTS], 0);
	CHECK_PTR(TAILQ_FIRST(&riding), flight);
	CHECK(!flight_promote_locked(&table, flight, LANE_META));
	flight_cover_locked(&table, flight, carrier);
	CHECK(TAILQ_EMPTY(&riding));
	CHECK_PTR(TAILQ_FIRST(&carrier->covered), flight);
	flight_hold_locked(&table, flight, NULL);
	CHECK(TAILQ_EMPTY(&carrier->covered));
	flight_free_locked(&table, flight);
	flight_free_locked(&table, carrier);
	end();
}

static void test_waiters_end_together_and_each_once(void)
{
	struct ending ending = ENDING_INIT(ending);
	struct fetch_waiter waiters[3];
	struct flight *flight;

	start();
	flight = new_flight(1, FLIGHT_CONTENT);
	for (int i = 0; i < 3; i++) {
		fetch_waiter_init(&waiters[i], on_done);
		flight_join_locked(&table, flight, &waiters[i], false, 5);
	}
	CHECK_UINT(table.waiter_count, 3);
	CHECK_PTR(TAILQ_FIRST(&table.waited), flight);
	flight_leave_locked(&table, &waiters[1], FETCH_WAITER_CANCELED);
	ending_add_locked(&table, flight, &ending, -5, NULL, 0);
	CHECK(TAILQ_EMPTY(&table.waited));
	CHECK_UINT(table.waiter_count, 0);
	flight_free_locked(&table, flight);
	end();
	CHECK_UINT(called, 0); /* not before the lock was given back */
	ending_run(&ending);
	CHECK_UINT(called, 2);
	CHECK_UINT(last_status, 5);
	CHECK_INT(waiters[1].state, FETCH_WAITER_CANCELED);
}

static void test_only_those_that_wait_for_the_size_end_with_it(void)
{
	struct ending ending = ENDING_INIT(ending);
	struct fetch_waiter content, size;
	struct flight *flight;

	start();
	flight = new_flight(1, FLIGHT_CONTENT);
	fetch_waiter_init(&content, on_done);
	fetch_waiter_init(&size, on_done);
	flight_join_locked(&table, flight, &content, false, 0);
	flight_join_locked(&table, flight, &size, true, 0);
	ending_add_sizes_locked(&table, flight, &ending, 42);
	CHECK_UINT(flight->waiter_count, 1);
	CHECK_INT(size.state, FETCH_WAITER_DONE);
	CHECK_UINT(size.size, 42);
	ending_add_locked(&table, flight, &ending, 0, NULL, 42);
	flight_free_locked(&table, flight);
	end();
	ending_run(&ending);
	CHECK_UINT(called, 2);
}

static void test_carrier_is_wanted_when_something_it_covers_is(void)
{
	struct flight *carrier, *covered;
	struct fetch_waiter waiter;

	start();
	carrier = new_flight(1, FLIGHT_LISTING);
	covered = new_flight(2, FLIGHT_SIZE);
	flight_cover_locked(&table, covered, carrier);
	CHECK(!flight_wanted_locked(carrier));
	fetch_waiter_init(&waiter, on_done);
	flight_join_locked(&table, covered, &waiter, true, 0);
	CHECK(flight_wanted_locked(carrier));
	flight_leave_locked(&table, &waiter, FETCH_WAITER_CANCELED);
	flight_free_locked(&table, covered);
	flight_free_locked(&table, carrier);
	end();
}

static void test_arrived_flight_keeps_its_content(void)
{
	struct oid oid = oid_of(1);
	struct content *content = content_from_block_take(&oid, OBJECT_BLOB, block_copy("x", 1));
	struct flight *flight;

	start();
	flight = new_flight(1, FLIGHT_CONTENT);
	flight_arrive_locked(&table, flight, content);
	CHECK_UINT(table.arrived_count, 1);
	CHECK_UINT(flight->size, 1);
	content_unref(content);
	flight_keep_locked(&table, flight, 7);
	CHECK_UINT(table.arrived_count, 1);
	CHECK_PTR(TAILQ_FIRST(&table.kept), flight);
	CHECK_UINT(flight->content->size, 1);
	flight_free_locked(&table, flight);
	CHECK_UINT(table.arrived_count, 0);
	CHECK(TAILQ_EMPTY(&table.kept));
	end();
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_flight_is_found_by_id_and_kind);
	TAP_RUN(test_flight_is_in_one_list_at_a_time);
	TAP_RUN(test_waiters_end_together_and_each_once);
	TAP_RUN(test_only_those_that_wait_for_the_size_end_with_it);
	TAP_RUN(test_carrier_is_wanted_when_something_it_covers_is);
	TAP_RUN(test_arrived_flight_keeps_its_content);
	return tap_done();
}
