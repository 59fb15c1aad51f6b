/*
 * op: one request of the kernel on its way through this process, as a value.
 *
 *	on a worker's stack: run(op, NULL) ---> answered ---> op_finish
 *	           \-> -EAGAIN: copied into a parked object (parked.h), run there ---> op_finish
 *
 * run() finds out, answer() tells the kernel; run() may be called several times, answer() once.
 *
 * Threads: an op belongs to one thread at a time; parked.h says which.
 */
#ifndef MOUNT_OP_H
#define MOUNT_OP_H

#include <fuse_lowlevel.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "mount/session.h"
#include "repo/repo.h"

struct op;

struct op_class {
	enum session_op counted_as;

	/*
	 * Required for op_start(). Does the work and leaves the result in op->out. 0, a negative errno, or what
	 * repo_* say when they would wait: REPO_PARKED, after which the op must not be touched any
	 * more, or -EAGAIN when wait is NULL. Never waits on the network.
	 */
	int (*run)(struct op *op, struct repo_wait *wait);

	/*
	 * Called when the status is 0: replies by one of reply_*(), and gives back what is in
	 * op->out. NULL in a class that only ever fails.
	 */
	void (*answer)(struct op *op);
};

struct op {
	const struct op_class *class;
	struct session *session; /* borrowed */
	fuse_req_t req;		 /* owned until it was replied to */
	uint64_t start_ns;
	uint64_t took_ns;  /* set when the answer is handed to the kernel: reply.c */
	struct node *node; /* borrowed: the kernel holds it while the request lasts */
	const char *name;  /* borrowed from the request or the parked object; NULL: none */
	uint64_t off;
	size_t len;
	union {
		struct node *found; /* with one lookup count */
		struct repo_attr attr;
		struct block *block;
		struct spans spans;
	} out; /* what run() found; valid only after it returned 0 */
};

/*
 * Replies to the request: with the op's answer when status is 0, else with the error. Counts it.
 * The request is gone afterwards. `parked`: it had to wait.
 */
void op_finish(struct op *op, int status, bool parked);

#endif
