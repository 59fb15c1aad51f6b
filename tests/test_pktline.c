/* Tests of git/pktline: what is written, what is read, whole and in pieces, and what is refused. */
#include "git/pktline.h"

#include <errno.h>

#include "expect.h"

/* Packets as text: "D5:hello" and "F", "L", "E" for flush, delim and response end. */
struct log {
	struct buf text;
	int stop_at; /* the packet that makes the callback return 7; 0: none */
	int count;
};

static int note(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len)
{
	static const char letters[] = { 'D', 'F', 'L', 'E' };
	struct log *log = arg;

	buf_addf(&log->text, "%c", letters[kind]);
	if (kind == PKT_DATA)
		buf_addf(&log->text, "%zu:%.*s ", len, (int)(len < 20 ? len : 20),
			 (const char *)data);
	return ++log->count == log->stop_at ? 7 : 0;
}

static int read_all(const void *bytes, size_t len, size_t piece, struct log *log, int *out_boundary)
{
	struct pkt_reader reader;
	const uint8_t *data = bytes;
	int rc = 0;

	pkt_reader_init(&reader);
	for (size_t off = 0; off < len && !rc; off += piece) {
		size_t used, part = len - off < piece ? len - off : piece;

		rc = pkt_reader_feed(&reader, data + off, part, &used, note, log);
		if (!rc && used != part)
			rc = -ERANGE;
	}
	*out_boundary = pkt_reader_at_boundary(&reader);
	pkt_reader_release(&reader);
	return rc;
}

static void test_reading(void)
{
	static const struct {
		const char *bytes, *want;
		int rc, boundary;
	} cases[] = {
		{ "0009hello0000", "D5:hello F", 0, 1 },
		{ "0004", "D0: ", 0, 1 },
		{ "000100020000", "LEF", 0, 1 },
		{ "0005a0006bc0001", "D1:a D2:bc L", 0, 1 },
		{ "000Aabcdef", "D6:abcdef ", 0, 1 },
		{ "", "", 0, 1 },
		{ "00", "", 0, 0 },
		{ "0009hel", "", 0, 0 },
		{ "0003", "", -EPROTO, 1 },
		{ "fff1", "", -EPROTO, 1 },
		{ "ffff", "", -EPROTO, 1 },
		{ "PACK", "", -EPROTO, 1 },
		{ "00-1", "", -EPROTO, 1 },
		{ "0005x0x05", "D1:x ", -EPROTO, 1 },
		{ "<htm", "", -EPROTO, 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len = strlen(cases[i].bytes);

		for (size_t piece = 1; piece <= (len ? len : 1); piece++) {
			struct log log = { BUF_INIT, 0, 0 };
			int boundary, rc = read_all(cases[i].bytes, len, piece, &log, &boundary);

			EXPECT_INT(rc, cases[i].rc, "'%s' by %zu: result", cases[i].bytes, piece);
			EXPECT_STR(buf_str(&log.text), cases[i].want, "'%s' by %zu: packets",
				   cases[i].bytes, piece);
			if (!rc)
				EXPECT_INT(boundary, cases[i].boundary, "'%s' by %zu: boundary",
					   cases[i].bytes, piece);
			buf_release(&log.text);
		}
	}
}

static void test_stopping_tells_what_was_used(void)
{
	static const char bytes[] = "0005a0005b0005c";
	struct log log = { BUF_INIT, 2, 0 };
	struct pkt_reader reader;
	size_t used = 0;

	pkt_reader_init(&reader);
	EXPECT_INT(pkt_reader_feed(&reader, (const uint8_t *)bytes, 15, &used, note, &log), 7,
		   "the callback's value comes out");
	EXPECT_INT(used, 10, "the second packet was used");
	EXPECT_INT(pkt_reader_feed(&reader, (const uint8_t *)bytes + used, 15 - used, NULL, note,
				   &log),
		   0, "the rest goes on");
	EXPECT_STR(buf_str(&log.text), "D1:a D1:b D1:c ", "nothing lost, nothing twice");
	pkt_reader_release(&reader);
	buf_release(&log.text);
}

static void test_writing(void)
{
	static uint8_t big[PKT_MAX_DATA + 1];
	struct buf out = BUF_INIT;

	EXPECT_INT(pkt_add(&out, "hello", 5), 0, "add");
	EXPECT_INT(pkt_addf(&out, "want %s %d\n", "x", 7), 0, "addf");
	EXPECT_INT(pkt_add(&out, NULL, 0), 0, "add nothing");
	EXPECT_INT(pkt_add_delim(&out), 0, "delim");
	EXPECT_INT(pkt_add_flush(&out), 0, "flush");
	EXPECT_STR(buf_str(&out), "0009hello000dwant x 7\n000400010000", "what was written");

	buf_clear(&out);
	EXPECT_INT(pkt_add(&out, big, PKT_MAX_DATA + 1), -E2BIG, "one byte too many");
	EXPECT_INT(pkt_addf(&out, "%*d", PKT_MAX_DATA + 1, 1), -E2BIG,
		   "one formatted byte too many");
	EXPECT_INT(out.len, 0, "a failed add changes nothing");
	EXPECT_INT(pkt_add(&out, big, PKT_MAX_DATA), 0, "the largest packet");
	EXPECT(out.len == PKT_MAX_LEN && memcmp(out.data, "fff0", 4) == 0, "its length");
	for (size_t piece = 1; piece < 3 * PKT_MAX_LEN; piece = piece * 5 + 3) {
		struct log log = { BUF_INIT, 0, 0 };
		int boundary;

		EXPECT_INT(read_all(out.data, out.len, piece, &log, &boundary), 0,
			   "the largest packet by %zu", piece);
		EXPECT(log.count == 1 && boundary, "is one packet");
		buf_release(&log.text);
	}
	buf_release(&out);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_reading);
	TAP_RUN(test_stopping_tells_what_was_used);
	TAP_RUN(test_writing);
	return tap_done();
}
