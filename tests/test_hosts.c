/* Tests of src/remote/hosts.c. */
#include "remote/hosts.h"

#include <errno.h>

#include "base/uri.h"
#include "expect.h"

static void test_github_is_built_in_under_both_names(void)
{
	struct host_table *table = host_table_new();

	CHECK(table != NULL);
	CHECK_STR(host_table_find(table, "github.com")->git,
		  "https://github.com/{owner}/{repo}.git");
	CHECK_PTR(host_table_find(table, "GitHub"), host_table_find(table, "github.com"));
	CHECK_STR(host_table_find(table, "gitlab")->name, "gitlab.com");
	CHECK_NULL(host_table_find(table, "git.example.org"));
	CHECK_NULL(host_table_find(table, ""));
	host_table_free(table);
}

static void test_the_configuration_adds_and_overrides(void)
{
	struct host_table *table = host_table_new();
	const struct host *host;

	CHECK_INT(host_table_set(table, "GitHub.com", "git",
				 "http://127.0.0.1:81/{owner}/{repo}.git", NULL),
		  0);
	CHECK_STR(host_table_find(table, "github")->git, "http://127.0.0.1:81/{owner}/{repo}.git");
	CHECK_STR(host_table_find(table, "github")->kind, "github");

	CHECK_INT(host_table_set(table, "Git.Example.org", "git",
				 "ssh://git@git.example.org/{owner}/{repo}", NULL),
		  0);
	CHECK_INT(host_table_set(table, "git.example.org", "alias", "ex", NULL), 0);
	CHECK_INT(host_table_set(table, "git.example.org", "kind", "gitea", NULL), 0);
	host = host_table_find(table, "ex");
	CHECK(host != NULL);
	CHECK_STR(host->name, "git.example.org");
	CHECK_STR(host->kind, "gitea");
	host_table_free(table);
}

static void test_a_known_kind_is_enough(void)
{
	static const struct {
		const char *kind, *git, *api, *raw; /* NULL: none */
	} rows[] = {
		{ "github", "https://h.example/{owner}/{repo}.git",
		  "https://h.example/api/v3/repos/{owner}/{repo}",
		  "https://h.example/raw/{owner}/{repo}/{commit}/{path}" },
		{ "gitea", "https://h.example/{owner}/{repo}.git",
		  "https://h.example/api/v1/repos/{owner}/{repo}",
		  "https://h.example/{owner}/{repo}/raw/commit/{commit}/{path}" },
		{ "gitlab", "https://h.example/{owner}/{repo}.git",
		  "https://h.example/api/v4/projects/{project}", NULL },
		{ "azure", "https://h.example/{owner}/_git/{repo}",
		  "https://h.example/{owner}/_apis/git/repositories/{repo}", NULL },
		{ "huggingface", "https://h.example/{owner}/{repo}", NULL,
		  "https://h.example/{owner}/{repo}/resolve/{commit}/{path}" },
		{ "git", NULL, NULL, NULL },
		{ "unheard-of", NULL, NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host_table *table = host_table_new();
		const struct host *host;

		CHECK_INT(host_table_set(table, "H.example", "kind", rows[i].kind, NULL), 0);
		CHECK_INT(host_table_finish(table), 0);
		host = host_table_find(table, "h.example");
		EXPECT(!host->git == !rows[i].git && !host->api == !rows[i].api &&
			       !host->raw == !rows[i].raw,
		       "%s", rows[i].kind);
		if (rows[i].git)
			CHECK_STR(host->git, rows[i].git);
		if (rows[i].api)
			CHECK_STR(host->api, rows[i].api);
		if (rows[i].raw)
			CHECK_STR(host->raw, rows[i].raw);
		host_table_free(table);
	}
}

static void test_what_a_section_says_itself_stands(void)
{
	struct host_table *table = host_table_new();
	const struct host *host;

	CHECK_INT(host_table_set(table, "h", "git", "https://other/{owner}/{repo}", NULL), 0);
	CHECK_INT(host_table_set(table, "h", "kind", "gitea", NULL), 0);
	CHECK_INT(host_table_set(table, "i", "kind", "gitea", NULL), 0);
	CHECK_INT(host_table_set(table, "i", "api", "https://api/{owner}/{repo}", NULL), 0);
	CHECK_INT(host_table_finish(table), 0);
	host = host_table_find(table, "h");
	CHECK_STR(host->git, "https://other/{owner}/{repo}");
	CHECK(!host->api && !host->raw); /* elsewhere nobody knows where they are */
	host = host_table_find(table, "i");
	CHECK_STR(host->git, "https://i/{owner}/{repo}.git");
	CHECK_STR(host->api, "https://api/{owner}/{repo}");
	host_table_free(table);
}

static void test_what_is_beside_the_models_takes_their_token(void)
{
	struct host_table *table = host_table_new();

	CHECK_INT(host_table_set(table, "huggingface.co", "token-file", "/a", NULL), 0);
	CHECK_INT(host_table_set(table, "spaces.huggingface.co", "token-command", "b", NULL), 0);
	CHECK_INT(host_table_finish(table), 0);
	CHECK_STR(host_table_find(table, "hf-datasets")->token_file, "/a");
	CHECK_NULL(host_table_find(table, "hf-spaces")->token_file);
	CHECK_STR(host_table_find(table, "hf-spaces")->token_command, "b");
	host_table_free(table);
}

static void test_the_built_in_ones(void)
{
	static const struct {
		const char *url, *name, *owner;
	} rows[] = {
		{ "https://codeberg.org/o/r", "codeberg.org", "o" },
		{ "https://gitlab.com/group/sub/r.git", "gitlab.com", "group/sub" },
		{ "https://dev.azure.com/org/project/_git/r", "dev.azure.com", "org/project" },
		{ "https://huggingface.co/o/r", "huggingface.co", "o" },
		{ "https://huggingface.co/datasets/o/r", "datasets.huggingface.co", "o" },
		{ "https://huggingface.co/spaces/o/r", "spaces.huggingface.co", "o" },
	};
	struct host_table *table = host_table_new();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host_match match = { 0 };
		struct uri uri;

		CHECK_INT(uri_parse(rows[i].url, &uri), 0);
		CHECK(host_table_match(table, &uri, &match));
		CHECK_STR(match.host->name, rows[i].name);
		EXPECT(match.owner_len == strlen(rows[i].owner) &&
			       !memcmp(match.owner, rows[i].owner, match.owner_len),
		       "%s", rows[i].url);
		uri_release(&uri);
	}
	host_table_free(table);
}

