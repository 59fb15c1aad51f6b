/*
 * near: names to offer to a person who wrote one that does not exist.
 *
 * Threads: any; no state.
 */
#ifndef REPO_NEAR_H
#define REPO_NEAR_H

#include <stddef.h>

struct ref_list;

/*
 * Writes the branches and tags of `list` that are like `name`, best first, or all when there are
 * few, as "main, v1.0 or next" into out (cut to whole names; "" when nothing is like it). Without
 * their "refs/heads/" and "refs/tags/".
 */
void near_list(const struct ref_list *list, const char *name, char *out, size_t out_len);

#endif
