/*
 * launch: a daemon whose start is watched. The command that the person typed waits until the
 * mount is ready or has failed, and says so.
 *
 *	launch_daemon: fork --- parent: prints notes, waits ---> exit status
 *	                    \-- child:  (starts what may use the terminal) ---> launch_leave_terminal
 *	                               ---> launch_note ... ---> launch_ready or launch_failed
 *
 * In front (-f) there is no fork, and notes go to stderr at once.
 *
 * Threads: the main thread, before others are started.
 */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include <stdbool.h>

#include "base/error.h"

struct launch {
	int fd; /* the way to the waiting parent; -1 in front or when ready */
};

/*
 * Forks. In the parent returns 1 when the child has said how it went, with the exit status in
 * *out_status. In the child returns 0, with the terminal as it was. Returns -errno when it could
 * not fork.
 */
int launch_daemon(struct launch *out, int *out_status, struct xcp_error *err);
/*
 * The daemon from here on: in a session of its own, in "/", with /dev/null as stdio. In front
 * only "/".
 */
void launch_leave_terminal(const struct launch *launch);
void launch_in_front(struct launch *out);

/* One line for the person. */
void launch_note(struct launch *launch, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void launch_failed(struct launch *launch, const struct xcp_error *err);
/* The parent may go. False: it is gone already (interrupted); nobody wants this mount. */
bool launch_ready(struct launch *launch);

/*
 * Nothing of this process may be seen from outside that was handed to it in confidence: no core
 * files, no ptrace by others of the user; the environment is copied and its first place
 * overwritten, and so is the argument `secret` (one of argv; NULL: none) with `shown`.
 */
void launch_conceal(char *secret, const char *shown);

#endif
