/*
 * ingest: pack bytes in, verified objects out.
 *
 *	ingest_new ---> ingest_feed ... (ops called) ---> ingest_finished? ---> ingest_free
 *
 * Every object's id is computed from its bytes, never taken from elsewhere. Each is handed on the
 * moment it is whole: small ones (up to large_limit) as a block in memory, larger ones as an
 * unlinked file, hashed while it is written. Deltas of both kinds are resolved in whatever order
 * they come. What cannot be resolved is not handed on, and counted.
 *
 * Memory of one ingest: the window of recent objects (window_max_len), the object being made, its
 * delta and its base (at most large_limit each), waiting deltas (1 MiB, the rest is spilled), 72
 * bytes per object of the pack. With the defaults (1 MiB, 1 MiB): under 6 MiB and the table.
 *
 * Threads: an ingest belongs to one thread at a time; its ops are called from within
 * ingest_feed().
 */
#ifndef FETCH_INGEST_H
#define FETCH_INGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/content.h"
#include "base/oid.h"
#include "git/pack.h"

/*
 * All get `arg`. All are required but header, entry, stopped and the three of early; those that
 * return int return 0 or a negative errno, which stops the ingest.
 */
struct ingest_ops {
	int (*header)(void *arg, uint32_t object_count);
	/* Before the entry's bytes. */
	int (*entry)(void *arg, const struct pack_entry *entry);
	/*
	 * One verified object, borrowed. True when the two below will have it for as long as this
	 * ingest lives.
	 */
	bool (*object)(void *arg, struct content *content);
	/*
	 * Objects by id that are not at hand: bases from other packs, and those that left the
	 * window. 0, -ENOENT.
	 */
	int (*base_stat)(void *arg, const struct oid *oid, enum object_type *out_type,
			 uint64_t *out_size);
	/* At most 1 MiB. */
	int (*base_read)(void *arg, const struct oid *oid, uint64_t off, size_t len,
			 struct spans *out);
	/* An unlinked file: fd or -errno. */
	int (*tmpfile)(void *arg);
	/* Asked every few pieces of a large object, which may go on for long: true gives it up. */
	bool (*stopped)(void *arg);
	/*
	 * Before the bytes of a large object that is no delta. 1: they go to early_data() as they
	 * come, in order, instead of to a file, and are not handed on as an object; early_end()
	 * says what they are, verified by nobody else. 0: as any other. All three or none.
	 */
	int (*early)(void *arg, const struct pack_entry *entry);
	int (*early_data)(void *arg, const uint8_t *data, size_t len);
	void (*early_end)(void *arg, const struct oid *oid);
};

struct ingest_config {
	enum oid_algo algo;
	size_t large_limit;	      /* larger objects go to a file */
	size_t window_max_len;	      /* bytes of recent objects kept as bases */
	const struct ingest_ops *ops; /* borrowed */
	void *arg;
};

struct ingest;

struct ingest *ingest_new(const struct ingest_config *config); /* NULL: out of memory */
void ingest_free(struct ingest *ingest);

/*
 * Takes the next bytes, all of them. 0, -EPROTO or -EBADMSG for a pack that is damaged, or what
 * header or entry returned. After an error every call returns it again; what was handed on before
 * stays good.
 */
int ingest_feed(struct ingest *ingest, const uint8_t *data, size_t len);

/* The pack has come to its end with a good checksum. */
bool ingest_finished(const struct ingest *ingest);

/*
 * Objects that have come but could not be handed on, so far: deltas without a base, or for
 * ingest_trouble().
 */
size_t ingest_unresolved(const struct ingest *ingest);
/* The last errno of our own (no memory, disk full) that lost an object; 0: none. */
int ingest_trouble(const struct ingest *ingest);

/* Words for the last error: a static string. */
const char *ingest_error(const struct ingest *ingest);

#endif
