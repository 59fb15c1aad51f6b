/*
 * dirops: lets lookups in one directory go on while one of them is parked, and reads be large.
 *
 * libfuse before 3.17 never answers FUSE_INIT with FUSE_PARALLEL_DIROPS, although the kernel offers
 * it: one parked LOOKUP would then hold up every other name of its directory in uninterruptible
 * sleep. And it answers with the read-ahead that the kernel had when it asked. Both stand in the
 * answer to FUSE_INIT, so this reads and writes the device in libfuse's place, and changes that one
 * answer on its way out.
 *
 *	dirops_install (mounted, before the loop) ---> INIT is seen, its answer changed
 *	          ---> plain read(2) and writev(2) from then on
 *
 * Threads: install from the main thread; the rest is called by libfuse from any.
 */
#ifndef MOUNT_DIROPS_H
#define MOUNT_DIROPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct fuse_session;

struct dirops {
	enum dirops_phase {
		DIROPS_WAITING,
		DIROPS_SEEN,
		DIROPS_DONE
	} _Atomic phase; /* releases the two below */
	uint64_t init_unique;
	uint64_t offered;	 /* the kernel's flags */
	uint32_t max_readahead;	 /* what to allow, in bytes */
	void (*done)(void *arg); /* called once the kernel has taken the answer; may be NULL */
	void *done_arg;
};

/*
 * Takes over the session's device. `dirops` must be the one in the struct session that was given to
 * fuse_session_new(). Returns 0 or -errno.
 */
int dirops_install(struct fuse_session *fuse, struct dirops *dirops, uint32_t max_readahead,
		   void (*done)(void *), void *done_arg);

/*
 * The two halves, apart from any device. Looks at what was read; changes what is about to be
 * written. True: this was the answer to INIT.
 */
void dirops_saw_request(struct dirops *dirops, const void *data, size_t len);
bool dirops_patch_reply(struct dirops *dirops, struct iovec *iov, int count);

#endif
