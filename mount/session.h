/*
 * session: one FUSE mount, from the mount(2) to its end.
 *
 *	session_open (nothing to be seen yet) ---> session_mount (mounted, nobody answers yet)
 *	          ---> session_run (answers until unmounted or told to stop) ---> session_close
 *
 * Worker threads (loop.h) take requests; none of them waits for the network: an operation
 * that must is parked (parked.h) and answered from the thread where its bytes arrive. Only this
 * folder knows fuse_lowlevel.h.
 *
 * Threads: session_open(), session_mount(), session_run() and session_close() from the main thread;
 * session_stop() and session_counters() from any; session_stop() also from a signal handler.
 */
#ifndef MOUNT_SESSION_H
#define MOUNT_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "repo/node.h"
#include "repo/repo.h"

struct session;

struct session_config {
	struct node_table *nodes; /* borrowed, outlives the session; its root is set */
	const char *mountpoint;	  /* absolute, exists, a directory */
	const char *source;	  /* for the mount table: redacted; escaped here */
	const char *options;	  /* of -o: FUSE's own, and allow_other, xattr, open; NULL */
	unsigned workers;	  /* 0: chosen here */
};

/*
 * How long a wait without progress may last, for fetch_config: wanted_ms (0: 30,000), or less where
 * the kernel aborts a connection whose requests wait too long (fs.fuse.max_request_timeout). With
 * such a timeout the session itself also ends requests that were parked for most of it with EIO,
 * progress or not, since the abort would take the whole mount.
 */
uint64_t session_patience_ms(uint64_t wanted_ms);

/*
 * Makes ready to mount, and refuses what can be known to fail. -EACCES with a remedy for a
 * /dev/fuse that may not be opened (0600) or a mountpoint of another user, -ENOENT without
 * fusermount3 for an ordinary user, -EINVAL with the option's name for one that is not known.
 */
int session_open(const struct session_config *config, struct session **out, struct xcp_error *err);

/* Mounts; `nosuid,nodev,ro` are always set. Once, and before session_run(). */
int session_mount(struct session *session, struct xcp_error *err);

/* Serves. Returns 0 when unmounted or stopped; whatever is parked then is answered or void. */
int session_run(struct session *session, struct xcp_error *err);
void session_stop(struct session *session);
void session_close(struct session **session); /* unmounts when still mounted */

/*
 * What was served of this content was wrong: the kernel drops its pages, soon. Any thread, while
 * the session is open; does not wait.
 */
void session_withdraw(struct session *session, const struct oid *oid);

/*
 * Requests of the kernel by kind, and how long they took from being read until the answer was
 * handed to the kernel, parked time included. What comes after that (copying the answer, and the
 * waiter that wakes up and may take our processor at once) is not in it: with 1,000 readers on two
 * processors it was 100 times what is.
 */
enum session_op {
	SESSION_LOOKUP,
	SESSION_GETATTR,
	SESSION_READDIR,
	SESSION_READDIRPLUS,
	SESSION_READ_HIT,  /* answered at once */
	SESSION_READ_MISS, /* was parked */
	SESSION_READLINK,
	SESSION_OPEN,	 /* with RELEASE */
	SESSION_OPENDIR, /* with RELEASEDIR */
	SESSION_STATFS,
	SESSION_XATTR,	/* GETXATTR and LISTXATTR */
	SESSION_FORGET, /* a batch is one */
	SESSION_OTHER,	/* what would write, and is refused */
	SESSION_OP_COUNT,
};
/* "lookup", "getattr", "readdir", "read_hit", ... */
const char *session_op_name(enum session_op op);

struct session_latency {
	uint64_t count;
	uint64_t p50_us, p95_us, p99_us, max_us; /* of the session's life; within 10 % */
};
struct session_counters {
	struct session_latency ops[SESSION_OP_COUNT];
	uint64_t bytes_served;	     /* by READ */
	uint64_t parked, parked_max; /* now; at most ever */
	uint64_t interrupted;	     /* answered EINTR */
	uint64_t errors;	     /* answered EIO and kin */
};
void session_counters(struct session *session, struct session_counters *out);

#endif
