/*
 * pages: looks at LMDB's pages before LMDB does.
 *
 * LMDB believes what its pages say. Reading a damaged one ends in a wild pointer, which the guard
 * of index.c catches; but writing copies pages to the heap and moves things about in them by what
 * stands in them, and that spoils the heap, which nobody can catch. So whatever a write is going to
 * touch is looked at first:
 *
 *	pages_look_begin ---> pages_look_put, _delete, _all ... ---> pages_look_end
 *
 * A page is sound when it is where it says it is, nobody else's, and full of nodes that lie side by
 * side in order, within what its parent says. Each is looked at once in a look, which so has to
 * end before the file changes: with the transaction that it was begun for.
 *
 * The format is that of LMDB 0.9 on disk (MDB_DATA_VERSION 1, lmdb/libraries/liblmdb/mdb.c: MDB_page,
 * MDB_node, MDB_db, MDB_meta), of databases without flags. With another LMDB there is no look.
 *
 * Threads: any; a look belongs to one at a time. A map that changes meanwhile by somebody else's
 * write gives -EBADMSG at worst; the writer holds the lock, so it does not.
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

/*
 * Before LMDB opens the file, which divides by what it finds there. 0 also for an empty one,
 * -EBADMSG or what reading gave.
 */
int pages_check_head(int fd);

struct pages_look;

/*
 * What the transaction `txn` left behind, by LMDB's count; it was the last one. Looks at the list of
 * free pages. The map is borrowed. 0, -EBADMSG or -ENOMEM.
 */
int pages_look_begin(const struct pages *pages, uint64_t txn, struct pages_look **out);
void pages_look_end(struct pages_look **look);

/* 0 or -EBADMSG: what putting the key into the database `name` touches. */
int pages_look_put(struct pages_look *look, const char *name, const void *key, size_t key_len);
/* The same for deleting it, which may merge pages far and wide. */
int pages_look_delete(struct pages_look *look, const char *name, const void *key, size_t key_len);
/* Every page that can be reached. */
int pages_look_all(struct pages_look *look);

#endif
