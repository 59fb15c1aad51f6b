/*
 * ahead: how much company a miss brings along, and whether it was worth it.
 *
 * The window opens at 64 objects and 256 KiB of the directory itself. When at least three quarters
 * of what was brought lately has been read it doubles, up to 4,096 objects and 8 MiB, and may
 * leave the directory; when less than half was, it falls back. What was brought and not read yet
 * is remembered by fingerprint in a table of fixed size; a newcomer pushes out whatever shares its
 * slot.
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
#include "fetch/fetch.h"

#define AHEAD_WINDOW_MIN 64
#define AHEAD_WINDOW_MAX 4096
#define AHEAD_SLOTS 16384

struct ahead {
	uint64_t large_limit;
	_Atomic unsigned window; /* objects; the other bounds follow from it */
	_Atomic uint64_t brought,
		used; /* since the window was last thought about; statistics, no ordering */
	_Atomic uint64_t total_used;
	_Atomic uint64_t slots[AHEAD_SLOTS]; /* fingerprints of what is here and unread; 0: free */
};

void ahead_init(struct ahead *ahead, uint64_t large_limit);

/* One miss: thinks about the window, and says what the miss may bring. */
void ahead_budget(struct ahead *ahead, struct fetch_budget *out);

/* An object that nobody waited for has arrived. */
void ahead_brought(struct ahead *ahead, const struct oid *oid);
/* An object is read. True the first time it is, after it was brought. */
bool ahead_used(struct ahead *ahead, const struct oid *oid);

#endif
