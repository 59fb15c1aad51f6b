/*
 * pack_support: a collector for what the pack parser tells, and deltas resolved in memory, for
 * tests.
 *
 * Threads: the one that runs main().
 */
#ifndef TESTS_PACK_SUPPORT_H
#define TESTS_PACK_SUPPORT_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "git/delta.h"
#include "git/hash.h"
#include "git/pack.h"

struct packed {
	struct pack_entry entry;
	struct buf bytes; /* as inflated */
	bool ended, resolved;
	struct buf whole; /* the object's */
	enum object_type type;
	struct oid oid;
};

struct collector {
	enum oid_algo algo;
	uint32_t announced;
	struct packed *v;
	size_t count;
	size_t largest_piece;
	int broken;  /* events out of order */
	int stop_at; /* the event that fails with -EXFULL; 0: none */
	int events;
};

static inline int collector_event(struct collector *c)
{
	return ++c->events == c->stop_at ? -EXFULL : 0;
}

static inline int collect_header(void *arg, uint32_t count)
{
	struct collector *c = arg;

	c->broken |= c->events != 0;
	c->announced = count;
	return collector_event(c);
}

static inline int collect_entry(void *arg, const struct pack_entry *entry)
{
	struct collector *c = arg;

	c->broken |= c->count > 0 && !c->v[c->count - 1].ended;
	c->v = reallocarray(c->v, c->count + 1, sizeof(*c->v));
	memset(&c->v[c->count], 0, sizeof(*c->v));
	c->v[c->count++].entry = *entry;
	return collector_event(c);
}

static inline int collect_data(void *arg, const uint8_t *data, size_t len)
{
	struct collector *c = arg;
	struct packed *last = &c->v[c->count - 1];

	c->broken |= last->ended || len == 0;
	if (len > c->largest_piece)
		c->largest_piece = len;
	buf_add(&last->bytes, data, len);
	c->broken |= last->bytes.len > last->entry.size;
	return collector_event(c);
}

static inline int collect_end(void *arg)
{
	struct collector *c = arg;
	struct packed *last = &c->v[c->count - 1];

	c->broken |= last->ended || last->bytes.len != last->entry.size;
	last->ended = true;
	return collector_event(c);
}

static const struct pack_events collector_events = { collect_header, collect_entry, collect_data,
						     collect_end };

static inline void collector_release(struct collector *c)
{
	for (size_t i = 0; i < c->count; i++) {
		buf_release(&c->v[i].bytes);
		buf_release(&c->v[i].whole);
	}
	free(c->v);
	memset(c, 0, sizeof(*c));
}

static inline struct packed *collector_base(struct collector *c, const struct pack_entry *entry)
{
	for (size_t i = 0; i < c->count; i++) {
		struct packed *p = &c->v[i];

		if (p->resolved &&
		    (entry->kind == PACK_OFS_DELTA ? p->entry.off == entry->base_off :
						     oid_equal(&p->oid, &entry->base_oid)))
			return p;
	}
	return NULL;
}

static inline void collector_resolve_one(struct collector *c, struct packed *p)
{
	struct delta_header header;
	struct packed *base;

	if (p->entry.kind <= PACK_TAG) {
		buf_add(&p->whole, p->bytes.data, p->bytes.len);
		p->type = (enum object_type)p->entry.kind;
	} else {
		base = collector_base(c, &p->entry);
		if (!base || delta_header(p->bytes.data, p->bytes.len, &header) ||
		    buf_reserve(&p->whole, header.result_size + 1) ||
		    delta_apply_mem(p->bytes.data, p->bytes.len, base->whole.data, base->whole.len,
				    p->whole.data, header.result_size))
			return;
		p->whole.len = header.result_size;
		p->type = base->type;
	}
	p->resolved = object_hash(c->algo, p->type, p->whole.data, p->whole.len, &p->oid) == 0;
}

/* Gives every object its bytes, type and id. Returns how many could not be resolved. */
static inline size_t collector_resolve(struct collector *c)
{
	size_t left = c->count, before;

	do {
		before = left;
		left = 0;
		for (size_t i = 0; i < c->count; i++) {
			if (!c->v[i].resolved)
				collector_resolve_one(c, &c->v[i]);
			left += !c->v[i].resolved;
		}
	} while (left > 0 && left < before);
	return left;
}

static inline struct packed *collector_find(struct collector *c, const struct oid *oid)
{
	for (size_t i = 0; i < c->count; i++) {
		if (c->v[i].resolved && oid_equal(&c->v[i].oid, oid))
			return &c->v[i];
	}
	return NULL;
}

static inline size_t collector_count_kind(const struct collector *c, enum pack_entry_kind kind)
{
	size_t count = 0;

	for (size_t i = 0; i < c->count; i++)
		count += c->v[i].entry.kind == kind;
	return count;
}

#endif
