/*
 * upkeep: a store of its own, opened as the writer of a mount does, and worked on in small
 * transactions under the write lock.
 */
#include "cache/upkeep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/cache.h"
#include "cache/rebuild.h"
#include "cache/room.h"
#include "cache/store.h"
#include "cache/upkeep_internal.h"

/* Objects that are looked at between two looks at the clock. */
#define ROUND_COUNT 256
#define PORTION_LEN ((uint64_t)16 << 20)

int upkeep_open(const char *dir, bool anew, struct store **out, struct xcp_error *err)
{
	struct stat st;
	char name[16], *path;
	int rc;

	if (asprintf(&path, "%s/" STORE_VERSION_DIR, dir) < 0)
		return xcp_error_set(err, -ENOMEM, "out of memory");
	rc = stat(path, &st) ? -errno : 0;
	free(path);
	if (rc)
		return xcp_error_set(err, rc,
				     rc == -ENOENT ? "there is no cache in %s" :
						     "cannot look at the cache in %s",
				     dir);
	store_index_name(0, name);
	return store_open(&(struct store_config){ .dir = dir,
						  .unwanted = anew ? name : NULL,
						  .why = "somebody asked for that" },
			  out, err);
}

int upkeep_lock(struct store *store, struct xcp_error *err)
{
	int rc = store_write_lock(store, err);

	if (rc)
		return rc;
	rc = store_mark_dirty(store, err);
	if (rc)
		store_write_unlock(store);
	return rc;
}

static void say(const struct upkeep_progress *progress, const char *what, uint64_t done,
		uint64_t total)
{
	if (progress && progress->say)
		progress->say(progress->arg, what, done, total);
}

/* ---- rebuilding ---- */

int upkeep_rebuild(struct store *store, const struct upkeep_progress *progress,
		   struct upkeep_verified *out, struct xcp_error *err)
{
	struct rebuild *rebuild = rebuild_new(store);
	struct rebuild_progress now = { .total_bytes = 0 };
	uint64_t start_ns = clock_ns();
	int rc = 1;

	if (!rebuild)
		return xcp_error_set(err, -ENOMEM, "cannot rebuild the index: out of memory");
	while (rc > 0) {
		rc = upkeep_lock(store, err);
		if (rc)
			break;
		rc = rebuild_step(rebuild, store, err);
		store_write_unlock(store);
		rebuild_progress(rebuild, &now);
		say(progress, "rebuild", now.done_bytes, now.total_bytes);
	}
	rebuild_free(rebuild);
	out->rebuilt_records = now.records;
	out->rebuilt_bad = now.bad;
	out->rebuild_s = (double)(clock_ns() - start_ns) / 1e9;
	return rc;
}

/* ---- verifying ---- */

struct verifying {
	struct store *store;
	const struct upkeep_hasher *hasher;
	struct upkeep_verified *out;
	/* the first bad record of the object at hand */
	uint32_t bad_block;
	struct place bad_place;
};

/* What is in the making lies under a name, and so do dictionaries. */
static bool has_hash(const struct oid *oid, const struct index_object *object)
{
	return object->content != CONTENT_PARTIAL && !record_dictionary_of(oid);
}

static int record_look(struct verifying *v, const struct oid *oid, const struct oid *name,
		       const struct index_object *object, uint32_t block)
{
	struct record_want want = {
		.oid = *name,
		.block_index = block,
		.type = object->content != CONTENT_RECORD ? RECORD_BLOCK :
			record_dictionary_of(oid)	  ? RECORD_DICTIONARY :
							    RECORD_OBJECT,
		.object_type = object->type,
		.object_size = object->size,
	};
	struct place place = object->place;
	struct block *bytes;
	uint32_t bad;
	int rc = 0;

	if (object->content != CONTENT_RECORD)
		rc = index_get_blocks(v->store->index, name, block, 1, &place, &bad);
	if (rc == -ENOENT && object->content == CONTENT_PARTIAL)
		return 0;
	v->bad_block = block;
	v->bad_place = place;
	if (rc == 0)
		rc = segments_read(v->store->segments, &place, &want, &bytes, NULL);
	if (rc)
		return rc;
	v->out->records++;
	v->out->bytes += bytes->len;
	if (has_hash(oid, object))
		rc = v->hasher->update(v->hasher->arg, bytes->data, bytes->len);
	block_unref(bytes);
	return rc;
}

