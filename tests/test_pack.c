/*
 * Tests of git/pack: packs that git makes, with both kinds of deltas and both hashes, fed in all
 * kinds of pieces; and packs made by hand that are wrong in every way the format allows.
 */
#include "git/pack.h"

#include <zlib.h>

#include "expect.h"
#include "git_support.h"
#include "pack_support.h"

/* ---- feeding ---- */

enum pieces { WHOLE, BYTES, RANDOM_PIECES };

/* Returns what the parser said at the end; *out_finished whether it saw the end. */
static int feed(enum oid_algo algo, const struct buf *pack, enum pieces pieces, struct collector *c,
		bool *out_finished)
{
	struct pack_parser *parser = pack_parser_new(algo, &collector_events, c);
	uint32_t random = 12345;
	int rc = 0;

	c->algo = algo;
	for (size_t off = 0, len; off < pack->len && !rc; off += len) {
		len = pieces == WHOLE ? pack->len :
		      pieces == BYTES ? 1 :
					git_random(&random) % 70000;
		if (pieces == RANDOM_PIECES && git_random(&random) % 2)
			len %= 40;
		if (len > pack->len - off)
			len = pack->len - off;
		uint8_t *exact = malloc(len ? len : 1);

		memcpy(exact, pack->data + off, len);
		rc = pack_parser_feed(parser, exact, len);
		free(exact);
	}
	*out_finished = pack_parser_finished(parser);
	if (rc) {
		int again = pack_parser_feed(parser, (const uint8_t *)"x", 1);

		if (again != rc || *pack_parser_error(parser) == '\0' || *out_finished)
			c->broken = 1; /* an error stays, and has words */
	}
	pack_parser_free(parser);
	return rc;
}

/* ---- packs of git ---- */

/* "<oid> <type> <size>" of all objects, in git's words and in ours. */
static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_sorted(struct buf *out, char **lines, size_t count)
{
	qsort(lines, count, sizeof(*lines), compare_lines);
	for (size_t i = 0; i < count; i++) {
		buf_addf(out, "%s\n", lines[i]);
		free(lines[i]);
	}
	free(lines);
}

static void describe(const struct collector *c, struct buf *out)
{
	char **lines = calloc(c->count + 1, sizeof(*lines));
	char hex[OID_MAX_HEX + 1];

	for (size_t i = 0; i < c->count; i++) {
		const struct packed *p = &c->v[i];

		if (asprintf(&lines[i], "%s %s %zu", oid_to_hex(&p->oid, hex),
			     object_type_name(p->type), p->whole.len) < 0)
			git_fatal("out of memory");
	}
	add_sorted(out, lines, c->count);
}

static void check_pack_of_git(const char *repository, enum oid_algo algo, const char *options,
			      enum pack_entry_kind delta)
{
	static const char *const how[] = { "whole", "byte by byte", "in random pieces" };
	struct buf pack = BUF_INIT, want = BUF_INIT;

	git_sh(&pack,
	       "cd %s && git rev-list --objects --all | git pack-objects -q --no-reuse-delta "
	       "--window=20 --stdout %s",
	       repository, options);
	git_sh(&want, "cd %s && git cat-file --batch-check --batch-all-objects | sort", repository);
	for (enum pieces pieces = WHOLE; pieces <= RANDOM_PIECES; pieces++) {
		struct collector c = { 0 };
		struct buf got = BUF_INIT;
		bool finished;

		EXPECT_INT(feed(algo, &pack, pieces, &c, &finished), 0, "%s %s: %s", repository,
			   options, how[pieces]);
		EXPECT(finished && !c.broken, "finished, events in order");
		EXPECT_INT(c.announced, c.count, "as many objects as announced");
		EXPECT(c.largest_piece <= 65536, "pieces of at most 64 KiB");
		EXPECT(collector_count_kind(&c, delta) > 0, "with deltas of the kind asked for");
		EXPECT_INT(collector_resolve(&c), 0, "all deltas resolve");
		describe(&c, &got);
		EXPECT_STR(buf_str(&got), buf_str(&want), "the objects are git's");
		buf_release(&got);
		collector_release(&c);
	}
	buf_release(&pack);
	buf_release(&want);
}

static void test_sha1_pack_with_offset_deltas(void)
{
	check_pack_of_git("one", OID_SHA1, "--delta-base-offset", PACK_OFS_DELTA);
}

static void test_sha1_pack_with_ref_deltas(void)
{
	check_pack_of_git("one", OID_SHA1, "", PACK_REF_DELTA);
}

static void test_sha256_pack_with_offset_deltas(void)
{
	check_pack_of_git("two", OID_SHA256, "--delta-base-offset", PACK_OFS_DELTA);
}

