/*
 * retry: exponential backoff with jitter, and the state that people see. No clock and no I/O in
 * here: times come in.
 */
#include "fetch/retry.h"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS 8000
#define OFFLINE_PACE_MS 1000

void retry_init(struct retry *retry, uint64_t patience_ms, uint64_t seed)
{
	*retry = (struct retry){ .patience_ms = patience_ms, .random = seed | 1 };
}

/* xorshift64: good enough to spread clients. */
static uint64_t random_next(struct retry *retry)
{
	retry->random ^= retry->random << 13;
	retry->random ^= retry->random >> 7;
	retry->random ^= retry->random << 17;
	return retry->random;
}

/* Whoever waits for `patience_ms` gets several attempts. */
static uint64_t backoff_ms(struct retry *retry)
{
	uint64_t full = BACKOFF_MAX_MS;

	if (retry->failures <= 5)
		full = (uint64_t)BACKOFF_FIRST_MS << (retry->failures - 1);
	if (full > retry->patience_ms / 4)
		full = retry->patience_ms / 4;
	return full / 2 + random_next(retry) % (full / 2 + 1);
}

void retry_failed(struct retry *retry, uint64_t now_ms, uint64_t retry_after_ms, bool answered,
		  uint64_t silent_ms)
{
	uint64_t wait_ms;

	retry->failures++;
	if (answered) {
		retry_answered(retry);
	} else {
		if (!retry->silent_since_ms)
			retry->silent_since_ms = silent_ms ? silent_ms : 1;
		if (now_ms >= retry->silent_since_ms + retry->patience_ms)
			retry->offline = true;
	}
	wait_ms = retry->offline ? OFFLINE_PACE_MS : backoff_ms(retry);
	if (retry_after_ms > retry->patience_ms / 4 * 3)
		retry_after_ms = retry->patience_ms / 4 * 3;
	if (retry_after_ms && now_ms + retry_after_ms > retry->told_ms)
		retry->told_ms = now_ms + retry_after_ms;
	if (now_ms + wait_ms > retry->not_before_ms)
		retry->not_before_ms = now_ms + wait_ms;
}

bool retry_answered(struct retry *retry)
{
	bool was_offline = retry->offline;

	retry->silent_since_ms = 0;
	retry->offline = false;
	return was_offline;
}

void retry_succeeded(struct retry *retry)
{
	retry_answered(retry);
	retry->failures = 0;
	retry->not_before_ms = 0;
}

uint64_t retry_wait_ms(const struct retry *retry, uint64_t now_ms)
{
	uint64_t until_ms = retry->told_ms > retry->not_before_ms ? retry->told_ms :
								    retry->not_before_ms;

	return until_ms > now_ms ? until_ms - now_ms : 0;
}

enum fetch_state retry_state(const struct retry *retry)
{
	if (retry->offline)
		return FETCH_OFFLINE;
	return retry->failures ? FETCH_FAILING : FETCH_ONLINE;
}
