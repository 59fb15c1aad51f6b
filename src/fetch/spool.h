/*
 * spool: bytes that are too many for memory, in an unlinked file.
 *
 *	spool_init ---> spool_append ... ---> spool_read, spool_map ---> spool_detach, spool_release
 *
 * The file is made by the first append, by the function given at the start.
 *
 * Threads: a spool belongs to one thread at a time.
 */
#ifndef FETCH_SPOOL_H
#define FETCH_SPOOL_H

#include <stddef.h>
#include <stdint.h>

typedef int (*spool_open_fn)(void *arg); /* an unlinked file, read and write: fd or -errno */

struct spool {
	spool_open_fn open;
	void *arg; /* borrowed */
	int fd;	   /* owned; -1 before the first append */
	uint64_t len;
};

void spool_init(struct spool *spool, spool_open_fn open, void *arg);
void spool_release(struct spool *spool); /* empty again; may be used again */

/*
 * So many bytes will come: -ENOSPC when that is more than half of what the file system has left
 * (they are to be copied into the cache as well).
 */
int spool_expect(struct spool *spool, uint64_t len);

int spool_append(struct spool *spool, const void *data, size_t len);

/* Exactly [off, off+len); -EIO when the file is shorter. */
int spool_read(const struct spool *spool, uint64_t off, void *out, size_t len);
int spool_fd_read(int fd, uint64_t off, void *out, size_t len);

/* A read-only look at [off, off+len); unmap with spool_unmap(). */
struct spool_map {
	const uint8_t *data;
	void *base;
	size_t base_len;
};
int spool_map(const struct spool *spool, uint64_t off, size_t len, struct spool_map *out);
void spool_unmap(struct spool_map *map);

/*
 * The file leaves to the caller, who closes it; the spool is empty. -ENOENT when nothing was ever
 * appended.
 */
int spool_detach(struct spool *spool);

#endif
