/*
 * batch: flights that ride together in one call of the remote.
 *
 *	batch_new ---> batch_ride_locked ... ---> called ---> chunks and sizes come, are worked off
 *	          ---> ended ---> batch_free
 *
 * The network thread appends to the queue (and asks for a pause at 1 MiB), an ingest thread takes
 * from it; one ingest thread at a time works on a batch, the outcome comes through the same queue,
 * so order is kept.
 *
 * Threads: in the struct, by field.
 */
#ifndef FETCH_BATCH_H
#define FETCH_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/cache.h"
#include "fetch/flight.h"
#include "fetch/ingest.h"
#include "remote/remote.h"

struct fetch;

#define BATCH_IDS_MAX 2000
#define BATCH_SIZES_MAX 10000
#define BATCH_TREE_SIZES_MAX                                                                       \
	200000 /* that the host's API tells at once: twice as many as any does */
#define BATCH_BYTES_MAX (16u << 20)
/* Bytes between the network and the ingest threads; beyond it a pause is asked for. */
#define BATCH_QUEUE_MAX (1u << 20)
/* The same of those that bring a large file: there may be many, and they may be paused for long. */
#define BATCH_QUEUE_LARGE_MAX (128u << 10)

/* What a refusal would be about; bits in fetch->refused. */
enum filter_kind {
	FILTER_NONE = 0,
	FILTER_BLOB_NONE = 1,
	FILTER_TREE = 2,
	FILTER_COMBINE = 4,
	FILTER_LIMIT = 8,
};

struct large;

struct chunk {
	TAILQ_ENTRY(chunk) entry;
	size_t off, len; /* what is before off was worked off */
	uint8_t data[];
};
TAILQ_HEAD(chunk_list, chunk);

struct batch {
	/* set before the start */
	struct remote_sink sink; /* the remote hands this back; see batch_of_sink() */
	struct fetch *fetch;	 /* borrowed */
	enum way way;
	enum lane lane;	   /* of the most urgent aboard */
	struct oid first;  /* the id of the first flight aboard: the carrier's where there is one */
	struct oid *wants; /* owned; sorted by nothing */
	size_t want_count;
	/* what other processes need not fetch meanwhile (neighbours.c); owned */
	struct oid *claims;
	size_t claim_count;
	bool direct;	/* a tree's sizes: only of what is in it, not below */
	bool claimed;	/* a range: its blocks are */
	bool elsewhere; /* sizes: another process asks for those of what would be first */
	enum filter_kind filter_kind;
	char filter[96]; /* "": none */
	unsigned deepen;
	struct oid step; /* the commit to step from; null */
	uint64_t start_ms;

	/* under the fetch's lock */
	TAILQ_ENTRY(batch) entry;
	TAILQ_ENTRY(batch) work;
	struct flight_list flights; /* what has not arrived yet */
	uint64_t bytes;		    /* of known sizes */
	struct remote_call *call;   /* borrowed; NULL before it is known and after it has ended */
	bool starting;		    /* remote_start_*() has not returned */
	bool cancel_wanted, stalled;
	bool ended; /* done() was called: `outcome` is set */
	struct remote_outcome outcome;
	struct chunk_list chunks;
	size_t queued_len; /* of chunks, what is being worked on included */
	bool paused;
	bool held; /* paused because it is far ahead of the readers; not resumed by the ingest */
	bool was_held;
	struct cache_size *sizes; /* owned; SIZE_UNKNOWN where the server does not know the id */
	size_t size_count, size_cap;
	bool no_memory;	   /* an answer could not be kept */
	bool scheduled;	   /* in the work queue, or being worked on */
	bool heard;	   /* something of the answer has come */
	uint64_t heard_ms; /* since when */
	uint64_t progress_ms;
	uint64_t received; /* bytes of the pack */
	/* bytes of a large file, shown before the whole is verified: a range, or a stream */
	struct large *large; /* in use; NULL: none */
	uint64_t range_off, range_end;
	uint64_t reserved; /* of the budget */
	bool runs_on;	   /* it goes on by itself, and waits for its readers */
	bool misfit;	   /* its answer is not what was asked for */
	bool abandoned;	   /* what comes of it still, or has come, is of no use */

	/* owned by the ingest thread that works on it */
	struct ingest *ingest; /* owned */
	int ingest_status;
	uint32_t object_count;	  /* as the pack's header says */
	size_t arrived, foreign;  /* objects; of these, with no flight */
	size_t dropped;		  /* the cache did not take them */
	bool peeked;		  /* the size was all that was wanted */
	bool lingers;		  /* the same, but it may become a stream */
	bool doubted;		  /* it was refused, which is not believed yet */
	uint64_t feed_off;	  /* of a large file: how far it has come */
	struct block *feed_block; /* owned: the block that is being filled; NULL */
	size_t feed_len;
};

struct batch *batch_of_sink(struct remote_sink *sink);

/* NULL: out of memory. Room for `want_max` wants. */
struct batch *batch_new(struct fetch *fetch, enum way way, size_t want_max);
void batch_free(struct batch *batch); /* no flight rides any more */

/* A flight comes aboard; there must be room. */
void batch_ride_locked(struct flight_table *table, struct batch *batch, struct flight *flight);

/* Cancels the call now, or as soon as there is one. */
void batch_cancel_locked(struct batch *batch);

/* The same, and what has come already is not waited for by anybody. */
void batch_abandon_locked(struct batch *batch);

/* The network's side. -ENOMEM: lost. */
int batch_append_locked(struct batch *batch, const uint8_t *data, size_t len);
int batch_append_size_locked(struct batch *batch, const struct oid *oid, bool known, uint64_t size);

/* The ingest's side: moves about `len` bytes to `out`. What is left of them goes back in front. */
void batch_take_locked(struct batch *batch, size_t len, struct chunk_list *out);
void batch_give_back_locked(struct batch *batch, struct chunk_list *rest);

const char *way_name(enum way way); /* "files", "directory trees", ... for a sentence */

#endif
