/*
 * fetch_internal: what the files of this folder share: the struct, and who does what.
 *
 *	fetch.c		open and close, what is here, facts, counters
 *	want.c		wants: from the cache, or into a flight
 *	want_walk.c, want_size.c	those of a walk, those of unknown size: want.h
 *	tree_sizes.c	sizes from the host's API
 *	route.c		where a flight stands
 *	scheduler.c	what leaves when
 *	work.c		the remote's sink and the ingest threads
 *	deliver.c	what has come, to its waiters and to the cache
 *	settle.c	a batch has ended: what becomes of the flights that did not arrive
 *	deadline.c	the timer thread
 *	walks.c		subtrees that are under way: how far ahead, for how long
 *	large.c, part.c, range.c, stream.c, prove.c	large files in parts: large.h
 *
 * Threads: any, but where a function says otherwise. One lock; nothing that may wait is called
 * while it is held.
 */
#ifndef FETCH_FETCH_INTERNAL_H
#define FETCH_FETCH_INTERNAL_H

#include <pthread.h>

#include "base/log.h"
#include "fetch/ahead.h"
#include "fetch/batch.h"
#include "fetch/crawl.h"
#include "fetch/fetch.h"
#include "fetch/flight.h"
#include "fetch/large.h"
#include "fetch/retry.h"

#define INGEST_THREADS 2
#define LISTED_COUNT 1024
#define SUBTREE_COUNT 64
#define CUT_COUNT 64
#define LONE_COUNT 16
#define LONES_IN_A_ROW 20
#define LOG_INTERVAL_MS 60000

/* One line per kind and interval. */
enum complaint {
	COMPLAIN_TRANSIENT, /* we try again: said at level info */
	COMPLAIN_SILENCE,   /* waits ended, or were refused at once: nothing comes */
	COMPLAIN_DENIED,
	COMPLAIN_GONE,
	COMPLAIN_BROKEN,
	COMPLAIN_DAMAGED,
	COMPLAIN_REFUSED,
	COMPLAIN_MISSING,
	COMPLAIN_TROUBLE,
	COMPLAIN_API,
	COMPLAIN_COUNT
};

/* A tree that is too large for one answer of the API; `direct`: even without those in it. */
struct cut_tree {
	struct oid oid; /* null: free */
	bool direct;
};

/* A file whose content was asked for because its size was not known and nobody listed it. */
struct lone {
	struct oid tree; /* null: free */
	uint32_t index;
	struct crawl_place place;
	uint64_t when_ms;
};

struct fetch {
	/* set before threads start */
	struct fetch_config config;
	unsigned caps;
	enum oid_algo algo;
	pthread_t timer_thread, ingest_threads[INGEST_THREADS];
	unsigned ingest_started;
	bool timer_started;

	/* lock-free */
	struct ahead ahead;
	struct crawl crawl;   /* but for its steps' counters: under `lock` */
	struct larges larges; /* as said there */
	struct log_limit complaints[COMPLAIN_COUNT];

	struct lock lock;
	/* under `lock` */
	struct flight_table table;
	struct flight_list recheck;   /* HELD: the cache may have them by now */
	struct flight_list elsewhere; /* HELD: another process fetches them (neighbours.c) */
	bool neighbours;	      /* there was one when a batch was last loaded */
	uint64_t neighbour_ms;	      /* something that it fetched came */
	uint64_t alone_until_ms;      /* it was waited for in vain: till then nobody waits */
	struct retry retry;
	TAILQ_HEAD(, batch) batches, work;
	unsigned running[WAY_COUNT];
	struct lock_cond work_cond, timer_cond, idle_cond;
	bool closing, quit;
	unsigned refused; /* enum filter_kind bits */
	unsigned doubted; /* bits of what was refused once: an empty answer may be an accident */
	uint64_t sizes_refused_until_ms;      /* UINT64_MAX: as long as this lives */
	unsigned tree_sizes_failures;	      /* of the host's API, in a row */
	uint64_t tree_sizes_from_ms;	      /* till then the API is not asked */
	struct cut_tree cut_trees[CUT_COUNT]; /* a ring */
	unsigned cut_next;
	unsigned walks_broken;	 /* so many subtrees in a row came to no good end */
	uint64_t walks_until_ms; /* till then none is asked for */
	bool size_gathering; /* somebody asks for a company of sizes: all wait and leave together */
	/*
	 * Sizes of all below this tree were asked for while trees were still coming: the rest is when
	 * they have come (size_rest.c). Null: no.
	 */
	struct oid size_rest;
	struct flight *everything; /* borrowed: the flight of that kind; NULL */
	struct oid commit;	   /* last asked for; null */
	struct oid step;	   /* the commit to step from; null: none */
	bool step_whole;	   /* all its small blobs are here */
	struct oid listed
		[LISTED_COUNT]; /* directories whose unknown blobs are above the limit; a ring */
	unsigned listed_next;
	struct oid subtrees[SUBTREE_COUNT]; /* the same of all that is below; a ring */
	unsigned subtrees_next;
	struct lone lones[LONE_COUNT]; /* the last ones; a ring */
	unsigned lones_next;
	unsigned lones_left;	   /* so many may follow each other; one comes back each second */
	uint64_t lones_counted_ms; /* when lones_left was last thought about */
	uint64_t demand_ms;	   /* something was wanted that is not here */
	uint64_t walk_ms;	   /* somebody waited for what a walk brings */
	uint64_t rescued_ms;	   /* the last time that waits under a walk went out alone */
	uint64_t progress_ms;	   /* something came, from whatever call */
	uint64_t rate;		/* bytes a second of an answer that flows, smoothed; 0: not known */
	uint64_t round_trip_ms; /* to the first byte of an answer, smoothed; 0: not known */
	uint64_t cache_slow_until_ms;
	bool said_offline;
	bool timer_idle; /* it waits for a signal, not for a time */
	/* flights, waiters, prefetch_used and state are filled in when asked */
	struct fetch_counters counters;
};

