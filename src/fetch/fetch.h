/*
 * fetch: the front door to everything that may have to come from afar. One per repository.
 *
 * A want names one thing: the content of an object, or the size of a blob. Each thing on its way
 * is one flight (flight.h), with the waiters that joined it; flights ride in batches (batch.h),
 * one batch being one call of the remote; what comes back is inflated, resolved, verified
 * (ingest.h) and goes to the waiters first and to the cache's writer next.
 *
 *	want ---> cache hit: answered at once
 *	     \-> flight: queued in a lane ---> rides in a batch ---> arrived: done(), cache_put
 *	              ^          \               \-> not in the answer, or the call failed:
 *	              |           \                  queued again (alone, later)
 *	           others join     \-> nobody waits any more: dropped
 *	                            \-> no progress for patience_ms: done(-ETIMEDOUT);
 *	                                the fetch goes on without them
 *
 * Natural batching: a demand leaves at once while a slot is free; what arrives while all slots are
 * busy leaves together with the next free one. No timer holds anything back. Company (siblings
 * that are likely to be read next) rides along.
 *
 * What to ask in which way is decided by the remote's capability bits and known sizes:
 *	everything	the commit, deepen 1: all trees where filters exist, else trees and blobs
 *	objects		blobs by id (blobs travel alone), or trees of one level
 *	sizes		object-info in bulk
 *	listing		a directory's tree with its small blobs, where sizes cannot be asked for
 *	subtree		a tree and everything below it but large blobs, for a walk (crawl.h)
 *	large		one blob alone; for its size alone, dropped when its header is in
 *	part		bytes of a large blob: ranges of the file, or the blob's own stream, which is
 *			served while it comes (large.h)
 *
 * Threads: one timer thread (deadlines, backoff) and a few ingest threads, all owned here. done()
 * is called from them, never from inside the call that waits, with no lock held. All functions
 * from any thread but where said.
 */
#ifndef FETCH_FETCH_H
#define FETCH_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/block.h"
#include "base/content.h"
#include "base/error.h"
#include "base/oid.h"
#include "cache/cache.h"
#include "remote/remote.h"

struct fetch;
struct flight;

struct fetch_config {
	/* borrowed, connected or with remembered capabilities; outlives the fetch */
	struct remote *remote;
	struct cache *cache;	/* borrowed, outlives the fetch */
	bool offline;		/* never ask the remote: every miss is -ENETUNREACH */
	uint64_t patience_ms;	/* without progress a wait ends after this; 0: 30,000 */
	unsigned content_slots; /* batches in flight for contents; 0: 4 */
	unsigned meta_slots;	/* for trees and sizes; 0: 2 */
	uint64_t large_limit;	/* blobs above travel alone; 0: 1 MiB */
	const char *name; /* the remote, redacted, for log lines; borrowed, outlives the fetch */
	/* source->identity: the scope of this repository's facts; borrowed, outlives the fetch */
	const char *identity;
	uint64_t large_memory_len; /* what of large files may be on its way in memory; 0: 32 MiB */
	/*
	 * What was served of a large blob, or may have been, turned out not to be it: whoever keeps
	 * such bytes must drop them, and then call fetch_withdrawn(). May be NULL. Called from any
	 * thread, no lock held; must not wait.
	 */
	void (*distrusted)(void *arg, const struct oid *oid);
	void *distrusted_arg; /* borrowed */
};

int fetch_open(const struct fetch_config *config, struct fetch **out, struct xcp_error *err);

/* Ends every wait with -ECANCELED, cancels the calls, joins the threads. */
void fetch_close(struct fetch **fetch);

/* ---- waiting ---- */

/*
 * One wait; embedded in the caller's struct, which must live until done() was called or
 * fetch_cancel() returned true.
 *
 * done(): status 0, or -ETIMEDOUT (no progress), -ENETUNREACH (the remote does not answer),
 * -ENOENT (the remote does not have it), -EACCES, -EBADMSG (what came was wrong), -EIO, -ECANCELED
 * (closing). `content` is borrowed for the call; NULL in a wait for a size, and when status is not
 * 0. `size` is the object's, when status is 0.
 */
#define FETCH_PART_BLOCKS 9 /* 1 MiB that is not aligned */

struct large;

struct fetch_waiter {
	void (*done)(struct fetch_waiter *waiter, int status, struct content *content,
		     uint64_t size);

	/* the rest belongs to fetch, under its lock */
	TAILQ_ENTRY(fetch_waiter) entry;
	struct flight *flight;
	uint64_t since_ms;
	enum {
		FETCH_WAITER_IDLE,
		FETCH_WAITER_PARKED,
		FETCH_WAITER_CANCELED,
		FETCH_WAITER_DONE
	} state;
	bool size_only;
	int status; /* the result, between DONE and done() */
	struct content *content;
	uint64_t size;

