/*
 * remote_support: what the tests of transports share: a source from text, and a sink that collects
 * and can be waited for.
 *
 * Threads: the collector is filled by the network thread and read by the test's.
 */
#ifndef TESTS_REMOTE_SUPPORT_H
#define TESTS_REMOTE_SUPPORT_H

#include <stdio.h>

#include "base/lock.h"
#include "remote/remote.h"
#include "tap.h"

struct collector {
	struct remote_sink sink;
	struct lock lock;
	struct lock_cond changed;
	struct buf pack;
	unsigned begins;
	uint64_t begin_off, begin_total;
	bool refuse_begin;
	size_t pause_every; /* bytes; 0: never asks for a pause */
	size_t pause_at;
	unsigned pauses;
	unsigned size_count, unknown_sizes;
	uint64_t size_sum;
	struct remote_outcome outcome;
	bool done;
};

static inline bool collector_begin(struct remote_sink *sink, uint64_t off, uint64_t total)
{
	struct collector *collector = (struct collector *)sink;

	lock_take(&collector->lock);
	collector->begins++;
	collector->begin_off = off;
	collector->begin_total = total;
	lock_give(&collector->lock);
	return !collector->refuse_begin;
}

static inline bool collector_pack(struct remote_sink *sink, const uint8_t *data, size_t len)
{
	struct collector *collector = (struct collector *)sink;
	bool more = true;

	lock_take(&collector->lock);
	buf_add(&collector->pack, data, len);
	if (collector->pause_every && collector->pack.len >= collector->pause_at) {
		collector->pause_at = collector->pack.len + collector->pause_every;
		collector->pauses++;
		more = false;
	}
	lock_cond_broadcast(&collector->changed);
	lock_give(&collector->lock);
	return more;
}

static inline void collector_size(struct remote_sink *sink, const struct oid *oid, bool known,
				  uint64_t size)
{
	struct collector *collector = (struct collector *)sink;

	(void)oid;
	lock_take(&collector->lock);
	collector->size_count++;
	collector->unknown_sizes += !known;
	collector->size_sum += size;
	lock_give(&collector->lock);
}

static inline void collector_done(struct remote_sink *sink, const struct remote_outcome *outcome)
{
	struct collector *collector = (struct collector *)sink;

	lock_take(&collector->lock);
	collector->outcome = *outcome;
	collector->done = true;
	lock_cond_broadcast(&collector->changed);
	lock_give(&collector->lock);
}

static inline void collector_init(struct collector *collector)
{
	memset(collector, 0, sizeof(*collector));
	collector->sink = (struct remote_sink){ .begin = collector_begin,
						.pack = collector_pack,
						.size = collector_size,
						.done = collector_done };
	lock_init(&collector->lock);
	lock_cond_init(&collector->changed);
}

static inline void collector_release(struct collector *collector)
{
	buf_release(&collector->pack);
	lock_cond_release(&collector->changed);
	lock_release(&collector->lock);
}

/* Until done() came; the verdict. */
static inline enum remote_verdict collector_wait(struct collector *collector)
{
	lock_take(&collector->lock);
	while (!collector->done)
		lock_cond_wait(&collector->changed, &collector->lock);
	lock_give(&collector->lock);
	return collector->outcome.verdict;
}

/* Until at least `len` pack bytes came (or done). */
static inline void collector_wait_bytes(struct collector *collector, size_t len)
{
	lock_take(&collector->lock);
	while (!collector->done && collector->pack.len < len)
		lock_cond_wait(&collector->changed, &collector->lock);
	lock_give(&collector->lock);
}

static inline size_t collector_len(struct collector *collector)
{
	size_t len;

	lock_take(&collector->lock);
	len = collector->pack.len;
	lock_give(&collector->lock);
	return len;
}

static inline bool collector_is_done(struct collector *collector)
{
	bool done;

	lock_take(&collector->lock);
	done = collector->done;
	lock_give(&collector->lock);
	return done;
}

/* A remote on a network of its own. */
struct place {
	struct host_table *hosts;
	struct source source;
	struct net *net;
	struct remote *remote;
};

/* A key of the host "forge"; %u in the value is the port of the test's server. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static inline void host_set(struct host_table *hosts, unsigned port, const char *key,
			    const char *fmt)
{
	char value[256];
	struct xcp_error err = { 0 };

	snprintf(value, sizeof(value), fmt, port);
	if (host_table_set(hosts, "forge", key, value, &err))
		tap_fail(__FILE__, __LINE__, "%s", err.message);
}
#pragma GCC diagnostic pop

/* Takes the table of hosts. */
static inline bool place_open_at(struct place *place, struct host_table *hosts, const char *text,
				 struct broker *broker, bool no_helpers, unsigned stall_ms)
{
	const struct net_config net_config = { .connect_timeout_ms = 5000,
					       .stall_timeout_ms = stall_ms };
	struct remote_config config = { .broker = broker, .no_helpers = no_helpers };
	struct xcp_error err = { 0 };

	memset(place, 0, sizeof(*place));
	place->hosts = hosts;
	if (source_parse(text, NULL, place->hosts, &place->source, &err) ||
	    net_open(&net_config, &place->net, &err)) {
		printf("# %s\n", err.message);
		return false;
	}
	config.net = place->net;
	config.source = &place->source;
	return remote_open(&config, &place->remote, &err) == 0;
}

static inline bool place_open(struct place *place, const char *text, struct broker *broker,
			      bool no_helpers, unsigned stall_ms)
{
	return place_open_at(place, host_table_new(), text, broker, no_helpers, stall_ms);
}

static inline void place_close(struct place *place)
{
	remote_close(&place->remote);
	net_close(&place->net);
	source_release(&place->source);
	host_table_free(place->hosts);
}

#endif
