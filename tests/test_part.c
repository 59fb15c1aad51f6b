/*
 * Tests of cache/part.c: objects in the making, on a real directory.
 */
#include "cache_support.h"

#include <dirent.h>

#include "base/log.h"

#define BLOCKS 5
#define SIZE (4 * CACHE_BLOCK_LEN + 1000)

static const struct cache_part part = {
	.name = { .algo = OID_SHA256, .hash = "a name of our own, no object's" },
	.type = OBJECT_BLOB,
	.size = SIZE,
};

static size_t len_of_block(uint32_t index)
{
	return index == BLOCKS - 1 ? SIZE % CACHE_BLOCK_LEN : CACHE_BLOCK_LEN;
}

/* Block `index` of content `n`. */
static struct block *block_of(uint64_t n, uint32_t index)
{
	uint8_t *bytes = malloc(SIZE);
	struct block *block;

	bytes_fill(n, bytes, SIZE);
	block = block_copy(bytes + index * CACHE_BLOCK_LEN, len_of_block(index));
	free(bytes);
	return block;
}

static int put_block(struct cache *cache, uint64_t n, uint32_t index)
{
	struct block *block = block_of(n, index);
	int rc = cache_part_put(cache, &part, index, block, 2000);

	block_unref(block);
	return rc;
}

static bool same(struct spans *spans, uint64_t n, uint64_t off, size_t len)
{
	uint8_t *bytes = malloc(SIZE);
	bool same = spans->len == len;
	size_t done = 0;

	bytes_fill(n, bytes, SIZE);
	for (unsigned i = 0; i < spans->count && same; i++) {
		struct span *span = &spans->v[i];

		same = !memcmp(bytes + off + done, span->block->data + span->off, span->len);
		done += span->len;
	}
	free(bytes);
	spans_release(spans);
	return same;
}

static enum answer read_part(struct cache *cache, uint64_t n, uint64_t off, size_t len)
{
	struct spans spans = SPANS_INIT;
	int rc = cache_part_read(cache, &part, off, len, &spans);

	if (rc)
		return rc == -ENOENT ? MISS : WRONG;
	return same(&spans, n, off, len) ? RIGHT : WRONG;
}

static unsigned map_of(struct cache *cache)
{
	uint8_t map[1] = { 0 };

	return cache_part_map(cache, &part, map) ? 0xffff : map[0];
}

/* Reads all back, as who hashes would. */
static int seal_of(struct cache *cache, uint64_t n, uint64_t *out)
{
	*out = 0;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		struct block *want = block_of(n, i), *got;
		int rc = cache_part_block(cache, &part, i, &got, out);

		if (!rc && (got->len != want->len || memcmp(got->data, want->data, got->len)))
			rc = -EILSEQ;
		block_unref(want);
		if (rc)
			return rc;
		block_unref(got);
	}
	return 0;
}

static void put_all(struct cache *cache, uint64_t n)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		put_block(cache, n, i);
	cache_flush(cache);
}

static bool is_here(struct cache *cache, uint64_t n)
{
	struct oid oid = oid_of(n);
	struct cache_stat stat;

	return !cache_stat(cache, &oid, &stat) && stat.has_content && stat.size == SIZE;
}

static enum answer read_whole(struct cache *cache, uint64_t n)
{
	struct oid oid = oid_of(n);
	struct spans spans = SPANS_INIT;

	if (cache_read(cache, &oid, 1000, SIZE - 1000, &spans))
		return MISS;
	return same(&spans, n, 1000, SIZE - 1000) ? RIGHT : WRONG;
}

static int adopt(struct cache *cache, uint64_t n)
{
	struct oid oid = oid_of(n);
	uint64_t seal;
	int rc = seal_of(cache, n, &seal);

	if (rc)
		return rc;
	rc = cache_part_adopt(cache, &part, &oid, seal);
	cache_flush(cache);
	return rc;
}

