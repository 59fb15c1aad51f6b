/*
 * Nodes and the table of them. The table is a set of locks: each slot of a directory's children
 * belongs to one of them, so that lookups of different names seldom meet. There is no lock for a
 * node that is already known: a nodeid is its address.
 */
#include "repo/node_internal.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/lock.h"

#define FUSE_ROOT 1u
#define STRIPE_COUNT 64u

struct stripe {
	_Alignas(64) struct lock lock;
};

struct node_table {
	struct stripe stripes[STRIPE_COUNT];
	_Atomic(struct node *) root; /* set before the session runs */
	_Atomic uint64_t count;	     /* relaxed, as the next: only counted */
	_Atomic uint64_t bytes;	     /* the known sizes of all nodes */
	struct lock lock;
	/* under lock */
	LIST_HEAD(, node) roots;
};

/* ---- life of the table ---- */

struct node_table *node_table_new(void)
{
	struct node_table *table = aligned_alloc(_Alignof(struct node_table), sizeof(*table));

	if (!table)
		return NULL;
	for (size_t i = 0; i < STRIPE_COUNT; i++)
		lock_init(&table->stripes[i].lock);
	lock_init(&table->lock);
	atomic_init(&table->root, NULL);
	atomic_init(&table->count, 0);
	atomic_init(&table->bytes, 0);
	LIST_INIT(&table->roots);
	return table;
}

void node_table_free(struct node_table **table_ptr)
{
	struct node_table *table = *table_ptr;

	*table_ptr = NULL;
	if (!table)
		return;
	for (struct node *root = LIST_FIRST(&table->roots), *next; root; root = next) {
		next = LIST_NEXT(root, root_entry);
		node_root_free(&root);
	}
	lock_release(&table->lock);
	for (size_t i = 0; i < STRIPE_COUNT; i++)
		lock_release(&table->stripes[i].lock);
	free(table);
}

void node_table_set_root(struct node_table *table, struct node *root)
{
	atomic_store_explicit(&table->root, root, memory_order_release);
}

struct node *node_from_id(struct node_table *table, uint64_t nodeid)
{
	if (nodeid == FUSE_ROOT)
		return atomic_load_explicit(&table->root, memory_order_acquire);
	return (struct node *)(uintptr_t)nodeid;
}

uint64_t node_id(const struct node_table *table, const struct node *node)
{
	if (node == atomic_load_explicit(&table->root, memory_order_acquire))
		return FUSE_ROOT;
	return (uint64_t)(uintptr_t)node;
}

uint64_t node_count(struct node_table *table)
{
	return atomic_load_explicit(&table->count, memory_order_relaxed);
}

uint64_t node_bytes(struct node_table *table)
{
	return atomic_load_explicit(&table->bytes, memory_order_relaxed);
}

struct repo *node_repo(const struct node *node)
{
	return node->repo;
}

/* ---- making and freeing ---- */

static struct lock *slot_lock(const struct node *parent, uint32_t index)
{
	uint64_t key = (uint64_t)(uintptr_t)parent / sizeof(struct node) + index;

	return &parent->table->stripes[(key * 0x9e3779b97f4a7c15ull >> 32) % STRIPE_COUNT].lock;
}

static struct node *node_new(struct node_table *table, struct repo *repo, enum dir_kind kind,
			     const struct oid *oid)
{
	struct node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->table = table;
	node->repo = repo;
	node->kind = (uint8_t)kind;
	node->oid = *oid;
	atomic_init(&node->refs, 1);
	atomic_init(&node->size, NODE_SIZE_UNKNOWN);
	atomic_init(&node->dir, NULL);
	atomic_fetch_add_explicit(&table->count, 1, memory_order_relaxed);
	return node;
}

static void node_free(struct node *node)
{
	if (node_size(node) != NODE_SIZE_UNKNOWN)
		atomic_fetch_sub_explicit(&node->table->bytes, node_size(node),
					  memory_order_relaxed);
	atomic_fetch_sub_explicit(&node->table->count, 1, memory_order_relaxed);
	dir_free(atomic_load_explicit(&node->dir, memory_order_relaxed));
	free(node);
}

/* The child that nobody can see yet. It holds its parent once it is in its slot. */
static struct node *child_new(struct node *parent, uint32_t index)
{
	const struct dir *dir = node_dir(parent);
	const struct dir_entry *entry = &dir->v[index];
	struct oid oid = dir_oid(dir, index);
	struct node *node = node_new(parent->table, parent->repo, (enum dir_kind)entry->kind, &oid);

	if (!node)
		return NULL;
	node->parent = parent;
	node->index = index;
	node->ino = entry->ino;
	node->path = inode_path_child(&parent->path, dir_name(dir, index), entry->name_len);
	if (node_is_dir(node))
		atomic_init(&node->size, 0);
	return node;
}

void node_hold(struct node *node)
{
	atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
}

/* The node in the slot, held; or `fresh` (may be NULL), which is then put there. */
static struct node *slot_take(struct node *parent, uint32_t index, struct node *fresh)
{
	struct lock *lock = slot_lock(parent, index);
	struct node **slot = &node_dir(parent)->children[index];
	struct node *found;

	lock_take(lock);
	found = *slot;
	if (found)
		node_hold(found);
	else
		*slot = fresh;
	lock_give(lock);
	return found;
}

struct node *node_child(struct node *parent, uint32_t index)
{
	struct node *found = slot_take(parent, index, NULL);
	struct node *fresh;

