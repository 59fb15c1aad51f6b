/*
 * crawl: whether the misses of late are somebody walking the tree, and how much of it to bring at
 * once.
 *
 * A step is a directory in which something was missed, with what was brought along for the misses
 * there and how much of that was read. A walk is two steps or more of late that were worth it, in
 * other directories than this miss's, against none (or few) that were not:
 *
 *	left behind	at least half of what was brought was read; where next to nothing was
 *			brought, the directory had been listed just before
 *	on the way	(a directory above) it was listed just before, and reading went on in it
 *	not worth it	less than a quarter was read
 *
 * The walk is in the smallest subtree that holds this miss and those steps. So a crawl climbs from
 * its directories to the subtree, to the one above, to the whole tree; a reader here and there
 * never does.
 *
 * Threads: everything under the fetch's lock, but crawl_brought() and crawl_used(): any, without.
 */
#ifndef FETCH_CRAWL_H
#define FETCH_CRAWL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/oid.h"

#define CRAWL_STEPS 16
#define CRAWL_NO_STEP CRAWL_STEPS
#define CRAWL_DEPTH_MAX 64

/* A directory: the beginnings of its tree's id and of those above, its own first. */
struct crawl_place {
	unsigned count;
	uint64_t trees[CRAWL_DEPTH_MAX];
	bool listed; /* by a reader, just before */
};

/* Adds the tree one level up. False: too deep, and no place any more. */
bool crawl_place_add(struct crawl_place *place, const struct oid *tree);

struct crawl_step {
	struct crawl_place place;
	bool sizes;			/* asked for sizes: what was brought need not be read */
	uint64_t turn;			/* its last one, see below; 0: a free step */
	uint64_t seen_ms;		/* the time of its last miss */
	_Atomic unsigned brought, used; /* statistics, no ordering; the misses count as both */
};

struct crawl {
	uint64_t turns; /* misses in another directory than the one before */
	struct crawl_step steps[CRAWL_STEPS];
};

/*
 * A miss: *out_step is what it belongs to, for crawl_brought(). Returns how many levels above the
 * directory the top of the walk's subtree is, or -1: not a walk.
 */
int crawl_miss_locked(struct crawl *crawl, const struct crawl_place *place, bool sizes,
		      uint64_t now_ms, unsigned *out_step);

/* Something came for a step that nobody waited for; it was read. */
void crawl_brought(struct crawl *crawl, unsigned step);
void crawl_used(struct crawl *crawl, unsigned step);

/* The walk has stopped: the next one must show itself anew. */
void crawl_forget_locked(struct crawl *crawl);

#endif
