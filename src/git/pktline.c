/*
 * pktline: cuts and writes git's packets.
 *
 * Bytes come from outside in any pieces: the four digits may be split as well as the data. A packet
 * that lies whole in what was fed goes out in place; only one that straddles two feeds is gathered,
 * so never more than one packet is held. What packets mean is not known here.
 */
#include "git/pktline.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HEAD_LEN 4

/* ---- writing ---- */

static void write_head(uint8_t *out, size_t packet_len)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < HEAD_LEN; i++)
		out[i] = (uint8_t)digits[(packet_len >> (4 * (HEAD_LEN - 1 - i))) & 15];
}

int pkt_add(struct buf *out, const void *data, size_t len)
{
	int rc;

	if (len > PKT_MAX_DATA)
		return -E2BIG;
	rc = buf_reserve(out, HEAD_LEN + len);
	if (rc)
		return rc;
	write_head(out->data + out->len, HEAD_LEN + len);
	out->len += HEAD_LEN;
	return buf_add(out, data, len);
}

int pkt_addf(struct buf *out, const char *fmt, ...)
{
	va_list args;
	int len, rc;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0 || len > PKT_MAX_DATA)
		return -E2BIG;
	rc = buf_reserve(out, HEAD_LEN + (size_t)len + 1); /* one for vsnprintf's NUL, not kept */
	if (rc)
		return rc;
	write_head(out->data + out->len, HEAD_LEN + (size_t)len);
	va_start(args, fmt);
	vsnprintf((char *)out->data + out->len + HEAD_LEN, (size_t)len + 1, fmt, args);
	va_end(args);
	out->len += HEAD_LEN + (size_t)len;
	return 0;
}

int pkt_add_flush(struct buf *out)
{
	return buf_add(out, "0000", HEAD_LEN);
}

int pkt_add_delim(struct buf *out)
{
	return buf_add(out, "0001", HEAD_LEN);
}

/* ---- reading ---- */

static int hex_value(uint8_t digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* -EPROTO when the four digits are none. */
static int read_head(const uint8_t head[HEAD_LEN])
{
	int len = 0;

	for (int i = 0; i < HEAD_LEN; i++) {
		int value = hex_value(head[i]);

		if (value < 0)
			return -EPROTO;
		len = len * 16 + value;
	}
	return len;
}

void pkt_reader_init(struct pkt_reader *reader)
{
	memset(reader, 0, sizeof(*reader));
}

void pkt_reader_release(struct pkt_reader *reader)
{
	buf_release(&reader->partial);
	memset(reader, 0, sizeof(*reader));
}

int pkt_reader_at_boundary(const struct pkt_reader *reader)
{
	return reader->head_len == 0 && reader->want_len == 0;
}

static int take_head(struct pkt_reader *reader, pkt_fn fn, void *arg)
{
	int len = read_head(reader->head);

	if (len < 0 || len > PKT_MAX_LEN)
		return -EPROTO;
	reader->head_len = 0;
	switch (len) {
	case 0:
		return fn(arg, PKT_FLUSH, NULL, 0);
	case 1:
		return fn(arg, PKT_DELIM, NULL, 0);
	case 2:
		return fn(arg, PKT_RESPONSE_END, NULL, 0);
	case 3:
		return -EPROTO;
	case HEAD_LEN:
		return fn(arg, PKT_DATA, (const uint8_t *)"", 0);
	default:
		reader->want_len = (size_t)len - HEAD_LEN;
		return 0;
	}
}

/* Hands the packet out when it is whole, else keeps what there is of it. */
static int take_data(struct pkt_reader *reader, const uint8_t *data, size_t len, size_t *pos,
		     pkt_fn fn, void *arg)
{
	size_t missing = reader->want_len - reader->partial.len;
	size_t take = len - *pos < missing ? len - *pos : missing;
	const uint8_t *whole = data + *pos;
	size_t whole_len = reader->want_len;
	int rc;

	if (take < missing || reader->partial.len > 0) {
		rc = buf_reserve(&reader->partial, missing);
		if (rc)
			return rc;
		rc = buf_add(&reader->partial, data + *pos, take);
		if (rc)
			return rc;
		whole = reader->partial.data;
	}
	*pos += take;
	if (take < missing)
		return 0;
	reader->want_len = 0;
	rc = fn(arg, PKT_DATA, whole, whole_len);
	buf_clear(&reader->partial);
	return rc;
}

int pkt_reader_feed(struct pkt_reader *reader, const uint8_t *data, size_t len, size_t *out_used,
		    pkt_fn fn, void *arg)
{
	size_t pos = 0;
	int rc = 0;

	while (pos < len && !rc) {
		if (reader->want_len > 0) {
			rc = take_data(reader, data, len, &pos, fn, arg);
		} else if (reader->head_len < HEAD_LEN) {
			reader->head[reader->head_len++] = data[pos++];
			if (reader->head_len == HEAD_LEN)
				rc = take_head(reader, fn, arg);
		} else {
			rc = -EPROTO; /* fed again behind a bad length */
		}
	}
	if (out_used)
		*out_used = pos;
	return rc;
}
