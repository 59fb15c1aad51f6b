/*
 * record: the bytes of a segment file. This is the lasting format of the cache;
 * tests/test_segment.c locks every byte of it. A change of meaning needs a new RECORD_VERSION
 * (a record of another version is skipped by its length) or a new SEGMENT_VERSION (the file is
 * left alone).
 *
 * All numbers are little-endian. A segment file is its header, then records without gaps, each
 * aligned to 8 bytes. What is not understood or does not check is a miss.
 *
 *	segment header, 64 bytes
 *	 0  8  magic "xcpfsSEG"
 *	 8  4  version, 1
 *	12  4  byte order, 0x0a0b0c0d
 *	16  8  segment id, also the file's name in hex; never used twice
 *	24  8  made, seconds since 1970
 *	32  4  header length, 64
 *	36  4  flags, 0
 *	40 16  zero
 *	56  8  XXH3 of bytes 0..55
 *
 *	record: header of 88 bytes, stored body, zeros up to a multiple of 8
 *	 0  4  magic "xcRC"
 *	 4  1  version, 1
 *	 5  1  record type: 1 whole object, 2 block of an object, 3 dictionary
 *	 6  1  oid algorithm: 1 SHA-1, 2 SHA-256
 *	 7  1  codec: 0 raw, 1 zstd frame
 *	 8  4  dictionary that the body was packed with, 0 none
 *	12  4  flags, 0; a reader refuses those it does not know
 *	16 32  object id, zeros behind a SHA-1
 *	48  4  block index, 0 in a whole object
 *	52  1  object type, git's numbers
 *	53  3  zero
 *	56  8  object size
 *	64  4  raw length: bytes of the object that this record holds, at most 128 KiB
 *	68  4  stored length: bytes of the body, at most the raw length
 *	72  8  XXH3 of the body
 *	80  8  XXH3 of bytes 0..79
 *
 * A dictionary is a whole object, too, packed without one; its object id is no hash but "xcpfs
 * dictionary" and its own number (LE32) for a SHA-1; its object type is that of the contents it is
 * for.
 *
 * No I/O here, and no decompression.
 *
 * Threads: any; functions of their arguments.
 */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/content.h"
#include "base/oid.h"

#define SEGMENT_VERSION 1
#define SEGMENT_HEADER_LEN 64
#define RECORD_VERSION 1
#define RECORD_HEADER_LEN 88
#define RECORD_RAW_MAX ((size_t)128 * 1024)

struct segment_header {
	uint64_t id;
	int64_t made_s;
};
void segment_header_encode(const struct segment_header *header, uint8_t out[SEGMENT_HEADER_LEN]);
/* -EBADMSG when it is none or damaged, -ENOTSUP for another version or byte order. */
int segment_header_decode(const uint8_t bytes[SEGMENT_HEADER_LEN], struct segment_header *out);

enum record_type { RECORD_OBJECT = 1, RECORD_BLOCK = 2, RECORD_DICTIONARY = 3 };
enum record_codec { CODEC_RAW = 0, CODEC_ZSTD = 1 };

struct record_header {
	enum record_type type;
	enum record_codec codec;
	uint32_t dictionary;
	uint32_t flags;
	struct oid oid;
	uint32_t block_index;
	enum object_type object_type;
	uint64_t object_size;
	uint32_t raw_len, stored_len;
	uint64_t body_check;
};
void record_header_encode(const struct record_header *header, uint8_t out[RECORD_HEADER_LEN]);

/*
 * Reads a header and checks everything that can be checked without the body: magic, check,
 * known values, lengths. -EBADMSG when damaged; -ENOTSUP for a sound header of another version,
 * of which only *out_len (may be NULL; as record_len()) is set.
 */
int record_header_decode(const uint8_t bytes[RECORD_HEADER_LEN], struct record_header *out,
			 size_t *out_len);

/* The id under which a dictionary lies; and its number again, 0 when it is no such id. */
struct oid record_dictionary_oid(uint32_t dictionary);
uint32_t record_dictionary_of(const struct oid *oid);

uint64_t record_body_check(const void *body, size_t len);

/*
 * Walks the records in a stretch of a segment, that need not begin with one: whatever is none is
 * passed over, eight bytes at a time. Calls fn for each whole one of this version with its offset
 * in the stretch; fn ends the walk by returning not 0. *out_done is where it came to: the first
 * record that is not whole, or less than a header from the end.
 */
typedef int (*record_fn)(void *arg, size_t off, const uint8_t *bytes, size_t len,
			 const struct record_header *header);
int record_walk(const uint8_t *bytes, size_t len, record_fn fn, void *arg, size_t *out_done);

/* Bytes from one record's start to the next one's. */
static inline size_t record_len(size_t stored_len)
{
	return (RECORD_HEADER_LEN + stored_len + 7) & ~(size_t)7;
}

#endif
