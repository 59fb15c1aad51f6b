/*
 * The fact {"last", "commit"}: the id as text.
 */
#include "repo/step.h"

#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "git/object.h"
#include "repo/seen.h"
#include "repo/tree.h"

#define FACT_LAST "last"
#define FACT_LAST_KEY "commit"

bool step_last(struct fetch *fetch, struct oid *out)
{
	struct buf value = BUF_INIT;
	bool known = fetch_fact_get(fetch, FACT_LAST, FACT_LAST_KEY, &value, NULL) == 0 &&
		     oid_from_hex((const char *)value.data, value.len, out) == 0;

	buf_release(&value);
	return known;
}

void step_remember(struct fetch *fetch, const struct oid *commit)
{
	char hex[OID_MAX_HEX + 1];
	int ret;

	oid_to_hex(commit, hex);
	ret = fetch_fact_put(fetch, FACT_LAST, FACT_LAST_KEY, hex, strlen(hex));
	if (ret)
		log_debug("repo: cannot remember %s as the last commit: %s", hex, strerror(-ret));
}

/*
 * All trees and all small blobs. Ends at the first that is not: a tree read in parts is soon seen.
 * What was seen is whole: the same tree may be in very many places.
 */
static bool tree_is_whole(struct fetch *fetch, const struct oid *oid, unsigned depth,
			  struct seen *seen)
{
	struct block *tree = depth < TREE_DEPTH_MAX ? tree_block(fetch, oid) : NULL;
	struct tree_cursor cursor;
	struct tree_entry entry;
	bool whole = true;

	if (!tree)
		return false;
	tree_cursor_init(&cursor, (enum oid_algo)oid->algo, tree->data, tree->len);
	while (whole && tree_next(&cursor, &entry) == 1) {
		if (tree_mode_is_file(entry.mode))
			whole = fetch_is_settled(fetch, &entry.oid);
		else if (entry.mode == TREE_MODE_DIR && seen_add(seen, &entry.oid))
			whole = tree_is_whole(fetch, &entry.oid, depth + 1, seen);
	}
	block_unref(tree);
	return whole;
}

static bool commit_is_whole(struct fetch *fetch, const struct oid *commit)
{
	struct seen seen = { 0 };
	struct oid tree;
	bool whole = !tree_of_commit(fetch, commit, &tree) && tree_is_whole(fetch, &tree, 0, &seen);

	seen_release(&seen);
	return whole;
}

void step_prepare(struct fetch *fetch, const struct oid *commit)
{
	struct oid last;

	if (fetch_commit_is_here(fetch, commit) || !step_last(fetch, &last) ||
	    last.algo != commit->algo || oid_equal(&last, commit) ||
	    !fetch_commit_is_here(fetch, &last))
		return;
	fetch_step_from(fetch, &last, commit_is_whole(fetch, &last));
}
