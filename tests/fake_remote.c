/*
 * fake_remote: see the header. One thread answers calls in the order in which they were started,
 * another one calls for ranges;
 * packs are made when they are asked for.
 */
#include "fake_remote.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/lock.h"
#include "pack_build.h"

#define OBJECTS_MAX 20000
#define CALLS_MAX 20000
#define LINKS_MAX 20000
#define PIECE ((size_t)16 * 1024)

struct object {
	struct oid oid;
	enum object_type type;
	struct buf bytes;
	bool omitted, sizeless;
	const struct object *swapped;
	size_t spoiled; /* SIZE_MAX: no */
};

struct file {
	char path[256];
	struct oid oid;
};

struct link {
	struct oid tree, child;
};

struct remote_call {
	struct remote *remote;
	struct remote_sink *sink;
	struct oid *wants;
	char path[256]; /* of a range */
	uint64_t size;	/* of the file, as the caller has it */
	struct fake_seen seen;
	bool taken, paused, finished;
};

struct remote {
	unsigned caps;
	struct server_caps server_caps;
	pthread_t threads[2]; /* the second one answers ranges */
	struct lock lock;
	struct lock_cond cond;
	bool quit;
	struct object *objects;
	size_t object_count;
	struct link *links;
	size_t link_count;
	struct file files[64];
	size_t file_count;
	enum fake_ranges ranges;
	struct remote_call **calls;
	size_t call_count, ended_count;

	bool hold;
	unsigned released;
	unsigned failures;
	struct remote_outcome failure;
	char refused[64];
	bool unnamed, deltas;
	size_t tree_sizes_max;
	unsigned damages, cuts, breaks;
	size_t stall;
	bool deaf;
	void (*linger)(void);
};

/* ---- answering ---- */

static struct object *object_find(struct remote *remote, const struct oid *oid)
{
	for (size_t i = 0; i < remote->object_count; i++)
		if (oid_equal(&remote->objects[i].oid, oid))
			return &remote->objects[i];
	return NULL;
}

struct answer {
	struct pack_build build;
	const struct object *last;
	uint64_t last_off;
	bool deltas;
};

static void answer_delta(struct answer *answer, const struct object *object)
{
	struct buf delta = BUF_INIT;

	delta_build_size(&delta, answer->last->bytes.len);
	delta_build_size(&delta, object->bytes.len);
	for (size_t off = 0; off < object->bytes.len; off += 100) {
		size_t len = object->bytes.len - off < 100 ? object->bytes.len - off : 100;

		delta_build_insert(&delta, object->bytes.data + off, (uint8_t)len);
	}
	answer->last_off = pack_build_ofs(&answer->build, answer->last_off, delta.data, delta.len);
	answer->last = object;
	buf_release(&delta);
}

/* Once is wrong, twice is right. */
static void spoil(const struct object *object)
{
	if (object->spoiled < object->bytes.len)
		object->bytes.data[object->spoiled] ^= 1;
}

static void answer_add(struct answer *answer, const struct object *object)
{
	if (object->omitted)
		return;
	if (object->swapped)
		object = object->swapped;
	if (answer->deltas && answer->last && answer->last->type == object->type) {
		answer_delta(answer, object);
		return;
	}
	answer->last = object;
	spoil(object);
	answer->last_off = pack_build_object(&answer->build, object->type, object->bytes.data,
					     object->bytes.len);
	spoil(object);
}

static uint64_t blob_limit(const char *filter)
{
	const char *limit = strstr(filter, "blob:limit=");

	if (strstr(filter, "blob:none"))
		return 0;
	return limit ? strtoull(limit + strlen("blob:limit="), NULL, 10) : UINT64_MAX;
}

/* What goes along with a tree or a commit, depth by depth. */
static void answer_links(struct remote *remote, const struct remote_call *call,
			 struct answer *answer, const struct oid *tree, unsigned depth)
{
	for (size_t i = 0; depth && i < remote->link_count; i++) {
		struct object *child;

		if (!oid_equal(&remote->links[i].tree, tree))
			continue;
		child = object_find(remote, &remote->links[i].child);
		if (child->type == OBJECT_BLOB && child->bytes.len >= blob_limit(call->seen.filter))
			continue;
		answer_add(answer, child);
		answer_links(remote, call, answer, &child->oid, depth - 1);
	}
}

static bool make_pack(struct remote *remote, struct remote_call *call, struct answer *answer,
		      struct remote_outcome *outcome)
{
	unsigned depth = strstr(call->seen.filter, "tree:0") ? 0 :
			 strstr(call->seen.filter, "tree:1") ? 1 :
							       100;

