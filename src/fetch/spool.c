/*
 * spool: plain pwrite and pread on one file that has no name. Nothing is flushed: it need not
 * survive.
 */
#include "fetch/spool.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

void spool_init(struct spool *spool, spool_open_fn open, void *arg)
{
	*spool = (struct spool){ .open = open, .arg = arg, .fd = -1 };
}

void spool_release(struct spool *spool)
{
	if (spool->fd >= 0)
		close(spool->fd);
	spool->fd = -1;
	spool->len = 0;
}

static int spool_ready(struct spool *spool)
{
	int fd;

	if (spool->fd >= 0)
		return 0;
	fd = spool->open(spool->arg);
	if (fd < 0)
		return fd;
	spool->fd = fd;
	return 0;
}

int spool_expect(struct spool *spool, uint64_t len)
{
	struct statvfs fs;
	int status = spool_ready(spool);

	if (status)
		return status;
	if (fstatvfs(spool->fd, &fs))
		return -errno;
	return len / fs.f_frsize <= fs.f_bavail / 2 ? 0 : -ENOSPC;
}

int spool_append(struct spool *spool, const void *data, size_t len)
{
	const uint8_t *next = data;
	int status = spool_ready(spool);

	if (status)
		return status;
	while (len) {
		ssize_t n = pwrite(spool->fd, next, len, (off_t)spool->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		next += n;
		len -= (size_t)n;
		spool->len += (uint64_t)n;
	}
	return 0;
}

int spool_fd_read(int fd, uint64_t off, void *out, size_t len)
{
	uint8_t *next = out;

	while (len) {
		ssize_t n = pread(fd, next, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		next += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

int spool_read(const struct spool *spool, uint64_t off, void *out, size_t len)
{
	if (spool->fd < 0)
		return len ? -EIO : 0;
	return spool_fd_read(spool->fd, off, out, len);
}

int spool_map(const struct spool *spool, uint64_t off, size_t len, struct spool_map *out)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t start = off - off % page;
	size_t base_len = len + (size_t)(off - start);
	void *base;

	if (spool->fd < 0 || !len || off > spool->len || len > spool->len - off)
		return -EINVAL;
	base = mmap(NULL, base_len, PROT_READ, MAP_PRIVATE, spool->fd, (off_t)start);
	if (base == MAP_FAILED)
		return -errno;
	*out = (struct spool_map){
		.data = (const uint8_t *)base + (off - start),
		.base = base,
		.base_len = base_len,
	};
	return 0;
}

void spool_unmap(struct spool_map *map)
{
	if (map->base)
		munmap(map->base, map->base_len);
	*map = (struct spool_map){ 0 };
}

int spool_detach(struct spool *spool)
{
	int fd = spool->fd;

	spool->fd = -1;
	spool->len = 0;
	return fd < 0 ? -ENOENT : fd;
}
