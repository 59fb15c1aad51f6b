/*
 * The cache keeps to its limit: what was read stays, what was not goes, and nobody ever reads
 * anything wrong meanwhile. Sizes are those of the directory on disk, as du counts.
 */
#include "cache/room.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>

#include "base/lock.h"
#include "cache/hand.h"
#include "cache/recency.h"
#include "cache/upkeep.h"
#include "tests/cache_support.h"

#define MIB ((uint64_t)1 << 20)
#define LIMIT (LIMIT_MIN_LEN)

/* ---- support ---- */

static uint64_t usage_sum;

static int usage_add(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)path, (void)ftw;
	if (flag == FTW_F)
		usage_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

static uint64_t usage_of(const char *dir)
{
	usage_sum = 0;
	nftw(dir, usage_add, 16, FTW_PHYS);
	return usage_sum;
}

static struct cache *open_limited(const char *dir)
{
	struct cache_config config = { .dir = dir, .memory_max_len = 1, .size_max_len = LIMIT };

	return open_with(&config, NULL);
}

/* Noise, which does not shrink: number and length decide what is on disk. */
static uint64_t noise(uint64_t n)
{
	return n * 3;
}

/* Puts noise [first, first + count) and says how much the directory ever took. */
static uint64_t put_noise(struct cache *cache, const char *dir, uint64_t first, uint64_t count,
			  size_t len)
{
	uint64_t most = 0;

	for (uint64_t n = first; n < first + count; n++) {
		if (put(cache, noise(n), len))
			abort();
		if (n % 16 == 0 || n == first + count - 1) {
			uint64_t now;

			cache_flush(cache);
			now = usage_of(dir);
			most = now > most ? now : most;
		}
	}
	return most;
}

static unsigned count_right(struct cache *cache, uint64_t first, uint64_t count, size_t len)
{
	unsigned right = 0;

	for (uint64_t n = first; n < first + count; n++) {
		enum answer answer = ask(cache, noise(n), len);

		if (answer == WRONG)
			tap_fail(__FILE__, __LINE__, "%llu has wrong bytes", (unsigned long long)n);
		right += answer == RIGHT;
	}
	return right;
}

/* ---- recency ---- */

static void test_recency_goes_from_one_process_to_another(void)
{
	char *dir = scratch_dir();
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct recency *a = recency_new(), *b = recency_new();
	struct oid one = oid_of(1), two = oid_of(2);

	CHECK(!recency_is_dirty(a));
	recency_touch(a, &one, 0);
	CHECK(recency_is_dirty(a));
	recency_load(b, fd);
	CHECK(!recency_was_read(b, &one, 0));
	recency_publish(a, fd);
	CHECK(!recency_is_dirty(a));
	recency_load(b, fd);
	CHECK(recency_was_read(b, &one, 0));
	CHECK(!recency_was_read(b, &one, 1));
	CHECK(!recency_was_read(b, &two, 0));
	recency_forget(b, &one, 0);
	CHECK(!recency_was_read(b, &one, 0));
	recency_store(b, fd);
	recency_load(a, fd);
	CHECK(!recency_was_read(a, &one, 0));
	recency_free(a);
	recency_free(b);
	close(fd);
	scratch_remove(dir);
}

static void test_recency_file_format_is_locked(void)
{
	static const uint8_t want[RECENCY_HEADER_LEN] = {
		'x', 'c', 'p', 'f', 's', 'R', 'E', 'C', 1, 0, 0, 0, 0, 0, 0x20, 0,
	};
	char *dir = scratch_dir(), *path = path_of(dir, "recency");
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct recency *recency = recency_new();
	struct oid one = oid_of(1);
	uint8_t *bytes;
	size_t len;

	recency_touch(recency, &one, 7);
	recency_publish(recency, fd);
	bytes = file_read(path, &len);
	CHECK_MEM(bytes, RECENCY_HEADER_LEN, want, sizeof(want));
	/* Which bit it is may never change, either, or what was read is forgotten. */
	for (size_t i = RECENCY_HEADER_LEN; i < len; i++)
		if (bytes[i])
			CHECK_UINT((i - RECENCY_HEADER_LEN) * 8 + (unsigned)__builtin_ctz(bytes[i]),
				   254135);
	free(bytes);
	recency_free(recency);
	close(fd);
	free(path);
	scratch_remove(dir);
}

