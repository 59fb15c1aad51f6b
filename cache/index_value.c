/*
 * index_value: keys and values of the index, as bytes. Numbers in values are little-endian, in keys
 * big-endian, so that neighbours lie side by side. Every value begins with its version and ends with
 * its check.
 */
#include <errno.h>
#include <lmdb.h>
#include <string.h>
#include <xxhash.h>

#include "cache/bytes.h"
#include "cache/index_internal.h"

const char *const index_db_names[DB_COUNT] = { "objects", "blocks", "facts", "segments" };

/* ---- LMDB's errors as ours ---- */

int index_error(int rc)
{
	switch (rc) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
	/* What a sound one does not say to us, or has said of itself before. */
	case MDB_PANIC:
	case MDB_BAD_TXN:
	case MDB_BAD_DBI:
	case MDB_BAD_RSLOT:
	case MDB_CURSOR_FULL:
	case MDB_PAGE_FULL:
		return -EUCLEAN;
	case MDB_READERS_FULL:
		return -EAGAIN;
	default:
		return rc > 0 ? -rc : rc == 0 ? 0 : -EIO;
	}
}

/* ---- keys ---- */

void index_key_of_oid(const struct oid *oid, struct index_key *out)
{
	out->bytes[0] = oid->algo;
	memcpy(out->bytes + 1, oid->hash, oid_len(oid));
	out->len = 1 + oid_len(oid);
	out->hashed = false;
}

static void key_add_be32(struct index_key *key, uint32_t v)
{
	v = htobe32(v);
	memcpy(key->bytes + key->len, &v, sizeof(v));
	key->len += sizeof(v);
}

void index_key_of_block(const struct oid *oid, uint32_t block, struct index_key *out)
{
	index_key_of_oid(oid, out);
	key_add_be32(out, block);
}

void index_key_of_segment(uint64_t segment, struct index_key *out)
{
	out->len = 0;
	out->hashed = false;
	key_add_be32(out, (uint32_t)(segment >> 32));
	key_add_be32(out, (uint32_t)segment);
}

int index_key_of_fact(const char *kind, const void *bytes, size_t len, struct index_key *out)
{
	size_t kind_len = strlen(kind);

	if (kind_len > KIND_MAX || len > INDEX_KEY_MAX_LEN)
		return -EINVAL;
	memcpy(out->bytes, kind, kind_len + 1);
	out->len = kind_len + 1;
	out->hashed = len > KEY_MAX - out->len - 1;
	out->bytes[out->len++] = out->hashed ? 'h' : 'k';
	if (out->hashed) {
		XXH128_canonical_t hash;

		XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes, len));
		memcpy(out->bytes + out->len, &hash, sizeof(hash));
		out->len += sizeof(hash);
	} else if (len > 0) {
		memcpy(out->bytes + out->len, bytes, len);
		out->len += len;
	}
	return 0;
}

MDB_val index_key_val(struct index_key *key)
{
	MDB_val val = { .mv_size = key->len, .mv_data = key->bytes };

	return val;
}

/* ---- values: bytes, then their check ---- */

static uint64_t value_check(enum index_db db, const MDB_val *key, const uint8_t *value, size_t len)
{
	uint64_t seed = XXH3_64bits_withSeed(key->mv_data, key->mv_size, db);

	return XXH3_64bits_withSeed(value, len, seed);
}

void index_value_seal(enum index_db db, const MDB_val *key, uint8_t *value,
		      size_t len_without_check)
{
	put_le64(value + len_without_check, value_check(db, key, value, len_without_check));
}

/* What a damaged page says is not to be believed so far as to sum up gigabytes. */
static size_t value_max_len(enum index_db db)
{
	return db == DB_FACTS ? INDEX_FACT_MAX_LEN + INDEX_KEY_MAX_LEN + KEY_MAX : 256;
}

/* At least min_len bytes before the check, of our version, and they check. */
static bool value_is_sound(enum index_db db, const MDB_val *key, const MDB_val *value,
			   size_t min_len)
{
	const uint8_t *bytes = value->mv_data;
	size_t len;

	if (value->mv_size < min_len + CHECK_LEN || value->mv_size > value_max_len(db) ||
	    key->mv_size > KEY_MAX)
		return false;
	len = value->mv_size - CHECK_LEN;
	return get_le64(bytes + len) == value_check(db, key, bytes, len) &&
	       bytes[0] == VALUE_VERSION;
}

/*
 * place: 0 codec, 1 zero[3], 4 dictionary, 8 segment, 16 off, 24 stored length, 28 raw length
 */

void index_place_encode(const struct place *place, uint8_t *out)
{
	memset(out, 0, PLACE_LEN);
	out[0] = place->codec;
	put_le32(out + 4, place->dictionary);
	put_le64(out + 8, place->segment);
	put_le64(out + 16, place->off);
	put_le32(out + 24, place->stored_len);
	put_le32(out + 28, place->raw_len);
}

static bool place_decode(const uint8_t *bytes, struct place *out)
{
	out->codec = bytes[0];
	out->dictionary = get_le32(bytes + 4);
	out->segment = get_le64(bytes + 8);
	out->off = get_le64(bytes + 16);
	out->stored_len = get_le32(bytes + 24);
	out->raw_len = get_le32(bytes + 28);
	return out->raw_len <= RECORD_RAW_MAX && out->stored_len <= out->raw_len &&
	       out->off <= INT64_MAX / 2;
}

