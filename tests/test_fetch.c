/*
 * Tests of src/fetch/ as a whole: the front door, the scheduler and the delivery, with a scripted
 * remote and a real cache. Time is faked where it matters; nothing sleeps to be right.
 */
#include "fetch/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "fake_remote.h"
#include "fetch/fetch_internal.h"
#include "git/hash.h"
#include "tap.h"

#define ALL_CAPS (REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SIZES | REMOTE_SHALLOW)
#define PATIENCE 30000
#define LIMIT (64u * 1024)

/* ---- a fetch with all that it needs ---- */

static struct remote *remote;
static struct cache *cache;
static struct fetch *fetch;
static char dir[64];

static struct lock waits_lock;
static struct lock_cond waits_cond;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)st, (void)kind, (void)walk;
	return remove(path);
}

static void open_fetch(void)
{
	const struct fetch_config config = {
		.remote = remote,
		.cache = cache,
		.patience_ms = PATIENCE,
		.large_limit = LIMIT,
		.name = "test",
		.identity = "test:repo",
	};

	fetch_open(&config, &fetch, NULL);
}

static void open_cache(void)
{
	const struct cache_config config = { .dir = dir };

	cache_open(&config, &cache, NULL);
}

static void set_up(unsigned caps)
{
	snprintf(dir, sizeof(dir), "/tmp/xcpfs-fetch.XXXXXX");
	if (!mkdtemp(dir))
		abort();
	remote = fake_remote_new(caps);
	open_cache();
	open_fetch();
}

static void tear_down(void)
{
	fetch_close(&fetch);
	fake_remote_free(remote);
	cache_close(&cache);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	clock_real();
}

/* ---- waiting ---- */

struct wait {
	struct fetch_waiter waiter;
	bool done;
	int status;
	uint64_t size;
	struct content *content;
};

static void on_done(struct fetch_waiter *waiter, int status, struct content *content, uint64_t size)
{
	struct wait *wait = (struct wait *)waiter;

	lock_take(&waits_lock);
	wait->done = true;
	wait->status = status;
	wait->size = size;
	wait->content = content ? content_ref(content) : NULL;
	lock_cond_broadcast(&waits_cond);
	lock_give(&waits_lock);
}

static void wait_init(struct wait *wait)
{
	*wait = (struct wait){ 0 };
	fetch_waiter_init(&wait->waiter, on_done);
}

static bool is_done(struct wait *wait)
{
	bool done;

	lock_take(&waits_lock);
	done = wait->done;
	lock_give(&waits_lock);
	return done;
}

/* The result, after half a minute at most: 1 stands for "never". */
static int result(struct wait *wait)
{
	uint64_t deadline_ns = clock_ns() + 30000000000u;
	bool done;

	lock_take(&waits_lock);
	while (!wait->done && clock_ns() < deadline_ns)
		lock_cond_wait_ms(&waits_cond, &waits_lock, 100);
	done = wait->done;
	lock_give(&waits_lock);
	return done ? wait->status : 1;
}

static void wait_release(struct wait *wait)
{
	content_unref(wait->content);
	wait->content = NULL;
}

/* All flights are over. */
static bool settle(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		struct fetch_counters counters;
		bool idle;

		fetch_counters(fetch, &counters);
		lock_take(&fetch->lock);
		idle = TAILQ_EMPTY(&fetch->batches);
		lock_give(&fetch->lock);
		if (!counters.flights && idle && fake_ended(remote) == fake_calls(remote))
			return true;
		usleep(10000); /* only paces the look: the loop decides */
	}
	return false;
}

/* Calls were made, and no call is under way. */
static bool all_called(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		bool idle;

		lock_take(&fetch->lock);
		idle = TAILQ_EMPTY(&fetch->batches);
		lock_give(&fetch->lock);
		if (idle && fake_calls(remote))
			return true;
		usleep(10000);
	}
	return false;
}

/* The first call has sent `len` bytes, and they were worked off. */
static bool worked_off(size_t len)
{
	for (unsigned i = 0; i < 1000; i++) {
		struct batch *batch;
		bool idle;

		lock_take(&fetch->lock);
		batch = TAILQ_FIRST(&fetch->batches);
		idle = batch && !batch->queued_len;
		lock_give(&fetch->lock);
		if (idle && fake_call(remote, 0).sent >= len)
			return true;
		usleep(10000);
	}
	return false;
}

static int want(struct wait *wait, const struct oid *oid, const struct fetch_company *company)
{
	struct content *content = NULL;
	int status;

	wait_init(wait);
	status = fetch_content(fetch, oid, OBJECT_BLOB, SIZE_UNKNOWN, company, &wait->waiter,
			       &content);
	if (status == 1) {
		wait->done = true;
		wait->content = content;
	}
	return status;
}

static int want_tree(struct wait *wait, const struct oid *oid)
{
	struct content *content = NULL;

	wait_init(wait);
	return fetch_content(fetch, oid, OBJECT_TREE, SIZE_UNKNOWN, NULL, &wait->waiter, &content);
}

static int want_size(struct wait *wait, const struct oid *oid, const struct fetch_company *company)
{
	uint64_t size = 0;
	int status;

	wait_init(wait);
	status = fetch_size(fetch, oid, company, &wait->waiter, &size);
	if (status == 1) {
		wait->done = true;
		wait->size = size;
	}
	return status;
}

/* A directory: its blobs in order; gather gives those that are not here. */
struct directory {
	struct oid blobs[600];
	size_t count;
	unsigned gathers;
	struct fetch_budget last;
	struct oid trees[8]; /* its own and those above it */
	unsigned depth;	     /* so many of these */
	size_t files;	     /* below any of them */
	size_t missing;	     /* of these */
};

static int tree_above(void *arg, unsigned up, struct oid *out)
{
	const struct directory *directory = arg;

	if (up >= directory->depth)
		return -ENOENT;
	*out = directory->trees[up];
	return 0;
}

static size_t count_files(void *arg, unsigned up, size_t max, size_t *out_missing)
{
	const struct directory *directory = arg;

	(void)up;
	*out_missing = directory->missing;
	return directory->files < max ? directory->files : max;
}

static int no_children(void *arg, unsigned up, struct fetch_list *out)
{
	(void)arg;
	(void)up;
	(void)out;
	return 0;
}

static int gather_from(void *arg, const struct fetch_budget *budget, struct fetch_list *out)
{
	struct directory *directory = arg;

	directory->gathers++;
	directory->last = *budget;
	for (size_t i = 0; i < directory->count && out->count < budget->count; i++) {
		uint64_t size;

		if (budget->sizes ? fetch_size_known(fetch, &directory->blobs[i], &size) :
				    fetch_has(fetch, &directory->blobs[i]))
			continue;
		if (fetch_list_add(out, &directory->blobs[i]))
			return -ENOMEM;
	}
	return 0;
}

/* ---- the simple ways ---- */

static void test_miss_comes_from_the_remote_then_from_the_cache(void)
{
	struct wait wait, again;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add(remote, OBJECT_BLOB, "hello\n", 6);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(oid_equal(&wait.content->oid, &oid));
	CHECK_UINT(wait.size, 6);
	CHECK(settle());
	CHECK_INT(want(&again, &oid, NULL), 1);
	CHECK_UINT(again.content->size, 6);
	CHECK_UINT(fake_calls(remote), 1);
	CHECK_STR(fake_call(remote, 0).filter, "");
	wait_release(&wait);
	wait_release(&again);
	tear_down();
}

static void test_second_reader_joins_the_same_flight(void)
{
	struct wait first, second;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add(remote, OBJECT_BLOB, "hello\n", 6);
	fake_hold(remote, true);
	CHECK_INT(want(&first, &oid, NULL), 0);
	CHECK_INT(want(&second, &oid, NULL), 0);
	fake_hold(remote, false);
	CHECK_INT(result(&first), 0);
	CHECK_INT(result(&second), 0);
	CHECK_PTR(first.content, second.content);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	wait_release(&first);
	wait_release(&second);
	tear_down();
}

static void test_what_comes_while_a_call_is_under_way_leaves_together(void)
{
	struct wait waits[20];
	struct oid oids[20];

	clock_fake(1000);
	set_up(ALL_CAPS);
	fake_hold(remote, true);
	for (int i = 0; i < 20; i++) {
		oids[i] = fake_add_blob(remote, 100, (uint32_t)i);
		CHECK_INT(want(&waits[i], &oids[i], NULL), 0);
	}
	CHECK_UINT(fake_calls(remote), 1);
	fake_hold(remote, false);
	for (int i = 0; i < 20; i++) {
		CHECK_INT(result(&waits[i]), 0);
		CHECK(oid_equal(&waits[i].content->oid, &oids[i]));
		wait_release(&waits[i]);
	}
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_UINT(fake_call(remote, 1).want_count, 19);
	tear_down();
}

static void test_second_slot_opens_for_many_wants(void)
{
	struct wait waits[40];

	clock_fake(1000);
	set_up(ALL_CAPS);
	fake_hold(remote, true);
	for (int i = 0; i < 40; i++) {
		struct oid oid = fake_add_blob(remote, 100, (uint32_t)i);

		CHECK_INT(want(&waits[i], &oid, NULL), 0);
		CHECK_UINT(fake_calls(remote), i < 32 ? 1 : 2);
	}
	CHECK_UINT(fake_call(remote, 1).want_count, 32);
	fake_hold(remote, false);
	for (int i = 0; i < 40; i++) {
		CHECK_INT(result(&waits[i]), 0);
		wait_release(&waits[i]);
	}
	tear_down();
}

static void test_second_slot_opens_when_the_first_takes_longer_than_a_round_trip(void)
{
	struct wait first, second;
	struct oid a, b;

	clock_fake(1000);
	set_up(ALL_CAPS);
	a = fake_add_blob(remote, 100, 1);
	b = fake_add_blob(remote, 100, 2);
	fake_hold(remote, true);
	CHECK_INT(want(&first, &a, NULL), 0);
	CHECK_INT(want(&second, &b, NULL), 0);
	CHECK_UINT(fake_calls(remote), 1);
	clock_fake_advance(500);
	CHECK(fake_wait_calls(remote, 2));
	fake_hold(remote, false);
	CHECK_INT(result(&first), 0);
	CHECK_INT(result(&second), 0);
	wait_release(&first);
	wait_release(&second);
	tear_down();
}

static void test_deltas_in_an_answer_are_resolved(void)
{
	struct wait waits[50];
	struct oid oids[50];

	set_up(ALL_CAPS);
	fake_deltas(remote, true);
	fake_hold(remote, true);
	for (int i = 0; i < 50; i++) {
		oids[i] = fake_add_blob(remote, 3000, (uint32_t)i);
		CHECK_INT(want(&waits[i], &oids[i], NULL), 0);
	}
	fake_hold(remote, false);
	for (int i = 0; i < 50; i++) {
		CHECK_INT(result(&waits[i]), 0);
		CHECK(oid_equal(&waits[i].content->oid, &oids[i]));
		wait_release(&waits[i]);
	}
	tear_down();
}

