/*
 * xcpfs version: what this program is and what it was built with.
 */
#include <stdio.h>
#include <string.h>

#include "cli/verb.h"

static int run(const struct verb *verb, int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return verb_usage(verb, "takes no operands");
	printf("xcpfs %s\n", PACKAGE_VERSION);
	if (*XCPFS_SANITIZERS)
		printf("sanitizers %s\n", XCPFS_SANITIZERS);
	return EXIT_OK;
}

const struct verb verb_version = {
	.name = "version",
	.operands = "",
	.summary = "Show the version.",
	.options = NULL,
	.run = run,
};
