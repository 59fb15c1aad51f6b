/*
 * Tests of src/remote/http.c, exchange.c, net.c and remote.c against a web server inside the test.
 */
#include "remote/remote.h"

#include <errno.h>
#include <sys/stat.h>
#include <zlib.h>

#include "expect.h"
#include "git/pktline.h"
#include "http_support.h"
#include "remote_support.h"

#define ADVERT "application/x-git-upload-pack-advertisement"
#define RESULT "application/x-git-upload-pack-result"
#define COUNT(v) (sizeof(v) / sizeof((v)[0]))
#define OID "0123456789012345678901234567890123456789"

static struct broker *broker;
static char home[] = "/tmp/xcpfs-http-XXXXXX";

static const char caps_text[] = "v2 sha1 shallow filter object-info agent object-format";

/* What is in the answers, wrapped by main(). */
static struct buf v2_advert, refs_answer, fetch_answer;
static struct web_reply good_advert, good_refs, good_fetch;

/* Appends a packet per string: "" is a flush; in others \x1f stands for a NUL. */
static void wrap(struct buf *out, ...)
{
	const char *text;
	va_list args;

	va_start(args, out);
	while ((text = va_arg(args, const char *))) {
		char line[256];
		size_t len = strlen(text);

		memcpy(line, text, len);
		for (size_t i = 0; i < len; i++)
			line[i] = line[i] == '\x1f' ? '\0' : line[i];
		if (len ? pkt_add(out, line, len) : pkt_add_flush(out))
			abort();
	}
	va_end(args);
}

static struct web_reply reply(const char *type, const struct buf *body)
{
	return (struct web_reply){
		.status = 200, .type = type, .body = body->data, .len = body->len
	};
}

static void wrap_answers(void)
{
	wrap(&v2_advert, "version 2\n", "agent=git/2.39.5\n", "ls-refs=unborn\n",
	     "fetch=shallow filter\n", "object-info\n", "object-format=sha1\n", "", NULL);
	wrap(&refs_answer, OID " refs/heads/main\n", "", NULL);
	wrap(&fetch_answer, "packfile\n", "\x01PACKdata", "\x01", "\x02....",
	     "\x01"
	     "end",
	     "", NULL);
	good_advert = reply(ADVERT, &v2_advert);
	good_refs = reply(RESULT, &refs_answer);
	good_fetch = reply(RESULT, &fetch_answer);
}

/* ---- the stage: one server, one remote ---- */

static struct web web;
static struct place place;
static struct collector collector;

static bool stage_with(const char *fmt, const struct web_reply *script, size_t count,
		       bool no_helpers, unsigned stall_ms)
{
	char url[256];

	web_start(&web, script, count);
	collector_init(&collector);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(url, sizeof(url), fmt, web.port);
#pragma GCC diagnostic pop
	return place_open(&place, url, broker, no_helpers, stall_ms);
}

static bool stage(const struct web_reply *script, size_t count)
{
	return stage_with("http://127.0.0.1:%u/r.git", script, count, true, 0);
}

/* Also for tests that say that the server was told no more than that. */
static void leave(void)
{
	place_close(&place);
	web_stop(&web);
	web_release(&web);
	collector_release(&collector);
}

static int start_fetch(const char *filter, struct remote_call **out)
{
	static struct oid want;
	struct fetch_spec spec = { .wants = &want, .want_count = 1, .filter = filter };

	oid_from_hex(OID, 40, &want);
	return remote_start_fetch(place.remote, &spec, &collector.sink, out);
}

/* The counters of the remote are what the server saw. */
static void check_counters(void)
{
	struct remote_counters counters;
	uint64_t body_bytes = 0;

	remote_counters(place.remote, &counters);
	for (size_t i = 0; i < web.request_count; i++)
		body_bytes += web.requests[i].body.len;
	CHECK_UINT(counters.requests_caps + counters.requests_refs + counters.requests_fetch +
			   counters.requests_sizes,
		   web.request_count);
	CHECK_UINT(counters.bytes_sent, body_bytes);
	CHECK_UINT(counters.bytes_received, web.response_bytes);
	CHECK_UINT(counters.connections, web.connections);
}

static const char *header(size_t i, const char *name)
{
	static char value[512];

	return web_header(&web.requests[i], name, value, sizeof(value));
}

/* ---- connecting ---- */

static void test_the_first_requests_are_what_a_server_expects(void)
{
	const struct web_reply script[] = { good_advert, good_refs };
	const char *const prefixes[] = { "refs/heads/main" };
	struct ref_list refs = { 0 };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_UINT(remote_caps(place.remote), REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_STEP |
						      REMOTE_SIZES | REMOTE_SHALLOW | REMOTE_EARLY);
	CHECK_INT(remote_refs(place.remote, prefixes, 1, &refs, NULL), 0);
	CHECK_UINT(refs.count, 1);
	CHECK_STR(refs.v[0].name, "refs/heads/main");

	CHECK_UINT(web.request_count, 2);
	CHECK_STR(web.requests[0].line, "GET /r.git/info/refs?service=git-upload-pack HTTP/1.1");
	CHECK_STR(header(0, "Git-Protocol"), "version=2");
	CHECK(strncmp(header(0, "User-Agent"), "git/", 4) == 0);
	CHECK_STR(header(0, "Authorization"), "");
	CHECK_STR(web.requests[1].line, "POST /r.git/git-upload-pack HTTP/1.1");
	CHECK_STR(header(1, "Git-Protocol"), "version=2");
	CHECK_STR(header(1, "Content-Type"), "application/x-git-upload-pack-request");
	CHECK_STR(header(1, "Accept"), RESULT);
	CHECK_STR(header(1, "Content-Encoding"), "");
	CHECK_STR(header(1, "Expect"), "");
	CHECK_CONTAINS(buf_str(&web.requests[1].body), "command=ls-refs\n");
	CHECK_CONTAINS(buf_str(&web.requests[1].body), "ref-prefix refs/heads/main\n");
	CHECK_UINT(web.connections, 1);
	check_counters();
	ref_list_release(&refs);
	leave();
}

static void test_an_advertisement_behind_a_service_line_is_one_too(void)
{
	struct buf text = BUF_INIT;
	struct web_reply script[1];

	wrap(&text, "# service=git-upload-pack\n", "", "version 2\n", "agent=git/github-x\n",
	     "fetch=shallow\n", "", NULL);
	script[0] = reply(ADVERT "; charset=x", &text);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_UINT(remote_server_caps(place.remote)->version, 2);
	leave();
	buf_release(&text);
}

static void test_what_is_known_is_not_asked_again(void)
{
	const struct web_reply script[] = { good_refs };
	struct ref_list refs = { 0 };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_UINT(web.request_count, 1);
	CHECK_UINT(refs.count, 1);
	ref_list_release(&refs);
	leave();
}

static void test_what_is_known_wrongly_is_asked_again_once(void)
{
	const struct web_reply script[] = { { .status = 200, .type = RESULT, .body = "" },
					    good_advert,
					    good_refs };
	struct ref_list refs = { 0 };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_UINT(web.request_count, 3);
	ref_list_release(&refs);
	leave();
}