static void test_sha256_pack_with_ref_deltas(void)
{
	check_pack_of_git("two", OID_SHA256, "", PACK_REF_DELTA);
}

/* ---- packs made by hand ---- */

static void add_header(struct buf *pack, unsigned version, unsigned count)
{
	uint8_t header[12] = { 'P', 'A', 'C', 'K',	     0, 0, 0, (uint8_t)version,
			       0,   0,	 0,   (uint8_t)count };

	buf_add(pack, header, sizeof(header));
}

static void add_entry_head(struct buf *pack, unsigned kind, uint64_t size)
{
	uint8_t byte = (uint8_t)(kind << 4 | (size & 15));

	for (size >>= 4; size; size >>= 7) {
		byte |= 0x80;
		buf_add(pack, &byte, 1);
		byte = size & 0x7f;
	}
	buf_add(pack, &byte, 1);
}

static void add_deflated(struct buf *pack, const void *data, size_t len)
{
	uLongf out_len = compressBound(len);
	uint8_t *out = malloc(out_len);

	compress2(out, &out_len, data, len, 9);
	buf_add(pack, out, out_len);
	free(out);
}

static void add_blob(struct buf *pack, const char *text)
{
	add_entry_head(pack, PACK_BLOB, strlen(text));
	add_deflated(pack, text, strlen(text));
}

static void add_trailer(struct buf *pack, enum oid_algo algo)
{
	struct hasher hasher = { 0 };
	struct oid sum;

	hasher_init(&hasher, algo);
	hasher_update(&hasher, pack->data, pack->len);
	hasher_final(&hasher, &sum);
	hasher_release(&hasher);
	buf_add(pack, sum.hash, oid_algo_len(algo));
}

/* Feeds it whole and by bytes; a trailer is put behind it first. */
static void check(struct buf *pack, int want_rc, bool want_finished, const char *name)
{
	add_trailer(pack, OID_SHA1);
	for (enum pieces pieces = WHOLE; pieces <= BYTES; pieces++) {
		struct collector c = { 0 };
		bool finished;

		EXPECT_INT(feed(OID_SHA1, pack, pieces, &c, &finished), want_rc, "%s", name);
		EXPECT_INT(finished, want_finished, "finished or not");
		EXPECT(!c.broken, "events in order");
		collector_release(&c);
	}
	buf_release(pack);
}

static void test_small_packs(void)
{
	struct buf pack = BUF_INIT;

	add_header(&pack, 2, 0);
	check(&pack, 0, true, "no objects");
	add_header(&pack, 3, 1);
	add_blob(&pack, "");
	check(&pack, 0, true, "an empty object, version 3");
	add_header(&pack, 2, 2);
	add_blob(&pack, "hello");
	add_blob(&pack, "a text of more than fifteen bytes");
	check(&pack, 0, true, "two objects");
	add_header(&pack, 2, 2);
	add_blob(&pack, "hello");
	add_entry_head(&pack, PACK_OFS_DELTA, 4);
	buf_add(&pack, "\x0e", 1); /* the first blob's 1 byte of head and 13 of zlib */
	add_deflated(&pack, "\x05\x05\x90\x05", 4);
	check(&pack, 0, true, "a delta with its base at the first entry");
}

static void test_malformed_headers(void)
{
	struct buf pack = BUF_INIT;

	buf_add(&pack, "PACX\0\0\0\2\0\0\0\0", 12);
	check(&pack, -EPROTO, false, "bad magic");
	add_header(&pack, 4, 0);
	check(&pack, -EPROTO, false, "version 4");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, 0, 5);
	check(&pack, -EPROTO, false, "entry of type 0");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, 5, 5);
	check(&pack, -EPROTO, false, "entry of type 5");
	add_header(&pack, 2, 1);
	buf_add(&pack, "\xbf\xff\xff\xff\xff\xff\xff\xff\xff\x08", 10);
	check(&pack, -EPROTO, false, "size above INT64_MAX");
	add_header(&pack, 2, 1);
	buf_add(&pack, "\xb0\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12);
	check(&pack, -EPROTO, false, "size that does not end");
}

static void test_malformed_bases(void)
{
	static const struct {
		const char *varint, *name;
		size_t len;
	} cases[] = {
		{ "\x00", "base at the delta itself", 1 },
		{ "\x0f", "base in the pack's header", 1 },
		{ "\x7f", "base before the pack", 1 },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "base offset that overflows", 10 },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "base offset near the end of numbers",
		  9 },
	};
	struct buf pack = BUF_INIT;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		add_header(&pack, 2, 2);
		add_blob(&pack, "hello");
		add_entry_head(&pack, PACK_OFS_DELTA, 4);
		buf_add(&pack, cases[i].varint, cases[i].len);
		add_deflated(&pack, "\x05\x05\x90\x05", 4);
		check(&pack, -EPROTO, false, cases[i].name);
	}
}

