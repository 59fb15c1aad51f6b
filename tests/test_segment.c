/*
 * The bytes of segment files are locked here: when a test of the format fails, either the
 * change is a mistake or the format needs a new version (record.h).
 */
#include "cache/segment.h"

#include <sys/file.h>
#include <xxhash.h>

#include "cache/bytes.h"
#include "cache/codec.h"
#include "tests/cache_support.h"

/* ---- the format ---- */

static void test_segment_header_bytes_are_locked(void)
{
	static const uint8_t want[SEGMENT_HEADER_LEN] = {
		'x',  'c',  'p',  'f',	's',  'S',  'E',  'G',	/* magic */
		1,    0,    0,	  0,				/* version */
		0x0d, 0x0c, 0x0b, 0x0a,				/* byte order */
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* id */
		0x00, 0x09, 0x6e, 0x88, 0x00, 0x00, 0x00, 0x00, /* made */
		64,   0,    0,	  0,				/* header length */
		0,    0,    0,	  0,				/* flags */
		0,    0,    0,	  0,	0,    0,    0,	  0,	0,    0,    0,	  0,
		0,    0,    0,	  0,	0xde, 0x44, 0x84, 0x2f, 0x1d, 0x75, 0x65, 0x2e, /* check */
	};
	struct segment_header header = { .id = 0x1122334455667788, .made_s = 0x886e0900 }, back;
	uint8_t got[SEGMENT_HEADER_LEN];

	segment_header_encode(&header, got);
	CHECK_MEM(got, sizeof(got), want, sizeof(want));
	CHECK_INT(segment_header_decode(got, &back), 0);
	CHECK_UINT(back.id, header.id);
	CHECK_INT(back.made_s, header.made_s);
}

static struct record_header example(void)
{
	struct record_header header = {
		.type = RECORD_BLOCK,
		.codec = CODEC_ZSTD,
		.dictionary = 0x01020304,
		.oid = { .algo = OID_SHA1 },
		.block_index = 2,
		.object_type = OBJECT_BLOB,
		.object_size = 2 * 131072 + 0x1234,
		.raw_len = 0x1234,
		.stored_len = 0x0456,
		.body_check = 0xfedcba9876543210,
	};

	for (uint8_t i = 0; i < 20; i++)
		header.oid.hash[i] = (uint8_t)(0xa0 + i);
	return header;
}

static void test_record_header_bytes_are_locked(void)
{
	static const uint8_t want[RECORD_HEADER_LEN] = {
		'x',  'c',  'R',  'C',					    /* magic */
		1,							    /* version */
		2,							    /* record type */
		1,							    /* oid algorithm */
		1,							    /* codec */
		0x04, 0x03, 0x02, 0x01,					    /* dictionary */
		0,    0,    0,	  0,					    /* flags */
		0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, /* oid */
		0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0, 0xb1, 0xb2, 0xb3, /* oid */
		0,    0,    0,	  0,	0,    0,    0,	  0,	0,    0,    0, 0, /* oid */
		2,    0,    0,	  0,						  /* block */
		3,								  /* object type */
		0,    0,    0,							  /* zero */
		0x34, 0x12, 0x04, 0x00, 0,    0,    0,	  0,			  /* object size */
		0x34, 0x12, 0,	  0,						  /* raw length */
		0x56, 0x04, 0,	  0,				/* stored length */
		0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, /* body check */
		0xb9, 0x41, 0x74, 0xc7, 0xf4, 0xc1, 0xec, 0x39, /* check */
	};
	struct record_header header = example(), back;
	uint8_t got[RECORD_HEADER_LEN];
	size_t len;

	record_header_encode(&header, got);
	CHECK_MEM(got, sizeof(got), want, sizeof(want));
	CHECK_INT(record_header_decode(got, &back, &len), 0);
	CHECK(oid_equal(&back.oid, &header.oid));
	CHECK_UINT(back.object_size, header.object_size);
	CHECK_UINT(back.body_check, header.body_check);
	CHECK_UINT(len, record_len(0x456));
	CHECK_UINT(len % 8, 0);
}

