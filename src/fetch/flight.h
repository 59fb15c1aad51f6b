/*
 * flight: one entry per thing that is on its way, with those who wait for it; and the queues in
 * which flights stand.
 *
 *	flight_new (HELD: in no queue)
 *	   ---> QUEUED in a lane ---> RIDING in a batch ---> gone, or ARRIVED till the cache has it
 *	   \--> COVERED by a carrier, a flight whose answer will hold this thing without naming it
 *
 * A flight is in exactly one list at a time: its queue, its batch's, its carrier's, or that of
 * what is kept. Waiters are the callers' memory; flights are ours. Nothing here calls out, starts
 * anything or knows remotes: that is scheduler.c.
 *
 * Threads: everything under the lock that flight_table_init() was given.
 */
#ifndef FETCH_FLIGHT_H
#define FETCH_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/content.h"
#include "base/lock.h"
#include "base/oid.h"
#include "fetch/fetch.h"

struct batch;

enum flight_kind {
	FLIGHT_CONTENT,
	FLIGHT_SIZE,
	FLIGHT_LISTING,	   /* a carrier: `oid` is a directory's tree; covers its blobs */
	FLIGHT_SUBTREE,	   /* a carrier: `oid` is a tree; covers all blobs below it, in any depth */
	FLIGHT_TREE_SIZES, /* a carrier: the same, but covers sizes alone */
	FLIGHT_EVERYTHING, /* a carrier: `oid` is a commit; covers its trees, perhaps its blobs */
};

/* In the order of priority: a lower one leaves first. */
enum lane {
	LANE_META,
	LANE_DEMAND,
	LANE_AHEAD, /* company */
	LANE_PROFILE,
	LANE_FILL,
	LANE_COUNT
};

/* What kind of batch a flight rides in. */
enum way {
	WAY_EVERYTHING,
	WAY_TREES,
	WAY_SIZES,
	WAY_LISTING,
	WAY_SUBTREE,	/* a walk's */
	WAY_TREE_SIZES, /* of all below a tree, from the host's API */
	WAY_PEEK,	/* one blob, for its size: dropped when its header is in */
	WAY_OBJECTS,	/* blobs by id */
	WAY_LARGE,	/* one blob */
	WAY_RANGE,	/* a part of a large blob; no flight rides in it */
	WAY_COUNT
};

enum flight_state { FLIGHT_HELD, FLIGHT_QUEUED, FLIGHT_RIDING, FLIGHT_COVERED, FLIGHT_ARRIVED };

TAILQ_HEAD(flight_list, flight);
TAILQ_HEAD(waiter_list, fetch_waiter);

#define SIZE_UNKNOWN UINT64_MAX

struct flight {
	LIST_ENTRY(flight) bucket;
	TAILQ_ENTRY(flight) link; /* in `list` */
	struct flight_list *list; /* the one list that it is in, borrowed; NULL: none. See state */
	TAILQ_ENTRY(flight) waited; /* while it has waiters */
	struct oid oid;
	enum flight_kind kind;
	enum flight_state state;
	enum object_type type;
	uint64_t size; /* SIZE_UNKNOWN */
	enum lane lane;
	enum way way;
	bool above_limit;	/* a listing or a subtree left it out */
	bool brief;		/* expected to be small: its size comes soonest with it */
	unsigned step;		/* of the crawl, for company; CRAWL_NO_STEP */
	unsigned group;		/* ride with fewer than this many others; 0: no bound; 1: alone */
	unsigned misses;	/* good answers to it alone that did not hold it */
	unsigned tries;		/* answers that could not be used */
	bool asked_everything;	/* what covered it came to a good end without it */
	uint64_t elsewhere_ms;	/* another process fetches it, since when; 0: not */
	bool seen_free;		/* a stream: it was claimed no more when it was looked */
	struct oid walk;	/* ... with all that is below this tree; null */
	struct batch *batch;	/* RIDING */
	struct flight *carrier; /* COVERED */
	struct flight_list covered; /* of a carrier */
	struct fetch_list *parts;   /* of a SUBTREE: what to ask for in its stead; owned; NULL */
	struct waiter_list waiters;
	size_t waiter_count;
	struct content *content; /* ARRIVED; owned */
	uint64_t kept_ms;	 /* ARRIVED and kept: since when */
};

