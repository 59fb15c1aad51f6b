#include "tests/faulty_calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static struct faulty_plan plan;
static _Atomic bool planned;
static _Atomic uint64_t seen;

void faulty_plan(const struct faulty_plan *wanted)
{
	atomic_store(&planned, false);
	atomic_store(&seen, 0);
	if (!wanted)
		return;
	plan = *wanted;
	atomic_store(&planned, true);
}

uint64_t faulty_seen(void)
{
	return atomic_load(&seen);
}

static bool is_below(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	if (!plan.path)
		return true;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return strncmp(path, plan.path, strlen(plan.path)) == 0;
}

/* True: this one fails, with errno set; does not come back when the plan says so. */
static bool fails(enum faulty_call call, int fd)
{
	uint64_t number;

	if (!atomic_load(&planned) || !(plan.calls & call) || !is_below(fd))
		return false;
	number = atomic_fetch_add(&seen, 1) + 1;
	if (number < plan.first || number - plan.first >= plan.count)
		return false;
	if (!plan.error)
		raise(SIGKILL);
	errno = plan.error;
	return true;
}

/* A torn write is one that the next call would end. */
static bool is_torn(int fd)
{
	return atomic_load(&planned) && plan.torn && (plan.calls & FAULTY_WRITE) && is_below(fd) &&
	       atomic_load(&seen) + 1 == plan.first;
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
	void *address = dlsym(RTLD_NEXT, name);

	if (!address)
		abort();
	return address;
}

/* glibc has the same functions under two names; who is called depends on who was built how. */
#define ALIAS(name) __attribute__((alias(#name)))

ssize_t pwrite(int fd, const void *data, size_t len, off_t off)
{
	if (is_torn(fd) && REAL(pwrite)(fd, data, len / 2, off) < 0)
		return -1;
	return fails(FAULTY_WRITE, fd) ? -1 : REAL(pwrite)(fd, data, len, off);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off_t off) ALIAS(pwrite);

ssize_t write(int fd, const void *data, size_t len)
{
	return fails(FAULTY_WRITE, fd) ? -1 : REAL(write)(fd, data, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	return fails(FAULTY_WRITE, fd) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t off)
{
	return fails(FAULTY_WRITE, fd) ? -1 : REAL(pwritev)(fd, parts, count, off);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t off) ALIAS(pwritev);

ssize_t pread(int fd, void *data, size_t len, off_t off)
{
	return fails(FAULTY_READ, fd) ? -1 : REAL(pread)(fd, data, len, off);
}
ssize_t pread64(int fd, void *data, size_t len, off_t off) ALIAS(pread);

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t off)
{
	return fails(FAULTY_READ, fd) ? -1 : REAL(preadv)(fd, parts, count, off);
}
ssize_t preadv64(int fd, const struct iovec *parts, int count, off_t off) ALIAS(preadv);

int fsync(int fd)
{
	return fails(FAULTY_SYNC, fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	return fails(FAULTY_SYNC, fd) ? -1 : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t len)
{
	return fails(FAULTY_TRUNCATE, fd) ? -1 : REAL(ftruncate)(fd, len);
}
int ftruncate64(int fd, off_t len) ALIAS(ftruncate);

int fallocate(int fd, int mode, off_t off, off_t len)
{
	return fails(FAULTY_TRUNCATE, fd) ? -1 : REAL(fallocate)(fd, mode, off, len);
}
int fallocate64(int fd, int mode, off_t off, off_t len) ALIAS(fallocate);

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return fails(FAULTY_RENAME, from_fd) ? -1 : REAL(renameat)(from_fd, from, to_fd, to);
}

int unlinkat(int fd, const char *name, int flags)
{
	return fails(FAULTY_UNLINK, fd) ? -1 : REAL(unlinkat)(fd, name, flags);
}

int openat(int fd, const char *name, int flags, ...)
{
	va_list args;
	mode_t mode = 0;

	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	return fails(FAULTY_OPEN, fd) ? -1 : REAL(openat)(fd, name, flags, mode);
}
