/*
 * pages: the checks go from the page inwards (its nodes tile it), then from page to page (each
 * belongs to one parent, whose keys enclose its own). The second kind finds what a flipped page
 * number does: it leads to another page that is sound in itself.
 */
#include "cache/pages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/bytes.h"

#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1
#define NO_PAGE UINT64_MAX
#define DEPTH_MAX 24
#define KEY_MAX_LEN 511
#define PAGE_MIN_LEN 512u
#define PAGE_MAX_LEN 32768u

/* MDB_page */
#define PAGE_NUMBER 0
#define PAGE_FLAGS 10
#define PAGE_LOWER 12 /* overflow: how many pages, in four bytes */
#define PAGE_UPPER 14
#define PAGE_HEADER_LEN 16
#define PAGE_BRANCH 0x01u
#define PAGE_LEAF 0x02u
#define PAGE_OVERFLOW 0x04u
#define PAGE_META 0x08u

/* MDB_node; on a branch the first three fields are the page number */
#define NODE_LOW 0
#define NODE_HIGH 2
#define NODE_FLAGS 4
#define NODE_KEY_LEN 6
#define NODE_HEADER_LEN 8
#define NODE_BIG 0x01u
#define NODE_DATABASE 0x02u

/* MDB_db */
#define DB_PAD 0 /* of the free pages' database: the length of a page */
#define DB_FLAGS 4
#define DB_DEPTH 6
#define DB_ROOT 40
#define DB_LEN 48
#define DB_INTEGER_KEY 0x08u

/* MDB_meta, behind a page header */
#define META_DBS 24
#define META_FREE 0
#define META_MAIN 1
#define META_LAST_PAGE (META_DBS + 2 * DB_LEN)
#define META_TXN (META_LAST_PAGE + 8)
#define META_LEN (META_TXN + 8)

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

struct pages_look {
	struct pages pages;
	uint64_t page_count;
	uint8_t meta[META_LEN]; /* a copy: the next but one takes its place */
	/* a bit for each page */
	uint64_t *taken; /* free, or of the database of free ones */
	uint64_t *used;	 /* by pages_look_all(): of another */
	uint64_t *sound; /* in itself */
	uint64_t *wide;	 /* and all its children */
};

/* false: it was set before. */
static bool bit_set(uint64_t *bits, uint64_t i)
{
	uint64_t bit = UINT64_C(1) << i % 64;

	if (bits[i / 64] & bit)
		return false;
	bits[i / 64] |= bit;
	return true;
}

static bool bit_get(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

struct tree {
	struct pages_look *look;
	uint64_t *marks; /* who walks all of it marks each page there; or NULL */
	int (*compare)(const void *a, size_t a_len, const void *b, size_t b_len);
	uint64_t root;
	unsigned depth;
};

/* ---- keys ---- */

static int bytes_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* 0 for two that are not numbers: such a page is out of order. */
static int number_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	if (a_len != 8 || b_len != 8)
		return 0;
	return (get_le64(a) > get_le64(b)) - (get_le64(a) < get_le64(b));
}

static const uint8_t *key_of(const uint8_t *node)
{
	return node + NODE_HEADER_LEN;
}

static size_t key_len_of(const uint8_t *node)
{
	return get_le16(node + NODE_KEY_LEN);
}

static int nodes_compare(const struct tree *tree, const uint8_t *a, const uint8_t *b)
{
	return tree->compare(key_of(a), key_len_of(a), key_of(b), key_len_of(b));
}

/* ---- one page ---- */

/* NULL: there is no such page, it does not say that it is this one, or it is somebody else's. */
static const uint8_t *page_at(const struct tree *tree, uint64_t number)
{
	const struct pages_look *look = tree->look;
	const uint8_t *page;

	if (number < 2 || number >= look->page_count ||
	    (tree->marks != look->taken && bit_get(look->taken, number)))
		return NULL;
	page = look->pages.map + number * look->pages.page_len;
	return get_le64(page + PAGE_NUMBER) == number ? page : NULL;
}

static unsigned key_count(const uint8_t *page)
{
	return (get_le16(page + PAGE_LOWER) - PAGE_HEADER_LEN) / 2u;
}

static bool is_leaf(const uint8_t *page)
{
	return get_le16(page + PAGE_FLAGS) == PAGE_LEAF;
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
	return key_of(node) + key_len_of(node);
}

static bool is_big(const uint8_t *node)
{
	return get_le16(node + NODE_FLAGS) & NODE_BIG;
}

