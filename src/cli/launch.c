/*
 * The pipe between the daemon and the command that started it carries lines: a letter (N note, E
 * error, R ready) and a text. When it closes without R or E, the daemon died.
 */
#include "cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/uri.h"
#include "cli/verb.h"

/* ---- the waiting parent ---- */

static int wait_for_child(int fd)
{
	FILE *lines = fdopen(fd, "re");
	char *line = NULL;
	size_t cap = 0;
	int status = -1;

	while (status < 0 && lines && getline(&line, &cap, lines) > 0) {
		if (line[0] == 'R')
			status = EXIT_OK;
		else
			fprintf(stderr, "xcpfs: %s", line + 1);
		if (line[0] == 'E')
			status = EXIT_FAILED;
	}
	if (status < 0) {
		fprintf(stderr,
			"xcpfs: the daemon ended before the mount was ready; its log says why\n");
		status = EXIT_FAILED;
	}
	free(line);
	if (lines)
		fclose(lines);
	return status;
}

/* ---- the child ---- */

void launch_leave_terminal(const struct launch *launch)
{
	int null;

	if (chdir("/"))
		_exit(EXIT_FAILED);
	if (launch->fd < 0)
		return;
	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
}

/* Both come back as errors of the call, which is where they can be dealt with. */
static void ignore_signals(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

int launch_daemon(struct launch *out, int *out_status, struct xcp_error *err)
{
	int pipe_fds[2];
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC))
		return xcp_error_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		int code = -errno;

		close(pipe_fds[0]);
		close(pipe_fds[1]);
		return xcp_error_set(err, code, "cannot start the daemon: %s", strerror(-code));
	}
	if (pid > 0) {
		close(pipe_fds[1]);
		*out_status = wait_for_child(pipe_fds[0]);
		return 1;
	}
	close(pipe_fds[0]);
	ignore_signals();
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody waits for the mount any more */
	out->fd = pipe_fds[1];
	return 0;
}

void launch_in_front(struct launch *out)
{
	ignore_signals();
	out->fd = -1;
}

static bool send_line(struct launch *launch, char kind, const char *text)
{
	char line[XCP_ERROR_LEN + 64];
	int len = snprintf(line, sizeof(line), "%c%s", kind, text);

	if (len >= (int)sizeof(line))
		len = sizeof(line) - 1;
	for (int i = 0; i < len; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	if (launch->fd < 0) {
		fprintf(stderr, "xcpfs: %.*s\n", len - 1, line + 1);
		return true;
	}
	line[len++] = '\n';
	return write(launch->fd, line, (size_t)len) == len;
}

void launch_note(struct launch *launch, const char *fmt, ...)
{
	char text[XCP_ERROR_LEN];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	send_line(launch, 'N', text);
}

void launch_failed(struct launch *launch, const struct xcp_error *err)
{
	send_line(launch, 'E', err->message);
}

bool launch_ready(struct launch *launch)
{
	bool heard = true;

	if (launch->fd >= 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		heard = send_line(launch, 'R', "");
		close(launch->fd);
		launch->fd = -1;
	}
	return heard;
}

/* ---- what others may see ---- */

/*
 * The environment that exec left is readable in /proc/PID/environ for as long as its memory keeps
 * its bytes. Its array stays: only the words move.
 */
static void move_environment(void)
{
	for (char **word = environ; word && *word; word++) {
		char *copy = strdup(*word);

		if (!copy)
			return; /* the others stay where they are */
		secret_wipe(*word, strlen(*word));
		*word = copy;
	}
}

void launch_conceal(char *secret, const char *shown)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	if (secret && strcmp(secret, shown)) {
		size_t len = strlen(secret), shown_len = strlen(shown);

		secret_wipe(secret, len);
		memcpy(secret, shown, shown_len < len ? shown_len : len);
	}
	move_environment();
}
