/*
 * limit: how much a cache directory may take, and how much it takes.
 *
 * Three bounds: its own size, as du counts it (index included), a floor of what the file system
 * must keep free, in bytes and in inodes, and what an index can hold. Whoever writes looks first (writer.h); nobody is told
 * what others wrote, so the directory is asked, seldom where there is much room and before every
 * batch where there is little.
 *
 * Threads: the writer's.
 */
#ifndef CACHE_LIMIT_H
#define CACHE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/store.h"

#define LIMIT_MIN_LEN ((uint64_t)16 << 20)

struct limit {
	uint64_t max_len; /* 0: limit_default(), asked for when it is first needed */
	/* as it was when last looked at, and what was written since */
	uint64_t used, written;
	uint64_t index_len; /* of that */
	uint64_t looked_ms;
	uint64_t scarce; /* bytes that the file system lacks up to its floor */
	/* What an index can take up to its floor: a batch needs pages, and giving up does, too. */
	uint64_t index_left;
	bool only_index; /* nothing but that makes limit_excess() ask for room */
};

/* A tenth of the file system, 1 GiB at least and 64 GiB at most. */
uint64_t limit_default(int dir_fd);

/*
 * What segments take at most, so that there are always many: a thirty-second part of the limit,
 * between 1 MiB and `max_len`.
 */
uint64_t limit_segment_len(const struct limit *limit, uint64_t max_len);

/* Bytes to give back before `len` more are written; 0: go on. */
uint64_t limit_excess(struct limit *limit, const struct store *store, uint64_t len);

/* `len` bytes were written. */
void limit_written(struct limit *limit, uint64_t len);
/* Something was given back: look again. */
void limit_changed(struct limit *limit);

/* All files of a cache directory, as du counts. Also for survey.c. */
struct limit_usage {
	uint64_t segments_len, index_len, rest_len;
	uint64_t segment_count;
};
void limit_usage(int v1_fd, struct limit_usage *out);

#endif
