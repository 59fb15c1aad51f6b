/* Tests of bench/line.c. */
#include "bench/line.h"

#include "tests/tap.h"

#define MS 1000000u
#define MOST_LEN (1u << 20)

static struct line hundred_mbit(void)
{
	return (struct line){ .mbit = 100, .queue_len = 100000 };
}

static void test_bytes_leave_at_the_rate_of_the_line(void)
{
	struct line line = hundred_mbit();

	/* 12,500 bytes are a millisecond. */
	CHECK_UINT(line_send(&line, 5 * MS, 12500), 6 * MS);
	CHECK_UINT(line_send(&line, 5 * MS, 25000), 8 * MS);
	CHECK_UINT(line_send(&line, 20 * MS, 12500), 21 * MS);
}

static void test_a_second_carries_the_rate_whatever_the_pieces(void)
{
	struct line line = { .mbit = 1000, .queue_len = 1u << 20 };
	uint64_t now_ns = 0, sent = 0;

	while (now_ns < 1000 * MS) {
		if (line_room(&line, now_ns) < 65536) {
			now_ns = line_room_at(&line, 65536);
			continue;
		}
		line_send(&line, now_ns, 65536);
		sent += 65536;
	}
	CHECK(sent >= 125000000 && sent <= 125000000 + (1u << 20) + 65536);
}

static void test_the_queue_is_bounded(void)
{
	struct line line = hundred_mbit();

	CHECK_UINT(line_room(&line, 0), 100000);
	line_send(&line, 0, 100000);
	CHECK_UINT(line_room(&line, 0), 0);
	CHECK_UINT(line_room(&line, 4 * MS), 50000);
	CHECK_UINT(line_room_at(&line, 50000), 4 * MS);
	CHECK_UINT(line_room_at(&line, 100000), 8 * MS);
	CHECK_UINT(line_room(&line, 8 * MS), 100000);
}

static void test_no_bottleneck_delays_nothing(void)
{
	struct line line = { .mbit = 0, .queue_len = 1000 };

	CHECK_UINT(line_send(&line, 7 * MS, 1000), 7 * MS);
	CHECK_UINT(line_room(&line, 7 * MS), 1000);
	CHECK(line_room_at(&line, 1000) <= 7 * MS);
}

/* Sends all that may be sent and has it acknowledged a round trip later; returns how much. */
static size_t round_trip(struct window *window, uint64_t now_ns)
{
	size_t len = window_room(window, now_ns);
	size_t then = window_sent(window, now_ns, len);

	window_acked(window, len, then);
	return len;
}

static void test_a_full_window_doubles_with_each_round_trip(void)
{
	struct window window;

	window_open(&window, MOST_LEN, 50 * MS);
	for (size_t want = 14600, now = 1; want < MOST_LEN; want *= 2, now += 50 * MS)
		CHECK_UINT(round_trip(&window, now), want);
	CHECK_UINT(round_trip(&window, 400 * MS), MOST_LEN);
	CHECK_UINT(round_trip(&window, 450 * MS), MOST_LEN);
}

static void test_a_window_grows_with_each_piece_that_arrives(void)
{
	struct window window;

	window_open(&window, MOST_LEN, 50 * MS);
	size_t first = window_sent(&window, 1, 7300), second = window_sent(&window, 1, 7300);

	CHECK_UINT(window_room(&window, 1), 0);
	window_acked(&window, 7300, first);
	CHECK_UINT(window_room(&window, 50 * MS), 7300); /* half of it was in use: no growth */
	window_acked(&window, 7300, second);
	CHECK_UINT(window_room(&window, 50 * MS), 14600 + 7300);
}

static void test_a_window_in_little_use_stays(void)
{
	struct window window;

	window_open(&window, MOST_LEN, 50 * MS);
	for (unsigned i = 0; i < 10; i++)
		window_acked(&window, 7300, window_sent(&window, i * 50 * MS, 7300));
	CHECK_UINT(window_room(&window, 500 * MS), 14600);
}

static void test_a_pause_halves_the_window_for_each_timeout(void)
{
	struct window window;

	window_open(&window, MOST_LEN, 50 * MS); /* its timeout is 250 ms */
	for (uint64_t now = 1; now < 400 * MS; now += 50 * MS)
		round_trip(&window, now);
	CHECK_UINT(window_room(&window, 600 * MS), MOST_LEN);
	CHECK_UINT(window_room(&window, 601 * MS + 1), MOST_LEN / 2);
	CHECK_UINT(window_room(&window, 601 * MS + 1), MOST_LEN / 2);
	CHECK_UINT(window_room(&window, 852 * MS), MOST_LEN / 4);
	CHECK_UINT(window_room(&window, 60000 * MS), 14600);
}

static void test_what_is_on_its_way_is_no_pause(void)
{
	struct window window;

	window_open(&window, MOST_LEN, 50 * MS);
	round_trip(&window, 1);
	window_sent(&window, 50 * MS, 1460);
	CHECK_UINT(window_room(&window, 60000 * MS), 29200 - 1460);
}

static void test_a_small_limit_holds_from_the_start(void)
{
	struct window window;

	window_open(&window, 5000, 50 * MS);
	CHECK_UINT(round_trip(&window, 1), 5000);
	CHECK_UINT(round_trip(&window, 2), 5000);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_bytes_leave_at_the_rate_of_the_line);
	TAP_RUN(test_a_second_carries_the_rate_whatever_the_pieces);
	TAP_RUN(test_the_queue_is_bounded);
	TAP_RUN(test_no_bottleneck_delays_nothing);
	TAP_RUN(test_a_full_window_doubles_with_each_round_trip);
	TAP_RUN(test_a_window_grows_with_each_piece_that_arrives);
	TAP_RUN(test_a_window_in_little_use_stays);
	TAP_RUN(test_a_pause_halves_the_window_for_each_timeout);
	TAP_RUN(test_what_is_on_its_way_is_no_pause);
	TAP_RUN(test_a_small_limit_holds_from_the_start);
	return tap_done();
}
