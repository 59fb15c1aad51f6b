/*
 * LMDB's pages as LMDB writes them are sound; spoiled ones are noticed or do no harm. The format is
 * LMDB's own: when a test fails with another version of it, pages.h has to learn that one.
 */
#include "cache/pages.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/mman.h>

#include "cache/bytes.h"
#include "tests/cache_support.h"

#define PAGE_LEN ((size_t)4096)
#define MAP_LEN ((size_t)256 << 20)

static const char *const names[] = { "objects", "blocks" };

/* ---- an environment, and what is done to it ---- */

struct env {
	MDB_env *env;
	MDB_dbi dbis[2];
	int fd;
	const uint8_t *map;
	uint64_t state; /* of chance */
};

static uint64_t chance(struct env *e, uint64_t below)
{
	return (chance_next(&e->state) >> 11) % below;
}

static void on_assert(MDB_env *env, const char *text)
{
	(void)env, (void)text;
	_exit(0); /* index.c goes back from there; it is noticed */
}

static struct env env_open(const char *dir, uint64_t seed)
{
	struct env e = { .state = seed };
	MDB_txn *txn;

	if (mdb_env_create(&e.env) || mdb_env_set_maxdbs(e.env, 4) ||
	    mdb_env_set_mapsize(e.env, MAP_LEN) || mdb_env_set_assert(e.env, on_assert) ||
	    mdb_env_open(e.env, dir, MDB_NOSYNC | MDB_NOTLS, 0600) ||
	    mdb_env_get_fd(e.env, &e.fd) || mdb_txn_begin(e.env, NULL, 0, &txn))
		abort();
	for (unsigned db = 0; db < 2; db++)
		if (mdb_dbi_open(txn, names[db], MDB_CREATE, &e.dbis[db]))
			abort();
	if (mdb_txn_commit(txn))
		abort();
	e.map = mmap(NULL, MAP_LEN, PROT_READ, MAP_SHARED | MAP_NORESERVE, e.fd, 0);
	return e;
}

static void env_close(struct env *e)
{
	munmap((void *)(uintptr_t)e->map, MAP_LEN);
	mdb_env_close(e->env);
}

static struct pages pages_of(const uint8_t *bytes, size_t len)
{
	return (struct pages){ .map = bytes, .len = len, .page_len = PAGE_LEN };
}

static int look_begin(const struct env *e, MDB_txn *txn, struct pages_look **look)
{
	struct stat st;
	struct pages pages;

	fstat(e->fd, &st);
	pages = pages_of(e->map, (size_t)st.st_size);
	return pages_look_begin(&pages, mdb_txn_id(txn) - 1, look);
}

