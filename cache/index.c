/*
 * index: LMDB is opened, asked and closed here. It may assume that one process writes at a time (the
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
#include <stdio.h>
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
#include "cache/index_internal.h"

#define MAP_LEN ((uint64_t)16 * 1024 * 1024 * 1024)
#define MAP_LEN_32BIT ((uint64_t)512 * 1024 * 1024)
#define READERS_MAX 2048
#define CHECK_ALL_MAX_LEN ((uint64_t)32 << 20)

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
		rc = mdb_dbi_open(txn, index_db_names[db], dbi_flags, &index->dbis[db]);
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

/* Of an LMDB whose pages we do not know nothing is looked at; the guard is still there. */
static bool format_is_known(void)
{
	int major, minor;

	mdb_version(&major, &minor, NULL);
	return major == 0 && minor == 9;
}

static int head_check(const char *path)
{
	char *data;
	int fd, rc;

	if (!format_is_known())
		return 0;
	if (asprintf(&data, "%s/data.mdb", path) < 0)
		return ENOMEM;
	fd = open(data, O_RDONLY | O_CLOEXEC);
	free(data);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	rc = pages_check_head(fd);
	close(fd);
	return rc == -EBADMSG ? MDB_CORRUPTED : -rc;
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
	int rc = head_check(path);

	if (!rc)
		rc = mdb_env_set_mapsize(env, map_len ? map_len : map_len_default());
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
	return rc;
}

/*
 * What must not be freed: LMDB would look at what made it stumble. Kept where it can be found, so
 * that it is known not to be forgotten.
 */
struct abandoned {
	struct abandoned *next;
	void *thing;
};
static _Atomic(struct abandoned *) all_abandoned;

static void abandon(void *thing)
{
	struct abandoned *abandoned = thing ? malloc(sizeof(*abandoned)) : NULL;

	if (!abandoned)
		return;
	abandoned->thing = thing;
	abandoned->next = atomic_load(&all_abandoned);
	while (!atomic_compare_exchange_weak(&all_abandoned, &abandoned->next, abandoned))
		;
}

static void index_free(struct index *index)
{
	if (index->map)
		munmap((void *)(uintptr_t)index->map, index->map_len);
	if (atomic_load(&index->broken)) {
		abandon(index); /* and its environment, and transactions */
		return;
	}
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

struct pages index_pages(const struct index *index)
{
	struct stat st;
	uint64_t len = fstat(index->fd, &st) ? 0 : (uint64_t)st.st_size;

	return (struct pages){ .map = index->map,
			       .len = len < index->map_len ? len : index->map_len,
			       .page_len = index->page_len };
}

/* All that the transaction sees: its own snapshot, which others do not touch. */
static int txn_look(const struct index *index, MDB_txn *txn, uint64_t max_len)
{
	const struct pages pages = index_pages(index);
	struct pages_look *look = NULL;
	int rc = pages_look_begin(&pages, mdb_txn_id(txn), &look);

	if (rc == 0 && pages.len <= max_len)
		rc = pages_look_all(look);
	pages_look_end(&look);
	return rc == -EBADMSG ? MDB_CORRUPTED : -rc;
}

/*
 * Of a file that is not longer than max_len every page, or else the list of the free ones. Others
 * may commit twice between a transaction's begin and the look: then once more.
 */
static int look_at_all(const struct index *index, uint64_t max_len)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn);

	if (rc || !index->map) {
		if (rc == 0)
			mdb_txn_abort(txn);
		return rc == MDB_READERS_FULL ? 0 : rc;
	}
	rc = txn_look(index, txn, max_len);
	if (rc == MDB_CORRUPTED) {
		mdb_txn_reset(txn);
		rc = mdb_txn_renew(txn);
		if (rc == 0)
			rc = txn_look(index, txn, max_len);
	}
	mdb_txn_abort(txn);
	return rc;
}

static int map_it(struct index *index, size_t len)
{
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_NORESERVE, index->fd, 0);

	if (map == MAP_FAILED)
		return errno;
	index->map = map;
	index->map_len = len;
	return 0;
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
	if (format_is_known())
		o->rc = map_it(o->index, info.me_mapsize);
	if (o->rc)
		return;
	mdb_reader_check(o->index->env, NULL);
	/* A large one takes too long: its writes are looked at. */
	o->rc = look_at_all(o->index, CHECK_ALL_MAX_LEN);
	if (!o->rc)
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
		return xcp_error_set(err, index_error(o.rc), "cannot open the cache index %s: %s",
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

/* *out at once, for who must know of it when this does not come back. */
static int read_begin(struct index *index, MDB_txn *volatile *out)
{
	MDB_txn *txn = pool_swap(index, NULL);
	int rc;

	*out = txn;
	if (txn) {
		rc = mdb_txn_renew(txn);
		if (rc == 0)
			return 0;
		*out = NULL;
		mdb_txn_abort(txn);
		return rc;
	}
	rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn);
	if (rc == MDB_READERS_FULL) {
		mdb_reader_check(index->env, NULL);
		rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn);
	}
	if (rc == 0)
		*out = txn;
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

