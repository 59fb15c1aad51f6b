/*
 * upkeep_objects: what is done to some objects by name: pinned, unpinned, forgotten.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/index.h"
#include "cache/pins.h"
#include "cache/segment.h"
#include "cache/upkeep.h"
#include "cache/upkeep_internal.h"

/* Objects per turn with the lock. */
#define PORTION_COUNT 512

static bool is_here(const struct index_object *object)
{
	return object->content == CONTENT_RECORD || object->content == CONTENT_BLOCKS ||
	       object->content == CONTENT_ADOPTED;
}

static uint32_t blocks_of(const struct index_object *object)
{
	return (uint32_t)((object->size + RECORD_RAW_MAX - 1) / RECORD_RAW_MAX);
}

/* With an index that knows what there is. */
static int open_ready(const char *dir, struct store **out, struct xcp_error *err)
{
	struct upkeep_verified ignored = { .objects = 0 };
	int rc = upkeep_open(dir, false, out, err);

	if (rc || !*out)
		return rc;
	rc = upkeep_rebuild(*out, NULL, &ignored, err);
	if (rc) {
		store_unref(*out);
		*out = NULL;
	}
	return rc;
}

/* ---- pins ---- */

/* What of an object is on disk lies under its own id, or under the name it was made under. */
static void count_one(const struct store *store, const struct oid *oid, struct upkeep_pinned *out)
{
	struct index_object object = { .content = CONTENT_NONE }, made;
	int rc = index_get_object(store->index, oid, &object);

	out->objects++;
	if (rc || !is_here(&object)) {
		out->missing++;
		return;
	}
	out->bytes += object.stored_bytes;
	if (object.content == CONTENT_ADOPTED &&
	    index_get_object(store->index, &object.name, &made) == 0)
		out->bytes += made.stored_bytes;
}

static struct upkeep_pinned count_pin(const struct store *store, const struct pin *pin)
{
	struct upkeep_pinned out = { .objects = 0 };

	for (size_t i = 0; i < pin->count; i++) {
		struct oid oid =
			oid_from_bytes(pin->algo, pin->hashes + i * oid_algo_len(pin->algo));

		count_one(store, &oid, &out);
	}
	return out;
}

/* With the names that adopted ones lie under. */
static int names_too(const struct store *store, const struct upkeep_pin *pin, struct oid **out,
		     size_t *out_count)
{
	struct oid *oids = calloc(2 * pin->count + 1, sizeof(*oids));
	size_t count = 0;

	if (!oids)
		return -ENOMEM;
	for (size_t i = 0; i < pin->count; i++) {
		struct index_object object;

		oids[count++] = pin->oids[i];
		if (index_get_object(store->index, &pin->oids[i], &object) == 0 &&
		    object.content == CONTENT_ADOPTED && object.name.algo == pin->oids[i].algo)
			oids[count++] = object.name;
	}
	*out = oids;
	*out_count = count;
	return 0;
}

/* What all other pins take; what several name counts for each. */
static int others_len(const struct store *store, const char *name, uint64_t *out)
{
	struct pins *pins = pins_new();
	const struct pin *pin;
	uint64_t seal;
	int rc = pins ? pins_refresh(pins, store->v1_fd, &seal) : -ENOMEM;

	*out = 0;
	for (size_t i = 0; rc == 0 && (pin = pins_at(pins, i)); i++)
		if (pin->name_len != strlen(name) || memcmp(pin->name, name, pin->name_len))
			*out += count_pin(store, pin).bytes;
	pins_free(pins);
	return rc;
}

static int pin_locked(const struct store *store, const struct upkeep_pin *pin,
		      struct upkeep_pinned *out, struct xcp_error *err)
{
	uint64_t others, may = pin->max_len / 100 * UPKEEP_PIN_PERCENT;
	struct oid *oids = NULL;
	size_t count = 0;
	int rc = others_len(store, pin->name, &others);

	for (size_t i = 0; i < pin->count; i++)
		count_one(store, &pin->oids[i], out);
	if (rc == 0 && others + out->bytes > may)
		return xcp_error_set(err, -ENOSPC,
				     "%llu bytes cannot be pinned beside %llu that are: of the "
				     "%llu that the cache may take %u %% may be pinned; raise "
				     "cache-size, or unpin something",
				     (unsigned long long)out->bytes, (unsigned long long)others,
				     (unsigned long long)pin->max_len, UPKEEP_PIN_PERCENT);
	if (rc == 0)
		rc = names_too(store, pin, &oids, &count);
	if (rc == 0)
		rc = pin_write(store->v1_fd, pin->name, oids, count);
	free(oids);
	return rc ? xcp_error_set(err, rc, "cannot pin %s: %s", pin->name, strerror(-rc)) : 0;
}