	pack_build_start(&answer->build, OID_SHA1);
	answer->deltas = remote->deltas;
	for (size_t i = 0; i < call->seen.want_count; i++) {
		const struct object *object = object_find(remote, &call->wants[i]);

		if (!object) {
			outcome->verdict = REMOTE_UNKNOWN_OBJECT;
			if (!remote->unnamed)
				outcome->unknown = call->wants[i];
			xcp_error_set(&outcome->error, -ENOENT, "not our ref");
			return false;
		}
		answer_add(answer, object);
		answer_links(remote, call, answer, &object->oid, depth);
	}
	pack_build_end(&answer->build);
	if (remote->damages) {
		remote->damages--;
		answer->build.bytes.data[answer->build.bytes.len / 2] ^= 1;
	}
	if (remote->cuts) {
		remote->cuts--;
		answer->build.bytes.len -= 21;
	}
	if (remote->breaks) {
		remote->breaks--;
		answer->build.bytes.len /= 2;
		outcome->verdict = REMOTE_TRANSIENT;
		xcp_error_set(&outcome->error, -EIO, "broken off");
	}
	return true;
}

/* False when it was cancelled. */
static bool send_pack(struct remote *remote, struct remote_call *call, const struct buf *pack)
{
	for (size_t off = 0; off < pack->len;) {
		size_t len = pack->len - off < PIECE ? pack->len - off : PIECE;
		bool more;

		lock_take(&remote->lock);
		if (remote->stall && remote->stall - off < len)
			len = remote->stall > off ? remote->stall - off : 0;
		while (!call->seen.cancelled && (call->paused || (remote->stall && !len)))
			lock_cond_wait(&remote->cond, &remote->lock);
		if (call->seen.cancelled && (call->paused || !remote->deaf)) {
			lock_give(&remote->lock);
			return false;
		}
		call->seen.sent += len;
		call->paused = true; /* a resume may come before the sink returns */
		lock_give(&remote->lock);
		more = call->sink->pack(call->sink, pack->data + off, len);
		lock_take(&remote->lock);
		if (more)
			call->paused = false;
		lock_give(&remote->lock);
		off += len;
	}
	return true;
}

static void answer_fetch(struct remote *remote, struct remote_call *call,
			 struct remote_outcome *outcome)
{
	struct answer answer = { 0 };
	bool made;

	lock_take(&remote->lock);
	made = make_pack(remote, call, &answer, outcome);
	lock_give(&remote->lock);
	if (made && !send_pack(remote, call, &answer.build.bytes)) {
		outcome->verdict = REMOTE_CANCELED;
		xcp_error_set(&outcome->error, -ECANCELED, "cancelled");
	}
	buf_release(&answer.build.bytes);
}

static void answer_sizes(struct remote *remote, struct remote_call *call)
{
	for (size_t i = 0; i < call->seen.want_count; i++) {
		const struct object *object = object_find(remote, &call->wants[i]);

		if (object && (object->omitted || object->sizeless))
			continue;
		call->sink->size(call->sink, &call->wants[i], object != NULL,
				 object ? object->bytes.len : 0);
	}
}

static void answer_tree_sizes(struct remote *remote, struct remote_call *call,
			      const struct oid *tree, size_t *left, struct remote_outcome *outcome)
{
	for (size_t i = 0; i < remote->link_count; i++) {
		const struct object *child;

		if (!oid_equal(&remote->links[i].tree, tree))
			continue;
		child = object_find(remote, &remote->links[i].child);
		if (child->type == OBJECT_BLOB && !*left)
			outcome->cut = true;
		else if (child->type == OBJECT_BLOB)
			call->sink->size(call->sink, &child->oid, true, child->bytes.len);
		else if (call->seen.below)
			answer_tree_sizes(remote, call, &child->oid, left, outcome);
		*left -= child->type == OBJECT_BLOB && *left;
	}
}

static const struct object *file_find(struct remote *remote, const char *path)
{
	for (size_t i = remote->file_count; i > 0; i--)
		if (!strcmp(remote->files[i - 1].path, path))
			return object_find(remote, &remote->files[i - 1].oid);
	return NULL;
}

static void refuse(struct remote_outcome *outcome)
{
	outcome->verdict = REMOTE_REFUSED_FEATURE;
	xcp_error_set(&outcome->error, -EOPNOTSUPP, "no such ranges");
}

static void answer_range(struct remote *remote, struct remote_call *call,
			 struct remote_outcome *outcome)
{
	const struct object *object;
	uint64_t off = call->seen.off, end = off + call->seen.len, total;
	struct buf bytes = BUF_INIT;
	enum fake_ranges how;