/* ---- company ---- */

static void test_company_rides_along_and_is_counted_when_read(void)
{
	struct directory directory = { .count = 50 };
	const struct fetch_company company = { .gather = gather_from, .arg = &directory };
	struct fetch_counters counters;
	struct spans spans = SPANS_INIT;
	struct wait wait;

	set_up(ALL_CAPS);
	for (size_t i = 0; i < directory.count; i++)
		directory.blobs[i] = fake_add_blob(remote, 200, (uint32_t)i);
	CHECK_INT(want(&wait, &directory.blobs[7], &company), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	CHECK_UINT(fake_call(remote, 0).want_count, 50);
	CHECK_UINT(directory.last.count, 64);
	CHECK_UINT(directory.last.bytes, 256 * 1024);
	CHECK(!directory.last.leave_directory);
	fetch_counters(fetch, &counters);
	CHECK_UINT(counters.objects_fetched, 50);
	CHECK_UINT(counters.objects_prefetched, 49);
	CHECK_INT(fetch_read(fetch, &directory.blobs[3], 0, 100, &spans), 0);
	spans_release(&spans);
	CHECK_INT(fetch_read(fetch, &directory.blobs[3], 0, 100, &spans), 0);
	spans_release(&spans);
	fetch_counters(fetch, &counters);
	CHECK_UINT(counters.prefetch_used, 1);
	wait_release(&wait);
	tear_down();
}

static void test_demand_promotes_queued_company(void)
{
	struct directory directory = { .count = 10 };
	const struct fetch_company company = { .gather = gather_from, .arg = &directory };
	struct wait first, second, third;
	struct oid other;

	clock_fake(1000);
	set_up(ALL_CAPS);
	other = fake_add_blob(remote, 100, 99);
	for (size_t i = 0; i < directory.count; i++)
		directory.blobs[i] = fake_add_blob(remote, 200, (uint32_t)i);
	fake_hold(remote, true);
	CHECK_INT(want(&first, &other, NULL), 0);
	CHECK_INT(want(&second, &directory.blobs[0], &company), 0);
	CHECK_INT(want(&third, &directory.blobs[9], &company), 0);
	CHECK_UINT(directory.gathers, 1); /* the third met a flight */
	fake_hold(remote, false);
	CHECK_INT(result(&first), 0);
	CHECK_INT(result(&second), 0);
	CHECK_INT(result(&third), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_UINT(fake_call(remote, 1).want_count, 10);
	wait_release(&first);
	wait_release(&second);
	wait_release(&third);
	tear_down();
}

static void test_demand_does_not_wait_behind_company_alone(void)
{
	static struct directory directory;
	const struct fetch_company company = { .gather = gather_from, .arg = &directory };
	struct wait first, second;
	struct oid other;

	clock_fake(1000);
	set_up(ALL_CAPS);
	directory = (struct directory){ .count = 64 };
	for (uint32_t i = 0; i < 64; i++)
		directory.blobs[i] = fake_add_blob(remote, 200, i);
	other = fake_add_blob(remote, 100, 99);
	fake_hold(remote, true);
	/* The only one who waits goes away before it leaves; its company leaves later, alone. */
	CHECK_INT(want(&first, &other, NULL), 0);
	CHECK_INT(want(&second, &directory.blobs[0], &company), 0);
	CHECK(fetch_cancel(fetch, &second.waiter));
	fake_release(remote, 1);
	CHECK_INT(result(&first), 0);
	wait_release(&first);
	CHECK(fake_wait_calls(remote, 2));
	CHECK_UINT(fake_call(remote, 1).want_count, 63);
	CHECK_INT(want(&second, &directory.blobs[0], NULL), 0);
	CHECK(fake_wait_calls(remote, 3)); /* at once, the clock stands still */
	fake_hold(remote, false);
	CHECK_INT(result(&second), 0);
	wait_release(&second);
	tear_down();
}

static void test_crawl_opens_the_window_and_scattered_reads_do_not(void)
{
	static struct directory directories[20];
	struct fetch_budget last = { 0 };

	set_up(ALL_CAPS);
	for (uint32_t d = 0; d < 20; d++) {
		struct directory *directory = &directories[d];
		const struct fetch_company company = { .gather = gather_from, .arg = directory };

		*directory = (struct directory){ .count = 40 };
		for (uint32_t i = 0; i < 40; i++)
			directory->blobs[i] = fake_add_blob(remote, 50, d * 100 + i);
		for (size_t i = 0; i < (d < 10 ? 1 : directory->count); i++) {
			struct wait wait;

			want(&wait, &directory->blobs[i], &company);
			CHECK_INT(result(&wait), 0);
			wait_release(&wait);
			CHECK(settle());
		}
		if (d == 9) /* one file of each so far */
			CHECK_UINT(directory->last.count, 64);
		last = directory->last;
	}
	CHECK(last.count >= 1024);
	CHECK(last.leave_directory);
	tear_down();
}

/* ---- what does not come ---- */

static void test_unknown_id_fails_alone_and_the_others_go_again_together(void)
{
	struct wait waits[12];
	struct oid oids[12];

	clock_fake(1000);
	set_up(ALL_CAPS);
	fake_hold(remote, true);
	for (int i = 0; i < 12; i++) {
		if (i == 5)
			object_hash(OID_SHA1, OBJECT_BLOB, "nobody has it", 13, &oids[i]);
		else
			oids[i] = fake_add_blob(remote, 100, (uint32_t)i);
		CHECK_INT(want(&waits[i], &oids[i], NULL), 0);
	}
	fake_hold(remote, false);
	for (int i = 0; i < 12; i++) {
		CHECK_INT(result(&waits[i]), i == 5 ? -ENOENT : 0);
		wait_release(&waits[i]);
	}
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	CHECK_UINT(fake_call(remote, 2).want_count, 10);
	tear_down();
}

static void test_unknown_id_that_is_not_named_is_found_by_halving(void)
{
	struct wait waits[33];

	clock_fake(1000);
	set_up(ALL_CAPS);
	fake_unnamed(remote, true);
	fake_hold(remote, true);
	for (int i = 0; i < 33; i++) {
		struct oid oid;

		if (i == 20)
			object_hash(OID_SHA1, OBJECT_BLOB, "nobody has it", 13, &oid);
		else
			oid = fake_add_blob(remote, 100, (uint32_t)i);
		CHECK_INT(want(&waits[i], &oid, NULL), 0);
	}
	fake_hold(remote, false);
	for (int i = 0; i < 33; i++) {
		CHECK_INT(result(&waits[i]), i == 20 ? -ENOENT : 0);
		wait_release(&waits[i]);
	}
	CHECK(fake_calls(remote) < 16);
	tear_down();
}

static void test_missing_object_is_asked_for_alone(void)
{
	struct wait waits[5];
	struct oid oids[5];

	clock_fake(1000);
	set_up(ALL_CAPS);
	fake_hold(remote, true);
	for (int i = 0; i < 5; i++) {
		oids[i] = fake_add_blob(remote, 100, (uint32_t)i);
		CHECK_INT(want(&waits[i], &oids[i], NULL), 0);
	}
	fake_omit(remote, &oids[3], true);
	fake_release(remote, 2);
	for (int i = 0; i < 5; i++) {
		if (i != 3)
			CHECK_INT(result(&waits[i]), 0);
	}
	CHECK(fake_wait_calls(remote, 3));
	CHECK(!is_done(&waits[3]));
	CHECK_UINT(fake_call(remote, 2).want_count, 1);
	CHECK(fake_wanted(remote, 2, &oids[3]));
	fake_omit(remote, &oids[3], false);
	fake_hold(remote, false);
	CHECK_INT(result(&waits[3]), 0);
	for (int i = 0; i < 5; i++)
		wait_release(&waits[i]);
	tear_down();
}

static void test_object_that_never_comes_is_given_up(void)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_omit(remote, &oid, true);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), -ENOENT);
	CHECK_UINT(fake_calls(remote), 2);
	CHECK(settle());
	tear_down();
}

static void test_wrong_object_is_never_served(void)
{
	struct oid oid, other;
	struct wait wait;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	other = fake_add_blob(remote, 100, 2);
	fake_swap(remote, &oid, &other);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), -EBADMSG);
	CHECK(!fetch_has(fetch, &oid));
	CHECK(fake_calls(remote) <= 3);
	tear_down();
}

static void test_flipped_byte_is_asked_for_again(void)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 5000, 1);
	fake_damage(remote, 1);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(oid_equal(&wait.content->oid, &oid));
	CHECK_UINT(fake_calls(remote), 2);
	wait_release(&wait);
	tear_down();
}

static void test_answer_that_is_always_damaged_is_given_up(void)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 5000, 1);
	fake_damage(remote, 100);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), -EBADMSG);
	CHECK_UINT(fake_calls(remote), 3);
	CHECK(!fetch_has(fetch, &oid));
	tear_down();
}

static void test_pack_cut_short_is_asked_for_again(void)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 5000, 1);
	fake_cut(remote, 1);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(fake_calls(remote), 2);
	wait_release(&wait);
	tear_down();
}

/* Each answer brings bytes, so that the deadline never comes. */
static void test_pack_that_is_always_cut_short_is_given_up(void)
{
	struct wait wait;
	struct oid oid;
	bool done = false;

	clock_fake(1000);
	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 5000, 1);
	fake_cut(remote, 100);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	for (unsigned i = 0; i < 10000 && !done; i++) {
		clock_fake_advance(50);
		usleep(1000);
		lock_take(&waits_lock);
		done = wait.done;
		lock_give(&waits_lock);
	}
	CHECK(done);
	CHECK_INT(wait.status, -EIO);
	CHECK_UINT(fake_calls(remote), 6);
	tear_down();
}

static void test_tree_in_the_place_of_a_blob_is_refused(void)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add(remote, OBJECT_TREE, "", 0);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), -EBADMSG);
	CHECK_NULL(wait.content);
	tear_down();
}

/* ---- verdicts ---- */

static void test_transient_failures_are_tried_again(void)
{
	struct fetch_counters counters;
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_fail(remote, 2, REMOTE_TRANSIENT, true, 0);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(fake_calls(remote), 3);
	CHECK(settle());
	fetch_counters(fetch, &counters);
	CHECK_UINT(counters.retries, 2);
	CHECK_INT(counters.state, FETCH_ONLINE);
	CHECK_CONTAINS(counters.last_error, "scripted failure");
	wait_release(&wait);
	tear_down();
}

static void test_retry_after_is_obeyed(void)
{
	struct wait wait;
	struct oid oid;

	clock_fake(1000);
	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_fail(remote, 1, REMOTE_TRANSIENT, true, 20000);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK(all_called());
	clock_fake_advance(19000);
	usleep(50000); /* long enough for a timer that would be wrong */
	CHECK_UINT(fake_calls(remote), 1);
	clock_fake_advance(2000);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(fake_calls(remote), 2);
	wait_release(&wait);
	tear_down();
}

