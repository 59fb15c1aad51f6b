/*
 * cache_internal: what the public face (cache.c) and the writer thread (writer.c) share.
 *
 *	caller --put--> pending --writer--> segments, then index
 *	caller --get--> blocks, pending, then store (index, segments)
 *
 * Threads: every field says whose it is. `lock` is never held over disk I/O, nor over anything
 * that frees contents.
 */
#ifndef CACHE_INTERNAL_H
#define CACHE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "base/log.h"
#include "cache/blocks.h"
#include "cache/cache.h"
#include "cache/pending.h"
#include "cache/recency.h"
#include "cache/store.h"

#define CACHE_WHY_LEN 160
#define CACHE_LOG_INTERVAL_MS 60000

enum fault_kind { FAULT_RECORD, FAULT_VALUE, FAULT_INDEX, FAULT_STORE, FAULT_KIND_COUNT };

struct counters {
	_Atomic uint64_t hits, misses, puts, put_bytes, dropped, stored_bytes, faults;
	_Atomic uint64_t given_up, given_up_bytes;
	_Atomic uint64_t repacked, repacked_bytes;
	_Atomic uint64_t rebuild_left;
};

/*
 * The store again, once for each of some groups of threads, so that readers do not meet at the
 * cache's lock. A reader takes its reference under the lock of its own group.
 */
#define CACHE_DOOR_COUNT 16
struct cache_door {
	_Alignas(64) struct lock lock;
	struct store *store; /* under lock; borrowed from cache->store */
};

struct writer;

struct cache {
	/* set before threads start */
	char *dir; /* absolute; owned */
	size_t queue_max_len, index_max_len;
	uint64_t segment_max_len, size_max_len;
	struct blocks *blocks;
	struct recency *recency;
	pthread_t writer_thread;
	struct writer *writer; /* used by its thread only */

	struct cache_door doors[CACHE_DOOR_COUNT];
	struct counters counters;
	struct log_limit limits[FAULT_KIND_COUNT], degraded_limit;

	/* asked by any thread, answered by the writer */
	_Atomic bool index_damaged; /* throw it away */
	_Atomic bool disk_sick;	    /* so many reads failed that it is better left alone */

	/* reads that the disk failed, since when; about right is good enough */
	_Atomic unsigned disk_errors;
	_Atomic uint64_t disk_errors_ms;

	struct lock lock;
	struct lock_cond work; /* the writer waits for something to do */
	struct lock_cond room; /* putters wait for room */
	struct lock_cond done; /* flushers wait for their sequence number */
	/* under lock */
	struct pending pending;
	struct store *store; /* counted; NULL: nothing on disk now; readers go through doors */
	bool stopping;
	unsigned flusher_count;
	uint64_t failed_attempts; /* of the writer, so far */
	bool degraded, degraded_said;
	char degraded_why[CACHE_WHY_LEN];
};

/*
 * What readers find from now on; may be NULL. Under `lock`, by the writer, which afterwards waits
 * for the references that were taken before. A door's lock is a leaf below `lock`.
 */
void cache_store_set_locked(struct cache *cache, struct store *store);

/* Counts a fault and logs it once per kind and interval. */
void cache_fault(struct cache *cache, enum fault_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- cache.c's, for part.c ---- */

/* Takes the item. As cache_put(); -EEXIST when it is queued already. */
int cache_item_add(struct cache *cache, struct pending_item *item, unsigned wait_ms);
/* The same of what needs no room; NULL is fine. */
void cache_item_add_quietly(struct cache *cache, struct pending_item *item);
/* Frees what was taken out; no lock may be held. */
void cache_items_free(struct pending_list *list);

/* What index_get_*() said, as a miss. */
int cache_index_failed(struct cache *cache, int rc);
/* A record could not be read at `place`, and by now it is not there any more. */
bool cache_record_moved(struct store *store, const struct oid *name, bool whole, uint32_t block,
			const struct place *place);
/* A record that cannot be read: counted, said, forgotten. -ENOENT. */
int cache_record_failed(struct cache *cache, const struct oid *oid, uint32_t block,
			const struct place *place, int rc, const char *why);

#endif
