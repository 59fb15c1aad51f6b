/*
 * window: two runs and their arithmetic.
 */
#include "fetch/window.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a < UINT64_MAX - b ? a + b : UINT64_MAX;
}

void windows_init(struct windows *windows, uint64_t max_len)
{
	*windows = (struct windows){ .max_len = larger(max_len, WINDOW_MIN_LEN) };
}

static uint64_t round_up(uint64_t off)
{
	return sum(off, WINDOW_MIN_LEN - 1) / WINDOW_MIN_LEN * WINDOW_MIN_LEN;
}

static bool is_sure(const struct window *window)
{
	return window->start == 0 || window->run_len >= WINDOW_SURE_LEN;
}

uint64_t window_end(const struct window *window)
{
	if (!window->turn)
		return 0;
	if (!window->goes_on)
		return window->start ? window->next : larger(window->next, window->len);
	return sum(window->next,
		   is_sure(window) ? window->len : smaller(window->run_len / 3, window->len));
}

uint64_t windows_end(const struct windows *windows)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < WINDOW_COUNT; i++)
		end = larger(end, window_end(&windows->v[i]));
	return end;
}

uint64_t windows_end_careful(const struct windows *windows)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < WINDOW_COUNT; i++) {
		const struct window *window = &windows->v[i];
		uint64_t own = window_end(window);

		if (window->turn && !window->goes_on && !window->start)
			own = larger(window->next, smaller(own, WINDOW_FIRST_LEN / 4));
		end = larger(end, own);
	}
	return end;
}

static bool belongs(const struct window *window, uint64_t off)
{
	uint64_t reach = larger(window_end(window), sum(window->next, WINDOW_BACK_LEN));

	return window->turn && sum(off, WINDOW_BACK_LEN) >= window->next && off >= window->start &&
	       off <= reach;
}

/* The run that a read goes on with: the one whose end is nearest. */
static struct window *find(struct windows *windows, uint64_t off)
{
	struct window *found = NULL;
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < WINDOW_COUNT; i++) {
		struct window *window = &windows->v[i];
		uint64_t apart = off > window->next ? off - window->next : window->next - off;

		if (!belongs(window, off) || apart >= best)
			continue;
		best = apart;
		found = window;
	}
	return found;
}

static struct window *begin(struct windows *windows, uint64_t off, size_t len)
{
	struct window *oldest = &windows->v[0];

	for (unsigned i = 1; i < WINDOW_COUNT; i++) {
		if (windows->v[i].turn < oldest->turn)
			oldest = &windows->v[i];
	}
	*oldest = (struct window){
		.start = off,
		.next = sum(off, len),
		.run_len = len,
		.len = smaller(WINDOW_FIRST_LEN, windows->max_len),
		.base = off,
	};
	return oldest;
}

struct window *windows_read(struct windows *windows, uint64_t off, size_t len)
{
	struct window *window = find(windows, off);
	uint64_t end = sum(off, len);

	if (!window) {
		window = begin(windows, off, len);
	} else if (end > window->next) {
		/* the kernel cuts what is not aligned: its last page is no second read */
		window->goes_on = window->goes_on || end > round_up(window->next);
		window->run_len += end - larger(window->next, off);
		window->next = end;
	}
	window->turn = ++windows->turn;
	return window;
}

void window_starved(const struct windows *windows, struct window *window, uint64_t off,
		    uint64_t round_trip_ms)
{
	uint64_t factor = round_trip_ms < WINDOW_LONG_LINK_MS ? 1 : 4;
	uint64_t read_len = off > window->base ? off - window->base : 0;

	if (!window->goes_on || !is_sure(window))
		return;
	read_len = smaller(read_len, windows->max_len); /* no overflow */
	window->len = larger(window->len, smaller(read_len * factor, windows->max_len));
}

void window_shrink(struct window *window)
{
	window->len = larger(window->len / 2, WINDOW_MIN_LEN);
	window->base = window->next;
}
