/*
 * fetch: its life, what can be had without asking anybody, and what can be seen. Wants are
 * want.c's.
 */
#include "fetch/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define PATIENCE_MS 30000
#define CONTENT_SLOTS 4
#define META_SLOTS 2
#define LARGE_LIMIT (1u << 20)
#define LARGE_MEMORY_LEN ((uint64_t)32 << 20)
#define REFUSED_FOR_S ((int64_t)7 * 24 * 3600) /* then a feature that was refused is tried again */

/* ---- open and close ---- */

static void config_defaults(struct fetch_config *config)
{
	if (!config->patience_ms)
		config->patience_ms = PATIENCE_MS;
	if (!config->content_slots)
		config->content_slots = CONTENT_SLOTS;
	if (!config->meta_slots)
		config->meta_slots = META_SLOTS;
	if (!config->large_limit)
		config->large_limit = LARGE_LIMIT;
	if (!config->large_memory_len)
		config->large_memory_len = LARGE_MEMORY_LEN;
	if (!config->name)
		config->name = "remote";
	if (!config->identity)
		config->identity = config->name;
	if (!config->remote)
		config->offline = true;
}

static bool refused_lately(struct fetch *fetch, const char *filter)
{
	struct buf value = BUF_INIT;
	int64_t stored_s = 0;
	int status = fetch_fact_get(fetch, "refused", filter, &value, &stored_s);

	buf_release(&value);
	return !status && clock_age_s(stored_s) < REFUSED_FOR_S;
}

static void recall_refusals(struct fetch *fetch)
{
	if (refused_lately(fetch, "blob:none"))
		fetch->refused |= FILTER_BLOB_NONE;
	if (refused_lately(fetch, "tree:0"))
		fetch->refused |= FILTER_TREE;
	if (refused_lately(fetch, "combine"))
		fetch->refused |= FILTER_COMBINE;
	if (refused_lately(fetch, "blob:limit"))
		fetch->refused |= FILTER_LIMIT;
	fetch->larges.refused = refused_lately(fetch, "range");
}

static int start_threads(struct fetch *fetch)
{
	int status = thread_start(&fetch->timer_thread, "fetch-timer", fetch_timer_run, fetch);

	if (status)
		return status;
	fetch->timer_started = true;
	for (unsigned i = 0; i < INGEST_THREADS; i++) {
		status = thread_start(&fetch->ingest_threads[i], "fetch-ingest", fetch_ingest_run,
				      fetch);
		if (status)
			return status;
		fetch->ingest_started++;
	}
	return 0;
}

static void join_threads(struct fetch *fetch)
{
	lock_take(&fetch->lock);
	fetch->quit = true;
	lock_cond_broadcast(&fetch->work_cond);
	lock_cond_broadcast(&fetch->timer_cond);
	lock_give(&fetch->lock);
	if (fetch->timer_started)
		pthread_join(fetch->timer_thread, NULL);
	for (unsigned i = 0; i < fetch->ingest_started; i++)
		pthread_join(fetch->ingest_threads[i], NULL);
}

static void fetch_free(struct fetch *fetch)
{
	lock_cond_release(&fetch->work_cond);
	lock_cond_release(&fetch->timer_cond);
	lock_cond_release(&fetch->idle_cond);
	lock_release(&fetch->lock);
	free(fetch);
}

static void init(struct fetch *fetch)
{
	struct fetch_config *config = &fetch->config;

	config_defaults(config);
	lock_init(&fetch->lock);
	lock_cond_init(&fetch->work_cond);
	lock_cond_init(&fetch->timer_cond);
	lock_cond_init(&fetch->idle_cond);
	flight_table_init(&fetch->table, &fetch->lock);
	TAILQ_INIT(&fetch->recheck);
	TAILQ_INIT(&fetch->elsewhere);
	TAILQ_INIT(&fetch->batches);
	TAILQ_INIT(&fetch->work);
	retry_init(&fetch->retry, config->patience_ms, clock_ns());
	ahead_init(&fetch->ahead, config->large_limit);
	fetch->progress_ms = fetch->lones_counted_ms = clock_ms();
	fetch->lones_left = LONES_IN_A_ROW;
	larges_init(fetch);
	if (config->remote) {
		const struct server_caps *caps = remote_server_caps(config->remote);

		fetch->caps = remote_caps(config->remote);
		fetch->algo = caps && caps->algo ? caps->algo : OID_SHA1;
	}
}

int fetch_open(const struct fetch_config *config, struct fetch **out, struct xcp_error *err)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int status;

	if (!fetch)
		return xcp_error_set(err, -ENOMEM, "out of memory");
	fetch->config = *config;
	init(fetch);
	recall_refusals(fetch);
	status = start_threads(fetch);
	if (status) {
		join_threads(fetch);
		larges_release(fetch);
		fetch_free(fetch);
		return xcp_error_set(err, status, "cannot start threads for fetching: %s",
				     strerror(-status));
	}
	*out = fetch;
	return 0;
}