	/* a part's; not NULL while it is parked for one */
	struct large *large;
	uint64_t off;
	size_t len;
	struct block *blocks[FETCH_PART_BLOCKS]; /* owned: what has come of it */
};
void fetch_waiter_init(struct fetch_waiter *waiter,
		       void (*done)(struct fetch_waiter *, int, struct content *, uint64_t));

/* Gives back what came of a part; not while parked. */
void fetch_waiter_release(struct fetch_waiter *waiter);

/*
 * Ends a wait early. True: done() will not be called. False: it was, or is being called. Before
 * the waiter was given to fetch_content() or fetch_size() it returns true and makes that call
 * return -ECANCELED: an interrupt may come that early.
 */
bool fetch_cancel(struct fetch *fetch, struct fetch_waiter *waiter);

/* ---- company: what else to bring, asked only when a new flight is needed ---- */

struct fetch_list {
	struct oid *v; /* owned */
	size_t count, cap;
};
int fetch_list_add(struct fetch_list *list, const struct oid *oid);
void fetch_list_release(struct fetch_list *list);

struct fetch_budget {
	bool sizes;	       /* what to gather: blobs to ask the size of, or the content */
	size_t count;	       /* at most this many objects */
	uint64_t bytes;	       /* content: of at most this many bytes together */
	uint64_t object_bytes; /* content: none larger than this */
	bool leave_directory;  /* the walk may go on into what a crawler visits next */
};

/*
 * gather(): sizes: blobs of unknown size, those of the directory first, then, with leave_directory, those of
 * what a walk visits next and the rest of the tree. Content: small blobs of known size whose
 * content is not here, the directory's first, in walk order. Both may ask fetch_size_known() and
 * fetch_has(); both are called with no lock held, from the thread that wants.
 */
struct fetch_company {
	int (*gather)(void *arg, const struct fetch_budget *budget, struct fetch_list *out);
	/*
	 * The tree `up` levels above the file: 0 is its directory's. -ENOENT above the root. Does not
	 * wait or call fetch: fetch's lock may be held. NULL: the file stands alone.
	 */
	int (*tree)(void *arg, unsigned up, struct oid *out);
	/*
	 * With `tree`: how many files are below that tree, counted no further than `max`, and about
	 * how many of these are not here. It may ask what is here: with no lock held.
	 */
	size_t (*count)(void *arg, unsigned up, size_t max, size_t *out_missing);
	/* With `tree`: the trees that are in that tree. */
	int (*children)(void *arg, unsigned up, struct fetch_list *out);
	void *arg;
	bool listed;	/* a reader listed the directory just before */
	uint32_t index; /* of the file in its directory */
};

/* ---- wants ---- */

/*
 * The content of one object. 1: it is here, *out holds a reference, the waiter is untouched. 0:
 * parked. Negative: -ECANCELED, -ENOMEM, -ENETUNREACH with `offline`. `company` may be NULL.
 * `known_size` is UINT64_MAX when it is not known. A large object that is in the cache is not
 * returned whole: 1 with *out NULL, and fetch_read() has it.
 */
int fetch_content(struct fetch *fetch, const struct oid *oid, enum object_type type,
		  uint64_t known_size, const struct fetch_company *company,
		  struct fetch_waiter *waiter, struct content **out);

/* A stretch of a large blob. */
struct fetch_part {
	struct oid oid;
	uint64_t size; /* of the whole; above the limit */
	uint64_t off;
	size_t len; /* at most 1 MiB */
	/*
	 * Where in which commit it is; asked only where files can be had in ranges. Called with no
	 * lock held. 0 or -errno.
	 */
	int (*place)(void *arg, struct oid *out_commit, struct buf *out_path);
	void *arg;
};

/*
 * 1: *out holds the bytes, cut at the end; or *out_content is not NULL and holds a reference to the
 * whole. 0: parked; after done() with status 0 ask again with the same waiter, which holds what
 * came (done() got a content if the whole did). -EAGAIN: `waiter` is NULL, and nothing was asked
 * for. -EBADMSG: what was shown of it before was wrong. Otherwise as fetch_content().
 */
int fetch_part(struct fetch *fetch, const struct fetch_part *part, struct fetch_waiter *waiter,
	       struct spans *out, struct content **out_content);

/* What was wrong of it is nowhere any more: fetch_part() may answer again. */
void fetch_withdrawn(struct fetch *fetch, const struct oid *oid);

/* Whether a blob of this size is read by parts. */
bool fetch_is_large(const struct fetch *fetch, uint64_t size);

