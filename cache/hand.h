/*
 * hand: makes room, from the oldest segment on. A clock: what was read since it last came by is
 * kept and goes to the end of the segment that is being written, what was not is given up; what is
 * pinned stays where it is. Behind the hand the file system gets its blocks back, as holes, and a
 * segment that the hand has left behind entirely is gone. So nothing is written when something is
 * read, the cost is in proportion to what is given up, and there are no thin segments.
 *
 *	hand_look at what is pinned
 *	hand_open
 *	    \-> hand_step: what becomes of the next records; nothing has happened yet
 *	           ---> the writer appends `kept`, commits what the records say and the new head
 *	           ---> hand_give_back ...
 *	\-> hand_close
 *
 * Killed between any two of these: what was kept is there twice, or blocks are given back with the
 * next step.
 *
 * Readers take no notice. One that looked up a place before, and reads it after, finds a hole or
 * nothing, and looks up again.
 *
 * Threads: the writer's, under the write lock from hand_look() to hand_give_back().
 */
#ifndef CACHE_HAND_H
#define CACHE_HAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/content.h"
#include "base/error.h"
#include "cache/recency.h"
#include "cache/store.h"

enum hand_fate {
	HAND_GIVE_UP,
	HAND_KEEP,  /* it is in `kept`, at off */
	HAND_FOUND, /* pinned, and unknown to the index: it lies here */
};

struct hand_record {
	enum hand_fate fate;
	struct oid oid;
	uint32_t block;
	bool whole; /* else a block */
	struct place from;
	size_t off;
	enum object_type type; /* HAND_FOUND */
	uint64_t size;
};

struct hand_range {
	uint64_t from, to;
};

struct hand_step {
	uint64_t segment;
	uint64_t head;	/* from here on it goes on next time */
	uint64_t from;	/* where this step began */
	uint64_t stays; /* bytes that are pinned */
	bool gone;	/* nothing is left of the segment */
	struct hand_record *records;
	size_t count, cap;
	struct buf kept;
	struct hand_range *holes; /* between what stays */
	size_t hole_count, hole_cap;
};

struct hand;

struct hand *hand_new(void); /* NULL when out of memory */
void hand_free(struct hand *hand);

/*
 * What is pinned by now. Where that changed since this index last saw it, what the hand went past
 * because of a pin is before it again.
 */
int hand_look(struct hand *hand, const struct store *store, struct xcp_error *err);

/*
 * Where the hand is: in the oldest segment that nobody writes; else the oldest that somebody else
 * writes; else in the one of this process (`own`, 0: none). -ENOENT when there is nothing more to
 * give up.
 */
int hand_open(struct hand *hand, const struct store *store, uint64_t own);
void hand_close(struct hand *hand);

/*
 * Looks at about `len` bytes of records. What was read goes on in `kept` while that is shorter than
 * spare_len. The step belongs to the hand and is good until the next call.
 */
int hand_step(struct hand *hand, const struct store *store, struct recency *recency, size_t len,
	      size_t spare_len, struct hand_step **out);

/* After the commit. */
void hand_give_back(struct hand *hand, const struct store *store);

#endif
