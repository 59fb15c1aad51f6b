/*
 * clock: the two clocks of the program. The fake is one atomic number, so that threads of a test
 * may read while the test moves it.
 */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* process-wide on purpose: a test that fakes time fakes it for every module */
static _Atomic bool faked;
static _Atomic uint64_t fake_ms;

static uint64_t read_ns(clockid_t id)
{
	struct timespec now = { 0, 0 };

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_ms(void)
{
	if (atomic_load(&faked))
		return atomic_load(&fake_ms);
	return clock_ns() / 1000000u;
}

int64_t clock_wall_s(void)
{
	if (atomic_load(&faked))
		return (int64_t)(atomic_load(&fake_ms) / 1000u);
	return (int64_t)(read_ns(CLOCK_REALTIME) / 1000000000u);
}

int64_t clock_age_s(int64_t then_s)
{
	int64_t now_s = clock_wall_s(), age_s;

	if (then_s > now_s || __builtin_sub_overflow(now_s, then_s, &age_s))
		return INT64_MAX;
	return age_s;
}

void clock_fake(uint64_t ms)
{
	atomic_store(&fake_ms, ms);
	atomic_store(&faked, true);
}

void clock_fake_advance(uint64_t ms)
{
	atomic_fetch_add(&fake_ms, ms);
}

void clock_real(void)
{
	atomic_store(&faked, false);
}
