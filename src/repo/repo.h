/*
 * repo: one mounted commit: names, inodes, attributes and bytes.
 *
 *	repo_open: ref -> commit -> root tree (waits; main thread)
 *	          ---> nodes (node.h) are looked up, read, forgotten ... ---> repo_save, repo_close
 *
 * Nothing here waits for the network after repo_open(): an operation answers, fails, or parks. To
 * park it takes a repo_wait that the caller embeds next to its request; when the thing has come,
 * wake() is called and the caller asks again with the same repo_wait, which now holds what came,
 * so that progress is made even when the cache keeps nothing.
 *
 *	repo_X(..., wait) == REPO_PARKED ---> wake(wait, 0): call repo_X(..., wait) again,
 *	                                 |    which ends, or parks once more
 *	                                 \-> wake(wait, -errno): answer that
 *	                                 \-> repo_wait_cancel() true: nobody will call; answer EINTR
 *
 * `wait` may be NULL: then an operation that would park returns -EAGAIN instead, with nothing
 * asked for.
 *
 * A repo_wait that was handed in belongs to repo from REPO_PARKED on: wake() may run in another
 * thread before repo_X() has returned, so repo_X() does not touch it after it was registered.
 *
 * The node table holds several repositories and generations: a node knows its repo; numbers are
 * unique in the whole table.
 *
 * Threads: any, after repo_open(). No lock is held while anything waits or is called back.
 */
#ifndef REPO_REPO_H
#define REPO_REPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/content.h"
#include "base/error.h"
#include "fetch/fetch.h"
#include "remote/remote.h"
#include "repo/blind.h"

#define REPO_PARKED 1

struct repo;
struct node;
struct node_table;

/* ---- open and close ---- */

struct repo_config {
	struct fetch *fetch;	     /* borrowed, outlives the repo */
	struct remote *remote;	     /* borrowed; for resolving the ref; NULL with offline */
	const struct source *source; /* borrowed, outlives the repo */
	const char *subdir;	     /* NULL: the whole tree; "a/b" */
	bool offline;		     /* take the last known commit, ask nobody */
	struct node_table *nodes;    /* borrowed, outlives the repo */
};

/* What came of the ref. */
struct repo_identity {
	struct oid commit, tree; /* tree: the root's, not the subdir's */
	/* of every node: the commit's time, clamped to [1, first mount], kept for good */
	int64_t mtime_s;
	bool from_cache;    /* the remote did not answer (or offline): the last known commit */
	int64_t resolved_s; /* when the ref was last resolved */
};

/*
 * Resolves the ref, brings the commit, and returns as soon as the tree to be shown can be listed;
 * deeper trees may still be on their way. A ref that was resolved before and a remote that does
 * not answer: the last known commit, with from_cache set. Errors a person reads: no such ref
 * (with what there is, if few), ref names no commit, no such subdir, the remote's own.
 */
int repo_open(const struct repo_config *config, struct repo **out, struct xcp_error *err);
/* Writes down what the next mount is to know, while the fetch is open. Readers may be about. */
void repo_save(struct repo *repo);
void repo_close(struct repo **repo); /* every node must be gone or forgotten with the session */

const struct repo_identity *repo_identity(const struct repo *repo);
struct fetch *repo_fetch(const struct repo *repo);

/* ---- waiting ---- */

struct repo_wait {
	void (*wake)(struct repo_wait *wait, int status);

	/* the rest belongs to repo */
	struct fetch_waiter waiter;
	struct fetch *fetch;
	struct content *content; /* owned: what came */
	struct oid sized;	 /* whose size came; null */
	uint64_t size;
	struct blind_wait blind;
	bool canceled;
};
void repo_wait_init(struct repo_wait *wait, struct repo *repo,
		    void (*wake)(struct repo_wait *, int status));

/*
 * Ends a wait early. True: wake() will not be called. False: it was, or is being called. Not while
 * repo_X() runs with it; before, it returns true, and repo_X() -ECANCELED where it would park.
 */
bool repo_wait_cancel(struct repo_wait *wait);

/*
 * Gives back what came; not while parked. After the request's reply was sent, even one that failed:
 * those that were parked until then (blind.h) are woken by this call.
 */
void repo_wait_release(struct repo_wait *wait);

