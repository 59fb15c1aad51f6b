/*
 * Tests of large files in parts: part.c, large.c, range.c, stream.c and prove.c of src/fetch/, with
 * a scripted remote and a real cache.
 */
#include "fetch/large.h"

#include "cache_support.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "cache/claims.h"
#include "fake_remote.h"
#include "fetch/fetch_internal.h"

#define STREAM_CAPS (REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_SIZES | REMOTE_EARLY)
#define RANGE_CAPS (STREAM_CAPS | REMOTE_RANGE)
#define PATIENCE 30000
#define BLOCK CACHE_BLOCK_LEN
#define MIB ((size_t)1 << 20)
#define KIB ((size_t)1 << 10)

static struct remote *remote;
static struct cache *cache;
static struct fetch *fetch;
static char *dir;
static uint64_t large_memory_len;

static struct lock waits_lock;
static struct lock_cond waits_cond;
static unsigned distrusted;
static bool time_goes_by; /* while result() waits; at no other moment */

/* ---- a fetch with all that it needs ---- */

static void on_distrusted(void *arg, const struct oid *oid)
{
	(void)arg;
	fetch_withdrawn(fetch, oid);
	lock_take(&waits_lock);
	distrusted++;
	lock_give(&waits_lock);
}

static unsigned distrusts(void)
{
	unsigned count;

	lock_take(&waits_lock);
	count = distrusted;
	lock_give(&waits_lock);
	return count;
}

static void open_fetch(void)
{
	const struct fetch_config config = {
		.remote = remote,
		.cache = cache,
		.patience_ms = PATIENCE,
		.large_limit = 256 * KIB,
		.name = "test",
		.identity = "test:repo",
		.large_memory_len = large_memory_len,
		.distrusted = on_distrusted,
	};

	fetch_open(&config, &fetch, NULL);
}

static void set_up(unsigned caps)
{
	clock_fake(1000000);
	dir = scratch_dir();
	remote = fake_remote_new(caps);
	cache = open_at(dir);
	distrusted = 0;
	open_fetch();
}

static void open_again(void)
{
	fetch_close(&fetch);
	cache_close(&cache);
	cache = open_at(dir);
	open_fetch();
}

static void tear_down(void)
{
	fetch_close(&fetch);
	fake_remote_free(remote);
	cache_close(&cache);
	scratch_remove(dir);
	large_memory_len = 0;
	time_goes_by = false;
	clock_real();
}

/* ---- a file and its readers ---- */

static struct oid file;
static uint8_t *file_bytes;
static size_t file_size;

/* The same as fake_add_blob(), at "dir/file" of every commit. */
static void make_file(size_t size, uint32_t seed)
{
	file = fake_add_blob(remote, size, seed);
	fake_file(remote, "dir/file", &file);
	free(file_bytes);
	file_bytes = malloc(size);
	file_size = size;
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1664525u + 1013904223u;
		file_bytes[i] = (uint8_t)(seed >> 24);
	}
}

struct wait {
	struct fetch_waiter waiter;
	uint64_t off;
	size_t len;
	bool woken;
	int status; /* of the wake */
	struct content *content;
};

static void on_done(struct fetch_waiter *waiter, int status, struct content *content, uint64_t size)
{
	struct wait *wait = (struct wait *)waiter;

	(void)size;
	lock_take(&waits_lock);
	wait->woken = true;
	wait->status = status;
	wait->content = content ? content_ref(content) : NULL;
	lock_cond_broadcast(&waits_cond);
	lock_give(&waits_lock);
}

static int place(void *arg, struct oid *out_commit, struct buf *out_path)
{
	(void)arg;
	*out_commit = file;
	return buf_add_str(out_path, "dir/file");
}

static int is_right(struct wait *wait, struct spans *spans, struct content *content)
{
	size_t len = wait->off >= file_size	       ? 0 :
		     wait->len < file_size - wait->off ? wait->len :
							 file_size - wait->off;
	size_t done = 0;
	int status = 1;

	if (content && content_read(content, wait->off, wait->len, spans))
		status = -EIO;
	if (spans->len != len)
		status = -ERANGE;
	for (unsigned i = 0; status == 1 && i < spans->count; i++) {
		const struct span *span = &spans->v[i];

		if (memcmp(span->block->data + span->off, file_bytes + wait->off + done, span->len))
			status = -EILSEQ;
		done += span->len;
	}
	spans_release(spans);
	return status;
}

/* 1: it came at once, and is right; 0: parked; an error. */
static int ask_again(struct wait *wait)
{
	const struct fetch_part part = {
		.oid = file,
		.size = file_size,
		.off = wait->off,
		.len = wait->len,
		.place = place,
	};
	struct content *content = wait->content;
	struct spans spans = SPANS_INIT;
	int status = 1;

	wait->content = NULL; /* once it is parked it is on_done()'s */
	if (!content)
		status = fetch_part(fetch, &part, &wait->waiter, &spans, &content);
	if (status == 1)
		status = is_right(wait, &spans, content);
	if (status)
		content_unref(content);
	return status;
}

static int ask_at(struct wait *wait, uint64_t off, size_t len)
{
	*wait = (struct wait){ .off = off, .len = len };
	fetch_waiter_init(&wait->waiter, on_done);
	return ask_again(wait);
}

/* The end of a wait: 1 and right, or an error; 0 stands for "never". */
static int result(struct wait *wait)
{
	int status = 0;

	for (unsigned i = 0; i < 600 && !status; i++) {
		lock_take(&waits_lock);
		if (!wait->woken)
			lock_cond_wait_ms(&waits_cond, &waits_lock, 50);
		if (!wait->woken && time_goes_by)
			clock_fake_advance(100);
		if (wait->woken)
			status = wait->status ? wait->status : 1;
		wait->woken = false;
		lock_give(&waits_lock);
		if (status == 1)
			status = ask_again(wait);
	}
	fetch_waiter_release(&wait->waiter);
	return status;
}

