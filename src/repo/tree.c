#include "repo/tree.h"

#include <errno.h>

#define TREE_LEN_MAX ((size_t)64 << 20)
#define COMMIT_LEN_MAX ((size_t)64 << 20)

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

int tree_of_commit(struct fetch *fetch, const struct oid *commit, struct oid *out)
{
	struct content *content = NULL;
	struct block *block = NULL;
	struct commit parsed;
	int ret = fetch_get(fetch, commit, COMMIT_LEN_MAX, &content);

	if (ret)
		return ret;
	ret = content->type == OBJECT_COMMIT ? content_block(content, COMMIT_LEN_MAX, &block) :
					       -EBADMSG;
	if (!ret)
		ret = commit_parse((enum oid_algo)commit->algo, block->data, block->len, &parsed);
	if (!ret)
		*out = parsed.tree;
	block_unref(block);
	content_unref(content);
	return ret;
}

#define SAMPLE_EACH 8

struct count {
	struct fetch *fetch;
	size_t max, files, trees, missing;
	bool sample;
};

static bool count_is_full(const struct count *count)
{
	return count->files >= count->max || count->trees >= count->max;
}

static void count_file(struct count *count, const struct oid *oid)
{
	if (count->sample && count->files % SAMPLE_EACH == 0 &&
	    !fetch_is_settled(count->fetch, oid))
		count->missing += SAMPLE_EACH;
	count->files++;
}

/* Every level is a tree held in memory, and a call of this function. */
static void count_below(struct count *count, const struct oid *oid, unsigned depth)
{
	struct block *tree = depth < TREE_DEPTH_MAX ? tree_block(count->fetch, oid) : NULL;
	struct tree_cursor cursor;
	struct tree_entry entry;

	count->trees++;
	if (!tree)
		return;
	tree_cursor_init(&cursor, (enum oid_algo)oid->algo, tree->data, tree->len);
	while (!count_is_full(count) && tree_next(&cursor, &entry) == 1) {
		if (tree_mode_is_file(entry.mode))
			count_file(count, &entry.oid);
		else if (entry.mode == TREE_MODE_DIR)
			count_below(count, &entry.oid, depth + 1);
	}
	block_unref(tree);
}

size_t tree_count_files(struct fetch *fetch, const struct oid *oid, size_t max, size_t *out_missing)
{
	struct count count = { .fetch = fetch, .max = max, .sample = out_missing != NULL };

	count_below(&count, oid, 0);
	if (out_missing)
		*out_missing = count.missing < count.files ? count.missing : count.files;
	return count_is_full(&count) ? max : count.files;
}
