/*
 * pages: a page is sound when every offset in it stays in it, and every page number in the file.
 */
#include "cache/pages.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cache/bytes.h"

#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1
#define NO_PAGE UINT64_MAX
#define DEPTH_MAX 24

/* MDB_page */
#define PAGE_NUMBER 0
#define PAGE_FLAGS 10
#define PAGE_LOWER 12 /* overflow: how many pages, in four bytes */
#define PAGE_UPPER 14
#define PAGE_HEADER_LEN 16
#define PAGE_BRANCH 0x01u
#define PAGE_LEAF 0x02u
#define PAGE_OVERFLOW 0x04u

/* MDB_node; on a branch the first three fields are the page number */
#define NODE_LOW 0
#define NODE_HIGH 2
#define NODE_FLAGS 4
#define NODE_KEY_LEN 6
#define NODE_HEADER_LEN 8
#define NODE_BIG 0x01u
#define NODE_DATABASE 0x02u
#define NODE_DUPLICATES 0x04u

/* MDB_db */
#define DB_DEPTH 6
#define DB_ROOT 40
#define DB_LEN 48

/* MDB_meta, behind a page header */
#define META_DBS 24
#define META_FREE 0
#define META_MAIN 1
#define META_LAST_PAGE (META_DBS + 2 * DB_LEN)
#define META_TXN (META_LAST_PAGE + 8)

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

struct tree {
	const struct pages *pages;
	uint64_t page_count;
	const uint8_t *meta;
	uint64_t budget; /* pages that may be looked at: more than there are means a loop */
};

/* ---- one page ---- */

/* NULL: there is no such page, or it does not say that it is this one. */
static const uint8_t *page_at(const struct tree *tree, uint64_t number)
{
	const uint8_t *page;

	if (number < 2 || number >= tree->page_count)
		return NULL;
	page = tree->pages->map + number * tree->pages->page_len;
	return get_le64(page + PAGE_NUMBER) == number ? page : NULL;
}

static unsigned key_count(const uint8_t *page)
{
	return (get_le16(page + PAGE_LOWER) - PAGE_HEADER_LEN) / 2u;
}

static const uint8_t *node_at(const uint8_t *page, unsigned i)
{
	return page + get_le16(page + PAGE_HEADER_LEN + 2 * (size_t)i);
}

static uint64_t child_of(const uint8_t *node)
{
	return get_le16(node + NODE_LOW) | (uint64_t)get_le16(node + NODE_HIGH) << 16 |
	       (uint64_t)get_le16(node + NODE_FLAGS) << 32;
}

static size_t data_len(const uint8_t *node)
{
	return get_le16(node + NODE_LOW) | (size_t)get_le16(node + NODE_HIGH) << 16;
}

static const uint8_t *data_of(const uint8_t *node)
{
	return node + NODE_HEADER_LEN + get_le16(node + NODE_KEY_LEN);
}

static bool overflow_is_sound(const struct tree *tree, uint64_t number, size_t len)
{
	const uint8_t *page = page_at(tree, number);
	uint64_t count;

	if (!page || !(get_le16(page + PAGE_FLAGS) & PAGE_OVERFLOW))
		return false;
	count = get_le32(page + PAGE_LOWER);
	return count > 0 && count <= tree->page_count - number &&
	       count == (PAGE_HEADER_LEN - 1 + len) / tree->pages->page_len + 1;
}

static bool node_is_sound(const struct tree *tree, const uint8_t *page, unsigned i, bool leaf)
{
	size_t page_len = tree->pages->page_len, off, room;
	const uint8_t *node;
	unsigned flags;

	off = get_le16(page + PAGE_HEADER_LEN + 2 * (size_t)i);
	if (off < get_le16(page + PAGE_UPPER) || off + NODE_HEADER_LEN > page_len || off % 2)
		return false;
	node = page + off;
	room = page_len - off - NODE_HEADER_LEN;
	if (get_le16(node + NODE_KEY_LEN) > room)
		return false;
	if (!leaf)
		return child_of(node) >= 2 && child_of(node) < tree->page_count;
	room -= get_le16(node + NODE_KEY_LEN);
	flags = get_le16(node + NODE_FLAGS);
	if (flags & NODE_BIG)
		return room >= 8 &&
		       overflow_is_sound(tree, get_le64(data_of(node)), data_len(node));
	if (flags & NODE_DUPLICATES)
		return false; /* nothing of ours has any */
	return data_len(node) <= room && (!(flags & NODE_DATABASE) || data_len(node) == DB_LEN);
}

