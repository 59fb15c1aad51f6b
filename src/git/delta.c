/*
 * delta: takes a delta apart and puts the result together.
 *
 * A delta is two varints (size of the base, size of the result) and then instructions: copy a
 * stretch of the base, or insert bytes that follow. One byte of delta can stand for 64 KiB of
 * result, so what bounds the work is result_size, which is in the header: whoever applies a delta
 * looks at it first.
 */
#include "git/delta.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_LEN ((size_t)64 * 1024)
#define COPY_WHOLE 0x10000 /* what a copy length of zero means */

/* Little-endian base 128. Sizes end at INT64_MAX, as file offsets do. */
static int read_size(const uint8_t *delta, size_t len, size_t *pos, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 63; shift += 7) {
		uint8_t byte;

		if (*pos >= len)
			return -EAGAIN;
		byte = delta[(*pos)++];
		value |= (uint64_t)(byte & 0x7f) << shift; /* the ninth byte ends at bit 62 */
		if (!(byte & 0x80)) {
			*out = value;
			return 0;
		}
	}
	return -EPROTO;
}

int delta_header(const uint8_t *delta, size_t len, struct delta_header *out)
{
	struct delta_header header = { 0 };
	int rc;

	rc = read_size(delta, len, &header.len, &header.base_size);
	if (!rc)
		rc = read_size(delta, len, &header.len, &header.result_size);
	if (rc)
		return rc;
	*out = header;
	return 0;
}

struct instruction {
	const uint8_t *insert; /* into the delta; NULL: a copy */
	uint64_t off;	       /* in the base */
	size_t len;
};

/* The bytes of `field` whose bit is set in `mask`, least significant first. */
static int read_field(const uint8_t *delta, size_t len, size_t *pos, unsigned mask,
		      unsigned byte_count, uint32_t *out)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < byte_count; i++) {
		if (!(mask & (1u << i)))
			continue;
		if (*pos >= len)
			return -EPROTO;
		value |= (uint32_t)delta[(*pos)++] << (8 * i);
	}
	*out = value;
	return 0;
}

static int read_copy(const uint8_t *delta, size_t len, size_t *pos, uint8_t op,
		     struct instruction *out)
{
	uint32_t off, copy_len;

	if (read_field(delta, len, pos, op & 0x0f, 4, &off) ||
	    read_field(delta, len, pos, (op >> 4) & 0x07, 3, &copy_len))
		return -EPROTO;
	out->insert = NULL;
	out->off = off;
	out->len = copy_len ? copy_len : COPY_WHOLE;
	return 0;
}

/* There is at least one byte at *pos. */
static int read_instruction(const uint8_t *delta, size_t len, size_t *pos, struct instruction *out)
{
	uint8_t op = delta[(*pos)++];

	if (op & 0x80)
		return read_copy(delta, len, pos, op, out);
	if (op == 0 || op > len - *pos)
		return -EPROTO;
	out->insert = delta + *pos;
	out->off = 0;
	out->len = op;
	*pos += op;
	return 0;
}

/*
 * One instruction after the other, each checked against the base and against what is missing of the
 * result.
 */
struct walk {
	const uint8_t *delta;
	size_t len, pos;
	uint64_t base_size, missing;
};

static int walk_init(struct walk *walk, const uint8_t *delta, size_t len, uint64_t base_size)
{
	struct delta_header header;

	if (delta_header(delta, len, &header) || header.base_size != base_size)
		return -EPROTO;
	walk->delta = delta;
	walk->len = len;
	walk->pos = header.len;
	walk->base_size = base_size;
	walk->missing = header.result_size;
	return 0;
}

/* 1 with an instruction, 0 when the result is whole. */
static int walk_next(struct walk *walk, struct instruction *out)
{
	if (walk->pos == walk->len)
		return walk->missing ? -EPROTO : 0;
	if (read_instruction(walk->delta, walk->len, &walk->pos, out) || out->len > walk->missing)
		return -EPROTO;
	if (!out->insert && (out->off > walk->base_size || out->len > walk->base_size - out->off))
		return -EPROTO;
	walk->missing -= out->len;
	return 1;
}

/* Gathers small stretches, so that the receiver sees few and large pieces. */
struct gather {
	uint8_t *data; /* PIECE_LEN of them, owned */
	size_t len;
	delta_base_fn base;
	void *base_arg;
	delta_out_fn out;
	void *out_arg;
};

static int gather_flush(struct gather *gather)
{
	size_t len = gather->len;

	gather->len = 0;
	return len ? gather->out(gather->out_arg, gather->data, len) : 0;
}

static int gather_some(struct gather *gather, const struct instruction *instruction, size_t done,
		       size_t len)
{
	uint8_t *to = gather->data + gather->len;
	int rc = 0;

	if (instruction->insert)
		memcpy(to, instruction->insert + done, len);
	else
		rc = gather->base(gather->base_arg, instruction->off + done, to, len);
	if (!rc)
		gather->len += len;
	return rc;
}

static int gather_add(struct gather *gather, const struct instruction *instruction)
{
	size_t done = 0;

	while (done < instruction->len) {
		size_t room = PIECE_LEN - gather->len;
		size_t len = instruction->len - done < room ? instruction->len - done : room;
		int rc = gather_some(gather, instruction, done, len);

		if (!rc && gather->len == PIECE_LEN)
			rc = gather_flush(gather);
		if (rc)
			return rc;
		done += len;
	}
	return 0;
}

static int apply_to(struct walk *walk, struct gather *gather)
{
	struct instruction instruction;
	int rc;

	while ((rc = walk_next(walk, &instruction)) > 0) {
		rc = gather_add(gather, &instruction);
		if (rc)
			return rc;
	}
	return rc ? rc : gather_flush(gather);
}

int delta_apply(const uint8_t *delta, size_t len, uint64_t base_size, delta_base_fn base,
		void *base_arg, delta_out_fn out, void *out_arg)
{
	struct gather gather = {
		.base = base, .base_arg = base_arg, .out = out, .out_arg = out_arg
	};
	struct walk walk;
	int rc;

	rc = walk_init(&walk, delta, len, base_size);
	if (rc)
		return rc;
	gather.data = malloc(PIECE_LEN);
	if (!gather.data)
		return -ENOMEM;
	rc = apply_to(&walk, &gather);
	free(gather.data);
	return rc;
}

int delta_apply_mem(const uint8_t *delta, size_t len, const uint8_t *base, size_t base_size,
		    uint8_t *result, size_t result_size)
{
	struct instruction instruction;
	struct walk walk;
	int rc;

	if (walk_init(&walk, delta, len, base_size) || walk.missing != result_size)
		return -EPROTO;
	while ((rc = walk_next(&walk, &instruction)) > 0) {
		memcpy(result, instruction.insert ? instruction.insert : base + instruction.off,
		       instruction.len);
		result += instruction.len;
	}
	return rc;
}
