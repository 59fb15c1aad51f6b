/*
 * Walks. A place in the tree is a position: offsets of names in the trees from the root down, so
 * that positions of one commit can be compared without looking at any tree. Each directory has
 * two phases: its files, then its directories.
 *
 * What comes out may be asked for already, or be known a moment later: fetch takes care of that.
 */
#include "repo/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"
#include "git/object.h"
#include "repo/node_internal.h"
#include "repo/seen.h"
#include "repo/tree.h"

/* nothing below is walked into; longer paths cannot be named in one call */
#define DEPTH_MAX TREE_DEPTH_MAX
#define PATIENCE_MAX 8192 /* things passed in vain */
#define TREE_COST 8	  /* a tree is read, decompressed, checked */
/* after a walk over everything: what is still missing was lost, and may be asked for again */
#define COVERED_FOR_MS 5000u

/* ---- positions ---- */

struct position {
	uint32_t depth; /* directories entered */
	bool files;	/* in the first phase of the last one */
	/* of those directories' names, then of the next name to look at */
	uint32_t off[DEPTH_MAX + 1];
};

static const struct position position_first = { .files = true };
static const struct position position_end = { .off = { UINT32_MAX } };

static bool phase_files(const struct position *position, uint32_t level)
{
	return level == position->depth && position->files;
}

static int position_compare(const struct position *a, const struct position *b)
{
	for (uint32_t level = 0;; level++) {
		if (phase_files(a, level) != phase_files(b, level))
			return phase_files(a, level) ? -1 : 1;
		if (a->off[level] != b->off[level])
			return a->off[level] < b->off[level] ? -1 : 1;
		if (level == a->depth || level == b->depth)
			return a->depth == b->depth ? 0 : a->depth < b->depth ? -1 : 1;
	}
}

/* Copies what is used. */
static void position_copy(struct position *out, const struct position *from)
{
	out->depth = from->depth;
	out->files = from->files;
	memcpy(out->off, from->off, (from->depth + 1) * sizeof(out->off[0]));
}

/* The position behind the files of a directory. False when it is too deep. */
static bool position_of_dir(const struct node *dir, struct position *out)
{
	uint32_t depth = 0;

	for (const struct node *node = dir; node->parent; node = node->parent)
		depth++;
	if (depth > DEPTH_MAX)
		return false;
	out->depth = depth;
	out->files = false;
	out->off[depth] = 0;
	for (const struct node *node = dir; node->parent; node = node->parent)
		out->off[--depth] = node_dir(node->parent)->v[node->index].name_off;
	return true;
}

/* ---- what was walked last ---- */

enum kind { KIND_SIZES, KIND_CONTENTS, KIND_COUNT };

struct stretch {
	bool known;
	struct position begin, end;
	uint64_t made_ms;
};

struct walk_memory {
	struct lock lock;
	/* under lock */
	struct stretch last[KIND_COUNT];
};

struct walk_memory *walk_memory_new(void)
{
	struct walk_memory *memory = calloc(1, sizeof(*memory));

	if (memory)
		lock_init(&memory->lock);
	return memory;
}

void walk_memory_free(struct walk_memory **memory)
{
	if (*memory)
		lock_release(&(*memory)->lock);
	free(*memory);
	*memory = NULL;
}

static bool stretch_is_all(const struct stretch *stretch)
{
	return position_compare(&stretch->begin, &position_first) == 0 &&
	       position_compare(&stretch->end, &position_end) == 0;
}

static void memory_load(struct walk_memory *memory, enum kind kind, struct stretch *out)
{
	lock_take(&memory->lock);
	*out = memory->last[kind];
	lock_give(&memory->lock);
	if (out->known && stretch_is_all(out) && clock_ms() - out->made_ms > COVERED_FOR_MS)
		out->known = false;
}

static void memory_store(struct walk_memory *memory, enum kind kind, const struct stretch *stretch)
{
	lock_take(&memory->lock);
	memory->last[kind] = *stretch;
	lock_give(&memory->lock);
}

/* ---- one walker ---- */

struct frame {
	struct block *tree; /* shared */
	struct tree_cursor cursor;
	bool files;
	uint32_t from; /* names before are passed over */
};