int upkeep_pin(const char *dir, const struct upkeep_pin *pin, struct upkeep_pinned *out,
	       struct xcp_error *err)
{
	struct store *store = NULL;
	int rc = open_ready(dir, &store, err);

	*out = (struct upkeep_pinned){ .objects = 0 };
	if (rc || !store)
		return rc;
	rc = store_write_lock(store, err);
	if (rc == 0) {
		rc = pin_locked(store, pin, out, err);
		store_write_unlock(store);
	}
	/* What the pin names is on disk too, not only the pin. */
	if (rc == 0)
		rc = store_sync(store, err);
	store_mark_clean(store);
	store_unref(store);
	return rc;
}

int upkeep_unpin(const char *dir, const char *name, struct xcp_error *err)
{
	struct store *store = NULL;
	int rc = open_ready(dir, &store, err);

	if (rc || !store)
		return rc;
	rc = store_write_lock(store, err);
	if (rc == 0) {
		rc = pin_remove(store->v1_fd, name);
		store_write_unlock(store);
		if (rc)
			xcp_error_set(err, rc, "cannot unpin %s: %s", name,
				      rc == -ENOENT ? "it is not pinned" : strerror(-rc));
	}
	store_mark_clean(store);
	store_unref(store);
	return rc;
}

static int pins_each(const struct store *store, const struct pins *pins,
		     int (*each)(void *arg, const char *name, const struct upkeep_pinned *pinned),
		     void *arg)
{
	const struct pin *pin;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (pin = pins_at(pins, i)); i++) {
		struct upkeep_pinned pinned = count_pin(store, pin);
		char *name = strndup(pin->name, pin->name_len);

		rc = name ? each(arg, name, &pinned) : -ENOMEM;
		free(name);
	}
	return rc;
}

int upkeep_pins(const char *dir,
		int (*each)(void *arg, const char *name, const struct upkeep_pinned *pinned),
		void *arg, struct xcp_error *err)
{
	struct store *store = NULL;
	struct pins *pins = pins_new();
	uint64_t seal;
	int rc = pins ? open_ready(dir, &store, err) : -ENOMEM;

	if (rc == 0 && store) {
		rc = pins_refresh(pins, store->v1_fd, &seal);
		if (rc == 0)
			rc = pins_each(store, pins, each, arg);
		if (rc)
			xcp_error_set(err, rc, "cannot read the pins of the cache in %s: %s", dir,
				      strerror(-rc));
		store_mark_clean(store);
		store_unref(store);
	}
	pins_free(pins);
	return rc;
}

/* ---- forgetting ---- */

struct gone {
	struct oid oid;
	uint32_t block;
	bool whole;
	struct place place; /* where the bytes are */
};

struct forgetting {
	struct store *store;
	struct pins *pins;
	struct index_op *ops;
	size_t op_count, op_cap;
	struct gone *gone;
	size_t gone_count, gone_cap;
	uint64_t stay;
};

static int op_add(struct forgetting *f, const struct index_op *op)
{
	if (f->op_count == f->op_cap) {
		size_t cap = f->op_cap ? f->op_cap * 2 : PORTION_COUNT;
		struct index_op *ops = realloc(f->ops, cap * sizeof(*ops));

		if (!ops)
			return -ENOMEM;
		f->ops = ops;
		f->op_cap = cap;
	}
	f->ops[f->op_count++] = *op;
	return 0;
}

static int gone_add(struct forgetting *f, const struct gone *gone)
{
	if (f->gone_count == f->gone_cap) {
		size_t cap = f->gone_cap ? f->gone_cap * 2 : PORTION_COUNT;
		struct gone *more = realloc(f->gone, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->gone = more;
		f->gone_cap = cap;
	}
	f->gone[f->gone_count++] = *gone;
	return 0;
}

static int give_up_add(struct forgetting *f, const struct oid *oid, uint32_t block, bool whole,
		       const struct place *place)
{
	const struct index_op op = {
		.kind = OP_GIVE_UP, .oid = *oid, .block = block, .whole = whole, .from = *place
	};
	int rc = op_add(f, &op);

	return rc ? rc : gone_add(f, &(struct gone){ *oid, block, whole, *place });
}

static int blocks_add(struct forgetting *f, const struct oid *name, uint32_t count)
{
	int rc = 0;

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct place place;
		uint32_t bad;

		if (index_get_blocks(f->store->index, name, i, 1, &place, &bad) == 0)
			rc = give_up_add(f, name, i, false, &place);
	}
	return rc;
}

