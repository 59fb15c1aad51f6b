/* Tests of mount/control.c: both ends of the socket, in a runtime directory of the test's own. */
#include "mount/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tests/tap.h"

#define MOUNTPOINT "/mnt/somewhere/with a space"
#define NOBODY 65534

static char runtime[] = "/tmp/xcpfs-control-XXXXXX";

static _Atomic unsigned answered;

static int answer(void *arg, const char *request, struct buf *out)
{
	answered++;
	if (strcmp(request, "large") == 0) {
		char line[1024];

		memset(line, 'x', sizeof(line));
		for (int i = 0; i < 4096; i++)
			if (buf_add(out, line, sizeof(line)) != 0)
				return -ENOMEM;
		return 0;
	}
	if (strcmp(request, "status") != 0)
		return -ENOENT;
	return buf_addf(out, "{\"of\": \"%s\"}", (const char *)arg);
}

/* One that listens, and answers nobody yet. */
static struct control *listening_control(const char *name)
{
	struct control *control = NULL;
	struct xcp_error err = { 0 };

	if (control_open(MOUNTPOINT, answer, (void *)name, &control, &err) != 0)
		printf("# %s\n", err.message);
	return control;
}

static struct control *open_control(const char *name)
{
	struct control *control = listening_control(name);
	struct xcp_error err = { 0 };

	if (control && control_start(control, &err) != 0)
		printf("# %s\n", err.message);
	return control;
}

static int ask(const char *request, struct buf *out, struct xcp_error *err)
{
	return control_ask(MOUNTPOINT, geteuid(), request, 2000, out, err);
}

