/*
 * object: commits, tags and trees as values. Source: git's Documentation (gitformat-commit is
 * informal: git-cat-file, git-commit-tree), fsck.c for what is rejected.
 *
 * All parsers look at borrowed bytes; nothing is allocated; what they return points into those
 * bytes.
 *
 * Threads: any.
 */
#ifndef GIT_OBJECT_H
#define GIT_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/content.h"
#include "base/oid.h"

struct commit {
	struct oid tree;
	int64_t time; /* committer's, seconds since 1970; 0 when it cannot be read */
};
/* -EPROTO for anything without a tree line of the right length. */
int commit_parse(enum oid_algo algo, const uint8_t *data, size_t len, struct commit *out);

struct tag {
	struct oid object;
	enum object_type type;
};
int tag_parse(enum oid_algo algo, const uint8_t *data, size_t len, struct tag *out);

/* Modes as git stores them, already made canonical: 0100664 reads as 0100644. */
enum tree_mode {
	TREE_MODE_DIR = 0040000,
	TREE_MODE_FILE = 0100644,
	TREE_MODE_EXEC = 0100755,
	TREE_MODE_LINK = 0120000,
	TREE_MODE_GITLINK = 0160000,
};

struct tree_entry {
	enum tree_mode mode;
	const char *name; /* borrowed; the tree's own NUL follows it */
	size_t name_len;
	struct oid oid;
};

/*
 * Walks the entries in the tree's own order, which a hostile tree may have wrong, with names that
 * come twice or must be refused (tree_name_refused). Returns 1 and fills out, 0 at the end,
 * -EPROTO.
 */
struct tree_cursor {
	enum oid_algo algo;
	const uint8_t *data;
	size_t len, off;
};
void tree_cursor_init(struct tree_cursor *cursor, enum oid_algo algo, const uint8_t *data,
		      size_t len);
int tree_next(struct tree_cursor *cursor, struct tree_entry *out);

/*
 * Names that must never be shown: empty, ".", "..", with '/', longer than 255 bytes, and ".git" in
 * every spelling that git rejects (any case; NTFS: "git~1", trailing dots, spaces and ":stream";
 * HFS+: with ignorable code points in it). Source: git's path.c and utf8.c (verify_dotfile,
 * is_ntfs_dotgit, is_hfs_dotgit).
 */
bool tree_name_refused(const char *name, size_t name_len);

#endif