static uint32_t records_of(const struct index_object *object)
{
	if (object->content == CONTENT_RECORD)
		return 1;
	return (uint32_t)((object->size + RECORD_RAW_MAX - 1) / RECORD_RAW_MAX);
}

/* -EILSEQ: good records, another hash. */
static int object_look(struct verifying *v, const struct oid *oid,
		       const struct index_object *object)
{
	const struct oid *name = object->content == CONTENT_ADOPTED ? &object->name : oid;
	struct oid hash;
	int rc = 0;

	if (has_hash(oid, object))
		rc = v->hasher->begin(v->hasher->arg, oid->algo, object->type, object->size);
	for (uint32_t i = 0; i < records_of(object) && rc == 0; i++)
		rc = record_look(v, oid, name, object, i);
	if (rc || !has_hash(oid, object))
		return rc;
	rc = v->hasher->end(v->hasher->arg, &hash);
	if (rc == 0 && !oid_equal(&hash, oid))
		rc = -EILSEQ;
	return rc;
}

/* It may have moved while it was looked at: then it is not bad. */
static bool is_as_before(struct verifying *v, const struct oid *oid,
			 const struct index_object *object)
{
	struct index_object now;

	return index_get_object(v->store->index, oid, &now) == 0 &&
	       now.content == object->content && now.size == object->size &&
	       (now.content != CONTENT_RECORD || place_equal(&now.place, &object->place));
}

static int object_forget(struct verifying *v, const struct oid *oid,
			 const struct index_object *object, struct xcp_error *err)
{
	struct index_op op = {
		.kind = OP_FORGET_OBJECT, .oid = *oid, .block = v->bad_block, .place = v->bad_place
	};
	int rc = upkeep_lock(v->store, err);

	if (rc)
		return rc;
	rc = index_apply(v->store->index, &op, 1, err);
	/* Where it was adopted from is no better. */
	if (rc == 0 && object->content == CONTENT_ADOPTED) {
		op = (struct index_op){ .kind = OP_DROP, .oid = object->name };
		rc = index_apply(v->store->index, &op, 1, err);
	}
	store_write_unlock(v->store);
	return rc;
}

/*
 * All its blocks are good, and their hash is another: they are of something in the making, under a
 * name, which a rebuild cannot tell from an id.
 */
static int object_is_partial(struct verifying *v, const struct oid *oid,
			     const struct index_object *object, struct xcp_error *err)
{
	struct index_op op = { .kind = OP_OBJECT, .oid = *oid, .object = *object };
	int rc = upkeep_lock(v->store, err);

	if (rc)
		return rc;
	op.object.content = CONTENT_PARTIAL;
	rc = index_apply(v->store->index, &op, 1, err);
	store_write_unlock(v->store);
	return rc;
}

static int object_verify(struct verifying *v, const struct oid *oid,
			 const struct index_object *object, struct xcp_error *err)
{
	int rc = object_look(v, oid, object);

	if (rc == -EILSEQ && object->content == CONTENT_BLOCKS)
		return object_is_partial(v, oid, object, err);
	if (rc == -EILSEQ)
		rc = -EBADMSG;

	if (has_hash(oid, object))
		v->out->objects++;
	if (rc == 0)
		return 0;
	if (rc != -EBADMSG && rc != -ENOENT)
		return xcp_error_set(err, rc, "cannot verify the cache: %s", strerror(-rc));
	if (!is_as_before(v, oid, object))
		return 0;
	v->out->bad_objects++;
	return object_forget(v, oid, object, err);
}

static int verify_all(struct store *store, const struct upkeep_hasher *hasher,
		      const struct upkeep_progress *progress, struct upkeep_verified *out,
		      struct xcp_error *err)
{
	struct verifying v = { .store = store, .hasher = hasher, .out = out };
	struct index_entry *entries = calloc(ROUND_COUNT, sizeof(*entries));
	uint64_t seen = 0, total = index_count_objects(store->index);
	struct oid after = { .algo = 0 };
	size_t count = ROUND_COUNT;
	int rc = entries ? 0 : -ENOMEM;

