/*
 * dictionary: a short table of those in use, which only grows; and for each kind of content a heap
 * of samples on its way to a thread.
 */
#include "cache/dictionary.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/lock.h"
#include "base/log.h"
#include "cache/segment.h"

/* ---- those there are ---- */

struct dictionaries {
	struct index *index;	   /* borrowed */
	struct segments *segments; /* borrowed */
	_Atomic(struct codec_dictionary *) loaded[DICTIONARY_MAX_COUNT];
	struct lock lock; /* for loading */
};

struct dictionaries *dictionaries_new(struct index *index, struct segments *segments)
{
	struct dictionaries *dictionaries = calloc(1, sizeof(*dictionaries));

	if (!dictionaries)
		return NULL;
	dictionaries->index = index;
	dictionaries->segments = segments;
	lock_init(&dictionaries->lock);
	return dictionaries;
}

void dictionaries_free(struct dictionaries *dictionaries)
{
	if (!dictionaries)
		return;
	for (unsigned i = 0; i < DICTIONARY_MAX_COUNT; i++)
		codec_dictionary_free(atomic_load(&dictionaries->loaded[i]));
	lock_release(&dictionaries->lock);
	free(dictionaries);
}

uint32_t dictionary_id_of(const void *bytes, size_t len)
{
	uint32_t id = (uint32_t)XXH3_64bits(bytes, len);

	return id ? id : 1;
}

/* *out_room is the first free row, DICTIONARY_MAX_COUNT when there is none. */
static const struct codec_dictionary *loaded_find(struct dictionaries *dictionaries, uint32_t id,
						  unsigned *out_room)
{
	unsigned i;

	for (i = 0; i < DICTIONARY_MAX_COUNT; i++) {
		struct codec_dictionary *dictionary =
			atomic_load_explicit(&dictionaries->loaded[i], memory_order_acquire);

		if (!dictionary)
			break;
		if (codec_dictionary_id(dictionary) == id)
			return dictionary;
	}
	*out_room = i;
	return NULL;
}

/* NULL: it is not here, or bad. */
static struct block *bytes_read(struct dictionaries *dictionaries, uint32_t id)
{
	struct record_want want = { .oid = record_dictionary_oid(id), .type = RECORD_DICTIONARY };
	struct index_object object;
	struct block *bytes;

	if (index_get_object(dictionaries->index, &want.oid, &object) ||
	    object.content != CONTENT_RECORD)
		return NULL;
	want.object_type = object.type;
	want.object_size = object.size;
	if (segments_read(dictionaries->segments, &object.place, &want, &bytes, NULL))
		return NULL;
	if (dictionary_id_of(bytes->data, bytes->len) == id)
		return bytes;
	block_unref(bytes);
	return NULL;
}

static struct codec_dictionary *load(struct dictionaries *dictionaries, uint32_t id)
{
	struct block *bytes = bytes_read(dictionaries, id);
	struct codec_dictionary *dictionary =
		bytes ? codec_dictionary_new(id, bytes->data, bytes->len) : NULL;

	block_unref(bytes);
	return dictionary;
}

struct codec_dictionary *dictionaries_get_to_pack(struct dictionaries *dictionaries, uint32_t id)
{
	struct block *bytes = bytes_read(dictionaries, id);
	struct codec_dictionary *dictionary =
		bytes ? codec_dictionary_new(id, bytes->data, bytes->len) : NULL;

	if (dictionary && codec_dictionary_prepare(dictionary, bytes->data, bytes->len)) {
		codec_dictionary_free(dictionary);
		dictionary = NULL;
	}
	block_unref(bytes);
	return dictionary;
}

const struct codec_dictionary *dictionaries_get(struct dictionaries *dictionaries, uint32_t id)
{
	const struct codec_dictionary *found;
	struct codec_dictionary *dictionary;
	unsigned room;

	found = loaded_find(dictionaries, id, &room);
	if (found || room == DICTIONARY_MAX_COUNT)
		return found;
	/* Reads from the disk, and is a leaf: who waits here would have to do the same. */
	lock_take(&dictionaries->lock);
	found = loaded_find(dictionaries, id, &room);
	if (!found && room < DICTIONARY_MAX_COUNT) {
		dictionary = load(dictionaries, id);
		if (dictionary)
			atomic_store_explicit(&dictionaries->loaded[room], dictionary,
					      memory_order_release);
		found = dictionary;
	}
	lock_give(&dictionaries->lock);
	return found;
}

