/*
 * step: from a commit that is here to the next one: what did not change need not come again.
 *
 * The last commit that was mounted is remembered. When another one is to be brought, fetch is told
 * of it: the server then sends what changed, as deltas against what is here. Where all small files
 * of the old commit are here the new ones come along with the trees; otherwise only trees do.
 *
 * Threads: the one that opens the repo.
 */
#ifndef REPO_STEP_H
#define REPO_STEP_H

#include <stdbool.h>

#include "base/oid.h"
#include "fetch/fetch.h"

/* Before fetch_commit(). Does nothing when `commit` is here, or nothing else is. */
void step_prepare(struct fetch *fetch, const struct oid *commit);

/* The commit that was mounted last; false: nobody knows. */
bool step_last(struct fetch *fetch, struct oid *out);

/* When the commit has been mounted. */
void step_remember(struct fetch *fetch, const struct oid *commit);

#endif
