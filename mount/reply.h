/*
 * reply: how what happened is told to the kernel: errnos, attributes, time to live.
 *
 * Content never changes, so everything that is known is told for a year, or for as long as -o says.
 * A size that is not known is told for no time at all and as REPO_SIZE_PLACEHOLDER, never as known.
 *
 * Threads: any.
 */
#ifndef MOUNT_REPLY_H
#define MOUNT_REPLY_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "mount/op.h"

/*
 * What an operation returned, as the errno (positive) that the kernel is told. What a reader cannot
 * do anything about (the network, the remote, damaged bytes) is EIO. ENOENT stays only for a
 * lookup: anywhere else it would say that a file which is there is not.
 */
int reply_errno(enum session_op op, int status);

/*
 * The same for the end of a wait: nothing that a remote says is a fact about a name, and the kernel
 * would keep an ENOENT for a year.
 */
int reply_wait_status(int status);

void reply_stat(const struct session *session, const struct repo_attr *attr, struct stat *out);

/* The entry of a node, with the times to live that its size allows. */
void reply_entry_param(const struct session *session, struct node *node,
		       const struct repo_attr *attr, struct fuse_entry_param *out);

/*
 * Each of these ends the request and its clock. Those that hand the kernel a lookup take it back
 * when the reply did not arrive.
 */
void reply_error(struct op *op, int kernel_errno);  /* 0: done, and nothing to say */
void reply_found(struct op *op, struct node *node); /* takes over the node's lookup count */
void reply_missing(struct op *op);		    /* no such name, kept as a negative entry */
void reply_attr(struct op *op, const struct repo_attr *attr);
void reply_open(struct op *op, const struct fuse_file_info *file);
void reply_statfs(struct op *op, const struct statvfs *st);
void reply_spans(struct op *op, struct spans *spans);	     /* gives the spans back */
int reply_data(struct op *op, const void *data, size_t len); /* -errno: it did not arrive */
void reply_xattr(struct op *op, const char *value, size_t value_len);
void reply_none(struct op *op); /* to a FORGET */

/* What the kernel knows of the op's node is wrong: it is to ask again. Before the reply. */
void reply_forget_attr(struct op *op);

#endif
