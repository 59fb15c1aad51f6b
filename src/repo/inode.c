/*
 * Inode numbers: an open-addressing table of every number that was handed out, with the
 * fingerprint of the path that has it, and a hash table of the few exceptions. Nothing is ever
 * taken out: a number stays its path's as long as the mount lives, whether the kernel remembers
 * it or not.
 */
#include "repo/inode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, key_len, out) (out) = (unsigned)XXH3_64bits(key, key_len)
#define uthash_nonfatal_oom(exception) ((exception)->ino = 0)
#include <uthash.h>

#include "base/lock.h"

#define HASH_SEED 0x7863706673u	 /* any constant, for ever the same */
#define CHECK_SEED 0x696e6f6465u /* another */
#define SLOTS_MIN 256u
#define PROBES_MAX 64u /* beyond (only in a table of very few bits) the path shares a number */

struct slot {
	uint64_t ino; /* 0: free */
	uint64_t check;
};

struct exception {
	struct inode_path path;
	uint64_t ino;
	UT_hash_handle hh;
};

struct inode_table {
	uint64_t mask;	 /* of a number's bits */
	uint64_t spread; /* odd, random: nobody outside can choose which slots collide */

	struct lock lock;
	/* under lock */
	struct slot *slots;
	size_t slot_count; /* a power of two */
	size_t used;
	struct exception *exceptions;
	uint64_t changes;
};

/* ---- fingerprints ---- */

struct inode_path inode_path_root(void)
{
	return (struct inode_path){ XXH3_64bits_withSeed("", 0, HASH_SEED),
				    XXH3_64bits_withSeed("", 0, CHECK_SEED) };
}

struct inode_path inode_path_child(const struct inode_path *parent, const char *name,
				   size_t name_len)
{
	return (struct inode_path){ XXH3_64bits_withSeed(name, name_len, parent->hash),
				    XXH3_64bits_withSeed(name, name_len, parent->check) };
}

/* ---- slots ---- */

static bool ino_usable(const struct inode_table *table, uint64_t ino)
{
	/* readdir takes 0 for no entry; 1 is FUSE's own root */
	return ino > 1 && ino <= table->mask;
}

/* The slot that holds `ino`, or the free one where it belongs. */
static struct slot *slot_find_locked(const struct inode_table *table, uint64_t ino)
{
	size_t i = (size_t)((ino * table->spread) >> 32);

	for (;; i++) {
		struct slot *slot = &table->slots[i & (table->slot_count - 1)];

		if (slot->ino == ino || slot->ino == 0)
			return slot;
	}
}

