/*
 * buf: growable bytes, doubling. Every length is checked before it is added: a buffer never wraps.
 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN_CAP 64
#define BUF_MAX_CAP (SIZE_MAX / 2) /* so that doubling cannot overflow */

void buf_release(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf)BUF_INIT;
}

int buf_reserve(struct buf *buf, size_t extra_len)
{
	size_t cap = buf->cap ? buf->cap : BUF_MIN_CAP;
	uint8_t *data;

	if (extra_len > BUF_MAX_CAP - buf->len)
		return -ENOMEM;
	if (buf->data && extra_len <= buf->cap - buf->len)
		return 0;
	while (cap < buf->len + extra_len)
		cap *= 2;
	data = realloc(buf->data, cap);
	if (!data)
		return -ENOMEM;
	buf->data = data;
	buf->cap = cap;
	return 0;
}

int buf_add(struct buf *buf, const void *data, size_t len)
{
	int rc;

	if (len == 0)
		return 0;
	rc = buf_reserve(buf, len);
	if (rc)
		return rc;
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	return 0;
}

int buf_add_str(struct buf *buf, const char *text)
{
	return buf_add(buf, text, strlen(text));
}

int buf_addf(struct buf *buf, const char *fmt, ...)
{
	va_list args;
	int len, rc;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		return -ENOMEM;
	rc = buf_reserve(buf, (size_t)len + 1); /* vsnprintf's NUL lies behind what counts */
	if (rc)
		return rc;
	va_start(args, fmt);
	vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, args);
	va_end(args);
	buf->len += (size_t)len;
	return 0;
}

void buf_consume(struct buf *buf, size_t len)
{
	if (len >= buf->len) {
		buf->len = 0;
		return;
	}
	if (len > 0)
		memmove(buf->data, buf->data + len, buf->len - len);
	buf->len -= len;
}

const char *buf_str(struct buf *buf)
{
	if (buf_reserve(buf, 1))
		return NULL;
	buf->data[buf->len] = '\0';
	return (const char *)buf->data;
}

uint8_t *buf_detach(struct buf *buf, size_t *out_len)
{
	uint8_t *data = buf->data;

	if (out_len)
		*out_len = buf->len;
	*buf = (struct buf)BUF_INIT;
	return data;
}
