/*
 * retry: when to try again, and what is thought of the remote. The one home of the policy.
 *
 *	ONLINE ---> FAILING ---> OFFLINE (silent for `patience_ms`)
 *	   ^------------'------------' any success
 *
 * A wait between attempts doubles from 250 ms to 8 s (a quarter of the patience at most), and is
 * drawn from its upper half, so that many clients do not come back at once. What the server asks
 * for (Retry-After) is a lower bound, up to three quarters of the patience: whoever waits has heard
 * of a failure by then, and the next read gets its attempt. It holds even when something else
 * succeeds meanwhile, which was on its way before. An answer that is an error still shows
 * that the remote is there: only silence makes it offline.
 *
 * Threads: a struct belongs to whoever holds its owner's lock.
 */
#ifndef FETCH_RETRY_H
#define FETCH_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "fetch/fetch.h"

struct retry {
	uint64_t patience_ms;
	unsigned failures;	  /* in a row */
	uint64_t not_before_ms;	  /* no attempt before this time */
	uint64_t told_ms;	  /* likewise, as the server asked for */
	uint64_t silent_since_ms; /* failing without an answer since; 0: it answers */
	bool offline;
	uint64_t random; /* state of the jitter; any seed */
};

void retry_init(struct retry *retry, uint64_t patience_ms, uint64_t seed);

/*
 * An attempt ended in nothing. `silent_ms`: nothing was heard since then; ignored when `answered`.
 */
void retry_failed(struct retry *retry, uint64_t now_ms, uint64_t retry_after_ms, bool answered,
		  uint64_t silent_ms);
/* Something came, whatever it was. True when the remote was thought to be offline. */
bool retry_answered(struct retry *retry);
void retry_succeeded(struct retry *retry);

/* 0: an attempt may be made now; else how long until then. */
uint64_t retry_wait_ms(const struct retry *retry, uint64_t now_ms);
enum fetch_state retry_state(const struct retry *retry);

#endif
