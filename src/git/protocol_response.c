/*
 * protocol_response: what git-upload-pack answers to fetch and object-info.
 *
 * Of a fetch answer only the pack matters to a mount. In v2 it comes in sections, in v0 behind
 * lines about shallow commits and acknowledgments; both then send the pack through sideband
 * packets, where an empty one keeps the line alive.
 */
#include "git/protocol_internal.h"

#include <errno.h>
#include <string.h>

#define WHAT_FETCH "objects"
#define WHAT_SIZES "sizes"

enum { BAND_DATA = 1, BAND_PROGRESS = 2, BAND_ERROR = 3 };

/* ---- fetch ---- */

enum fetch_state {
	FETCH_SECTION, /* v2: a section's name comes */
	FETCH_SKIP,    /* v2: lines of a section that nobody needs */
	FETCH_ACKS,    /* v0: lines before NAK or ACK */
	FETCH_BANDS,   /* sideband packets */
	FETCH_RAW,     /* v0 without sideband: the pack, unframed */
};

void fetch_parser_init(struct fetch_parser *parser, const struct server_caps *caps,
		       int (*pack)(void *arg, const uint8_t *data, size_t len), void *arg)
{
	memset(parser, 0, sizeof(*parser));
	pkt_reader_init(&parser->reader);
	parser->version = caps->version;
	parser->sideband = caps->version == 2 || caps->side_band_64k;
	parser->state = caps->version == 2 ? FETCH_SECTION : FETCH_ACKS;
	parser->pack = pack;
	parser->arg = arg;
}

void fetch_parser_release(struct fetch_parser *parser)
{
	pkt_reader_release(&parser->reader);
}

/* The id that stands in the words between `before` and `after` ("" for any end). */
static bool find_unknown(struct text words, const char *before, const char *after, struct oid *out)
{
	const char *at = memmem(words.data, words.len, before, strlen(before));
	struct text rest, hex;

	if (!at)
		return false;
	rest.data = at + strlen(before);
	rest.len = words.len - (size_t)(rest.data - words.data);
	hex = rest;
	hex.len = 0;
	while (hex.len < rest.len && strchr("0123456789abcdefABCDEF", rest.data[hex.len]) &&
	       rest.data[hex.len])
		hex.len++;
	rest.data += hex.len;
	rest.len -= hex.len;
	return text_skip(&rest, after) && oid_from_hex(hex.data, hex.len, out) == 0;
}

static int server_refuses(struct fetch_parser *parser, struct text words, struct xcp_error *err)
{
	if (!find_unknown(words, "not our ref ", "", &parser->unknown))
		find_unknown(words, "want ", " not valid", &parser->unknown); /* JGit */
	return protocol_server_says(err, WHAT_FETCH, words);
}

static int malformed(struct xcp_error *err, const char *how)
{
	return xcp_error_set(err, -EPROTO, "cannot read " WHAT_FETCH ": %s", how);
}

static int give_pack(struct fetch_parser *parser, const uint8_t *data, size_t len)
{
	int rc;

	if (len == 0) /* keepalive */
		return 0;
	parser->saw_pack = true;
	rc = parser->pack(parser->arg, data, len);
	return rc > 0 ? -ECANCELED : rc;
}

static int take_band(struct fetch_parser *parser, const uint8_t *data, size_t len,
		     struct xcp_error *err)
{
	if (len == 0)
		return malformed(err, "packet without a sideband");
	switch (data[0]) {
	case BAND_DATA:
		return give_pack(parser, data + 1, len - 1);
	case BAND_PROGRESS:
		return 0;
	case BAND_ERROR:
		return server_refuses(parser, text_from_packet(data + 1, len - 1), err);
	}
	return malformed(err, "unknown sideband");
}

/* Of v2. Sections that are not known are passed over like those that are. */
static int take_section(struct fetch_parser *parser, struct text name)
{
	parser->state = text_is(name, "packfile") ? FETCH_BANDS : FETCH_SKIP;
	return 0;
}

/*
 * Of v0: "shallow", "unshallow", then one ACK or NAK, since all haves went out together and without
 * multi_ack.
 */
static int take_ack(struct fetch_parser *parser, struct text line, struct xcp_error *err)
{
	if (text_skip(&line, "shallow ") || text_skip(&line, "unshallow "))
		return 0;
	if (!text_is(line, "NAK") && !text_skip(&line, "ACK "))
		return malformed(err, "neither ACK nor NAK in front of the pack");
	parser->state = parser->sideband ? FETCH_BANDS : FETCH_RAW;
	return parser->sideband ? 0 : 1; /* stops the packet reader: what follows is not framed */
}

static bool is_ack(struct text line)
{
	return text_is(line, "NAK") || text_skip(&line, "ACK ");
}