/* ---- scheduler.c ---- */

/* Starts what may start. No lock held. */
void fetch_pump(struct fetch *fetch);

/* How many flights wait to leave in this way. */
size_t fetch_queued_locked(const struct fetch *fetch, enum way way);

/* ---- neighbours.c: other processes on the cache ---- */

/*
 * A flight is about to come aboard. False: another process fetches it, and it waits for that in
 * fetch->elsewhere; a carrier is gone then, and what it covered waits.
 */
bool neighbours_claim_locked(struct fetch *fetch, struct batch *batch, struct flight *flight,
			     uint64_t now_ms);
/* Before a batch is loaded: whether claims matter. */
void neighbours_look_locked(struct fetch *fetch);
/* The tree above a want that another process fetches as a whole. No lock held. */
bool neighbours_walk(struct fetch *fetch, const struct fetch_company *company, struct oid *out);
/* Something that was waited for has come from another process. No lock held. */
void neighbours_brought(struct fetch *fetch, enum flight_kind kind);
/* Time to look again for what is elsewhere. */
void neighbours_tick_locked(struct fetch *fetch);
/* The end of a batch: others find what came, or may fetch it. No lock need be held. */
void neighbours_unclaim(struct fetch *fetch, const struct batch *batch);

/* ---- tree_sizes.c: sizes from the host's API ---- */

bool tree_sizes_can_locked(const struct fetch *fetch);
enum fetch_api tree_sizes_state_locked(const struct fetch *fetch, uint64_t *out_rests_ms);
/* It is too large for one answer: only what is directly in it is asked for. */
bool tree_sizes_is_cut_locked(struct fetch *fetch, const struct oid *tree);
/* Before its sizes are told: who then asks for others must not wait for the same again. */
void tree_sizes_answered(struct fetch *fetch, const struct batch *batch);
/* The end of such a batch; frees it. On its ingest thread. */
void tree_sizes_settle(struct fetch *fetch, struct batch *batch);

/* ---- size_rest.c: sizes that could not be asked for before all trees were here ---- */

/* Somebody asks for the sizes of all below `tree`, as far as trees are here. */
void size_rest_note_locked(struct fetch *fetch, const struct oid *tree);
/* They ride with whatever asks for sizes next. No lock held. */
void fetch_sizes_together(struct fetch *fetch, const struct fetch_list *list);
/* The trees have come, or will not. No lock held. */
void size_rest_ask(struct fetch *fetch);

/* ---- settle.c ---- */

/* The end of a batch whose queue has been worked off; frees it. On its ingest thread. */
void fetch_settle(struct fetch *fetch, struct batch *batch);

/* ---- walks.c ---- */

/* Called for each piece of a subtree's answer: false when it is far enough ahead. */
bool fetch_walk_may_go_on_locked(struct fetch *fetch, struct batch *batch);
/* Ends what is brought in the background when somebody needs the line. */
void fetch_fill_yield_locked(struct fetch *fetch);
/* Resumes those that somebody waits for, or whose readers have caught up. */
void fetch_walks_resume_locked(struct fetch *fetch);
/* Ends those that nobody follows; lets waits that take long go out alone. */
void fetch_walks_tick_locked(struct fetch *fetch, uint64_t now_ms, struct ending *ending);