static void test_a_server_of_version_0_sends_its_refs_along(void)
{
	struct buf text = BUF_INIT, answer = BUF_INIT;
	struct web_reply script[3];
	struct ref_list refs = { 0 };
	struct remote_call *call;

	wrap(&text, "# service=git-upload-pack\n", "",
	     OID " HEAD\x1fside-band-64k ofs-delta shallow agent=x\n", OID " refs/heads/main\n", "",
	     NULL);
	wrap(&answer, "NAK\n", "\x01PACKdata",
	     "\x01"
	     "end",
	     "", NULL);
	script[0] = script[1] = reply(ADVERT, &text);
	script[2] = reply(RESULT, &answer);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_UINT(refs.count, 2);
	CHECK_UINT(web.request_count, 1);
	ref_list_release(&refs);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_UINT(web.request_count, 2);
	ref_list_release(&refs);
	CHECK_INT(start_fetch("blob:none", &call), -EOPNOTSUPP);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_MEM(collector.pack.data, collector.pack.len, "PACKdataend", 11);
	CHECK_STR(header(2, "Git-Protocol"), "");
	leave();
	buf_release(&text);
	buf_release(&answer);
}

static void test_what_is_not_git_is_said_so(void)
{
	const struct web_reply cut = { .status = 200,
				       .type = ADVERT,
				       .body = v2_advert.data,
				       .len = v2_advert.len,
				       .cut = true,
				       .send_len = 30 };
	const struct {
		struct web_reply reply;
		int code;
		const char *words;
	} rows[] = {
		{ { .status = 200, .type = "text/html", .body = "<html>" },
		  -EPROTO,
		  "not a git repository" },
		{ { .status = 200, .body = "x" }, -EPROTO, "no content type" },
		{ { .status = 200, .type = "text/plain", .body = OID "\trefs/heads/main\n" },
		  -EPROTO,
		  "dumb" },
		{ { .status = 200, .type = ADVERT, .body = "hello world" }, -EPROTO, "git" },
		{ { .status = 200, .type = ADVERT, .body = "" }, -EAGAIN, "broke off" },
		{ { .status = 200, .type = ADVERT, .body = "000eversion 2\n" },
		  -EAGAIN,
		  "broke off" },
		{ { .status = 200, .type = ADVERT, .body = "0016ERR access denied\n" },
		  -EACCES,
		  "access denied" },
		{ { .status = 404 }, -ENOENT, "missing, or you may not see it" },
		{ { .status = 410 }, -ENOENT, "410" },
		{ { .status = 403, .type = "text/plain", .body = "blocked by\n\x1b[1mus" },
		  -EACCES,
		  "blocked by ?[1mus" },
		{ { .status = 401 }, -EACCES, "asks for a password" },
		{ { .status = 500 }, -EAGAIN, "500" },
		{ { .status = 429, .headers = "Retry-After: 7\r\n" },
		  -EAGAIN,
		  "too many requests" },
		{ { .status = 302 }, -EPROTO, "nowhere" },
		{ { .status = 302,
		    .headers = "Location: ftp://h/info/refs?service=git-upload-pack\r\n" },
		  -EPROTO,
		  "redirects to a" },
		{ { .status = 302, .headers = "Location: /login\r\n" }, -EPROTO, "login" },
		{ { .status = 0 }, -ENETUNREACH, "cannot connect" },
		{ { .raw = "HTTP/1.1 200 OK\r\nContent-Type: " ADVERT "\r\n" },
		  -ENETUNREACH,
		  "partial" },
		{ cut, -EAGAIN, "broke off" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct xcp_error err = { 0 };

		CHECK(stage(&rows[i].reply, 1));
		EXPECT_INT(remote_connect(place.remote, NULL, &err), rows[i].code, "row %zu: %s", i,
			   err.message);
		EXPECT_INT(err.code, rows[i].code, "row %zu", i);
		EXPECT(strstr(err.message, rows[i].words) != NULL, "row %zu: %s", i, err.message);
		EXPECT(strstr(err.message, "http://127.0.0.1:") != NULL, "row %zu: %s", i,
		       err.message);
		leave();
	}
}

static void test_nobody_there_is_enetunreach(void)
{
	struct xcp_error err = { 0 };

	CHECK(stage(&good_advert, 1));
	web_stop(&web);
	CHECK_INT(remote_connect(place.remote, NULL, &err), -ENETUNREACH);
	CHECK_INT(remote_connect(place.remote, caps_text, &err), 0);
	CHECK_INT(start_fetch(NULL, &(struct remote_call *){ NULL }), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_TRANSIENT);
	CHECK(!collector.outcome.answered);
	CHECK_INT(collector.outcome.error.code, -ENETUNREACH);
	place_close(&place);
	web_release(&web);
	collector_release(&collector);
}

static void test_a_server_that_says_nothing_is_given_up(void)
{
	const struct web_reply script[] = { { .status = -1 } };
	struct xcp_error err = { 0 };

	CHECK(stage_with("http://127.0.0.1:%u/r", script, 1, true, 150));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -ETIMEDOUT);
	leave();
}

/* ---- refs that are asked for early ---- */

static const char *const main_prefix[] = { "refs/heads/main" };

static void expect_main(void)
{
	remote_expect_refs(place.remote, main_prefix, 1);
}

static int ask_main(struct ref_list *out, struct xcp_error *err)
{
	return remote_refs(place.remote, main_prefix, 1, out, err);
}

static struct web_reply only(const char *method, size_t after, struct web_reply answer)
{
	answer.method = method;
	answer.after = after;
	return answer;
}

static const struct web_reply silence = { .status = -1 };

static const struct web_request *request_of(const char *method)
{
	for (size_t i = 0; i < web.request_count; i++)
		if (strncmp(web.requests[i].line, method, strlen(method)) == 0)
			return &web.requests[i];
	abort();
}

static size_t count_of(const char *method)
{
	size_t count = 0;

	for (size_t i = 0; i < web.request_count; i++)
		count += strncmp(web.requests[i].line, method, strlen(method)) == 0;
	return count;
}

static uint64_t counted_errors(void)
{
	struct remote_counters counters;

	remote_counters(place.remote, &counters);
	return counters.errors;
}

/* Neither is answered before both have come. */
static void test_expected_refs_are_asked_for_next_to_the_first_request(void)
{
	const struct web_reply script[] = { only("GET", 2, good_advert),
					    only("POST", 2, good_refs) };
	struct ref_list refs = { 0 };
	char value[64];

	CHECK(stage(script, COUNT(script)));
	expect_main();
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(ask_main(&refs, NULL), 0);
	CHECK_UINT(refs.count, 1);
	CHECK_STR(refs.v[0].name, "refs/heads/main");
	CHECK_UINT(web.request_count, 2);
	CHECK_UINT(web.connections, 2);

	const struct web_request *post = request_of("POST");

	CHECK_STR(post->line, "POST /r.git/git-upload-pack HTTP/1.1");
	CHECK_STR(web_header(post, "Git-Protocol", value, sizeof(value)), "version=2");
	CHECK_MEM(post->body.data, post->body.len,
		  "0014command=ls-refs\n00010009peel\n000csymrefs\n001fref-prefix "
		  "refs/heads/main\n0000",
		  80);
	/* a server that takes one connection at a time must get the right one */
	CHECK_UINT(request_of("GET")->connection, 0);
	check_counters();
	ref_list_release(&refs);
	leave();
}