static void check_verdict(enum remote_verdict verdict, int status, size_t calls)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_fail(remote, 100, verdict, true, 0);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), status);
	CHECK_UINT(fake_calls(remote), calls);
	CHECK(settle());
	tear_down();
}

static void test_denied_is_final(void)
{
	check_verdict(REMOTE_DENIED, -EACCES, 1);
}

static void test_gone_is_final(void)
{
	check_verdict(REMOTE_GONE, -EIO, 1);
}

static void test_broken_is_tried_three_times(void)
{
	check_verdict(REMOTE_BROKEN, -EIO, 3);
}

static void test_failed_company_is_dropped(void)
{
	struct directory directory = { .count = 10 };
	const struct fetch_company company = { .gather = gather_from, .arg = &directory };
	struct wait wait;

	set_up(ALL_CAPS);
	for (size_t i = 0; i < directory.count; i++)
		directory.blobs[i] = fake_add_blob(remote, 200, (uint32_t)i);
	fake_fail(remote, 1, REMOTE_TRANSIENT, true, 0);
	CHECK_INT(want(&wait, &directory.blobs[0], &company), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(settle());
	CHECK_UINT(fake_call(remote, 0).want_count, 10);
	CHECK_UINT(fake_call(remote, 1).want_count, 1);
	wait_release(&wait);
	tear_down();
}

/* ---- deadlines ---- */

static void test_stalled_call_ends_the_wait_and_is_cancelled(void)
{
	struct fetch_counters counters;
	struct wait wait;
	struct oid oid;

	clock_fake(1000);
	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 40000, 1);
	fake_stall(remote, 20000);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	CHECK(worked_off(20000));
	clock_fake_advance(PATIENCE - 1);
	usleep(150000); /* longer than a tick */
	CHECK(!is_done(&wait));
	clock_fake_advance(2);
	CHECK_INT(result(&wait), -ETIMEDOUT);
	CHECK(settle());
	CHECK(fake_call(remote, 0).cancelled);
	fetch_counters(fetch, &counters);
	CHECK_UINT(counters.timeouts, 1);
	CHECK_UINT(counters.waiters, 0);
	tear_down();
}

static void test_late_joiner_of_a_stalled_call_is_asked_for_again(void)
{
	struct wait first, second;
	struct oid oid;

	clock_fake(1000);
	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_hold(remote, true);
	CHECK_INT(want(&first, &oid, NULL), 0);
	clock_fake_advance(PATIENCE / 2);
	CHECK_INT(want(&second, &oid, NULL), 0);
	clock_fake_advance(PATIENCE / 2 + 1);
	CHECK_INT(result(&first), -ETIMEDOUT);
	CHECK(!is_done(&second));
	fake_hold(remote, false);
	for (unsigned i = 0; i < 20 && !is_done(&second); i++) {
		clock_fake_advance(500); /* the backoff */
		usleep(20000);
	}
	CHECK_INT(result(&second), 0);
	wait_release(&second);
	tear_down();
}

static void test_queued_want_waits_while_the_remote_makes_progress(void)
{
	struct wait first, second;
	struct oid a, b;

	clock_fake(1000);
	set_up(REMOTE_OBJECTS);
	a = fake_add_blob(remote, 100, 1);
	b = fake_add_blob(remote, 100, 2);
	fake_hold(remote, true);
	CHECK_INT(want(&first, &a, NULL), 0);
	clock_fake_advance(PATIENCE - 1000);
	CHECK_INT(want_tree(&second, &b), 0);
	fake_release(remote, 1);
	CHECK_INT(result(&first), 0); /* progress */
	clock_fake_advance(PATIENCE - 1000);
	usleep(150000);
	CHECK(!is_done(&second));
	clock_fake_advance(1001);
	CHECK_INT(result(&second), -ETIMEDOUT);
	wait_release(&first);
	tear_down();
}

static void test_offline_and_back(void)
{
	struct fetch_counters counters;
	struct wait wait, quick, back;
	struct oid oid;
	size_t calls;

	clock_fake(100000);
	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_fail(remote, 1000000, REMOTE_TRANSIENT, false, 0);
	CHECK_INT(want(&wait, &oid, NULL), 0);
	for (unsigned i = 0; i < 400 && !is_done(&wait); i++) {
		clock_fake_advance(250);
		usleep(12000);
	}
	if (result(&wait) != -ENETUNREACH)
		CHECK_INT(result(&wait), -ETIMEDOUT);
	CHECK(settle());
	/* The next attempt makes it offline at the latest. */
	clock_fake_advance(10000);
	CHECK_INT(want(&quick, &oid, NULL), 0);
	CHECK_INT(result(&quick), -ENETUNREACH);
	CHECK(settle());
	fetch_counters(fetch, &counters);
	CHECK_INT(counters.state, FETCH_OFFLINE);

	/* One attempt a second, at once after that. */
	calls = fake_calls(remote);
	CHECK_INT(want(&quick, &oid, NULL), 0);
	usleep(150000);
	CHECK(!is_done(&quick));
	CHECK_UINT(fake_calls(remote), calls);
	clock_fake_advance(1000);
	CHECK_INT(result(&quick), -ENETUNREACH);
	CHECK_UINT(fake_calls(remote), calls + 1);

	fake_fail(remote, 0, REMOTE_OK, true, 0);
	clock_fake_advance(2000);
	CHECK_INT(want(&back, &oid, NULL), 0);
	CHECK_INT(result(&back), 0);
	CHECK(settle());
	fetch_counters(fetch, &counters);
	CHECK_INT(counters.state, FETCH_ONLINE);
	wait_release(&back);
	tear_down();
}

static void test_offline_by_configuration_asks_nobody(void)
{
	struct fetch_config config = { .offline = true };
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fetch_close(&fetch);
	config.remote = remote;
	config.cache = cache;
	fetch_open(&config, &fetch, NULL);
	CHECK_INT(want(&wait, &oid, NULL), -ENETUNREACH);
	CHECK_INT(want_size(&wait, &oid, NULL), -ENETUNREACH);
	CHECK_UINT(fake_calls(remote), 0);
	tear_down();
}

/* ---- cancelling ---- */

static void test_cancelled_want_that_has_not_left_never_leaves(void)
{
	struct wait first, second;
	struct oid a, b;

	clock_fake(1000);
	set_up(ALL_CAPS);
	a = fake_add_blob(remote, 100, 1);
	b = fake_add_blob(remote, 100, 2);
	fake_hold(remote, true);
	CHECK_INT(want(&first, &a, NULL), 0);
	CHECK_INT(want(&second, &b, NULL), 0);
	CHECK(fetch_cancel(fetch, &second.waiter));
	fake_hold(remote, false);
	CHECK_INT(result(&first), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	CHECK(!is_done(&second));
	CHECK(!fetch_cancel(fetch, &first.waiter)); /* it was called */
	wait_release(&first);
	tear_down();
}

static void test_cancel_before_the_want_ends_it(void)
{
	struct content *content;
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	wait_init(&wait);
	CHECK(fetch_cancel(fetch, &wait.waiter));
	CHECK_INT(
		fetch_content(fetch, &oid, OBJECT_BLOB, SIZE_UNKNOWN, NULL, &wait.waiter, &content),
		-ECANCELED);
	CHECK_UINT(fake_calls(remote), 0);
	tear_down();
}

/* A large blob is asked for, and not wanted any more before the answer. */
static void want_and_cancel_large(void)
{
	struct content *content;
	struct wait wait;
	struct oid oid = fake_add_blob(remote, LIMIT * 4, 1);

	fake_hold(remote, true);
	wait_init(&wait);
	CHECK_INT(fetch_content(fetch, &oid, OBJECT_BLOB, LIMIT * 4, NULL, &wait.waiter, &content),
		  0);
	CHECK(fetch_cancel(fetch, &wait.waiter));
	CHECK(settle());
}

static void test_large_transfer_that_nobody_wants_any_more_is_cancelled(void)
{
	set_up(ALL_CAPS);
	want_and_cancel_large();
	CHECK(fake_call(remote, 0).cancelled);
	tear_down();
}

static void test_what_is_cancelled_takes_no_more(void)
{
	set_up(ALL_CAPS);
	fake_deaf(remote, true);
	want_and_cancel_large();
	CHECK(fake_call(remote, 0).sent < LIMIT);
	tear_down();
}

static void test_close_ends_every_wait(void)
{
	struct wait waits[10];

	set_up(ALL_CAPS);
	fake_hold(remote, true);
	for (int i = 0; i < 10; i++) {
		struct oid oid = fake_add_blob(remote, 100, (uint32_t)i);

		CHECK_INT(want(&waits[i], &oid, NULL), 0);
	}
	fetch_close(&fetch);
	for (int i = 0; i < 10; i++)
		CHECK_INT(result(&waits[i]), -ECANCELED);
	tear_down();
}

/* ---- large ---- */

static void test_large_file_comes_alone_and_as_a_file(void)
{
	struct wait large, small;
	struct content *content;
	struct oid oid, other;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, LIMIT * 60, 1);
	other = fake_add_blob(remote, 100, 2);
	wait_init(&large);
	fake_hold(remote, true);
	CHECK_INT(
		fetch_content(fetch, &oid, OBJECT_BLOB, LIMIT * 60, NULL, &large.waiter, &content),
		0);
	CHECK_INT(want(&small, &other, NULL), 0);
	fake_hold(remote, false);
	CHECK_INT(result(&small), 0);
	CHECK_INT(result(&large), 0);
	CHECK(large.content->fd >= 0);
	CHECK_UINT(large.content->size, LIMIT * 60);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_UINT(fake_call(remote, 0).want_count, 1);
	CHECK_INT(
		fetch_content(fetch, &oid, OBJECT_BLOB, LIMIT * 60, NULL, &small.waiter, &content),
		1);
	CHECK_NULL(content);
	wait_release(&large);
	wait_release(&small);
	tear_down();
}

/* ---- sizes ---- */

static void test_sizes_of_a_directory_cost_one_call(void)
{
	struct directory directory = { .count = 500 };
	const struct fetch_company company = { .gather = gather_from, .arg = &directory };
	struct wait wait;

	set_up(ALL_CAPS);
	for (size_t i = 0; i < directory.count; i++)
		directory.blobs[i] = fake_add_blob(remote, i + 1, (uint32_t)i);
	for (size_t i = 0; i < directory.count; i++) {
		want_size(&wait, &directory.blobs[i], &company);
		CHECK_INT(result(&wait), 0);
		CHECK_UINT(wait.size, i + 1);
	}
	CHECK_UINT(fake_calls(remote), 1);
	CHECK(fake_call(remote, 0).sizes);
	CHECK(directory.last.leave_directory);
	tear_down();
}

