/*
 * survey: looks at a cache directory, and empties it, from outside: it joins neither index nor
 * segments, so that it can be done while mounts use them, and in a process that has the cache
 * open itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache.h"
#include "cache/limit.h"
#include "cache/store.h"

static int v1_open(const char *dir, char **out_path, struct xcp_error *err)
{
	int fd;
	int rc;

	if (asprintf(out_path, "%s/" STORE_VERSION_DIR, dir) < 0) {
		*out_path = NULL;
		return xcp_error_set(err, -ENOMEM, "cannot look at the cache: out of memory");
	}
	fd = open(*out_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	rc = errno == ENOTDIR ? -ENOENT : -errno;
	if (rc == -ENOENT)
		return xcp_error_set(err, rc, "there is no cache in %s", dir);
	return xcp_error_set(err, rc, "cannot open the cache %s: %s", *out_path, strerror(-rc));
}

/* Locked, or -errno: the caller goes on without it where that is harmless. */
static int lock_named(int v1_fd, const char *name)
{
	int fd = openat(v1_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc;

	if (fd < 0)
		return -errno;
	rc = flock_wait(fd, LOCK_EX, STORE_LOCK_WAIT_MS);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

static void unlock(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* ---- info ---- */

static void count_index(int v1_fd, const char *path, const char *name, struct index_totals *totals)
{
	char *index_path;
	struct stat st;
	char data[32];

	snprintf(data, sizeof(data), "%s/data.mdb", name);
	if (fstatat(v1_fd, data, &st, AT_SYMLINK_NOFOLLOW) || st.st_size == 0)
		return;
	if (asprintf(&index_path, "%s/%s", path, name) < 0)
		return;
	index_count(index_path, totals);
	free(index_path);
}

static void info_fill(int v1_fd, const char *path, bool locked, struct cache_info *out)
{
	struct index_totals totals = { .object_count = 0 };
	struct limit_usage usage;
	char name[16];

	limit_usage(v1_fd, &usage);
	for (unsigned i = 0; i < STORE_INDEX_COUNT && locked; i++) {
		store_index_name(i, name);
		count_index(v1_fd, path, name, &totals);
	}
	memset(out, 0, sizeof(*out));
	out->object_count = totals.object_count;
	out->size_only_count = totals.size_only_count;
	out->fact_count = totals.fact_count;
	out->raw_bytes = totals.raw_bytes;
	out->stored_bytes = totals.stored_bytes;
	out->disk_bytes = usage.segments_len + usage.index_len + usage.rest_len;
	out->segment_count = usage.segment_count;
	out->index_bytes = usage.index_len;
	out->default_limit = limit_default(v1_fd);
}

int cache_info(const char *dir, struct cache_info *out, struct xcp_error *err)
{
	char *path;
	int v1_fd = v1_open(dir, &path, err);
	int lock_fd;

	if (v1_fd < 0) {
		free(path);
		return v1_fd;
	}
	if (err)
		err->code = 0;
	lock_fd = lock_named(v1_fd, "write.lock");
	if (lock_fd < 0 && lock_fd != -ENOENT)
		xcp_error_set(err, lock_fd, "the objects in %s were not counted: write.lock: %s",
			      path, strerror(-lock_fd));
	info_fill(v1_fd, path, lock_fd >= 0, out);
	unlock(lock_fd);
	close(v1_fd);
	free(path);
	return 0;
}

/* ---- clear ---- */

/*
 * Cut short first: whoever has it open still would keep the disk full. Segments are never
 * mapped, so nobody is hurt.
 */
static void file_empty(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return;
	if (ftruncate(fd, 0))
		(void)fd; /* then it goes when the last one closes it */
	close(fd);
}

static void segments_empty(int dir_fd)
{
	DIR *dir = dir_open(dir_fd, ".");
	struct dirent *entry;
	uint64_t id;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (segment_name_parse(entry->d_name, &id) == 0)
			file_empty(dirfd(dir), entry->d_name);
	closedir(dir);
}

static void clear_segments(int v1_fd)
{
	int fd = openat(v1_fd, "segments", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	/*
	 * Under another name first: a segment that is empty where it belongs would be taken
	 * into use.
	 */
	if (store_throw_away(v1_fd, "segments") == 0)
		segments_empty(fd);
	close(fd);
}

static void clear_trash(int v1_fd)
{
	int fd = openat(v1_fd, "tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	while (store_trash_step(fd))
		;
	close(fd);
}

static uint64_t disk_len(int v1_fd)
{
	struct limit_usage usage;

	limit_usage(v1_fd, &usage);
	return usage.segments_len + usage.index_len + usage.rest_len;
}

static void clear_all(int v1_fd, uint64_t *freed)
{
	uint64_t before = disk_len(v1_fd), after;
	char name[16];

	/* Facts go before what they name. */
	for (unsigned i = 0; i < STORE_INDEX_COUNT; i++) {
		store_index_name(i, name);
		store_throw_away(v1_fd, name);
	}
	clear_segments(v1_fd);
	unlinkat(v1_fd, "recency", 0);
	store_throw_away(v1_fd, "pins");
	clear_trash(v1_fd);
	after = disk_len(v1_fd);
	*freed = before > after ? before - after : 0;
}

int cache_clear(const char *dir, uint64_t *out_freed, struct xcp_error *err)
{
	int open_lock_fd, write_lock_fd;
	uint64_t freed = 0;
	char *path;
	int v1_fd = v1_open(dir, &path, err);

	free(path);
	if (v1_fd < 0)
		return v1_fd;
	/* Politeness only: everything that happens here may happen to a cache at any time. */
	open_lock_fd = lock_named(v1_fd, "open.lock");
	write_lock_fd = lock_named(v1_fd, "write.lock");
	clear_all(v1_fd, &freed);
	unlock(write_lock_fd);
	unlock(open_lock_fd);
	close(v1_fd);
	*out_freed = freed;
	return 0;
}