static void test_body_check_is_xxh3(void)
{
	CHECK_UINT(record_body_check("xcpfs", 5), XXH3_64bits("xcpfs", 5));
	CHECK_UINT(record_body_check("", 0), 0x2d06800538d394c2);
}

static void test_every_flipped_bit_of_a_header_is_noticed(void)
{
	struct segment_header segment = { .id = 7, .made_s = 8 }, segment_back;
	struct record_header record = example(), record_back;
	uint8_t bytes[RECORD_HEADER_LEN];

	segment_header_encode(&segment, bytes);
	for (unsigned bit = 0; bit < SEGMENT_HEADER_LEN * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CHECK_MSG(segment_header_decode(bytes, &segment_back) < 0, "bit %u", bit);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	record_header_encode(&record, bytes);
	for (unsigned bit = 0; bit < RECORD_HEADER_LEN * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CHECK_MSG(record_header_decode(bytes, &record_back, NULL) < 0, "bit %u", bit);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void reseal(uint8_t bytes[RECORD_HEADER_LEN])
{
	put_le64(bytes + 80, XXH3_64bits(bytes, 80));
}

static void test_sound_headers_with_senseless_values_are_refused(void)
{
	static const struct {
		const char *what;
		unsigned off;
		uint8_t value;
		int want;
	} rows[] = {
		{ "another version", 4, 2, -ENOTSUP },
		{ "a dictionary by another name", 5, 3, -EBADMSG },
		{ "record type 0", 5, 0, -EBADMSG },
		{ "record type 9", 5, 9, -EBADMSG },
		{ "whole, but a block's", 5, 1, -EBADMSG },
		{ "algorithm 0", 6, 0, -EBADMSG },
		{ "algorithm 3", 6, 3, -EBADMSG },
		{ "codec 2", 7, 2, -EBADMSG },
		{ "raw, of another length", 7, 0, -EBADMSG },
		{ "a flag", 12, 1, -EBADMSG },
		{ "bytes behind a SHA-1", 16 + 20, 1, -EBADMSG },
		{ "the block before", 48, 1, -EBADMSG },
		{ "the block behind", 48, 3, -EBADMSG },
		{ "object type 0", 52, 0, -EBADMSG },
		{ "object type 5", 52, 5, -EBADMSG },
		{ "another object size", 56, 1, -EBADMSG },
		{ "raw length 2^24", 67, 1, -EBADMSG },
		{ "stored above raw", 69, 0x13, -EBADMSG },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct record_header header = example(), back;
		uint8_t bytes[RECORD_HEADER_LEN];

		record_header_encode(&header, bytes);
		bytes[rows[i].off] = rows[i].value;
		reseal(bytes);
		CHECK_MSG(record_header_decode(bytes, &back, NULL) == rows[i].want, "%s",
			  rows[i].what);
	}
}

static void test_segment_of_another_version_or_byte_order_is_not_damaged_but_foreign(void)
{
	struct segment_header header = { .id = 1 }, back;
	uint8_t bytes[SEGMENT_HEADER_LEN];

	segment_header_encode(&header, bytes);
	bytes[8] = 2;
	CHECK_INT(segment_header_decode(bytes, &back), -ENOTSUP);
	segment_header_encode(&header, bytes);
	bytes[12] = 0x0a;
	CHECK_INT(segment_header_decode(bytes, &back), -ENOTSUP);
}

static void test_names(void)
{
	char name[SEGMENT_NAME_LEN];
	uint64_t id;

	segment_name(0x0123456789abcdef, name);
	CHECK_STR(name, "0123456789abcdef");
	CHECK_INT(segment_name_parse(name, &id), 0);
	CHECK_UINT(id, 0x0123456789abcdef);
	CHECK_INT(segment_name_parse("0123456789abcde", &id), -EINVAL);
	CHECK_INT(segment_name_parse("0123456789abcdeg", &id), -EINVAL);
	CHECK_INT(segment_name_parse("0123456789ABCDEF", &id), -EINVAL);
	CHECK_INT(segment_name_parse("", &id), -EINVAL);
}

/* ---- packing ---- */

static void test_codec_brings_back_what_it_packed(void)
{
	static const size_t lens[] = { 0, 1, 2, 63, 1000, 65536, RECORD_RAW_MAX };
	struct codec *codec = codec_new();
	uint8_t *raw = malloc(RECORD_RAW_MAX), *back = malloc(RECORD_RAW_MAX);
	uint8_t *packed = malloc(codec_bound(RECORD_RAW_MAX));

	for (uint64_t n = 0; n < 2; n++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			size_t len = lens[i], packed_len;
			enum record_codec kind;

			bytes_fill(n, raw, len);
			kind = codec_pack(codec, CODEC_FAST, NULL, raw, len, packed, &packed_len);
			CHECK(packed_len <= len);
			if (kind == CODEC_RAW) {
				CHECK_MEM(packed, packed_len, raw, len);
				continue;
			}
			CHECK(packed_len < len);
			CHECK_INT(codec_unpack(codec, NULL, packed, packed_len, back, len), 0);
			CHECK_MEM(back, len, raw, len);
			CHECK_INT(codec_unpack(codec, NULL, packed, packed_len, back, len - 1),
				  -EBADMSG);
			CHECK_INT(codec_unpack(codec, NULL, packed, packed_len - 1, back, len),
				  -EBADMSG);
		}
	}
	free(raw);
	free(back);
	free(packed);
	codec_free(codec);
}

/* ---- files ---- */

struct bench {
	char *dir;
	int dir_fd;
	uint64_t tail; /* what the "index" knows; 0: nothing */
};

static int bench_tail(void *arg, uint64_t segment, uint64_t *out)
{
	struct bench *bench = arg;

	(void)segment;
	if (bench->tail == 0)
		return -ENOENT;
	*out = bench->tail;
	return 0;
}

static struct bench bench_open(void)
{
	struct bench bench = { .dir = scratch_dir() };

	bench.dir_fd = open(bench.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return bench;
}

static void bench_close(struct bench *bench)
{
	close(bench->dir_fd);
	scratch_remove(bench->dir);
}

static struct segment_writer *bench_writer(struct bench *bench, uint64_t max_len)
{
	struct segment_tails tails = { .get = bench_tail, .arg = bench };
	struct segment_writer *writer = NULL;

	if (segment_writer_open(bench->dir_fd, max_len, &tails, &writer, NULL))
		abort();
	return writer;
}

/* Appends content n as one record. */
static struct place record_add(struct segment_writer *writer, uint64_t n, size_t len,
			       struct record_want *want)
{
	struct record_header header = { .type = RECORD_OBJECT,
					.oid = oid_of(n),
					.object_type = type_of(n),
					.object_size = len,
					.raw_len = (uint32_t)len };
	struct place place = { .segment = segment_writer_id(writer),
			       .off = segment_writer_tail(writer) };
	struct codec *codec = codec_new();
	uint8_t *raw = malloc(len + 1),
		*bytes = calloc(1, RECORD_HEADER_LEN + codec_bound(len) + 8);
	size_t stored_len;

	bytes_fill(n, raw, len);
	header.codec = codec_pack(codec, CODEC_FAST, NULL, raw, len, bytes + RECORD_HEADER_LEN,
				  &stored_len);
	header.stored_len = (uint32_t)stored_len;
	header.body_check = record_body_check(bytes + RECORD_HEADER_LEN, stored_len);
	record_header_encode(&header, bytes);
	if (segment_append(writer, bytes, record_len(stored_len), NULL))
		abort();
	place.stored_len = header.stored_len;
	place.raw_len = header.raw_len;
	place.codec = (uint8_t)header.codec;
	*want = (struct record_want){ .oid = header.oid,
				      .type = RECORD_OBJECT,
				      .object_type = header.object_type,
				      .object_size = len };
	free(raw);
	free(bytes);
	codec_free(codec);
	return place;
}

static enum answer record_ask(struct bench *bench, const struct place *place,
			      const struct record_want *want, uint64_t n)
{
	struct segments *segments = segments_new(bench->dir_fd);
	struct block *block;
	enum answer answer;
	uint8_t *raw;

	if (segments_read(segments, place, want, &block, NULL)) {
		segments_free(segments);
		return MISS;
	}
	raw = malloc(block->len + 1);
	bytes_fill(n, raw, block->len);
	answer = block->len == want->object_size && memcmp(raw, block->data, block->len) == 0 ?
			 RIGHT :
			 WRONG;
	free(raw);
	block_unref(block);
	segments_free(segments);
	return answer;
}

static char *segment_path(struct bench *bench, const struct segment_writer *writer)
{
	char name[SEGMENT_NAME_LEN];

	segment_name(segment_writer_id(writer), name);
	return path_of(bench->dir, name);
}

static void test_every_flipped_byte_of_a_segment_is_a_miss_or_right(void)
{
	struct bench bench = bench_open();
	struct segment_writer *writer = bench_writer(&bench, 1 << 20);
	struct record_want wants[4];
	struct place places[4];
	char *path = segment_path(&bench, writer);
	unsigned misses = 0;
	uint8_t *bytes;
	size_t len;

	for (uint64_t n = 0; n < 4; n++)
		places[n] = record_add(writer, n, 100 + (size_t)n * 37, &wants[n]);
	segment_writer_close(&writer);
	bytes = file_read(path, &len);
	for (size_t i = 0; i < len; i++) {
		uint8_t flipped = bytes[i] ^ (uint8_t)(1u << i % 8);

		file_poke(path, i, &flipped, 1);
		for (uint64_t n = 0; n < 4; n++) {
			enum answer answer = record_ask(&bench, &places[n], &wants[n], n);

			CHECK_MSG(answer != WRONG, "byte %zu, record %u", i, (unsigned)n);
			misses += answer == MISS;
		}
		file_poke(path, i, &bytes[i], 1);
	}
	/* Only padding may be flipped without harm. */
	CHECK(misses >= len - 4 * 7 - 64 + 64 * 4);
	for (uint64_t n = 0; n < 4; n++)
		CHECK_INT(record_ask(&bench, &places[n], &wants[n], n), RIGHT);
	free(bytes);
	free(path);
	bench_close(&bench);
}

static void test_a_segment_cut_anywhere_is_a_miss_or_right(void)
{
	struct bench bench = bench_open();
	struct segment_writer *writer = bench_writer(&bench, 1 << 20);
	struct record_want wants[3];
	struct place places[3];
	char *path = segment_path(&bench, writer);
	uint8_t *bytes;
	size_t len;

	for (uint64_t n = 0; n < 3; n++)
		places[n] = record_add(writer, n, 90 + (size_t)n, &wants[n]);
	segment_writer_close(&writer);
	bytes = file_read(path, &len);
	for (size_t cut = len; cut-- > 0;) {
		if (truncate(path, (off_t)cut))
			abort();
		for (uint64_t n = 0; n < 3; n++)
			CHECK_MSG(record_ask(&bench, &places[n], &wants[n], n) != WRONG,
				  "cut at %zu", cut);
	}
	free(bytes);
	free(path);
	bench_close(&bench);
}

static void test_another_record_in_the_place_is_a_miss(void)
{
	struct bench bench = bench_open();
	struct segment_writer *writer = bench_writer(&bench, 1 << 20);
	struct record_want want, other;
	struct place place = record_add(writer, 1, 500, &want);
	struct place bad;

	record_add(writer, 2, 500, &other);
	segment_writer_close(&writer);
	CHECK_INT(record_ask(&bench, &place, &other, 1), MISS);
	other = want;
	other.object_size++;
	CHECK_INT(record_ask(&bench, &place, &other, 1), MISS);
	other = want;
	other.object_type = OBJECT_COMMIT;
	CHECK_INT(record_ask(&bench, &place, &other, 1), MISS);
	bad = place;
	bad.raw_len = UINT32_MAX;
	CHECK_INT(record_ask(&bench, &bad, &want, 1), MISS);
	bad = place;
	bad.stored_len++;
	CHECK_INT(record_ask(&bench, &bad, &want, 1), MISS);
	bad = place;
	bad.off = 1u << 30;
	CHECK_INT(record_ask(&bench, &bad, &want, 1), MISS);
	bad = place;
	bad.segment++;
	CHECK_INT(record_ask(&bench, &bad, &want, 1), MISS);
	CHECK_INT(record_ask(&bench, &place, &want, 1), RIGHT);
	bench_close(&bench);
}

/* Every length at which the last record may be torn; with and without a tail from the index. */
static void test_a_torn_tail_is_cut_off_by_the_next_writer(void)
{
	for (unsigned known = 0; known < 2; known++) {
		struct bench bench = bench_open();
		struct segment_writer *writer = bench_writer(&bench, 1 << 20);
		struct record_want wants[3];
		struct place places[3];
		char *path = segment_path(&bench, writer);
		uint64_t tail, end, id = segment_writer_id(writer);

		places[0] = record_add(writer, 1, 200, &wants[0]);
		tail = segment_writer_tail(writer);
		bench.tail = known ? tail : 0;
		places[1] = record_add(writer, 2, 200, &wants[1]);
		end = segment_writer_tail(writer);
		segment_writer_close(&writer);
		for (uint64_t cut = end; cut-- > tail;) {
			if (truncate(path, (off_t)cut))
				abort();
			writer = bench_writer(&bench, 1 << 20);
			CHECK_UINT(segment_writer_id(writer), id);
			CHECK_UINT(segment_writer_tail(writer), tail);
			places[2] = record_add(writer, 3, 300, &wants[2]);
			CHECK_INT(record_ask(&bench, &places[0], &wants[0], 1), RIGHT);
			CHECK_INT(record_ask(&bench, &places[1], &wants[1], 2), MISS);
			CHECK_INT(record_ask(&bench, &places[2], &wants[2], 3), RIGHT);
			segment_writer_close(&writer);
		}
		free(path);
		bench_close(&bench);
	}
}

static void test_a_whole_record_behind_the_known_tail_is_kept(void)
{
	struct bench bench = bench_open();
	struct segment_writer *writer = bench_writer(&bench, 1 << 20);
	struct record_want want;
	struct place place;
	uint64_t tail;

	bench.tail = segment_writer_tail(writer);
	place = record_add(writer, 1, 200, &want);
	tail = segment_writer_tail(writer);
	segment_writer_close(&writer);
	writer = bench_writer(&bench, 1 << 20);
	CHECK_UINT(segment_writer_tail(writer), tail);
	CHECK_INT(record_ask(&bench, &place, &want, 1), RIGHT);
	segment_writer_close(&writer);
	bench_close(&bench);
}

/* What was given back may lie anywhere, and nothing of it is left that could be taken for a record. */
static void test_a_writer_goes_on_behind_holes(void)
{
	for (unsigned known = 0; known < 2; known++) {
		struct bench bench = bench_open();
		struct segment_writer *writer = bench_writer(&bench, 1 << 20);
		struct record_want wants[21], want;
		struct place places[21], place;
		char *path = segment_path(&bench, writer);
		uint64_t end, id = segment_writer_id(writer);
		uint8_t *bytes;
		size_t len;

		for (unsigned n = 0; n < 21; n++)
			places[n] = record_add(writer, 3 * n, 5000, &wants[n]);
		end = segment_writer_tail(writer);
		segment_writer_close(&writer);
		for (unsigned n = 1; n < 20; n += 2)
			segments_give_back(bench.dir_fd, &places[n], 1);
		segments_give_back(bench.dir_fd, &places[6], 5);
		bytes = file_read(path, &len);
		for (unsigned n = 1; n < 20; n += 2)
			for (uint64_t i = places[n].off;
			     i < places[n].off + record_len(places[n].stored_len); i++)
				CHECK_UINT(bytes[i], 0);
		free(bytes);
		bench.tail = known ? places[0].off : 0;
		writer = bench_writer(&bench, 1 << 20);
		CHECK_UINT(segment_writer_id(writer), id);
		CHECK_UINT(segment_writer_tail(writer), end);
		place = record_add(writer, 99, 300, &want);
		CHECK_INT(record_ask(&bench, &place, &want, 99), RIGHT);
		CHECK_INT(record_ask(&bench, &places[0], &wants[0], 0), RIGHT);
		CHECK_INT(record_ask(&bench, &places[20], &wants[20], 60), RIGHT);
		CHECK_INT(record_ask(&bench, &places[5], &wants[5], 15), MISS);
		segment_writer_close(&writer);
		free(path);
		bench_close(&bench);
	}
}

static void test_a_segment_in_use_is_left_alone(void)
{
	struct bench bench = bench_open();
	struct segment_writer *a = bench_writer(&bench, 1 << 20),
			      *b = bench_writer(&bench, 1 << 20);

	CHECK(segment_writer_id(a) != segment_writer_id(b));
	segment_writer_close(&a);
	segment_writer_close(&b);
	bench_close(&bench);
}

static void test_a_full_cut_or_strange_segment_is_not_taken_over(void)
{
	struct bench bench = bench_open();
	struct segment_writer *writer = bench_writer(&bench, 4096);
	struct record_want want;
	uint64_t id = segment_writer_id(writer);
	char *path = segment_path(&bench, writer);

	/* full */
	record_add(writer, 0, 5000, &want);
	CHECK(!segment_writer_has_room(writer, 8));
	segment_writer_close(&writer);
	writer = bench_writer(&bench, 4096);
	CHECK(segment_writer_id(writer) != id);
	unlink(path);
	free(path);
	/* shorter than the index knows */
	id = segment_writer_id(writer);
	bench.tail = segment_writer_tail(writer) + 800;
	segment_writer_close(&writer);
	writer = bench_writer(&bench, 4096);
	CHECK(segment_writer_id(writer) != id);
	path = segment_path(&bench, writer);
	id = segment_writer_id(writer);
	segment_writer_close(&writer);
	bench.tail = 0;
	/* another's name, by hand */
	file_poke(path, 0, "X", 1);
	writer = bench_writer(&bench, 4096);
	CHECK(segment_writer_id(writer) != id);
	segment_writer_close(&writer);
	free(path);
	bench_close(&bench);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_segment_header_bytes_are_locked);
	TAP_RUN(test_record_header_bytes_are_locked);
	TAP_RUN(test_body_check_is_xxh3);
	TAP_RUN(test_every_flipped_bit_of_a_header_is_noticed);
	TAP_RUN(test_sound_headers_with_senseless_values_are_refused);
	TAP_RUN(test_segment_of_another_version_or_byte_order_is_not_damaged_but_foreign);
	TAP_RUN(test_names);
	TAP_RUN(test_codec_brings_back_what_it_packed);
	TAP_RUN(test_every_flipped_byte_of_a_segment_is_a_miss_or_right);
	TAP_RUN(test_a_segment_cut_anywhere_is_a_miss_or_right);
	TAP_RUN(test_another_record_in_the_place_is_a_miss);
	TAP_RUN(test_a_torn_tail_is_cut_off_by_the_next_writer);
	TAP_RUN(test_a_whole_record_behind_the_known_tail_is_kept);
	TAP_RUN(test_a_writer_goes_on_behind_holes);
	TAP_RUN(test_a_segment_in_use_is_left_alone);
	TAP_RUN(test_a_full_cut_or_strange_segment_is_not_taken_over);
	return tap_done();
}
