/*
 * pending: two lists and three hash tables of the same items. A fact that is put again while
 * the older value is being written is a second item; the table points to the newer one.
 */
#include "cache/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/*
 * What a descriptor of a file on disk is worth, as part of the bound: so few that they cannot pile
 * up without end, so many that small things need not wait for large ones.
 */
#define FD_COST_DIVISOR 64
#define FORGET_MAX_COUNT 1024

void pending_init(struct pending *pending, struct lock *lock, size_t max_len)
{
	memset(pending, 0, sizeof(*pending));
	pending->lock = lock;
	pending->max_len = max_len;
	pending->next_seq = 1;
	TAILQ_INIT(&pending->queue);
	TAILQ_INIT(&pending->large);
}

static void check_held(const struct pending *pending)
{
	if (!lock_held(pending->lock))
		abort();
}

/* ---- items ---- */

static struct pending_item *item_new(enum pending_kind kind)
{
	struct pending_item *item = calloc(1, sizeof(*item));

	if (!item)
		return NULL;
	item->kind = kind;
	item->cost = sizeof(*item);
	item->time_s = clock_wall_s();
	return item;
}

static size_t content_cost(const struct content *content, size_t max_len)
{
	size_t fd_max = max_len / FD_COST_DIVISOR;

	if (content->block)
		return content->block->len;
	return content->size < fd_max ? (size_t)content->size : fd_max;
}

struct pending_item *pending_item_object(struct content *content, size_t max_len)
{
	struct pending_item *item = item_new(PENDING_OBJECT);

	if (!item)
		return NULL;
	item->oid = content->oid;
	item->content = content_ref(content);
	item->cost += sizeof(*content) + content_cost(content, max_len);
	return item;
}

struct pending_item *pending_item_size(const struct oid *oid, uint64_t size)
{
	struct pending_item *item = item_new(PENDING_SIZE);

	if (!item)
		return NULL;
	item->oid = *oid;
	item->size = size;
	return item;
}

static size_t fact_fill(uint8_t *out, const char *kind, const void *key, size_t key_len,
			const void *value, size_t value_len)
{
	size_t kind_len = strlen(kind);

	memcpy(out, kind, kind_len + 1);
	if (key_len > 0)
		memcpy(out + kind_len + 1, key, key_len);
	if (value_len > 0)
		memcpy(out + kind_len + 1 + key_len, value, value_len);
	return kind_len + 1 + key_len;
}

struct pending_item *pending_item_fact(enum pending_kind kind, const char *fact_kind,
				       const void *key, size_t key_len, const void *value,
				       size_t value_len)
{
	struct pending_item *item = item_new(kind);
	size_t len = strlen(fact_kind) + 1 + key_len + value_len;

	if (!item)
		return NULL;
	item->fact = malloc(len);
	if (!item->fact) {
		free(item);
		return NULL;
	}
	fact_fill(item->fact, fact_kind, key, key_len, value, value_len);
	item->fact_kind_len = strlen(fact_kind);
	item->fact_key_len = key_len;
	item->fact_value_len = value_len;
	item->cost += len;
	return item;
}

struct pending_item *pending_item_forget(const struct oid *oid, uint32_t block,
					 const struct place *place)
{
	struct pending_item *item = item_new(PENDING_FORGET_OBJECT);

	if (!item)
		return NULL;
	item->oid = *oid;
	item->block = block;
	if (place)
		item->place = *place;
	return item;
}

static struct pending_item *item_of_part(enum pending_kind kind, const struct cache_part *part)
{
	struct pending_item *item = item_new(kind);

	if (!item)
		return NULL;
	item->size = part->size;
	item->type = part->type;
	item->part.name = part->name;
	return item;
}

struct pending_item *pending_item_part(const struct cache_part *part, uint32_t block,
				       struct block *bytes)
{
	struct pending_item *item = item_of_part(PENDING_PART, part);

	if (!item)
		return NULL;
	item->part.block = block;
	item->bytes = block_ref(bytes);
	item->cost += sizeof(*bytes) + bytes->len;
	return item;
}

struct pending_item *pending_item_adopt(const struct cache_part *part, const struct oid *oid,
					uint64_t seal)
{
	struct pending_item *item = item_of_part(PENDING_ADOPT, part);

	if (!item)
		return NULL;
	item->oid = *oid;
	item->seal = seal;
	return item;
}

struct pending_item *pending_item_unclaim(struct claims *claims, const struct oid *oid,
					  enum claim_kind kind)
{
	struct pending_item *item = item_new(PENDING_UNCLAIM);

	if (!item)
		return NULL;
	item->oid = *oid;
	item->claims = claims_ref(claims);
	item->claim_kind = kind;
	return item;
}

struct pending_item *pending_item_unclaim_blocks(struct claims *claims, const struct oid *name,
						 uint32_t first, uint32_t count)
{
	struct pending_item *item = pending_item_unclaim(claims, name, CLAIM_BLOCKS);

	if (!item)
		return NULL;
	item->block = first;
	item->block_count = count;
	return item;
}

