/*
 * Tests of src/remote/range.c against a web server inside the test. A file of SIZE bytes is asked
 * for in parts; the server's script says what comes.
 */
#include "remote/remote.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "expect.h"
#include "http_support.h"
#include "remote_support.h"

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))
#define COMMIT "0123456789012345678901234567890123456789"
#define SIZE 1000
#define UNKNOWN UINT64_MAX

static const char caps_text[] = "v2 sha1 shallow filter";
static char file[SIZE];

/* ---- the stage: one server for git and for files, one remote ---- */

static struct web web;
static struct place place;
static struct collector collector;

struct setting {
	const char *git, *raw, *insecure; /* NULL: as usual */
	const char *source;
	unsigned stall_ms;
};

static bool stage_with(const struct setting *setting, const struct web_reply *script, size_t count)
{
	struct host_table *hosts = host_table_new();

	web_start(&web, script, count);
	collector_init(&collector);
	host_set(hosts, web.port, "git",
		 setting->git ? setting->git : "http://127.0.0.1:%u/git/{owner}/{repo}.git");
	host_set(hosts, web.port, "raw",
		 setting->raw ? setting->raw :
				"http://127.0.0.1:%u/raw/{owner}/{repo}/{commit}/{path}");
	if (setting->insecure)
		host_set(hosts, web.port, "insecure", setting->insecure);
	return place_open_at(&place, hosts, setting->source ? setting->source : "forge:o/r", NULL,
			     true, setting->stall_ms) &&
	       remote_connect(place.remote, caps_text, NULL) == 0;
}

static bool stage(const struct web_reply *script, size_t count)
{
	return stage_with(&(struct setting){ 0 }, script, count);
}

/* The counters of the remote are what the server saw. */
static void check_counters(void)
{
	struct remote_counters counters;

	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.requests_range, web.request_count);
	CHECK_UINT(counters.bytes_received, web.response_bytes);
	CHECK_UINT(counters.connections, web.connections);
}

static void leave(void)
{
	place_close(&place);
	web_stop(&web);
	web_release(&web);
	collector_release(&collector);
}

static int start(const char *path, uint64_t off, uint64_t len, uint64_t size,
		 struct remote_sink *sink, struct remote_call **out)
{
	struct range_spec spec = { .path = path, .off = off, .len = len, .size = size };

	oid_from_hex(COMMIT, 40, &spec.commit);
	return remote_start_range(place.remote, &spec, sink, out);
}

static enum remote_verdict read_part(uint64_t off, uint64_t len, uint64_t size)
{
	struct remote_call *call;

	collector_release(&collector);
	collector_init(&collector);
	if (start("dir/file", off, len, size, &collector.sink, &call))
		return REMOTE_CANCELED;
	return collector_wait(&collector);
}

static const char *header(size_t i, const char *name)
{
	static char value[512];

	return web_header(&web.requests[i], name, value, sizeof(value));
}

/* A right answer: [off, off+len) of the file, with this Content-Range. */
#define PART(off, n, text)                                                                         \
	{                                                                                          \
		.status = 206, .body = file + (off), .len = (n),                                   \
		.headers = "Content-Range: " text "\r\n"                                           \
	}

/* ---- right answers ---- */

static void test_a_part_is_asked_for_and_comes(void)
{
	const struct web_reply script[] = { PART(100, 50, "bytes 100-149/1000") };

	CHECK(stage(script, COUNT(script)));
	CHECK(remote_caps(place.remote) & REMOTE_RANGE);
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_OK);
	CHECK_INT(collector.outcome.error.code, 0);
	CHECK_UINT(collector.begins, 1);
	CHECK_UINT(collector.begin_off, 100);
	CHECK_UINT(collector.begin_total, SIZE);
	CHECK_MEM(collector.pack.data, collector.pack.len, file + 100, 50);

	CHECK_UINT(web.request_count, 1);
	CHECK_STR(web.requests[0].line, "GET /raw/o/r/" COMMIT "/dir/file HTTP/1.1");
	CHECK_STR(header(0, "Range"), "bytes=100-149");
	CHECK_STR(header(0, "Accept-Encoding"), "identity");
	CHECK_STR(header(0, "Authorization"), "");
	CHECK_STR(header(0, "Git-Protocol"), "");
	CHECK(strncmp(header(0, "User-Agent"), "git/", 4) == 0);
	check_counters();
	leave();
}