static void test_the_second_connection_serves_what_comes_next(void)
{
	const struct web_reply script[] = { only("GET", 2, good_advert), only("POST", 2, good_refs),
					    only("POST", 4, good_fetch) };
	static struct collector other;
	struct ref_list refs = { 0 };
	struct remote_call *call;
	struct fetch_spec spec = { .want_count = 1 };
	struct oid want;

	oid_from_hex(OID, 40, &want);
	spec.wants = &want;
	CHECK(stage(script, COUNT(script)));
	collector_init(&other);
	expect_main();
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(ask_main(&refs, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(remote_start_fetch(place.remote, &spec, &other.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_INT(collector_wait(&other), REMOTE_OK);
	CHECK_UINT(web.request_count, 4);
	CHECK_UINT(web.connections, 2);
	check_counters();
	collector_release(&other);
	ref_list_release(&refs);
	leave();
}

static void test_an_early_answer_is_given_once_and_to_the_same_question(void)
{
	const struct web_reply script[] = { only("GET", 2, good_advert),
					    only("POST", 2, good_refs) };
	const char *const others[] = { "HEAD" };

	for (int same = 0; same < 2; same++) {
		struct ref_list refs = { 0 };

		CHECK(stage(script, COUNT(script)));
		expect_main();
		CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
		CHECK_INT(remote_refs(place.remote, same ? main_prefix : others, 1, &refs, NULL),
			  0);
		CHECK_UINT(web.request_count, same ? 2 : 3);
		ref_list_release(&refs);
		CHECK_INT(ask_main(&refs, NULL), 0);
		CHECK_UINT(web.request_count, same ? 3 : 4);
		CHECK_CONTAINS(buf_str(&web.requests[web.request_count - 1].body), "agent=");
		ref_list_release(&refs);
		TAP_STOP();
		leave();
	}
}

static void test_of_a_known_server_nothing_is_asked_early(void)
{
	struct ref_list refs = { 0 };

	CHECK(stage(&good_refs, 1));
	expect_main();
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(ask_main(&refs, NULL), 0);
	CHECK_UINT(web.request_count, 1);
	CHECK_CONTAINS(buf_str(&web.requests[0].body), "agent=");
	ref_list_release(&refs);
	leave();
}

/* The mount goes on as if it had not been asked; what comes early is no ref of ours. */
static void test_an_early_answer_that_is_no_good_does_not_matter(void)
{
	struct buf advert = BUF_INIT, err_line = BUF_INIT;

	wrap(&advert, "version 2\n", "fetch=shallow\n", "", NULL);
	wrap(&err_line, "ERR upload-pack: access denied", NULL);

	const struct web_reply rows[] = {
		{ .status = 401, .headers = "WWW-Authenticate: Basic realm=x\r\n" },
		{ .status = 302, .headers = "Location: /x/git-upload-pack\r\n" },
		{ .status = 403 },
		{ .status = 404 },
		{ .status = 429, .headers = "Retry-After: 3600\r\n" },
		{ .status = 500 },
		{ .status = 0 },
		{ .status = 200, .type = "text/html", .body = "<html>" },
		{ .status = 200, .type = RESULT, .body = "" },
		{ .status = 200, .type = RESULT, .body = "hello world" },
		{ .status = 200, .type = RESULT, .body = "003d" OID " refs/heads/evil\n" },
		reply(RESULT, &err_line),
		/* says nothing: no longer waited for than it pays */
		{ .status = -1 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct web_reply script[] = { only("GET", 2, reply(ADVERT, &advert)),
						    only("POST", 2, rows[i]),
						    only("POST", 0, good_refs) };
		struct ref_list refs = { 0 };
		struct xcp_error err = { 0 };

		CHECK(stage_with("http://127.0.0.1:%u/r.git", script, COUNT(script), false, 4000));
		expect_main();
		EXPECT_INT(remote_connect(place.remote, NULL, &err), 0, "row %zu: %s", i,
			   err.message);
		EXPECT_INT(ask_main(&refs, &err), 0, "row %zu: %s", i, err.message);
		EXPECT_INT(refs.count, 1, "row %zu", i);
		EXPECT(refs.count && strcmp(refs.v[0].name, "refs/heads/main") == 0, "row %zu", i);
		EXPECT_INT(web.request_count, 3, "row %zu", i);
		EXPECT_INT(counted_errors(), 0, "row %zu", i);
		check_counters();
		ref_list_release(&refs);
		leave();
	}
	buf_release(&advert);
	buf_release(&err_line);
}

/* An unborn HEAD is told to who says "unborn", and that may be said where it is advertised. */
static void test_an_early_answer_without_refs_counts_where_no_more_can_be_said(void)
{
	struct buf advert = BUF_INIT, none = BUF_INIT;

	wrap(&advert, "version 2\n", "ls-refs\n", "fetch=shallow\n", "", NULL);
	wrap(&none, "", NULL);
	for (int unborn = 0; unborn < 2; unborn++) {
		const struct web_reply script[] = {
			only("GET", 2, unborn ? good_advert : reply(ADVERT, &advert)),
			only("POST", 2, reply(RESULT, &none)), only("POST", 0, good_refs)
		};
		struct ref_list refs = { 0 };

		CHECK(stage(script, COUNT(script)));
		expect_main();
		CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
		CHECK_INT(ask_main(&refs, NULL), 0);
		CHECK_UINT(refs.count, unborn ? 1 : 0);
		CHECK_UINT(web.request_count, unborn ? 3 : 2);
		if (unborn)
			CHECK_CONTAINS(buf_str(&web.requests[2].body), "unborn\n");
		ref_list_release(&refs);
		TAP_STOP();
		leave();
	}
	buf_release(&advert);
	buf_release(&none);
}

/* Whatever is answered to the other one: it was not what ought to have been asked. */
static void test_a_server_that_is_another_than_expected_is_asked_again(void)
{
	struct buf v0 = BUF_INIT, sha256 = BUF_INIT, evil = BUF_INIT;

	wrap(&v0, "# service=git-upload-pack\n", "", OID " refs/heads/main\x1fshallow agent=x\n",
	     "", NULL);
	wrap(&sha256, "version 2\n", "fetch=shallow\n", "object-format=sha256\n", "", NULL);
	wrap(&evil, OID " refs/heads/evil\n", "", NULL);

	const struct {
		struct web_reply first; /* to the GET */
		struct web_reply then;	/* to the GET that follows, if any */
		size_t gets, posts;
	} rows[] = {
		{ reply(ADVERT, &v0), { 0 }, 1, 1 },
		{ reply(ADVERT, &sha256), { 0 }, 1, 2 },
		{ { .status = 302,
		    .headers = "Location: /new/info/refs?service=git-upload-pack\r\n" },
		  good_advert,
		  2,
		  2 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct web_reply script[] = { only("GET", 2, rows[i].first),
						    only("GET", 0, rows[i].then),
						    only("POST", 2, reply(RESULT, &evil)),
						    only("POST", 0, good_refs) };
		struct ref_list refs = { 0 };
		struct xcp_error err = { 0 };

		CHECK(stage(script, COUNT(script)));
		expect_main();
		EXPECT_INT(remote_connect(place.remote, NULL, &err), 0, "row %zu: %s", i,
			   err.message);
		EXPECT_INT(ask_main(&refs, &err), 0, "row %zu: %s", i, err.message);
		EXPECT(refs.count == 1 && strcmp(refs.v[0].name, "refs/heads/main") == 0, "row %zu",
		       i);
		EXPECT_INT(count_of("GET"), rows[i].gets, "row %zu", i);
		EXPECT_INT(count_of("POST"), rows[i].posts, "row %zu", i);
		EXPECT_INT(counted_errors(), 0, "row %zu", i);
		ref_list_release(&refs);
		leave();
	}
	buf_release(&v0);
	buf_release(&sha256);
	buf_release(&evil);
}

/* The one that would answer never is canceled, and the words are those of the first. */
static void test_when_it_fails_nobody_waits_for_the_early_answer(void)
{
	const struct {
		struct web_reply reply;
		int code;
		const char *words;
	} rows[] = {
		{ { .status = 404 }, -ENOENT, "the server answered 404" },
		{ { .status = 401 }, -EACCES, "asks for a password" },
		{ { .status = 500 }, -EAGAIN, "the server answered 500" },
		{ { .status = 200, .type = "text/html", .body = "x" }, -EPROTO, "the URL right?" },
		{ { .status = 0 }, -ENETUNREACH, "cannot connect to" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct web_reply script[] = { only("GET", 2, rows[i].reply),
						    only("POST", 0, silence) };
		struct xcp_error err = { 0 };

		CHECK(stage(script, COUNT(script)));
		expect_main();
		EXPECT_INT(remote_connect(place.remote, NULL, &err), rows[i].code, "row %zu: %s", i,
			   err.message);
		EXPECT(strstr(err.message, rows[i].words) != NULL, "row %zu: %s", i, err.message);
		EXPECT_INT(counted_errors(), 1, "row %zu", i);
		leave();
	}
}

static void test_with_nobody_there_both_fail_as_one(void)
{
	struct xcp_error err = { 0 };

	CHECK(stage(&good_advert, 1));
	web_stop(&web);
	expect_main();
	CHECK_INT(remote_connect(place.remote, NULL, &err), -ENETUNREACH);
	CHECK_CONTAINS(err.message, "cannot connect to");
	CHECK_UINT(counted_errors(), 1);
	place_close(&place);
	web_release(&web);
	collector_release(&collector);
}

static void test_an_early_question_may_be_left_alone(void)
{
	const struct web_reply script[] = { only("GET", 2, good_advert), only("POST", 0, silence) };

	CHECK(stage(script, COUNT(script)));
	expect_main();
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	remote_close(&place.remote);
	CHECK_UINT(web.request_count, 2);
	leave();
}

/* ---- redirects ---- */

static void test_the_first_request_follows_redirects_and_keeps_the_new_base(void)
{
	const struct web_reply script[] = {
		{ .status = 301,
		  .headers = "Location: /new/r.git/info/refs?service=git-upload-pack\r\n" },
		{ .status = 307,
		  .headers = "Location: ../../newer/info/refs?service=git-upload-pack\r\n" },
		good_advert,
		good_refs,
	};
	struct ref_list refs = { 0 };

	CHECK(stage_with("http://me:s3cret@127.0.0.1:%u/r.git", script, COUNT(script), true, 0));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_CONTAINS(web.requests[1].line, "GET /new/r.git/info/refs?service=git-upload-pack ");
	CHECK_CONTAINS(web.requests[3].line, "POST /new/newer/git-upload-pack ");
	CHECK_STR(header(3, "Authorization"), "Basic bWU6czNjcmV0");
	check_counters();
	ref_list_release(&refs);
	leave();
}

static void test_credentials_stay_behind_when_it_redirects_to_another_host(void)
{
	static struct web other;
	char location[128];
	struct web_reply script[] = { { .status = 302, .headers = location } };
	const struct web_reply other_script[] = { { .status = 401 } };
	struct xcp_error err = { 0 };

	web_start(&other, other_script, 1);
	snprintf(location, sizeof(location),
		 "Location: http://x:y@127.0.0.1:%u/r.git/info/refs?service=git-upload-pack\r\n",
		 other.port);
	CHECK(stage_with("http://me:s3cret@127.0.0.1:%u/r.git", script, COUNT(script), true, 0));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -EACCES);
	CHECK_STR(header(0, "Authorization"), "Basic bWU6czNjcmV0");
	CHECK_UINT(other.request_count, 1);
	CHECK(strcasestr(other.requests[0].head, "Authorization") == NULL);
	CHECK(strstr(err.message, "s3cret") == NULL);
	leave();
	web_stop(&other);
	web_release(&other);
}

static void test_redirects_have_an_end(void)
{
	const struct web_reply script[] = {
		{ .status = 302,
		  .headers = "Location: /r.git/info/refs?service=git-upload-pack\r\n" }
	};
	struct xcp_error err = { 0 };

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -EPROTO);
	CHECK_CONTAINS(err.message, "redirects");
	CHECK_UINT(web.request_count, 6);
	check_counters();
	leave();
}

static void test_a_post_follows_nothing(void)
{
	const struct web_reply script[] = { { .status = 307,
					      .headers = "Location: /x/git-upload-pack\r\n" } };
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_GONE);
	CHECK(collector.outcome.answered);
	CHECK_UINT(web.request_count, 1);
	leave();
}

/* ---- credentials ---- */

static void write_file(const char *name, const char *text, mode_t mode)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", home, name);
	file = fopen(path, "we");
	if (!file || fputs(text, file) < 0 || fclose(file) || chmod(path, mode))
		abort();
}

static void remove_file(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", home, name);
	unlink(path);
}

static const char *read_file(const char *name)
{
	static char text[4096];
	char path[128];
	FILE *file;
	size_t len = 0;

	snprintf(path, sizeof(path), "%s/%s", home, name);
	file = fopen(path, "re");
	if (file) {
		len = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[len] = '\0';
	return text;
}

static void test_refused_credentials_of_the_url_are_the_end(void)
{
	const struct web_reply script[] = { { .status = 401 } };
	struct xcp_error err = { 0 };

	CHECK(stage_with("http://me:s3cret@127.0.0.1:%u/r.git", script, 1, false, 0));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -EACCES);
	CHECK_CONTAINS(err.message, "refused");
	CHECK(strstr(err.message, "s3cret") == NULL);
	CHECK_UINT(web.request_count, 1);
	leave();
}

static void test_netrc_is_read(void)
{
	const struct web_reply script[] = { good_advert, good_refs };
	struct ref_list refs = { 0 };

	write_file(".netrc", "machine 127.0.0.1 login net password rc\n", 0600);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_STR(header(0, "Authorization"), "Basic bmV0OnJj");
	CHECK_STR(header(1, "Authorization"), "Basic bmV0OnJj");
	ref_list_release(&refs);
	leave();
	remove_file(".netrc");
}

/* Answers "get" with a password that depends on the user; logs what it is told. */
static const char helper[] = "#!/bin/sh\n"
			     "{ echo \"$1\"; in=$(cat); echo \"$in\"; } >>\"$HOME/helper.log\"\n"
			     "[ \"$1\" = get ] || exit 0\n"
			     "case \"$in\" in *username=bob*) ;; *) echo username=alice;; esac\n"
			     "echo password=from-helper\n";

static void test_git_credential_is_asked_and_told(void)
{
	static const struct {
		const char *url;
		int status, code;
		const char *authorization, *log;
	} rows[] = {
		{ "http://127.0.0.1:%u/r.git", 200, 0, "Basic YWxpY2U6ZnJvbS1oZWxwZXI=", "store" },
		{ "http://bob@127.0.0.1:%u/r.git", 200, 0, "Basic Ym9iOmZyb20taGVscGVy", "store" },
		{ "http://127.0.0.1:%u/r.git", 401, -EACCES,
		  "Basic YWxpY2U6ZnJvbS1oZWxwZXI=", "erase" },
	};

	write_file("helper", helper, 0700);
	write_file("config", "[credential]\n\thelper = !$HOME/helper\n", 0600);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct web_reply script[] = {
			{ .status = 401, .headers = "WWW-Authenticate: Basic realm=x\r\n" },
			{ .status = rows[i].status,
			  .type = ADVERT,
			  .body = v2_advert.data,
			  .len = v2_advert.len },
			good_refs,
		};
		struct ref_list refs = { 0 };
		struct xcp_error err = { 0 };

		remove_file("helper.log");
		CHECK(stage_with(rows[i].url, script, COUNT(script), false, 0));
		CHECK_INT(remote_connect(place.remote, NULL, &err), rows[i].code);
		CHECK_STR(header(1, "Authorization"), rows[i].authorization);
		CHECK_CONTAINS(read_file("helper.log"), "get\n");
		CHECK_CONTAINS(read_file("helper.log"), "protocol=http\n");
		CHECK_CONTAINS(read_file("helper.log"), "host=127.0.0.1:");
		CHECK_CONTAINS(read_file("helper.log"), rows[i].log);
		CHECK(strstr(err.message, "from-helper") == NULL);
		if (rows[i].code == 0) {
			CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
			CHECK_STR(header(2, "Authorization"), rows[i].authorization);
			ref_list_release(&refs);
		}
		check_counters();
		TAP_STOP();
		leave();
	}
	remove_file("config");
}

/* Helpers are asked once, and what they say goes to nobody before a 401 to the first request. */
static void test_an_early_question_is_not_asked_again_with_credentials(void)
{
	const struct web_reply denied = { .status = 401,
					  .headers = "WWW-Authenticate: Basic realm=x\r\n" };
	const struct web_reply script[] = { only("GET", 2, denied), only("GET", 0, good_advert),
					    only("POST", 2, denied), only("POST", 0, good_refs) };
	struct ref_list refs = { 0 };
	char value[128];

	write_file("helper", helper, 0700);
	write_file("config", "[credential]\n\thelper = !$HOME/helper\n", 0600);
	remove_file("helper.log");
	CHECK(stage_with("http://127.0.0.1:%u/r.git", script, COUNT(script), false, 0));
	expect_main();
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(ask_main(&refs, NULL), 0);
	CHECK_UINT(refs.count, 1);
	CHECK_UINT(web.request_count, 4);
	for (size_t i = 0; i < 2; i++)
		CHECK_STR(header(i, "Authorization"), "");
	CHECK_CONTAINS(web.requests[2].line, "GET ");
	CHECK_STR(header(2, "Authorization"), "Basic YWxpY2U6ZnJvbS1oZWxwZXI=");
	CHECK_STR(web_header(&web.requests[3], "Authorization", value, sizeof(value)),
		  "Basic YWxpY2U6ZnJvbS1oZWxwZXI=");
	const char *asked = strstr(read_file("helper.log"), "get\n");

	CHECK(asked && !strstr(asked + 1, "get\n"));
	CHECK_UINT(counted_errors(), 0);
	check_counters();
	ref_list_release(&refs);
	leave();
	remove_file("config");
}

static void test_an_early_question_goes_with_what_is_sent_at_once(void)
{
	static const struct {
		const char *url, *netrc, *authorization;
	} rows[] = {
		{ "http://me:s3cret@127.0.0.1:%u/r.git", NULL, "Basic bWU6czNjcmV0" },
		{ "http://127.0.0.1:%u/r.git", "machine 127.0.0.1 login net password rc\n",
		  "Basic bmV0OnJj" },
		{ "http://net@127.0.0.1:%u/r.git",
		  "machine 127.0.0.1 login other password x\n"
		  "machine 127.0.0.1 login net password rc\n",
		  "Basic bmV0OnJj" },
		{ "http://127.0.0.1:%u/r.git", NULL, "" },
	};
	const struct web_reply script[] = { only("GET", 2, good_advert),
					    only("POST", 2, good_refs) };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct ref_list refs = { 0 };

		if (rows[i].netrc)
			write_file(".netrc", rows[i].netrc, 0600);
		CHECK(stage_with(rows[i].url, script, COUNT(script), true, 0));
		expect_main();
		CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
		CHECK_INT(ask_main(&refs, NULL), 0);
		CHECK_UINT(web.request_count, 2);
		CHECK_STR(header(0, "Authorization"), rows[i].authorization);
		CHECK_STR(header(1, "Authorization"), rows[i].authorization);
		ref_list_release(&refs);
		TAP_STOP();
		leave();
		remove_file(".netrc");
	}
}

static void test_without_a_helper_there_is_a_clear_sentence(void)
{
	const struct web_reply script[] = { { .status = 401 } };
	struct xcp_error err = { 0 };

	CHECK(stage_with("http://127.0.0.1:%u/r.git", script, 1, false, 0));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -EACCES);
	CHECK_CONTAINS(err.message, "credential helper");
	leave();
}

