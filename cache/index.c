/*
 * index: the only file that knows LMDB. It may assume that one process writes at a time (the
 * caller holds the write lock) and nothing at all about the bytes it finds.
 *
 * NOTLS: a read transaction belongs to its object, not to a thread, so reset ones can wait in a
 * pool and be renewed, which allocates nothing. NOSYNC: see store.h on durability. No WRITEMAP:
 * a stray pointer of ours must not be able to write to the map.
 */
#include "cache/index.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/lock.h"
#include "cache/bytes.h"

#define MAP_LEN ((uint64_t)16 * 1024 * 1024 * 1024)
#define MAP_LEN_32BIT ((uint64_t)512 * 1024 * 1024)
#define READERS_MAX 2048
#define POOL_COUNT 16 /* each may hold one of READERS_MAX, for all processes together */
#define READER_CHECK_MS 10000

#define VALUE_VERSION 1
#define CHECK_LEN 8
#define KEY_MAX 511 /* LMDB's */
#define KIND_MAX 63

/* The order is also the seed of the values' checks: never change it. */
enum db { DB_OBJECTS, DB_BLOCKS, DB_FACTS, DB_SEGMENTS, DB_COUNT };
static const char *const db_names[DB_COUNT] = { "objects", "blocks", "facts", "segments" };

/* One for each of some groups of threads, which so do not meet at a lock. */
struct pool {
	_Alignas(64) struct lock lock;
	MDB_txn *txn; /* under lock; a reset read transaction, which pins nothing; or NULL */
};

struct index {
	/* set before threads start */
	MDB_env *env;
	MDB_dbi dbis[DB_COUNT];
	/* owned by the one who writes */
	uint64_t next_reader_check_ms;
	struct pool pools[POOL_COUNT];
};

/* ---- LMDB's errors as ours ---- */

static int mdb_error(int rc)
{
	switch (rc) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EUCLEAN;
	case MDB_READERS_FULL:
		return -EAGAIN;
	default:
		return rc > 0 ? -rc : rc == 0 ? 0 : -EIO;
	}
}

/* ---- keys ---- */

struct key {
	uint8_t bytes[KEY_MAX];
	size_t len;
	bool hashed; /* a fact's: the key itself is in the value */
};

static void key_of_oid(const struct oid *oid, struct key *out)
{
	out->bytes[0] = oid->algo;
	memcpy(out->bytes + 1, oid->hash, oid_len(oid));
	out->len = 1 + oid_len(oid);
	out->hashed = false;
}

static void key_add_be32(struct key *key, uint32_t v)
{
	v = htobe32(v);
	memcpy(key->bytes + key->len, &v, sizeof(v));
	key->len += sizeof(v);
}

static void key_of_block(const struct oid *oid, uint32_t block, struct key *out)
{
	key_of_oid(oid, out);
	key_add_be32(out, block);
}

static void key_of_segment(uint64_t segment, struct key *out)
{
	out->len = 0;
	out->hashed = false;
	key_add_be32(out, (uint32_t)(segment >> 32));
	key_add_be32(out, (uint32_t)segment);
}

static int key_of_fact(const char *kind, const void *bytes, size_t len, struct key *out)
{
	size_t kind_len = strlen(kind);

	if (kind_len > KIND_MAX || len > INDEX_KEY_MAX_LEN)
		return -EINVAL;
	memcpy(out->bytes, kind, kind_len + 1);
	out->len = kind_len + 1;
	out->hashed = len > KEY_MAX - out->len - 1;
	out->bytes[out->len++] = out->hashed ? 'h' : 'k';
	if (out->hashed) {
		XXH128_canonical_t hash;

		XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes, len));
		memcpy(out->bytes + out->len, &hash, sizeof(hash));
		out->len += sizeof(hash);
	} else if (len > 0) {
		memcpy(out->bytes + out->len, bytes, len);
		out->len += len;
	}
	return 0;
}

static MDB_val key_val(struct key *key)
{
	MDB_val val = { .mv_size = key->len, .mv_data = key->bytes };

	return val;
}

