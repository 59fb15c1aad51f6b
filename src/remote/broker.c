/*
 * broker: both sides of it: the calls of the daemon, and the process that serves them.
 *
 * They talk over a SOCK_SEQPACKET pair: one message is one command, whole or not at all; answers carry the child's pipes as
 * SCM_RIGHTS and the serial number of the command, so that an answer which came too late is recognised and dropped. The process
 * is single-threaded: it waits for messages, ended children and the time to kill the stubborn ones. It knows no secret: what a
 * helper says goes through a pipe straight to the daemon.
 */
#include "remote/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"

#define REPLY_TIMEOUT_MS 10000
#define TERM_TO_KILL_MS 2000
#define STOP_TIMEOUT_MS 5000

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

/* What comes with the reply to MESSAGE_SPAWN. `err` is absent with keep_stderr, the order is the same. */
enum { FD_IN, FD_OUT, FD_STATUS, FD_ERR, FD_COUNT };

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

static void close_fds(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close_fd(&fds[i]);
}

/* ================================ the process ================================ */

struct child {
	struct child *next;
	pid_t pid;
	bool group;	  /* leads its own process group */
	int status_fd;	  /* waitpid()'s word goes here */
	uint64_t kill_ms; /* when SIGTERM will not have helped; 0: not asked to end */
};

struct server {
	int sock, signals;
	bool detached;
	struct child *children;
	uint8_t *message; /* BROKER_COMMAND_MAX + a head */
};

static void child_signal(const struct child *child, int sig)
{
	if (child->group)
		kill(-child->pid, sig);
	kill(child->pid, sig);
}

static void server_reap(struct server *server)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (struct child **p = &server->children; *p; p = &(*p)->next) {
			struct child *child = *p;

			if (child->pid != pid)
				continue;
			*p = child->next;
			if (write(child->status_fd, &status, sizeof(status)) < 0) {
				/* nobody wants to know */
			}
			if (child->group && child->kill_ms)
				kill(-pid, SIGKILL);
			close(child->status_fd);
			free(child);
			break;
		}
	}
}

/* Kills whom SIGTERM did not end in time; returns ms until the next such moment, -1 for none. */
static int server_kill_due(struct server *server)
{
	uint64_t now = real_ms(), next = UINT64_MAX;

	for (struct child *child = server->children; child; child = child->next) {
		if (child->kill_ms && child->kill_ms <= now) {
			child_signal(child, SIGKILL);
			child->kill_ms = now + TERM_TO_KILL_MS;
		}
		if (child->kill_ms && child->kill_ms < next)
			next = child->kill_ms;
	}
	return next == UINT64_MAX ? -1 : (int)(next - now);
}

/* The environment for a child: ours, changed as the strings say. Exits with its process, so nothing is freed. */
static char **child_environment(char **changes, uint32_t count)
{
	size_t own = 0;
	char **env;

	while (environ && environ[own])
		own++;
	env = calloc(own + count + 1, sizeof(*env));
	if (!env)
		return NULL;
	if (own)
		memcpy(env, environ, own * sizeof(*env));
	for (uint32_t i = 0; i < count; i++) {
		size_t name_len = strcspn(changes[i], "=");
		size_t kept = 0;

		for (size_t j = 0; j < own; j++)
			if (strncmp(env[j], changes[i], name_len) != 0 || env[j][name_len] != '=')
				env[kept++] = env[j];
		if (changes[i][name_len] == '=')
			env[kept++] = changes[i];
		env[kept] = NULL;
		own = kept;
	}
	return env;
}

/* In the new process. Never returns. */
static void child_run(const struct server *server, pid_t parent, char **argv, char **env, const int *stdio,
		      int failed_fd)
{
	struct sigaction standard = { .sa_handler = SIG_DFL };
	sigset_t none;
	int error;

	if (server->detached)
		setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(127);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &standard, NULL);
	sigemptyset(&none);
	for (int fd = 0; fd < 3; fd++)
		if (stdio[fd] >= 0 && dup2(stdio[fd], fd) < 0)
			goto failed;
	/* From 3 on everything of ours is O_CLOEXEC already; this is for what we do not know of. */
	syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
	sigprocmask(SIG_SETMASK, &none, NULL);
	environ = env;
	execvp(argv[0], argv);
failed:
	error = errno;
	if (write(failed_fd, &error, sizeof(error)) < 0) {
		/* the parent sees an end without a word */
	}
	_exit(127);
}

