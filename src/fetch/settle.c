/*
 * settle: a batch has ended: what becomes of the flights that did not arrive, what is remembered
 * and what is said.
 *
 * By the verdict they are asked for again (alone, together, later), or their waiters end with an
 * error. Only what somebody waits for is asked for again; the commit's own flight is, a few times,
 * even when nobody happens to wait.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define TRIES_MAX 3
#define TRIES_EVERYTHING_MAX 6
#define MISSES_MAX 2
/* Answers that broke off: each is progress for the deadline, so something else must end them. */
#define TRIES_IN_VAIN_MAX 6
#define SIZES_BROKEN_MS 600000
#define WALKS_BROKEN_MAX 3
#define WALKS_BROKEN_MS 600000

static bool is_carrier(const struct flight *flight)
{
	return flight->kind != FLIGHT_CONTENT && flight->kind != FLIGHT_SIZE;
}

enum end {
	END_OK,
	END_UNKNOWN, /* one id is not there: nothing came */
	END_LATER,   /* the remote may be better off later */
	END_DAMAGED, /* what came is no good pack */
	END_BROKEN,
	END_TROUBLE, /* our own: no memory, no disk */
	END_DENIED,
	END_GONE,
	END_REFUSED,
	END_CANCELED, /* by us */
};

static bool is_damage(int status)
{
	return status == -EPROTO || status == -EBADMSG;
}

static enum end end_of_good(const struct batch *batch)
{
	if (batch->way == WAY_SIZES)
		return END_OK;
	/* Cut off, whatever the transport thought of it. */
	return batch->ingest && ingest_finished(batch->ingest) ? END_OK : END_LATER;
}

static enum end end_of(const struct batch *batch)
{
	if (batch->peeked)
		return END_CANCELED;
	if (batch->ingest_status == -ECANCELED)
		return batch->stalled ? END_LATER : END_CANCELED;
	if (batch->ingest_status)
		return is_damage(batch->ingest_status) ? END_DAMAGED : END_TROUBLE;
	if (batch->no_memory)
		return END_TROUBLE;
	switch (batch->outcome.verdict) {
	case REMOTE_OK:
		return end_of_good(batch);
	case REMOTE_TRANSIENT:
		return END_LATER;
	case REMOTE_UNKNOWN_OBJECT:
		return END_UNKNOWN;
	case REMOTE_REFUSED_FEATURE:
		if (batch->doubted)
			return END_LATER;
		return batch->filter_kind || batch->way == WAY_SIZES ? END_REFUSED : END_BROKEN;
	case REMOTE_DENIED:
		return END_DENIED;
	case REMOTE_GONE:
		return END_GONE;
	case REMOTE_BROKEN:
		return END_BROKEN;
	case REMOTE_CANCELED:
		return batch->stalled ? END_LATER : END_CANCELED;
	}
	return END_BROKEN;
}

/* What is known once the batch is through, and how its flights are to be treated. */
struct verdict {
	enum end end;
	size_t flight_count;	/* that did not arrive */
	struct flight *unknown; /* the one that the server named */
	bool complete;		/* nothing that came was lost */
	bool in_vain;		/* bytes came, but nothing that was wanted */
	int missing_status;	/* for what is not there, at last */
};

/* A content that only was to tell its size, and did not come: the size is asked for as such. */
static bool ask_for_size_locked(struct fetch *fetch, struct flight *flight)
{
	struct flight *size;

	if (flight->kind != FLIGHT_CONTENT || !flight->waiter_count ||
	    flight_content_wanted_locked(flight) || !fetch_can_sizes_locked(fetch))
		return false;
	size = flight_find_locked(&fetch->table, &flight->oid, FLIGHT_SIZE);
	if (!size) {
		size = flight_new_locked(&fetch->table, &flight->oid, FLIGHT_SIZE, OBJECT_BLOB,
					 SIZE_UNKNOWN);
		if (!size)
			return false;
		flight_queue_locked(&fetch->table, size, LANE_META, WAY_SIZES);
	}
	flight_move_waiters_locked(&fetch->table, flight, size);
	fetch_flight_free_locked(fetch, flight);
	return true;
}

