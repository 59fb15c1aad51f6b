/*
 * The table of verbs, and what is common to all. Adding a verb is a file and a row.
 */
#include "cli/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct verb *const verbs[] = {
	&verb_mount, &verb_umount,  &verb_status, &verb_stats, &verb_prefetch,
	&verb_cache, &verb_version, &verb_help,	  NULL,
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *const *verb = verbs; *verb; verb++)
		if (!strcmp((*verb)->name, name))
			return *verb;
	return NULL;
}

int verb_usage(const struct verb *verb, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "xcpfs %s: ", verb->name);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nusage: xcpfs %s%s%s\n", verb->name, *verb->operands ? " " : "",
		verb->operands);
	return EXIT_USAGE;
}

void verb_print_help(const struct verb *verb)
{
	printf("usage: xcpfs %s %s\n\n%s\n", verb->name, verb->operands, verb->summary);
	if (verb->options && verb->options[0].name) {
		printf("\n");
		option_table_print(verb->options, stdout);
	}
}

/* A descriptor that somebody closed would be given to a pipe or a socket, and written to as stderr. */
static void open_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* What was to be read by somebody did not get there: that is no success. */
static int check_output(int status)
{
	if (status != EXIT_OK || (fflush(stdout) == 0 && !ferror(stdout)))
		return status;
	fprintf(stderr, "xcpfs: cannot write the output: %s\n", strerror(errno));
	return EXIT_FAILED;
}

int cli_main(int argc, char **argv)
{
	const struct verb *verb;
	const char *name;

	open_standard_streams();
	if (argc < 2) {
		fprintf(stderr,
			"usage: xcpfs COMMAND [OPTIONS] ...; xcpfs help shows the commands\n");
		return EXIT_USAGE;
	}
	name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	verb = verb_find(name);
	if (!verb) {
		fprintf(stderr, "xcpfs: no such command: %.40s; try xcpfs help\n", name);
		return EXIT_USAGE;
	}
	argv[1] = (char *)name;
	return check_output(verb->run(verb, argc - 1, argv + 1));
}
