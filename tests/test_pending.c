/* The queue of what is not on disk yet: order, keys, bounds, and what writing does to them. */
#include "cache/pending.h"

#include "tests/cache_support.h"

#define MAX_LEN (64u * 1024)

struct bench {
	struct lock lock;
	struct pending pending;
};

static struct bench *bench_open(void)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	lock_init(&bench->lock);
	pending_init(&bench->pending, &bench->lock, MAX_LEN);
	lock_take(&bench->lock);
	return bench;
}

static void bench_close(struct bench *bench)
{
	struct pending_item *item;

	while ((item = pending_drop_oldest_locked(&bench->pending)))
		pending_item_free(item);
	lock_give(&bench->lock);
	lock_release(&bench->lock);
	free(bench);
}

static int add(struct bench *bench, struct pending_item *item)
{
	struct pending_item *freed;
	int rc = pending_add_locked(&bench->pending, item, &freed);

	pending_item_free(freed);
	return rc;
}

static struct pending_item *object(uint64_t n, size_t len)
{
	struct content *content = content_of(n, len);
	struct pending_item *item = pending_item_object(content, MAX_LEN);

	content_unref(content);
	return item;
}

static struct pending_item *fact(const char *key, const char *value)
{
	return pending_item_fact(PENDING_FACT, "k", key, strlen(key), value, strlen(value));
}

static const char *fact_value(struct bench *bench, const char *key, char out[16])
{
	struct pending_item *item =
		pending_find_fact_locked(&bench->pending, "k", key, strlen(key));

	if (!item)
		return NULL;
	memcpy(out, item->fact + item->fact_kind_len + 1 + item->fact_key_len,
	       item->fact_value_len);
	out[item->fact_value_len] = '\0';
	return out;
}

static void test_things_are_found_by_key_and_taken_in_order(void)
{
	struct bench *bench = bench_open();
	struct oid oid = oid_of(2), other = oid_of(9);
	struct pending_item *items[8];

	CHECK_INT(add(bench, object(1, 10)), 0);
	CHECK_INT(add(bench, object(2, 20)), 0);
	CHECK_INT(add(bench, pending_item_size(&other, 77)), 0);
	CHECK_UINT(pending_find_object_locked(&bench->pending, &oid)->content->size, 20);
	CHECK_NULL(pending_find_object_locked(&bench->pending, &other));
	CHECK_UINT(pending_find_size_locked(&bench->pending, &other)->size, 77);
	CHECK_UINT(pending_take_locked(&bench->pending, items, 8, 1 << 20), 3);
	CHECK_UINT(items[0]->content->size, 10);
	CHECK_UINT(items[1]->content->size, 20);
	CHECK_UINT(items[2]->size, 77);
	for (unsigned i = 0; i < 3; i++) {
		pending_remove_locked(&bench->pending, items[i]);
		pending_item_free(items[i]);
	}
	CHECK(pending_is_empty_locked(&bench->pending));
	CHECK_UINT(bench->pending.len, 0);
	bench_close(bench);
}

static void test_a_batch_is_bounded_by_count_and_bytes_but_never_empty(void)
{
	struct bench *bench = bench_open();
	struct pending_item *items[8], *item;

	for (uint64_t n = 0; n < 5; n++)
		CHECK_INT(add(bench, object(n, 1000)), 0);
	CHECK_UINT(pending_take_locked(&bench->pending, items, 2, 1 << 20), 2);
	CHECK_UINT(pending_take_locked(&bench->pending, items, 8, 3500), 3);
	CHECK_UINT(pending_take_locked(&bench->pending, items, 8, 1), 1);
	TAILQ_FOREACH(item, &bench->pending.queue, link)
		pending_put_back_locked(&bench->pending, item);
	bench_close(bench);
}

static void test_an_object_is_there_once(void)
{
	struct bench *bench = bench_open();

	CHECK_INT(add(bench, object(1, 10)), 0);
	CHECK_INT(add(bench, object(1, 10)), -EEXIST);
	CHECK_UINT(bench->pending.count, 1);
	bench_close(bench);
}

static void test_a_newer_fact_replaces_one_that_waits(void)
{
	struct bench *bench = bench_open();
	char out[16];

	CHECK_INT(add(bench, fact("a", "1")), 0);
	CHECK_INT(add(bench, fact("b", "2")), 0);
	CHECK_INT(add(bench, fact("a", "3")), 0);
	CHECK_UINT(bench->pending.count, 2);
	CHECK_STR(fact_value(bench, "a", out), "3");
	CHECK_STR(fact_value(bench, "b", out), "2");
	CHECK_STR(fact_value(bench, "c", out), NULL);
	bench_close(bench);
}

