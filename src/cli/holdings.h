/*
 * holdings: what the cache has of a commit, or of what is below some paths in it. The remote is not
 * asked: of a directory whose tree is not here only that is known.
 *
 *	holdings_commit ---> holdings_add ... ---> holdings_sum ---> holdings_release
 *
 * Threads: one.
 */
#ifndef CLI_HOLDINGS_H
#define CLI_HOLDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/oid.h"
#include "cache/cache.h"
#include "fetch/fetch.h"
#include "remote/source.h"

struct holdings {
	struct cache *cache; /* borrowed */
	/* commits, trees, files, each once after holdings_sum() */
	struct fetch_list oids;
	struct holdings_tree *seen; /* trees that were walked already */
	/* of holdings_sum() */
	uint64_t files, files_here;
	uint64_t raw_bytes, stored_bytes; /* of what is here */
	uint64_t unseen;		  /* trees that are not */
};

void holdings_init(struct holdings *holdings, struct cache *cache);
void holdings_release(struct holdings *holdings);

/* What the source's ref (NULL: HEAD) was when the remote was last asked. -ENOENT: never. */
int holdings_commit(struct cache *cache, const struct source *source, struct oid *out,
		    struct xcp_error *err);

/*
 * All that is below `path` (from the root; "": everything), and the trees on the way. -ENOENT when
 * there is no such path, or a tree on the way is not here.
 */
int holdings_add(struct holdings *holdings, const struct oid *commit, const char *path,
		 struct xcp_error *err);

void holdings_sum(struct holdings *holdings);
/* After that: forgets commits and trees. */
void holdings_files_only(struct holdings *holdings);

#endif
