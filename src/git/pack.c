/*
 * pack: the walk through a pack stream.
 *
 *	header ---> [ entry head ---> (base) ---> inflate ] x count ---> trailer ---> end
 *
 * Every step takes what it can from the bytes at hand and leaves its state in the parser, so that
 * the input may be cut anywhere. Whole objects are inflated with Z_FINISH: zlib then skips the
 * upkeep of its 32 KiB window for all that fit into one piece, which in practice is nearly every
 * object.
 *
 * The number of objects and their sizes are the sender's word. Nothing is allocated by them; an
 * entry that inflates to more than its size is stopped at most one piece later, and none of the
 * excess is handed out.
 */
#include "git/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "git/hash.h"

#define HEADER_LEN 12
#define PIECE_LEN ((size_t)64 * 1024)
#define INPUT_MAX ((size_t)1 << 30) /* per call of inflate: zlib counts in unsigned int */

enum pack_state {
	PACK_HEADER,
	PACK_ENTRY,
	PACK_BASE_OFF,
	PACK_BASE_OID,
	PACK_INFLATE,
	PACK_TRAILER,
	PACK_END
};

struct pack_parser {
	enum oid_algo algo;
	const struct pack_events *events; /* borrowed */
	void *arg;

	enum pack_state state;
	int failed; /* the first error, or 0 */
	const char *words;

	uint64_t off;  /* where the bytes of the running feed start */
	uint32_t left; /* objects still to come, the one under way included */
	struct hasher hasher;
	z_stream zlib;

	struct pack_entry entry;
	bool in_varint; /* its first byte has been seen */
	unsigned shift;
	uint64_t varint;
	uint64_t inflated;

	size_t fixed_len;
	uint8_t fixed[OID_MAX_LEN]; /* header, base id or trailer, as they come in */
	uint8_t piece[PIECE_LEN];
};

struct input {
	const uint8_t *data;
	size_t len, pos;
};

static int fail(struct pack_parser *parser, int code, const char *words)
{
	parser->words = words;
	return code;
}

static int stopped(struct pack_parser *parser, int code)
{
	return code ? fail(parser, code < 0 ? code : -ECANCELED, "stopped by the receiver") : 0;
}

/* Fills parser->fixed up to `len`; true when it is full, and then the next use starts anew. */
static bool collect(struct pack_parser *parser, struct input *input, size_t len)
{
	size_t missing = len - parser->fixed_len;
	size_t take = input->len - input->pos < missing ? input->len - input->pos : missing;

	memcpy(parser->fixed + parser->fixed_len, input->data + input->pos, take);
	parser->fixed_len += take;
	input->pos += take;
	if (take < missing)
		return false;
	parser->fixed_len = 0;
	return true;
}

static uint32_t be32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

static int take_header(struct pack_parser *parser, struct input *input)
{
	uint32_t version;

	if (!collect(parser, input, HEADER_LEN))
		return 0;
	if (memcmp(parser->fixed, "PACK", 4) != 0)
		return fail(parser, -EPROTO, "no pack: it does not begin with PACK");
	version = be32(parser->fixed + 4);
	if (version != 2 && version != 3)
		return fail(parser, -EPROTO, "pack version is neither 2 nor 3");
	parser->left = be32(parser->fixed + 8);
	parser->state = parser->left ? PACK_ENTRY : PACK_TRAILER;
	return parser->events->header ?
		       stopped(parser, parser->events->header(parser->arg, parser->left)) :
		       0;
}

static int begin_inflate(struct pack_parser *parser)
{
	if (inflateReset(&parser->zlib) != Z_OK)
		return fail(parser, -EIO, "zlib cannot start over");
	parser->inflated = 0;
	parser->state = PACK_INFLATE;
	return stopped(parser, parser->events->entry(parser->arg, &parser->entry));
}

