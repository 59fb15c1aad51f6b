/*
 * The arithmetic of a long line, without sockets: when bytes leave a bottleneck that many
 * connections share, and how much one connection may have on its way.
 *
 *	line_room() -> line_send() -> ... time passes ...
 *	window_room() -> window_sent() -> ... a round trip ... -> window_acked()
 *
 * A line is one direction: a rate, and a queue of bounded length in front of it. A window is
 * one connection in one direction: slow start as Linux does it, without losses. Times are
 * nanoseconds of any one clock and are handed in, so that tests need no clock.
 *
 * Threads: none; the caller serializes.
 */
#ifndef BENCH_LINE_H
#define BENCH_LINE_H

#include <stddef.h>
#include <stdint.h>

#define SEGMENT_LEN 1460u
#define WINDOW_INITIAL_LEN (10 * SEGMENT_LEN)

struct line {
	unsigned mbit; /* per second; 0: no bottleneck */
	size_t queue_len;
	uint64_t free_ns; /* when what was sent so far has left */
};

/* How many bytes may join the queue now; the whole queue when there is no bottleneck. */
size_t line_room(const struct line *line, uint64_t now_ns);

/* When line_room() will be at least len, which is at most queue_len. */
uint64_t line_room_at(const struct line *line, size_t len);

/* Puts len bytes behind what is queued; returns when the last of them has left. */
uint64_t line_send(struct line *line, uint64_t now_ns, size_t len);

struct window {
	size_t len;	  /* what may be on its way */
	size_t most_len;  /* its limit: the receiver's or the sender's buffer */
	size_t in_flight; /* sent and not acknowledged */
	uint64_t rto_ns;  /* a pause as long as this halves the window */
	uint64_t last_ns; /* of the last window_sent() */
};

void window_open(struct window *window, size_t most_len, uint64_t round_trip_ns);

/* How many bytes may be sent now; a connection that was idle first loses what it had won. */
size_t window_room(struct window *window, uint64_t now_ns);

/* Counts len bytes as on their way; returns what window_acked() wants to know about them. */
size_t window_sent(struct window *window, uint64_t now_ns, size_t len);

/* len bytes arrived; the window grows by them when it was in full use as they were sent. */
void window_acked(struct window *window, size_t len, size_t in_flight_then);

#endif
