/*
 * work: from the network thread to the ingest threads. The sink copies and goes; an ingest thread
 * takes one batch from the work queue, works off what has come, and puts it back behind the others
 * while there is more.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"
#include "git/hash.h"

#define PROGRESS_LEN ((uint64_t)64 * 1024)
#define RATE_SAMPLE_LEN ((uint64_t)1 << 20) /* less is over before the line is full */
#define ROUND_LEN ((size_t)256 * 1024)
/* Inflated, they are a thousand times as much at most: a stream must stop soon after its window. */
#define STREAM_PIECE ((size_t)4 * 1024)
/*
 * Windows of recent objects: the answer with all trees has many deltas between them, one with
 * files by id has few.
 */
#define WINDOW_LEN ((size_t)1 << 20)
#define WINDOW_EVERYTHING_LEN ((size_t)4 << 20)

void fetch_work_schedule_locked(struct fetch *fetch, struct batch *batch)
{
	if (batch->scheduled || batch->starting)
		return;
	batch->scheduled = true;
	TAILQ_INSERT_TAIL(&fetch->work, batch, work);
	lock_cond_signal(&fetch->work_cond);
}

/* ---- the network thread ---- */

static void heard_locked(struct fetch *fetch, struct batch *batch, size_t len)
{
	uint64_t now_ms = clock_ms();

	batch->progress_ms = now_ms;
	batch->received += len;
	if (batch->large)
		batch->large->progress_ms = now_ms;
	/* A server that always stops after a few bytes goes nowhere: that is no progress. */
	if (batch->received > PROGRESS_LEN)
		fetch->progress_ms = now_ms;
	if (batch->heard)
		return;
	batch->heard = true;
	batch->heard_ms = now_ms;
	fetch->round_trip_ms = fetch->round_trip_ms ?
				       (fetch->round_trip_ms * 7 + now_ms - batch->start_ms) / 8 :
				       now_ms - batch->start_ms + 1;
	retry_answered(&fetch->retry);
}

/* What may turn out to be a large file is not let run far before its header was looked at. */
static size_t queue_max(const struct batch *batch)
{
	bool one = batch->way == WAY_OBJECTS && batch->want_count == 1;

	return batch->large || batch->way == WAY_LARGE || one ? BATCH_QUEUE_LARGE_MAX :
								BATCH_QUEUE_MAX;
}

/* Of a range. */
static bool on_begin(struct remote_sink *sink, uint64_t off, uint64_t total)
{
	struct batch *batch = batch_of_sink(sink);
	struct fetch *fetch = batch->fetch;
	bool fits;

	lock_take(&fetch->lock);
	heard_locked(fetch, batch, 0);
	fits = large_range_begins_locked(batch, off, total);
	lock_give(&fetch->lock);
	return fits;
}

static bool on_pack(struct remote_sink *sink, const uint8_t *data, size_t len)
{
	struct batch *batch = batch_of_sink(sink);
	struct fetch *fetch = batch->fetch;
	bool more;

	lock_take(&fetch->lock);
	heard_locked(fetch, batch, len);
	if (!batch->no_memory && batch_append_locked(batch, data, len)) {
		batch->no_memory = true;
		batch_cancel_locked(batch);
	}
	if (batch->queued_len)
		fetch_work_schedule_locked(fetch, batch);
	/*
	 * Until it is resumed: bytes that were on their way do not end a pause. What is cancelled
	 * takes no more either: the transport may read megabytes before it hears of that.
	 */
	if (batch->cancel_wanted || batch->queued_len > queue_max(batch) ||
	    !fetch_walk_may_go_on_locked(fetch, batch))
		batch->paused = true;
	more = !batch->paused;
	lock_give(&fetch->lock);
	return more;
}

static void on_size(struct remote_sink *sink, const struct oid *oid, bool known, uint64_t size)
{
	struct batch *batch = batch_of_sink(sink);
	struct fetch *fetch = batch->fetch;

	lock_take(&fetch->lock);
	heard_locked(fetch, batch, 0);
	if (!batch->no_memory && batch_append_size_locked(batch, oid, known, size)) {
		batch->no_memory = true;
		batch_cancel_locked(batch);
	}
	lock_give(&fetch->lock);
}

/* From an answer that is long enough to tell, and was not held back by us. */
static void learn_rate_locked(struct fetch *fetch, const struct batch *batch)
{
	uint64_t took_ms = clock_ms() - batch->heard_ms;
	uint64_t rate;

	if (batch->received < RATE_SAMPLE_LEN || !took_ms || batch->was_held)
		return;
	rate = batch->received * 1000 / took_ms;
	fetch->rate = fetch->rate ? (fetch->rate * 3 + rate) / 4 : rate;
}

