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
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/guard.h"
#include "base/lock.h"
#include "cache/bytes.h"
#include "cache/pages.h"

#define MAP_LEN ((uint64_t)16 * 1024 * 1024 * 1024)
#define MAP_LEN_32BIT ((uint64_t)512 * 1024 * 1024)
#define READERS_MAX 2048
#define POOL_COUNT 16 /* each may hold one of READERS_MAX, for all processes together */
#define READER_CHECK_MS 10000
#define CHECK_ALL_MAX_LEN ((uint64_t)256 << 20)

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
	/* What a sound one does not say to us, or has said of itself before. */
	case MDB_PANIC:
	case MDB_BAD_TXN:
	case MDB_BAD_DBI:
	case MDB_BAD_RSLOT:
	case MDB_CURSOR_FULL:
	case MDB_PAGE_FULL:
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

/* What a damaged page says is not to be believed so far as to sum up gigabytes. */
static size_t value_max_len(enum db db)
{
	return db == DB_FACTS ? INDEX_FACT_MAX_LEN + INDEX_KEY_MAX_LEN + KEY_MAX : 256;
}

/* At least min_len bytes before the check, of our version, and they check. */
static bool value_is_sound(enum db db, const MDB_val *key, const MDB_val *value, size_t min_len)
{
	const uint8_t *bytes = value->mv_data;
	size_t len;

	if (value->mv_size < min_len + CHECK_LEN || value->mv_size > value_max_len(db) ||
	    key->mv_size > KEY_MAX)
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
 * objects: 0 version, 1 type, 2 content, 3 the name's algorithm, 4 flags, 5 zero[3], 8 size, 16
 * time, and with content: 24 stored bytes, 32 place or name
 */
#define FLAG_PINNED 1
#define OBJECT_SHORT_LEN 24
#define OBJECT_LEN (32 + PLACE_LEN)

static size_t object_encode(const struct index_object *object, uint8_t out[OBJECT_LEN])
{
	memset(out, 0, OBJECT_LEN);
	out[0] = VALUE_VERSION;
	out[1] = (uint8_t)object->type;
	out[2] = (uint8_t)object->content;
	out[4] = object->pinned ? FLAG_PINNED : 0;
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
	o.pinned = bytes[4] & FLAG_PINNED;
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

/* segments: 0 version, 1 zero[7], 8 tail; and, zero where they are not there, 16 head, 24 stays */
#define SEGMENT_SHORT_LEN 16
#define SEGMENT_LEN 32

static bool segment_decode(const MDB_val *key, const MDB_val *value, struct index_segment *out)
{
	const uint8_t *bytes = value->mv_data;

	if (!value_is_sound(DB_SEGMENTS, key, value, SEGMENT_SHORT_LEN))
		return false;
	*out = (struct index_segment){ .tail = get_le64(bytes + 8) };
	if (value->mv_size == SEGMENT_LEN + CHECK_LEN) {
		out->head = get_le64(bytes + 16);
		out->stays = get_le64(bytes + 24);
	}
	return out->head <= out->tail;
}

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

/* LMDB would end the process for a page that it does not understand. */
static void on_assert(MDB_env *env, const char *text)
{
	(void)env, (void)text;
	guard_fail();
}

static int env_open(MDB_env *env, const char *path, size_t map_len, unsigned flags)
{
	int rc = mdb_env_set_mapsize(env, map_len ? map_len : map_len_default());

	if (!rc)
		rc = mdb_env_set_assert(env, on_assert);
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

/*
 * Environments that must not be closed: LMDB would look at what made it stumble. Kept where they
 * can be found, so that they are known not to be forgotten.
 */
struct abandoned {
	struct abandoned *next;
	MDB_env *env;
};
static _Atomic(struct abandoned *) abandoned_envs;

static void env_abandon(MDB_env *env)
{
	struct abandoned *abandoned = malloc(sizeof(*abandoned));

	if (!abandoned)
		return;
	abandoned->env = env;
	abandoned->next = atomic_load(&abandoned_envs);
	while (!atomic_compare_exchange_weak(&abandoned_envs, &abandoned->next, abandoned))
		;
}

static void index_free(struct index *index)
{
	bool broken = atomic_load(&index->broken);

	for (unsigned i = 0; i < POOL_COUNT; i++) {
		if (index->pools[i].txn && !broken)
			mdb_txn_abort(index->pools[i].txn);
		lock_release(&index->pools[i].lock);
	}
	if (index->map)
		munmap((void *)(uintptr_t)index->map, index->map_len);
	if (index->env && broken)
		env_abandon(index->env);
	else if (index->env)
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

static struct pages pages_of(const struct index *index)
{
	struct stat st;
	uint64_t len = fstat(index->fd, &st) ? 0 : (uint64_t)st.st_size;

	return (struct pages){ .map = index->map,
			       .len = len < index->map_len ? len : index->map_len,
			       .page_len = index->page_len };
}

/* Of another version of LMDB we cannot tell. A large one takes too long: its writes are looked at. */
static bool pages_are_sound(const struct index *index)
{
	const struct pages pages = pages_of(index);

	return !index->map || pages.len > CHECK_ALL_MAX_LEN || pages_check_all(&pages) != -EBADMSG;
}

/* Without it nothing is looked at; the guard is still there. */
static void map_it(struct index *index, size_t len)
{
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_NORESERVE, index->fd, 0);

	if (map == MAP_FAILED)
		return;
	index->map = map;
	index->map_len = len;
}

struct opening {
	struct index *index;
	const char *path;
	size_t map_len;
	int rc;
};

static void open_run(void *arg)
{
	struct opening *o = arg;
	MDB_stat stat_of_main;
	MDB_envinfo info;

	o->rc = mdb_env_create(&o->index->env);
	if (!o->rc)
		o->rc = env_open(o->index->env, o->path, o->map_len, MDB_NOTLS | MDB_NOSYNC);
	if (!o->rc)
		o->rc = mdb_env_info(o->index->env, &info);
	if (o->rc)
		return;
	o->rc = mdb_env_get_fd(o->index->env, &o->index->fd);
	if (!o->rc)
		o->rc = mdb_env_stat(o->index->env, &stat_of_main);
	if (o->rc)
		return;
	o->index->page_len = stat_of_main.ms_psize;
	map_it(o->index, info.me_mapsize);
	if (!pages_are_sound(o->index)) {
		o->rc = MDB_CORRUPTED;
		return;
	}
	mdb_reader_check(o->index->env, NULL);
	o->rc = dbis_open(o->index);
}

int index_open(const char *path, size_t map_len, struct index **out, struct xcp_error *err)
{
	struct opening o = { .index = index_new(), .path = path, .map_len = map_len };

	if (!o.index)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache index: out of memory");
	if (!guard_run(open_run, &o)) {
		atomic_store(&o.index->broken, true);
		o.rc = MDB_CORRUPTED;
	}
	if (o.rc) {
		index_free(o.index);
		return xcp_error_set(err, mdb_error(o.rc), "cannot open the cache index %s: %s",
				     path, mdb_strerror(o.rc));
	}
	*out = o.index;
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

/* ---- calls: whatever goes into LMDB goes this way ---- */

struct call {
	struct index *index;
	int (*fn)(struct index *index, MDB_txn *txn, void *arg); /* 0 or -errno */
	void *arg;
	int rc;
};

static int call_run(struct call *call, void (*run)(void *))
{
	if (atomic_load_explicit(&call->index->broken, memory_order_relaxed))
		return -EUCLEAN;
	if (guard_run(run, call))
		return call->rc;
	atomic_store(&call->index->broken, true);
	return -EUCLEAN;
}

static void read_run(void *arg)
{
	struct call *call = arg;
	MDB_txn *txn;
	int rc = read_begin(call->index, &txn);

	if (rc) {
		call->rc = mdb_error(rc);
		return;
	}
	call->rc = call->fn(call->index, txn, call->arg);
	read_end(call->index, txn);
}

/* In a read transaction. */
static int call_read(struct index *index, int (*fn)(struct index *, MDB_txn *, void *), void *arg)
{
	struct call call = { .index = index, .fn = fn, .arg = arg };

	return call_run(&call, read_run);
}

/* ---- looking up ---- */

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

struct get {
	const struct oid *oid;
	struct index_object *object;
	uint32_t first, count;
	struct place *places;
	uint32_t *bad;
	uint8_t *map;
};

static int get_object(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get *get = arg;

	return txn_get_object(index, txn, get->oid, get->object);
}

int index_get_object(struct index *index, const struct oid *oid, struct index_object *out)
{
	struct get get = { .oid = oid, .object = out };

	return call_read(index, get_object, &get);
}

static int get_blocks(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get *get = arg;
	int rc = 0;

	for (uint32_t i = 0; i < get->count && rc == 0; i++) {
		*get->bad = get->first + i;
		rc = txn_get_block(index, txn, get->oid, get->first + i, &get->places[i]);
	}
	return rc;
}

int index_get_blocks(struct index *index, const struct oid *oid, uint32_t first, uint32_t count,
		     struct place *out, uint32_t *out_bad)
{
	struct get get = {
		.oid = oid, .first = first, .count = count, .places = out, .bad = out_bad
	};

	return call_read(index, get_blocks, &get);
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

static int get_map(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get *get = arg;

	return mdb_error(txn_get_map(index, txn, get->oid, get->count, get->map));
}

int index_get_map(struct index *index, const struct oid *oid, uint32_t count, uint8_t *out)
{
	struct get get = { .oid = oid, .count = count, .map = out };

	return call_read(index, get_map, &get);
}

struct list {
	const struct oid *after;
	struct index_entry *out;
	size_t max, count;
};

static bool oid_of_key(const MDB_val *key, struct oid *out)
{
	const uint8_t *bytes = key->mv_data;

	*out = (struct oid){ .algo = 0 };
	if (key->mv_size < 1 || (bytes[0] != OID_SHA1 && bytes[0] != OID_SHA256))
		return false;
	out->algo = bytes[0];
	if (key->mv_size != 1 + oid_len(out))
		return false;
	memcpy(out->hash, bytes + 1, oid_len(out));
	return true;
}

/* Past `after`, when that is still there. */
static int list_begin(MDB_cursor *cursor, const struct oid *after, MDB_val *k, MDB_val *v)
{
	struct key key;
	MDB_val from;
	int rc;

	if (!after->algo)
		return mdb_cursor_get(cursor, k, v, MDB_FIRST);
	key_of_oid(after, &key);
	*k = from = key_val(&key);
	rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
	if (rc == 0 && k->mv_size == from.mv_size &&
	    memcmp(k->mv_data, from.mv_data, from.mv_size) == 0)
		rc = mdb_cursor_get(cursor, k, v, MDB_NEXT);
	return rc;
}

static int list_objects(struct index *index, MDB_txn *txn, void *arg)
{
	struct list *list = arg;
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = mdb_cursor_open(txn, index->dbis[DB_OBJECTS], &cursor);

	if (rc)
		return mdb_error(rc);
	rc = list_begin(cursor, list->after, &k, &v);
	while (rc == 0 && list->count < list->max) {
		struct index_entry *entry = &list->out[list->count];

		if (oid_of_key(&k, &entry->oid) && object_decode(&k, &v, &entry->object) == 0)
			list->count++;
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : mdb_error(rc);
}

int index_list(struct index *index, const struct oid *after, struct index_entry *out, size_t max,
	       size_t *out_count)
{
	struct list list = { .after = after, .out = out, .max = max };
	int rc = call_read(index, list_objects, &list);

	*out_count = rc ? 0 : list.count;
	return rc;
}

static int count_all(struct index *index, MDB_txn *txn, void *arg)
{
	MDB_stat stat_of_objects;
	int rc = mdb_stat(txn, index->dbis[DB_OBJECTS], &stat_of_objects);

	if (rc == 0)
		*(uint64_t *)arg = stat_of_objects.ms_entries;
	return mdb_error(rc);
}

uint64_t index_count_objects(struct index *index)
{
	uint64_t count = 0;

	call_read(index, count_all, &count);
	return count;
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

struct get_fact {
	struct key *key;
	const void *fact_key;
	size_t fact_key_len;
	struct buf *out;
	int64_t *out_time_s;
};

static int get_fact(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get_fact *get = arg;

	return txn_get_fact(index, txn, get->key, get->fact_key, get->fact_key_len, get->out,
			    get->out_time_s);
}

int index_get_fact(struct index *index, const char *kind, const void *fact_key, size_t fact_key_len,
		   struct buf *out, int64_t *out_time_s)
{
	struct key key;
	struct get_fact get = { &key, fact_key, fact_key_len, out, out_time_s };
	int rc = key_of_fact(kind, fact_key, fact_key_len, &key);

	return rc ? rc : call_read(index, get_fact, &get);
}

static int txn_get_segment(struct index *index, MDB_txn *txn, uint64_t segment,
			   struct index_segment *out)
{
	struct key key;
	MDB_val k, v;
	int rc;

	key_of_segment(segment, &key);
	k = key_val(&key);
	rc = mdb_error(mdb_get(txn, index->dbis[DB_SEGMENTS], &k, &v));
	return rc == 0 && !segment_decode(&k, &v, out) ? -EBADMSG : rc;
}

struct get_segment {
	uint64_t segment;
	struct index_segment *out;
};

static int get_segment(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get_segment *get = arg;

	return txn_get_segment(index, txn, get->segment, get->out);
}

int index_get_segment(struct index *index, uint64_t segment, struct index_segment *out)
{
	struct get_segment get = { segment, out };

	return call_read(index, get_segment, &get);
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
	size_only.pinned = rc == 0 && known.pinned;
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

static int apply_segment(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	uint8_t value[SEGMENT_LEN + CHECK_LEN] = { VALUE_VERSION };
	struct index_segment known = { .tail = 0 };
	struct key key;
	int rc = txn_get_segment(index, txn, op->place.segment, &known);

	if (rc == -EUCLEAN)
		return MDB_CORRUPTED;
	if (op->kind == OP_TAIL)
		known.tail = op->place.off;
	else
		known.head = op->place.off, known.stays += op->stays;
	if (known.tail < known.head)
		known.tail = known.head;
	key_of_segment(op->place.segment, &key);
	put_le64(value + 8, known.tail);
	put_le64(value + 16, known.head);
	put_le64(value + 24, known.stays);
	return put_sealed(index, txn, DB_SEGMENTS, &key, value, SEGMENT_LEN);
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

/* ---- what was stored, moved, given up ---- */

static uint32_t block_count_of(uint64_t size)
{
	return (uint32_t)((size + RECORD_RAW_MAX - 1) / RECORD_RAW_MAX);
}

/* LMDB's code for a look that ended neither well nor with "not here". */
static int look_failed(int rc)
{
	return rc == -EUCLEAN ? MDB_CORRUPTED : 0;
}

/* The first blocks of a very large object may have made room for the last ones. */
static int txn_has_all_blocks(struct index *index, MDB_txn *txn, const struct oid *oid,
			      uint64_t size, bool *out)
{
	for (uint32_t i = 0; i < block_count_of(size); i++) {
		struct place place = { .segment = 0 };
		int rc = txn_get_block(index, txn, oid, i, &place);

		if (rc) {
			*out = false;
			return look_failed(rc);
		}
	}
	*out = true;
	return 0;
}

static int apply_stored(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object stored = op->object;
	bool whole = true;
	int rc = 0;

	if (stored.content == CONTENT_BLOCKS)
		rc = txn_has_all_blocks(index, txn, &op->oid, stored.size, &whole);
	if (rc)
		return rc;
	if (!whole)
		stored.content = CONTENT_NONE;
	if (txn_get_object(index, txn, &op->oid, &known) == 0)
		stored.pinned |= known.pinned;
	return apply_object(index, txn, &op->oid, &stored);
}

static int apply_move(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct place place = { .segment = 0 };
	int rc;

	if (!op->whole) {
		rc = txn_get_block(index, txn, &op->oid, op->block, &place);
		if (rc)
			return look_failed(rc);
		return place_equal(&place, &op->from) ? apply_block(index, txn, op) : 0;
	}
	rc = txn_get_object(index, txn, &op->oid, &known);
	if (rc)
		return look_failed(rc);
	if (known.content != CONTENT_RECORD || !place_equal(&known.place, &op->from))
		return 0;
	known.place = op->place;
	return apply_object(index, txn, &op->oid, &known);
}

static int give_up_object(struct index *index, MDB_txn *txn, const struct index_op *op,
			  struct index_object *known)
{
	struct key key;

	if (op->size_too && !known->pinned) {
		key_of_oid(&op->oid, &key);
		return txn_delete(index, txn, DB_OBJECTS, &key);
	}
	known->content = CONTENT_NONE;
	return apply_object(index, txn, &op->oid, known);
}

static int give_up_block(struct index *index, MDB_txn *txn, const struct index_op *op,
			 struct index_object *known)
{
	uint64_t len = record_len(op->from.stored_len);
	struct place place = { .segment = 0 };
	struct key key;
	int rc = txn_get_block(index, txn, &op->oid, op->block, &place);

	if (rc)
		return look_failed(rc);
	if (!place_equal(&place, &op->from))
		return 0;
	key_of_block(&op->oid, op->block, &key);
	rc = txn_delete(index, txn, DB_BLOCKS, &key);
	if (rc)
		return rc;
	if (known->content == CONTENT_BLOCKS)
		return give_up_object(index, txn, op, known);
	if (known->content != CONTENT_PARTIAL)
		return 0;
	known->stored_bytes = known->stored_bytes > len ? known->stored_bytes - len : 0;
	if (known->stored_bytes == 0)
		return give_up_object(index, txn, op, known);
	return apply_object(index, txn, &op->oid, known);
}

static int apply_give_up(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	int rc = txn_get_object(index, txn, &op->oid, &known);

	if (rc == -EUCLEAN)
		return MDB_CORRUPTED;
	if (!op->whole)
		return give_up_block(index, txn, op, &known);
	if (rc || known.content != CONTENT_RECORD || !place_equal(&known.place, &op->from))
		return 0;
	return give_up_object(index, txn, op, &known);
}

/* ---- what was found on disk ---- */

static int apply_found(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE }, found = op->object;
	struct place place = { .segment = 0 };
	int rc;

	if (!op->whole) {
		rc = txn_get_block(index, txn, &op->oid, op->block, &place);
		if (rc == 0 || rc == -EUCLEAN)
			return look_failed(rc);
		return apply_block(index, txn, op);
	}
	rc = txn_get_object(index, txn, &op->oid, &known);
	if (rc == -EUCLEAN || known.content != CONTENT_NONE)
		return look_failed(rc);
	found.content = CONTENT_RECORD;
	found.pinned |= known.pinned;
	found.place = op->place;
	found.stored_bytes = record_len(op->place.stored_len);
	return apply_object(index, txn, &op->oid, &found);
}

static int apply_found_all(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE }, found = op->object;
	bool whole = true;
	int rc = txn_get_object(index, txn, &op->oid, &known);

	if (rc == -EUCLEAN || (known.content != CONTENT_NONE && known.content != CONTENT_PARTIAL))
		return look_failed(rc);
	found.pinned = known.pinned;
	found.stored_bytes = 0;
	for (uint32_t i = 0; i < block_count_of(found.size); i++) {
		struct place place = { .segment = 0 };

		rc = txn_get_block(index, txn, &op->oid, i, &place);
		if (rc == -EUCLEAN)
			return MDB_CORRUPTED;
		if (rc)
			whole = false;
		else
			found.stored_bytes += record_len(place.stored_len);
	}
	found.content = whole ? CONTENT_BLOCKS : CONTENT_PARTIAL;
	return apply_object(index, txn, &op->oid, &found);
}

static int apply_segment_gone(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct key key;

	key_of_segment(op->place.segment, &key);
	return txn_delete(index, txn, DB_SEGMENTS, &key);
}

/* ---- what is in the making ---- */

static int apply_part(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object partial = { .content = CONTENT_NONE };
	struct place known = { .segment = 0 };
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
		.pinned = partial.pinned,
		.type = op->object.type,
		.content = CONTENT_PARTIAL,
		.size = op->object.size,
		.stored_bytes = partial.stored_bytes + record_len(op->place.stored_len),
		.time_s = op->object.time_s,
	};
	return apply_object(index, txn, &op->oid, &partial);
}

static int apply_adopt(struct index *index, MDB_txn *txn, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object adopted = op->object;
	uint64_t seal = 0;

	for (uint32_t i = 0; i < block_count_of(op->object.size); i++) {
		struct place place = { .segment = 0 };
		int rc = txn_get_block(index, txn, &op->object.name, i, &place);

		if (rc)
			return rc == -EUCLEAN ? MDB_CORRUPTED : 0;
		seal = place_seal(seal, &place);
	}
	if (seal != op->seal ||
	    (txn_get_object(index, txn, &op->oid, &known) == 0 && known.content != CONTENT_NONE))
		return 0;
	adopted.pinned = known.pinned;
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
		return apply_stored(index, txn, op);
	case OP_BLOCK:
		return apply_block(index, txn, op);
	case OP_SIZE:
		return apply_size(index, txn, op);
	case OP_FACT:
		return apply_fact(index, txn, op);
	case OP_TAIL:
	case OP_HEAD:
		return apply_segment(index, txn, op);
	case OP_SEGMENT_GONE:
		return apply_segment_gone(index, txn, op);
	case OP_MOVE:
		return apply_move(index, txn, op);
	case OP_GIVE_UP:
		return apply_give_up(index, txn, op);
	case OP_FOUND:
		return apply_found(index, txn, op);
	case OP_FOUND_ALL:
		return apply_found_all(index, txn, op);
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

/* ---- before a write: nothing damaged may be copied (pages.h) ---- */

static bool path_is_sound(const struct pages *pages, enum db db, const struct key *key)
{
	return pages_check_path(pages, db_names[db], key->bytes, key->len) != -EBADMSG;
}

static bool op_paths_are_sound(const struct pages *pages, const struct index_op *op)
{
	struct key key;

	switch (op->kind) {
	case OP_FACT:
	case OP_FORGET_FACT:
		return key_of_fact(op->fact_kind, op->fact_key, op->fact_key_len, &key) ||
		       path_is_sound(pages, DB_FACTS, &key);
	case OP_TAIL:
	case OP_HEAD:
	case OP_SEGMENT_GONE:
		key_of_segment(op->place.segment, &key);
		return path_is_sound(pages, DB_SEGMENTS, &key);
	default:
		key_of_oid(&op->oid, &key);
		if (!path_is_sound(pages, DB_OBJECTS, &key))
			return false;
		key_of_block(&op->oid, op->block, &key);
		return path_is_sound(pages, DB_BLOCKS, &key);
	}
}

struct apply {
	const struct index_op *ops;
	size_t count;
	int mdb_rc;
};

/*
 * Each looked at just before it is done. What this transaction changed is in memory; the file is as
 * it was till the commit.
 */
static int apply_all(struct index *index, MDB_txn *txn, const struct apply *apply)
{
	const struct pages pages = pages_of(index);
	int rc = 0;

	if (index->map && pages_check_free(&pages) == -EBADMSG)
		return MDB_CORRUPTED;
	for (size_t i = 0; i < apply->count && rc == 0; i++) {
		if (index->map && !op_paths_are_sound(&pages, &apply->ops[i]))
			return MDB_CORRUPTED;
		rc = apply_one(index, txn, &apply->ops[i]);
	}
	return rc;
}

static void apply_run(void *arg)
{
	struct call *call = arg;
	struct apply *apply = call->arg;
	struct index *index = call->index;
	MDB_txn *txn;
	int rc;

	readers_check(index);
	rc = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (rc == 0) {
		rc = apply_all(index, txn, apply);
		if (rc)
			mdb_txn_abort(txn);
		else
			rc = mdb_txn_commit(txn);
	}
	if (rc == MDB_CORRUPTED)
		atomic_store(&index->broken, true);
	apply->mdb_rc = rc;
	call->rc = mdb_error(rc);
}

int index_apply(struct index *index, const struct index_op *ops, size_t count,
		struct xcp_error *err)
{
	struct apply apply = { .ops = ops, .count = count, .mdb_rc = MDB_CORRUPTED };
	struct call call = { .index = index, .arg = &apply };
	int rc = call_run(&call, apply_run);

	if (rc)
		return xcp_error_set(err, rc, "cannot write to the cache index: %s",
				     mdb_strerror(apply.mdb_rc));
	return 0;
}

static void sync_run(void *arg)
{
	struct call *call = arg;

	call->rc = mdb_error(mdb_env_sync(call->index->env, 1));
}

int index_sync(struct index *index)
{
	struct call call = { .index = index };

	return call_run(&call, sync_run);
}

/* ---- a smaller one ---- */

static int count_free(struct index *index, MDB_txn *txn, void *arg)
{
	unsigned *percent = arg;
	MDB_envinfo info;
	MDB_stat db;
	uint64_t used = 2;
	int rc = mdb_env_info(index->env, &info);

	for (unsigned i = 0; i < DB_COUNT && rc == 0; i++) {
		rc = mdb_stat(txn, index->dbis[i], &db);
		used += db.ms_branch_pages + db.ms_leaf_pages + db.ms_overflow_pages;
	}
	if (rc == 0 && used < info.me_last_pgno)
		*percent = (unsigned)((info.me_last_pgno - used) * 100 / info.me_last_pgno);
	return mdb_error(rc);
}

unsigned index_waste(struct index *index)
{
	unsigned percent = 0;

	call_read(index, count_free, &percent);
	return percent;
}

static void copy_run(void *arg)
{
	struct call *call = arg;
	int fd = open(call->arg, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0) {
		call->rc = -errno;
		return;
	}
	call->rc = mdb_error(mdb_env_copyfd2(call->index->env, fd, MDB_CP_COMPACT));
	if (call->rc == 0 && fsync(fd))
		call->rc = -errno;
	close(fd);
}

int index_copy(struct index *index, const char *path)
{
	struct call call = { .index = index, .arg = (void *)(uintptr_t)path };

	return call_run(&call, copy_run);
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

struct counting {
	MDB_env *env;
	const char *path;
	struct index_totals totals;
	int rc;
};

/*
 * NOLOCK: another environment on the same lock file would undo this process's own file locks.
 */
static void count_run(void *arg)
{
	struct counting *c = arg;
	MDB_txn *txn;

	c->rc = env_open(c->env, c->path, 0, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS);
	if (!c->rc)
		c->rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &txn);
	if (!c->rc) {
		c->rc = count_in(txn, &c->totals);
		mdb_txn_abort(txn);
	}
}

int index_count(const char *path, struct index_totals *out)
{
	struct counting c = { .path = path, .totals = *out };
	int rc = mdb_env_create(&c.env);

	if (rc)
		return mdb_error(rc);
	if (!guard_run(count_run, &c)) {
		env_abandon(c.env);
		return -EUCLEAN;
	}
	mdb_env_close(c.env);
	if (!c.rc)
		*out = c.totals;
	return mdb_error(c.rc);
}