/* ---- values: bytes, then their check ---- */

static uint64_t value_check(enum db db, const MDB_val *key, const uint8_t *value, size_t len)
{
	uint64_t seed = XXH3_64bits_withSeed(key->mv_data, key->mv_size, db);

	return XXH3_64bits_withSeed(value, len, seed);
}

static void value_seal(enum db db, const MDB_val *key, uint8_t *value, size_t len_without_check)
{
	put_le64(value + len_without_check, value_check(db, key, value, len_without_check));
}

/* At least min_len bytes before the check, of our version, and they check. */
static bool value_is_sound(enum db db, const MDB_val *key, const MDB_val *value, size_t min_len)
{
	const uint8_t *bytes = value->mv_data;
	size_t len;

	if (value->mv_size < min_len + CHECK_LEN)
		return false;
	len = value->mv_size - CHECK_LEN;
	return get_le64(bytes + len) == value_check(db, key, bytes, len) &&
	       bytes[0] == VALUE_VERSION;
}

/*
 * place: 0 codec, 1 zero[3], 4 dictionary, 8 segment, 16 off, 24 stored length, 28 raw length
 */
#define PLACE_LEN 32

static void place_encode(const struct place *place, uint8_t *out)
{
	memset(out, 0, PLACE_LEN);
	out[0] = place->codec;
	put_le32(out + 4, place->dictionary);
	put_le64(out + 8, place->segment);
	put_le64(out + 16, place->off);
	put_le32(out + 24, place->stored_len);
	put_le32(out + 28, place->raw_len);
}

static bool place_decode(const uint8_t *bytes, struct place *out)
{
	out->codec = bytes[0];
	out->dictionary = get_le32(bytes + 4);
	out->segment = get_le64(bytes + 8);
	out->off = get_le64(bytes + 16);
	out->stored_len = get_le32(bytes + 24);
	out->raw_len = get_le32(bytes + 28);
	return out->raw_len <= RECORD_RAW_MAX && out->stored_len <= out->raw_len &&
	       out->off <= INT64_MAX / 2;
}

bool place_equal(const struct place *a, const struct place *b)
{
	return a->segment == b->segment && a->off == b->off && a->stored_len == b->stored_len &&
	       a->raw_len == b->raw_len && a->codec == b->codec && a->dictionary == b->dictionary;
}

uint64_t place_seal(uint64_t seal, const struct place *place)
{
	uint8_t bytes[PLACE_LEN];

	place_encode(place, bytes);
	return XXH3_64bits_withSeed(bytes, sizeof(bytes), seal);
}

/*
 * objects: 0 version, 1 type, 2 content, 3 the name's algorithm, 4 zero[4], 8 size, 16 time, and
 * with content: 24 stored bytes, 32 place or name
 */
#define OBJECT_SHORT_LEN 24
#define OBJECT_LEN (32 + PLACE_LEN)

static size_t object_encode(const struct index_object *object, uint8_t out[OBJECT_LEN])
{
	memset(out, 0, OBJECT_LEN);
	out[0] = VALUE_VERSION;
	out[1] = (uint8_t)object->type;
	out[2] = (uint8_t)object->content;
	put_le64(out + 8, object->size);
	put_le64(out + 16, (uint64_t)object->time_s);
	if (object->content == CONTENT_NONE)
		return OBJECT_SHORT_LEN;
	put_le64(out + 24, object->stored_bytes);
	if (object->content == CONTENT_RECORD)
		place_encode(&object->place, out + 32);
	if (object->content == CONTENT_ADOPTED) {
		out[3] = object->name.algo;
		memcpy(out + 32, object->name.hash, OID_MAX_LEN);
	}
	return OBJECT_LEN;
}

