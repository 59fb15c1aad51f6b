/*
 * pack: walks a pack stream as its bytes arrive. Source: gitformat-pack.
 *
 * It knows entries, inflate and the trailer; it resolves no deltas and names no objects: that takes
 * bases, which are the caller's. Memory is bounded: one zlib state and a piece of 64 KiB.
 *
 *	pack_parser_new ---> pack_parser_feed ... ---> pack_parser_finished? ---> pack_parser_free
 *
 * For every entry: entry(), then data() zero or more times with the inflated bytes, then end().
 * Inflated length is checked against the entry's size while it flows, never more than size bytes
 * are handed out, in pieces of at most 64 KiB. Sizes and offsets never exceed INT64_MAX.
 *
 * Threads: a parser belongs to one thread at a time.
 */
#ifndef GIT_PACK_H
#define GIT_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/content.h"
#include "base/oid.h"

enum pack_entry_kind {
	PACK_COMMIT = 1,
	PACK_TREE = 2,
	PACK_BLOB = 3,
	PACK_TAG = 4,
	PACK_OFS_DELTA = 6,
	PACK_REF_DELTA = 7,
};

struct pack_entry {
	enum pack_entry_kind kind;
	uint64_t off;	     /* of this entry in the pack */
	uint64_t size;	     /* of the inflated bytes (of the delta, for deltas) */
	uint64_t base_off;   /* OFS_DELTA: where its base starts; always < off, >= 12 */
	struct oid base_oid; /* REF_DELTA */
};

/*
 * Each returns 0 to go on or a negative errno, which stops the parser and comes out of
 * pack_parser_feed().
 */
struct pack_events {
	int (*header)(void *arg, uint32_t object_count); /* optional */
	int (*entry)(void *arg, const struct pack_entry *entry);
	int (*data)(void *arg, const uint8_t *data, size_t len);
	int (*end)(void *arg);
};

struct pack_parser;

/* NULL when out of memory. `events` is borrowed until free. */
struct pack_parser *pack_parser_new(enum oid_algo algo, const struct pack_events *events,
				    void *arg);
void pack_parser_free(struct pack_parser *parser);

/*
 * Takes the next bytes, all of them. Returns 0, -EPROTO for a malformed pack (bad magic, version,
 * entry, zlib data, size, bytes behind the trailer), -EBADMSG for a wrong trailer, or what an event
 * returned. After an error every call returns it again.
 */
int pack_parser_feed(struct pack_parser *parser, const uint8_t *data, size_t len);

/* True when the last object and a good trailer have been seen. */
bool pack_parser_finished(const struct pack_parser *parser);

/* Words for the last error: a static string, "" when none. */
const char *pack_parser_error(const struct pack_parser *parser);

#endif
