/*
 * large: one large blob that is being read in parts.
 *
 *	fetch_part (part.c): the cache ---> here: answered
 *	                      \-> parked with the large ---> its blocks arrive: done()
 *
 * What brings the blocks is one of three ways, the best that the remote has:
 *
 *	range (range.c)	  several calls in flight, each for some blocks of the file
 *	stream (stream.c) the blob's own pack entry, while it inflates: from the start on
 *	whole		  as any object: nothing is shown before all of it was verified
 *
 * How far ahead of the readers is asked is window.h's; how many calls there may be, a budget's: a
 * call holds no more than its queue, however much it was asked for. When memory is short windows
 * are halved; what a reader waits for itself is asked for all the same.
 *
 *	blocks come ---> readers ---> cache (as an object in the making, under a name of this
 *	repository and this blob) ---> all here: read back, hashed (prove.c) ---> the cache has
 *	the object                                                     \-> it is not what its id
 *	says: dropped, said, whoever kept bytes of it is told (fetch_config.distrusted), readers
 *	get -EBADMSG, and from now on only the whole will do
 *
 * A large without readers for LARGE_IDLE_MS (a stream that has only begun: less) cancels what is
 * under way; what has come stays in the cache. The large itself goes some time later: all that it
 * knows can be found again.
 *
 * Both ways that show bytes early ride in batches (batch.h): the network thread appends, an ingest
 * thread cuts into blocks, answers readers, and gives blocks to the cache, waiting for room there.
 * That is the back-pressure: a batch whose queue is full pauses its call. A stream also pauses
 * when it is a window ahead of every reader: its ingest thread leaves it alone till somebody reads
 * on.
 *
 * Other processes on the cache may be reading the same file: elsewhere.c sees to it that its blocks
 * are fetched once.
 *
 * Threads: fields under the fetch's lock but where said. A large lives while it has users (a
 * batch, a fetch_part() under way, the prover), waiters or a stream, and for a while after that.
 */
#ifndef FETCH_LARGE_H
#define FETCH_LARGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/budget.h"
#include "cache/cache.h"
#include "fetch/fetch.h"
#include "fetch/flight.h"
#include "fetch/retry.h"
#include "fetch/window.h"
#include "git/hash.h"

struct batch;
struct fetch;

#define LARGE_IDLE_MS 5000
#define LARGE_IDLE_LEN ((uint64_t)16 << 20) /* a stream that has come so far waits that long */
#define LARGE_IDLE_MIN_MS 200
#define LARGE_YIELD_MS 500 /* the same where others wait for a place to stream */
#define LARGE_KEPT_MS 30000
#define LARGE_KEPT_MAX 256
#define LARGE_BLOCKS_MAX (1u << 27) /* 16 TiB: more is a lie */

#define LARGE_RUNS_MAX 32

enum large_way { LARGE_RANGE, LARGE_STREAM, LARGE_WHOLE };

/* Blocks that another process fetches. */
struct large_run {
	uint32_t first, count;
};

struct large {
	/* set when made */
	struct fetch *fetch; /* borrowed */
	struct oid oid;
	struct cache_part part; /* its name and size in the cache */
	uint32_t block_count;

	/* under the fetch's lock */
	bool placed; /* it was asked where it is; then the next two stay */
	struct oid commit;
	char *path;		  /* owned; NULL: no ranges */
	TAILQ_ENTRY(large) entry; /* most recently used first */
	unsigned users;
	uint8_t *here;	 /* owned: bits of the blocks that the cache took */
	uint8_t *coming; /* owned: bits of those that are asked for by range, or just arriving */
	uint32_t here_count;
	struct large_run elsewhere[LARGE_RUNS_MAX]; /* they are `coming` */
	unsigned elsewhere_count;
	struct large_run looked; /* they were not here a moment ago; none when it has been used */
	uint64_t looked_ns, runs_ns; /* when it was looked for these, and for what is elsewhere */
	uint64_t period_ms, period_len; /* what others brought: since when, how many bytes */
	uint64_t alone_until_ms;	/* they are too slow: till then they are not waited for */
	uint64_t blind_until_ms; /* what was said to be here was not: till then nobody looks */
	bool serve;		 /* something is here that somebody waits for */
	bool shared;		 /* there was another process, which may have brought some of it */
	bool whole;		 /* that one has made an object of it */
	struct windows windows;
	struct waiter_list waiters; /* oldest first */
	uint64_t used_ms;	    /* somebody read */
	uint64_t progress_ms;	    /* bytes came */
	bool no_range, no_stream;   /* tried in vain */
	bool distrusted;	    /* what came early was wrong */
	bool withdrawing;	    /* and somebody has it still: reads fail */
	bool served;		    /* somebody may keep bytes that were not verified */

