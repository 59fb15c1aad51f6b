/*
 * size_rest: a listing with sizes that begins before all trees are here. What can be asked for then
 * is asked for then; the rest as soon as the trees have come, and not only when the listing gets
 * there.
 */
#include <stdlib.h>

#include "fetch/fetch_internal.h"
#include "git/object.h"

#define SIZES_MAX 10000
#define ENTRIES_MAX 50000 /* looked at: trees may name each other without end */
#define TREE_MAX_LEN ((size_t)64 << 20)

struct rest {
	struct fetch *fetch;
	struct fetch_list trees; /* a stack */
	struct fetch_list sizes, links;
	unsigned seen;
};

void size_rest_note_locked(struct fetch *fetch, const struct oid *tree)
{
	if (fetch->everything && !oid_is_null(tree))
		fetch->size_rest = *tree;
}

static int entry_take(struct rest *rest, const struct tree_entry *entry)
{
	uint64_t size;

	rest->seen++;
	if (entry->mode == TREE_MODE_DIR)
		return fetch_list_add(&rest->trees, &entry->oid);
	if (entry->mode == TREE_MODE_GITLINK || fetch_size_known(rest->fetch, &entry->oid, &size))
		return 0;
	/* A link is read by who asks for its size, and tells it that way. */
	return fetch_list_add(entry->mode == TREE_MODE_LINK ? &rest->links : &rest->sizes,
			      &entry->oid);
}

static int tree_take(struct rest *rest, const struct oid *oid)
{
	struct tree_cursor cursor;
	struct tree_entry entry;
	struct content *content;
	int status = 0;

	if (cache_get(rest->fetch->config.cache, oid, TREE_MAX_LEN, &content))
		return 0;
	if (content->block && content->type == OBJECT_TREE) {
		tree_cursor_init(&cursor, oid->algo, content->block->data, content->block->len);
		while (!status && tree_next(&cursor, &entry) == 1)
			status = entry_take(rest, &entry);
	}
	content_unref(content);
	return status;
}

void size_rest_ask(struct fetch *fetch)
{
	struct rest rest = { .fetch = fetch };
	struct oid tree;
	bool wanted;
	int status = 0;

	lock_take(&fetch->lock);
	tree = fetch->size_rest;
	fetch->size_rest = (struct oid){ .algo = 0 };
	wanted = !oid_is_null(&tree) && fetch_can_sizes_locked(fetch);
	lock_give(&fetch->lock);
	if (wanted)
		status = fetch_list_add(&rest.trees, &tree);
	while (wanted && !status && rest.trees.count > 0 && rest.sizes.count < SIZES_MAX &&
	       rest.seen < ENTRIES_MAX) {
		tree = rest.trees.v[--rest.trees.count];
		status = tree_take(&rest, &tree);
	}
	if (!status) {
		fetch_sizes_together(fetch, &rest.sizes);
		fetch_together(fetch, &rest.links, false);
	}
	fetch_list_release(&rest.trees);
	fetch_list_release(&rest.sizes);
	fetch_list_release(&rest.links);
}
