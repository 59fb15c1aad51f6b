/*
 * bench_cache: how fast does the cache store source text, and how fast does it give it back?
 *
 *	bench_cache CACHE-DIR TREE...		for example /tmp/b /usr/include
 *
 * CACHE-DIR is emptied first.
 *
 * put: all files of the trees, till they are on disk; by the wall and by the processor time of
 * the process, because on a busy machine only the latter means something. get: whole objects,
 * in another order than they were put, in a cache that was closed and opened in between (so the
 * kernel has the pages, we have nothing). Baselines of the same run: the plain files read.
 */
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache.h"

#define FILE_MAX_COUNT 20000
#define FILE_MAX_LEN (1u << 20)
#define ROUNDS 5

static struct {
	char *path;
	struct oid oid;
	size_t len;
} files[FILE_MAX_COUNT];
static size_t file_count, total_len;

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int file_add(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)ftw;
	if (flag != FTW_F || st->st_size == 0 || st->st_size > FILE_MAX_LEN ||
	    file_count == FILE_MAX_COUNT)
		return 0;
	files[file_count].path = strdup(path);
	files[file_count].len = (size_t)st->st_size;
	files[file_count].oid.algo = OID_SHA1;
	memcpy(files[file_count].oid.hash, &file_count, sizeof(file_count));
	/* Ids of real objects are spread over all values. */
	for (size_t i = 0, x = file_count * 0x9e3779b97f4a7c15u; i < 8; i++)
		files[file_count].oid.hash[8 + i] = (uint8_t)(x >> (8 * i));
	for (size_t i = 0; i < 8; i++) {
		uint8_t swap = files[file_count].oid.hash[i];

		files[file_count].oid.hash[i] = files[file_count].oid.hash[15 - i];
		files[file_count].oid.hash[15 - i] = swap;
	}
	total_len += files[file_count].len;
	file_count++;
	return 0;
}

static struct block *file_block(size_t i)
{
	int fd = open(files[i].path, O_RDONLY | O_CLOEXEC);
	struct block *block = block_new(files[i].len);

	if (fd < 0 || !block || read(fd, block->data, files[i].len) != (ssize_t)files[i].len)
		abort();
	close(fd);
	return block;
}

static void report(const char *what, double seconds, size_t count, size_t len)
{
	printf("%-34s %8.1f MB/s %9.0f ns each\n", what, (double)len / seconds / 1e6,
	       seconds * 1e9 / (double)count);
}

static double read_plain(void)
{
	double start = now(CLOCK_MONOTONIC);

	for (size_t i = 0; i < file_count; i++)
		block_unref(file_block(i));
	return now(CLOCK_MONOTONIC) - start;
}

static void put_all(struct cache *cache)
{
	struct content **contents = calloc(file_count, sizeof(*contents));
	double wall, processor;

	for (size_t i = 0; i < file_count; i++)
		contents[i] = content_from_block_take(&files[i].oid, OBJECT_BLOB, file_block(i));
	wall = now(CLOCK_MONOTONIC);
	processor = now(CLOCK_PROCESS_CPUTIME_ID);
	for (size_t i = 0; i < file_count; i++) {
		if (cache_put(cache, contents[i], 10000))
			abort();
		content_unref(contents[i]);
	}
	cache_flush(cache);
	report("put, by the wall", now(CLOCK_MONOTONIC) - wall, file_count, total_len);
	report("put, by processor time", now(CLOCK_PROCESS_CPUTIME_ID) - processor, file_count,
	       total_len);
	free(contents);
}

struct reader {
	pthread_t thread;
	struct cache *cache;
	size_t first, step;
};

static void *get_some(void *arg)
{
	struct reader *r = arg;

	for (size_t i = r->first; i < file_count; i += r->step) {
		struct content *content;

		if (cache_get(r->cache, &files[i * 7919 % file_count].oid, SIZE_MAX, &content))
			abort();
		content_unref(content);
	}
	return NULL;
}

