/*
 * The fact {"last", "read"}: the id of the commit as text, a newline, the hashes of what was read.
 */
#include "repo/again.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/lock.h"
#include "base/log.h"
#include "git/object.h"
#include "repo/seen.h"
#include "repo/tree.h"

#define FACT_LAST "last"
#define FACT_READ "read"
#define READS_MAX ((size_t)1 << 16)
#define CHANGED_MAX ((size_t)4096)
#define CHANGED_MAX_LEN ((uint64_t)16 << 20) /* by the sizes that they had */
#define TREES_MAX 20000u		     /* compared */

struct again {
	/* set when made */
	struct fetch *fetch; /* borrowed */
	struct oid last, commit, tree;

	/* LOOKING: `changed` belongs to who looks; READY: it stays, sorted; OVER: to nobody */
	_Atomic int state; /* released with `changed` */
	struct fetch_list changed;

	struct lock lock;
	struct fetch_list reads; /* under lock */
	bool unsaved;		 /* under lock */
};

enum { IDLE, LOOKING, READY, OVER };

/* ---- what was read ---- */

static bool parse_reads(const struct buf *value, const struct oid *commit, struct fetch_list *out)
{
	size_t hash_len = oid_len(commit), off = hash_len * 2 + 1;
	char hex[OID_MAX_HEX + 1];

	oid_to_hex(commit, hex);
	if (value->len < off || memcmp(value->data, hex, hash_len * 2) != 0 ||
	    value->data[off - 1] != '\n')
		return false;
	for (; off + hash_len <= value->len && out->count < READS_MAX; off += hash_len) {
		struct oid oid = oid_from_bytes((enum oid_algo)commit->algo, value->data + off);

		if (fetch_list_add(out, &oid))
			return false;
	}
	return true;
}

/* False: nobody knows what was read of this commit. */
static bool recall(struct fetch *fetch, const struct oid *commit, struct fetch_list *out)
{
	struct buf value = BUF_INIT;
	bool known = fetch_fact_get(fetch, FACT_LAST, FACT_READ, &value, NULL) == 0 &&
		     parse_reads(&value, commit, out);

	buf_release(&value);
	return known;
}

void again_note(struct again *again, const struct oid *oid)
{
	lock_take(&again->lock);
	if (again->reads.count < READS_MAX && !fetch_list_add(&again->reads, oid))
		again->unsaved = true;
	lock_give(&again->lock);
}

/* 1: there is something to write; 0; -ENOMEM. */
static int reads_take(struct again *again, struct buf *out)
{
	char hex[OID_MAX_HEX + 1];
	int ret = 0;

	lock_take(&again->lock);
	if (again->unsaved)
		ret = buf_addf(out, "%s\n", oid_to_hex(&again->commit, hex));
	for (size_t i = 0; again->unsaved && !ret && i < again->reads.count; i++)
		ret = buf_add(out, again->reads.v[i].hash, oid_len(&again->reads.v[i]));
	if (again->unsaved && !ret)
		ret = 1;
	again->unsaved = false;
	lock_give(&again->lock);
	return ret;
}

void again_save(struct again *again)
{
	struct buf value = BUF_INIT;
	int ret = reads_take(again, &value);

	if (ret == 1)
		ret = fetch_fact_put(again->fetch, FACT_LAST, FACT_READ, value.data, value.len);
	if (ret)
		log_debug("repo: cannot remember what was read: %s", strerror(-ret));
	buf_release(&value);
}

/* ---- what has changed ---- */

struct comparison {
	struct again *again;
	bool known; /* what was read */
	struct seen reads;
	uint64_t len;
	unsigned trees;
};

static bool is_full(const struct comparison *comparison)
{
	return comparison->again->changed.count >= CHANGED_MAX ||
	       comparison->len >= CHANGED_MAX_LEN || comparison->trees >= TREES_MAX;
}

static bool was_read(struct comparison *comparison, const struct oid *oid)
{
	return comparison->known ? seen_has(&comparison->reads, oid) :
				   fetch_has(comparison->again->fetch, oid);
}

static void compare_files(struct comparison *comparison, const struct oid *old,
			  const struct oid *new)
{
	struct again *again = comparison->again;
	uint64_t size;

	if (oid_equal(old, new) || !was_read(comparison, old) ||
	    !fetch_size_known(again->fetch, old, &size) || fetch_is_large(again->fetch, size) ||
	    fetch_is_settled(again->fetch, new))
		return;
	if (!fetch_list_add(&again->changed, new))
		comparison->len += size;
}

/* As git sorts the entries of a tree: a directory's name ends with a slash. */
static int name_order(const struct tree_entry *a, const struct tree_entry *b)
{
	size_t len = a->name_len < b->name_len ? a->name_len : b->name_len;
	int order = memcmp(a->name, b->name, len);
	unsigned char a_next = a->mode == TREE_MODE_DIR ? '/' : 0;
	unsigned char b_next = b->mode == TREE_MODE_DIR ? '/' : 0;

	if (order)
		return order;
	if (a->name_len > len)
		a_next = (unsigned char)a->name[len];
	if (b->name_len > len)
		b_next = (unsigned char)b->name[len];
	return (int)a_next - (int)b_next;
}

