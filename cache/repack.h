/*
 * repack: what was packed in a hurry, or before there was a dictionary, is packed again when there
 * is nothing else to do. It goes to the end of a segment, as what the hand keeps does (hand.h), and
 * the file system gets the blocks back where it lay, once the new ones are on the disk.
 *
 *	repack_note (what the writer appended) ... ---> while repack_is_due: repack_look
 *		---> the writer packs, appends, commits OP_MOVE ---> repack_give_back
 *
 * What a process noted ends with it: short-lived ones never pack twice.
 *
 * Threads: the writer's.
 */
#ifndef CACHE_REPACK_H
#define CACHE_REPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "cache/index.h"
#include "cache/record.h"
#include "cache/store.h"

struct repack;

struct repack *repack_new(void); /* NULL when out of memory */
void repack_free(struct repack *repack);
void repack_forget(struct repack *repack); /* the store is another one now */

/* [from, to) of a segment is worth it. */
void repack_note(struct repack *repack, uint64_t segment, uint64_t from, uint64_t to);
bool repack_is_due(const struct repack *repack);

struct repack_record {
	struct record_header header;
	struct place from;
	struct block *raw; /* owned */
};
#define REPACK_PORTION_COUNT 256
/* A part of a segment, and all records in it that anybody needs. */
struct repack_portion {
	uint64_t segment, from, to;
	struct repack_record v[REPACK_PORTION_COUNT];
	size_t count;
};

/* The next part; count 0: nothing is to be done about it. Release it. */
void repack_look(struct repack *repack, const struct store *store, struct repack_portion *out);
void repack_portion_release(struct repack_portion *portion);

/* Packed again they are so much smaller that it is worth moving them all. */
bool repack_pays(const struct repack_portion *portion, size_t records_len);

/* After the commit, under the write lock: if nobody needs anything there any more. */
void repack_give_back(struct repack *repack, const struct store *store,
		      const struct repack_portion *portion);

#endif
