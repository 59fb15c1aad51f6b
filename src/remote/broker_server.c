/*
 * broker_server: the process that starts processes.
 *
 * Single-threaded: it waits for commands, ended children, and the time to kill those that SIGTERM
 * did not end. It knows no secret: what a helper says goes through a pipe straight to the daemon.
 */
#include "remote/broker_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "remote/broker.h"

#define TERM_TO_KILL_MS 2000
#define END_TO_KILL_MS 500 /* when the daemon is gone */

static uint64_t clock_real_ms(void)
{
	return clock_ns() / 1000000;
}

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
	uint64_t now = clock_real_ms(), next = UINT64_MAX;

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

/*
 * The environment for a child: ours, changed as the strings say. Exits with its process, so nothing
 * is freed.
 */
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
static void child_run(const struct server *server, pid_t parent, char **argv, char **env,
		      const int *stdio, int failed_fd)
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

void broker_reply(int sock, const struct reply *reply, const int *fds, size_t fd_count)
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
	while (sendmsg(sock, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/*
 * Cuts the strings of a message into argv and env (one allocation, for both). NULL when it is
 * malformed.
 */
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
	broker_reply(server->sock, &reply, ours,
		     reply.error       ? 0 :
		     head->keep_stderr ? FD_ERR :
					 FD_COUNT);
	broker_close_fds(&pipes[0][0], sizeof(pipes) / sizeof(int));
}

static void server_kill(struct server *server, pid_t pid)
{
	for (struct child *child = server->children; child; child = child->next) {
		if (child->pid == pid && !child->kill_ms) {
			child_signal(child, SIGTERM);
			child->kill_ms = clock_real_ms() + TERM_TO_KILL_MS;
		}
	}
}

int broker_leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int error = setsid() < 0 ? -errno : 0;

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null >= 0)
		close(null);
	return error;
}

static void server_detach(struct server *server, uint32_t serial)
{
	struct reply reply = { .serial = serial, .error = broker_leave_terminal() };

	server->detached = true;
	broker_reply(server->sock, &reply, NULL, 0);
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
		child->kill_ms = clock_real_ms() + END_TO_KILL_MS;
	}
	while (server->children) {
		poll(&signals, 1, server_kill_due(server));
		server_drain_signals(server);
		server_reap(server);
	}
}

static void server_run(int sock, bool detached)
{
	struct server server = { .sock = sock, .detached = detached };
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

void broker_settle(int sock, const char *name)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/*
	 * The descriptors below 3 must be taken, or a pipe could land there and be lost in a child.
	 */
	while (null >= 0 && null < 3)
		null = dup(null);
	if (sock < 3)
		sock = fcntl(sock, F_DUPFD_CLOEXEC, 3);
	if (dup3(sock, 3, O_CLOEXEC) == 3)
		sock = 3;
	if (sock == 3)
		syscall(SYS_close_range, 4U, ~0U, 0U);
	prctl(PR_SET_NAME, name);
	if (sock != 3 || chdir("/"))
		_exit(1);
}

_Noreturn void broker_server_main(int sock, bool detached)
{
	broker_settle(sock, "xcpfs-broker");
	server_run(3, detached);
	_exit(0);
}