static void ask_again_locked(struct fetch *fetch, struct flight *flight, struct ending *ending)
{
	bool essential = flight->kind == FLIGHT_EVERYTHING && flight->tries < TRIES_EVERYTHING_MAX;

	if (!flight_wanted_locked(flight) && !essential) {
		fetch_drop_locked(fetch, flight);
		return;
	}
	if (ask_for_size_locked(fetch, flight))
		return;
	/* A walk that was cut short would bring all of it again: those who wait ask by id. */
	if (flight->kind == FLIGHT_SUBTREE ||
	    (flight->kind == FLIGHT_LISTING && !fetch_can_list_locked(fetch))) {
		fetch_dissolve_locked(fetch, flight, false);
		return;
	}
	flight_hold_locked(&fetch->table, flight, NULL);
	fetch_route_or_fail_locked(fetch, flight, ending);
}

/* After the last try. A size has another way: contents tell it, too. */
static void give_up_locked(struct fetch *fetch, struct flight *flight, struct ending *ending,
			   int status)
{
	uint64_t until_ms = clock_ms() + SIZES_BROKEN_MS;

	if (flight->kind != FLIGHT_SIZE || flight->way != WAY_SIZES) {
		fetch_fail_locked(fetch, flight, ending, status);
		return;
	}
	if (fetch->sizes_refused_until_ms < until_ms)
		fetch->sizes_refused_until_ms = until_ms;
	flight->tries = flight->misses = flight->group = 0;
	ask_again_locked(fetch, flight, ending);
}

static void settle_missing_locked(struct fetch *fetch, struct flight *flight,
				  const struct verdict *verdict, struct ending *ending)
{
	if (is_carrier(flight)) {
		fetch_dissolve_locked(fetch, flight, verdict->complete);
		return;
	}
	if (verdict->flight_count == 1)
		flight->misses++;
	flight->group = 1;
	if (flight->misses >= MISSES_MAX || verdict->missing_status == -EIO)
		give_up_locked(fetch, flight, ending, verdict->missing_status);
	else
		ask_again_locked(fetch, flight, ending);
}

/* The commit itself is not there: what it covered may be asked for by id. */
static void settle_unknown_carrier_locked(struct fetch *fetch, struct flight *carrier,
					  struct ending *ending)
{
	struct flight *flight = flight_find_locked(&fetch->table, &carrier->oid, FLIGHT_CONTENT);

	if (flight && flight->carrier == carrier)
		fetch_fail_locked(fetch, flight, ending, -ENOENT);
	fetch_dissolve_locked(fetch, carrier, false);
}

static void settle_unknown_locked(struct fetch *fetch, struct flight *flight,
				  const struct verdict *verdict, struct ending *ending)
{
	bool blamed = verdict->unknown ? flight == verdict->unknown : verdict->flight_count == 1;

	if (is_carrier(flight) && blamed) {
		settle_unknown_carrier_locked(fetch, flight, ending);
		return;
	}
	if (blamed) {
		fetch_fail_locked(fetch, flight, ending, -ENOENT);
		return;
	}
	if (!verdict->unknown)
		flight->group =
			(unsigned)(verdict->flight_count + 1) / 2; /* it is in one of the halves */
	ask_again_locked(fetch, flight, ending);
}

static void settle_broken_locked(struct fetch *fetch, struct flight *flight, struct ending *ending,
				 int status)
{
	if (++flight->tries >= TRIES_MAX) {
		give_up_locked(fetch, flight, ending, status);
		return;
	}
	if (flight->tries == TRIES_MAX - 1 && flight->way != WAY_SIZES)
		flight->group = 1; /* one of them may be to blame */
	ask_again_locked(fetch, flight, ending);
}

/*
 * As long as nothing comes, the deadline ends it. A server whose answers always break off would
 * keep its readers for ever.
 */
static void settle_later_locked(struct fetch *fetch, struct flight *flight,
				const struct verdict *verdict, struct ending *ending)
{
	/* what is wanted by nobody ends by its tries alone */
	if (flight->kind == FLIGHT_EVERYTHING || verdict->in_vain)
		flight->tries++;
	if (verdict->in_vain && flight->tries >= TRIES_IN_VAIN_MAX)
		give_up_locked(fetch, flight, ending, -EIO);
	else
		ask_again_locked(fetch, flight, ending);
}