static void on_done(struct remote_sink *sink, const struct remote_outcome *outcome)
{
	struct batch *batch = batch_of_sink(sink);
	struct fetch *fetch = batch->fetch;

	lock_take(&fetch->lock);
	learn_rate_locked(fetch, batch);
	batch->ended = true;
	batch->call = NULL;
	batch->outcome = *outcome;
	fetch_work_schedule_locked(fetch, batch);
	lock_give(&fetch->lock);
}

void fetch_work_init(struct batch *batch)
{
	batch->sink = (struct remote_sink){
		.begin = on_begin, .pack = on_pack, .size = on_size, .done = on_done
	};
}

/* ---- what the ingest says, on an ingest thread ---- */

static int on_header(void *arg, uint32_t object_count)
{
	struct batch *batch = arg;

	batch->object_count = object_count;
	return 0;
}

/* The one blob that was asked for by its id, as far as can be told before it is whole. */
static bool is_named_blob(const struct batch *batch, const struct pack_entry *entry)
{
	bool by_id = batch->way == WAY_OBJECTS || batch->way == WAY_LARGE || batch->way == WAY_PEEK;

	return by_id && batch->want_count == 1 && batch->object_count == 1 &&
	       entry->kind == PACK_BLOB;
}

static int on_entry(void *arg, const struct pack_entry *entry)
{
	struct batch *batch = arg;

	if (!is_named_blob(batch, entry))
		return 0;
	return fetch_deliver_header(batch->fetch, batch, entry->size);
}

static bool on_object(void *arg, struct content *content)
{
	struct batch *batch = arg;

	return fetch_deliver(batch->fetch, batch, content);
}

static int on_base_stat(void *arg, const struct oid *oid, enum object_type *out_type,
			uint64_t *out_size)
{
	struct batch *batch = arg;
	struct cache_stat stat;
	int status = cache_stat(batch->fetch->config.cache, oid, &stat);

	if (status)
		return status;
	if (!stat.has_content || stat.type == OBJECT_NONE)
		return -ENOENT;
	*out_type = stat.type;
	*out_size = stat.size;
	return 0;
}

static int on_base_read(void *arg, const struct oid *oid, uint64_t off, size_t len,
			struct spans *out)
{
	struct batch *batch = arg;

	return cache_read(batch->fetch->config.cache, oid, off, len, out);
}

static int on_tmpfile(void *arg)
{
	struct batch *batch = arg;

	return cache_tmpfile(batch->fetch->config.cache);
}

static bool on_stopped(void *arg)
{
	struct batch *batch = arg;
	struct fetch *fetch = batch->fetch;
	bool stopped;

	lock_take(&fetch->lock);
	stopped = fetch->closing || batch->cancel_wanted || batch->abandoned;
	lock_give(&fetch->lock);
	return stopped;
}

/* A large blob that was asked for by itself. */
static int on_early(void *arg, const struct pack_entry *entry)
{
	struct batch *batch = arg;
	int status;

	if (!is_named_blob(batch, entry))
		return 0;
	status = large_stream_begin(batch, &batch->wants[0], entry->size);
	if (status || !batch->lingers)
		return status;
	batch->peeked = true;
	return -ECANCELED;
}

static int on_early_data(void *arg, const uint8_t *data, size_t len)
{
	return large_feed(arg, data, len);
}

static void on_early_end(void *arg, const struct oid *oid)
{
	large_stream_end(arg, oid);
}

static const struct ingest_ops ingest_ops = {
	.header = on_header,
	.entry = on_entry,
	.object = on_object,
	.base_stat = on_base_stat,
	.base_read = on_base_read,
	.tmpfile = on_tmpfile,
	.stopped = on_stopped,
	.early = on_early,
	.early_data = on_early_data,
	.early_end = on_early_end,
};

/* ---- the ingest threads ---- */

static struct ingest *ingest_for(struct batch *batch)
{
	struct fetch *fetch = batch->fetch;
	const struct ingest_config config = {
		.algo = fetch->algo,
		.large_limit = (size_t)fetch->config.large_limit,
		.window_max_len = batch->way == WAY_EVERYTHING || batch->way == WAY_SUBTREE ?
					  WINDOW_EVERYTHING_LEN :
					  WINDOW_LEN,
		.ops = &ingest_ops,
		.arg = batch,
	};

	return ingest_new(&config);
}

static int feed_what(struct batch *batch, const uint8_t *data, size_t len)
{
	if (batch->way == WAY_RANGE)
		return large_feed(batch, data, len);
	if (!batch->ingest)
		batch->ingest = ingest_for(batch);
	return batch->ingest ? ingest_feed(batch->ingest, data, len) : -ENOMEM;
}

static void feed(struct batch *batch, const uint8_t *data, size_t len)
{
	if (batch->ingest_status)
		return;
	batch->ingest_status = feed_what(batch, data, len);
	if (!batch->ingest_status)
		return;
	lock_take(&batch->fetch->lock);
	batch_abandon_locked(batch);
	lock_give(&batch->fetch->lock);
}

