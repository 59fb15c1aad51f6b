/*
 * room: step by step, so that a lot need not be given up at once. When it is due a little more is
 * done than must be, or every batch would have to.
 */
#include "cache/room.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/hand.h"

/* What one step looks at: so little that what is kept does not matter beside the limit. */
#define STEP_SHARE 256
#define STEP_MAX_LEN ((uint64_t)1 << 20)
#define STEP_MIN_LEN ((uint64_t)256 << 10)
/* What is done more than must be. */
#define SLACK_SHARE 64
#define SLACK_MAX_LEN ((uint64_t)16 << 20)
/*
 * Where nearly all was read since, copying has to end somewhere: beyond so many times what is to be
 * given back, or this part of the limit, it goes by age alone.
 */
#define KEEP_TIMES 4
#define KEEP_SHARE 4
#define KEEP_MAX_LEN ((uint64_t)64 << 20)
/* When the index itself takes so much of the limit, sizes of what is not here go, too. */
#define INDEX_SHARE 8
/* For the index alone so much is given up at a time. */
#define INDEX_STEP_LEN ((uint64_t)4 << 20)

struct making {
	struct room_all *all;
	const struct store *store;
	struct recency *recency;
	struct segment_writer *segment;
	uint64_t spare_len; /* so much may still be kept */
};

/* The public part first. */
struct room_all {
	struct room room;
	struct hand *hand;
	struct index_op *ops;
	size_t op_cap;
};

struct room *room_new(uint64_t max_len)
{
	struct room_all *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->room.limit.max_len = max_len;
	all->hand = hand_new();
	if (all->hand)
		return &all->room;
	free(all);
	return NULL;
}

