/*
 * Fuzz target: values of the index. The first byte says of which database, and whether the check is
 * made right first; a key of a fixed length follows, then the value. What is taken for sound keeps
 * its promises.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#include "cache/bytes.h"
#include "cache/index_internal.h"

#define FUZZ_KEY_LEN ((size_t)21)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_place(const struct place *place)
{
	if (place->raw_len > RECORD_RAW_MAX || place->stored_len > place->raw_len)
		abort();
}

/* Written again it is the same, where it holds nothing that has no meaning. */
static void check_object(const struct index_object *object)
{
	uint8_t bytes[OBJECT_LEN + CHECK_LEN];
	uint8_t key[FUZZ_KEY_LEN] = { OID_SHA1 };
	MDB_val k = { .mv_size = sizeof(key), .mv_data = key }, v = { .mv_data = bytes };
	struct index_object again;
	size_t len = index_object_encode(object, bytes);

	index_value_seal(DB_OBJECTS, &k, bytes, len);
	v.mv_size = len + CHECK_LEN;
	if (index_object_decode(&k, &v, &again) || again.size != object->size ||
	    again.content != object->content || again.pinned != object->pinned)
		abort();
	if (object->content == CONTENT_RECORD) {
		check_place(&object->place);
		if (!place_equal(&object->place, &again.place))
			abort();
	}
}

static void check_fact(const MDB_val *k, const MDB_val *v)
{
	const uint8_t *first = v->mv_data, *behind = first + v->mv_size;
	MDB_val key, value;
	int64_t time_s;

	if (index_fact_decode(k, v, &key, &value, &time_s))
		return;
	if ((uint8_t *)key.mv_data < first || (uint8_t *)key.mv_data + key.mv_size > behind ||
	    (uint8_t *)value.mv_data < first || (uint8_t *)value.mv_data + value.mv_size > behind)
		abort();
}

static void check_value(enum index_db db, const MDB_val *k, const MDB_val *v)
{
	struct index_segment segment;
	struct index_object object;
	struct place place;

	switch (db) {
	case DB_OBJECTS:
		if (index_object_decode(k, v, &object) == 0)
			check_object(&object);
		break;
	case DB_BLOCKS:
		if (index_block_decode(k, v, &place) == 0)
			check_place(&place);
		break;
	case DB_FACTS:
		check_fact(k, v);
		break;
	default:
		if (index_segment_decode(k, v, &segment) && segment.head > segment.tail)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum index_db db;
	uint8_t *bytes;
	MDB_val k, v;

	if (len < 1 + FUZZ_KEY_LEN)
		return 0;
	db = (data[0] >> 1) % DB_COUNT;
	len -= 1 + FUZZ_KEY_LEN;
	bytes = malloc(len + 1);
	if (!bytes)
		return 0;
	memcpy(bytes, data + 1 + FUZZ_KEY_LEN, len);
	k = (MDB_val){ .mv_size = FUZZ_KEY_LEN, .mv_data = (void *)(uintptr_t)(data + 1) };
	v = (MDB_val){ .mv_size = len, .mv_data = bytes };
	if ((data[0] & 1) && len >= CHECK_LEN)
		index_value_seal(db, &k, bytes, len - CHECK_LEN);
	check_value(db, &k, &v);
	free(bytes);
	return 0;
}
