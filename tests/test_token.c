/* Tests of src/remote/token.c. */
#include "remote/token.h"

#include <errno.h>
#include <stdlib.h>

#include "expect.h"

static const char *const variables[] = { "GH_TOKEN", "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN",
					 "GITHUB_ENTERPRISE_TOKEN", "GITLAB_TOKEN" };

static void clear(void)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		unsetenv(variables[i]);
}

static void set(const char *variable, const char *value)
{
	if (variable)
		setenv(variable, value, 1);
}

static int find(const char *text, struct token *out)
{
	struct host_table *hosts = host_table_new();
	struct xcp_error err = { 0 };
	struct source source;
	int rc;

	host_table_set(hosts, "forge.example", "kind", "github", &err);
	host_table_set(hosts, "forge.example", "git", "https://forge.example/{owner}/{repo}", &err);
	host_table_set(hosts, "plain.example", "git", "https://plain.example/{owner}/{repo}", &err);
	host_table_set(hosts, "lab.example", "kind", "gitlab", &err);
	host_table_set(hosts, "lab.example", "git", "https://lab.example/{owner}/{repo}", &err);
	rc = source_parse(text, NULL, hosts, &source, &err);
	if (!rc) {
		rc = token_find(&source, out, &err);
		source_release(&source);
	}
	host_table_free(hosts);
	return rc;
}

static void test_each_host_has_its_own(void)
{
	static const struct {
		const char *source, *first, *second; /* that are set */
		const char *variable, *user;	     /* that is taken; NULL: none */
		bool bearer;
	} rows[] = {
		{ "o/r", "GH_TOKEN", NULL, "GH_TOKEN", "x-access-token", true },
		{ "o/r", "GITHUB_TOKEN", NULL, "GITHUB_TOKEN", "x-access-token", true },
		{ "o/r", "GITHUB_TOKEN", "GH_TOKEN", "GH_TOKEN", "x-access-token", true },
		{ "https://github.com/o/r", "GH_TOKEN", NULL, "GH_TOKEN", "x-access-token", true },
		{ "o/r", "GH_ENTERPRISE_TOKEN", "GITLAB_TOKEN", NULL, NULL, false },
		{ "forge.example:o/r", "GH_ENTERPRISE_TOKEN", NULL, "GH_ENTERPRISE_TOKEN",
		  "x-access-token", true },
		{ "https://forge.example/o/r", "GITHUB_ENTERPRISE_TOKEN", NULL,
		  "GITHUB_ENTERPRISE_TOKEN", "x-access-token", true },
		{ "forge.example:o/r", "GH_TOKEN", "GITHUB_TOKEN", NULL, NULL, false },
		{ "gitlab:o/r", "GITLAB_TOKEN", NULL, "GITLAB_TOKEN", "oauth2", false },
		{ "gitlab:o/r", "GH_TOKEN", NULL, NULL, NULL, false },
		{ "lab.example:o/r", "GITLAB_TOKEN", NULL, NULL, NULL, false },
		{ "plain.example:o/r", "GH_TOKEN", "GITLAB_TOKEN", NULL, NULL, false },
		{ "https://elsewhere.example/o/r", "GH_TOKEN", "GH_ENTERPRISE_TOKEN", NULL, NULL,
		  false },
		{ "/tmp/x.git", "GH_TOKEN", "GH_ENTERPRISE_TOKEN", NULL, NULL, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct token token;

		clear();
		set(rows[i].first, "first");
		set(rows[i].second, "second");
		EXPECT_INT(find(rows[i].source, &token), 0, "%zu", i);
		EXPECT(!token.text == !rows[i].variable, "%zu: %s", i, rows[i].source);
		if (token.text) {
			EXPECT(!strcmp(token.variable, rows[i].variable), "%zu", i);
			EXPECT(!strcmp(token.text,
				       strcmp(token.variable, rows[i].first) ? "second" : "first"),
			       "%zu", i);
			EXPECT(!strcmp(token.user, rows[i].user), "%zu", i);
			EXPECT(token.bearer == rows[i].bearer, "%zu", i);
		}
		token_release(&token);
		CHECK_NULL(token.text);
	}
	clear();
}

static void test_what_is_no_token_is_refused(void)
{
	static const char *const rows[] = { "a b",  " a",	   "a\n", "a\r\nX-Header: b",
					    "\x01", "t\xc3\xb6ken" };
	struct token token;
	char *endless = calloc(1, 5000);

	memset(endless, 'a', 4999);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		clear();
		set("GH_TOKEN", rows[i]);
		EXPECT_INT(find("o/r", &token), -EINVAL, "%zu", i);
	}
	set("GH_TOKEN", endless);
	CHECK_INT(find("o/r", &token), -EINVAL);
	set("GH_TOKEN", "");
	CHECK_INT(find("o/r", &token), 0);
	CHECK_NULL(token.text);
	clear();
	free(endless);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_each_host_has_its_own);
	TAP_RUN(test_what_is_no_token_is_refused);
	return tap_done();
}
