/*
 * Directories: built once from a tree's bytes, then only read. Finding is a binary search,
 * listing an index into an array. Nothing here knows where a tree comes from, nor what an inode
 * is.
 */
#include "repo/dir.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "git/object.h"

#define NO_INDEX UINT32_MAX

static enum dir_kind kind_from_mode(enum tree_mode mode)
{
	switch (mode) {
	case TREE_MODE_DIR:
		return DIR_TREE;
	case TREE_MODE_FILE:
		return DIR_FILE;
	case TREE_MODE_EXEC:
		return DIR_EXEC;
	case TREE_MODE_LINK:
		return DIR_LINK;
	case TREE_MODE_GITLINK:
		break;
	}
	return DIR_GITLINK;
}

uint32_t dir_kind_mode(enum dir_kind kind)
{
	switch (kind) {
	case DIR_FILE:
		return S_IFREG | 0644;
	case DIR_EXEC:
		return S_IFREG | 0755;
	case DIR_LINK:
		return S_IFLNK | 0777;
	case DIR_TREE:
	case DIR_GITLINK:
		break;
	}
	return S_IFDIR | 0755;
}

struct oid dir_oid(const struct dir *dir, size_t index)
{
	const struct dir_entry *entry = &dir->v[index];

	return oid_from_bytes(dir->algo, dir->block->data + entry->name_off + entry->name_len + 1);
}

/* ---- order ---- */

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (order)
		return order;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int entry_compare(const struct dir *dir, uint32_t a, uint32_t b)
{
	return name_compare(dir_name(dir, a), dir->v[a].name_len, dir_name(dir, b),
			    dir->v[b].name_len);
}

/* Equal names stay in the tree's order. */
static int index_compare(const void *a, const void *b, void *dir)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	int order = entry_compare(dir, left, right);

	if (order)
		return order;
	return left < right ? -1 : left > right;
}

static bool in_name_order(const struct dir *dir)
{
	for (size_t i = 1; i < dir->count; i++) {
		if (entry_compare(dir, (uint32_t)i - 1, (uint32_t)i) >= 0)
			return false;
	}
	return true;
}

/*
 * Takes the later ones of equal names out of the index, and marks their entries by a length of 0.
 * Returns how many.
 */
static size_t drop_doubles(struct dir *dir)
{
	size_t kept = 1;

	for (size_t i = 1; i < dir->count; i++) {
		uint32_t entry = dir->by_name[i];

		if (entry_compare(dir, dir->by_name[kept - 1], entry) == 0)
			dir->v[entry].name_len = 0;
		else
			dir->by_name[kept++] = entry;
	}
	return dir->count - kept;
}

static void drop_marked(struct dir *dir)
{
	size_t kept = 0;

	for (size_t i = 0; i < dir->count; i++) {
		if (dir->v[i].name_len)
			dir->v[kept++] = dir->v[i];
	}
	dir->count = kept;
}

static void sort_by_name(struct dir *dir)
{
	for (size_t i = 0; i < dir->count; i++)
		dir->by_name[i] = (uint32_t)i;
	qsort_r(dir->by_name, dir->count, sizeof(*dir->by_name), index_compare, dir);
}

static int index_build(struct dir *dir)
{
	if (dir->count < 2 || in_name_order(dir))
		return 0;
	dir->by_name = calloc(dir->count, sizeof(*dir->by_name));
	if (!dir->by_name)
		return -ENOMEM;
	sort_by_name(dir);
	if (drop_doubles(dir)) {
		drop_marked(dir);
		sort_by_name(dir);
	}
	return 0;
}

/* ---- entries ---- */

/* Counts with `v` NULL, fills otherwise. */
static int entries_read(const struct block *block, enum oid_algo algo, struct dir_entry *v,
			size_t *out_count)
{
	struct tree_cursor cursor;
	struct tree_entry entry;
	size_t count = 0;
	int ret;

	tree_cursor_init(&cursor, algo, block->data, block->len);
	while ((ret = tree_next(&cursor, &entry)) == 1) {
		if (tree_name_refused(entry.name, entry.name_len))
			continue;
		if (v)
			v[count] = (struct dir_entry){
				.name_off = (uint32_t)((const uint8_t *)entry.name - block->data),
				.name_len = (uint8_t)entry.name_len,
				.kind = (uint8_t)kind_from_mode(entry.mode),
			};
		count++;
	}
	*out_count = count;
	return ret;
}

static int dir_build(struct dir *dir)
{
	size_t count;
	int ret = entries_read(dir->block, dir->algo, NULL, &count);

	if (ret || count == 0)
		return ret;
	dir->v = calloc(count, sizeof(*dir->v));
	dir->children = calloc(count, sizeof(struct node *));
	if (!dir->v || !dir->children)
		return -ENOMEM;
	ret = entries_read(dir->block, dir->algo, dir->v, &dir->count);
	return ret ? ret : index_build(dir);
}

int dir_new(struct block *block, enum oid_algo algo, struct dir **out)
{
	struct dir *dir;
	int ret = 0;

	if (block && block->len >= NO_INDEX)
		return -EFBIG;
	dir = calloc(1, sizeof(*dir));
	if (!dir)
		return -ENOMEM;
	dir->algo = algo;
	if (block) {
		dir->block = block_ref(block);
		ret = dir_build(dir);
	}
	if (ret)
		dir_free(dir);
	else
		*out = dir;
	return ret;
}

void dir_free(struct dir *dir)
{
	if (!dir)
		return;
	free(dir->children);
	free(dir->by_name);
	free(dir->v);
	block_unref(dir->block);
	free(dir);
}

/* ---- finding ---- */

ssize_t dir_find(const struct dir *dir, const char *name, size_t name_len)
{
	size_t low = 0, high = dir->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		size_t index = dir->by_name ? dir->by_name[middle] : middle;
		int order =
			name_compare(name, name_len, dir_name(dir, index), dir->v[index].name_len);

		if (order == 0)
			return (ssize_t)index;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -ENOENT;
}
