/* Tests of src/remote/token.c. */
#include "remote/token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "expect.h"

static const char *const variables[] = { "GH_TOKEN",
					 "GITHUB_TOKEN",
					 "GH_ENTERPRISE_TOKEN",
					 "GITHUB_ENTERPRISE_TOKEN",
					 "GITLAB_TOKEN",
					 "AZURE_DEVOPS_EXT_PAT",
					 "HF_TOKEN",
					 "HF_TOKEN_PATH",
					 "HF_HOME",
					 "HOME" };

static struct broker *broker;
static char command[512], file[512];
static struct xcp_error said;

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
	if (*command)
		host_table_set(hosts, "plain.example", "token-command", command, &err);
	if (*file)
		host_table_set(hosts, "plain.example", "token-file", file, &err);
	rc = source_parse(text, NULL, hosts, &source, &err);
	if (!rc) {
		rc = token_find(&source, broker, NULL, out, &err);
		said = err;
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
		{ "gitlab:o/r", "GITLAB_TOKEN", NULL, "GITLAB_TOKEN", "oauth2", true },
		{ "gitlab:o/r", "GH_TOKEN", NULL, NULL, NULL, false },
		{ "lab.example:o/r", "GITLAB_TOKEN", NULL, NULL, NULL, false },
		{ "plain.example:o/r", "GH_TOKEN", "GITLAB_TOKEN", NULL, NULL, false },
		{ "azure:org/project/r", "AZURE_DEVOPS_EXT_PAT", NULL, "AZURE_DEVOPS_EXT_PAT",
		  "token", false },
		{ "hf:o/r", "HF_TOKEN", "GH_TOKEN", "HF_TOKEN", "token", true },
		{ "hf-datasets:o/r", "HF_TOKEN", NULL, "HF_TOKEN", "token", true },
		{ "codeberg:o/r", "HF_TOKEN", "GH_TOKEN", NULL, NULL, false },
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
			EXPECT(!strcmp(token.from, rows[i].variable), "%zu", i);
			EXPECT(!strcmp(token.text,
				       strcmp(token.from, rows[i].first) ? "second" : "first"),
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

/* ---- from a file, from a command ---- */

static char *file_of(const char *text)
{
	static char path[64];
	int fd;

	strcpy(path, "/tmp/xcpfs-token-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
	return path;
}

static void test_a_file_holds_it(void)
{
	static const struct {
		const char *text;
		int rc;
		const char *token, *words;
	} rows[] = {
		{ "t0ken", 0, "t0ken", "" },
		{ "t0ken\n", 0, "t0ken", "" },
		{ "  t0ken \r\nmore\n", 0, "t0ken", "" },
		{ "", -EACCES, NULL, "is not there, or empty" },
		{ "\n", -EACCES, NULL, "is not there, or empty" },
		{ "two words\n", -EINVAL, NULL, "holds no token" },
	};
	struct token token;

	clear();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *path = file_of(rows[i].text);

		strcpy(file, path);
		EXPECT_INT(find("plain.example:o/r", &token), rows[i].rc, "%zu", i);
		EXPECT(strstr(said.message, rows[i].words), "%zu: %s", i, said.message);
		if (rows[i].token) {
			CHECK_STR(token.text, rows[i].token);
			CHECK_STR(token.from, path);
			CHECK(!token.bearer);
		}
		token_release(&token);
		unlink(path);
	}
	CHECK_INT(find("plain.example:o/r", &token), -EACCES);
	CHECK_CONTAINS(said.message, "is not there, or empty");
	strcpy(file, "/tmp");
	CHECK_INT(find("plain.example:o/r", &token), -EACCES);
	CHECK_CONTAINS(said.message, "cannot read the token file /tmp");
	*file = '\0';
}

static void test_a_command_says_it(void)
{
	static const struct {
		const char *command;
		int rc;
		const char *token, *words;
	} rows[] = {
		{ "echo t0ken; echo more", 0, "t0ken", "" },
		{ "printf ' t0ken '", 0, "t0ken", "" },
		{ "true", -EACCES, NULL, "said nothing" },
		{ "echo t0ken; exit 3", -EACCES, NULL, "failed (exit status 3)" },
		{ "kill -9 $$", -EACCES, NULL, "failed (signal 9)" },
		{ "echo two words", -EINVAL, NULL, "holds no token" },
		{ "head -c 100000 /dev/zero", -EACCES, NULL, "the token-command of host" },
	};
	struct token token;

	clear();
	set("GH_TOKEN", "another");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		strcpy(command, rows[i].command);
		EXPECT_INT(find("plain.example:o/r", &token), rows[i].rc, "%zu", i);
		EXPECT(strstr(said.message, rows[i].words), "%zu: %s", i, said.message);
		EXPECT(!strstr(said.message, "t0ken") && !strstr(said.message, "two words"), "%s",
		       said.message);
		if (rows[i].token)
			CHECK_STR(token.text, rows[i].token);
		token_release(&token);
	}
	*command = '\0';
	clear();
}

static void test_where_the_hub_leaves_it(void)
{
	char *path = file_of("hf_saved\n");
	struct token token;

	clear();
	set("HF_TOKEN_PATH", path);
	CHECK_INT(find("hf:o/r", &token), 0);
	CHECK_STR(token.text, "hf_saved");
	CHECK_STR(token.from, path);
	token_release(&token);
	set("HF_TOKEN", "hf_given");
	CHECK_INT(find("hf:o/r", &token), 0);
	CHECK_STR(token.text, "hf_given");
	token_release(&token);
	clear();
	set("HF_HOME", "/nonexistent");
	CHECK_INT(find("hf:o/r", &token), 0);
	CHECK_NULL(token.text);
	clear();
	CHECK_INT(find("hf:o/r", &token), 0);
	CHECK_NULL(token.text);
	unlink(path);
}

static void gh_put(const char *dir, const char *script)
{
	char path[200];
	FILE *out;

	snprintf(path, sizeof(path), "%s/gh", dir);
	out = fopen(path, "w");
	if (!out || fprintf(out, "#!/bin/sh\n%s\n", script) < 0 || fclose(out) || chmod(path, 0755))
		abort();
}

static void test_gh_is_asked(void)
{
	static const struct {
		const char *script, *source, *token;
	} rows[] = {
		{ "test \"$*\" = 'auth token --hostname github.com' && echo gho_x", "o/r",
		  "gho_x" },
		{ "test \"$*\" = 'auth token --hostname forge.example' && echo gho_y",
		  "forge.example:o/r", "gho_y" },
		{ "echo gho_x", "gitlab:o/r", NULL },
		{ "echo gho_x", "https://elsewhere.example/o/r", NULL },
		{ "echo no oauth token found >&2; exit 1", "o/r", NULL },
		{ "echo two words", "o/r", NULL },
		{ "true", "o/r", NULL },
	};
	char dir[] = "/tmp/xcpfs-gh-XXXXXX", path[4000];
	struct broker *own;

	clear();
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s:%s", dir, getenv("PATH"));
	setenv("PATH", path, 1);
	CHECK_INT(broker_start(&own, NULL), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct host_table *hosts = host_table_new();
		struct source source;
		struct token token;

		host_table_set(hosts, "forge.example", "kind", "github", NULL);
		host_table_finish(hosts);
		CHECK_INT(source_parse(rows[i].source, NULL, hosts, &source, NULL), 0);
		gh_put(dir, rows[i].script);
		CHECK_INT(token_of_gh(&source, own, NULL, &token), 0);
		EXPECT(!token.text == !rows[i].token, "%zu", i);
		if (token.text && rows[i].token) {
			CHECK_STR(token.text, rows[i].token);
			CHECK_STR(token.from, "gh auth token");
			CHECK(token.bearer);
		}
		token_release(&token);
		source_release(&source);
		host_table_free(hosts);
	}
	snprintf(path, sizeof(path), "rm -r %s", dir);
	CHECK_INT(system(path), 0);
	broker_stop(&own);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	if (broker_start(&broker, NULL))
		abort();
	TAP_RUN(test_each_host_has_its_own);
	TAP_RUN(test_what_is_no_token_is_refused);
	TAP_RUN(test_a_file_holds_it);
	TAP_RUN(test_a_command_says_it);
	TAP_RUN(test_where_the_hub_leaves_it);
	TAP_RUN(test_gh_is_asked);
	broker_stop(&broker);
	return tap_done();
}
