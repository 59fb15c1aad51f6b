/* uri: parts, refusals, redaction, escaping. */
#include "base/uri.h"

#include <errno.h>

#include "base/buf.h"
#include "tests/tap.h"

static void test_parts(void)
{
	static const struct {
		const char *text;
		const char *want[6]; /* in the order of the struct */
		const char *formatted;
	} rows[] = {
		{ "https://example.org/a/b.git",
		  { "https", NULL, NULL, "example.org", NULL, "/a/b.git" },
		  "https://example.org/a/b.git" },
		{ "HTTPS://User:P%40ss@Example.ORG:8443/r?x=1#f",
		  { "https", "User", "P@ss", "example.org", "8443", "/r?x=1#f" },
		  "https://example.org:8443/r?x=1#f" },
		{ "ssh://git@[2001:DB8::1]:22/~u/r",
		  { "ssh", "git", NULL, "2001:db8::1", "22", "/~u/r" },
		  "ssh://[2001:db8::1]:22/~u/r" },
		{ "http://[::1]", { "http", NULL, NULL, "::1", NULL, "" }, "http://[::1]" },
		{ "http://h:/p", { "http", NULL, NULL, "h", NULL, "/p" }, "http://h/p" },
		{ "http://:tok:en@h", { "http", "", "tok:en", "h", NULL, "" }, "http://h" },
		{ "http://a@b@h/c@d", { "http", "a@b", NULL, "h", NULL, "/c@d" }, "http://h/c@d" },
		{ "file:///tmp/r%20x",
		  { "file", NULL, NULL, NULL, NULL, "/tmp/r%20x" },
		  "file:///tmp/r%20x" },
		{ "git+ssh://h?q", { "git+ssh", NULL, NULL, "h", NULL, "?q" }, "git+ssh://h?q" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf again = BUF_INIT;
		struct uri uri;

		CHECK_MSG(uri_parse(rows[i].text, &uri) == 0, "%s", rows[i].text);
		CHECK_STR(uri.scheme, rows[i].want[0]);
		CHECK_STR(uri.user, rows[i].want[1]);
		CHECK_STR(uri.password, rows[i].want[2]);
		CHECK_STR(uri.host, rows[i].want[3]);
		CHECK_STR(uri.port, rows[i].want[4]);
		CHECK_STR(uri.path, rows[i].want[5]);
		CHECK_INT(uri_format(&uri, &again), 0);
		CHECK_STR(buf_str(&again), rows[i].formatted);
		buf_release(&again);
		uri_release(&uri);
		CHECK_NULL(uri.scheme);
	}
}

static void test_refused(void)
{
	static const char *const rows[] = {
		"",
		"://h",
		"h/p",
		"http:/h",
		"1http://h",
		"ht tp://h",
		"http://h\n/",
		"http://h/\177",
		"http://h/%",
		"http://h/%4",
		"http://h/%g0",
		"http://u%0@h",
		"http://u%00@h",
		"http://h:0/",
		"http://h:65536/",
		"http://h:1x",
		"http://h:-1",
		"http://[::1",
		"http://[::1]x/",
		"http://[]/",
		"http://u:p%zz@h",
		"http://good\\@evil\\x/",
		"http://a b/",
		"http://[:':1]/",
		"http://a[b/",
	};
	struct uri uri = { .scheme = NULL };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_MSG(uri_parse(rows[i], &uri) == -EINVAL, "\"%s\"", rows[i]);
	CHECK_NULL(uri.scheme);
}

static void test_redact(void)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "https://u:secret@h/r", "https://h/r" },
		{ "https://secret@h:1/r@v1", "https://h:1/r@v1" },
		{ "https://u:se@cret@h/r", "https://h/r" },
		{ "https://u:sec/ret@h/r", "https://h/r" },
		{ "https://u:sec?ret#@h/r", "https://h/r" },
		{ "https://u:se cret@h/r", "https://h/r" },
		{ "https://u:se@c ret@h/r", "https://h/r" },
		{ "https://u:12 34@h/r", "https://h/r" },
		{ "https://se?cret@h/r", "https://h/r" },
		{ "https://se#cret@h/r", "https://h/r" },
		{ "https://u:se'cret@h/r", "https://h/r" },
		{ "https://h/owner/repo@v2", "https://h/owner/repo@v2" },
		{ "https://h:80/r@v2", "https://h:80/r@v2" },
		{ "git@h:r", "git@h:r" },
		{ "owner/repo@main", "owner/repo@main" },
		{ "", "" },
		{ "a '://' b", "a '://' b" },
		{ "cannot reach 'https://u:secret@h/r': got http://t:secret@i",
		  "cannot reach 'https://h/r': got http://i" },
		{ "https://u:secret@", "https://" },
	};
	char out[200], tiny[8];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_STR(uri_redact(rows[i].text, out, sizeof(out)), rows[i].want);
	CHECK_STR(uri_redact("https://u:p@h/", tiny, sizeof(tiny)), "https:/");
	CHECK_STR(uri_redact("x", tiny, 1), "");
}

static void test_escape(void)
{
	static const struct {
		const char *text, *keep, *want;
	} rows[] = {
		{ "aZ09-._~", "", "aZ09-._~" },
		{ "a b/c", "", "a%20b%2Fc" },
		{ "a b/c", "/", "a%20b/c" },
		{ "\303\244\n%", "/", "%C3%A4%0A%25" },
		{ "", "/", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_INIT;

		CHECK_INT(uri_escape(&out, rows[i].text, rows[i].keep), 0);
		CHECK_STR(buf_str(&out), rows[i].want);
		buf_release(&out);
	}
}

static void test_wipe(void)
{
	char secret[] = "secret";

	secret_wipe(secret, 6);
	CHECK_MEM(secret, 6, "\0\0\0\0\0\0", 6);
	secret_wipe(NULL, 0);
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_parts);
	TAP_RUN(test_refused);
	TAP_RUN(test_redact);
	TAP_RUN(test_escape);
	TAP_RUN(test_wipe);
	return tap_done();
}
