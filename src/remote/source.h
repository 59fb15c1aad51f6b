/*
 * source: what a person writes as SOURCE, understood.
 *
 *	owner/repo			the git URL of github.com's template
 *	NAME:owner/repo			likewise for a host of the table
 *	http(s)://host/path		git's smart HTTP
 *	ssh://[user@]host[:port]/path	git-upload-pack through ssh
 *	[user@]host:path		likewise
 *	file:///path, /path, ./path, ../path	a repository on this machine, bare or not
 *
 * "@REF" may follow: only behind the repository's path (behind ".git", or behind the second
 * component of owner/repo, or in the last component of a URL's path); for local paths an existing
 * path wins over a ref. --ref always works, and both at once is an error. Refused: control
 * characters, a host or path beginning with "-", unknown schemes, an empty repository or ref.
 *
 * Threads: a struct belongs to its caller; read by any once parsed.
 */
#ifndef REMOTE_SOURCE_H
#define REMOTE_SOURCE_H

#include <stdbool.h>

#include "base/error.h"
#include "remote/hosts.h"

enum source_kind { SOURCE_HTTP, SOURCE_SSH, SOURCE_LOCAL };

struct source { /* all strings owned */
	enum source_kind kind;
	/*
	 * For people, the mount table and logs: as written, no user info but for the user of ssh,
	 * with "@REF" where there is one.
	 */
	char *shown;
	/*
	 * For messages. HTTP, SSH: without user info, without a trailing "/". LOCAL: the absolute
	 * path.
	 */
	char *url;
	char *address; /* HTTP: the URL to ask: its path may hold another URL with a secret */
	/* What facts are kept under: the same for every spelling of the same remote; no secrets. */
	char *identity;
	char *user, *password; /* from the URL; NULL; wiped by source_release() */
	char *host, *port;     /* HTTP, SSH */
	char *path;	       /* SSH, LOCAL: what upload-pack is given */
	char *ref;	       /* NULL: the remote's HEAD */
	/*
	 * When it is a repository of a host of the table, by name or by an http(s) URL as the host's
	 * template makes it.
	 */
	char *host_name, *host_kind, *owner, *repo;
	char *raw; /* with those: the template for URLs of single files; NULL: the host has none */
	char *api; /* likewise, of the repository in the host's API */
	char *token_command, *token_file; /* likewise: where its token is (token.h); NULL */
	bool insecure; /* of the host: plain http counts as protected on the way */
};

/*
 * `ref` (--ref) may be NULL. Relative local paths are made absolute. Wiping `text` in argv is the
 * caller's task.
 */
int source_parse(const char *text, const char *ref, const struct host_table *hosts,
		 struct source *out, struct xcp_error *err);
void source_release(struct source *source);

#endif