static void settle_flight_locked(struct fetch *fetch, struct flight *flight,
				 const struct verdict *verdict, struct ending *ending)
{
	switch (verdict->end) {
	case END_OK:
		settle_missing_locked(fetch, flight, verdict, ending);
		break;
	case END_UNKNOWN:
		settle_unknown_locked(fetch, flight, verdict, ending);
		break;
	case END_LATER:
		settle_later_locked(fetch, flight, verdict, ending);
		break;
	case END_REFUSED:
	case END_CANCELED:
		ask_again_locked(fetch, flight, ending);
		break;
	case END_DAMAGED:
		settle_broken_locked(fetch, flight, ending, -EBADMSG);
		break;
	case END_BROKEN:
	case END_TROUBLE:
		settle_broken_locked(fetch, flight, ending, -EIO);
		break;
	case END_DENIED:
		fetch_fail_locked(fetch, flight, ending, -EACCES);
		break;
	case END_GONE:
		fetch_fail_locked(fetch, flight, ending, -EIO);
		break;
	}
}

/* Nobody answers, and has not for long: those who wait hear so now. */
static void fail_all_locked(struct fetch *fetch, struct ending *ending, int status)
{
	struct flight *flight;

	while ((flight = TAILQ_FIRST(&fetch->table.waited))) {
		ending_add_locked(&fetch->table, flight, ending, status, NULL, 0);
		fetch_unwanted_locked(fetch, flight);
	}
}

static void remember_outcome_locked(struct fetch *fetch, const struct batch *batch, enum end end)
{
	uint64_t now_ms = clock_ms();
	bool answered = batch->outcome.answered || batch->heard;
	/* Silent since the call began, unless others were answered meanwhile. */
	uint64_t silent_ms = fetch->progress_ms > batch->start_ms ? fetch->progress_ms :
								    batch->start_ms;

	switch (end) {
	case END_OK:
		retry_succeeded(&fetch->retry);
		return;
	case END_UNKNOWN:
	case END_REFUSED:
		retry_succeeded(&fetch->retry);
		break;
	case END_CANCELED:
		return;
	case END_LATER:
		retry_failed(&fetch->retry, now_ms, batch->outcome.retry_after_ms,
			     batch->outcome.answered || batch->heard, silent_ms);
		break;
	default:
		retry_failed(&fetch->retry, now_ms, batch->outcome.retry_after_ms,
			     answered || end != END_BROKEN, silent_ms);
		break;
	}
	fetch->counters.errors++;
	if (end != END_DENIED && end != END_GONE)
		fetch->counters.retries++;
}

/*
 * A subtree that did not come, or that the cache did not take, is asked for whole the next time,
 * and ends in the same way: the next walk must show itself anew, and after some there is none for a
 * while.
 */
static void remember_walk_locked(struct fetch *fetch, const struct batch *batch,
				 const struct verdict *verdict)
{
	bool silent = verdict->end == END_LATER && !batch->heard && !batch->outcome.answered;

	if (batch->way != WAY_SUBTREE || silent || verdict->end == END_CANCELED ||
	    verdict->end == END_REFUSED)
		return;
	if (verdict->complete && !batch->dropped) {
		fetch->walks_broken = 0;
		return;
	}
	crawl_forget_locked(&fetch->crawl);
	if (++fetch->walks_broken >= WALKS_BROKEN_MAX)
		fetch->walks_until_ms = clock_ms() + WALKS_BROKEN_MS;
}

#define DOUBT_SIZES 0x100u

/* A refusal is believed the second time: it changes what is asked for days. */
static void doubt_locked(struct fetch *fetch, struct batch *batch, const struct verdict *verdict)
{
	unsigned bit = batch->way == WAY_SIZES ? DOUBT_SIZES : batch->filter_kind;

	if (verdict->end == END_OK)
		fetch->doubted &= ~bit;
	if (verdict->end != END_REFUSED || fetch->doubted & bit)
		return;
	fetch->doubted |= bit;
	batch->doubted = true;
}

static void refuse_locked(struct fetch *fetch, const struct batch *batch)
{
	if (batch->way == WAY_SIZES)
		fetch->sizes_refused_until_ms = UINT64_MAX;
	else
		fetch->refused |= batch->filter_kind;
}

/* It is made, or it cannot be: what comes next is asked for in the ordinary way. */
static void step_over_locked(struct fetch *fetch, const struct batch *batch,
			     const struct verdict *verdict)
{
	if (!oid_is_null(&batch->step) && verdict->end != END_LATER && verdict->end != END_CANCELED)
		memset(&fetch->step, 0, sizeof(fetch->step));
}

