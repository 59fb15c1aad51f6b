/*
 * again: what is likely to be read of a commit because it was read of the one before.
 *
 * Who goes from one commit to the next mostly reads the same files again. Those that did not change
 * are here; those that did are asked for together, with the first of them that is missed: one
 * request, and nothing that was not read before.
 *
 *	again_new (the commit before, and what was read of it) ---> again_claim at each miss,
 *	again_note at each first read ---> again_save at the end ---> again_free
 *
 * Which files those are is found at the first miss, by comparing trees, no further than what
 * differs. What was read is a fact, written when the repo is closed. Where a kill left none,
 * whatever is here of the commit before counts as read.
 *
 * Threads: any, again_claim(), again_note() and again_save(); the others one. May wait on disk, never on the
 * network; no lock is held meanwhile.
 */
#ifndef REPO_AGAIN_H
#define REPO_AGAIN_H

#include <stdbool.h>

#include "base/oid.h"
#include "fetch/fetch.h"

struct again;

/*
 * `last`: the commit that was mounted before this one; a null oid: none. The fetch is borrowed.
 * NULL: out of memory.
 */
struct again *again_new(struct fetch *fetch, const struct oid *last, const struct oid *commit,
			const struct oid *tree);
void again_free(struct again **again);

/*
 * The content of `oid` is not here. True once, when it is one of those: `out` gets all of them. The
 * caller releases it.
 */
bool again_claim(struct again *again, const struct oid *oid, struct fetch_list *out);

/* A small file was read, for the first time since its node was made. */
void again_note(struct again *again, const struct oid *oid);

/* Writes down what was read so far. */
void again_save(struct again *again);

#endif