/* ---- nodes: see node.h for the struct and its life ---- */

struct node *repo_root(struct repo *repo); /* a borrowed node that lives as long as the repo */

struct repo_attr {
	uint64_t ino;
	uint32_t mode; /* type and permission bits: 040755, 0100644, 0100755, 0120777 */
	uint64_t size; /* a directory's is 0 */
	/* false: size is the placeholder REPO_SIZE_PLACEHOLDER and must not be kept */
	bool size_known;
	int64_t mtime_s;
};
#define REPO_SIZE_PLACEHOLDER (1ull << 50)

/* What is known now: never parks. */
void repo_attr_now(struct repo *repo, struct node *node, struct repo_attr *out);

/*
 * The same for LOOKUP and READDIRPLUS, which tell it to the kernel: the size of a file that is
 * being read blindly (blind.h) is not known to them.
 */
void repo_attr_tell(struct repo *repo, struct node *node, struct repo_attr *out);

/* For GETATTR. Parks until the size is known, and no blind read of the file waits. */
int repo_getattr(struct repo *repo, struct node *node, struct repo_wait *wait,
		 struct repo_attr *out);

/*
 * Parks only while the directory's tree is not here. On 0 *out has one more lookup count
 * (node_forget()). -ENOENT, -ENOTDIR, -ENAMETOOLONG.
 */
int repo_lookup(struct repo *repo, struct node *dir, const char *name, struct repo_wait *wait,
		struct node **out);

/* Makes sure that the directory's entries are in memory (they stay while the node lives). */
int repo_dir_load(struct repo *repo, struct node *dir, struct repo_wait *wait);

/*
 * A reader begins to list a loaded directory: what is asked for in it next is likely to be part of
 * a walk. Never needed for what is right.
 */
void repo_dir_listed(struct repo *repo, struct node *dir);

struct repo_dirent {
	const char *name; /* borrowed while the node lives */
	uint32_t mode;	  /* type bits */
	uint64_t ino;
};
/*
 * Entry `index` of a loaded directory, in the tree's order, refused names left out; -ENOENT
 * behind the end. "." and ".." are the caller's.
 */
int repo_dirent(struct repo *repo, struct node *dir, size_t index, struct repo_dirent *out);
/*
 * The node of entry `index` with one more lookup count, for READDIRPLUS. NULL when out of memory
 * or behind the end.
 */
struct node *repo_dirent_node(struct repo *repo, struct node *dir, size_t index);

/* The directory that `node` is in, borrowed while `node` lives; the root's is itself. For "..". */
struct node *repo_parent(struct repo *repo, struct node *node);

/*
 * Bytes of a file; len at most 1 MiB. Cut at the end; empty behind it. -EISDIR, -EINVAL for a
 * link. -ESTALE once, when it turns out that the size that was given out is wrong (a server lied
 * about it): from now on the right one is.
 */
int repo_read(struct repo *repo, struct node *node, uint64_t off, size_t len,
	      struct repo_wait *wait, struct spans *out);

/*
 * The link's target as a block; -EINVAL for what is no link, -ENAMETOOLONG for one longer than
 * 4,095 bytes, -EIO for one with a NUL, -ESTALE as above.
 */
int repo_readlink(struct repo *repo, struct node *node, struct repo_wait *wait, struct block **out);

/* For status FILE and xattrs. */
struct repo_origin {
	struct oid oid; /* of the blob, tree or gitlink's commit */
	bool cached;	/* content is here */
};
void repo_origin(struct repo *repo, struct node *node, struct repo_origin *out);
/* The path from the mount's root, "" for it. Appends to out. */
int repo_path(struct repo *repo, struct node *node, struct buf *out);

/*
 * After fetch's word that bytes of this blob were wrong: calls `drop` with every node of it, held
 * meanwhile; till then reads of it fail with -EBADMSG. Waits as long as `drop` does.
 */
void repo_withdraw(struct repo *repo, const struct oid *oid,
		   void (*drop)(void *arg, struct node *node), void *arg);

/* Totals for statfs: files and bytes known; never waits. */
struct repo_totals {
	uint64_t nodes, bytes_known;
};
void repo_totals(struct repo *repo, struct repo_totals *out);

#endif
