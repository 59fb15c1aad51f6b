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

struct mountopt {
	bool allow_other; /* or allow_root */
	bool default_permissions;
	bool xattr; /* answer user.xcpfs.* */
	bool open;  /* let the kernel send OPEN and RELEASE */
};

/*
 * Reads a comma separated list; NULL is an empty one. What libfuse and the kernel are to be told is
 * appended to `fuse`, comma separated. -EINVAL with the option's name for one that is unknown or
 * cannot be had here.
 */
int mountopt_parse(const char *text, struct mountopt *out, struct buf *fuse, struct xcp_error *err);

/*
 * Appends text so that it is one value in such a list: commas and backslashes escaped, control
 * characters made harmless.
 */
int mountopt_escape(struct buf *out, const char *text);

#endif
