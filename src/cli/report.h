/*
 * report: a running mount described as JSON: what status and stats show.
 *
 * The man page explains every key. Numbers come from the parts' own snapshot functions; nothing
 * is counted here.
 *
 * Threads: the control thread.
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "base/buf.h"

/*
 * A control_answer_fn; `serve` is a struct serve. Requests: "status", "stats", "file PATH"
 * (percent-escaped, relative to the root).
 */
int report_answer(void *serve, const char *request, struct buf *out);

#endif
