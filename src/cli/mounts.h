/*
 * mounts: the xcpfs mounts of this mount namespace, from /proc/self/mountinfo. A mountpoint is
 * never touched: it may hang.
 *
 * Threads: any; nothing is shared.
 */
#ifndef CLI_MOUNTS_H
#define CLI_MOUNTS_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"

struct mount_entry { /* strings owned */
	char *mountpoint, *source;
	uid_t uid; /* the mounting user, from user_id= */
};
struct mount_list {
	struct mount_entry *v;
	size_t count;
};

/* All of type fuse.xcpfs, in mount order: of two on one mountpoint the later one is on top. */
int mounts_read(struct mount_list *out, struct xcp_error *err);
int mounts_parse(FILE *mountinfo,
		 struct mount_list *out); /* the same from any text of that form; -ENOMEM */
void mounts_release(struct mount_list *list);

/*
 * The topmost mount exactly at `path`, or (mounts_containing) the one that `path` is in. NULL
 * when there is none. Borrowed.
 */
const struct mount_entry *mounts_at(const struct mount_list *list, const char *path);
const struct mount_entry *mounts_containing(const struct mount_list *list, const char *path);

/*
 * `path` made absolute, with symbolic links followed, without touching what is mounted: as soon
 * as it is found to lie in a mount of the list, nothing more is looked at. The caller frees.
 * NULL: the error is in err.
 */
char *mounts_resolve(const struct mount_list *list, const char *path, struct xcp_error *err);

#endif
