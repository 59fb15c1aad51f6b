/*
 * index_internal: what the parts of the index share. index.c opens, reads and looks; index_write.c
 * changes; index_value.c puts keys and values together and takes them apart, refusing what does not
 * check.
 *
 * Threads: as index.h says.
 */
#ifndef CACHE_INDEX_INTERNAL_H
#define CACHE_INDEX_INTERNAL_H

#include <lmdb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "cache/index.h"
#include "cache/pages.h"

#define VALUE_VERSION 1
#define CHECK_LEN 8
#define KEY_MAX 511 /* LMDB's */
#define KIND_MAX 63

#define PLACE_LEN 32
#define OBJECT_LEN (32 + PLACE_LEN)
#define BLOCK_LEN (8 + PLACE_LEN)
#define FACT_HEADER_LEN 16
#define SEGMENT_LEN 32
#define POOL_COUNT 16 /* each may hold one of READERS_MAX, for all processes together */

/* The order is also the seed of the values' checks: never change it. */
enum index_db { DB_OBJECTS, DB_BLOCKS, DB_FACTS, DB_SEGMENTS, DB_COUNT };
extern const char *const index_db_names[DB_COUNT];

/* One for each of some groups of threads, which so do not meet at a lock. */
struct pool {
	_Alignas(64) struct lock lock;
	MDB_txn *txn; /* under lock; a reset read transaction, which pins nothing; or NULL */
};

struct index {
	/* set before threads start */
	MDB_env *env;
	MDB_dbi dbis[DB_COUNT];
	/* our own look at LMDB's file */
	const uint8_t *map; /* or NULL */
	size_t map_len, page_len;
	int fd; /* LMDB's */
	/* LMDB stumbled over a damaged page: it is not called again */
	_Atomic bool broken;
	/* owned by the one who writes */
	uint64_t next_reader_check_ms;
	struct pool pools[POOL_COUNT];
};

struct index_key {
	uint8_t bytes[KEY_MAX];
	size_t len;
	bool hashed; /* a fact's: the key itself is in the value */
};

/* ---- index_value.c ---- */

int index_error(int rc); /* LMDB's codes as ours */

void index_key_of_oid(const struct oid *oid, struct index_key *out);
void index_key_of_block(const struct oid *oid, uint32_t block, struct index_key *out);
void index_key_of_segment(uint64_t segment, struct index_key *out);
int index_key_of_fact(const char *kind, const void *bytes, size_t len, struct index_key *out);
MDB_val index_key_val(struct index_key *key);

/* Puts the check behind a value, which has room for it. */
void index_value_seal(enum index_db db, const MDB_val *key, uint8_t *value,
		      size_t len_without_check);

void index_place_encode(const struct place *place, uint8_t *out);
size_t index_object_encode(const struct index_object *object, uint8_t out[OBJECT_LEN]);
/* 0 or -EBADMSG. */
int index_object_decode(const MDB_val *key, const MDB_val *value, struct index_object *out);
int index_block_decode(const MDB_val *key, const MDB_val *value, struct place *out);
/* Leaves *out pointing into the map. */
int index_fact_decode(const MDB_val *key, const MDB_val *value, MDB_val *out_key, MDB_val *out,
		      int64_t *out_time_s);
bool index_segment_decode(const MDB_val *key, const MDB_val *value, struct index_segment *out);

/* ---- index.c ---- */

/* One call into LMDB; run() gets it back. */
struct index_call {
	struct index *index;
	int (*fn)(struct index *index, MDB_txn *txn, void *arg); /* 0 or -errno */
	void *arg;
	int rc;
	MDB_txn *volatile txn; /* while it reads */
};

/* Runs it under the guard. What run() left in call->rc, or -EUCLEAN. */
int index_call_run(struct index_call *call, void (*run)(void *));

struct pages index_pages(const struct index *index);

/* In a transaction. 0 or -errno. */
int index_txn_object(struct index *index, MDB_txn *txn, const struct oid *oid,
		     struct index_object *out);
int index_txn_block(struct index *index, MDB_txn *txn, const struct oid *oid, uint32_t block,
		    struct place *out);
int index_txn_fact(struct index *index, MDB_txn *txn, struct index_key *key, const void *fact_key,
		   size_t fact_key_len, struct buf *out, int64_t *out_time_s);
int index_txn_segment(struct index *index, MDB_txn *txn, uint64_t segment,
		      struct index_segment *out);

#endif
