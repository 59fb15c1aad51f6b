/*
 * room: keeps the directory below its limit (limit.h) by giving up what was not read lately
 * (hand.h), before something is written.
 *
 *	room_new ---> room_make before each append ---> room_free
 *
 * Threads: the writer's, under the write lock.
 */
#ifndef CACHE_ROOM_H
#define CACHE_ROOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cache/limit.h"
#include "cache/recency.h"
#include "cache/segment.h"
#include "cache/store.h"

struct room {
	struct limit limit;
	/* since it was made */
	uint64_t given_up, kept; /* records */
	uint64_t given_up_bytes;
};

struct room *room_new(uint64_t max_len); /* NULL when out of memory; max_len as in limit.h */
void room_free(struct room *room);

/*
 * Makes room for `len` more bytes; `force`: so much is given back in any case, because the disk
 * turned out to be full. `segment` takes what is kept; it is the one of this process. -ENOSPC when
 * nothing is left to give up, other errors of the index or the disk.
 */
int room_make(struct room *room, const struct store *store, struct recency *recency,
	      struct segment_writer *segment, uint64_t len, uint64_t force, struct xcp_error *err);

#endif