/* A connection as a stranger makes it. */
static int connect_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (control_path(MOUNTPOINT, geteuid(), address.sun_path, sizeof(address.sun_path)) != 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* What the other end says until it closes; -1 when it does not. */
static ssize_t read_all(int fd, char *data, size_t len, int timeout_ms)
{
	size_t got = 0;

	for (;;) {
		struct pollfd pollfd = { .fd = fd, .events = POLLIN };

		if (poll(&pollfd, 1, timeout_ms) != 1)
			return -1;
		ssize_t more = recv(fd, data + got, len - got, 0);

		if (more <= 0)
			return (ssize_t)got;
		got += (size_t)more;
	}
}

static void test_a_request_is_answered(void)
{
	struct control *control = open_control("me");
	struct buf out = BUF_INIT;

	CHECK(control);
	CHECK_INT(ask("status", &out, NULL), 0);
	CHECK_STR(buf_str(&out), "{\"of\": \"me\"}");
	buf_release(&out);
	control_close(&control);
	CHECK_NULL(control);
}

static void test_who_asks_before_the_start_is_answered_after_it(void)
{
	struct control *control = listening_control("me");
	int fd = connect_raw();
	char data[256] = "";

	answered = 0;
	CHECK(fd >= 0);
	CHECK_INT(send(fd, "status\n", 7, MSG_NOSIGNAL), 7);
	CHECK_UINT(answered, 0);
	CHECK_INT(control_start(control, NULL), 0);
	CHECK(read_all(fd, data, sizeof(data) - 1, 2000) > 0);
	CHECK_STR(data, "{\"of\": \"me\"}");
	close(fd);
	control_close(&control);
}

/* As when the mount fails. */
static void test_one_that_never_started_closes(void)
{
	struct control *control = listening_control("me");
	int fd = connect_raw();
	char data[256], path[512];

	CHECK(fd >= 0);
	CHECK_INT(control_path(MOUNTPOINT, geteuid(), path, sizeof(path)), 0);
	control_close(&control);
	CHECK_INT(read_all(fd, data, sizeof(data), 2000), 0);
	CHECK_INT(access(path, F_OK), -1);
	close(fd);
}

static void test_an_unknown_request_is_said_to_be_one(void)
{
	struct control *control = open_control("me");
	struct buf out = BUF_INIT;

	CHECK_INT(ask("make coffee", &out, NULL), 0);
	CHECK_STR(buf_str(&out), "{\"error\": \"unknown request\"}");
	buf_release(&out);
	control_close(&control);
}

static void test_a_large_answer_arrives_whole(void)
{
	struct control *control = open_control("me");
	struct buf out = BUF_INIT;

	CHECK_INT(ask("large", &out, NULL), 0);
	CHECK_UINT(out.len, 4 << 20);
	buf_release(&out);
	control_close(&control);
}

static void test_nobody_there_is_said(void)
{
	struct buf out = BUF_INIT;
	struct xcp_error err;
	char path[512];

	CHECK_INT(ask("status", &out, &err), -ENOENT);
	CHECK_CONTAINS(err.message, MOUNTPOINT);

	struct control *control = open_control("me");

	CHECK_INT(control_path(MOUNTPOINT, geteuid(), path, sizeof(path)), 0);
	CHECK_CONTAINS(path, runtime);
	CHECK_INT(access(path, F_OK), 0);
	control_close(&control);
	CHECK_INT(access(path, F_OK), -1);
	CHECK_INT(ask("status", &out, &err), -ENOENT);
	CHECK_UINT(out.len, 0);
}

/* A daemon that was killed leaves its socket. */
static void test_what_a_dead_daemon_left_is_refused_and_then_replaced(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct buf out = BUF_INIT;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	control_path(MOUNTPOINT, geteuid(), address.sun_path, sizeof(address.sun_path));
	CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	CHECK_INT(ask("status", &out, NULL), -ECONNREFUSED);

	struct control *control = open_control("new");

	CHECK_INT(ask("status", &out, NULL), 0);
	CHECK_STR(buf_str(&out), "{\"of\": \"new\"}");
	buf_release(&out);
	control_close(&control);
}

/* As when something is mounted over a mount. */
static void test_closing_removes_only_ones_own_socket(void)
{
	struct control *below = open_control("below"), *above = open_control("above");
	struct buf out = BUF_INIT;

	control_close(&below);
	CHECK_INT(ask("status", &out, NULL), 0);
	CHECK_STR(buf_str(&out), "{\"of\": \"above\"}");
	buf_release(&out);
	control_close(&above);
}

static void test_silent_clients_hold_up_nobody(void)
{
	struct control *control = open_control("me");
	struct buf out = BUF_INIT;
	int fds[40];

	for (int i = 0; i < 40; i++) {
		fds[i] = connect_raw();
		CHECK(fds[i] >= 0);
		if (i % 2)
			CHECK_INT(send(fds[i], "stat", 4, MSG_NOSIGNAL), 4);
	}
	CHECK_INT(ask("status", &out, NULL), 0);
	CHECK_STR(buf_str(&out), "{\"of\": \"me\"}");
	buf_release(&out);
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	control_close(&control);
}

static void test_who_does_not_read_holds_up_nobody(void)
{
	struct control *control = open_control("me");
	struct buf out = BUF_INIT;
	int fd = connect_raw();

	answered = 0;
	CHECK_INT(send(fd, "large\n", 6, MSG_NOSIGNAL), 6);
	while (answered == 0)
		sched_yield();
	CHECK_INT(ask("status", &out, NULL), 0);
	buf_release(&out);
	close(fd);
	control_close(&control);
}

static void test_a_request_without_end_is_cut_off(void)
{
	struct control *control = open_control("me");
	int fd = connect_raw();
	char data[1024];
	size_t sent = 0;

	memset(data, 'a', sizeof(data));
	while (sent < 1 << 20) {
		ssize_t put = send(fd, data, sizeof(data), MSG_NOSIGNAL);

		if (put < 0)
			break;
		sent += (size_t)put;
	}
	CHECK(sent < 1 << 20);
	close(fd);
	control_close(&control);
}

static void test_a_request_in_pieces_or_without_newline_is_answered(void)
{
	struct control *control = open_control("me");
	char data[256] = "";
	int fd = connect_raw();

	CHECK_INT(send(fd, "sta", 3, MSG_NOSIGNAL), 3);
	CHECK_INT(send(fd, "tus\ntrailing", 12, MSG_NOSIGNAL), 12);
	CHECK(read_all(fd, data, sizeof(data) - 1, 2000) > 0);
	CHECK_STR(data, "{\"of\": \"me\"}");
	close(fd);

	fd = connect_raw();
	CHECK_INT(send(fd, "status", 6, MSG_NOSIGNAL), 6);
	shutdown(fd, SHUT_WR);
	memset(data, 0, sizeof(data));
	CHECK(read_all(fd, data, sizeof(data) - 1, 2000) > 0);
	CHECK_STR(data, "{\"of\": \"me\"}");
	close(fd);
	control_close(&control);
}

static void test_a_daemon_that_says_nothing_times_out(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct buf out = BUF_INIT;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	control_path(MOUNTPOINT, geteuid(), address.sun_path, sizeof(address.sun_path));
	CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	listen(fd, 1);
	uint64_t before_ns = clock_ns();

	CHECK_INT(control_ask(MOUNTPOINT, geteuid(), "status", 50, &out, NULL), -ETIMEDOUT);
	CHECK((clock_ns() - before_ns) / 1000000 < 2000);
	close(fd);
	unlink(address.sun_path);
}

static void *ask_often(void *arg)
{
	uintptr_t right = 0;

	for (int i = 0; i < 200; i++) {
		struct buf out = BUF_INIT;

		right += ask("status", &out, NULL) == 0 && out.len == 12;
		buf_release(&out);
	}
	(void)arg;
	return (void *)right;
}

static void test_many_clients_are_answered(void)
{
	struct control *control = open_control("me");
	pthread_t threads[8];
	uintptr_t right = 0;

	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, ask_often, NULL);
	for (int i = 0; i < 8; i++) {
		void *result;

		pthread_join(threads[i], &result);
		right += (uintptr_t)result;
	}
	CHECK_UINT(right, 1600);
	control_close(&control);
}

