/*
 * pinning: parts of repositories that the cache is to keep. A pin is called by three lines: the
 * source's identity, so that it is the same however the source is written; the ref; the path, empty
 * for everything.
 *
 * All of these open the cache directory for themselves, and none asks the remote.
 *
 * Threads: the main thread.
 */
#ifndef CLI_PINNING_H
#define CLI_PINNING_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "cache/upkeep.h"
#include "cli/settings.h"
#include "remote/source.h"

struct pinning {
	const struct settings *settings; /* borrowed, as all below */
	const struct source *source;
	const char *subdir;	  /* PATHs are below it; NULL: the root */
	const char *const *paths; /* count 0: everything */
	size_t path_count;
};

/* One pin for each path. *out is the sum. */
int pinning_pin(const struct pinning *pinning, struct upkeep_pinned *out, struct xcp_error *err);

json_t *pinning_describe(const struct upkeep_pinned *pinned); /* a new reference */

/* Without a ref all refs, without a path all paths. *out_count: how many; -ENOENT for none. */
int pinning_unpin(const struct pinning *pinning, unsigned *out_count, struct xcp_error *err);

/* An array with an object for each; a new reference, NULL with err set. */
json_t *pinning_list(const char *cache_dir, struct xcp_error *err);

/* SUBDIR/PATH without empty parts; the caller frees. NULL when out of memory. */
char *pinning_path(const char *subdir, const char *path);

#endif
