/*
 * LMDB's pages as LMDB writes them are sound; spoiled ones are noticed or do no harm. The format is
 * LMDB's own: when a test fails with another version of it, pages.h has to learn that one.
 */
#include "cache/pages.h"

#include <lmdb.h>
#include <sys/mman.h>

#include "cache/bytes.h"
#include "tests/cache_support.h"

static const char *const names[] = { "objects", "blocks" };

static int put_all(MDB_env *env, MDB_dbi *dbis, uint64_t from, uint64_t count, bool remove)
{
	uint8_t value[9000];
	MDB_txn *txn;
	int rc = mdb_txn_begin(env, NULL, 0, &txn);

	for (unsigned db = 0; db < 2 && rc == 0; db++)
		rc = mdb_dbi_open(txn, names[db], MDB_CREATE, &dbis[db]);
	for (uint64_t n = from; n < from + count && rc == 0; n++) {
		struct oid oid = oid_of(n);
		/* Some do not fit on a page. */
		MDB_val k = { .mv_size = 20, .mv_data = oid.hash },
			v = { .mv_size = n % 50 ? 72 + n % 90 : 9000, .mv_data = value };

		memset(value, (int)n, sizeof(value));
		rc = remove ? mdb_del(txn, dbis[n % 2], &k, NULL) :
			      mdb_put(txn, dbis[n % 2], &k, &v, 0);
	}
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

/* An environment that has seen something: many pages, free ones, and large values. */
static uint8_t *make(const char *dir, size_t *out_len)
{
	char *data = path_of(dir, "data.mdb");
	MDB_dbi dbis[2];
	MDB_env *env;
	uint8_t *bytes;

	if (mdb_env_create(&env) || mdb_env_set_maxdbs(env, 4) ||
	    mdb_env_set_mapsize(env, 64 << 20) || mdb_env_open(env, dir, MDB_NOSYNC, 0600) ||
	    put_all(env, dbis, 0, 2000, false) || put_all(env, dbis, 500, 1000, true) ||
	    put_all(env, dbis, 2000, 300, false))
		abort();
	mdb_env_close(env);
	bytes = file_read(data, out_len);
	free(data);
	return bytes;
}

static struct pages pages_of(const uint8_t *bytes, size_t len)
{
	return (struct pages){ .map = bytes, .len = len, .page_len = 4096 };
}

static void test_what_lmdb_wrote_is_sound(void)
{
	char *dir = scratch_dir();
	size_t len;
	uint8_t *bytes = make(dir, &len);
	struct pages pages = pages_of(bytes, len);

	CHECK_INT(pages_check_all(&pages), 0);
	CHECK_INT(pages_check_free(&pages), 0);
	for (uint64_t n = 0; n < 3000; n++) {
		struct oid oid = oid_of(n);

		CHECK_INT(pages_check_path(&pages, names[n % 2], oid.hash, 20), 0);
	}
	CHECK_INT(pages_check_path(&pages, "nowhere", "k", 1), -EBADMSG);
	free(bytes);
	scratch_remove(dir);
}

static void test_what_is_cut_short_is_not(void)
{
	char *dir = scratch_dir();
	size_t len;
	uint8_t *bytes = make(dir, &len);

	for (size_t cut = 0; cut < len; cut += 4096) {
		uint8_t *part = malloc(cut + 1);
		struct pages pages = pages_of(part, cut);

		memcpy(part, bytes, cut);
		CHECK_INT(pages_check_all(&pages), -EBADMSG);
		free(part);
	}
	free(bytes);
	scratch_remove(dir);
}

static void test_another_version_is_none_of_ours(void)
{
	char *dir = scratch_dir();
	size_t len;
	uint8_t *bytes = make(dir, &len);
	struct pages pages = pages_of(bytes, len);

	put_le32(bytes + 16 + 4, 2);
	put_le32(bytes + 4096 + 16 + 4, 2);
	CHECK_INT(pages_check_all(&pages), -ENOTSUP);
	CHECK_INT(pages_check_free(&pages), -ENOTSUP);
	free(bytes);
	scratch_remove(dir);
}

/* Whatever it says, it stays in the bytes (which a sanitizer sees) and ends. */
static void test_flipped_bits(void)
{
	char *dir = scratch_dir();
	size_t len;
	uint8_t *bytes = make(dir, &len), *copy = malloc(len);
	struct pages pages = pages_of(copy, len);
	uint64_t x = 88172645463325252u;
	unsigned noticed = 0;

	for (unsigned round = 0; round < 300; round++) {
		memcpy(copy, bytes, len);
		for (unsigned i = 0; i < 1u << round % 8; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			copy[x % len] ^= (uint8_t)(1u << (x >> 40) % 8);
		}
		noticed += pages_check_all(&pages) != 0;
		pages_check_free(&pages);
		pages_check_path(&pages, names[round % 2], copy + round, 20);
	}
	CHECK_MSG(noticed > 30, "%u", noticed);
	free(copy);
	free(bytes);
	scratch_remove(dir);
}

/* A branch that is its own child. */
static void test_a_circle_ends(void)
{
	char *dir = scratch_dir();
	size_t len;
	uint8_t *bytes = make(dir, &len);
	struct pages pages = pages_of(bytes, len);
	unsigned branches = 0;

	for (size_t page = 2 * 4096; page < len; page += 4096) {
		uint8_t *node;

		if (bytes[page + 10] != 1)
			continue;
		branches++;
		node = bytes + page + (bytes[page + 16] | bytes[page + 17] << 8);
		put_le32(node, (uint32_t)(page / 4096));
	}
	CHECK(branches > 0);
	CHECK_INT(pages_check_all(&pages), -EBADMSG);
	free(bytes);
	scratch_remove(dir);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_lmdb_wrote_is_sound);
	TAP_RUN(test_what_is_cut_short_is_not);
	TAP_RUN(test_another_version_is_none_of_ours);
	TAP_RUN(test_flipped_bits);
	TAP_RUN(test_a_circle_ends);
	return tap_done();
}
