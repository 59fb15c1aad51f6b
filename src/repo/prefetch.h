/*
 * prefetch: brings everything below some nodes into the cache, as readers would, and waits for it.
 *
 *	prefetch_run: directories ---> entries ---> files, by several threads ---> totals
 *
 * What is here already is passed over, so that a prefetch that was interrupted goes on where it
 * was. Where most is missing all small files come in one request first, and the threads find them.
 *
 * Threads: one calls; it starts others and waits for them.
 */
#ifndef REPO_PREFETCH_H
#define REPO_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "repo/repo.h"

struct prefetch_totals {
	uint64_t files; /* found so far: files and links */
	uint64_t done;	/* of them, brought or here already */
	uint64_t here;	/* of them, here before */
	uint64_t bytes; /* of all whose size is known */
	uint64_t bytes_done;
	uint64_t unsized; /* files whose size is not known */
	uint64_t failed;
	bool complete; /* all directories were seen: `files` is how many there are */
};

struct prefetch_config {
	struct repo *repo;	  /* borrowed */
	struct node_table *nodes; /* the repo's */
	const char *const *paths; /* from the root, of what is wanted; count 0: everything */
	size_t path_count;
	bool dry; /* only looks */
	/* Called a few times a second by the caller's thread; may be NULL. */
	void (*progress)(void *arg, const struct prefetch_totals *totals);
	void *arg;
};

/*
 * 0 also when files failed: see totals->failed, and `err` says what the first one met. -ENOENT and
 * others for a path.
 */
int prefetch_run(const struct prefetch_config *config, struct prefetch_totals *totals,
		 struct xcp_error *err);

#endif