	lock_take(&remote->lock);
	object = file_find(remote, call->path);
	how = remote->ranges;
	total = object ? object->bytes.len : 0;
	if (how == FAKE_RANGES_WHOLE) {
		off = 0;
		end = total;
	}
	if (object && end <= total) {
		spoil(object);
		buf_add(&bytes, object->bytes.data + off, end - off);
		spoil(object);
	}
	lock_give(&remote->lock);
	if (!bytes.len || how == FAKE_RANGES_NONE) {
		refuse(outcome);
	} else if (!call->sink->begin(call->sink, off, total + (how == FAKE_RANGES_LONGER)) ||
		   !send_pack(remote, call, &bytes)) {
		outcome->verdict = REMOTE_CANCELED;
		xcp_error_set(&outcome->error, -ECANCELED, "cancelled");
	}
	buf_release(&bytes);
}

static bool refused_locked(struct remote *remote, const struct remote_call *call)
{
	return *remote->refused &&
	       !strncmp(call->seen.filter, remote->refused, strlen(remote->refused));
}

static void answer(struct remote *remote, struct remote_call *call)
{
	struct remote_outcome outcome = { .verdict = REMOTE_OK, .answered = true };
	bool normal = false;

	lock_take(&remote->lock);
	if (call->seen.cancelled && !remote->deaf) {
		outcome.verdict = REMOTE_CANCELED;
	} else if (remote->failures) {
		remote->failures--;
		outcome = remote->failure;
	} else if (refused_locked(remote, call)) {
		outcome.verdict = REMOTE_REFUSED_FEATURE;
		xcp_error_set(&outcome.error, -EOPNOTSUPP, "empty answer");
	} else {
		normal = true;
	}
	lock_give(&remote->lock);
	if (normal && call->seen.range)
		answer_range(remote, call, &outcome);
	else if (normal && call->seen.sizes)
		answer_sizes(remote, call);
	else if (normal && call->seen.tree_sizes)
		answer_tree_sizes(remote, call, &call->seen.first,
				  &(size_t){ remote->tree_sizes_max }, &outcome);
	else if (normal)
		answer_fetch(remote, call, &outcome);
	call->sink->done(call->sink, &outcome);
	lock_take(&remote->lock);
	call->finished = true;
	remote->ended_count++;
	lock_cond_broadcast(&remote->cond);
	lock_give(&remote->lock);
}

static struct remote_call *next_locked(struct remote *remote, bool range)
{
	for (size_t i = 0; i < remote->call_count; i++) {
		struct remote_call *call = remote->calls[i];

		if (call->taken || call->seen.range != range)
			continue;
		if (!remote->hold || call->seen.cancelled)
			return call;
		if (!remote->released)
			continue;
		remote->released--;
		return call;
	}
	return NULL;
}

static void *run(struct remote *remote, bool range)
{
	lock_take(&remote->lock);
	while (!remote->quit) {
		struct remote_call *call = next_locked(remote, range);

		if (!call) {
			lock_cond_wait(&remote->cond, &remote->lock);
			continue;
		}
		call->taken = true;
		lock_give(&remote->lock);
		answer(remote, call);
		lock_take(&remote->lock);
	}
	lock_give(&remote->lock);
	return NULL;
}

static void *run_packs(void *remote)
{
	return run(remote, false);
}

static void *run_ranges(void *remote)
{
	return run(remote, true);
}

/* ---- what fetch calls ---- */

unsigned remote_caps(const struct remote *remote)
{
	return remote->caps;
}

const struct server_caps *remote_server_caps(const struct remote *remote)
{
	return &remote->server_caps;
}

static struct remote_call *call_new(struct remote *remote, struct remote_sink *sink,
				    const struct oid *wants, size_t count,
				    const struct fake_seen *seen)
{
	struct remote_call *call = calloc(1, sizeof(*call));

	call->remote = remote;
	call->sink = sink;
	call->seen = *seen;
	call->seen.want_count = count;
	call->wants = malloc(count * sizeof(*wants) + 1);
	if (count) {
		call->seen.first = wants[0];
		memcpy(call->wants, wants, count * sizeof(*wants));
	}
	return call;
}

static void call_start(struct remote *remote, struct remote_call *call, struct remote_call **out)
{
	*out = call;
	lock_take(&remote->lock);
	remote->calls[remote->call_count++] = call;
	lock_cond_broadcast(&remote->cond);
	lock_give(&remote->lock);
}

int remote_start_fetch(struct remote *remote, const struct fetch_spec *spec,
		       struct remote_sink *sink, struct remote_call **out)
{
	struct fake_seen seen = { .deepen = spec->deepen };
	void (*linger)(void);