int index_call_run(struct index_call *call, void (*run)(void *))
{
	if (atomic_load_explicit(&call->index->broken, memory_order_relaxed))
		return -EUCLEAN;
	if (guard_run(run, call))
		return call->rc;
	atomic_store(&call->index->broken, true);
	abandon(call->txn);
	return -EUCLEAN;
}

static void read_run(void *arg)
{
	struct index_call *call = arg;
	MDB_txn *txn;
	int rc = read_begin(call->index, &call->txn);

	if (rc) {
		call->rc = index_error(rc);
		return;
	}
	txn = call->txn;
	call->rc = call->fn(call->index, txn, call->arg);
	call->txn = NULL;
	read_end(call->index, txn);
}

/* In a read transaction. */
static int call_read(struct index *index, int (*fn)(struct index *, MDB_txn *, void *), void *arg)
{
	struct index_call call = { .index = index, .fn = fn, .arg = arg };

	return index_call_run(&call, read_run);
}

/* ---- looking up ---- */

int index_txn_object(struct index *index, MDB_txn *txn, const struct oid *oid,
		     struct index_object *out)
{
	struct index_key key;
	MDB_val k, v;
	int rc;

	index_key_of_oid(oid, &key);
	k = index_key_val(&key);
	rc = mdb_get(txn, index->dbis[DB_OBJECTS], &k, &v);
	return rc ? index_error(rc) : index_object_decode(&k, &v, out);
}

int index_txn_block(struct index *index, MDB_txn *txn, const struct oid *oid, uint32_t block,
		    struct place *out)
{
	struct index_key key;
	MDB_val k, v;
	int rc;

	index_key_of_block(oid, block, &key);
	k = index_key_val(&key);
	rc = mdb_get(txn, index->dbis[DB_BLOCKS], &k, &v);
	return rc ? index_error(rc) : index_block_decode(&k, &v, out);
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

	return index_txn_object(index, txn, get->oid, get->object);
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
		rc = index_txn_block(index, txn, get->oid, get->first + i, &get->places[i]);
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
	struct index_key key;
	MDB_val k, v;
	size_t prefix_len;
	int rc = mdb_cursor_open(txn, index->dbis[DB_BLOCKS], &cursor);

	if (rc)
		return rc;
	index_key_of_block(oid, 0, &key);
	prefix_len = key.len - sizeof(uint32_t);
	k = index_key_val(&key);
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

	return index_error(txn_get_map(index, txn, get->oid, get->count, get->map));
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
	struct index_key key;
	MDB_val from;
	int rc;

	if (!after->algo)
		return mdb_cursor_get(cursor, k, v, MDB_FIRST);
	index_key_of_oid(after, &key);
	*k = from = index_key_val(&key);
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
		return index_error(rc);
	rc = list_begin(cursor, list->after, &k, &v);
	while (rc == 0 && list->count < list->max) {
		struct index_entry *entry = &list->out[list->count];

		if (oid_of_key(&k, &entry->oid) && index_object_decode(&k, &v, &entry->object) == 0)
			list->count++;
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : index_error(rc);
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
	return index_error(rc);
}

uint64_t index_count_objects(struct index *index)
{
	uint64_t count = 0;

	call_read(index, count_all, &count);
	return count;
}

int index_txn_fact(struct index *index, MDB_txn *txn, struct index_key *key, const void *fact_key,
		   size_t fact_key_len, struct buf *out, int64_t *out_time_s)
{
	MDB_val k = index_key_val(key), v, stored_key, value;
	int64_t time_s;
	int rc = mdb_get(txn, index->dbis[DB_FACTS], &k, &v);

	if (rc)
		return index_error(rc);
	rc = index_fact_decode(&k, &v, &stored_key, &value, &time_s);
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
	struct index_key *key;
	const void *fact_key;
	size_t fact_key_len;
	struct buf *out;
	int64_t *out_time_s;
};

static int get_fact(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get_fact *get = arg;

	return index_txn_fact(index, txn, get->key, get->fact_key, get->fact_key_len, get->out,
			      get->out_time_s);
}

int index_get_fact(struct index *index, const char *kind, const void *fact_key, size_t fact_key_len,
		   struct buf *out, int64_t *out_time_s)
{
	struct index_key key;
	struct get_fact get = { &key, fact_key, fact_key_len, out, out_time_s };
	int rc = index_key_of_fact(kind, fact_key, fact_key_len, &key);

