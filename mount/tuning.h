/*
 * tuning: what the kernel lets be read and set about a mount outside of the FUSE protocol.
 *
 * Threads: any. All of it is best effort; nothing fails loudly.
 */
#ifndef MOUNT_TUNING_H
#define MOUNT_TUNING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * After how long the kernel aborts a connection that leaves a request unanswered, in ms; 0: never,
 * or it does not know such a thing (fs.fuse.default_request_timeout and max_request_timeout, in
 * seconds below `sysctl_dir`; NULL: /proc/sys/fs/fuse).
 */
uint64_t tuning_request_timeout_ms(const char *sysctl_dir);

/* Raises the read-ahead of a mounted device; only root may. Returns 0 or -errno. */
int tuning_read_ahead(dev_t dev, unsigned kib);

/*
 * Which mount is on top at a place. Ids are unique since Linux 6.8; before, a number may come again
 * once its mount is gone.
 */
struct mount_id {
	dev_t dev;
	uint64_t id;
};

/*
 * Does not ask the mounted file system anything, so it never hangs. -errno when it cannot be found
 * out.
 */
int tuning_mount_id(const char *mountpoint, struct mount_id *out);

#endif