struct walker {
	struct fetch *fetch;
	const struct node *dir; /* where the want is: it and those above are loaded */
	enum kind kind;
	const struct fetch_budget *budget;
	struct fetch_list *out, *links;
	uint64_t bytes;
	int patience;
	bool full; /* or out of patience */
	int error;

	struct seen seen; /* what is in `out` */

	struct position at;
	struct position missing; /* of the first tree that was not here; position_end without one */
	struct frame frames[DEPTH_MAX + 1];
};

/* ---- what to add ---- */

/* False when it was there, or when there is no room for it. */
static bool is_new(struct walker *walker, const struct oid *oid)
{
	int added = seen_add(&walker->seen, oid);

	if (added < 0)
		walker->error = added;
	return added == 1;
}

static bool in_want_of(struct walker *walker, const struct oid *oid, uint64_t *out_size)
{
	bool known = fetch_size_known(walker->fetch, oid, out_size);

	if (walker->kind == KIND_SIZES)
		return !known;
	return known && *out_size <= walker->budget->object_bytes && !fetch_has(walker->fetch, oid);
}

static void pass(struct walker *walker, int cost)
{
	walker->patience -= cost;
	if (walker->patience <= 0)
		walker->full = true;
}

/*
 * Looks at one file or link. When it does not fit any more the walker is full, and stands before
 * it.
 */
static void offer(struct walker *walker, const struct oid *oid, bool is_link)
{
	struct fetch_list *out = walker->kind == KIND_SIZES && is_link ? walker->links :
									 walker->out;
	uint64_t size = 0;

	if (!in_want_of(walker, oid, &size)) {
		pass(walker, 1);
		return;
	}
	if (out->count >= walker->budget->count ||
	    (walker->kind == KIND_CONTENTS && size > walker->budget->bytes - walker->bytes)) {
		walker->full = true;
		return;
	}
	if (!is_new(walker, oid)) {
		pass(walker, 1);
		return;
	}
	walker->error = fetch_list_add(out, oid);
	if (walker->kind == KIND_CONTENTS)
		walker->bytes += size;
	walker->patience = walker->patience + TREE_COST < PATIENCE_MAX ?
				   walker->patience + TREE_COST :
				   PATIENCE_MAX;
}

static bool walker_stopped(const struct walker *walker)
{
	return walker->full || walker->error;
}

/* ---- the want's own directory ---- */

static void own_file(struct walker *walker, const struct dir *dir, uint32_t index)
{
	struct oid oid;

	if (dir->v[index].kind == DIR_TREE || dir->v[index].kind == DIR_GITLINK)
		return;
	oid = dir_oid(dir, index);
	offer(walker, &oid, dir->v[index].kind == DIR_LINK);
}

/* Those behind it, then those before it, the nearest first: some walk backwards. */
static void own_directory(struct walker *walker, uint32_t index)
{
	const struct dir *dir = node_dir(walker->dir);

	for (uint32_t i = index + 1; i < dir->count && !walker_stopped(walker); i++)
		own_file(walker, dir, i);
	for (uint32_t i = index; i-- > 0 && !walker_stopped(walker);)
		own_file(walker, dir, i);
}

/* ---- the tree ---- */

/* A tree that is here: one that the kernel's nodes hold, or the cache's. NULL when it is not. */
static struct block *tree_get(struct walker *walker, const struct oid *oid)
{
	for (const struct node *node = walker->dir; node; node = node->parent) {
		if (oid_equal(&node->oid, oid) && node_dir(node)->block)
			return block_ref(node_dir(node)->block);
	}
	return tree_block(walker->fetch, oid);
}

static void frame_phase(struct frame *frame, enum oid_algo algo, bool files, uint32_t from)
{
	tree_cursor_init(&frame->cursor, algo, frame->tree->data, frame->tree->len);
	frame->files = files;
	frame->from = from;
}

/* Enters a tree as the frame at at.depth. False when it is not here. */
static bool frame_push(struct walker *walker, const struct oid *oid, bool files, uint32_t from)
{
	struct frame *frame = &walker->frames[walker->at.depth];

	pass(walker, TREE_COST);
	frame->tree = tree_get(walker, oid);
	if (!frame->tree)
		return false;
	frame_phase(frame, oid->algo, files, from);
	walker->at.files = files;
	walker->at.off[walker->at.depth] = from;
	return true;
}

