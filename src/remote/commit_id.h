/*
 * commit_id: which commit an abbreviated id is short for, from the API of the host: git's protocol
 * knows whole ones only. One row per kind of host that can be asked.
 *
 * Threads: any but the network thread; remote_find_commit() (remote.h) waits.
 */
#ifndef REMOTE_COMMIT_ID_H
#define REMOTE_COMMIT_ID_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/oid.h"

struct remote_call;

#define COMMIT_ANSWER_MAX_LEN ((size_t)4 << 20) /* some show what was changed, too */

struct commit_parser {
	struct buf text;
	struct oid *out; /* borrowed; filled before a good done() */
	bool whole;
};

int commit_id_feed(struct commit_parser *parser, const uint8_t *data, size_t len,
		   struct xcp_error *err);

#endif