/* The size of one blob. 1: *out is filled in. 0: parked. Negative as above. */
int fetch_size(struct fetch *fetch, const struct oid *oid, const struct fetch_company *company,
	       struct fetch_waiter *waiter, uint64_t *out);

/*
 * Small blobs of unknown size that are likely to be wanted with the one that is asked for next:
 * they ride with it, or leave now. Nobody waits for them.
 */
void fetch_together(struct fetch *fetch, const struct fetch_list *list, bool now);

/*
 * Brings a commit and all its trees in one answer (without filters: everything, said in one log
 * line). 1: all of it is here from an earlier time, *out holds the commit. 0: parked until the
 * commit object is here; wants for its trees join the answer that is on its way.
 */
int fetch_commit(struct fetch *fetch, const struct oid *commit, struct fetch_waiter *waiter,
		 struct content **out);

/*
 * Brings the small files of a tree in the background: all below it (`deep`), or its own. HERE: they
 * came at some time; WAITS: they are on their way; ASKED: now they are. -EBUSY while readers are
 * served, and for a second after; -EOPNOTSUPP on a server without filters; -ENETUNREACH offline.
 * Nobody is told when they have come: ask again. A reader who needs the line ends it.
 */
enum fetch_fill { FETCH_FILL_HERE = 1, FETCH_FILL_WAITS, FETCH_FILL_ASKED };
int fetch_fill(struct fetch *fetch, const struct oid *tree, bool deep);

/*
 * The next commit that is brought is asked for as a step from this one, all of whose trees are
 * here: the server leaves out what did not change, and sends deltas against it. `whole`: all its
 * small blobs are here too, so the new one's come along. A server that cannot do that gets an
 * ordinary request.
 */
void fetch_step_from(struct fetch *fetch, const struct oid *commit, bool whole);

/* ---- what is here (never the network; may wait on disk) ---- */

/* The commit and all its trees came at some time. */
bool fetch_commit_is_here(struct fetch *fetch, const struct oid *commit);
/* The content is here, or known to be too large to come along with others. */
bool fetch_is_settled(struct fetch *fetch, const struct oid *oid);

/*
 * Part of an object: the cache's, as cache_read(). -ENOENT on a miss. The first read of what was
 * prefetched is counted as used.
 */
int fetch_read(struct fetch *fetch, const struct oid *oid, uint64_t off, size_t len,
	       struct spans *out);
/* A whole tree, commit or link target. -ENOENT on a miss. */
int fetch_get(struct fetch *fetch, const struct oid *oid, size_t max_len, struct content **out);
bool fetch_size_known(struct fetch *fetch, const struct oid *oid, uint64_t *out);
/* The same with the type; what is known by its size alone passes as a blob. */
bool fetch_known(struct fetch *fetch, const struct oid *oid, enum object_type *out_type,
		 uint64_t *out_size);
bool fetch_has(struct fetch *fetch, const struct oid *oid); /* the content */

/* The key in the cache of a fact about a repository: its identity, a NUL, the key. */
int fetch_fact_key(const char *identity, const char *key, struct buf *out);

/*
 * Facts of this repository's scope, for layers that do not know the cache: as cache_fact_put() and
 * cache_fact_get().
 */
int fetch_fact_put(struct fetch *fetch, const char *kind, const char *key, const void *value,
		   size_t value_len);
int fetch_fact_get(struct fetch *fetch, const char *kind, const char *key, struct buf *out,
		   int64_t *out_stored_s);

/* ---- looking ---- */

enum fetch_state { FETCH_ONLINE, FETCH_FAILING, FETCH_OFFLINE };
/* Of the host's API: whether it is asked when it might help. */
enum fetch_api { FETCH_API_NONE, FETCH_API_ASKED, FETCH_API_RESTS, FETCH_API_REFUSED };

struct fetch_counters {
	uint64_t flights; /* on their way or queued, now */
	uint64_t waiters; /* now */
	uint64_t batches_trees, batches_objects, batches_listing, batches_subtree, batches_sizes,
		batches_large, batches_ranges; /* calls started */
	uint64_t objects_fetched;	       /* verified arrivals, trees included */
	uint64_t objects_prefetched;	       /* of these, blobs that nobody waited for */
	uint64_t from_neighbours;	       /* wanted here, and fetched by another process */
	uint64_t prefetch_used;		       /* of these, read later */
	uint64_t retries, errors, timeouts;
	enum fetch_state state;
	enum fetch_api api;
	uint64_t api_rests_ms; /* FETCH_API_RESTS: for so long still */
	char last_error[256];  /* "" when there was none */
};
void fetch_counters(struct fetch *fetch, struct fetch_counters *out);

#endif
