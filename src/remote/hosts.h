/*
 * hosts: what is known of named hosts: templates that turn owner/repo into URLs.
 *
 * Built in is github.com; the configuration's [host "NAME"] sections add hosts and override fields
 * of built-in ones:
 *
 *	[host "github.com"]
 *	kind = github
 *	git = https://github.com/{owner}/{repo}.git
 *	raw = https://raw.githubusercontent.com/{owner}/{repo}/{commit}/{path}
 *
 * A SOURCE names a host by its name or its alias ("github"): github:owner/repo; a bare owner/repo
 * is github's.
 *
 * Threads: filled by one thread, then read by any.
 */
#ifndef REMOTE_HOSTS_H
#define REMOTE_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

struct uri;

struct host {
	char *name;	       /* owned, lower case: "github.com" */
	char *alias;	       /* owned: "github"; NULL */
	char *kind;	       /* owned: "github", "git", ... */
	char *git, *api, *raw; /* owned URL templates; NULL where there is none */
	bool insecure;	       /* what comes by plain http counts as protected on the way */
};

struct host_table;
struct host_table *host_table_new(void); /* with the built-in hosts; NULL when out of memory */
void host_table_free(struct host_table *table);

/*
 * Sets one key of [host "NAME"] ("kind", "git", "api", "raw", "alias", "insecure"). -EINVAL for an
 * unknown key, a template that is no URL, or a `raw` that does not name commit and path.
 */
int host_table_set(struct host_table *table, const char *name, const char *key, const char *value,
		   struct xcp_error *err);

/* By name or alias, any case; NULL when unknown. Borrowed from the table. */
const struct host *host_table_find(const struct host_table *table, const char *name);

/*
 * The first host whose `git` template makes this URL, with or without ".git" at its end, and of
 * which owner and repository, as they stand in the URL. False when there is none.
 */
struct host_match {
	const struct host *host;  /* borrowed from the table */
	const char *owner, *repo; /* into uri->path */
	size_t owner_len, repo_len;
};
bool host_table_match(const struct host_table *table, const struct uri *uri,
		      struct host_match *out);

/*
 * Fills {owner}, {repo} (and {commit}, {path} when given) into a template, escaped. -EINVAL for an
 * unknown {word}.
 */
struct host_words {
	const char *owner, *repo, *commit, *path;
};
int host_expand(const char *template, const struct host_words *words, struct buf *out,
		struct xcp_error *err);

#endif
