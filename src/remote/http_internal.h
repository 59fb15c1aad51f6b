/*
 * http_internal: what http.c (git's calls), http_connect.c (the first request), http_get.c, and with
 * that range.c (parts of files) and listing.c (sizes) share.
 *
 * Threads: a place belongs to who holds it; that of struct http is under its lock. Calls are on the
 * network thread.
 */
#ifndef REMOTE_HTTP_INTERNAL_H
#define REMOTE_HTTP_INTERNAL_H

#include "remote/exchange.h"
#include "remote/remote_internal.h"

struct uri;

#define HTTP_REDIRECTS_MAX 5

/* Where the repository is, and who we are there. */
struct place {
	char *base; /* owned; without user info */
	/* Owned; both NULL: netrc may know. A user alone is looked up there too. */
	char *user, *password;
	char *bearer; /* owned; NULL: none. Instead of these, for what is beside git */
	bool proved;  /* the server has taken who we are there */
};

struct probe;

struct http {
	struct lock lock;
	/* under `lock` */
	struct place place;
	struct probe *probe; /* the first request, while it is on its way */
	bool stopped;	     /* there will be no other */
};

int place_copy(struct place *out, const struct place *from);
void place_forget(struct place *place); /* who we are there, wiped */
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
/* How it ended, for call_end(). */
const char *http_end_words(const struct exchange *exchange);

/* Counts an exchange that is over; `more` says what kind of request it was. */
void http_count(struct remote *remote, const struct exchange *exchange,
		struct remote_counters *more);

/* ---- calls ---- */

/*
 * A call on its way: one exchange, or several one after the other.
 *	http_call_start ---> the exchange's take ..., ended ---> http_call_done
 */
struct http_call {
	struct exchange exchange;
	struct remote_call *call;
	struct place place;
	char *url;	    /* owned */
	struct buf gzipped; /* the request, when that is shorter */
	char range[64];	    /* of a range call: what it asks for */
	/* of what http_get.c asks for */
	int (*fill)(
		struct http_call *line); /* sets up the exchange for the place that it has now */
	unsigned renewals;		 /* of credentials, when it began */
	unsigned redirects;		 /* followed so far */
	char suffix[24];		 /* behind the place's URL: which page of several */
	bool anonymous;			 /* netrc is not for this place */
	bool shared;			 /* we are who we are for git */
};

/*
 * `begin` finds the place and sets up the exchange, by line->fill where that has to be done again
 * after a redirect. 0 or -ENOMEM.
 */
void http_call_start(struct remote_call *call, int (*begin)(struct http_call *line),
		     int (*fill)(struct http_call *line));
void http_call_resume(struct remote_call *call);
void http_call_cancel(struct remote_call *call);
void http_call_count(struct http_call *line); /* its exchange, which is over */
void http_call_done(struct http_call *line);  /* the same, and it was the last */
/* http_explain() for the exchange of a call, whose outcome gets what is not in `out`. */
void http_call_explain(struct http_call *line, struct remote_finding *out);

/* ---- http_get.c: what is beside git ---- */

/* Whether it is a URL from which things may be read: nobody can change what comes. */
bool http_get_possible(const struct source *source, const char *url);
/* The URL of the repository in the API of its host, and whether that is such a URL. */
int http_api_url(const struct source *source, struct buf *out);
bool http_api_possible(const struct source *source);
/* Goes to the URL that the call's request is, as line->fill says. 0 or -ENOMEM. */
int http_get_begin(struct http_call *line);
/* For line->fill: its place, and who we are there. 0 or -ENOMEM. */
int http_get_fill(struct http_call *line);
/* The exchange is over; the same place is asked once more, by line->fill. 0 or -ENOMEM. */
int http_get_again(struct http_call *line);
/* The exchange is over. True: it was a redirect, and the request is on its way again. */
bool http_get_follow(struct http_call *line);
/* The verdict on an answer that is none, by its status. */
void http_get_refused(struct http_call *line);
/* It is not to be had in this way, now and later: the verdict. Returns -EOPNOTSUPP. */
int http_get_refuse(struct remote_call *call, const char *why, const char *what);

/* Where the repository is, as far as that is known by now. Any thread. */
int http_place(struct remote *remote, struct place *out);

/*
 * Asks the server anew who we are there, as when it was mounted; nothing else is learnt. *out_changed:
 * that is not what it was. Not on the network thread.
 */
int http_reconnect(struct remote *remote, bool *out_changed, struct xcp_error *err);
/* Who connects comes back soon with -ECANCELED, and so does who would. */
void http_connect_stop(struct remote *remote);

/* The connect of struct transport_ops. */
int http_connect(struct remote *remote, struct server_caps *out_caps, struct ref_list *out_refs,
		 struct xcp_error *err);

#endif
