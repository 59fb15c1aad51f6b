/* Tests of fetch/ahead: the window that opens and falls back, and what counts as used. */
#include "fetch/ahead.h"

#include "base/clock.h"
#include "tap.h"

static struct ahead ahead;
static struct fetch_budget budget;
static uint32_t next_id;
static unsigned step;

static struct oid new_oid(void)
{
	struct oid oid = { .algo = OID_SHA1 };
	uint64_t mixed = (uint64_t)++next_id * 0x9e3779b97f4a7c15u;

	memcpy(oid.hash, &mixed, sizeof(mixed));
	return oid;
}

static void start(void)
{
	memset(&ahead, 0, sizeof(ahead));
	ahead_init(&ahead, 1u << 20);
	next_id = 0;
}

/* One miss that brings `brought` objects of which `used` are read. */
static void miss(unsigned brought, unsigned used)
{
	ahead_budget(&ahead, false, &budget);
	for (unsigned i = 0; i < brought; i++) {
		struct oid oid = new_oid();

		ahead_brought(&ahead, &oid, 100, CRAWL_NO_STEP);
		if (i < used)
			ahead_used(&ahead, &oid, &step);
	}
}

static void test_first_miss_brings_a_little_of_its_directory(void)
{
	start();
	miss(0, 0);
	CHECK_UINT(budget.count, 64);
	CHECK_UINT(budget.bytes, 256 * 1024);
	CHECK_UINT(budget.object_bytes, 64 * 1024);
	CHECK(!budget.leave_directory);
}

static void test_window_doubles_while_what_it_brings_is_read(void)
{
	static const size_t counts[] = { 64, 128, 256, 512, 1024, 2048, 4096, 4096 };

	start();
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		miss(40, 36);
		CHECK_UINT(budget.count, counts[i]);
		CHECK(budget.bytes <= 8u << 20);
		CHECK(budget.object_bytes <= 1u << 20);
		CHECK_INT(budget.leave_directory, counts[i] > 64);
	}
	CHECK_UINT(budget.bytes, 8u << 20);
}

static void test_window_falls_back_when_it_was_wrong(void)
{
	start();
	for (int i = 0; i < 5; i++)
		miss(40, 40);
	CHECK_UINT(budget.count, 1024);
	miss(400, 20);
	miss(0, 0);
	CHECK_UINT(budget.count, 64);
}

static void test_scattered_reads_never_open_the_window(void)
{
	start();
	for (int i = 0; i < 20; i++) {
		miss(63, 0);
		CHECK_UINT(budget.count, 64);
	}
}

static void test_crawl_through_small_directories_opens_it(void)
{
	start();
	for (int i = 0; i < 40; i++)
		miss(1, 1);
	CHECK(budget.count >= 256);
}

static void test_first_read_counts_once(void)
{
	struct oid oid, never;

	start();
	oid = new_oid();
	never = new_oid();
	CHECK(!ahead_used(&ahead, &oid, &step));
	ahead_brought(&ahead, &oid, 100, CRAWL_NO_STEP);
	CHECK(!ahead_used(&ahead, &never, &step));
	CHECK(ahead_used(&ahead, &oid, &step));
	CHECK(!ahead_used(&ahead, &oid, &step));
	CHECK_UINT(ahead.total_used, 1);
}

static void test_wrong_guesses_use_up_the_credit_which_recovers(void)
{
	clock_fake(1000);
	start();
	ahead_budget(&ahead, false, &budget);
	CHECK_UINT(budget.bytes, 256 * 1024);
	for (unsigned i = 0; i < 128; i++) {
		struct oid oid = new_oid();

		ahead_brought(&ahead, &oid, 256 * 1024, CRAWL_NO_STEP);
	}
	ahead_budget(&ahead, false, &budget);
	CHECK_UINT(budget.bytes, 0);
	clock_fake_advance(100);
	ahead_budget(&ahead, false, &budget);
	CHECK_UINT(budget.bytes, 100 * 1024);
	clock_fake_advance(3600 * 1000);
	ahead_budget(&ahead, false, &budget);
	CHECK_UINT(budget.bytes, 256 * 1024);
	clock_real();
}

static void test_what_is_read_gives_its_credit_back(void)
{
	struct oid oids[128];

	clock_fake(1000);
	start();
	for (unsigned i = 0; i < 128; i++) {
		oids[i] = new_oid();
		ahead_brought(&ahead, &oids[i], 256 * 1024, CRAWL_NO_STEP);
	}
	for (unsigned i = 0; i < 128; i++)
		ahead_used(&ahead, &oids[i], &step);
	ahead_budget(&ahead, false, &budget);
	CHECK(budget.bytes >= 256 * 1024);
	CHECK_UINT(ahead_unread_bytes(&ahead), 0);
	clock_real();
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_first_miss_brings_a_little_of_its_directory);
	TAP_RUN(test_window_doubles_while_what_it_brings_is_read);
	TAP_RUN(test_window_falls_back_when_it_was_wrong);
	TAP_RUN(test_scattered_reads_never_open_the_window);
	TAP_RUN(test_crawl_through_small_directories_opens_it);
	TAP_RUN(test_first_read_counts_once);
	TAP_RUN(test_wrong_guesses_use_up_the_credit_which_recovers);
	TAP_RUN(test_what_is_read_gives_its_credit_back);
	return tap_done();
}
