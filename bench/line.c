/*
 * See line.h. What is left out on purpose: losses and all that follows from them (a full queue
 * makes senders wait instead), the bytes of headers, and congestion avoidance.
 */
#include "bench/line.h"

static uint64_t time_of(const struct line *line, size_t len)
{
	return line->mbit ? (uint64_t)len * 8000 / line->mbit : 0;
}

size_t line_room(const struct line *line, uint64_t now_ns)
{
	if (!line->mbit || line->free_ns <= now_ns)
		return line->queue_len;
	uint64_t queued = (line->free_ns - now_ns) * line->mbit / 8000;

	return queued < line->queue_len ? line->queue_len - queued : 0;
}

uint64_t line_room_at(const struct line *line, size_t len)
{
	uint64_t ahead_ns = time_of(line, line->queue_len - len);

	return line->free_ns > ahead_ns ? line->free_ns - ahead_ns : 0;
}

uint64_t line_send(struct line *line, uint64_t now_ns, size_t len)
{
	if (line->free_ns < now_ns)
		line->free_ns = now_ns;
	line->free_ns += time_of(line, len);
	return line->free_ns;
}

void window_open(struct window *window, size_t most_len, uint64_t round_trip_ns)
{
	*window = (struct window){
		.len = WINDOW_INITIAL_LEN < most_len ? WINDOW_INITIAL_LEN : most_len,
		.most_len = most_len,
		/* Linux's, with a steady round trip: never less than 200 ms more than it. */
		.rto_ns = round_trip_ns + 200000000,
	};
}

/* As tcp_cwnd_restart() of Linux: halved for each timeout that passed, not below the initial. */
static void shrink_after_idle(struct window *window, uint64_t now_ns)
{
	while (now_ns - window->last_ns > window->rto_ns && window->len > WINDOW_INITIAL_LEN) {
		window->last_ns += window->rto_ns;
		window->len /= 2;
		if (window->len < WINDOW_INITIAL_LEN)
			window->len = WINDOW_INITIAL_LEN;
	}
}

size_t window_room(struct window *window, uint64_t now_ns)
{
	if (!window->in_flight)
		shrink_after_idle(window, now_ns);
	return window->in_flight < window->len ? window->len - window->in_flight : 0;
}

size_t window_sent(struct window *window, uint64_t now_ns, size_t len)
{
	window->last_ns = now_ns;
	return window->in_flight += len;
}

/* In full use as Linux has it in slow start: more than half of it is on its way. */
void window_acked(struct window *window, size_t len, size_t in_flight_then)
{
	window->in_flight -= len;
	if (in_flight_then * 2 <= window->len)
		return;
	window->len = window->most_len - window->len > len ? window->len + len : window->most_len;
}
