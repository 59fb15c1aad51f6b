/*
 * protocol_text: the small change of the protocol's parsers: cutting lines, feeding packets,
 * repeating what a server said.
 */
#include "git/protocol_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 400 /* of a server, in a message */

struct text text_from_packet(const uint8_t *data, size_t len)
{
	if (len > 0 && data[len - 1] == '\n')
		len--;
	return (struct text){ (const char *)data, len };
}

bool text_is(struct text text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

bool text_skip(struct text *text, const char *prefix)
{
	size_t len = strlen(prefix);

	if (text->len < len || memcmp(text->data, prefix, len) != 0)
		return false;
	text->data += len;
	text->len -= len;
	return true;
}

bool text_cut(struct text *text, char separator, struct text *out)
{
	const char *end;

	if (text->len == 0)
		return false;
	out->data = text->data;
	end = memchr(text->data, separator, text->len);
	out->len = end ? (size_t)(end - text->data) : text->len;
	text->data += out->len;
	text->len -= out->len;
	if (end) {
		text->data++;
		text->len--;
	}
	return true;
}

char *text_copy(struct text text)
{
	char *copy = malloc(text.len + 1);

	if (!copy)
		return NULL;
	if (text.len > 0)
		memcpy(copy, text.data, text.len);
	copy[text.len] = '\0';
	return copy;
}

int text_cut_oid(struct text *text, struct oid *out)
{
	struct text hex;

	if (!text_cut(text, ' ', &hex) || oid_from_hex(hex.data, hex.len, out))
		return -EPROTO;
	return 0;
}

/* What a terminal can be trusted with: printable ASCII, one line. */
static void make_printable(struct text words, char *out, size_t out_len)
{
	size_t len = words.len < out_len - 1 ? words.len : out_len - 1;

	for (size_t i = 0; i < len; i++) {
		char c = words.data[i];

		if (c == '\n' || c == '\r' || c == '\t')
			c = ' ';
		out[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	while (len > 0 && out[len - 1] == ' ')
		len--;
	out[len] = '\0';
}

int protocol_server_says(struct xcp_error *err, const char *what, struct text words)
{
	char printable[WORDS_MAX];

	make_printable(words, printable, sizeof(printable));
	return xcp_error_set(err, -EREMOTEIO, "cannot read %s: server says: %s", what, printable);
}

int protocol_check_err(struct xcp_error *err, const char *what, const uint8_t *data, size_t len)
{
	struct text words = text_from_packet(data, len);

	return text_skip(&words, "ERR ") ? protocol_server_says(err, what, words) : 0;
}

struct feeding {
	packet_fn handle;
	void *parser;
	struct xcp_error *err;
	int rc;
};

/* Always stops the reader with 1, so that what the reader itself returns can be told apart. */
static int feed_packet(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len)
{
	struct feeding *feeding = arg;
	int rc = feeding->handle(feeding->parser, kind, data, len, feeding->err);

	if (rc < 0)
		feeding->rc = rc;
	return rc ? 1 : 0;
}

int protocol_feed(struct pkt_reader *reader, const uint8_t *data, size_t len, size_t *out_used,
		  packet_fn handle, void *parser, const char *what, struct xcp_error *err)
{
	struct feeding feeding = { handle, parser, err, 0 };
	int rc = pkt_reader_feed(reader, data, len, out_used, feed_packet, &feeding);

	if (rc > 0)
		return feeding.rc;
	if (rc == -EPROTO)
		return xcp_error_set(
			err, rc,
			"cannot read %s: this is not git's packet format; is it a git server?",
			what);
	return rc ? xcp_error_set(err, rc, "cannot read %s: out of memory", what) : 0;
}
