/* Dictionaries: trained when it pays, stored once, found again, never guessed. */
#include "cache/dictionary.h"

#include <dirent.h>

#include "cache/segment.h"
#include "tests/cache_support.h"

/* Like files of one project: the same words in another order, with names of their own. */
static size_t source_fill(uint64_t n, uint8_t *out, size_t cap)
{
	static const char *const lines[] = {
		"#include <project/common/header_of_everything.h>\n",
		"static int project_object_release(struct project_object *object)\n{\n",
		"\tif (project_validate_arguments(object, PROJECT_DEFAULT_FLAGS) < 0)\n",
		"\t\treturn project_error_set(error, -EINVAL, \"the arguments are wrong\");\n",
		"/* Copyright of nobody in particular; see the file LICENSE for all the rest. */\n",
		"}\n\n",
	};
	uint64_t x = n * 2862933555777941757u + 3037000493u;
	size_t len = 0;

	for (unsigned i = 0; i < 40 + n % 30; i++) {
		int added;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		added = snprintf((char *)out + len, cap - len, "%s", lines[x % 6]);
		if (x % 3 == 0)
			added += snprintf((char *)out + len + added, cap - len - (size_t)added,
					  "\tvalue_%llx = %llu;\n", (unsigned long long)(x >> 40),
					  (unsigned long long)(x >> 50));
		len += (size_t)added;
	}
	return len;
}

static struct content *source(uint64_t n)
{
	uint8_t text[16384];
	size_t len = source_fill(n, text, sizeof(text));
	struct oid oid = oid_of(n);
	struct block *block = block_new(len);

	memcpy(block->data, text, len);
	return content_from_block_take(&oid, OBJECT_BLOB, block);
}

static enum answer ask_source(struct cache *cache, uint64_t n)
{
	struct oid oid = oid_of(n);
	struct content *want = source(n), *got;
	enum answer answer = MISS;

	if (cache_get(cache, &oid, SIZE_MAX, &got) == 0) {
		answer = got->size == want->size && got->block &&
					 !memcmp(got->block->data, want->block->data,
						 (size_t)want->size) ?
				 RIGHT :
				 WRONG;
		content_unref(got);
	}
	content_unref(want);
	return answer;
}

static void put_sources(struct cache *cache, uint64_t from, uint64_t count)
{
	for (uint64_t n = from; n < from + count; n++) {
		struct content *content = source(n);

		if (cache_put(cache, content, 5000))
			abort();
		content_unref(content);
	}
	cache_flush(cache);
}

/* Only paces: what has come out of the training decides. */
static bool trained(struct trainer *trainer, enum dictionary_kind kind, struct buf *out)
{
	for (unsigned i = 0; i < 2000; i++) {
		if (trainer_take(trainer, kind, out))
			return true;
		usleep(5000);
	}
	return false;
}

static void test_what_is_alike_gives_a_dictionary(void)
{
	struct trainer *trainer = trainer_new();
	struct codec *codec = codec_new();
	struct codec_dictionary *dictionary, *other;
	struct buf bytes = BUF_INIT;
	uint8_t text[16384], packed[32768], back[16384];
	size_t with = 0, without = 0;

	for (uint64_t n = 0; n < 2000; n++) {
		size_t len = source_fill(n, text, sizeof(text));

		trainer_offer(trainer, DICTIONARY_BLOB, text, len);
	}
	CHECK(trained(trainer, DICTIONARY_BLOB, &bytes));
	CHECK(bytes.len > 1000 && bytes.len <= DICTIONARY_MAX_LEN);
	CHECK(!trainer_take(trainer, DICTIONARY_BLOB, &bytes));
	dictionary = codec_dictionary_new(7, bytes.data, bytes.len);
	CHECK(dictionary);
	CHECK_INT(codec_dictionary_prepare(dictionary, bytes.data, bytes.len), 0);
	CHECK_UINT(codec_dictionary_id(dictionary), 7);
	for (uint64_t n = 5000; n < 5100; n++) {
		size_t len = source_fill(n, text, sizeof(text)), packed_len;

		codec_pack(codec, CODEC_SMALL, NULL, text, len, packed, &packed_len);
		without += packed_len;
		for (unsigned effort = 0; effort < CODEC_EFFORT_COUNT; effort++) {
			CHECK(codec_dictionary_ready(dictionary, (enum codec_effort)effort));
			CHECK_INT(codec_pack(codec, (enum codec_effort)effort, dictionary, text,
					     len, packed, &packed_len),
				  CODEC_ZSTD);
			memset(back, 0, sizeof(back));
			CHECK_INT(codec_unpack(codec, dictionary, packed, packed_len, back, len),
				  0);
			CHECK_MEM(back, len, text, len);
		}
		with += packed_len;
		/* Without it, or with another, it is not guessed. */
		CHECK_INT(codec_unpack(codec, NULL, packed, packed_len, back, len), -EBADMSG);
	}
	CHECK_MSG(with * 10 < without * 9, "%zu with, %zu without", with, without);
	memset(bytes.data + bytes.len / 2, 0x5a, bytes.len / 4);
	other = codec_dictionary_new(8, bytes.data, bytes.len);
	codec_dictionary_free(other);
	codec_dictionary_free(dictionary);
	buf_release(&bytes);
	codec_free(codec);
	trainer_free(trainer);
}

static void test_noise_gives_none(void)
{
	struct trainer *trainer = trainer_new();
	struct buf bytes = BUF_INIT;
	uint8_t noise[4000];

	for (uint64_t n = 0; n < 3000; n++) {
		bytes_fill(n * 3, noise, sizeof(noise));
		trainer_offer(trainer, DICTIONARY_TREE, noise, sizeof(noise));
		CHECK(!trainer_take(trainer, DICTIONARY_TREE, &bytes));
	}
	trainer_free(trainer); /* in the middle of a training or not */
	CHECK_UINT(bytes.len, 0);
}

