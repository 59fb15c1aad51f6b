/*
 * repo_internal: the repo itself, and what opening one shares with its operations.
 *
 * Threads: any, after repo_open().
 */
#ifndef REPO_REPO_INTERNAL_H
#define REPO_REPO_INTERNAL_H

#include <stdatomic.h>

#include "base/log.h"
#include "repo/again.h"
#include "repo/blind.h"
#include "repo/inode.h"
#include "repo/node_internal.h"
#include "repo/repo.h"
#include "repo/walk.h"

#define TREE_MAX_LEN ((size_t)1 << 30)

struct repo {
	/* set by repo_open() */
	struct fetch *fetch;	  /* borrowed */
	struct node_table *nodes; /* borrowed */
	struct repo_identity identity;
	char *subdir; /* owned: "a/b", "" for the whole tree */
	struct node *root;
	struct inode_table *inodes;
	struct walk_memory *walks;
	struct again *again;
	struct blind_table blind;
	_Atomic uint32_t listings; /* so many directories were listed; a hint, relaxed */

	_Atomic uint64_t inodes_kept; /* inode_table_changes() of what was written last */
	atomic_flag keeping;	      /* one thread writes */
	struct log_limit misnamed;    /* lines about entries of the wrong type */
};

/*
 * Makes the node's dir out of its tree, which must be `content`. -EBADMSG when that is no tree,
 * otherwise as dir_new().
 */
int repo_dir_make(struct repo *repo, struct node *node, struct content *content);

/* The exceptions among inode numbers, kept as a fact. */
int repo_inodes_load(struct repo *repo);

#endif