/* It may have more pages than it needs: a shorter value that took the place of one just written. */
static bool overflow_is_sound(const struct tree *tree, uint64_t number, size_t len)
{
	const struct pages_look *look = tree->look;
	const uint8_t *page = page_at(tree, number);
	uint64_t count;

	if (!page || get_le16(page + PAGE_FLAGS) != PAGE_OVERFLOW)
		return false;
	count = get_le32(page + PAGE_LOWER);
	if (count == 0 || count > look->page_count - number ||
	    count < (PAGE_HEADER_LEN - 1 + len) / look->pages.page_len + 1)
		return false;
	for (uint64_t i = number; i < number + count; i++) {
		if (tree->marks && !bit_set(tree->marks, i))
			return false;
		if (tree->marks != look->taken && bit_get(look->taken, i))
			return false;
	}
	return true;
}

/* What LMDB still keeps on a leaf, its header, key and data together. */
static size_t node_max_len(size_t page_len)
{
	return ((page_len - PAGE_HEADER_LEN) / 2 & ~(size_t)1) - 2;
}

/* How much of the page the node takes; 0: it is not sound. */
static size_t node_look(const struct tree *tree, const uint8_t *page, size_t off)
{
	size_t page_len = tree->look->pages.page_len, len;
	const uint8_t *node = page + off;
	unsigned flags;

	if (off < get_le16(page + PAGE_UPPER) || off + NODE_HEADER_LEN > page_len || off % 2)
		return 0;
	len = NODE_HEADER_LEN + key_len_of(node);
	if (key_len_of(node) > KEY_MAX_LEN || off + len > page_len)
		return 0;
	if (!is_leaf(page)) {
		if (child_of(node) < 2 || child_of(node) >= tree->look->page_count)
			return 0;
		return (len + 1) & ~(size_t)1;
	}
	flags = get_le16(node + NODE_FLAGS);
	if (key_len_of(node) == 0 || (flags != 0 && flags != NODE_BIG && flags != NODE_DATABASE))
		return 0;
	if (flags == NODE_BIG) {
		len += sizeof(uint64_t);
		if (off + len > page_len ||
		    !overflow_is_sound(tree, get_le64(data_of(node)), data_len(node)))
			return 0;
		return (len + 1) & ~(size_t)1;
	}
	if (flags == NODE_DATABASE && data_len(node) != DB_LEN)
		return 0;
	if (data_len(node) > node_max_len(page_len) - len)
		return 0;
	len += data_len(node);
	return off + len <= page_len ? (len + 1) & ~(size_t)1 : 0;
}

/*
 * From the first to the end of the page each begins where the one before ends, and there are no
 * others. LMDB adds up their lengths when it moves them.
 */
static bool nodes_tile(const struct tree *tree, const uint8_t *page)
{
	size_t page_len = tree->look->pages.page_len, off;
	uint64_t starts[PAGE_MAX_LEN / 2 / 64];
	uint16_t lens[PAGE_MAX_LEN / 2];
	unsigned count = key_count(page), i;

	memset(starts, 0, page_len / 2 / 8);
	for (i = 0; i < count; i++) {
		size_t len;

		off = get_le16(page + PAGE_HEADER_LEN + 2 * (size_t)i);
		len = node_look(tree, page, off);
		if (len == 0 || !bit_set(starts, off / 2))
			return false;
		lens[off / 2] = (uint16_t)len;
	}
	off = get_le16(page + PAGE_UPPER);
	for (i = 0; off < page_len && bit_get(starts, off / 2); i++)
		off += lens[off / 2];
	return off == page_len && i == count;
}

/* On a branch the first key does not count. */
static unsigned first_key(const uint8_t *page)
{
	return is_leaf(page) ? 0 : 1;
}

/* A branch or a leaf, whole in itself. */
static bool page_is_sound(const struct tree *tree, const uint8_t *page)
{
	unsigned flags = get_le16(page + PAGE_FLAGS);
	size_t lower = get_le16(page + PAGE_LOWER), upper = get_le16(page + PAGE_UPPER);

	if ((flags != PAGE_LEAF && flags != PAGE_BRANCH) || lower < PAGE_HEADER_LEN || lower % 2 ||
	    lower > upper || upper > tree->look->pages.page_len || upper % 2)
		return false;
	if (key_count(page) < 1 || !nodes_tile(tree, page))
		return false;
	for (unsigned i = first_key(page) + 1; i < key_count(page); i++)
		if (nodes_compare(tree, node_at(page, i - 1), node_at(page, i)) >= 0)
			return false;
	return true;
}

/* ---- from page to page ---- */

/* Of the parents' nodes: low <= keys < high; NULL: no limit. */
struct span {
	const uint8_t *low, *high;
};

