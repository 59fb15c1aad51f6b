/*
 * entries: what is known of each object of one pack, by where it starts and, once it is resolved,
 * by its id.
 *
 *	entries_init ---> entries_add (by rising offsets), entries_name ... ---> entries_release
 *
 * 72 bytes per object, in chunks that never move; ids are indexed only from the first search on:
 * most packs know their bases by offset alone.
 *
 * Threads: a table belongs to one thread at a time.
 */
#ifndef FETCH_ENTRIES_H
#define FETCH_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/content.h"
#include "base/oid.h"

struct held;

struct entry {
	uint64_t off;
	uint64_t spool_off; /* where its bytes begin in a spool, if spooled */
	uint64_t size;	    /* of the object, once resolved */
	struct held *held;  /* borrowed from the window; NULL */
	uint8_t hash[OID_MAX_LEN];
	uint8_t type;	/* enum object_type; OBJECT_NONE while unresolved */
	bool elsewhere; /* it can be had again by id */
	bool spooled;
};

#define ENTRIES_MAX (4u << 20)

struct entries {
	enum oid_algo algo;
	struct entry **chunks; /* owned */
	uint32_t chunk_count, count;
	uint32_t *ids; /* owned: open hash of index + 1; NULL before the first search */
	uint32_t id_cap, id_count;
};

void entries_init(struct entries *entries, enum oid_algo algo);
void entries_release(struct entries *entries);

/* A new one at `off`, behind all others. -ENOMEM; -EFBIG beyond ENTRIES_MAX. */
int entries_add(struct entries *entries, uint64_t off, uint32_t *out_index);

/* `index` must be one that was given out. */
struct entry *entries_at(const struct entries *entries, uint32_t index);
struct oid entries_oid(const struct entries *entries, uint32_t index);

/* An entry is resolved. */
void entries_name(struct entries *entries, uint32_t index, const struct content *content);

/* -ENOENT. By id: resolved ones alone; -ENOMEM. */
int entries_find_off(const struct entries *entries, uint64_t off, uint32_t *out_index);
int entries_find_oid(struct entries *entries, const struct oid *oid, uint32_t *out_index);

#endif
