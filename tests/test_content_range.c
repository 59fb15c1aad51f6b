/* Tests of src/remote/content_range.c. */
#include "remote/content_range.h"

#include <errno.h>

#include "expect.h"

static void test_what_servers_write_is_read(void)
{
	static const struct {
		const char *text;
		struct content_range want;
	} rows[] = {
		{ "bytes 0-0/1", { 0, 0, 1 } },
		{ "bytes 100-149/1000", { 100, 149, 1000 } },
		{ "BYTES 1-2/3", { 1, 2, 3 } },
		{ "bytes 0-9/*", { 0, 9, UINT64_MAX } },
		{ "bytes 00-09/0010", { 0, 9, 10 } },
		{ "bytes 9223372036854775805-9223372036854775806/9223372036854775807",
		  { INT64_MAX - 2, INT64_MAX - 1, INT64_MAX } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct content_range got = { 0 };

		EXPECT_INT(content_range_parse(rows[i].text, &got), 0, "%s", rows[i].text);
		EXPECT(got.first == rows[i].want.first && got.last == rows[i].want.last &&
			       got.total == rows[i].want.total,
		       "%s", rows[i].text);
	}
}

static void test_anything_else_is_refused(void)
{
	static const char *const rows[] = {
		"",
		"bytes",
		"bytes ",
		"bytes 0",
		"bytes 0-",
		"bytes 0-1",
		"bytes 0-1/",
		"bytes 0-1/2x",
		"bytes 0-1/2 ",
		" bytes 0-1/2",
		"bytes  0-1/2",
		"bytes=0-1/2",
		"bytes 0-1/ 2",
		"bytes 0 -1/2",
		"bytes -1/2",
		"bytes */2",
		"bytes */*",
		"bytes 0-*/2",
		"bytes 0-1/**",
		"bytes 1-0/2",
		"bytes 0-2/2",
		"bytes 2-2/2",
		"bytes 0-0/0",
		"bytes +0-1/2",
		"bytes -0-1/2",
		"bytes 0x0-1/2",
		"items 0-1/2",
		"bytes 0-1/2, 3-4/5",
		"?",
		/* 2^63, 2^64 - 1, 2^64 + 1 */
		"bytes 0-1/9223372036854775808",
		"bytes 0-1/18446744073709551615",
		"bytes 0-18446744073709551617/2",
		"bytes 18446744073709551616-1/2",
		"bytes 0-1/99999999999999999999999999999999999999999999",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct content_range got = { 7, 8, 9 };

		EXPECT_INT(content_range_parse(rows[i], &got), -EINVAL, "\"%s\"", rows[i]);
		EXPECT(got.first == 7 && got.last == 8 && got.total == 9, "\"%s\"", rows[i]);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_servers_write_is_read);
	TAP_RUN(test_anything_else_is_refused);
	return tap_done();
}
