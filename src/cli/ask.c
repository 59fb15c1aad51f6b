/*
 * Both verbs show the daemon's own JSON; for people it is flattened, so that a new key shows up
 * without a line of code here.
 */
#include "cli/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/detach.h"
#include "mount/control.h"

#define ASK_TIMEOUT_MS 10000

const struct option_row ask_rows[] = {
	{ "json", 'j', NULL, "Print JSON." },
	OPTION_HELP,
	{ 0 },
};

int ask_take_option(void *want_json, const char *name, const char *value)
{
	(void)value;
	if (!strcmp(name, "help"))
		return OPTION_WANTS_HELP;
	*(bool *)want_json = true;
	return 0;
}

json_t *ask_mount(const struct mount_entry *entry, const char *request, struct xcp_error *err)
{
	struct buf answer = BUF_INIT;
	json_t *out = NULL;
	int ret = control_ask(entry->mountpoint, entry->uid, request, ASK_TIMEOUT_MS, &answer, err);

	if (!ret) {
		out = json_loadb((char *)answer.data, answer.len, 0, NULL);
		if (!out)
			xcp_error_set(err, -EPROTO,
				      "the daemon of %s gave an answer that is no JSON",
				      entry->mountpoint);
	} else if ((ret == -ECONNREFUSED || ret == -ENOENT) && !mount_is_alive(entry)) {
		xcp_error_set(err, ret,
			      "the daemon of %s is dead; xcpfs umount %s clears the mount away",
			      entry->mountpoint, entry->mountpoint);
	} else if (ret == -ECONNREFUSED || ret == -ENOENT) {
		xcp_error_set(
			err, -ETIMEDOUT,
			"%s is mounted, but its control socket is not found; was XDG_RUNTIME_DIR "
			"another one when it was mounted?",
			entry->mountpoint);
	}
	buf_release(&answer);
	return out;
}

static void print_flat(const char *prefix, const json_t *value)
{
	const char *key;
	json_t *member;

	if (json_is_object(value)) {
		json_object_foreach((json_t *)value, key, member)
		{
			char name[256];

			snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
			print_flat(name, member);
		}
	} else if (json_is_string(value)) {
		printf("%-28s %s\n", prefix, json_string_value(value));
	} else {
		char *text = json_dumps(value, JSON_ENCODE_ANY);

		printf("%-28s %s\n", prefix, json_is_null(value) ? "-" : text ? text : "?");
		free(text);
	}
}

void ask_print(const json_t *answer, bool as_json)
{
	if (as_json) {
		json_dumpf(answer, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
		putchar('\n');
	} else {
		print_flat("", answer);
	}
}
