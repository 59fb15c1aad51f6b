/* Tests of src/remote/hosts.c. */
#include "remote/hosts.h"

#include <errno.h>

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

static void test_a_word_that_is_not_given_is_an_error(void)
{
	static const struct host_words words = { "o", "r", NULL, NULL };
	struct buf out = BUF_INIT;

	CHECK_INT(host_expand("https://h/{commit}", &words, &out, NULL), -EINVAL);
	buf_release(&out);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_github_is_built_in_under_both_names);
	TAP_RUN(test_the_configuration_adds_and_overrides);
	TAP_RUN(test_mistakes_are_named);
	TAP_RUN(test_templates_are_filled_and_escaped);
	TAP_RUN(test_a_word_that_is_not_given_is_an_error);
	return tap_done();
}
