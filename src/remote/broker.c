/*
 * broker: the daemon's side of it.
 *
 * Answers carry the serial number of their command, so that one which came too late is recognised
 * and dropped. A broker that turns out to be gone is replaced, with the seed's help, at the next
 * command: what the old one ran ended with it, and is asked for again by those who miss it.
 */
#include "remote/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "remote/broker_internal.h"

#define REPLY_TIMEOUT_MS 10000
#define STOP_TIMEOUT_MS 5000
#define STOP_LOOK_MS 200

static uint64_t real_ms(void)
{
	return clock_ns() / 1000000;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void broker_close_fds(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close_fd(&fds[i]);
}

struct broker {
	/* set before threads start */
	int sock; /* the number stays when the broker is replaced: broker_kill() takes no lock */
	int seed_sock, seed_pidfd;
	pid_t seed_pid;
	bool terminal;
	/* atomics: */
	_Atomic bool detached; /* relaxed: whoever asks just before may still hear no */
	/*
	 * under `lock`, which is held over one exchange with the broker, since answers come in the
	 * order of commands
	 */
	struct lock lock;
	uint32_t serial;
	int pidfd;   /* of the broker */
	bool orphan; /* the seed is gone, too, and that was said */
};

/*
 * The reply to command `serial`, within the timeout. What comes along is in fds (-1 where nothing
 * is). Returns 0 or -errno.
 */
static int receive_reply(int sock, uint32_t serial, struct reply *out, int *fds)
{
	uint64_t end = real_ms() + REPLY_TIMEOUT_MS;

	for (;;) {
		union {
			struct cmsghdr head;
			char room[CMSG_SPACE(FD_COUNT * sizeof(int))];
		} control;
		struct iovec data = { out, sizeof(*out) };
		struct msghdr message = { .msg_iov = &data,
					  .msg_iovlen = 1,
					  .msg_control = &control,
					  .msg_controllen = sizeof(control) };
		struct pollfd wait = { .fd = sock, .events = POLLIN };
		uint64_t now = real_ms();
		struct cmsghdr *head;
		ssize_t got;

		if (now >= end || poll(&wait, 1, (int)(end - now)) == 0)
			return -ETIMEDOUT;
		got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got != (ssize_t)sizeof(*out))
			return -EPIPE;
		for (int i = 0; i < FD_COUNT; i++)
			fds[i] = -1;
		head = CMSG_FIRSTHDR(&message);
		if (head && head->cmsg_type == SCM_RIGHTS)
			memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
		if (out->serial == serial)
			return 0;
		broker_close_fds(fds, FD_COUNT);
	}
}