static int make_pipes(int pipes[FD_COUNT][2], bool keep_stderr)
{
	for (int i = 0; i < FD_COUNT; i++) {
		pipes[i][0] = pipes[i][1] = -1;
		if (i == FD_ERR && keep_stderr)
			continue;
		if (pipe2(pipes[i], O_CLOEXEC))
			return -errno;
	}
	return 0;
}

/* Forks and waits until the program runs. Returns its pid or -errno. */
static pid_t server_fork(struct server *server, char **argv, char **env, int pipes[FD_COUNT][2])
{
	const int stdio[3] = { pipes[FD_IN][0], pipes[FD_OUT][1], pipes[FD_ERR][1] };
	pid_t self = getpid(), pid;
	int failed[2], error = 0;

	if (pipe2(failed, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid == 0)
		child_run(server, self, argv, env, stdio, failed[1]);
	error = pid < 0 ? errno : 0;
	close(failed[1]);
	if (pid > 0 && read(failed[0], &error, sizeof(error)) == (ssize_t)sizeof(error))
		waitpid(pid, NULL, 0);
	close(failed[0]);
	return error ? -error : pid;
}

static void server_reply(const struct server *server, const struct reply *reply, const int *fds,
			 size_t fd_count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(FD_COUNT * sizeof(int))];
	} control = { 0 };
	struct iovec data = { (void *)(uintptr_t)reply, sizeof(*reply) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd_count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, fd_count * sizeof(int));
	}
	while (sendmsg(server->sock, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* Cuts the strings of a message into argv and env (one allocation, for both). NULL when it is malformed. */
static char **split_strings(const struct message *head, char *data, size_t len)
{
	size_t count = (size_t)head->arg_count + head->env_count, used = 0;
	char **v;

	if (head->arg_count == 0 || count > len || len == 0 || data[len - 1] != '\0')
		return NULL;
	v = calloc(count + 2, sizeof(*v));
	for (size_t i = 0; v && i < count; i++) {
		if (used >= len) {
			free(v);
			return NULL;
		}
		v[i < head->arg_count ? i : i + 1] = data + used;
		used += strlen(data + used) + 1;
	}
	return v;
}

static int server_spawn_strings(struct server *server, const struct message *head, char **strings,
				int pipes[FD_COUNT][2], pid_t *out_pid)
{
	struct child *child = calloc(1, sizeof(*child));
	char **env = child_environment(strings + head->arg_count + 1, head->env_count);
	int rc = child && env ? make_pipes(pipes, head->keep_stderr) : -ENOMEM;

	if (rc == 0) {
		pid_t pid = server_fork(server, strings, env, pipes);

		rc = pid < 0 ? pid : 0;
		*out_pid = pid;
	}
	free(env);
	if (rc) {
		free(child);
		return rc;
	}
	child->pid = *out_pid;
	child->group = server->detached;
	child->status_fd = pipes[FD_STATUS][1];
	pipes[FD_STATUS][1] = -1;
	child->next = server->children;
	server->children = child;
	return 0;
}

static void server_spawn(struct server *server, const struct message *head, char *data, size_t len)
{
	struct reply reply = { .serial = head->serial };
	int pipes[FD_COUNT][2], ours[FD_COUNT];
	char **strings = split_strings(head, data, len);
	pid_t pid = 0;

	memset(pipes, -1, sizeof(pipes));
	reply.error = strings ? server_spawn_strings(server, head, strings, pipes, &pid) : -EINVAL;
	reply.pid = pid;
	free(strings);
	ours[FD_IN] = pipes[FD_IN][1];
	ours[FD_OUT] = pipes[FD_OUT][0];
	ours[FD_STATUS] = pipes[FD_STATUS][0];
	ours[FD_ERR] = pipes[FD_ERR][0];
	server_reply(server, &reply, ours, reply.error ? 0 : head->keep_stderr ? FD_ERR : FD_COUNT);
	close_fds(&pipes[0][0], sizeof(pipes) / sizeof(int));
}

static void server_kill(struct server *server, pid_t pid)
{
	for (struct child *child = server->children; child; child = child->next) {
		if (child->pid == pid && !child->kill_ms) {
			child_signal(child, SIGTERM);
			child->kill_ms = real_ms() + TERM_TO_KILL_MS;
		}
	}
}

static void server_detach(struct server *server, uint32_t serial)
{
	struct reply reply = { .serial = serial };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (setsid() < 0)
		reply.error = -errno;
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	close_fd(&null);
	server->detached = true;
	server_reply(server, &reply, NULL, 0);
}

/* Returns false when the daemon is gone. */
static bool server_message(struct server *server)
{
	struct message head;
	ssize_t got = recv(server->sock, server->message, sizeof(head) + BROKER_COMMAND_MAX,
			   MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0)
		return false;
	if ((size_t)got < sizeof(head))
		return true;
	memcpy(&head, server->message, sizeof(head));
	if (head.type == MESSAGE_SPAWN)
		server_spawn(server, &head, (char *)server->message + sizeof(head),
			     (size_t)got - sizeof(head));
	else if (head.type == MESSAGE_KILL)
		server_kill(server, head.pid);
	else if (head.type == MESSAGE_DETACH)
		server_detach(server, head.serial);
	return true;
}

static void server_drain_signals(const struct server *server)
{
	struct signalfd_siginfo info;

	while (read(server->signals, &info, sizeof(info)) > 0)
		;
}

/* Nobody is left to want anything: ends the children, the patient way first. */
static void server_end_children(struct server *server)
{
	struct pollfd signals = { .fd = server->signals, .events = POLLIN };

	for (struct child *child = server->children; child; child = child->next) {
		child_signal(child, SIGTERM);
		child->kill_ms = real_ms() + 500;
	}
	while (server->children) {
		poll(&signals, 1, server_kill_due(server));
		server_drain_signals(server);
		server_reap(server);
	}
}

static void server_run(int sock)
{
	struct server server = { .sock = sock };
	sigset_t set;
	bool alive = true;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	server.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	server.message = malloc(sizeof(struct message) + BROKER_COMMAND_MAX);
	alive = server.signals >= 0 && server.message;
	while (alive) {
		struct pollfd fds[2] = { { .fd = sock, .events = POLLIN },
					 { .fd = server.signals, .events = POLLIN } };

		if (poll(fds, 2, server_kill_due(&server)) > 0) {
			if (fds[1].revents) {
				server_drain_signals(&server);
				server_reap(&server);
			}
			if (fds[0].revents)
				alive = server_message(&server);
		}
	}
	server_end_children(&server);
}

/* In the new process: leaves behind what belongs to the daemon. Never returns. */
static void server_main(int sock)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* The descriptors below 3 must be taken, or a pipe could land there and be lost in a child. */
	while (null >= 0 && null < 3)
		null = dup(null);
	if (sock < 3)
		sock = fcntl(sock, F_DUPFD_CLOEXEC, 3);
	if (dup3(sock, 3, O_CLOEXEC) == 3)
		sock = 3;
	if (sock == 3)
		syscall(SYS_close_range, 4U, ~0U, 0U);
	prctl(PR_SET_NAME, "xcpfs-broker");
	if (sock != 3 || chdir("/"))
		_exit(1);
	server_run(sock);
	_exit(0);
}

/* ================================ the daemon's side ================================ */

struct broker {
	/* set before threads start */
	int sock;
	pid_t pid;
	bool terminal;
	/* atomics: */
	_Atomic bool detached; /* relaxed: whoever asks just before may still hear no */
	/* under `lock`, which is held over one exchange with the broker, since answers come in the order of commands */
	struct lock lock;
	uint32_t serial;
	bool broken;
};

int broker_start(struct broker **out, struct xcp_error *err)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	int pair[2];

	if (!broker)
		return xcp_error_set(err, -ENOMEM, "cannot start the broker: out of memory");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		int code = -errno;

		free(broker);
		return xcp_error_set(err, code, "cannot start the broker: no socket");
	}
	broker->terminal = isatty(STDIN_FILENO);
	broker->pid = fork();
	if (broker->pid == 0) {
		close(pair[0]);
		server_main(pair[1]);
	}
	close(pair[1]);
	if (broker->pid < 0) {
		int code = -errno;

		close(pair[0]);
		free(broker);
		return xcp_error_set(err, code, "cannot start the broker: no process");
	}
	broker->sock = pair[0];
	lock_init(&broker->lock);
	*out = broker;
	return 0;
}