static void test_credentials_are_asked_for_when_the_first_request_is_for_refs(void)
{
	const struct web_reply script[] = {
		{ .status = 401 }, { .status = 401 }, good_advert, good_refs
	};
	struct ref_list refs = { 0 };

	write_file("config", "[credential]\n\thelper = !$HOME/helper\n", 0600);
	CHECK(stage_with("http://127.0.0.1:%u/r.git", script, COUNT(script), false, 0));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK_STR(header(3, "Authorization"), "Basic YWxpY2U6ZnJvbS1oZWxwZXI=");
	ref_list_release(&refs);
	leave();
	remove_file("config");
}

static void test_a_newline_in_a_user_name_reaches_no_helper(void)
{
	const struct web_reply script[] = { { .status = 401 } };

	write_file("config", "[credential]\n\thelper = !$HOME/helper\n", 0600);
	remove_file("helper.log");
	CHECK(stage_with("http://x%%0ahost=evil@127.0.0.1:%u/r.git", script, 1, false, 0));
	CHECK(remote_connect(place.remote, NULL, NULL) < 0);
	CHECK_STR(read_file("helper.log"), "");
	leave();
	remove_file("config");
}

/* ---- fetching ---- */

static void test_a_pack_arrives_without_its_wrapping(void)
{
	const struct web_reply script[] = { good_fetch };
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch("blob:none", &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_INT(collector.outcome.error.code, 0);
	CHECK_MEM(collector.pack.data, collector.pack.len, "PACKdataend", 11);
	CHECK_STR(header(0, "Accept-Encoding"), "identity");
	CHECK_CONTAINS(buf_str(&web.requests[0].body), "filter blob:none");
	check_counters();
	leave();
}

static void test_sizes_arrive_one_by_one(void)
{
	struct buf answer = BUF_INIT;
	struct web_reply script[1];
	struct oid oids[2];
	struct remote_call *call;

	oid_from_hex(OID, 40, &oids[0]);
	oid_from_hex("1123456789012345678901234567890123456789", 40, &oids[1]);
	wrap(&answer, "size", OID " 123", "1123456789012345678901234567890123456789 ", "", NULL);
	script[0] = reply(RESULT, &answer);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_start_sizes(place.remote, oids, 2, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_UINT(collector.size_count, 2);
	CHECK_UINT(collector.unknown_sizes, 1);
	CHECK_UINT(collector.size_sum, 123);
	CHECK_CONTAINS(buf_str(&web.requests[0].body), "command=object-info");
	leave();
	buf_release(&answer);
}

static void test_what_was_not_advertised_is_not_asked(void)
{
	struct remote_call *call;
	struct oid oid = { 0 };

	CHECK(stage(&good_fetch, 1));
	CHECK_INT(start_fetch(NULL, &call), -ENOTCONN);
	CHECK_INT(remote_connect(place.remote, "v2 sha1", NULL), 0);
	CHECK_INT(start_fetch("blob:none", &call), -EOPNOTSUPP);
	CHECK_INT(remote_start_sizes(place.remote, &oid, 1, &collector.sink, &call), -EOPNOTSUPP);
	CHECK_UINT(web.request_count, 0);
	leave();
}

struct verdict_row {
	struct web_reply reply;
	enum remote_verdict verdict;
	int code;
	uint64_t retry_after_ms;
	bool answered;
	const char *words;
};

static void check_verdict(const struct verdict_row *row, size_t i)
{
	struct remote_call *call;

	CHECK(stage(&row->reply, 1));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	EXPECT_INT(collector_wait(&collector), row->verdict, "row %zu: %s", i,
		   collector.outcome.error.message);
	EXPECT_INT(collector.outcome.error.code, row->code, "row %zu: %s", i,
		   collector.outcome.error.message);
	EXPECT_INT(collector.outcome.retry_after_ms, row->retry_after_ms, "row %zu", i);
	EXPECT_INT(collector.outcome.answered, row->answered, "row %zu", i);
	EXPECT(strstr(collector.outcome.error.message, row->words) != NULL, "row %zu: %s", i,
	       collector.outcome.error.message);
	place_close(&place);
	web_stop(&web);
	web_release(&web);
	collector_release(&collector);
}

static void test_every_fault_has_its_verdict(void)
{
	struct buf not_ours = BUF_INIT, band_3 = BUF_INIT, bad_filter = BUF_INIT,
		   cut_pack = BUF_INIT, no_pack = BUF_INIT;

	wrap(&not_ours, "ERR upload-pack: not our ref " OID, NULL);
	wrap(&band_3, "packfile\n",
	     "\x03"
	     "fatal: something broke\n",
	     NULL);
	wrap(&bad_filter, "ERR filter 'x' not supported\n", NULL);
	wrap(&cut_pack, "packfile\n", "\x01PACKdata", NULL);
	wrap(&no_pack, "shallow-info\n", "", NULL);

	const struct web_reply cut_20 = { .status = 200,
					  .type = RESULT,
					  .body = fetch_answer.data,
					  .len = fetch_answer.len,
					  .cut = true,
					  .send_len = 20 };
	const struct web_reply cut_0 = { .status = 200,
					 .type = RESULT,
					 .body = fetch_answer.data,
					 .len = fetch_answer.len,
					 .cut = true };
	const struct verdict_row rows[] = {
		{ { .status = 401 }, REMOTE_DENIED, -EACCES, 0, true, "401" },
		{ { .status = 403 }, REMOTE_DENIED, -EACCES, 0, true, "403" },
		{ { .status = 403, .headers = "Retry-After: 60\r\n" },
		  REMOTE_TRANSIENT,
		  -EAGAIN,
		  60000,
		  true,
		  "403" },
		{ { .status = 404 },
		  REMOTE_GONE,
		  -ENOENT,
		  0,
		  true,
		  "missing, or you may not see it" },
		{ { .status = 410 }, REMOTE_GONE, -ENOENT, 0, true, "410" },
		{ { .status = 400 }, REMOTE_BROKEN, -EPROTO, 0, true, "400" },
		{ { .status = 413 }, REMOTE_BROKEN, -EPROTO, 0, true, "413" },
		{ { .status = 204 }, REMOTE_BROKEN, -EPROTO, 0, true, "204" },
		{ { .status = 429 }, REMOTE_TRANSIENT, -EAGAIN, 0, true, "429" },
		{ { .status = 429, .headers = "Retry-After: 3\r\n" },
		  REMOTE_TRANSIENT,
		  -EAGAIN,
		  3000,
		  true,
		  "429" },
		{ { .status = 503, .headers = "Retry-After: 99999999999\r\n" },
		  REMOTE_TRANSIENT,
		  -EAGAIN,
		  86400000,
		  true,
		  "503" },
		{ { .status = 503, .headers = "Retry-After: soon\r\n" },
		  REMOTE_TRANSIENT,
		  -EAGAIN,
		  0,
		  true,
		  "503" },
		{ { .status = 500 }, REMOTE_TRANSIENT, -EAGAIN, 0, true, "500" },
		{ { .status = 502, .type = "text/plain", .body = "bad gateway" },
		  REMOTE_TRANSIENT,
		  -EAGAIN,
		  0,
		  true,
		  "bad gateway" },
		{ { .status = 0 }, REMOTE_TRANSIENT, -ENETUNREACH, 0, false, "fetch objects" },
		{ { .status = 200, .type = RESULT, .body = "" },
		  REMOTE_REFUSED_FEATURE,
		  -EOPNOTSUPP,
		  0,
		  true,
		  "empty" },
		{ { .status = 200, .type = "text/html", .body = "" },
		  REMOTE_BROKEN,
		  -EPROTO,
		  0,
		  true,
		  "not git's" },
		{ { .status = 200, .type = "text/html", .body = "<p>log in" },
		  REMOTE_BROKEN,
		  -EPROTO,
		  0,
		  true,
		  "text/html" },
		{ { .status = 200, .type = RESULT, .body = "garbage" },
		  REMOTE_BROKEN,
		  -EPROTO,
		  0,
		  true,
		  "packet format" },
		{ reply(RESULT, &no_pack), REMOTE_BROKEN, -EPROTO, 0, true, "no pack" },
		{ reply(RESULT, &not_ours), REMOTE_UNKNOWN_OBJECT, -ENOENT, 0, true,
		  "not our ref" },
		{ reply(RESULT, &bad_filter), REMOTE_REFUSED_FEATURE, -EOPNOTSUPP, 0, true,
		  "filter" },
		{ reply(RESULT, &band_3), REMOTE_BROKEN, -EPROTO, 0, true, "something broke" },
		{ reply(RESULT, &cut_pack), REMOTE_TRANSIENT, -EAGAIN, 0, true, "broke off" },
		{ cut_20, REMOTE_TRANSIENT, -EAGAIN, 0, true, "broke off after 20 bytes" },
		{ cut_0, REMOTE_TRANSIENT, -EAGAIN, 0, true, "broke off" },
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		check_verdict(&rows[i], i);
	buf_release(&not_ours);
	buf_release(&band_3);
	buf_release(&bad_filter);
	buf_release(&cut_pack);
	buf_release(&no_pack);
}

static void test_an_unknown_object_is_named(void)
{
	struct buf answer = BUF_INIT;
	struct web_reply script[1];
	char hex[OID_MAX_HEX + 1];
	struct remote_call *call;

	wrap(&answer, "ERR upload-pack: not our ref " OID, NULL);
	script[0] = reply(RESULT, &answer);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_UNKNOWN_OBJECT);
	CHECK_STR(oid_to_hex(&collector.outcome.unknown, hex), OID);
	leave();
	buf_release(&answer);
}

static void test_a_date_may_say_when_to_come_back(void)
{
	char headers[128];
	struct web_reply script[] = { { .status = 503, .headers = headers } };
	time_t then = time(NULL) + 100;
	struct tm tm;
	struct remote_call *call;

	strftime(headers, sizeof(headers), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n",
		 gmtime_r(&then, &tm));
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_TRANSIENT);
	CHECK(collector.outcome.retry_after_ms > 50000);
	CHECK(collector.outcome.retry_after_ms <= 100000);
	leave();
}

static void test_an_exhausted_limit_says_when_it_is_reset(void)
{
	char headers[128];
	struct web_reply script[] = { { .status = 403, .headers = headers } };
	struct remote_call *call;

	snprintf(headers, sizeof(headers),
		 "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: %lld\r\n",
		 (long long)time(NULL) + 100);
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_TRANSIENT);
	CHECK(collector.outcome.retry_after_ms > 50000);
	leave();
}

