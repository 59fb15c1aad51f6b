/*
 * control: the socket over which a running mount is asked for its status.
 *
 * One SOCK_STREAM socket per mount; a client sends one line, gets one answer (JSON), and the
 * connection closes. It lives at
 *	$XDG_RUNTIME_DIR/xcpfs/HASH.sock
 *	else /run/xcpfs/HASH.sock for root
 *	else /tmp/xcpfs-UID/HASH.sock
 * in a directory of 0700 that the user owns, where HASH is of the mountpoint's absolute path. Only
 * the owner and root are answered (SO_PEERCRED).
 *
 *	control_open (whoever connects waits) ---> control_start (one thread answers them all)
 *	             ---> control_close (socket removed)
 *
 * Threads: open, start and close from the main thread; `answer` is called on the control thread.
 */
#ifndef MOUNT_CONTROL_H
#define MOUNT_CONTROL_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

struct control;

/* Appends the answer to `request` (no newline in it) to out. -ENOENT: no such request. */
typedef int (*control_answer_fn)(void *arg, const char *request, struct buf *out);

/*
 * Listens, so that who sees the mount finds somebody to ask: open it before mounting. `answer` is
 * not called before control_start(), when what it reports on must be there.
 */
int control_open(const char *mountpoint, control_answer_fn answer, void *arg, struct control **out,
		 struct xcp_error *err);
int control_start(struct control *control, struct xcp_error *err);
void control_close(struct control **control);

/* ---- the client's side: any process ---- */

/* The socket's path for a mountpoint of the user `uid`. -ENAMETOOLONG. */
int control_path(const char *mountpoint, uid_t uid, char *out, size_t out_len);

/*
 * Asks the mount at `mountpoint`; out gets the answer. Never touches the mountpoint itself, which
 * may hang. -ECONNREFUSED or -ENOENT when no daemon listens (it is dead), -ETIMEDOUT when it does
 * not answer within timeout_ms.
 */
int control_ask(const char *mountpoint, uid_t uid, const char *request, unsigned timeout_ms,
		struct buf *out, struct xcp_error *err);

#endif
