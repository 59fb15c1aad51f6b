/*
 * What the files of this folder share about a session. The life is in session.h.
 *
 * Threads: what is above the counters is set before the first request is taken, and then only read.
 */
#ifndef MOUNT_SESSION_INTERNAL_H
#define MOUNT_SESSION_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mount/dirops.h"
#include "mount/latency.h"
#include "mount/loop.h"
#include "mount/mountopt.h"
#include "mount/op.h"
#include "mount/parked.h"
#include "mount/session.h"
#include "mount/tuning.h"
#include "mount/withdraw.h"

struct session {
	/* set before threads start */
	struct fuse_session *fuse;
	struct node_table *nodes; /* borrowed */
	char *mountpoint;
	char *source;
	struct mountopt options;
	uid_t uid;
	gid_t gid;
	unsigned workers;
	struct mount_id id; /* all 0: not known */
	bool mounted;
	uint64_t expire_ns; /* a parked request ends after this; 0: never */

	struct loop loop;
	struct dirops dirops;
	struct parked_list parked;
	struct withdraw withdraw;

	/* any thread; relaxed: each stands for itself */
	struct latency latency[SESSION_OP_COUNT];
	_Atomic uint64_t bytes_served, interrupted, errors;
};

#endif
