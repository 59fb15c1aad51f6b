/*
 * pack_build: packs made in memory, entry by entry, for tests.
 *
 *	pack_build_start ---> pack_build_object, _ofs, _ref ... ---> pack_build_end ---> buf_release
 *
 * Threads: one at a time.
 */
#ifndef TESTS_PACK_BUILD_H
#define TESTS_PACK_BUILD_H

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/content.h"
#include "git/hash.h"
#include "git/pack.h"

struct pack_build {
	enum oid_algo algo;
	struct buf bytes;
	uint32_t count;
};

static inline void pack_build_start(struct pack_build *build, enum oid_algo algo)
{
	static const uint8_t head[12] = { 'P', 'A', 'C', 'K', 0, 0, 0, 2, 0, 0, 0, 0 };

	*build = (struct pack_build){ .algo = algo };
	buf_add(&build->bytes, head, sizeof(head));
}

static inline void pack_build_header(struct pack_build *build, unsigned kind, uint64_t size)
{
	uint8_t byte = (uint8_t)(kind << 4 | (size & 15));

	for (size >>= 4; size; size >>= 7) {
		byte |= 0x80;
		buf_add(&build->bytes, &byte, 1);
		byte = size & 0x7f;
	}
	buf_add(&build->bytes, &byte, 1);
	build->count++;
}

static inline void pack_build_deflate(struct pack_build *build, const void *data, size_t len)
{
	uLongf out_len = compressBound(len);
	uint8_t *out = malloc(out_len);

	compress2(out, &out_len, data, len, 1);
	buf_add(&build->bytes, out, out_len);
	free(out);
}

/* All return the offset of the entry. */
static inline uint64_t pack_build_object(struct pack_build *build, enum object_type type,
					 const void *data, size_t len)
{
	uint64_t off = build->bytes.len;

	pack_build_header(build, type, len);
	pack_build_deflate(build, data, len);
	return off;
}

static inline uint64_t pack_build_ofs(struct pack_build *build, uint64_t base_off,
				      const void *delta, size_t len)
{
	uint64_t off = build->bytes.len, distance = off - base_off;
	uint8_t bytes[10];
	size_t at = sizeof(bytes);

	pack_build_header(build, PACK_OFS_DELTA, len);
	bytes[--at] = distance & 0x7f;
	while (distance >>= 7)
		bytes[--at] = (uint8_t)(0x80 | (--distance & 0x7f));
	buf_add(&build->bytes, bytes + at, sizeof(bytes) - at);
	pack_build_deflate(build, delta, len);
	return off;
}

static inline uint64_t pack_build_ref(struct pack_build *build, const struct oid *base,
				      const void *delta, size_t len)
{
	uint64_t off = build->bytes.len;

	pack_build_header(build, PACK_REF_DELTA, len);
	buf_add(&build->bytes, base->hash, oid_len(base));
	pack_build_deflate(build, delta, len);
	return off;
}

static inline void pack_build_end(struct pack_build *build)
{
	uint32_t count = htonl(build->count);
	struct hasher hasher = { 0 };
	struct oid sum;

	memcpy(build->bytes.data + 8, &count, 4);
	hasher_init(&hasher, build->algo);
	hasher_update(&hasher, build->bytes.data, build->bytes.len);
	hasher_final(&hasher, &sum);
	hasher_release(&hasher);
	buf_add(&build->bytes, sum.hash, oid_algo_len(build->algo));
}

/* ---- deltas ---- */

static inline void delta_build_size(struct buf *out, uint64_t size)
{
	uint8_t byte;

	do {
		byte = size & 0x7f;
		size >>= 7;
		if (size)
			byte |= 0x80;
		buf_add(out, &byte, 1);
	} while (size);
}

static inline void delta_build_copy(struct buf *out, uint32_t off, uint32_t len)
{
	uint8_t bytes[8] = { 0x80 | 0x0f | 0x70,   (uint8_t)off,	 (uint8_t)(off >> 8),
			     (uint8_t)(off >> 16), (uint8_t)(off >> 24), (uint8_t)len,
			     (uint8_t)(len >> 8),  (uint8_t)(len >> 16) };

	buf_add(out, bytes, sizeof(bytes));
}

static inline void delta_build_insert(struct buf *out, const void *data, uint8_t len)
{
	buf_add(out, &len, 1);
	buf_add(out, data, len);
}

/* The whole base with a few bytes (under 128) behind it. */
static inline void delta_build_append(struct buf *out, uint64_t base_len, const void *tail,
				      uint8_t tail_len)
{
	delta_build_size(out, base_len);
	delta_build_size(out, base_len + tail_len);
	for (uint64_t off = 0; off < base_len;) {
		uint32_t piece = base_len - off < 0xffff ? (uint32_t)(base_len - off) : 0xffff;

		delta_build_copy(out, (uint32_t)off, piece);
		off += piece;
	}
	delta_build_insert(out, tail, tail_len);
}

#endif
