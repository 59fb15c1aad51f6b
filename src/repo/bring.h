/*
 * bring: fetching and waiting for it, while a mount is being made.
 *
 * Threads: the one that opens the repo. Waits for the network, at most as long as fetch's patience.
 */
#ifndef REPO_BRING_H
#define REPO_BRING_H

#include "base/error.h"
#include "fetch/fetch.h"

#define BRING_TREE_MAX_LEN ((size_t)1 << 30)

/*
 * One object as the caller's reference. Failures are said in words that name the object as
 * `what`.
 */
int bring_object(struct fetch *fetch, const struct oid *oid, enum object_type type,
		 const char *what, struct content **out, struct xcp_error *err);

/* A commit (or whatever the id turns out to be), and all its trees on their way. */
int bring_commit(struct fetch *fetch, const struct oid *oid, const char *what, struct content **out,
		 struct xcp_error *err);

#endif
