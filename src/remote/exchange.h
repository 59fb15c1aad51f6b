/*
 * exchange: one HTTP request and its answer, on the network thread.
 *
 * It follows no redirect, repeats nothing, and judges nothing but what is HTTP's own: status,
 * headers, bytes, how the transfer ended.
 *
 *	zeroed, "set by the user" filled ---> exchange_start ---> take ... ---> ended
 *	                                             +---> exchange_stop (ended is not called)
 *
 * Threads: the network thread.
 */
#ifndef REMOTE_EXCHANGE_H
#define REMOTE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "remote/net.h"

struct exchange {
	/* set by the user; borrowed until it has ended */
	struct net *net;
	const char *url;	     /* its user part, if any, is what curl looks up in netrc */
	const char *user, *password; /* sent at once when set; NULL: netrc may know */
	const char *bearer;	     /* a token, sent at once instead of these; NULL: none */
	const char *content_type;    /* of `body` */
	const char *accept;
	const struct buf *body; /* NULL: GET; else POST */
	bool body_gzipped;
	bool ask_v2;	   /* Git-Protocol: version=2 */
	bool take_gzip;	   /* the answer may be compressed on the wire */
	bool no_netrc;	   /* whoever netrc knows there is not sent */
	const char *range; /* Range: "bytes=..."; NULL: none */
	bool small;	   /* the answer is: it is given up when it crawls */
	/*
	 * Bytes of an answer with status 200, or 206 to a range. Returns 0, 1 for a pause after
	 * these, or negative to break off.
	 */
	int (*take)(struct exchange *exchange, const uint8_t *data, size_t len);
	void (*ended)(struct exchange *exchange);

	/* what came; valid in take() (status and what the headers say) and from ended() on */
	CURLcode code;
	long status;	       /* 0: no answer, not even a whole head of one */
	char answer_type[128]; /* content type, "" when there was none */
	/* As it stands there; "" when there was none, "?" for what is too long or there twice. */
	char answer_range[96];	  /* Content-Range */
	char answer_encoding[32]; /* Content-Encoding */
	uint64_t answer_len;	  /* Content-Length; UINT64_MAX: not said */
	char *redirect;		  /* owned; where a 3xx points, absolute; NULL */
	/* Retry-After, or the reset time of an exhausted rate limit; 0: not said */
	uint64_t retry_after_ms;
	uint64_t rate_left; /* requests that a rate limit leaves; UINT64_MAX: not said */
	char sso[300];	    /* where a token is to be authorised for its owner's company; "" */
	char said[200];	    /* the beginning of a text/plain answer that was not 200, printable */
	char curl_words[CURL_ERROR_SIZE];
	bool sent; /* the request went out */
	bool stalled, crawls;
	uint64_t bytes_sent, bytes_received; /* of bodies, as on the wire */
	unsigned connections;		     /* opened for it */

	/* private */
	struct net_transfer transfer;
	struct net_timer timer;
	struct curl_slist *headers;
	size_t error_len;
	uint64_t started_ms, moved_bytes, moved_ms;
	bool paused;
	bool head_whole; /* the end of the headers has been seen */
};

int exchange_start(struct exchange *exchange);	  /* 0 or -ENOMEM */
void exchange_resume(struct exchange *exchange);  /* `ended` may be called within */
void exchange_stop(struct exchange *exchange);	  /* `sent` and the counters are valid afterwards */
void exchange_release(struct exchange *exchange); /* after the end: what is owned */

/* Compresses a request body. */
int exchange_gzip(const struct buf *in, struct buf *out);

#endif
