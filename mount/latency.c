/*
 * A histogram with eight buckets per octave. Values below eight nanoseconds have a bucket each;
 * above, the three bits behind the leading one choose the bucket. Reading walks some five hundred
 * counters, which is fine for a statistic asked for by a person.
 */
#include "mount/latency.h"

#include <string.h>

static unsigned bucket_of(uint64_t ns)
{
	if (ns < 8)
		return (unsigned)ns;
	unsigned log2 = 63 - (unsigned)__builtin_clzll(ns);
	unsigned mantissa = (unsigned)(ns >> (log2 - 3)) & 7;

	return (log2 - 2) * 8 + mantissa;
}

/* The middle of what falls into a bucket. */
static uint64_t bucket_value(unsigned bucket)
{
	if (bucket < 8)
		return bucket;
	unsigned shift = bucket / 8 - 1;
	uint64_t low = (uint64_t)(8 + bucket % 8) << shift;

	return low + ((1ull << shift) >> 1);
}

void latency_add(struct latency *latency, uint64_t ns)
{
	atomic_fetch_add_explicit(&latency->buckets[bucket_of(ns)], 1, memory_order_relaxed);

	uint64_t max = atomic_load_explicit(&latency->max_ns, memory_order_relaxed);

	while (ns > max &&
	       !atomic_compare_exchange_weak_explicit(&latency->max_ns, &max, ns,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

static uint64_t us_rounded_up(uint64_t ns)
{
	return ns / 1000 + (ns % 1000 != 0);
}

static uint64_t percentile_us(const uint64_t *counts, uint64_t total, unsigned percent,
			      uint64_t max_ns)
{
	uint64_t rank = total / 100 * percent + (total % 100 * percent + 99) / 100;
	uint64_t seen = 0;

	for (unsigned i = 0; i < LATENCY_BUCKET_COUNT; i++) {
		seen += counts[i];
		if (seen >= rank) {
			uint64_t value = bucket_value(i);

			return us_rounded_up(value < max_ns ? value : max_ns);
		}
	}
	return us_rounded_up(max_ns);
}

void latency_read(const struct latency *latency, struct session_latency *out)
{
	uint64_t counts[LATENCY_BUCKET_COUNT], total = 0;

	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < LATENCY_BUCKET_COUNT; i++) {
		counts[i] = atomic_load_explicit(&latency->buckets[i], memory_order_relaxed);
		total += counts[i];
	}
	if (total == 0)
		return;

	uint64_t max_ns = atomic_load_explicit(&latency->max_ns, memory_order_relaxed);

	out->count = total;
	out->p50_us = percentile_us(counts, total, 50, max_ns);
	out->p95_us = percentile_us(counts, total, 95, max_ns);
	out->p99_us = percentile_us(counts, total, 99, max_ns);
	out->max_us = us_rounded_up(max_ns);
}