uint32_t dictionaries_newest(struct dictionaries *dictionaries, enum dictionary_kind kind,
			     unsigned *out_count)
{
	struct index_entry entries[DICTIONARY_MAX_COUNT + 1];
	const struct oid before = record_dictionary_oid(0);
	int64_t newest_s = INT64_MIN;
	uint32_t id = 0;
	size_t count;

	*out_count = 0;
	if (index_list(dictionaries->index, &before, entries, DICTIONARY_MAX_COUNT + 1, &count))
		return 0;
	/* They lie side by side, because their ids begin in the same way. */
	for (size_t i = 0; i < count && record_dictionary_of(&entries[i].oid); i++) {
		const struct index_object *object = &entries[i].object;

		++*out_count;
		if (object->content != CONTENT_RECORD || object->type != dictionary_type(kind) ||
		    object->time_s <= newest_s)
			continue;
		newest_s = object->time_s;
		id = record_dictionary_of(&entries[i].oid);
	}
	return id;
}

/* ---- making them ---- */

/*
 * [M] A dictionary from 1 MiB is nearly as good as one from 4 (3.48x, 3.52x), and a tree of a
 * thousand files has it before it is half through.
 */
#define SAMPLES_LEN ((size_t)2 * 1024 * 1024)
#define SAMPLES_MAX_COUNT 1024u
#define SAMPLES_MIN_COUNT 256u
#define SAMPLES_MIN_LEN ((size_t)1024 * 1024)
/* One sample of so many is kept from the training, to see what it is worth. */
#define TEST_SHARE 8
/* It has to save one byte of so many. */
#define WORTH_SHARE 33
/* When it was not worth it, so many times more is seen first. */
#define PATIENCE 16
#define COMPARE_EVERY 64
#define COMPARE_COUNT 64

enum phase { GATHERING, TRAINING, SETTLED };

struct course {
	enum dictionary_kind kind;
	enum phase phase;
	/* gathering */
	uint8_t *samples;
	size_t len;
	size_t lens[SAMPLES_MAX_COUNT];
	unsigned count;
	uint64_t skip_len; /* to be seen before more are gathered */
	/* settled */
	unsigned seen, compared;
	uint64_t with, without;
	/* training: the thread's, until `done` */
	pthread_t thread;
	struct buf result;
	_Atomic bool done;
};

struct trainer {
	struct course courses[DICTIONARY_KIND_COUNT];
};

enum dictionary_kind dictionary_kind_of(enum object_type type, size_t len)
{
	if (len == 0 || len > DICTIONARY_SAMPLE_MAX_LEN)
		return DICTIONARY_NONE;
	return type == OBJECT_BLOB ? DICTIONARY_BLOB :
	       type == OBJECT_TREE ? DICTIONARY_TREE :
				     DICTIONARY_NONE;
}

enum object_type dictionary_type(enum dictionary_kind kind)
{
	return kind == DICTIONARY_TREE ? OBJECT_TREE : OBJECT_BLOB;
}

struct trainer *trainer_new(void)
{
	struct trainer *trainer = calloc(1, sizeof(*trainer));

	for (unsigned i = 0; trainer && i < DICTIONARY_KIND_COUNT; i++)
		trainer->courses[i].kind = (enum dictionary_kind)i;
	return trainer;
}

static void samples_free(struct course *course)
{
	free(course->samples);
	course->samples = NULL;
	course->len = 0;
	course->count = 0;
}

void trainer_free(struct trainer *trainer)
{
	if (!trainer)
		return;
	for (unsigned i = 0; i < DICTIONARY_KIND_COUNT; i++) {
		struct course *course = &trainer->courses[i];

		if (course->phase == TRAINING)
			pthread_join(course->thread, NULL);
		samples_free(course);
		buf_release(&course->result);
	}
	free(trainer);
}

/* ---- the thread ---- */

/* What the samples from `first` on come to, with the dictionary or (NULL) without. */
static size_t packed_len(const struct course *course, const struct codec_dictionary *dictionary,
			 unsigned first, size_t off)
{
	struct codec *codec = codec_new();
	uint8_t *room = malloc(codec_bound(DICTIONARY_SAMPLE_MAX_LEN));
	size_t sum = 0, len;

	for (unsigned i = first; codec && room && i < course->count; i++) {
		codec_pack(codec, CODEC_MEDIUM, dictionary, course->samples + off, course->lens[i],
			   room, &len);
		sum += len;
		off += course->lens[i];
	}
	free(room);
	codec_free(codec);
	return sum;
}

static bool is_worth_it(size_t with, size_t without)
{
	return with > 0 && with + without / WORTH_SHARE <= without;
}

