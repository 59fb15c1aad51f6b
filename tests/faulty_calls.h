/*
 * faulty_calls: libc's calls on files, of the whole program and its libraries (LMDB's, too), with a
 * fault at a place that can be chosen. A test links this and is thereby its own preloaded library.
 *
 * Threads: any; a plan is set while no other thread works on files.
 */
#ifndef TESTS_FAULTY_CALLS_H
#define TESTS_FAULTY_CALLS_H

#include <stdbool.h>
#include <stdint.h>

enum faulty_call {
	FAULTY_WRITE = 1,
	FAULTY_READ = 2,
	FAULTY_SYNC = 4,
	FAULTY_RENAME = 8,
	FAULTY_TRUNCATE = 16, /* and holes */
	FAULTY_UNLINK = 32,
	FAULTY_OPEN = 64,
	FAULTY_CHANGE = FAULTY_WRITE | FAULTY_SYNC | FAULTY_RENAME | FAULTY_TRUNCATE |
			FAULTY_UNLINK,
};

struct faulty_plan {
	unsigned calls;
	const char *path;      /* only below this; borrowed; NULL: anywhere */
	uint64_t first, count; /* the first one that fails, from 1 on, and how many do */
	int error;	       /* errno; 0: SIGKILL */
	bool torn;	       /* half of a write is done before */
};

void faulty_plan(const struct faulty_plan *plan); /* copies; NULL: no faults */
uint64_t faulty_seen(void); /* calls that the plan was about, since it was set */

#endif