/* Leaves the frame at at.depth, to the name behind it. False when it was the root's. */
static bool frame_pop(struct walker *walker)
{
	block_unref(walker->frames[walker->at.depth].tree);
	if (walker->at.depth == 0)
		return false;
	walker->at.depth--;
	walker->at.files = false;
	walker->at.off[walker->at.depth]++;
	return true;
}

/*
 * The frame's next entry of its phase. False at the end of the tree (a broken one ends where it
 * is broken).
 */
static bool frame_next(struct walker *walker, struct tree_entry *out)
{
	struct frame *frame = &walker->frames[walker->at.depth];

	while (tree_next(&frame->cursor, out) == 1) {
		uint32_t off = (uint32_t)((const uint8_t *)out->name - frame->tree->data);

		if (off < frame->from ||
		    (frame->files ? !tree_mode_is_file(out->mode) : out->mode != TREE_MODE_DIR))
			continue;
		walker->at.off[walker->at.depth] = off;
		return true;
	}
	return false;
}

static void note_missing(struct walker *walker)
{
	if (position_compare(&walker->at, &walker->missing) < 0)
		position_copy(&walker->missing, &walker->at);
}

/*
 * Enters the directory that at.off names. On the way to `seek` (not NULL) it begins there, else
 * at the front. What cannot be entered is passed over.
 */
static void enter(struct walker *walker, const struct oid *oid, const struct position *seek)
{
	struct position *at = &walker->at;
	uint32_t level = at->depth + 1;
	bool files = !seek || (level == seek->depth && seek->files);

	if (level > DEPTH_MAX)
		return;
	at->depth = level;
	if (frame_push(walker, oid, files, seek ? seek->off[level] : 0))
		return;
	at->depth--;
	at->files = false;
	note_missing(walker);
}

/* Whether the way from the root to `seek` leads through the directory that at.off names. */
static bool on_the_way(const struct position *at, const struct position *seek)
{
	return at->depth < seek->depth &&
	       memcmp(at->off, seek->off, (at->depth + 1) * sizeof(at->off[0])) == 0;
}

/* One step; false when the tree has ended. */
static bool step(struct walker *walker, const struct position *from, const struct position *to)
{
	struct frame *frame = &walker->frames[walker->at.depth];
	struct tree_entry entry;

	if (!frame_next(walker, &entry)) {
		if (!frame->files)
			return frame_pop(walker);
		frame_phase(frame, frame->cursor.algo, false, 0);
		walker->at.files = false;
		walker->at.off[walker->at.depth] = 0;
		return true;
	}
	if (position_compare(&walker->at, to) >= 0) {
		walker->full = true;
		return true;
	}
	if (frame->files)
		offer(walker, &entry.oid, entry.mode == TREE_MODE_LINK);
	else
		enter(walker, &entry.oid, on_the_way(&walker->at, from) ? from : NULL);
	return true;
}

/* Walks [from, to). True when `to` was reached; otherwise walker->at is where it ended. */
static bool walk_range(struct walker *walker, const struct node *root, const struct position *from,
		       const struct position *to)
{
	bool more;

	if (walker_stopped(walker) || position_compare(from, to) >= 0)
		return !walker_stopped(walker);
	walker->at.depth = 0;
	if (!frame_push(walker, &root->oid, from->depth == 0 && from->files, from->off[0]))
		return false;
	do {
		more = step(walker, from, to);
	} while (more && !walker_stopped(walker));
	if (!more)
		return !walker->error;

	bool reached = !walker->error && position_compare(&walker->at, to) >= 0;

	for (uint32_t level = 0; level <= walker->at.depth; level++)
		block_unref(walker->frames[level].tree);
	if (reached)
		walker->full = false;
	return reached;
}

/* Walks [from, to) without what was walked last. */
static bool walk_around(struct walker *walker, const struct node *root, const struct position *from,
			const struct position *to, const struct stretch *last)
{
	if (!last->known || position_compare(&last->begin, to) >= 0 ||
	    position_compare(&last->end, from) <= 0)
		return walk_range(walker, root, from, to);
	if (position_compare(from, &last->begin) < 0 &&
	    !walk_range(walker, root, from, &last->begin))
		return false;
	if (position_compare(&last->end, to) >= 0)
		return true;
	return walk_range(walker, root, position_compare(from, &last->end) < 0 ? &last->end : from,
			  to);
}

