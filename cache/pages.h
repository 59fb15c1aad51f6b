/*
 * pages: looks at LMDB's pages before LMDB does.
 *
 * LMDB believes what its pages say. Reading a damaged one ends in a wild pointer, which the guard
 * of index.c catches; but writing copies pages to the heap by the offsets that stand in them, and a
 * wild one there spoils the heap, which nobody can catch. So whatever a write is going to touch is
 * looked at first.
 *
 * The format is that of LMDB 0.9 on disk (MDB_DATA_VERSION 1, lmdb/libraries/liblmdb/mdb.c: MDB_page,
 * MDB_node, MDB_db, MDB_meta), with pages of the size that the environment says. Of another one
 * nothing is said: -ENOTSUP.
 *
 * Threads: any; functions of their arguments. A map that changes meanwhile by somebody else's write
 * gives -EBADMSG at worst; the writer holds the lock, so it does not.
 */
#ifndef CACHE_PAGES_H
#define CACHE_PAGES_H

#include <stddef.h>
#include <stdint.h>

struct pages {
	const uint8_t *map;
	uint64_t len; /* bytes of the file that are there */
	size_t page_len;
};

/* Every page that can be reached. 0, -EBADMSG or -ENOTSUP. */
int pages_check_all(const struct pages *pages);

/* What a write of the key in the database `name` touches, but for the list of free pages. */
int pages_check_path(const struct pages *pages, const char *name, const void *key, size_t key_len);

/* The list of free pages. */
int pages_check_free(const struct pages *pages);

#endif
