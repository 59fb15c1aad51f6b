/*
 * verb: the sub-commands. One file per verb (verb_NAME.c), one row in the table of verbs.c.
 *
 * Threads: the main thread.
 */
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include "cli/option_table.h"

/* What the process exits with; documented in the man page. */
enum exit_status {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* it was tried and did not work; a sentence on stderr says why */
	EXIT_USAGE =
		2, /* it was not tried: wrong words on the command line or in the configuration */
};

struct verb {
	const char *name;
	const char *operands; /* for the usage line: "[OPTIONS] SOURCE MOUNTPOINT" */
	const char *summary;  /* one line, for help */
	const struct option_row *options;
	/* argv[0] is the verb's name. Returns an exit status. Reports its own errors. */
	int (*run)(const struct verb *verb, int argc, char **argv);
};

extern const struct verb verb_mount, verb_umount, verb_status, verb_stats, verb_prefetch,
	verb_cache, verb_version, verb_help;

/* All verbs in the order in which help shows them, ended by NULL. */
extern const struct verb *const verbs[];

const struct verb *verb_find(const char *name); /* NULL when there is none */

/* Prints "usage: xcpfs NAME OPERANDS" to stderr behind a sentence; returns EXIT_USAGE. */
int verb_usage(const struct verb *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void verb_print_help(const struct verb *verb); /* to stdout */

/* The whole program. */
int cli_main(int argc, char **argv);

/* A row that every verb's table has. */
#define OPTION_HELP                                                                                \
	{                                                                                          \
		"help", 'h', NULL, "Show this help and exit."                                      \
	}
/*
 * Returned by an option_fn for --help: parsing stops, the verb prints its help and exits with
 * EXIT_OK.
 */
#define OPTION_WANTS_HELP (-1000)

#endif
