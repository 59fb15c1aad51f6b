/*
 * hand: chooses a segment and walks its records. What it reads there it does not believe: a record
 * counts when the index says that it lies there, and is only copied when it checks.
 */
#include "cache/hand.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/bytes.h"
#include "cache/pins.h"

/* Any record is shorter. */
#define CHUNK_MIN_LEN ((size_t)256 * 1024)

struct hand {
	uint64_t segment; /* 0: it is in none */
	int fd;
	bool free;	   /* nobody writes it, and while we hold its lock nobody will */
	bool holes;	   /* the file system can */
	bool after_pinned; /* what is before this step may have to stay */
	uint64_t file_len;
	uint8_t *chunk;
	size_t chunk_len;
	struct pins *pins;
	struct hand_step step;
};

struct hand *hand_new(void)
{
	struct hand *hand = calloc(1, sizeof(*hand));

	if (!hand)
		return NULL;
	hand->fd = -1;
	hand->holes = true;
	hand->pins = pins_new();
	if (hand->pins)
		return hand;
	free(hand);
	return NULL;
}

void hand_close(struct hand *hand)
{
	if (hand->fd >= 0)
		close(hand->fd);
	hand->fd = -1;
	hand->segment = 0;
}

void hand_free(struct hand *hand)
{
	if (!hand)
		return;
	hand_close(hand);
	pins_free(hand->pins);
	buf_release(&hand->step.kept);
	free(hand->step.records);
	free(hand->step.holes);
	free(hand->chunk);
	free(hand);
}

/* ---- what is pinned ---- */

#define FACT_PINS "pins"
#define FACT_SEAL "seal"

/* No such fact is a directory without pins. */
static uint64_t seal_known(const struct store *store)
{
	struct buf value = BUF_INIT;
	uint64_t seal = 0;

	if (index_get_fact(store->index, FACT_PINS, FACT_SEAL, strlen(FACT_SEAL), &value, NULL) ==
		    0 &&
	    value.len == sizeof(seal))
		seal = get_le64(value.data);
	buf_release(&value);
	return seal;
}

static int begin_again(const struct store *store, const char *name, struct xcp_error *err)
{
	struct index_op op = { .kind = OP_AGAIN };
	struct index_segment known;

	if (segment_name_parse(name, &op.place.segment) ||
	    index_get_segment(store->index, op.place.segment, &known) || known.stays == 0)
		return 0;
	return index_apply(store->index, &op, 1, err);
}

static int pins_changed(const struct store *store, uint64_t seal, struct xcp_error *err)
{
	uint8_t value[sizeof(seal)];
	const struct index_op op = { .kind = OP_FACT,
				     .fact_kind = FACT_PINS,
				     .fact_key = FACT_SEAL,
				     .fact_key_len = strlen(FACT_SEAL),
				     .fact_value = value,
				     .fact_value_len = sizeof(value),
				     .object.time_s = clock_wall_s() };
	DIR *dir = dir_open(store->v1_fd, "segments");
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return xcp_error_set(err, -errno, "cannot look at the segments of the cache: %s",
				     strerror(errno));
	while (rc == 0 && (entry = readdir(dir)))
		rc = begin_again(store, entry->d_name, err);
	closedir(dir);
	put_le64(value, seal);
	return rc ? rc : index_apply(store->index, &op, 1, err);
}

int hand_look(struct hand *hand, const struct store *store, struct xcp_error *err)
{
	uint64_t seal;
	int rc = pins_refresh(hand->pins, store->v1_fd, &seal);

	if (rc)
		return xcp_error_set(err, rc, "cannot read what is pinned in the cache: %s",
				     strerror(-rc));
	return seal == seal_known(store) ? 0 : pins_changed(store, seal, err);
}

/* ---- where it is ---- */

enum choice { CHOICE_FREE, CHOICE_WRITTEN, CHOICE_OWN, CHOICE_NONE };

struct candidate {
	enum choice choice;
	uint64_t segment, file_len;
	int fd;
};

static enum choice choice_of(int fd, uint64_t segment, uint64_t own)
{
	if (segment == own)
		return CHOICE_OWN;
	return flock(fd, LOCK_EX | LOCK_NB) ? CHOICE_WRITTEN : CHOICE_FREE;
}

/* False when there is nothing in it for the hand. */
static bool candidate_open(const struct store *store, const char *name, uint64_t own,
			   struct candidate *c)
{
	struct index_segment known = { .head = 0 };
	struct stat st;
	bool passed;

