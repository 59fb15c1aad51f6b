/*
 * credential: user and password for a host, from git's own helpers.
 *
 *	credential_fill ---> used ---> credential_approve or _reject ---> credential_release
 *
 * Secrets live in the struct alone and are wiped when they leave it; they travel through pipes,
 * never through arguments or the environment.
 *
 * Threads: a struct belongs to its caller. Everything but credential_release() waits for a program,
 * perhaps for a person.
 */
#ifndef REMOTE_CREDENTIAL_H
#define REMOTE_CREDENTIAL_H

#include "base/error.h"
#include "remote/broker.h"

struct credential { /* all owned; NULL: not known */
	char *protocol, *host,
		*path; /* host with its port, if that was written; path without a leading "/" */
	char *user, *password;
	/* Borrowed; set by another thread: what waits for a program comes back soon. NULL: none */
	const atomic_bool *stop;
};

/* Sets the first three from a URL. -EINVAL when it is none. */
int credential_describe(struct credential *credential, const char *url);

/*
 * `git credential fill`. With a user set, asks for that user's password. -EACCES: nobody knows one;
 * -EINVAL: a value that cannot be written down in git's format (a newline).
 */
int credential_fill(struct broker *broker, struct credential *credential, struct xcp_error *err);

/* Tells the helpers whether it was right. What they answer does not matter. */
void credential_approve(struct broker *broker, const struct credential *credential);
void credential_reject(struct broker *broker, const struct credential *credential);

void credential_forget(struct credential *credential); /* user and password alone */
void credential_release(struct credential *credential);

#endif
