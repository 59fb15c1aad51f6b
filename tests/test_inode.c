/*
 * Inode numbers: the same for a path whenever and wherever it is asked for, different for
 * different paths.
 */
#include "repo/inode.h"

#include <pthread.h>

#include "tap.h"

static struct inode_path path_of(const char *path)
{
	struct inode_path at = inode_path_root();

	while (*path) {
		size_t len = strcspn(path, "/");

		at = inode_path_child(&at, path, len);
		path += len;
		path += *path == '/';
	}
	return at;
}

static uint64_t number(struct inode_table *table, const char *path)
{
	struct inode_path at = path_of(path);
	uint64_t ino = 0;

	return inode_assign(table, &at, &ino) ? 0 : ino;
}

static void test_a_path_has_one_number(void)
{
	struct inode_table *table = inode_table_new(INODE_BITS),
			   *other = inode_table_new(INODE_BITS);
	uint64_t ino = number(table, "a/b/c");

	CHECK_UINT(number(table, "a/b/c"), ino);
	CHECK_UINT(number(other, "a/b/c"), ino);
	CHECK(ino > 1);
	CHECK(ino < 1ull << 48);
	CHECK_UINT(inode_count(table), 1);
	inode_table_free(&table);
	inode_table_free(&other);
}

/* What is written down here was handed out by earlier versions: it must never change. */
static void test_numbers_are_the_same_for_ever(void)
{
	struct inode_table *table = inode_table_new(INODE_BITS);

	CHECK_UINT(number(table, ""), 0xb23f9f2b66f5);
	CHECK_UINT(number(table, "README"), 0xa504fa25e4fb);
	CHECK_UINT(number(table, "src/main.c"), 0x4849d6275b0b);
	inode_table_free(&table);
}

static void test_different_paths_have_different_numbers(void)
{
	struct inode_table *table = inode_table_new(INODE_BITS);

	CHECK(number(table, "a/b") != number(table, "ab"));
	CHECK(number(table, "a/b") != number(table, "b/a"));
	CHECK(number(table, "a") != number(table, ""));
	CHECK(number(table, "a/a") != number(table, "a"));
	CHECK_UINT(inode_table_changes(table), 0);
	inode_table_free(&table);
}

/* 2,000 paths in 11 bits: most of them collide. */
static void fill(struct inode_table *table, uint64_t *out, int count, int first, int step)
{
	for (int n = 0, i = first; n < count; n++, i = (i + step) % count) {
		char path[32];

		snprintf(path, sizeof(path), "dir/%d", i);
		out[i] = number(table, path);
	}
}

static void check_unique(const uint64_t *v, int count, unsigned bits)
{
	bool *seen = calloc((size_t)1 << bits, sizeof(*seen));

	for (int i = 0; i < count; i++) {
		CHECK(v[i] > 1 && v[i] < 1ull << bits);
		CHECK_MSG(!seen[v[i]], "number %d", (int)v[i]);
		seen[v[i]] = true;
	}
	free(seen);
}

static void test_colliding_paths_get_numbers_of_their_own(void)
{
	struct inode_table *table = inode_table_new(12);
	uint64_t first[2000], again[2000];

	fill(table, first, 2000, 0, 1);
	check_unique(first, 2000, 12);
	TAP_STOP();
	CHECK(inode_table_changes(table) > 100);
	fill(table, again, 2000, 7, 3);
	CHECK_MEM(again, sizeof(again), first, sizeof(first));
	inode_table_free(&table);
}

static void test_exceptions_are_the_same_after_being_kept(void)
{
	struct inode_table *table = inode_table_new(12), *later = inode_table_new(12);
	uint64_t first[2000], again[2000];
	struct buf text = BUF_INIT;

	fill(table, first, 2000, 0, 1);
	CHECK_INT(inode_table_save(table, &text), 0);
	CHECK_INT(inode_table_load(later, (const char *)text.data, text.len), 0);
	fill(later, again, 2000, 1999, 7); /* in another order */
	for (int i = 0; i < 2000; i++)
		CHECK_MSG(again[i] == first[i], "path %d", i);
	CHECK_UINT(inode_table_changes(later), 0);
	buf_release(&text);
	inode_table_free(&table);
	inode_table_free(&later);
}