/* As other hosts than GitHub say it. */
static void test_other_hosts_limits(void)
{
	static const struct {
		const char *headers;
		uint64_t retry_after_ms;
	} rows[] = {
		{ "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
		  "RateLimit-Remaining: 0\r\nRateLimit-Reset: 946684900\r\n",
		  100000 },
		{ "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
		  "RateLimit-Remaining: 5\r\nRateLimit-Reset: 946684900\r\n",
		  0 },
		{ "RateLimit: \"api\";r=0;t=55\r\n", 55000 },
		{ "RateLimit: \"api\";r=3;t=55\r\n", 0 },
		{ "RateLimit: \"api\";r=0\r\n", 0 },
		{ "RateLimit: nonsense\r\n", 0 },
		{ "RateLimit: \"api\";r=0;t=55\r\nRetry-After: 7\r\n", 7000 },
		{ "RateLimit: \"api\";r=0;t=99999999999999999999\r\n", 86400000 },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct web_reply script[] = { { .status = 429, .headers = rows[i].headers } };
		struct remote_call *call;

		CHECK(stage(script, COUNT(script)));
		CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
		CHECK_INT(start_fetch(NULL, &call), 0);
		CHECK_INT(collector_wait(&collector), REMOTE_TRANSIENT);
		EXPECT_INT(collector.outcome.retry_after_ms, rows[i].retry_after_ms, "row %zu", i);
		leave();
	}
}

