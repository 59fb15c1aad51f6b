/*
 * The table of verbs, and what is common to all. Adding a verb is a file and a row.
 */
#include "cli/verb.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct verb *const verbs[] = {
	&verb_mount, &verb_umount,  &verb_status, &verb_stats,
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
	fprintf(stderr, "\nusage: xcpfs %s %s\n", verb->name, verb->operands);
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

int cli_main(int argc, char **argv)
{
	const struct verb *verb;
	const char *name;

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
	return verb->run(verb, argc - 1, argv + 1);
}