struct pending_item *pending_item_drop(const struct oid *name)
{
	const struct cache_part part = { .name = *name };

	return item_of_part(PENDING_DROP, &part);
}

void pending_item_free(struct pending_item *item)
{
	if (!item)
		return;
	content_unref(item->content);
	block_unref(item->bytes);
	if (item->block_count)
		claims_give_blocks(item->claims, &item->oid, item->block, item->block_count);
	else
		claims_give(item->claims, &item->oid, item->claim_kind);
	claims_unref(item->claims);
	free(item->fact);
	free(item);
}

/* ---- hints: whether the lock need be taken at all ---- */

static unsigned hint_of(const struct oid *oid)
{
	return (oid->hash[0] | (unsigned)oid->hash[1] << 8) % PENDING_HINTS;
}

bool pending_may_hold(const struct pending *pending, const struct oid *oid)
{
	/* acquire: who finds 0 finds what the writer committed before it took the item out */
	return atomic_load_explicit(&pending->hints[hint_of(oid)], memory_order_acquire) != 0;
}

static void hint_add(struct pending *pending, const struct oid *oid)
{
	atomic_fetch_add_explicit(&pending->hints[hint_of(oid)], 1, memory_order_relaxed);
}

static void hint_remove(struct pending *pending, const struct oid *oid)
{
	atomic_fetch_sub_explicit(&pending->hints[hint_of(oid)], 1, memory_order_release);
}

/* ---- tables ---- */

static struct pending_item **table_of(struct pending *pending, const struct pending_item *item)
{
	switch (item->kind) {
	case PENDING_OBJECT:
		return &pending->objects;
	case PENDING_SIZE:
		return &pending->sizes;
	case PENDING_FACT:
		return &pending->facts;
	case PENDING_PART:
		return &pending->parts;
	default:
		return NULL;
	}
}

static const void *item_key(const struct pending_item *item, size_t *out_len)
{
	if (item->kind == PENDING_FACT) {
		*out_len = item->fact_kind_len + 1 + item->fact_key_len;
		return item->fact;
	}
	if (item->kind == PENDING_PART) {
		*out_len = sizeof(item->part);
		return &item->part;
	}
	*out_len = sizeof(item->oid);
	return &item->oid;
}

static struct pending_item *table_find(struct pending_item *table, const void *key, size_t key_len)
{
	struct pending_item *item;

	HASH_FIND(hh, table, key, key_len, item);
	return item;
}

static bool table_add(struct pending_item **table, struct pending_item *item)
{
	size_t key_len;
	const void *key = item_key(item, &key_len);

	HASH_ADD_KEYPTR(hh, *table, key, key_len, item);
	return item->hh.tbl != NULL;
}

static void table_remove(struct pending *pending, struct pending_item *item)
{
	struct pending_item **table = table_of(pending, item);
	size_t key_len;
	const void *key = item_key(item, &key_len);

	/* Unless a newer one took its place. */
	if (table && table_find(*table, key, key_len) == item)
		HASH_DELETE(hh, *table, item);
}

struct pending_item *pending_find_object_locked(struct pending *pending, const struct oid *oid)
{
	check_held(pending);
	return table_find(pending->objects, oid, sizeof(*oid));
}

struct pending_item *pending_find_size_locked(struct pending *pending, const struct oid *oid)
{
	check_held(pending);
	return table_find(pending->sizes, oid, sizeof(*oid));
}

struct pending_item *pending_find_fact_locked(struct pending *pending, const char *kind,
					      const void *key, size_t key_len)
{
	uint8_t small[512];
	size_t len = strlen(kind) + 1 + key_len;
	uint8_t *bytes = len <= sizeof(small) ? small : malloc(len);
	struct pending_item *item = NULL;

	check_held(pending);
	if (!bytes)
		return NULL;
	if (pending->facts) {
		fact_fill(bytes, kind, key, key_len, NULL, 0);
		item = table_find(pending->facts, bytes, len);
	}
	if (bytes != small)
		free(bytes);
	return item;
}

struct pending_item *pending_find_part_locked(struct pending *pending, const struct oid *name,
					      uint32_t block)
{
	const struct pending_part_key key = { .name = *name, .block = block };

	check_held(pending);
	return pending->parts ? table_find(pending->parts, &key, sizeof(key)) : NULL;
}

void pending_map_parts_locked(struct pending *pending, const struct oid *name, uint32_t count,
			      uint8_t *out)
{
	check_held(pending);
	for (struct pending_item *item = pending->parts; item; item = item->hh.next)
		if (oid_equal(&item->part.name, name) && item->part.block < count)
			out[item->part.block / 8] |= (uint8_t)(1u << item->part.block % 8);
}

/* ---- lists ---- */

static struct pending_list *list_of(struct pending *pending, const struct pending_item *item)
{
	return item->large ? &pending->large : &pending->queue;
}