/* One command and its answer, over `sock`. Returns what went wrong on the way. */
static int ask(int sock, const struct msghdr *command, uint32_t serial, struct reply *reply,
	       int *fds)
{
	ssize_t sent;

	for (int i = 0; i < FD_COUNT; i++)
		fds[i] = -1;
	do
		sent = sendmsg(sock, command, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : receive_reply(sock, serial, reply, fds);
}

static bool is_gone(int rc)
{
	return rc == -EPIPE || rc == -ECONNRESET;
}

/* ---- the seed, and the broker it makes ---- */

/* `fd` goes along unless it is -1. *out_fd is what comes back, or -1. */
static int ask_seed_locked(struct broker *broker, enum message_type type, int fd, int *out_fd)
{
	struct message message = { .type = type, .serial = ++broker->serial };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec data = { &message, sizeof(message) };
	struct msghdr command = { .msg_iov = &data, .msg_iovlen = 1 };
	struct reply reply = { 0 };
	int fds[FD_COUNT], rc;

	if (fd >= 0) {
		command.msg_control = &control;
		command.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	rc = ask(broker->seed_sock, &command, message.serial, &reply, fds);
	*out_fd = fds[0];
	return rc ? rc : reply.error;
}

/* Has a broker made; *out_sock leads to it. */
static int make_broker_locked(struct broker *broker, int *out_sock)
{
	int pair[2], pidfd, rc;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	rc = ask_seed_locked(broker, MESSAGE_BROKER, pair[1], &pidfd);
	close(pair[1]);
	if (rc) {
		close(pair[0]);
		return rc;
	}
	close_fd(&broker->pidfd);
	broker->pidfd = pidfd;
	*out_sock = pair[0];
	return 0;
}

/* The broker is gone: another one takes its place. */
static int renew_locked(struct broker *broker)
{
	int sock = -1, rc;

	if (broker->orphan)
		return -EPIPE;
	rc = make_broker_locked(broker, &sock);
	if (!rc) {
		dup3(sock, broker->sock, O_CLOEXEC);
		close(sock);
		log_warn("the process that starts ssh, git and credential helpers was killed; "
			 "another one has taken its place");
	} else if (is_gone(rc)) {
		broker->orphan = true;
		log_error("the process that starts ssh, git and credential helpers was killed, and "
			  "the one that starts it again, too: only what is cached can be served; "
			  "unmount and mount again");
	}
	return rc;
}

static int start_seed(struct broker *broker)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	broker->seed_pid = fork();
	if (broker->seed_pid == 0)
		broker_seed_main(pair[1]);
	close(pair[1]);
	broker->seed_sock = pair[0];
	if (broker->seed_pid < 0)
		return -errno;
	broker->seed_pidfd = (int)syscall(SYS_pidfd_open, broker->seed_pid, 0U);
	return 0;
}

int broker_start(struct broker **out, struct xcp_error *err)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	int rc;

	if (!broker)
		return xcp_error_set(err, -ENOMEM, "cannot start the broker: out of memory");
	broker->sock = broker->seed_sock = broker->pidfd = broker->seed_pidfd = -1;
	broker->terminal = isatty(STDIN_FILENO);
	lock_init(&broker->lock);
	rc = start_seed(broker);
	rc = rc ? rc : make_broker_locked(broker, &broker->sock); /* no threads yet */
	if (rc) {
		broker_stop(&broker);
		return xcp_error_set(err, rc, "cannot start the broker: %s", strerror(-rc));
	}
	*out = broker;
	return 0;
}

/* ---- commands ---- */

/* One command and its answer; once more when the broker was found dead. */
static int exchange(struct broker *broker, struct message *message, const struct buf *strings,
		    struct reply *reply, int *fds)
{
	struct iovec data[2] = { { message, sizeof(*message) },
				 { strings ? strings->data : NULL, strings ? strings->len : 0 } };
	struct msghdr command = { .msg_iov = data, .msg_iovlen = strings ? 2 : 1 };
	int rc;

	lock_take(&broker->lock);
	message->serial = ++broker->serial;
	rc = ask(broker->sock, &command, message->serial, reply, fds);
	if (is_gone(rc)) {
		rc = renew_locked(broker);
		rc = rc ? rc : ask(broker->sock, &command, message->serial, reply, fds);
	}
	lock_give(&broker->lock);
	return rc ? rc : reply->error;
}

static int add_strings(struct buf *out, const char *const *strings, uint32_t *out_count)
{
	*out_count = 0;
	for (; strings && *strings; strings++, ++*out_count) {
		if (strlen(*strings) + 1 > BROKER_COMMAND_MAX - out->len)
			return -E2BIG;
		if (buf_add(out, *strings, strlen(*strings) + 1))
			return -ENOMEM;
	}
	return 0;
}

