/*
 * broker_internal: what the two sides of the broker say to each other.
 *
 * One message of the SOCK_SEQPACKET pair is one command, whole or not at all. MESSAGE_SPAWN and
 * MESSAGE_DETACH are answered, in order; a child's pipes come with the answer as SCM_RIGHTS.
 *
 * Threads: values; any.
 */
#ifndef REMOTE_BROKER_INTERNAL_H
#define REMOTE_BROKER_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

enum message_type { MESSAGE_SPAWN = 1, MESSAGE_KILL, MESSAGE_DETACH };

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

/* The process: serves `sock` until the other end is gone, then ends its children and itself. */
_Noreturn void broker_server_main(int sock);

void broker_close_fds(int *fds, size_t count); /* those that are not -1, which they are then */

#endif