static struct flight *named_locked(struct batch *batch)
{
	struct flight *flight;

	if (oid_is_null(&batch->outcome.unknown))
		return NULL;
	TAILQ_FOREACH(flight, &batch->flights, link) {
		if (oid_equal(&flight->oid, &batch->outcome.unknown))
			return flight;
	}
	return NULL;
}

static void judge_locked(struct batch *batch, struct verdict *out)
{
	struct flight *flight;
	size_t unresolved = batch->ingest ? ingest_unresolved(batch->ingest) : 0;

	*out = (struct verdict){ .end = end_of(batch) };
	TAILQ_FOREACH(flight, &batch->flights, link)
		out->flight_count++;
	out->unknown = named_locked(batch);
	out->complete = out->end == END_OK && !unresolved;
	out->in_vain = batch->heard && batch->arrived == batch->foreign;
	out->missing_status = batch->foreign || unresolved ? -EBADMSG : -ENOENT;
	if (batch->ingest && ingest_trouble(batch->ingest))
		out->missing_status = -EIO;
}

static void settle_flights_locked(struct fetch *fetch, struct batch *batch,
				  const struct verdict *verdict, struct ending *ending)
{
	struct flight *flight;

	/* Each leaves the batch, whatever becomes of it. */
	while ((flight = TAILQ_FIRST(&batch->flights)))
		settle_flight_locked(fetch, flight, verdict, ending);
	if (verdict->end == END_LATER && retry_state(&fetch->retry) == FETCH_OFFLINE)
		fail_all_locked(fetch, ending, -ENETUNREACH);
}

/* ---- what is said and remembered, with no lock held ---- */

static const char *words_of(const struct batch *batch)
{
	if (batch->ingest_status && batch->ingest && is_damage(batch->ingest_status))
		return ingest_error(batch->ingest);
	if (batch->ingest_status)
		return strerror(-batch->ingest_status);
	if (batch->stalled)
		return "nothing came for too long";
	if (batch->outcome.verdict == REMOTE_OK)
		return "the answer is cut short";
	return batch->outcome.error.message;
}

static void say(struct fetch *fetch, const struct batch *batch, const struct verdict *verdict,
		unsigned failures, enum fetch_state state)
{
	const char *what = way_name(batch->way);
	const char *words = words_of(batch);

	switch (verdict->end) {
	case END_OK:
		if (batch->ingest && ingest_trouble(batch->ingest))
			fetch_complain(fetch, COMPLAIN_TROUBLE,
				       "%s came but could not be kept: %s; look at the space and "
				       "limits of the cache's file system",
				       what, strerror(-ingest_trouble(batch->ingest)));
		else if (verdict->flight_count && batch->way != WAY_EVERYTHING &&
			 batch->way != WAY_LISTING && batch->way != WAY_SUBTREE)
			fetch_complain(fetch, COMPLAIN_MISSING,
				       "%zu of %zu %s did not come%s, asking for them alone",
				       verdict->flight_count, batch->want_count, what,
				       verdict->missing_status == -EBADMSG ?
					       " (but something else did)" :
					       "");
		break;
	case END_LATER:
		if (state == FETCH_OFFLINE)
			fetch_complain(
				fetch, COMPLAIN_SILENCE,
				"fetching %s failed (attempt %u): %s; offline: what is cached is "
				"served; check the network",
				what, failures, words);
		else
			fetch_complain(fetch, COMPLAIN_TRANSIENT,
				       "fetching %s failed (attempt %u): %s; trying again", what,
				       failures, words);
		break;
	case END_DAMAGED:
		fetch_complain(fetch, COMPLAIN_DAMAGED,
			       "%s came damaged (attempt %u): %s; nothing of it is served", what,
			       failures, words);
		break;
	case END_BROKEN:
	case END_TROUBLE:
		fetch_complain(fetch, COMPLAIN_BROKEN, "fetching %s failed (attempt %u): %s", what,
			       failures, words);
		break;
	case END_DENIED:
		fetch_complain(fetch, COMPLAIN_DENIED,
			       "fetching %s was refused: %s; check the credentials", what, words);
		break;
	case END_GONE:
		fetch_complain(fetch, COMPLAIN_GONE,
			       "fetching %s: the repository is not there any more: %s", what,
			       words);
		break;
	case END_REFUSED:
		fetch_complain(fetch, COMPLAIN_REFUSED,
			       "the server refuses to send %s with %s: %s; going another way", what,
			       batch->way == WAY_SIZES ? "object-info" : batch->filter, words);
		break;
	case END_UNKNOWN:
		fetch_complain(fetch, COMPLAIN_MISSING, "fetching %s: %s", what, words);
		break;
	case END_CANCELED:
		break;
	}
}

