/*
 * inode: st_ino of a path: a hash of it, the same at every mount.
 *
 * A path's fingerprint is made name by name from the repository's root down, so that a child's
 * costs its name's length, whatever the depth. The number is the low 48 bits of it (overlayfs
 * keeps the bits above for itself). Two paths with one number are told apart by the rest of the
 * fingerprint: the one that comes second gets another number, and is an exception, which its
 * owner keeps as a fact and loads at the next mount before anything else.
 *
 *	inode_table_new ---> inode_table_load (what is remembered) ---> inode_assign ...
 *	                ---> inode_table_save when inode_table_changes() moved
 *
 * What cannot be kept: which of two colliding paths was met first, when an earlier mount met only
 * one of them. In 100,000 files two collide once in 50,000 repositories.
 *
 * Threads: any, after inode_table_load().
 */
#ifndef REPO_INODE_H
#define REPO_INODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define INODE_BITS 48

struct inode_path {
	uint64_t hash;	/* gives the number */
	uint64_t check; /* an independent hash, which tells two paths of one number apart */
};

struct inode_path inode_path_root(void); /* of the repository, whatever part of it is mounted */
struct inode_path inode_path_child(const struct inode_path *parent, const char *name,
				   size_t name_len);

struct inode_table;
/* INODE_BITS, fewer in tests; NULL when out of memory */
struct inode_table *inode_table_new(unsigned bits);
void inode_table_free(struct inode_table **table);

/*
 * Adds exceptions that inode_table_save() wrote. A line that cannot be read, or says what cannot
 * be, is passed over.
 */
int inode_table_load(struct inode_table *table, const char *text, size_t len);

/* Appends all exceptions. */
int inode_table_save(struct inode_table *table, struct buf *out);

/* Grows with every exception that inode_assign() made. */
uint64_t inode_table_changes(struct inode_table *table);

/* The path's number, the same whenever it is asked for; never 0 or 1. -ENOMEM. */
int inode_assign(struct inode_table *table, const struct inode_path *path, uint64_t *out);

uint64_t inode_count(struct inode_table *table); /* paths that have one */

#endif
