/*
 * window: how far ahead of the readers of one large file to ask.
 *
 * Two runs are told apart, so that two readers of one file do not spoil each other's. A read
 * belongs to a run when it goes on where that has come to, a little before (the kernel sends its
 * read-ahead in any order) or ahead of it within what is asked for. Any other read begins a run in
 * place of the one that was used less recently.
 *
 *	a run begins at the file's start: WINDOW_FIRST_LEN, the read itself among it
 *	it begins elsewhere: nothing ahead; a third of what was read in a row, till that is
 *	                     WINDOW_SURE_LEN; so a random read costs what it asks for
 *	from then on: `len`: when the reader starves, as much as it has read (on a long link,
 *	                     where each step costs a round trip, four times that) since the run
 *	                     began or memory was short; halved where it is
 *
 * Threads: a struct belongs to whoever holds its owner's lock. No clocks, no I/O.
 */
#ifndef FETCH_WINDOW_H
#define FETCH_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_FIRST_LEN ((uint64_t)1 << 20)
#define WINDOW_SURE_LEN ((uint64_t)2 << 20)
/* What 100 ms at 1 Gbit/s take, and the time to ask. */
#define WINDOW_MAX_LEN ((uint64_t)64 << 20)
#define WINDOW_MIN_LEN ((uint64_t)128 * 1024)
#define WINDOW_BACK_LEN ((uint64_t)1 << 20)
#define WINDOW_COUNT 2
#define WINDOW_LONG_LINK_MS 30

struct window {
	uint64_t start;	  /* where the run began */
	uint64_t next;	  /* where the furthest read ended */
	uint64_t run_len; /* bytes read in a row */
	uint64_t len;	  /* what to have ahead */
	uint64_t base;	  /* what was read from here on lets it grow */
	uint64_t turn;	  /* of the last read; 0: not in use */
	bool goes_on;	  /* a second read went on where the first had come to */
};

struct windows {
	struct window v[WINDOW_COUNT];
	uint64_t max_len;
	uint64_t turn;
};

void windows_init(struct windows *windows, uint64_t max_len);

/* A read, answered at once or not. Returns its run. */
struct window *windows_read(struct windows *windows, uint64_t off, size_t len);

/* The reader of this run waits for bytes at `off`, which come from afar. */
void window_starved(const struct windows *windows, struct window *window, uint64_t off,
		    uint64_t round_trip_ms);
/* There is no room for what it asks. */
void window_shrink(struct window *window);

/* Up to where to ask; 0 when it is not in use. */
uint64_t window_end(const struct window *window);

/* The furthest of all. */
uint64_t windows_end(const struct windows *windows);
/*
 * The same where what is on its way cannot be stopped at once: after a single read of the file's
 * start, a quarter of the first window.
 */
uint64_t windows_end_careful(const struct windows *windows);

#endif