static int object_decode(const MDB_val *key, const MDB_val *value, struct index_object *out)
{
	const uint8_t *bytes = value->mv_data;
	struct index_object o = { .type = OBJECT_NONE };

	if (!value_is_sound(DB_OBJECTS, key, value, OBJECT_SHORT_LEN))
		return -EBADMSG;
	o.type = bytes[1];
	o.content = bytes[2];
	o.size = get_le64(bytes + 8);
	o.time_s = (int64_t)get_le64(bytes + 16);
	if (o.type > OBJECT_TAG || o.content > CONTENT_ADOPTED)
		return -EBADMSG;
	if (o.content != CONTENT_NONE) {
		if (value->mv_size != OBJECT_LEN + CHECK_LEN)
			return -EBADMSG;
		o.stored_bytes = get_le64(bytes + 24);
	}
	if (o.content == CONTENT_ADOPTED) {
		o.name.algo = bytes[3];
		memcpy(o.name.hash, bytes + 32, OID_MAX_LEN);
		if (o.name.algo != OID_SHA1 && o.name.algo != OID_SHA256)
			return -EBADMSG;
	} else if (o.content != CONTENT_NONE && !place_decode(bytes + 32, &o.place)) {
		return -EBADMSG;
	}
	if (o.content == CONTENT_RECORD && o.place.raw_len != o.size)
		return -EBADMSG;
	*out = o;
	return 0;
}

/* blocks: 0 version, 1 zero[7], 8 place */
#define BLOCK_LEN (8 + PLACE_LEN)

static int block_decode(const MDB_val *key, const MDB_val *value, struct place *out)
{
	if (!value_is_sound(DB_BLOCKS, key, value, BLOCK_LEN) ||
	    !place_decode((const uint8_t *)value->mv_data + 8, out))
		return -EBADMSG;
	return 0;
}

/*
 * facts: 0 version, 1 zero[3], 4 length of the key that follows (0 when not hashed), 8 time, 16
 * key, value
 */
#define FACT_HEADER_LEN 16

/* Leaves *out pointing into the map. */
static int fact_decode(const MDB_val *key, const MDB_val *value, MDB_val *out_key, MDB_val *out,
		       int64_t *out_time_s)
{
	uint8_t *bytes = value->mv_data;
	size_t key_len;

	if (!value_is_sound(DB_FACTS, key, value, FACT_HEADER_LEN))
		return -EBADMSG;
	key_len = get_le32(bytes + 4);
	if (key_len > value->mv_size - CHECK_LEN - FACT_HEADER_LEN)
		return -EBADMSG;
	*out_time_s = (int64_t)get_le64(bytes + 8);
	out_key->mv_data = bytes + FACT_HEADER_LEN;
	out_key->mv_size = key_len;
	out->mv_data = bytes + FACT_HEADER_LEN + key_len;
	out->mv_size = value->mv_size - CHECK_LEN - FACT_HEADER_LEN - key_len;
	return 0;
}

/* segments: 0 version, 1 zero[7], 8 good up to */
#define TAIL_LEN 16

/* ---- opening ---- */

static int dbis_open_in(struct index *index, unsigned txn_flags, unsigned dbi_flags)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(index->env, NULL, txn_flags, &txn);

	if (rc == MDB_READERS_FULL) {
		mdb_reader_check(index->env, NULL);
		rc = mdb_txn_begin(index->env, NULL, txn_flags, &txn);
	}
	if (rc)
		return rc;
	for (unsigned db = 0; db < DB_COUNT && rc == 0; db++)
		rc = mdb_dbi_open(txn, db_names[db], dbi_flags, &index->dbis[db]);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

static int dbis_open(struct index *index)
{
	int rc = dbis_open_in(index, MDB_RDONLY, 0);

	return rc == MDB_NOTFOUND ? dbis_open_in(index, 0, MDB_CREATE) : rc;
}

/* A file shorter than its own meta page says would kill us with SIGBUS later. */
static bool file_is_whole(MDB_env *env)
{
	MDB_envinfo info;
	MDB_stat stat_of_main;
	struct stat st;
	int fd;

	if (mdb_env_info(env, &info) || mdb_env_stat(env, &stat_of_main) ||
	    mdb_env_get_fd(env, &fd) || fstat(fd, &st))
		return false;
	return info.me_last_pgno <= 1 ||
	       (uint64_t)st.st_size / stat_of_main.ms_psize > info.me_last_pgno;
}

