/*
 * record: encodes and decodes the headers of segment files. The format is drawn in record.h;
 * this file does nothing but put those bytes together and take them apart, refusing whatever
 * does not check.
 */
#include "cache/record.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "cache/bytes.h"

static const char segment_magic[8] = { 'x', 'c', 'p', 'f', 's', 'S', 'E', 'G' };
static const char record_magic[4] = { 'x', 'c', 'R', 'C' };

#define BYTE_ORDER_MARK 0x0a0b0c0du

enum segment_field {
	SEG_VERSION = 8,
	SEG_ORDER = 12,
	SEG_ID = 16,
	SEG_MADE = 24,
	SEG_LEN = 32,
	SEG_FLAGS = 36,
	SEG_CHECK = 56,
};

enum record_field {
	REC_VERSION = 4,
	REC_TYPE = 5,
	REC_ALGO = 6,
	REC_CODEC = 7,
	REC_DICTIONARY = 8,
	REC_FLAGS = 12,
	REC_OID = 16,
	REC_BLOCK = 48,
	REC_OBJECT_TYPE = 52,
	REC_OBJECT_SIZE = 56,
	REC_RAW_LEN = 64,
	REC_STORED_LEN = 68,
	REC_BODY_CHECK = 72,
	REC_CHECK = 80,
};

void segment_header_encode(const struct segment_header *header, uint8_t out[SEGMENT_HEADER_LEN])
{
	memset(out, 0, SEGMENT_HEADER_LEN);
	memcpy(out, segment_magic, sizeof(segment_magic));
	put_le32(out + SEG_VERSION, SEGMENT_VERSION);
	put_le32(out + SEG_ORDER, BYTE_ORDER_MARK);
	put_le64(out + SEG_ID, header->id);
	put_le64(out + SEG_MADE, (uint64_t)header->made_s);
	put_le32(out + SEG_LEN, SEGMENT_HEADER_LEN);
	put_le64(out + SEG_CHECK, XXH3_64bits(out, SEG_CHECK));
}

int segment_header_decode(const uint8_t bytes[SEGMENT_HEADER_LEN], struct segment_header *out)
{
	if (memcmp(bytes, segment_magic, sizeof(segment_magic)) != 0)
		return -EBADMSG;
	if (get_le32(bytes + SEG_ORDER) != BYTE_ORDER_MARK ||
	    get_le32(bytes + SEG_VERSION) != SEGMENT_VERSION)
		return -ENOTSUP;
	if (get_le64(bytes + SEG_CHECK) != XXH3_64bits(bytes, SEG_CHECK))
		return -EBADMSG;
	if (get_le32(bytes + SEG_LEN) != SEGMENT_HEADER_LEN || get_le32(bytes + SEG_FLAGS) != 0)
		return -ENOTSUP;
	out->id = get_le64(bytes + SEG_ID);
	out->made_s = (int64_t)get_le64(bytes + SEG_MADE);
	return 0;
}

void record_header_encode(const struct record_header *header, uint8_t out[RECORD_HEADER_LEN])
{
	memset(out, 0, RECORD_HEADER_LEN);
	memcpy(out, record_magic, sizeof(record_magic));
	out[REC_VERSION] = RECORD_VERSION;
	out[REC_TYPE] = (uint8_t)header->type;
	out[REC_ALGO] = header->oid.algo;
	out[REC_CODEC] = (uint8_t)header->codec;
	put_le32(out + REC_DICTIONARY, header->dictionary);
	put_le32(out + REC_FLAGS, header->flags);
	memcpy(out + REC_OID, header->oid.hash, OID_MAX_LEN);
	put_le32(out + REC_BLOCK, header->block_index);
	out[REC_OBJECT_TYPE] = (uint8_t)header->object_type;
	put_le64(out + REC_OBJECT_SIZE, header->object_size);
	put_le32(out + REC_RAW_LEN, header->raw_len);
	put_le32(out + REC_STORED_LEN, header->stored_len);
	put_le64(out + REC_BODY_CHECK, header->body_check);
	put_le64(out + REC_CHECK, XXH3_64bits(out, REC_CHECK));
}

static const char dictionary_name[16] = "xcpfs dictionary";

struct oid record_dictionary_oid(uint32_t dictionary)
{
	struct oid oid = { .algo = OID_SHA1 };

