/*
 * batch: the struct and its queue. What rides in it and what becomes of it is scheduler.c's.
 */
#include "fetch/batch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_LEN ((size_t)64 * 1024 - sizeof(struct chunk))

struct batch *batch_of_sink(struct remote_sink *sink)
{
	return (struct batch *)((char *)sink - offsetof(struct batch, sink));
}

struct batch *batch_new(struct fetch *fetch, enum way way, size_t want_max)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->wants = malloc((want_max ? want_max : 1) * sizeof(*batch->wants));
	if (!batch->wants) {
		free(batch);
		return NULL;
	}
	batch->fetch = fetch;
	batch->way = way;
	batch->starting = true;
	TAILQ_INIT(&batch->flights);
	TAILQ_INIT(&batch->chunks);
	return batch;
}

void batch_free(struct batch *batch)
{
	struct chunk *chunk;

	assert(TAILQ_EMPTY(&batch->flights));
	while ((chunk = TAILQ_FIRST(&batch->chunks))) {
		TAILQ_REMOVE(&batch->chunks, chunk, entry);
		free(chunk);
	}
	ingest_free(batch->ingest);
	block_unref(batch->feed_block);
	free(batch->sizes);
	free(batch->wants);
	free(batch->claims);
	free(batch);
}

void batch_ride_locked(struct flight_table *table, struct batch *batch, struct flight *flight)
{
	if (!batch->want_count)
		batch->first = flight->oid;
	if (flight->parts) {
		memcpy(batch->wants, flight->parts->v,
		       flight->parts->count * sizeof(*batch->wants));
		batch->want_count = flight->parts->count;
	} else {
		batch->wants[batch->want_count++] = flight->oid;
	}
	batch->bytes += flight->size == SIZE_UNKNOWN ? 0 : flight->size;
	flight_ride_locked(table, flight, batch, &batch->flights);
}

void batch_cancel_locked(struct batch *batch)
{
	if (batch->cancel_wanted || batch->ended)
		return;
	batch->cancel_wanted = true;
	if (batch->call)
		remote_call_cancel(batch->call);
}

void batch_abandon_locked(struct batch *batch)
{
	batch->abandoned = true;
	batch_cancel_locked(batch);
}

int batch_append_locked(struct batch *batch, const uint8_t *data, size_t len)
{
	struct chunk *last = TAILQ_LAST(&batch->chunks, chunk_list);

	while (len) {
		size_t piece;

		if (!last || last->len == CHUNK_LEN) {
			last = malloc(sizeof(*last) + CHUNK_LEN);
			if (!last)
				return -ENOMEM;
			last->off = last->len = 0;
			TAILQ_INSERT_TAIL(&batch->chunks, last, entry);
		}
		piece = CHUNK_LEN - last->len < len ? CHUNK_LEN - last->len : len;
		memcpy(last->data + last->len, data, piece);
		last->len += piece;
		batch->queued_len += piece;
		data += piece;
		len -= piece;
	}
	return 0;
}

/* More answers than questions are nobody's, but for a tree's. */
static size_t sizes_max(const struct batch *batch)
{
	return batch->way == WAY_TREE_SIZES ? BATCH_TREE_SIZES_MAX : batch->want_count;
}

int batch_append_size_locked(struct batch *batch, const struct oid *oid, bool known, uint64_t size)
{
	if (batch->size_count == batch->size_cap) {
		size_t cap = batch->size_cap ? batch->size_cap * 2 : 256;
		struct cache_size *sizes;

		if (batch->size_count > sizes_max(batch))
			return 0;
		sizes = realloc(batch->sizes, cap * sizeof(*sizes));
		if (!sizes)
			return -ENOMEM;
		batch->sizes = sizes;
		batch->size_cap = cap;
	}
	batch->sizes[batch->size_count].oid = *oid;
	batch->sizes[batch->size_count++].size = known ? size : SIZE_UNKNOWN;
	return 0;
}

void batch_take_locked(struct batch *batch, size_t len, struct chunk_list *out)
{
	struct chunk *chunk;
	size_t taken = 0;

	while (taken < len && (chunk = TAILQ_FIRST(&batch->chunks))) {
		TAILQ_REMOVE(&batch->chunks, chunk, entry);
		TAILQ_INSERT_TAIL(out, chunk, entry);
		taken += chunk->len - chunk->off;
	}
}

void batch_give_back_locked(struct batch *batch, struct chunk_list *rest)
{
	TAILQ_CONCAT(rest, &batch->chunks, entry);
	TAILQ_CONCAT(&batch->chunks, rest, entry);
}

const char *way_name(enum way way)
{
	static const char *const names[WAY_COUNT] = {
		[WAY_EVERYTHING] = "the commit's trees",
		[WAY_TREES] = "trees",
		[WAY_SIZES] = "file sizes",
		[WAY_LISTING] = "a directory's files",
		[WAY_SUBTREE] = "a folder's files, all the way down",
		[WAY_TREE_SIZES] = "the sizes below a tree",
		[WAY_PEEK] = "a file's size",
		[WAY_OBJECTS] = "files",
		[WAY_LARGE] = "a large file",
		[WAY_RANGE] = "a part of a large file",
	};

	return names[way];
}