bool place_equal(const struct place *a, const struct place *b)
{
	return a->segment == b->segment && a->off == b->off && a->stored_len == b->stored_len &&
	       a->raw_len == b->raw_len && a->codec == b->codec && a->dictionary == b->dictionary;
}

uint64_t place_seal(uint64_t seal, const struct place *place)
{
	uint8_t bytes[PLACE_LEN];

	index_place_encode(place, bytes);
	return XXH3_64bits_withSeed(bytes, sizeof(bytes), seal);
}

/*
 * objects: 0 version, 1 type, 2 content, 3 the algorithm of a name, 4 flags, 5 zero[3], 8 size, 16
 * time, and with content: 24 stored bytes, 32 place or name
 */
#define FLAG_PINNED 1
#define OBJECT_SHORT_LEN 24

size_t index_object_encode(const struct index_object *object, uint8_t out[OBJECT_LEN])
{
	memset(out, 0, OBJECT_LEN);
	out[0] = VALUE_VERSION;
	out[1] = (uint8_t)object->type;
	out[2] = (uint8_t)object->content;
	out[4] = object->pinned ? FLAG_PINNED : 0;
	put_le64(out + 8, object->size);
	put_le64(out + 16, (uint64_t)object->time_s);
	if (object->content == CONTENT_NONE)
		return OBJECT_SHORT_LEN;
	put_le64(out + 24, object->stored_bytes);
	if (object->content == CONTENT_RECORD)
		index_place_encode(&object->place, out + 32);
	if (object->content == CONTENT_ADOPTED ||
	    (object->content == CONTENT_PARTIAL && object->name.algo)) {
		out[3] = object->name.algo;
		memcpy(out + 32, object->name.hash, OID_MAX_LEN);
	}
	return OBJECT_LEN;
}

int index_object_decode(const MDB_val *key, const MDB_val *value, struct index_object *out)
{
	const uint8_t *bytes = value->mv_data;
	struct index_object o = { .type = OBJECT_NONE };

	if (!value_is_sound(DB_OBJECTS, key, value, OBJECT_SHORT_LEN))
		return -EBADMSG;
	o.type = bytes[1];
	o.content = bytes[2];
	o.pinned = bytes[4] & FLAG_PINNED;
	o.size = get_le64(bytes + 8);
	o.time_s = (int64_t)get_le64(bytes + 16);
	if (o.type > OBJECT_TAG || o.content > CONTENT_ADOPTED)
		return -EBADMSG;
	if (o.content != CONTENT_NONE) {
		if (value->mv_size != OBJECT_LEN + CHECK_LEN)
			return -EBADMSG;
		o.stored_bytes = get_le64(bytes + 24);
	}
	if (o.content == CONTENT_ADOPTED || (o.content == CONTENT_PARTIAL && bytes[3])) {
		o.name.algo = bytes[3];
		memcpy(o.name.hash, bytes + 32, OID_MAX_LEN);
		if (o.name.algo != OID_SHA1 && o.name.algo != OID_SHA256)
			return -EBADMSG;
	} else if (o.content != CONTENT_NONE && !place_decode(bytes + 32, &o.place)) {
		return -EBADMSG;
	}
	if (o.content == CONTENT_RECORD && o.place.raw_len != o.size)
		return -EBADMSG;
	*out = o;
	return 0;
}

/* blocks: 0 version, 1 zero[7], 8 place */

int index_block_decode(const MDB_val *key, const MDB_val *value, struct place *out)
{
	if (!value_is_sound(DB_BLOCKS, key, value, BLOCK_LEN) ||
	    !place_decode((const uint8_t *)value->mv_data + 8, out))
		return -EBADMSG;
	return 0;
}

/*
 * facts: 0 version, 1 zero[3], 4 length of the key that follows (0 when not hashed), 8 time, 16
 * key, value
 */

/* Leaves *out pointing into the map. */
int index_fact_decode(const MDB_val *key, const MDB_val *value, MDB_val *out_key, MDB_val *out,
		      int64_t *out_time_s)
{
	uint8_t *bytes = value->mv_data;
	size_t key_len;

	if (!value_is_sound(DB_FACTS, key, value, FACT_HEADER_LEN))
		return -EBADMSG;
	key_len = get_le32(bytes + 4);
	if (key_len > value->mv_size - CHECK_LEN - FACT_HEADER_LEN)
		return -EBADMSG;
	*out_time_s = (int64_t)get_le64(bytes + 8);
	out_key->mv_data = bytes + FACT_HEADER_LEN;
	out_key->mv_size = key_len;
	out->mv_data = bytes + FACT_HEADER_LEN + key_len;
	out->mv_size = value->mv_size - CHECK_LEN - FACT_HEADER_LEN - key_len;
	return 0;
}

/* segments: 0 version, 1 zero[7], 8 tail; and, zero where they are not there, 16 head, 24 stays */
#define SEGMENT_SHORT_LEN 16

bool index_segment_decode(const MDB_val *key, const MDB_val *value, struct index_segment *out)
{
	const uint8_t *bytes = value->mv_data;

	if (!value_is_sound(DB_SEGMENTS, key, value, SEGMENT_SHORT_LEN))
		return false;
	*out = (struct index_segment){ .tail = get_le64(bytes + 8) };
	if (value->mv_size == SEGMENT_LEN + CHECK_LEN) {
		out->head = get_le64(bytes + 16);
		out->stays = get_le64(bytes + 24);
	}
	return out->head <= out->tail;
}
