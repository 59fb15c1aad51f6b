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
 *	segments	segment id (BE64)		how far the file is known to be good
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
	uint64_t size;
	uint64_t stored_bytes; /* of all its records */
	int64_t time_s;
	struct place place;
	struct oid name; /* whose blocks they are: CONTENT_ADOPTED */
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

/* Adds the value to `out`. */
int index_get_fact(struct index *index, const char *kind, const void *key, size_t key_len,
		   struct buf *out, int64_t *out_time_s);

/* Up to where the segment held nothing but good records when this index was last written. */
int index_get_tail(struct index *index, uint64_t segment, uint64_t *out);

/* ---- writing ---- */

enum index_op_kind {
	OP_OBJECT,	  /* oid, object */
	OP_BLOCK,	  /* oid, block, place */
	OP_SIZE,	  /* oid, object.{type,size,time_s}; nothing where content is known */
	OP_FACT,	  /* fact_*, object.time_s */
	OP_TAIL,	  /* place.{segment,off} */
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
	struct place place;
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
