/*
 * Tests of src/fetch/window.c: what a reader's steps make of its window.
 */
#include "fetch/window.h"

#include "tap.h"

#define KIB ((uint64_t)1024)
#define MIB ((uint64_t)1024 * 1024)

static struct windows windows;

static struct window *read_at(uint64_t off, uint64_t len)
{
	return windows_read(&windows, off, len);
}

static void test_the_first_read_asks_for_a_first_window(void)
{
	windows_init(&windows, 32 * MIB);
	CHECK_UINT(windows_end(&windows), 0);
	read_at(0, 100);
	CHECK_UINT(windows_end(&windows), MIB);
	CHECK_UINT(windows_end_careful(&windows), 256 * KIB);
	windows_init(&windows, 32 * MIB);
	read_at(0, 2 * MIB);
	CHECK_UINT(windows_end(&windows), 2 * MIB); /* the read itself, and nothing more */
	CHECK_UINT(windows_end_careful(&windows), 2 * MIB);
	read_at(2 * MIB, 10);
	CHECK_UINT(windows_end_careful(&windows), windows_end(&windows));
}

static void test_a_read_elsewhere_asks_for_itself(void)
{
	struct window *window;

	windows_init(&windows, 32 * MIB);
	window = read_at(50 * MIB, MIB);
	CHECK_UINT(window_end(window), 51 * MIB);
	window_starved(&windows, window, 50 * MIB, 0);
	CHECK_UINT(window_end(window), 51 * MIB);
}

static void test_the_last_page_of_a_read_is_no_second_read(void)
{
	struct window *window;

	windows_init(&windows, 32 * MIB);
	read_at(50 * MIB + 8 * KIB, MIB);
	window = read_at(51 * MIB + 8 * KIB, 4 * KIB);
	CHECK_UINT(window_end(window), 51 * MIB + 12 * KIB);
	window = read_at(51 * MIB + 12 * KIB, 128 * KIB);
	CHECK(window_end(window) > 51 * MIB + 140 * KIB);
}

/* As the kernel cuts 1 MiB for an ordinary user: two bytes at most for one that is read. */
static void test_a_short_run_elsewhere_asks_for_a_third_more(void)
{
	struct window *window = NULL;

	windows_init(&windows, 32 * MIB);
	for (uint64_t off = 0; off < MIB; off += 128 * KIB)
		window = read_at(50 * MIB + off, 128 * KIB);
	CHECK_UINT(window_end(window), 51 * MIB + MIB / 3);
	window_starved(&windows, window, 51 * MIB, 0);
	CHECK_UINT(window_end(window), 51 * MIB + MIB / 3);
	for (uint64_t off = MIB; off < 2 * MIB; off += 128 * KIB)
		window = read_at(50 * MIB + off, 128 * KIB);
	CHECK_UINT(window_end(window), 53 * MIB); /* sure now */
}

static void test_it_grows_on_starvation_only_by_what_was_read(void)
{
	struct window *window = NULL;

	windows_init(&windows, 8 * MIB);
	for (uint64_t off = 0; off < 6 * MIB; off += 128 * KIB)
		window = read_at(off, 128 * KIB);
	CHECK_UINT(window->len, MIB);
	window_starved(&windows, window, 6 * MIB, 0);
	CHECK_UINT(window->len, 6 * MIB);
	CHECK_UINT(window_end(window), 12 * MIB);
	window_starved(&windows, window, 3 * MIB, 0); /* it does not get smaller by that */
	CHECK_UINT(window->len, 6 * MIB);
	for (uint64_t off = 6 * MIB; off < 20 * MIB; off += 128 * KIB)
		window = read_at(off, 128 * KIB);
	window_starved(&windows, window, 20 * MIB, 0);
	CHECK_UINT(window->len, 8 * MIB); /* not beyond what there is */
}

static void test_on_a_long_link_it_grows_in_fewer_steps(void)
{
	struct window *window;

	windows_init(&windows, 32 * MIB);
	read_at(0, MIB);
	window = read_at(MIB, MIB);
	window_starved(&windows, window, MIB, WINDOW_LONG_LINK_MS);
	CHECK_UINT(window->len, 4 * MIB);
	window = read_at(2 * MIB, MIB);
	window_starved(&windows, window, 2 * MIB, WINDOW_LONG_LINK_MS);
	CHECK_UINT(window->len, 8 * MIB);
}