/* ---- deadline.c ---- */

/* One look at the clock; then the pump. */
void fetch_tick(struct fetch *fetch);
void *fetch_timer_run(void *fetch);

/* ---- route.c ---- */

/* What can be asked for now. */
bool fetch_can_filter_locked(const struct fetch *fetch, enum filter_kind kind);
bool fetch_can_sizes_locked(const struct fetch *fetch);
bool fetch_can_list_locked(const struct fetch *fetch);
bool fetch_can_crawl_locked(const struct fetch *fetch);
bool fetch_steps_with_blobs_locked(const struct fetch *fetch);

/* The flight of a tree with what is in it, LISTING or SUBTREE; made when there is none. */
struct flight *fetch_carrier_of_tree_locked(struct fetch *fetch, const struct oid *tree,
					    enum flight_kind kind);

/* The whole-commit flight; made when there is none. NULL: out of memory. */
struct flight *fetch_everything_locked(struct fetch *fetch, const struct oid *commit);

/* The carrier that will hold an object of this type without being asked; NULL. */
struct flight *fetch_carrier_locked(struct fetch *fetch, enum object_type type);

/*
 * A HELD flight goes into its queue or under a carrier. Where there is no way it stays HELD, and
 * the reason comes back; or its waiters end.
 */
int fetch_route_locked(struct fetch *fetch, struct flight *flight);
void fetch_route_or_fail_locked(struct fetch *fetch, struct flight *flight, struct ending *ending);

/*
 * A carrier goes. `complete`: its answer came whole. What it covered goes to fetch->recheck, for
 * fetch_recheck().
 */
void fetch_dissolve_locked(struct fetch *fetch, struct flight *carrier, bool complete);
/* Looks for those in the cache, then routes them. No lock held. */
void fetch_recheck(struct fetch *fetch);

/* A waiter has left: takes out what has not left yet, and cancels what only it wanted. */
void fetch_unwanted_locked(struct fetch *fetch, struct flight *flight);

/*
 * The end of a flight and of all that it covers: with an error for its waiters; without waiters;
 * for one that covers nothing.
 */
void fetch_fail_locked(struct fetch *fetch, struct flight *flight, struct ending *ending,
		       int status);
void fetch_drop_locked(struct fetch *fetch, struct flight *flight);
void fetch_flight_free_locked(struct fetch *fetch, struct flight *flight);

/* ---- deliver.c ---- */

/*
 * A verified object has come in `batch`: waiters first, the cache next. True when the cache has
 * it. On an ingest thread.
 */
bool fetch_deliver(struct fetch *fetch, struct batch *batch, struct content *content);

/* It was in the cache all the time. */
void fetch_deliver_hit(struct fetch *fetch, struct content *content);
void fetch_deliver_size(struct fetch *fetch, const struct oid *oid, uint64_t size);
/* The server does not know it. */
void fetch_deliver_unknown(struct fetch *fetch, const struct oid *oid, enum flight_kind kind);

/* One content or size from the cache: 1 and *out (NULL for a large object) or *out_size. */
int fetch_hit(struct fetch *fetch, const struct oid *oid, struct content **out);

/* A block of an object in the making, to the cache. False: it did not take it. */
bool fetch_store_part(struct fetch *fetch, const struct cache_part *part, uint32_t index,
		      struct block *block);

/* The header of the only entry of a pack: -ECANCELED when that was enough. On an ingest thread. */
int fetch_deliver_header(struct fetch *fetch, struct batch *batch, uint64_t size);

/* ---- work.c ---- */

void fetch_work_init(struct batch *batch); /* its sink */
void fetch_work_schedule_locked(struct fetch *fetch, struct batch *batch);
void *fetch_ingest_run(void *fetch);

/* ---- fetch.c ---- */

/*
 * One line in the log per kind and interval; always the last error of the counters. No lock held.
 */
void fetch_complain(struct fetch *fetch, enum complaint kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Something is read: counted when it was brought before it was wanted. Lock-free. */
void fetch_used(struct fetch *fetch, const struct oid *oid);

/* Trees whose files, or all below (`deep`), came to a good end: what did not is large. */
void fetch_listed_put(struct fetch *fetch, const struct oid *tree, bool deep);
bool fetch_listed(struct fetch *fetch, const struct oid *tree, bool deep);

#endif
