/*
 * The cache as its callers see it: what was put is found, what is damaged is a miss, whatever
 * happens to the directory, the disk, or the other processes.
 */
#include "cache/cache.h"

#include <dirent.h>
#include <lmdb.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/log.h"
#include "cache/index.h"
#include "tests/cache_support.h"

static const size_t edge_lens[] = { 0,
				    1,
				    2,
				    100,
				    CACHE_BLOCK_LEN - 1,
				    CACHE_BLOCK_LEN,
				    CACHE_BLOCK_LEN + 1,
				    2 * CACHE_BLOCK_LEN,
				    1024 * 1024,
				    1024 * 1024 + 1,
				    3 * 1024 * 1024 + 17 };
#define EDGE_COUNT (sizeof(edge_lens) / sizeof(edge_lens[0]))

/*
 * Reads [off, off+len) and compares; the number of bytes that came, or -errno; -EBADMSG: wrong
 * ones.
 */
static ssize_t read_and_compare(struct cache *cache, uint64_t n, size_t size, uint64_t off,
				size_t len)
{
	struct spans spans = SPANS_INIT;
	struct oid oid = oid_of(n);
	uint8_t *want = malloc(size + 1);
	ssize_t done = 0;
	int rc = cache_read(cache, &oid, off, len, &spans);

	bytes_fill(n, want, size);
	for (unsigned i = 0; rc == 0 && i < spans.count; i++) {
		const struct span *span = &spans.v[i];

		if (off + (size_t)done + span->len > size ||
		    memcmp(want + off + done, span->block->data + span->off, span->len) != 0)
			rc = -EBADMSG;
		done += (ssize_t)span->len;
	}
	if (rc == 0 && (size_t)done != spans.len)
		rc = -EBADMSG;
	spans_release(&spans);
	free(want);
	return rc ? rc : done;
}

static void check_edges(struct cache *cache)
{
	for (uint64_t n = 0; n < EDGE_COUNT; n++) {
		size_t size = edge_lens[n];
		struct cache_stat st;
		struct oid oid = oid_of(n);

		CHECK_INT(cache_stat(cache, &oid, &st), 0);
		CHECK_UINT(st.size, size);
		CHECK_INT(st.type, type_of(n));
		CHECK(st.has_content);
		CHECK_MSG(ask(cache, n, size) == RIGHT, "size %zu", size);
		for (size_t i = 0; i < EDGE_COUNT; i++) {
			for (int d = -1; d <= 1; d++) {
				uint64_t off = edge_lens[i] + (uint64_t)d;
				size_t len = i % 2 ? 1024 * 1024 : CACHE_BLOCK_LEN + 3;
				size_t want = off >= size      ? 0 :
					      size - off < len ? (size_t)(size - off) :
								 len;

				CHECK_MSG(read_and_compare(cache, n, size, off, len) ==
						  (ssize_t)want,
					  "size %zu off %ju len %zu", size, (uintmax_t)off, len);
			}
		}
		CHECK_INT(read_and_compare(cache, n, size, 0, 0), 0);
	}
}

static void put_edges(struct cache *cache)
{
	for (uint64_t n = 0; n < EDGE_COUNT; n++)
		if (put(cache, n, edge_lens[n]))
			abort();
}

static void test_what_is_put_is_found_at_once_and_for_ever(void)
{
	struct cache_config config = { .dir = scratch_dir() };
	struct cache *cache = open_with(&config, NULL);

	put_edges(cache);
	check_edges(cache);
	TAP_STOP();
	cache_flush(cache);
	CHECK_UINT(counters_of(cache).pending, 0);
	CHECK(!counters_of(cache).degraded);
	check_edges(cache);
	TAP_STOP();
	check_edges(cache); /* now from memory */
	TAP_STOP();
	cache_close(&cache);
	cache = open_with(&config, NULL);
	check_edges(cache);
	TAP_STOP();
	CHECK_UINT(counters_of(cache).misses, 0);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	CHECK_NULL(cache);
	scratch_remove((char *)config.dir);
}