static bool is_within(const struct tree *tree, const uint8_t *page, struct span span)
{
	unsigned first = first_key(page), last = key_count(page) - 1;

	if (first > last)
		return true;
	return (!span.low || nodes_compare(tree, node_at(page, first), span.low) >= 0) &&
	       (!span.high || nodes_compare(tree, node_at(page, last), span.high) < 0);
}

static struct span child_span(const uint8_t *page, unsigned i, struct span span)
{
	return (struct span){
		.low = i > 0 ? node_at(page, i) : span.low,
		.high = i + 1 < key_count(page) ? node_at(page, i + 1) : span.high,
	};
}

/* depth 1: a leaf. */
static const uint8_t *sound_page(const struct tree *tree, uint64_t number, unsigned depth,
				 struct span span)
{
	const uint8_t *page = page_at(tree, number);

	if (!page || (tree->marks && !bit_set(tree->marks, number)))
		return NULL;
	if (!bit_get(tree->look->sound, number) && !page_is_sound(tree, page))
		return NULL;
	if (!tree->marks) /* a walk marks what the page's nodes lead to, too: each time */
		bit_set(tree->look->sound, number);
	return is_leaf(page) == (depth == 1) && is_within(tree, page, span) ? page : NULL;
}

static bool child_is_sound(const struct tree *tree, const uint8_t *page, unsigned i, unsigned depth,
			   struct span span)
{
	return sound_page(tree, child_of(node_at(page, i)), depth - 1, child_span(page, i, span));
}

static bool children_are_sound(const struct tree *tree, const uint8_t *page, unsigned depth,
			       struct span span)
{
	uint64_t number = get_le64(page + PAGE_NUMBER);

	if (bit_get(tree->look->wide, number))
		return true;
	for (unsigned i = 0; i < key_count(page); i++)
		if (!child_is_sound(tree, page, i, depth, span))
			return false;
	bit_set(tree->look->wide, number);
	return true;
}

/* ---- a look ---- */

static const uint8_t *meta_db(const struct pages_look *look, unsigned i)
{
	return look->meta + META_DBS + (size_t)i * DB_LEN;
}

static int tree_open(struct pages_look *look, const uint8_t *db, unsigned flags, uint64_t *marks,
		     struct tree *out)
{
	*out = (struct tree){ .look = look,
			      .marks = marks,
			      .compare = flags & DB_INTEGER_KEY ? number_compare : bytes_compare,
			      .root = get_le64(db + DB_ROOT),
			      .depth = get_le16(db + DB_DEPTH) };
	if (get_le16(db + DB_FLAGS) != flags || out->depth > DEPTH_MAX ||
	    (out->root == NO_PAGE) != (out->depth == 0))
		return -EBADMSG;
	return 0;
}

static bool is_meta(const uint8_t *head)
{
	const uint8_t *meta = head + PAGE_HEADER_LEN;

	return get_le16(head + PAGE_FLAGS) == PAGE_META && get_le32(meta) == META_MAGIC &&
	       get_le32(meta + 4) == META_VERSION;
}

static int meta_open(struct pages_look *look, uint64_t txn)
{
	const struct pages *pages = &look->pages;
	const uint8_t *head;

	if (pages->page_len < PAGE_MIN_LEN || pages->page_len > PAGE_MAX_LEN ||
	    pages->page_len % PAGE_MIN_LEN || pages->len < 2 * pages->page_len)
		return -EBADMSG;
	/* Two, used in turn. */
	head = pages->map + txn % 2 * pages->page_len;
	memcpy(look->meta, head + PAGE_HEADER_LEN, META_LEN);
	look->page_count = get_le64(look->meta + META_LAST_PAGE) + 1;
	if (!is_meta(head) || get_le64(look->meta + META_TXN) != txn || look->page_count < 2 ||
	    look->page_count > pages->len / pages->page_len ||
	    get_le32(meta_db(look, META_FREE) + DB_PAD) != pages->page_len)
		return -EBADMSG;
	return 0;
}

/* ---- along a key ---- */

