/*
 * dir: a directory's tree, ready to be searched and listed.
 *
 * The names stay in the tree's own block, which is kept by reference; next to it is a small entry
 * per name in the tree's order, and where that is not the order of bytes (git sorts directories
 * as if "/" followed) an index that is. Names that must not be shown are left out; of a name that
 * comes twice the first counts.
 *
 *	dir_new ---> numbers filled in ---> published: only read, but for the children ---> dir_free
 *
 * Threads: any once published; `children` is node.c's, under its locks.
 */
#ifndef REPO_DIR_H
#define REPO_DIR_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/block.h"
#include "base/oid.h"

struct node;

enum dir_kind { DIR_FILE, DIR_EXEC, DIR_LINK, DIR_TREE, DIR_GITLINK };

struct dir_entry {
	uint64_t ino;
	uint32_t name_off; /* in the block; a NUL and the object's id follow the name */
	uint8_t name_len;
	uint8_t kind; /* enum dir_kind */
};

struct dir {
	struct block *block; /* shared; NULL: a directory without a tree, which is empty */
	enum oid_algo algo;
	size_t count;
	struct dir_entry *v; /* in the tree's order */
	/* numbers of entries in the order of bytes; NULL when v is in that order */
	uint32_t *by_name;
	struct node **children; /* of each entry, or NULL; borrowed */
	/* the number of the last listing of it, 0: none; a hint, relaxed */
	_Atomic uint32_t listed;
};

/*
 * Takes its own reference to the tree's bytes. -EPROTO for what is no tree, -EFBIG for 4 GiB or
 * more, -ENOMEM.
 */
int dir_new(struct block *block, enum oid_algo algo, struct dir **out);
void dir_free(struct dir *dir); /* NULL is fine */

static inline const char *dir_name(const struct dir *dir, size_t index)
{
	return (const char *)dir->block->data + dir->v[index].name_off;
}
struct oid dir_oid(const struct dir *dir, size_t index);

/* The entry's number, or -ENOENT. */
ssize_t dir_find(const struct dir *dir, const char *name, size_t name_len);

/* Type and permission bits of a kind. */
uint32_t dir_kind_mode(enum dir_kind kind);

#endif
