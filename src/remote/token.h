/*
 * token: a host's token in the environment, as the host's own tools take it.
 *
 *	github.com			GH_TOKEN, GITHUB_TOKEN
 *	another host of kind github	GH_ENTERPRISE_TOKEN, GITHUB_ENTERPRISE_TOKEN
 *	gitlab.com			GITLAB_TOKEN
 *
 * The first one that is set and not empty. Source: gh help environment; GitLab's glab.
 *
 * Threads: a struct belongs to its caller. The environment is read by token_find(): nobody may
 * change it meanwhile.
 */
#ifndef REMOTE_TOKEN_H
#define REMOTE_TOKEN_H

#include <stdbool.h>

#include "remote/source.h"

struct token {
	char *text;	      /* owned, wiped on release; NULL: none */
	const char *variable; /* that it is from */
	const char *user;     /* the user that goes with it where git asks for a password */
	bool bearer;	      /* it is for the host's URLs beside git, too */
};

/* -EINVAL: there is one, but it is none (blanks, control characters); -ENOMEM. */
int token_find(const struct source *source, struct token *out, struct xcp_error *err);
void token_release(struct token *token);

#endif