static int slots_grow_locked(struct inode_table *table)
{
	struct slot *old = table->slots;
	size_t old_count = table->slot_count;
	size_t count = old_count ? old_count * 2 : SLOTS_MIN;
	struct slot *slots = calloc(count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	table->slots = slots;
	table->slot_count = count;
	for (size_t i = 0; i < old_count; i++) {
		if (old[i].ino)
			*slot_find_locked(table, old[i].ino) = old[i];
	}
	free(old);
	return 0;
}

/* Room for one more, at three quarters full. */
static int slots_reserve_locked(struct inode_table *table)
{
	return (table->used + 1) * 4 > table->slot_count * 3 ? slots_grow_locked(table) : 0;
}

/* True when `ino` is the path's now: it was, or was free. */
static bool slot_claim_locked(struct inode_table *table, uint64_t ino, uint64_t check)
{
	struct slot *slot = slot_find_locked(table, ino);

	if (slot->ino)
		return slot->check == check;
	*slot = (struct slot){ ino, check };
	table->used++;
	return true;
}

/* ---- exceptions ---- */

static struct exception *exception_find_locked(struct inode_table *table,
					       const struct inode_path *path)
{
	struct exception *found;

	HASH_FIND(hh, table->exceptions, path, sizeof(*path), found);
	return found;
}

static int exception_add_locked(struct inode_table *table, const struct inode_path *path,
				uint64_t ino)
{
	struct exception *exception = calloc(1, sizeof(*exception));

	if (!exception)
		return -ENOMEM;
	exception->path = *path;
	exception->ino = ino;
	HASH_ADD(hh, table->exceptions, path, sizeof(*path), exception);
	if (exception->ino == 0) { /* out of memory: not added */
		free(exception);
		return -ENOMEM;
	}
	return 0;
}

/*
 * The n-th number to try for a path: the hash's own bits first, then others that only depend on
 * the path.
 */
static uint64_t candidate(const struct inode_table *table, const struct inode_path *path,
			  unsigned n)
{
	if (n == 0)
		return path->hash & table->mask;
	return XXH3_64bits_withSeed(path, sizeof(*path), n) & table->mask;
}

static int assign_locked(struct inode_table *table, const struct inode_path *path, uint64_t *out)
{
	struct exception *known = table->exceptions ? exception_find_locked(table, path) : NULL;
	int ret = slots_reserve_locked(table);

	if (ret)
		return ret;
	if (known) {
		*out = known->ino;
		return 0;
	}
	for (unsigned n = 0; n < PROBES_MAX; n++) {
		uint64_t ino = candidate(table, path, n);

		if (!ino_usable(table, ino) || !slot_claim_locked(table, ino, path->check))
			continue;
		if (n > 0) {
			ret = exception_add_locked(table, path, ino);
			table->changes++;
		}
		*out = ino;
		return ret;
	}
	*out = candidate(table, path, 0) | 2;
	return 0;
}

int inode_assign(struct inode_table *table, const struct inode_path *path, uint64_t *out)
{
	lock_take(&table->lock);
	int ret = assign_locked(table, path, out);
	lock_give(&table->lock);
	return ret;
}

/* ---- loading and saving ---- */

static int load_one_locked(struct inode_table *table, const struct inode_path *path, uint64_t ino)
{
	int ret = slots_reserve_locked(table);

	if (ret || !ino_usable(table, ino) || exception_find_locked(table, path))
		return ret;
	if (!slot_claim_locked(table, ino, path->check))
		return 0;
	return exception_add_locked(table, path, ino);
}

int inode_table_load(struct inode_table *table, const char *text, size_t len)
{
	const char *end = text + len;
	int ret = 0;

	while (text < end && ret == 0) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t line_len = (size_t)((newline ? newline : end) - text);
		struct inode_path path;
		uint64_t ino;
		char line[80];

		if (line_len < sizeof(line)) {
			memcpy(line, text, line_len);
			line[line_len] = '\0';
			if (sscanf(line, "%16" SCNx64 " %16" SCNx64 " %16" SCNx64, &path.hash,
				   &path.check, &ino) == 3) {
				lock_take(&table->lock);
				ret = load_one_locked(table, &path, ino);
				lock_give(&table->lock);
			}
		}
		text += line_len + 1;
	}
	return ret;
}

int inode_table_save(struct inode_table *table, struct buf *out)
{
	int ret = 0;

	lock_take(&table->lock);
	for (struct exception *e = table->exceptions; e && ret == 0; e = e->hh.next)
		ret = buf_addf(out, "%016" PRIx64 " %016" PRIx64 " %012" PRIx64 "\n", e->path.hash,
			       e->path.check, e->ino);
	lock_give(&table->lock);
	return ret;
}

uint64_t inode_table_changes(struct inode_table *table)
{
	lock_take(&table->lock);
	uint64_t changes = table->changes;
	lock_give(&table->lock);
	return changes;
}

uint64_t inode_count(struct inode_table *table)
{
	lock_take(&table->lock);
	uint64_t count = table->used;
	lock_give(&table->lock);
	return count;
}

/* ---- life ---- */

struct inode_table *inode_table_new(unsigned bits)
{
	struct inode_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->mask = bits >= 64 ? UINT64_MAX : (1ull << bits) - 1;
	if (getrandom(&table->spread, sizeof(table->spread), GRND_NONBLOCK) !=
	    (ssize_t)sizeof(table->spread))
		table->spread = 0x9e3779b97f4a7c15ull;
	table->spread |= 1;
	lock_init(&table->lock);
	if (slots_grow_locked(table)) {
		inode_table_free(&table);
		return NULL;
	}
	return table;
}

void inode_table_free(struct inode_table **table_ptr)
{
	struct inode_table *table = *table_ptr;
	struct exception *exception, *next;

	*table_ptr = NULL;
	if (!table)
		return;
	exception = table->exceptions;
	HASH_CLEAR(hh, table->exceptions);
	for (; exception; exception = next) {
		next = exception->hh.next;
		free(exception);
	}
	lock_release(&table->lock);
	free(table->slots);
	free(table);
}