static void test_reads_ahead_in_any_order_are_one_run(void)
{
	static const unsigned order[] = { 0, 2, 1, 4, 3, 7, 5, 6, 8, 11, 10, 9 };
	struct window *window, *first = NULL;

	windows_init(&windows, 32 * MIB);
	for (unsigned i = 0; i < sizeof(order) / sizeof(*order); i++) {
		window = read_at(order[i] * 128 * KIB, 128 * KIB);
		first = first ? first : window;
		CHECK(window == first);
	}
	CHECK_UINT(first->next, 12 * 128 * KIB);
	CHECK_UINT(window_end(first), 12 * 128 * KIB + MIB);
}

static void test_two_readers_are_two_runs(void)
{
	struct window *low, *high;

	windows_init(&windows, 32 * MIB);
	for (unsigned i = 0; i < 30; i++) {
		low = read_at(i * 128 * KIB, 128 * KIB);
		high = read_at(40 * MIB + i * 128 * KIB, 128 * KIB);
		CHECK(low != high);
	}
	CHECK_UINT(window_end(low), 30 * 128 * KIB + MIB);
	CHECK_UINT(window_end(high), 40 * MIB + 30 * 128 * KIB + MIB);
}

static void test_a_third_takes_the_place_of_the_one_that_stopped(void)
{
	struct window *low;

	windows_init(&windows, 32 * MIB);
	read_at(0, MIB);
	low = read_at(0, MIB);
	read_at(40 * MIB, MIB);
	read_at(MIB, MIB);
	read_at(80 * MIB, MIB);
	CHECK_UINT(low->next, 2 * MIB);
	CHECK_UINT(windows_end(&windows), 81 * MIB);
}

static void test_a_step_back_stays_in_the_run(void)
{
	struct window *window;

	windows_init(&windows, 32 * MIB);
	for (unsigned i = 0; i < 4; i++)
		window = read_at(i * MIB, MIB);
	CHECK(read_at(3 * MIB + 10, 100) == window);
	CHECK_UINT(window->next, 4 * MIB);
	CHECK(read_at(MIB, 100) != window);
}

static void test_it_shrinks_to_a_block_and_grows_again(void)
{
	struct window *window;

	windows_init(&windows, 32 * MIB);
	read_at(0, MIB);
	window = read_at(MIB, MIB);
	for (unsigned i = 0; i < 10; i++)
		window_shrink(window);
	CHECK_UINT(window->len, WINDOW_MIN_LEN);
	window_starved(&windows, window, 2 * MIB, 0);
	CHECK_UINT(window->len, WINDOW_MIN_LEN);
	window_starved(&windows, window, 3 * MIB, 0); /* what was read before does not count */
	CHECK_UINT(window->len, MIB);
}

static void test_the_ends_of_numbers(void)
{
	windows_init(&windows, 0);
	read_at(UINT64_MAX - 10, 100);
	read_at(UINT64_MAX, 100);
	CHECK_UINT(windows_end(&windows), UINT64_MAX);
	CHECK_UINT(windows.max_len, WINDOW_MIN_LEN);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_the_first_read_asks_for_a_first_window);
	TAP_RUN(test_a_read_elsewhere_asks_for_itself);
	TAP_RUN(test_the_last_page_of_a_read_is_no_second_read);
	TAP_RUN(test_a_short_run_elsewhere_asks_for_a_third_more);
	TAP_RUN(test_it_grows_on_starvation_only_by_what_was_read);
	TAP_RUN(test_on_a_long_link_it_grows_in_fewer_steps);
	TAP_RUN(test_reads_ahead_in_any_order_are_one_run);
	TAP_RUN(test_two_readers_are_two_runs);
	TAP_RUN(test_a_third_takes_the_place_of_the_one_that_stopped);
	TAP_RUN(test_a_step_back_stays_in_the_run);
	TAP_RUN(test_it_shrinks_to_a_block_and_grows_again);
	TAP_RUN(test_the_ends_of_numbers);
	return tap_done();
}