#define FLIGHT_BUCKETS 4096

struct flight_table {
	struct lock *lock; /* borrowed; guards everything below */
	LIST_HEAD(flight_bucket, flight) buckets[FLIGHT_BUCKETS];
	struct flight_list queues[LANE_COUNT][WAY_COUNT];
	size_t queued[LANE_COUNT][WAY_COUNT];
	struct flight_list waited;		   /* those with waiters, oldest first */
	struct flight_list kept;		   /* ARRIVED ones that the cache did not take */
	size_t count, arrived_count, waiter_count; /* count: ARRIVED ones included */
};

void flight_table_init(struct flight_table *table, struct lock *lock);

/* ---- life ---- */

struct flight *flight_find_locked(struct flight_table *table, const struct oid *oid,
				  enum flight_kind kind);
/* A new one, HELD. NULL when out of memory. There must be none of that name yet. */
struct flight *flight_new_locked(struct flight_table *table, const struct oid *oid,
				 enum flight_kind kind, enum object_type type, uint64_t size);
/* Leaves its list and the table. It must have no waiters and cover nothing. */
void flight_free_locked(struct flight_table *table, struct flight *flight);

/* ---- where it stands: each takes it out of where it stood ---- */

void flight_hold_locked(struct flight_table *table, struct flight *flight,
			struct flight_list *list); /* NULL: none */
void flight_queue_locked(struct flight_table *table, struct flight *flight, enum lane lane,
			 enum way way);
void flight_ride_locked(struct flight_table *table, struct flight *flight, struct batch *batch,
			struct flight_list *riding);
void flight_cover_locked(struct flight_table *table, struct flight *flight, struct flight *carrier);
/* Takes its own reference to `content`. */
void flight_arrive_locked(struct flight_table *table, struct flight *flight,
			  struct content *content);
void flight_keep_locked(struct flight_table *table, struct flight *flight, uint64_t now_ms);

/* A queued one moves up to a lane before its own; anything else stays. True when it moved. */
bool flight_promote_locked(struct flight_table *table, struct flight *flight, enum lane lane);

/* Somebody waits for it, or for something that it covers. */
bool flight_wanted_locked(const struct flight *flight);

/* Somebody waits for more than its size. */
bool flight_content_wanted_locked(const struct flight *flight);

/* ---- waiters ---- */

void flight_join_locked(struct flight_table *table, struct flight *flight,
			struct fetch_waiter *waiter, bool size_only, uint64_t now_ms);
/* All waiters go over, with the time since when they wait. */
void flight_move_waiters_locked(struct flight_table *table, struct flight *from, struct flight *to);
/* The waiter must be PARKED; it gets `state`. */
void flight_leave_locked(struct flight_table *table, struct fetch_waiter *waiter, int state);

/*
 * Ended waits, to be called back when no lock is held:
 *	ending_add*_locked (the waiters are DONE, out of their flight) ---> unlock ---> ending_run
 */
struct ending {
	struct waiter_list waiters;
};
#define ENDING_INIT(name)                                                                          \
	{                                                                                          \
		.waiters = TAILQ_HEAD_INITIALIZER((name).waiters)                                  \
	}

/*
 * All waiters of a flight, with one result. `content` is borrowed and must live until
 * ending_run().
 */
void ending_add_locked(struct flight_table *table, struct flight *flight, struct ending *ending,
		       int status, struct content *content, uint64_t size);
/* Only those that wait for the size. */
void ending_add_sizes_locked(struct flight_table *table, struct flight *flight,
			     struct ending *ending, uint64_t size);
void ending_add_one_locked(struct flight_table *table, struct fetch_waiter *waiter,
			   struct ending *ending, int status);
/* Calls every done(). No lock may be held. */
void ending_run(struct ending *ending);

#endif