static void test_the_end_of_a_file_is_its_end(void)
{
	const struct web_reply script[] = { PART(900, 100, "bytes 900-999/1000") };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(read_part(900, 4096, SIZE), REMOTE_OK);
	CHECK_STR(header(0, "Range"), "bytes=900-999");
	CHECK_MEM(collector.pack.data, collector.pack.len, file + 900, 100);
	/* With a size that is not known the server has to cut. */
	CHECK_INT(read_part(900, 4096, UNKNOWN), REMOTE_OK);
	CHECK_STR(header(1, "Range"), "bytes=900-4995");
	CHECK_UINT(collector.begin_total, SIZE);
	CHECK_MEM(collector.pack.data, collector.pack.len, file + 900, 100);
	check_counters();
	leave();
}

static void test_a_total_that_is_not_said_is_the_known_one(void)
{
	const struct web_reply script[] = { PART(0, 10, "bytes 0-9/*") };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(read_part(0, 10, SIZE), REMOTE_OK);
	CHECK_UINT(collector.begin_total, SIZE);
	CHECK_INT(read_part(0, 10, UNKNOWN), REMOTE_REFUSED_FEATURE);
	CHECK_UINT(collector.begins, 0);
	leave();
}

static void test_a_whole_file_instead_is_taken(void)
{
	const struct web_reply script[] = {
		{ .status = 200, .body = file, .len = SIZE },
		{ .status = 200, .body = file, .len = SIZE },
		{ .status = 200, .body = file, .len = SIZE, .no_length = true }
	};

	CHECK(stage(script, COUNT(script)));
	for (unsigned i = 0; i < COUNT(script); i++) {
		CHECK_INT(read_part(100, 50, i == 1 ? UNKNOWN : SIZE), REMOTE_OK);
		CHECK_UINT(collector.begins, 1);
		CHECK_UINT(collector.begin_off, 0);
		CHECK_UINT(collector.begin_total, SIZE);
		CHECK_MEM(collector.pack.data, collector.pack.len, file, SIZE);
	}
	check_counters();
	leave();
}

static void test_an_empty_file_is_a_whole_one(void)
{
	const struct web_reply script[] = { { .status = 200, .body = "" } };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(read_part(0, 50, UNKNOWN), REMOTE_OK);
	CHECK_UINT(collector.begins, 1);
	CHECK_UINT(collector.begin_total, 0);
	CHECK_UINT(collector.pack.len, 0);
	leave();
}

static void test_every_byte_of_a_name_arrives(void)
{
	static const struct {
		const char *path, *line;
	} rows[] = {
		{ "a b/c\nd", "a%20b/c%0Ad" },
		{ "x?y#z%41", "x%3Fy%23z%2541" },
		{ "\xff\xc3\xa9", "%FF%C3%A9" },
		{ "a+b&c=d;e:f@g", "a%2Bb%26c%3Dd%3Be%3Af%40g" },
		{ "...", "..." },
		{ ".hidden/~x", ".hidden/~x" },
		{ "{owner}", "%7Bowner%7D" },
		{ "%2e%2e/x", "%252e%252e/x" },
		{ "back\\slash", "back%5Cslash" },
	};
	const struct web_reply script[] = { PART(0, 10, "bytes 0-9/1000") };

	CHECK(stage(script, COUNT(script)));
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct remote_call *call;
		char line[256];

		collector_release(&collector);
		collector_init(&collector);
		EXPECT_INT(start(rows[i].path, 0, 10, SIZE, &collector.sink, &call), 0, "row %zu",
			   i);
		EXPECT_INT(collector_wait(&collector), REMOTE_OK, "row %zu: %s", i,
			   collector.outcome.error.message);
		snprintf(line, sizeof(line), "GET /raw/o/r/" COMMIT "/%s HTTP/1.1", rows[i].line);
		EXPECT_STR(web.requests[i].line, line, "row %zu", i);
	}
	CHECK_UINT(web.connections, 1);
	leave();
}

static void test_what_is_no_range_is_not_asked(void)
{
	static const struct {
		const char *path;
		uint64_t off, len, size;
	} rows[] = {
		{ "", 0, 1, SIZE },
		{ "/a", 0, 1, SIZE },
		{ "a/", 0, 1, SIZE },
		{ "a//b", 0, 1, SIZE },
		{ "..", 0, 1, SIZE },
		{ "a/../b", 0, 1, SIZE },
		{ "a/.", 0, 1, SIZE },
		{ "a", 0, 0, SIZE },
		{ "a", SIZE, 1, SIZE },
		{ "a", 0, 1, 0 },
		{ "a", 1, UINT64_MAX, UNKNOWN },
		{ "a", INT64_MAX, 1, UNKNOWN },
		{ "a", UINT64_MAX, 1, UNKNOWN },
	};
	const struct web_reply script[] = { { .status = 404 } };
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	for (size_t i = 0; i < COUNT(rows); i++)
		EXPECT_INT(start(rows[i].path, rows[i].off, rows[i].len, rows[i].size,
				 &collector.sink, &call),
			   -EINVAL, "row %zu", i);
	CHECK_UINT(web.request_count, 0);
	leave();
}

