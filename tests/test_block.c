/* block: counting and spans. What is freed too early or never is for the sanitizers to see. */
#include "base/block.h"

#include <errno.h>
#include <pthread.h>

#include "tests/tap.h"

static void test_copy_has_the_bytes(void)
{
	struct block *block = block_copy("hello", 5), *empty = block_copy(NULL, 0);

	CHECK(block && empty);
	CHECK_MEM(block->data, block->len, "hello", 5);
	CHECK_UINT(empty->len, 0);
	block_unref(block);
	block_unref(empty);
	block_unref(NULL);
}

static void test_absurd_lengths_are_refused(void)
{
	CHECK_NULL(block_new(SIZE_MAX));
	CHECK_NULL(block_new(SIZE_MAX - sizeof(struct block)));
}

static void test_spans_hold_references(void)
{
	struct block *block = block_copy("0123456789", 10);
	struct spans spans = SPANS_INIT;

	CHECK(block);
	CHECK_INT(spans_add_take(&spans, block_ref(block), 2, 3), 0);
	CHECK_INT(spans_add_take(&spans, block_ref(block), 0, 10), 0);
	CHECK_UINT(spans.count, 2);
	CHECK_UINT(spans.len, 13);
	block_unref(block);
	CHECK_MEM(spans.v[0].block->data + spans.v[0].off, spans.v[0].len, "234", 3);
	spans_release(&spans);
	CHECK_UINT(spans.count, 0);
	CHECK_UINT(spans.len, 0);
}

static void test_full_spans_drop_the_reference(void)
{
	struct block *block = block_copy("x", 1);
	struct spans spans = SPANS_INIT;

	CHECK(block);
	for (unsigned i = 0; i < SPANS_MAX; i++)
		CHECK_INT(spans_add_take(&spans, block_ref(block), 0, 1), 0);
	CHECK_UINT(atomic_load(&block->refs), SPANS_MAX + 1);
	CHECK_INT(spans_add_take(&spans, block_ref(block), 0, 1), -E2BIG);
	CHECK_UINT(atomic_load(&block->refs), SPANS_MAX + 1);
	CHECK_UINT(spans.len, SPANS_MAX);
	spans_release(&spans);
	CHECK_UINT(atomic_load(&block->refs), 1);
	block_unref(block);
}

static void *share(void *arg)
{
	struct block *block = arg;

	for (int i = 0; i < 20000; i++)
		block_unref(block_ref(block));
	block_unref(block);
	return NULL;
}

static void test_threads_share_one_block(void)
{
	struct block *block = block_copy("shared", 6);
	pthread_t threads[4];

	CHECK(block);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, share, block_ref(block)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_UINT(atomic_load(&block->refs), 1);
	block_unref(block);
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_copy_has_the_bytes);
	TAP_RUN(test_absurd_lengths_are_refused);
	TAP_RUN(test_spans_hold_references);
	TAP_RUN(test_full_spans_drop_the_reference);
	TAP_RUN(test_threads_share_one_block);
	return tap_done();
}
