/*
 * hosts: what is known of named hosts: templates that turn owner/repo into URLs.
 *
 * Built in is github.com; the configuration's [host "NAME"] sections add hosts and override fields
 * of built-in ones:
 *
 *	[host "github.com"]
 *	kind = github
 *	git = https://github.com/{owner}/{repo}.git
 *
 * A SOURCE names a host by its name or its alias ("github"): github:owner/repo; a bare owner/repo
 * is github's.
 *
 * Threads: filled by one thread, then read by any.
 */
#ifndef REMOTE_HOSTS_H
#define REMOTE_HOSTS_H

#include "base/buf.h"
#include "base/error.h"

struct host {
	char *name;	       /* owned, lower case: "github.com" */
	char *alias;	       /* owned: "github"; NULL */
	char *kind;	       /* owned: "github", "git", ... */
	char *git, *api, *raw; /* owned URL templates; NULL where there is none */
};

struct host_table;
struct host_table *host_table_new(void); /* with the built-in hosts; NULL when out of memory */
void host_table_free(struct host_table *table);

/*
 * Sets one key of [host "NAME"] ("kind", "git", "api", "raw", "alias"). -EINVAL for an unknown key
 * or a template that is no URL.
 */
int host_table_set(struct host_table *table, const char *name, const char *key, const char *value,
		   struct xcp_error *err);

/* By name or alias, any case; NULL when unknown. Borrowed from the table. */
const struct host *host_table_find(const struct host_table *table, const char *name);

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
