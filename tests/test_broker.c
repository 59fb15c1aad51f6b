/* Tests of src/remote/broker.c. */
#include "remote/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tap.h"

#define WAIT_MS 20000

static struct broker *broker;

static int run(const char *script, const char *const *env, const char *input, struct buf *out,
	       int *status)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	const struct broker_command command = { argv, env };

	return broker_run(broker, &command, input, strlen(input), WAIT_MS, NULL, out, status, NULL);
}

static void close_child(struct broker_child *child)
{
	close(child->in);
	close(child->out);
	close(child->err);
}

/* Reads to the end, at most WAIT_MS without progress. Returns a string. */
static const char *read_all(int fd, struct buf *out)
{
	char room[4096];
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	ssize_t n;

	while (poll(&wait, 1, WAIT_MS) == 1 && (n = read(fd, room, sizeof(room))) > 0)
		buf_add(out, room, (size_t)n);
	return buf_str(out);
}

static void test_a_command_gets_input_and_gives_output_and_status(void)
{
	struct buf out = BUF_INIT;
	int status = -1;

	CHECK_INT(run("cat; pwd; exit 3", NULL, "hello\n", &out, &status), 0);
	CHECK_STR(buf_str(&out), "hello\n/\n");
	CHECK(WIFEXITED(status));
	CHECK_INT(WEXITSTATUS(status), 3);
	buf_release(&out);
}

static void test_the_environment_is_added_to_and_taken_from(void)
{
	static const char *const env[] = { "XCPFS_TEST_ONE=1=1", "XCPFS_TEST_INHERITED",
					   "XCPFS_TEST_ABSENT", NULL };
	struct buf out = BUF_INIT;
	int status;

	CHECK_INT(run("echo \"$XCPFS_TEST_ONE ${XCPFS_TEST_INHERITED-none} $XCPFS_TEST_KEPT\"", env,
		      "", &out, &status),
		  0);
	CHECK_STR(buf_str(&out), "1=1 none kept\n");
	buf_release(&out);
}

