/* lock and clock: holders, conditions, threads, faked time. */
#include "base/lock.h"

#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "tests/tap.h"

static void test_the_holder_is_known(void)
{
	struct lock lock;

	lock_init(&lock);
	CHECK(!lock_held(&lock));
	lock_take(&lock);
	CHECK(lock_held(&lock));
	lock_give(&lock);
	CHECK(!lock_held(&lock));
	lock_release(&lock);
}

static void test_what_is_kept_in_the_future_is_as_old_as_can_be(void)
{
	static const struct {
		int64_t then_s, age_s;
	} rows[] = {
		{ 1000, 0 },
		{ 999, 1 },
		{ 0, 1000 },
		{ -1000, 2000 },
		{ 1001, INT64_MAX },
		{ INT64_MAX, INT64_MAX },
		{ INT64_MIN, INT64_MAX },
	};

	clock_fake(1000 * 1000);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_INT(clock_age_s(rows[i].then_s), rows[i].age_s);
	clock_real();
	CHECK_INT(clock_age_s(clock_wall_s() + 1000), INT64_MAX);
	CHECK(clock_age_s(clock_wall_s() - 1000) < INT64_MAX);
}

struct gate {
	struct lock lock;
	struct lock_cond cond;
	/* under lock */
	int turn;
	bool other_held;
	uint64_t count;
};

static void gate_init(struct gate *gate)
{
	memset(gate, 0, sizeof(*gate));
	lock_init(&gate->lock);
	lock_cond_init(&gate->cond);
}

static void gate_release(struct gate *gate)
{
	lock_cond_release(&gate->cond);
	lock_release(&gate->lock);
}

static void *look_at_holder(void *arg)
{
	struct gate *gate = arg;

	gate->other_held = lock_held(&gate->lock);
	return NULL;
}

static void test_another_thread_does_not_hold_it(void)
{
	struct gate gate;
	pthread_t thread;

	gate_init(&gate);
	lock_take(&gate.lock);
	CHECK_INT(thread_start(&thread, "looks", look_at_holder, &gate), 0);
	pthread_join(thread, NULL);
	CHECK(!gate.other_held);
	CHECK(lock_held(&gate.lock));
	lock_give(&gate.lock);
	gate_release(&gate);
}

/* Ping-pong: each thread waits for its turn, so that every wake-up counts. */
static void *odd_turns(void *arg)
{
	struct gate *gate = arg;

	for (int i = 0; i < 500; i++) {
		lock_take(&gate->lock);
		while (gate->turn % 2 == 0)
			lock_cond_wait(&gate->cond, &gate->lock);
		if (!lock_held(&gate->lock))
			abort();
		gate->turn++;
		lock_cond_signal(&gate->cond);
		lock_give(&gate->lock);
	}
	return NULL;
}

static void test_conditions_wake(void)
{
	struct gate gate;
	pthread_t thread;

	gate_init(&gate);
	CHECK_INT(thread_start(&thread, "odd", odd_turns, &gate), 0);
	for (int i = 0; i < 500; i++) {
		lock_take(&gate.lock);
		while (gate.turn % 2 == 1)
			CHECK(lock_cond_wait_ms(&gate.cond, &gate.lock, 60000));
		gate.turn++;
		lock_cond_broadcast(&gate.cond);
		lock_give(&gate.lock);
	}
	pthread_join(thread, NULL);
	CHECK_INT(gate.turn, 1000);
	gate_release(&gate);
}

static void test_a_wait_ends_in_real_time(void)
{
	struct gate gate;
	uint64_t start = clock_ns();

	gate_init(&gate);
	clock_fake(1000);
	lock_take(&gate.lock);
	while (lock_cond_wait_ms(&gate.cond, &gate.lock, 20))
		; /* a wake-up without a signal is allowed */
	CHECK(lock_held(&gate.lock));
	lock_give(&gate.lock);
	clock_real();
	CHECK(clock_ns() - start >= 20 * 1000000u);
	gate_release(&gate);
}

static void *count_up(void *arg)
{
	struct gate *gate = arg;

	for (int i = 0; i < 10000; i++) {
		lock_take(&gate->lock);
		gate->count++;
		lock_give(&gate->lock);
	}
	return NULL;
}

static void test_a_lock_excludes(void)
{
	struct gate gate;
	pthread_t threads[4];

	gate_init(&gate);
	for (int i = 0; i < 4; i++)
		CHECK_INT(thread_start(&threads[i], "counts", count_up, &gate), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_UINT(gate.count, 40000);
	gate_release(&gate);
}

static void *look_at_thread(void *arg)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	*(bool *)arg = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1;
	return NULL;
}

static void test_threads_start_with_signals_blocked(void)
{
	pthread_t thread;
	bool blocked = false;
	sigset_t mask;

	CHECK_INT(thread_start(&thread, "a name that is far too long", look_at_thread, &blocked),
		  0);
	pthread_join(thread, NULL);
	CHECK(blocked);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	CHECK_INT(sigismember(&mask, SIGTERM), 0);
}

static void test_time_can_be_faked(void)
{
	uint64_t ns = clock_ns();

	clock_fake(123456);
	CHECK_UINT(clock_ms(), 123456);
	CHECK_INT(clock_wall_s(), 123);
	clock_fake_advance(1000);
	CHECK_UINT(clock_ms(), 124456);
	CHECK(clock_ns() >= ns);
	clock_real();
	CHECK(clock_wall_s() > 1500000000);
	CHECK(clock_ms() >= ns / 1000000);
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_what_is_kept_in_the_future_is_as_old_as_can_be);
	TAP_RUN(test_the_holder_is_known);
	TAP_RUN(test_another_thread_does_not_hold_it);
	TAP_RUN(test_conditions_wake);
	TAP_RUN(test_a_wait_ends_in_real_time);
	TAP_RUN(test_a_lock_excludes);
	TAP_RUN(test_threads_start_with_signals_blocked);
	TAP_RUN(test_time_can_be_faked);
	return tap_done();
}