static void test_a_newer_fact_does_not_disturb_one_that_is_written(void)
{
	struct bench *bench = bench_open();
	struct pending_item *items[8];
	char out[16];

	CHECK_INT(add(bench, fact("a", "1")), 0);
	CHECK_UINT(pending_take_locked(&bench->pending, items, 8, 1 << 20), 1);
	CHECK_INT(add(bench, fact("a", "2")), 0);
	CHECK_UINT(bench->pending.count, 2);
	CHECK_STR(fact_value(bench, "a", out), "2");
	pending_remove_locked(&bench->pending, items[0]); /* on disk */
	pending_item_free(items[0]);
	CHECK_STR(fact_value(bench, "a", out), "2");
	CHECK_UINT(bench->pending.count, 1);
	bench_close(bench);
}

static void test_the_oldest_that_is_not_written_is_dropped_first(void)
{
	struct bench *bench = bench_open();
	struct pending_item *items[8], *item;
	struct oid first = oid_of(0);

	for (uint64_t n = 0; n < 3; n++)
		CHECK_INT(add(bench, object(n, 10 + (size_t)n)), 0);
	CHECK_UINT(pending_take_locked(&bench->pending, items, 1, 1 << 20), 1);
	item = pending_drop_oldest_locked(&bench->pending);
	CHECK_UINT(item->content->size, 11);
	pending_item_free(item);
	CHECK(pending_find_object_locked(&bench->pending, &first) != NULL);
	pending_put_back_locked(&bench->pending, items[0]);
	bench_close(bench);
}

static void test_room_is_bytes_and_one_thing_always_fits(void)
{
	struct bench *bench = bench_open();

	CHECK(pending_has_room_locked(&bench->pending, SIZE_MAX));
	CHECK_INT(add(bench, object(1, 30000)), 0);
	CHECK(pending_has_room_locked(&bench->pending, 30000));
	CHECK(!pending_has_room_locked(&bench->pending, 40000));
	CHECK(!pending_has_room_locked(&bench->pending, SIZE_MAX));
	bench_close(bench);
}

static void test_what_is_to_be_forgotten_is_bounded(void)
{
	struct bench *bench = bench_open();
	struct oid oid = oid_of(1);
	unsigned added = 0;

	while (added < 100000 && add(bench, pending_item_forget(&oid, 0, NULL)) == 0)
		added++;
	CHECK_UINT(added, 1024);
	bench_close(bench);
}

static void test_past_means_that_everything_earlier_left(void)
{
	struct bench *bench = bench_open();
	struct pending_item *large = object(1, 10), *item;
	uint64_t seq;

	large->large = true;
	CHECK_INT(add(bench, large), 0);
	CHECK_INT(add(bench, object(2, 10)), 0);
	seq = bench->pending.next_seq;
	CHECK_INT(add(bench, object(3, 10)), 0);
	CHECK(!pending_is_past_locked(&bench->pending, seq));
	item = pending_take_large_locked(&bench->pending);
	CHECK_PTR(item, large);
	pending_put_back_locked(&bench->pending, item);
	pending_item_free(pending_drop_oldest_locked(&bench->pending));
	CHECK(!pending_is_past_locked(&bench->pending, seq));
	pending_item_free(pending_drop_oldest_locked(&bench->pending));
	CHECK(pending_is_past_locked(&bench->pending, seq));
	CHECK(!pending_is_past_locked(&bench->pending, seq + 1));
	bench_close(bench);
}

/* What sets it back is leaving the queue: being written does not. */
static void test_whoever_sees_no_hint_need_not_look(void)
{
	struct bench *bench = bench_open();
	struct oid one = oid_of(1), two = oid_of(2);
	struct pending_item *items[2];

	CHECK(!pending_may_hold(&bench->pending, &one));
	CHECK_INT(add(bench, object(1, 10)), 0);
	CHECK_INT(add(bench, pending_item_size(&one, 10)), 0);
	CHECK_INT(add(bench, object(1, 10)), -EEXIST);
	CHECK(pending_may_hold(&bench->pending, &one));
	CHECK(!pending_may_hold(&bench->pending, &two));
	CHECK_UINT(pending_take_locked(&bench->pending, items, 2, 1 << 20), 2);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(pending_may_hold(&bench->pending, &one));
		pending_remove_locked(&bench->pending, items[i]);
		pending_item_free(items[i]);
	}
	CHECK(!pending_may_hold(&bench->pending, &one));
	bench_close(bench);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_things_are_found_by_key_and_taken_in_order);
	TAP_RUN(test_a_batch_is_bounded_by_count_and_bytes_but_never_empty);
	TAP_RUN(test_an_object_is_there_once);
	TAP_RUN(test_a_newer_fact_replaces_one_that_waits);
	TAP_RUN(test_a_newer_fact_does_not_disturb_one_that_is_written);
	TAP_RUN(test_the_oldest_that_is_not_written_is_dropped_first);
	TAP_RUN(test_room_is_bytes_and_one_thing_always_fits);
	TAP_RUN(test_what_is_to_be_forgotten_is_bounded);
	TAP_RUN(test_past_means_that_everything_earlier_left);
	TAP_RUN(test_whoever_sees_no_hint_need_not_look);
	return tap_done();
}
