/* Tests of git/delta: every instruction, every way to be malformed, both ways to apply. */
#include "git/delta.h"

#include <errno.h>

#include "base/buf.h"
#include "expect.h"

static const char base[] = "0123456789abcdef";
#define BASE_LEN 16

static int base_read(void *arg, uint64_t off, uint8_t *out, size_t len)
{
	const struct buf *bytes = arg;

	if (off > bytes->len || len > bytes->len - off)
		return -EFAULT; /* delta_apply() promises not to */
	memcpy(out, bytes->data + off, len);
	return 0;
}

static int result_add(void *arg, const uint8_t *data, size_t len)
{
	return len > 0 && len <= 65536 ? buf_add(arg, data, len) : -EFAULT;
}

#define D(bytes) bytes, sizeof(bytes) - 1

static const struct {
	const char *name, *delta;
	size_t len;
	int rc;
	const char *want;
} cases[] = {
	{ "copy all", D("\x10\x10\x90\x10"), 0, "0123456789abcdef" },
	{ "insert", D("\x10\x03\x03xyz"), 0, "xyz" },
	{ "copy, insert, copy", D("\x10\x08\x91\x0a\x03\x02--\x90\x03"), 0, "abc--012" },
	{ "empty result", D("\x10\x00"), 0, "" },
	{ "the same stretch twice", D("\x10\x04\x91\x04\x02\x91\x04\x02"), 0, "4545" },
	{ "all operand bytes", D("\x10\x02\xff\x01\0\0\0\x02\0\0"), 0, "12" },
	{ "sizes with spare bytes", D("\x90\x00\x81\x00\x01x"), 0, "x" },
	{ "nothing", D(""), -EPROTO, NULL },
	{ "no result size", D("\x10"), -EPROTO, NULL },
	{ "half a size", D("\x10\x80"), -EPROTO, NULL },
	{ "another base", D("\x11\x01\x01x"), -EPROTO, NULL },
	{ "reserved instruction", D("\x10\x01\x00"), -EPROTO, NULL },
	{ "insert cut short", D("\x10\x03\x03xy"), -EPROTO, NULL },
	{ "copy cut in its offset", D("\x10\x03\x93\x00"), -EPROTO, NULL },
	{ "copy cut in its length", D("\x10\x03\x90"), -EPROTO, NULL },
	{ "copy beyond the base", D("\x10\x02\x91\x0f\x02"), -EPROTO, NULL },
	{ "copy from beyond the base", D("\x10\x01\x91\x11\x01"), -EPROTO, NULL },
	{ "copy from far beyond", D("\x10\x01\x9f\xff\xff\xff\xff\x01"), -EPROTO, NULL },
	{ "64 KiB of a small base", D("\x10\x80\x80\x04\x80"), -EPROTO, NULL },
	{ "result too short", D("\x10\x04\x03xyz"), -EPROTO, NULL },
	{ "result too long", D("\x10\x02\x03xyz"), -EPROTO, NULL },
	{ "size above INT64_MAX", D("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -EPROTO,
	  NULL },
	{ "endless size", D("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x00"), -EPROTO,
	  NULL },
};

static void test_table(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const uint8_t *delta = (const uint8_t *)cases[i].delta;
		struct buf bytes = { (uint8_t *)(uintptr_t)base, BASE_LEN, BASE_LEN },
			   out = BUF_INIT;
		uint8_t result[64];
		size_t want_len = cases[i].want ? strlen(cases[i].want) : 3;

		EXPECT_INT(delta_apply(delta, cases[i].len, BASE_LEN, base_read, &bytes, result_add,
				       &out),
			   cases[i].rc, "%s: streamed", cases[i].name);
		if (!cases[i].rc)
			EXPECT_MEM(out.data, out.len, cases[i].want, want_len, "%s: its bytes",
				   cases[i].name);
		EXPECT_INT(delta_apply_mem(delta, cases[i].len, bytes.data, BASE_LEN, result,
					   want_len),
			   cases[i].rc, "%s: in memory", cases[i].name);
		if (!cases[i].rc)
			EXPECT_MEM(result, want_len, cases[i].want, want_len, "%s: its bytes",
				   cases[i].name);
		buf_release(&out);
	}
}