static void end_all_waits(struct fetch *fetch)
{
	struct ending ending = ENDING_INIT(ending);
	struct flight *flight;

	lock_take(&fetch->lock);
	fetch->closing = true;
	while ((flight = TAILQ_FIRST(&fetch->table.waited)))
		ending_add_locked(&fetch->table, flight, &ending, -ECANCELED, NULL, 0);
	larges_fail_locked(fetch, &ending, -ECANCELED);
	lock_give(&fetch->lock);
	ending_run(&ending);
}

static void cancel_all_calls(struct fetch *fetch)
{
	struct batch *batch;

	lock_take(&fetch->lock);
	TAILQ_FOREACH(batch, &fetch->batches, entry) {
		batch_cancel_locked(batch);
		if (batch->large) /* it may wait for readers */
			fetch_work_schedule_locked(fetch, batch);
	}
	while (!TAILQ_EMPTY(&fetch->batches))
		lock_cond_wait(&fetch->idle_cond, &fetch->lock);
	lock_give(&fetch->lock);
}

static void free_flights(struct fetch *fetch)
{
	struct flight *flight, *covered;

	lock_take(&fetch->lock);
	for (size_t i = 0; i < FLIGHT_BUCKETS; i++) {
		while ((flight = LIST_FIRST(&fetch->table.buckets[i]))) {
			while ((covered = TAILQ_FIRST(&flight->covered)))
				flight_hold_locked(&fetch->table, covered, NULL);
			flight_free_locked(&fetch->table, flight);
		}
	}
	lock_give(&fetch->lock);
}

void fetch_close(struct fetch **ref)
{
	struct fetch *fetch = *ref;

	if (!fetch)
		return;
	*ref = NULL;
	end_all_waits(fetch);
	cancel_all_calls(fetch);
	join_threads(fetch);
	larges_release(fetch);
	free_flights(fetch);
	fetch_free(fetch);
}

/* ---- waiting ---- */

void fetch_waiter_init(struct fetch_waiter *waiter,
		       void (*done)(struct fetch_waiter *, int, struct content *, uint64_t))
{
	*waiter = (struct fetch_waiter){ .done = done };
}

void fetch_waiter_release(struct fetch_waiter *waiter)
{
	for (unsigned i = 0; i < FETCH_PART_BLOCKS; i++) {
		block_unref(waiter->blocks[i]);
		waiter->blocks[i] = NULL;
	}
}

bool fetch_cancel(struct fetch *fetch, struct fetch_waiter *waiter)
{
	bool ended = true;

	lock_take(&fetch->lock);
	switch (waiter->state) {
	case FETCH_WAITER_IDLE:
	case FETCH_WAITER_CANCELED:
		waiter->state = FETCH_WAITER_CANCELED;
		break;
	case FETCH_WAITER_PARKED: {
		struct flight *flight = waiter->flight;

		if (waiter->large) {
			large_leave_locked(waiter, FETCH_WAITER_CANCELED);
			break;
		}
		flight_leave_locked(&fetch->table, waiter, FETCH_WAITER_CANCELED);
		fetch_unwanted_locked(fetch, flight);
		break;
	}
	case FETCH_WAITER_DONE:
		ended = false;
		break;
	}
	lock_give(&fetch->lock);
	return ended;
}

/* ---- company ---- */

int fetch_list_add(struct fetch_list *list, const struct oid *oid)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct oid *v = realloc(list->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->cap = cap;
	}
	list->v[list->count++] = *oid;
	return 0;
}

void fetch_list_release(struct fetch_list *list)
{
	free(list->v);
	*list = (struct fetch_list){ 0 };
}

/* ---- what is said ---- */

void fetch_complain(struct fetch *fetch, enum complaint kind, const char *fmt, ...)
{
	enum log_level level = kind == COMPLAIN_TRANSIENT ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
	char words[1024];
	unsigned suppressed;
	va_list args;

	va_start(args, fmt);
	vsnprintf(words, sizeof(words), fmt, args);
	va_end(args);
	lock_take(&fetch->lock);
	snprintf(fetch->counters.last_error, sizeof(fetch->counters.last_error), "%.*s",
		 (int)sizeof(fetch->counters.last_error) - 1, words);
	lock_give(&fetch->lock);
	if (!log_limit_pass(&fetch->complaints[kind], LOG_INTERVAL_MS, &suppressed))
		return;
	if (suppressed)
		log_line(level, "%s: %s (%u more like it)", fetch->config.name, words, suppressed);
	else
		log_line(level, "%s: %s", fetch->config.name, words);
}

/* ---- what is here ---- */

int fetch_read(struct fetch *fetch, const struct oid *oid, uint64_t off, size_t len,
	       struct spans *out)
{
	int status = cache_read(fetch->config.cache, oid, off, len, out);

