/*
 * ops: the kernel's requests, each as a call of repo and a reply.
 *
 * Threads: libfuse calls the operations from its workers. None waits for the network: what must is
 * parked.
 */
#ifndef MOUNT_OPS_H
#define MOUNT_OPS_H

#include "mount/mountopt.h"
#include "mount/op.h"

/* The table for fuse_session_new(), whose user data must be the struct session. */
void ops_fill(const struct mountopt *options, struct fuse_lowlevel_ops *out);

#endif
