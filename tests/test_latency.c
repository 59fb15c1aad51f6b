/* Tests of mount/latency.c. */
#include "mount/latency.h"

#include <pthread.h>

#include "tests/tap.h"

static struct session_latency read_of(const struct latency *latency)
{
	struct session_latency out;

	latency_read(latency, &out);
	return out;
}

static void test_nothing_added_is_all_zero(void)
{
	static struct latency latency;
	struct session_latency out = read_of(&latency);

	CHECK_UINT(out.count, 0);
	CHECK_UINT(out.p50_us, 0);
	CHECK_UINT(out.max_us, 0);
}

static bool within_ten_percent(uint64_t got, uint64_t want)
{
	uint64_t off = got > want ? got - want : want - got;

	return off * 10 <= want + 9; /* a microsecond of rounding up */
}

static void test_one_value_is_every_percentile(void)
{
	static const uint64_t values_ns[] = {
		1,     7,     8,       9,	  999,		 1000,		1001,
		15000, 25000, 1000000, 999999999, 3600000000000, UINT64_MAX / 2
	};

	for (size_t i = 0; i < sizeof(values_ns) / sizeof(values_ns[0]); i++) {
		struct latency *latency = calloc(1, sizeof(*latency));
		uint64_t want_us = values_ns[i] / 1000 + (values_ns[i] % 1000 != 0);

		latency_add(latency, values_ns[i]);
		struct session_latency out = read_of(latency);

		free(latency);
		CHECK_UINT(out.count, 1);
		CHECK_UINT(out.max_us, want_us);
		CHECK_MSG(within_ten_percent(out.p50_us, want_us), "%" PRIu64 " ns: p50 %" PRIu64,
			  values_ns[i], out.p50_us);
		CHECK_UINT(out.p99_us, out.p50_us);
	}
}

static void test_extremes_have_a_bucket(void)
{
	static struct latency latency;

	latency_add(&latency, 0);
	latency_add(&latency, UINT64_MAX);
	CHECK_UINT(read_of(&latency).count, 2);
	CHECK_UINT(read_of(&latency).p50_us, 0);
}

static void test_percentiles_of_a_ramp(void)
{
	static struct latency latency;

	for (uint64_t us = 1; us <= 10000; us++)
		latency_add(&latency, us * 1000);
	struct session_latency out = read_of(&latency);

	CHECK_UINT(out.count, 10000);
	CHECK_MSG(within_ten_percent(out.p50_us, 5000), "%" PRIu64, out.p50_us);
	CHECK_MSG(within_ten_percent(out.p95_us, 9500), "%" PRIu64, out.p95_us);
	CHECK_MSG(within_ten_percent(out.p99_us, 9900), "%" PRIu64, out.p99_us);
	CHECK_UINT(out.max_us, 10000);
}

static void test_one_slow_of_a_hundred_is_the_maximum_not_the_p99(void)
{
	static struct latency latency;

	for (int i = 0; i < 99; i++)
		latency_add(&latency, 10000);
	latency_add(&latency, 5000000000);
	CHECK(read_of(&latency).p99_us < 20);
	CHECK_UINT(read_of(&latency).max_us, 5000000);
}

static void *add_many(void *arg)
{
	for (uint64_t i = 0; i < 100000; i++)
		latency_add(arg, i);
	return NULL;
}

static void test_none_is_lost_between_threads(void)
{
	static struct latency latency;
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, add_many, &latency);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_UINT(read_of(&latency).count, 400000);
	CHECK_UINT(read_of(&latency).max_us, 100);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_nothing_added_is_all_zero);
	TAP_RUN(test_one_value_is_every_percentile);
	TAP_RUN(test_extremes_have_a_bucket);
	TAP_RUN(test_percentiles_of_a_ramp);
	TAP_RUN(test_one_slow_of_a_hundred_is_the_maximum_not_the_p99);
	TAP_RUN(test_none_is_lost_between_threads);
	return tap_done();
}