void room_free(struct room *room)
{
	struct room_all *all = (struct room_all *)room;

	if (!all)
		return;
	hand_free(all->hand);
	free(all->ops);
	free(all);
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- one step ---- */

static int ops_reserve(struct room_all *all, size_t count)
{
	struct index_op *ops;

	if (count <= all->op_cap)
		return 0;
	ops = realloc(all->ops, count * sizeof(*ops));
	if (!ops)
		return -ENOMEM;
	all->ops = ops;
	all->op_cap = count;
	return 0;
}

static struct index_op op_of(const struct making *m, const struct hand_record *record,
			     uint64_t base, bool size_too)
{
	struct index_op op = { .kind = record->fate == HAND_KEEP ? OP_MOVE : OP_GIVE_UP,
			       .oid = record->oid,
			       .block = record->block,
			       .whole = record->whole,
			       .size_too = size_too,
			       .from = record->from };

	if (record->fate == HAND_FOUND) {
		op.kind = OP_FOUND;
		op.place = record->from;
		op.object = (struct index_object){ .type = record->type,
						   .size = record->size,
						   .time_s = clock_wall_s() };
	}
	if (record->fate != HAND_KEEP)
		return op;
	op.place = record->from;
	op.place.segment = segment_writer_id(m->segment);
	op.place.off = base + record->off;
	return op;
}

/* What the step says, as one transaction. */
static int ops_fill(struct making *m, const struct hand_step *step, uint64_t base,
		    size_t *out_count)
{
	const struct limit *limit = &m->all->room.limit;
	bool size_too = !limit->index_left || limit->index_len > limit->max_len / INDEX_SHARE;
	size_t count = 0;

	if (ops_reserve(m->all, step->count * 2 + 2))
		return -ENOMEM;
	for (size_t i = 0; i < step->count; i++) {
		m->all->ops[count++] = op_of(m, &step->records[i], base, size_too);
		if (step->records[i].fate != HAND_FOUND || step->records[i].whole)
			continue;
		m->all->ops[count] = m->all->ops[count - 1];
		m->all->ops[count++].kind = OP_FOUND_ALL;
	}
	if (step->kept.len > 0)
		m->all->ops[count++] =
			(struct index_op){ .kind = OP_TAIL,
					   .place = { .segment = segment_writer_id(m->segment),
						      .off = base + step->kept.len } };
	m->all->ops[count++] = (struct index_op){
		.kind = step->gone ? OP_SEGMENT_GONE : OP_HEAD,
		.place = { .segment = step->segment, .off = step->head },
		.stays = step->stays,
	};
	*out_count = count;
	return 0;
}

static void count_step(struct room *room, const struct hand_step *step)
{
	for (size_t i = 0; i < step->count; i++) {
		if (step->records[i].fate == HAND_FOUND)
			continue;
		if (step->records[i].fate == HAND_KEEP) {
			room->kept++;
			continue;
		}
		room->given_up++;
		room->given_up_bytes += record_len(step->records[i].from.stored_len);
	}
}

static int step_commit(struct making *m, struct hand_step *step, struct xcp_error *err)
{
	uint64_t base = segment_writer_tail(m->segment);
	size_t count;
	int rc = 0;

	if (step->kept.len > 0)
		rc = segment_append(m->segment, step->kept.data, step->kept.len, err);
	if (rc)
		return rc;
	rc = ops_fill(m, step, base, &count);
	if (rc)
		return xcp_error_set(err, rc, "cannot make room in the cache: out of memory");
	rc = index_apply(m->store->index, m->all->ops, count, err);
	if (rc == -ENOSPC || rc == -EDQUOT) {
		/* Not even for that: blocks first. Who looks meanwhile finds holes: a miss. */
		hand_give_back(m->all->hand, m->store);
		rc = index_apply(m->store->index, m->all->ops, count, err);
	} else if (rc == 0) {
		hand_give_back(m->all->hand, m->store);
	}
	if (rc && step->kept.len > 0)
		segment_rewind(m->segment, base);
	if (rc == 0)
		count_step(&m->all->room, step);
	return rc;
}

static int step_once(struct making *m, struct xcp_error *err)
{
	const struct limit *limit = &m->all->room.limit;
	uint64_t len = at_most(limit->max_len / STEP_SHARE, STEP_MAX_LEN);
	struct hand_step *step;
	int rc = hand_open(m->all->hand, m->store, segment_writer_id(m->segment));

	if (rc == -ENOENT)
		return rc;
	if (rc)
		return xcp_error_set(err, rc, "cannot make room in the cache: %s", strerror(-rc));
	rc = hand_step(m->all->hand, m->store, m->recency, len < STEP_MIN_LEN ? STEP_MIN_LEN : len,
		       m->spare_len, &step);
	if (rc)
		return xcp_error_set(err, rc, "cannot make room in the cache: %s", strerror(-rc));
	rc = step_commit(m, step, err);
	if ((rc == -ENOSPC || rc == -EDQUOT) && step->kept.len > 0) {
		m->spare_len = 0; /* a full disk: without copies, then */
		return 0;
	}
	if (rc == 0)
		m->spare_len -= at_most(m->spare_len, step->kept.len);
	return rc;
}

/* ---- till there is enough ---- */

static int steps(struct making *m, uint64_t len, uint64_t force, struct xcp_error *err)
{
	struct limit *limit = &m->all->room.limit;
	uint64_t given_up = m->all->room.given_up_bytes;
	int rc = 0;

	while (rc == 0) {
		bool forced = m->all->room.given_up_bytes - given_up < force;

		if (!forced && limit_excess(limit, m->store, len) == 0)
			return 0;
		/* Pages come back late, and not for what has no record: a little each time. */
		if (!forced && limit->only_index &&
		    m->all->room.given_up_bytes - given_up >= INDEX_STEP_LEN)
			return 0;
		rc = step_once(m, err);
		limit_changed(limit);
	}
	return rc;
}

static bool is_enough(struct making *m, uint64_t len)
{
	return limit_excess(&m->all->room.limit, m->store, len) == 0 ||
	       m->all->room.limit.only_index;
}

static int no_room(const struct room *room, const struct store *store, struct xcp_error *err)
{
	if (room->limit.scarce)
		return xcp_error_set(err, -ENOSPC,
				     "the file system of the cache %s is nearly full, and nothing "
				     "is left to give up; make room there",
				     store->path);
	if (!room->limit.index_left)
		return xcp_error_set(err, -ENOSPC,
				     "the index of the cache %s is full, and nothing is left to "
				     "give up; move the directory away",
				     store->path);
	return xcp_error_set(err, -ENOSPC,
			     "the cache %s may take %llu bytes, and nothing is left to give up; "
			     "raise cache-size",
			     store->path, (unsigned long long)room->limit.max_len);
}

int room_make(struct room *room, const struct store *store, struct recency *recency,
	      struct segment_writer *segment, uint64_t len, uint64_t force, struct xcp_error *err)
{
	struct making m = { .all = (struct room_all *)room,
			    .store = store,
			    .recency = recency,
			    .segment = segment };
	uint64_t excess = limit_excess(&room->limit, store, len), slack;
	int rc;

	if (excess < force)
		excess = force;
	if (!excess)
		return 0;
	slack = at_most(room->limit.max_len / SLACK_SHARE, SLACK_MAX_LEN);
	m.spare_len = KEEP_TIMES * (excess + slack);
	if (m.spare_len < at_most(room->limit.max_len / KEEP_SHARE, KEEP_MAX_LEN))
		m.spare_len = at_most(room->limit.max_len / KEEP_SHARE, KEEP_MAX_LEN);
	rc = hand_look(m.all->hand, store, err);
	if (rc)
		return rc;
	recency_load(recency, store->v1_fd);
	rc = steps(&m, len + slack, force, err);
	hand_close(m.all->hand);
	recency_store(recency, store->v1_fd);
	limit_changed(&room->limit);
	if (rc == -ENOENT)
		rc = is_enough(&m, len) ? 0 : no_room(room, store, err);
	return rc;
}