static double get_all(struct cache *cache, size_t threads)
{
	struct reader readers[16];
	double start = now(CLOCK_MONOTONIC);

	for (size_t i = 0; i < threads; i++) {
		readers[i] = (struct reader){ .cache = cache, .first = i, .step = threads };
		if (pthread_create(&readers[i].thread, NULL, get_some, &readers[i]))
			abort();
	}
	for (size_t i = 0; i < threads; i++)
		pthread_join(readers[i].thread, NULL);
	return now(CLOCK_MONOTONIC) - start;
}

static double stat_all(struct cache *cache)
{
	double start = now(CLOCK_MONOTONIC);
	struct cache_stat st;

	for (size_t i = 0; i < file_count; i++)
		if (cache_stat(cache, &files[i * 7919 % file_count].oid, &st))
			abort();
	return now(CLOCK_MONOTONIC) - start;
}

static double read_warm(struct cache *cache)
{
	double start = now(CLOCK_MONOTONIC);

	for (size_t i = 0; i < 100000; i++) {
		struct spans spans = SPANS_INIT;

		if (cache_read(cache, &files[i % 16].oid, 0, 4096, &spans))
			abort();
		spans_release(&spans);
	}
	return now(CLOCK_MONOTONIC) - start;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

#define MEDIAN(out, expression)                                                                    \
	do {                                                                                       \
		double times[ROUNDS];                                                              \
		for (unsigned round = 0; round < ROUNDS; round++)                                  \
			times[round] = (expression);                                               \
		qsort(times, ROUNDS, sizeof(times[0]), by_value);                                  \
		out = times[ROUNDS / 2];                                                           \
	} while (0)

static struct cache *cache_at(const char *dir, size_t memory_max_len)
{
	struct cache_config config = { .dir = dir, .memory_max_len = memory_max_len };
	struct cache *cache;

	if (cache_open(&config, &cache, NULL))
		abort();
	return cache;
}

int main(int argc, char **argv)
{
	struct cache_info info;
	struct cache *cache;
	uint64_t freed;
	double seconds;

	if (argc < 3) {
		fprintf(stderr, "usage: bench_cache CACHE-DIR TREE...\n");
		return 2;
	}
	for (int i = 2; i < argc; i++)
		nftw(argv[i], file_add, 32, FTW_PHYS);
	if (file_count < 16)
		return 1;
	printf("%zu files, %.1f MB, mean %zu bytes\n", file_count, (double)total_len / 1e6,
	       total_len / file_count);
	cache_clear(argv[1], &freed, NULL);
	MEDIAN(seconds, read_plain());
	report("baseline: plain files read", seconds, file_count, total_len);
	cache = cache_at(argv[1], 0);
	put_all(cache);
	cache_close(&cache);
	cache_info(argv[1], &info, NULL);
	printf("%-34s %8.2f x smaller; index %.1f MB\n", "stored",
	       (double)info.raw_bytes / (double)info.stored_bytes, (double)info.index_bytes / 1e6);
	cache = cache_at(argv[1], 1);
	for (size_t threads = 1; threads <= 4; threads *= 2) {
		char what[40];

		MEDIAN(seconds, get_all(cache, threads));
		snprintf(what, sizeof(what), "get, from the disk, %zu threads", threads);
		report(what, seconds, file_count, total_len);
	}
	MEDIAN(seconds, stat_all(cache));
	report("stat", seconds, file_count, 0);
	cache_close(&cache);
	cache = cache_at(argv[1], 0);
	MEDIAN(seconds, read_warm(cache));
	report("read of 4 KiB, at hand", seconds, 100000, 100000u * 4096u);
	seconds = now(CLOCK_MONOTONIC);
	cache_close(&cache);
	cache = cache_at(argv[1], 0);
	seconds = now(CLOCK_MONOTONIC) - seconds;
	printf("%-34s %8.2f ms\n", "close and open", seconds * 1e3);
	cache_close(&cache);
	return 0;
}
