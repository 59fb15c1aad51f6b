/*
 * index: what is known of objects, where their records are, and small facts; one LMDB environment.
 *
 * Everything here can be lost and found again in the segments. Values are copied out; nothing
 * that points into the map leaves index.c, and no transaction outlives the call that began it.
 *
 * Every value carries a version and its own check (XXH3 of the value, seeded with that of the
 * key), because LMDB's pages have none.
 *
 *	database	key				value
 *	objects		algo, hash			type, size, where the record is
 *	blocks		algo, hash, index (BE32)	where the record is
 *	facts		kind NUL ("k" key | "h" XXH128)	time, key when hashed, value
 *	segments	segment id (BE64)		how far the file is known to be good, and
 *							how far the hand has come (hand.h)
 *
 * LMDB follows what it finds on its pages, wherever that leads. So every call runs under a guard
 * (base/guard.h): a fault inside makes the index -EUCLEAN from then on, and LMDB is not called
 * again.
 *
 *	index_open ---> index_get*, index_apply ... ---> index_close
 *
 * Threads: any may read. index_apply() only under the directory's write lock (store.h), whose
 * wait has an end; LMDB's own lock has none.
 */
#ifndef CACHE_INDEX_H
#define CACHE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/content.h"
#include "base/error.h"
#include "base/oid.h"
#include "cache/record.h"

struct index;

#define INDEX_FACT_MAX_LEN ((size_t)16 * 1024 * 1024)
#define INDEX_KEY_MAX_LEN ((size_t)64 * 1024)

/* Where a record is, and what its header must say. */
struct place {
	uint64_t segment, off;
	uint32_t stored_len, raw_len;
	uint32_t dictionary;
	uint8_t codec;
};
bool place_equal(const struct place *a, const struct place *b);
/*
 * A sum over places, one after the other, from 0 on. Records never change, so the same sum means
 * the same bytes.
 */
uint64_t place_seal(uint64_t seal, const struct place *place);

enum index_content {
	CONTENT_NONE = 0,   /* only the size is known */
	CONTENT_RECORD = 1, /* one record, at `place` */
	CONTENT_BLOCKS = 2, /* block records, each with its own entry */
	/*
	 * Not an object but one in the making, under a name of its own: some blocks, of which
	 * nobody knows yet whether they are right. An older version takes this and the next for
	 * damaged: a miss.
	 */
	CONTENT_PARTIAL = 3,
	CONTENT_ADOPTED = 4, /* the blocks of what was in the making under `name` */
};

struct index_object {
	enum object_type type;
	enum index_content content;
	bool pinned; /* is never given up to make room: a dictionary; for others see pins.h */
	uint64_t size;
	uint64_t stored_bytes; /* of all its records */
	int64_t time_s;
	struct place place;
	/* CONTENT_ADOPTED: whose blocks they are; CONTENT_PARTIAL: who adopted them, algo 0: nobody */
	struct oid name;
};

/*
 * Opens the environment in the directory `path`, making it when it is not there. map_len 0: 16 GiB.
 * -EUCLEAN: damaged, or of another LMDB: throw it away and open again.
 */
int index_open(const char *path, size_t map_len, struct index **out, struct xcp_error *err);
void index_close(struct index **index); /* no other call may be running */

/*
 * ---- reading: 0, -ENOENT, -EBADMSG for a value that does not check, -EUCLEAN for a damaged
 * index, or another error ----
 */

int index_get_object(struct index *index, const struct oid *oid, struct index_object *out);

/*
 * The places of the blocks [first, first+count). When one is missing or bad, *out_bad is its
 * index.
 */
int index_get_blocks(struct index *index, const struct oid *oid, uint32_t first, uint32_t count,
		     struct place *out, uint32_t *out_bad);

/* Sets bit i of `out` for each block i below `count` that has an entry; the others stay. */
int index_get_map(struct index *index, const struct oid *oid, uint32_t count, uint8_t *out);

struct index_entry {
	struct oid oid;
	struct index_object object;
};
/*
 * The next objects behind `after` (algo 0: from the first on), in the order of ids, at most `max`;
 * values that do not check are left out.
 */