	if (spec->filter)
		snprintf(seen.filter, sizeof(seen.filter), "%s", spec->filter);
	call_start(remote, call_new(remote, sink, spec->wants, spec->want_count, &seen), out);
	lock_take(&remote->lock);
	linger = remote->linger;
	remote->linger = NULL;
	lock_give(&remote->lock);
	if (linger)
		linger();
	return 0;
}

int remote_start_sizes(struct remote *remote, const struct oid *oids, size_t count,
		       struct remote_sink *sink, struct remote_call **out)
{
	const struct fake_seen seen = { .sizes = true };

	call_start(remote, call_new(remote, sink, oids, count, &seen), out);
	return 0;
}

int remote_start_tree_sizes(struct remote *remote, const struct oid *tree, bool below,
			    struct remote_sink *sink, struct remote_call **out)
{
	const struct fake_seen seen = { .tree_sizes = true, .below = below };

	call_start(remote, call_new(remote, sink, tree, 1, &seen), out);
	return 0;
}

int remote_start_range(struct remote *remote, const struct range_spec *spec,
		       struct remote_sink *sink, struct remote_call **out)
{
	const struct fake_seen seen = { .range = true, .off = spec->off, .len = spec->len };
	struct remote_call *call;

	if (!(remote->caps & REMOTE_RANGE))
		return -EOPNOTSUPP;
	call = call_new(remote, sink, NULL, 0, &seen);
	call->size = spec->size;
	snprintf(call->path, sizeof(call->path), "%s", spec->path);
	call_start(remote, call, out);
	return 0;
}

void remote_call_resume(struct remote_call *call)
{
	lock_take(&call->remote->lock);
	if (call->finished)
		abort(); /* the contract: only before done() */
	call->paused = false;
	lock_cond_broadcast(&call->remote->cond);
	lock_give(&call->remote->lock);
}

void remote_call_cancel(struct remote_call *call)
{
	lock_take(&call->remote->lock);
	if (call->finished)
		abort();
	call->seen.cancelled = true;
	lock_cond_broadcast(&call->remote->cond);
	lock_give(&call->remote->lock);
}

/* ---- for the test ---- */

struct remote *fake_remote_new(unsigned caps)
{
	struct remote *remote = calloc(1, sizeof(*remote));

	remote->caps = caps;
	remote->server_caps = (struct server_caps){ .version = 2, .algo = OID_SHA1 };
	remote->objects = calloc(OBJECTS_MAX, sizeof(*remote->objects));
	remote->tree_sizes_max = SIZE_MAX;
	remote->links = calloc(LINKS_MAX, sizeof(*remote->links));
	remote->calls = calloc(CALLS_MAX, sizeof(struct remote_call *));
	lock_init(&remote->lock);
	lock_cond_init(&remote->cond);
	thread_start(&remote->threads[0], "fake-net", run_packs, remote);
	thread_start(&remote->threads[1], "fake-ranges", run_ranges, remote);
	return remote;
}

void fake_remote_free(struct remote *remote)
{
	lock_take(&remote->lock);
	remote->quit = true;
	lock_cond_broadcast(&remote->cond);
	lock_give(&remote->lock);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(remote->threads[i], NULL);
	for (size_t i = 0; i < remote->object_count; i++)
		buf_release(&remote->objects[i].bytes);
	for (size_t i = 0; i < remote->call_count; i++) {
		free(remote->calls[i]->wants);
		free(remote->calls[i]);
	}
	free(remote->objects);
	free(remote->links);
	free(remote->calls);
	lock_cond_release(&remote->cond);
	lock_release(&remote->lock);
	free(remote);
}

struct oid fake_add(struct remote *remote, enum object_type type, const void *data, size_t len)
{
	struct object *object;
	struct oid oid;

	object_hash(OID_SHA1, type, data, len, &oid);
	lock_take(&remote->lock);
	if (!object_find(remote, &oid)) {
		object = &remote->objects[remote->object_count++];
		object->oid = oid;
		object->type = type;
		object->spoiled = SIZE_MAX;
		buf_add(&object->bytes, data, len);
	}
	lock_give(&remote->lock);
	return oid;
}

struct oid fake_add_blob(struct remote *remote, size_t len, uint32_t seed)
{
	uint8_t *data = malloc(len + 1);
	struct oid oid;

	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		data[i] = (uint8_t)(seed >> 24);
	}
	oid = fake_add(remote, OBJECT_BLOB, data, len);
	free(data);
	return oid;
}

