/* Tests of src/remote/origin.c. */
#include "remote/origin.h"

#include "base/uri.h"
#include "expect.h"

static void test_an_origin_is_scheme_host_and_port(void)
{
	static const struct {
		const char *a, *b;
		bool equal;
	} rows[] = {
		{ "https://h.org/a", "https://H.org/b", true },
		{ "https://h.org/", "https://h.org:443/", true },
		{ "http://h.org:80", "http://u:p@h.org/x", true },
		{ "http://[::1]:8080/", "http://[::1]:8080/x", true },
		{ "https://h.org/", "http://h.org/", false },
		{ "https://h.org/", "http://h.org:443/", false },
		{ "https://h.org/", "https://h.org:8443/", false },
		{ "https://h.org/", "https://h.org.evil/", false },
		{ "https://h.org/", "https://x.h.org/", false },
		{ "https:///x", "https:///x", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct uri a, b;

		CHECK_INT(uri_parse(rows[i].a, &a), 0);
		CHECK_INT(uri_parse(rows[i].b, &b), 0);
		EXPECT_INT(origin_equal(&a, &b), rows[i].equal, "%s and %s", rows[i].a, rows[i].b);
		EXPECT_INT(origin_equal(&b, &a), rows[i].equal, "%s and %s", rows[i].b, rows[i].a);
		uri_release(&a);
		uri_release(&b);
	}
}

static void test_only_this_machine_is_loopback(void)
{
	static const struct {
		const char *url;
		bool loopback, safe;
	} rows[] = {
		{ "http://127.0.0.1:80/x", true, true },
		{ "http://127.255.0.9/", true, true },
		{ "http://[::1]/", true, true },
		{ "http://localhost:8080/", true, true },
		{ "http://LOCALHOST/", true, true },
		{ "https://localhost/", true, true },
		{ "https://h.org/", false, true },
		{ "http://u:p@127.0.0.1/", true, true },
		{ "ssh://localhost/x", true, false },
		{ "http://h.org/", false, false },
		{ "http://128.0.0.1/", false, false },
		{ "http://127.0.0.1.h.org/", false, false },
		{ "http://127.1/", false, false }, /* others read it so; we need not */
		{ "http://0.0.0.0/", false, false },
		{ "http://[::]/", false, false },
		{ "http://[::ffff:127.0.0.1]/", false, false },
		{ "http://localhost.h.org/", false, false },
		{ "http://127.0.0.1@h.org/", false, false },
		{ "https:///x", false, false },
		{ "127.0.0.1", false, false },
		{ "", false, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		EXPECT_INT(url_is_loopback(rows[i].url), rows[i].loopback, "%s", rows[i].url);
		EXPECT_INT(url_is_safe(rows[i].url), rows[i].safe, "%s", rows[i].url);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_an_origin_is_scheme_host_and_port);
	TAP_RUN(test_only_this_machine_is_loopback);
	return tap_done();
}