static const struct node *node_root_of(const struct node *node)
{
	while (node->parent)
		node = node->parent;
	return node;
}

/* The stretch that begins where the last one did when this walk goes on from it. */
static void stretch_begin(struct stretch *next, const struct stretch *last,
			  const struct position *here)
{
	bool inside = last->known && position_compare(&last->begin, here) <= 0 &&
		      position_compare(here, &last->end) <= 0;

	next->known = true;
	next->made_ms = last->known && stretch_is_all(last) ? last->made_ms : clock_ms();
	position_copy(&next->begin, inside ? &last->begin : here);
	if (!inside)
		next->begin.files = true; /* its own files were offered before */
}

/* What comes after this directory. True when it went through to the end of the tree. */
static bool go_on(struct walker *walker, const struct node *root, const struct position *here,
		  const struct stretch *last, struct stretch *next)
{
	bool reached = walk_around(walker, root, here, &position_end, last);

	position_copy(&next->end, reached ? &position_end : &walker->at);
	if (position_compare(&walker->missing, &next->end) < 0)
		position_copy(&next->end, &walker->missing);
	return reached;
}

/* What comes before this directory. */
static void begin_again(struct walker *walker, const struct node *root, const struct stretch *last,
			struct stretch *next)
{
	position_copy(&walker->missing, &position_end);
	if (walk_around(walker, root, &position_first, &next->begin, last) &&
	    position_compare(&walker->missing, &position_end) == 0)
		position_copy(&next->begin, &position_first);
}

static void leave_directory(struct walker *walker, struct walk_memory *memory)
{
	const struct node *root = node_root_of(walker->dir);
	struct stretch last, next;
	struct position here;

	if (!position_of_dir(walker->dir, &here))
		return;
	memory_load(memory, walker->kind, &last);
	stretch_begin(&next, &last, &here);
	if (go_on(walker, root, &here, &last, &next))
		begin_again(walker, root, &last, &next);
	if (!walker->error)
		memory_store(memory, walker->kind, &next);
}

int walk_gather(void *arg, const struct fetch_budget *budget, struct fetch_list *out)
{
	struct walk *walk = arg;
	struct walker *walker = calloc(1, sizeof(*walker));
	int ret;

	if (!walker)
		return -ENOMEM;
	walker->fetch = walk->fetch;
	walker->dir = walk->node->parent;
	walker->kind = budget->sizes ? KIND_SIZES : KIND_CONTENTS;
	walker->budget = budget;
	walker->out = out;
	walker->links = &walk->links;
	walker->patience = PATIENCE_MAX;
	position_copy(&walker->missing, &position_end);
	if (is_new(walker, &walk->node->oid)) {
		own_directory(walker, walk->node->index);
		if (budget->leave_directory && !walker_stopped(walker))
			leave_directory(walker, walk->memory);
	}
	ret = walker->error;
	seen_release(&walker->seen);
	free(walker);
	return ret;
}

/* ---- the place of a want ---- */

/* The directory so many levels above the file's; NULL above the root. */
static const struct node *dir_above(const struct walk *walk, unsigned up)
{
	const struct node *dir = walk->node->parent;

	while (dir && up--)
		dir = dir->parent;
	return dir;
}

int walk_tree(void *arg, unsigned up, struct oid *out)
{
	const struct node *dir = dir_above(arg, up);

	if (!dir)
		return -ENOENT;
	*out = dir->oid;
	return 0;
}

size_t walk_count(void *arg, unsigned up, size_t max, size_t *out_missing)
{
	const struct walk *walk = arg;
	const struct node *dir = dir_above(walk, up);

	*out_missing = 0;
	return dir ? tree_count_files(walk->fetch, &dir->oid, max, out_missing) : 0;
}

int walk_children(void *arg, unsigned up, struct fetch_list *out)
{
	const struct node *node = dir_above(arg, up);
	const struct dir *dir = node ? node_dir(node) : NULL;
	int ret = dir ? 0 : -ENOENT;

	for (uint32_t i = 0; ret == 0 && i < dir->count; i++) {
		struct oid oid;

		if (dir->v[i].kind != DIR_TREE)
			continue;
		oid = dir_oid(dir, i);
		ret = fetch_list_add(out, &oid);
	}
	return ret;
}