static void test_size_of_an_unknown_object_fails(void)
{
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	object_hash(OID_SHA1, OBJECT_BLOB, "nobody has it", 13, &oid);
	CHECK_INT(want_size(&wait, &oid, NULL), 0);
	CHECK_INT(result(&wait), -ENOENT);
	tear_down();
}

/* Three tries, then the content tells; and whoever comes next does not try. */
static void test_sizes_that_cannot_be_understood_are_found_another_way(void)
{
	struct wait waits[2];
	struct oid blobs[3];

	set_up(ALL_CAPS);
	for (size_t i = 0; i < 3; i++)
		blobs[i] = fake_add_blob(remote, i + 100, (uint32_t)i);
	fake_fail(remote, 3, REMOTE_BROKEN, true, 0);
	CHECK_INT(want_size(&waits[0], &blobs[0], NULL), 0);
	CHECK_INT(result(&waits[0]), 0);
	CHECK_UINT(waits[0].size, 100);
	CHECK_UINT(fake_calls(remote), 4);
	CHECK(fake_call(remote, 2).sizes);
	CHECK(!fake_call(remote, 3).sizes);

	CHECK_INT(want_size(&waits[1], &blobs[1], NULL), 0);
	CHECK_INT(result(&waits[1]), 0);
	CHECK_UINT(waits[1].size, 101);
	CHECK_UINT(fake_calls(remote), 5);
	CHECK(!fake_call(remote, 4).sizes);

	/* not for ever */
	clock_fake(clock_ms() + 600000);
	CHECK_INT(want_size(&waits[1], &blobs[2], NULL), 0);
	CHECK(fake_wait_calls(remote, 6));
	CHECK(fake_call(remote, 5).sizes);
	CHECK_INT(result(&waits[1]), 0);
	tear_down();
}

