/* Blocks kept at hand: found, counted, bounded, the least recently used one first to go. */
#include "cache/blocks.h"

#include <pthread.h>

#include "tests/cache_support.h"

static void add(struct blocks *blocks, uint64_t n, uint32_t index, size_t len)
{
	struct oid oid = oid_of(n);
	struct blocks_claim claim;
	struct block *block = blocks_claim(blocks, &oid, index, &claim);

	if (!block) {
		block = block_new(len);
		memset(block->data, (int)(n + index), len);
		blocks_settle(blocks, &claim, block);
	}
	block_unref(block);
}

static bool has(struct blocks *blocks, uint64_t n, uint32_t index)
{
	struct oid oid = oid_of(n);
	struct block *block = blocks_get(blocks, &oid, index);
	bool right = block && (block->len == 0 || block->data[0] == (uint8_t)(n + index));

	block_unref(block);
	return right;
}

static void test_what_was_added_is_found_under_its_key_alone(void)
{
	struct blocks *blocks = blocks_new(1 << 20);

	add(blocks, 1, 0, 100);
	add(blocks, 1, 1, 100);
	add(blocks, 2, 0, 0);
	CHECK(has(blocks, 1, 0));
	CHECK(has(blocks, 1, 1));
	CHECK(has(blocks, 2, 0));
	CHECK(!has(blocks, 1, 2));
	CHECK(!has(blocks, 3, 0));
	blocks_free(blocks);
}

static void test_a_block_outlives_its_being_kept(void)
{
	struct blocks *blocks = blocks_new(1 << 20);
	struct oid oid = oid_of(1);
	struct block *block;

	add(blocks, 1, 0, 100);
	block = blocks_get(blocks, &oid, 0);
	blocks_free(blocks);
	CHECK_UINT(block->data[99], 1);
	block_unref(block);
}

static void test_the_bound_holds_and_what_is_used_stays(void)
{
	struct blocks *blocks = blocks_new(1 << 20);

	add(blocks, 0, 0, 1000);
	for (uint64_t n = 1; n < 5000; n++) {
		add(blocks, n, 0, 1000);
		CHECK_MSG(has(blocks, 0, 0), "after %u others", (unsigned)n);
		CHECK_MSG(has(blocks, n, 0), "number %u", (unsigned)n);
	}
	CHECK(blocks_len(blocks) <= 1 << 20);
	CHECK(blocks_len(blocks) > 1 << 19);
	CHECK(!has(blocks, 1, 0));
	blocks_free(blocks);
}

static void test_the_same_again_costs_nothing(void)
{
	struct blocks *blocks = blocks_new(1 << 20);
	size_t len;

	add(blocks, 1, 0, 1000);
	len = blocks_len(blocks);
	add(blocks, 1, 0, 1000);
	CHECK_UINT(blocks_len(blocks), len);
	CHECK(has(blocks, 1, 0));
	blocks_free(blocks);
}

static void test_what_is_larger_than_the_bound_is_not_kept(void)
{
	struct blocks *blocks = blocks_new(1);

	add(blocks, 1, 0, 1000);
	CHECK(!has(blocks, 1, 0));
	CHECK_UINT(blocks_len(blocks), 0);
	blocks_free(blocks);
}

static void test_a_claim_that_failed_is_the_next_ones(void)
{
	struct blocks *blocks = blocks_new(1 << 20);
	struct oid oid = oid_of(1);
	struct blocks_claim claim;

	CHECK_NULL(blocks_claim(blocks, &oid, 0, &claim));
	CHECK(!has(blocks, 1, 0));
	blocks_settle(blocks, &claim, NULL);
	CHECK(!has(blocks, 1, 0));
	add(blocks, 1, 0, 100);
	CHECK(has(blocks, 1, 0));
	blocks_free(blocks);
}

#define MAKERS 8
#define ROUNDS 500

struct race {
	struct blocks *blocks;
	pthread_barrier_t start;
	_Atomic unsigned made, failed, wrong;
};

/* Of each ten, one is made only by a thread that failed before. */
static void *make_all(void *arg)
{
	struct race *race = arg;

	for (uint64_t n = 0; n < ROUNDS; n++) {
		struct oid oid = oid_of(n);
		struct blocks_claim claim;
		struct block *block;
		bool fails = false;

		pthread_barrier_wait(&race->start);
		do {
			block = blocks_claim(race->blocks, &oid, 0, &claim);
			if (block)
				break;
			fails = n % 10 == 7 && !fails;
			if (fails)
				race->failed++;
			else
				race->made++;
			block = fails ? NULL : block_copy(&n, sizeof(n));
			blocks_settle(race->blocks, &claim, block);
		} while (!block);
		race->wrong += memcmp(block->data, &n, sizeof(n)) != 0;
		block_unref(block);
	}
	return NULL;
}

static void test_what_many_want_at_once_is_made_once(void)
{
	struct race race = { .blocks = blocks_new(1 << 20) };
	pthread_t threads[MAKERS];

	pthread_barrier_init(&race.start, NULL, MAKERS);
	for (unsigned i = 0; i < MAKERS; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, make_all, &race), 0);
	for (unsigned i = 0; i < MAKERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_UINT(race.wrong, 0);
	CHECK_UINT(race.made, ROUNDS);
	CHECK(race.failed >= ROUNDS / 10);
	pthread_barrier_destroy(&race.start);
	blocks_free(race.blocks);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_was_added_is_found_under_its_key_alone);
	TAP_RUN(test_a_block_outlives_its_being_kept);
	TAP_RUN(test_the_bound_holds_and_what_is_used_stays);
	TAP_RUN(test_the_same_again_costs_nothing);
	TAP_RUN(test_what_is_larger_than_the_bound_is_not_kept);
	TAP_RUN(test_a_claim_that_failed_is_the_next_ones);
	TAP_RUN(test_what_many_want_at_once_is_made_once);
	return tap_done();
}
