/*
 * hosts: what is known of named hosts: templates that turn owner/repo into URLs.
 *
 * Well-known hosts are built in; the configuration's [host "NAME"] sections add others and override
 * fields of built-in ones. Of an installation of a known kind (github, gitlab, gitea, forgejo,
 * bitbucket, huggingface, azure) the kind is enough:
 *
 *	[host "git.example.org"]
 *	kind = gitea
 *
 *	[host "code.example.org"]
 *	git = https://code.example.org/git/{owner}/{repo}.git
 *	raw = https://code.example.org/files/{owner}/{repo}/{commit}/{path}
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
	/* Owned: a shell command that says a token, a file that holds one; NULL. See token.h */
	char *token_command, *token_file;
	bool insecure; /* what comes by plain http counts as protected on the way */
};

struct host_table;
struct host_table *host_table_new(void); /* with the built-in hosts; NULL when out of memory */
void host_table_free(struct host_table *table);

/*
 * Sets one key of [host "NAME"] ("kind", "git", "api", "raw", "alias", "insecure",
 * "token-command", "token-file"). -EINVAL for an unknown key, a template that is no URL, or a `raw` that does not name commit and path.
 */
int host_table_set(struct host_table *table, const char *name, const char *key, const char *value,
		   struct xcp_error *err);

/*
 * After the last host_table_set(): a host of a known kind without `git` gets what its kind has, at
 * https://NAME. 0 or -ENOMEM.
 */
int host_table_finish(struct host_table *table);

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
 * Fills {owner}, {repo}, {project} (owner%2Frepo) and, when given, {commit}, {path} into a template,
 * escaped. -EINVAL for an unknown {word}.
 */
struct host_words {
	const char *owner, *repo, *commit, *path;
};
int host_expand(const char *template, const struct host_words *words, struct buf *out,
		struct xcp_error *err);

#endif