static void train(struct course *course)
{
	unsigned first = course->count - course->count / TEST_SHARE;
	struct codec_dictionary *dictionary;
	size_t off = 0, len, with, without;

	for (unsigned i = 0; i < first; i++)
		off += course->lens[i];
	if (buf_reserve(&course->result, DICTIONARY_MAX_LEN))
		return;
	len = codec_train(course->samples, course->lens, first, course->result.data,
			  DICTIONARY_MAX_LEN);
	dictionary = len ? codec_dictionary_new(1, course->result.data, len) : NULL;
	if (!dictionary || codec_dictionary_prepare(dictionary, course->result.data, len) ||
	    !codec_dictionary_ready(dictionary, CODEC_MEDIUM)) {
		codec_dictionary_free(dictionary);
		return;
	}
	with = packed_len(course, dictionary, first, off);
	without = packed_len(course, NULL, first, off);
	codec_dictionary_free(dictionary);
	log_debug("cache: a dictionary of %zu bytes from %u samples: %zu bytes instead of %zu", len,
		  first, with, without);
	if (is_worth_it(with, without))
		course->result.len = len;
}

static void *train_run(void *arg)
{
	struct course *course = arg;

	/* Of this thread alone, in Linux. Whatever else there is to do comes first. */
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19);
	train(course);
	atomic_store_explicit(&course->done, true, memory_order_release);
	return NULL;
}

/* ---- the writer ---- */

static bool has_enough(const struct course *course)
{
	return course->count == SAMPLES_MAX_COUNT ||
	       course->len > SAMPLES_LEN - DICTIONARY_SAMPLE_MAX_LEN ||
	       (course->count >= SAMPLES_MIN_COUNT && course->len >= SAMPLES_MIN_LEN);
}

static void train_begin(struct course *course)
{
	course->result.len = 0;
	atomic_store(&course->done, false);
	if (thread_start(&course->thread, "cache-train", train_run, course) == 0) {
		course->phase = TRAINING;
		return;
	}
	course->skip_len = PATIENCE * SAMPLES_LEN;
	samples_free(course);
}

void trainer_offer(struct trainer *trainer, enum dictionary_kind kind, const void *bytes,
		   size_t len)
{
	struct course *course = &trainer->courses[kind];

	if (course->phase != GATHERING)
		return;
	if (course->skip_len > 0) {
		course->skip_len -= len < course->skip_len ? len : course->skip_len;
		return;
	}
	if (!course->samples)
		course->samples = malloc(SAMPLES_LEN);
	if (!course->samples || len > SAMPLES_LEN - course->len ||
	    course->count == SAMPLES_MAX_COUNT)
		return;
	memcpy(course->samples + course->len, bytes, len);
	course->len += len;
	course->lens[course->count++] = len;
	if (has_enough(course))
		train_begin(course);
}

void trainer_settle(struct trainer *trainer, enum dictionary_kind kind)
{
	struct course *course = &trainer->courses[kind];

	if (course->phase == TRAINING)
		return; /* it ends first, with another one */
	samples_free(course);
	course->phase = SETTLED;
	course->seen = course->compared = 0;
	course->with = course->without = 0;
}

void trainer_unsettle(struct trainer *trainer, enum dictionary_kind kind)
{
	if (trainer->courses[kind].phase == SETTLED)
		trainer->courses[kind].phase = GATHERING;
}

bool trainer_take(struct trainer *trainer, enum dictionary_kind kind, struct buf *out)
{
	struct course *course = &trainer->courses[kind];
	bool taken;

	if (course->phase != TRAINING || !atomic_load_explicit(&course->done, memory_order_acquire))
		return false;
	pthread_join(course->thread, NULL);
	samples_free(course);
	course->phase = GATHERING;
	taken = course->result.len > 0 &&
		buf_add(out, course->result.data, course->result.len) == 0;
	buf_release(&course->result);
	if (taken)
		trainer_settle(trainer, kind);
	else
		course->skip_len = PATIENCE * SAMPLES_LEN;
	return taken;
}

bool trainer_wants_comparison(struct trainer *trainer, enum dictionary_kind kind)
{
	struct course *course = &trainer->courses[kind];

	return course->phase == SETTLED && ++course->seen % COMPARE_EVERY == 0;
}

void trainer_compare(struct trainer *trainer, enum dictionary_kind kind, size_t with,
		     size_t without)
{
	struct course *course = &trainer->courses[kind];

	course->with += with;
	course->without += without;
	if (++course->compared < COMPARE_COUNT)
		return;
	if (!is_worth_it(course->with, course->without))
		course->phase = GATHERING; /* what comes now is of another kind */
	course->compared = 0;
	course->with = course->without = 0;
}
