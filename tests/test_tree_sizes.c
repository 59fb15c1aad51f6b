/*
 * Tests of src/remote/tree_sizes.c against a web server inside the test that answers as GitHub's
 * REST API documents it ("Get a tree").
 */
#include "remote/remote.h"

#include <errno.h>
#include <time.h>

#include "expect.h"
#include "http_support.h"
#include "remote_support.h"

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))
#define TREE "9fb037999f264ba9a7fc6274d15fa3ae2ab98312"
#define JSON "application/json; charset=utf-8"

static const char caps_text[] = "v2 sha1 shallow filter";

/* What the documentation shows, and what else a tree may hold. */
static const char answer[] =
	"{\"sha\":\"" TREE "\",\"url\":\"https://api.example/trees/" TREE "\",\"tree\":["
	"{\"path\":\"file.rb\",\"mode\":\"100644\",\"type\":\"blob\",\"size\":30,"
	"\"sha\":\"44b4fc6d56897b048c772eb4087f854f46256132\",\"url\":\"https://api.example/x\"},"
	"{\"path\":\"dir\",\"mode\":\"040000\",\"type\":\"tree\","
	"\"sha\":\"f484d249c660418515fb01c2b9662073663c242e\",\"url\":\"https://api.example/y\"},"
	"{\"path\":\"dir/run\",\"mode\":\"100755\",\"type\":\"blob\",\"size\":75,"
	"\"sha\":\"45b983be36b73c0788dc9cbcb76cbb80fc7bb057\",\"url\":\"https://api.example/z\"},"
	"{\"path\":\"link\",\"mode\":\"120000\",\"type\":\"blob\",\"size\":7,"
	"\"sha\":\"00b983be36b73c0788dc9cbcb76cbb80fc7bb057\",\"url\":\"https://api.example/l\"},"
	"{\"path\":\"sub\",\"mode\":\"160000\",\"type\":\"commit\","
	"\"sha\":\"01b983be36b73c0788dc9cbcb76cbb80fc7bb057\"}],\"truncated\":false}";

/* ---- the stage: one server for git and its host's API, one remote ---- */

static struct web web;
static struct place place;
static struct collector collector;

static bool stage_at(const char *kind, const char *git, const char *api,
		     const struct web_reply *script, size_t count)
{
	struct host_table *hosts = host_table_new();

	web_start(&web, script, count);
	collector_init(&collector);
	host_set(hosts, web.port, "kind", kind);
	host_set(hosts, web.port, "git", git);
	if (api)
		host_set(hosts, web.port, "api", api);
	return place_open_at(&place, hosts, "forge:o/r", NULL, true, 0) &&
	       remote_connect(place.remote, caps_text, NULL) == 0;
}

static bool stage(const struct web_reply *script, size_t count)
{
	return stage_at("github", "http://127.0.0.1:%u/git/{owner}/{repo}.git",
			"http://127.0.0.1:%u/repos/{owner}/{repo}", script, count);
}

static void leave(void)
{
	place_close(&place);
	web_stop(&web);
	web_release(&web);
	collector_release(&collector);
}

static enum remote_verdict ask(bool below)
{
	struct remote_call *call;
	struct oid tree;

	collector_release(&collector);
	collector_init(&collector);
	oid_from_hex(TREE, 40, &tree);
	if (remote_start_tree_sizes(place.remote, &tree, below, &collector.sink, &call))
		return REMOTE_CANCELED;
	return collector_wait(&collector);
}

static const char *header(size_t i, const char *name)
{
	static char value[512];

	return web_header(&web.requests[i], name, value, sizeof(value));
}

/* ---- right answers ---- */

static void test_sizes_of_files_are_told(void)
{
	const struct web_reply script[] = { { .status = 200, .type = JSON, .body = answer } };
	struct remote_counters counters;

	CHECK(stage(script, COUNT(script)));
	CHECK(remote_caps(place.remote) & REMOTE_TREE_SIZES);
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK(!collector.outcome.cut);
	CHECK_UINT(collector.size_count, 3);
	CHECK_UINT(collector.size_sum, 30 + 75 + 7);
	CHECK_STR(web.requests[0].line, "GET /repos/o/r/git/trees/" TREE "?recursive=1 HTTP/1.1");
	CHECK_STR(header(0, "Accept"), "application/vnd.github+json");
	CHECK(strstr(header(0, "Accept-Encoding"), "gzip"));
	CHECK(*header(0, "User-Agent"));
	CHECK_STR(header(0, "Authorization"), "");

	CHECK_INT(ask(false), REMOTE_OK);
	CHECK_STR(web.requests[1].line, "GET /repos/o/r/git/trees/" TREE " HTTP/1.1");
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.requests_api, 2);
	CHECK_UINT(counters.bytes_received, 2 * strlen(answer));
	leave();
}

