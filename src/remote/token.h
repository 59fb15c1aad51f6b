/*
 * token: a host's token, from the configuration or from where the host's own tools look:
 *
 *	[host "NAME"] token-command	what the command says, its first line; any host
 *	[host "NAME"] token-file	the first line of the file; any host
 *	github.com			GH_TOKEN, GITHUB_TOKEN
 *	another host of kind github	GH_ENTERPRISE_TOKEN, GITHUB_ENTERPRISE_TOKEN
 *	gitlab.com			GITLAB_TOKEN
 *	dev.azure.com			AZURE_DEVOPS_EXT_PAT
 *	kind huggingface		HF_TOKEN, then the file HF_TOKEN_PATH, HF_HOME/token or
 *					~/.cache/huggingface/token
 *
 * The first one that is there and not empty. When a host of kind github asks for a password and there
 * is none: what `gh auth token` says. Sources: gh help environment; GitLab's glab; Azure
 * DevOps' command line; huggingface_hub's environment variables.
 *
 * Threads: a struct belongs to its caller. The environment is read by token_find(): nobody may
 * change it meanwhile.
 */
#ifndef REMOTE_TOKEN_H
#define REMOTE_TOKEN_H

#include <stdbool.h>

#include "remote/broker.h"
#include "remote/source.h"

struct token {
	char *text;	  /* owned, wiped on release; NULL: none */
	char *from;	  /* owned: where it is from, for messages */
	const char *user; /* the user that goes with it where git asks for a password */
	bool bearer;	  /* it is for the host's URLs beside git, too */
};

/*
 * May wait for a command. `broker` (NULL: none) runs it, until `stop` as broker_run() has it. -EINVAL: there is one, but it is none
 * (blanks, control characters); -EACCES: the command or the file gives none; -ENOMEM.
 */
int token_find(const struct source *source, struct broker *broker, const atomic_bool *stop,
	       struct token *out, struct xcp_error *err);
void token_release(struct token *token);

bool token_is_gh(const struct token *token);
/* What gh knows of the host, when it is installed; a token of NULL: nothing. 0 or -ENOMEM. */
int token_of_gh(const struct source *source, struct broker *broker, const atomic_bool *stop,
		struct token *out);

#endif
