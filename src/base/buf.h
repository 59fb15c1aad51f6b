/*
 * buf: growable bytes.
 *
 * Invariant: data is NULL and len 0, or data holds cap bytes of which len are used. There is no
 * hidden terminator; buf_str() makes one.
 *
 *	BUF_INIT ---> buf_add* ... ---> buf_detach (ownership leaves) or buf_release
 *
 * Threads: a buf belongs to one thread at a time.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t len, cap;
};
#define BUF_INIT                                                                                   \
	{                                                                                          \
		NULL, 0, 0                                                                         \
	}

void buf_release(struct buf *buf); /* frees and zeroes; harmless on an empty one */
static inline void buf_clear(struct buf *buf)
{
	buf->len = 0;
} /* keeps the memory */

/*
 * All that add return 0 or -ENOMEM (also for a length that would overflow), and then change
 * nothing.
 */
int buf_reserve(struct buf *buf, size_t extra_len);
int buf_add(struct buf *buf, const void *data, size_t len);
int buf_add_str(struct buf *buf, const char *text);
int buf_addf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first `len` bytes (at most all of them). */
void buf_consume(struct buf *buf, size_t len);

/*
 * The bytes as a C string (a NUL is kept behind them); NULL when out of memory. Valid till the
 * next change.
 */
const char *buf_str(struct buf *buf);

/* Hands the memory to the caller (free()), leaving buf empty. */
uint8_t *buf_detach(struct buf *buf, size_t *out_len);

#endif