	memcpy(oid.hash, dictionary_name, sizeof(dictionary_name));
	put_le32(oid.hash + sizeof(dictionary_name), dictionary);
	return oid;
}

uint32_t record_dictionary_of(const struct oid *oid)
{
	if (oid->algo != OID_SHA1 ||
	    memcmp(oid->hash, dictionary_name, sizeof(dictionary_name)) != 0)
		return 0;
	return get_le32(oid->hash + sizeof(dictionary_name));
}

static bool oid_is_sound(const struct oid *oid)
{
	static const uint8_t zeros[OID_MAX_LEN];

	if (oid->algo != OID_SHA1 && oid->algo != OID_SHA256)
		return false;
	return memcmp(oid->hash + oid_len(oid), zeros, OID_MAX_LEN - oid_len(oid)) == 0;
}

/* Where the record lies in its object, and how many bytes of it there must be. */
static bool place_in_object_is_sound(const struct record_header *h)
{
	uint64_t off = (uint64_t)h->block_index * RECORD_RAW_MAX;

	if (h->type != RECORD_BLOCK)
		return h->block_index == 0 && h->object_size == h->raw_len;
	if (off >= h->object_size)
		return false;
	return h->raw_len ==
	       (h->object_size - off < RECORD_RAW_MAX ? h->object_size - off : RECORD_RAW_MAX);
}

static bool header_is_sound(const struct record_header *h)
{
	if (h->type != RECORD_OBJECT && h->type != RECORD_BLOCK && h->type != RECORD_DICTIONARY)
		return false;
	if ((h->type == RECORD_DICTIONARY) != (record_dictionary_of(&h->oid) != 0) ||
	    (h->type == RECORD_DICTIONARY && h->dictionary != 0))
		return false;
	if (h->object_type < OBJECT_COMMIT || h->object_type > OBJECT_TAG || h->flags != 0)
		return false;
	if (h->codec == CODEC_RAW ? h->stored_len != h->raw_len : h->codec != CODEC_ZSTD)
		return false;
	return oid_is_sound(&h->oid) && place_in_object_is_sound(h);
}

int record_header_decode(const uint8_t bytes[RECORD_HEADER_LEN], struct record_header *out,
			 size_t *out_len)
{
	struct record_header h = { .type = bytes[REC_TYPE] };

	if (memcmp(bytes, record_magic, sizeof(record_magic)) != 0)
		return -EBADMSG;
	if (get_le64(bytes + REC_CHECK) != XXH3_64bits(bytes, REC_CHECK))
		return -EBADMSG;
	h.codec = bytes[REC_CODEC];
	h.dictionary = get_le32(bytes + REC_DICTIONARY);
	h.flags = get_le32(bytes + REC_FLAGS);
	h.oid.algo = bytes[REC_ALGO];
	memcpy(h.oid.hash, bytes + REC_OID, OID_MAX_LEN);
	h.block_index = get_le32(bytes + REC_BLOCK);
	h.object_type = bytes[REC_OBJECT_TYPE];
	h.object_size = get_le64(bytes + REC_OBJECT_SIZE);
	h.raw_len = get_le32(bytes + REC_RAW_LEN);
	h.stored_len = get_le32(bytes + REC_STORED_LEN);
	h.body_check = get_le64(bytes + REC_BODY_CHECK);
	if (h.raw_len > RECORD_RAW_MAX || h.stored_len > h.raw_len)
		return -EBADMSG;
	if (out_len)
		*out_len = record_len(h.stored_len);
	if (bytes[REC_VERSION] != RECORD_VERSION)
		return -ENOTSUP;
	if (!header_is_sound(&h))
		return -EBADMSG;
	*out = h;
	return 0;
}

uint64_t record_body_check(const void *body, size_t len)
{
	return XXH3_64bits(body, len);
}

int record_walk(const uint8_t *bytes, size_t len, record_fn fn, void *arg, size_t *out_done)
{
	size_t off = 0;
	int rc = 0;

	while (rc == 0 && len - off >= RECORD_HEADER_LEN) {
		struct record_header header;
		size_t record;
		int status = record_header_decode(bytes + off, &header, &record);

		if (status == -EBADMSG) {
			off += 8;
			continue;
		}
		if (record > len - off)
			break;
		if (status == 0)
			rc = fn(arg, off, bytes + off, record, &header);
		off += record;
	}
	*out_done = off < len ? off : len;
	return rc;
}
