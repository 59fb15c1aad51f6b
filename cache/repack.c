/*
 * repack: a list of stretches, the oldest first, and how far it has come in the first.
 */
#include "cache/repack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/pins.h"
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
	struct pins *pins;
	uint8_t chunk[LOOK_LEN];
};

struct repack *repack_new(void)
{
	struct repack *repack = calloc(1, sizeof(*repack));

	if (!repack)
		return NULL;
	repack->pins = pins_new();
	if (repack->pins)
		return repack;
	free(repack);
	return NULL;
}

void repack_free(struct repack *repack)
{
	if (!repack)
		return;
	pins_free(repack->pins);
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
	const struct pins *pins;
	struct repack_portion *out;
	uint64_t base;
	bool only_whether; /* raw bytes are not wanted */
};

enum life { LIFE_DEAD, LIFE_LIVE, LIFE_STAYS };

/*
 * What stays: what is in the making, for whoever hashes it notes where it lies; and what the index
 * cannot tell.
 */
static enum life life_of(const struct store *store, const struct record_header *header,
			 const struct place *from)
{
	struct index_object object = { .content = CONTENT_NONE };
	struct place place = { .segment = 0 };
	uint32_t bad;
	int rc = index_get_object(store->index, &header->oid, &object);

	if (rc && rc != -ENOENT)
		return LIFE_STAYS;
	if (header->type != RECORD_BLOCK)
		return object.content == CONTENT_RECORD && place_equal(&object.place, from) ?
			       LIFE_LIVE :
			       LIFE_DEAD;
	if (object.content == CONTENT_PARTIAL)
		return LIFE_STAYS;
	rc = index_get_blocks(store->index, &header->oid, header->block_index, 1, &place, &bad);
	if (rc && rc != -ENOENT)
		return LIFE_STAYS;
	return rc == 0 && place_equal(&place, from) ? LIFE_LIVE : LIFE_DEAD;
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
	enum life life;

	(void)bytes;
	if (out->count == REPACK_PORTION_COUNT)
		return 1;
	/* What is pinned was said to be on the disk, and to stay where it is. */
	if (header->type == RECORD_DICTIONARY || pins_has(looking->pins, &header->oid))
		return stay(out, off, len);
	record->header = *header;
	record->from = (struct place){ .segment = out->segment,
				       .off = off,
				       .stored_len = header->stored_len,
				       .raw_len = header->raw_len,
				       .dictionary = header->dictionary,
				       .codec = (uint8_t)header->codec };
	life = life_of(looking->store, header, &record->from);
	if (life == LIFE_STAYS)
		return stay(out, off, len);
	if (life == LIFE_LIVE) {
		record->raw = looking->only_whether ? NULL :
						      raw_of(looking->store, header, &record->from);
		if (!record->raw && !looking->only_whether)
			return stay(out, off, len);
		out->count++;
	}
	out->to = off + len;
	return 0;
}

static void look(struct repack *repack, const struct store *store, const struct stretch *at,
		 bool only_whether, struct repack_portion *out)
{
	struct looking looking = { .store = store,
				   .pins = repack->pins,
				   .out = out,
				   .base = at->from,
				   .only_whether = only_whether };
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
	uint64_t seal;

	out->count = 0;
	if (repack->count == 0)
		return;
	if (pins_refresh(repack->pins, store->v1_fd, &seal)) {
		drop_first(repack);
		return;
	}
	out->segment = at->segment;
	out->from = out->to = at->from;
	look(repack, store, at, false, out);
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
	const struct stretch at = { portion->segment, portion->from, portion->to };
	struct repack_portion now = { .segment = at.segment, .from = at.from, .to = at.from };
	uint64_t from = portion->from, seal;
	char name[SEGMENT_NAME_LEN];
	int fd;

	/* Something was not moved after all, or was found again, or pinned. */
	if (pins_refresh(repack->pins, store->v1_fd, &seal))
		return;
	look(repack, store, &at, true, &now);
	if (now.count > 0 || now.from != at.from || now.to != at.to)
		return;
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