static void test_recency_survives_any_file(void)
{
	static const char junk[] =
		"this is no such file, and it is longer than a header by far....."
		"................................................................";
	char *dir = scratch_dir(), *path = path_of(dir, "recency");
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct recency *recency = recency_new();
	struct oid one = oid_of(1);

	for (size_t len = 0; len <= sizeof(junk); len += 13) {
		file_write(path, junk, len);
		recency_load(recency, fd);
		CHECK(!recency_was_read(recency, &one, 0));
	}
	file_write(path, junk, sizeof(junk));
	recency_touch(recency, &one, 0);
	recency_publish(recency, fd);
	recency_load(recency, fd);
	CHECK(recency_was_read(recency, &one, 0));
	recency_free(recency);
	close(fd);
	free(path);
	scratch_remove(dir);
}

/* ---- the limit ---- */

static void test_directory_stays_below_its_limit(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	uint64_t most = put_noise(cache, dir, 0, 1600, 40000);
	struct cache_counters counters = counters_of(cache);

	CHECK_MSG(most <= LIMIT + LIMIT / 20, "it took %llu", (unsigned long long)most);
	CHECK_MSG(most >= LIMIT * 8 / 10, "it took only %llu", (unsigned long long)most);
	CHECK(counters.given_up > 1000);
	CHECK_UINT(counters.faults, 0);
	CHECK_UINT(counters.dropped, 0);
	/* The newest are here, the oldest are not. */
	CHECK_UINT(count_right(cache, 1500, 100, 40000), 100);
	CHECK_UINT(count_right(cache, 0, 100, 40000), 0);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

/*
 * An index full of small objects is a limit like any other. (Of a much smaller one, a single step
 * of giving up would touch more pages than are kept free.)
 */
static void test_a_full_index_makes_room(void)
{
	char *dir = scratch_dir();
	struct cache_config config = { .dir = dir,
				       .memory_max_len = 1,
				       .index_max_len = 24 * MIB,
				       .size_max_len = 4 * LIMIT };
	struct cache *cache = open_with(&config, NULL);
	uint64_t count = getenv("XCPFS_LONG") ? 400000 : 150000;

	for (uint64_t n = 0; n < count; n++) {
		CHECK_INT(put(cache, noise(n), 100), 0);
		if (n % 100 == 99)
			cache_flush(cache);
	}
	CHECK_UINT(counters_of(cache).dropped, 0);
	CHECK(!counters_of(cache).degraded);
	CHECK(counters_of(cache).given_up > 0);
	CHECK_UINT(count_right(cache, count - 100, 100, 100), 100);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_what_is_read_stays(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	unsigned right = 0;

	put_noise(cache, dir, 0, 40, 40000);
	/* Five times the limit goes by, and some are read from time to time. */
	for (uint64_t round = 1; round <= 20; round++) {
		right = count_right(cache, 0, 40, 40000);
		put_noise(cache, dir, round * 100, 100, 40000);
	}
	CHECK_UINT(right, 40);
	CHECK(counters_of(cache).given_up > 1000);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

#define PIN_COUNT 40
#define PIN_LEN 50000

/* Of one algorithm, as in a repository. */
static uint64_t pinned_number(uint64_t i)
{
	return 5 * i + 3000000;
}

static int pin_them(const char *dir, uint64_t max_len, struct upkeep_pinned *out)
{
	struct oid oids[PIN_COUNT + 1];
	const struct upkeep_pin pin = {
		.name = "some", .oids = oids, .count = PIN_COUNT + 1, .max_len = max_len
	};

	for (uint64_t i = 0; i <= PIN_COUNT; i++) /* one more than there are */
		oids[i] = oid_of(pinned_number(i));
	return upkeep_pin(dir, &pin, out, NULL);
}

static unsigned pinned_right(struct cache *cache)
{
	unsigned right = 0;

	for (uint64_t i = 0; i < PIN_COUNT; i++)
		right += ask(cache, pinned_number(i), PIN_LEN) == RIGHT;
	return right;
}

static void fill_past(const char *dir, uint64_t first)
{
	struct cache *cache = open_limited(dir);

	CHECK(put_noise(cache, dir, first, 1200, 30000) <= LIMIT * 105 / 100);
	cache_close(&cache);
}

static void test_what_is_pinned_stays(void)
{
	char *dir = scratch_dir(), *index = path_of(dir, "v1/index");
	struct cache *cache = open_limited(dir);
	struct upkeep_pinned pinned;
	unsigned right;

	for (uint64_t i = 0; i < PIN_COUNT; i++)
		CHECK_INT(put(cache, pinned_number(i), PIN_LEN), 0);
	cache_close(&cache);
	CHECK_INT(pin_them(dir, 1 * MIB, &pinned), -ENOSPC);
	CHECK_INT(pin_them(dir, LIMIT, &pinned), 0);
	CHECK_UINT(pinned.objects, PIN_COUNT + 1);
	CHECK_UINT(pinned.missing, 1);
	CHECK(pinned.bytes > 0);
	fill_past(dir, 0);
	fill_past(dir, 2000);
	cache = open_limited(dir);
	CHECK_UINT(pinned_right(cache), PIN_COUNT);
	/* What was not there when it was pinned stays, too, once it is. */
	CHECK_INT(put(cache, pinned_number(PIN_COUNT), PIN_LEN), 0);
	cache_close(&cache);
	/* And without the index that saw it. */
	dir_remove(index);
	fill_past(dir, 4000);
	fill_past(dir, 6000);
	cache = open_limited(dir);
	CHECK_UINT(pinned_right(cache), PIN_COUNT);
	CHECK_INT(ask(cache, pinned_number(PIN_COUNT), PIN_LEN), RIGHT);
	cache_close(&cache);
	CHECK_INT(upkeep_unpin(dir, "other", NULL), -ENOENT);
	CHECK_INT(upkeep_unpin(dir, "some", NULL), 0);
	/* Read just now: so the hand passes it twice. */
	for (uint64_t first = 8000; first < 16000; first += 2000)
		fill_past(dir, first);
	cache = open_limited(dir);
	right = pinned_right(cache);
	CHECK_MSG(right < PIN_COUNT / 4, "%u are still here", right);
	cache_close(&cache);
	free(index);
	scratch_remove(dir);
}

/* Wherever pinned records begin and end in their pages. */
static void test_pinned_ones_among_others_stay_whole(void)
{
	char *dir = scratch_dir(), *index = path_of(dir, "v1/index");
	struct cache *cache = open_limited(dir);
	struct oid oids[200];
	const struct upkeep_pin pin = {
		.name = "some", .oids = oids, .count = 200, .max_len = LIMIT
	};
	struct upkeep_pinned pinned;
	uint64_t freed;

	for (uint64_t i = 0; i < 200; i++) {
		oids[i] = oid_of(pinned_number(i));
		CHECK_INT(put(cache, pinned_number(i), 700 + i * 131 % 9000), 0);
		CHECK_INT(put(cache, 600000 + i, 900 + i * 173 % 7000), 0);
	}
	cache_close(&cache);
	CHECK_INT(upkeep_pin(dir, &pin, &pinned, NULL), 0);
	CHECK_UINT(pinned.missing, 0);
	for (unsigned round = 0; round < 3; round++) {
		fill_past(dir, 10000 * round);
		/* Each change of pins has the hand go over everything again. */
		CHECK_INT(upkeep_pin(dir, &pin, &pinned, NULL), 0);
		CHECK_UINT(pinned.missing, 0);
		if (round == 1) {
			dir_remove(index);
			upkeep_shrink(dir, LIMIT / 4, &freed, NULL);
		}
		cache = open_limited(dir);
		for (uint64_t i = 0; i < 200; i++)
			CHECK_INT(ask(cache, pinned_number(i), 700 + i * 131 % 9000), RIGHT);
		CHECK_UINT(counters_of(cache).faults, 0);
		cache_close(&cache);
	}
	free(index);
	scratch_remove(dir);
}

static void test_what_is_forgotten_is_given_back(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	struct upkeep_pinned pinned;
	struct oid oids[300];
	uint64_t before, freed, stay;

	for (uint64_t i = 0; i < 150; i++)
		CHECK_INT(put(cache, pinned_number(i), PIN_LEN), 0);
	for (uint64_t i = 150; i < 152; i++) /* of blocks */
		CHECK_INT(put(cache, pinned_number(i), 1000000), 0);
	cache_flush(cache);
	cache_close(&cache);
	CHECK_INT(pin_them(dir, LIMIT, &pinned), 0);
	before = usage_of(dir);
	for (uint64_t i = 0; i < 300; i++)
		oids[i] = oid_of(pinned_number(i));
	CHECK_INT(upkeep_forget(dir, oids, 300, &freed, &stay, NULL), 0);
	CHECK_UINT(stay, PIN_COUNT + 1);
	CHECK_UINT(usage_of(dir), before - freed);
	CHECK_MSG(freed > before / 3, "%llu of %llu", (unsigned long long)freed,
		  (unsigned long long)before);
	cache = open_limited(dir);
	CHECK_UINT(pinned_right(cache), PIN_COUNT);
	CHECK_INT(ask(cache, pinned_number(60), PIN_LEN), MISS);
	CHECK_INT(ask(cache, pinned_number(151), 1000000), MISS);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_reading_everything_does_not_stop_it(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	uint64_t most = 0;

	for (uint64_t n = 0; n < 1200; n += 20) {
		uint64_t now = put_noise(cache, dir, n, 20, 40000);

		most = now > most ? now : most;
		count_right(cache, n < 400 ? 0 : n - 400, 420, 40000);
	}
	CHECK_MSG(most <= LIMIT + LIMIT / 20, "it took %llu", (unsigned long long)most);
	CHECK_UINT(count_right(cache, 1180, 20, 40000), 20);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_objects_of_blocks_go_as_a_whole(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	unsigned right;

	for (uint64_t n = 0; n < 60; n++) {
		CHECK_INT(put(cache, noise(n), 900000), 0);
		cache_flush(cache);
	}
	right = count_right(cache, 0, 60, 900000);
	CHECK_MSG(right >= 10 && right <= 18, "%u of them are here", right);
	CHECK_UINT(count_right(cache, 59, 1, 900000), 1);
	CHECK_UINT(counters_of(cache).faults, 0);
	/* And again, with what is left of some: it must come out whole or not at all. */
	for (uint64_t n = 0; n < 60; n++) {
		CHECK_INT(put(cache, noise(n), 900000), 0);
		cache_flush(cache);
		CHECK_INT(ask(cache, noise(n), 900000), RIGHT);
	}
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_what_is_too_large_is_not_stored(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);

	put_noise(cache, dir, 0, 10, 40000);
	CHECK_INT(put(cache, noise(20), LIMIT / 2 + 1), -EFBIG);
	cache_flush(cache);
	CHECK_UINT(count_right(cache, 0, 10, 40000), 10);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_a_limit_that_came_later_is_kept(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);

	for (uint64_t n = 0; n < 1000; n++)
		CHECK_INT(put(cache, noise(n), 40000), 0);
	cache_flush(cache);
	CHECK(usage_of(dir) > 2 * LIMIT);
	cache_close(&cache);
	cache = open_limited(dir);
	CHECK_INT(put(cache, noise(5000), 40000), 0);
	cache_flush(cache);
	CHECK(usage_of(dir) <= LIMIT + LIMIT / 20);
	CHECK_INT(ask(cache, noise(5000), 40000), RIGHT);
	CHECK_UINT(count_right(cache, 0, 100, 40000), 0);
	CHECK(count_right(cache, 900, 100, 40000) >= 50);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- readers meanwhile ---- */

struct reader {
	struct cache *cache;
	_Atomic bool stop;
	_Atomic uint64_t newest, wrong, right;
};

static void *read_meanwhile(void *arg)
{
	struct reader *r = arg;
	uint64_t x = 88172645463325252u;

	while (!atomic_load(&r->stop)) {
		uint64_t newest = atomic_load(&r->newest);
		enum answer answer;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		answer = ask(r->cache, noise(newest ? x % newest : 0), 40000);
		if (answer == WRONG)
			atomic_fetch_add(&r->wrong, 1);
		if (answer == RIGHT)
			atomic_fetch_add(&r->right, 1);
	}
	return NULL;
}

static void test_readers_never_see_the_hand(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	struct reader reader = { .cache = cache };
	pthread_t threads[4];
	unsigned tries = 0;
	int rc = 0;

	for (unsigned i = 0; i < 4; i++)
		if (thread_start(&threads[i], "reader", read_meanwhile, &reader))
			abort();
	for (uint64_t n = 0; n < 1500 && rc == 0; n++) {
		/* A full queue on a slow machine is no failure: it empties. */
		do
			rc = put(cache, noise(n), 40000);
		while (rc == -EAGAIN && tries++ < 100);
		atomic_store(&reader.newest, n);
	}
	cache_flush(cache);
	atomic_store(&reader.stop, true);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_INT(rc, 0);
	CHECK_UINT(atomic_load(&reader.wrong), 0);
	CHECK(atomic_load(&reader.right) > 0);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- several processes ---- */

static int child_fill(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache = open_limited(dir);
	unsigned wrong = 0;

	for (uint64_t n = first; n < first + count; n++) {
		if (put(cache, noise(n), 40000))
			return 2;
		wrong += ask(cache, noise(n - n % 7), 40000) == WRONG;
	}
	cache_flush(cache);
	wrong += counters_of(cache).faults > 0;
	cache_close(&cache);
	return wrong ? 1 : 0;
}

static void test_processes_keep_the_limit_together(void)
{
	char *dir = scratch_dir();
	struct child children[8];
	uint64_t most = 0;
	struct cache *cache;

	for (unsigned i = 0; i < 8; i++)
		children[i] = child_start("fill", dir, 100000 * i, 300);
	for (unsigned i = 0; i < 8; i++) {
		CHECK_INT(child_wait(&children[i]), 0);
		most = usage_of(dir) > most ? usage_of(dir) : most;
	}
	CHECK_MSG(most <= LIMIT + LIMIT / 20, "it took %llu", (unsigned long long)most);
	cache = open_limited(dir);
	for (unsigned i = 0; i < 8; i++)
		count_right(cache, 100000 * i, 300, 40000);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_a_killed_process_leaves_no_weight(void)
{
	char *dir = scratch_dir();
	struct cache *cache;

	for (unsigned i = 0; i < 12; i++) {
		struct child child = child_start("fill", dir, 100000 * i, 400);
		uint64_t end = i;

		/* Somewhere in the middle of it, wherever that is. */
		while (usage_of(dir) < LIMIT / 2 && end++ < 100000)
			;
		child_kill(&child);
	}
	cache = open_limited(dir);
	put_noise(cache, dir, 5000000, 20, 40000);
	CHECK_MSG(usage_of(dir) <= LIMIT + LIMIT / 20, "it takes %llu",
		  (unsigned long long)usage_of(dir));
	for (unsigned i = 0; i < 12; i++)
		count_right(cache, 100000 * i, 400, 40000);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

/* Wherever they are stopped, with whatever lock: the others go on. */
static void test_stopped_processes_stop_nobody_else(void)
{
	char *dir = scratch_dir();
	struct child stopped[3], going[3];
	struct cache *cache;
	unsigned rounds = getenv("XCPFS_LONG") ? 6 : 1; /* who waits for a lock waits a second */
	uint64_t x = 88172645463325252u;

	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < 3; i++)
			stopped[i] = child_start("fill", dir, 100000 * i, 400);
		for (unsigned i = 0; i < 3; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			usleep((useconds_t)(x % 40000)); /* which moment it is does not matter */
			kill(stopped[i].pid, SIGSTOP);
		}
		for (unsigned i = 0; i < 3; i++)
			going[i] = child_start("fill", dir, 100000 * (3 + i), 60);
		for (unsigned i = 0; i < 3; i++)
			CHECK_INT(child_wait(&going[i]), 0);
		for (unsigned i = 0; i < 3; i++) {
			kill(stopped[i].pid, SIGCONT);
			CHECK_INT(child_wait(&stopped[i]), 0);
		}
	}
	CHECK_MSG(usage_of(dir) <= LIMIT + LIMIT / 20, "it takes %llu",
		  (unsigned long long)usage_of(dir));
	cache = open_limited(dir);
	for (unsigned i = 0; i < 6; i++)
		count_right(cache, 100000 * i, 400, 40000);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- hits ---- */

/* A cache in which the least recently used one goes first, in bytes. */
struct lru {
	uint64_t when[4096];
	uint64_t len, now;
	unsigned hits;
};

static void lru_read(struct lru *lru, unsigned n, uint64_t each, uint64_t max)
{
	lru->now++;
	if (lru->when[n]) {
		lru->hits++;
	} else {
		lru->len += each;
		while (lru->len > max) {
			unsigned oldest = 4096;

			for (unsigned i = 0; i < 4096; i++)
				if (lru->when[i] &&
				    (oldest == 4096 || lru->when[i] < lru->when[oldest]))
					oldest = i;
			lru->when[oldest] = 0;
			lru->len -= each;
		}
	}
	lru->when[n] = lru->now;
}

/* Few are read often and many seldom: the minimum of two chances, squared. */
static unsigned skewed(uint64_t *x, unsigned count)
{
	double a, b;

	*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
	a = (double)(*x >> 40) / (double)(1 << 24);
	*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
	b = (double)(*x >> 40) / (double)(1 << 24);
	return (unsigned)((a < b ? a * a : b * b) * count);
}

static void test_hits_are_near_those_of_lru(void)
{
	const size_t len = 40000;
	char *dir = scratch_dir();
	struct cache *cache = open_limited(dir);
	struct lru *lru = calloc(1, sizeof(*lru));
	uint64_t x = 88172645463325252u;
	unsigned hits = 0, reads = 8000;

	for (unsigned i = 0; i < reads; i++) {
		unsigned n = skewed(&x, 2000);

		lru_read(lru, n, len + 200, LIMIT);
		if (ask(cache, noise(n), len) == RIGHT) {
			hits++;
			continue;
		}
		CHECK_INT(put(cache, noise(n), len), 0);
		cache_flush(cache);
	}
	CHECK_MSG(hits * 100 + 5 * reads >= lru->hits * 100, "%u of %u hits, LRU has %u", hits,
		  reads, lru->hits);
	CHECK(lru->hits > reads / 4 && lru->hits < reads * 9 / 10);
	free(lru);
	cache_close(&cache);
	scratch_remove(dir);
}

static const struct child_row {
	const char *name;
	int (*run)(const char *dir, uint64_t first, uint64_t count);
} child_rows[] = { { "fill", child_fill } };

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "--child"))
		for (size_t i = 0; i < sizeof(child_rows) / sizeof(*child_rows); i++)
			if (!strcmp(argv[2], child_rows[i].name))
				return child_rows[i].run(argv[3], strtoull(argv[4], NULL, 10),
							 strtoull(argv[5], NULL, 10));
	tap_args(argv);
	TAP_RUN(test_recency_goes_from_one_process_to_another);
	TAP_RUN(test_recency_file_format_is_locked);
	TAP_RUN(test_recency_survives_any_file);
	TAP_RUN(test_directory_stays_below_its_limit);
	TAP_RUN(test_a_full_index_makes_room);
	TAP_RUN(test_what_is_read_stays);
	TAP_RUN(test_what_is_pinned_stays);
	TAP_RUN(test_pinned_ones_among_others_stay_whole);
	TAP_RUN(test_what_is_forgotten_is_given_back);
	TAP_RUN(test_reading_everything_does_not_stop_it);
	TAP_RUN(test_objects_of_blocks_go_as_a_whole);
	TAP_RUN(test_what_is_too_large_is_not_stored);
	TAP_RUN(test_a_limit_that_came_later_is_kept);
	TAP_RUN(test_readers_never_see_the_hand);
	TAP_RUN(test_processes_keep_the_limit_together);
	TAP_RUN(test_a_killed_process_leaves_no_weight);
	TAP_RUN(test_stopped_processes_stop_nobody_else);
	TAP_RUN(test_hits_are_near_those_of_lru);
	return tap_done();
}