static void list_add(struct pending *pending, struct pending_item *item)
{
	hint_add(pending, &item->oid);
	item->seq = pending->next_seq++;
	TAILQ_INSERT_TAIL(list_of(pending, item), item, link);
	pending->len += item->cost;
	pending->count++;
	if (item->content)
		pending->content_bytes += item->content->size;
	if (item->bytes)
		pending->content_bytes += item->bytes->len;
	if (item->kind >= PENDING_FORGET_OBJECT)
		pending->forget_count++;
}

static void list_remove(struct pending *pending, struct pending_item *item)
{
	hint_remove(pending, &item->oid);
	TAILQ_REMOVE(list_of(pending, item), item, link);
	pending->len -= item->cost;
	pending->count--;
	if (item->content)
		pending->content_bytes -= item->content->size;
	if (item->bytes)
		pending->content_bytes -= item->bytes->len;
	if (item->kind >= PENDING_FORGET_OBJECT)
		pending->forget_count--;
}

bool pending_has_room_locked(const struct pending *pending, size_t cost)
{
	check_held(pending);
	return pending->len == 0 ||
	       (cost <= pending->max_len && pending->len <= pending->max_len - cost);
}

/* Of one key only the newest waits; facts may change, everything else is the same thing again. */
static int replace_older(struct pending *pending, struct pending_item *item,
			 struct pending_item **out_freed)
{
	size_t key_len;
	const void *key = item_key(item, &key_len);
	struct pending_item **table = table_of(pending, item);
	struct pending_item *old = table_find(*table, key, key_len);

	if (!old)
		return 0;
	if (item->kind == PENDING_OBJECT || item->kind == PENDING_PART ||
	    (item->kind == PENDING_SIZE && item->size == old->size)) {
		*out_freed = item;
		return -EEXIST;
	}
	HASH_DELETE(hh, *table, old);
	if (!old->writing) {
		list_remove(pending, old);
		*out_freed = old;
	}
	return 0;
}

int pending_add_locked(struct pending *pending, struct pending_item *item,
		       struct pending_item **out_freed)
{
	struct pending_item **table = table_of(pending, item);
	int rc;

	check_held(pending);
	*out_freed = NULL;
	if (!table && pending->forget_count >= FORGET_MAX_COUNT) {
		*out_freed = item;
		return -ENOSPC;
	}
	if (table) {
		rc = replace_older(pending, item, out_freed);
		if (rc)
			return rc;
		if (!table_add(table, item)) {
			/* No object replaces another, so this frees memory and closes nothing. */
			pending_item_free(*out_freed);
			*out_freed = item;
			return -ENOMEM;
		}
	}
	list_add(pending, item);
	return 0;
}

static struct pending_item *oldest_idle(struct pending_list *list)
{
	struct pending_item *item;

	TAILQ_FOREACH(item, list, link)
		if (!item->writing)
			return item;
	return NULL;
}

struct pending_item *pending_drop_oldest_locked(struct pending *pending)
{
	struct pending_item *item = oldest_idle(&pending->queue);
	struct pending_item *large = oldest_idle(&pending->large);

	check_held(pending);
	if (!item || (large && large->seq < item->seq))
		item = large;
	if (item)
		pending_remove_locked(pending, item);
	return item;
}

void pending_drop_parts_locked(struct pending *pending, const struct oid *name,
			       struct pending_list *out_gone)
{
	struct pending_item *next, *item = TAILQ_FIRST(&pending->queue);

	check_held(pending);
	for (; item; item = next) {
		next = TAILQ_NEXT(item, link);
		if (item->kind != PENDING_PART || item->writing ||
		    !oid_equal(&item->part.name, name))
			continue;
		pending_remove_locked(pending, item);
		TAILQ_INSERT_TAIL(out_gone, item, link);
	}
}

static size_t item_len(const struct pending_item *item)
{
	if (item->bytes)
		return item->bytes->len;
	return item->content ? (size_t)item->content->size : item->fact_value_len;
}

size_t pending_take_locked(struct pending *pending, struct pending_item **out, size_t max_count,
			   size_t max_len)
{
	struct pending_item *item;
	size_t count = 0, len = 0;

	check_held(pending);
	TAILQ_FOREACH(item, &pending->queue, link) {
		if (count == max_count || (count > 0 && len + item_len(item) > max_len))
			break;
		item->writing = true;
		out[count++] = item;
		len += item_len(item);
	}
	return count;
}

struct pending_item *pending_take_large_locked(struct pending *pending)
{
	struct pending_item *item = TAILQ_FIRST(&pending->large);

	check_held(pending);
	if (item)
		item->writing = true;
	return item;
}

void pending_put_back_locked(struct pending *pending, struct pending_item *item)
{
	check_held(pending);
	item->writing = false;
}

void pending_remove_locked(struct pending *pending, struct pending_item *item)
{
	check_held(pending);
	table_remove(pending, item);
	list_remove(pending, item);
}

bool pending_is_past_locked(const struct pending *pending, uint64_t seq)
{
	const struct pending_item *first = TAILQ_FIRST(&pending->queue);
	const struct pending_item *large = TAILQ_FIRST(&pending->large);

	check_held(pending);
	return (!first || first->seq >= seq) && (!large || large->seq >= seq);
}
