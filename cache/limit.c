/*
 * limit: adds up st_blocks. A few microseconds for each segment, and there are some dozens.
 */
#include "cache/limit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/clock.h"

#define DEFAULT_MIN_LEN ((uint64_t)1 << 30)
#define DEFAULT_MAX_LEN ((uint64_t)64 << 30)
#define SEGMENT_LIMIT_SHARE 32
#define SEGMENT_MIN_LEN ((uint64_t)1 << 20)

/* Of the file system stay free: one part in so many, but not more than this. */
#define FLOOR_SHARE 20
#define FLOOR_MAX_LEN ((uint64_t)4 << 30)
#define FLOOR_INODE_SHARE 100

/* What a batch adds to the index comes on top: for each record about so much, and some pages. */
#define INDEX_SHARE 16
#define INDEX_MIN_LEN ((uint64_t)64 << 10)

/* Of the index stays free: one part in so many. */
#define INDEX_FLOOR_SHARE 4

#define LOOK_MS 10000
/* Others may be at it, too, each with a part of what is left. */
#define BLIND_SHARE 64
#define INDEX_BLIND_SHARE 4

/* ---- what it takes ---- */

static void add_files(int dir_fd, const char *name, uint64_t *len, uint64_t *count)
{
	DIR *dir = dir_open(dir_fd, name);
	struct dirent *entry;
	struct stat st;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(st.st_mode))
			continue;
		*len += (uint64_t)st.st_blocks * 512;
		(*count)++;
	}
	closedir(dir);
}

void limit_usage(int v1_fd, struct limit_usage *out)
{
	uint64_t ignored = 0;
	char name[16];

	*out = (struct limit_usage){ .segments_len = 0 };
	add_files(v1_fd, "segments", &out->segments_len, &out->segment_count);
	for (unsigned i = 0; i < STORE_INDEX_COUNT; i++) {
		store_index_name(i, name);
		add_files(v1_fd, name, &out->index_len, &ignored);
	}
	add_files(v1_fd, "tmp", &out->rest_len, &ignored);
	add_files(v1_fd, "pins", &out->rest_len, &ignored);
	add_files(v1_fd, ".", &out->rest_len, &ignored);
}

/* ---- what it may ---- */

static uint64_t between(uint64_t low, uint64_t value, uint64_t high)
{
	return value < low ? low : value > high ? high : value;
}

uint64_t limit_default(int dir_fd)
{
	struct statvfs fs;

	if (fstatvfs(dir_fd, &fs))
		return DEFAULT_MIN_LEN;
	return between(DEFAULT_MIN_LEN, (uint64_t)fs.f_blocks * fs.f_frsize / 10, DEFAULT_MAX_LEN);
}

uint64_t limit_segment_len(const struct limit *limit, uint64_t max_len)
{
	uint64_t share = limit->max_len / SEGMENT_LIMIT_SHARE;

	if (share < SEGMENT_MIN_LEN)
		share = SEGMENT_MIN_LEN;
	return limit->max_len && share < max_len ? share : max_len;
}

/* What the file system is short of, once `len` more are written. */
static uint64_t scarcity(int dir_fd, uint64_t len)
{
	uint64_t size, left, floor_len;
	struct statvfs fs;

	if (fstatvfs(dir_fd, &fs))
		return 0;
	size = (uint64_t)fs.f_blocks * fs.f_frsize;
	left = (uint64_t)fs.f_bavail * fs.f_frsize;
	floor_len = between(0, size / FLOOR_SHARE, FLOOR_MAX_LEN);
	/* A segment gives one inode back: then the oldest has to go. */
	if (fs.f_files && fs.f_favail < fs.f_files / FLOOR_INODE_SHARE)
		return SEGMENT_MIN_LEN;
	return left < floor_len + len ? floor_len + len - left : 0;
}

static uint64_t index_left(struct index *index)
{
	struct index_space space;
	uint64_t max_len;

	if (index_space(index, &space))
		return UINT64_MAX; /* of a damaged one others will tell */
	max_len = space.max_len - space.max_len / INDEX_FLOOR_SHARE;
	return max_len > space.used_len ? max_len - space.used_len : 0;
}

static bool must_look(const struct limit *limit, uint64_t len)
{
	uint64_t now = clock_ms(), left;

	if (!limit->looked_ms || now - limit->looked_ms > LOOK_MS || limit->scarce)
		return true;
	/* The smallest record takes less of a segment than of the index. */
	if (limit->written + len > limit->index_left / INDEX_BLIND_SHARE)
		return true;
	left = limit->max_len > limit->used ? limit->max_len - limit->used : 0;
	return limit->written + len > left / BLIND_SHARE;
}

uint64_t limit_excess(struct limit *limit, const struct store *store, uint64_t len)
{
	uint64_t wanted, over, max_len, lacking;

	if (!limit->max_len)
		limit->max_len = limit_default(store->v1_fd);
	len += len / INDEX_SHARE + INDEX_MIN_LEN;
	if (must_look(limit, len)) {
		struct limit_usage usage;

		limit_usage(store->v1_fd, &usage);
		limit->used = usage.segments_len + usage.index_len + usage.rest_len;
		limit->index_len = usage.index_len;
		limit->written = 0;
		limit->looked_ms = clock_ms() + 1;
		limit->scarce = scarcity(store->v1_fd, len);
		limit->index_left = index_left(store->index);
	}
	wanted = limit->used + limit->written + len;
	max_len = limit->max_len;
	over = wanted > max_len ? wanted - max_len : 0;
	limit->only_index = !limit->index_left && !over && !limit->scarce;
	lacking = limit->only_index ? SEGMENT_MIN_LEN : limit->scarce;
	return over > lacking ? over : lacking;
}

void limit_written(struct limit *limit, uint64_t len)
{
	limit->written += len;
}

void limit_changed(struct limit *limit)
{
	limit->looked_ms = 0;
}
