/*
 * mountopt: what stands behind -o.
 *
 * Threads: values; any.
 */
#ifndef MOUNT_MOUNTOPT_H
#define MOUNT_MOUNTOPT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

/* Content never changes: how long the kernel may keep what it was told, unless told otherwise. */
#define MOUNTOPT_TIMEOUT_S (365 * 24 * 3600.0)

struct mountopt {
	bool allow_other; /* or allow_root */
	bool default_permissions;
	bool xattr; /* answer user.xcpfs.* */
	bool open;  /* let the kernel send OPEN and RELEASE */
	/* how long the kernel may keep names, attributes, and that there is no such name */
	double entry_timeout_s, attr_timeout_s, negative_timeout_s;
};

/*
 * Reads a comma separated list; NULL is an empty one. What libfuse and the kernel are to be told is
 * appended to `fuse`, comma separated. -EINVAL with the option's name for one that is unknown,
 * cannot be had here, or has a value that is none.
 */
int mountopt_parse(const char *text, struct mountopt *out, struct buf *fuse, struct xcp_error *err);

/*
 * Appends text so that it is one value in such a list: commas and backslashes escaped, control
 * characters made harmless.
 */
int mountopt_escape(struct buf *out, const char *text);

#endif