static void test_what_was_left_out_is_said(void)
{
	const struct web_reply script[] = {
		{ .status = 200,
		  .type = JSON,
		  .body = "{\"sha\":\"x\",\"truncated\":true,\"tree\":[{\"type\":\"blob\",\"size\":"
			  "5,"
			  "\"sha\":\"44b4fc6d56897b048c772eb4087f854f46256132\"}]}" }
	};

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK(collector.outcome.cut);
	CHECK_UINT(collector.size_sum, 5);
	leave();
}

static void test_entries_that_make_no_sense_are_passed_over(void)
{
	const struct web_reply script[] = {
		{ .status = 200,
		  .type = JSON,
		  .body = "{\"tree\":[{\"type\":\"blob\",\"size\":-5,"
			  "\"sha\":\"44b4fc6d56897b048c772eb4087f854f46256132\"},"
			  "{\"type\":\"blob\",\"size\":1.5,"
			  "\"sha\":\"44b4fc6d56897b048c772eb4087f854f46256132\"},"
			  "{\"type\":\"blob\",\"size\":\"5\","
			  "\"sha\":\"44b4fc6d56897b048c772eb4087f854f46256132\"},"
			  "{\"type\":\"blob\",\"size\":5},{\"type\":\"blob\",\"size\":5,\"sha\":"
			  "\"44\"},"
			  "{\"type\":7,\"size\":5,\"sha\":9},{},"
			  "{\"type\":\"blob\",\"size\":5,"
			  "\"sha\":\"44b4fc6d56897b048c772eb4087f854f46256132\"}]}" }
	};

	CHECK(stage(script, COUNT(script)));
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_UINT(collector.size_count, 1);
	leave();
}

/* ---- other kinds of hosts ---- */

static void test_pages_are_asked_for_one_after_the_other(void)
{
#define PAGE(n, more)                                                                              \
	{                                                                                          \
		.status = 200, .type = JSON,                                                       \
		.body = "{\"sha\":\"x\",\"tree\":[{\"type\":\"blob\",\"size\":" #n                 \
			",\"sha\":\"44b4fc6d56897b048c772eb4087f854f4625613" #n                    \
			"\"}],\"truncated\":" #more ",\"page\":" #n ",\"total_count\":3}"          \
	}
	const struct web_reply script[] = { PAGE(1, true), PAGE(2, true), PAGE(3, false) };
#undef PAGE
	static const char path[] = "GET /api/v1/repos/o/r/git/trees/" TREE;
	struct remote_counters counters;
	char line[200];

	for (unsigned forgejo = 0; forgejo < 2; forgejo++) {
		CHECK(stage_at(
			forgejo ? "forgejo" : "gitea", "http://127.0.0.1:%u/git/{owner}/{repo}.git",
			"http://127.0.0.1:%u/api/v1/repos/{owner}/{repo}", script, COUNT(script)));
		CHECK_INT(ask(true), REMOTE_OK);
		CHECK(!collector.outcome.cut);
		CHECK_UINT(collector.size_count, 3);
		CHECK_UINT(collector.size_sum, 1 + 2 + 3);
		snprintf(line, sizeof(line), "%s?recursive=true&per_page=1000 HTTP/1.1", path);
		CHECK_STR(web.requests[0].line, line);
		snprintf(line, sizeof(line), "%s?recursive=true&per_page=1000&page=2 HTTP/1.1",
			 path);
		CHECK_STR(web.requests[1].line, line);
		CHECK_STR(header(2, "Accept"), "application/json");
		remote_counters(place.remote, &counters);
		CHECK_UINT(counters.requests_api, 3);
		leave();
	}
}

