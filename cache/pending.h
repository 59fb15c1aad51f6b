/*
 * pending: what was put and is not on disk yet. It is found by every lookup at once.
 *
 *	pending_add_* ---> queued ---> pending_take (writing) ---> pending_remove
 *			      ^------------ pending_put_back ------'
 *
 * What is being written stays findable till it is removed, which is after the commit: a lookup that
 * asks here first and the index then never misses in between.
 *
 * Bounded by bytes: content in memory counts in full; content in a file by what its descriptor
 * is worth.
 *
 * Threads: everything under the lock given to pending_init(), except pending_may_hold(), and
 * pending_item_free(), which must not be, because it may close files.
 */
#ifndef CACHE_PENDING_H
#define CACHE_PENDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, key_len, out) (out) = (unsigned)XXH3_64bits(key, key_len)
#include <uthash.h>
#include <xxhash.h>

#include "base/content.h"
#include "base/lock.h"
#include "cache/cache.h"
#include "cache/claims.h"
#include "cache/index.h"

enum pending_kind {
	PENDING_OBJECT,
	PENDING_SIZE,
	PENDING_FACT,
	PENDING_PART,	 /* a block of what is in the making */
	PENDING_ADOPT,	 /* what was in the making is an object now */
	PENDING_UNCLAIM, /* when it is freed others may fetch it, or find it */
	PENDING_FORGET_OBJECT,
	PENDING_FORGET_FACT,
	PENDING_DROP, /* what was in the making is no good */
};

struct pending_part_key {
	struct oid name;
	uint8_t zero[3]; /* the struct is a hash key: no holes */
	uint32_t block;
};

struct pending_item {
	UT_hash_handle hh;
	TAILQ_ENTRY(pending_item) link;
	enum pending_kind kind;
	uint64_t seq;
	size_t cost;
	bool writing;
	bool large; /* an object that is written in several steps */

	struct oid oid;		 /* objects, sizes, forgotten objects; what adopts */
	struct content *content; /* objects; counted */
	uint64_t size;		 /* sizes; of the whole in the making, as the next two */
	enum object_type type;
	struct pending_part_key part;
	struct block *bytes;   /* a part's; counted */
	uint64_t seal;	       /* what adopts */
	struct claims *claims; /* counted; of `oid`, with the next: what is claimed no more */
	enum claim_kind claim_kind;
	uint32_t block_count; /* of blocks, from `block` on */
	uint32_t block;	      /* forgotten objects, as the next */
	struct place place;
	int64_t time_s;
	uint8_t *fact; /* owned: kind NUL key value */
	size_t fact_kind_len, fact_key_len, fact_value_len;

	/* owned by the writer: how far a large object is */
	uint32_t next_block;
	uint64_t stored_bytes;
};
TAILQ_HEAD(pending_list, pending_item);

#define PENDING_HINTS 1024

struct pending {
	struct lock *lock; /* borrowed */
	size_t max_len;
	/* how many items have an id of this hash; written under lock, read by anybody */
	_Atomic uint32_t hints[PENDING_HINTS];
	/* under lock */
	struct pending_item *objects, *sizes, *facts, *parts; /* hash tables */
	struct pending_list queue; /* small things, in the order they came */
	struct pending_list large; /* large objects, in the order they came */
	size_t len;		   /* cost of everything */
	uint64_t count, content_bytes;
	uint64_t next_seq;
	unsigned forget_count;
};

void pending_init(struct pending *pending, struct lock *lock, size_t max_len);

/* Makes an item that is in no list; NULL when out of memory. content: a new reference is taken. */
struct pending_item *pending_item_object(struct content *content, size_t max_len);
struct pending_item *pending_item_size(const struct oid *oid, uint64_t size);
struct pending_item *pending_item_fact(enum pending_kind kind, const char *fact_kind,
				       const void *key, size_t key_len, const void *value,
				       size_t value_len);
struct pending_item *pending_item_forget(const struct oid *oid, uint32_t block,
					 const struct place *place);
struct pending_item *pending_item_part(const struct cache_part *part, uint32_t block,
				       struct block *bytes); /* a new reference is taken */
struct pending_item *pending_item_adopt(const struct cache_part *part, const struct oid *oid,
					uint64_t seal);
struct pending_item *pending_item_unclaim(struct claims *claims, const struct oid *oid,
					  enum claim_kind kind); /* a new reference is taken */
struct pending_item *pending_item_unclaim_blocks(struct claims *claims, const struct oid *name,
						 uint32_t first, uint32_t count); /* the same */
struct pending_item *pending_item_drop(const struct oid *name);
void pending_item_free(struct pending_item *item); /* NULL is fine; never under the lock */

/* True when `cost` more bytes may come in: always when nothing is waiting. */
bool pending_has_room_locked(const struct pending *pending, size_t cost);

/*
 * Queues an item. *out_freed gets what it replaced, or the item itself when it was there
 * already or cannot be hashed: to be freed by the caller outside the lock. -EEXIST, -ENOMEM;
 * -ENOSPC when too much is to be forgotten.
 */
int pending_add_locked(struct pending *pending, struct pending_item *item,
		       struct pending_item **out_freed);

/*
 * The oldest queued item that is not being written leaves; NULL when there is none. For the
 * caller to free.
 */
struct pending_item *pending_drop_oldest_locked(struct pending *pending);

/*
 * False: nothing of this id waits; what did before is in the index by now. True: the lock must be
 * taken to know. Any thread, without the lock.
 */
bool pending_may_hold(const struct pending *pending, const struct oid *oid);

struct pending_item *pending_find_object_locked(struct pending *pending, const struct oid *oid);
struct pending_item *pending_find_size_locked(struct pending *pending, const struct oid *oid);
struct pending_item *pending_find_fact_locked(struct pending *pending, const char *kind,
					      const void *key, size_t key_len);

struct pending_item *pending_find_part_locked(struct pending *pending, const struct oid *name,
					      uint32_t block);
/* Sets bit i of `out` for each block i below `count` of `name`. */
void pending_map_parts_locked(struct pending *pending, const struct oid *name, uint32_t count,
			      uint8_t *out);
/* All parts of `name` that are not being written leave, for the caller to free. */
void pending_drop_parts_locked(struct pending *pending, const struct oid *name,
			       struct pending_list *out_gone);

/*
 * Small things to write now, oldest first, at most max_count and about max_len raw bytes.
 * Returns how many.
 */
size_t pending_take_locked(struct pending *pending, struct pending_item **out, size_t max_count,
			   size_t max_len);
struct pending_item *pending_take_large_locked(struct pending *pending); /* NULL: none */
void pending_put_back_locked(struct pending *pending, struct pending_item *item);
void pending_remove_locked(struct pending *pending,
			   struct pending_item *item); /* the caller frees it */

static inline bool pending_is_empty_locked(const struct pending *pending)
{
	return pending->count == 0;
}

/* True when nothing is left that was added before the sequence number `seq`. */
bool pending_is_past_locked(const struct pending *pending, uint64_t seq);

#endif
