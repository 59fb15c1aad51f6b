/*
 * The plan is made once, when all trees are here; what came meanwhile in another way is passed
 * over when its turn comes.
 */
#include "repo/fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "git/object.h"
#include "repo/repo_internal.h"
#include "repo/seen.h"
#include "repo/tree.h"

#define PIECE_FILES 1000
#define TRIES_MAX 3
#define POLL_MS 200

struct piece {
	struct oid tree;
	bool deep;
};

struct fill {
	/* set before the thread starts */
	struct repo *repo; /* borrowed */
	pthread_t thread;
	struct lock lock;
	struct lock_cond quit_cond;
	/* under lock */
	bool quit;
	/* owned by the thread */
	struct piece *pieces; /* owned */
	size_t count, cap;
	struct seen seen; /* trees that were planned for */
};

static bool must_quit(struct fill *fill)
{
	bool quit;

	lock_take(&fill->lock);
	quit = fill->quit;
	lock_give(&fill->lock);
	return quit;
}

/* ---- the plan ---- */

static int piece_add(struct fill *fill, const struct oid *tree, bool deep)
{
	if (fill->count == fill->cap) {
		size_t cap = fill->cap ? fill->cap * 2 : 64;
		struct piece *pieces = realloc(fill->pieces, cap * sizeof(*pieces));

		if (!pieces)
			return -ENOMEM;
		fill->pieces = pieces;
		fill->cap = cap;
	}
	fill->pieces[fill->count++] = (struct piece){ *tree, deep };
	return 0;
}

static int plan(struct fill *fill, const struct oid *oid, unsigned depth)
{
	struct fetch *fetch = fill->repo->fetch;
	struct tree_cursor cursor;
	struct tree_entry entry;
	struct block *tree;
	int ret = seen_add(&fill->seen, oid);

	if (ret <= 0)
		return ret;
	if (must_quit(fill))
		return -ECANCELED;
	if (tree_count_files(fetch, oid, PIECE_FILES + 1, NULL) <= PIECE_FILES)
		return piece_add(fill, oid, true);
	ret = piece_add(fill, oid, false);
	tree = depth < TREE_DEPTH_MAX ? tree_block(fetch, oid) : NULL;
	if (!tree)
		return ret;
	tree_cursor_init(&cursor, (enum oid_algo)oid->algo, tree->data, tree->len);
	while (ret == 0 && tree_next(&cursor, &entry) == 1) {
		if (entry.mode == TREE_MODE_DIR)
			ret = plan(fill, &entry.oid, depth + 1);
	}
	block_unref(tree);
	return ret;
}

/* ---- the thread ---- */

/* False when it is time to end. */
static bool pause_for(struct fill *fill, uint64_t ms)
{
	uint64_t until_ms = clock_ms() + ms;
	bool quit;

	lock_take(&fill->lock);
	while (!fill->quit && clock_ms() < until_ms)
		lock_cond_wait_ms(&fill->quit_cond, &fill->lock, POLL_MS);
	quit = fill->quit;
	lock_give(&fill->lock);
	return !quit;
}

static bool bring(struct fill *fill, const struct piece *piece)
{
	unsigned tries = 0;
	uint64_t asked_ms = 0;

	for (;;) {
		int ret = fetch_fill(fill->repo->fetch, &piece->tree, piece->deep);

		if (ret == FETCH_FILL_ASKED) {
			asked_ms = clock_ms();
			tries++;
		}
		if (ret == FETCH_FILL_HERE)
			return !asked_ms || pause_for(fill, clock_ms() - asked_ms);
		if (tries > TRIES_MAX || (ret < 0 && ret != -EBUSY))
			return pause_for(fill, POLL_MS);
		if (!pause_for(fill, POLL_MS))
			return false;
	}
}

static void *run(void *arg)
{
	struct fill *fill = arg;
	const struct repo_identity *identity = repo_identity(fill->repo);
	size_t at = 0;

	while (!fetch_commit_is_here(fill->repo->fetch, &identity->commit)) {
		if (!pause_for(fill, POLL_MS))
			return NULL;
	}
	if (plan(fill, &fill->repo->root->oid, 0) == -ENOMEM)
		log_warn("fill: out of memory; not all of the tree is brought");
	while (at < fill->count && bring(fill, &fill->pieces[at]))
		at++;
	log_info("fill: %zu of %zu parts of the tree seen to", at, fill->count);
	return NULL;
}

int fill_start(struct repo *repo, struct fill **out)
{
	struct fill *fill = calloc(1, sizeof(*fill));
	int ret;

	if (!fill)
		return -ENOMEM;
	fill->repo = repo;
	lock_init(&fill->lock);
	lock_cond_init(&fill->quit_cond);
	ret = thread_start(&fill->thread, "fill", run, fill);
	if (ret) {
		lock_cond_release(&fill->quit_cond);
		lock_release(&fill->lock);
		free(fill);
		return ret;
	}
	*out = fill;
	return 0;
}

void fill_stop(struct fill **fill_ptr)
{
	struct fill *fill = *fill_ptr;

	*fill_ptr = NULL;
	if (!fill)
		return;
	lock_take(&fill->lock);
	fill->quit = true;
	lock_cond_signal(&fill->quit_cond);
	lock_give(&fill->lock);
	pthread_join(fill->thread, NULL);
	lock_cond_release(&fill->quit_cond);
	lock_release(&fill->lock);
	seen_release(&fill->seen);
	free(fill->pieces);
	free(fill);
}
