/* Tests of fetch/retry: times go in, times come out. */
#include "fetch/retry.h"

#include "tap.h"

static void test_waits_double_with_jitter_up_to_eight_seconds(void)
{
	static const uint64_t full[] = { 250, 500, 1000, 2000, 4000, 8000, 8000, 8000 };
	struct retry retry;
	uint64_t now_ms = 1000;

	retry_init(&retry, 1000000, 42);
	for (size_t i = 0; i < sizeof(full) / sizeof(*full); i++) {
		uint64_t wait_ms;

		retry_failed(&retry, now_ms, 0, true, 0);
		wait_ms = retry_wait_ms(&retry, now_ms);
		CHECK_MSG(wait_ms >= full[i] / 2 && wait_ms <= full[i], "failure %zu: %" PRIu64, i,
			  wait_ms);
		CHECK_INT(retry_state(&retry), FETCH_FAILING);
		now_ms += wait_ms;
		CHECK_UINT(retry_wait_ms(&retry, now_ms), 0);
	}
}

static void test_little_patience_makes_waits_short(void)
{
	struct retry retry;

	retry_init(&retry, 3000, 42);
	for (unsigned i = 0; i < 20; i++) {
		retry_failed(&retry, i * 1000, 0, true, 0);
		CHECK(retry_wait_ms(&retry, i * 1000) <= 750);
	}
}

static void test_two_clients_do_not_wait_alike(void)
{
	struct retry a, b;
	unsigned same = 0;

	retry_init(&a, 1000000, 1);
	retry_init(&b, 1000000, 12345);
	for (unsigned i = 0; i < 20; i++) {
		retry_failed(&a, i * 10000, 0, true, 0);
		retry_failed(&b, i * 10000, 0, true, 0);
		same += retry_wait_ms(&a, i * 10000) == retry_wait_ms(&b, i * 10000);
	}
	CHECK(same < 5);
}

static void test_retry_after_is_a_lower_bound(void)
{
	struct retry retry;

	retry_init(&retry, 30000, 1);
	retry_failed(&retry, 1000, 20000, true, 0);
	CHECK_UINT(retry_wait_ms(&retry, 1000), 20000);
	retry_failed(&retry, 2000, 0, true, 0); /* does not shorten it */
	CHECK_UINT(retry_wait_ms(&retry, 2000), 19000);
	retry_failed(&retry, 30000, 3600000, true, 0);
	CHECK_UINT(retry_wait_ms(&retry, 30000), 22500);
}

static void test_success_forgets_everything(void)
{
	struct retry retry;

	retry_init(&retry, 30000, 1);
	retry_failed(&retry, 1000, 0, false, 1000);
	retry_succeeded(&retry);
	CHECK_UINT(retry_wait_ms(&retry, 1000), 0);
	CHECK_INT(retry_state(&retry), FETCH_ONLINE);
	retry_failed(&retry, 2000, 0, true, 0);
	CHECK(retry_wait_ms(&retry, 2000) <= 250);
}

static void test_silence_for_long_is_offline_and_errors_are_not(void)
{
	struct retry silent, talking;

	retry_init(&silent, 30000, 1);
	retry_init(&talking, 30000, 1);
	for (uint64_t now_ms = 1000; now_ms <= 30000; now_ms += 1000) {
		retry_failed(&silent, now_ms, 0, false, now_ms);
		retry_failed(&talking, now_ms, 0, true, 0);
		CHECK_INT(retry_state(&silent), FETCH_FAILING);
	}
	retry_failed(&silent, 31000, 0, false, 31000);
	CHECK_INT(retry_state(&silent), FETCH_OFFLINE);
	CHECK_INT(retry_state(&talking), FETCH_FAILING);
}

static void test_offline_is_tried_once_a_second(void)
{
	struct retry retry;

	retry_init(&retry, 30000, 1);
	retry_failed(&retry, 1000, 0, false, 1000);
	for (uint64_t now_ms = 40000; now_ms < 60000; now_ms += 1000) {
		retry_failed(&retry, now_ms, 0, false, now_ms);
		CHECK_UINT(retry_wait_ms(&retry, now_ms), 1000);
	}
	CHECK(retry_answered(&retry));
	CHECK(!retry_answered(&retry));
	CHECK_INT(retry_state(&retry), FETCH_FAILING);
}

static void test_what_the_server_asked_for_outlives_a_success(void)
{
	struct retry retry;

	retry_init(&retry, 30000, 7);
	retry_failed(&retry, 1000, 5000, true, 0);
	retry_succeeded(&retry);
	CHECK_UINT(retry_wait_ms(&retry, 1000), 5000);
	CHECK_UINT(retry_wait_ms(&retry, 6000), 0);
	CHECK_INT(retry_state(&retry), FETCH_ONLINE);
	retry_failed(&retry, 10000, 0, true, 0);
	CHECK(retry_wait_ms(&retry, 10000) > 0);
	retry_succeeded(&retry);
	CHECK_UINT(retry_wait_ms(&retry, 10000), 0);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_waits_double_with_jitter_up_to_eight_seconds);
	TAP_RUN(test_little_patience_makes_waits_short);
	TAP_RUN(test_two_clients_do_not_wait_alike);
	TAP_RUN(test_retry_after_is_a_lower_bound);
	TAP_RUN(test_success_forgets_everything);
	TAP_RUN(test_silence_for_long_is_offline_and_errors_are_not);
	TAP_RUN(test_offline_is_tried_once_a_second);
	TAP_RUN(test_what_the_server_asked_for_outlives_a_success);
	return tap_done();
}
