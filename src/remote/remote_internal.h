/*
 * remote_internal: what remote.c and the transports share.
 *
 *	remote_start_*: call made, start job posted ---> ops->start ---> call_feed ...
 *		[---> ops->resume, ops->cancel, as jobs] ---> call_end or call_fail ---> call_done
 *
 * remote.c knows git's answers and owns the calls; a transport moves bytes and says how the line
 * ended.
 *
 * Threads: transports and calls live on the network thread; what is different says so.
 */
#ifndef REMOTE_REMOTE_INTERNAL_H
#define REMOTE_REMOTE_INTERNAL_H

#include <stdarg.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/lock.h"
#include "remote/commit_id.h"
#include "remote/early.h"
#include "remote/json_items.h"
#include "remote/net.h"
#include "remote/remote.h"
#include "remote/renew.h"
#include "remote/token.h"

enum call_kind { CALL_REFS, CALL_FETCH, CALL_SIZES, CALL_RANGE, CALL_TREE_SIZES, CALL_COMMIT };

/* The answer to a range call, which is nothing but bytes. */
struct range_parser {
	uint64_t off, len, size; /* as asked for; size UINT64_MAX: not known */
	bool begun;
	uint64_t left; /* bytes that are to come */
};

struct tree_sizes_parser {
	struct json_items items;
	unsigned page; /* that comes, from 1 on */
	bool whole;
};

struct remote_call {
	/* set before the start */
	struct remote *remote;
	enum call_kind kind;
	const struct transport_ops *ops;
	struct remote_sink *sink;
	struct buf request;	   /* as git says it; of what is a GET the URL, as a string */
	struct ref_list *out_refs; /* CALL_REFS: filled before a good done(); borrowed */
	bool early;		   /* sent while connecting: to fail is no error */
	/* owned by the network thread */
	union {
		struct refs_parser refs;
		struct fetch_parser fetch;
		struct sizes_parser sizes;
		struct range_parser range;
		struct tree_sizes_parser tree_sizes;
		struct commit_parser commit;
	} parser;
	struct remote_outcome outcome;
	bool judged;			/* outcome holds the verdict */
	bool paused;			/* the sink asked for it */
	uint64_t taken_len;		/* bytes of the answer so far */
	void *line;			/* the transport's part */
	TAILQ_ENTRY(remote_call) queue; /* the transport's */
	struct net_job start_job, resume_job, cancel_job;
	/* under the remote's lock */
	LIST_ENTRY(remote_call) link;
};

struct transport_ops {
	/* Makes remote->transport. No I/O. Any thread. */
	int (*open)(struct remote *remote, struct xcp_error *err);
	/* When no call is left: ends connections and children, frees the transport. */
	void (*close)(struct remote *remote);
	/* Whether nobody in between can change what comes from there. After connect; any thread. */
	bool (*safe)(const struct remote *remote);
	/*
	 * Learns what the server can do, and its refs where they come along (v0). Waits; not on the
	 * network thread. Writes the outs only on success. Where calls need no connect before them,
	 * it does early_ask() behind its first question, and early_drop() when that went astray.
	 */
	int (*connect)(struct remote *remote, struct server_caps *out_caps,
		       struct ref_list *out_refs, struct xcp_error *err);
	/* Begins a call, which ends with call_done(), perhaps within. */
	void (*start)(struct remote_call *call);
	/* The sink wants more: goes on when it was paused. */
	void (*resume)(struct remote_call *call);
	/* Stops a call that was started and leads to call_done(). */
	void (*cancel)(struct remote_call *call);
};
extern const struct transport_ops http_transport, pipe_transport;
/* Of one kind of calls, over HTTP however git is spoken there: start, resume, cancel. */
extern const struct transport_ops range_transport, tree_sizes_transport, commit_id_transport;