/* Ours may be years off, in both directions. */
static void test_the_servers_clock_counts_where_it_is_shown(void)
{
	static const char *const rows[] = {
		"Date: Sat, 01 Jan 2050 00:00:00 GMT\r\n"
		"Retry-After: Sat, 01 Jan 2050 00:01:40 GMT\r\n",
		"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
		"Retry-After: Sat, 01 Jan 2000 00:01:40 GMT\r\n",
		"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
		"X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 946684900\r\n",
		"Date: Sat, 01 Jan 2050 00:00:00 GMT\r\n"
		"X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 2524608100\r\n",
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct web_reply script[] = { { .status = 503, .headers = rows[i] } };
		struct remote_call *call;

		CHECK(stage(script, COUNT(script)));
		CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
		CHECK_INT(start_fetch(NULL, &call), 0);
		CHECK_INT(collector_wait(&collector), REMOTE_TRANSIENT);
		EXPECT_INT(collector.outcome.retry_after_ms, 100000, "row %zu", i);
		leave();
	}
}

static void test_an_answer_that_stalls_is_given_up(void)
{
	const struct web_reply script[] = { { .status = 200,
					      .type = RESULT,
					      .body = fetch_answer.data,
					      .len = fetch_answer.len,
					      .stall = true,
					      .send_len = 20 } };
	struct remote_call *call;

	CHECK(stage_with("http://127.0.0.1:%u/r", script, 1, true, 150));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_TRANSIENT);
	CHECK_CONTAINS(collector.outcome.error.message, "stalled");
	CHECK(collector.outcome.answered);
	leave();
}

