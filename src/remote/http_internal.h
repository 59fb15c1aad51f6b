/*
 * http_internal: what http.c (calls) and http_connect.c (the first request) share.
 *
 * Threads: a place belongs to who holds it; that of struct http is under its lock.
 */
#ifndef REMOTE_HTTP_INTERNAL_H
#define REMOTE_HTTP_INTERNAL_H

#include "remote/exchange.h"
#include "remote/remote_internal.h"

/* Where the repository is, and who we are there. */
struct place {
	char *base; /* owned; without user info */
	/* Owned; both NULL: netrc may know. A user alone is looked up there too. */
	char *user, *password;
};

struct http {
	struct lock lock;
	struct place place; /* under `lock` */
};

int place_copy(struct place *out, const struct place *from);
void place_forget(struct place *place); /* user and password, wiped */
void place_release(struct place *place);

/*
 * base + suffix, owned by the caller. A user without a password goes into the URL: there curl takes
 * it as whom to look up in netrc.
 */
char *place_url(const struct place *place, const char *suffix);

/* Gives an exchange the credentials; the place must outlive it. */
void place_fill(const struct place *place, struct exchange *exchange);

void http_wipe(char **text); /* overwrites and frees it, and leaves NULL */

bool http_type_is(const struct exchange *exchange, const char *type); /* its content type */

/* What an exchange means that brought no good answer. */
void http_explain(const struct exchange *exchange, struct remote_finding *out);

/* Counts an exchange that is over; `more` says what kind of request it was. */
void http_count(struct remote *remote, const struct exchange *exchange,
		struct remote_counters *more);

/* The connect of struct transport_ops. */
int http_connect(struct remote *remote, struct server_caps *out_caps, struct ref_list *out_refs,
		 struct xcp_error *err);

#endif