static int read_at(uint64_t off, size_t len)
{
	struct wait wait;
	int status = ask_at(&wait, off, len);

	return status ? status : result(&wait);
}

static bool is_woken(struct wait *wait)
{
	bool woken;

	lock_take(&waits_lock);
	woken = wait->woken;
	lock_give(&waits_lock);
	return woken;
}

/* 1, or the first thing that was not right. */
static int read_all(size_t step)
{
	int status = 1;

	for (uint64_t off = 0; off < file_size && status == 1; off += step)
		status = read_at(off, step);
	return status;
}

/* ---- looking ---- */

/* Until `look` is true; only paces, the look decides. */
#define EVENTUALLY(look)                                                                           \
	({                                                                                         \
		bool seen = false;                                                                 \
		for (unsigned i_ = 0; i_ < 1500 && !(seen = (look)); i_++)                         \
			usleep(10000);                                                             \
		seen;                                                                              \
	})

static bool is_quiet(void)
{
	bool quiet;

	lock_take(&fetch->lock);
	quiet = TAILQ_EMPTY(&fetch->batches) && TAILQ_EMPTY(&fetch->larges.proofs);
	lock_give(&fetch->lock);
	return quiet && fake_ended(remote) == fake_calls(remote);
}

static bool is_whole(void)
{
	struct cache_stat stat;

	cache_flush(cache);
	return !cache_stat(cache, &file, &stat) && stat.has_content;
}

static size_t sent(void)
{
	size_t len = 0;

	for (size_t i = 0; i < fake_calls(remote); i++)
		len += fake_call(remote, i).sent;
	return len;
}

/* Calls for ranges. */
static size_t ranges(void)
{
	size_t count = 0;

	for (size_t i = 0; i < fake_calls(remote); i++)
		count += fake_call(remote, i).range;
	return count;
}

static uint64_t asked(void)
{
	uint64_t len = 0;

	for (size_t i = 0; i < fake_calls(remote); i++)
		len += fake_call(remote, i).len;
	return len;
}

/* The stream has gone as far as it may. */
static bool is_held(void)
{
	const struct large *large;
	bool held;

	lock_take(&fetch->lock);
	large = TAILQ_FIRST(&fetch->larges.all);
	held = large && large->stream && large_stream_held_locked(large->stream) &&
	       !large->stream->scheduled;
	lock_give(&fetch->lock);
	return held;
}

/* ---- streams ---- */

