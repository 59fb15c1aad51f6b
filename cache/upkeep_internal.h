/*
 * upkeep_internal: what upkeep.c and upkeep_objects.c share.
 *
 * Threads: one.
 */
#ifndef CACHE_UPKEEP_INTERNAL_H
#define CACHE_UPKEEP_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cache/store.h"
#include "cache/upkeep.h"

/* -ENOENT when there is no cache; `anew`: without the index that is there. */
int upkeep_open(const char *dir, bool anew, struct store **out, struct xcp_error *err);

/* The write lock, with the disk saying that the index is being changed. */
int upkeep_lock(struct store *store, struct xcp_error *err);

/* What the segments have and the index does not: after a crash everything, else next to nothing. */
int upkeep_rebuild(struct store *store, const struct upkeep_progress *progress,
		   struct upkeep_verified *out, struct xcp_error *err);

/* Of the whole directory, as du counts. */
uint64_t upkeep_disk_len(const struct store *store);

#endif
