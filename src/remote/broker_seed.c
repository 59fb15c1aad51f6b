/*
 * broker_seed: the process that starts brokers.
 *
 * A broker may be killed (the kernel does so when memory is short), and the daemon may not fork.
 * This process is as it was before there was a mount, and does next to nothing: it waits for the
 * word that a broker is missing. It knows nothing of brokers that live.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "remote/broker_internal.h"

static void seed_broker(int sock, uint32_t serial, int broker_sock, bool detached)
{
	struct reply reply = { .serial = serial };
	int pidfd = -1;
	pid_t pid = broker_sock < 0 ? -1 : fork();

	if (pid == 0)
		broker_server_main(broker_sock, detached);
	if (pid < 0)
		reply.error = broker_sock < 0 ? -EBADMSG : -errno;
	else
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0U);
	reply.pid = pid;
	broker_reply(sock, &reply, &pidfd, pidfd < 0 ? 0 : 1);
	broker_close_fds(&pidfd, 1);
}

static void seed_detach(int sock, uint32_t serial)
{
	struct reply reply = { .serial = serial, .error = broker_leave_terminal() };

	broker_reply(sock, &reply, NULL, 0);
}

/* Returns false when the daemon is gone. *out_fd is what came along, or -1. */
static bool seed_receive(int sock, struct message *out, int *out_fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = { out, sizeof(*out) };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *head;
	ssize_t got;

	*out = (struct message){ 0 };
	*out_fd = -1;
	do
		got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return false;
	head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_type == SCM_RIGHTS)
		memcpy(out_fd, CMSG_DATA(head), sizeof(*out_fd));
	return true;
}

_Noreturn void broker_seed_main(int sock)
{
	struct message message;
	bool detached = false;
	int fd;

	broker_settle(sock, "xcpfs-seed");
	signal(SIGCHLD, SIG_IGN); /* reaps them */
	while (seed_receive(3, &message, &fd)) {
		if (message.type == MESSAGE_BROKER)
			seed_broker(3, message.serial, fd, detached);
		if (message.type == MESSAGE_DETACH)
			seed_detach(3, message.serial);
		detached = detached || message.type == MESSAGE_DETACH;
		broker_close_fds(&fd, 1);
	}
	_exit(0);
}