/* What the first pages said is told; the rest is not. */
static void test_a_page_that_does_not_come(void)
{
	static const char first[] = "{\"tree\":[{\"type\":\"blob\",\"size\":5,\"sha\":"
				    "\"44b4fc6d56897b048c772eb4087f854f46256132\"}],"
				    "\"truncated\":true}";
	static const struct {
		struct web_reply second;
		enum remote_verdict verdict;
	} rows[] = {
		{ { .status = 500 }, REMOTE_TRANSIENT },
		{ { .status = 0 }, REMOTE_TRANSIENT },
		{ { .status = 404, .type = JSON, .body = "{}" }, REMOTE_REFUSED_FEATURE },
		{ { .status = 301, .headers = "Location: /elsewhere\r\n" },
		  REMOTE_REFUSED_FEATURE },
		{ { .status = 200, .type = JSON, .body = "{\"tree\":[" }, REMOTE_REFUSED_FEATURE },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct web_reply script[] = { { .status = 200, .type = JSON, .body = first },
						    rows[i].second };

		CHECK(stage_at("gitea", "http://127.0.0.1:%u/git/{owner}/{repo}.git",
			       "http://127.0.0.1:%u/api/v1/repos/{owner}/{repo}", script,
			       COUNT(script)));
		EXPECT_INT(ask(false), rows[i].verdict, "%zu", i);
		CHECK_UINT(collector.size_count, 1);
		leave();
	}
}

/* A server that says for ever that there is more. */
static void test_pages_come_to_an_end(void)
{
	const struct web_reply script[] = {
		{ .status = 200, .type = JSON, .body = "{\"tree\":[],\"truncated\":true}" }
	};
	struct remote_counters counters;

	CHECK(stage_at("gitea", "http://127.0.0.1:%u/git/{owner}/{repo}.git",
		       "http://127.0.0.1:%u/api/v1/repos/{owner}/{repo}", script, COUNT(script)));
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK(collector.outcome.cut);
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.requests_api, 200);
	leave();
}

static void test_azure_names_things_in_its_own_way(void)
{
	const struct web_reply script[] = {
		{ .status = 200,
		  .type = JSON,
		  .body = "{\"objectId\":\"" TREE "\",\"url\":\"x\",\"treeEntries\":["
			  "{\"objectId\":\"44b4fc6d56897b048c772eb4087f854f46256132\","
			  "\"relativePath\":\"a\",\"mode\":\"100644\",\"gitObjectType\":\"blob\","
			  "\"url\":\"y\",\"size\":12},"
			  "{\"objectId\":\"45b983be36b73c0788dc9cbcb76cbb80fc7bb057\","
			  "\"relativePath\":\"d\",\"mode\":\"40000\",\"gitObjectType\":\"tree\","
			  "\"url\":\"z\",\"size\":0}],\"size\":12}" }
	};

	CHECK(stage_at("azure", "http://127.0.0.1:%u/{owner}/_git/{repo}",
		       "http://127.0.0.1:%u/{owner}/_apis/git/repositories/{repo}", script,
		       COUNT(script)));
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_UINT(collector.size_count, 1);
	CHECK_UINT(collector.size_sum, 12);
	CHECK_STR(web.requests[0].line, "GET /o/_apis/git/repositories/r/trees/" TREE
					"?recursive=true&api-version=7.1 HTTP/1.1");
	leave();
}

static void test_only_hosts_of_a_known_kind_have_it(void)
{
	static const struct {
		const char *kind, *api;
	} rows[] = {
		{ "git", "http://127.0.0.1:%u/repos/{owner}/{repo}" },
		{ "bitbucket", "http://127.0.0.1:%u/repos/{owner}/{repo}" },
		{ "github", NULL },
		/* anybody could change what comes from there */
		{ "github", "http://forge.example:%u/repos/{owner}/{repo}" },
	};
	const struct web_reply script[] = { { .status = 200, .type = JSON, .body = answer } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		CHECK(stage_at(rows[i].kind, "http://127.0.0.1:%u/git/{owner}/{repo}.git",
			       rows[i].api, script, COUNT(script)));
		EXPECT(!(remote_caps(place.remote) & REMOTE_TREE_SIZES), "%s %s", rows[i].kind,
		       rows[i].api ? rows[i].api : "-");
		EXPECT_INT(ask(true), REMOTE_CANCELED, "%zu", i); /* it does not start */
		leave();
	}
}

static void test_a_repository_that_moved_is_followed(void)
{
	char location[128];
	struct web_reply script[] = { { .status = 301, .headers = location },
				      { .status = 200, .type = JSON, .body = answer } };

	CHECK(stage_at("github", "http://u:secret@127.0.0.1:%u/git/{owner}/{repo}.git",
		       "http://127.0.0.1:%u/repos/{owner}/{repo}", script, COUNT(script)));
	snprintf(location, sizeof(location),
		 "Location: http://localhost:%u/repositories/7/git/trees/x\r\n", web.port);
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_UINT(collector.size_count, 3);
	CHECK(!strncmp(header(0, "Authorization"), "Basic ", 6));
	CHECK_STR(web.requests[1].line, "GET /repositories/7/git/trees/x HTTP/1.1");
	CHECK_STR(header(1, "Authorization"), ""); /* it is another host */
	leave();
}