void fake_include(struct remote *remote, const struct oid *tree, const struct oid *child)
{
	lock_take(&remote->lock);
	remote->links[remote->link_count++] = (struct link){ *tree, *child };
	lock_give(&remote->lock);
}

void fake_swap(struct remote *remote, const struct oid *oid, const struct oid *other)
{
	lock_take(&remote->lock);
	object_find(remote, oid)->swapped = object_find(remote, other);
	lock_give(&remote->lock);
}

void fake_omit(struct remote *remote, const struct oid *oid, bool omit)
{
	lock_take(&remote->lock);
	object_find(remote, oid)->omitted = omit;
	lock_give(&remote->lock);
}

void fake_tree_sizes_max(struct remote *remote, size_t max)
{
	lock_take(&remote->lock);
	remote->tree_sizes_max = max;
	lock_give(&remote->lock);
}

void fake_sizeless(struct remote *remote, const struct oid *oid)
{
	lock_take(&remote->lock);
	object_find(remote, oid)->sizeless = true;
	lock_give(&remote->lock);
}

void fake_file(struct remote *remote, const char *path, const struct oid *oid)
{
	lock_take(&remote->lock);
	snprintf(remote->files[remote->file_count].path, sizeof(remote->files[0].path), "%s", path);
	remote->files[remote->file_count++].oid = *oid;
	lock_give(&remote->lock);
}

void fake_spoil(struct remote *remote, const struct oid *oid, size_t off)
{
	lock_take(&remote->lock);
	object_find(remote, oid)->spoiled = off;
	lock_give(&remote->lock);
}

#define SET(assignment)                                                                            \
	do {                                                                                       \
		lock_take(&remote->lock);                                                          \
		assignment;                                                                        \
		lock_cond_broadcast(&remote->cond);                                                \
		lock_give(&remote->lock);                                                          \
	} while (0)

void fake_ranges(struct remote *remote, enum fake_ranges how)
{
	SET(remote->ranges = how);
}

void fake_hold(struct remote *remote, bool hold)
{
	SET(remote->hold = hold);
}

void fake_release(struct remote *remote, unsigned count)
{
	SET(remote->released += count);
}

void fake_fail(struct remote *remote, unsigned count, enum remote_verdict verdict, bool answered,
	       uint64_t retry_after_ms)
{
	lock_take(&remote->lock);
	remote->failures = count;
	remote->failure = (struct remote_outcome){ .verdict = verdict, .answered = answered };
	remote->failure.retry_after_ms = retry_after_ms;
	xcp_error_set(&remote->failure.error, -EIO, "scripted failure");
	lock_give(&remote->lock);
}

void fake_refuse_filter(struct remote *remote, const char *prefix)
{
	SET(snprintf(remote->refused, sizeof(remote->refused), "%s", prefix ? prefix : ""));
}

void fake_unnamed(struct remote *remote, bool unnamed)
{
	SET(remote->unnamed = unnamed);
}

void fake_damage(struct remote *remote, unsigned count)
{
	SET(remote->damages = count);
}

void fake_cut(struct remote *remote, unsigned count)
{
	SET(remote->cuts = count);
}

void fake_break(struct remote *remote, unsigned count)
{
	SET(remote->breaks = count);
}

void fake_stall(struct remote *remote, size_t after)
{
	SET(remote->stall = after);
}

void fake_deaf(struct remote *remote, bool deaf)
{
	SET(remote->deaf = deaf);
}

void fake_deltas(struct remote *remote, bool deltas)
{
	SET(remote->deltas = deltas);
}

void fake_linger(struct remote *remote, void (*linger)(void))
{
	SET(remote->linger = linger);
}

size_t fake_calls(struct remote *remote)
{
	size_t count;

	SET(count = remote->call_count);
	return count;
}

struct fake_seen fake_call(struct remote *remote, size_t index)
{
	struct fake_seen seen;

	SET(seen = remote->calls[index]->seen);
	return seen;
}

bool fake_wanted(struct remote *remote, size_t index, const struct oid *oid)
{
	const struct remote_call *call;

	SET(call = remote->calls[index]);
	for (size_t i = 0; i < call->seen.want_count; i++)
		if (oid_equal(&call->wants[i], oid))
			return true;
	return false;
}

size_t fake_ended(struct remote *remote)
{
	size_t count;

	SET(count = remote->ended_count);
	return count;
}

bool fake_wait_calls(struct remote *remote, size_t count)
{
	bool reached;

	lock_take(&remote->lock);
	for (unsigned i = 0; remote->call_count < count && i < 100; i++)
		lock_cond_wait_ms(&remote->cond, &remote->lock, 100);
	reached = remote->call_count >= count;
	lock_give(&remote->lock);
	return reached;
}