static void test_header(void)
{
	static const uint8_t delta[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					 0xff, 0xff, 0x7f, 0x80, 0x01, 0x01 };
	struct delta_header header;

	for (size_t len = 0; len < 11; len++)
		EXPECT_INT(delta_header(delta, len, &header), -EAGAIN, "%zu bytes are not enough",
			   len);
	EXPECT_INT(delta_header(delta, 11, &header), 0, "eleven are");
	EXPECT(header.base_size == INT64_MAX, "the largest base");
	EXPECT_INT(header.result_size, 128, "the result's size");
	EXPECT_INT(header.len, 11, "the header's length");
	EXPECT_INT(delta_apply_mem((const uint8_t *)"\x00\x01\x01x", 4, NULL, 0, (uint8_t *)&header,
				   2),
		   -EPROTO, "a result of another size than expected");
}

static int fail_base(void *arg, uint64_t off, uint8_t *out, size_t len)
{
	(void)arg, (void)off, (void)out, (void)len;
	return -EIO;
}

static int fail_out(void *arg, const uint8_t *data, size_t len)
{
	(void)arg, (void)data, (void)len;
	return -ENOSPC;
}

static void test_errors_of_callbacks_come_out(void)
{
	const uint8_t *delta = (const uint8_t *)"\x10\x10\x90\x10";
	struct buf bytes = { (uint8_t *)(uintptr_t)base, BASE_LEN, BASE_LEN }, out = BUF_INIT;

	EXPECT_INT(delta_apply(delta, 4, BASE_LEN, fail_base, NULL, result_add, &out), -EIO,
		   "base");
	EXPECT_INT(delta_apply(delta, 4, BASE_LEN, base_read, &bytes, fail_out, NULL), -ENOSPC,
		   "out");
	buf_release(&out);
}

/* 3 MiB from a 1 MiB base, copies of every length up to 16 MiB - 1 in their encoding. */
static void test_large(void)
{
	struct buf bytes = BUF_INIT, out = BUF_INIT;
	static const uint8_t delta[] = {
		0x80, 0x80, 0x40,	/* 1 MiB */
		0x85, 0x80, 0xc0, 0x01, /* 3 MiB + 5 */
		0xc0, 0x10, 5,	  'h',	'e', 'l', 'l', 'o', 0xc0, 0x10, 0xc0, 0x10,
	};
	uint8_t *result = malloc(3 * 1048576 + 5);
	size_t same = 0;

	for (uint32_t i = 0; i < 1048576 / 4; i++)
		buf_add(&bytes, &i, 4);
	EXPECT_INT(
		delta_apply(delta, sizeof(delta), bytes.len, base_read, &bytes, result_add, &out),
		0, "streamed");
	EXPECT_INT(out.len, 3 * 1048576 + 5, "its length");
	EXPECT_INT(delta_apply_mem(delta, sizeof(delta), bytes.data, bytes.len, result, out.len), 0,
		   "in memory");
	EXPECT_MEM(out.data, out.len, result, out.len, "both the same");
	same += memcmp(result, bytes.data, bytes.len) == 0;
	same += memcmp(result + bytes.len, "hello", 5) == 0;
	same += memcmp(result + bytes.len + 5, bytes.data, bytes.len) == 0;
	EXPECT_INT(same, 3, "and right");
	free(result);
	buf_release(&bytes);
	buf_release(&out);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_table);
	TAP_RUN(test_header);
	TAP_RUN(test_errors_of_callbacks_come_out);
	TAP_RUN(test_large);
	return tap_done();
}