static size_t map_len_default(void)
{
	return SIZE_MAX > MAP_LEN ? (size_t)MAP_LEN : (size_t)MAP_LEN_32BIT;
}

/* LMDB forgets to, for one of its files. */
static int close_on_exec(MDB_env *env)
{
	int fd;
	int rc = mdb_env_get_fd(env, &fd);

	if (rc)
		return rc;
	return fcntl(fd, F_SETFD, FD_CLOEXEC) ? errno : 0;
}

static int env_open(MDB_env *env, const char *path, size_t map_len, unsigned flags)
{
	int rc = mdb_env_set_mapsize(env, map_len ? map_len : map_len_default());

	if (!rc)
		rc = mdb_env_set_maxreaders(env, READERS_MAX);
	if (!rc)
		rc = mdb_env_set_maxdbs(env, DB_COUNT);
	if (!rc)
		rc = mdb_env_open(env, path, flags, 0600);
	if (!rc)
		rc = close_on_exec(env);
	if (!rc && !file_is_whole(env))
		rc = MDB_CORRUPTED;
	return rc;
}

static void index_free(struct index *index)
{
	for (unsigned i = 0; i < POOL_COUNT; i++) {
		if (index->pools[i].txn)
			mdb_txn_abort(index->pools[i].txn);
		lock_release(&index->pools[i].lock);
	}
	if (index->env)
		mdb_env_close(index->env);
	free(index);
}

static struct index *index_new(void)
{
	struct index *index = aligned_alloc(_Alignof(struct index), sizeof(*index));

	if (!index)
		return NULL;
	memset(index, 0, sizeof(*index));
	for (unsigned i = 0; i < POOL_COUNT; i++)
		lock_init(&index->pools[i].lock);
	return index;
}

int index_open(const char *path, size_t map_len, struct index **out, struct xcp_error *err)
{
	struct index *index = index_new();
	int rc;

	if (!index)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache index: out of memory");
	rc = mdb_env_create(&index->env);
	if (!rc)
		rc = env_open(index->env, path, map_len, MDB_NOTLS | MDB_NOSYNC);
	if (!rc) {
		mdb_reader_check(index->env, NULL);
		rc = dbis_open(index);
	}
	if (rc) {
		index_free(index);
		return xcp_error_set(err, mdb_error(rc), "cannot open the cache index %s: %s", path,
				     mdb_strerror(rc));
	}
	*out = index;
	return 0;
}

void index_close(struct index **index)
{
	if (!*index)
		return;
	index_free(*index);
	*index = NULL;
}

/* ---- read transactions ---- */

/* Leaves `txn` in the calling thread's pool, and returns what was there. */
static MDB_txn *pool_swap(struct index *index, MDB_txn *txn)
{
	struct pool *pool = &index->pools[thread_stripe(POOL_COUNT)];
	MDB_txn *before;

	lock_take(&pool->lock);
	before = pool->txn;
	pool->txn = txn;
	lock_give(&pool->lock);
	return before;
}

static int read_begin(struct index *index, MDB_txn **out)
{
	MDB_txn *txn = pool_swap(index, NULL);
	int rc;

	if (txn) {
		rc = mdb_txn_renew(txn);
		if (rc == 0) {
			*out = txn;
			return 0;
		}
		mdb_txn_abort(txn);
		return rc;
	}
	rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, out);
	if (rc == MDB_READERS_FULL) {
		mdb_reader_check(index->env, NULL);
		rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, out);
	}
	return rc;
}

static void read_end(struct index *index, MDB_txn *txn)
{
	mdb_txn_reset(txn);
	txn = pool_swap(index, txn);
	if (txn)
		mdb_txn_abort(txn);
}

static int txn_get_object(struct index *index, MDB_txn *txn, const struct oid *oid,
			  struct index_object *out)
{
	struct key key;
	MDB_val k, v;
	int rc;