/* Starts `command`; its pipes and, behind them, the one that will tell its status are in fds. */
static int spawn(struct broker *broker, const struct broker_command *command, bool keep_stderr,
		 int *fds, pid_t *out_pid, struct xcp_error *err)
{
	struct message message = { .type = MESSAGE_SPAWN, .keep_stderr = keep_stderr };
	struct reply reply = { 0 };
	struct buf strings = BUF_INIT;
	int rc = add_strings(&strings, command->argv, &message.arg_count);

	rc = rc ? rc : add_strings(&strings, command->env, &message.env_count);
	rc = rc ? rc : exchange(broker, &message, &strings, &reply, fds);
	buf_release(&strings);
	if (rc == -ENOENT)
		return xcp_error_set(err, rc, "cannot run %s: no such program; is it installed?",
				     command->argv[0]);
	if (is_gone(rc))
		return xcp_error_set(err, -EPIPE,
				     "cannot run %s: the process that starts it was killed; "
				     "unmount and mount again",
				     command->argv[0]);
	if (rc)
		return xcp_error_set(err, rc, "cannot run %s: %s", command->argv[0], strerror(-rc));
	for (int i = 0; i < FD_COUNT; i++)
		if (fds[i] >= 0)
			fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
	*out_pid = reply.pid;
	return 0;
}

int broker_spawn(struct broker *broker, const struct broker_command *command,
		 struct broker_child *out, struct xcp_error *err)
{
	int fds[FD_COUNT];
	pid_t pid;
	int rc = spawn(broker, command, false, fds, &pid, err);

	if (rc)
		return rc;
	close_fd(&fds[FD_STATUS]);
	*out = (struct broker_child){ pid, fds[FD_IN], fds[FD_OUT], fds[FD_ERR] };
	return 0;
}

