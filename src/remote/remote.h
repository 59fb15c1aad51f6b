/*
 * remote: one repository somewhere, and what it can be asked.
 *
 * Callers ask for capabilities (bits), never for kinds of hosts. Underneath are transports: smart
 * HTTP over libcurl's multi interface (http.c), ssh or local upload-pack over pipes (pipe.c), and
 * next to either of them what hosts have beside git: parts of files (range.c), sizes below a tree
 * (tree_sizes.c); all served by the one network thread (net.c).
 *
 *	net_open ---> remote_open [---> remote_expect_refs]
 *		---> remote_connect, remote_refs (wait; at mount time)
 *		---> remote_start/resume/cancel ... ---> remote_close ---> net_close
 *
 * A call tries once: no retries here, but for what HTTP itself asks for (redirects of the first
 * request and of those for ranges, a 401 answered with credentials, a kept-alive connection that
 * turned out dead before the first byte of the answer). The outcome says whether to try again and
 * not before when; the fetch scheduler decides.
 *
 * Threads: the network thread calls sinks; everything else as said at each function.
 */
#ifndef REMOTE_REMOTE_H
#define REMOTE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/oid.h"
#include "git/protocol.h"
#include "remote/broker.h"
#include "remote/source.h"

/* ---- the network thread ---- */

struct net;
struct net_config {
	unsigned connect_timeout_ms; /* 0: 15,000 */
	unsigned stall_timeout_ms; /* without a byte in either direction, pauses apart; 0: 60,000 */
	const char *user_agent;	   /* borrowed for net_open(); NULL: PROTOCOL_AGENT */
};
int net_open(const struct net_config *config, struct net **out, struct xcp_error *err);
void net_close(struct net **net); /* every remote must be closed before */

/* ---- a remote ---- */

enum remote_cap {
	REMOTE_OBJECTS = 1 << 0, /* any object by id, batched */
	REMOTE_SUBTREE = 1 << 1, /* filters: a commit or tree id with a blob limit or none */
	REMOTE_STEP = 1 << 2,	 /* what changed since objects that are here (haves, thin packs) */
	REMOTE_SIZES = 1 << 3,	 /* sizes by id, in bulk */
	REMOTE_RANGE = 1 << 4,	 /* bytes of a path at a commit */
	REMOTE_SHALLOW = 1 << 5, /* deepen */
	/*
	 * What comes of a fetch call may be shown before the whole object was verified: it came by
	 * TLS, ssh or a pipe, or by plain http on loopback or where the configuration says so.
	 * REMOTE_RANGE says the same of ranges by itself: it is not set where that does not hold.
	 */
	REMOTE_EARLY = 1 << 6,
	REMOTE_TREE_SIZES = 1 << 7, /* sizes of all files below a tree, in bulk; few such calls */
};

struct remote_config {
	struct net *net; /* borrowed, outlives the remote */
	/* Borrowed, outlives the remote; NULL: no ssh, no local paths, no helpers. */
	struct broker *broker;
	const struct source *source; /* borrowed, outlives the remote */
	bool no_helpers;	     /* never run git credential */
	bool offline; /* it will not be asked: nobody needs to know who we are there */
};

struct remote;
int remote_open(const struct remote_config *config, struct remote **out,
		struct xcp_error *err);	   /* no I/O */
void remote_close(struct remote **remote); /* cancels what runs and waits for its done() */

/*
 * Before remote_connect(): what remote_refs() will be asked for first. Over HTTP, and without
 * `known`, that is sent at the same time as the question what the server can do, on a second
 * connection, and saves a round trip where the server speaks version 2 and SHA-1 and wants no
 * credentials that are not sent at once. In all other cases it makes no difference.
 */
void remote_expect_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count);

/*
 * Learns what the server can do. With `known` (server_caps_format() text of an earlier time) it
 * believes that and sends nothing. Waits for the network: main thread, at mount time. Asks for
 * credentials when the server wants some: user info of the URL, netrc, git credential fill
 * (approve, reject).
 *
 * A remote that was connected with `known` has not been asked for credentials: remote_refs() sees
 * to that by itself; after a call that ended with REMOTE_DENIED or REMOTE_GONE, connect without.
 *
 * Errors: -EACCES, -ENOENT (no such repository), -ENETUNREACH (does not answer), -ETIMEDOUT,
 * -EAGAIN (answered that it cannot just now: 429, 5xx), -EPROTO (not a git server, a dumb one, a
 * certificate that is not trusted), -EIO (no ssh or git to run here).
 */
int remote_connect(struct remote *remote, const char *known, struct xcp_error *err);

/* After remote_connect(). */
unsigned remote_caps(const struct remote *remote);
const struct server_caps *remote_server_caps(
	const struct remote *remote); /* borrowed until close */

/*
 * The refs under the prefixes (v2), or all that were advertised (v0). Waits for the network: main
 * thread. Errors as above.
 */
int remote_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count,
		struct ref_list *out, struct xcp_error *err);

/*
 * The commit that an abbreviated id (hexadecimal digits) is short for, from the host's API. Waits
 * for the network: main thread, after remote_connect(). -EOPNOTSUPP: the host has none that can be
 * asked; -ENOENT: it knows no such commit, or several; -EAGAIN: not just now.
 */