/* A branch or a leaf, whole in itself. */
static bool page_is_sound(const struct tree *tree, const uint8_t *page)
{
	unsigned flags = get_le16(page + PAGE_FLAGS) & 0x7fu;
	size_t lower = get_le16(page + PAGE_LOWER), upper = get_le16(page + PAGE_UPPER);
	bool leaf = flags == PAGE_LEAF;

	if ((!leaf && flags != PAGE_BRANCH) || lower < PAGE_HEADER_LEN || lower % 2 ||
	    lower > upper || upper > tree->pages->page_len)
		return false;
	if (key_count(page) < 1)
		return false;
	for (unsigned i = 0; i < key_count(page); i++)
		if (!node_is_sound(tree, page, i, leaf))
			return false;
	return true;
}

static const uint8_t *sound_page(struct tree *tree, uint64_t number)
{
	const uint8_t *page = page_at(tree, number);

	if (!page || tree->budget == 0 || !page_is_sound(tree, page))
		return NULL;
	tree->budget--;
	return page;
}

/* ---- the meta page ---- */

static const uint8_t *meta_at(const struct pages *pages, unsigned i)
{
	const uint8_t *meta = pages->map + i * pages->page_len + PAGE_HEADER_LEN;

	if (get_le32(meta) != META_MAGIC)
		return NULL;
	return meta;
}

static int tree_open(const struct pages *pages, struct tree *out)
{
	const uint8_t *a, *b;

	*out = (struct tree){ .pages = pages };
	if (pages->page_len < 512 || pages->page_len > 65536 || pages->len < 2 * pages->page_len)
		return -EBADMSG;
	a = meta_at(pages, 0);
	b = meta_at(pages, 1);
	if (!a || !b)
		return -EBADMSG;
	if (get_le32(a + 4) != META_VERSION || get_le32(b + 4) != META_VERSION)
		return -ENOTSUP;
	out->meta = get_le64(a + META_TXN) > get_le64(b + META_TXN) ? a : b;
	out->page_count = get_le64(out->meta + META_LAST_PAGE) + 1;
	if (out->page_count < 2 || out->page_count > pages->len / pages->page_len)
		return -EBADMSG;
	out->budget = out->page_count;
	return 0;
}

static const uint8_t *meta_db(const struct tree *tree, unsigned i)
{
	return tree->meta + META_DBS + (size_t)i * DB_LEN;
}

/* ---- along a key ---- */

static int key_compare(const uint8_t *node, const void *key, size_t key_len)
{
	size_t len = get_le16(node + NODE_KEY_LEN);
	int order = memcmp(node + NODE_HEADER_LEN, key, len < key_len ? len : key_len);

	return order ? order : len < key_len ? -1 : len > key_len;
}

