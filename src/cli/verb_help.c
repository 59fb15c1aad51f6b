/*
 * xcpfs help: the verbs, or one of them.
 */
#include <stdio.h>

#include "cli/verb.h"

static void print_all(void)
{
	printf("usage: xcpfs COMMAND [OPTIONS] ...\n\nMounts remote repositories; files come over "
	       "as they are read.\n\n");
	for (const struct verb *const *verb = verbs; *verb; verb++)
		printf("  %-9s %s\n", (*verb)->name, (*verb)->summary);
	printf("\n"
	       "SOURCE is owner/repo (on GitHub), an http(s)://, ssh:// or file:// URL, "
	       "git@host:path, or a\n"
	       "path that begins with / or . -- each with @BRANCH, @TAG or @COMMIT behind it, or "
	       "not.\n\n"
	       "  xcpfs mount owner/repo /mnt/repo\n"
	       "  xcpfs umount /mnt/repo\n\n"
	       "xcpfs help COMMAND tells more, man xcpfs everything.\n");
}

static int run(const struct verb *verb, int argc, char **argv)
{
	const struct verb *about;

	if (argc < 2) {
		print_all();
		return EXIT_OK;
	}
	if (argc > 2)
		return verb_usage(verb, "too many operands");
	about = verb_find(argv[1]);
	if (!about)
		return verb_usage(verb, "no such command: %.40s", argv[1]);
	verb_print_help(about);
	return EXIT_OK;
}

const struct verb verb_help = {
	.name = "help",
	.operands = "[COMMAND]",
	.summary = "Show the commands, or one of them.",
	.options = NULL,
	.run = run,
};