int remote_find_commit(struct remote *remote, const char *id, struct oid *out,
		       struct xcp_error *err);

/* ---- calls ---- */

enum remote_verdict {
	REMOTE_OK,
	/*
	 * Connection refused or lost, timeout, truncated, 429, 5xx: try again, not before
	 * retry_after_ms.
	 */
	REMOTE_TRANSIENT,
	REMOTE_UNKNOWN_OBJECT, /* "not our ref": `unknown` names it when the server did */
	/* Empty answer, or words about a filter or argument: do not ask in this way again. */
	REMOTE_REFUSED_FEATURE,
	REMOTE_DENIED, /* 401, 403 */
	REMOTE_GONE,   /* 404, 410, redirect elsewhere */
	REMOTE_BROKEN, /* malformed answer, or an error of the server's own words */
	REMOTE_CANCELED,
};

struct remote_outcome {
	enum remote_verdict verdict;
	uint64_t retry_after_ms; /* 0: the server named none */
	struct oid unknown;	 /* null: not named */
	bool cut;		 /* of a tree's sizes: some were left out */
	bool answered;		 /* the server said something: it is not offline */
	bool renewing; /* REMOTE_TRANSIENT: it refused us, and credentials are being renewed */
	struct xcp_error error; /* words, URL and status included, redacted; code 0 for REMOTE_OK */
};

/*
 * What a call hears; embedded in the caller's struct. All on the network thread, which must not be
 * held up: copy and hand over.
 *	begin, pack, size ... ---> done, exactly once and last
 */
struct remote_sink {
	/*
	 * A range call only, required there: its answer begins, the bytes that follow are the file's
	 * from `off` on. `off` is 0 and not what was asked for when the server sends the whole file.
	 * `total` is the file's size. Returns false to give up: done() follows with REMOTE_CANCELED.
	 */
	bool (*begin)(struct remote_sink *sink, uint64_t off, uint64_t total);
	/*
	 * Bytes of the pack, or of the file, in order. Returns false to ask for a pause: what still
	 * comes before it takes effect (at most some 100 KiB) must be taken.
	 */
	bool (*pack)(struct remote_sink *sink, const uint8_t *data, size_t len);
	/* One answer of a sizes call, or of one for a tree's. */
	void (*size)(struct remote_sink *sink, const struct oid *oid, bool known, uint64_t size);
	void (*done)(struct remote_sink *sink, const struct remote_outcome *outcome);
};

struct remote_call; /* owned by the remote; valid from remote_start() until done() returns */

/*
 * All copy what they are given and return at once; the sink must live until done(). Any thread.
 * -EOPNOTSUPP for what was not advertised.
 */
int remote_start_fetch(struct remote *remote, const struct fetch_spec *spec,
		       struct remote_sink *sink, struct remote_call **out);
int remote_start_sizes(struct remote *remote, const struct oid *oids, size_t count,
		       struct remote_sink *sink, struct remote_call **out);

/*
 * Sizes of all files below a tree, or only of those in it, from the host's API: as many answers as
 * the host tells, of ids that nobody may have asked about. Such calls are counted by hosts, sparingly
 * (60 an hour): REMOTE_TRANSIENT with a retry_after_ms that may be an hour. Everything that is no
 * good is REMOTE_REFUSED_FEATURE, as below. -EOPNOTSUPP without REMOTE_TREE_SIZES.
 */
int remote_start_tree_sizes(struct remote *remote, const struct oid *tree, bool below,
			    struct remote_sink *sink, struct remote_call **out);

/*
 * Bytes of a file, over HTTP. REMOTE_OK: all of [off, off+len) came (or the whole file, see
 * begin()). REMOTE_REFUSED_FEATURE: not to be had in this way, now and later (no such URL, 416, a
 * total that is not `size`, a page instead of a file): go another way. -EOPNOTSUPP without
 * REMOTE_RANGE, -EINVAL for a path or range that is none.
 */
struct range_spec {
	struct oid commit;
	/* From the root of the commit's tree, no "/" in front; borrowed for the call. */
	const char *path;
	uint64_t off, len; /* len > 0 */
	uint64_t size;	   /* of the whole file; UINT64_MAX: not known */
};
int remote_start_range(struct remote *remote, const struct range_spec *spec,
		       struct remote_sink *sink, struct remote_call **out);

/*
 * Any thread, before done() was called: the caller's own lock must make sure of that. Neither
 * waits, neither calls back at once.
 */
void remote_call_resume(struct remote_call *call); /* after a pause */
void remote_call_cancel(
	struct remote_call
		*call); /* done() follows with REMOTE_CANCELED, unless it was on its way already */

/* ---- counters ---- */

struct remote_counters {
	uint64_t requests_caps, requests_refs, requests_fetch, requests_sizes, requests_range,
		requests_api, requests_credential; /* sent, each try counted */
	uint64_t bytes_sent, bytes_received;	   /* bodies as on the wire */
	uint64_t connections;
	uint64_t errors; /* calls that ended in anything but OK and CANCELED */
	/* What the API last said: not a count. `limited`: it has said so. */
	bool limited;
	uint64_t rate_left;
};
void remote_counters(struct remote *remote, struct remote_counters *out); /* any thread */

#endif
