/*
 * cache: objects, their sizes and other facts, on disk, shared by every mount of every process
 * of a user.
 *
 *	DIR/v1/index/		LMDB: oid -> {type, size, where}, blocks, facts (index.h)
 *	DIR/v1/segments/ID	append-only files of self-describing records (record.h)
 *	DIR/v1/recency		what was read lately (recency.h)
 *	DIR/v1/tmp/		nothing that must survive
 *	DIR/v1/write.lock	who may write; open.lock: who may open (store.h)
 *
 * A put is visible to every later call of this process at once, and on disk a little later: one
 * writer thread compresses, appends the records of a batch, then commits the facts that name
 * them in one LMDB transaction. Content comes before the fact that names it; kill -9 loses at
 * most what was queued.
 *
 * Every read is checked. A fault (damaged, truncated, full, locked, read-only, deleted while in
 * use) is a miss: -ENOENT, logged once per kind and interval, counted; the caller goes to the
 * remote. A cache that cannot be opened at all is still a working cache with nothing in it but
 * what is pending in memory: cache_open() fails only when out of memory.
 *
 * LMDB's rules that this folder keeps: opened once per process and after the last fork; no
 * transaction outlives the call that began it; nothing that points into the map leaves index.c;
 * one writer (the writer thread); MDB_NOTLS readers.
 *
 *	cache_open ---> get/read/stat/put/facts ---> cache_close
 *
 * Closing drains the writer, and marks a clean end when this is the last process.
 *
 * Threads: any, all calls, after cache_open(). Calls may wait on disk, never on the network;
 * cache_put() may wait for room up to its wait_ms.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/buf.h"
#include "base/content.h"
#include "base/error.h"
#include "base/oid.h"

struct cache;

/*
 * Objects up to this size are one record; larger ones are blocks of this size, the last one
 * shorter.
 */
#define CACHE_BLOCK_LEN ((size_t)128 * 1024)

struct cache_config {
	const char *dir;	  /* made if missing, 0700; borrowed during cache_open() */
	size_t queue_max_len;	  /* bytes of content that wait for the writer; 0: 16 MiB */
	size_t memory_max_len;	  /* bytes of decompressed blocks kept at hand; 0: 8 MiB */
	uint64_t segment_max_len; /* 0: 256 MiB; smaller in tests */
	size_t index_max_len;	  /* of address space more than of the disk; 0: 16 GiB */
	/*
	 * Of the directory, as du counts; 0: a tenth of the file system, 1 GiB at least and 64 GiB
	 * at most. What was not read for longest makes room for what is new.
	 */
	uint64_t size_max_len;
};

/*
 * A directory may be open once per process. Never fails for what it finds on disk: see the top.
 * Returns 0 or -ENOMEM. `err` gets a sentence also when 0 is returned with a cache that only
 * lives in memory (err->code is then not 0, for the caller to log).
 */
int cache_open(const struct cache_config *config, struct cache **out, struct xcp_error *err);
void cache_close(struct cache **cache);

/* ---- objects ---- */

struct cache_stat {
	enum object_type type; /* OBJECT_NONE when only the size is known and nobody said */
	uint64_t size;
	bool has_content;
	uint64_t stored_bytes; /* on disk; 0 while it waits for the writer */
};
/* What is known of an object. -ENOENT on a miss. */
int cache_stat(struct cache *cache, const struct oid *oid, struct cache_stat *out);

/*
 * The whole object, for trees and commits: in memory, or the pending file. -ENOENT on a miss,
 * -EFBIG above max_len.
 */
int cache_get(struct cache *cache, const struct oid *oid, size_t max_len, struct content **out);

/*
 * The bytes [off, off+len) cut at the object's end; len at most 1 MiB. `out` is empty when off
 * is at or behind the end. All or nothing: -ENOENT when any block is missing or bad.
 */
int cache_read(struct cache *cache, const struct oid *oid, uint64_t off, size_t len,
	       struct spans *out);

/*
 * Hands verified content to the writer (takes its own reference). When the queue is full waits
 * up to wait_ms for room, then drops it: -EAGAIN. While degraded the oldest makes room at once:
 * memory keeps the newest. What is here already is not stored twice. -EINVAL for content
 * without a type or an algorithm, -EFBIG for what is larger than half the cache may be.
 */
int cache_put(struct cache *cache, struct content *content, unsigned wait_ms);

/*
 * ---- objects in the making: blocks of what is not here as a whole ----
 *
 *	cache_part_put ... ---> cache_part_block ... hashed by the caller ---> cache_part_adopt
 *	                                                             \-> cache_part_drop
 *
 * Of such blocks nothing is known but that they came. So they lie under a name of the caller's (an
 * id that no object has), and nobody finds them under the object's own id before it was adopted.
 * The name should tell from whom they came: who knows it believes them. A block that is not here
 * is a plain miss.
 */
struct cache_part {
	struct oid name;
	enum object_type type;
	uint64_t size; /* of the whole */
};

/*
 * One whole block (the last one is shorter); takes its own reference. As cache_put(): -EAGAIN,
 * -EINVAL for one that is no block of this. What is here already stays as it is.
 */
int cache_part_put(struct cache *cache, const struct cache_part *part, uint32_t index,
		   struct block *block, unsigned wait_ms);

/* As cache_read(): all or nothing. Not counted as hit or miss. */
int cache_part_read(struct cache *cache, const struct cache_part *part, uint64_t off, size_t len,
		    struct spans *out);

/* Sets bit i % 8 of out[i / 8] for each block i that is here; others stay. */
int cache_part_map(struct cache *cache, const struct cache_part *part, uint8_t *out);
/* The block is here: as far as that can be told without reading it. */
bool cache_part_has(struct cache *cache, const struct cache_part *part, uint32_t index);