static void test_one_that_does_not_pay_any_more_is_replaced(void)
{
	struct trainer *trainer = trainer_new();
	struct buf bytes = BUF_INIT;
	uint8_t text[16384];

	trainer_settle(trainer, DICTIONARY_BLOB);
	for (unsigned i = 0; i < 64 * 63; i++)
		if (trainer_wants_comparison(trainer, DICTIONARY_BLOB))
			trainer_compare(trainer, DICTIONARY_BLOB, 1000, 1500);
	trainer_offer(trainer, DICTIONARY_BLOB, text, source_fill(1, text, sizeof(text)));
	for (unsigned i = 0; i < 64 * 70; i++)
		if (trainer_wants_comparison(trainer, DICTIONARY_BLOB))
			trainer_compare(trainer, DICTIONARY_BLOB, 1000, 500);
	for (uint64_t n = 0; n < 2000; n++)
		trainer_offer(trainer, DICTIONARY_BLOB, text, source_fill(n, text, sizeof(text)));
	CHECK(trained(trainer, DICTIONARY_BLOB, &bytes));
	buf_release(&bytes);
	trainer_free(trainer);
}

static uint64_t stored_of(struct cache *cache, uint64_t from, uint64_t count)
{
	uint64_t before = counters_of(cache).stored_bytes;

	put_sources(cache, from, count);
	return counters_of(cache).stored_bytes - before;
}

static void test_a_cache_gets_one_and_keeps_it(void)
{
	char *dir = scratch_dir(), *index = path_of(dir, "v1/index");
	struct cache *cache = open_at(dir);
	uint64_t before, after = UINT64_MAX, n = 1000;

	before = stored_of(cache, 0, 200);
	/* It is trained when nobody else wants the processor; only paces. */
	for (unsigned i = 0; i < 600 && after * 10 > before * 9; i++) {
		if (i > 20)
			usleep(100000);
		after = stored_of(cache, n, 200);
		n += 200;
	}
	CHECK_MSG(after * 10 <= before * 9, "%llu bytes, then %llu", (unsigned long long)before,
		  (unsigned long long)after);
	cache_close(&cache);
	/* The next one begins with it. */
	cache = open_at(dir);
	CHECK(stored_of(cache, 100000, 200) * 10 <= before * 9);
	for (uint64_t k = 1000; k < n; k += 7)
		CHECK_INT(ask_source(cache, k), RIGHT);
	cache_close(&cache);
	/* It is found again with the rest. */
	dir_remove(index);
	cache = open_at(dir);
	for (uint64_t k = 1000; k < n; k += 7)
		CHECK_INT(ask_source(cache, k), RIGHT);
	CHECK(stored_of(cache, 200000, 200) * 10 <= before * 9);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	free(index);
	scratch_remove(dir);
}

static uint64_t du_sum;

static int du_add(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)path, (void)ftw;
	if (flag == FTW_F)
		du_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

static uint64_t du(const char *dir)
{
	char *segments = path_of(dir, "v1/segments");

	du_sum = 0;
	nftw(segments, du_add, 16, FTW_PHYS);
	free(segments);
	return du_sum;
}

static uint64_t stored_of_object(struct cache *cache, uint64_t n)
{
	struct oid oid = oid_of(n);
	struct cache_stat stat = { .stored_bytes = 0 };

	return cache_stat(cache, &oid, &stat) ? 0 : stat.stored_bytes;
}

/* What was packed before there was a dictionary, once nothing else is to be done. */
static void test_what_was_packed_early_is_packed_again(void)
{
	char *dir = scratch_dir(), *index = path_of(dir, "v1/index");
	struct cache *cache = open_at(dir);
	uint64_t before, first, n = 0, disk;

	before = stored_of(cache, n, 200);
	first = stored_of_object(cache, 10);
	CHECK(first > 0);
	/* Till there is one: what comes then is smaller. */
	for (n = 1000; stored_of(cache, n, 200) * 10 > before * 9 && n < 200000; n += 200)
		usleep(n > 5000 ? 100000 : 0);
	disk = du(dir);
	for (unsigned i = 0; i < 600 && counters_of(cache).repacked < 200; i++)
		usleep(100000);
	CHECK_MSG(counters_of(cache).repacked >= 200, "%llu",
		  (unsigned long long)counters_of(cache).repacked);
	CHECK(counters_of(cache).repacked_bytes > before / 20);
	CHECK(stored_of_object(cache, 10) < first);
	CHECK(du(dir) < disk);
	for (uint64_t k = 0; k < 200; k++)
		CHECK_INT(ask_source(cache, k), RIGHT);
	for (uint64_t k = 1000; k < n; k += 7)
		CHECK_INT(ask_source(cache, k), RIGHT);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	dir_remove(index);
	cache = open_at(dir);
	for (uint64_t k = 0; k < 200; k++)
		CHECK_INT(ask_source(cache, k), RIGHT);
	CHECK_UINT(counters_of(cache).faults, 0);
	cache_close(&cache);
	free(index);
	scratch_remove(dir);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_is_alike_gives_a_dictionary);
	TAP_RUN(test_noise_gives_none);
	TAP_RUN(test_one_that_does_not_pay_any_more_is_replaced);
	TAP_RUN(test_a_cache_gets_one_and_keeps_it);
	TAP_RUN(test_what_was_packed_early_is_packed_again);
	return tap_done();
}
