/*
 * The cache and a disk that fails: killed at every call that changes a file, every error that a
 * file system has, bits that flip, files that are cut. Whatever happens, nothing is ever read
 * wrong, nothing crashes, and it works again when the disk does.
 *
 * XCPFS_LONG=1 tries every place instead of some.
 */
#include "cache/cache.h"

#include <dirent.h>
#include <sys/file.h>
#include <time.h>

#include "base/log.h"
#include "cache/limit.h"
#include "tests/cache_support.h"
#include "tests/faulty_calls.h"

/* What LMDB had allocated when it stumbled is nobody's. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:mdb_txn_begin";
}

#define SMALL 3000u /* bytes of an object in these tests, more or less */

/* ---- directories ---- */

/* What goes away meanwhile is not in the copy. */
static void copy_some(const char *from, const char *to)
{
	char *command;

	if (asprintf(&command, "cp -a '%s' '%s' 2>/dev/null", from, to) < 0 ||
	    system(command) == -1)
		abort();
	free(command);
}

static char *v1_of(const char *dir, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/v1/%s", dir, name) < 0)
		abort();
	return path;
}

static char *first_segment(const char *dir)
{
	char *segments = v1_of(dir, "segments"), *path = NULL;
	DIR *d = opendir(segments);
	struct dirent *entry;

	while (d && !path && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			path = path_of(segments, entry->d_name);
	closedir(d);
	free(segments);
	if (!path)
		abort();
	return path;
}

static size_t some_len(uint64_t n)
{
	return n % 40 == 39 ? 400000 : SMALL + n % 997;
}

/* [first, first + count), closed cleanly or left as they are at this moment. */
static void fill(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache = open_at(dir);

	for (uint64_t n = first; n < first + count; n++)
		if (put(cache, n, some_len(n)))
			abort();
	cache_flush(cache);
	cache_close(&cache);
}

struct tally {
	unsigned right, miss, wrong;
};

static struct tally ask_all(struct cache *cache, uint64_t first, uint64_t count)
{
	struct tally tally = { 0 };

	for (uint64_t n = first; n < first + count; n++)
		switch (ask(cache, n, some_len(n))) {
		case RIGHT:
			tally.right++;
			break;
		case MISS:
			tally.miss++;
			break;
		default:
			tally.wrong++;
		}
	return tally;
}

/* ---- killed at every change ---- */

#define OLD_COUNT 700u
#define NEW_COUNT 130u

/* A limit that is reached already, so that making room is among what is interrupted. */
static struct cache *open_small(const char *dir)
{
	struct cache_config config = { .dir = dir,
				       .memory_max_len = 1,
				       .index_max_len = TEST_INDEX_LEN,
				       .size_max_len = LIMIT_MIN_LEN,
				       .segment_max_len = 512 * 1024 };

	return open_with(&config, NULL);
}

static int child_work(const char *dir, uint64_t at, uint64_t torn)
{
	const struct faulty_plan plan = {
		.calls = FAULTY_CHANGE, .path = dir, .first = at, .count = 1, .torn = torn
	};
	struct cache *cache;

	faulty_plan(&plan);
	cache = open_small(dir);
	ask_all(cache, 100, 40);
	for (uint64_t n = OLD_COUNT; n < OLD_COUNT + NEW_COUNT; n++) {
		put(cache, n, some_len(n));
		if (n % 10 == 9)
			cache_flush(cache);
	}
	cache_fact_put(cache, "ref", "main", 4, "value", 5);
	cache_close(&cache);
	faulty_plan(NULL);
	return faulty_seen() >= at ? 1 : 0;
}

/* Nearly full, of noise and of words. */
static char *make_full(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_small(dir);

	for (uint64_t n = 0; n < OLD_COUNT; n++)
		if (put(cache, n, some_len(n)))
			abort();
	for (uint64_t n = 900000; n < 900000 + 900; n += 3)
		if (put(cache, n, 60000))
			abort();
	cache_flush(cache);
	cache_close(&cache);
	return dir;
}

static bool try_kill(const char *full, uint64_t at, bool torn)
{
	char *dir = scratch_dir(), *inner = path_of(dir, "cache");
	struct child child;
	struct cache *cache;
	struct tally before, after;
	int status;

	copy_dir(full, inner);
	child = child_start("work", inner, at, torn);
	status = child_wait(&child);
	cache = open_small(inner);
	before = ask_all(cache, 0, OLD_COUNT);
	after = ask_all(cache, OLD_COUNT, NEW_COUNT);
	if (before.wrong || after.wrong || counters_of(cache).faults)
		tap_fail(__FILE__, __LINE__, "killed at %llu%s: %u wrong, %u faults",
			 (unsigned long long)at, torn ? " (torn)" : "", before.wrong + after.wrong,
			 (unsigned)counters_of(cache).faults);
	if (put(cache, 1000000, SMALL) || (cache_flush(cache), ask(cache, 1000000, SMALL) != RIGHT))
		tap_fail(__FILE__, __LINE__, "killed at %llu: nothing can be stored afterwards",
			 (unsigned long long)at);
	cache_close(&cache);
	if (status != 0 && status != 128 + SIGKILL)
		tap_fail(__FILE__, __LINE__, "killed at %llu: the child ended with %d",
			 (unsigned long long)at, status);
	free(inner);
	scratch_remove(dir);
	return status != 0;
}

static void test_killed_at_every_change(void)
{
	char *full = make_full();
	unsigned step = is_long() ? 1 : 9, points = 0;

	for (uint64_t at = 1; try_kill(full, at, at % 2) && !tap.current_failed; at += step)
		points++;
	printf("# %u points\n", points);
	CHECK(points >= 10);
	scratch_remove(full);
}

/* ---- errors ---- */

static const struct error_row {
	const char *name;
	unsigned calls;
	int error;
	bool degrades, gives_up; /* what is older, for what is new */
} error_rows[] = {
	{ "ENOSPC", FAULTY_WRITE, ENOSPC, true, true },
	{ "EDQUOT", FAULTY_WRITE, EDQUOT, true, true },
	{ "EIO", FAULTY_WRITE, EIO, true, false },
	{ "EROFS", FAULTY_CHANGE, EROFS, true, false },
	{ "EMFILE", FAULTY_OPEN, EMFILE, false, false },
};

static void try_error(const struct error_row *row)
{
	char *dir = scratch_dir();
	const struct faulty_plan plan = { .calls = row->calls,
					  .path = dir,
					  .first = 1,
					  .count = UINT64_MAX,
					  .error = row->error };
	struct cache *cache;

	fill(dir, 0, 100);
	cache = open_at(dir);
	CHECK_UINT(ask_all(cache, 0, 50).right, 50);
	faulty_plan(&plan);
	for (uint64_t n = 100; n < 140; n++)
		CHECK_MSG(put(cache, n, some_len(n)) == 0, "%s", row->name);
	cache_flush(cache);
	/* What was there is read, and so is what is new, which is in memory or was dropped. */
	CHECK_MSG(row->gives_up || ask_all(cache, 0, 100).right == 100, "%s", row->name);
	CHECK_MSG(ask_all(cache, 0, 140).wrong == 0, "%s", row->name);
	if (row->degrades) {
		CHECK_MSG(counters_of(cache).degraded, "%s", row->name);
		CHECK_MSG(*counters_of(cache).degraded_why, "%s", row->name);
	}
	faulty_plan(NULL);
	for (uint64_t n = 200; n < 240; n++)
		CHECK_INT(put(cache, n, some_len(n)), 0);
	cache_flush(cache);
	CHECK_MSG(!counters_of(cache).degraded, "%s: %s", row->name,
		  counters_of(cache).degraded_why);
	cache_close(&cache);
	cache = open_at(dir);
	CHECK_MSG(ask_all(cache, 200, 40).right == 40, "%s", row->name);
	CHECK_MSG(row->gives_up || ask_all(cache, 0, 100).right == 100, "%s", row->name);
	CHECK_MSG(ask_all(cache, 0, 140).wrong == 0, "%s", row->name);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_every_error_of_a_disk(void)
{
	for (size_t i = 0; i < sizeof(error_rows) / sizeof(*error_rows); i++) {
		try_error(&error_rows[i]);
		faulty_plan(NULL);
		TAP_STOP();
	}
}

static void test_reads_that_fail_are_misses(void)
{
	char *dir = scratch_dir();
	const struct faulty_plan plan = {
		.calls = FAULTY_READ, .path = dir, .first = 1, .count = UINT64_MAX, .error = EIO
	};
	struct cache *cache;
	struct tally tally;

	fill(dir, 0, 100);
	cache = open_at(dir);
	faulty_plan(&plan);
	tally = ask_all(cache, 0, 100);
	CHECK_UINT(tally.wrong, 0);
	CHECK_UINT(tally.right, 0);
	CHECK(counters_of(cache).faults > 0);
	/* So many that it is left alone: the rest costs no time. */
	for (unsigned i = 0; i < 1000 && !counters_of(cache).degraded; i++)
		usleep(10000);
	CHECK_CONTAINS(counters_of(cache).degraded_why, "left alone");
	faulty_plan(NULL);
	/* They are fetched again, and stored. */
	for (uint64_t n = 0; n < 100; n++)
		CHECK_INT(put(cache, n, some_len(n)), 0);
	cache_flush(cache);
	CHECK_UINT(ask_all(cache, 0, 100).right, 100);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- bits ---- */

static uint64_t flip_state; /* another one each time: see chance_seed() */
static unsigned flip_each;
static unsigned long flip_count;

static int flip_in(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	int fd;

	/*
	 * LMDB's lock file is memory that processes share, made anew by the first one: it never
	 * comes from a disk, and its mutex is not ours to mend.
	 */
	if (flag != FTW_F || st->st_size == 0 || !strcmp(path + ftw->base, "lock.mdb"))
		return 0;
	fd = open(path, O_RDWR | O_CLOEXEC);
	for (unsigned i = 0; i < flip_each; i++) {
		off_t off = (off_t)(chance_next(&flip_state) % (uint64_t)st->st_size);
		uint8_t byte;

		if (fd < 0 || pread(fd, &byte, 1, off) != 1)
			break; /* it became shorter meanwhile */
		byte ^= (uint8_t)(1u << chance_next(&flip_state) % 8);
		if (pwrite(fd, &byte, 1, off) != 1)
			abort();
		flip_count++;
	}
	close(fd);
	return 0;
}

static int child_use(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache = open_at(dir);
	struct tally tally = ask_all(cache, first, count);

	for (uint64_t n = first; n < first + count; n++)
		put(cache, n, some_len(n));
	cache_flush(cache);
	tally.wrong += ask_all(cache, first, count).wrong;
	cache_close(&cache);
	return tally.wrong ? 1 : 0;
}

static void test_flipped_bits_anywhere(void)
{
	char *whole = scratch_dir();
	unsigned rounds = is_long() ? 1500 : 40; /* a million flips and more */

	fill(whole, 0, 300);
	flip_state = chance_seed();
	for (unsigned round = 0; round < rounds; round++) {
		char *dir = scratch_dir(), *inner = path_of(dir, "cache");
		struct child child;

		copy_dir(whole, inner);
		/* From one in each file to a thousand. */
		flip_each = 1u << round % 11;
		nftw(inner, flip_in, 16, FTW_PHYS);
		child = child_start("use", inner, 0, 300);
		CHECK_MSG(child_wait(&child) == 0, "round %u, %u flips in each file", round,
			  flip_each);
		free(inner);
		scratch_remove(dir);
	}
	printf("# %lu flips\n", flip_count);
	scratch_remove(whole);
}

/*
 * Under a cache that is open, again and again; but not while it writes, which it does when it likes
 * (a dictionary has been trained, room is made): what flips between LMDB's page being looked at and
 * being copied is copied. So the write lock is ours meanwhile.
 */
#define USE_ROUNDS 20

static void flip_while_nobody_writes(const char *dir)
{
	char *path = v1_of(dir, "write.lock");
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX))
		abort();
	nftw(dir, flip_in, 16, FTW_PHYS);
	close(fd);
	free(path);
}

static void test_flipped_bits_while_in_use(void)
{
	char *dir = scratch_dir();
	unsigned times = is_long() ? 60 : 3;

	flip_state = chance_seed();
	for (unsigned i = 0; i < times; i++) {
		struct child child = child_start("use_long", dir, 0, 200);

		for (unsigned round = 0; round < USE_ROUNDS; round++) {
			if (!child_hear(&child))
				break; /* what became of it is asked below */
			flip_each = 1u << round % 10;
			flip_while_nobody_writes(dir);
			kill(child.pid, SIGUSR1);
		}
		CHECK_INT(child_wait(&child), 0);
	}
	scratch_remove(dir);
}

static int child_use_long(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache;
	unsigned wrong = 0;
	sigset_t go_on;
	int number;

	sigemptyset(&go_on);
	sigaddset(&go_on, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &go_on, NULL);
	cache = open_at(dir);
	for (unsigned round = 0; round < USE_ROUNDS; round++) {
		for (uint64_t n = first; n < first + count; n++)
			put(cache, n, some_len(n));
		cache_flush(cache);
		if (write(STDOUT_FILENO, "x", 1) != 1 || sigwait(&go_on, &number))
			return 3;
		wrong += ask_all(cache, first, count).wrong;
	}
	cache_close(&cache);
	return wrong ? 1 : 0;
}

/* ---- copies of a directory that is being written ---- */

static void test_copies_taken_at_any_moment(void)
{
	char *dir = scratch_dir(), *inner = path_of(dir, "cache");
	unsigned rounds = is_long() ? 150 : 12;
	struct child writer;

	fill(inner, 0, 50);
	writer = child_start("write_on", inner, 1000, 1000000);
	CHECK(child_hear(&writer));
	for (unsigned round = 0; round < rounds; round++) {
		char *other = scratch_dir(), *copy = path_of(other, "cache");
		struct child user;

		/* Not in one moment, and in no order: worse than any power cut. */
		copy_some(inner, copy);
		user = child_start("use", copy, 0, 50);
		CHECK_MSG(child_wait(&user) == 0, "round %u", round);
		user = child_start("use", copy, 1000, 500);
		CHECK_MSG(child_wait(&user) == 0, "round %u, what is new", round);
		free(copy);
		scratch_remove(other);
	}
	CHECK_INT(child_kill(&writer), 128 + SIGKILL);
	free(inner);
	scratch_remove(dir);
}

static int child_write_on(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache = open_small(dir);

	for (uint64_t n = first; n < first + count; n++) {
		put(cache, first + n % 500, some_len(first + n % 500));
		put(cache, 1000000 + n, 20000);
		if (n == first && write(STDOUT_FILENO, "x", 1) != 1)
			return 3;
		if (n % 20 == 0)
			cache_flush(cache);
	}
	cache_close(&cache);
	return 0;
}

/* ---- files that are cut, zeroed, removed ---- */

static void test_a_cut_index_in_use_is_replaced(void)
{
	static const off_t lens[] = { 0, 1, 4096, 8192, 20000, 65536 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		char *dir = scratch_dir(), *data = v1_of(dir, "index/data.mdb");
		struct cache *cache;

		fill(dir, 0, 300);
		cache = open_at(dir);
		CHECK_UINT(ask_all(cache, 0, 10).right, 10);
		CHECK_INT(truncate(data, lens[i]), 0);
		CHECK_UINT(ask_all(cache, 0, 300).wrong, 0);
		for (uint64_t n = 300; n < 310; n++)
			CHECK_INT(put(cache, n, some_len(n)), 0);
		cache_flush(cache);
		/* A new one, made from the segments. */
		CHECK_MSG(ask_all(cache, 0, 310).right == 310, "cut at %lld: %u are here",
			  (long long)lens[i], ask_all(cache, 0, 310).right);
		cache_close(&cache);
		free(data);
		scratch_remove(dir);
	}
}

static void test_a_zeroed_index_in_use_is_replaced(void)
{
	char *dir = scratch_dir(), *data = v1_of(dir, "index/data.mdb");
	struct cache *cache;
	uint8_t *zeros;
	size_t len;

	fill(dir, 0, 300);
	cache = open_at(dir);
	CHECK_UINT(ask_all(cache, 0, 10).right, 10);
	free(file_read(data, &len));
	zeros = calloc(1, len);
	file_poke(data, 0, zeros, len);
	free(zeros);
	CHECK_UINT(ask_all(cache, 0, 300).wrong, 0);
	for (uint64_t n = 300; n < 310; n++)
		CHECK_INT(put(cache, n, some_len(n)), 0);
	cache_flush(cache);
	CHECK_UINT(ask_all(cache, 0, 300).wrong, 0);
	CHECK_UINT(ask_all(cache, 300, 10).right, 10);
	cache_close(&cache);
	cache = open_at(dir);
	CHECK_UINT(ask_all(cache, 0, 310).wrong, 0);
	cache_close(&cache);
	free(data);
	scratch_remove(dir);
}

/* LMDB divides by it. */
static void test_an_index_whose_pages_have_no_length(void)
{
	static const uint8_t none[4];
	char *dir = scratch_dir(), *data = v1_of(dir, "index/data.mdb");
	struct cache *cache;

	fill(dir, 0, 100);
	file_poke(data, 16 + 24, none, sizeof(none));
	file_poke(data, 4096 + 16 + 24, none, sizeof(none));
	cache = open_at(dir);
	CHECK_UINT(ask_all(cache, 0, 100).right, 100);
	cache_close(&cache);
	free(data);
	scratch_remove(dir);
}

static void test_a_deleted_index_is_made_again(void)
{
	char *dir = scratch_dir(), *index = v1_of(dir, "index");
	struct cache *cache;

	fill(dir, 0, 500);
	dir_remove(index);
	cache = open_at(dir);
	CHECK_UINT(ask_all(cache, 0, 500).right, 500);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	/* And what a killed writer had not named yet. */
	free(index);
	scratch_remove(dir);
}

static void test_a_segment_that_lost_its_middle(void)
{
	char *dir = scratch_dir(), *segment, *index = v1_of(dir, "index");
	uint8_t junk[5000];
	struct cache *cache;
	struct tally tally;

	fill(dir, 0, 500);
	segment = first_segment(dir);
	memset(junk, 0x5a, sizeof(junk));
	file_poke(segment, 100000, junk, sizeof(junk));
	dir_remove(index);
	cache = open_at(dir);
	tally = ask_all(cache, 0, 500);
	CHECK_UINT(tally.wrong, 0);
	CHECK_MSG(tally.right >= 490, "%u are here", tally.right);
	CHECK(tally.miss > 0);
	cache_close(&cache);
	free(index);
	free(segment);
	scratch_remove(dir);
}

static const struct {
	const char *name;
	int (*run)(const char *dir, uint64_t first, uint64_t count);
} child_rows[] = {
	{ "work", child_work },
	{ "use", child_use },
	{ "use_long", child_use_long },
	{ "write_on", child_write_on },
};

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "--child"))
		for (size_t i = 0; i < sizeof(child_rows) / sizeof(*child_rows); i++)
			if (!strcmp(argv[2], child_rows[i].name))
				return child_rows[i].run(argv[3], strtoull(argv[4], NULL, 10),
							 strtoull(argv[5], NULL, 10));
	tap_args(argv);
	TAP_RUN(test_killed_at_every_change);
	TAP_RUN(test_every_error_of_a_disk);
	TAP_RUN(test_reads_that_fail_are_misses);
	TAP_RUN(test_flipped_bits_anywhere);
	TAP_RUN(test_flipped_bits_while_in_use);
	TAP_RUN(test_copies_taken_at_any_moment);
	TAP_RUN(test_a_cut_index_in_use_is_replaced);
	TAP_RUN(test_a_zeroed_index_in_use_is_replaced);
	TAP_RUN(test_an_index_whose_pages_have_no_length);
	TAP_RUN(test_a_deleted_index_is_made_again);
	TAP_RUN(test_a_segment_that_lost_its_middle);
	return tap_done();
}