static const char *filter_fact(enum filter_kind kind)
{
	switch (kind) {
	case FILTER_BLOB_NONE:
		return "blob:none";
	case FILTER_TREE:
		return "tree:0";
	case FILTER_COMBINE:
		return "combine";
	case FILTER_LIMIT:
		return "blob:limit";
	case FILTER_NONE:
		break;
	}
	return "";
}

/* Before the flights are settled: who comes next must find it. */
static void remember_facts(struct fetch *fetch, const struct batch *batch,
			   const struct verdict *verdict)
{
	char hex[OID_MAX_HEX + 1];

	if (verdict->end == END_REFUSED && batch->filter_kind)
		fetch_fact_put(fetch, "refused", filter_fact(batch->filter_kind), "1", 1);
	if (!verdict->complete || batch->dropped)
		return;
	if (batch->way == WAY_LISTING || batch->way == WAY_SUBTREE)
		fetch_listed_put(fetch, &batch->first, batch->way == WAY_SUBTREE);
	if (batch->way == WAY_EVERYTHING)
		fetch_fact_put(fetch, "complete", oid_to_hex(&batch->first, hex), "1", 1);
}

void fetch_settle(struct fetch *fetch, struct batch *batch)
{
	struct ending ending = ENDING_INIT(ending);
	struct verdict verdict;
	enum fetch_state state;
	unsigned failures;
	bool back, closing, could_size, gave_up;

	if (batch->way == WAY_RANGE) {
		large_settle_range(fetch, batch);
		return;
	}
	if (batch->way == WAY_TREE_SIZES) {
		tree_sizes_settle(fetch, batch);
		return;
	}
	lock_take(&fetch->lock);
	judge_locked(batch, &verdict);
	doubt_locked(fetch, batch, &verdict);
	judge_locked(batch, &verdict);
	lock_give(&fetch->lock);
	remember_facts(fetch, batch, &verdict);

	lock_take(&fetch->lock);
	step_over_locked(fetch, batch, &verdict);
	failures = fetch->retry.failures + 1;
	remember_outcome_locked(fetch, batch, verdict.end);
	remember_walk_locked(fetch, batch, &verdict);
	if (verdict.end == END_REFUSED)
		refuse_locked(fetch, batch);
	judge_locked(batch, &verdict); /* flights may have come and gone */
	could_size = fetch_can_sizes_locked(fetch);
	settle_flights_locked(fetch, batch, &verdict, &ending);
	gave_up = could_size && !fetch_can_sizes_locked(fetch);
	state = retry_state(&fetch->retry);
	back = fetch->said_offline && state == FETCH_ONLINE;
	fetch->said_offline = state == FETCH_OFFLINE || (fetch->said_offline && !back);
	closing = fetch->closing;
	large_stream_gone_locked(batch);
	TAILQ_REMOVE(&fetch->batches, batch, entry);
	fetch->running[batch->way]--;
	if (TAILQ_EMPTY(&fetch->batches))
		lock_cond_broadcast(&fetch->idle_cond);
	lock_give(&fetch->lock);

	if (!closing)
		say(fetch, batch, &verdict, failures, state);
	if (gave_up)
		fetch_complain(fetch, COMPLAIN_REFUSED,
			       "the server's answers to object-info are of no use; for %d minutes "
			       "sizes are found another way",
			       SIZES_BROKEN_MS / 60000);
	if (back)
		log_info("%s: the remote answers again", fetch->config.name);
	ending_run(&ending);
	fetch_recheck(fetch);
	neighbours_unclaim(fetch, batch);
	if (batch->way == WAY_EVERYTHING && !closing)
		size_rest_ask(fetch);
	batch_free(batch);
	fetch_pump(fetch);
}