/* The last child whose key is not greater; the first one's key does not count. */
static unsigned child_for(const uint8_t *page, const void *key, size_t key_len)
{
	unsigned low = 0, high = key_count(page);

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (key_compare(node_at(page, middle), key, key_len) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static bool child_is_sound(struct tree *tree, const uint8_t *page, unsigned i)
{
	return i >= key_count(page) || sound_page(tree, child_of(node_at(page, i)));
}

/*
 * All pages down to the leaf, and those beside them, which may be merged with it. *out_leaf is NULL
 * for an empty tree.
 */
static int path_check(struct tree *tree, const uint8_t *db, const void *key, size_t key_len,
		      const uint8_t **out_leaf)
{
	uint64_t number = get_le64(db + DB_ROOT);
	unsigned depth = get_le16(db + DB_DEPTH);

	*out_leaf = NULL;
	if (number == NO_PAGE)
		return depth == 0 ? 0 : -EBADMSG;
	if (depth == 0 || depth > DEPTH_MAX)
		return -EBADMSG;
	for (; depth > 0; depth--) {
		const uint8_t *page = sound_page(tree, number);
		bool leaf = page && (get_le16(page + PAGE_FLAGS) & PAGE_LEAF);
		unsigned i;

		if (!page || leaf != (depth == 1))
			return -EBADMSG;
		if (leaf) {
			*out_leaf = page;
			return 0;
		}
		i = child_for(page, key, key_len);
		if (!child_is_sound(tree, page, i + 1) ||
		    (i > 0 && !child_is_sound(tree, page, i - 1)))
			return -EBADMSG;
		number = child_of(node_at(page, i));
	}
	return -EBADMSG;
}

static const uint8_t *leaf_find(const uint8_t *leaf, const void *key, size_t key_len)
{
	for (unsigned i = 0; leaf && i < key_count(leaf); i++)
		if (key_compare(node_at(leaf, i), key, key_len) == 0)
			return node_at(leaf, i);
	return NULL;
}

int pages_check_path(const struct pages *pages, const char *name, const void *key, size_t key_len)
{
	struct tree tree;
	const uint8_t *leaf, *node;
	int rc = tree_open(pages, &tree);

	if (rc == 0)
		rc = path_check(&tree, meta_db(&tree, META_MAIN), name, strlen(name), &leaf);
	if (rc)
		return rc;
	node = leaf_find(leaf, name, strlen(name));
	if (!node || !(get_le16(node + NODE_FLAGS) & NODE_DATABASE))
		return -EBADMSG;
	return path_check(&tree, data_of(node), key, key_len, &leaf);
}

/* ---- everything ---- */

typedef int (*leaf_fn)(struct tree *tree, const uint8_t *leaf);

/* Depth first, with a stack of where it is on each level. */
static int walk(struct tree *tree, const uint8_t *db, leaf_fn fn)
{
	struct {
		const uint8_t *page;
		unsigned next;
	} stack[DEPTH_MAX];
	unsigned depth = get_le16(db + DB_DEPTH), level = 0;
	uint64_t number = get_le64(db + DB_ROOT);
	int rc = 0;

	if (number == NO_PAGE)
		return depth == 0 ? 0 : -EBADMSG;
	if (depth == 0 || depth > DEPTH_MAX)
		return -EBADMSG;
	for (;;) {
		const uint8_t *page = sound_page(tree, number);
		bool leaf = page && (get_le16(page + PAGE_FLAGS) & PAGE_LEAF);

		if (!page || leaf != (level + 1 == depth))
			return -EBADMSG;
		stack[level].page = page;
		stack[level].next = 0;
		if (leaf) {
			rc = fn(tree, page);
			if (rc)
				return rc;
			if (level == 0)
				return 0;
			level--;
		}
		while (stack[level].next == key_count(stack[level].page)) {
			if (level == 0)
				return 0;
			level--;
		}
		number = child_of(node_at(stack[level].page, stack[level].next++));
		level++;
	}
}

static int leaf_is_fine(struct tree *tree, const uint8_t *leaf)
{
	(void)tree, (void)leaf;
	return 0;
}

/* A transaction's number -> the pages that it freed, the highest first; the count comes before. */
static int free_leaf_check(struct tree *tree, const uint8_t *leaf)
{
	for (unsigned i = 0; i < key_count(leaf); i++) {
		const uint8_t *node = node_at(leaf, i), *list = data_of(node);
		size_t len = data_len(node);
		uint64_t count, before = tree->page_count;

		if (get_le16(node + NODE_FLAGS) & NODE_BIG)
			list = tree->pages->map + get_le64(list) * tree->pages->page_len +
			       PAGE_HEADER_LEN;
		if (get_le16(node + NODE_KEY_LEN) != 8 || len < 8)
			return -EBADMSG;
		count = get_le64(list);
		if (count > len / 8 - 1)
			return -EBADMSG;
		for (uint64_t k = 1; k <= count; k++) {
			uint64_t number = get_le64(list + 8 * k);

			if (number < 2 || number >= before)
				return -EBADMSG;
			before = number;
		}
	}
	return 0;
}

static int main_leaf_check(struct tree *tree, const uint8_t *leaf)
{
	int rc = 0;

	for (unsigned i = 0; i < key_count(leaf) && rc == 0; i++) {
		const uint8_t *node = node_at(leaf, i);

		if (!(get_le16(node + NODE_FLAGS) & NODE_DATABASE))
			return -EBADMSG;
		rc = walk(tree, data_of(node), leaf_is_fine);
	}
	return rc;
}

int pages_check_free(const struct pages *pages)
{
	struct tree tree;
	int rc = tree_open(pages, &tree);

	return rc ? rc : walk(&tree, meta_db(&tree, META_FREE), free_leaf_check);
}

int pages_check_all(const struct pages *pages)
{
	struct tree tree;
	int rc = tree_open(pages, &tree);

	if (rc == 0)
		rc = walk(&tree, meta_db(&tree, META_FREE), free_leaf_check);
	return rc ? rc : walk(&tree, meta_db(&tree, META_MAIN), main_leaf_check);
}