/* Each byte is a sign of life: without an end to it a mount would wait for ever. */
static void test_small_answers_that_trickle_are_given_up(void)
{
	static const char ref[] = "003d" OID " refs/heads/main\n";
	const struct web_reply trickle = {
		.status = 200, .type = RESULT, .body = ref, .drip = true
	};
	struct web_reply advert = good_advert;
	struct ref_list refs = { 0 };
	struct xcp_error err = { 0 };

	CHECK(stage_with("http://127.0.0.1:%u/r", &trickle, 1, true, 300));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.message, "too slowly to be of use");
	leave();

	advert.drip = true;
	CHECK(stage_with("http://127.0.0.1:%u/r", &advert, 1, true, 300));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.message, "too slowly to be of use");
	leave();
}

static void test_a_large_request_is_compressed(void)
{
	enum { WANTS = 100 };
	const struct web_reply script[] = { good_fetch };
	struct oid wants[WANTS];
	struct fetch_spec spec = { .wants = wants, .want_count = WANTS };
	struct remote_call *call;
	uint8_t plain[WANTS * 60];
	z_stream z = { 0 };
	size_t plain_len;

	memset(wants, 0, sizeof(wants));
	for (unsigned i = 0; i < WANTS; i++) {
		uint8_t hash[20] = { (uint8_t)i, 7 };

		wants[i] = oid_from_bytes(OID_SHA1, hash);
	}
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_start_fetch(place.remote, &spec, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_STR(header(0, "Content-Encoding"), "gzip");
	CHECK_INT(inflateInit2(&z, 15 + 16), Z_OK);
	z.next_in = web.requests[0].body.data;
	z.avail_in = (uInt)web.requests[0].body.len;
	z.next_out = plain;
	z.avail_out = sizeof(plain);
	CHECK_INT(inflate(&z, Z_FINISH), Z_STREAM_END);
	plain_len = sizeof(plain) - z.avail_out;
	inflateEnd(&z);
	CHECK(plain_len > (size_t)WANTS * 50);
	CHECK(memmem(plain, plain_len, "want 6307", 9) != NULL);
	CHECK_MEM(plain + plain_len - 4, 4, "0000", 4);
	check_counters();
	leave();
}

/* A pack of `len` bytes in its wrapping. */
static char *make_answer(size_t len, size_t *out_len)
{
	const size_t piece = 8000;
	char *answer = malloc(len + len / piece * 5 + 100);
	size_t used = (size_t)sprintf(answer, "000dpackfile\n");

	for (size_t done = 0; done < len;) {
		size_t n = len - done < piece ? len - done : piece;

		used += (size_t)sprintf(answer + used, "%04zx\x01", n + 5);
		for (size_t i = 0; i < n; i++)
			answer[used++] = (char)((done + i) * 7 / 5);
		done += n;
	}
	*out_len = used + (size_t)sprintf(answer + used, "0000");
	return answer;
}

static void test_a_pause_holds_the_answer_until_it_is_resumed(void)
{
	const size_t len = (size_t)32 << 20;
	size_t answer_len, before;
	char *answer = make_answer(len, &answer_len);
	const struct web_reply script[] = {
		{ .status = 200, .type = RESULT, .body = answer, .len = answer_len }, good_refs
	};
	struct ref_list refs = { 0 };
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	collector.pause_every = len / 4;
	collector.pause_at = 1000;
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	collector_wait_bytes(&collector, 1000);
	before = collector_len(&collector);
	/* While it is paused another call goes all the way through the network thread. */
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
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
	CHECK_UINT(collector.pack.len, len);
	for (size_t i = 0; i < len; i += 997)
		CHECK_UINT(collector.pack.data[i], (uint8_t)(i * 7 / 5));
	check_counters();
	ref_list_release(&refs);
	leave();
	free(answer);
}

static void test_a_pause_is_no_stall(void)
{
	size_t answer_len;
	char *answer = make_answer(4 << 20, &answer_len);
	const struct web_reply script[] = {
		{ .status = 200, .type = RESULT, .body = answer, .len = answer_len },
		{ .status = -1 }
	};
	static struct collector other;
	struct remote_call *call, *other_call;
	struct fetch_spec spec = { .want_count = 1 };
	struct oid want;

	oid_from_hex(OID, 40, &want);
	spec.wants = &want;
	CHECK(stage_with("http://127.0.0.1:%u/r", script, COUNT(script), true, 200));
	collector.pause_every = 8 << 20;
	collector.pause_at = 1000;
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	collector_wait_bytes(&collector, 1000);
	/* The other one stalls for as long as that takes to be noticed. */
	collector_init(&other);
	CHECK_INT(remote_start_fetch(place.remote, &spec, &other.sink, &other_call), 0);
	CHECK_INT(collector_wait(&other), REMOTE_TRANSIENT);
	CHECK(!collector_is_done(&collector));
	remote_call_resume(call);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK_UINT(collector.pack.len, 4 << 20);
	collector_release(&other);
	leave();
	free(answer);
}

/* curl has the nonsense in its hands, and nothing more comes: nobody else would end it. */
static void test_nonsense_behind_a_pause_ends_the_call(void)
{
	size_t answer_len;
	char *answer = make_answer(24 << 10, &answer_len);
	const struct web_reply script[] = { { .status = 200,
					      .type = RESULT,
					      .body = answer,
					      .len = answer_len + 1,
					      .send_len = answer_len,
					      .stall = true },
					    good_refs };
	struct ref_list refs = { 0 };
	struct remote_call *call;

	memcpy(answer + answer_len - 4, "zzzz", 4);
	CHECK(stage(script, COUNT(script)));
	collector.pause_every = 8 << 20;
	collector.pause_at = 1000;
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	collector_wait_bytes(&collector, 1000);
	remote_call_resume(call);
	/* Another call goes all the way through the network thread, behind that. */
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK(collector_is_done(&collector));
	if (!collector_is_done(&collector))
		remote_call_cancel(call);
	CHECK_INT(collector_wait(&collector), REMOTE_BROKEN);
	ref_list_release(&refs);
	leave();
	free(answer);
}

static void test_a_canceled_call_ends_at_once(void)
{
	const struct web_reply script[] = { { .status = -1 } };
	struct remote_call *call;
	struct remote_counters counters;

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	remote_call_resume(call);
	remote_call_cancel(call);
	CHECK_INT(collector_wait(&collector), REMOTE_CANCELED);
	CHECK_INT(collector.outcome.error.code, -ECANCELED);
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.errors, 0);
	leave();
}

