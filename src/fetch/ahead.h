/*
 * ahead: how much company a miss brings along, and whether it was worth it.
 *
 * The window opens at 64 objects and 256 KiB of the directory itself. When at least three quarters
 * of what was brought lately has been read it doubles, up to 4,096 objects and 8 MiB, and may
 * leave the directory; when less than half was, it falls back. Bytes are on credit besides: what is
 * brought takes from it, what is read gives back, and it recovers by 1 MiB a second, up to 32 MiB;
 * so guesses that are always wrong end up costing little. What was brought and not read yet
 * is remembered by fingerprint in a table of fixed size, with the step of the crawl that it belongs
 * to; a newcomer pushes out whatever shares its slot.
 *
 * Threads: any, without a lock: ahead_used() is on the path of every read and costs one relaxed
 * load when there is nothing to count.
 */
#ifndef FETCH_AHEAD_H
#define FETCH_AHEAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/oid.h"
#include "fetch/crawl.h"
#include "fetch/fetch.h"

#define AHEAD_WINDOW_MIN 64
#define AHEAD_WINDOW_MAX 4096
#define AHEAD_SLOTS 16384

struct ahead {
	uint64_t large_limit;
	_Atomic unsigned window; /* objects; the other bounds follow from it */
	_Atomic uint64_t brought,
		used; /* since the window was last thought about; statistics, no ordering */
	_Atomic int64_t credit;	    /* bytes; may be overdrawn */
	_Atomic uint64_t credit_ms; /* when it last recovered */
	_Atomic uint64_t total_used;
	_Atomic uint64_t total_brought, total_bytes; /* of what was brought, ever */
	_Atomic uint64_t unread;		     /* slots that are taken */
	_Atomic uint64_t used_ms;		     /* the last time that one was read */
	/* fingerprints of what is here and unread, the step in the lowest bits; 0: free */
	_Atomic uint64_t slots[AHEAD_SLOTS];
};

void ahead_init(struct ahead *ahead, uint64_t large_limit);

/*
 * One miss: thinks about the window, and says what the miss may bring. `climbs`: what leaves the
 * directory is somebody else's affair (crawl.h), so the budget does not.
 */
void ahead_budget(struct ahead *ahead, bool climbs, struct fetch_budget *out);

/* An object that nobody waited for has arrived, for this step or CRAWL_NO_STEP. */
void ahead_brought(struct ahead *ahead, const struct oid *oid, uint64_t size, unsigned step);
/* An object is read. True the first time it is, after it was brought. */
bool ahead_used(struct ahead *ahead, const struct oid *oid, unsigned *out_step);

/* About how many bytes of what was brought nobody has read yet. */
uint64_t ahead_unread_bytes(const struct ahead *ahead);

#endif