	unsigned ranges; /* calls in flight */
	unsigned tries;	 /* calls that brought nothing, in a row */

	struct fetch_waiter stream_waiter; /* parked in the blob's flight while it streams */
	bool streaming;			   /* stream_waiter is in use */
	struct batch *stream;		   /* borrowed: the batch that brings it now; NULL */
	uint32_t stream_next;		   /* the block it is at */
	bool bridge; /* it has begun before ranges could, and ends when they come */

	TAILQ_ENTRY(large) proof; /* in fetch->larges.proofs */
	bool proving;		  /* it is there, or with its thread */
	bool proof_stale;	  /* a block has been lost since */
	/* owned by the thread that proves */
	struct hasher hasher;
	uint32_t proved_count; /* blocks hashed */
	uint64_t seal;
};
TAILQ_HEAD(large_list, large);

struct larges {
	/* set before threads start */
	struct budget budget; /* what calls for ranges may hold in memory */

	_Atomic size_t count; /* under lock; read without it to skip looking: orders nothing */
	/* under the fetch's lock */
	struct large_list all;
	struct large_list proofs;
	struct retry retry;	/* of ranges, which come from another server than packs, perhaps */
	unsigned ranges;	/* calls in flight */
	unsigned elsewhere;	/* runs that other processes fetch */
	uint64_t neighbours_ns; /* when it was looked whether there are other processes */
	bool serve;		/* one of them is to be served */
	bool unlooked;		/* something would be asked for that was not looked for */
	bool proven;		/* a range was answered with what was asked for */
	bool refused;		/* this remote has no ranges after all */
};

/* ---- large.c: life ---- */

void larges_init(struct fetch *fetch);
void larges_release(struct fetch *fetch); /* when no thread is left */

struct large *large_find_locked(struct fetch *fetch, const struct oid *oid);
/* The one that there is, in use once more; NULL. No lock held. */
struct large *large_use(struct fetch *fetch, const struct oid *oid);
/*
 * The large of a part, in use once more; made when there is none. No lock held; may wait on disk.
 * -ENOMEM, -EFBIG for a size that no file has.
 */
int large_open(struct fetch *fetch, const struct fetch_part *part, struct large **out);
void large_put_locked(struct large *large); /* one user less */
/* Asks the part where the file is, once. No lock held. */
void large_place(struct large *large, const struct fetch_part *part);

/* What brings its blocks now. */
enum large_way large_way_locked(const struct large *large);

/* Waits without progress end; what nobody reads any more is cancelled, then forgotten. */
void larges_tick_locked(struct fetch *fetch, uint64_t now_ms, struct ending *ending,
			unsigned *out_expired);
/* All waits for parts end. */
void larges_fail_locked(struct fetch *fetch, struct ending *ending, int status);
void large_fail_locked(struct large *large, struct ending *ending, int status);

static inline bool bit_is_set(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}
static inline void bit_set(uint8_t *bits, uint32_t i, bool on)
{
	if (on)
		bits[i / 8] |= (uint8_t)(1u << i % 8);
	else
		bits[i / 8] &= (uint8_t) ~(1u << i % 8);
}
size_t large_block_len(const struct large *large, uint32_t index);