	while (rc == 0 && count == ROUND_COUNT) {
		rc = index_list(store->index, &after, entries, ROUND_COUNT, &count);
		for (size_t i = 0; i < count && rc == 0; i++)
			if (entries[i].object.content != CONTENT_NONE)
				rc = object_verify(&v, &entries[i].oid, &entries[i].object, err);
		if (count > 0)
			after = entries[count - 1].oid;
		seen += count;
		say(progress, "verify", seen, total);
	}
	free(entries);
	return rc;
}

int upkeep_verify(const char *dir, bool rebuild, const struct upkeep_hasher *hasher,
		  const struct upkeep_progress *progress, struct upkeep_verified *out,
		  struct xcp_error *err)
{
	struct store *store = NULL;
	int rc = upkeep_open(dir, rebuild, &store, err);

	*out = (struct upkeep_verified){ .objects = 0 };
	if (rc || !store)
		return rc;
	rc = upkeep_rebuild(store, progress, out, err);
	if (rc == 0)
		rc = verify_all(store, hasher, progress, out, err);
	if (rc && err && err->code == 0)
		xcp_error_set(err, rc, "cannot verify the cache in %s: %s", dir, strerror(-rc));
	store_mark_clean(store);
	store_unref(store);
	return rc;
}

/* ---- shrinking ---- */

static int tail_of(void *arg, uint64_t segment, uint64_t *out)
{
	const struct store *store = arg;
	struct index_segment known;
	int rc = index_get_segment(store->index, segment, &known);

	if (rc == 0 && known.head > 0)
		return -ESTALE;
	if (rc == 0)
		*out = known.tail;
	return rc;
}

uint64_t upkeep_disk_len(const struct store *store)
{
	struct limit_usage usage;

	limit_usage(store->v1_fd, &usage);
	return usage.segments_len + usage.index_len + usage.rest_len;
}

struct shrinking {
	struct store *store;
	struct room *room;
	struct recency *recency;
};

/* Down to `to_len`, which is not far. */
static int shrink_some(struct shrinking *s, uint64_t to_len, struct xcp_error *err)
{
	const struct segment_tails tails = { .get = tail_of, .arg = s->store };
	struct segment_writer *segment = NULL;
	int rc = upkeep_lock(s->store, err);

	if (rc)
		return rc;
	s->room->limit.max_len = to_len ? to_len : 1;
	limit_changed(&s->room->limit);
	rc = segment_writer_open(s->store->segments_fd,
				 limit_segment_len(&s->room->limit, UINT64_MAX), &tails, &segment,
				 err);
	if (rc == 0) {
		rc = room_make(s->room, s->store, s->recency, segment, 0, 0, err);
		segment_writer_close(&segment);
	}
	store_write_unlock(s->store);
	return rc;
}

/* In portions, so that nobody waits long for the lock. */
static int shrink(struct store *store, uint64_t to_len, struct xcp_error *err)
{
	struct shrinking s = { .store = store, .room = room_new(1), .recency = recency_new() };
	uint64_t now = upkeep_disk_len(store);
	int rc = 0;

	if (!s.room || !s.recency)
		rc = xcp_error_set(err, -ENOMEM, "out of memory");
	while (rc == 0 && s.room && now > to_len) {
		rc = shrink_some(&s, now - to_len > PORTION_LEN ? now - PORTION_LEN : to_len, err);
		now = upkeep_disk_len(store);
	}
	recency_free(s.recency);
	room_free(s.room);
	return rc;
}

int upkeep_shrink(const char *dir, uint64_t to_len, uint64_t *out_freed, struct xcp_error *err)
{
	struct store *store = NULL;
	struct upkeep_verified ignored = { .objects = 0 };
	uint64_t before, after;
	int rc = upkeep_open(dir, false, &store, err);

	*out_freed = 0;
	if (rc || !store)
		return rc;
	before = upkeep_disk_len(store);
	rc = upkeep_rebuild(store, NULL, &ignored, err);
	if (rc == 0)
		rc = shrink(store, to_len, err);
	after = upkeep_disk_len(store);
	*out_freed = before > after ? before - after : 0;
	store_mark_clean(store);
	store_unref(store);
	return rc;
}
