/*
 * prove: whether the blocks of a large file are what its id says. When all are there they are read
 * back as they lie in the cache, in order: what is hashed is what will be read later, whoever wrote
 * it. Not while they come, for then processors have better things to do; a few blocks at a time,
 * behind everything else that ingest threads do.
 */
#include <errno.h>

#include "base/clock.h"
#include "fetch/fetch_internal.h"

#define ROUND_BLOCKS 8

static bool is_due_locked(const struct large *large)
{
	return large->here_count == large->block_count &&
	       large->proved_count < large->block_count && !large->distrusted;
}

static void begin_again(struct large *large)
{
	hasher_release(&large->hasher);
	large->proved_count = 0;
	large->seal = 0;
	large->proof_stale = false;
}

void large_prove_locked(struct large *large)
{
	struct fetch *fetch = large->fetch;

	if (large->proving || fetch->closing)
		return;
	if (large->proof_stale)
		begin_again(large);
	if (!is_due_locked(large))
		return;
	large->proving = true;
	TAILQ_INSERT_TAIL(&fetch->larges.proofs, large, proof);
	lock_cond_signal(&fetch->work_cond);
}

static int hash_block(struct large *large)
{
	struct fetch *fetch = large->fetch;
	struct block *block;
	int status = 0;

	if (!large->proved_count)
		status = hasher_init_object(&large->hasher, (enum oid_algo)large->oid.algo,
					    large->part.type, large->part.size);
	if (!status)
		status = cache_part_block(fetch->config.cache, &large->part, large->proved_count,
					  &block, &large->seal);
	if (status)
		return status;
	status = hasher_update(&large->hasher, block->data, block->len);
	block_unref(block);
	if (!status)
		large->proved_count++;
	return status;
}

/* -ENOENT: it waits for the writer, or is lost; -EBADMSG; 0: all of this round. */
static int hash_round(struct large *large)
{
	for (unsigned i = 0; i < ROUND_BLOCKS && large->proved_count < large->block_count; i++) {
		int status = hash_block(large);

		if (status)
			return status;
	}
	return 0;
}

static void finish(struct large *large)
{
	struct fetch *fetch = large->fetch;
	struct oid oid;

	if (hasher_final(&large->hasher, &oid))
		return;
	if (!oid_equal(&oid, &large->oid)) {
		large_distrust(large);
		return;
	}
	cache_part_adopt(fetch->config.cache, &large->part, &large->oid, large->seal);
	log_debug("fetch: a large file of %u blocks is whole", large->block_count);
}

/* The block that could not be read: whether it will ever come out of the cache. */
static bool is_lost(struct large *large)
{
	struct spans spans = SPANS_INIT;

	if (cache_part_read(large->fetch->config.cache, &large->part,
			    (uint64_t)large->proved_count * CACHE_BLOCK_LEN, 1, &spans))
		return true;
	spans_release(&spans);
	return false;
}

void large_prove_round(struct fetch *fetch)
{
	struct large *large;
	bool lost;
	int status;

	lock_take(&fetch->lock);
	large = TAILQ_FIRST(&fetch->larges.proofs);
	if (large) {
		TAILQ_REMOVE(&fetch->larges.proofs, large, proof);
		large->users++;
	}
	lock_give(&fetch->lock);
	if (!large)
		return;
	status = hash_round(large);
	lost = status == -ENOENT && is_lost(large);
	if (!status && large->proved_count == large->block_count)
		finish(large);

	lock_take(&fetch->lock);
	large->proving = false;
	if (lost && bit_is_set(large->here, large->proved_count))
		large_lose_locked(large, large->proved_count);
	if (!status)
		large_prove_locked(large); /* else the clock comes by */
	large_put_locked(large);
	lock_give(&fetch->lock);
}

/* ---- what is wrong ---- */

static void forget_locked(struct large *large, struct ending *ending)
{
	large->distrusted = true;
	large->withdrawing = large->fetch->config.distrusted;
	memset(large->here, 0, large->block_count / 8 + 1);
	large->here_count = 0;
	large_fail_locked(large, ending, -EBADMSG);
	large_stream_cancel_locked(large);
}

void fetch_withdrawn(struct fetch *fetch, const struct oid *oid)
{
	struct large *large;

	lock_take(&fetch->lock);
	large = large_find_locked(fetch, oid);
	if (large)
		large->withdrawing = false;
	lock_give(&fetch->lock);
}

void large_distrust(struct large *large)
{
	struct fetch *fetch = large->fetch;
	struct ending ending = ENDING_INIT(ending);
	char hex[OID_MAX_HEX + 1];
	bool again;

	lock_take(&fetch->lock);
	again = large->distrusted;
	if (!again)
		forget_locked(large, &ending);
	lock_give(&fetch->lock);
	if (again)
		return;
	cache_part_drop(fetch->config.cache, &large->part.name);
	fetch_complain(
		fetch, COMPLAIN_DAMAGED,
		"a large file came, but its bytes are not %s: all of it was thrown away, and "
		"what was read of it is wrong; from now on it is shown only as a whole%s%s",
		oid_to_hex(&large->oid, hex), large->path ? ": " : "",
		large->path ? large->path : "");
	ending_run(&ending);
	if (fetch->config.distrusted)
		fetch->config.distrusted(fetch->config.distrusted_arg, &large->oid);
}
