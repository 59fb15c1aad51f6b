/* How hard the writer tries: by what waits, and not again and again for what does not shrink. */
#include "cache/packer.h"

#include "tests/cache_support.h"

static enum record_codec pack(struct packer *packer, const struct oid *oid, uint32_t block,
			      const uint8_t *raw)
{
	struct record_header header = { .type = RECORD_BLOCK,
					.oid = *oid,
					.block_index = block,
					.object_type = OBJECT_BLOB,
					.dictionary = 7 };
	uint8_t *out = malloc(codec_bound(CACHE_BLOCK_LEN));
	size_t out_len = 0;

	packer_pack(packer, &header, raw, CACHE_BLOCK_LEN, out, &out_len);
	if (header.codec == CODEC_RAW &&
	    (out_len != CACHE_BLOCK_LEN || memcmp(out, raw, out_len) || header.dictionary))
		tap_fail(__FILE__, __LINE__, "block %u is not what it was", block);
	free(out);
	return header.codec;
}

static void test_noise_is_tried_now_and_then(void)
{
	uint8_t *noise = malloc(CACHE_BLOCK_LEN), *text = malloc(CACHE_BLOCK_LEN);
	struct oid one = oid_of(1), two = oid_of(2);
	struct packer packer;
	uint32_t block = 0;

	bytes_fill(3, noise, CACHE_BLOCK_LEN);
	memset(text, 'a', CACHE_BLOCK_LEN);
	CHECK_INT(packer_init(&packer), 0);
	packer_begin(&packer, 0, 1000, false);
	while (block < 50)
		CHECK_INT(pack(&packer, &one, block++, noise), CODEC_RAW);
	/* Another file has nothing to do with it, and neither has its own after that. */
	CHECK_INT(pack(&packer, &two, 3, text), CODEC_ZSTD);
	CHECK_INT(pack(&packer, &one, block++, text), CODEC_ZSTD);
	while (block < 99)
		CHECK_INT(pack(&packer, &one, block++, noise), CODEC_RAW);
	/* Not before the next try; from then on all. */
	while (block < 112)
		CHECK_INT(pack(&packer, &one, block++, text), CODEC_RAW);
	while (block < 130)
		CHECK_INT(pack(&packer, &one, block++, text), CODEC_ZSTD);
	packer_release(&packer);
	free(noise);
	free(text);
}

static void test_effort_goes_by_what_waits(void)
{
	struct packer packer;

	CHECK_INT(packer_init(&packer), 0);
	packer_begin(&packer, 100, 900, false);
	CHECK_INT(packer.effort, CODEC_SMALL);
	packer_begin(&packer, 400, 900, false);
	CHECK_INT(packer.effort, CODEC_MEDIUM);
	packer_begin(&packer, 700, 900, false);
	CHECK_INT(packer.effort, CODEC_FAST);
	packer_begin(&packer, 0, 900, true);
	CHECK_INT(packer.effort, CODEC_FAST);
	packer.crowded = true;
	packer_begin(&packer, 0, 900, false);
	CHECK_INT(packer.effort, CODEC_FAST);
	packer_release(&packer);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_noise_is_tried_now_and_then);
	TAP_RUN(test_effort_goes_by_what_waits);
	return tap_done();
}
