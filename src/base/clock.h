/*
 * clock: monotonic and wall time, replaceable in tests.
 *
 * Threads: any. clock_fake() and clock_fake_advance() are for tests; the fake is process-wide.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ms(void);    /* monotonic */
uint64_t clock_ns(void);    /* monotonic, for latencies; never faked */
int64_t clock_wall_s(void); /* seconds since 1970; may be set back and forth at any time */
/*
 * Seconds since `then_s`, by the wall. INT64_MAX when that lies in the future: a clock was set, and
 * what was kept then is as old as can be.
 */
int64_t clock_age_s(int64_t then_s);

void clock_fake(uint64_t ms); /* from here on clock_ms() is this, and clock_wall_s() ms/1000 */
void clock_fake_advance(uint64_t ms); /* moves a faked clock */
void clock_real(void);

#endif