static int entry_head_done(struct pack_parser *parser)
{
	parser->in_varint = false;
	parser->entry.size = parser->varint;
	switch (parser->entry.kind) {
	case PACK_COMMIT:
	case PACK_TREE:
	case PACK_BLOB:
	case PACK_TAG:
		return begin_inflate(parser);
	case PACK_OFS_DELTA:
		parser->state = PACK_BASE_OFF;
		return 0;
	case PACK_REF_DELTA:
		parser->state = PACK_BASE_OID;
		return 0;
	}
	return fail(parser, -EPROTO, "entry of an unknown type");
}

/*
 * Type and size: four bits of the size in the first byte, then seven in each, least significant
 * first.
 */
static int take_entry_head(struct pack_parser *parser, struct input *input)
{
	uint8_t byte = input->data[input->pos];

	if (!parser->in_varint) {
		memset(&parser->entry, 0, sizeof(parser->entry));
		parser->entry.off = parser->off + input->pos;
		parser->entry.kind = (enum pack_entry_kind)((byte >> 4) & 7);
		parser->varint = byte & 0x0f;
		parser->shift = 4;
		parser->in_varint = true;
	} else {
		uint64_t bits = byte & 0x7f;

		if (parser->shift > 60 || bits > (uint64_t)INT64_MAX >> parser->shift)
			return fail(parser, -EPROTO, "size of an entry is too large");
		parser->varint |= bits << parser->shift;
		parser->shift += 7;
	}
	input->pos++;
	return byte & 0x80 ? 0 : entry_head_done(parser);
}

/*
 * Most significant first, and each further byte adds one: git's way to have one spelling per
 * number.
 */
static int take_base_off(struct pack_parser *parser, struct input *input)
{
	uint8_t byte = input->data[input->pos++];

	if (!parser->in_varint) {
		parser->varint = byte & 0x7f;
		parser->in_varint = true;
	} else {
		if (parser->varint >= (uint64_t)INT64_MAX >> 7)
			return fail(parser, -EPROTO, "offset of a delta's base is too large");
		parser->varint = ((parser->varint + 1) << 7) | (byte & 0x7f);
	}
	if (byte & 0x80)
		return 0;
	parser->in_varint = false;
	if (parser->varint == 0 || parser->varint > parser->entry.off - HEADER_LEN)
		return fail(parser, -EPROTO, "base of a delta lies outside of the pack");
	parser->entry.base_off = parser->entry.off - parser->varint;
	return begin_inflate(parser);
}

static int take_base_oid(struct pack_parser *parser, struct input *input)
{
	if (!collect(parser, input, oid_algo_len(parser->algo)))
		return 0;
	parser->entry.base_oid = oid_from_bytes(parser->algo, parser->fixed);
	return begin_inflate(parser);
}

static int end_entry(struct pack_parser *parser)
{
	if (parser->inflated != parser->entry.size)
		return fail(parser, -EPROTO, "entry is shorter than its size");
	parser->left--;
	parser->state = parser->left ? PACK_ENTRY : PACK_TRAILER;
	return stopped(parser, parser->events->end(parser->arg));
}

static int hand_out(struct pack_parser *parser, size_t len)
{
	if (len == 0)
		return 0;
	if (len > parser->entry.size - parser->inflated)
		return fail(parser, -EPROTO, "entry is longer than its size");
	parser->inflated += len;
	return stopped(parser, parser->events->data(parser->arg, parser->piece, len));
}

/* Inflates one piece at most. Sets *out_hungry when zlib cannot go on without more input. */
static int inflate_piece(struct pack_parser *parser, struct input *input, bool *out_hungry)
{
	z_stream *zlib = &parser->zlib;
	size_t offered = input->len - input->pos < INPUT_MAX ? input->len - input->pos : INPUT_MAX;
	int status, rc;

	zlib->next_in = (Bytef *)(input->data + input->pos);
	zlib->avail_in = (uInt)offered;
	zlib->next_out = parser->piece;
	zlib->avail_out = (uInt)PIECE_LEN;
	status = inflate(zlib, Z_FINISH);
	input->pos += offered - zlib->avail_in;
	*out_hungry = zlib->avail_out > 0;

	if (status == Z_MEM_ERROR)
		return fail(parser, -ENOMEM, "out of memory");
	if (status != Z_STREAM_END && status != Z_OK && status != Z_BUF_ERROR)
		return fail(parser, -EPROTO, "entry cannot be inflated");
	rc = hand_out(parser, PIECE_LEN - zlib->avail_out);
	if (rc)
		return rc;
	return status == Z_STREAM_END ? end_entry(parser) : 0;
}