static void test_a_size_that_never_comes_is_found_another_way(void)
{
	struct wait wait;
	struct oid blob;

	set_up(ALL_CAPS);
	blob = fake_add_blob(remote, 100, 1);
	fake_sizeless(remote, &blob);
	CHECK_INT(want_size(&wait, &blob, NULL), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(wait.size, 100);
	tear_down();
}

struct listing {
	struct directory directory;
	struct fetch_company company;
	struct oid large;
};

/* A directory of small files and a large one, on a server without object-info. */
static void make_listing(struct listing *listing, size_t count)
{
	struct oid tree = fake_add(remote, OBJECT_TREE, "not looked into", 15);

	memset(listing, 0, sizeof(*listing));
	listing->directory.count = count;
	listing->directory.trees[0] = tree;
	listing->directory.depth = 1;
	listing->company = (struct fetch_company){ .gather = gather_from,
						   .tree = tree_above,
						   .count = count_files,
						   .children = no_children,
						   .arg = &listing->directory,
						   .listed = true };
	for (size_t i = 0; i < count; i++) {
		listing->directory.blobs[i] = fake_add_blob(remote, i + 1, (uint32_t)i);
		fake_include(remote, &tree, &listing->directory.blobs[i]);
	}
	listing->large = fake_add_blob(remote, 6u << 20, 12345);
	fake_include(remote, &tree, &listing->large);
}

static void test_without_object_info_a_listing_tells_the_sizes(void)
{
	struct listing listing;
	struct wait wait;

	set_up(REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW);
	make_listing(&listing, 100);
	for (size_t i = 0; i < 100; i++) {
		want_size(&wait, &listing.directory.blobs[i], &listing.company);
		CHECK_INT(result(&wait), 0);
		CHECK_UINT(wait.size, i + 1);
	}
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	CHECK_STR(fake_call(remote, 0).filter, "combine:tree:1+blob:limit=65537");
	CHECK_INT(want(&wait, &listing.directory.blobs[5], NULL), 1); /* the content came along */
	wait_release(&wait);

	/* The large one: a look at its header, no listing again. */
	CHECK_INT(want_size(&wait, &listing.large, &listing.company), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(wait.size, 6u << 20);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	CHECK(fake_call(remote, 1).sent < 4u << 20);
	CHECK_INT(want_size(&wait, &listing.large, &listing.company), 1);
	tear_down();
}

static void test_concurrent_sizes_share_the_listing(void)
{
	struct wait waits[100], large;
	struct listing listing;

	set_up(REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW);
	make_listing(&listing, 100);
	fake_hold(remote, true);
	for (size_t i = 0; i < 100; i++)
		CHECK_INT(want_size(&waits[i], &listing.directory.blobs[i], &listing.company), 0);
	CHECK_INT(want_size(&large, &listing.large, &listing.company), 0);
	fake_hold(remote, false);
	for (size_t i = 0; i < 100; i++) {
		CHECK_INT(result(&waits[i]), 0);
		CHECK_UINT(waits[i].size, i + 1);
	}
	CHECK_INT(result(&large), 0);
	CHECK_UINT(large.size, 6u << 20);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	tear_down();
}

static void test_content_wanted_while_its_size_is_listed_comes_with_the_listing(void)
{
	struct listing listing;
	struct wait size, content;

	set_up(REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW);
	make_listing(&listing, 10);
	fake_hold(remote, true);
	CHECK_INT(want_size(&size, &listing.directory.blobs[0], &listing.company), 0);
	CHECK_INT(want(&content, &listing.directory.blobs[1], &listing.company), 0);
	fake_hold(remote, false);
	CHECK_INT(result(&size), 0);
	CHECK_INT(result(&content), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	wait_release(&content);
	tear_down();
}

static void test_listed_directory_is_not_listed_again_after_a_restart(void)
{
	struct listing listing;
	struct wait wait;

	set_up(REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW);
	make_listing(&listing, 10);
	want_size(&wait, &listing.directory.blobs[0], &listing.company);
	CHECK_INT(result(&wait), 0);
	CHECK(settle());
	fetch_close(&fetch);
	cache_flush(cache);
	open_fetch();
	CHECK_INT(want_size(&wait, &listing.large, &listing.company), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_UINT(fake_call(remote, 1).want_count, 1);
	CHECK(fake_wanted(remote, 1, &listing.large));
	tear_down();
}

static void test_refused_filter_is_remembered_and_blobs_go_by_id(void)
{
	struct listing listing;
	struct wait wait;

	set_up(REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW);
	make_listing(&listing, 20);
	fake_refuse_filter(remote, "combine");
	for (size_t i = 0; i < 20; i++) {
		want_size(&wait, &listing.directory.blobs[i], &listing.company);
		CHECK_INT(result(&wait), 0);
		CHECK_UINT(wait.size, i + 1);
		CHECK(settle());
	}
	/* the refusal, twice to be believed; the first by id, then all of the directory */
	CHECK_UINT(fake_calls(remote), 4);
	fetch_close(&fetch);
	open_fetch();
	CHECK_INT(want_size(&wait, &listing.large, &listing.company), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_STR(fake_call(remote, 4).filter, "");
	tear_down();
}

/* ---- walks ---- */

#define FOLDERS 5
#define FOLDER_FILES 6
#define WALK_CAPS (REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW)

/* A root with folders of small files, the last folder with a large one too. */
struct grove {
	struct directory folders[FOLDERS];
	struct fetch_company company[FOLDERS];
	struct oid root, large;
};
static struct grove grove;

static void make_grove(void)
{
	memset(&grove, 0, sizeof(grove));
	grove.root = fake_add(remote, OBJECT_TREE, "root", 4);
	for (uint32_t d = 0; d < FOLDERS; d++) {
		struct directory *folder = &grove.folders[d];
		struct oid tree = fake_add(remote, OBJECT_TREE, &d, sizeof(d));

		*folder = (struct directory){ .count = FOLDER_FILES,
					      .trees = { tree, grove.root },
					      .depth = 2,
					      .files = FOLDERS * FOLDER_FILES,
					      .missing = FOLDERS * FOLDER_FILES };
		fake_include(remote, &grove.root, &tree);
		for (uint32_t i = 0; i < FOLDER_FILES; i++) {
			folder->blobs[i] = fake_add_blob(remote, 500, d * 100 + i);
			fake_include(remote, &tree, &folder->blobs[i]);
		}
		grove.company[d] = (struct fetch_company){ .gather = gather_from,
							   .tree = tree_above,
							   .count = count_files,
							   .children = no_children,
							   .arg = folder,
							   .listed = true };
	}
	grove.large = fake_add_blob(remote, LIMIT * 2, 4711);
	fake_include(remote, &grove.folders[FOLDERS - 1].trees[0], &grove.large);
}

/* Its size is known, as that of most files is. */
static int want_sized(struct wait *wait, const struct oid *oid, uint64_t size,
		      const struct fetch_company *company)
{
	struct content *content = NULL;
	int status;

	wait_init(wait);
	status = fetch_content(fetch, oid, OBJECT_BLOB, size, company, &wait->waiter, &content);
	if (status == 1) {
		wait->done = true;
		wait->content = content;
	}
	return status;
}

static int want_in(struct wait *wait, unsigned folder, unsigned file)
{
	return want_sized(wait, &grove.folders[folder].blobs[file], 500, &grove.company[folder]);
}

static void read_folder(unsigned folder)
{
	for (unsigned i = 0; i < FOLDER_FILES; i++) {
		struct wait wait;

		want_in(&wait, folder, i);
		CHECK_INT(result(&wait), 0);
		CHECK(settle());
		wait_release(&wait);
	}
}

/* Two folders are read; the first miss in the third is one of a walk. */
static void begin_walk(struct wait *wait)
{
	read_folder(0);
	read_folder(1);
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_INT(want_in(wait, 2, 0), 0);
}

static void test_a_walk_brings_all_that_is_below_in_one_call(void)
{
	struct fetch_counters counters;
	struct wait wait;

	set_up(WALK_CAPS);
	make_grove();
	begin_walk(&wait);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	CHECK_STR(fake_call(remote, 2).filter, "blob:limit=65537");
	CHECK(fake_wanted(remote, 2, &grove.root));
	for (unsigned d = 2; d < FOLDERS; d++)
		read_folder(d);
	CHECK_UINT(fake_calls(remote), 3);
	fetch_counters(fetch, &counters);
	CHECK_UINT(counters.batches_subtree, 1);

	/* The large one was left out, which tells that it is large: a call of its own. */
	CHECK_INT(want_size(&wait, &grove.large, &grove.company[FOLDERS - 1]), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(wait.size, LIMIT * 2);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 4);
	tear_down();
}

static void test_a_walk_where_most_is_here_asks_by_id(void)
{
	struct wait wait;

	set_up(WALK_CAPS);
	make_grove();
	for (unsigned d = 0; d < FOLDERS; d++)
		grove.folders[d].missing = FOLDERS * FOLDER_FILES / 3;
	begin_walk(&wait);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	CHECK_STR(fake_call(remote, 2).filter, "");
	CHECK(fake_wanted(remote, 2, &grove.folders[2].blobs[0]));
	tear_down();
}

static void test_a_walk_takes_no_more_than_the_line_brings_soon(void)
{
	struct wait wait;

	set_up(WALK_CAPS);
	make_grove();
	for (unsigned d = 0; d < FOLDERS; d++)
		grove.folders[d].files = grove.folders[d].missing = 20000;
	fetch->rate = 1000;
	begin_walk(&wait);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK_STR(fake_call(remote, 2).filter, "");
	CHECK(settle());
	read_folder(2);
	lock_take(&fetch->lock);
	fetch->rate = 100 << 20;
	lock_give(&fetch->lock);
	CHECK_INT(want_in(&wait, 3, 0), 0);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK_STR(fake_call(remote, 3).filter, "blob:limit=65537");
	CHECK(settle());
	tear_down();
}

static void test_misses_below_a_walk_wait_for_it(void)
{
	struct wait waits[FOLDERS * FOLDER_FILES], first;
	unsigned count = 0;

	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	read_folder(0);
	read_folder(1);
	fake_hold(remote, true);
	CHECK_INT(want_in(&first, 2, 0), 0);
	for (unsigned d = 2; d < FOLDERS; d++)
		for (unsigned i = 0; i < FOLDER_FILES; i++)
			CHECK_INT(want_in(&waits[count++], d, i), 0);
	fake_hold(remote, false);
	CHECK_INT(result(&first), 0);
	wait_release(&first);
	for (unsigned i = 0; i < count; i++) {
		CHECK_INT(result(&waits[i]), 0);
		wait_release(&waits[i]);
	}
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	tear_down();
}

static void test_sizes_alone_make_a_walk_where_only_contents_tell(void)
{
	struct wait wait;

	set_up(WALK_CAPS);
	make_grove();
	for (unsigned d = 0; d < FOLDERS; d++)
		for (unsigned i = 0; i < FOLDER_FILES; i++) {
			want_size(&wait, &grove.folders[d].blobs[i], &grove.company[d]);
			CHECK_INT(result(&wait), 0);
			CHECK_UINT(wait.size, 500);
			CHECK(settle());
		}
	CHECK_UINT(fake_calls(remote), 3); /* two listings, the rest */
	tear_down();
}

static void test_a_walk_that_nobody_follows_is_cancelled(void)
{
	struct wait wait;

	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	read_folder(0);
	read_folder(1);
	fake_hold(remote, true);
	CHECK_INT(want_in(&wait, 2, 0), 0);
	CHECK(fake_wait_calls(remote, 3));
	CHECK(fetch_cancel(fetch, &wait.waiter));
	fetch_tick(fetch);
	CHECK(!fake_call(remote, 2).cancelled);
	clock_fake_advance(3100);
	fetch_tick(fetch);
	CHECK(fake_call(remote, 2).cancelled);
	fake_hold(remote, false);
	CHECK(settle());
	/* What comes next is no walk before it has shown itself again. */
	CHECK_INT(want_in(&wait, 3, 0), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_STR(fake_call(remote, 3).filter, "");
	wait_release(&wait);
	tear_down();
}

static void test_who_waits_long_for_a_walk_goes_out_alone(void)
{
	struct wait wait;

	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	read_folder(0);
	read_folder(1);
	fake_hold(remote, true);
	CHECK_INT(want_in(&wait, 2, 0), 0);
	CHECK(fake_wait_calls(remote, 3));
	fetch_tick(fetch);
	CHECK_UINT(fake_calls(remote), 3);
	clock_fake_advance(3100);
	fetch_tick(fetch);
	CHECK(fake_wait_calls(remote, 4));
	CHECK(fake_wanted(remote, 3, &grove.folders[2].blobs[0]));
	fake_hold(remote, false);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	tear_down();
}

/* Whether the last call that was made is held, and what came of it was worked off. */
static bool is_held(bool started)
{
	for (unsigned i = 0; i < 1000; i++) {
		const struct batch *batch;
		bool held;

		lock_take(&fetch->lock);
		batch = TAILQ_FIRST(&fetch->batches);
		held = batch && batch->held && (!started || !batch->queued_len);
		lock_give(&fetch->lock);
		if (held)
			return true;
		usleep(10000);
	}
	return false;
}

/* As if so much lay there unread, or nothing. */
static void set_far_ahead(bool far)
{
	atomic_store(&fetch->ahead.total_brought, 1);
	atomic_store(&fetch->ahead.total_bytes, far ? (uint64_t)1 << 40 : 0);
	atomic_store(&fetch->ahead.unread, far);
}

/* More than what the reader that begins a walk waits for. */
static void grow_grove(void)
{
	for (uint32_t i = 0; i < 40; i++) {
		struct oid oid = fake_add_blob(remote, 30000, 1000 + i);

		fake_include(remote, &grove.folders[4].trees[0], &oid);
	}
}

static void test_a_walk_far_ahead_of_its_readers_pauses_till_they_follow(void)
{
	struct wait wait;

	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	grow_grove();
	begin_walk(&wait);
	set_far_ahead(true);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	if (is_held(true)) {
		CHECK(fake_ended(remote) == 2);
		set_far_ahead(false);
		fetch_tick(fetch);
	} else {
		CHECK(!"the walk paused");
	}
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	tear_down();
}

static struct wait linger_wait;

/* The start of a walk's call takes so long that its reader leaves, it is held, and resumed. */
static void linger(void)
{
	CHECK(fetch_cancel(fetch, &linger_wait.waiter));
	set_far_ahead(true);
	fake_hold(remote, false);
	CHECK(is_held(false));
	set_far_ahead(false);
	fetch_tick(fetch);
}

static void test_a_walk_may_be_held_and_resumed_before_its_start_returns(void)
{
	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	grow_grove();
	read_folder(0);
	read_folder(1);
	fake_hold(remote, true);
	fake_linger(remote, linger);
	CHECK_INT(want_in(&linger_wait, 2, 0), 0);
	fetch_tick(fetch);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	read_folder(3);
	tear_down();
}

static void test_who_waits_long_for_a_walk_behind_another_goes_out_alone(void)
{
	struct oid elsewhere;
	struct wait first, wait;

	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	elsewhere = fake_add(remote, OBJECT_TREE, "elsewhere", 9);
	read_folder(0);
	read_folder(1);
	fake_hold(remote, true);
	CHECK_INT(want_in(&first, 2, 0), 0);
	CHECK(fake_wait_calls(remote, 3));
	/* another walk begins, in what is not below the first one's tree */
	grove.folders[4].trees[1] = elsewhere;
	lock_take(&fetch->lock);
	fetch_carrier_of_tree_locked(fetch, &elsewhere, FLIGHT_SUBTREE);
	lock_give(&fetch->lock);
	CHECK_INT(want_in(&wait, 4, 0), 0);
	fetch_tick(fetch);
	CHECK_UINT(fake_calls(remote), 3);
	clock_fake_advance(3100);
	fetch_tick(fetch);
	CHECK(fake_wait_calls(remote, 4));
	CHECK(fake_wanted(remote, 3, &grove.folders[4].blobs[0]));
	fake_hold(remote, false);
	CHECK_INT(result(&wait), 0);
	CHECK_INT(result(&first), 0);
	wait_release(&wait);
	wait_release(&first);
	CHECK(settle());
	tear_down();
}

static void test_what_comes_in_the_background_waits_for_no_reader(void)
{
	clock_fake(5000);
	set_up(WALK_CAPS);
	make_grove();
	grow_grove();
	set_far_ahead(true);
	CHECK_INT(fetch_fill(fetch, &grove.root, true), FETCH_FILL_ASKED);
	CHECK(settle());
	CHECK_INT(fetch_fill(fetch, &grove.root, true), FETCH_FILL_HERE);
	tear_down();
}

static void test_who_waits_long_for_the_background_goes_out_alone(void)
{
	struct wait wait;

	clock_fake(5000);
	set_up(WALK_CAPS);
	make_grove();
	fake_hold(remote, true);
	CHECK_INT(fetch_fill(fetch, &grove.root, true), FETCH_FILL_ASKED);
	CHECK(fake_wait_calls(remote, 1));
	CHECK_INT(want_in(&wait, 2, 0), 0);
	clock_fake_advance(3100);
	fetch_tick(fetch);
	CHECK(fake_wait_calls(remote, 2));
	CHECK(fake_wanted(remote, 1, &grove.folders[2].blobs[0]));
	fake_hold(remote, false);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	tear_down();
}

static void test_a_walk_that_breaks_off_leaves_its_waits_to_ask_by_id(void)
{
	struct wait wait;

	set_up(WALK_CAPS);
	make_grove();
	read_folder(0);
	read_folder(1);
	fake_cut(remote, 1);
	CHECK_INT(want_in(&wait, 2, 0), 0);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	read_folder(3);
	tear_down();
}

static void test_walks_that_always_break_off_are_given_up_for_a_while(void)
{
	struct wait wait;

	clock_fake(5000);
	set_up(WALK_CAPS);
	make_grove();
	begin_walk(&wait);
	CHECK_INT(result(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	for (unsigned i = 0; i < 3; i++) {
		char name[] = { 't', (char)('0' + i) };
		struct oid tree = fake_add(remote, OBJECT_TREE, name, 2);

		fake_include(remote, &tree, &grove.large);
		clock_fake_advance(60000);
		fake_cut(remote, 1);
		CHECK_INT(fetch_fill(fetch, &tree, true), FETCH_FILL_ASKED);
		CHECK(settle());
	}
	clock_fake_advance(60000);
	CHECK_INT(fetch_fill(fetch, &grove.folders[3].trees[0], true), -EOPNOTSUPP);
	clock_fake_advance(600000);
	CHECK_INT(fetch_fill(fetch, &grove.folders[3].trees[0], true), FETCH_FILL_ASKED);
	CHECK(settle());
	tear_down();
}

static void test_a_large_blob_for_a_tree_tells_no_size_of_the_tree(void)
{
	struct oid tree, blob;
	uint64_t size;

	clock_fake(5000);
	set_up(WALK_CAPS);
	tree = fake_add(remote, OBJECT_TREE, "tree", 4);
	blob = fake_add_blob(remote, 5 << 20, 7);
	fake_swap(remote, &tree, &blob);
	CHECK_INT(fetch_fill(fetch, &tree, true), FETCH_FILL_ASKED);
	CHECK(settle());
	CHECK(!fetch_size_known(fetch, &tree, &size));
	CHECK(fetch_has(fetch, &blob));
	tear_down();
}

/* Its result; time goes on till then, past what is waited between attempts. */
static int result_in_time(struct wait *wait)
{
	for (unsigned i = 0; i < 1000 && !is_done(wait); i++) {
		clock_fake_advance(100);
		fetch_tick(fetch);
		usleep(10000);
	}
	return result(wait);
}

static void test_after_a_walk_that_broke_off_the_next_shows_itself_anew(void)
{
	struct wait wait;

	clock_fake(1000);
	set_up(WALK_CAPS);
	make_grove();
	read_folder(0);
	read_folder(1);
	fake_break(remote, 1);
	CHECK_INT(want_in(&wait, 2, 0), 0);
	CHECK_INT(result_in_time(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	CHECK_INT(want_in(&wait, 4, FOLDER_FILES - 1), 0);
	CHECK_INT(result_in_time(&wait), 0);
	wait_release(&wait);
	CHECK(settle());
	CHECK_STR(fake_call(remote, fake_calls(remote) - 1).filter, "");
	tear_down();
}

static void test_a_refused_limit_ends_walks_and_nothing_else(void)
{
	set_up(WALK_CAPS);
	make_grove();
	fake_refuse_filter(remote, "blob:limit");
	for (unsigned d = 0; d < FOLDERS; d++)
		read_folder(d);
	tear_down();
}

#define LONES_FEW 3

static void test_a_file_that_nobody_listed_tells_its_size_by_coming(void)
{
	struct wait wait;

	set_up(ALL_CAPS);
	make_grove();
	for (unsigned d = 0; d < LONES_FEW; d++) {
		grove.company[d].listed = false;
		CHECK_INT(want_size(&wait, &grove.folders[d].blobs[0], &grove.company[d]), 0);
		CHECK_INT(result(&wait), 0);
		CHECK_UINT(wait.size, 500);
		CHECK(settle());
		CHECK(!fake_call(remote, d).sizes);
		CHECK_UINT(fake_call(remote, d).want_count, 1);
		CHECK_INT(want_in(&wait, d, 0), 1);
		wait_release(&wait);
	}
	CHECK_UINT(fake_calls(remote), LONES_FEW);
	for (unsigned d = 0; d < FOLDERS; d++) /* too large to come whole */
		grove.folders[d].files = grove.folders[d].missing = 20000;

	/* The third that is near the others: now all around it are asked about. */
	for (unsigned i = 1; i < 3; i++) {
		grove.company[0].index = i;
		CHECK_INT(want_size(&wait, &grove.folders[0].blobs[i], &grove.company[0]), 0);
		CHECK_INT(result(&wait), 0);
		CHECK(settle());
	}
	CHECK(!fake_call(remote, LONES_FEW).sizes);
	CHECK(fake_call(remote, LONES_FEW + 1).sizes);
	CHECK_UINT(fake_call(remote, LONES_FEW + 1).want_count, FOLDER_FILES - 2);
	tear_down();
}

/* What their neighbours would have been is as much as all there is. */
static void test_files_here_and_there_in_a_small_subtree_bring_the_rest(void)
{
	struct wait wait;
	size_t calls;

	set_up(ALL_CAPS);
	make_grove();
	for (unsigned d = 0; d <= LONES_FEW; d++) {
		grove.company[d].listed = false;
		CHECK_INT(want_size(&wait, &grove.folders[d].blobs[0], &grove.company[d]), 0);
		CHECK_INT(result(&wait), 0);
		CHECK(settle());
		wait_release(&wait);
	}
	calls = fake_calls(remote);
	CHECK_UINT(calls, LONES_FEW + 1);
	for (unsigned d = 0; d < FOLDERS; d++) {
		grove.company[d].listed = false;
		CHECK_INT(want_size(&wait, &grove.folders[d].blobs[1], &grove.company[d]), 1);
		wait_release(&wait);
	}
	CHECK_UINT(fake_calls(remote), calls);
	tear_down();
}

/* The clock was years ahead, or is years ahead now: neither keeps a refusal for ever. */
static void test_a_refusal_is_believed_for_its_time_only(void)
{
	static const struct {
		int64_t stored_s;
		bool believed;
	} rows[] = { { 0, true },
		     { -3600, true },
		     { -10 * 365 * 86400, false },
		     { 10 * 365 * 86400, false } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t now_s = clock_wall_s();
		struct listing listing;
		struct wait wait;

		set_up(REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW);
		clock_fake((uint64_t)(now_s + rows[i].stored_s) * 1000);
		fetch_fact_put(fetch, "refused", "combine", "1", 1);
		clock_real();
		fetch_close(&fetch);
		open_fetch();
		make_listing(&listing, 3);
		CHECK_INT(want_size(&wait, &listing.directory.blobs[0], &listing.company), 0);
		CHECK_INT(result(&wait), 0);
		CHECK_INT(fake_call(remote, 0).filter[0] == '\0', rows[i].believed);
		tear_down();
	}
}

static void test_a_lone_file_that_fails_is_asked_for_its_size(void)
{
	struct wait wait;

	clock_fake(1000);
	set_up(ALL_CAPS);
	make_grove();
	grove.company[0].listed = false;
	fake_fail(remote, 1, REMOTE_TRANSIENT, true, 0);
	CHECK_INT(want_size(&wait, &grove.folders[0].blobs[0], &grove.company[0]), 0);
	CHECK(fake_wait_calls(remote, 1));
	CHECK(all_called());
	CHECK(!fake_call(remote, 0).sizes);
	clock_fake_advance(5000);
	fetch_tick(fetch);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(wait.size, 500);
	CHECK(fake_call(remote, 1).sizes);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	tear_down();
}

/* ---- commits ---- */

struct history {
	struct oid commit, root, subtree, blob, large;
};

static void make_history(struct history *history)
{
	history->commit = fake_add(remote, OBJECT_COMMIT, "a commit", 8);
	history->root = fake_add(remote, OBJECT_TREE, "root", 4);
	history->subtree = fake_add(remote, OBJECT_TREE, "subtree", 7);
	history->blob = fake_add(remote, OBJECT_BLOB, "a file", 6);
	history->large = fake_add_blob(remote, LIMIT * 10, 9);
	fake_include(remote, &history->commit, &history->root);
	fake_include(remote, &history->root, &history->subtree);
	fake_include(remote, &history->root, &history->large);
	fake_include(remote, &history->subtree, &history->blob);
}

static int want_commit(struct wait *wait, const struct oid *commit)
{
	struct content *content = NULL;
	int status;

	wait_init(wait);
	status = fetch_commit(fetch, commit, &wait->waiter, &content);
	content_unref(content);
	return status;
}

static void test_commit_brings_all_trees_and_wants_for_them_cost_nothing(void)
{
	struct wait commit, root, subtree, none;
	struct history history;
	struct oid missing;

	set_up(ALL_CAPS);
	make_history(&history);
	object_hash(OID_SHA1, OBJECT_TREE, "missing", 7, &missing);
	fake_hold(remote, true);
	CHECK_INT(want_commit(&commit, &history.commit), 0);
	CHECK_INT(want_tree(&root, &history.root), 0);
	CHECK_INT(want_tree(&subtree, &history.subtree), 0);
	CHECK_INT(want_tree(&none, &missing), 0);
	CHECK_UINT(fake_calls(remote), 1);
	CHECK_STR(fake_call(remote, 0).filter, "blob:none");
	CHECK_UINT(fake_call(remote, 0).deepen, 1);
	fake_hold(remote, false);
	CHECK_INT(result(&commit), 0);
	CHECK_INT(result(&root), 0);
	CHECK_INT(result(&subtree), 0);
	CHECK_INT(result(&none), -ENOENT); /* by itself, after the commit's answer */
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_STR(fake_call(remote, 1).filter, "tree:0");
	wait_release(&commit);
	CHECK_INT(want_commit(&commit, &history.commit), 1);
	wait_release(&commit);
	wait_release(&root);
	wait_release(&subtree);
	tear_down();
}

static struct oid add_tree(const char *mode_and_name, const struct oid *child)
{
	uint8_t bytes[128];
	size_t len = strlen(mode_and_name) + 1;

	memcpy(bytes, mode_and_name, len);
	memcpy(bytes + len, child->hash, oid_len(child));
	return fake_add(remote, OBJECT_TREE, bytes, len + oid_len(child));
}

static int top_only(void *arg, unsigned up, struct oid *out)
{
	*out = *(const struct oid *)arg;
	return up ? -ENOENT : 0;
}

static int gather_nothing(void *arg, const struct fetch_budget *budget, struct fetch_list *out)
{
	(void)arg, (void)budget, (void)out;
	return 0;
}

/* Somebody asks for a size before the trees have come: nobody has to ask for the others. */
static void test_sizes_of_trees_that_come_later_are_asked_for_then(void)
{
	struct wait commit_wait, wait;
	struct oid top, deep, commit, subtree, root;
	uint64_t size = 0;

	set_up(ALL_CAPS);
	top = fake_add_blob(remote, 100, 1);
	deep = fake_add_blob(remote, 200, 2);
	subtree = add_tree("100644 deep", &deep);
	root = add_tree("40000 sub", &subtree);
	commit = fake_add(remote, OBJECT_COMMIT, "a commit", 8);
	fake_include(remote, &commit, &root);
	fake_include(remote, &root, &subtree);
	const struct fetch_company company = {
		.gather = gather_nothing, .tree = top_only, .arg = &root, .listed = true
	};

	fake_hold(remote, true);
	CHECK_INT(want_commit(&commit_wait, &commit), 0);
	CHECK_INT(want_size(&wait, &top, &company), 0);
	CHECK(fake_wait_calls(remote, 2));
	CHECK(fake_call(remote, 1).sizes);
	CHECK_UINT(fake_call(remote, 1).want_count, 1);
	fake_hold(remote, false);
	CHECK_INT(result(&commit_wait), 0);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(wait.size, 100);
	CHECK(fake_wait_calls(remote, 3)); /* a moment after the trees' call is over */
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	CHECK(fake_call(remote, 2).sizes);
	CHECK_UINT(fake_call(remote, 2).want_count, 1);
	CHECK_INT(fetch_size_known(fetch, &deep, &size), 1);
	CHECK_UINT(size, 200);
	wait_release(&commit_wait);
	tear_down();
}

/* ---- sizes from the host's API ---- */

#define API_CAPS (REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SHALLOW | REMOTE_TREE_SIZES)

/* The sizes of all small files of the grove; how many could not be had, or are wrong. */
static unsigned list_grove(void)
{
	unsigned wrong = 0;

	for (unsigned d = 0; d < FOLDERS; d++) {
		for (unsigned i = 0; i < FOLDER_FILES; i++) {
			struct wait wait;
			int status =
				want_size(&wait, &grove.folders[d].blobs[i], &grove.company[d]);

			wrong += (status != 1 && result(&wait)) || wait.size != 500;
			wait_release(&wait);
		}
	}
	return wrong;
}

static size_t api_calls(void)
{
	size_t count = 0;

	for (size_t i = 0; i < fake_calls(remote); i++)
		count += fake_call(remote, i).tree_sizes;
	return count;
}

static void test_the_api_tells_all_sizes_at_once(void)
{
	struct wait wait;
	uint64_t size;

	set_up(API_CAPS);
	make_grove();
	for (uint32_t i = 0; i < 1000; i++) {
		struct oid more = fake_add(remote, OBJECT_BLOB, &i, sizeof(i));

		fake_include(remote, &grove.root, &more);
	}
	CHECK_UINT(list_grove(), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		struct oid more = fake_add(remote, OBJECT_BLOB, &i, sizeof(i));

		CHECK_INT(fetch_size_known(fetch, &more, &size), 1);
	}
	CHECK_INT(want_size(&wait, &grove.large, &grove.company[FOLDERS - 1]), 1);
	CHECK_UINT(wait.size, LIMIT * 2);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	CHECK(fake_call(remote, 0).below);
	CHECK(fake_wanted(remote, 0, &grove.root));
	tear_down();
}

static void test_many_ask_the_api_once(void)
{
	struct wait waits[FOLDERS][FOLDER_FILES];

	set_up(API_CAPS);
	make_grove();
	fake_hold(remote, true);
	for (unsigned d = 0; d < FOLDERS; d++)
		for (unsigned i = 0; i < FOLDER_FILES; i++)
			CHECK_INT(want_size(&waits[d][i], &grove.folders[d].blobs[i],
					    &grove.company[d]),
				  0);
	fake_hold(remote, false);
	for (unsigned d = 0; d < FOLDERS; d++)
		for (unsigned i = 0; i < FOLDER_FILES; i++)
			CHECK_INT(result(&waits[d][i]), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

static void test_who_reads_does_not_wait_for_the_api(void)
{
	struct wait size, content;

	set_up(API_CAPS);
	make_grove();
	fake_hold(remote, true);
	CHECK_INT(want_size(&size, &grove.folders[0].blobs[0], &grove.company[0]), 0);
	CHECK_INT(want(&content, &grove.folders[0].blobs[0], &grove.company[0]), 0);
	CHECK(fake_wait_calls(remote, 2));
	CHECK(fake_call(remote, 0).tree_sizes);
	CHECK(!fake_call(remote, 1).tree_sizes);
	fake_hold(remote, false);
	CHECK_INT(result(&size), 0);
	CHECK_INT(result(&content), 0);
	CHECK(settle());
	wait_release(&content);
	tear_down();
}

static void test_where_sizes_can_be_asked_by_id_the_api_is_spared(void)
{
	set_up(API_CAPS | REMOTE_SIZES);
	make_grove();
	CHECK_UINT(list_grove(), 0);
	CHECK_UINT(api_calls(), 0);
	tear_down();
}

/* The root is too large for one answer, its folders are not. */
static void test_a_tree_that_is_cut_is_asked_for_by_parts(void)
{
	set_up(API_CAPS);
	make_grove();
	fake_tree_sizes_max(remote, FOLDER_FILES * 2 + 1);
	CHECK_UINT(list_grove(), 0);
	CHECK(settle());
	/* two folders and a file came with the root; that file's folder and two more follow */
	CHECK_UINT(api_calls(), 4);
	CHECK(fake_wanted(remote, 0, &grove.root));
	for (size_t i = 1; i < 4; i++) {
		CHECK(fake_wanted(remote, i, &grove.folders[i + 1].trees[0]));
		CHECK(fake_call(remote, i).below);
	}
	CHECK_UINT(fake_calls(remote), 4);
	tear_down();
}

/* So is each folder: what the API does not tell even so is git's. */
static void test_what_the_api_never_tells_comes_by_git(void)
{
	set_up(API_CAPS);
	make_grove();
	fake_tree_sizes_max(remote, 2);
	CHECK_UINT(list_grove(), 0);
	CHECK(settle());
	CHECK(api_calls() <= 1 + 2 * FOLDERS);
	CHECK(fake_calls(remote) > api_calls());
	tear_down();
}

static void test_an_api_that_refuses_is_not_asked_again(void)
{
	set_up(API_CAPS);
	clock_fake(1000000);
	make_grove();
	fake_fail(remote, 1, REMOTE_REFUSED_FEATURE, true, 0);
	CHECK_UINT(list_grove(), 0);
	CHECK_UINT(api_calls(), 1);
	CHECK(settle());
	CHECK_UINT(fetch->retry.failures, 0); /* git is not to suffer for it */
	clock_fake_advance(1000000000);
	make_grove();
	CHECK_UINT(list_grove(), 0);
	CHECK_UINT(api_calls(), 1);
	tear_down();
}

static void test_an_api_that_is_used_up_is_left_alone_for_so_long(void)
{
	struct wait wait;
	struct oid other;

	set_up(API_CAPS);
	clock_fake(1000000);
	make_grove();
	other = fake_add_blob(remote, 700, 9999);
	fake_include(remote, &grove.folders[0].trees[0], &other);
	fake_fail(remote, 1, REMOTE_TRANSIENT, true, 3600000);
	CHECK_INT(want_size(&wait, &grove.folders[0].blobs[0], &grove.company[0]), 0);
	CHECK_INT(result(&wait), 0); /* over git, at once */
	CHECK_UINT(wait.size, 500);
	CHECK(settle());
	CHECK_UINT(api_calls(), 1);
	CHECK_UINT(fetch->retry.failures, 0);
	clock_fake_advance(3599000);
	CHECK_INT(want_size(&wait, &grove.folders[1].blobs[0], &grove.company[1]), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(settle());
	CHECK_UINT(api_calls(), 1);
	clock_fake_advance(1000);
	CHECK_INT(want_size(&wait, &grove.folders[2].blobs[0], &grove.company[2]), 0);
	CHECK_INT(result(&wait), 0);
	CHECK(settle());
	CHECK_UINT(api_calls(), 2);
	tear_down();
}

static void test_an_api_that_does_not_answer_is_not_waited_for(void)
{
	struct wait wait;

	set_up(API_CAPS);
	clock_fake(1000000);
	make_grove();
	fake_hold(remote, true);
	CHECK_INT(want_size(&wait, &grove.folders[0].blobs[0], &grove.company[0]), 0);
	CHECK(fake_wait_calls(remote, 1));
	clock_fake_advance(9900);
	fetch_tick(fetch);
	CHECK(!fake_call(remote, 0).cancelled);
	clock_fake_advance(200);
	fetch_tick(fetch);
	CHECK(fake_wait_calls(remote, 2));
	CHECK(!fake_call(remote, 1).tree_sizes);
	fake_hold(remote, false);
	CHECK_INT(result(&wait), 0);
	CHECK_UINT(wait.size, 500);
	CHECK(settle());
	tear_down();
}

static void test_commit_without_filters_brings_everything(void)
{
	struct wait commit, blob, large;
	struct history history;

	set_up(REMOTE_SHALLOW); /* an old server that gives nothing by id */
	make_history(&history);
	fake_hold(remote, true);
	CHECK_INT(want_commit(&commit, &history.commit), 0);
	CHECK_INT(want(&blob, &history.blob, NULL), 0);
	CHECK_INT(want_size(&large, &history.large, NULL), 0);
	fake_hold(remote, false);
	CHECK_INT(result(&commit), 0);
	CHECK_INT(result(&blob), 0);
	CHECK_INT(result(&large), 0);
	CHECK_UINT(large.size, LIMIT * 10);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 1);
	CHECK_STR(fake_call(remote, 0).filter, "");
	CHECK(fetch_has(fetch, &history.large));
	wait_release(&commit);
	wait_release(&blob);
	tear_down();
}

static void test_old_server_is_asked_for_everything_once_more_for_what_is_lost(void)
{
	struct wait commit, blob, none;
	struct history history;
	struct oid missing;

	set_up(REMOTE_SHALLOW);
	make_history(&history);
	fake_omit(remote, &history.blob, true);
	CHECK_INT(want_commit(&commit, &history.commit), 0);
	CHECK_INT(result(&commit), 0);
	CHECK(settle());
	fake_omit(remote, &history.blob, false);
	CHECK_INT(want(&blob, &history.blob, NULL), 0);
	CHECK_INT(result(&blob), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	object_hash(OID_SHA1, OBJECT_BLOB, "nobody has it", 13, &missing);
	CHECK_INT(want(&none, &missing, NULL), 0);
	CHECK_INT(result(&none), -ENOENT);
	wait_release(&commit);
	wait_release(&blob);
	tear_down();
}

static void test_commit_goes_on_after_a_cut_answer_when_nobody_waits(void)
{
	struct history history;
	struct wait commit;

	set_up(ALL_CAPS);
	make_history(&history);
	fake_cut(remote, 1);
	CHECK_INT(want_commit(&commit, &history.commit), 0);
	CHECK_INT(result(&commit), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	wait_release(&commit);
	CHECK_INT(want_commit(&commit, &history.commit), 1);
	wait_release(&commit);
	tear_down();
}

static void test_one_refusal_is_not_believed(void)
{
	struct history history;
	struct wait commit;

	set_up(ALL_CAPS);
	make_history(&history);
	fake_fail(remote, 1, REMOTE_REFUSED_FEATURE, true, 0);
	CHECK_INT(want_commit(&commit, &history.commit), 0);
	CHECK_INT(result(&commit), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_STR(fake_call(remote, 1).filter, "blob:none");
	CHECK(!fetch_has(fetch, &history.blob));
	wait_release(&commit);
	tear_down();
}

static void test_refused_blob_none_brings_the_whole_commit(void)
{
	struct history history;
	struct wait commit;

	set_up(ALL_CAPS);
	make_history(&history);
	fake_refuse_filter(remote, "blob:none");
	CHECK_INT(want_commit(&commit, &history.commit), 0);
	CHECK_INT(result(&commit), 0);
	CHECK(settle());
	CHECK_UINT(fake_calls(remote), 3);
	CHECK(fetch_has(fetch, &history.blob));
	wait_release(&commit);
	tear_down();
}

static void test_unknown_commit_fails(void)
{
	struct oid missing;
	struct wait commit;

	set_up(ALL_CAPS);
	object_hash(OID_SHA1, OBJECT_COMMIT, "missing", 7, &missing);
	CHECK_INT(want_commit(&commit, &missing), 0);
	CHECK_INT(result(&commit), -ENOENT);
	CHECK(settle());
	tear_down();
}

/* ---- many ---- */

#define READERS 64
#define FILES 500

struct crowd {
	struct directory directories[FILES / 50];
	unsigned wrong[READERS];
};

static struct crowd crowd;

static void *read_many(void *arg)
{
	size_t id = (size_t)(uintptr_t)arg;
	uint32_t random = (uint32_t)id * 7919 + 1;

	for (unsigned i = 0; i < 2 * FILES / READERS; i++) {
		struct directory *directory, own;
		struct fetch_company company;
		struct oid *oid;
		struct wait wait;

		random = random * 1664525u + 1013904223u;
		directory = &crowd.directories[(random >> 8) % (FILES / 50)];
		oid = &directory->blobs[(random >> 16) % 50];
		own = *directory; /* it counts */
		company = (struct fetch_company){ .gather = gather_from, .arg = &own };
		want(&wait, oid, &company);
		if (result(&wait) || !wait.content || !oid_equal(&wait.content->oid, oid))
			crowd.wrong[id]++;
		wait_release(&wait);
	}
	return NULL;
}

static void test_a_thousand_reads_at_once_make_few_calls(void)
{
	pthread_t threads[READERS];
	struct fetch_counters counters;

	set_up(ALL_CAPS);
	memset(&crowd, 0, sizeof(crowd));
	for (uint32_t i = 0; i < FILES; i++) {
		struct directory *directory = &crowd.directories[i / 50];

		directory->blobs[directory->count++] = fake_add_blob(remote, 300 + i, i);
	}
	for (size_t i = 0; i < READERS; i++)
		thread_start(&threads[i], "reader", read_many, (void *)(uintptr_t)i);
	for (size_t i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < READERS; i++)
		CHECK_UINT(crowd.wrong[i], 0);
	CHECK(settle());
	CHECK_MSG(fake_calls(remote) <= FILES / 20, "%zu calls", fake_calls(remote));
	fetch_counters(fetch, &counters);
	CHECK_UINT(counters.flights, 0);
	CHECK_UINT(counters.waiters, 0);
	tear_down();
}

static void test_a_thousand_waiters_on_one_flight_are_all_called(void)
{
	static struct wait waits[1000];
	struct oid oid;

	set_up(ALL_CAPS);
	oid = fake_add_blob(remote, 100, 1);
	fake_hold(remote, true);
	for (int i = 0; i < 1000; i++)
		CHECK_INT(want(&waits[i], &oid, NULL), 0);
	for (int i = 0; i < 1000; i += 2)
		CHECK(fetch_cancel(fetch, &waits[i].waiter));
	fake_hold(remote, false);
	for (int i = 1; i < 1000; i += 2) {
		CHECK_INT(result(&waits[i]), 0);
		wait_release(&waits[i]);
	}
	for (int i = 0; i < 1000; i += 2)
		CHECK(!is_done(&waits[i]));
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

/* ---- facts, and a cache that keeps nothing ---- */

static void test_facts_of_two_repositories_do_not_mix(void)
{
	struct buf value = BUF_INIT;
	struct fetch_config config = { .name = "test", .identity = "test:other" };
	struct fetch *other;

	set_up(ALL_CAPS);
	config.remote = remote;
	config.cache = cache;
	CHECK_INT(fetch_open(&config, &other, NULL), 0);
	CHECK_INT(fetch_fact_put(fetch, "ref", "HEAD", "one", 3), 0);
	CHECK_INT(fetch_fact_get(other, "ref", "HEAD", &value, NULL), -ENOENT);
	CHECK_INT(fetch_fact_get(fetch, "ref", "HEAD", &value, NULL), 0);
	CHECK_MEM(value.data, value.len, "one", 3);
	buf_release(&value);
	fetch_close(&other);
	tear_down();
}

static void test_large_file_is_not_brought_again_when_the_cache_is_full(void)
{
	struct cache_config config = { .dir = "/proc/nowhere", .queue_max_len = 1 };
	struct content *content = NULL;
	struct wait wait;
	struct oid oid;

	set_up(ALL_CAPS);
	fetch_close(&fetch);
	cache_close(&cache);
	cache_open(&config, &cache, NULL);
	open_fetch();
	oid = fake_add_blob(remote, LIMIT * 4, 1);
	for (int i = 0; i < 3; i++) {
		wait_init(&wait);
		if (!fetch_content(fetch, &oid, OBJECT_BLOB, LIMIT * 4, NULL, &wait.waiter,
				   &content))
			CHECK_INT(result(&wait), 0);
		content_unref(content);
		content = NULL;
		wait_release(&wait);
		CHECK(settle());
	}
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

int main(int argc, char **argv)
{
	const struct log_config log = { .level = LOG_LEVEL_WARN, .file = "/dev/null" };

	(void)argc;
	tap_args(argv);
	log_open(&log, NULL);
	lock_init(&waits_lock);
	lock_cond_init(&waits_cond);
	TAP_RUN(test_miss_comes_from_the_remote_then_from_the_cache);
	TAP_RUN(test_second_reader_joins_the_same_flight);
	TAP_RUN(test_what_comes_while_a_call_is_under_way_leaves_together);
	TAP_RUN(test_second_slot_opens_for_many_wants);
	TAP_RUN(test_second_slot_opens_when_the_first_takes_longer_than_a_round_trip);
	TAP_RUN(test_deltas_in_an_answer_are_resolved);
	TAP_RUN(test_company_rides_along_and_is_counted_when_read);
	TAP_RUN(test_demand_promotes_queued_company);
	TAP_RUN(test_a_walk_brings_all_that_is_below_in_one_call);
	TAP_RUN(test_a_walk_where_most_is_here_asks_by_id);
	TAP_RUN(test_a_walk_takes_no_more_than_the_line_brings_soon);
	TAP_RUN(test_misses_below_a_walk_wait_for_it);
	TAP_RUN(test_sizes_alone_make_a_walk_where_only_contents_tell);
	TAP_RUN(test_a_walk_that_nobody_follows_is_cancelled);
	TAP_RUN(test_who_waits_long_for_a_walk_goes_out_alone);
	TAP_RUN(test_a_walk_far_ahead_of_its_readers_pauses_till_they_follow);
	TAP_RUN(test_a_walk_may_be_held_and_resumed_before_its_start_returns);
	TAP_RUN(test_who_waits_long_for_a_walk_behind_another_goes_out_alone);
	TAP_RUN(test_what_comes_in_the_background_waits_for_no_reader);
	TAP_RUN(test_who_waits_long_for_the_background_goes_out_alone);
	TAP_RUN(test_a_walk_that_breaks_off_leaves_its_waits_to_ask_by_id);
	TAP_RUN(test_walks_that_always_break_off_are_given_up_for_a_while);
	TAP_RUN(test_after_a_walk_that_broke_off_the_next_shows_itself_anew);
	TAP_RUN(test_a_large_blob_for_a_tree_tells_no_size_of_the_tree);
	TAP_RUN(test_a_refused_limit_ends_walks_and_nothing_else);
	TAP_RUN(test_a_file_that_nobody_listed_tells_its_size_by_coming);
	TAP_RUN(test_files_here_and_there_in_a_small_subtree_bring_the_rest);
	TAP_RUN(test_a_lone_file_that_fails_is_asked_for_its_size);
	TAP_RUN(test_demand_does_not_wait_behind_company_alone);
	TAP_RUN(test_crawl_opens_the_window_and_scattered_reads_do_not);
	TAP_RUN(test_unknown_id_fails_alone_and_the_others_go_again_together);
	TAP_RUN(test_unknown_id_that_is_not_named_is_found_by_halving);
	TAP_RUN(test_missing_object_is_asked_for_alone);
	TAP_RUN(test_object_that_never_comes_is_given_up);
	TAP_RUN(test_wrong_object_is_never_served);
	TAP_RUN(test_flipped_byte_is_asked_for_again);
	TAP_RUN(test_answer_that_is_always_damaged_is_given_up);
	TAP_RUN(test_pack_cut_short_is_asked_for_again);
	TAP_RUN(test_pack_that_is_always_cut_short_is_given_up);
	TAP_RUN(test_tree_in_the_place_of_a_blob_is_refused);
	TAP_RUN(test_transient_failures_are_tried_again);
	TAP_RUN(test_retry_after_is_obeyed);
	TAP_RUN(test_denied_is_final);
	TAP_RUN(test_gone_is_final);
	TAP_RUN(test_broken_is_tried_three_times);
	TAP_RUN(test_failed_company_is_dropped);
	TAP_RUN(test_stalled_call_ends_the_wait_and_is_cancelled);
	TAP_RUN(test_late_joiner_of_a_stalled_call_is_asked_for_again);
	TAP_RUN(test_queued_want_waits_while_the_remote_makes_progress);
	TAP_RUN(test_offline_and_back);
	TAP_RUN(test_offline_by_configuration_asks_nobody);
	TAP_RUN(test_cancelled_want_that_has_not_left_never_leaves);
	TAP_RUN(test_cancel_before_the_want_ends_it);
	TAP_RUN(test_large_transfer_that_nobody_wants_any_more_is_cancelled);
	TAP_RUN(test_what_is_cancelled_takes_no_more);
	TAP_RUN(test_close_ends_every_wait);
	TAP_RUN(test_large_file_comes_alone_and_as_a_file);
	TAP_RUN(test_sizes_of_a_directory_cost_one_call);
	TAP_RUN(test_size_of_an_unknown_object_fails);
	TAP_RUN(test_sizes_that_cannot_be_understood_are_found_another_way);
	TAP_RUN(test_a_size_that_never_comes_is_found_another_way);
	TAP_RUN(test_without_object_info_a_listing_tells_the_sizes);
	TAP_RUN(test_concurrent_sizes_share_the_listing);
	TAP_RUN(test_content_wanted_while_its_size_is_listed_comes_with_the_listing);
	TAP_RUN(test_listed_directory_is_not_listed_again_after_a_restart);
	TAP_RUN(test_refused_filter_is_remembered_and_blobs_go_by_id);
	TAP_RUN(test_a_refusal_is_believed_for_its_time_only);
	TAP_RUN(test_commit_brings_all_trees_and_wants_for_them_cost_nothing);
	TAP_RUN(test_sizes_of_trees_that_come_later_are_asked_for_then);
	TAP_RUN(test_the_api_tells_all_sizes_at_once);
	TAP_RUN(test_many_ask_the_api_once);
	TAP_RUN(test_who_reads_does_not_wait_for_the_api);
	TAP_RUN(test_where_sizes_can_be_asked_by_id_the_api_is_spared);
	TAP_RUN(test_a_tree_that_is_cut_is_asked_for_by_parts);
	TAP_RUN(test_what_the_api_never_tells_comes_by_git);
	TAP_RUN(test_an_api_that_refuses_is_not_asked_again);
	TAP_RUN(test_an_api_that_is_used_up_is_left_alone_for_so_long);
	TAP_RUN(test_an_api_that_does_not_answer_is_not_waited_for);
	TAP_RUN(test_commit_without_filters_brings_everything);
	TAP_RUN(test_old_server_is_asked_for_everything_once_more_for_what_is_lost);
	TAP_RUN(test_commit_goes_on_after_a_cut_answer_when_nobody_waits);
	TAP_RUN(test_one_refusal_is_not_believed);
	TAP_RUN(test_refused_blob_none_brings_the_whole_commit);
	TAP_RUN(test_unknown_commit_fails);
	TAP_RUN(test_a_thousand_reads_at_once_make_few_calls);
	TAP_RUN(test_a_thousand_waiters_on_one_flight_are_all_called);
	TAP_RUN(test_facts_of_two_repositories_do_not_mix);
	TAP_RUN(test_large_file_is_not_brought_again_when_the_cache_is_full);
	return tap_done();
}