static void test_a_token_goes_to_the_api(void)
{
	char location[128];
	struct web_reply script[] = { { .status = 200, .type = JSON, .body = answer },
				      { .status = 301, .headers = location },
				      { .status = 200, .type = JSON, .body = answer } };

	setenv("GH_ENTERPRISE_TOKEN", "t0ken", 1);
	setenv("GH_TOKEN", "another", 1);
	CHECK(stage(script, COUNT(script)));
	unsetenv("GH_ENTERPRISE_TOKEN");
	unsetenv("GH_TOKEN");
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_STR(header(0, "Authorization"), "Bearer t0ken");

	/* and with a redirect to the same origin */
	snprintf(location, sizeof(location), "Location: http://127.0.0.1:%u/a\r\n", web.port);
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_STR(header(1, "Authorization"), "Bearer t0ken");
	CHECK_STR(header(2, "Authorization"), "Bearer t0ken");
	leave();
}

static void test_a_token_stays_behind_when_it_redirects_elsewhere(void)
{
	char location[128];
	struct web_reply script[] = { { .status = 301, .headers = location },
				      { .status = 200, .type = JSON, .body = answer } };

	setenv("GITHUB_ENTERPRISE_TOKEN", "t0ken", 1);
	CHECK(stage(script, COUNT(script)));
	unsetenv("GITHUB_ENTERPRISE_TOKEN");
	snprintf(location, sizeof(location), "Location: http://localhost:%u/a\r\n", web.port);
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_STR(header(0, "Authorization"), "Bearer t0ken");
	CHECK_STR(header(1, "Authorization"), "");
	leave();
}

/* Git's server is asked who we are now; that it knows no better ends it. */
static void test_a_token_that_expired(void)
{
	const struct web_reply script[] = { { .status = 200, .type = JSON, .body = answer },
					    { .status = 401, .type = JSON, .body = "{}" } };
	enum remote_verdict verdict = REMOTE_TRANSIENT;
	unsigned asked_git = 0;

	setenv("GH_ENTERPRISE_TOKEN", "t0ken", 1);
	CHECK(stage(script, COUNT(script)));
	unsetenv("GH_ENTERPRISE_TOKEN");
	CHECK_INT(ask(true), REMOTE_OK);
	CHECK_INT(ask(true), REMOTE_TRANSIENT);
	for (unsigned i = 0; i < 100 && verdict == REMOTE_TRANSIENT; i++)
		verdict = ask(true);
	CHECK_INT(verdict, REMOTE_REFUSED_FEATURE);
	for (size_t i = 0; i < web.request_count; i++)
		asked_git += !strncmp(web.requests[i].line, "GET /git/o/r.git/info/refs", 26);
	CHECK(asked_git >= 1);
	leave();
}

/* One that never was taken is not looked for again. */
static void test_a_token_that_never_worked(void)
{
	const struct web_reply script[] = { { .status = 401, .type = JSON, .body = "{}" } };

	setenv("GH_ENTERPRISE_TOKEN", "t0ken", 1);
	CHECK(stage(script, COUNT(script)));
	unsetenv("GH_ENTERPRISE_TOKEN");
	CHECK_INT(ask(true), REMOTE_REFUSED_FEATURE);
	CHECK_UINT(web.request_count, 1);
	leave();
}

/* ---- all others ---- */