	if (!status)
		fetch_used(fetch, oid);
	return status;
}

int fetch_get(struct fetch *fetch, const struct oid *oid, size_t max_len, struct content **out)
{
	int status = cache_get(fetch->config.cache, oid, max_len, out);

	if (!status)
		fetch_used(fetch, oid);
	return status;
}

bool fetch_known(struct fetch *fetch, const struct oid *oid, enum object_type *out_type,
		 uint64_t *out_size)
{
	struct cache_stat stat;

	if (cache_stat(fetch->config.cache, oid, &stat))
		return false;
	*out_type = stat.type;
	*out_size = stat.size;
	return true;
}

bool fetch_size_known(struct fetch *fetch, const struct oid *oid, uint64_t *out)
{
	enum object_type type;

	return fetch_known(fetch, oid, &type, out);
}

bool fetch_has(struct fetch *fetch, const struct oid *oid)
{
	struct cache_stat stat;

	return !cache_stat(fetch->config.cache, oid, &stat) && stat.has_content;
}

bool fetch_is_settled(struct fetch *fetch, const struct oid *oid)
{
	struct cache_stat stat;

	return !cache_stat(fetch->config.cache, oid, &stat) &&
	       (stat.has_content || stat.size > fetch->config.large_limit);
}

/* ---- facts ---- */

int fetch_fact_key(const char *identity, const char *key, struct buf *out)
{
	int status = buf_add(out, identity, strlen(identity) + 1);

	return status ? status : buf_add_str(out, key);
}

int fetch_fact_put(struct fetch *fetch, const char *kind, const char *key, const void *value,
		   size_t value_len)
{
	struct buf full = BUF_INIT;
	int status = fetch_fact_key(fetch->config.identity, key, &full);

	if (!status)
		status = cache_fact_put(fetch->config.cache, kind, full.data, full.len, value,
					value_len);
	buf_release(&full);
	return status;
}

int fetch_fact_get(struct fetch *fetch, const char *kind, const char *key, struct buf *out,
		   int64_t *out_stored_s)
{
	struct buf full = BUF_INIT;
	int status = fetch_fact_key(fetch->config.identity, key, &full);

	if (!status)
		status = cache_fact_get(fetch->config.cache, kind, full.data, full.len, out,
					out_stored_s);
	buf_release(&full);
	return status;
}

/*
 * A fact for good, and a ring in memory for a cache that keeps none. The limit is part of the key:
 * with another one it must be listed again.
 */
static void listed_key(struct fetch *fetch, const struct oid *tree, char *out, size_t out_len)
{
	char hex[OID_MAX_HEX + 1];

	snprintf(out, out_len, "%s %" PRIu64, oid_to_hex(tree, hex), fetch->config.large_limit);
}

static const char *listed_kind(bool deep)
{
	return deep ? "subtree" : "listed";
}

void fetch_listed_put(struct fetch *fetch, const struct oid *tree, bool deep)
{
	char key[OID_MAX_HEX + 32];

	lock_take(&fetch->lock);
	if (deep)
		fetch->subtrees[fetch->subtrees_next++ % SUBTREE_COUNT] = *tree;
	else
		fetch->listed[fetch->listed_next++ % LISTED_COUNT] = *tree;
	lock_give(&fetch->lock);
	listed_key(fetch, tree, key, sizeof(key));
	fetch_fact_put(fetch, listed_kind(deep), key, "1", 1);
}

static bool ring_has(const struct oid *ring, size_t count, const struct oid *tree)
{
	for (size_t i = 0; i < count; i++) {
		if (oid_equal(&ring[i], tree))
			return true;
	}
	return false;
}

bool fetch_listed(struct fetch *fetch, const struct oid *tree, bool deep)
{
	struct buf value = BUF_INIT;
	char key[OID_MAX_HEX + 32];
	bool found;
	int status;

	lock_take(&fetch->lock);
	found = deep ? ring_has(fetch->subtrees, SUBTREE_COUNT, tree) :
		       ring_has(fetch->listed, LISTED_COUNT, tree);
	lock_give(&fetch->lock);
	if (found)
		return true;
	listed_key(fetch, tree, key, sizeof(key));
	status = fetch_fact_get(fetch, listed_kind(deep), key, &value, NULL);
	buf_release(&value);
	return !status;
}

/* ---- looking ---- */

void fetch_counters(struct fetch *fetch, struct fetch_counters *out)
{
	lock_take(&fetch->lock);
	*out = fetch->counters;
	out->flights = fetch->table.count - fetch->table.arrived_count;
	out->waiters = fetch->table.waiter_count;
	out->state = fetch->config.offline ? FETCH_OFFLINE : retry_state(&fetch->retry);
	out->prefetch_used = atomic_load(&fetch->ahead.total_used);
	out->api = tree_sizes_state_locked(fetch, &out->api_rests_ms);
	lock_give(&fetch->lock);
}
