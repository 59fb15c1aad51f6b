/* Tests of src/remote/source.c. */
#include "remote/source.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "expect.h"

static struct host_table *hosts;

struct row {
	const char *text, *ref; /* ref: --ref */
	enum source_kind kind;
	const char *url, *shown, *identity, *want_ref, *user, *password, *host, *port, *path;
};

static void check_row(const struct row *row)
{
	struct source source;
	struct xcp_error err = { 0 };
	int rc = source_parse(row->text, row->ref, hosts, &source, &err);

	if (!EXPECT(rc == 0, "%s: %s", row->text, err.message))
		return;
	EXPECT_INT(source.kind, row->kind, "%s", row->text);
	EXPECT_STR(source.url, row->url, "%s", row->text);
	EXPECT_STR(source.shown, row->shown, "%s", row->text);
	EXPECT_STR(source.identity, row->identity, "%s", row->text);
	EXPECT_STR(source.ref, row->want_ref, "%s", row->text);
	EXPECT_STR(source.user, row->user, "%s", row->text);
	EXPECT_STR(source.password, row->password, "%s", row->text);
	EXPECT_STR(source.host, row->host, "%s", row->text);
	EXPECT_STR(source.port, row->port, "%s", row->text);
	EXPECT_STR(source.path, row->path, "%s", row->text);
	source_release(&source);
}

#define GH "https://github.com/o/r.git"
#define GH_ID "https://github.com/o/r"

/* A mirror's address, say: what may be shown is free of the inner URL's user info, too. */
static void test_a_url_in_a_path_keeps_its_secret(void)
{
	static const char *const texts[] = {
		"https://m.org/https://u:sEcret@h.org/r.git",
		"https://t:sEcret@m.org/https://u:sEcret@h.org/r.git@v1",
		"https://m.org/a/https://sEcret@h.org/r",
		"ssh://m.org/x/https://u:sEcret@h.org/r",
		"m.org:x/https://u:sEcret@h.org/r",
		"file:///x/https://u:sEcret@h.org/r",
		"/x/https://u:sEcret@h.org/r",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct source source;
		struct xcp_error err = { 0 };

		if (!EXPECT(source_parse(texts[i], NULL, hosts, &source, &err) == 0, "%s: %s",
			    texts[i], err.message))
			continue;
		EXPECT(!strstr(source.url, "sEcret"), "%s: url %s", texts[i], source.url);
		EXPECT(!strstr(source.shown, "sEcret"), "%s: shown %s", texts[i], source.shown);
		EXPECT(source.kind == SOURCE_LOCAL || !strstr(source.identity, "sEcret"),
		       "%s: identity %s", texts[i], source.identity);
		if (source.kind == SOURCE_HTTP)
			EXPECT(strstr(source.address, "sEcret@h.org/r") != NULL, "%s: address %s",
			       texts[i], source.address);
		else
			EXPECT(strstr(source.path, "sEcret@h.org/r") != NULL, "%s: path %s",
			       texts[i], source.path);
		source_release(&source);
	}
}

