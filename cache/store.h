/*
 * store: one cache directory, opened: its locks, its index, its segments.
 *
 *	DIR/v1/open.lock	flock: held while somebody opens, throws away or clears
 *	DIR/v1/write.lock	flock: held around every commit to any index; taken before
 *				LMDB's own, because a wait for that one has no end
 *				when its holder is stopped
 *	DIR/v1/claims		who fetches what (claims.h)
 *	DIR/v1/index/		LMDB's files, and:
 *		use		flock, shared by those who have this index open; names their
 *				PID namespace
 *		state		the boot it was last written under, and whether it was synced
 *	DIR/v1/index.N/		the same, for another PID namespace at the same time
 *	DIR/v1/segments/	see segment.h
 *	DIR/v1/tmp/		nothing that must survive; trash-* waits to be removed
 *
 * PID namespaces. LMDB tells processes apart by their ids, so one environment serves one PID
 * namespace at a time. A namespace takes the first index that is its own or that nobody uses;
 * so containers that come one after the other find what the earlier ones left.
 *
 * Durability. Nothing is synced when it is written; kill -9 loses nothing of it, as the kernel
 * has the pages. A crash of the machine may leave an index of mixed pages, which nothing would
 * notice. So `state` says dirty, on disk, before the first commit, and clean after a sync at
 * the end. Dirty under another boot: the index is thrown away, and made again from the segments
 * (rebuild.h). These are not synced at all: each record carries its own checks.
 *
 * Another version lives in v2/ beside this one; neither looks at the other.
 *
 *	store_open ---> store_ref/unref ---> last unref closes
 *
 * Threads: any may read through ->index and ->segments while it holds a reference. The
 * functions that take the write lock: one thread.
 */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cache/claims.h"
#include "cache/dictionary.h"
#include "cache/index.h"
#include "cache/segment.h"

#define STORE_VERSION_DIR "v1"
#define STORE_LOCK_WAIT_MS 1000

struct store {
	_Atomic unsigned refs;
	char *path; /* DIR/v1; owned, as all below */
	int v1_fd, segments_fd, tmp_fd;
	int write_lock_fd;
	int use_fd; /* holds the shared flock */
	int index_fd;
	char index_name[16];
	struct index *index;
	struct segments *segments;
	struct dictionaries *dictionaries;
	struct claims *claims; /* NULL: none can be made */
	/* owned by the writer */
	bool wrote; /* the index, since it was opened */
};

struct store_config {
	const char *dir;
	const char *unwanted; /* the name of an index that is thrown away first; or NULL */
	const char *why;      /* it is: "it is damaged", found while in use */
	size_t index_max_len; /* 0: see index_open() */
};

int store_open(const struct store_config *config, struct store **out, struct xcp_error *err);
void store_unref(struct store *store); /* NULL is fine */
static inline struct store *store_ref(struct store *store)
{
	atomic_fetch_add_explicit(&store->refs, 1, memory_order_relaxed);
	return store;
}

/* 0, or -ESTALE when the directory, or a part of it, was removed or replaced meanwhile. */
int store_check(const struct store *store);

/* Waits up to STORE_LOCK_WAIT_MS: -EAGAIN then. */
int store_write_lock(struct store *store, struct xcp_error *err);
void store_write_unlock(struct store *store);

/* Before a commit, under the write lock: makes sure that the disk says dirty. */
int store_mark_dirty(struct store *store, struct xcp_error *err);

/*
 * At the end, when nobody else has this index open: makes it smaller where that is worth it, syncs
 * it and says so. Otherwise does nothing. Afterwards the store may only be unreferenced.
 */
void store_mark_clean(struct store *store);

/* What was committed so far is on stable storage. Any thread; waits for the disk. */
int store_sync(const struct store *store, struct xcp_error *err);

/* An unlinked file in tmp/. fd or -errno. */
int store_tmpfile(const struct store *store);

/* Removes one thing of what was thrown away. True when there is more. */
bool store_trash_step(int tmp_fd);

/* ---- parts that looking and clearing share ---- */

/* A folder in a folder, not behind a link; NULL with errno set. closedir() is the caller's. */
DIR *dir_open(int dir_fd, const char *name);

/* flock(2) with an end: -EAGAIN after wait_ms. */
int flock_wait(int fd, int operation, unsigned wait_ms);

/*
 * Puts `name` of the version directory into tmp/, under a name that is trash. -ENOENT when it
 * is not there.
 */
int store_throw_away(int v1_fd, const char *name);

/* The names an index may have, in the order they are tried. */
#define STORE_INDEX_COUNT 16
void store_index_name(unsigned i, char out[16]);

#endif