static bool is_held(struct batch *batch)
{
	bool held;

	lock_take(&batch->fetch->lock);
	held = large_stream_held_locked(batch);
	lock_give(&batch->fetch->lock);
	return held;
}

/* As far as the readers of a stream let it. Returns how many bytes. */
static size_t feed_chunks(struct batch *batch, struct chunk_list *chunks)
{
	struct chunk *chunk;
	size_t fed = 0;

	while ((chunk = TAILQ_FIRST(chunks)) && !is_held(batch)) {
		/* The analyzer takes the next one for the one that was freed. */
		size_t piece = chunk->len - chunk->off; /* NOLINT(clang-analyzer-unix.Malloc) */

		if (batch->way != WAY_RANGE && batch->want_count == 1 && piece > STREAM_PIECE)
			piece = STREAM_PIECE;
		feed(batch, chunk->data + chunk->off, piece);
		chunk->off += piece;
		fed += piece;
		if (chunk->off < chunk->len)
			continue;
		TAILQ_REMOVE(chunks, chunk, entry);
		free(chunk);
	}
	return fed;
}

/* Only one object is empty, and its id is known. */
static bool size_possible(const struct cache_size *size)
{
	struct oid empty;

	return size->size ||
	       object_hash((enum oid_algo)size->oid.algo, OBJECT_BLOB, "", 0, &empty) ||
	       oid_equal(&size->oid, &empty);
}

static void take_sizes(struct batch *batch, struct cache_size *sizes, size_t count)
{
	struct fetch *fetch = batch->fetch;
	size_t known = 0;

	for (size_t i = 0; i < count; i++) {
		if (sizes[i].size == SIZE_UNKNOWN)
			fetch_deliver_unknown(fetch, &sizes[i].oid, FLIGHT_SIZE);
		else if (size_possible(&sizes[i]))
			sizes[known++] = sizes[i];
	}
	/* The cache first: it copies at once, and who is woken may ask for others of these. */
	cache_put_sizes(fetch->config.cache, sizes, known);
	for (size_t i = 0; i < known; i++)
		fetch_deliver_size(fetch, &sizes[i].oid, sizes[i].size);
	batch->arrived += known;
}

/* One round. True when the batch has come to its end and everything of it was worked off. */
static bool work_round(struct fetch *fetch, struct batch *batch)
{
	struct chunk_list chunks = TAILQ_HEAD_INITIALIZER(chunks);
	struct cache_size *sizes = NULL;
	size_t fed, size_count = 0;
	bool finished;

	lock_take(&fetch->lock);
	batch_take_locked(batch, ROUND_LEN, &chunks);
	if (batch->ended) { /* sizes are few and small: all at once */
		sizes = batch->sizes;
		size_count = batch->size_count;
		batch->sizes = NULL;
		batch->size_count = batch->size_cap = 0;
	}
	lock_give(&fetch->lock);

	fed = feed_chunks(batch, &chunks);
	if (sizes && batch->way == WAY_TREE_SIZES)
		tree_sizes_answered(fetch, batch);
	if (sizes)
		take_sizes(batch, sizes, size_count);
	free(sizes);

	lock_take(&fetch->lock);
	batch_give_back_locked(batch, &chunks);
	batch->queued_len -= fed;
	if (fed)
		batch->progress_ms =
			clock_ms(); /* what we are slow at is no stall of the server's */
	if (batch->paused && !batch->held && !batch->cancel_wanted &&
	    batch->queued_len < queue_max(batch) / 2) {
		batch->paused = false;
		if (batch->call)
			remote_call_resume(batch->call);
	}
	finished = batch->ended && TAILQ_EMPTY(&batch->chunks) && !batch->size_count;
	if (!finished) {
		batch->scheduled = false;
		if ((batch->ended || !TAILQ_EMPTY(&batch->chunks)) &&
		    !large_stream_held_locked(batch))
			fetch_work_schedule_locked(fetch, batch);
	}
	lock_give(&fetch->lock);
	return finished;
}

void *fetch_ingest_run(void *arg)
{
	struct fetch *fetch = arg;

	lock_take(&fetch->lock);
	for (;;) {
		struct batch *batch;

		while (TAILQ_EMPTY(&fetch->work) && TAILQ_EMPTY(&fetch->larges.proofs) &&
		       !fetch->quit)
			lock_cond_wait(&fetch->work_cond, &fetch->lock);
		batch = TAILQ_FIRST(&fetch->work);
		if (!batch && fetch->quit)
			break;
		if (!batch) {
			lock_give(&fetch->lock);
			large_prove_round(fetch);
			lock_take(&fetch->lock);
			continue;
		}
		TAILQ_REMOVE(&fetch->work, batch, work);
		lock_give(&fetch->lock);
		if (work_round(fetch, batch))
			fetch_settle(fetch, batch);
		lock_take(&fetch->lock);
	}
	lock_give(&fetch->lock);
	return NULL;
}