static void test_http_urls(void)
{
	static const struct row rows[] = {
		{ "https://h.org/a/b.git", NULL, SOURCE_HTTP, "https://h.org/a/b.git",
		  "https://h.org/a/b.git", "https://h.org/a/b.git", NULL, NULL, NULL, "h.org", NULL,
		  NULL },
		{ "http://H.org:80/a/b/", NULL, SOURCE_HTTP, "http://h.org:80/a/b",
		  "http://H.org:80/a/b/", "http://h.org/a/b", NULL, NULL, NULL, "h.org", "80",
		  NULL },
		{ "https://h.org:8443/a@v1", NULL, SOURCE_HTTP, "https://h.org:8443/a",
		  "https://h.org:8443/a@v1", "https://h.org:8443/a", "v1", NULL, NULL, "h.org",
		  "8443", NULL },
		{ "https://h.org/a.git@feature/x", NULL, SOURCE_HTTP, "https://h.org/a.git",
		  "https://h.org/a.git@feature/x", "https://h.org/a.git", "feature/x", NULL, NULL,
		  "h.org", NULL, NULL },
		{ "https://h.org/@scope/pkg", NULL, SOURCE_HTTP, "https://h.org/@scope/pkg",
		  "https://h.org/@scope/pkg", "https://h.org/@scope/pkg", NULL, NULL, NULL, "h.org",
		  NULL, NULL },
		{ "http://[::1]://o@fe.@r", NULL, SOURCE_HTTP, "http://[::1]//o",
		  "http://[::1]//o@fe.@r", "http://[::1]//o", "fe.@r", NULL, NULL, "::1", NULL,
		  NULL },
		{ "https://exsh://git@e.Git@amplexamp)a", NULL, SOURCE_HTTP, "https://exsh//git",
		  "https://exsh//git@e.Git@amplexamp)a", "https://exsh//git", "e.Git@amplexamp)a",
		  NULL, NULL, "exsh", NULL, NULL },
		{ "https://h.org/a/@me", NULL, SOURCE_HTTP, "https://h.org/a/@me",
		  "https://h.org/a/@me", "https://h.org/a/@me", NULL, NULL, NULL, "h.org", NULL,
		  NULL },
		{ "https://me:s%3Acret@h.org/a", "main", SOURCE_HTTP, "https://h.org/a",
		  "https://h.org/a@main", "https://h.org/a", "main", "me", "s:cret", "h.org", NULL,
		  NULL },
		{ "https://tok@h.org/a@v2", NULL, SOURCE_HTTP, "https://h.org/a",
		  "https://h.org/a@v2", "https://h.org/a", "v2", "tok", NULL, "h.org", NULL, NULL },
		{ "https://me:p%40ss@h.org/a.git@v2", NULL, SOURCE_HTTP, "https://h.org/a.git",
		  "https://h.org/a.git@v2", "https://h.org/a.git", "v2", "me", "p@ss", "h.org",
		  NULL, NULL },
		{ "https://me:12 .git@ss@h.org/a.git@v2", NULL, SOURCE_HTTP, "https://h.org/a.git",
		  "https://h.org/a.git@v2", "https://h.org/a.git", "v2", "me", "12 .git@ss",
		  "h.org", NULL, NULL },
		{ "http://[::1]:8080/r", NULL, SOURCE_HTTP, "http://[::1]:8080/r",
		  "http://[::1]:8080/r", "http://[::1]:8080/r", NULL, NULL, NULL, "::1", "8080",
		  NULL },
		{ "https://github.com/O/R", NULL, SOURCE_HTTP, "https://github.com/O/R",
		  "https://github.com/O/R", GH_ID, NULL, NULL, NULL, "github.com", NULL, NULL },
		{ "https://gitlab.com/g/s/R.git/", NULL, SOURCE_HTTP,
		  "https://gitlab.com/g/s/R.git", "https://gitlab.com/g/s/R.git/",
		  "https://gitlab.com/g/s/R", NULL, NULL, NULL, "gitlab.com", NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i]);
}

static void test_names(void)
{
	static const struct row rows[] = {
		{ "o/r", NULL, SOURCE_HTTP, GH, "o/r", GH_ID, NULL, NULL, NULL, "github.com", NULL,
		  NULL },
		{ "o/r.git", NULL, SOURCE_HTTP, GH, "o/r.git", GH_ID, NULL, NULL, NULL,
		  "github.com", NULL, NULL },
		{ "o/r@v1.0", NULL, SOURCE_HTTP, GH, "o/r@v1.0", GH_ID, "v1.0", NULL, NULL,
		  "github.com", NULL, NULL },
		{ "o/r@refs/heads/a/b", NULL, SOURCE_HTTP, GH, "o/r@refs/heads/a/b", GH_ID,
		  "refs/heads/a/b", NULL, NULL, "github.com", NULL, NULL },
		{ "o/r", "v1", SOURCE_HTTP, GH, "o/r@v1", GH_ID, "v1", NULL, NULL, "github.com",
		  NULL, NULL },
		{ "github:o/r@x", NULL, SOURCE_HTTP, GH, "github:o/r@x", GH_ID, "x", NULL, NULL,
		  "github.com", NULL, NULL },
		{ "GitHub.com:o/r", NULL, SOURCE_HTTP, GH, "GitHub.com:o/r", GH_ID, NULL, NULL,
		  NULL, "github.com", NULL, NULL },
		{ "gitlab:g/s/r@v/1", NULL, SOURCE_HTTP, "https://gitlab.com/g/s/r.git",
		  "gitlab:g/s/r@v/1", "https://gitlab.com/g/s/r", "v/1", NULL, NULL, "gitlab.com",
		  NULL, NULL },
		{ "sshd:o/r", NULL, SOURCE_SSH, "ssh://ssh.example:2222/srv/o/r.git", "sshd:o/r",
		  "ssh://me@ssh.example:2222/srv/o/r.git", NULL, "me", NULL, "ssh.example", "2222",
		  "/srv/o/r.git" },
		{ "disk:o/r@v1", NULL, SOURCE_LOCAL, "/nonexistent/o/r.git", "disk:o/r@v1",
		  "/nonexistent/o/r.git", "v1", NULL, NULL, NULL, NULL, "/nonexistent/o/r.git" },
	};
	struct source source;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i]);
	CHECK_INT(source_parse("gitlab:g/s/r", NULL, hosts, &source, NULL), 0);
	CHECK_STR(source.host_name, "gitlab.com");
	CHECK_STR(source.owner, "g/s");
	CHECK_STR(source.repo, "r");
	source_release(&source);
}