int index_list(struct index *index, const struct oid *after, struct index_entry *out, size_t max,
	       size_t *out_count);
uint64_t index_count_objects(struct index *index); /* with those of which only the size is known */

/* Adds the value to `out`. */
int index_get_fact(struct index *index, const char *kind, const void *key, size_t key_len,
		   struct buf *out, int64_t *out_time_s);

struct index_segment {
	uint64_t tail;	/* up to here were nothing but good records when it was last written */
	uint64_t head;	/* what is before this has been given up, or lies elsewhere too */
	uint64_t stays; /* but so many bytes, which are pinned */
};
/*
 * All facts of a kind into `out`, one behind the other: lengths of key and value (LE32 each), key,
 * value. What does not check is left out.
 */
int index_list_facts(struct index *index, const char *kind, struct buf *out);
int index_get_segment(struct index *index, uint64_t segment, struct index_segment *out);

/* ---- writing ---- */

enum index_op_kind {
	OP_OBJECT,	 /* oid, object; only its size when it is of blocks and one is missing */
	OP_BLOCK,	 /* oid, block, place */
	OP_SIZE,	 /* oid, object.{type,size,time_s}; nothing where content is known */
	OP_FACT,	 /* fact_*, object.time_s */
	OP_TAIL,	 /* place.{segment,off} */
	OP_HEAD,	 /* place.{segment,off}, stays: so much more of it */
	OP_SEGMENT_GONE, /* place.segment */
	OP_AGAIN,	 /* place.segment: the hand begins again at its start */
	/* oid, block, whole, from, place: the record lies elsewhere; only if it was still there */
	OP_MOVE,
	/*
	 * oid, block, whole, from: its content is not here any more; only if it was still there.
	 * size_too: nor is its size known
	 */
	OP_GIVE_UP,
	/* oid, block, whole, place, object.{type,size,time_s}: found on disk; nothing where known */
	OP_FOUND,
	/* oid, object.{type,size,time_s}: blocks of it were found, perhaps all */
	OP_FOUND_ALL,
	OP_FORGET_OBJECT, /* oid, block, place: only if still there; its size stays known */
	OP_FORGET_FACT,	  /* fact_kind, fact_key: only if it does not check */
	/*
	 * oid (a name), block, place, object.{type,size,time_s}: a block of what is in the making;
	 * nothing where there is one already
	 */
	OP_PART,
	/*
	 * oid, object.{type,size,time_s,name}, seal: if the places of the blocks of `name` give
	 * that seal, and no content is known
	 */
	OP_ADOPT,
	OP_DROP, /* oid (a name): all its blocks */
};

struct index_op {
	enum index_op_kind kind;
	struct oid oid;
	uint32_t block;
	bool whole, size_too;
	uint64_t stays;
	struct place place, from;
	struct index_object object;
	uint64_t seal;
	const char *fact_kind; /* borrowed, as the next two */
	const void *fact_key, *fact_value;
	size_t fact_key_len, fact_value_len;
};

/*
 * All or nothing, in one transaction. -ENOSPC when the map is full, -EUCLEAN when the index is
 * damaged.
 */
int index_apply(struct index *index, const struct index_op *ops, size_t count,
		struct xcp_error *err);

int index_sync(struct index *index);

struct index_space {
	uint64_t used_len; /* pages in use */
	uint64_t file_len; /* with those that were freed: the file never shrinks */
	uint64_t max_len;  /* of the file */
};
int index_space(struct index *index, struct index_space *out);
/* A copy without them, synced, at `path`, where nothing is yet. Nobody may write meanwhile. */
int index_copy(struct index *index, const char *path);

/* ---- looking ---- */

struct index_totals {
	uint64_t object_count, size_only_count, fact_count;
	uint64_t raw_bytes, stored_bytes;
};
/*
 * Counts what is in the environment at `path` without joining it, so that it may be open
 * elsewhere, in this process too; nobody may write meanwhile (hold the write lock). Adds to
 * *out.
 */
int index_count(const char *path, struct index_totals *out);

#endif
