/*
 * latency: how long something took, as a histogram that many threads fill and anybody reads.
 *
 * Buckets grow with the value: each power of two of nanoseconds is cut into eight, so that a
 * percentile is within 7 % of the truth from 8 ns to centuries. The maximum is exact.
 *
 *	zeroed ---> latency_add ... ---> latency_read whenever somebody wants to know
 *
 * Threads: any, without locks. A reading taken while others add is a reading of some moment in
 * between.
 */
#ifndef MOUNT_LATENCY_H
#define MOUNT_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#include "mount/session.h"

#define LATENCY_BUCKET_COUNT (62 * 8)

struct latency {
	_Atomic uint64_t buckets[LATENCY_BUCKET_COUNT]; /* relaxed: each stands for itself */
	_Atomic uint64_t max_ns;
};

void latency_add(struct latency *latency, uint64_t ns);

/* Percentiles by nearest rank, in microseconds, rounded up; all 0 as long as nothing was added. */
void latency_read(const struct latency *latency, struct session_latency *out);

#endif
