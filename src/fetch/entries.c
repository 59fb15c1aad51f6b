/*
 * entries: chunks of a fixed size, searched by halving for an offset, through an open hash for an
 * id. A hash that is full is dropped, and the next search builds a larger one.
 */
#include "fetch/entries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PER_CHUNK 4096u
#define IDS_MIN 1024u

void entries_init(struct entries *entries, enum oid_algo algo)
{
	*entries = (struct entries){ .algo = algo };
}

void entries_release(struct entries *entries)
{
	for (uint32_t i = 0; i < entries->chunk_count; i++)
		free(entries->chunks[i]);
	free(entries->chunks);
	free(entries->ids);
	entries_init(entries, entries->algo);
}

static int chunk_add(struct entries *entries)
{
	struct entry **chunks =
		realloc(entries->chunks, (entries->chunk_count + 1) * sizeof(struct entry *));

	if (!chunks)
		return -ENOMEM;
	entries->chunks = chunks;
	chunks[entries->chunk_count] = calloc(PER_CHUNK, sizeof(struct entry));
	if (!chunks[entries->chunk_count])
		return -ENOMEM;
	entries->chunk_count++;
	return 0;
}

struct entry *entries_at(const struct entries *entries, uint32_t index)
{
	return &entries->chunks[index / PER_CHUNK][index % PER_CHUNK];
}

struct oid entries_oid(const struct entries *entries, uint32_t index)
{
	return oid_from_bytes(entries->algo, entries_at(entries, index)->hash);
}

int entries_add(struct entries *entries, uint64_t off, uint32_t *out_index)
{
	if (entries->count >= ENTRIES_MAX)
		return -EFBIG;
	if (entries->count == entries->chunk_count * PER_CHUNK) {
		int status = chunk_add(entries);

		if (status)
			return status;
	}
	*out_index = entries->count++;
	entries_at(entries, *out_index)->off = off;
	return 0;
}

int entries_find_off(const struct entries *entries, uint64_t off, uint32_t *out_index)
{
	uint32_t low = 0, high = entries->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (entries_at(entries, middle)->off < off)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == entries->count || entries_at(entries, low)->off != off)
		return -ENOENT;
	*out_index = low;
	return 0;
}

/* ---- by id ---- */

static uint32_t id_slot(const struct entries *entries, const uint8_t *hash)
{
	uint32_t slot;

	memcpy(&slot, hash, sizeof(slot));
	return slot & (entries->id_cap - 1);
}

static uint32_t next_slot(const struct entries *entries, uint32_t slot)
{
	return (slot + 1) & (entries->id_cap - 1);
}

static void id_insert(struct entries *entries, uint32_t index)
{
	uint32_t slot = id_slot(entries, entries_at(entries, index)->hash);

	while (entries->ids[slot])
		slot = next_slot(entries, slot);
	entries->ids[slot] = index + 1;
	entries->id_count++;
}

static void ids_drop(struct entries *entries)
{
	free(entries->ids);
	entries->ids = NULL;
	entries->id_cap = entries->id_count = 0;
}

static int ids_build(struct entries *entries)
{
	uint32_t cap = IDS_MIN;

	while (cap / 2 <= entries->count)
		cap *= 2;
	entries->ids = calloc(cap, sizeof(*entries->ids));
	if (!entries->ids)
		return -ENOMEM;
	entries->id_cap = cap;
	for (uint32_t i = 0; i < entries->count; i++) {
		if (entries_at(entries, i)->type != OBJECT_NONE)
			id_insert(entries, i);
	}
	return 0;
}

void entries_name(struct entries *entries, uint32_t index, const struct content *content)
{
	struct entry *entry = entries_at(entries, index);

	memcpy(entry->hash, content->oid.hash, sizeof(entry->hash));
	entry->type = (uint8_t)content->type;
	entry->size = content->size;
	if (!entries->ids)
		return;
	if (entries->id_count < entries->id_cap / 2)
		id_insert(entries, index);
	else
		ids_drop(entries);
}

int entries_find_oid(struct entries *entries, const struct oid *oid, uint32_t *out_index)
{
	int status = entries->ids ? 0 : ids_build(entries);

	if (status)
		return status;
	for (uint32_t slot = id_slot(entries, oid->hash); entries->ids[slot];
	     slot = next_slot(entries, slot)) {
		uint32_t index = entries->ids[slot] - 1;

		if (!memcmp(entries_at(entries, index)->hash, oid->hash, oid_len(oid))) {
			*out_index = index;
			return 0;
		}
	}
	return -ENOENT;
}