static void test_what_other_answers_mean(void)
{
	char reset[128];
	const struct {
		struct web_reply reply;
		enum remote_verdict verdict;
		uint64_t retry_min_ms, retry_max_ms;
		const char *words;
	} rows[] = {
		{ { .status = 401, .type = JSON, .body = "{\"message\":\"Bad credentials\"}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "401" },
		{ { .status = 403,
		    .type = JSON,
		    .body = "{}",
		    .headers = "X-GitHub-SSO: required; url=https://forge.example/sso?a=1\r\n" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "single sign-on at https://forge.example/sso" },
		{ { .status = 403, .type = JSON, .body = "{\"message\":\"no\"}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "403" },
		{ { .status = 404, .type = JSON, .body = "{\"message\":\"Not Found\"}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "missing, or you may not see it" },
		{ { .status = 409, .type = JSON, .body = "{\"message\":\"empty\"}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "409" },
		{ { .status = 422, .type = JSON, .body = "{}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "422" },
		{ { .status = 403,
		    .type = JSON,
		    .body = "{}",
		    .headers = "X-RateLimit-Remaining: 0\r\n" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "403" },
		{ { .status = 403, .type = JSON, .body = "{}", .headers = reset },
		  REMOTE_TRANSIENT,
		  1700000,
		  1800000,
		  "too many requests" },
		{ { .status = 403, .type = JSON, .body = "{}", .headers = "Retry-After: 60\r\n" },
		  REMOTE_TRANSIENT,
		  60000,
		  60000,
		  "too many requests" },
		{ { .status = 429, .type = JSON, .body = "{}", .headers = "Retry-After: 7\r\n" },
		  REMOTE_TRANSIENT,
		  7000,
		  7000,
		  "429" },
		{ { .status = 500 }, REMOTE_TRANSIENT, 0, 0, "500" },
		{ { .status = 503 }, REMOTE_TRANSIENT, 0, 0, "503" },
		{ { .status = 0 }, REMOTE_TRANSIENT, 0, 0, "" },
		{ { .status = 200,
		    .type = JSON,
		    .body = answer,
		    .len = sizeof(answer) - 1,
		    .cut = true,
		    .send_len = 400 },
		  REMOTE_TRANSIENT,
		  0,
		  0,
		  "broke off after 400 bytes" },
		{ { .status = 200, .type = "text/html", .body = "<html>" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "text/html" },
		{ { .status = 200, .type = JSON, .body = "{\"tree\":[{}]" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "breaks off" },
		{ { .status = 200, .type = JSON, .body = "{\"message\":\"hello\"}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "is missing" },
		{ { .status = 200, .type = JSON, .body = "{\"tree\":[1]}" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "no object" },
		{ { .status = 200, .type = JSON, .body = "" }, REMOTE_REFUSED_FEATURE, 0, 0, "" },
		{ { .status = 302 }, REMOTE_REFUSED_FEATURE, 0, 0, "nowhere" },
		{ { .status = 302, .headers = "Location: http://forge.example/x\r\n" },
		  REMOTE_REFUSED_FEATURE,
		  0,
		  0,
		  "not to be trusted" },
	};

	snprintf(reset, sizeof(reset), "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: %lld\r\n",
		 (long long)time(NULL) + 1790);
	for (size_t i = 0; i < COUNT(rows); i++) {
		CHECK(stage(&rows[i].reply, 1));
		EXPECT_INT(ask(true), rows[i].verdict, "%zu: %s", i,
			   collector.outcome.error.message);
		EXPECT(collector.outcome.retry_after_ms >= rows[i].retry_min_ms &&
			       collector.outcome.retry_after_ms <= rows[i].retry_max_ms,
		       "%zu: %llu ms", i, (unsigned long long)collector.outcome.retry_after_ms);
		EXPECT(strstr(collector.outcome.error.message, rows[i].words), "%zu: %s", i,
		       collector.outcome.error.message);
		EXPECT(strstr(collector.outcome.error.message, "cannot ask for sizes at http://"),
		       "%zu: %s", i, collector.outcome.error.message);
		leave();
	}
}

static void test_it_can_be_given_up(void)
{
	const struct web_reply script[] = { { .status = -1 } };
	struct remote_call *call;
	struct oid tree;

	CHECK(stage(script, COUNT(script)));
	oid_from_hex(TREE, 40, &tree);
	CHECK_INT(remote_start_tree_sizes(place.remote, &tree, true, &collector.sink, &call), 0);
	remote_call_cancel(call);
	CHECK_INT(collector_wait(&collector), REMOTE_CANCELED);
	leave();
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_sizes_of_files_are_told);
	TAP_RUN(test_what_was_left_out_is_said);
	TAP_RUN(test_entries_that_make_no_sense_are_passed_over);
	TAP_RUN(test_pages_are_asked_for_one_after_the_other);
	TAP_RUN(test_a_page_that_does_not_come);
	TAP_RUN(test_pages_come_to_an_end);
	TAP_RUN(test_azure_names_things_in_its_own_way);
	TAP_RUN(test_only_hosts_of_a_known_kind_have_it);
	TAP_RUN(test_a_repository_that_moved_is_followed);
	TAP_RUN(test_a_token_goes_to_the_api);
	TAP_RUN(test_a_token_stays_behind_when_it_redirects_elsewhere);
	TAP_RUN(test_a_token_that_expired);
	TAP_RUN(test_a_token_that_never_worked);
	TAP_RUN(test_what_other_answers_mean);
	TAP_RUN(test_it_can_be_given_up);
	return tap_done();
}
