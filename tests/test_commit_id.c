/*
 * Tests of src/remote/commit_id.c against a web server inside the test that answers as the hosts'
 * documents have it.
 */
#include <errno.h>

#include "expect.h"
#include "http_support.h"
#include "remote/remote.h"
#include "remote_support.h"

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))
#define ID "6dcb09b5b57875f334f61aebed695e2e4193db5e"
#define SHA "application/vnd.github.sha; charset=utf-8"
#define JSON "application/json; charset=utf-8"

static struct web web;
static struct place place;
static struct xcp_error err;

static int find(const char *kind, const char *api, const char *id, struct web_reply reply,
		struct oid *out)
{
	struct host_table *hosts = host_table_new();
	int rc = -1;

	web_start(&web, &reply, 1);
	host_set(hosts, web.port, "kind", kind);
	host_set(hosts, web.port, "git", "http://127.0.0.1:%u/git/{owner}/{repo}.git");
	if (api)
		host_set(hosts, web.port, "api", api);
	err = (struct xcp_error){ 0 };
	if (place_open_at(&place, hosts, "forge:o/r", NULL, true, 0) &&
	    remote_connect(place.remote, "v2 sha1 shallow filter", NULL) == 0)
		rc = remote_find_commit(place.remote, id, out, &err);
	return rc;
}

static void leave(void)
{
	place_close(&place);
	web_stop(&web);
	web_release(&web);
}

static void test_each_kind_is_asked_in_its_own_way(void)
{
	static const struct {
		const char *kind, *api, *line, *accept;
		struct web_reply reply;
	} rows[] = {
		{ "github",
		  "http://127.0.0.1:%u/repos/{owner}/{repo}",
		  "GET /repos/o/r/commits/6dcb09b HTTP/1.1",
		  "application/vnd.github.sha",
		  { .status = 200, .type = SHA, .body = ID } },
		{ "gitea",
		  "http://127.0.0.1:%u/api/v1/repos/{owner}/{repo}",
		  "GET /api/v1/repos/o/r/git/commits/"
		  "6dcb09b?stat=false&verification=false&files=false HTTP/1.1",
		  "application/json",
		  { .status = 200, .type = JSON, .body = "{\"url\":\"x\",\"sha\":\"" ID "\"}" } },
		{ "gitlab",
		  "http://127.0.0.1:%u/api/v4/projects/{project}",
		  "GET /api/v4/projects/o%2Fr/repository/commits/6dcb09b?stats=false HTTP/1.1",
		  "application/json",
		  { .status = 200,
		    .type = JSON,
		    .body = "{\"id\":\"" ID "\",\"short_id\":\"x\"}" } },
		{ "bitbucket",
		  "http://127.0.0.1:%u/2.0/repositories/{owner}/{repo}",
		  "GET /2.0/repositories/o/r/commit/6dcb09b?fields=hash HTTP/1.1",
		  "application/json",
		  { .status = 200, .type = JSON, .body = "{\"hash\":\"" ID "\"}" } },
	};
	char accept[100], hex[OID_MAX_HEX + 1];

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct remote_counters counters;
		struct oid oid;

		EXPECT_INT(find(rows[i].kind, rows[i].api, "6dcb09b", rows[i].reply, &oid), 0,
			   "%s: %s", rows[i].kind, err.message);
		CHECK_STR(oid_to_hex(&oid, hex), ID);
		CHECK_STR(web.requests[0].line, rows[i].line);
		CHECK_STR(web_header(&web.requests[0], "Accept", accept, sizeof(accept)),
			  rows[i].accept);
		remote_counters(place.remote, &counters);
		CHECK_UINT(counters.requests_api, 1);
		leave();
	}
}

static void test_what_other_answers_mean(void)
{
	static const struct {
		struct web_reply reply;
		int rc;
		const char *words;
	} rows[] = {
		{ { .status = 422, .type = JSON, .body = "{}" }, -ENOENT, "422" },
		{ { .status = 404, .type = JSON, .body = "{}" }, -ENOENT, "missing" },
		{ { .status = 403, .type = JSON, .body = "{}", .headers = "Retry-After: 9\r\n" },
		  -EAGAIN,
		  "too many requests" },
		{ { .status = 500 }, -EAGAIN, "500" },
		{ { .status = 200, .type = SHA, .body = "<html>" }, -ENOENT, "no commit id" },
		{ { .status = 200, .type = SHA, .body = "" }, -ENOENT, "no commit id" },
		{ { .status = 200, .type = SHA, .body = ID "\n" }, 0, "" },
		{ { .status = 200, .type = SHA, .body = "0" ID }, -ENOENT, "no commit id" },
		{ { .status = 200,
		    .type = SHA,
		    .body = "7dcb09b5b57875f334f61aebed695e2e4193db5e" },
		  -EPROTO,
		  "another commit" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct oid oid;

		EXPECT_INT(find("github", "http://127.0.0.1:%u/repos/{owner}/{repo}", "6dcb09b",
				rows[i].reply, &oid),
			   rows[i].rc, "%zu: %s", i, err.message);
		EXPECT(strstr(err.message, rows[i].words), "%zu: %s", i, err.message);
		leave();
	}
}

static void test_an_endless_answer_is_given_up(void)
{
	size_t len = (size_t)5 << 20;
	char *body = malloc(len);
	struct oid oid;

	memset(body, ' ', len);
	CHECK_INT(find("github", "http://127.0.0.1:%u/repos/{owner}/{repo}", "6dcb09b",
		       (struct web_reply){ .status = 200, .type = SHA, .body = body, .len = len },
		       &oid),
		  -EPROTO);
	CHECK_CONTAINS(err.message, "too long");
	leave();
	free(body);
}

static void test_who_cannot_be_asked(void)
{
	static const struct {
		const char *kind, *api, *id;
		int rc;
	} rows[] = {
		{ "git", "http://127.0.0.1:%u/{owner}/{repo}", "6dcb09b", -EOPNOTSUPP },
		{ "azure", "http://127.0.0.1:%u/{owner}/{repo}", "6dcb09b", -EOPNOTSUPP },
		{ "github", NULL, "6dcb09b", -EOPNOTSUPP },
		{ "github", "http://forge.example:%u/{owner}/{repo}", "6dcb09b", -EOPNOTSUPP },
		{ "github", "http://127.0.0.1:%u/{owner}/{repo}", "", -EINVAL },
		{ "github", "http://127.0.0.1:%u/{owner}/{repo}", "6dcb/../..", -EINVAL },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct oid oid;

		EXPECT_INT(find(rows[i].kind, rows[i].api, rows[i].id,
				(struct web_reply){ .status = 200, .type = SHA, .body = ID }, &oid),
			   rows[i].rc, "%zu: %s", i, err.message);
		CHECK_UINT(web.request_count, 0);
		leave();
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_each_kind_is_asked_in_its_own_way);
	TAP_RUN(test_what_other_answers_mean);
	TAP_RUN(test_an_endless_answer_is_given_up);
	TAP_RUN(test_who_cannot_be_asked);
	return tap_done();
}