void broker_kill(struct broker *broker, pid_t pid)
{
	struct message message = { .type = MESSAGE_KILL, .pid = pid };

	while (send(broker->sock, &message, sizeof(message), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* write() to a pipe whose reader may be gone, in a process that may not ignore SIGPIPE. */
static ssize_t write_quietly(int fd, const void *data, size_t len)
{
	const struct timespec now = { 0 };
	sigset_t set, old, pending;
	ssize_t written;
	int error;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	sigpending(&pending);
	written = write(fd, data, len);
	error = errno;
	if (written < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))
		sigtimedwait(&set, NULL, &now);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = error;
	return written;
}

/* One command that runs to its end. */
struct run {
	int fds[FD_COUNT];
	const uint8_t *input;
	size_t input_len;
	struct buf *output;
	int status;
	bool ended; /* the status is known */
};

static void run_write(struct run *run)
{
	ssize_t n = write_quietly(run->fds[FD_IN], run->input, run->input_len);

	if (n > 0) {
		run->input += n;
		run->input_len -= (size_t)n;
	}
	if (run->input_len == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&run->fds[FD_IN]);
}

/* Takes what is there, straight into `output`: it may be a secret. */
static int run_read(struct run *run)
{
	struct buf *output = run->output;
	ssize_t n;

	if (output->len >= BROKER_OUTPUT_MAX)
		return -EFBIG;
	if (output->cap - output->len < 4096 && output->cap < BROKER_OUTPUT_MAX &&
	    buf_reserve(output, 4096))
		return -ENOMEM;
	n = read(run->fds[FD_OUT], output->data + output->len, output->cap - output->len);
	if (n > 0)
		output->len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_fd(&run->fds[FD_OUT]);
	return 0;
}

static void run_status(struct run *run)
{
	ssize_t n = read(run->fds[FD_STATUS], &run->status, sizeof(run->status));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	run->ended = n == (ssize_t)sizeof(run->status);
	if (!run->ended)
		run->status = SIGKILL; /* the broker died, and it with it */
	run->ended = true;
	close_fd(&run->fds[FD_STATUS]);
}

/*
 * Until the status is there and what was written by then has been read. Not until the end of the
 * output: a helper may leave a daemon behind that holds it open.
 */
static int run_loop(struct run *run, uint64_t end_ms, const atomic_bool *stop)
{
	uint64_t slice_ms = stop ? STOP_LOOK_MS : 60000;

	for (;;) {
		struct pollfd fds[3] = { { .fd = run->fds[FD_IN], .events = POLLOUT },
					 { .fd = run->fds[FD_OUT], .events = POLLIN },
					 { .fd = run->fds[FD_STATUS], .events = POLLIN } };
		uint64_t now = real_ms();
		int rc = 0, ready;

		if (now >= end_ms)
			return -ETIMEDOUT;
		if (stop && atomic_load_explicit(stop, memory_order_relaxed))
			return -ECANCELED;
		ready = poll(fds, 3,
			     run->ended ? 0 :
					  (int)(end_ms - now < slice_ms ? end_ms - now : slice_ms));
		if (ready < 0 && errno != EINTR)
			return -errno;
		if (run->ended && (ready <= 0 || !fds[1].revents))
			return 0;
		if (ready <= 0)
			continue;
		if (fds[0].revents)
			run_write(run);
		if (fds[1].revents)
			rc = run_read(run);
		if (fds[2].revents)
			run_status(run);
		if (rc)
			return rc;
	}
}

int broker_run(struct broker *broker, const struct broker_command *command, const void *input,
	       size_t input_len, unsigned timeout_ms, const atomic_bool *stop, struct buf *output,
	       int *out_status, struct xcp_error *err)
{
	struct run run = { .input = input, .input_len = input_len, .output = output };
	pid_t pid = 0;
	int rc = spawn(broker, command, true, run.fds, &pid, err);

	if (rc)
		return rc;
	if (input_len == 0)
		close_fd(&run.fds[FD_IN]);
	rc = run_loop(&run, real_ms() + timeout_ms, stop);
	if (rc)
		broker_kill(broker, pid);
	broker_close_fds(run.fds, FD_COUNT);
	if (rc == -ETIMEDOUT)
		return xcp_error_set(err, rc, "%s did not end within %u s", command->argv[0],
				     timeout_ms / 1000);
	if (rc)
		return xcp_error_set(err, rc, "cannot run %s: %s", command->argv[0],
				     rc == -EFBIG ? "it says too much" : strerror(-rc));
	*out_status = run.status;
	return 0;
}

bool broker_interactive(const struct broker *broker)
{
	return broker->terminal && !atomic_load_explicit(&broker->detached, memory_order_relaxed);
}

void broker_detach(struct broker *broker)
{
	struct message message = { .type = MESSAGE_DETACH };
	struct reply reply = { 0 };
	int fds[FD_COUNT], none;

	atomic_store_explicit(&broker->detached, true, memory_order_relaxed);
	lock_take(&broker->lock);
	ask_seed_locked(broker, MESSAGE_DETACH, -1, &none); /* first: for those it makes later */
	lock_give(&broker->lock);
	exchange(broker, &message, NULL, &reply, fds);
	broker_close_fds(fds, FD_COUNT);
}

/* Ends whoever is at the other end, which it notices, the hard way if need be. */
static void stop_process(int *sock, int *pidfd)
{
	struct pollfd ended = { .fd = *pidfd, .events = POLLIN };

	if (*sock >= 0)
		shutdown(*sock, SHUT_RDWR);
	close_fd(sock);
	if (*pidfd >= 0 && poll(&ended, 1, STOP_TIMEOUT_MS) == 0)
		syscall(SYS_pidfd_send_signal, *pidfd, SIGKILL, NULL, 0U);
	close_fd(pidfd);
}

void broker_stop(struct broker **broker_p)
{
	struct broker *broker = *broker_p;
	bool waited;

	*broker_p = NULL;
	if (!broker)
		return;
	stop_process(&broker->sock, &broker->pidfd);
	waited = broker->seed_pidfd >= 0;
	stop_process(&broker->seed_sock, &broker->seed_pidfd);
	/* Somebody else's child when the daemon forked after starting it. */
	if (waited)
		waitpid(broker->seed_pid, NULL, 0);
	lock_release(&broker->lock);
	free(broker);
}
