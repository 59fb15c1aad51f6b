/*
 * identity: what a mount of a commit shows besides its content, the same at every mount.
 *
 * Threads: the one that opens the repo.
 */
#ifndef REPO_IDENTITY_H
#define REPO_IDENTITY_H

#include <stdint.h>

#include "base/oid.h"
#include "fetch/fetch.h"
#include "git/object.h"

/*
 * The modification time of every node of the commit: its own time, but no later than its first
 * mount here and no earlier than 1. It is kept from then on: a clock that goes wrong later
 * changes nothing.
 */
int64_t identity_mtime(struct fetch *fetch, const struct oid *commit, const struct commit *parsed);

#endif