	if (found)
		return found;
	fresh = child_new(parent, index);
	if (!fresh)
		return NULL;
	node_hold(parent);
	found = slot_take(parent, index, fresh);
	if (!found)
		return fresh;
	node_forget(parent->table, parent, 1);
	node_free(fresh);
	return found;
}

void node_set_size(struct node *node, uint64_t size)
{
	uint64_t expected = NODE_SIZE_UNKNOWN;

	if (atomic_compare_exchange_strong_explicit(&node->size, &expected, size,
						    memory_order_relaxed, memory_order_relaxed))
		atomic_fetch_add_explicit(&node->table->bytes, size, memory_order_relaxed);
}

bool node_prove_size(struct node *node, uint64_t size)
{
	uint64_t before = atomic_exchange_explicit(&node->size, size, memory_order_relaxed);

	atomic_store_explicit(&node->proven, true, memory_order_relaxed);
	if (before == size)
		return true;
	atomic_store_explicit(&node->told, false, memory_order_relaxed); /* or a wrong one */
	atomic_fetch_add_explicit(&node->table->bytes,
				  before == NODE_SIZE_UNKNOWN ? size : size - before,
				  memory_order_relaxed);
	return before == NODE_SIZE_UNKNOWN;
}

struct dir *node_set_dir_take(struct node *node, struct dir *dir)
{
	struct dir *expected = NULL;

	if (atomic_compare_exchange_strong_explicit(&node->dir, &expected, dir,
						    memory_order_acq_rel, memory_order_acquire))
		return dir;
	dir_free(dir);
	return expected;
}

/* The first child at `*from` or behind it that is there, held; *from is its index then. */
static struct node *child_take_from(struct node *node, size_t *from)
{
	struct dir *dir = node_dir(node);

	for (; dir && *from < dir->count; ++*from) {
		struct node *child = slot_take(node, (uint32_t)*from, NULL);

		if (child)
			return child;
	}
	return NULL;
}

void node_each_of(struct node *root, const struct oid *oid,
		  void (*each)(void *arg, struct node *node), void *arg)
{
	struct node *node = root;
	size_t from = 0;

	for (;;) { /* every node on the way down is held; not recursive: see node_root_free() */
		struct node *child = child_take_from(node, &from);

		if (child) {
			if (oid_equal(&child->oid, oid))
				each(arg, child);
			node = child;
			from = 0;
			continue;
		}
		if (node == root)
			return;
		child = node;
		node = child->parent;
		from = (size_t)child->index + 1;
		node_forget(child->table, child, 1);
	}
}

/* ---- forgetting ---- */

/* Takes `count` away where that leaves some. False: the last ones would go. */
static bool refs_drop_unless_last(struct node *node, uint64_t count)
{
	uint64_t refs = atomic_load_explicit(&node->refs, memory_order_relaxed);

	while (refs > count) {
		/*
		 * release: what this holder did comes before the free by the last one, which
		 * acquires
		 */
		if (atomic_compare_exchange_weak_explicit(&node->refs, &refs, refs - count,
							  memory_order_release,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

/* True when the node has left its slot, and is the caller's to free. */
static bool refs_drop_last(struct node *node, uint64_t count)
{
	struct lock *lock = slot_lock(node->parent, node->index);
	bool last;

	lock_take(lock);
	last = atomic_fetch_sub_explicit(&node->refs, count, memory_order_acq_rel) <= count;
	if (last)
		node_dir(node->parent)->children[node->index] = NULL;
	lock_give(lock);
	return last;
}

void node_forget(struct node_table *table, struct node *node, uint64_t count)
{
	(void)table;
	while (!refs_drop_unless_last(node, count)) {
		struct node *parent = node->parent;

		/*
		 * A root is its repo's: a kernel that gives back more than it took does not end
		 * it.
		 */
		if (!parent || !refs_drop_last(node, count))
			return;
		node_free(node);
		node = parent;
		count = 1;
	}
}

/* ---- roots ---- */

struct node *node_root_new(struct node_table *table, struct repo *repo, const struct oid *tree,
			   const struct inode_path *path, uint64_t ino)
{
	struct node *node = node_new(table, repo, DIR_TREE, tree);

	if (!node)
		return NULL;
	node->path = *path;
	node->ino = ino;
	atomic_init(&node->size, 0);
	lock_take(&table->lock);
	LIST_INSERT_HEAD(&table->roots, node, root_entry);
	lock_give(&table->lock);
	return node;
}

/* The first child at `from` or behind it; NULL when there is none. */
static struct node *child_from(struct node *node, size_t from)
{
	struct dir *dir = node_dir(node);

	for (size_t i = from; dir && i < dir->count; i++) {
		if (dir->children[i])
			return dir->children[i];
	}
	return NULL;
}

void node_root_free(struct node **root_ptr)
{
	struct node *root = *root_ptr;
	struct node *node = root;
	size_t from = 0;

	*root_ptr = NULL;
	if (!root)
		return;
	lock_take(&root->table->lock);
	LIST_REMOVE(root, root_entry);
	lock_give(&root->table->lock);
	if (root == atomic_load_explicit(&root->table->root, memory_order_acquire))
		node_table_set_root(root->table, NULL);
	for (;;) { /* not recursive: a hostile tree is as deep as it likes */
		struct node *child = child_from(node, from);
		struct node *parent = node->parent;

		if (child) {
			node = child;
			from = 0;
			continue;
		}
		from = (size_t)node->index + 1;
		bool done = node == root;

		node_free(node);
		if (done)
			return;
		node = parent;
	}
}