static void compare_trees(struct comparison *comparison, const struct oid *old,
			  const struct oid *new, unsigned depth);

static void compare_entries(struct comparison *comparison, const struct tree_entry *old,
			    const struct tree_entry *new, unsigned depth)
{
	if (tree_mode_is_file(old->mode) && tree_mode_is_file(new->mode))
		compare_files(comparison, &old->oid, &new->oid);
	else if (old->mode == TREE_MODE_DIR && new->mode == TREE_MODE_DIR)
		compare_trees(comparison, &old->oid, &new->oid, depth + 1);
}

static void compare_blocks(struct comparison *comparison, const struct block *old,
			   const struct block *new, unsigned depth)
{
	enum oid_algo algo = (enum oid_algo)comparison->again->commit.algo;
	struct tree_cursor old_at, new_at;
	struct tree_entry old_entry, new_entry;
	int more;

	tree_cursor_init(&old_at, algo, old->data, old->len);
	tree_cursor_init(&new_at, algo, new->data, new->len);
	more = tree_next(&old_at, &old_entry) == 1 && tree_next(&new_at, &new_entry) == 1;
	while (more && !is_full(comparison)) {
		int order = name_order(&old_entry, &new_entry);

		if (order == 0)
			compare_entries(comparison, &old_entry, &new_entry, depth);
		more = (order > 0 || tree_next(&old_at, &old_entry) == 1) &&
		       (order < 0 || tree_next(&new_at, &new_entry) == 1);
	}
}

static void compare_trees(struct comparison *comparison, const struct oid *old,
			  const struct oid *new, unsigned depth)
{
	struct block *old_block, *new_block;

	if (oid_equal(old, new) || depth > TREE_DEPTH_MAX || is_full(comparison))
		return;
	comparison->trees++;
	old_block = tree_block(comparison->again->fetch, old);
	new_block = old_block ? tree_block(comparison->again->fetch, new) : NULL;
	if (new_block)
		compare_blocks(comparison, old_block, new_block, depth);
	block_unref(old_block);
	block_unref(new_block);
}

static int oid_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct oid));
}

static void look(struct again *again)
{
	struct comparison comparison = { .again = again };
	struct fetch_list reads = { 0 };
	struct oid old_tree;
	bool failed = false;

	comparison.known = recall(again->fetch, &again->last, &reads);
	for (size_t i = 0; i < reads.count && !failed; i++)
		failed = seen_add(&comparison.reads, &reads.v[i]) < 0;
	if (!failed && !tree_of_commit(again->fetch, &again->last, &old_tree))
		compare_trees(&comparison, &old_tree, &again->tree, 0);
	if (again->changed.count)
		qsort(again->changed.v, again->changed.count, sizeof(*again->changed.v), oid_order);
	log_debug("repo: %zu files that were read of the last commit have changed",
		  again->changed.count);
	seen_release(&comparison.reads);
	fetch_list_release(&reads);
}

/* ---- the misses ---- */

bool again_claim(struct again *again, const struct oid *oid, struct fetch_list *out)
{
	int state = atomic_load_explicit(&again->state, memory_order_acquire);

	if (state == IDLE &&
	    atomic_compare_exchange_strong_explicit(&again->state, &state, LOOKING,
						    memory_order_acquire, memory_order_acquire)) {
		look(again);
		state = again->changed.count ? READY : OVER;
		atomic_store_explicit(&again->state, state, memory_order_release);
	}
	if (state != READY || !bsearch(oid, again->changed.v, again->changed.count,
				       sizeof(*again->changed.v), oid_order))
		return false;
	if (!atomic_compare_exchange_strong_explicit(&again->state, &state, OVER,
						     memory_order_acquire, memory_order_acquire))
		return false;
	/* Others may be looking through it still: it goes with the whole. */
	for (size_t i = 0; i < again->changed.count; i++) {
		if (fetch_list_add(out, &again->changed.v[i]))
			break;
	}
	return true;
}

/* ---- life ---- */

struct again *again_new(struct fetch *fetch, const struct oid *last, const struct oid *commit,
			const struct oid *tree)
{
	struct again *again = calloc(1, sizeof(*again));

	if (!again)
		return NULL;
	again->fetch = fetch;
	again->last = *last;
	again->commit = *commit;
	again->tree = *tree;
	lock_init(&again->lock);
	if (oid_is_null(last) || last->algo != commit->algo || oid_equal(last, commit)) {
		again->state = OVER;
		recall(fetch, commit, &again->reads); /* it goes on */
	}
	return again;
}

void again_free(struct again **again_ptr)
{
	struct again *again = *again_ptr;

	*again_ptr = NULL;
	if (!again)
		return;
	fetch_list_release(&again->changed);
	fetch_list_release(&again->reads);
	lock_release(&again->lock);
	free(again);
}
