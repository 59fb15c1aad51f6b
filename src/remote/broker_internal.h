/*
 * broker_internal: what the daemon, its broker and the seed of brokers say to each other.
 *
 * One message of a SOCK_SEQPACKET pair is one command, whole or not at all. All but MESSAGE_KILL
 * are answered, in order; a child's pipes come with the answer as SCM_RIGHTS.
 *
 *	seed	MESSAGE_BROKER	forks a broker for the socket that comes along; answers with a pidfd
 *		MESSAGE_DETACH
 *	broker	MESSAGE_SPAWN, MESSAGE_KILL, MESSAGE_DETACH
 *
 * Threads: values; any.
 */
#ifndef REMOTE_BROKER_INTERNAL_H
#define REMOTE_BROKER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum message_type { MESSAGE_SPAWN = 1, MESSAGE_KILL, MESSAGE_DETACH, MESSAGE_BROKER };

/* Behind it, for MESSAGE_SPAWN: arg_count and env_count strings, each with its NUL. */
struct message {
	uint32_t type;
	uint32_t serial;
	int32_t pid;
	uint32_t arg_count, env_count;
	uint32_t keep_stderr; /* do not make a pipe for it */
};

struct reply {
	uint32_t serial;
	int32_t error; /* 0 or -errno */
	int32_t pid;
};

/*
 * What comes with the reply to MESSAGE_SPAWN. `err` is absent with keep_stderr, the order is the
 * same.
 */
enum { FD_IN, FD_OUT, FD_STATUS, FD_ERR, FD_COUNT };

/* The seed: forks brokers until the other end of `sock` is gone. */
_Noreturn void broker_seed_main(int sock);

/* The broker: serves `sock` until the other end is gone, then ends its children and itself. */
_Noreturn void broker_server_main(int sock, bool detached);

/* ---- what both processes do ---- */

/*
 * Called first: keeps nothing that was inherited but standard input, output and error and `sock`,
 * which becomes 3; runs in "/".
 */
void broker_settle(int sock, const char *name);

int broker_leave_terminal(void); /* and the session */
void broker_reply(int sock, const struct reply *reply, const int *fds, size_t fd_count);

void broker_close_fds(int *fds, size_t count); /* those that are not -1, which they are then */

#endif