static void test_blocks_are_found_at_once_and_after_a_reopen(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);

	CHECK_INT(read_part(cache, 0, 0, 10), MISS);
	CHECK_INT(put_block(cache, 0, 3), 0);
	CHECK_INT(put_block(cache, 0, 4), 0);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_INT(read_part(cache, 0, 3 * CACHE_BLOCK_LEN + 5, 100), RIGHT);
		CHECK_INT(read_part(cache, 0, 4 * CACHE_BLOCK_LEN - 5, 1005), RIGHT);
		CHECK_INT(read_part(cache, 0, 3 * CACHE_BLOCK_LEN - 1, 2), MISS);
		CHECK_UINT(map_of(cache), 1u << 3 | 1u << 4);
		cache_flush(cache);
		if (i == 1) {
			cache_close(&cache);
			cache = open_at(dir);
		}
	}
	CHECK_UINT(counters_of(cache).faults, 0);
	CHECK_UINT(counters_of(cache).misses, 0);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_no_object_before_it_is_adopted(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct spans spans = SPANS_INIT;
	struct cache_info info;
	uint64_t seal;

	put_all(cache, 0);
	CHECK(!is_here(cache, 0));
	CHECK_INT(cache_read(cache, &part.name, 0, 10, &spans), -ENOENT);
	CHECK_INT(cache_info(dir, &info, NULL), 0);
	CHECK_UINT(info.object_count, 0);
	CHECK(info.stored_bytes > SIZE); /* noise, and it is on the disk */
	CHECK_INT(seal_of(cache, 0, &seal), 0);
	CHECK_INT(adopt(cache, 0), 0);
	CHECK(is_here(cache, 0));
	CHECK_INT(read_whole(cache, 0), RIGHT);
	CHECK_INT(ask(cache, 0, SIZE), RIGHT);
	cache_close(&cache);
	cache = open_at(dir);
	CHECK_INT(read_whole(cache, 0), RIGHT);
	CHECK_INT(cache_info(dir, &info, NULL), 0);
	CHECK_UINT(info.object_count, 1);
	CHECK_UINT(info.raw_bytes, SIZE);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_other_blocks_than_those_that_were_read_are_not_adopted(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct oid oid = oid_of(0);
	uint64_t seal;

	put_all(cache, 0);
	CHECK_INT(seal_of(cache, 0, &seal), 0);
	cache_part_drop(cache, &part.name);
	cache_flush(cache);
	CHECK_UINT(map_of(cache), 0);
	put_all(cache, 3);
	CHECK_INT(cache_part_adopt(cache, &part, &oid, seal), 0);
	cache_flush(cache);
	CHECK(!is_here(cache, 0));
	cache_part_drop(cache, &part.name);
	put_block(cache, 0, 0);
	CHECK_INT(cache_part_adopt(cache, &part, &oid, seal), 0);
	cache_flush(cache);
	CHECK(!is_here(cache, 0)); /* not all are there */
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_what_is_dropped_is_gone_whatever_became_of_it(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_with(&(struct cache_config){ .dir = dir }, NULL);

	put_all(cache, 0);
	CHECK_INT(read_part(cache, 0, 0, 10), RIGHT); /* at hand now */
	CHECK_INT(put_block(cache, 0, 2), 0);
	cache_part_drop(cache, &part.name);
	CHECK_INT(put_block(cache, 3, 1), 0); /* what comes after stays */
	cache_flush(cache);
	CHECK_UINT(map_of(cache), 1u << 1);
	CHECK_INT(read_part(cache, 0, 0, 10), MISS);
	CHECK_INT(read_part(cache, 3, CACHE_BLOCK_LEN, 10), RIGHT);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_a_block_that_is_here_stays_as_it_is(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);

	put_all(cache, 0);
	CHECK_INT(put_block(cache, 3, 1), 0);
	cache_flush(cache);
	CHECK_INT(read_part(cache, 0, CACHE_BLOCK_LEN, 10), RIGHT);
	cache_close(&cache);
	scratch_remove(dir);
}

static char *the_segment(const char *dir)
{
	char *segments = path_of(dir, "v1/segments"), *path = NULL;
	DIR *listing = opendir(segments);
	struct dirent *entry;

	while ((entry = readdir(listing)))
		if (entry->d_name[0] != '.')
			path = path_of(segments, entry->d_name);
	closedir(listing);
	free(segments);
	return path;
}

static void test_a_damaged_block_is_a_miss_and_comes_back(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	char *path;

	put_all(cache, 0);
	CHECK_INT(adopt(cache, 0), 0);
	path = the_segment(dir);
	file_poke(path, 2 * CACHE_BLOCK_LEN + 5000, "damage", 6);
	CHECK_INT(read_whole(cache, 0), MISS);
	cache_flush(cache);
	CHECK(!is_here(cache, 0));
	CHECK_UINT(map_of(cache), 0x1f & ~(1u << 2));
	CHECK_INT(put_block(cache, 0, 2), 0);
	cache_flush(cache);
	CHECK_INT(adopt(cache, 0), 0);
	CHECK_INT(read_whole(cache, 0), RIGHT);
	cache_close(&cache);
	free(path);
	scratch_remove(dir);
}

static void test_senseless_blocks_are_refused(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct cache_part other = part;
	struct block *block = block_of(0, 0), *last = block_of(0, BLOCKS - 1);

	CHECK_INT(cache_part_put(cache, &part, BLOCKS, block, 0), -EINVAL);
	CHECK_INT(cache_part_put(cache, &part, 0, last, 0), -EINVAL);
	CHECK_INT(cache_part_put(cache, &part, BLOCKS - 1, block, 0), -EINVAL);
	other.size = UINT64_MAX;
	CHECK_INT(cache_part_put(cache, &other, 0, block, 0), -EINVAL);
	other.size = 0;
	CHECK_INT(cache_part_put(cache, &other, 0, last, 0), -EINVAL);
	block_unref(block);
	block_unref(last);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_another_size_is_another_thing(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	struct cache_part other = part;
	struct spans spans = SPANS_INIT;

	put_all(cache, 0);
	other.size++;
	CHECK_INT(cache_part_read(cache, &other, 0, 10, &spans), -ENOENT);
	cache_close(&cache);
	scratch_remove(dir);
}

static void test_without_a_disk_the_newest_are_kept(void)
{
	struct cache_config config = { .dir = "/proc/none", .queue_max_len = 3 * CACHE_BLOCK_LEN };
	struct cache *cache = open_with(&config, NULL);

	for (uint32_t i = 0; i < BLOCKS; i++)
		CHECK_INT(put_block(cache, 0, i), 0);
	CHECK_INT(read_part(cache, 0, 0, 10), MISS);
	CHECK_INT(read_part(cache, 0, 4 * CACHE_BLOCK_LEN, 10), RIGHT);
	cache_close(&cache);
}

/* ---- killed ---- */

static int child_put_for_ever(const char *dir)
{
	struct cache *cache = open_at(dir);

	for (unsigned round = 0;; round++) {
		put_all(cache, 0);
		if (!round && write(STDOUT_FILENO, "r", 1) != 1)
			return 1;
		if (adopt(cache, 0))
			return 1;
		cache_part_drop(cache, &part.name);
	}
}

static void test_killed_at_any_moment_nothing_is_wrong(void)
{
	char *dir = scratch_dir();

	for (unsigned i = 0; i < 8; i++) {
		struct child child = child_start("put", dir, 0, 0);
		struct cache *cache;

		CHECK(child_hear(&child));
		usleep(i * 7000); /* any moment will do */
		child_kill(&child);
		cache = open_at(dir);
		for (uint32_t b = 0; b < BLOCKS; b++)
			CHECK(read_part(cache, 0, b * CACHE_BLOCK_LEN, len_of_block(b)) != WRONG);
		CHECK(read_whole(cache, 0) != WRONG);
		cache_close(&cache);
	}
	scratch_remove(dir);
}

int main(int argc, char **argv)
{
	struct log_config quiet = { .level = LOG_LEVEL_ERROR, .to_stderr = true };

	log_open(&quiet, NULL);
	if (argc > 3 && !strcmp(argv[1], "--child"))
		return child_put_for_ever(argv[3]);
	tap_args(argv);
	TAP_RUN(test_blocks_are_found_at_once_and_after_a_reopen);
	TAP_RUN(test_no_object_before_it_is_adopted);
	TAP_RUN(test_other_blocks_than_those_that_were_read_are_not_adopted);
	TAP_RUN(test_what_is_dropped_is_gone_whatever_became_of_it);
	TAP_RUN(test_a_block_that_is_here_stays_as_it_is);
	TAP_RUN(test_a_damaged_block_is_a_miss_and_comes_back);
	TAP_RUN(test_senseless_blocks_are_refused);
	TAP_RUN(test_another_size_is_another_thing);
	TAP_RUN(test_without_a_disk_the_newest_are_kept);
	TAP_RUN(test_killed_at_any_moment_nothing_is_wrong);
	return tap_done();
}
