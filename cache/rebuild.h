/*
 * rebuild: puts into the index what lies in the segments and the index does not know. After the
 * index was lost that is everything; after a writer was killed, its last batch; after processes of
 * another PID namespace, with their own index, were at it, what they stored.
 *
 *	rebuild_new ---> rebuild_step till nothing is left ---> rebuild_free
 *
 * Every segment is read from where the index knows it, the newest first, and each record is
 * checked. How far it has come is in the index itself, so that several processes share the work
 * and a killed one is gone on from.
 *
 * What lies nowhere but in the index is not found again: sizes of what is not here, facts, what was
 * adopted (it is hashed again).
 *
 * Threads: one; rebuild_step() under the write lock.
 */
#ifndef CACHE_REBUILD_H
#define CACHE_REBUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cache/store.h"

struct rebuild;

struct rebuild_progress {
	uint64_t total_bytes, done_bytes; /* of segments; total may grow */
	uint64_t records, bad;		  /* found, and torn or damaged */
};

/* Looks which segments there are. NULL when out of memory. */
struct rebuild *rebuild_new(const struct store *store);
void rebuild_free(struct rebuild *rebuild);

/* A megabyte or so. 1: there is more, 0: that was all, or -errno of the index. */
int rebuild_step(struct rebuild *rebuild, const struct store *store, struct xcp_error *err);

void rebuild_progress(const struct rebuild *rebuild, struct rebuild_progress *out);

#endif