/* The reply to command `serial`, within the timeout. What comes along is in fds (-1 where nothing is). Returns 0 or -errno. */
static int receive_reply(const struct broker *broker, uint32_t serial, struct reply *out, int *fds)
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
		struct pollfd wait = { .fd = broker->sock, .events = POLLIN };
		uint64_t now = real_ms();
		struct cmsghdr *head;
		ssize_t got;

		if (now >= end || poll(&wait, 1, (int)(end - now)) == 0)
			return -ETIMEDOUT;
		got = recvmsg(broker->sock, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
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
		close_fds(fds, FD_COUNT);
	}
}

/* One command and its answer. */
static int exchange(struct broker *broker, struct message *message, const struct buf *strings,
		    struct reply *reply, int *fds)
{
	struct iovec data[2] = { { message, sizeof(*message) },
				 { strings ? strings->data : NULL, strings ? strings->len : 0 } };
	struct msghdr head = { .msg_iov = data, .msg_iovlen = strings ? 2 : 1 };
	ssize_t sent = -1;
	int rc = -EPIPE;

	for (int i = 0; i < FD_COUNT; i++)
		fds[i] = -1;
	lock_take(&broker->lock);
	if (!broker->broken) {
		message->serial = ++broker->serial;
		do
			sent = sendmsg(broker->sock, &head, MSG_NOSIGNAL);
		while (sent < 0 && errno == EINTR);
		rc = sent < 0 ? -errno : receive_reply(broker, message->serial, reply, fds);
		if (rc == -EPIPE || rc == -ECONNRESET)
			broker->broken = true;
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
static int spawn(struct broker *broker, const struct broker_command *command, bool keep_stderr, int *fds,
		 pid_t *out_pid, struct xcp_error *err)
{
	struct message message = { .type = MESSAGE_SPAWN, .keep_stderr = keep_stderr };
	struct reply reply;
	struct buf strings = BUF_INIT;
	int rc = add_strings(&strings, command->argv, &message.arg_count);

	rc = rc ? rc : add_strings(&strings, command->env, &message.env_count);
	rc = rc ? rc : exchange(broker, &message, &strings, &reply, fds);
	buf_release(&strings);
	if (rc == -ENOENT)
		return xcp_error_set(err, rc, "cannot run %s: no such program; is it installed?",
				     command->argv[0]);
	if (rc)
		return xcp_error_set(err, rc, "cannot run %s: %s", command->argv[0], strerror(-rc));
	for (int i = 0; i < FD_COUNT; i++)
		if (fds[i] >= 0)
			fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
	*out_pid = reply.pid;
	return 0;
}

int broker_spawn(struct broker *broker, const struct broker_command *command, struct broker_child *out,
		 struct xcp_error *err)
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
 * Until the status is there and what was written by then has been read. Not until the end of the output: a helper may leave a daemon behind that
 * holds it open.
 */
static int run_loop(struct run *run, uint64_t end_ms)
{
	for (;;) {
		struct pollfd fds[3] = { { .fd = run->fds[FD_IN], .events = POLLOUT },
					 { .fd = run->fds[FD_OUT], .events = POLLIN },
					 { .fd = run->fds[FD_STATUS], .events = POLLIN } };
		uint64_t now = real_ms();
		int rc = 0, ready;

		if (now >= end_ms)
			return -ETIMEDOUT;
		ready = poll(fds, 3, run->ended ? 0 : (int)(end_ms - now < 60000 ? end_ms - now : 60000));
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

int broker_run(struct broker *broker, const struct broker_command *command, const void *input, size_t input_len,
	       unsigned timeout_ms, struct buf *output, int *out_status, struct xcp_error *err)
{
	struct run run = { .input = input, .input_len = input_len, .output = output };
	pid_t pid;
	int rc = spawn(broker, command, true, run.fds, &pid, err);

	if (rc)
		return rc;
	if (input_len == 0)
		close_fd(&run.fds[FD_IN]);
	rc = run_loop(&run, real_ms() + timeout_ms);
	if (rc)
		broker_kill(broker, pid);
	close_fds(run.fds, FD_COUNT);
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
	struct reply reply;
	int fds[FD_COUNT];

	atomic_store_explicit(&broker->detached, true, memory_order_relaxed);
	exchange(broker, &message, NULL, &reply, fds);
	close_fds(fds, FD_COUNT);
}

void broker_stop(struct broker **broker_p)
{
	struct broker *broker = *broker_p;
	struct pollfd wait;

	*broker_p = NULL;
	if (!broker)
		return;
	wait = (struct pollfd){ .fd = (int)syscall(SYS_pidfd_open, broker->pid, 0U), .events = POLLIN };
	shutdown(broker->sock, SHUT_RDWR);
	close(broker->sock);
	/* Somebody else's child when the daemon forked after starting it; then it ends on its own. */
	if (wait.fd >= 0) {
		if (poll(&wait, 1, STOP_TIMEOUT_MS) == 0)
			kill(broker->pid, SIGKILL);
		close(wait.fd);
		waitpid(broker->pid, NULL, 0);
	}
	lock_release(&broker->lock);
	free(broker);
}