static void test_closing_does_not_wait_for_clients(void)
{
	struct control *control = open_control("me");
	int fd = connect_raw();
	uint64_t before_ns = clock_ns();

	CHECK(fd >= 0);
	control_close(&control);
	CHECK((clock_ns() - before_ns) / 1000000 < 2000);
	close(fd);
}

static void test_a_path_that_is_too_long_is_one(void)
{
	char path[16];

	CHECK_INT(control_path(MOUNTPOINT, geteuid(), path, sizeof(path)), -ENAMETOOLONG);
}

/* A directory that others can enter or own is not used, whoever made it. */
static void test_an_open_directory_is_not_trusted(void)
{
	struct buf out = BUF_INIT;
	struct control *control = open_control("me");
	char dir[256];

	snprintf(dir, sizeof(dir), "%s/xcpfs", runtime);
	CHECK_INT(chmod(dir, 0755), 0);
	int rc = ask("status", &out, NULL);

	chmod(dir, 0700);
	CHECK(rc == -EACCES || rc == -ENOENT);
	control_close(&control);
}

static void test_another_user_is_not_answered(void)
{
	struct control *control = open_control("me");
	char dir[256], data[64];
	int status;

	if (geteuid() != 0) {
		control_close(&control);
		TAP_SKIP("needs root");
	}
	snprintf(dir, sizeof(dir), "%s/xcpfs", runtime);
	CHECK_INT(chmod(runtime, 0755), 0);
	int dir_fd = open(dir, O_PATH | O_DIRECTORY); /* entered before the rights are given up */
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	control_path(MOUNTPOINT, geteuid(), address.sun_path, sizeof(address.sun_path));
	CHECK_INT(chmod(dir, 0755), 0); /* so that only SO_PEERCRED stands in the way */
	CHECK_INT(chmod(address.sun_path, 0777), 0);
	pid_t pid = fork();

	if (pid == 0) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
			_exit(2);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
			_exit(3);
		if (send(fd, "status\n", 7, MSG_NOSIGNAL) < 0)
			_exit(0);
		_exit(read_all(fd, data, sizeof(data), 2000) == 0 ? 0 : 4);
	}
	waitpid(pid, &status, 0);
	chmod(dir, 0700);
	close(dir_fd);
	control_close(&control);
	CHECK_INT(status, 0);
}