/* ---- large.c: blocks ---- */

/*
 * One has come: to those who wait, then to the cache. True when it is a new one. On an ingest
 * thread, no lock held.
 */
bool large_arrived(struct large *large, uint32_t index, struct block *block);
/* The first bytes of one: to those whom they will do. */
void large_show(struct large *large, uint32_t index, const uint8_t *data, size_t len);

/* What another process brought, or NULL: it is not here after all. No lock held. */
void large_found(struct large *large, uint32_t index, struct block *block);
/* A block that was thought to be here is not. */
void large_lose_locked(struct large *large, uint32_t index);

/* ---- elsewhere.c: other processes that read the same file ---- */

/* How many of these blocks this process may ask for, from the first on. 0: another one does. */
uint32_t elsewhere_claim_locked(struct large *large, uint32_t first, uint32_t count);
/*
 * Nobody has brought these blocks yet, as far as the last look tells. False: it was not for them,
 * larges.unlooked is set, and there is to be another one.
 */
bool elsewhere_was_looked_for_locked(struct large *large, uint32_t first, uint32_t end);
/* What other processes have brought is noted. Calls nobody back. No lock held. */
void elsewhere_look(struct fetch *fetch);
/* ... and goes to those who wait. On the timer thread, no lock held. */
void elsewhere_serve(struct fetch *fetch);
/* Who is too slow is not waited for. */
void elsewhere_tick_locked(struct fetch *fetch);
/* Its stream is waited for, from now on. */
void elsewhere_begin_locked(struct large *large);
bool elsewhere_is_slow_locked(struct large *large);
/* What the cache says to have of it is not to be had. */
void elsewhere_blind_locked(struct large *large);
void elsewhere_drop_locked(struct large *large);

/* ---- part.c ---- */

/* A waiter leaves before its time. */
void large_leave_locked(struct fetch_waiter *waiter, int state);

/* ---- range.c ---- */

/* The next call for a range that may be made; NULL: none. Its flights are none. */
struct batch *large_next_range_locked(struct fetch *fetch);
/* The blocks that it would be for. */
bool large_next_stretch_locked(struct large *large, uint32_t *out_first, uint32_t *out_end);
int large_start_range(struct fetch *fetch, struct batch *batch, struct remote_call **out);
/* Its answer begins: false when it is not what was asked for. */
bool large_range_begins_locked(struct batch *batch, uint64_t off, uint64_t total);
/* Its end; frees it. */
void large_settle_range(struct fetch *fetch, struct batch *batch);
/* Cuts bytes of a range or a stream into blocks. On the ingest thread of the batch. */
int large_feed(struct batch *batch, const uint8_t *data, size_t len);

/* ---- stream.c ---- */

/* Asks for the blob's stream where somebody waits for it. No lock held. */
void large_pump_streams(struct fetch *fetch);
/*
 * The entry of a large blob begins, which was asked for by itself. 1: its bytes are to be shown
 * early. -ECANCELED: there is a better way. What waits for all of it is told to ask for parts.
 */
int large_stream_begin(struct batch *batch, const struct oid *oid, uint64_t size);
/* It came to its end, and its bytes are `oid`. */
void large_stream_end(struct batch *batch, const struct oid *oid);
/* The batch has ended, in whatever way. */
void large_stream_gone_locked(struct batch *batch);
/* It is far enough ahead of every reader. */
bool large_stream_held_locked(const struct batch *batch);
/* Somebody read on. */
void large_stream_resume_locked(struct large *large);
/* Nobody else brings what it has gone by: where somebody waits for that, from the start. */
void large_stream_rewind_locked(struct large *large);
void large_stream_cancel_locked(struct large *large);

/* ---- prove.c ---- */

/* Hashes what there is to hash, later. */
void large_prove_locked(struct large *large);
/* One round of the next in the queue. On an ingest thread, no lock held. */
void large_prove_round(struct fetch *fetch);
/* It is not what its id says. No lock held. */
void large_distrust(struct large *large);

#endif