static void test_a_part_is_served_while_the_rest_is_on_its_way(void)
{
	set_up(STREAM_CAPS);
	make_file(8 * MIB, 1);
	fake_stall(remote, 400 * KIB); /* and nothing more for now */
	CHECK_INT(read_at(0, 128 * KIB), 1);
	CHECK_INT(read_at(100, 200 * KIB), 1);
	CHECK_UINT(fake_calls(remote), 1);
	CHECK(!is_whole());
	fake_stall(remote, 0);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK_UINT(fake_calls(remote), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_INT(read_at(MIB + 5, MIB), 1);
	CHECK_UINT(distrusts(), 0);
	tear_down();
}

static void test_without_early_nothing_is_served_before_the_whole(void)
{
	struct wait wait;

	set_up(STREAM_CAPS & ~REMOTE_EARLY);
	make_file(2 * MIB, 1);
	fake_stall(remote, MIB);
	CHECK_INT(ask_at(&wait, 0, 100), 0);
	CHECK(EVENTUALLY(fake_calls(remote) && fake_call(remote, 0).sent == MIB));
	CHECK(!is_woken(&wait));
	fake_stall(remote, 0);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(read_all(MIB), 1);
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

static void test_a_stream_goes_no_further_than_a_window(void)
{
	set_up(STREAM_CAPS);
	make_file(16 * MIB, 1);
	CHECK_INT(read_at(0, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	CHECK(sent() <= 2 * MIB);
	CHECK_INT(read_at(10 * BLOCK, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	CHECK(sent() <= 4 * MIB);
	/* whoever is far ahead is waited for */
	CHECK_INT(read_at(9 * MIB, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	CHECK(sent() <= 11 * MIB);
	tear_down();
}

static void test_a_stream_that_nobody_reads_ends_and_what_came_stays(void)
{
	set_up(STREAM_CAPS);
	make_file(16 * MIB, 1);
	CHECK_INT(read_at(0, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	clock_fake_advance(LARGE_IDLE_MIN_MS - 100);
	fetch_tick(fetch);
	CHECK(EVENTUALLY(is_held())); /* more may have come into its queue just now */
	clock_fake_advance(100);      /* it had only begun */
	CHECK(EVENTUALLY(is_quiet()));
	CHECK(sent() <= 2 * MIB);
	CHECK_INT(read_at(BLOCK, 100), 1);
	clock_fake_advance(LARGE_IDLE_MS + LARGE_KEPT_MS);
	CHECK(EVENTUALLY(!fetch->larges.count));
	CHECK_INT(read_at(BLOCK, 100), 1);
	open_again();
	CHECK_INT(read_at(0, 200), 1);
	CHECK_UINT(fake_calls(remote), 1);
	/* the rest of it is another stream, from the start */
	CHECK_INT(read_all(MIB), 1);
	CHECK_UINT(fake_calls(remote), 2);
	CHECK(EVENTUALLY(is_whole()));
	tear_down();
}

static void test_a_stream_that_breaks_off_is_begun_again(void)
{
	set_up(STREAM_CAPS);
	make_file(3 * MIB, 1);
	time_goes_by = true;
	fake_break(remote, 2);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(fake_calls(remote), 3);
	tear_down();
}

static void test_a_stream_that_breaks_off_again_and_again_ends(void)
{
	struct wait wait;

	set_up(STREAM_CAPS);
	make_file(3 * MIB, 1);
	fake_break(remote, 1000);
	CHECK_INT(read_at(MIB, 100), 1);
	CHECK_INT(ask_at(&wait, 2 * MIB, 100), 0);
	for (unsigned i = 0; i < 10; i++) { /* far enough for the next attempt, not for the end */
		CHECK(EVENTUALLY(is_quiet()));
		clock_fake_advance(10000);
		fetch_tick(fetch);
	}
	CHECK_INT(result(&wait), -EIO);
	tear_down();
}

static void test_a_reader_behind_the_stream_gets_another(void)
{
	set_up(STREAM_CAPS);
	make_file(8 * MIB, 1);
	CHECK_INT(read_at(4 * MIB, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	fetch_close(&fetch); /* what it knows of is lost, and so is the cache */
	cache_close(&cache);
	CHECK_INT(cache_clear(dir, &(uint64_t){ 0 }, NULL), 0);
	cache = open_at(dir);
	open_fetch();
	CHECK_INT(read_at(4 * MIB, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	cache_flush(cache);
	cache_part_drop(cache, &TAILQ_FIRST(&fetch->larges.all)->part.name);
	CHECK_INT(read_at(MIB, 100), 1);
	tear_down();
}

static void test_a_delta_is_shown_only_as_a_whole(void)
{
	struct oid other;

	set_up(STREAM_CAPS);
	make_file(2 * MIB, 1);
	other = fake_add_blob(remote, 2 * MIB, 2);
	fake_include(remote, &file, &other); /* a pack of two is no stream */
	CHECK_INT(read_at(0, 100), 1);
	CHECK_INT(read_at(MIB, 100), 1);
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

static void test_a_wrong_stream_is_withdrawn(void)
{
	int status;

	set_up(STREAM_CAPS);
	make_file(3 * MIB, 1);
	fake_spoil(remote, &file, 3 * MIB - 10);
	CHECK_INT(read_at(0, MIB), 1);
	CHECK_INT(read_at(MIB, MIB), 1);
	/* the last block is wrong, and nobody knew when it came; or everybody knew */
	status = read_at(2 * MIB, MIB);
	CHECK(status == -EILSEQ || status == -EBADMSG);
	CHECK(EVENTUALLY(distrusts()));
	CHECK(EVENTUALLY(is_quiet()));
	cache_flush(cache);
	CHECK(!is_whole());
	CHECK_INT(read_at(0, 100), -EBADMSG); /* it was asked for again, as a whole */
	CHECK_UINT(distrusts(), 1);
	fake_spoil(remote, &file, SIZE_MAX);
	CHECK_INT(read_all(MIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	tear_down();
}

static void test_silence_ends_a_wait_for_a_part(void)
{
	struct wait wait;

	set_up(STREAM_CAPS);
	make_file(3 * MIB, 1);
	fake_hold(remote, true);
	CHECK_INT(ask_at(&wait, 0, 100), 0);
	CHECK(fake_wait_calls(remote, 1));
	clock_fake_advance(PATIENCE);
	CHECK_INT(result(&wait), -ETIMEDOUT);
	fake_hold(remote, false);
	CHECK(EVENTUALLY(is_quiet()));
	clock_fake_advance(PATIENCE); /* the next attempt is due */
	CHECK_INT(read_at(0, 100), 1);
	tear_down();
}

static void test_a_wait_for_a_part_is_cancelled(void)
{
	struct wait wait, other;

	set_up(STREAM_CAPS);
	make_file(3 * MIB, 1);
	fake_hold(remote, true);
	*(&wait) = (struct wait){ .len = 100 };
	fetch_waiter_init(&wait.waiter, on_done);
	CHECK(fetch_cancel(fetch, &wait.waiter)); /* before it began */
	CHECK_INT(ask_again(&wait), -ECANCELED);
	CHECK_INT(ask_at(&wait, 0, 100), 0);
	CHECK_INT(ask_at(&other, 0, 100), 0);
	CHECK(fetch_cancel(fetch, &wait.waiter));
	fake_hold(remote, false);
	CHECK_INT(result(&other), 1);
	CHECK(!is_woken(&wait));
	fetch_waiter_release(&wait.waiter);
	tear_down();
}

static void test_closing_ends_waits_and_paused_streams(void)
{
	struct wait wait;

	set_up(STREAM_CAPS);
	make_file(16 * MIB, 1);
	CHECK_INT(read_at(0, 100), 1);
	CHECK(EVENTUALLY(is_held()));
	fake_stall(remote, 3 * MIB);
	CHECK_INT(ask_at(&wait, 8 * MIB, 100), 0);
	fetch_close(&fetch);
	CHECK_INT(result(&wait), -ECANCELED);
	tear_down();
}

static void test_small_memory_and_no_disk(void)
{
	large_memory_len = BLOCK;
	set_up(STREAM_CAPS);
	cache_close(&cache);
	cache = open_with(&(struct cache_config){ .dir = "/proc/none",
						  .memory_max_len = 1,
						  .queue_max_len = 4 * BLOCK },
			  NULL);
	fetch_close(&fetch);
	open_fetch();
	make_file(8 * MIB, 1);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK_INT(read_all(MIB), 1);
	tear_down();
}

/* ---- of unknown size ---- */

/* 1: it came whole; 2: the size came. */
static int want_unknown(void)
{
	struct wait wait = { 0 };
	struct content *content = NULL;
	int status;

	fetch_waiter_init(&wait.waiter, on_done);
	status = fetch_content(fetch, &file, OBJECT_BLOB, SIZE_UNKNOWN, NULL, &wait.waiter,
			       &content);
	content_unref(content);
	if (status)
		return status;
	if (!EVENTUALLY(is_woken(&wait)))
		return -EAGAIN;
	status = wait.status ? wait.status : wait.content ? 1 : 2;
	content_unref(wait.content);
	return status;
}

static void test_a_want_of_unknown_size_goes_over_to_the_stream(void)
{
	set_up(STREAM_CAPS);
	make_file(8 * MIB, 1);
	fake_stall(remote, 400 * KIB);
	CHECK_INT(want_unknown(), 2);
	CHECK_INT(read_at(0, 100), 1);
	CHECK_UINT(fake_calls(remote), 1);
	fake_stall(remote, 0);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK_UINT(fake_calls(remote), 1);
	CHECK(EVENTUALLY(is_whole()));
	tear_down();
}

static void test_a_want_of_unknown_size_goes_over_to_ranges(void)
{
	set_up(RANGE_CAPS);
	make_file(8 * MIB, 1);
	fake_stall(remote, 400 * KIB);
	CHECK_INT(want_unknown(), 2);
	/* what the pack has begun to bring is shown till ranges come */
	CHECK_INT(read_at(0, 100), 1);
	CHECK_INT(read_at(4 * MIB, 100), 1);
	CHECK(EVENTUALLY(fake_call(remote, 0).cancelled));
	fake_stall(remote, 0);
	CHECK_INT(read_all(MIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(fake_calls(remote) - ranges(), 1);
	tear_down();
}

static int no_company(void *arg, const struct fetch_budget *budget, struct fetch_list *out)
{
	(void)arg;
	(void)budget;
	(void)out;
	return 0;
}

static int its_tree(void *arg, unsigned up, struct oid *out)
{
	*out = *(struct oid *)arg;
	return up ? -ENOENT : 0;
}

/* Of a file that is asked for by itself. 1: at once; 2: it came. */
static int want_size(void)
{
	struct oid tree = fake_add(remote, OBJECT_TREE, "", 0);
	const struct fetch_company company = { .gather = no_company,
					       .tree = its_tree,
					       .arg = &tree };
	struct wait wait = { 0 };
	uint64_t size = 0;
	int status;

	fetch_waiter_init(&wait.waiter, on_done);
	status = fetch_size(fetch, &file, &company, &wait.waiter, &size);
	if (status)
		return status;
	if (!EVENTUALLY(is_woken(&wait)))
		return -EAGAIN;
	content_unref(wait.content);
	return wait.status ? wait.status : 2;
}

static void test_a_size_leaves_its_stream_to_the_read_that_follows(void)
{
	static const unsigned caps[] = { STREAM_CAPS, RANGE_CAPS };

	for (unsigned i = 0; i < 2; i++) {
		set_up(caps[i] & ~(unsigned)REMOTE_SIZES);
		make_file(8 * MIB, 1);
		CHECK_INT(want_size(), 2);
		CHECK_INT(read_at(0, 16 * KIB), 1);
		CHECK_UINT(fake_calls(remote) - ranges(), 1);
		CHECK_INT(read_all(128 * KIB), 1);
		CHECK(EVENTUALLY(is_whole()));
		CHECK_UINT(fake_calls(remote) - ranges(), 1);
		tear_down();
	}
}

static void test_a_size_that_nothing_follows_ends_its_stream(void)
{
	set_up(STREAM_CAPS & ~(unsigned)REMOTE_SIZES);
	make_file(8 * MIB, 1);
	CHECK_INT(want_size(), 2);
	CHECK(EVENTUALLY(is_held()));
	fetch_tick(fetch);
	CHECK(!fake_call(remote, 0).cancelled);
	clock_fake_advance(LARGE_IDLE_MIN_MS);
	fetch_tick(fetch);
	CHECK(EVENTUALLY(fake_call(remote, 0).cancelled));
	CHECK(EVENTUALLY(is_quiet()));
	CHECK(fake_call(remote, 0).sent < MIB);
	tear_down();
}

static void test_a_bridge_stays_where_there_are_no_ranges(void)
{
	set_up(RANGE_CAPS);
	make_file(8 * MIB, 1);
	fake_ranges(remote, FAKE_RANGES_NONE);
	CHECK_INT(want_unknown(), 2);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(fake_calls(remote) - ranges(), 1);
	tear_down();
}

static void test_the_first_bytes_do_not_wait_for_their_block(void)
{
	set_up(STREAM_CAPS);
	make_file(8 * MIB, 1);
	fake_stall(remote, 40 * KIB);
	CHECK_INT(read_at(0, 16 * KIB), 1);
	fake_stall(remote, 0);
	CHECK_INT(read_all(MIB), 1);
	tear_down();
}

static void test_without_early_a_want_of_unknown_size_is_whole(void)
{
	set_up(STREAM_CAPS & ~REMOTE_EARLY);
	make_file(2 * MIB, 1);
	CHECK_INT(want_unknown(), 1);
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

/* ---- ranges ---- */

static void test_a_file_comes_in_ranges(void)
{
	set_up(RANGE_CAPS);
	make_file(10 * MIB + 77, 1);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(asked(), file_size); /* each byte once */
	CHECK_UINT(ranges(), fake_calls(remote));
	CHECK_INT(read_all(MIB), 1);
	CHECK_UINT(asked(), file_size);
	tear_down();
}

static void test_few_ranges_till_one_proves_right(void)
{
	struct wait wait, far;

	set_up(RANGE_CAPS);
	make_file(10 * MIB, 1);
	fake_hold(remote, true);
	CHECK_INT(ask_at(&wait, 0, 100), 0);
	CHECK_INT(ask_at(&far, 8 * MIB, 100), 0);
	CHECK(fake_wait_calls(remote, 8));
	fetch_tick(fetch);
	CHECK_UINT(fake_calls(remote), 8);
	fake_hold(remote, false);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(result(&far), 1);
	CHECK(EVENTUALLY(is_quiet()));
	CHECK_UINT(asked(), MIB + BLOCK); /* the first window, and one block far away */
	tear_down();
}

static void test_a_far_read_asks_for_its_own_blocks(void)
{
	set_up(RANGE_CAPS);
	make_file(32 * MIB, 1);
	CHECK_INT(read_at(20 * MIB, 10), 1);
	CHECK_UINT(asked(), BLOCK);
	CHECK_INT(read_at(9 * MIB + 100, MIB), 1);
	CHECK_UINT(asked(), BLOCK + 9 * BLOCK);
	CHECK_UINT(fake_calls(remote), 2);
	CHECK_INT(read_at(32 * MIB - 5, 100), 1);
	CHECK_UINT(asked(), 11 * BLOCK);
	CHECK_INT(read_at(20 * MIB + 1000, 50), 1);
	CHECK_UINT(fake_calls(remote), 3);
	tear_down();
}

static void test_readers_of_one_block_share_its_flight(void)
{
	struct wait waits[5];

	set_up(RANGE_CAPS);
	make_file(32 * MIB, 1);
	fake_hold(remote, true);
	for (unsigned i = 0; i < 5; i++)
		CHECK_INT(ask_at(&waits[i], 20 * MIB + i * 10, 1000), 0);
	fake_hold(remote, false);
	for (unsigned i = 0; i < 5; i++)
		CHECK_INT(result(&waits[i]), 1);
	CHECK(EVENTUALLY(is_quiet()));
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

static void test_a_refusal_goes_over_to_the_stream(void)
{
	struct wait first, second;

	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	fake_ranges(remote, FAKE_RANGES_NONE);
	fake_hold(remote, true);
	CHECK_INT(ask_at(&first, 0, 100), 0);
	CHECK_INT(ask_at(&second, 2 * MIB, 100), 0);
	fake_hold(remote, false);
	CHECK_INT(result(&first), 1);
	CHECK_INT(result(&second), 1);
	CHECK(ranges() <= 8);
	CHECK_UINT(fake_calls(remote) - ranges(), 1);
	CHECK_INT(read_all(MIB), 1);
	/* and it is remembered */
	open_again();
	make_file(4 * MIB, 2);
	CHECK_INT(read_all(MIB), 1);
	CHECK(ranges() <= 8);
	CHECK_UINT(fake_calls(remote) - ranges(), 2);
	tear_down();
}

static void test_a_whole_file_in_answer_is_kept(void)
{
	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	fake_ranges(remote, FAKE_RANGES_WHOLE);
	CHECK_INT(read_at(MIB, 100), 1);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(fake_calls(remote), 1);
	CHECK_UINT(sent(), 4 * MIB);
	make_file(4 * MIB, 2);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK_UINT(ranges(), 1);
	tear_down();
}

static void test_a_whole_file_in_answer_to_its_beginning(void)
{
	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	fake_ranges(remote, FAKE_RANGES_WHOLE);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(ranges(), fake_calls(remote)); /* it is not asked for in another way as well */
	CHECK(ranges() <= 11);			  /* few, and each breaks off soon */
	CHECK(sent() <= file_size + MIB);
	tear_down();
}

static bool is_streaming(void)
{
	const struct large *large;
	bool streaming;

	lock_take(&fetch->lock);
	large = TAILQ_FIRST(&fetch->larges.all);
	streaming = large && large->stream;
	lock_give(&fetch->lock);
	return streaming;
}

/* As the end of another call does, which the remote's one thread cannot bring at the same time. */
static void refuse_ranges(void)
{
	lock_take(&fetch->lock);
	fetch->larges.refused = true;
	lock_give(&fetch->lock);
}

static void test_a_whole_file_that_is_on_its_way_is_not_asked_for_again(void)
{
	struct wait waits[2];

	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	fake_ranges(remote, FAKE_RANGES_WHOLE);
	fake_stall(remote, MIB);
	CHECK_INT(read_at(0, 100), 1);
	CHECK_INT(ask_at(&waits[0], 2 * MIB, 100), 0);
	CHECK(EVENTUALLY(is_streaming()));
	refuse_ranges();
	CHECK_INT(ask_at(&waits[1], 3 * MIB, 100), 0);
	fake_stall(remote, 0);
	CHECK_INT(result(&waits[0]), 1);
	CHECK_INT(result(&waits[1]), 1);
	CHECK_INT(read_all(MIB), 1);
	CHECK_UINT(ranges(), fake_calls(remote));
	tear_down();
}

static void test_a_file_of_another_length_is_none(void)
{
	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	fake_ranges(remote, FAKE_RANGES_LONGER);
	CHECK_INT(read_all(MIB), 1);
	CHECK(ranges() <= 8);
	CHECK_UINT(fake_calls(remote) - ranges(), 1);
	tear_down();
}

static void test_a_failed_range_goes_on_where_it_broke_off(void)
{
	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	time_goes_by = true;
	fake_fail(remote, 2, REMOTE_TRANSIENT, true, 0);
	CHECK_INT(read_all(128 * KIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	/* the two that failed asked for what the third brought */
	CHECK(asked() <= file_size + 2 * 256 * KIB);
	tear_down();
}

static void test_failures_without_end_end(void)
{
	struct wait wait;

	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	fake_fail(remote, 1000, REMOTE_TRANSIENT, true, 0);
	CHECK_INT(ask_at(&wait, 0, 100), 0);
	for (unsigned i = 0; i < 10; i++) {
		CHECK(EVENTUALLY(is_quiet()));
		clock_fake_advance(4500);
		fetch_tick(fetch);
	}
	CHECK_INT(result(&wait), -EIO);
	fake_fail(remote, 0, REMOTE_OK, true, 0);
	clock_fake_advance(10000);
	CHECK_INT(read_at(0, 100), 1);
	tear_down();
}

static void test_wrong_ranges_are_withdrawn(void)
{
	int status;

	set_up(RANGE_CAPS);
	make_file(3 * MIB, 1);
	fake_spoil(remote, &file, MIB + 10);
	CHECK_INT(read_at(0, 100 * KIB), 1);
	CHECK_INT(read_at(2 * MIB, MIB), 1);
	CHECK_INT(read_at(MIB, 10), 1);
	status = read_at(MIB, 20);
	CHECK(status == -EILSEQ || status == -EBADMSG); /* who could know: or knows already */
	for (uint64_t off = 0; off < file_size && !distrusts(); off += BLOCK)
		read_at(off, BLOCK);
	CHECK(EVENTUALLY(distrusts()));
	CHECK(!is_whole());
	CHECK_INT(read_at(0, 100), -EBADMSG);
	fake_spoil(remote, &file, SIZE_MAX);
	CHECK_INT(read_all(MIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(distrusts(), 1);
	tear_down();
}

static void test_the_budget_bounds_the_calls(void)
{
	struct wait waits[8];

	large_memory_len = 4 * BLOCK;
	set_up(RANGE_CAPS);
	make_file(64 * MIB, 1);
	CHECK_INT(read_at(0, 100), 1); /* ranges are proven */
	CHECK(EVENTUALLY(is_quiet()));
	CHECK_UINT(asked(), MIB);
	fake_hold(remote, true);
	for (unsigned i = 0; i < 8; i++)
		CHECK_INT(ask_at(&waits[i], (i + 1) * 7 * MIB, MIB), 0);
	CHECK(EVENTUALLY(fetch->larges.ranges));
	fetch_tick(fetch);
	CHECK_UINT(budget_used(&fetch->larges.budget), 4 * BLOCK);
	fake_hold(remote, false);
	for (unsigned i = 0; i < 8; i++)
		CHECK_INT(result(&waits[i]), 1);
	CHECK(EVENTUALLY(is_quiet()));
	CHECK_UINT(budget_used(&fetch->larges.budget), 0);
	tear_down();
}

static void test_no_reader_is_left_without_a_block(void)
{
	struct wait wait;

	large_memory_len = BLOCK / 2;
	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	CHECK_INT(ask_at(&wait, MIB, MIB), 0);
	CHECK_INT(result(&wait), 1);
	CHECK_UINT(fake_calls(remote), 8);
	tear_down();
}

static void test_what_came_is_served_offline(void)
{
	struct fetch_config config;
	struct wait wait;

	set_up(RANGE_CAPS);
	make_file(8 * MIB, 1);
	CHECK_INT(read_at(5 * MIB, 100), 1);
	CHECK(EVENTUALLY(is_quiet())); /* the reader had its bytes before the block was whole */
	fetch_close(&fetch);
	config = (struct fetch_config){
		.cache = cache, .offline = true, .large_limit = 256 * KIB, .identity = "test:repo"
	};
	fetch_open(&config, &fetch, NULL);
	CHECK_INT(read_at(5 * MIB + 10, 100), 1);
	CHECK_INT(ask_at(&wait, 0, 10), -ENETUNREACH);
	fetch_waiter_release(&wait.waiter);
	fetch_close(&fetch);
	/* another repository does not believe this one's parts */
	config.identity = "test:other";
	fetch_open(&config, &fetch, NULL);
	CHECK_INT(ask_at(&wait, 5 * MIB, 100), -ENETUNREACH);
	fetch_waiter_release(&wait.waiter);
	tear_down();
}

static void test_without_a_waiter_nothing_is_asked_for(void)
{
	struct fetch_part part;
	struct spans spans = SPANS_INIT;
	struct content *content;

	set_up(RANGE_CAPS);
	make_file(4 * MIB, 1);
	part = (struct fetch_part){ .oid = file, .size = file_size, .off = MIB, .len = 100 };
	CHECK_INT(fetch_part(fetch, &part, NULL, &spans, &content), -EAGAIN);
	CHECK_UINT(fake_calls(remote), 0);
	CHECK_INT(read_at(MIB, 100), 1);
	/* who waits is answered before the cache has it */
	CHECK(EVENTUALLY(fetch_part(fetch, &part, NULL, &spans, &content) == 1));
	CHECK_UINT(spans.len, 100);
	spans_release(&spans);
	part.off = file_size;
	CHECK_INT(fetch_part(fetch, &part, NULL, &spans, &content), 1);
	CHECK_UINT(spans.len, 0);
	part.off = 0;
	part.size = UINT64_MAX; /* a lie */
	CHECK_INT(fetch_part(fetch, &part, NULL, &spans, &content), -EAGAIN);
	tear_down();
}

/* ---- another process: what it claims, and puts into the cache ---- */

static struct claims *other_process(void)
{
	char *v1 = path_of(dir, "v1");
	int fd = open(v1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct claims *claims = claims_open(fd);

	close(fd);
	free(v1);
	return claims;
}

static struct cache_part part_of_file(void)
{
	struct cache_part part;

	lock_take(&fetch->lock);
	part = TAILQ_FIRST(&fetch->larges.all)->part;
	lock_give(&fetch->lock);
	return part;
}

/* A file of 64 blocks in ranges, of which this process has read the first bytes. */
static struct claims *beside_another(struct cache_part *out_part)
{
	struct claims *other;
	bool quiet;

	set_up(RANGE_CAPS);
	make_file(64 * BLOCK, 1);
	other = other_process();
	quiet = read_at(0, 100) == 1 && EVENTUALLY(is_quiet());
	if (!quiet)
		tap_fail(__FILE__, __LINE__, "the first read did not end well");
	*out_part = part_of_file();
	return other;
}

static bool claim(struct claims *other, const struct cache_part *part, uint32_t first,
		  uint32_t count)
{
	uint32_t others;

	/* what this process had claimed is given up a moment after it came */
	return EVENTUALLY(claims_take_blocks(other, &part->name, first, count, &others) == count);
}

static int bring(const struct cache_part *part, uint32_t first, uint32_t count)
{
	int status = 0;

	for (uint32_t i = first; i < first + count && !status; i++) {
		struct block *block = block_copy(file_bytes + (size_t)i * BLOCK, BLOCK);

		status = cache_part_put(cache, part, i, block, 1000);
		block_unref(block);
	}
	return status;
}

static uint64_t asked_from(uint64_t off)
{
	uint64_t len = 0;

	for (size_t i = 0; i < fake_calls(remote); i++) {
		struct fake_seen call = fake_call(remote, i);

		if (call.range && call.off + call.len > off)
			len += call.off + call.len - (call.off > off ? call.off : off);
	}
	return len;
}

static bool is_here(uint32_t index)
{
	bool here;

	lock_take(&fetch->lock);
	here = bit_is_set(TAILQ_FIRST(&fetch->larges.all)->here, index);
	lock_give(&fetch->lock);
	return here;
}

static bool waits_for_others(void)
{
	bool waits;

	lock_take(&fetch->lock);
	waits = fetch->larges.elsewhere || !TAILQ_EMPTY(&fetch->elsewhere);
	lock_give(&fetch->lock);
	return waits;
}

static void test_blocks_that_another_fetches_are_waited_for(void)
{
	struct claims *other;
	struct cache_part part;
	struct wait wait;

	other = beside_another(&part);
	TAP_STOP();
	CHECK(claim(other, &part, 32, 32));
	CHECK_INT(ask_at(&wait, 5 * MIB, MIB), 0);
	CHECK(EVENTUALLY(waits_for_others()));
	CHECK_INT(bring(&part, 32, 32), 0);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(read_at(4 * MIB, MIB), 1);
	claims_unref(other);
	CHECK(EVENTUALLY(!waits_for_others()));
	CHECK_INT(read_all(MIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(asked_from(4 * MIB), 0);
	tear_down();
}

/* The other one has gone on and put them there: nobody told. */
static void test_blocks_that_another_brought_are_not_asked_for(void)
{
	struct claims *other;
	struct cache_part part;

	other = beside_another(&part);
	TAP_STOP();
	CHECK_INT(bring(&part, 24, 40), 0);
	CHECK_INT(read_all(MIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(asked_from(3 * MIB), 0);
	claims_unref(other);
	tear_down();
}

static void test_whoever_ends_is_not_waited_for(void)
{
	struct claims *other;
	struct cache_part part;
	struct wait wait;

	other = beside_another(&part);
	TAP_STOP();
	CHECK(claim(other, &part, 32, 32));
	CHECK_INT(ask_at(&wait, 4 * MIB, MIB), 0);
	CHECK(EVENTUALLY(waits_for_others()));
	claims_unref(other);
	CHECK_INT(result(&wait), 1);
	CHECK(!waits_for_others());
	tear_down();
}

static void test_whoever_brings_nothing_is_not_waited_for_long(void)
{
	struct claims *other;
	struct cache_part part;
	struct wait wait;

	other = beside_another(&part);
	TAP_STOP();
	CHECK(claim(other, &part, 0, 64));
	CHECK_INT(ask_at(&wait, 4 * MIB, MIB), 0);
	CHECK(EVENTUALLY(waits_for_others()));
	clock_fake_advance(2900);
	fetch_tick(fetch);
	CHECK(waits_for_others());
	clock_fake_advance(200);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(read_all(MIB), 1); /* nor is anything that it claims */
	CHECK(EVENTUALLY(is_whole()));
	claims_unref(other);
	tear_down();
}

/* It goes on bringing something, but so little that a player would be fast beside it. */
static void test_whoever_is_slow_is_not_waited_for_long(void)
{
	struct claims *other;
	struct cache_part part;
	struct wait wait;

	other = beside_another(&part);
	TAP_STOP();
	CHECK(claim(other, &part, 0, 64));
	CHECK_INT(ask_at(&wait, 4 * MIB, MIB), 0);
	CHECK(EVENTUALLY(waits_for_others()));
	clock_fake_advance(2000);
	CHECK_INT(bring(&part, 32, 1), 0);
	CHECK(EVENTUALLY(is_here(32)));
	clock_fake_advance(1100);
	CHECK_INT(result(&wait), 1);
	claims_unref(other);
	tear_down();
}

/* More readers than are looked after one by one. */
static void test_many_readers_beside_another_process_all_get_theirs(void)
{
	static struct wait waits[400];
	bool parked[400];
	struct claims *other;
	int status;

	set_up(RANGE_CAPS);
	make_file(401 * BLOCK, 1);
	other = other_process();
	for (unsigned i = 0; i < 400; i++) {
		status = ask_at(&waits[i], (uint64_t)(i * 7 % 400) * BLOCK, 100);
		CHECK(status >= 0);
		parked[i] = !status;
		if (status)
			fetch_waiter_release(&waits[i].waiter);
	}
	for (unsigned i = 0; i < 400; i++)
		CHECK(!parked[i] || result(&waits[i]) == 1);
	CHECK(asked() <= file_size);
	claims_unref(other);
	tear_down();
}

static void test_a_stream_of_another_is_read_while_it_comes(void)
{
	struct claims *other;
	struct cache_part part;
	struct wait wait;

	set_up(STREAM_CAPS);
	make_file(4 * MIB, 1);
	other = other_process();
	CHECK(claims_take(other, &file, CLAIM_OBJECT));
	CHECK_INT(ask_at(&wait, 0, 100), 0);
	CHECK(EVENTUALLY(waits_for_others()));
	part = part_of_file();
	CHECK_INT(bring(&part, 0, 8), 0);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(ask_at(&wait, MIB, MIB), 0);
	CHECK_INT(bring(&part, 8, 8), 0);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(bring(&part, 16, 16), 0);
	claims_give(other, &file, CLAIM_OBJECT);
	CHECK_INT(read_all(MIB), 1);
	CHECK(EVENTUALLY(is_whole()));
	CHECK_UINT(fake_calls(remote), 0);
	claims_unref(other);
	tear_down();
}

static void test_a_stream_that_another_lets_go_of_is_gone_on_with(void)
{
	struct claims *other;
	struct cache_part part;
	struct wait wait;

	set_up(STREAM_CAPS);
	make_file(4 * MIB, 1);
	other = other_process();
	CHECK(claims_take(other, &file, CLAIM_OBJECT));
	CHECK_INT(ask_at(&wait, 2 * MIB, 100), 0);
	CHECK(EVENTUALLY(waits_for_others()));
	part = part_of_file();
	CHECK_INT(bring(&part, 0, 8), 0);
	claims_unref(other);
	CHECK_INT(result(&wait), 1);
	CHECK_INT(read_all(MIB), 1);
	CHECK_UINT(fake_calls(remote), 1);
	tear_down();
}

int main(int argc, char **argv)
{
	const struct log_config quiet = { .level = LOG_LEVEL_ERROR, .to_stderr = true };

	(void)argc;
	log_open(&quiet, NULL);
	lock_init(&waits_lock);
	lock_cond_init(&waits_cond);
	tap_args(argv);
	TAP_RUN(test_a_part_is_served_while_the_rest_is_on_its_way);
	TAP_RUN(test_without_early_nothing_is_served_before_the_whole);
	TAP_RUN(test_a_stream_goes_no_further_than_a_window);
	TAP_RUN(test_a_stream_that_nobody_reads_ends_and_what_came_stays);
	TAP_RUN(test_a_stream_that_breaks_off_is_begun_again);
	TAP_RUN(test_a_stream_that_breaks_off_again_and_again_ends);
	TAP_RUN(test_a_reader_behind_the_stream_gets_another);
	TAP_RUN(test_a_delta_is_shown_only_as_a_whole);
	TAP_RUN(test_a_wrong_stream_is_withdrawn);
	TAP_RUN(test_silence_ends_a_wait_for_a_part);
	TAP_RUN(test_a_wait_for_a_part_is_cancelled);
	TAP_RUN(test_closing_ends_waits_and_paused_streams);
	TAP_RUN(test_small_memory_and_no_disk);
	TAP_RUN(test_a_want_of_unknown_size_goes_over_to_the_stream);
	TAP_RUN(test_a_want_of_unknown_size_goes_over_to_ranges);
	TAP_RUN(test_a_size_leaves_its_stream_to_the_read_that_follows);
	TAP_RUN(test_a_size_that_nothing_follows_ends_its_stream);
	TAP_RUN(test_a_bridge_stays_where_there_are_no_ranges);
	TAP_RUN(test_the_first_bytes_do_not_wait_for_their_block);
	TAP_RUN(test_without_early_a_want_of_unknown_size_is_whole);
	TAP_RUN(test_a_file_comes_in_ranges);
	TAP_RUN(test_few_ranges_till_one_proves_right);
	TAP_RUN(test_a_far_read_asks_for_its_own_blocks);
	TAP_RUN(test_readers_of_one_block_share_its_flight);
	TAP_RUN(test_a_refusal_goes_over_to_the_stream);
	TAP_RUN(test_a_whole_file_in_answer_is_kept);
	TAP_RUN(test_a_whole_file_in_answer_to_its_beginning);
	TAP_RUN(test_a_whole_file_that_is_on_its_way_is_not_asked_for_again);
	TAP_RUN(test_a_file_of_another_length_is_none);
	TAP_RUN(test_a_failed_range_goes_on_where_it_broke_off);
	TAP_RUN(test_failures_without_end_end);
	TAP_RUN(test_wrong_ranges_are_withdrawn);
	TAP_RUN(test_the_budget_bounds_the_calls);
	TAP_RUN(test_no_reader_is_left_without_a_block);
	TAP_RUN(test_what_came_is_served_offline);
	TAP_RUN(test_without_a_waiter_nothing_is_asked_for);
	TAP_RUN(test_blocks_that_another_fetches_are_waited_for);
	TAP_RUN(test_blocks_that_another_brought_are_not_asked_for);
	TAP_RUN(test_whoever_ends_is_not_waited_for);
	TAP_RUN(test_whoever_brings_nothing_is_not_waited_for_long);
	TAP_RUN(test_whoever_is_slow_is_not_waited_for_long);
	TAP_RUN(test_many_readers_beside_another_process_all_get_theirs);
	TAP_RUN(test_a_stream_of_another_is_read_while_it_comes);
	TAP_RUN(test_a_stream_that_another_lets_go_of_is_gone_on_with);
	free(file_bytes);
	return tap_done();
}
