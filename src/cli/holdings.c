/*
 * holdings: a stack of trees. Each is walked once, however often it is named: a few small trees can
 * name each other so often that no walk would ever end.
 */
#include "cli/holdings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/buf.h"
#include "fetch/fetch.h"
#include "git/object.h"
#include "repo/resolve.h"

#define TREE_MAX_LEN ((size_t)256 << 20)
#define COMMIT_MAX_LEN ((size_t)16 << 20)

struct holdings_tree {
	struct oid oid;
	UT_hash_handle hh;
};

void holdings_init(struct holdings *holdings, struct cache *cache)
{
	*holdings = (struct holdings){ .cache = cache };
}

void holdings_release(struct holdings *holdings)
{
	struct holdings_tree *tree, *next;

	HASH_ITER(hh, holdings->seen, tree, next) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		HASH_DEL(holdings->seen, tree);
		free(tree);
	}
	fetch_list_release(&holdings->oids);
}

int holdings_commit(struct cache *cache, const struct source *source, struct oid *out,
		    struct xcp_error *err)
{
	const char *ref = source->ref ? source->ref : "HEAD";
	struct buf key = BUF_INIT, value = BUF_INIT;
	int ret;

	if (oid_from_hex(ref, strlen(ref), out) == 0)
		return 0;
	ret = fetch_fact_key(source->identity, ref, &key);
	if (!ret)
		ret = cache_fact_get(cache, RESOLVE_FACT, key.data, key.len, &value, NULL);
	if (!ret)
		ret = oid_from_hex((const char *)value.data, value.len, out);
	buf_release(&key);
	buf_release(&value);
	if (ret == -ENOMEM)
		return xcp_error_set(err, ret, "out of memory");
	return ret ? xcp_error_set(err, -ENOENT,
				   "nothing of %s is in the cache under the name %s; was it "
				   "mounted or prefetched with this cache?",
				   source->url, ref) :
		     0;
}

/* ---- objects ---- */

static bool is_tree(const struct holdings *holdings, const struct oid *oid)
{
	struct holdings_tree *tree;

	HASH_FIND(hh, holdings->seen, oid, sizeof(*oid), tree);
	return tree != NULL;
}

/* 1: it was not seen before. */
static int tree_see(struct holdings *holdings, const struct oid *oid)
{
	struct holdings_tree *tree;

	if (is_tree(holdings, oid))
		return 0;
	tree = malloc(sizeof(*tree));
	if (!tree)
		return -ENOMEM;
	tree->oid = *oid;
	HASH_ADD(hh, holdings->seen, oid, sizeof(tree->oid), tree);
	return 1;
}

/* In memory, and what it should be; else it is as good as not here. */
static struct content *object_get(struct holdings *holdings, const struct oid *oid,
				  enum object_type type, size_t max_len)
{
	struct content *content;

	if (cache_get(holdings->cache, oid, max_len, &content))
		return NULL;
	if (content->type == type && content->block)
		return content;
	content_unref(content);
	return NULL;
}

static bool is_dir(const struct tree_entry *entry)
{
	return entry->mode == TREE_MODE_DIR;
}

/* ---- below a tree ---- */

/* Its entries: files are named, trees wait. */
static int tree_take(struct holdings *holdings, struct fetch_list *stack, const struct oid *oid)
{
	struct content *content;
	struct tree_cursor cursor;
	struct tree_entry entry;
	int ret = tree_see(holdings, oid);

	if (ret <= 0)
		return ret;
	ret = fetch_list_add(&holdings->oids, oid);
	if (ret)
		return ret;
	content = object_get(holdings, oid, OBJECT_TREE, TREE_MAX_LEN);
	if (!content) {
		holdings->unseen++;
		return 0;
	}
	tree_cursor_init(&cursor, oid->algo, content->block->data, content->block->len);
	while (ret == 0 && tree_next(&cursor, &entry) == 1) {
		if (entry.mode == TREE_MODE_GITLINK)
			continue;
		ret = is_dir(&entry) ? fetch_list_add(stack, &entry.oid) :
				       fetch_list_add(&holdings->oids, &entry.oid);
	}
	content_unref(content);
	return ret;
}

static int below(struct holdings *holdings, const struct oid *tree)
{
	struct fetch_list stack = { 0 };
	int ret = fetch_list_add(&stack, tree);

	while (ret == 0 && stack.count > 0) {
		struct oid next = stack.v[--stack.count];

		ret = tree_take(holdings, &stack, &next);
	}
	fetch_list_release(&stack);
	return ret;
}

/* ---- down a path ---- */