	c->fd = openat(store->segments_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (c->fd < 0)
		return false;
	if (fstat(c->fd, &st) == 0 && S_ISREG(st.st_mode)) {
		index_get_segment(store->index, c->segment, &known);
		c->file_len = (uint64_t)st.st_size;
		c->choice = choice_of(c->fd, c->segment, own);
		passed = known.head >= c->file_len;
		/* One that was passed may only still be here for what stays, or for its writer. */
		if (!passed || (c->choice == CHOICE_FREE && known.stays == 0))
			return true;
	}
	close(c->fd);
	return false;
}

/* Better than the best so far: a better kind, or older. Takes the place of it. */
static void candidate_try(const struct store *store, const char *name, uint64_t own,
			  struct candidate *best)
{
	struct candidate c;

	if (segment_name_parse(name, &c.segment))
		return;
	if (best->choice == CHOICE_FREE && c.segment > best->segment)
		return;
	if (!candidate_open(store, name, own, &c))
		return;
	if (c.choice < best->choice || (c.choice == best->choice && c.segment < best->segment)) {
		if (best->fd >= 0)
			close(best->fd);
		*best = c;
		return;
	}
	close(c.fd);
}

int hand_open(struct hand *hand, const struct store *store, uint64_t own)
{
	struct candidate best = { .choice = CHOICE_NONE, .fd = -1 };
	DIR *dir;
	struct dirent *entry;

	if (hand->fd >= 0)
		return 0;
	dir = dir_open(store->v1_fd, "segments");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		candidate_try(store, entry->d_name, own, &best);
	closedir(dir);
	if (best.fd < 0)
		return -ENOENT;
	hand->fd = best.fd;
	hand->segment = best.segment;
	hand->free = best.choice == CHOICE_FREE;
	hand->file_len = best.file_len;
	return 0;
}

/* ---- what becomes of records ---- */

static void *grow(void *array, size_t count, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 256;
	void *out;

	if (count < *cap)
		return array;
	out = realloc(array, more * size);
	if (out)
		*cap = more;
	return out;
}

static int hole_add(struct hand_step *step, uint64_t from, uint64_t to)
{
	void *more;

	if (from >= to)
		return 0;
	more = grow(step->holes, step->hole_count, &step->hole_cap, sizeof(*step->holes));
	if (!more)
		return -ENOMEM;
	step->holes = more;
	step->holes[step->hole_count++] = (struct hand_range){ from, to };
	return 0;
}

static int record_add(struct hand_step *step, const struct hand_record *record)
{
	void *more = grow(step->records, step->count, &step->cap, sizeof(*step->records));

	if (!more)
		return -ENOMEM;
	step->records = more;
	step->records[step->count++] = *record;
	return 0;
}

enum life {
	LIFE_DEAD,   /* it lies elsewhere, or nobody needs it */
	LIFE_LIVE,   /* the index says that it lies here */
	LIFE_PINNED, /* likewise */
	LIFE_FOUND,  /* it is pinned, and the index knows of no other: one that was lost did */
};

static enum life life_of(const struct store *store, const struct pins *pins,
			 const struct hand_record *record)
{
	struct index_object object = { .content = CONTENT_NONE };
	struct place place;
	uint32_t bad;
	int rc = index_get_object(store->index, &record->oid, &object);
	bool pinned = (rc == 0 && object.pinned) || pins_has(pins, &record->oid) ||
		      (rc == 0 && object.content == CONTENT_PARTIAL && object.name.algo &&
		       pins_has(pins, &object.name));

	if (record->whole) {
		bool elsewhere = rc == 0 && object.content != CONTENT_NONE;

		if (rc == 0 && object.content == CONTENT_RECORD &&
		    place_equal(&object.place, &record->from))
			return pinned ? LIFE_PINNED : LIFE_LIVE;
		return pinned && !elsewhere ? LIFE_FOUND : LIFE_DEAD;
	}
	rc = index_get_blocks(store->index, &record->oid, record->block, 1, &place, &bad);
	if (rc == 0 && place_equal(&place, &record->from))
		return pinned ? LIFE_PINNED : LIFE_LIVE;
	return pinned && rc ? LIFE_FOUND : LIFE_DEAD;
}

static int keep(struct hand_step *step, struct hand_record *record, const uint8_t *bytes,
		size_t len, const struct record_header *header)
{
	if (record_body_check(bytes + RECORD_HEADER_LEN, header->stored_len) != header->body_check)
		return 0;
	record->fate = HAND_KEEP;
	record->off = step->kept.len;
	return buf_add(&step->kept, bytes, len);
}

struct walk {
	struct hand *hand;
	const struct store *store;
	const struct pins *pins;
	struct recency *recency;
	size_t spare_len;
	uint64_t base; /* of the chunk */
	uint64_t hole_from, hole_from_first;
};

static int record_judge(void *arg, size_t chunk_off, const uint8_t *bytes, size_t len,
			const struct record_header *header)
{
	struct walk *walk = arg;
	uint64_t off = walk->base + chunk_off;
	struct hand_step *step = &walk->hand->step;
	struct hand_record record = {
		.fate = HAND_GIVE_UP,
		.oid = header->oid,
		.block = header->block_index,
		.whole = header->type != RECORD_BLOCK,
		.from = { .segment = walk->hand->segment,
			  .off = off,
			  .stored_len = header->stored_len,
			  .raw_len = header->raw_len,
			  .dictionary = header->dictionary,
			  .codec = (uint8_t)header->codec },
	};
	enum life life = life_of(walk->store, walk->pins, &record);
	bool was_read;
	int rc = 0;

	if (life == LIFE_DEAD)
		return 0;
	if (life == LIFE_FOUND &&
	    record_body_check(bytes + RECORD_HEADER_LEN, header->stored_len) != header->body_check)
		return 0;
	if (life != LIFE_LIVE) {
		rc = hole_add(step, walk->hole_from, off);
		walk->hole_from = off + len;
		step->stays += len;
		record.fate = HAND_FOUND;
		record.type = header->object_type;
		record.size = header->object_size;
		return rc || life == LIFE_PINNED ? rc : record_add(step, &record);
	}
	was_read = recency_was_read(walk->recency, &record.oid, record.block);
	recency_forget(walk->recency, &record.oid, record.block);
	if (was_read && step->kept.len < walk->spare_len)
		rc = keep(step, &record, bytes, len, header);
	return rc ? rc : record_add(step, &record);
}

/* ---- a step ---- */

static int chunk_reserve(struct hand *hand, size_t len)
{
	uint8_t *chunk;

	if (len <= hand->chunk_len)
		return 0;
	chunk = realloc(hand->chunk, len);
	if (!chunk)
		return -ENOMEM;
	hand->chunk = chunk;
	hand->chunk_len = len;
	return 0;
}

static void step_clear(struct hand_step *step)
{
	step->count = step->hole_count = 0;
	step->kept.len = 0;
	step->stays = 0;
	step->gone = false;
}

int hand_step(struct hand *hand, const struct store *store, struct recency *recency, size_t len,
	      size_t spare_len, struct hand_step **out)
{
	struct hand_step *step = &hand->step;
	struct index_segment known = { .head = 0 };
	struct walk walk = {
		.hand = hand,
		.store = store,
		.pins = hand->pins,
		.recency = recency,
		.spare_len = spare_len,
	};
	uint64_t off;
	size_t done = 0;
	ssize_t n = 0;
	int rc;

	step_clear(step);
	step->segment = hand->segment;
	rc = chunk_reserve(hand, len < CHUNK_MIN_LEN ? CHUNK_MIN_LEN : len);
	if (rc)
		return rc;
	index_get_segment(store->index, hand->segment, &known);
	off = known.head < SEGMENT_HEADER_LEN ? SEGMENT_HEADER_LEN : known.head;
	walk.hole_from = walk.hole_from_first = off;
	off = segment_skip_hole(hand->fd, off, hand->file_len);
	if (off < hand->file_len)
		n = segment_pread(hand->fd, hand->chunk, hand->chunk_len, off);
	if (n < 0) {
		/* What cannot be read is of no use to anybody. */
		log_warn("cache: segment %016llx cannot be read: %s",
			 (unsigned long long)hand->segment, strerror((int)-n));
		n = 0;
	}
	walk.base = off;
	rc = record_walk(hand->chunk, (size_t)n, record_judge, &walk, &done);
	if (rc)
		return rc;
	step->from = walk.hole_from_first;
	/* A torn record at the very end, or what is no record at all. */
	step->head = n < (ssize_t)hand->chunk_len || done == 0 ? hand->file_len : off + done;
	rc = hole_add(step, walk.hole_from, step->head);
	step->gone = step->head >= hand->file_len && hand->free && known.stays + step->stays == 0;
	hand->after_pinned = known.stays > 0;
	*out = step;
	return rc;
}

/* ---- giving back ---- */

void hand_give_back(struct hand *hand, const struct store *store)
{
	const struct hand_step *step = &hand->step;
	char name[SEGMENT_NAME_LEN];

	if (step->gone) {
		segment_name(hand->segment, name);
		unlinkat(store->segments_fd, name, 0);
		/* Others have it open, and nothing in it is of use to them. */
		if (ftruncate(hand->fd, 0))
			log_debug("cache: segment %s keeps its blocks for now", name);
		hand_close(hand);
		return;
	}
	for (size_t i = 0; i < step->hole_count && hand->holes; i++) {
		uint64_t from = step->holes[i].from;

		/* With the rest of the page that the step before could not give back. */
		if (from == step->from && !hand->after_pinned)
			from -= from % SEGMENT_PAGE_LEN;
		hand->holes = segment_punch(hand->fd, from, step->holes[i].to) ||
			      errno != EOPNOTSUPP;
	}
	if (step->head >= hand->file_len)
		hand_close(hand);
}
