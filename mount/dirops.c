/*
 * The exchange of FUSE_INIT, with the kernel's own header for its layout. INIT is the first request
 * of a connection and there is only one, so two plain fields behind an atomic phase are enough.
 */
#include "mount/dirops.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "mount/session_internal.h"

void dirops_saw_request(struct dirops *dirops, const void *data, size_t len)
{
	struct fuse_in_header header;
	struct fuse_init_in init;

	if (len < sizeof(header) + offsetof(struct fuse_init_in, flags2))
		return;
	memcpy(&header, data, sizeof(header));
	if (header.opcode != FUSE_INIT)
		return;

	memset(&init, 0, sizeof(init));
	len -= sizeof(header);
	memcpy(&init, (const char *)data + sizeof(header), len < sizeof(init) ? len : sizeof(init));
	dirops->init_unique = header.unique;
	dirops->offered = init.flags;
	atomic_store_explicit(&dirops->phase, DIROPS_SEEN, memory_order_release);
}

bool dirops_patch_reply(struct dirops *dirops, struct iovec *iov, int count)
{
	const struct fuse_out_header *header = iov[0].iov_base;

	if (count != 2 || iov[0].iov_len != sizeof(*header) ||
	    header->unique != dirops->init_unique || header->error != 0 ||
	    iov[1].iov_len < FUSE_COMPAT_22_INIT_OUT_SIZE)
		return false;

	struct fuse_init_out *init = iov[1].iov_base;

	init->flags |= (uint32_t)(dirops->offered & FUSE_PARALLEL_DIROPS);
	if (init->max_readahead < dirops->max_readahead)
		init->max_readahead = dirops->max_readahead;
	return true;
}

/* ---- libfuse's device ---- */

static struct dirops *dirops_of_session(void *userdata)
{
	return &((struct session *)userdata)->dirops;
}

static ssize_t device_read(int fd, void *data, size_t len, void *userdata)
{
	struct dirops *dirops = dirops_of_session(userdata);
	ssize_t got = read(fd, data, len);

	if (got > 0 && atomic_load_explicit(&dirops->phase, memory_order_relaxed) == DIROPS_WAITING)
		dirops_saw_request(dirops, data, (size_t)got);
	/*
	 * An aborted connection is as gone as an unmounted one; libfuse would print a sentence of
	 * its own.
	 */
	if (got < 0 && errno == ECONNABORTED)
		errno = ENODEV;
	return got;
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct dirops *dirops = dirops_of_session(userdata);
	bool is_init = atomic_load_explicit(&dirops->phase, memory_order_acquire) == DIROPS_SEEN &&
		       dirops_patch_reply(dirops, iov, count);
	ssize_t put = writev(fd, iov, count);

	if (is_init) {
		atomic_store_explicit(&dirops->phase, DIROPS_DONE, memory_order_relaxed);
		if (put >= 0 && dirops->done)
			dirops->done(dirops->done_arg);
	}
	/*
	 * A reply to a file system that is gone: to libfuse ENOENT is the kind of failure that
	 * needs no words.
	 */
	if (put < 0 && (errno == ENODEV || errno == ECONNABORTED))
		errno = ENOENT;
	return put;
}

int dirops_install(struct fuse_session *fuse, struct dirops *dirops, uint32_t max_readahead,
		   void (*done)(void *), void *done_arg)
{
	const struct fuse_custom_io io = { .read = device_read, .writev = device_writev };

	atomic_store(&dirops->phase, DIROPS_WAITING);
	dirops->max_readahead = max_readahead;
	dirops->done = done;
	dirops->done_arg = done_arg;
	return fuse_session_custom_io(fuse, &io, fuse_session_fd(fuse));
}
