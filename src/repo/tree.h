/*
 * tree: trees that are here, as bytes; for those who look at many of them.
 *
 * Threads: any. Never waits for the network; may wait on disk.
 */
#ifndef REPO_TREE_H
#define REPO_TREE_H

#include "base/block.h"
#include "fetch/fetch.h"
#include "git/object.h"

#define TREE_DEPTH_MAX 100u /* nothing deeper is looked at: longer paths cannot be named */

static inline bool tree_mode_is_file(enum tree_mode mode)
{
	return mode == TREE_MODE_FILE || mode == TREE_MODE_EXEC || mode == TREE_MODE_LINK;
}

/* A counted reference; NULL when it is not here, or no tree. */
struct block *tree_block(struct fetch *fetch, const struct oid *oid);

/* The tree of a commit that is here: 0, or a negative errno. */
int tree_of_commit(struct fetch *fetch, const struct oid *commit, struct oid *out);

/*
 * Files and links in it and below, as far as trees are here; counted no further than `max`. With so
 * many trees it is `max` too: a tree may be in others twice, they twice in others, and so on, and
 * looking at all paths would never end. *out_missing (may be NULL): about how many of the files are
 * not here, from a sample.
 */
size_t tree_count_files(struct fetch *fetch, const struct oid *oid, size_t max,
			size_t *out_missing);

#endif
