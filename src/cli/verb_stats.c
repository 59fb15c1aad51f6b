/*
 * xcpfs stats: the counters of one mount.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/ask.h"

static json_t *stats_of(const char *typed, struct xcp_error *err)
{
	struct mount_list list;
	const struct mount_entry *entry;
	json_t *answer = NULL;
	char *path;

	if (mounts_read(&list, err))
		return NULL;
	path = mounts_resolve(&list, typed, err);
	entry = path ? mounts_containing(&list, path) : NULL;
	if (entry)
		answer = ask_mount(entry, "stats", err);
	else if (path)
		xcp_error_set(err, -1, "%s is not in a mount of xcpfs", typed);
	free(path);
	mounts_release(&list);
	return answer;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct xcp_error err = { 0 };
	bool as_json = false;
	char **operands;
	json_t *answer;
	int count, ret = option_table_parse(ask_rows, argc, argv, ask_take_option, &as_json,
					    &operands, &count);

	if (ret == OPTION_WANTS_HELP) {
		verb_print_help(verb);
		return EXIT_OK;
	}
	if (ret)
		return EXIT_USAGE;
	if (count != 1)
		return verb_usage(verb, "one MOUNTPOINT is needed");
	answer = stats_of(operands[0], &err);
	if (!answer) {
		fprintf(stderr, "xcpfs: %s\n", err.message);
		return EXIT_FAILED;
	}
	ask_print(answer, as_json);
	json_decref(answer);
	return EXIT_OK;
}

const struct verb verb_stats = {
	.name = "stats",
	.operands = "[OPTIONS] MOUNTPOINT",
	.summary = "Show what a mount has counted: requests, bytes, cache, latencies.",
	.options = ask_rows,
	.run = run,
};
