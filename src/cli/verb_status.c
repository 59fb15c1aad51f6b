/*
 * xcpfs status: all mounts, one mount, or one file in one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/uri.h"
#include "cli/ask.h"

static json_t *dead_mount(const struct mount_entry *entry, const struct xcp_error *err)
{
	json_t *out = json_object();

	json_object_set_new(out, "source", json_string(entry->source));
	json_object_set_new(out, "mountpoint", json_string(entry->mountpoint));
	json_object_set_new(out, "pid", json_null());
	json_object_set_new(out, "state", json_string(err->code == -ETIMEDOUT ? "silent" : "dead"));
	return out;
}

static const char *text_of(const json_t *status, const char *key)
{
	const char *text = json_string_value(json_object_get(status, key));

	return text ? text : "-";
}

static int show_all(const struct mount_list *list, bool as_json)
{
	json_t *all = json_array();

	for (size_t i = 0; i < list->count; i++) {
		struct xcp_error err = { 0 };
		json_t *status = ask_mount(&list->v[i], "status", &err);

		json_array_append_new(all, status ? status : dead_mount(&list->v[i], &err));
	}
	if (as_json) {
		ask_print(all, true);
	} else {
		for (size_t i = 0; i < json_array_size(all); i++) {
			json_t *status = json_array_get(all, i);

			printf("%-8s %-12.12s  %s on %s\n", text_of(status, "state"),
			       text_of(status, "commit"), text_of(status, "source"),
			       text_of(status, "mountpoint"));
		}
	}
	json_decref(all);
	return EXIT_OK;
}

/* "status" for the mountpoint itself, "file PATH" for what is below. */
static int make_request(const struct mount_entry *entry, const char *path, struct buf *out)
{
	const char *below = path + strlen(entry->mountpoint);

	below += strspn(below, "/");
	if (!*below)
		return buf_add_str(out, "status");
	if (buf_add_str(out, "file "))
		return -ENOMEM;
	return uri_escape(out, below, "/");
}

static int show_one(const struct mount_list *list, const char *typed, bool as_json)
{
	struct xcp_error err = { 0 };
	char *path = mounts_resolve(list, typed, &err);
	const struct mount_entry *entry = path ? mounts_containing(list, path) : NULL;
	struct buf request = BUF_INIT;
	const char *reason = NULL;
	json_t *answer = NULL;

	if (path && !entry)
		xcp_error_set(&err, -ENOENT, "%s is not in a mount of xcpfs", typed);
	else if (entry && make_request(entry, path, &request))
		xcp_error_set(&err, -ENOMEM, "out of memory");
	else if (entry)
		answer = ask_mount(entry, buf_str(&request), &err);
	reason = json_string_value(json_object_get(answer, "error"));
	if (reason)
		xcp_error_set(&err, -ENOENT, "%s: %s", typed, reason);
	if (answer && !reason)
		ask_print(answer, as_json);
	else
		fprintf(stderr, "xcpfs: %s\n", err.message);
	json_decref(answer);
	buf_release(&request);
	free(path);
	return err.code ? EXIT_FAILED : EXIT_OK;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct xcp_error err = { 0 };
	struct mount_list list;
	bool as_json = false;
	char **operands;
	int count, status,
		ret = option_table_parse(ask_rows, argc, argv, ask_take_option, &as_json, &operands,
					 &count);

	if (ret == OPTION_WANTS_HELP) {
		verb_print_help(verb);
		return EXIT_OK;
	}
	if (ret)
		return EXIT_USAGE;
	if (count > 1)
		return verb_usage(verb, "too many operands");
	if (mounts_read(&list, &err)) {
		fprintf(stderr, "xcpfs: %s\n", err.message);
		return EXIT_FAILED;
	}
	status = count ? show_one(&list, operands[0], as_json) : show_all(&list, as_json);
	mounts_release(&list);
	return status;
}

const struct verb verb_status = {
	.name = "status",
	.operands = "[OPTIONS] [PATH]",
	.summary = "Show all mounts, or the mount at PATH, or what is known of the file PATH in a "
		   "mount.",
	.options = ask_rows,
	.run = run,
};
