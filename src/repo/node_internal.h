/*
 * node_internal: the node itself, and how this folder makes nodes. See node.h for what a node is.
 *
 * A node is kept alive by `refs`: one for each lookup that the kernel holds, one for each child,
 * and for a root one of its repo. It is found through its parent's dir, at the number of its
 * entry; its name stays in the parent's tree. So the parent outlives the child, and its dir with
 * it.
 *
 * refs reaches 0 only under the lock of the slot that points to the node, and there the slot is
 * emptied: whoever finds a node in a slot, under that lock, finds it alive.
 *
 * Threads: any.
 */
#ifndef REPO_NODE_INTERNAL_H
#define REPO_NODE_INTERNAL_H

#include <stdbool.h>
#include <sys/queue.h>

#include "repo/dir.h"
#include "repo/inode.h"
#include "repo/node.h"

#define NODE_SIZE_UNKNOWN UINT64_MAX

struct node {
	/* set when made */
	struct repo *repo;	  /* borrowed */
	struct node_table *table; /* borrowed */
	struct node *parent;	  /* holds one of its refs; NULL in a root */
	struct inode_path path;
	uint64_t ino;
	struct oid oid;
	uint32_t index;		     /* of the entry in the parent's dir */
	uint8_t kind;		     /* enum dir_kind */
	_Atomic bool proven;	     /* size is the content's own: relaxed, a value of its own */
	_Atomic bool noted;	     /* a read of it was: repo.c's, relaxed */
	_Atomic bool told;	     /* the kernel heard the size last: blind.c's, relaxed */
	_Atomic uint32_t blind;	     /* blind.c's: reads, and a bit */
	LIST_ENTRY(node) root_entry; /* a root's: under the table's lock */

	_Atomic uint64_t refs; /* see above */
	/*
	 * NODE_SIZE_UNKNOWN, then set once, and once more where the content has another one:
	 * relaxed, a value of its own
	 */
	_Atomic uint64_t size;
	/* owned; NULL, then set once: released with the dir's bytes, acquired to read them */
	_Atomic(struct dir *) dir;
};

static inline bool node_is_dir(const struct node *node)
{
	return node->kind == DIR_TREE || node->kind == DIR_GITLINK;
}

static inline struct dir *node_dir(const struct node *node)
{
	return atomic_load_explicit(&node->dir, memory_order_acquire);
}

static inline uint64_t node_size(const struct node *node)
{
	return atomic_load_explicit(&node->size, memory_order_relaxed);
}

/* A root: lives until node_root_free(). NULL when out of memory. */
struct node *node_root_new(struct node_table *table, struct repo *repo, const struct oid *tree,
			   const struct inode_path *path, uint64_t ino);

/* Frees it and every node below, whatever the kernel still counts. */
void node_root_free(struct node **root);

/* Sizes do not change: what is known already stays. */
void node_set_size(struct node *node, uint64_t size);

/*
 * The size of the content itself, where before a server's word was all there was. False when that
 * was a lie, which somebody may have heard.
 */
bool node_prove_size(struct node *node, uint64_t size);

static inline bool node_size_proven(const struct node *node)
{
	return atomic_load_explicit(&node->proven, memory_order_relaxed);
}

/* The sum of all known sizes. */
uint64_t node_bytes(struct node_table *table);

/* Gives the node its dir, or drops `dir` when it has one already. Returns the node's. */
struct dir *node_set_dir_take(struct node *node, struct dir *dir);

/*
 * The child at `index` of a loaded directory with one more ref; made when it is not there. NULL
 * when out of memory.
 */
struct node *node_child(struct node *parent, uint32_t index);

/* Every node below `root` that is this object, held while `each` is called; no lock is held. */
void node_each_of(struct node *root, const struct oid *oid,
		  void (*each)(void *arg, struct node *node), void *arg);

/* by one who knows it alive; node_forget(..., 1) gives it back */
void node_hold(struct node *node);

#endif