static void test_malformed_data(void)
{
	static uint8_t zeros[32 << 20];
	struct buf pack = BUF_INIT;

	add_header(&pack, 2, 1);
	add_entry_head(&pack, PACK_BLOB, 4);
	add_deflated(&pack, "hello", 5);
	check(&pack, -EPROTO, false, "longer than its size");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, PACK_BLOB, 6);
	add_deflated(&pack, "hello", 5);
	check(&pack, -EPROTO, false, "shorter than its size");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, PACK_BLOB, 0);
	add_deflated(&pack, "h", 1);
	check(&pack, -EPROTO, false, "something where nothing should be");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, PACK_BLOB, 100000);
	add_deflated(&pack, zeros, sizeof(zeros));
	check(&pack, -EPROTO, false, "32 MiB where 100,000 bytes should be");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, PACK_BLOB, 5);
	buf_add(&pack, "no zlib data here", 17);
	check(&pack, -EPROTO, false, "no zlib data");
	add_header(&pack, 2, 1);
	add_entry_head(&pack, PACK_BLOB, 5);
	buf_add(&pack, "\x78\xbb\x4b\x04\0\0\0\0\0", 9);
	check(&pack, -EPROTO, false, "zlib data with a dictionary");
	add_header(&pack, 2, 2);
	add_blob(&pack, "only one of two");
	check(&pack, -EPROTO, false, "fewer objects than announced: its trailer is no entry");
}

static void test_ends(void)
{
	struct buf pack = BUF_INIT;
	bool finished;

	add_header(&pack, 2, 1);
	add_blob(&pack, "hello");
	add_trailer(&pack, OID_SHA1);
	for (size_t len = 0; len < pack.len; len++) {
		struct buf part = { pack.data, len, len };
		struct collector c = { 0 };

		EXPECT(feed(OID_SHA1, &part, WHOLE, &c, &finished) == 0 && !finished,
		       "cut at %zu: no error, not finished", len);
		collector_release(&c);
	}
	for (size_t i = 0; i < pack.len * 8; i++) {
		struct collector c = { 0 };
		int rc;

		pack.data[i / 8] ^= (uint8_t)(1 << i % 8);
		rc = feed(OID_SHA1, &pack, WHOLE, &c, &finished);
		EXPECT(!finished && (rc == 0 || rc == -EPROTO || rc == -EBADMSG),
		       "bit %zu flipped: never finished", i);
		if (i / 8 >= pack.len - 20)
			EXPECT_INT(rc, -EBADMSG, "a wrong trailer is told as such");
		pack.data[i / 8] ^= (uint8_t)(1 << i % 8);
		collector_release(&c);
	}
	buf_add(&pack, "x", 1);
	for (enum pieces pieces = WHOLE; pieces <= BYTES; pieces++) {
		struct collector c = { 0 };

		EXPECT_INT(feed(OID_SHA1, &pack, pieces, &c, &finished), -EPROTO,
			   "a byte behind the end");
		collector_release(&c);
	}
	buf_release(&pack);
}

static void test_events_stop_the_parser(void)
{
	struct buf pack = BUF_INIT;

	add_header(&pack, 2, 1);
	add_blob(&pack, "hello");
	add_trailer(&pack, OID_SHA1);
	for (int event = 1; event <= 5; event++) { /* header, entry, data, end, none */
		struct collector c = { .stop_at = event };
		bool finished;

		EXPECT_INT(feed(OID_SHA1, &pack, WHOLE, &c, &finished), event <= 4 ? -EXFULL : 0,
			   "stopped at event %d", event);
		EXPECT_INT(c.events, event <= 4 ? event : 4, "no event behind it");
		EXPECT(!c.broken, "the error stays");
		collector_release(&c);
	}
	buf_release(&pack);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	git_setup();
	git_make_repository("one", "sha1");
	git_make_repository("two", "sha256");
	TAP_RUN(test_sha1_pack_with_offset_deltas);
	TAP_RUN(test_sha1_pack_with_ref_deltas);
	TAP_RUN(test_sha256_pack_with_offset_deltas);
	TAP_RUN(test_sha256_pack_with_ref_deltas);
	TAP_RUN(test_small_packs);
	TAP_RUN(test_malformed_headers);
	TAP_RUN(test_malformed_bases);
	TAP_RUN(test_malformed_data);
	TAP_RUN(test_ends);
	TAP_RUN(test_events_stop_the_parser);
	return tap_done();
}