static void test_a_url_may_be_that_of_a_host(void)
{
	static const struct {
		const char *text, *host_name, *owner, *repo;
		bool raw, insecure;
	} rows[] = {
		{ "o/r", "github.com", "o", "r", true, false },
		{ "https://github.com/o/r", "github.com", "o", "r", true, false },
		{ "https://github.com/o/r.git@v1", "github.com", "o", "r", true, false },
		{ "https://me:secret@GitHub.com/o/r/", "github.com", "o", "r", true, false },
		{ "https://gitlab.com/g/s/r", "gitlab.com", "g/s", "r", false, false },
		{ "forge:o/r", "forge", "o", "r", true, true },
		{ "http://127.0.0.1:81/git/o/r", "forge", "o", "r", true, true },
		/* it is a URL all the same, but none of theirs */
		{ "https://github.com/o/r/tree", NULL, NULL, NULL, false, false },
		{ "https://github.com/o/r%20x", NULL, NULL, NULL, false, false },
		{ "https://github.com/o/-r", NULL, NULL, NULL, false, false },
		{ "https://github.com/o/..", NULL, NULL, NULL, false, false },
		{ "https://github.com/o", NULL, NULL, NULL, false, false },
		{ "http://github.com/o/r", NULL, NULL, NULL, false, false },
		{ "https://gitlab.com/g//r", NULL, NULL, NULL, false, false },
		{ "git@github.com:o/r", NULL, NULL, NULL, false, false },
		{ "https://h.org/o/r", NULL, NULL, NULL, false, false },
	};
	struct host_table *table = host_table_new();

	CHECK_INT(host_table_set(table, "forge", "git", "http://127.0.0.1:81/git/{owner}/{repo}",
				 NULL),
		  0);
	CHECK_INT(
		host_table_set(table, "forge", "raw", "http://127.0.0.1:81/{commit}/{path}", NULL),
		0);
	CHECK_INT(host_table_set(table, "forge", "insecure", "yes", NULL), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct source source;

		EXPECT_INT(source_parse(rows[i].text, NULL, table, &source, NULL), 0, "%s",
			   rows[i].text);
		EXPECT_STR(source.host_name, rows[i].host_name, "%s", rows[i].text);
		EXPECT_STR(source.owner, rows[i].owner, "%s", rows[i].text);
		EXPECT_STR(source.repo, rows[i].repo, "%s", rows[i].text);
		EXPECT_INT(source.raw != NULL, rows[i].raw, "%s", rows[i].text);
		EXPECT_INT(source.insecure, rows[i].insecure, "%s", rows[i].text);
		source_release(&source);
	}
	host_table_free(table);
}