static int object_add(struct forgetting *f, const struct oid *oid)
{
	struct index_object object;
	struct index_op op;
	int rc = index_get_object(f->store->index, oid, &object);

	if (rc)
		return rc == -ENOENT || rc == -EBADMSG ? 0 : rc;
	if (pins_has(f->pins, oid)) {
		f->stay += is_here(&object);
		return 0;
	}
	switch (object.content) {
	case CONTENT_RECORD:
		return give_up_add(f, oid, 0, true, &object.place);
	case CONTENT_BLOCKS:
		return blocks_add(f, oid, blocks_of(&object));
	case CONTENT_ADOPTED:
		op = (struct index_op){ .kind = OP_FORGET_OBJECT, .oid = *oid };
		rc = op_add(f, &op);
		return rc ? rc : blocks_add(f, &object.name, blocks_of(&object));
	default:
		return 0;
	}
}

static int portion(struct forgetting *f, const struct oid *oids, size_t count,
		   struct xcp_error *err)
{
	uint64_t seal;
	int rc = upkeep_lock(f->store, err);

	if (rc)
		return rc;
	f->op_count = 0;
	rc = pins_refresh(f->pins, f->store->v1_fd, &seal);
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = object_add(f, &oids[i]);
	if (rc)
		xcp_error_set(err, rc, "cannot look into the cache: %s", strerror(-rc));
	else if (f->op_count > 0)
		rc = index_apply(f->store->index, f->ops, f->op_count, err);
	store_write_unlock(f->store);
	return rc;
}

/* A rebuild may have found it meanwhile. */
static bool is_gone(const struct store *store, const struct gone *gone)
{
	struct index_object object;
	struct place place;
	uint32_t bad;
	int rc;

	if (!gone->whole) {
		rc = index_get_blocks(store->index, &gone->oid, gone->block, 1, &place, &bad);
		return rc == -ENOENT || (rc == 0 && !place_equal(&place, &gone->place));
	}
	rc = index_get_object(store->index, &gone->oid, &object);
	return rc == -ENOENT || (rc == 0 && (object.content != CONTENT_RECORD ||
					     !place_equal(&object.place, &gone->place)));
}

/* All at once: neighbours of one portion are in another, and what is given back are pages. */
static int give_back(struct forgetting *f, struct xcp_error *err)
{
	struct place *places = calloc(f->gone_count + 1, sizeof(*places));
	size_t count = 0;
	int rc = places ? upkeep_lock(f->store, err) : xcp_error_set(err, -ENOMEM, "out of memory");

	for (size_t i = 0; rc == 0 && i < f->gone_count; i++)
		if (is_gone(f->store, &f->gone[i]))
			/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
			places[count++] = f->gone[i].place;
	if (rc == 0) {
		segments_give_back(f->store->segments_fd, places, count);
		store_write_unlock(f->store);
	}
	free(places);
	return rc;
}

static int forget(struct forgetting *f, const struct oid *oids, size_t count, struct xcp_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i += PORTION_COUNT)
		rc = portion(f, oids + i, count - i < PORTION_COUNT ? count - i : PORTION_COUNT,
			     err);
	return rc ? rc : give_back(f, err);
}

int upkeep_forget(const char *dir, const struct oid *oids, size_t count, uint64_t *out_freed,
		  uint64_t *out_stay, struct xcp_error *err)
{
	struct forgetting f = { .pins = pins_new() };
	uint64_t before, after;
	int rc = f.pins ? open_ready(dir, &f.store, err) : -ENOMEM;

	*out_freed = *out_stay = 0;
	if (rc == 0 && f.store) {
		before = upkeep_disk_len(f.store);
		rc = forget(&f, oids, count, err);
		after = upkeep_disk_len(f.store);
		*out_freed = before > after ? before - after : 0;
		*out_stay = f.stay;
		store_mark_clean(f.store);
		store_unref(f.store);
	}
	free(f.ops);
	free(f.gone);
	pins_free(f.pins);
	return rc;
}
