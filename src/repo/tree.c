#include "repo/tree.h"

#define TREE_LEN_MAX ((size_t)64 << 20)

struct block *tree_block(struct fetch *fetch, const struct oid *oid)
{
	struct content *content = NULL;
	struct block *block = NULL;

	if (fetch_get(fetch, oid, TREE_LEN_MAX, &content))
		return NULL;
	if (content->type != OBJECT_TREE || content_block(content, TREE_LEN_MAX, &block))
		block = NULL;
	content_unref(content);
	return block;
}

/* Every level is a tree held in memory, and a call of this function. */
static size_t count_below(struct fetch *fetch, const struct oid *oid, unsigned depth, size_t max)
{
	struct block *tree = depth < TREE_DEPTH_MAX ? tree_block(fetch, oid) : NULL;
	struct tree_cursor cursor;
	struct tree_entry entry;
	size_t count = 0;

	if (!tree)
		return 0;
	tree_cursor_init(&cursor, (enum oid_algo)oid->algo, tree->data, tree->len);
	while (count < max && tree_next(&cursor, &entry) == 1) {
		if (tree_mode_is_file(entry.mode))
			count++;
		else if (entry.mode == TREE_MODE_DIR)
			count += count_below(fetch, &entry.oid, depth + 1, max - count);
	}
	block_unref(tree);
	return count;
}

size_t tree_count_files(struct fetch *fetch, const struct oid *oid, size_t max)
{
	return count_below(fetch, oid, 0, max);
}