static void test_ssh_addresses(void)
{
	static const struct row rows[] = {
		{ "git@h.org:o/r.git", NULL, SOURCE_SSH, "ssh://h.org/~/o/r.git",
		  "git@h.org:o/r.git", "ssh://git@h.org/~/o/r.git", NULL, "git", NULL, "h.org",
		  NULL, "o/r.git" },
		{ "h.org:/srv/r@v1", NULL, SOURCE_SSH, "ssh://h.org/srv/r", "h.org:/srv/r@v1",
		  "ssh://h.org/srv/r", "v1", NULL, NULL, "h.org", NULL, "/srv/r" },
		{ "h.org:~bob/r", NULL, SOURCE_SSH, "ssh://h.org/~bob/r", "h.org:~bob/r",
		  "ssh://h.org/~bob/r", NULL, NULL, NULL, "h.org", NULL, "~bob/r" },
		{ "h.org:~/r", NULL, SOURCE_SSH, "ssh://h.org/~/r", "h.org:~/r", "ssh://h.org/~/r",
		  NULL, NULL, NULL, "h.org", NULL, "r" },
		{ "ssh://me@H.org:22/srv/a%20b.git@v1/x", NULL, SOURCE_SSH,
		  "ssh://h.org:22/srv/a%20b.git", "ssh://me@H.org:22/srv/a%20b.git@v1/x",
		  "ssh://me@h.org/srv/a%20b.git", "v1/x", "me", NULL, "h.org", "22",
		  "/srv/a b.git" },
		{ "ssh://h.org/~bob/r/", NULL, SOURCE_SSH, "ssh://h.org/~bob/r",
		  "ssh://h.org/~bob/r/", "ssh://h.org/~bob/r", NULL, NULL, NULL, "h.org", NULL,
		  "~bob/r" },
		{ "me@[::1]:r", NULL, SOURCE_SSH, "ssh://[::1]/~/r", "me@[::1]:r",
		  "ssh://me@[::1]/~/r", NULL, "me", NULL, "::1", NULL, "r" },
		{ "git@github.com:O/R.git@v1", NULL, SOURCE_SSH, "ssh://github.com/~/O/R.git",
		  "git@github.com:O/R.git@v1", GH_ID, "v1", "git", NULL, "github.com", NULL,
		  "O/R.git" },
		{ "h.org:it's a dir", NULL, SOURCE_SSH, "ssh://h.org/~/it%27s%20a%20dir",
		  "h.org:it's a dir", "ssh://h.org/~/it%27s%20a%20dir", NULL, NULL, NULL, "h.org",
		  NULL, "it's a dir" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i]);
}

/* A directory with "repo", "repo@v1", "bare.git" in it, which is also the current one. */
static char *make_place(void)
{
	char template[] = "/tmp/xcpfs-source-XXXXXX";
	char *place = mkdtemp(template) ? realpath(template, NULL) : NULL;

	if (place && (chdir(place) || mkdir("repo", 0700) || mkdir("repo@v1", 0700) ||
		      mkdir("bare.git", 0700))) {
		free(place);
		return NULL;
	}
	return place;
}

static void remove_place(char *place)
{
	rmdir("repo");
	rmdir("repo@v1");
	rmdir("bare.git");
	if (chdir("/") || rmdir(place))
		printf("# %s is left behind\n", place);
	free(place);
}

static void test_paths(void)
{
	/* %s is the place. */
	static const struct {
		const char *text, *ref, *path, *shown, *want_ref;
	} rows[] = {
		{ "%s/repo", NULL, "%s/repo", "%s/repo", NULL },
		{ "%s/repo/", NULL, "%s/repo", "%s/repo/", NULL },
		{ "%s/repo@v1", NULL, "%s/repo@v1", "%s/repo@v1", NULL },
		{ "%s/repo@v1@x/y", NULL, "%s/repo@v1", "%s/repo@v1@x/y", "x/y" },
		{ "%s/repo@v2", NULL, "%s/repo", "%s/repo@v2", "v2" },
		{ "%s/repo@v1", "main", "%s/repo@v1", "%s/repo@v1@main", "main" },
		{ "%s/bare", NULL, "%s/bare.git", "%s/bare", NULL },
		{ "%s/bare@a/b", NULL, "%s/bare.git", "%s/bare@a/b", "a/b" },
		{ "%s/none.git@a/b", NULL, "%s/none.git", "%s/none.git@a/b", "a/b" },
		{ "./repo", NULL, "%s/repo", "%s/repo", NULL },
		{ "./repo@v2", NULL, "%s/repo", "%s/repo@v2", "v2" },
		{ ".", NULL, "%s", "%s", NULL },
		{ ".@main", NULL, "%s", "%s@main", "main" },
		{ "./repo/../repo@v1", NULL, "%s/repo@v1", "%s/repo@v1", NULL },
		{ "file://%s/repo@v2", NULL, "%s/repo", "file://%s/repo@v2", "v2" },
		{ "file://localhost%s/r%%65po", NULL, "%s/repo", "file://%s/repo", NULL },
	};
	char *place = make_place();

	CHECK(place != NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[PATH_MAX], path[PATH_MAX], shown[PATH_MAX];
		struct source source;
		struct xcp_error err = { 0 };

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
		snprintf(text, sizeof(text), rows[i].text, place);
		snprintf(path, sizeof(path), rows[i].path, place);
		snprintf(shown, sizeof(shown), rows[i].shown, place);
#pragma GCC diagnostic pop
		if (!EXPECT(source_parse(text, rows[i].ref, hosts, &source, &err) == 0, "%s: %s",
			    text, err.message))
			continue;
		EXPECT_INT(source.kind, SOURCE_LOCAL, "%s", text);
		EXPECT_STR(source.path, path, "%s", text);
		EXPECT_STR(source.url, path, "%s", text);
		EXPECT_STR(source.identity, path, "%s", text);
		EXPECT_STR(source.shown, shown, "%s", text);
		EXPECT_STR(source.ref, rows[i].want_ref, "%s", text);
		source_release(&source);
	}
	remove_place(place);
}