static void test_plain_http_is_trusted_where_that_is_said(void)
{
	struct host_table *table = host_table_new();

	CHECK(!host_table_find(table, "github")->insecure);
	CHECK_INT(host_table_set(table, "h", "insecure", "true", NULL), 0);
	CHECK(host_table_find(table, "h")->insecure);
	CHECK_INT(host_table_set(table, "h", "insecure", "off", NULL), 0);
	CHECK(!host_table_find(table, "h")->insecure);
	host_table_free(table);
}

static void test_mistakes_are_named(void)
{
	static const struct {
		const char *name, *key, *value, *words;
	} rows[] = {
		{ "h", "url", "https://h/{owner}/{repo}", "unknown key \"url\"" },
		{ "h", "git", "h/{owner}/{repo}", "no http, https, ssh or file URL" },
		{ "h", "git", "ftp://h/{owner}/{repo}", "no http, https, ssh or file URL" },
		{ "h", "git", "https://h/{user}/{repo}", "unknown word" },
		{ "h", "git", "https://h/{owner/{repo}", "unknown word" },
		{ "h", "git", "https://h/{", "unknown word" },
		{ "h", "git", "", "no http, https, ssh or file URL" },
		{ "h", "kind", "two words", "must be one word" },
		{ "h", "alias", "a/b", "must be one word" },
		{ "h", "raw", "https://h/{owner}/{repo}/{path}", "names no {commit}" },
		{ "h", "raw", "https://h/{owner}/{repo}/{commit}",
		  "names no {commit} or no {path}" },
		{ "h", "raw", "ssh://h/{commit}/{path}", "no http or https URL" },
		{ "h", "api", "file:///{owner}/{repo}", "no http or https URL" },
		{ "h", "insecure", "maybe", "true or false" },
		{ "h", "token-command", "", "is empty" },
		{ "h", "token-file", "", "must begin with" },
		{ "h", "token-file", "secret", "must begin with" },
		{ "h/x", "git", "https://h/{owner}/{repo}", "is no host name" },
		{ "", "git", "https://h/{owner}/{repo}", "is no host name" },
		{ "-h", "git", "https://h/{owner}/{repo}", "is no host name" },
	};
	struct host_table *table = host_table_new();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct xcp_error err = { 0 };

		EXPECT_INT(host_table_set(table, rows[i].name, rows[i].key, rows[i].value, &err),
			   -EINVAL, "row %zu", i);
		EXPECT(strstr(err.message, rows[i].words) != NULL, "row %zu: \"%s\"", i,
		       err.message);
	}
	CHECK_NULL(host_table_find(table, "h"));
	host_table_free(table);
}