static void test_a_call_paused_for_good_can_be_canceled(void)
{
	size_t answer_len;
	char *answer = make_answer(4 << 20, &answer_len);
	const struct web_reply script[] = {
		{ .status = 200, .type = RESULT, .body = answer, .len = answer_len }
	};
	struct remote_call *call;

	CHECK(stage(script, COUNT(script)));
	collector.pause_every = 8 << 20;
	collector.pause_at = 1000;
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(start_fetch(NULL, &call), 0);
	collector_wait_bytes(&collector, 1000);
	remote_call_cancel(call);
	CHECK_INT(collector_wait(&collector), REMOTE_CANCELED);
	leave();
	free(answer);
}

static void test_closing_cancels_what_runs(void)
{
	const struct web_reply script[] = { { .status = -1 } };
	static struct collector others[8];
	struct remote_call *call;
	struct fetch_spec spec = { .want_count = 1 };
	struct oid want;

	oid_from_hex(OID, 40, &want);
	spec.wants = &want;
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	for (size_t i = 0; i < COUNT(others); i++) {
		collector_init(&others[i]);
		CHECK_INT(remote_start_fetch(place.remote, &spec, &others[i].sink, &call), 0);
	}
	remote_close(&place.remote);
	for (size_t i = 0; i < COUNT(others); i++) {
		CHECK(others[i].done);
		CHECK_INT(others[i].outcome.verdict, REMOTE_CANCELED);
		collector_release(&others[i]);
	}
	leave();
}

static void test_a_connection_that_died_meanwhile_is_made_anew(void)
{
	struct web_reply script[] = { good_refs, good_refs };
	struct ref_list refs = { 0 };

	script[0].close = true;
	CHECK(stage(script, COUNT(script)));
	CHECK_INT(remote_connect(place.remote, caps_text, NULL), 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	ref_list_release(&refs);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	ref_list_release(&refs);
	check_counters();
	leave();
}

static void test_a_proxy_of_the_environment_is_used(void)
{
	char proxy[64];

	web_start(&web, &good_advert, 1);
	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", web.port);
	setenv("http_proxy", proxy, 1);
	collector_init(&collector);
	CHECK(place_open(&place, "http://far.away.invalid/r.git", broker, true, 0));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_CONTAINS(web.requests[0].line, "GET http://far.away.invalid/r.git/info/refs");
	leave();
	unsetenv("http_proxy");
}

int main(int argc, char **argv)
{
	char path[128];

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
	snprintf(path, sizeof(path), "%s/config", home);
	setenv("GIT_CONFIG_GLOBAL", path, 1);
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	setenv("GIT_TERMINAL_PROMPT", "0", 1);
	unsetenv("GIT_ASKPASS");
	unsetenv("SSH_ASKPASS");
	if (broker_start(&broker, NULL))
		return EXIT_FAILURE;
	wrap_answers();
	TAP_RUN(test_the_first_requests_are_what_a_server_expects);
	TAP_RUN(test_an_advertisement_behind_a_service_line_is_one_too);
	TAP_RUN(test_what_is_known_is_not_asked_again);
	TAP_RUN(test_what_is_known_wrongly_is_asked_again_once);
	TAP_RUN(test_a_server_of_version_0_sends_its_refs_along);
	TAP_RUN(test_what_is_not_git_is_said_so);
	TAP_RUN(test_nobody_there_is_enetunreach);
	TAP_RUN(test_a_server_that_says_nothing_is_given_up);
	TAP_RUN(test_expected_refs_are_asked_for_next_to_the_first_request);
	TAP_RUN(test_the_second_connection_serves_what_comes_next);
	TAP_RUN(test_an_early_answer_is_given_once_and_to_the_same_question);
	TAP_RUN(test_of_a_known_server_nothing_is_asked_early);
	TAP_RUN(test_an_early_answer_that_is_no_good_does_not_matter);
	TAP_RUN(test_an_early_answer_without_refs_counts_where_no_more_can_be_said);
	TAP_RUN(test_a_server_that_is_another_than_expected_is_asked_again);
	TAP_RUN(test_when_it_fails_nobody_waits_for_the_early_answer);
	TAP_RUN(test_with_nobody_there_both_fail_as_one);
	TAP_RUN(test_an_early_question_may_be_left_alone);
	TAP_RUN(test_the_first_request_follows_redirects_and_keeps_the_new_base);
	TAP_RUN(test_credentials_stay_behind_when_it_redirects_to_another_host);
	TAP_RUN(test_redirects_have_an_end);
	TAP_RUN(test_a_post_follows_nothing);
	TAP_RUN(test_refused_credentials_of_the_url_are_the_end);
	TAP_RUN(test_netrc_is_read);
	TAP_RUN(test_git_credential_is_asked_and_told);
	TAP_RUN(test_an_early_question_is_not_asked_again_with_credentials);
	TAP_RUN(test_an_early_question_goes_with_what_is_sent_at_once);
	TAP_RUN(test_without_a_helper_there_is_a_clear_sentence);
	TAP_RUN(test_credentials_are_asked_for_when_the_first_request_is_for_refs);
	TAP_RUN(test_a_newline_in_a_user_name_reaches_no_helper);
	TAP_RUN(test_a_pack_arrives_without_its_wrapping);
	TAP_RUN(test_sizes_arrive_one_by_one);
	TAP_RUN(test_what_was_not_advertised_is_not_asked);
	TAP_RUN(test_every_fault_has_its_verdict);
	TAP_RUN(test_an_unknown_object_is_named);
	TAP_RUN(test_a_date_may_say_when_to_come_back);
	TAP_RUN(test_an_exhausted_limit_says_when_it_is_reset);
	TAP_RUN(test_other_hosts_limits);
	TAP_RUN(test_the_servers_clock_counts_where_it_is_shown);
	TAP_RUN(test_an_answer_that_stalls_is_given_up);
	TAP_RUN(test_small_answers_that_trickle_are_given_up);
	TAP_RUN(test_a_large_request_is_compressed);
	TAP_RUN(test_a_pause_holds_the_answer_until_it_is_resumed);
	TAP_RUN(test_a_pause_is_no_stall);
	TAP_RUN(test_nonsense_behind_a_pause_ends_the_call);
	TAP_RUN(test_a_canceled_call_ends_at_once);
	TAP_RUN(test_a_call_paused_for_good_can_be_canceled);
	TAP_RUN(test_closing_cancels_what_runs);
	TAP_RUN(test_a_connection_that_died_meanwhile_is_made_anew);
	TAP_RUN(test_a_proxy_of_the_environment_is_used);
	broker_stop(&broker);
	remove_file("helper");
	remove_file("helper.log");
	rmdir(home);
	buf_release(&v2_advert);
	buf_release(&refs_answer);
	buf_release(&fetch_answer);
	return tap_done();
}
