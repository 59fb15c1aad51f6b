/*
 * detach: taking a mount away, whether its daemon lives or not.
 *
 * Threads: the main thread of a command; nothing here touches what is mounted.
 */
#ifndef CLI_DETACH_H
#define CLI_DETACH_H

#include <stdbool.h>

#include "base/error.h"
#include "cli/mounts.h"

enum detach_mode {
	DETACH_CLEAN, /* refused while in use; waits until the daemon has ended */
	DETACH_LAZY,  /* out of sight at once, ended when the last user is gone */
	DETACH_DEAD,  /* its daemon is gone: out of sight, nobody to wait for */
};

/*
 * Does somebody serve it? True also for a daemon that is slow, stopped, or not found by its control socket:
 * only the kernel's word makes a mount dead.
 */
bool mount_is_alive(const struct mount_entry *entry);

/* As root with umount2(2), else with fusermount3. -EBUSY with a remedy. */
int mount_detach(const struct mount_entry *entry, enum detach_mode mode, struct xcp_error *err);

#endif
