/*
 * broker: the only process that starts processes.
 *
 * A daemon that serves a mount must not fork from its threads on the read path. So one small
 * process is forked before there are threads, a mount or open files worth inheriting; it starts
 * ssh, git upload-pack and the credential helpers when asked over a socket, and passes their pipes
 * back. Until broker_detach() it keeps the terminal, so that ssh and git may ask for a password;
 * after it, it has none. It ends, and ends its children, when the daemon's end of the socket
 * closes, however the daemon died. (Not by a parent-death signal: the process that called
 * broker_start() may be the parent that exits when the daemon goes into the background.)
 *
 * It may be killed itself. What really is forked first is a seed, which forks the broker, and
 * another one when that is missed. Without the seed the broker works on; without both no process
 * can be started any more, which the log says once.
 *
 *	broker_start (no threads yet) ---> broker_spawn, broker_run ---> broker_detach (mounted)
 *		---> broker_spawn / broker_run ---> broker_stop
 *
 * Threads: broker_start(), broker_detach() and broker_stop() from the main thread; the rest from
 * any. broker_spawn() waits for the broker to fork, which is short; broker_run() waits for the
 * command.
 */
#ifndef REMOTE_BROKER_H
#define REMOTE_BROKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

struct broker;

#define BROKER_COMMAND_MAX 65536 /* bytes of one command with its environment */
#define BROKER_OUTPUT_MAX 65536

struct broker_command {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
	/*
	 * "NAME=value" is added to the broker's own environment, "NAME" alone taken out of it;
	 * NULL-terminated; may be NULL
	 */
	const char *const *env;
};

struct broker_child {
	pid_t pid;	  /* of the broker's child: for messages and broker_kill() */
	int in, out, err; /* its stdin, stdout, stderr: ours, O_CLOEXEC, non-blocking */
};

int broker_start(struct broker **out, struct xcp_error *err);

/*
 * Children run in "/", with default signals, nothing inherited but the three pipes. -ENOENT: no
 * such program; -E2BIG: arguments and environment beyond BROKER_COMMAND_MAX; -EPIPE: the broker
 * and the seed are gone.
 */
int broker_spawn(struct broker *broker, const struct broker_command *command,
		 struct broker_child *out, struct xcp_error *err);

/* SIGTERM, later SIGKILL; the broker reaps. Closes nothing of ours. */
void broker_kill(struct broker *broker, pid_t pid);

/*
 * Runs to the end with `input` on stdin. Output beyond BROKER_OUTPUT_MAX is -EFBIG. *out_status as
 * waitpid() tells. After timeout_ms the command is killed: -ETIMEDOUT; and within a second after
 * *stop (may be NULL) was set by another thread: -ECANCELED. Output that may be secret:
 * reserve BROKER_OUTPUT_MAX in `output` before, so that it never moves. What it says on stderr goes
 * to the terminal while there is one, else nowhere.
 */
int broker_run(struct broker *broker, const struct broker_command *command, const void *input,
	       size_t input_len, unsigned timeout_ms, const atomic_bool *stop, struct buf *output,
	       int *out_status, struct xcp_error *err);

/*
 * Whether a child may ask the person at the terminal: not detached, and stdin is one. Any thread.
 */
bool broker_interactive(const struct broker *broker);

/*
 * Leaves the session and the terminal; children started from now on are in process groups of their
 * own.
 */
void broker_detach(struct broker *broker);

/* Ends the broker and its children, and waits for that (a few seconds at most). */
void broker_stop(struct broker **broker);

#endif