	key_of_oid(oid, &key);
	k = key_val(&key);
	rc = mdb_get(txn, index->dbis[DB_OBJECTS], &k, &v);
	return rc ? mdb_error(rc) : object_decode(&k, &v, out);
}

static int txn_get_block(struct index *index, MDB_txn *txn, const struct oid *oid, uint32_t block,
			 struct place *out)
{
	struct key key;
	MDB_val k, v;
	int rc;

	key_of_block(oid, block, &key);
	k = key_val(&key);
	rc = mdb_get(txn, index->dbis[DB_BLOCKS], &k, &v);
	return rc ? mdb_error(rc) : block_decode(&k, &v, out);
}

int index_get_object(struct index *index, const struct oid *oid, struct index_object *out)
{
	MDB_txn *txn;
	int rc = read_begin(index, &txn);

	if (rc)
		return mdb_error(rc);
	rc = txn_get_object(index, txn, oid, out);
	read_end(index, txn);
	return rc;
}

int index_get_blocks(struct index *index, const struct oid *oid, uint32_t first, uint32_t count,
		     struct place *out, uint32_t *out_bad)
{
	MDB_txn *txn;
	int rc = read_begin(index, &txn);

	if (rc)
		return mdb_error(rc);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		*out_bad = first + i;
		rc = txn_get_block(index, txn, oid, first + i, &out[i]);
	}
	read_end(index, txn);
	return rc;
}

