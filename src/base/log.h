/*
 * log: one line per event, to stderr, a file or syslog.
 *
 *	error	someone should act
 *	warn	we coped
 *	info	life cycle, a handful of lines per mount
 *	debug	one line per request, key=value fields
 *
 * The sink is the only process-wide state of the program. A line is written by one write(2).
 * Never log secrets, nor a URL that did not go through uri_redact().
 *
 * Threads: log_open() and log_close() while one thread runs; everything else from any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct xcp_error;

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_config {
	enum log_level level;
	const char *file; /* appended to, made 0600; NULL: no file */
	bool to_stderr;	  /* ignored when `file` is set */
	bool to_syslog;	  /* facility daemon, ident xcpfs; ignored when `file` is set */
};

/* Before the first log_open() lines of warn and above go to stderr. */
int log_open(const struct log_config *config, struct xcp_error *err);
void log_close(void);

/* Reads "error", "warn", "info" or "debug". Returns -EINVAL for anything else. */
int log_level_parse(const char *text, enum log_level *out);

bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                                    \
	} while (0)

/*
 * Repeated failures are counted and logged once per interval:
 *	static or embedded struct log_limit limit;   (zeroed)
 *	if (log_limit_pass(&limit, 60000, &more))
 *		log_warn("... (%u more like it)", more);
 */
struct log_limit {
	_Atomic uint64_t next_ms;
	_Atomic unsigned suppressed;
};
bool log_limit_pass(struct log_limit *limit, uint64_t interval_ms, unsigned *out_suppressed);

#endif