static void test_a_missing_program_is_enoent_with_its_name(void)
{
	const char *const argv[] = { "xcpfs-no-such-program", NULL };
	const struct broker_command command = { argv, NULL };
	struct broker_child child;
	struct xcp_error err = { 0 };

	CHECK_INT(broker_spawn(broker, &command, &child, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "xcpfs-no-such-program");
}

static void test_a_command_too_large_is_refused_and_the_next_one_works(void)
{
	static char large[BROKER_COMMAND_MAX + 1];
	const char *const argv[] = { "true", large, NULL };
	const struct broker_command command = { argv, NULL };
	struct broker_child child;
	struct buf out = BUF_INIT;
	int status;

	memset(large, 'x', sizeof(large) - 1);
	CHECK_INT(broker_spawn(broker, &command, &child, NULL), -E2BIG);
	CHECK_INT(run("echo ok", NULL, "", &out, &status), 0);
	CHECK_STR(buf_str(&out), "ok\n");
	buf_release(&out);
}

static void test_the_largest_command_goes_through(void)
{
	static char large[BROKER_COMMAND_MAX -
			  5]; /* with "echo" and both NULs just as much as there may be */
	const char *const argv[] = { "echo", large, NULL };
	const struct broker_command command = { argv, NULL };
	struct buf out = BUF_INIT;
	int status;

	memset(large, 'x', sizeof(large) - 1);
	CHECK_INT(buf_reserve(&out, BROKER_OUTPUT_MAX), 0);
	CHECK_INT(broker_run(broker, &command, NULL, 0, WAIT_MS, NULL, &out, &status, NULL), 0);
	CHECK_UINT(out.len, sizeof(large));
	buf_release(&out);
}

static void test_too_much_output_is_an_error(void)
{
	struct buf out = BUF_INIT;
	int status;

	CHECK_INT(run("head -c 200000 /dev/zero", NULL, "", &out, &status), -EFBIG);
	buf_release(&out);
}

static void test_a_command_that_hangs_is_given_up(void)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	const struct broker_command command = { argv, NULL };
	struct buf out = BUF_INIT;
	struct xcp_error err = { 0 };
	int status;

	CHECK_INT(broker_run(broker, &command, NULL, 0, 50, NULL, &out, &status, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.message, "sleep");
	buf_release(&out);
}

static void *stop_it(void *arg)
{
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

static void test_a_command_that_is_wanted_no_more_is_ended(void)
{
	const char *const argv[] = { "sleep", "1000", NULL };
	const struct broker_command command = { argv, NULL };
	struct buf out = BUF_INIT;
	atomic_bool stop = false;
	pthread_t thread;
	int status;

	CHECK_INT(pthread_create(&thread, NULL, stop_it, &stop), 0);
	CHECK_INT(broker_run(broker, &command, NULL, 0, WAIT_MS, &stop, &out, &status, NULL),
		  -ECANCELED);
	pthread_join(thread, NULL);
	/* And one that is so from the start. */
	CHECK_INT(broker_run(broker, &command, NULL, 0, WAIT_MS, &stop, &out, &status, NULL),
		  -ECANCELED);
	buf_release(&out);
}

static void test_input_that_nobody_reads_does_no_harm(void)
{
	static char large[300000];
	struct buf out = BUF_INIT;
	int status = -1;

	memset(large, 'x', sizeof(large) - 1);
	CHECK_INT(run("exec true", NULL, large, &out, &status), 0);
	CHECK_INT(status, 0);
	buf_release(&out);
}

static void test_what_a_helper_leaves_behind_is_not_waited_for(void)
{
	struct buf out = BUF_INIT;
	int status;

	CHECK_INT(run("sleep 1000 & echo $!", NULL, "", &out, &status), 0);
	CHECK(buf_str(&out) != NULL);
	kill((pid_t)atoi(buf_str(&out)), SIGKILL);
	buf_release(&out);
}

static void test_a_child_talks_through_three_pipes_and_inherits_nothing_else(void)
{
	const char *const argv[] = { "sh", "-c",
				     "read a; echo out $a; echo err $a >&2; ls /proc/self/fd",
				     NULL };
	const struct broker_command command = { argv, NULL };
	struct buf out = BUF_INIT, said = BUF_INIT;
	struct broker_child child;
	int secret = open("/dev/null", O_RDONLY); /* not O_CLOEXEC, on purpose */

	CHECK_INT(broker_spawn(broker, &command, &child, NULL), 0);
	CHECK(fcntl(child.in, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(child.out, F_GETFL) & O_NONBLOCK);
	CHECK_INT(write(child.in, "x\n", 2), 2);
	/* 3 is the directory that ls reads. */
	CHECK_STR(read_all(child.out, &out), "out x\n0\n1\n2\n3\n");
	CHECK_STR(read_all(child.err, &said), "err x\n");
	close_child(&child);
	close(secret);
	buf_release(&out);
	buf_release(&said);
}

static void test_signals_are_at_their_defaults_in_a_child(void)
{
	struct buf out = BUF_INIT;
	int status;

	/*
	 * glibc's posix_spawn() leaves its own two signals, 32 and 33, ignored: so it is below make
	 */
	CHECK_INT(run("grep -E '^Sig(Blk|Ign)' /proc/self/status | sed -E "
		      "s/0000000[01][08]0000000/0000000000000000/",
		      NULL, "", &out, &status),
		  0);
	CHECK_STR(buf_str(&out), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	buf_release(&out);
}

static void test_kill_ends_a_child_even_one_that_does_not_want_to(void)
{
	const char *const argv[] = { "sh", "-c",
				     "trap '' TERM; echo ready; while :; do sleep 0.1; done",
				     NULL };
	const struct broker_command command = { argv, NULL };
	struct broker_child child;
	struct buf out = BUF_INIT;
	char room[16];
	struct pollfd wait;

	CHECK_INT(broker_spawn(broker, &command, &child, NULL), 0);
	wait = (struct pollfd){ .fd = child.out, .events = POLLIN };
	CHECK_INT(poll(&wait, 1, WAIT_MS), 1);
	CHECK_INT(read(child.out, room, sizeof(room)), 6);
	broker_kill(broker, child.pid);
	CHECK_STR(read_all(child.out, &out), "");
	close_child(&child);
	buf_release(&out);
}

static void test_a_stranger_is_not_killed(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	broker_kill(broker, pid);
	broker_kill(broker, 1);
	test_a_command_gets_input_and_gives_output_and_status();
	TAP_STOP();
	CHECK_INT(kill(pid, 0), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void *many_runs(void *arg)
{
	for (int i = 0; i < 20; i++) {
		struct buf out = BUF_INIT;
		char input[32];
		int status;

		snprintf(input, sizeof(input), "%p %d", arg, i);
		if (run("cat", NULL, input, &out, &status) || !buf_str(&out) ||
		    strcmp(buf_str(&out), input) != 0)
			return arg;
		buf_release(&out);
	}
	return NULL;
}

static void test_many_threads_may_ask(void)
{
	static char names[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, many_runs, &names[i]), 0);
	for (int i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		CHECK_NULL(failed);
	}
}

static void test_detached_it_has_no_terminal_and_works_on(void)
{
	const char *const argv[] = { "sh", "-c", "ps -o sid=,pgid=,tty= -p $$ 2>/dev/null; echo $$",
				     NULL };
	const struct broker_command command = { argv, NULL };
	struct broker *other;
	struct broker_child child;
	struct buf out = BUF_INIT;

	CHECK_INT(broker_start(&other, NULL), 0);
	broker_detach(other);
	CHECK(!broker_interactive(other));
	CHECK_INT(broker_spawn(other, &command, &child, NULL), 0);
	CHECK(getsid(child.pid) != getsid(0));
	CHECK_CONTAINS(read_all(child.out, &out), "\n");
	close_child(&child);
	broker_stop(&other);
	CHECK_NULL(other);
	buf_release(&out);
}

/* A pipe end that a process inherits tells when it and all of its kind are gone. */
static void test_stopping_it_ends_its_children(void)
{
	const char *const argv[] = { "sh", "-c", "trap '' HUP; sleep 1000", NULL };
	const struct broker_command command = { argv, NULL };
	struct broker *other;
	struct broker_child child;
	struct buf out = BUF_INIT;

	CHECK_INT(broker_start(&other, NULL), 0);
	broker_detach(other);
	CHECK_INT(broker_spawn(other, &command, &child, NULL), 0);
	broker_stop(&other);
	CHECK_STR(read_all(child.out, &out), "");
	close_child(&child);
	broker_stop(&other);
	buf_release(&out);
}

/* Runs as a daemon of its own; hands the output of its child to `out`, then waits to be killed. */
static void daemon_main(int sock)
{
	const char *const argv[] = { "sh", "-c", "exec sleep 1000", NULL };
	const struct broker_command command = { argv, NULL };
	struct broker *own;
	struct broker_child child;
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	char byte = 'x';
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	if (broker_start(&own, NULL) || broker_spawn(own, &command, &child, NULL))
		_exit(1);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &child.out, sizeof(int));
	if (sendmsg(sock, &message, 0) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void test_it_ends_with_its_children_when_the_daemon_is_killed(void)
{
	char room[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct buf out = BUF_INIT;
	int pair[2], fd;
	pid_t pid;

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0)
		daemon_main(pair[1]);
	close(pair[1]);
	CHECK_INT(recvmsg(pair[0], &message, 0), 1);
	CHECK(CMSG_FIRSTHDR(&message) != NULL);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK_STR(read_all(fd, &out), "");
	CHECK_INT(read(pair[0], &byte, 1), 0);
	close(fd);
	close(pair[0]);
	buf_release(&out);
}

/* Has one of the broker's children kill whom the shell calls `who`. */
static void kill_through(struct broker *victim, const char *who)
{
	char script[128];
	const char *const argv[] = { "sh", "-c", script, NULL };
	const struct broker_command command = { argv, NULL };
	struct broker_child child;
	struct buf out = BUF_INIT;

	snprintf(script, sizeof(script), "read x; kill -9 %s", who);
	CHECK_INT(broker_spawn(victim, &command, &child, NULL), 0);
	CHECK_INT(write(child.in, "\n", 1), 1);
	CHECK_STR(read_all(child.out, &out), "");
	close_child(&child);
	buf_release(&out);
}

static void test_a_killed_broker_is_replaced(void)
{
	struct buf out = BUF_INIT;
	struct broker *kept = broker;
	int before = dup(0), after, status = -1;

	close(before);
	CHECK_INT(broker_start(&broker, NULL), 0);
	for (int i = 0; i < 3; i++) {
		kill_through(broker, "$PPID");
		TAP_STOP();
		CHECK_INT(run("cat; pwd; ls /proc/self/fd", NULL, "again\n", &out, &status), 0);
		CHECK_INT(status, 0);
		/* 3 is the directory that ls reads. */
		CHECK_STR(buf_str(&out), "again\n/\n0\n1\n2\n3\n");
		buf_clear(&out);
	}
	broker_stop(&broker);
	after = dup(0);
	close(after);
	CHECK_INT(after, before);
	broker = kept;
	buf_release(&out);
}

static void test_the_one_that_replaces_it_has_no_terminal_either(void)
{
	const char *const argv[] = { "sh", "-c",
				     "read x; readlink /proc/self/fd/2 /proc/$PPID/fd/0", NULL };
	const struct broker_command command = { argv, NULL };
	struct broker_child child;
	struct broker *other;
	struct buf out = BUF_INIT;

	CHECK_INT(broker_start(&other, NULL), 0);
	broker_detach(other);
	kill_through(other, "$PPID");
	TAP_STOP();
	CHECK_INT(broker_spawn(other, &command, &child, NULL), 0);
	CHECK(getsid(child.pid) != getsid(0));
	CHECK_INT(getpgid(child.pid), child.pid);
	CHECK_INT(write(child.in, "\n", 1), 1);
	CHECK_CONTAINS(read_all(child.out, &out), "/dev/null\n");
	close_child(&child);
	broker_stop(&other);
	buf_release(&out);
}

#define SEED "$(cut -d ' ' -f 4 /proc/$PPID/stat)"

static void test_without_the_seed_the_broker_works_on(void)
{
	struct broker *kept = broker;

	CHECK_INT(broker_start(&broker, NULL), 0);
	kill_through(broker, SEED);
	TAP_STOP();
	test_a_command_gets_input_and_gives_output_and_status();
	broker_detach(broker);
	test_a_command_gets_input_and_gives_output_and_status();
	broker_stop(&broker);
	broker = kept;
}

static void test_with_both_killed_there_is_an_error_not_a_hang(void)
{
	const char *const argv[] = { "true", NULL };
	const struct broker_command command = { argv, NULL };
	struct xcp_error err = { 0 };
	struct broker *other;
	struct broker_child child;

	CHECK_INT(broker_start(&other, NULL), 0);
	kill_through(other, SEED " $PPID");
	TAP_STOP();
	CHECK_INT(broker_spawn(other, &command, &child, &err), -EPIPE);
	CHECK_CONTAINS(err.message, "unmount and mount again");
	CHECK_INT(broker_spawn(other, &command, &child, NULL), -EPIPE);
	broker_kill(other, 12345);
	broker_detach(other);
	broker_stop(&other);
}

static void test_descriptors_are_given_back(void)
{
	int before = dup(0), after;

	close(before);
	for (int i = 0; i < 10; i++) {
		struct buf out = BUF_INIT;
		int status;

		CHECK_INT(run("echo", NULL, "", &out, &status), 0);
		buf_release(&out);
	}
	test_a_missing_program_is_enoent_with_its_name();
	TAP_STOP();
	after = dup(0);
	close(after);
	CHECK_INT(after, before);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	setenv("XCPFS_TEST_INHERITED", "yes", 1);
	setenv("XCPFS_TEST_KEPT", "kept", 1);
	signal(SIGHUP, SIG_IGN);
	if (broker_start(&broker, NULL))
		return EXIT_FAILURE;
	TAP_RUN(test_a_command_gets_input_and_gives_output_and_status);
	TAP_RUN(test_the_environment_is_added_to_and_taken_from);
	TAP_RUN(test_a_missing_program_is_enoent_with_its_name);
	TAP_RUN(test_a_command_too_large_is_refused_and_the_next_one_works);
	TAP_RUN(test_the_largest_command_goes_through);
	TAP_RUN(test_too_much_output_is_an_error);
	TAP_RUN(test_a_command_that_hangs_is_given_up);
	TAP_RUN(test_a_command_that_is_wanted_no_more_is_ended);
	TAP_RUN(test_input_that_nobody_reads_does_no_harm);
	TAP_RUN(test_what_a_helper_leaves_behind_is_not_waited_for);
	TAP_RUN(test_a_child_talks_through_three_pipes_and_inherits_nothing_else);
	TAP_RUN(test_signals_are_at_their_defaults_in_a_child);
	TAP_RUN(test_kill_ends_a_child_even_one_that_does_not_want_to);
	TAP_RUN(test_a_stranger_is_not_killed);
	TAP_RUN(test_many_threads_may_ask);
	TAP_RUN(test_detached_it_has_no_terminal_and_works_on);
	TAP_RUN(test_stopping_it_ends_its_children);
	TAP_RUN(test_it_ends_with_its_children_when_the_daemon_is_killed);
	TAP_RUN(test_a_killed_broker_is_replaced);
	TAP_RUN(test_the_one_that_replaces_it_has_no_terminal_either);
	TAP_RUN(test_without_the_seed_the_broker_works_on);
	TAP_RUN(test_with_both_killed_there_is_an_error_not_a_hang);
	TAP_RUN(test_descriptors_are_given_back);
	broker_stop(&broker);
	return tap_done();
}