/* Some values do not fit on a page. */
static int change(struct env *e, MDB_txn *txn, struct pages_look *look, uint64_t n, bool remove)
{
	static uint8_t value[30000];
	struct oid oid = oid_of(n);
	unsigned db = n % 2;
	/* Keys that lie side by side in one, all over the place in the other. */
	uint8_t side[12] = { 'k',
			     0,
			     0,
			     0,
			     0,
			     0,
			     0,
			     0,
			     (uint8_t)(n >> 24),
			     (uint8_t)(n >> 16),
			     (uint8_t)(n >> 8),
			     (uint8_t)n };
	MDB_val k = { .mv_size = db ? 12 : 20, .mv_data = db ? side : oid.hash };
	MDB_val v = { .mv_size = chance(e, 50) ? 40 + chance(e, 150) : chance(e, sizeof(value)),
		      .mv_data = value };
	int rc = remove ? pages_look_delete(look, names[db], k.mv_data, k.mv_size) :
			  pages_look_put(look, names[db], k.mv_data, k.mv_size);

	if (rc)
		return rc;
	rc = remove ? mdb_del(txn, e->dbis[db], &k, NULL) : mdb_put(txn, e->dbis[db], &k, &v, 0);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* One transaction, as index_write.c makes them: every change is looked at first. */
static int change_some(struct env *e, bool all)
{
	struct pages_look *look = NULL;
	bool mixed = chance(e, 4) == 0, remove = chance(e, 3) == 0, near = chance(e, 2);
	uint64_t count = 1 + chance(e, 300), base = chance(e, 8000);
	MDB_txn *txn;
	int rc = mdb_txn_begin(e->env, NULL, 0, &txn);

	if (rc)
		return rc;
	rc = look_begin(e, txn, &look);
	if (rc == 0 && all)
		rc = pages_look_all(look);
	for (uint64_t i = 0; i < count && rc == 0; i++)
		rc = change(e, txn, look, near ? base + i : chance(e, 8000),
			    mixed ? chance(e, 2) : remove);
	pages_look_end(&look);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

/* One that has seen something: many pages, free ones, and large values. */
static void fill_env(const char *dir, uint64_t *out_txn)
{
	struct env e = env_open(dir, 88172645463325252u);
	MDB_envinfo info;

	for (unsigned i = 0; i < 40; i++)
		if (change_some(&e, false))
			abort();
	if (mdb_env_info(e.env, &info))
		abort();
	*out_txn = info.me_last_txnid;
	env_close(&e);
}

static uint8_t *make(const char *dir, size_t *out_len, uint64_t *out_txn)
{
	char *data = path_of(dir, "data.mdb");
	uint8_t *bytes;

	fill_env(dir, out_txn);
	bytes = file_read(data, out_len);
	free(data);
	return bytes;
}

/* ---- sound ones ---- */

static void test_what_lmdb_wrote_is_sound(void)
{
	char *dir = scratch_dir();
	unsigned rounds = is_long() ? 5000 : 300;
	struct env e = env_open(dir, 4711);
	struct pages_look *look;
	MDB_txn *txn;

	for (unsigned round = 0; round < rounds; round++)
		CHECK_MSG(change_some(&e, true) == 0, "round %u", round);
	CHECK_INT(pages_check_head(e.fd), 0);
	CHECK_INT(mdb_txn_begin(e.env, NULL, 0, &txn), 0);
	CHECK_INT(look_begin(&e, txn, &look), 0);
	CHECK_INT(pages_look_put(look, "nowhere", "k", 1), -EBADMSG);
	CHECK_INT(pages_look_delete(look, "nowhere", "k", 1), -EBADMSG);
	pages_look_end(&look);
	mdb_txn_abort(txn);
	env_close(&e);
	scratch_remove(dir);
}

static void test_an_empty_one_is_sound(void)
{
	char *dir = scratch_dir(), *data = path_of(dir, "data.mdb");
	int fd = open(data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct pages_look *look;
	struct pages pages;
	struct env e;
	size_t len;
	uint8_t *bytes;

	CHECK_INT(pages_check_head(fd), 0);
	close(fd);
	e = env_open(dir, 1);
	env_close(&e);
	bytes = file_read(data, &len);
	pages = pages_of(bytes, len);
	CHECK_INT(pages_look_begin(&pages, 1, &look), 0);
	CHECK_INT(pages_look_all(look), 0);
	CHECK_INT(pages_look_put(look, "objects", "k", 1), 0);
	CHECK_INT(pages_look_delete(look, "objects", "k", 1), 0);
	pages_look_end(&look);
	/* As it was before. */
	CHECK_INT(pages_look_begin(&pages, 0, &look), 0);
	CHECK_INT(pages_look_put(look, "objects", "k", 1), -EBADMSG);
	pages_look_end(&look);
	CHECK_INT(pages_look_begin(&pages, 2, &look), -EBADMSG);
	free(bytes);
	free(data);
	scratch_remove(dir);
}

/* ---- spoiled ones ---- */

static int look_at_all(const struct pages *pages, uint64_t txn)
{
	struct pages_look *look;
	int rc = pages_look_begin(pages, txn, &look);

	if (rc)
		return rc;
	rc = pages_look_all(look);
	pages_look_end(&look);
	return rc;
}

static void test_what_is_cut_short_is_not(void)
{
	char *dir = scratch_dir(), *data = path_of(dir, "data.mdb");
	uint64_t txn;
	size_t len;
	uint8_t *bytes = make(dir, &len, &txn);
	int fd = open(data, O_RDWR | O_CLOEXEC);

	for (size_t cut = len - PAGE_LEN; cut >= PAGE_LEN; cut -= PAGE_LEN) {
		uint8_t *part = malloc(cut);
		struct pages pages = pages_of(part, cut);

		memcpy(part, bytes, cut);
		CHECK_INT(look_at_all(&pages, txn), -EBADMSG);
		CHECK_INT(ftruncate(fd, (off_t)cut), 0);
		CHECK_INT(pages_check_head(fd), -EBADMSG);
		free(part);
	}
	close(fd);
	free(bytes);
	free(data);
	scratch_remove(dir);
}

static void test_another_version_is_not_ours(void)
{
	char *dir = scratch_dir(), *data = path_of(dir, "data.mdb");
	uint64_t txn;
	size_t len;
	uint8_t *bytes = make(dir, &len, &txn);
	struct pages pages = pages_of(bytes, len);
	int fd = open(data, O_RDWR | O_CLOEXEC);

	put_le32(bytes + txn % 2 * PAGE_LEN + 16 + 4, 2);
	file_poke(data, 0, bytes, 2 * PAGE_LEN);
	CHECK_INT(look_at_all(&pages, txn), -EBADMSG);
	CHECK_INT(pages_check_head(fd), -EBADMSG);
	close(fd);
	free(bytes);
	free(data);
	scratch_remove(dir);
}

/* LMDB would divide by the length of a page. */
static void test_a_page_of_no_length(void)
{
	static const uint32_t lens[] = { 0, 1, 256, 4097, 6144, 65536, 0x80001000 };
	char *dir = scratch_dir(), *data = path_of(dir, "data.mdb");
	uint64_t txn;
	size_t len;
	uint8_t *bytes = make(dir, &len, &txn);
	int fd = open(data, O_RDWR | O_CLOEXEC);

	CHECK_INT(pages_check_head(fd), 0);
	for (size_t i = 0; i < 2 * sizeof(lens) / sizeof(*lens); i++) {
		off_t at = (off_t)(i % 2 * PAGE_LEN) + 16 + 24;
		uint8_t le[4];

		put_le32(le, lens[i / 2]);
		file_poke(data, at, le, 4);
		CHECK_MSG(pages_check_head(fd) == -EBADMSG, "%u", lens[i / 2]);
		put_le32(le, PAGE_LEN);
		file_poke(data, at, le, 4);
	}
	CHECK_INT(pages_check_head(fd), 0);
	close(fd);
	free(bytes);
	free(data);
	scratch_remove(dir);
}

/* Whatever it says, it stays in the bytes (which a sanitizer sees) and ends. */
static void test_flipped_bits(void)
{
	char *dir = scratch_dir();
	uint64_t txn, x = 88172645463325252u;
	size_t len;
	uint8_t *bytes = make(dir, &len, &txn), *copy = malloc(len);
	struct pages pages = pages_of(copy, len);
	unsigned noticed = 0;

	for (unsigned round = 0; round < 300; round++) {
		struct pages_look *look;

		memcpy(copy, bytes, len);
		for (unsigned i = 0; i < 1u << round % 8; i++) {
			chance_next(&x);
			copy[x % len] ^= (uint8_t)(1u << (x >> 40) % 8);
		}
		noticed += look_at_all(&pages, txn) != 0;
		if (pages_look_begin(&pages, txn, &look))
			continue;
		pages_look_put(look, names[round % 2], copy + round, 20);
		pages_look_delete(look, names[round % 2], copy + round, 20);
		pages_look_all(look);
		pages_look_end(&look);
	}
	CHECK_MSG(noticed > 100, "%u", noticed);
	free(copy);
	free(bytes);
	scratch_remove(dir);
}

/* ---- each thing that is looked at, spoiled alone ---- */

/* Where things are in the database "objects": a branch at its root, and the leaves below. */
struct map {
	uint8_t *bytes;
	uint64_t txn;
	uint8_t *meta, *db;	  /* its own entry */
	uint8_t *root, *leaf;	  /* the leaf is the second child */
	uint8_t *free_leaf, *big; /* a node with its value elsewhere */
};

static unsigned le16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static void le16_put(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static uint8_t *page_of(const struct map *map, uint64_t number)
{
	return map->bytes + number * PAGE_LEN;
}

static unsigned count_of(const uint8_t *page)
{
	return (le16(page + 12) - 16) / 2;
}

static uint8_t *node_of(uint8_t *page, unsigned i)
{
	return page + le16(page + 16 + 2 * (size_t)i);
}

static uint8_t *data_of(uint8_t *node)
{
	return node + 8 + le16(node + 6);
}

static uint8_t *child_of(const struct map *map, uint8_t *page, unsigned i)
{
	return page_of(map, get_le32(node_of(page, i)));
}

static struct map map_of(uint8_t *bytes, uint64_t txn)
{
	struct map map = { .bytes = bytes, .txn = txn };
	uint8_t *main_leaf;

	map.meta = bytes + txn % 2 * PAGE_LEN + 16;
	main_leaf = page_of(&map, get_le64(map.meta + 24 + 48 + 40));
	for (unsigned i = 0; i < count_of(main_leaf); i++)
		if (!memcmp(node_of(main_leaf, i) + 8, "objects", 7))
			map.db = data_of(node_of(main_leaf, i));
	map.root = page_of(&map, get_le64(map.db + 40));
	map.leaf = child_of(&map, map.root, 1);
	map.free_leaf = page_of(&map, get_le64(map.meta + 24 + 40));
	while (map.free_leaf[10] == 1)
		map.free_leaf = child_of(&map, map.free_leaf, 0);
	for (unsigned i = 0; i < count_of(map.root) && !map.big; i++) {
		uint8_t *leaf = child_of(&map, map.root, i);

		for (unsigned k = 0; k < count_of(leaf) && !map.big; k++)
			if (le16(node_of(leaf, k) + 4) == 1)
				map.big = node_of(leaf, k);
	}
	return map;
}

static void two_nodes_at_one_place(struct map *map)
{
	le16_put(map->leaf + 18, le16(map->leaf + 16));
}

static void a_node_in_another(struct map *map)
{
	le16_put(map->leaf + 16, le16(map->leaf + 16) + 2);
}

static void a_longer_value(struct map *map)
{
	le16_put(node_of(map->leaf, 0), le16(node_of(map->leaf, 0)) + 4);
}

static void a_shorter_value(struct map *map)
{
	le16_put(node_of(map->leaf, 0), le16(node_of(map->leaf, 0)) - 4);
}

static void a_node_less(struct map *map)
{
	le16_put(map->leaf + 12, le16(map->leaf + 12) - 2);
}

static void more_room(struct map *map)
{
	le16_put(map->leaf + 14, le16(map->leaf + 14) - 4);
}

static void keys_out_of_order(struct map *map)
{
	unsigned first = le16(map->leaf + 16);

	le16_put(map->leaf + 16, le16(map->leaf + 18));
	le16_put(map->leaf + 18, first);
}

static void a_page_with_two_parents(struct map *map)
{
	put_le32(node_of(map->root, 1), get_le32(node_of(map->root, 2)));
}

static void a_leaf_too_high_up(struct map *map)
{
	le16_put(map->db + 6, le16(map->db + 6) + 1);
}

static void a_dirty_page(struct map *map)
{
	map->leaf[10] |= 0x10;
}

static void a_loose_page(struct map *map)
{
	map->leaf[11] |= 0x40;
}

static void a_page_that_is_another(struct map *map)
{
	map->leaf[0] ^= 1;
}

/* In the first list of free pages there is only this one. */
static void free_only(struct map *map, uint64_t number)
{
	uint8_t *list = data_of(node_of(map->free_leaf, 0));

	if (le16(node_of(map->free_leaf, 0) + 4) == 1)
		list = page_of(map, get_le64(list)) + 16;
	put_le64(list, 1);
	put_le64(list + 8, number);
}

static void a_free_page_in_use(struct map *map)
{
	free_only(map, get_le64(map->leaf));
}

static void a_free_page_of_a_value(struct map *map)
{
	free_only(map, get_le64(data_of(map->big)) + 1);
}

static void a_page_that_is_free_twice(struct map *map)
{
	uint8_t *list = data_of(node_of(map->free_leaf, 1));

	if (le16(node_of(map->free_leaf, 1) + 4) == 1)
		list = page_of(map, get_le64(list)) + 16;
	free_only(map, get_le64(list + 8));
}

static void more_free_pages_than_fit(struct map *map)
{
	put_le64(data_of(node_of(map->free_leaf, 0)), 4096);
}

static void duplicates(struct map *map)
{
	map->db[4] |= 4;
}

static void duplicates_of_databases(struct map *map)
{
	map->meta[24 + 48 + 4] |= 4;
}

static void free_pages_by_another_order(struct map *map)
{
	map->meta[24 + 4] &= (uint8_t)~8u;
}

/* The leaf has this one node only, which begins as its first one did. */
static void one_node(struct map *map, size_t key_len, size_t value_len)
{
	uint8_t key[20];
	size_t len = 8 + key_len + value_len;
	uint8_t *node = map->leaf + PAGE_LEN - len;

	memcpy(key, node_of(map->leaf, 0) + 8, sizeof(key));
	memset(node, 0, len);
	memcpy(node + 8, key, sizeof(key));
	le16_put(node, value_len);
	le16_put(node + 6, key_len);
	le16_put(map->leaf + 12, 18);
	le16_put(map->leaf + 14, PAGE_LEN - len);
	le16_put(map->leaf + 16, PAGE_LEN - len);
}

static void a_node_as_it_may_be(struct map *map)
{
	one_node(map, 500, 1500);
}

static void a_key_too_long(struct map *map)
{
	one_node(map, 512, 100);
}

static void a_value_that_belongs_elsewhere(struct map *map)
{
	one_node(map, 20, 2100);
}

static void no_key(struct map *map)
{
	one_node(map, 0, 100);
}

static void a_value_of_too_few_pages(struct map *map)
{
	uint8_t *page = page_of(map, get_le64(data_of(map->big)));

	put_le32(page + 12, get_le32(page + 12) - 1);
}

static void a_value_beyond_the_end(struct map *map)
{
	put_le32(page_of(map, get_le64(data_of(map->big))) + 12, 1u << 30);
}

static void a_value_on_a_leaf(struct map *map)
{
	put_le64(data_of(map->big), get_le64(map->leaf));
}

static void a_file_of_fewer_pages(struct map *map)
{
	put_le64(map->meta + 24 + 96, get_le64(map->leaf) - 1);
}

static void test_each_thing_that_is_looked_at(void)
{
#define ROW(fn, rc)                                                                                \
	{                                                                                          \
#fn, fn, rc                                                                        \
	}
	static const struct {
		const char *name;
		void (*spoil)(struct map *map);
		int rc;
	} rows[] = {
		ROW(two_nodes_at_one_place, -EBADMSG),
		ROW(a_node_in_another, -EBADMSG),
		ROW(a_longer_value, -EBADMSG),
		ROW(a_shorter_value, -EBADMSG),
		ROW(a_node_less, -EBADMSG),
		ROW(more_room, -EBADMSG),
		ROW(keys_out_of_order, -EBADMSG),
		ROW(a_page_with_two_parents, -EBADMSG),
		ROW(a_leaf_too_high_up, -EBADMSG),
		ROW(a_dirty_page, -EBADMSG),
		ROW(a_loose_page, -EBADMSG),
		ROW(a_page_that_is_another, -EBADMSG),
		ROW(a_free_page_in_use, -EBADMSG),
		ROW(a_free_page_of_a_value, -EBADMSG),
		ROW(a_page_that_is_free_twice, -EBADMSG),
		ROW(more_free_pages_than_fit, -EBADMSG),
		ROW(duplicates, -EBADMSG),
		ROW(duplicates_of_databases, -EBADMSG),
		ROW(free_pages_by_another_order, -EBADMSG),
		ROW(a_node_as_it_may_be, 0),
		ROW(a_key_too_long, -EBADMSG),
		ROW(a_value_that_belongs_elsewhere, -EBADMSG),
		ROW(no_key, -EBADMSG),
		ROW(a_value_of_too_few_pages, -EBADMSG),
		ROW(a_value_beyond_the_end, -EBADMSG),
		ROW(a_value_on_a_leaf, -EBADMSG),
		ROW(a_file_of_fewer_pages, -EBADMSG),
	};
#undef ROW
	char *dir = scratch_dir();
	uint64_t txn;
	size_t len;
	uint8_t *bytes = make(dir, &len, &txn), *copy = malloc(len);
	struct pages pages = pages_of(copy, len);

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct pages_look *look;
		struct map map;
		uint8_t key[20];
		int rc;

		memcpy(copy, bytes, len);
		map = map_of(copy, txn);
		CHECK(map.root[10] == 1 && count_of(map.root) > 5 && map.big);
		CHECK(map.leaf[10] == 2 && count_of(map.free_leaf) > 1);
		CHECK_INT(look_at_all(&pages, txn), 0);
		memcpy(key, node_of(map.leaf, 1) + 8, sizeof(key));
		rows[i].spoil(&map);
		CHECK_MSG(look_at_all(&pages, txn) == rows[i].rc, "%s", rows[i].name);
		/* What is on the way to the leaf is found there as well. */
		rc = pages_look_begin(&pages, txn, &look);
		if (rc == 0) {
			rc = pages_look_delete(look, "objects", key, sizeof(key));
			pages_look_end(&look);
		}
		CHECK_MSG(rc == rows[i].rc, "%s, deleting", rows[i].name);
	}
	free(copy);
	free(bytes);
	scratch_remove(dir);
}

/* How far around the key is looked: what LMDB merges may be far away. */
static void test_how_far_is_looked(void)
{
	/* Of a root over branches over leaves: which leaf of which branch is spoiled. */
	static const struct {
		unsigned branch, leaf;
		int put, delete;
	} rows[] = {
		{ 1, 4, -EBADMSG, -EBADMSG }, /* the key's own */
		{ 1, 3, -EBADMSG, -EBADMSG },
		{ 1, 5, -EBADMSG, -EBADMSG },
		{ 1, 0, 0, -EBADMSG },
		{ 1, 9, 0, -EBADMSG },
		{ 0, 2, 0, -EBADMSG },
		{ 2, 2, 0, -EBADMSG },
		{ 3, 2, 0, 0 },
	};
	char *dir = scratch_dir(), *data = path_of(dir, "data.mdb");
	struct env e = env_open(dir, 1);
	struct pages_look *look = NULL;
	MDB_txn *txn;
	struct map map;
	struct pages pages;
	uint8_t *bytes, *middle, key[20];
	uint64_t id;
	size_t len;

	CHECK_INT(mdb_txn_begin(e.env, NULL, 0, &txn), 0);
	id = mdb_txn_id(txn);
	CHECK_INT(look_begin(&e, txn, &look), 0);
	for (uint64_t n = 0; n < 60000; n += 2)
		CHECK_INT(change(&e, txn, look, n, false), 0);
	pages_look_end(&look);
	CHECK_INT(mdb_txn_commit(txn), 0);
	env_close(&e);
	bytes = file_read(data, &len);
	pages = pages_of(bytes, len);
	map = map_of(bytes, id);
	CHECK_UINT(le16(map.db + 6), 3);
	CHECK(count_of(map.root) > 3);
	middle = child_of(&map, map.root, 1);
	memcpy(key, node_of(child_of(&map, middle, 4), 1) + 8, sizeof(key));
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint8_t *branch = child_of(&map, map.root, rows[i].branch);
		uint8_t *leaf = child_of(&map, branch, rows[i].leaf);

		leaf[10] ^= 0x10;
		for (unsigned delete = 0; delete < 2; delete ++) {
			int (*fn)(struct pages_look *, const char *, const void *, size_t) =
				delete ? pages_look_delete : pages_look_put;

			CHECK_INT(pages_look_begin(&pages, id, &look), 0);
			CHECK_MSG(fn(look, "objects", key, 20) ==
					  (delete ? rows[i].delete : rows[i].put),
				  "leaf %u of branch %u", rows[i].leaf, rows[i].branch);
			pages_look_end(&look);
		}
		leaf[10] ^= 0x10;
	}
	free(bytes);
	free(data);
	scratch_remove(dir);
}

/* A branch that is its own child. */
static void test_a_circle_ends(void)
{
	char *dir = scratch_dir();
	uint64_t txn;
	size_t len;
	uint8_t *bytes = make(dir, &len, &txn);
	struct pages pages = pages_of(bytes, len);
	unsigned branches = 0;

	for (size_t page = 2 * PAGE_LEN; page < len; page += PAGE_LEN) {
		uint8_t *node;

		if (bytes[page + 10] != 1)
			continue;
		branches++;
		node = bytes + page + (bytes[page + 16] | bytes[page + 17] << 8);
		put_le32(node, (uint32_t)(page / PAGE_LEN));
	}
	CHECK(branches > 0);
	CHECK_INT(look_at_all(&pages, txn), -EBADMSG);
	free(bytes);
	scratch_remove(dir);
}

/* ---- what it is for ---- */

/* Bits of what the last transaction left, or it would mostly be free pages. */
static void flip(struct env *e, unsigned count)
{
	struct stat st;

	fstat(e->fd, &st);
	for (unsigned i = 0; i < count; i++) {
		off_t off = (off_t)chance(e, (uint64_t)st.st_size);
		uint8_t byte;

		if (chance(e, 8) == 0)
			off %= 2 * PAGE_LEN;
		else if (chance(e, 2))
			off = off / PAGE_LEN * PAGE_LEN + off % 200; /* where the offsets are */
		if (pread(e->fd, &byte, 1, off) != 1)
			abort();
		byte ^= (uint8_t)(1u << chance(e, 8));
		if (pwrite(e->fd, &byte, 1, off) != 1)
			abort();
	}
}

#define NOTICED_NOTHING 7

/* Ends with a signal when LMDB went wrong, which nothing here would catch. */
static int child_spoil(const char *dir, uint64_t seed)
{
	struct env e = env_open(dir, seed);
	unsigned flips = 1u << chance(&e, 6);

	for (unsigned i = 0; i < 8; i++) {
		flip(&e, flips);
		if (change_some(&e, false))
			return 0;
	}
	/* Whatever was spoilt on the heap is stumbled over here. */
	for (size_t i = 0; i < 2000; i++)
		free(malloc(i * 37));
	env_close(&e);
	return NOTICED_NOTHING;
}

/*
 * LMDB is let loose on damaged pages, without the guard, when the look found nothing in its way.
 * The seed is another one each time; that of a failure is in its message.
 */
static void test_no_write_goes_wrong_that_was_looked_at(void)
{
	char *whole = scratch_dir();
	unsigned rounds = is_long() ? 30000 : 1000, unnoticed = 0;
	uint64_t seed = chance_seed(), txn;

	fill_env(whole, &txn);
	for (unsigned round = 0; round < rounds; round++) {
		char *dir = scratch_dir(), *inner = path_of(dir, "env");
		struct child child;
		int code;

		seed += UINT64_C(2654435761) * 2;
		copy_dir(whole, inner);
		child = child_start("spoil", inner, seed, 0);
		code = child_wait(&child);
		CHECK_MSG(code == 0 || code == NOTICED_NOTHING, "--child spoil DIR %llu: %d",
			  (unsigned long long)seed, code);
		unnoticed += code == NOTICED_NOTHING;
		free(inner);
		scratch_remove(dir);
	}
	printf("# %u of %u noticed nothing\n", unnoticed, rounds);
	CHECK(unnoticed > 0 && unnoticed < rounds);
	scratch_remove(whole);
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "--child")) /* what it had begun with is given up */
		_exit(child_spoil(argv[3], strtoull(argv[4], NULL, 10)));
	tap_args(argv);
	TAP_RUN(test_what_lmdb_wrote_is_sound);
	TAP_RUN(test_an_empty_one_is_sound);
	TAP_RUN(test_what_is_cut_short_is_not);
	TAP_RUN(test_another_version_is_not_ours);
	TAP_RUN(test_a_page_of_no_length);
	TAP_RUN(test_flipped_bits);
	TAP_RUN(test_each_thing_that_is_looked_at);
	TAP_RUN(test_how_far_is_looked);
	TAP_RUN(test_a_circle_ends);
	TAP_RUN(test_no_write_goes_wrong_that_was_looked_at);
	return tap_done();
}