static void test_what_was_never_put_is_a_miss(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct oid oid = oid_of(1);
	struct cache_stat st;
	struct content *content;
	struct spans spans = SPANS_INIT;
	struct buf value = BUF_INIT;

	CHECK_INT(cache_stat(cache, &oid, &st), -ENOENT);
	CHECK_INT(cache_get(cache, &oid, SIZE_MAX, &content), -ENOENT);
	CHECK_INT(cache_read(cache, &oid, 0, 10, &spans), -ENOENT);
	CHECK_INT(cache_read(cache, &oid, UINT64_MAX - 3, 10, &spans), -ENOENT);
	CHECK_INT(cache_read(cache, &oid, 0, 1024 * 1024 + 1, &spans), -EINVAL);
	CHECK_INT(cache_fact_get(cache, "ref", "a", 1, &value, NULL), -ENOENT);
	CHECK_UINT(counters_of(cache).misses, 3);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_get_refuses_what_is_too_large(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct content *content;
	struct oid oid = oid_of(1);

	CHECK_INT(put(cache, 1, 5000), 0);
	CHECK_INT(cache_get(cache, &oid, 4999, &content), -EFBIG);
	cache_flush(cache);
	CHECK_INT(cache_get(cache, &oid, 4999, &content), -EFBIG);
	CHECK_INT(cache_get(cache, &oid, 5000, &content), 0);
	content_unref(content);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_large_content_comes_from_its_file(void)
{
	const size_t size = 5 * 1024 * 1024 + 12345;
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct content *content = content_in_file(1, size);

	CHECK_INT(cache_put(cache, content, 0), 0);
	content_unref(content);
	CHECK_INT(put(cache, 2, 100), 0); /* need not wait for it */
	CHECK_INT(read_and_compare(cache, 1, size, size - 10, 1000), 10);
	CHECK_INT(read_and_compare(cache, 1, size, 131000, 1024 * 1024), 1024 * 1024);
	cache_flush(cache);
	cache_close(&cache);
	cache = open_at(dir);
	CHECK_INT(ask(cache, 1, size), RIGHT);
	CHECK_INT(ask(cache, 2, 100), RIGHT);
	CHECK_INT(read_and_compare(cache, 1, size, size - 10, 1000), 10);
	CHECK_INT(read_and_compare(cache, 1, size, size, 1000), 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_a_file_that_was_cut_is_dropped_not_stored(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct content *content = content_in_file(1, 3000000);

	if (ftruncate(content->fd, 1000))
		abort();
	CHECK_INT(cache_put(cache, content, 0), 0);
	content_unref(content);
	cache_flush(cache);
	CHECK_INT(ask(cache, 1, 3000000), MISS);
	CHECK_UINT(counters_of(cache).dropped, 1);
	CHECK_INT(put(cache, 2, 100), 0);
	cache_flush(cache);
	CHECK_INT(ask(cache, 2, 100), RIGHT);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_senseless_content_is_refused(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct oid oid = { .algo = 9 };
	struct content *content = content_from_block_take(&oid, OBJECT_BLOB, block_copy("x", 1));

	CHECK_INT(cache_put(cache, content, 0), -EINVAL);
	content_unref(content);
	oid = oid_of(1);
	content = content_from_block_take(&oid, OBJECT_NONE, block_copy("x", 1));
	CHECK_INT(cache_put(cache, content, 0), -EINVAL);
	content_unref(content);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- sizes ---- */

static void check_size(struct cache *cache, uint64_t n, uint64_t size, bool has_content)
{
	struct oid oid = oid_of(n);
	struct cache_stat st;

	CHECK_INT(cache_stat(cache, &oid, &st), 0);
	CHECK_UINT(st.size, size);
	CHECK_INT(st.has_content, has_content);
}

static void test_sizes_are_known_without_content(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct cache_size sizes[3] = { { oid_of(1), 11 },
				       { oid_of(2), (uint64_t)1 << 40 },
				       { oid_of(3), 33 } };
	struct cache_info info;

	CHECK_INT(put(cache, 3, 3000), 0);
	CHECK_INT(cache_put_sizes(cache, sizes, 3), 0);
	for (unsigned round = 0; round < 3; round++) {
		check_size(cache, 1, 11, false);
		TAP_STOP();
		check_size(cache, 2, (uint64_t)1 << 40, false);
		TAP_STOP();
		check_size(cache, 3, 3000, true); /* content knows better */
		TAP_STOP();
		CHECK_INT(ask(cache, 1, 11), MISS);
		cache_flush(cache);
		if (round == 1) {
			cache_close(&cache);
			cache = open_at(dir);
		}
	}
	CHECK_INT(put(cache, 1, 11), 0);
	cache_flush(cache);
	check_size(cache, 1, 11, true);
	TAP_STOP();
	CHECK_INT(cache_info(dir, &info, NULL), 0);
	CHECK_UINT(info.size_only_count, 1);
	CHECK_UINT(info.object_count, 2);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_many_sizes(void)
{
	enum { COUNT = 50000 };
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct cache_size *sizes = calloc(COUNT, sizeof(*sizes));

	for (uint64_t n = 0; n < COUNT; n++)
		sizes[n] = (struct cache_size){ oid_of(n), n * 3 };
	CHECK_INT(cache_put_sizes(cache, sizes, COUNT), 0);
	cache_close(&cache);
	cache = open_at(dir);
	for (uint64_t n = 0; n < COUNT; n += 97) {
		check_size(cache, n, n * 3, false);
		TAP_STOP();
	}
	cache_close(&cache);
	free(sizes);
	scratch_remove(dir);
}

/* ---- facts ---- */

static void check_fact(struct cache *cache, const char *kind, const void *key, size_t key_len,
		       const void *value, size_t value_len)
{
	struct buf got = BUF_INIT;
	int64_t stored_s = 0;

	CHECK_INT(cache_fact_get(cache, kind, key, key_len, &got, &stored_s), 0);
	CHECK_MEM(got.data, got.len, value, value_len);
	CHECK(stored_s >= time(NULL) - 1000 && stored_s <= time(NULL) + 1);
	buf_release(&got);
}

static void test_facts(void)
{
	static uint8_t key[65537], value[300000];
	static const size_t key_lens[] = { 0, 1, 20, 506, 507, 508, 509, 1000, 65536 };
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct buf got = BUF_INIT;

	bytes_fill(0, key, sizeof(key));
	bytes_fill(3, value, sizeof(value));
	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(key_lens) / sizeof(key_lens[0]); i++) {
			if (round == 0)
				CHECK_INT(cache_fact_put(cache, "ref", key, key_lens[i], value + i,
							 50 * i),
					  0);
			check_fact(cache, "ref", key, key_lens[i], value + i, 50 * i);
			TAP_STOP();
			CHECK_INT(cache_fact_get(cache, "re", key, key_lens[i], &got, NULL),
				  -ENOENT);
		}
		cache_flush(cache);
		if (round == 1) {
			cache_close(&cache);
			cache = open_at(dir);
		}
	}
	/* One byte of difference in a key that is hashed. */
	key[65535] ^= 1;
	CHECK_INT(cache_fact_get(cache, "ref", key, 65536, &got, NULL), -ENOENT);
	CHECK_INT(cache_fact_put(cache, "ref", key, 65537, "", 0), -EINVAL);
	CHECK_INT(cache_fact_put(cache, "large", "k", 1, value, sizeof(value)), 0);
	check_fact(cache, "large", "k", 1, value, sizeof(value));
	TAP_STOP();
	cache_flush(cache);
	check_fact(cache, "large", "k", 1, value, sizeof(value));
	TAP_STOP();
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_a_fact_put_again_is_the_newer_one(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	char value[16];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(value, sizeof(value), "%u", i);
		CHECK_INT(cache_fact_put(cache, "ref", "HEAD", 4, value, strlen(value)), 0);
		check_fact(cache, "ref", "HEAD", 4, value, strlen(value));
		TAP_STOP();
	}
	cache_flush(cache);
	check_fact(cache, "ref", "HEAD", 4, "1999", 4);
	TAP_STOP();
	cache_close(&cache);
	cache = open_at(dir);
	check_fact(cache, "ref", "HEAD", 4, "1999", 4);
	TAP_STOP();
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- not twice ---- */

static unsigned segment_count(const char *dir)
{
	struct cache_info info;

	return cache_info(dir, &info, NULL) ? 0 : (unsigned)info.segment_count;
}

static void test_what_is_here_is_not_stored_again(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	uint64_t stored;

	put_edges(cache);
	cache_flush(cache);
	stored = counters_of(cache).stored_bytes;
	CHECK(stored > 0);
	put_edges(cache);
	cache_flush(cache);
	CHECK_UINT(counters_of(cache).stored_bytes, stored);
	cache_close(&cache);
	cache = open_at(dir);
	put_edges(cache);
	cache_flush(cache);
	CHECK_UINT(counters_of(cache).stored_bytes, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_many_short_processes_leave_one_segment(void)
{
	char *dir = scratch_dir();

	for (uint64_t n = 0; n < 40; n++) {
		struct child child = child_start("put", dir, n, 1);

		CHECK_INT(child_wait(&child), 0);
	}
	CHECK_UINT(segment_count(dir), 1);
	struct cache *cache = open_at(dir);
	for (uint64_t n = 0; n < 40; n++)
		CHECK_INT(ask(cache, n, len_of(n)), RIGHT);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_segments_are_rolled(void)
{
	char *dir = scratch_dir();
	struct cache_config config = { .dir = dir,
				       .segment_max_len = 64 * 1024,
				       .memory_max_len = 1 };
	struct cache *cache = open_with(&config, NULL);

	for (uint64_t n = 0; n < 300; n++) {
		CHECK_INT(put(cache, n, len_of(n)), 0);
		if (n % 10 == 0)
			cache_flush(cache);
	}
	cache_flush(cache);
	CHECK(segment_count(dir) > 3);
	for (uint64_t n = 0; n < 300; n++)
		CHECK_INT(ask(cache, n, len_of(n)), RIGHT);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- several processes, and dead ones ---- */

static int child_put(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache = open_at(dir);
	int wrong = 0;

	for (uint64_t n = first; n < first + count; n++)
		wrong += put(cache, n, len_of(n)) != 0;
	cache_flush(cache);
	wrong += counters_of(cache).degraded;
	for (uint64_t n = first; n < first + count; n++)
		wrong += ask(cache, n, len_of(n)) != RIGHT;
	cache_close(&cache);
	return wrong ? 1 : 0;
}

static int child_put_for_ever(const char *dir, uint64_t first, uint64_t count)
{
	struct cache_config config = { .dir = dir,
				       .memory_max_len = 1,
				       .segment_max_len = 1024 * 1024 };
	struct cache *cache = open_with(&config, NULL);

	for (uint64_t n = first;; n = first + (n + 1 - first) % count) {
		if (put(cache, n, len_of(n)) == 0 && ask(cache, n, len_of(n)) != RIGHT)
			return 1;
		if (n == first && write(STDOUT_FILENO, "r", 1) != 1)
			return 1;
	}
}

static int child_check(const char *dir, uint64_t first, uint64_t count)
{
	struct cache *cache = open_at(dir);
	int rc = 0;

	for (uint64_t n = first; n < first + count; n++)
		if (ask(cache, n, len_of(n)) != RIGHT)
			rc = 1;
	cache_close(&cache);
	return rc;
}

/* Holds the lock file `dir` till it is killed. */
static int child_hold(const char *dir, uint64_t first, uint64_t count)
{
	int fd = open(dir, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)first, (void)count;
	if (fd < 0 || flock(fd, LOCK_EX) || write(STDOUT_FILENO, "r", 1) != 1)
		return 1;
	for (;;)
		pause();
}

/* In a PID namespace of its own, as process 1. */
static int child_in_namespace(const char *dir, uint64_t first, uint64_t count)
{
	pid_t pid;
	int status;

	if (unshare(CLONE_NEWPID))
		return 77;
	pid = fork();
	if (pid == 0) {
		/*
		 * /proc/self is the outer one's here, as nobody mounted a new /proc; so mount
		 * one.
		 */
		if (unshare(CLONE_NEWNS) || mount("none", "/", "", MS_REC | MS_PRIVATE, NULL) ||
		    mount("proc", "/proc", "proc", 0, NULL))
			_exit(77);
		_exit(child_put(dir, first, count));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void test_two_processes_at_once(void)
{
	char *dir = scratch_dir();
	struct child children[4];
	struct cache *cache;
	struct cache_info info;

	/* Overlapping by half. */
	for (unsigned i = 0; i < 4; i++)
		children[i] = child_start("put", dir, i * 100, 200);
	for (unsigned i = 0; i < 4; i++)
		CHECK_INT(child_wait(&children[i]), 0);
	cache = open_at(dir);
	for (uint64_t n = 0; n < 500; n++)
		CHECK_MSG(ask(cache, n, len_of(n)) == RIGHT, "number %u", (unsigned)n);
	cache_close(&cache);
	CHECK_INT(cache_info(dir, &info, NULL), 0);
	CHECK_UINT(info.object_count, 500);
	CHECK(info.segment_count <= 4);
	/* Nothing was stored twice, but for large objects that both were writing. */
	CHECK(info.disk_bytes - info.index_bytes < info.stored_bytes * 12 / 10 + 65536);
	scratch_remove(dir);
}

static void test_a_writer_killed_at_any_moment_leaves_nothing_wrong(void)
{
	enum { ROUNDS = 25, COUNT = 400 };
	char *dir = scratch_dir();
	unsigned found = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct child child = child_start("put_for_ever", dir, round * 50, COUNT);
		struct timespec moment = { .tv_nsec = (long)(round * 7919 % 60) * 1000000 };
		struct cache *cache;

		CHECK(child_hear(&child));
		nanosleep(&moment, NULL); /* any moment is a good one */
		CHECK_INT(child_kill(&child), 128 + SIGKILL);
		cache = open_at(dir);
		for (uint64_t n = 0; n < round * 50 + COUNT; n++) {
			enum answer answer = ask(cache, n, len_of(n));

			CHECK_MSG(answer != WRONG, "round %u, number %u", round, (unsigned)n);
			found += answer == RIGHT;
		}
		CHECK_UINT(counters_of(cache).faults, 0);
		CHECK(!counters_of(cache).degraded);
		cache_close(&cache);
	}
	CHECK(found > ROUNDS);
	CHECK(segment_count(dir) < 40);
	scratch_remove(dir);
}

/* The leak sanitizer cannot work across namespaces. */
static struct child namespace_start(const char *dir, uint64_t first, uint64_t count)
{
	char *before = getenv("ASAN_OPTIONS") ? strdup(getenv("ASAN_OPTIONS")) : NULL;
	struct child child;

	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	child = child_start("in_namespace", dir, first, count);
	if (before)
		setenv("ASAN_OPTIONS", before, 1);
	else
		unsetenv("ASAN_OPTIONS");
	free(before);
	return child;
}

static void test_another_pid_namespace_shares_the_directory(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct child child;
	int status;

	CHECK_INT(put(cache, 1, len_of(1)), 0);
	cache_flush(cache);
	child = namespace_start(dir, 100, 50);
	status = child_wait(&child);
	if (status == 77) {
		cache_close(&cache);
		scratch_remove(dir);
		TAP_SKIP("PID namespaces may not be made here");
	}
	CHECK_INT(status, 0);
	CHECK_INT(put(cache, 2, len_of(2)), 0);
	cache_flush(cache);
	CHECK(!counters_of(cache).degraded);
	CHECK_INT(ask(cache, 1, len_of(1)), RIGHT);
	CHECK_INT(ask(cache, 2, len_of(2)), RIGHT);
	cache_close(&cache);
	/* Now that nobody uses the first index, the next namespace takes that one over. */
	child = namespace_start(dir, 1, 2);
	CHECK_INT(child_wait(&child), 0);
	child = child_start("check", dir, 1, 2);
	CHECK_INT(child_wait(&child), 0);
	scratch_remove(dir);
}

/* ---- the disk does not want ---- */

static void test_a_stopped_lock_holder_degrades_and_its_end_recovers(void)
{
	char *dir = scratch_dir();
	char *lock_path = path_of(dir, "v1/write.lock");
	struct cache_config config = { .dir = dir,
				       .queue_max_len = 256 * 1024,
				       .memory_max_len = 1 };
	struct cache *cache = open_with(&config, NULL);
	struct child child = child_start("hold", lock_path, 0, 0);
	struct cache_counters counters;

	CHECK(child_hear(&child));
	kill(child.pid, SIGSTOP);
	CHECK_INT(put(cache, 1, 5000), 0);
	CHECK_INT(ask(cache, 1, 5000), RIGHT);
	cache_flush(cache); /* comes back although nothing can be written */
	counters = counters_of(cache);
	CHECK(counters.degraded);
	CHECK_CONTAINS(counters.degraded_why, "write.lock");
	CHECK_UINT(counters.pending, 1);
	/* More than there is room for: the newest are kept. */
	for (uint64_t n = 2; n < 102; n++)
		CHECK_INT(put(cache, n, 5000), 0);
	counters = counters_of(cache);
	CHECK(counters.pending_bytes <= 256 * 1024);
	CHECK(counters.dropped > 0);
	CHECK_INT(ask(cache, 101, 5000), RIGHT);
	CHECK_INT(ask(cache, 20, 5000), MISS);
	child_kill(&child);
	cache_flush(cache);
	counters = counters_of(cache);
	CHECK(!counters.degraded);
	CHECK_STR(counters.degraded_why, "");
	CHECK_UINT(counters.pending, 0);
	CHECK_INT(ask(cache, 101, 5000), RIGHT);
	cache_close(&cache);
	cache = open_at(dir);
	CHECK_INT(ask(cache, 101, 5000), RIGHT);
	cache_close(&cache);
	free(lock_path);
	scratch_remove(dir);
}

static void test_a_full_queue_is_waited_for_and_then_refused(void)
{
	char *dir = scratch_dir();
	char *lock_path = path_of(dir, "v1/write.lock");
	struct cache_config config = { .dir = dir, .queue_max_len = 100 * 1024 };
	struct cache *cache = open_with(&config, NULL);
	struct child child = child_start("hold", lock_path, 0, 0);
	struct content *a = content_of(1, 90 * 1024), *b = content_of(2, 90 * 1024);

	CHECK(child_hear(&child));
	CHECK_INT(cache_put(cache, a, 0), 0);
	CHECK_INT(cache_put(cache, a, 0), 0); /* the same again needs no room */
	if (!counters_of(cache).degraded)     /* within the writer's first second */
		CHECK_INT(cache_put(cache, b, 0), -EAGAIN);
	child_kill(&child);
	cache_flush(cache);
	CHECK_INT(cache_put(cache, b, 2000), 0);
	content_unref(a);
	content_unref(b);
	cache_close(&cache);
	free(lock_path);
	scratch_remove(dir);
}

static void test_closing_with_a_stopped_lock_holder_ends(void)
{
	char *dir = scratch_dir();
	char *lock_path = path_of(dir, "v1/write.lock");
	struct cache *cache = open_at(dir);
	struct child child = child_start("hold", lock_path, 0, 0);

	CHECK(child_hear(&child));
	kill(child.pid, SIGSTOP);
	CHECK_INT(put(cache, 1, 5000), 0);
	cache_close(&cache);
	/* Opening does not need that lock, but the one for opening. */
	cache = open_at(dir);
	CHECK(!counters_of(cache).degraded);
	cache_close(&cache);
	child_kill(&child);
	free(lock_path);
	scratch_remove(dir);
}

static void test_a_cache_that_cannot_be_opened_lives_in_memory(void)
{
	char *dir = scratch_dir();
	char *file = path_of(dir, "file"), *below = path_of(dir, "file/cache");
	struct cache_config config = { .dir = below, .queue_max_len = 64 * 1024 };
	struct xcp_error err = { .code = 0 };
	struct cache *cache;
	int fd;

	file_write(file, "", 0);
	cache = open_with(&config, &err);
	CHECK_INT(err.code, -ENOTDIR);
	CHECK_CONTAINS(err.message, below);
	CHECK(counters_of(cache).degraded);
	for (uint64_t n = 0; n < 50; n++) {
		CHECK_INT(put(cache, n, 5000), 0);
		CHECK_INT(ask(cache, n, 5000), RIGHT);
	}
	CHECK_INT(ask(cache, 0, 5000), MISS);
	cache_flush(cache);
	CHECK_INT(ask(cache, 49, 5000), RIGHT);
	fd = cache_tmpfile(cache);
	CHECK(fd >= 0);
	close(fd);
	/* The obstacle goes away: it recovers by itself. */
	unlink(file);
	cache_flush(cache);
	CHECK(!counters_of(cache).degraded);
	CHECK_UINT(counters_of(cache).pending, 0);
	cache_close(&cache);
	cache = open_at(below);
	CHECK_INT(ask(cache, 49, 5000), RIGHT);
	cache_close(&cache);
	free(file);
	free(below);
	scratch_remove(dir);
}

#define FILLER_LEN ((size_t)2 * 1024 * 1024)

static void file_add(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (len > FILLER_LEN)
		len = FILLER_LEN;
	if (fd < 0 || write(fd, bytes, len) < 0)
		abort();
	close(fd);
}

static bool small_disk_mount(const char *dir, const char *options)
{
	static bool own_mounts;

	if (!own_mounts &&
	    (unshare(CLONE_NEWNS) || mount("none", "/", "", MS_REC | MS_PRIVATE, NULL)))
		return false;
	own_mounts = true;
	return mount("small", dir, "tmpfs", 0, options) == 0;
}

/* First by giving up what is older; when there is nothing left to give up, in memory. */
static void test_a_full_disk_makes_room_then_degrades_and_recovers(void)
{
	char *dir = scratch_dir();
	char *filler = path_of(dir, "filler"), *cache_dir = path_of(dir, "cache");
	static uint8_t zeros[FILLER_LEN];
	struct cache_config config = { .dir = cache_dir,
				       .queue_max_len = 8 * 1024 * 1024,
				       .memory_max_len = 1 };
	struct cache *cache;
	struct statvfs fs;
	uint64_t n;

	if (!small_disk_mount(dir, "size=5m")) {
		scratch_remove(dir);
		TAP_SKIP("a small file system may not be mounted here");
	}
	file_write(filler, zeros, sizeof(zeros));
	cache = open_with(&config, NULL);
	for (n = 0; n < 300; n += 3) {
		CHECK_INT(put(cache, n, 50000), 0);
		cache_flush(cache);
		CHECK_INT(ask(cache, n, 50000), RIGHT);
	}
	CHECK(!counters_of(cache).degraded);
	CHECK(counters_of(cache).given_up > 20);
	CHECK_INT(ask(cache, 0, 50000), MISS);
	CHECK_INT(statvfs(dir, &fs), 0);
	CHECK_MSG(fs.f_bavail * 20 >= fs.f_blocks, "%llu blocks are free",
		  (unsigned long long)fs.f_bavail);
	/* Others take the rest: what is left of the cache goes, and it is not enough. */
	while (statvfs(dir, &fs) == 0 && fs.f_bavail > 0)
		file_add(filler, zeros, fs.f_bavail * fs.f_bsize);
	for (; n < 3000 && !counters_of(cache).degraded; n += 3) {
		CHECK_INT(put(cache, n, 50000), 0);
		cache_flush(cache);
		CHECK_INT(ask(cache, n, 50000), RIGHT);
		while (statvfs(dir, &fs) == 0 && fs.f_bavail > 0)
			file_add(filler, zeros, fs.f_bavail * fs.f_bsize);
	}
	CHECK(counters_of(cache).degraded);
	CHECK(*counters_of(cache).degraded_why);
	CHECK_INT(ask(cache, n - 3, 50000), RIGHT);
	unlink(filler);
	cache_flush(cache);
	CHECK(!counters_of(cache).degraded);
	cache_close(&cache);
	cache = open_with(&config, NULL);
	CHECK_INT(ask(cache, n - 3, 50000), RIGHT);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	umount(dir);
	free(filler);
	free(cache_dir);
	scratch_remove(dir);
}

static void test_a_read_only_disk_serves_and_degrades(void)
{
	char *dir = scratch_dir();
	struct cache *cache;
	struct xcp_error err = { .code = 0 };
	struct cache_config config = { .dir = dir };

	if (!small_disk_mount(dir, "size=8m")) {
		scratch_remove(dir);
		TAP_SKIP("a small file system may not be mounted here");
	}
	cache = open_at(dir);
	CHECK_INT(put(cache, 1, 5000), 0);
	cache_close(&cache);
	CHECK_INT(mount("none", dir, "", MS_REMOUNT | MS_RDONLY | MS_BIND, NULL), 0);
	cache = open_with(&config, &err);
	CHECK(err.code != 0);
	CHECK_INT(put(cache, 2, 5000), 0);
	CHECK_INT(ask(cache, 2, 5000), RIGHT);
	CHECK(counters_of(cache).degraded);
	CHECK_INT(mount("none", dir, "", MS_REMOUNT | MS_BIND, NULL), 0);
	cache_flush(cache);
	CHECK_STR(counters_of(cache).degraded_why, "");
	CHECK_INT(ask(cache, 1, 5000), RIGHT);
	cache_close(&cache);
	umount(dir);
	scratch_remove(dir);
}

/* ---- damage ---- */

static char *only_segment(const char *dir)
{
	char *segments = path_of(dir, "v1/segments"), *path = NULL;
	DIR *d = opendir(segments);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.') {
			free(path);
			path = path_of(segments, entry->d_name);
		}
	if (d)
		closedir(d);
	free(segments);
	return path;
}

/* One by one, so that everything has the same place each time. */
static void make_three(const char *dir)
{
	struct cache *cache = open_at(dir);

	for (uint64_t n = 0; n < 3; n++) {
		if (put(cache, n, 300 + (size_t)n))
			abort();
		cache_flush(cache);
	}
	if (cache_fact_put(cache, "ref", "HEAD", 4, "the value of the fact", 21))
		abort();
	cache_close(&cache);
}

static void test_flipped_bits_in_a_segment_are_misses_and_heal(void)
{
	char *dir = scratch_dir();
	char *path;
	uint8_t *bytes;
	size_t len;
	unsigned misses = 0;

	make_three(dir);
	path = only_segment(dir);
	bytes = file_read(path, &len);
	for (size_t i = 3; i < len; i += 29) {
		uint8_t flipped = bytes[i] ^ (uint8_t)(1u << i % 8);
		struct cache *cache;

		file_poke(path, i, &flipped, 1);
		cache = open_at(dir);
		for (uint64_t n = 0; n < 3; n++) {
			enum answer answer = ask(cache, n, 300 + (size_t)n);

			CHECK_MSG(answer != WRONG, "byte %zu", i);
			if (answer == RIGHT)
				continue;
			misses++;
			CHECK(counters_of(cache).faults > 0);
			CHECK_INT(put(cache, n, 300 + (size_t)n), 0);
			cache_flush(cache);
			CHECK_MSG(ask(cache, n, 300 + (size_t)n) == RIGHT, "byte %zu heals", i);
		}
		cache_close(&cache);
		/* As it was, with everything in its first place. */
		dir_remove(dir);
		mkdir(dir, 0700);
		make_three(dir);
		free(path);
		free(bytes);
		path = only_segment(dir);
		bytes = file_read(path, &len);
	}
	CHECK(misses > 10);
	free(path);
	free(bytes);
	scratch_remove(dir);
}

/* Everything of the directory but what `skip` says, byte by byte. */
static void check_still_sane(const char *dir, size_t at)
{
	struct cache *cache = open_at(dir);
	struct buf value = BUF_INIT;
	int rc;

	for (uint64_t n = 0; n < 3; n++) {
		CHECK_MSG(ask(cache, n, 300 + (size_t)n) != WRONG, "byte %zu", at);
		CHECK_INT(put(cache, n, 300 + (size_t)n), 0);
	}
	rc = cache_fact_get(cache, "ref", "HEAD", 4, &value, NULL);
	CHECK_MSG(rc == -ENOENT || (rc == 0 && value.len == 21 &&
				    !memcmp(value.data, "the value of the fact", 21)),
		  "byte %zu: %d", at, rc);
	buf_release(&value);
	cache_flush(cache);
	cache_flush(cache); /* the first may have told the writer to forget something */
	for (uint64_t n = 0; n < 3; n++) {
		enum answer answer = ask(cache, n, 300 + (size_t)n);

		if (answer == MISS && put(cache, n, 300 + (size_t)n) == 0) {
			cache_flush(cache);
			answer = ask(cache, n, 300 + (size_t)n);
		}
		CHECK_MSG(answer == RIGHT, "byte %zu heals", at);
	}
	cache_close(&cache);
}

/*
 * Flips a bit of the value of `key` in LMDB's file, at its byte `off`; returns how long the value is.
 * What lies around it is LMDB's own, and so is a page that merely shows an old copy of it still: a
 * bit flipped there may end the process inside the library.
 */
static size_t value_flip(const char *index_dir, const char *db, MDB_val key, size_t off)
{
	char *path = path_of(index_dir, "data.mdb");
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_val value;
	MDB_stat stat;
	size_t page, in_page;
	uint8_t flipped;

	if (mdb_env_create(&env) || mdb_env_set_maxdbs(env, 1) ||
	    mdb_env_open(env, index_dir, MDB_RDONLY | MDB_NOLOCK, 0) ||
	    mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) || mdb_dbi_open(txn, db, 0, &dbi) ||
	    mdb_stat(txn, dbi, &stat) || mdb_get(txn, dbi, &key, &value))
		abort();
	in_page = (uintptr_t)value.mv_data % stat.ms_psize;
	memcpy(&page, (uint8_t *)value.mv_data - in_page,
	       sizeof(page)); /* begins with its number */
	flipped = ((uint8_t *)value.mv_data)[off] ^ (uint8_t)(1u << off % 8);
	mdb_txn_abort(txn);
	mdb_env_close(env);
	file_poke(path, page * stat.ms_psize + in_page + off, &flipped, 1);
	free(path);
	return value.mv_size;
}

static void test_flipped_bits_in_index_values_are_misses_and_heal(void)
{
	char *dir = scratch_dir();
	char *index_dir = path_of(dir, "v1/index");
	struct oid oid = oid_of(1);
	uint8_t oid_key[21] = { oid.algo };
	char fact_key[] = "ref\0kHEAD";
	const struct {
		const char *db;
		MDB_val key;
		size_t len;
	} rows[] = { { "objects", { sizeof(oid_key), oid_key }, 72 },
		     { "facts", { sizeof(fact_key) - 1, fact_key }, 16 + 21 + 8 } };

	memcpy(oid_key + 1, oid.hash, 20);
	for (size_t row = 0; row < 2; row++) {
		for (size_t off = 0; off < rows[row].len; off += 3) {
			make_three(dir);
			CHECK_UINT(value_flip(index_dir, rows[row].db, rows[row].key, off),
				   rows[row].len);
			check_still_sane(dir, off);
			TAP_STOP();
			dir_remove(dir);
			mkdir(dir, 0700);
		}
	}
	free(index_dir);
	scratch_remove(dir);
}

static void test_a_cut_zeroed_or_missing_segment_is_a_miss_and_heals(void)
{
	static const uint8_t zeros[65536];

	for (unsigned how = 0; how < 5; how++) {
		char *dir = scratch_dir();
		struct stat st;
		char *path;

		make_three(dir);
		path = only_segment(dir);
		if (stat(path, &st))
			abort();
		switch (how) {
		case 0:
			CHECK_INT(truncate(path, st.st_size / 2), 0);
			break;
		case 1:
			CHECK_INT(truncate(path, 0), 0);
			break;
		case 2:
			file_poke(path, 0, zeros, (size_t)st.st_size);
			break;
		case 3:
			file_poke(path, 64, zeros, (size_t)st.st_size - 64);
			break;
		case 4:
			CHECK_INT(unlink(path), 0);
			break;
		}
		check_still_sane(dir, how);
		TAP_STOP();
		free(path);
		scratch_remove(dir);
	}
}

static void test_a_segment_damaged_while_in_use_is_a_miss(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	char *path;

	for (uint64_t n = 0; n < 20; n++)
		CHECK_INT(put(cache, n, 4000), 0);
	cache_flush(cache);
	CHECK_INT(ask(cache, 19, 4000), RIGHT);
	path = only_segment(dir);
	CHECK_INT(truncate(path, 200), 0);
	for (uint64_t n = 0; n < 20; n++)
		CHECK(ask(cache, n, 4000) != WRONG);
	CHECK_INT(ask(cache, 19, 4000), MISS);
	for (uint64_t n = 0; n < 20; n++)
		CHECK_INT(put(cache, n, 4000), 0);
	cache_flush(cache);
	for (uint64_t n = 0; n < 20; n++)
		CHECK_INT(ask(cache, n, 4000), RIGHT);
	CHECK(!counters_of(cache).degraded);
	cache_close(&cache);
	free(path);
	scratch_remove(dir);
}

static void test_a_bad_block_of_a_large_object_is_written_again(void)
{
	const size_t size = 3 * 1024 * 1024;
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	uint64_t stored;
	char *path;

	CHECK_INT(put(cache, 0, size), 0); /* noise: stored as it is */
	cache_flush(cache);
	path = only_segment(dir);
	file_poke(path, 1500000, "damage", 6);
	CHECK_INT(read_and_compare(cache, 0, size, 0, 1000), 1000);
	CHECK_INT(ask(cache, 0, size), MISS);
	cache_flush(cache);
	check_size(cache, 0, size, false);
	TAP_STOP();
	stored = counters_of(cache).stored_bytes;
	CHECK_INT(put(cache, 0, size), 0);
	cache_flush(cache);
	CHECK_INT(ask(cache, 0, size), RIGHT);
	/* Only the block that was bad. */
	CHECK(counters_of(cache).stored_bytes - stored < 2 * CACHE_BLOCK_LEN);
	cache_close(&cache);
	free(path);
	scratch_remove(dir);
}

static void test_a_damaged_index_is_replaced(void)
{
	static const uint8_t zeros[8192];

	for (unsigned how = 0; how < 4; how++) {
		char *dir = scratch_dir();
		char *path = path_of(dir, "v1/index/data.mdb");
		struct stat st;

		make_three(dir);
		if (stat(path, &st))
			abort();
		switch (how) {
		case 0:
			CHECK_INT(truncate(path, st.st_size / 2), 0);
			break;
		case 1:
			CHECK_INT(truncate(path, 100), 0);
			break;
		case 2:
			file_poke(path, 0, zeros, sizeof(zeros));
			break;
		case 3:
			CHECK_INT(truncate(path, 0), 0);
			break;
		}
		check_still_sane(dir, how);
		TAP_STOP();
		free(path);
		scratch_remove(dir);
	}
}

static void test_an_index_not_synced_before_a_crash_is_made_again(void)
{
	static const char other_boot[] = "boot 11111111-2222-3333-4444-555555555555\nsync %s\n";

	for (unsigned clean = 0; clean < 2; clean++) {
		char *dir = scratch_dir();
		char *path = path_of(dir, "v1/index/state");
		struct cache *cache;
		char text[128];

		make_three(dir);
		snprintf(text, sizeof(text), other_boot, clean ? "clean" : "dirty");
		file_write(path, text, strlen(text));
		cache = open_at(dir);
		for (uint64_t n = 0; n < 3; n++)
			CHECK_INT(ask(cache, n, 300 + (size_t)n), RIGHT);
		CHECK_UINT(counters_of(cache).faults, 0);
		CHECK_UINT(segment_count(dir), 1);
		CHECK_INT(put(cache, 9, 1000), 0);
		cache_flush(cache);
		CHECK_INT(ask(cache, 9, 1000), RIGHT);
		cache_close(&cache);
		cache = open_at(dir);
		CHECK_INT(ask(cache, 9, 1000), RIGHT);
		cache_close(&cache);
		free(path);
		scratch_remove(dir);
	}
}

static void test_the_state_says_clean_only_when_it_is(void)
{
	char *dir = scratch_dir();
	char *path = path_of(dir, "v1/index/state");
	struct cache *cache = open_at(dir);
	uint8_t *text;
	size_t len;

	CHECK_INT(put(cache, 1, 1000), 0);
	cache_flush(cache);
	text = file_read(path, &len);
	text[len] = 0;
	CHECK_CONTAINS((char *)text, "dirty");
	free(text);
	cache_close(&cache);
	text = file_read(path, &len);
	text[len] = 0;
	CHECK_CONTAINS((char *)text, "clean");
	free(text);
	cache = open_at(dir);
	CHECK_INT(ask(cache, 1, 1000), RIGHT);
	CHECK_INT(put(cache, 2, 1000), 0);
	cache_flush(cache);
	text = file_read(path, &len);
	text[len] = 0;
	CHECK_CONTAINS((char *)text, "dirty");
	free(text);
	cache_close(&cache);
	free(path);
	scratch_remove(dir);
}

static void test_another_ones_directory_is_not_trusted(void)
{
	char *dir = scratch_dir();
	char *v1 = path_of(dir, "v1");
	struct cache_config config = { .dir = dir };
	struct xcp_error err = { .code = 0 };
	struct cache *cache;

	make_three(dir);
	CHECK_INT(chmod(v1, 0770), 0);
	cache = open_with(&config, &err);
	CHECK_INT(err.code, -EPERM);
	CHECK_INT(ask(cache, 1, 301), MISS);
	cache_close(&cache);
	CHECK_INT(chmod(v1, 0700), 0);
	if (geteuid() == 0) {
		CHECK_INT(chown(v1, 12345, 12345), 0);
		cache = open_with(&config, &err);
		CHECK_INT(err.code, -EPERM);
		cache_close(&cache);
	}
	free(v1);
	scratch_remove(dir);
}

/* ---- removed, cleared, looked at ---- */

static void test_a_directory_removed_while_in_use_is_made_again(void)
{
	static const char *const parts[] = { "",	 "v1",		 "v1/segments",
					     "v1/index", "v1/index/use", "v1/write.lock",
					     "v1/tmp" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char *dir = scratch_dir();
		char *part = path_of(dir, parts[i]);
		struct cache *cache = open_at(dir);

		CHECK_INT(put(cache, 1, 5000), 0);
		cache_flush(cache);
		dir_remove(part);
		CHECK(ask(cache, 1, 5000) != WRONG);
		CHECK_INT(put(cache, 2, 5000), 0);
		CHECK_INT(ask(cache, 2, 5000), RIGHT);
		cache_flush(cache);
		CHECK_MSG(!counters_of(cache).degraded, "without %s: %s", parts[i],
			  counters_of(cache).degraded_why);
		CHECK_INT(ask(cache, 2, 5000), RIGHT);
		cache_close(&cache);
		cache = open_at(dir);
		CHECK_MSG(ask(cache, 2, 5000) == RIGHT, "without %s", parts[i]);
		cache_close(&cache);
		free(part);
		scratch_remove(dir);
	}
}

static void test_clear_while_in_use(void)
{
	char *dir = scratch_dir();
	char *other = path_of(dir, "v2");
	struct cache *cache = open_at(dir);
	struct cache_info info;
	uint64_t freed = 0;

	mkdir(other, 0700);
	for (uint64_t n = 0; n < 50; n++)
		CHECK_INT(put(cache, n, len_of(n)), 0);
	cache_flush(cache);
	CHECK_INT(cache_clear(dir, &freed, NULL), 0);
	CHECK(freed > 50000);
	CHECK_INT(cache_info(dir, &info, NULL), 0);
	CHECK_UINT(info.object_count, 0);
	CHECK_UINT(info.segment_count, 0);
	for (uint64_t n = 0; n < 50; n++)
		CHECK(ask(cache, n, len_of(n)) != WRONG);
	for (uint64_t n = 0; n < 50; n++)
		CHECK_INT(put(cache, n, len_of(n)), 0);
	cache_flush(cache);
	CHECK(!counters_of(cache).degraded);
	for (uint64_t n = 0; n < 50; n++)
		CHECK_INT(ask(cache, n, len_of(n)), RIGHT);
	CHECK_INT(cache_info(dir, &info, NULL), 0);
	CHECK_UINT(info.object_count, 50);
	CHECK_INT(access(other, F_OK), 0);
	cache_close(&cache);
	CHECK_INT(cache_clear(dir, &freed, NULL), 0);
	CHECK_INT(cache_clear(dir, &freed, NULL), 0);
	CHECK_UINT(freed, 0);
	free(other);
	scratch_remove(dir);
}

static void test_info(void)
{
	char *dir = scratch_dir();
	struct cache_info info;
	struct cache_size size = { oid_of(1000), 5 };
	struct xcp_error err = { .code = 0 };
	struct cache *cache;

	CHECK_INT(cache_info(dir, &info, &err), -ENOENT);
	CHECK_CONTAINS(err.message, dir);
	CHECK_INT(cache_clear(dir, &info.disk_bytes, &err), -ENOENT);
	cache = open_at(dir);
	put_edges(cache);
	CHECK_INT(cache_put_sizes(cache, &size, 1), 0);
	CHECK_INT(cache_fact_put(cache, "caps", "x", 1, "y", 1), 0);
	cache_flush(cache);
	CHECK_INT(cache_info(dir, &info, &err), 0);
	CHECK_UINT(info.object_count, EDGE_COUNT);
	CHECK_UINT(info.size_only_count, 1);
	CHECK_UINT(info.fact_count, 1);
	CHECK_UINT(info.segment_count, 1);
	CHECK(info.stored_bytes == counters_of(cache).stored_bytes);
	CHECK_UINT(info.raw_bytes, counters_of(cache).put_bytes);
	CHECK(info.index_bytes > 0 && info.disk_bytes > info.index_bytes);
	/* Looking does not disturb the one who has it open. */
	CHECK_INT(put(cache, 500, 5000), 0);
	cache_flush(cache);
	CHECK_INT(ask(cache, 500, 5000), RIGHT);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_tmpfile_is_unlinked_and_closed_on_exec(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	int fd = cache_tmpfile(cache);
	struct stat st;

	CHECK(fd >= 0);
	CHECK_INT(fstat(fd, &st), 0);
	CHECK_UINT(st.st_nlink, 0);
	CHECK_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	CHECK_INT(write(fd, "x", 1), 1);
	close(fd);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_two_caches_in_one_process(void)
{
	char *dirs[2] = { scratch_dir(), scratch_dir() };
	struct cache *caches[2] = { open_at(dirs[0]), open_at(dirs[1]) };

	CHECK_INT(put(caches[0], 1, 1000), 0);
	CHECK_INT(put(caches[1], 2, 1000), 0);
	for (unsigned i = 0; i < 2; i++)
		cache_flush(caches[i]);
	CHECK_INT(ask(caches[0], 1, 1000), RIGHT);
	CHECK_INT(ask(caches[0], 2, 1000), MISS);
	CHECK_INT(ask(caches[1], 2, 1000), RIGHT);
	for (unsigned i = 0; i < 2; i++) {
		cache_close(&caches[i]);
		scratch_remove(dirs[i]);
	}
}

static void test_nothing_is_open_that_a_child_would_inherit(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	DIR *fds;
	struct dirent *entry;

	CHECK_INT(put(cache, 1, 1000), 0);
	cache_flush(cache);
	CHECK_INT(ask(cache, 1, 1000), RIGHT);
	fds = opendir("/proc/self/fd");
	while ((entry = readdir(fds))) {
		char target[4096];
		char link[64];
		ssize_t len;

		snprintf(link, sizeof(link), "/proc/self/fd/%.20s", entry->d_name);
		len = readlink(link, target, sizeof(target) - 1);
		if (len <= 0)
			continue;
		target[len] = '\0';
		if (strncmp(target, dir, strlen(dir)) == 0)
			CHECK_MSG(fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC, "%s", target);
	}
	closedir(fds);
	cache_close(&cache);
	scratch_remove(dir);
}

/* ---- threads ---- */

struct worker {
	pthread_t thread;
	struct cache *cache;
	unsigned seed;
	unsigned wrong, missed;
};

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	uint64_t x = w->seed * 2654435761u + 1;

	for (unsigned i = 0; i < 400; i++) {
		uint64_t n;

		x = x * 6364136223846793005u + 1442695040888963407u;
		n = (x >> 33) % 200;
		switch ((x >> 20) % 4) {
		case 0:
			w->wrong += put(w->cache, n, len_of(n)) != 0;
			w->wrong += ask(w->cache, n, len_of(n)) == WRONG;
			break;
		case 1: {
			ssize_t got = read_and_compare(w->cache, n, len_of(n), x % 5000, 9000);

			w->wrong += got < 0 && got != -ENOENT;
			break;
		}
		case 2: {
			char key[16];
			struct buf value = BUF_INIT;

			snprintf(key, sizeof(key), "%u", (unsigned)n);
			if (n % 2)
				cache_fact_put(w->cache, "t", key, strlen(key), key, strlen(key));
			if (cache_fact_get(w->cache, "t", key, strlen(key), &value, NULL) == 0)
				w->wrong += value.len != strlen(key) ||
					    memcmp(value.data, key, value.len) != 0;
			buf_release(&value);
			break;
		}
		default:
			w->wrong += ask(w->cache, n, len_of(n)) == WRONG;
		}
		if (i % 100 == 99)
			cache_flush(w->cache);
	}
	return NULL;
}

static void run_workers(struct cache *cache, unsigned *out_wrong)
{
	struct worker workers[8] = { { .seed = 0 } };

	*out_wrong = 0;
	for (unsigned i = 0; i < 8; i++) {
		workers[i].cache = cache;
		workers[i].seed = i + 1;
		if (pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]))
			abort();
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(workers[i].thread, NULL);
		*out_wrong += workers[i].wrong;
	}
}

static void test_many_threads(void)
{
	struct cache_config config = { .dir = scratch_dir(), .memory_max_len = 256 * 1024 };
	struct cache *cache = open_with(&config, NULL);
	unsigned wrong;

	run_workers(cache, &wrong);
	CHECK_UINT(wrong, 0);
	CHECK_UINT(counters_of(cache).faults, 0);
	CHECK(!counters_of(cache).degraded);
	cache_close(&cache);
	scratch_remove((char *)config.dir);
}

struct clearer {
	pthread_t thread;
	const char *dir;
	_Atomic bool stop;
};

static void *clearer_run(void *arg)
{
	struct clearer *c = arg;
	struct timespec pause = { .tv_nsec = 20000000 };

	for (unsigned i = 0; !c->stop; i++) {
		uint64_t freed;

		cache_clear(c->dir, &freed, NULL);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void test_many_threads_while_it_is_cleared_again_and_again(void)
{
	struct cache_config config = { .dir = scratch_dir(), .memory_max_len = 1 };
	struct cache *cache = open_with(&config, NULL);
	struct clearer clearer = { .dir = config.dir };
	unsigned wrong;

	if (pthread_create(&clearer.thread, NULL, clearer_run, &clearer))
		abort();
	run_workers(cache, &wrong);
	clearer.stop = true;
	pthread_join(clearer.thread, NULL);
	CHECK_UINT(wrong, 0);
	CHECK_INT(put(cache, 1000, 1000), 0);
	cache_flush(cache);
	CHECK(!counters_of(cache).degraded);
	CHECK_INT(ask(cache, 1000, 1000), RIGHT);
	cache_close(&cache);
	scratch_remove((char *)config.dir);
}

/* ---- the index by itself ---- */

static void test_a_full_index_is_an_error_not_an_end(void)
{
	char *dir = scratch_dir();
	struct index *index;
	struct xcp_error err = { .code = 0 };
	static uint8_t value[100000];
	struct index_op op = { .kind = OP_FACT,
			       .fact_kind = "f",
			       .fact_key_len = 4,
			       .fact_value = value,
			       .fact_value_len = sizeof(value) };
	struct buf got = BUF_INIT;
	int rc = 0;

	CHECK_INT(index_open(dir, 1024 * 1024, &index, &err), 0);
	for (uint32_t i = 0; i < 100 && rc == 0; i++) {
		op.fact_key = &i;
		rc = index_apply(index, &op, 1, &err);
	}
	CHECK_INT(rc, -ENOSPC);
	CHECK_CONTAINS(err.message, "MDB_MAP_FULL");
	CHECK_INT(index_get_fact(index, "f", "\0\0\0", 4, &got, NULL), 0);
	CHECK_UINT(got.len, sizeof(value));
	buf_release(&got);
	index_close(&index);
	scratch_remove(dir);
}

/* ---- children ---- */

static const struct {
	const char *name;
	int (*run)(const char *dir, uint64_t first, uint64_t count);
} children[] = {
	{ "put", child_put },	{ "put_for_ever", child_put_for_ever }, { "check", child_check },
	{ "hold", child_hold }, { "in_namespace", child_in_namespace },
};

static int children_main(char **argv)
{
	for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++)
		if (strcmp(argv[2], children[i].name) == 0)
			return children[i].run(argv[3], strtoull(argv[4], NULL, 10),
					       strtoull(argv[5], NULL, 10));
	return 127;
}

int main(int argc, char **argv)
{
	struct log_config quiet = { .level = LOG_LEVEL_ERROR, .to_stderr = true };

	if (!getenv("TEST_LOG"))
		log_open(&quiet, NULL);
	if (argc == 6 && strcmp(argv[1], "--child") == 0)
		return children_main(argv);
	tap_args(argv);
	TAP_RUN(test_what_is_put_is_found_at_once_and_for_ever);
	TAP_RUN(test_what_was_never_put_is_a_miss);
	TAP_RUN(test_get_refuses_what_is_too_large);
	TAP_RUN(test_large_content_comes_from_its_file);
	TAP_RUN(test_a_file_that_was_cut_is_dropped_not_stored);
	TAP_RUN(test_senseless_content_is_refused);
	TAP_RUN(test_sizes_are_known_without_content);
	TAP_RUN(test_many_sizes);
	TAP_RUN(test_facts);
	TAP_RUN(test_a_fact_put_again_is_the_newer_one);
	TAP_RUN(test_what_is_here_is_not_stored_again);
	TAP_RUN(test_many_short_processes_leave_one_segment);
	TAP_RUN(test_segments_are_rolled);
	TAP_RUN(test_two_processes_at_once);
	TAP_RUN(test_a_writer_killed_at_any_moment_leaves_nothing_wrong);
	TAP_RUN(test_another_pid_namespace_shares_the_directory);
	TAP_RUN(test_a_stopped_lock_holder_degrades_and_its_end_recovers);
	TAP_RUN(test_a_full_queue_is_waited_for_and_then_refused);
	TAP_RUN(test_closing_with_a_stopped_lock_holder_ends);
	TAP_RUN(test_a_cache_that_cannot_be_opened_lives_in_memory);
	TAP_RUN(test_a_full_disk_makes_room_then_degrades_and_recovers);
	TAP_RUN(test_a_read_only_disk_serves_and_degrades);
	TAP_RUN(test_flipped_bits_in_a_segment_are_misses_and_heal);
	TAP_RUN(test_flipped_bits_in_index_values_are_misses_and_heal);
	TAP_RUN(test_a_cut_zeroed_or_missing_segment_is_a_miss_and_heals);
	TAP_RUN(test_a_segment_damaged_while_in_use_is_a_miss);
	TAP_RUN(test_a_bad_block_of_a_large_object_is_written_again);
	TAP_RUN(test_a_damaged_index_is_replaced);
	TAP_RUN(test_an_index_not_synced_before_a_crash_is_made_again);
	TAP_RUN(test_the_state_says_clean_only_when_it_is);
	TAP_RUN(test_another_ones_directory_is_not_trusted);
	TAP_RUN(test_a_directory_removed_while_in_use_is_made_again);
	TAP_RUN(test_clear_while_in_use);
	TAP_RUN(test_info);
	TAP_RUN(test_tmpfile_is_unlinked_and_closed_on_exec);
	TAP_RUN(test_two_caches_in_one_process);
	TAP_RUN(test_nothing_is_open_that_a_child_would_inherit);
	TAP_RUN(test_many_threads);
	TAP_RUN(test_many_threads_while_it_is_cleared_again_and_again);
	TAP_RUN(test_a_full_index_is_an_error_not_an_end);
	return tap_done();
}