static void test_what_is_refused(void)
{
	static const struct {
		const char *text, *ref, *words;
	} rows[] = {
		{ "", NULL, "empty" },
		{ "o", NULL, "owner/repo" },
		{ "o/", NULL, "owner/repo" },
		{ "/../../o\n", NULL, "control character" },
		{ "o/r\x7f", NULL, "control character" },
		{ "-o/r", NULL, "begins with \"-\"" },
		{ "o/-r", NULL, "owner/repo" },
		{ "o/r/s", NULL, "too many components" },
		{ "o/..", NULL, "owner/repo" },
		{ "o /r", NULL, "owner/repo" },
		{ "o/r@", NULL, "is empty" },
		{ "o/r@v1", "v1", "given twice" },
		{ "o/r@-x", NULL, "not the name" },
		{ "o/r@a..b", NULL, "not the name" },
		{ "o/r@a b", NULL, "not the name" },
		{ "o/r@main~1", NULL, "not the name" },
		{ "o/r@v1/", NULL, "not the name" },
		{ "o/r", "", "is empty" },
		{ "gopher://h/r", NULL, "unknown scheme" },
		{ "ext::sh -c id", NULL, "remote helpers" },
		{ "https://", NULL, "URL" },
		{ "https://h.org", NULL, "names no repository" },
		{ "https://h.org/", NULL, "names no repository" },
		{ "https:///r", NULL, "URL" },
		{ "https://h.org:99999/r", NULL, "well-formed" },
		{ "https://h.org/r?x=1", NULL, "query or fragment" },
		{ "https://h.org/r#x", NULL, "query or fragment" },
		{ "https://u:p@h.org/r?x=1", NULL, "\"https://h.org/r?x=1\"" },
		{ "user:token@h.org/o/r", NULL, "without https://" },
		{ "user:token@h.org/o/r", NULL, "\"h.org/o/r\"" },
		{ "-oProxyCommand=x:r", NULL, "begins with \"-\"" },
		{ "me@-oProxyCommand=x:r", NULL, "no host name for ssh" },
		{ "ssh://-oProxyCommand=x/r", NULL, "no host name for ssh" },
		{ "ssh://-x@h/r", NULL, "no user name for ssh" },
		{ "h.org:-x", NULL, "begins with \"-\"" },
		{ "h.org:", NULL, "names no repository" },
		{ "h.org:@v1", NULL, "URL with user info" },
		{ "ssh://h.org", NULL, "names no repository" },
		{ "ssh://h.org/~/-x", NULL, "begins with \"-\"" },
		{ "ssh://h.org/a%0ab", NULL, "escape" },
		{ "file://other/r", NULL, "this machine" },
		{ "file:///a%zz", NULL, "escape" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct source source = { 0 };
		struct xcp_error err = { 0 };

		EXPECT_INT(source_parse(rows[i].text, rows[i].ref, hosts, &source, &err), -EINVAL,
			   "%s", rows[i].text);
		EXPECT(strstr(err.message, rows[i].words) != NULL, "%s: \"%s\"", rows[i].text,
		       err.message);
		EXPECT(strstr(err.message, "token") == NULL, "%s: \"%s\"", rows[i].text,
		       err.message);
		EXPECT(source.url == NULL, "%s: out was written", rows[i].text);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	hosts = host_table_new();
	host_table_set(hosts, "ssh.example", "git",
		       "ssh://me@ssh.example:2222/srv/{owner}/{repo}.git", NULL);
	host_table_set(hosts, "ssh.example", "alias", "sshd", NULL);
	host_table_set(hosts, "disk", "git", "file:///nonexistent/{owner}/{repo}.git", NULL);
	TAP_RUN(test_http_urls);
	TAP_RUN(test_a_url_in_a_path_keeps_its_secret);
	TAP_RUN(test_names);
	TAP_RUN(test_a_url_may_be_that_of_a_host);
	TAP_RUN(test_ssh_addresses);
	TAP_RUN(test_paths);
	TAP_RUN(test_what_is_refused);
	host_table_free(hosts);
	return tap_done();
}