static void test_loading_twice_changes_nothing(void)
{
	struct inode_table *table = inode_table_new(12);
	uint64_t first[2000], again[2000];
	struct buf text = BUF_INIT, second = BUF_INIT;

	fill(table, first, 2000, 0, 1);
	CHECK_INT(inode_table_save(table, &text), 0);
	CHECK_INT(inode_table_load(table, (const char *)text.data, text.len), 0);
	CHECK_INT(inode_table_save(table, &second), 0);
	CHECK_MEM(second.data, second.len, text.data, text.len);
	fill(table, again, 2000, 0, 1);
	CHECK_MEM(again, sizeof(again), first, sizeof(first));
	buf_release(&text);
	buf_release(&second);
	inode_table_free(&table);
}

static void test_damaged_exceptions_are_passed_over(void)
{
	static const char *const texts[] = {
		"",
		"\n\n\n",
		"nonsense\n",
		"1 2\n",
		"0000000000000001 0000000000000002 000000000000\n", /* number 0 */
		"0000000000000001 0000000000000002 000000000001\n", /* number 1 */
		"0000000000000001 0000000000000002 ffffffffffffffff\n",
		("000000000000000100000000000000020000000000000003000000000000000400000000000000050"
		 "0"
		 "00000000000006\n"),
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct inode_table *table = inode_table_new(INODE_BITS);
		struct buf text = BUF_INIT;

		CHECK_INT(inode_table_load(table, texts[i], strlen(texts[i])), 0);
		CHECK_INT(inode_table_save(table, &text), 0);
		CHECK_MSG(text.len == 0, "row %zu", i);
		CHECK(number(table, "a") > 1);
		inode_table_free(&table);
	}
}

static void test_more_paths_than_numbers_still_ends(void)
{
	struct inode_table *table = inode_table_new(4);

	for (int i = 0; i < 200; i++) {
		char path[16];

		snprintf(path, sizeof(path), "%d", i);
		CHECK(number(table, path) > 1);
	}
	inode_table_free(&table);
}

struct filler {
	struct inode_table *table;
	uint64_t got[2000];
	int step;
};

static void *run_filler(void *arg)
{
	struct filler *filler = arg;

	fill(filler->table, filler->got, 2000, 0, filler->step);
	return NULL;
}

static void test_threads_agree(void)
{
	struct inode_table *table = inode_table_new(13);
	struct filler fillers[4];
	pthread_t threads[4];
	static const int steps[4] = { 1, 3, 7, 1999 };

	for (int i = 0; i < 4; i++) {
		fillers[i] = (struct filler){ .table = table, .step = steps[i] };
		pthread_create(&threads[i], NULL, run_filler, &fillers[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (int i = 1; i < 4; i++)
		CHECK_MEM(fillers[i].got, sizeof(fillers[i].got), fillers[0].got,
			  sizeof(fillers[0].got));
	check_unique(fillers[0].got, 2000, 13);
	inode_table_free(&table);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_a_path_has_one_number);
	TAP_RUN(test_numbers_are_the_same_for_ever);
	TAP_RUN(test_different_paths_have_different_numbers);
	TAP_RUN(test_colliding_paths_get_numbers_of_their_own);
	TAP_RUN(test_exceptions_are_the_same_after_being_kept);
	TAP_RUN(test_loading_twice_changes_nothing);
	TAP_RUN(test_damaged_exceptions_are_passed_over);
	TAP_RUN(test_more_paths_than_numbers_still_ends);
	TAP_RUN(test_threads_agree);
	return tap_done();
}