static int take_inflate(struct pack_parser *parser, struct input *input)
{
	bool hungry = false;
	int rc = 0;

	/*
	 * Output may be pending in zlib when the input is used up: only a piece that is not full
	 * says that there is none.
	 */
	while (!rc && parser->state == PACK_INFLATE && !(hungry && input->pos == input->len))
		rc = inflate_piece(parser, input, &hungry);
	return rc;
}

static int take_step(struct pack_parser *parser, struct input *input)
{
	switch (parser->state) {
	case PACK_HEADER:
		return take_header(parser, input);
	case PACK_ENTRY:
		return take_entry_head(parser, input);
	case PACK_BASE_OFF:
		return take_base_off(parser, input);
	case PACK_BASE_OID:
		return take_base_oid(parser, input);
	case PACK_INFLATE:
		return take_inflate(parser, input);
	case PACK_TRAILER:
	case PACK_END:
		break;
	}
	return 0;
}

/* Everything before the trailer; these bytes are what the trailer is the hash of. */
static int take_body(struct pack_parser *parser, struct input *input)
{
	int rc = 0;

	while (!rc && parser->state < PACK_TRAILER && input->pos < input->len)
		rc = take_step(parser, input);
	if (!rc && hasher_update(&parser->hasher, input->data, input->pos))
		rc = fail(parser, -EIO, "cannot hash the pack");
	return rc;
}

static int take_trailer(struct pack_parser *parser, struct input *input)
{
	struct oid sum, stated;

	if (parser->state != PACK_TRAILER || !collect(parser, input, oid_algo_len(parser->algo)))
		return 0;
	stated = oid_from_bytes(parser->algo, parser->fixed);
	if (hasher_final(&parser->hasher, &sum))
		return fail(parser, -EIO, "cannot hash the pack");
	if (!oid_equal(&sum, &stated))
		return fail(parser, -EBADMSG, "checksum of the pack is wrong");
	parser->state = PACK_END;
	return 0;
}

int pack_parser_feed(struct pack_parser *parser, const uint8_t *data, size_t len)
{
	struct input input = { data, len, 0 };

	if (parser->failed || len == 0)
		return parser->failed;
	parser->failed = take_body(parser, &input);
	if (!parser->failed)
		parser->failed = take_trailer(parser, &input);
	if (!parser->failed && input.pos < len)
		parser->failed = fail(parser, -EPROTO, "bytes behind the end of the pack");
	parser->off += input.pos;
	return parser->failed;
}

bool pack_parser_finished(const struct pack_parser *parser)
{
	return parser->state == PACK_END && !parser->failed;
}

const char *pack_parser_error(const struct pack_parser *parser)
{
	return parser->words;
}

struct pack_parser *pack_parser_new(enum oid_algo algo, const struct pack_events *events, void *arg)
{
	struct pack_parser *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return NULL;
	parser->algo = algo;
	parser->events = events;
	parser->arg = arg;
	parser->words = "";
	if (inflateInit(&parser->zlib) != Z_OK) {
		free(parser);
		return NULL;
	}
	if (hasher_init(&parser->hasher, algo)) {
		pack_parser_free(parser);
		return NULL;
	}
	return parser;
}

void pack_parser_free(struct pack_parser *parser)
{
	if (!parser)
		return;
	inflateEnd(&parser->zlib);
	hasher_release(&parser->hasher);
	free(parser);
}
