/* Tests of mount/mountopt.c. */
#include "mount/mountopt.h"

#include <errno.h>

#include "tests/tap.h"

static bool options_equal(const struct mountopt *a, const struct mountopt *b)
{
	return a->allow_other == b->allow_other &&
	       a->default_permissions == b->default_permissions && a->xattr == b->xattr &&
	       a->open == b->open;
}

static void test_options_are_read(void)
{
	static const struct {
		const char *text, *fuse;
		struct mountopt want;
	} rows[] = {
		{ NULL, "", { 0 } },
		{ "", "", { 0 } },
		{ ",,", "", { 0 } },
		{ "ro,nosuid,nodev,_netdev", "", { 0 } },
		{ "xattr", "", { .xattr = true } },
		{ "open,xattr", "", { .xattr = true, .open = true } },
		{ "allow_other",
		  "allow_other",
		  { .allow_other = true, .default_permissions = true } },
		{ "allow_root",
		  "allow_root",
		  { .allow_other = true, .default_permissions = true } },
		{ "default_permissions", "", { .default_permissions = true } },
		{ "noexec,xattr,context=a", "noexec,context=a", { .xattr = true } },
		{ "context=\"a\\,b\",open", "context=\"a\\,b\"", { .open = true } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mountopt got;
		struct buf fuse = BUF_INIT;

		CHECK_INT(mountopt_parse(rows[i].text, &got, &fuse, NULL), 0);
		CHECK_STR(buf_str(&fuse), rows[i].fuse);
		CHECK_MSG(options_equal(&got, &rows[i].want), "row %zu", i);
		buf_release(&fuse);
	}
}

static void test_timeouts_are_a_year_or_what_was_said(void)
{
	struct mountopt got;
	struct buf fuse = BUF_INIT;

	CHECK_INT(mountopt_parse("ro", &got, &fuse, NULL), 0);
	CHECK(got.entry_timeout_s == MOUNTOPT_TIMEOUT_S);
	CHECK(got.attr_timeout_s == MOUNTOPT_TIMEOUT_S);
	CHECK(got.negative_timeout_s == MOUNTOPT_TIMEOUT_S);
	CHECK_INT(mountopt_parse("attr_timeout=0,entry_timeout=1.5,ro,negative_timeout=60", &got,
				 &fuse, NULL),
		  0);
	CHECK(got.attr_timeout_s == 0);
	CHECK(got.entry_timeout_s == 1.5);
	CHECK(got.negative_timeout_s == 60);
	CHECK_UINT(fuse.len, 0);
	buf_release(&fuse);
}

static void test_what_is_not_known_is_refused_by_name(void)
{
	static const char *const rows[] = { "nonsense",
					    "xattrs",
					    "xatt",
					    "rw",
					    "suid",
					    "dev",
					    "fsname=x",
					    "max_read=4096",
					    "open=1",
					    "attr_timeout",
					    "attr_timeout=",
					    "attr_timeout=-1",
					    "entry_timeout=1s",
					    "entry_timeout=nan",
					    "negative_timeout=1e99" };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mountopt got;
		struct buf fuse = BUF_INIT;
		struct xcp_error err;

		CHECK_INT(mountopt_parse(rows[i], &got, &fuse, &err), -EINVAL);
		CHECK_CONTAINS(err.message, rows[i]);
		CHECK_UINT(fuse.len, 0);
	}
}

static void test_a_source_becomes_one_value(void)
{
	static const char *const rows[][2] = {
		{ "https://example.org/r.git", "https://example.org/r.git" },
		{ "a,b", "a\\,b" },
		{ "a\\b,rw", "a\\\\b\\,rw" },
		{ "a\nb\tc\x7f", "a?b?c?" },
		{ "\xc3\xa4 b", "\xc3\xa4 b" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_INIT;

		CHECK_INT(mountopt_escape(&out, rows[i][0]), 0);
		CHECK_STR(buf_str(&out), rows[i][1]);
		buf_release(&out);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_options_are_read);
	TAP_RUN(test_timeouts_are_a_year_or_what_was_said);
	TAP_RUN(test_what_is_not_known_is_refused_by_name);
	TAP_RUN(test_a_source_becomes_one_value);
	return tap_done();
}