static void test_templates_are_filled_and_escaped(void)
{
	static const struct host_words words = { "group/sub", "re po", "c0ffee", "a b/\xc3\xa9#" };
	static const struct {
		const char *template, *want;
	} rows[] = {
		{ "https://h/{owner}/{repo}.git", "https://h/group/sub/re%20po.git" },
		{ "x", "x" },
		{ "{commit}", "c0ffee" },
		{ "https://h/{path}?a", "https://h/a%20b/%C3%A9%23?a" },
		{ "{repo}{repo}", "re%20pore%20po" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_INIT;

		EXPECT_INT(host_expand(rows[i].template, &words, &out, NULL), 0, "row %zu", i);
		EXPECT_STR(buf_str(&out), rows[i].want, "row %zu", i);
		buf_release(&out);
	}
}

/* {path} is bytes: all but unreserved ones and the slash are escaped. */
static void test_every_byte_of_a_path_is_escaped_or_safe(void)
{
	static const char safe[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";

	for (unsigned byte = 1; byte < 256; byte++) {
		const char path[] = { (char)byte, '\0' };
		const struct host_words words = { "o", "r", "c", path };
		struct buf out = BUF_INIT;
		char want[8];

		snprintf(want, sizeof(want), strchr(safe, (int)byte) ? "%c" : "%%%02X", byte);
		EXPECT_INT(host_expand("{path}", &words, &out, NULL), 0, "byte %u", byte);
		EXPECT_STR(buf_str(&out), want, "byte %u", byte);
		buf_release(&out);
	}
}

static void test_a_word_that_is_not_given_is_an_error(void)
{
	static const struct host_words words = { "o", "r", NULL, NULL };
	struct buf out = BUF_INIT;

	CHECK_INT(host_expand("https://h/{commit}", &words, &out, NULL), -EINVAL);
	buf_release(&out);
}

/* "owner repo" of the URL by the template; "" for none. */
static void check_match(const char *template, const char *url, const char *want)
{
	struct host_table *table = host_table_new();
	struct host_match match;
	struct uri uri;
	char got[256] = "";

	CHECK_INT(host_table_set(table, "forge", "git", template, NULL), 0);
	CHECK_INT(uri_parse(url, &uri), 0);
	if (host_table_match(table, &uri, &match)) {
		EXPECT_STR(match.host->name, "forge", "%s", url);
		snprintf(got, sizeof(got), "%.*s %.*s", (int)match.owner_len, match.owner,
			 (int)match.repo_len, match.repo);
	}
	EXPECT_STR(got, want, "%s by %s", url, template);
	uri_release(&uri);
	host_table_free(table);
}

static void test_a_url_is_recognised_by_the_template_that_makes_it(void)
{
	static const struct {
		const char *template, *url, *want;
	} rows[] = {
		{ "https://h/{owner}/{repo}.git", "https://h/o/r.git", "o r" },
		{ "https://h/{owner}/{repo}.git", "https://h/o/r", "o r" },
		{ "https://h/{owner}/{repo}.git", "https://u:p@H:443/o/r/", "o r" },
		{ "https://H:443/{owner}/{repo}.git", "https://h/o/r.git/", "o r" },
		{ "https://h/{owner}/{repo}", "https://h/o/r.git", "o r" },
		{ "https://h/{owner}/{repo}", "https://h/o/r.x", "o r.x" },
		{ "https://h/{owner}/{repo}.git", "https://h/g/s/r", "g/s r" },
		{ "https://h/git/{owner}/{repo}.git", "https://h/git/o/r", "o r" },
		{ "https://h/{owner}/_git/{repo}", "https://h/o/_git/r", "o r" },
		{ "https://h/x/{owner}/{repo}/end", "https://h/x/o/r/end", "o r" },
		{ "http://127.0.0.1:81/{owner}/{repo}", "http://127.0.0.1:81/o/r", "o r" },
		/* another scheme, host, port, path */
		{ "https://h/{owner}/{repo}", "http://h/o/r", "" },
		{ "https://h/{owner}/{repo}", "https://i/o/r", "" },
		{ "https://h/{owner}/{repo}", "https://h.x/o/r", "" },
		{ "https://h/{owner}/{repo}", "https://h:444/o/r", "" },
		{ "https://h/git/{owner}/{repo}", "https://h/o/r", "" },
		{ "https://h/git/{owner}/{repo}", "https://h/Git/o/r", "" },
		{ "https://h/x/{owner}/{repo}/end", "https://h/x/o/r", "" },
		/* too little of a path */
		{ "https://h/{owner}/{repo}", "https://h/o", "" },
		{ "https://h/{owner}/{repo}", "https://h//r", "" },
		{ "https://h/{owner}/{repo}.git", "https://h/o/.git", "" },
		{ "https://h/{owner}/{repo}", "https://h", "" },
		/* of these templates it cannot be said */
		{ "https://h/{owner}{repo}", "https://h/or", "" },
		{ "https://h/{repo}/{owner}", "https://h/r/o", "" },
		{ "https://{owner}.h/{repo}", "https://o.h/r", "" },
		{ "https://h/{owner}", "https://h/o/r", "" },
		{ "ssh://h/{owner}/{repo}", "https://h/o/r", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_match(rows[i].template, rows[i].url, rows[i].want);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_github_is_built_in_under_both_names);
	TAP_RUN(test_the_configuration_adds_and_overrides);
	TAP_RUN(test_a_known_kind_is_enough);
	TAP_RUN(test_what_a_section_says_itself_stands);
	TAP_RUN(test_what_is_beside_the_models_takes_their_token);
	TAP_RUN(test_the_built_in_ones);
	TAP_RUN(test_plain_http_is_trusted_where_that_is_said);
	TAP_RUN(test_mistakes_are_named);
	TAP_RUN(test_templates_are_filled_and_escaped);
	TAP_RUN(test_every_byte_of_a_path_is_escaped_or_safe);
	TAP_RUN(test_a_word_that_is_not_given_is_an_error);
	TAP_RUN(test_a_url_is_recognised_by_the_template_that_makes_it);
	return tap_done();
}
