/*
 * fill: brings the rest of a mount's small files in the background (--fill).
 *
 *	fill_start ---> when nothing else goes on: piece after piece of the tree ---> fill_stop
 *
 * A piece is a subtree of at most a thousand files, or the own files of a directory that has more
 * below it. It waits until the line has been idle for a second, gives way to the first reader,
 * rests between two pieces as long as the last one took, and gives a piece up after three tries.
 * Large files stay where they are.
 *
 * Threads: one of its own. fill_start() and fill_stop(): the one that opens and closes the repo.
 */
#ifndef REPO_FILL_H
#define REPO_FILL_H

#include "repo/repo.h"

struct fill;

/* The repo and its fetch outlive it. 0, -ENOMEM or why there is no thread. */
int fill_start(struct repo *repo, struct fill **out);
void fill_stop(struct fill **fill); /* NULL inside is fine */

#endif