static int object_parse_commit(struct holdings *holdings, const struct oid *oid, struct oid *out)
{
	struct content *content = object_get(holdings, oid, OBJECT_COMMIT, COMMIT_MAX_LEN);
	struct commit commit;
	int ret;

	if (!content)
		return -ENOENT;
	ret = commit_parse(oid->algo, content->block->data, content->block->len, &commit);
	if (ret == 0)
		*out = commit.tree;
	content_unref(content);
	return ret;
}

/* The entry of a name; -ENOENT, -ENODATA when the tree is not here. */
static int step_down(struct holdings *holdings, const struct oid *tree, const char *name,
		     size_t name_len, struct oid *out, bool *out_is_dir)
{
	struct content *content = object_get(holdings, tree, OBJECT_TREE, TREE_MAX_LEN);
	struct tree_cursor cursor;
	struct tree_entry entry;
	int ret = -ENOENT;

	if (!content)
		return -ENODATA;
	tree_cursor_init(&cursor, tree->algo, content->block->data, content->block->len);
	while (ret == -ENOENT && tree_next(&cursor, &entry) == 1) {
		if (entry.name_len != name_len || memcmp(entry.name, name, name_len) ||
		    entry.mode == TREE_MODE_GITLINK)
			continue;
		*out = entry.oid;
		*out_is_dir = is_dir(&entry);
		ret = 0;
	}
	content_unref(content);
	return ret;
}

static int along(struct holdings *holdings, const struct oid *root, const char *path,
		 struct xcp_error *err)
{
	struct oid at = *root;
	const char *rest = path;
	bool dir = true;
	int ret = 0;

	while (ret == 0 && *(rest += strspn(rest, "/"))) {
		size_t len = strcspn(rest, "/");

		if (!dir)
			ret = -ENOENT;
		if (ret == 0)
			ret = fetch_list_add(&holdings->oids, &at);
		if (ret == 0)
			ret = step_down(holdings, &at, rest, len, &at, &dir);
		rest += len;
	}
	if (ret == -ENOENT)
		return xcp_error_set(err, ret, "there is no %s in it", path);
	if (ret == -ENODATA)
		return xcp_error_set(err, -ENOENT, "the way to %s is not in the cache", path);
	if (ret == 0)
		ret = dir ? below(holdings, &at) : fetch_list_add(&holdings->oids, &at);
	return ret ? xcp_error_set(err, ret, "out of memory") : 0;
}

int holdings_add(struct holdings *holdings, const struct oid *commit, const char *path,
		 struct xcp_error *err)
{
	struct oid root;
	int ret = object_parse_commit(holdings, commit, &root);
	char hex[OID_MAX_HEX + 1];

	if (ret == 0)
		ret = fetch_list_add(&holdings->oids, commit);
	if (ret)
		return xcp_error_set(err, ret == -ENOMEM ? ret : -ENOENT,
				     "commit %s is not in the cache", oid_to_hex(commit, hex));
	return along(holdings, &root, path, err);
}

/* ---- in all ---- */

static int oid_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct oid));
}

void holdings_sum(struct holdings *holdings)
{
	size_t unique = 0;

	if (holdings->oids.count > 0)
		qsort(holdings->oids.v, holdings->oids.count, sizeof(*holdings->oids.v), oid_order);
	for (size_t i = 0; i < holdings->oids.count; i++) {
		const struct oid *oid = &holdings->oids.v[i];
		struct cache_stat stat = { .type = OBJECT_NONE };
		bool here, file;

		if (unique > 0 && oid_equal(oid, &holdings->oids.v[unique - 1]))
			continue;
		holdings->oids.v[unique++] = *oid;
		here = cache_stat(holdings->cache, oid, &stat) == 0 && stat.has_content;
		file = !is_tree(holdings, oid) && stat.type != OBJECT_TREE &&
		       stat.type != OBJECT_COMMIT;
		holdings->files += file;
		if (!here)
			continue;
		holdings->files_here += file;
		holdings->raw_bytes += stat.size;
		holdings->stored_bytes += stat.stored_bytes;
	}
	holdings->oids.count = unique;
}

void holdings_files_only(struct holdings *holdings)
{
	size_t count = 0;

	for (size_t i = 0; i < holdings->oids.count; i++) {
		const struct oid *oid = &holdings->oids.v[i];
		struct cache_stat stat = { .type = OBJECT_NONE };

		cache_stat(holdings->cache, oid, &stat);
		if (!is_tree(holdings, oid) && stat.type != OBJECT_COMMIT)
			holdings->oids.v[count++] = *oid;
	}
	holdings->oids.count = count;
}
