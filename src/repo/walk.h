/*
 * walk: company for a want: what a reader of this file is likely to ask for next.
 *
 * The order is a crawler's. First the files of the want's own directory, from the want on and
 * then those before it, the nearest first. Then, where the budget allows to leave the directory, what a walk in the
 * order of readdir comes to next: the directories below, then those behind on each level up. Then
 * the rest of the tree from its beginning.
 *
 * Only trees that are here are looked into. A walk ends when the budget is full, or when it has
 * passed some thousands of things that need no asking. A repo remembers the stretch of the tree
 * that was walked last, for sizes and for contents, so that a want inside it goes on where that
 * walk ended.
 *
 * Threads: any.
 */
#ifndef REPO_WALK_H
#define REPO_WALK_H

#include "fetch/fetch.h"

struct node;

struct walk_memory;
struct walk_memory *walk_memory_new(void); /* NULL when out of memory */
void walk_memory_free(struct walk_memory **memory);

/* One gathering; on the stack of the one that wants. */
struct walk {
	struct fetch *fetch;	    /* borrowed */
	struct walk_memory *memory; /* borrowed */
	/* borrowed: the file or link that is wanted, in a loaded directory */
	struct node *node;
	/*
	 * Owned; of links, when sizes are gathered: who asks how long a link is reads it next, and
	 * what it says tells its size.
	 */
	struct fetch_list links;
};

/* gather(), tree(), count() and children() of fetch_company; `arg` is a struct walk. */
int walk_gather(void *arg, const struct fetch_budget *budget, struct fetch_list *out);
int walk_tree(void *arg, unsigned up, struct oid *out);
size_t walk_count(void *arg, unsigned up, size_t max, size_t *out_missing);
int walk_children(void *arg, unsigned up, struct fetch_list *out);

#endif