/* ---- wrong answers ---- */

static void test_every_fault_has_its_verdict(void)
{
	static const struct {
		struct web_reply reply;
		enum remote_verdict verdict;
		size_t came;
		uint64_t size;
		const char *words;
	} rows[] = {
		/* what it says of itself is not what was asked: bytes 100-149 of 1000 */
		{ PART(0, 50, "bytes 0-49/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE, "other bytes" },
		{ PART(100, 50, "bytes 101-150/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "other bytes" },
		{ PART(99, 51, "bytes 99-149/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "other bytes" },
		{ PART(100, 40, "bytes 100-139/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "other bytes" },
		{ PART(100, 60, "bytes 100-159/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "other bytes" },
		{ PART(100, 50, "bytes 100-149/999"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "another size" },
		{ PART(100, 50, "bytes 100-149/149"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "which bytes" },
		{ PART(100, 50, "bytes 149-100/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "which bytes" },
		{ PART(100, 50, "bytes */1000"), REMOTE_REFUSED_FEATURE, 0, SIZE, "which bytes" },
		{ PART(100, 50, "lines 100-149/1000"), REMOTE_REFUSED_FEATURE, 0, SIZE,
		  "which bytes" },
		{ PART(100, 50, "bytes 100-18446744073709551765/1000"), REMOTE_REFUSED_FEATURE, 0,
		  SIZE, "which bytes" },
		{ PART(100, 50, "bytes 100-149/1000\r\nContent-Range: bytes 0-49/1000"),
		  REMOTE_REFUSED_FEATURE, 0, SIZE, "which bytes" },
		{ { .status = 206, .body = file, .len = 50 },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "which bytes" },
		{ { .status = 206,
		    .type = "multipart/byteranges; boundary=x",
		    .body = file,
		    .len = 50 },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "several parts" },
		/* encoded: curl would decode the first, and stumbles over the second */
		{ PART(100, 50, "bytes 100-149/1000\r\nContent-Encoding: gzip"),
		  REMOTE_REFUSED_FEATURE, 0, SIZE, "encoded" },
		{ PART(100, 50, "bytes 100-149/1000\r\nContent-Encoding: x-odd"),
		  REMOTE_REFUSED_FEATURE, 0, SIZE, "encoded" },
		{ PART(100, 50, "bytes 100-149/1000\r\nContent-Encoding: identity"), REMOTE_OK, 50,
		  SIZE, "" },
		/* other lengths than said */
		{ PART(100, 30, "bytes 100-149/1000"), REMOTE_TRANSIENT, 30, SIZE,
		  "broke off after 30 bytes" },
		{ { .status = 206,
		    .headers = "Content-Range: bytes 100-149/1000\r\n",
		    .body = file + 100,
		    .len = 50,
		    .cut = true,
		    .send_len = 20 },
		  REMOTE_TRANSIENT,
		  20,
		  SIZE,
		  "broke off after 20 bytes" },
		{ { .status = 206,
		    .headers = "Content-Range: bytes 100-149/1000\r\n",
		    .body = file + 100,
		    .len = 50,
		    .cut = true },
		  REMOTE_TRANSIENT,
		  0,
		  SIZE,
		  "broke off after 0 bytes" },
		{ PART(100, 60, "bytes 100-149/1000"), REMOTE_BROKEN, 50, SIZE, "more bytes" },
		{ { .status = 206,
		    .headers = "Content-Range: bytes 100-149/1000\r\n",
		    .body = file + 100,
		    .len = 60,
		    .no_length = true },
		  REMOTE_BROKEN,
		  50,
		  SIZE,
		  "more bytes" },
		{ { .status = 200, .body = file, .len = SIZE, .cut = true, .send_len = 500 },
		  REMOTE_TRANSIENT,
		  500,
		  SIZE,
		  "broke off after 500 bytes" },
		{ { .status = 200, .body = file, .len = 999 },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "another size" },
		{ { .status = 200, .body = "<html>log in", .type = "text/html" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "another size" },
		{ { .status = 200, .body = file, .len = 700, .no_length = true },
		  REMOTE_TRANSIENT,
		  700,
		  SIZE,
		  "broke off after 700 bytes" },
		{ { .status = 200, .body = file, .len = SIZE, .no_length = true },
		  REMOTE_BROKEN,
		  700,
		  700,
		  "more bytes" },
		{ { .status = 200, .body = file, .len = SIZE, .no_length = true },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  UNKNOWN,
		  "how large" },
		/* no answer */
		{ { .status = 416, .headers = "Content-Range: bytes */1000\r\n" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "416" },
		{ { .status = 404 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "404" },
		{ { .status = 410 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "410" },
		{ { .status = 401 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "401" },
		{ { .status = 403 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "403" },
		{ { .status = 400, .type = "text/plain", .body = "no such\nthing" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "no such thing" },
		{ { .status = 304 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "304" },
		{ { .status = 204 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "204" },
		{ { .status = 302 }, REMOTE_REFUSED_FEATURE, 0, SIZE, "nowhere" },
		{ { .status = 302, .headers = "Location: ftp://127.0.0.1/x\r\n" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "redirects" },
		{ { .status = 302, .headers = "Location: http://example.org/x\r\n" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  SIZE,
		  "not to be trusted, at example.org" },
		{ { .status = 500 }, REMOTE_TRANSIENT, 0, SIZE, "500" },
		{ { .status = 0 }, REMOTE_TRANSIENT, 0, SIZE, "" },
		/* cut in the middle of its headers */
		{ { .raw = "HTTP/1.1 206 Partial Content\r\nServer: x\r\n" },
		  REMOTE_TRANSIENT,
		  0,
		  SIZE,
		  "partial" },
		{ { .raw = "HTTP/1.1 302 Found\r\nServer: x\r\n" },
		  REMOTE_TRANSIENT,
		  0,
		  SIZE,
		  "partial" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		CHECK(stage(&rows[i].reply, 1));
		EXPECT_INT(read_part(100, 50, rows[i].size), rows[i].verdict, "row %zu: %s", i,
			   collector.outcome.error.message);
		EXPECT(strstr(collector.outcome.error.message, rows[i].words) != NULL,
		       "row %zu: %s", i, collector.outcome.error.message);
		EXPECT(rows[i].verdict == REMOTE_OK ||
			       strstr(collector.outcome.error.message, "/raw/o/r/" COMMIT) != NULL,
		       "row %zu: %s", i, collector.outcome.error.message);
		EXPECT_INT((long)collector.pack.len, (long)rows[i].came, "row %zu", i);
		EXPECT_INT(collector.outcome.answered, rows[i].reply.status != 0, "row %zu", i);
		EXPECT_INT((long)collector.outcome.retry_after_ms, 0, "row %zu", i);
		leave();
	}
}

static void test_a_server_may_ask_for_patience(void)
{
	static const struct web_reply script[] = {
		{ .status = 429, .headers = "Retry-After: 7\r\n" },
		{ .status = 503, .headers = "Retry-After: 3\r\n" },
		{ .status = 403, .headers = "Retry-After: 60\r\n" },
	};
	static const uint64_t after_ms[] = { 7000, 3000, 60000 };

	CHECK(stage(script, COUNT(script)));
	for (size_t i = 0; i < COUNT(script); i++) {
		CHECK_INT(read_part(0, 10, SIZE), REMOTE_TRANSIENT);
		CHECK_UINT(collector.outcome.retry_after_ms, after_ms[i]);
	}
	CHECK_UINT(web.request_count, COUNT(script));
	leave();
}

static void test_an_answer_that_stalls_is_given_up(void)
{
	const struct web_reply script[] = { { .status = 206,
					      .headers = "Content-Range: bytes 0-99/1000\r\n",
					      .body = file,
					      .len = 100,
					      .stall = true,
					      .send_len = 20 } };

	CHECK(stage_with(&(struct setting){ .stall_ms = 150 }, script, COUNT(script)));
	CHECK_INT(read_part(0, 100, SIZE), REMOTE_TRANSIENT);
	CHECK_CONTAINS(collector.outcome.error.message, "stalled");
	CHECK_UINT(collector.pack.len, 20);
	leave();
}

static void test_the_sink_may_want_none_of_it(void)
{
	const struct web_reply script[] = { { .status = 200, .body = file, .len = SIZE } };
	struct remote_call *call;
	struct remote_counters counters;

	CHECK(stage(script, COUNT(script)));
	collector.refuse_begin = true;
	CHECK_INT(start("f", 100, 50, SIZE, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_CANCELED);
	CHECK_UINT(collector.begins, 1);
	CHECK_UINT(collector.pack.len, 0);
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.errors, 0);
	leave();
}

/* ---- redirects and credentials ---- */

static const struct setting with_password = {
	.git = "http://me:s3cret@127.0.0.1:%u/git/{owner}/{repo}.git"
};

static void test_redirects_are_followed(void)
{
	const struct web_reply script[] = {
		{ .status = 302, .headers = "Location: /else/where?sig=a%2Fb\r\n" },
		{ .status = 307, .headers = "Location: ../here\r\n", .body = "ignored" },
		PART(100, 50, "bytes 100-149/1000"),
	};

	CHECK(stage_with(&with_password, script, COUNT(script)));
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_OK);
	CHECK_MEM(collector.pack.data, collector.pack.len, file + 100, 50);
	CHECK_UINT(web.request_count, 3);
	CHECK_STR(web.requests[1].line, "GET /else/where?sig=a%2Fb HTTP/1.1");
	CHECK_STR(web.requests[2].line, "GET /here HTTP/1.1");
	for (size_t i = 0; i < 3; i++) {
		CHECK_STR(header(i, "Range"), "bytes=100-149");
		CHECK_STR(header(i, "Authorization"), "Basic bWU6czNjcmV0");
	}
	CHECK_UINT(web.connections, 1);
	check_counters();
	leave();
}

static void test_redirects_have_an_end(void)
{
	const struct web_reply script[] = { { .status = 302, .headers = "Location: /again\r\n" } };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_REFUSED_FEATURE);
	CHECK_CONTAINS(collector.outcome.error.message, "too often");
	CHECK_UINT(web.request_count, 6);
	check_counters();
	leave();
}

static void write_netrc(void)
{
	char path[128];
	FILE *out;

	snprintf(path, sizeof(path), "%s/.netrc", getenv("HOME"));
	out = fopen(path, "we");
	if (!out || fputs("machine 127.0.0.1 login net password rc\n", out) < 0 || fclose(out) ||
	    chmod(path, 0600))
		abort();
}

static void remove_netrc(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/.netrc", getenv("HOME"));
	unlink(path);
}

static void test_credentials_stay_behind_when_it_redirects_elsewhere(void)
{
	static struct web other;
	char location[128];
	const struct web_reply script[] = { { .status = 302, .headers = location } };
	const struct web_reply other_script[] = { PART(100, 50, "bytes 100-149/1000") };

	write_netrc();
	web_start(&other, other_script, 1);
	snprintf(location, sizeof(location), "Location: http://x:y@127.0.0.1:%u/cdn\r\n",
		 other.port);
	CHECK(stage_with(&with_password, script, COUNT(script)));
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_OK);
	CHECK_MEM(collector.pack.data, collector.pack.len, file + 100, 50);
	CHECK_STR(header(0, "Authorization"), "Basic bWU6czNjcmV0");
	CHECK_UINT(other.request_count, 1);
	CHECK_STR(other.requests[0].line, "GET /cdn HTTP/1.1");
	CHECK(strcasestr(other.requests[0].head, "Authorization") == NULL);
	leave();
	web_stop(&other);
	web_release(&other);
	remove_netrc();
}

static void test_credentials_are_for_the_origin_of_git(void)
{
	static const struct {
		struct setting setting;
		const char *authorization;
	} rows[] = {
		{ { .git = "http://me:s3cret@127.0.0.1:%u/git/{owner}/{repo}.git" },
		  "Basic bWU6czNjcmV0" },
		{ { .git = NULL }, "Basic bmV0OnJj" },
		{ { .git = "http://net@127.0.0.1:%u/{owner}/{repo}" }, "Basic bmV0OnJj" },
		/* another port, another scheme, another host */
		{ { .git = "http://me:s3cret@127.0.0.1:1/git/{owner}/{repo}.git" }, "" },
		{ { .git = "http://127.0.0.1:1/git/{owner}/{repo}.git" }, "" },
		{ { .git = "https://me:s3cret@127.0.0.1:%u/git/{owner}/{repo}.git" }, "" },
		{ { .git = "http://me:s3cret@localhost:%u/git/{owner}/{repo}.git" }, "" },
		{ { .git = "ssh://127.0.0.1:%u/git/{owner}/{repo}.git" }, "" },
		/* the template's own */
		{ { .git = "http://me:s3cret@127.0.0.1:%u/git/{owner}/{repo}.git",
		    .raw = "http://a:b@127.0.0.1:%u/raw/{commit}/{path}" },
		  "Basic YTpi" },
	};
	const struct web_reply script[] = { PART(100, 50, "bytes 100-149/1000") };

	for (size_t i = 0; i < COUNT(rows); i++) {
		char authorization[512];

		write_netrc();
		CHECK(stage_with(&rows[i].setting, script, COUNT(script)));
		EXPECT_INT(read_part(100, 50, SIZE), REMOTE_OK, "row %zu: %s", i,
			   collector.outcome.error.message);
		web_header(&web.requests[0], "Authorization", authorization, sizeof(authorization));
		EXPECT_STR(authorization, rows[i].authorization, "row %zu", i);
		leave();
		remove_netrc();
	}
}

static void test_a_secret_of_the_template_is_in_no_message(void)
{
	const struct web_reply script[] = { { .status = 404 } };

	CHECK(stage_with(&(struct setting){ .raw = "http://a:s3cret@127.0.0.1:%u/{commit}/{path}" },
			 script, COUNT(script)));
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_REFUSED_FEATURE);
	CHECK(strstr(collector.outcome.error.message, "s3cret") == NULL);
	CHECK_CONTAINS(collector.outcome.error.message, "http://127.0.0.1:");
	leave();
}

/* ---- connections, pauses, cancelling ---- */

static void test_connections_are_used_again(void)
{
	enum { PARTS = 10 };
	struct web_reply script[PARTS];
	char headers[PARTS][64];

	for (unsigned i = 0; i < PARTS; i++) {
		snprintf(headers[i], sizeof(headers[i]), "Content-Range: bytes %u-%u/1000\r\n",
			 i * 100, i * 100 + 99);
		script[i] = (struct web_reply){
			.status = 206, .body = file + i * 100, .len = 100, .headers = headers[i]
		};
	}
	CHECK(stage(script, COUNT(script)));
	for (unsigned i = 0; i < PARTS; i++) {
		CHECK_INT(read_part(i * 100, 100, SIZE), REMOTE_OK);
		CHECK_MEM(collector.pack.data, collector.pack.len, file + i * 100, 100);
	}
	CHECK_UINT(web.connections, 1);
	check_counters();
	leave();
}

static void test_a_connection_that_died_meanwhile_is_made_anew(void)
{
	struct web_reply script[] = { PART(0, 10, "bytes 0-9/1000"),
				      PART(0, 10, "bytes 0-9/1000") };

	script[0].close = true;
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(read_part(0, 10, SIZE), REMOTE_OK);
	CHECK_INT(read_part(0, 10, SIZE), REMOTE_OK);
	check_counters();
	leave();
}

static void test_parts_come_side_by_side(void)
{
	enum { PARTS = 8 };
	static struct collector many[PARTS];
	const struct web_reply script[] = { PART(0, 100, "bytes 0-99/1000") };
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	for (unsigned i = 0; i < PARTS; i++) {
		collector_init(&many[i]);
		CHECK_INT(start("f", 0, 100, SIZE, &many[i].sink, &call), 0);
	}
	for (unsigned i = 0; i < PARTS; i++) {
		CHECK_INT(collector_wait(&many[i]), REMOTE_OK);
		CHECK_MEM(many[i].pack.data, many[i].pack.len, file, 100);
		collector_release(&many[i]);
	}
	check_counters();
	leave();
}

static char *make_large(size_t len)
{
	char *large = malloc(len);

	for (size_t i = 0; i < len; i++)
		large[i] = (char)(i * 7 / 5);
	return large;
}

static void test_a_pause_holds_the_answer_until_it_is_resumed(void)
{
	const size_t len = (size_t)16 << 20;
	char *large = make_large(len);
	const struct web_reply script[] = {
		{ .status = 206,
		  .headers = "Content-Range: bytes 0-16777215/16777216\r\n",
		  .body = large,
		  .len = len },
		PART(0, 10, "bytes 0-9/1000"),
	};
	static struct collector other;
	struct remote_call *call, *other_call;
	size_t before;

	CHECK(stage(script, COUNT(script)));
	collector.pause_every = len / 4;
	collector.pause_at = 1000;
	CHECK_INT(start("f", 0, len, len, &collector.sink, &call), 0);
	collector_wait_bytes(&collector, 1000);
	before = collector_len(&collector);
	/* While it is paused another call goes all the way through the network thread. */
	collector_init(&other);
	CHECK_INT(start("g", 0, 10, SIZE, &other.sink, &other_call), 0);
	CHECK_INT(collector_wait(&other), REMOTE_OK);
	collector_release(&other);
	CHECK(collector_len(&collector) - before < 128 << 10);
	CHECK(!collector_is_done(&collector));
	remote_call_resume(call);
	for (unsigned pauses = 2; pauses < 5; pauses++) {
		lock_take(&collector.lock);
		while (collector.pauses < pauses && !collector.done)
			lock_cond_wait(&collector.changed, &collector.lock);
		lock_give(&collector.lock);
		if (!collector_is_done(&collector))
			remote_call_resume(call);
	}
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_MEM(collector.pack.data, collector.pack.len, large, len);
	check_counters();
	leave();
	free(large);
}

static void test_a_call_can_be_canceled_in_the_middle(void)
{
	const struct web_reply script[] = {
		{ .status = 206,
		  .headers = "Content-Range: bytes 0-99/1000\r\n",
		  .body = file,
		  .len = 100,
		  .stall = true,
		  .send_len = 20 },
		{ .status = -1 },
	};
	struct remote_counters counters;
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(start("f", 0, 100, SIZE, &collector.sink, &call), 0);
	collector_wait_bytes(&collector, 20);
	remote_call_cancel(call);
	CHECK_INT(collector_wait(&collector), REMOTE_CANCELED);
	CHECK_UINT(collector.pack.len, 20);
	/* Also before a byte came, and when the remote is closed over it. */
	collector_release(&collector);
	collector_init(&collector);
	CHECK_INT(start("f", 0, 100, SIZE, &collector.sink, &call), 0);
	remote_call_cancel(call);
	CHECK_INT(collector_wait(&collector), REMOTE_CANCELED);
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.errors, 0);
	collector_release(&collector);
	collector_init(&collector);
	CHECK_INT(start("f", 0, 100, SIZE, &collector.sink, &call), 0);
	remote_close(&place.remote);
	CHECK(collector_is_done(&collector));
	CHECK_INT(collector.outcome.verdict, REMOTE_CANCELED);
	leave();
}

/* ---- who can ---- */

static void test_ranges_need_a_host_and_protection(void)
{
	static const struct {
		struct setting setting;
		unsigned caps;
	} rows[] = {
		{ { .git = NULL }, REMOTE_RANGE | REMOTE_EARLY },
		{ { .source = "http://127.0.0.1:1/somewhere/else" }, REMOTE_EARLY },
		{ { .source = "http://git.example/o/r" }, 0 },
		{ { .source = "https://git.example/o/r" }, REMOTE_EARLY },
		{ { .source = "https://github.com/o/r" }, REMOTE_RANGE | REMOTE_EARLY },
		{ { .source = "o/r" }, REMOTE_RANGE | REMOTE_EARLY },
		{ { .source = "gitlab:o/r" }, REMOTE_EARLY },
		{ { .raw = "http://raw.example/{commit}/{path}" }, REMOTE_EARLY },
		{ { .raw = "http://127.0.0.1.example/{commit}/{path}" }, REMOTE_EARLY },
		{ { .raw = "https://raw.example/{commit}/{path}" }, REMOTE_RANGE | REMOTE_EARLY },
		{ { .raw = "http://[::1]:%u/{commit}/{path}" }, REMOTE_RANGE | REMOTE_EARLY },
		{ { .raw = "http://LocalHost:%u/{commit}/{path}" }, REMOTE_RANGE | REMOTE_EARLY },
		{ { .git = "http://git.example/{owner}/{repo}" }, REMOTE_RANGE },
		{ { .git = "http://git.example/{owner}/{repo}",
		    .raw = "http://raw.example/{commit}/{path}",
		    .insecure = "true" },
		  REMOTE_RANGE | REMOTE_EARLY },
		{ { .git = "http://git.example/{owner}/{repo}",
		    .raw = "http://raw.example/{commit}/{path}",
		    .insecure = "no" },
		  0 },
		{ { .git = "ssh://git.example/{owner}/{repo}" }, REMOTE_RANGE | REMOTE_EARLY },
	};
	const struct web_reply script[] = { { .status = 404 } };
	struct remote_call *call;

	for (size_t i = 0; i < COUNT(rows); i++) {
		CHECK(stage_with(&rows[i].setting, script, COUNT(script)));
		EXPECT_INT(remote_caps(place.remote) & (REMOTE_RANGE | REMOTE_EARLY), rows[i].caps,
			   "row %zu", i);
		if (!(rows[i].caps & REMOTE_RANGE))
			EXPECT_INT(start("f", 0, 1, SIZE, &collector.sink, &call), -EOPNOTSUPP,
				   "row %zu", i);
		leave();
	}
}

static void test_a_url_of_the_host_has_ranges_too(void)
{
	const struct web_reply script[] = { PART(100, 50, "bytes 100-149/1000") };

	/* The port is known only when the server runs: the source is the expanded template. */
	static const char *const ends[] = { "", ".git", "/", ".git/" };

	for (size_t i = 0; i < COUNT(ends); i++) {
		struct host_table *hosts = host_table_new();
		char source[256];

		web_start(&web, script, COUNT(script));
		collector_init(&collector);
		host_set(hosts, web.port, "git", "http://127.0.0.1:%u/git/{owner}/{repo}.git");
		host_set(hosts, web.port, "raw",
			 "http://127.0.0.1:%u/raw/{owner}/{repo}/{commit}/{path}");
		snprintf(source, sizeof(source), "http://127.0.0.1:%u/git/o/r%s", web.port,
			 ends[i]);
		CHECK(place_open_at(&place, hosts, source, NULL, true, 0));
		CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
		CHECK_INT(read_part(100, 50, SIZE), REMOTE_OK);
		CHECK_STR(web.requests[0].line, "GET /raw/o/r/" COMMIT "/dir/file HTTP/1.1");
		leave();
	}
}

static void test_this_machine_is_not_reached_through_a_proxy(void)
{
	const struct web_reply script[] = { PART(100, 50, "bytes 100-149/1000") };

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_OK);
	leave();
	unsetenv("http_proxy");
}

static void test_nobody_there_is_transient(void)
{
	CHECK(stage_with(&(struct setting){ .raw = "http://127.0.0.1:1/{commit}/{path}" },
			 &(struct web_reply){ .status = 404 }, 1));
	CHECK_INT(read_part(100, 50, SIZE), REMOTE_TRANSIENT);
	CHECK(!collector.outcome.answered);
	leave();
}

int main(int argc, char **argv)
{
	char home[] = "/tmp/xcpfs-range-XXXXXX";

	(void)argc;
	tap_args(argv);
	if (!mkdtemp(home))
		return EXIT_FAILURE;
	for (const char *const *name =
		     (const char *const[]){ "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY",
					    "no_proxy", "NO_PROXY", "HTTPS_PROXY", NULL };
	     *name; name++)
		unsetenv(*name);
	setenv("HOME", home, 1);
	for (size_t i = 0; i < SIZE; i++)
		file[i] = (char)(i * 31 / 7);
	TAP_RUN(test_a_part_is_asked_for_and_comes);
	TAP_RUN(test_the_end_of_a_file_is_its_end);
	TAP_RUN(test_a_total_that_is_not_said_is_the_known_one);
	TAP_RUN(test_a_whole_file_instead_is_taken);
	TAP_RUN(test_an_empty_file_is_a_whole_one);
	TAP_RUN(test_every_byte_of_a_name_arrives);
	TAP_RUN(test_what_is_no_range_is_not_asked);
	TAP_RUN(test_every_fault_has_its_verdict);
	TAP_RUN(test_a_server_may_ask_for_patience);
	TAP_RUN(test_an_answer_that_stalls_is_given_up);
	TAP_RUN(test_the_sink_may_want_none_of_it);
	TAP_RUN(test_redirects_are_followed);
	TAP_RUN(test_redirects_have_an_end);
	TAP_RUN(test_credentials_stay_behind_when_it_redirects_elsewhere);
	TAP_RUN(test_credentials_are_for_the_origin_of_git);
	TAP_RUN(test_a_secret_of_the_template_is_in_no_message);
	TAP_RUN(test_connections_are_used_again);
	TAP_RUN(test_a_connection_that_died_meanwhile_is_made_anew);
	TAP_RUN(test_parts_come_side_by_side);
	TAP_RUN(test_a_pause_holds_the_answer_until_it_is_resumed);
	TAP_RUN(test_a_call_can_be_canceled_in_the_middle);
	TAP_RUN(test_ranges_need_a_host_and_protection);
	TAP_RUN(test_a_url_of_the_host_has_ranges_too);
	TAP_RUN(test_this_machine_is_not_reached_through_a_proxy);
	TAP_RUN(test_nobody_there_is_transient);
	rmdir(home);
	return tap_done();
}