static int take_fetch_data(struct fetch_parser *parser, const uint8_t *data, size_t len,
			   struct xcp_error *err)
{
	struct text line = text_from_packet(data, len), words = line;

	if (text_skip(&words, "ERR "))
		return server_refuses(parser, words, err);
	switch ((enum fetch_state)parser->state) {
	case FETCH_SECTION:
		return take_section(parser, line);
	case FETCH_ACKS:
		return take_ack(parser, line, err);
	case FETCH_BANDS:
		if (parser->version != 2 && !parser->saw_pack && is_ack(line))
			return 0;
		return take_band(parser, data, len, err);
	case FETCH_SKIP:
	case FETCH_RAW:
		break;
	}
	return 0;
}

static int take_fetch_packet(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len,
			     struct xcp_error *err)
{
	struct fetch_parser *parser = arg;

	switch (kind) {
	case PKT_DATA:
		return take_fetch_data(parser, data, len, err);
	case PKT_FLUSH:
		if (parser->state == FETCH_ACKS) /* behind the shallow lines */
			return 0;
		parser->finished = true;
		return 1;
	case PKT_DELIM:
		if (parser->state != FETCH_SKIP)
			return malformed(err, "unexpected separator");
		parser->state = FETCH_SECTION;
		return 0;
	case PKT_RESPONSE_END:
		break;
	}
	return malformed(err, "unexpected end of response");
}

int fetch_parser_feed(struct fetch_parser *parser, const uint8_t *data, size_t len,
		      size_t *out_used, struct xcp_error *err)
{
	size_t used = 0;
	int rc = 0;

	if (parser->state != FETCH_RAW && !parser->finished)
		rc = protocol_feed(&parser->reader, data, len, &used, take_fetch_packet, parser,
				   WHAT_FETCH, err);
	if (!rc && parser->state == FETCH_RAW && used < len) {
		rc = give_pack(parser, data + used, len - used);
		used = len;
	}
	if (out_used)
		*out_used = used;
	return rc;
}

/* ---- object-info ---- */

enum sizes_state { SIZES_HEAD, SIZES_LINES };

void sizes_parser_init(struct sizes_parser *parser,
		       int (*size)(void *arg, const struct oid *oid, bool known, uint64_t size),
		       void *arg)
{
	memset(parser, 0, sizeof(*parser));
	pkt_reader_init(&parser->reader);
	parser->state = SIZES_HEAD;
	parser->size = size;
	parser->arg = arg;
}

void sizes_parser_release(struct sizes_parser *parser)
{
	pkt_reader_release(&parser->reader);
}

static int read_number(struct text digits, uint64_t *out)
{
	uint64_t value = 0;

	if (digits.len == 0)
		return -EPROTO;
	for (size_t i = 0; i < digits.len; i++) {
		char c = digits.data[i];

		if (c < '0' || c > '9' || value > (INT64_MAX - 9) / 10)
			return -EPROTO;
		value = value * 10 + (uint64_t)(c - '0');
	}
	*out = value;
	return 0;
}

/* "<oid> SIZE"; without the size for an object that is not there. */
static int take_size(struct sizes_parser *parser, struct text line, struct xcp_error *err)
{
	struct oid oid;
	uint64_t size = 0;
	bool known;
	int rc;

	if (text_cut_oid(&line, &oid))
		return xcp_error_set(err, -EPROTO,
				     "cannot read " WHAT_SIZES ": line without an object id");
	known = line.len > 0;
	if (known && read_number(line, &size))
		return xcp_error_set(err, -EPROTO, "cannot read " WHAT_SIZES ": size is no number");
	rc = parser->size(parser->arg, &oid, known, size);
	return rc > 0 ? -ECANCELED : rc;
}

static int take_sizes_packet(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len,
			     struct xcp_error *err)
{
	struct text line = text_from_packet(data, len);
	struct sizes_parser *parser = arg;
	int rc;

	if (kind == PKT_FLUSH) {
		parser->finished = true;
		return 1;
	}
	if (kind != PKT_DATA)
		return xcp_error_set(err, -EPROTO,
				     "cannot read " WHAT_SIZES ": unexpected separator");
	rc = protocol_check_err(err, WHAT_SIZES, data, len);
	if (rc)
		return rc;
	if (parser->state == SIZES_LINES)
		return take_size(parser, line, err);
	if (!text_is(line, "size"))
		return xcp_error_set(err, -EPROTO,
				     "cannot read " WHAT_SIZES
				     ": the answer does not begin with size");
	parser->state = SIZES_LINES;
	return 0;
}

int sizes_parser_feed(struct sizes_parser *parser, const uint8_t *data, size_t len,
		      size_t *out_used, struct xcp_error *err)
{
	if (out_used)
		*out_used = 0;
	if (parser->finished)
		return 0;
	return protocol_feed(&parser->reader, data, len, out_used, take_sizes_packet, parser,
			     WHAT_SIZES, err);
}
