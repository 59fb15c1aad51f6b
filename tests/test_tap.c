/*
 * The harness tests itself: each kind of failure is made in a child, whose output and status are read.
 */
#include "tests/tap.h"

#include <sys/wait.h>

static void fails_int(void)
{
	CHECK_INT(2 + 2, 5);
}

static void fails_str(void)
{
	CHECK_STR("left", "right");
}

static void fails_mem(void)
{
	CHECK_MEM("ab\n", 3, "abc", 3);
}

static void fails_truth(void)
{
	CHECK_MSG(1 > 2, "row %d", 7);
}

static void skips(void)
{
	TAP_SKIP("no %s here", "moon");
}

static void passes(void)
{
	CHECK_STR(NULL, NULL);
	CHECK_UINT(UINT64_MAX, UINT64_MAX);
}

/* Runs `test` as the only one of a child program; returns its exit status. */
static int run_child(const char *name, void (*test)(void), char *out, size_t out_len)
{
	int fds[2], status;
	ssize_t got;
	size_t len = 0;
	pid_t pid;

	if (pipe(fds) < 0)
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		memset(&tap, 0, sizeof(tap));
		tap_run(name, test);
		_exit(tap_done());
	}
	close(fds[1]);
	while (len + 1 < out_len && (got = read(fds[0], out + len, out_len - 1 - len)) > 0)
		len += (size_t)got;
	out[len] = '\0';
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void test_failures_say_where_and_both_values(void)
{
	static const struct {
		void (*test)(void);
		const char *says[3];
	} rows[] = {
		{ fails_int, { "tests/test_tap.c:", "2 + 2 is 4, want 5 = 5", "not ok 1 - row" } },
		{ fails_str, { "is \"left\", want \"right\"", "not ok 1 - row", "1..1" } },
		{ fails_mem, { "(3 bytes) \"ab\\x0a\"", "(3 bytes) \"abc\"", "not ok 1 - row" } },
		{ fails_truth, { "1 > 2 is false", "row 7", "not ok 1 - row" } },
	};
	char out[4096];
	size_t i, j;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_INT(run_child("row", rows[i].test, out, sizeof(out)), 1);
		for (j = 0; j < 3; j++)
			CHECK_CONTAINS(out, rows[i].says[j]);
	}
}

static void test_skip_and_pass_exit_0(void)
{
	char out[4096];

	CHECK_INT(run_child("row", skips, out, sizeof(out)), 0);
	CHECK_STR(out, "ok 1 - row # SKIP no moon here\n1..1\n");
	CHECK_INT(run_child("row", passes, out, sizeof(out)), 0);
	CHECK_STR(out, "ok 1 - row\n1..1\n");
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_failures_say_where_and_both_values);
	TAP_RUN(test_skip_and_pass_exit_0);
	return tap_done();
}