static void test_root_asks_the_daemon_of_another_user(void)
{
	struct buf out = BUF_INIT;
	struct stat st;
	int status, ready[2], done[2];
	char byte, left[64];

	if (geteuid() != 0)
		TAP_SKIP("needs root");
	if (stat("/tmp/xcpfs-65534", &st) == 0)
		TAP_SKIP("/tmp/xcpfs-65534 is there already");
	CHECK(pipe(ready) == 0 && pipe(done) == 0);
	fflush(stdout);
	pid_t pid = fork();

	if (pid == 0) {
		unsetenv("XDG_RUNTIME_DIR");
		if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
			_exit(2);
		struct control *control = open_control("nobody's");

		close(done[1]);
		if (write(ready[1], "x", 1) != 1 || read(done[0], &byte, 1) != 0)
			_exit(3);
		control_close(&control);
		_exit(0);
	}
	CHECK_INT(read(ready[0], &byte, 1), 1);
	int rc = control_ask(MOUNTPOINT, NOBODY, "status", 2000, &out, NULL);

	close(done[1]);
	waitpid(pid, &status, 0);
	close(done[0]);
	close(ready[0]);
	close(ready[1]);
	snprintf(left, sizeof(left), "/tmp/xcpfs-%d", NOBODY);
	rmdir(left);
	CHECK_INT(rc, 0);
	CHECK_STR(buf_str(&out), "{\"of\": \"nobody's\"}");
	CHECK_INT(status, 0);
	buf_release(&out);
}

int main(int argc, char **argv)
{
	char dir[256];

	(void)argc;
	tap_args(argv);
	if (!mkdtemp(runtime))
		tap_skip_all("no temporary directory");
	setenv("XDG_RUNTIME_DIR", runtime, 1);
	snprintf(dir, sizeof(dir), "%s/xcpfs", runtime);
	TAP_RUN(test_a_request_is_answered);
	TAP_RUN(test_who_asks_before_the_start_is_answered_after_it);
	TAP_RUN(test_one_that_never_started_closes);
	TAP_RUN(test_an_unknown_request_is_said_to_be_one);
	TAP_RUN(test_a_large_answer_arrives_whole);
	TAP_RUN(test_nobody_there_is_said);
	TAP_RUN(test_what_a_dead_daemon_left_is_refused_and_then_replaced);
	TAP_RUN(test_closing_removes_only_ones_own_socket);
	TAP_RUN(test_silent_clients_hold_up_nobody);
	TAP_RUN(test_who_does_not_read_holds_up_nobody);
	TAP_RUN(test_a_request_without_end_is_cut_off);
	TAP_RUN(test_a_request_in_pieces_or_without_newline_is_answered);
	TAP_RUN(test_a_daemon_that_says_nothing_times_out);
	TAP_RUN(test_many_clients_are_answered);
	TAP_RUN(test_closing_does_not_wait_for_clients);
	TAP_RUN(test_a_path_that_is_too_long_is_one);
	TAP_RUN(test_an_open_directory_is_not_trusted);
	TAP_RUN(test_another_user_is_not_answered);
	TAP_RUN(test_root_asks_the_daemon_of_another_user);
	rmdir(dir);
	rmdir(runtime);
	return tap_done();
}