struct remote {
	/* set at open */
	const struct transport_ops *ops;
	struct net *net;
	struct broker *broker; /* NULL: none */
	const struct source *source;
	bool no_helpers, offline;
	bool ranges;	 /* its host has URLs of single files, and nobody can change what comes */
	bool tree_sizes; /* its host has an API that tells them, likewise */
	/* written by connect, while nothing else goes on */
	void *transport;
	struct server_caps caps;
	bool connected, probed; /* probed: caps are the server's words, not what was remembered */
	struct ref_list refs;	/* v0: from the probe, not handed out yet */
	bool have_refs;
	struct early early;
	/* under `lock` */
	struct lock lock;
	struct lock_cond calls_changed;
	LIST_HEAD(remote_call_list, remote_call) calls;
	bool closing;
	struct remote_counters counters;
	struct token token; /* written by who connects, who so may read it without the lock */
	struct renewal renewal;
	struct lock connect_lock; /* who connects holds it; before any other */
	atomic_bool stop;	  /* the remote is closed: what waits for a program ends */
	/* owned by the network thread */
	bool bearer_worked; /* the token was taken, beside git */
};

/* From now on it is this one, whose text and source it takes. Who connects. */
void remote_put_token(struct remote *remote, struct token *token);
/* Looks for the host's token, where it may have changed. Who connects. */
int remote_load_token(struct remote *remote, struct xcp_error *err);

/* ---- making calls ---- */

/* NULL: out of memory. To be filled further, then launched. */
struct remote_call *call_new(struct remote *remote, enum call_kind kind, struct remote_sink *sink);

/*
 * Hands the call over when `rc`, how making its request went, is 0; frees it otherwise, or when the
 * remote is being closed (-ECANCELED). *out (may be NULL) is written before done() can come.
 */
int call_launch(struct remote_call *call, int rc, struct remote_call **out);

/* ---- for transports: feeding a call ---- */

/*
 * What call_feed() will give is `len` bytes of the file from `off` on, of `total`. Returns 0, or
 * -ECANCELED when the sink wants none of it: the verdict is set. A range call only, once.
 */
int call_begin(struct remote_call *call, uint64_t off, uint64_t len, uint64_t total);

/*
 * Bytes of the answer. Returns 0, 1 when the sink asked for a pause (all the same all of `data` was
 * taken), or a negative errno when the answer is no good: the verdict is set, and no more may be
 * fed. *out_used (may be NULL): behind the end of an answer nothing is taken.
 */
int call_feed(struct remote_call *call, const uint8_t *data, size_t len, size_t *out_used);
bool call_finished(const struct remote_call *call); /* the end of the answer has been seen */
/* The same, or it is one that ends with the line (v0 without sideband), and the line has ended. */
bool call_whole(const struct remote_call *call);

/*
 * The line ended: OK when the answer was whole, otherwise a verdict on what is missing. `how` says
 * how it ended. Keeps an earlier verdict.
 */
void call_end(struct remote_call *call, const char *how);

/* Sets the verdict (the first one stands); the message gets what was done, to what, in front. */
void call_fail(struct remote_call *call, enum remote_verdict verdict, int code, const char *fmt,
	       ...) __attribute__((format(printf, 4, 5)));

/* The last thing: tells the sink and frees the call. */
void call_done(struct remote_call *call);

/* ---- for range calls ---- */

/* Whether files of the source can be had by range. No I/O. */
bool range_possible(const struct source *source);
/* The URL of one file. -EINVAL for a path that is none. */
int range_url(const struct source *source, const struct range_spec *spec, struct buf *out);

/* ---- for calls for the sizes below a tree ---- */

/* Whether the host of the source tells them. No I/O. */
bool tree_sizes_possible(const struct source *source);
/* `below`: with all its trees; else only what is in it. */
int tree_sizes_url(const struct source *source, const struct oid *tree, bool below,
		   struct buf *out);
void tree_sizes_init(struct remote_call *call);

/* ---- for transports: the rest ---- */

/* Why it did not go well, before it is known whom that concerns. */
struct remote_finding {
	enum remote_verdict verdict;
	int code;
	char words[XCP_ERROR_LEN - 128];
};

/* What a server's own words mean. NULL-terminated text. */
enum remote_verdict verdict_of_words(const char *words);
int verdict_code(enum remote_verdict verdict); /* the errno that goes with it */

/* Copies text from outside for people: one line of printable ASCII. */
void text_printable(char *out, size_t out_len, const char *text, size_t len);

/* Adds to the counters. Any thread. */
void remote_count(struct remote *remote, const struct remote_counters *more);
/* One request of the call's kind, in `out`, to be filled further. */
void call_counters(const struct remote_call *call, struct remote_counters *out);

#endif
