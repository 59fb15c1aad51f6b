/*
 * xcpfs umount: ends mounts, dead ones too.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/detach.h"
#include "cli/mounts.h"
#include "cli/verb.h"

static const struct option_row rows[] = {
	{ "lazy", 'l', NULL, "Out of sight at once, ended when nobody uses it any more." },
	OPTION_HELP,
	{ 0 },
};

static int take_option(void *arg, const char *name, const char *value)
{
	bool *lazy = arg;

	(void)value;
	if (!strcmp(name, "help"))
		return OPTION_WANTS_HELP;
	*lazy = true;
	return 0;
}

static int umount_one(const char *typed, bool lazy, struct xcp_error *err)
{
	struct mount_list list;
	const struct mount_entry *entry;
	char *path;
	int ret = mounts_read(&list, err);

	if (ret)
		return ret;
	path = mounts_resolve(&list, typed, err);
	entry = path ? mounts_at(&list, path) : NULL;
	if (!path)
		ret = err->code;
	else if (!entry)
		ret = xcp_error_set(
			err, -EINVAL,
			"%s is not a mountpoint of xcpfs; xcpfs status lists those there are",
			typed);
	else if (!mount_is_alive(entry))
		ret = mount_detach(entry, DETACH_DEAD, err);
	else
		ret = mount_detach(entry, lazy ? DETACH_LAZY : DETACH_CLEAN, err);
	free(path);
	mounts_release(&list);
	return ret;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	bool lazy = false;
	char **operands;
	int count,
		status = EXIT_OK,
		ret = option_table_parse(rows, argc, argv, take_option, &lazy, &operands, &count);

	if (ret == OPTION_WANTS_HELP) {
		verb_print_help(verb);
		return EXIT_OK;
	}
	if (ret)
		return EXIT_USAGE;
	if (!count)
		return verb_usage(verb, "which MOUNTPOINT?");
	for (int i = 0; i < count; i++) {
		struct xcp_error err = { 0 };

		if (umount_one(operands[i], lazy, &err)) {
			fprintf(stderr, "xcpfs: %s\n", err.message);
			status = EXIT_FAILED;
		}
	}
	return status;
}

const struct verb verb_umount = {
	.name = "umount",
	.operands = "[OPTIONS] MOUNTPOINT...",
	.summary =
		"End mounts and wait for their daemons; a mount whose daemon died is cleared away.",
	.options = rows,
	.run = run,
};