/* The blocks of one object lie side by side. */
static int txn_get_map(struct index *index, MDB_txn *txn, const struct oid *oid, uint32_t count,
		       uint8_t *out)
{
	MDB_cursor *cursor;
	struct key key;
	MDB_val k, v;
	size_t prefix_len;
	int rc = mdb_cursor_open(txn, index->dbis[DB_BLOCKS], &cursor);

	if (rc)
		return rc;
	key_of_block(oid, 0, &key);
	prefix_len = key.len - sizeof(uint32_t);
	k = key_val(&key);
	rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
	while (rc == 0 && k.mv_size == key.len && memcmp(k.mv_data, key.bytes, prefix_len) == 0) {
		uint32_t block;

		memcpy(&block, (const uint8_t *)k.mv_data + prefix_len, sizeof(block));
		block = be32toh(block);
		if (block < count)
			out[block / 8] |= (uint8_t)(1u << block % 8);
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

int index_get_map(struct index *index, const struct oid *oid, uint32_t count, uint8_t *out)
{
	MDB_txn *txn;
	int rc = read_begin(index, &txn);

	if (rc)
		return mdb_error(rc);
	rc = mdb_error(txn_get_map(index, txn, oid, count, out));
	read_end(index, txn);
	return rc;
}

static int txn_get_fact(struct index *index, MDB_txn *txn, struct key *key, const void *fact_key,
			size_t fact_key_len, struct buf *out, int64_t *out_time_s)
{
	MDB_val k = key_val(key), v, stored_key, value;
	int64_t time_s;
	int rc = mdb_get(txn, index->dbis[DB_FACTS], &k, &v);

	if (rc)
		return mdb_error(rc);
	rc = fact_decode(&k, &v, &stored_key, &value, &time_s);
	if (rc)
		return rc;
	if (key->hashed && (stored_key.mv_size != fact_key_len ||
			    memcmp(stored_key.mv_data, fact_key, fact_key_len) != 0))
		return -ENOENT;
	rc = buf_add(out, value.mv_data, value.mv_size);
	if (rc == 0 && out_time_s)
		*out_time_s = time_s;
	return rc;
}

int index_get_fact(struct index *index, const char *kind, const void *fact_key, size_t fact_key_len,
		   struct buf *out, int64_t *out_time_s)
{
	struct key key;
	MDB_txn *txn;
	int rc = key_of_fact(kind, fact_key, fact_key_len, &key);

	if (rc)
		return rc;
	rc = read_begin(index, &txn);
	if (rc)
		return mdb_error(rc);
	rc = txn_get_fact(index, txn, &key, fact_key, fact_key_len, out, out_time_s);
	read_end(index, txn);
	return rc;
}

int index_get_tail(struct index *index, uint64_t segment, uint64_t *out)
{
	struct key key;
	MDB_txn *txn;
	MDB_val k, v;
	int rc = read_begin(index, &txn);

	if (rc)
		return mdb_error(rc);
	key_of_segment(segment, &key);
	k = key_val(&key);
	rc = mdb_error(mdb_get(txn, index->dbis[DB_SEGMENTS], &k, &v));
	if (rc == 0 && !value_is_sound(DB_SEGMENTS, &k, &v, TAIL_LEN))
		rc = -EBADMSG;
	if (rc == 0)
		*out = get_le64((const uint8_t *)v.mv_data + 8);
	read_end(index, txn);
	return rc;
}

/* ---- writing; everything here returns LMDB's codes or errno, as LMDB does ---- */

static int put_sealed(struct index *index, MDB_txn *txn, enum db db, struct key *key,
		      uint8_t *value, size_t len)
{
	MDB_val k = key_val(key), v = { .mv_size = len + CHECK_LEN, .mv_data = value };

	value_seal(db, &k, value, len);
	return mdb_put(txn, index->dbis[db], &k, &v, 0);
}

static int apply_object(struct index *index, MDB_txn *txn, const struct oid *oid,
			const struct index_object *object)
{
	uint8_t value[OBJECT_LEN + CHECK_LEN];
	struct key key;

	key_of_oid(oid, &key);
	return put_sealed(index, txn, DB_OBJECTS, &key, value, object_encode(object, value));
}

static int apply_size(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object size_only = op->object;
	int rc = txn_get_object(index, txn, &op->oid, &known);

	if (rc == 0 && (known.content != CONTENT_NONE ||
			(known.size == op->object.size && known.type == op->object.type)))
		return 0;
	if (rc && rc != -ENOENT && rc != -EBADMSG)
		return rc == -EUCLEAN ? MDB_CORRUPTED : -rc;
	size_only.content = CONTENT_NONE;
	return apply_object(index, txn, &op->oid, &size_only);
}

static int apply_block(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	uint8_t value[BLOCK_LEN + CHECK_LEN] = { VALUE_VERSION };
	struct key key;

	key_of_block(&op->oid, op->block, &key);
	place_encode(&op->place, value + 8);
	return put_sealed(index, txn, DB_BLOCKS, &key, value, BLOCK_LEN);
}

static int apply_tail(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	uint8_t value[TAIL_LEN + CHECK_LEN] = { VALUE_VERSION };
	struct key key;

	key_of_segment(op->place.segment, &key);
	put_le64(value + 8, op->place.off);
	return put_sealed(index, txn, DB_SEGMENTS, &key, value, TAIL_LEN);
}

static int apply_fact(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct key key;
	size_t key_len, len;
	uint8_t *value;
	int rc = key_of_fact(op->fact_kind, op->fact_key, op->fact_key_len, &key);

	if (rc)
		return -rc;
	key_len = key.hashed ? op->fact_key_len : 0;
	len = FACT_HEADER_LEN + key_len + op->fact_value_len;
	value = malloc(len + CHECK_LEN);
	if (!value)
		return ENOMEM;
	memset(value, 0, FACT_HEADER_LEN);
	value[0] = VALUE_VERSION;
	put_le32(value + 4, (uint32_t)key_len);
	put_le64(value + 8, (uint64_t)op->object.time_s);
	if (key_len > 0)
		memcpy(value + FACT_HEADER_LEN, op->fact_key, key_len);
	if (op->fact_value_len > 0)
		memcpy(value + FACT_HEADER_LEN + key_len, op->fact_value, op->fact_value_len);
	rc = put_sealed(index, txn, DB_FACTS, &key, value, len);
	free(value);
	return rc;
}

static int txn_delete(struct index *index, MDB_txn *txn, enum db db, struct key *key)
{
	MDB_val k = key_val(key);
	int rc = mdb_del(txn, index->dbis[db], &k, NULL);

	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The bad block's own entry; true when it was the one that was meant. */
static bool forget_block(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct place place = { .segment = 0 };
	struct key key;
	int rc = txn_get_block(index, txn, &op->oid, op->block, &place);

	if (rc == 0 && !place_equal(&place, &op->place))
		return false;
	key_of_block(&op->oid, op->block, &key);
	txn_delete(index, txn, DB_BLOCKS, &key);
	return true;
}

static int apply_forget_object(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct key key;
	int rc = txn_get_object(index, txn, &op->oid, &known);

	key_of_oid(&op->oid, &key);
	if (rc == -EBADMSG)
		return txn_delete(index, txn, DB_OBJECTS, &key);
	if (rc || known.content == CONTENT_NONE)
		return 0;
	if (known.content == CONTENT_PARTIAL) {
		forget_block(index, txn, op);
		return 0;
	}
	if (known.content == CONTENT_RECORD && !place_equal(&known.place, &op->place))
		return 0;
	if (known.content == CONTENT_BLOCKS && !forget_block(index, txn, op))
		return 0;
	known.content = CONTENT_NONE;
	return apply_object(index, txn, &op->oid, &known);
}

/* ---- what is in the making ---- */

static int apply_part(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object partial = { .content = CONTENT_NONE };
	struct place known;
	int rc = txn_get_block(index, txn, &op->oid, op->block, &known);

	if (rc == 0)
		return 0;
	if (rc == -EUCLEAN)
		return MDB_CORRUPTED;
	rc = apply_block(index, txn, op);
	if (rc)
		return rc;
	if (txn_get_object(index, txn, &op->oid, &partial) || partial.content != CONTENT_PARTIAL)
		partial.stored_bytes = 0;
	partial = (struct index_object){
		.type = op->object.type,
		.content = CONTENT_PARTIAL,
		.size = op->object.size,
		.stored_bytes = partial.stored_bytes + record_len(op->place.stored_len),
		.time_s = op->object.time_s,
	};
	return apply_object(index, txn, &op->oid, &partial);
}

static uint32_t block_count_of(uint64_t size)
{
	return (uint32_t)((size + RECORD_RAW_MAX - 1) / RECORD_RAW_MAX);
}

static int apply_adopt(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object adopted = op->object;
	uint64_t seal = 0;

	for (uint32_t i = 0; i < block_count_of(op->object.size); i++) {
		struct place place;
		int rc = txn_get_block(index, txn, &op->object.name, i, &place);

		if (rc)
			return rc == -EUCLEAN ? MDB_CORRUPTED : 0;
		seal = place_seal(seal, &place);
	}
	if (seal != op->seal ||
	    (txn_get_object(index, txn, &op->oid, &known) == 0 && known.content != CONTENT_NONE))
		return 0;
	adopted.content = CONTENT_ADOPTED;
	adopted.stored_bytes = 0; /* they count where they lie */
	return apply_object(index, txn, &op->oid, &adopted);
}

static int apply_drop(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	MDB_cursor *cursor;
	struct key key, object_key;
	MDB_val k, v;
	int rc = mdb_cursor_open(txn, index->dbis[DB_BLOCKS], &cursor);

	if (rc)
		return rc;
	key_of_block(&op->oid, 0, &key);
	k = key_val(&key);
	rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
	while (rc == 0 && k.mv_size == key.len &&
	       memcmp(k.mv_data, key.bytes, key.len - sizeof(uint32_t)) == 0) {
		rc = mdb_cursor_del(cursor, 0);
		if (rc == 0)
			rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	key_of_oid(&op->oid, &object_key);
	return rc && rc != MDB_NOTFOUND ? rc : txn_delete(index, txn, DB_OBJECTS, &object_key);
}

static int apply_forget_fact(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct key key;
	struct buf value = BUF_INIT;
	int rc = key_of_fact(op->fact_kind, op->fact_key, op->fact_key_len, &key);

	if (rc)
		return -rc;
	rc = txn_get_fact(index, txn, &key, op->fact_key, op->fact_key_len, &value, NULL);
	buf_release(&value);
	return rc == -EBADMSG ? txn_delete(index, txn, DB_FACTS, &key) : 0;
}

static int apply_one(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	switch (op->kind) {
	case OP_OBJECT:
		return apply_object(index, txn, &op->oid, &op->object);
	case OP_BLOCK:
		return apply_block(index, txn, op);
	case OP_SIZE:
		return apply_size(index, txn, op);
	case OP_FACT:
		return apply_fact(index, txn, op);
	case OP_TAIL:
		return apply_tail(index, txn, op);
	case OP_FORGET_OBJECT:
		return apply_forget_object(index, txn, op);
	case OP_FORGET_FACT:
		return apply_forget_fact(index, txn, op);
	case OP_PART:
		return apply_part(index, txn, op);
	case OP_ADOPT:
		return apply_adopt(index, txn, op);
	case OP_DROP:
		return apply_drop(index, txn, op);
	}
	return EINVAL;
}

/* Readers that died pin pages for ever unless somebody looks. */
static void readers_check(struct index *index)
{
	uint64_t now = clock_ms();

	if (now < index->next_reader_check_ms)
		return;
	index->next_reader_check_ms = now + READER_CHECK_MS;
	mdb_reader_check(index->env, NULL);
}

int index_apply(struct index *index, const struct index_op *ops, size_t count,
		struct xcp_error *err)
{
	MDB_txn *txn;
	int rc;

	readers_check(index);
	rc = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (rc == 0) {
		for (size_t i = 0; i < count && rc == 0; i++)
			rc = apply_one(index, txn, &ops[i]);
		if (rc)
			mdb_txn_abort(txn);
		else
			rc = mdb_txn_commit(txn);
	}
	if (rc)
		return xcp_error_set(err, mdb_error(rc), "cannot write to the cache index: %s",
				     mdb_strerror(rc));
	return 0;
}

int index_sync(struct index *index)
{
	return mdb_error(mdb_env_sync(index->env, 1));
}

/* ---- looking ---- */

static int count_objects(MDB_txn *txn, MDB_dbi dbi, struct index_totals *out)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = mdb_cursor_open(txn, dbi, &cursor);

	if (rc)
		return rc;
	while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
		struct index_object object;

		if (object_decode(&k, &v, &object))
			continue;
		if (object.content == CONTENT_NONE) {
			out->size_only_count++;
			continue;
		}
		out->stored_bytes += object.stored_bytes;
		if (object.content == CONTENT_PARTIAL)
			continue;
		out->object_count++;
		out->raw_bytes += object.size;
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int count_in(MDB_txn *txn, struct index_totals *out)
{
	MDB_dbi objects, facts;
	MDB_stat facts_stat;
	int rc = mdb_dbi_open(txn, db_names[DB_OBJECTS], 0, &objects);

	if (!rc)
		rc = mdb_dbi_open(txn, db_names[DB_FACTS], 0, &facts);
	if (!rc)
		rc = mdb_stat(txn, facts, &facts_stat);
	if (rc)
		return rc;
	out->fact_count += facts_stat.ms_entries;
	return count_objects(txn, objects, out);
}

int index_count(const char *path, struct index_totals *out)
{
	struct index_totals totals = *out;
	MDB_env *env;
	MDB_txn *txn;
	int rc = mdb_env_create(&env);

	if (rc)
		return mdb_error(rc);
	/*
	 * NOLOCK: another environment on the same lock file would undo this process's own file
	 * locks.
	 */
	rc = env_open(env, path, 0, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS);
	if (!rc)
		rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
	if (!rc) {
		rc = count_in(txn, &totals);
		mdb_txn_abort(txn);
	}
	mdb_env_close(env);
	if (!rc)
		*out = totals;
	return mdb_error(rc);
}