/*
 * A block as it lies on disk; -ENOENT also while it waits for the writer. *seal, 0 at first, takes
 * in where it lies; read all in order and nothing else may have their seal.
 */
int cache_part_block(struct cache *cache, const struct cache_part *part, uint32_t index,
		     struct block **out, uint64_t *seal);

/*
 * What was read with this seal is the object `oid`: the writer makes it so, if the same blocks are
 * still there, and it is found from then on.
 */
int cache_part_adopt(struct cache *cache, const struct cache_part *part, const struct oid *oid,
		     uint64_t seal);
/* None of the blocks is here any more. Not while others put some. */
void cache_part_drop(struct cache *cache, const struct oid *name);

struct cache_size {
	struct oid oid;
	uint64_t size;
};
/* Remembers sizes of blobs whose content is not here. Copies. */
int cache_put_sizes(struct cache *cache, const struct cache_size *sizes, size_t count);

/*
 * ---- who fetches what, among the processes on the directory (claims.h) ----
 *
 *	cache_claim true ---> fetch, cache_put ... ---> cache_unclaim
 *	            false ---> look into the cache from time to time; try again; not for ever
 */
enum cache_claim { CACHE_CLAIM_OBJECT, CACHE_CLAIM_BELOW, CACHE_CLAIM_SIZES };

/* Another process has the directory open: else there is nothing to claim. */
bool cache_has_neighbours(struct cache *cache);
/* False: another process fetches it. Never waits. */
bool cache_claim(struct cache *cache, const struct oid *oid, enum cache_claim kind);
/* Takes effect when what was put before is there for others. */
void cache_unclaim(struct cache *cache, const struct oid *oid, enum cache_claim kind);
/* Another process fetches it. */
bool cache_is_claimed(struct cache *cache, const struct oid *oid, enum cache_claim kind);

/*
 * The same for blocks of an object in the making: as many as are free from the first on, at most
 * `count`, which are not 0. 0: another process fetches the first, and *out_others blocks from there.
 */
uint32_t cache_claim_blocks(struct cache *cache, const struct oid *name, uint32_t first,
			    uint32_t count, uint32_t *out_others);
/* `at_once`: nothing was put. */
void cache_unclaim_blocks(struct cache *cache, const struct oid *name, uint32_t first,
			  uint32_t count, bool at_once);
/* Any of them. */
bool cache_are_blocks_claimed(struct cache *cache, const struct oid *name, uint32_t first,
			      uint32_t count);

/* ---- facts: small named values (refs, capabilities, identities) ---- */

/*
 * `kind` is a short word ("ref", "caps", "mount", ...). Any key, any length up to 64 KiB.
 * Stored with the time.
 */
int cache_fact_put(struct cache *cache, const char *kind, const void *key, size_t key_len,
		   const void *value, size_t value_len);
/* -ENOENT on a miss. out_stored_s: seconds since 1970, may be NULL. */
int cache_fact_get(struct cache *cache, const char *kind, const void *key, size_t key_len,
		   struct buf *out, int64_t *out_stored_s);

/*
 * Calls `each` with every fact of a kind that is on disk; what it is given is borrowed, and it may
 * call anything. Ends when it returns anything but 0, with that.
 */
int cache_facts(struct cache *cache, const char *kind,
		int (*each)(void *arg, const void *key, size_t key_len, const void *value,
			    size_t value_len),
		void *arg);

/*
 * Waits until everything queued before the call is on disk or dropped, or was tried in vain: then
 * the cache is degraded and keeps it in memory.
 */
void cache_flush(struct cache *cache);

/*
 * The same, and then on stable storage: what was queued before the call survives a power cut, if
 * nothing was dropped. -EIO and others, with the reason, when it is not.
 */
int cache_sync(struct cache *cache, struct xcp_error *err);

/*
 * An unlinked O_TMPFILE in the cache's tmp directory, else in $TMPDIR or /tmp; for content that
 * is too large for memory. fd or -errno.
 */
int cache_tmpfile(struct cache *cache);

/* ---- looking and clearing ---- */

struct cache_counters {
	uint64_t hits, misses;		   /* cache_get and cache_read */
	uint64_t puts, put_bytes;	   /* raw bytes accepted */
	uint64_t dropped;		   /* puts that found no room or could not be written */
	uint64_t stored_bytes;		   /* bytes appended to segments by this process */
	uint64_t faults;		   /* reads that failed a check or an I/O call */
	uint64_t given_up, given_up_bytes; /* records that made room for others */
	uint64_t repacked,
		repacked_bytes; /* records packed again, and how much smaller they became */
	uint64_t rebuild_left;	/* bytes of segments that the index does not know yet */
	uint64_t pending, pending_bytes; /* waiting for the writer now */
	bool degraded;			 /* not stored on disk at present */
	char degraded_why[160];
};
void cache_counters(struct cache *cache, struct cache_counters *out);

struct cache_info {
	uint64_t object_count, size_only_count, fact_count;
	uint64_t raw_bytes, stored_bytes; /* of the objects in the index */
	uint64_t disk_bytes;		  /* as du counts */
	uint64_t segment_count, index_bytes;
	uint64_t default_limit; /* what the directory may take unless something else was said */
};
/* Looks at a cache directory, in use or not. -ENOENT when there is none. */
int cache_info(const char *dir, struct cache_info *out, struct xcp_error *err);

/*
 * Empties a cache directory, in use or not: mounts that use it go on and fetch again. Returns
 * the bytes given back in *out_freed.
 */
int cache_clear(const char *dir, uint64_t *out_freed, struct xcp_error *err);

#endif
