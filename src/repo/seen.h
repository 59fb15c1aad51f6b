/*
 * seen: the ids that were come by, where the same may come again.
 *
 *	{ 0 } ---> seen_add ... ---> seen_release
 *
 * Kept by the beginnings of ids: two that share 64 bits are taken for one, so it is for things that
 * may be passed over in error.
 *
 * Threads: none; the caller serializes.
 */
#ifndef REPO_SEEN_H
#define REPO_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/oid.h"

struct seen {
	uint64_t *v; /* owned; 0: free */
	size_t count, cap;
};

/* 1: it is new; 0: it was there; -ENOMEM. */
int seen_add(struct seen *seen, const struct oid *oid);
bool seen_has(const struct seen *seen, const struct oid *oid);
void seen_release(struct seen *seen);

#endif