	return rc ? rc : call_read(index, get_fact, &get);
}

struct list_facts {
	struct index_key *from;
	struct buf *out;
};

/* A key is in the entry's own key, or with the value where that is a hash. */
static int fact_add(struct buf *out, const MDB_val *k, const MDB_val *v, size_t kind_len)
{
	MDB_val key, value;
	uint8_t lens[8];
	int64_t time_s;
	int rc;

	if (index_fact_decode(k, v, &key, &value, &time_s))
		return 0;
	if (key.mv_size == 0) {
		key.mv_data = (uint8_t *)k->mv_data + kind_len + 2;
		key.mv_size = k->mv_size - kind_len - 2;
	}
	put_le32(lens, (uint32_t)key.mv_size);
	put_le32(lens + 4, (uint32_t)value.mv_size);
	rc = buf_add(out, lens, sizeof(lens));
	if (rc == 0)
		rc = buf_add(out, key.mv_data, key.mv_size);
	return rc ? rc : buf_add(out, value.mv_data, value.mv_size);
}

static int list_facts(struct index *index, MDB_txn *txn, void *arg)
{
	const struct list_facts *list = arg;
	size_t kind_len = strlen((const char *)list->from->bytes);
	MDB_val k = index_key_val(list->from), v;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, index->dbis[DB_FACTS], &cursor);

	if (rc)
		return index_error(rc);
	rc = index_error(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE));
	while (rc == 0 && k.mv_size >= kind_len + 2 &&
	       memcmp(k.mv_data, list->from->bytes, kind_len + 1) == 0) {
		rc = fact_add(list->out, &k, &v, kind_len);
		if (rc == 0)
			rc = index_error(mdb_cursor_get(cursor, &k, &v, MDB_NEXT));
	}
	mdb_cursor_close(cursor);
	return rc == -ENOENT ? 0 : rc;
}

int index_list_facts(struct index *index, const char *kind, struct buf *out)
{
	struct index_key key;
	struct list_facts list = { &key, out };
	int rc = index_key_of_fact(kind, "", 0, &key);

	/* Of both sorts of keys the hashed ones are first. */
	key.bytes[key.len - 1] = 'h';
	return rc ? rc : call_read(index, list_facts, &list);
}

int index_txn_segment(struct index *index, MDB_txn *txn, uint64_t segment,
		      struct index_segment *out)
{
	struct index_key key;
	MDB_val k, v;
	int rc;

	index_key_of_segment(segment, &key);
	k = index_key_val(&key);
	rc = index_error(mdb_get(txn, index->dbis[DB_SEGMENTS], &k, &v));
	return rc == 0 && !index_segment_decode(&k, &v, out) ? -EBADMSG : rc;
}

struct get_segment {
	uint64_t segment;
	struct index_segment *out;
};

static int get_segment(struct index *index, MDB_txn *txn, void *arg)
{
	const struct get_segment *get = arg;

	return index_txn_segment(index, txn, get->segment, get->out);
}

int index_get_segment(struct index *index, uint64_t segment, struct index_segment *out)
{
	struct get_segment get = { segment, out };

	return call_read(index, get_segment, &get);
}

static void sync_run(void *arg)
{
	struct index_call *call = arg;

	call->rc = index_error(mdb_env_sync(call->index->env, 1));
}

int index_sync(struct index *index)
{
	struct index_call call = { .index = index };

	return index_call_run(&call, sync_run);
}

/* ---- a smaller one ---- */

static int count_pages(struct index *index, MDB_txn *txn, void *arg)
{
	struct index_space *space = arg;
	MDB_envinfo info;
	MDB_stat db;
	uint64_t used = 2;
	int rc = mdb_env_info(index->env, &info);

	for (unsigned i = 0; i < DB_COUNT && rc == 0; i++) {
		rc = mdb_stat(txn, index->dbis[i], &db);
		used += db.ms_branch_pages + db.ms_leaf_pages + db.ms_overflow_pages;
	}
	if (rc)
		return index_error(rc);
	space->used_len = used * index->page_len;
	space->file_len = ((uint64_t)info.me_last_pgno + 1) * index->page_len;
	space->max_len = info.me_mapsize;
	return 0;
}

int index_space(struct index *index, struct index_space *out)
{
	return call_read(index, count_pages, out);
}

static void copy_run(void *arg)
{
	struct index_call *call = arg;
	int fd;

	call->rc = index_error(look_at_all(call->index, UINT64_MAX));
	if (call->rc)
		return;
	fd = open(call->arg, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		call->rc = -errno;
		return;
	}
	call->rc = index_error(mdb_env_copyfd2(call->index->env, fd, MDB_CP_COMPACT));
	if (call->rc == 0 && fsync(fd))
		call->rc = -errno;
	close(fd);
}

int index_copy(struct index *index, const char *path)
{
	struct index_call call = { .index = index, .arg = (void *)(uintptr_t)path };

	return index_call_run(&call, copy_run);
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

		if (index_object_decode(&k, &v, &object))
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
	int rc = mdb_dbi_open(txn, index_db_names[DB_OBJECTS], 0, &objects);

	if (!rc)
		rc = mdb_dbi_open(txn, index_db_names[DB_FACTS], 0, &facts);
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
		return index_error(rc);
	if (!guard_run(count_run, &c)) {
		abandon(c.env);
		return -EUCLEAN;
	}
	mdb_env_close(c.env);
	if (!c.rc)
		*out = c.totals;
	return index_error(c.rc);
}
