/*
 * log: composes a line in a buffer of its own and writes it with one write(2), so that lines of
 * several threads and processes never mix.
 *
 * Names in a line come from hostile trees: control characters are written as \xNN, so that a name
 * cannot make a line of its own or talk to the terminal. A line that is too long is cut.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

#define LINE_LEN 4096

/* the process-wide sink; set while one thread runs */
static struct {
	enum log_level level;
	int fd; /* where lines go: a file of ours, stderr, or -1 */
	bool is_file;
	bool to_syslog;
} sink = { LOG_LEVEL_WARN, STDERR_FILENO, false, false };

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const int syslog_levels[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

int log_open(const struct log_config *config, struct xcp_error *err)
{
	int fd = -1;

	if (config->file) {
		fd = open(config->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
		if (fd < 0)
			return xcp_error_set(err, -errno, "cannot open the log file %s: %s",
					     config->file, strerror(errno));
	} else if (config->to_stderr) {
		fd = STDERR_FILENO;
	}
	log_close();
	sink.level = config->level;
	sink.fd = fd;
	sink.is_file = config->file != NULL;
	sink.to_syslog = config->to_syslog && !config->file;
	if (sink.to_syslog)
		openlog("xcpfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	return 0;
}

void log_close(void)
{
	if (sink.is_file)
		close(sink.fd);
	if (sink.to_syslog)
		closelog();
	sink.level = LOG_LEVEL_WARN;
	sink.fd = STDERR_FILENO;
	sink.is_file = false;
	sink.to_syslog = false;
}

int log_level_parse(const char *text, enum log_level *out)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool log_enabled(enum log_level level)
{
	return level <= sink.level;
}

/*
 * Copies what fits, control characters made visible; bytes from 128 on pass (UTF-8). Returns the
 * length.
 */
static size_t escape(char *out, size_t out_len, const char *text)
{
	size_t len = 0;

	for (; *text && len + 4 < out_len; text++) {
		unsigned char c = (unsigned char)*text;

		if (c >= 32 && c != 127)
			out[len++] = (char)c;
		else
			len += (size_t)snprintf(out + len, out_len - len, "\\x%02x", c);
	}
	out[len] = '\0';
	return len;
}

/* A file gets the time and the process, a terminal the program's name. */
static size_t write_prefix(char *out, size_t out_len, enum log_level level)
{
	struct timespec now = { 0, 0 };
	struct tm utc;
	char stamp[32] = "";
	int len;

	if (!sink.is_file) {
		len = snprintf(out, out_len, "xcpfs: %s: ", level_names[level]);
		return (size_t)len;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &utc))
		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
	len = snprintf(out, out_len, "%s.%03dZ %d %s ", stamp, (int)(now.tv_nsec / 1000000),
		       (int)getpid(), level_names[level]);
	return (size_t)len;
}

/* A line that cannot be written is lost: there is nobody to tell. */
static void write_line(enum log_level level, const char *text)
{
	char line[LINE_LEN + 128];
	size_t len = write_prefix(line, sizeof(line), level);
	ssize_t written;

	len += (size_t)snprintf(line + len, sizeof(line) - len, "%s\n", text);
	do
		written = write(sink.fd, line, len);
	while (written < 0 && errno == EINTR);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char raw[LINE_LEN], text[LINE_LEN];
	int saved = errno;
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, fmt);
	vsnprintf(raw, sizeof(raw), fmt, args);
	va_end(args);
	escape(text, sizeof(text), raw);
	if (sink.fd >= 0)
		write_line(level, text);
	if (sink.to_syslog)
		syslog(syslog_levels[level], "%s", text);
	errno = saved;
}

bool log_limit_pass(struct log_limit *limit, uint64_t interval_ms, unsigned *out_suppressed)
{
	uint64_t now = clock_ms();
	uint64_t next = atomic_load(&limit->next_ms);

	/* of those who find the time come, the one that moves it on speaks */
	if (now < next ||
	    !atomic_compare_exchange_strong(&limit->next_ms, &next, now + interval_ms)) {
		atomic_fetch_add(&limit->suppressed, 1);
		return false;
	}
	*out_suppressed = atomic_exchange(&limit->suppressed, 0);
	return true;
}