/* The last child whose key is not greater. */
static unsigned child_for(const struct tree *tree, const uint8_t *page, const void *key,
			  size_t key_len)
{
	unsigned low = 0, high = key_count(page);

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;
		const uint8_t *node = node_at(page, middle);

		if (tree->compare(key_of(node), key_len_of(node), key, key_len) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The children on both sides of the one that is gone to. */
static bool beside_are_sound(const struct tree *tree, const uint8_t *page, unsigned i,
			     unsigned depth, struct span span)
{
	return (i == 0 || child_is_sound(tree, page, i - 1, depth, span)) &&
	       (i + 1 == key_count(page) || child_is_sound(tree, page, i + 1, depth, span));
}

static bool nephews_are_sound(const struct tree *tree, const uint8_t *page, unsigned i,
			      unsigned depth, struct span span)
{
	struct span inner = child_span(page, i, span);
	const uint8_t *child = sound_page(tree, child_of(node_at(page, i)), depth - 1, inner);

	return child && children_are_sound(tree, child, depth - 1, inner);
}

/*
 * A page that gets thin is merged with the one beside it, which is merged with the next: all that
 * have the same parent, and those of the parents beside that one.
 */
static bool around_are_sound(const struct tree *tree, const uint8_t *page, unsigned i,
			     unsigned depth, struct span span)
{
	if (!children_are_sound(tree, page, depth, span))
		return false;
	if (depth == 2)
		return true;
	return (i == 0 || nephews_are_sound(tree, page, i - 1, depth, span)) &&
	       (i + 1 == key_count(page) || nephews_are_sound(tree, page, i + 1, depth, span));
}

typedef bool (*sides_fn)(const struct tree *tree, const uint8_t *page, unsigned i, unsigned depth,
			 struct span span);

/* All pages down to the leaf, with those at their sides. *out_leaf is NULL for an empty tree. */
static int path_look(const struct tree *tree, const void *key, size_t key_len, sides_fn sides,
		     const uint8_t **out_leaf)
{
	uint64_t number = tree->root;
	struct span span = { NULL, NULL };

	*out_leaf = NULL;
	for (unsigned depth = tree->depth; depth > 0; depth--) {
		const uint8_t *page = sound_page(tree, number, depth, span);
		unsigned i;

		if (!page)
			return -EBADMSG;
		if (depth == 1) {
			*out_leaf = page;
			return 0;
		}
		i = child_for(tree, page, key, key_len);
		if (!sides(tree, page, i, depth, span))
			return -EBADMSG;
		number = child_of(node_at(page, i));
		span = child_span(page, i, span);
	}
	return 0;
}

static const uint8_t *leaf_find(const uint8_t *leaf, const void *key, size_t key_len)
{
	for (unsigned i = 0; leaf && i < key_count(leaf); i++) {
		const uint8_t *node = node_at(leaf, i);

		if (bytes_compare(key_of(node), key_len_of(node), key, key_len) == 0)
			return node;
	}
	return NULL;
}

/* The database's own entry is written with it. */
static int key_look(struct pages_look *look, const char *name, const void *key, size_t key_len,
		    sides_fn sides)
{
	const uint8_t *leaf, *node;
	struct tree tree;
	int rc = tree_open(look, meta_db(look, META_MAIN), 0, NULL, &tree);

	if (rc == 0)
		rc = path_look(&tree, name, strlen(name), beside_are_sound, &leaf);
	if (rc)
		return rc;
	node = leaf_find(leaf, name, strlen(name));
	if (!node || get_le16(node + NODE_FLAGS) != NODE_DATABASE)
		return -EBADMSG;
	rc = tree_open(look, data_of(node), 0, NULL, &tree);
	return rc ? rc : path_look(&tree, key, key_len, sides, &leaf);
}

int pages_look_put(struct pages_look *look, const char *name, const void *key, size_t key_len)
{
	return key_look(look, name, key, key_len, beside_are_sound);
}

int pages_look_delete(struct pages_look *look, const char *name, const void *key, size_t key_len)
{
	return key_look(look, name, key, key_len, around_are_sound);
}

/* ---- everything ---- */

typedef int (*leaf_fn)(const struct tree *tree, const uint8_t *leaf);

/* Depth first, with a stack of where it is on each level. */
static int walk(const struct tree *tree, leaf_fn fn)
{
	struct {
		const uint8_t *page;
		struct span span;
		unsigned next;
	} stack[DEPTH_MAX];
	struct span span = { NULL, NULL };
	uint64_t number = tree->root;
	unsigned level = 0;

	if (tree->depth == 0)
		return 0;
	for (;;) {
		const uint8_t *page = sound_page(tree, number, tree->depth - level, span);

		if (!page)
			return -EBADMSG;
		stack[level].page = page;
		stack[level].span = span;
		stack[level].next = 0;
		if (is_leaf(page)) {
			int rc = fn(tree, page);

			if (rc || level == 0)
				return rc;
			level--;
		}
		while (stack[level].next == key_count(stack[level].page)) {
			if (level == 0)
				return 0;
			level--;
		}
		page = stack[level].page;
		number = child_of(node_at(page, stack[level].next));
		span = child_span(page, stack[level].next, stack[level].span);
		stack[level++].next++;
	}
}

static int leaf_is_fine(const struct tree *tree, const uint8_t *leaf)
{
	(void)tree, (void)leaf;
	return 0;
}

/* A transaction's number -> the pages that it freed, the highest first; the count comes before. */
static int free_list_look(const struct pages_look *look, const uint8_t *list, size_t len)
{
	uint64_t count, before = look->page_count;

	if (len < 8)
		return -EBADMSG;
	count = get_le64(list);
	if (count > len / 8 - 1)
		return -EBADMSG;
	for (uint64_t k = 1; k <= count; k++) {
		uint64_t number = get_le64(list + 8 * k);

		if (number < 2 || number >= before || !bit_set(look->taken, number))
			return -EBADMSG;
		before = number;
	}
	return 0;
}

static int free_leaf_look(const struct tree *tree, const uint8_t *leaf)
{
	const struct pages *pages = &tree->look->pages;
	int rc = 0;

	for (unsigned i = 0; i < key_count(leaf) && rc == 0; i++) {
		const uint8_t *node = node_at(leaf, i), *list = data_of(node);

		if (key_len_of(node) != 8)
			return -EBADMSG;
		if (is_big(node))
			list = pages->map + get_le64(list) * pages->page_len + PAGE_HEADER_LEN;
		rc = free_list_look(tree->look, list, data_len(node));
	}
	return rc;
}

static int main_leaf_look(const struct tree *tree, const uint8_t *leaf)
{
	int rc = 0;

	for (unsigned i = 0; i < key_count(leaf) && rc == 0; i++) {
		const uint8_t *node = node_at(leaf, i);
		struct tree inner;

		if (get_le16(node + NODE_FLAGS) != NODE_DATABASE)
			return -EBADMSG;
		rc = tree_open(tree->look, data_of(node), 0, tree->marks, &inner);
		if (rc == 0)
			rc = walk(&inner, leaf_is_fine);
	}
	return rc;
}

int pages_look_all(struct pages_look *look)
{
	size_t words = look->page_count / 64 + 1;
	struct tree tree;
	int rc = tree_open(look, meta_db(look, META_MAIN), 0, look->used, &tree);

	memset(look->used, 0, words * sizeof(*look->used));
	return rc ? rc : walk(&tree, main_leaf_look);
}

int pages_look_begin(const struct pages *pages, uint64_t txn, struct pages_look **out)
{
	struct pages_look *look = calloc(1, sizeof(*look));
	struct tree tree;
	size_t words;
	int rc;

	if (!look)
		return -ENOMEM;
	look->pages = *pages;
	rc = meta_open(look, txn);
	if (rc == 0) {
		words = look->page_count / 64 + 1;
		look->taken = calloc(4 * words, sizeof(*look->taken));
		rc = look->taken ? 0 : -ENOMEM;
	}
	if (rc == 0) {
		look->used = look->taken + words;
		look->sound = look->used + words;
		look->wide = look->sound + words;
		rc = tree_open(look, meta_db(look, META_FREE), DB_INTEGER_KEY, look->taken, &tree);
	}
	if (rc == 0)
		rc = walk(&tree, free_leaf_look);
	if (rc)
		pages_look_end(&look);
	else
		*out = look;
	return rc;
}

void pages_look_end(struct pages_look **look)
{
	if (!*look)
		return;
	free((*look)->taken);
	free(*look);
	*look = NULL;
}

/* ---- before it is opened ---- */

static bool page_len_is_sound(uint32_t len)
{
	return len >= PAGE_MIN_LEN && len <= PAGE_MAX_LEN && (len & (len - 1)) == 0;
}

int pages_check_head(int fd)
{
	uint8_t head[PAGE_HEADER_LEN + META_LEN];
	const uint8_t *meta = head + PAGE_HEADER_LEN;
	uint32_t page_len = 0;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size == 0)
		return 0; /* LMDB begins it anew */
	for (unsigned i = 0; i < 2; i++) {
		uint32_t len;
		ssize_t n = pread(fd, head, sizeof(head), (off_t)i * (off_t)page_len);

		if (n != (ssize_t)sizeof(head))
			return n < 0 ? -errno : -EBADMSG;
		len = get_le32(meta + META_DBS + DB_PAD);
		if (!is_meta(head) || !page_len_is_sound(len) || (i > 0 && len != page_len) ||
		    get_le64(meta + META_LAST_PAGE) >= (uint64_t)st.st_size / len)
			return -EBADMSG;
		page_len = len;
	}
	return 0;
}
