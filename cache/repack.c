/*
 * repack: a list of stretches, the oldest first, and how far it has come in the first.
 */
#include "cache/repack.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/segment.h"

/* More are not kept: the oldest goes. */
#define STRETCH_MAX_COUNT 1024
#define LOOK_LEN ((size_t)512 * 1024)
/* At least one part in so many. */
#define PAYS_SHARE 16

struct stretch {
	uint64_t segment, from, to;
};

struct repack {
	struct stretch v[STRETCH_MAX_COUNT];
	size_t count;
	/* what was given back last: up to here, but for the rest of a page */
	uint64_t given_segment, given_to;
	uint8_t chunk[LOOK_LEN];
};

struct repack *repack_new(void)
{
	return calloc(1, sizeof(struct repack));
}

void repack_free(struct repack *repack)
{
	free(repack);
}

void repack_forget(struct repack *repack)
{
	repack->count = 0;
}

static void drop_first(struct repack *repack)
{
	repack->count--;
	memmove(repack->v, repack->v + 1, repack->count * sizeof(*repack->v));
}

void repack_note(struct repack *repack, uint64_t segment, uint64_t from, uint64_t to)
{
	struct stretch *last = repack->count ? &repack->v[repack->count - 1] : NULL;

	if (last && last->segment == segment && last->to == from) {
		last->to = to;
		return;
	}
	if (repack->count == STRETCH_MAX_COUNT)
		drop_first(repack);
	repack->v[repack->count++] = (struct stretch){ segment, from, to };
}

bool repack_is_due(const struct repack *repack)
{
	return repack->count > 0;
}

/* ---- looking ---- */

struct looking {
	const struct store *store;
	struct repack_portion *out;
	uint64_t base;
};

static bool is_live(const struct store *store, const struct record_header *header,
		    const struct place *from)
{
	struct index_object object;
	struct place place;
	uint32_t bad;

	if (header->type == RECORD_BLOCK)
		return index_get_blocks(store->index, &header->oid, header->block_index, 1, &place,
					&bad) == 0 &&
		       place_equal(&place, from);
	return index_get_object(store->index, &header->oid, &object) == 0 &&
	       object.content == CONTENT_RECORD && place_equal(&object.place, from);
}

static struct block *raw_of(const struct store *store, const struct record_header *header,
			    const struct place *from)
{
	const struct record_want want = { .oid = header->oid,
					  .block_index = header->block_index,
					  .type = header->type,
					  .object_type = header->object_type,
					  .object_size = header->object_size };
	struct block *raw;

	return segments_read(store->segments, from, &want, &raw, NULL) ? NULL : raw;
}

/* One that has to stay ends the portion, or is passed over when it is the first. */
static int stay(struct repack_portion *out, uint64_t off, size_t len)
{
	if (out->count > 0)
		return 1;
	out->from = out->to = off + len;
	return 0;
}

static int look_at(void *arg, size_t chunk_off, const uint8_t *bytes, size_t len,
		   const struct record_header *header)
{
	struct looking *looking = arg;
	struct repack_portion *out = looking->out;
	struct repack_record *record = &out->v[out->count];
	uint64_t off = looking->base + chunk_off;

	(void)bytes;
	if (out->count == REPACK_PORTION_COUNT)
		return 1;
	if (header->type == RECORD_DICTIONARY)
		return stay(out, off, len);
	record->header = *header;
	record->from = (struct place){ .segment = out->segment,
				       .off = off,
				       .stored_len = header->stored_len,
				       .raw_len = header->raw_len,
				       .dictionary = header->dictionary,
				       .codec = (uint8_t)header->codec };
	if (is_live(looking->store, header, &record->from)) {
		record->raw = raw_of(looking->store, header, &record->from);
		if (!record->raw)
			return stay(out, off, len);
		out->count++;
	}
	out->to = off + len;
	return 0;
}

static void look(struct repack *repack, const struct store *store, const struct stretch *at,
		 struct repack_portion *out)
{
	struct looking looking = { .store = store, .out = out, .base = at->from };
	uint64_t len = at->to - at->from;
	char name[SEGMENT_NAME_LEN];
	size_t done;
	ssize_t n;
	int fd;

	segment_name(at->segment, name);
	fd = openat(store->segments_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	n = segment_pread(fd, repack->chunk, len < LOOK_LEN ? (size_t)len : LOOK_LEN, at->from);
	close(fd);
	if (n > 0)
		record_walk(repack->chunk, (size_t)n, look_at, &looking, &done);
}

void repack_look(struct repack *repack, const struct store *store, struct repack_portion *out)
{
	struct stretch *at = repack->v;

	out->count = 0;
	if (repack->count == 0)
		return;
	out->segment = at->segment;
	out->from = out->to = at->from;
	look(repack, store, at, out);
	if (out->to > at->from && out->to < at->to)
		at->from = out->to;
	else
		drop_first(repack);
}

void repack_portion_release(struct repack_portion *portion)
{
	for (size_t i = 0; i < portion->count; i++)
		block_unref(portion->v[i].raw);
	portion->count = 0;
}

bool repack_pays(const struct repack_portion *portion, size_t records_len)
{
	uint64_t before = 0;

	for (size_t i = 0; i < portion->count; i++)
		before += record_len(portion->v[i].from.stored_len);
	return portion->count > 0 && records_len <= before - before / PAYS_SHARE;
}

void repack_give_back(struct repack *repack, const struct store *store,
		      const struct repack_portion *portion)
{
	uint64_t from = portion->from;
	char name[SEGMENT_NAME_LEN];
	int fd;

	if (portion->segment == repack->given_segment && from == repack->given_to)
		from -= from % SEGMENT_PAGE_LEN;
	repack->given_segment = portion->segment;
	repack->given_to = portion->to;
	segment_name(portion->segment, name);
	fd = openat(store->segments_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	segment_punch(fd, from, portion->to);
	close(fd);
}
