/*
 * ask: what status and stats have in common: asking a running mount, and showing the answer.
 *
 * Threads: the main thread.
 */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "cli/mounts.h"
#include "cli/verb.h"

/* Options: --json and --help. */
extern const struct option_row ask_rows[];
int ask_take_option(void *want_json, const char *name, const char *value);

/*
 * One question to the daemon of a mount; a new reference, NULL with err set. A dead daemon's
 * error says how to clear it away.
 */
json_t *ask_mount(const struct mount_entry *entry, const char *request, struct xcp_error *err);

/* As one line of JSON, or as "name value" lines with dots between levels. */
void ask_print(const json_t *answer, bool as_json);

#endif
