/*
 * Tests of mount/parked.c, with libfuse's half of an interrupt played here by its own rules: the
 * function is called with the request's lock held, at once when the interrupt was there before, and
 * taking it out waits for one that is running. Every request must be answered exactly once, and the
 * sanitizers say whether anything was used after its end.
 */
#include "mount/parked.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#include "base/clock.h"
#include "mount/session_internal.h"
#include "tests/fake_repo.h"
#include "tests/tap.h"

/* ---- libfuse, and op_finish() ---- */

struct fuse_req {
	pthread_mutex_t lock;
	_Atomic fuse_interrupt_func_t func; /* under lock, but for a look by op_finish() */
	void *data;
	bool interrupted;
	bool func_was_set; /* when it was answered */

	_Atomic unsigned answers;
	_Atomic int status;

	/* what run() is to do */
	const void *key;
	_Atomic int to_park; /* parks so often before it answers */
	_Atomic unsigned runs;
	int result;
	void (*before_park)(struct fuse_req *req);
	void (*after_park)(struct fuse_req *req);
};

void fuse_req_interrupt_func(fuse_req_t req, fuse_interrupt_func_t func, void *data)
{
	pthread_mutex_lock(&req->lock);
	req->func = func;
	req->data = data;
	if (req->interrupted && func)
		func(req, data);
	pthread_mutex_unlock(&req->lock);
}

static void interrupt(struct fuse_req *req)
{
	pthread_mutex_lock(&req->lock);
	req->interrupted = true;
	fuse_interrupt_func_t func = req->func;

	if (func)
		func(req, req->data);
	pthread_mutex_unlock(&req->lock);
}

void op_finish(struct op *op, int status, bool parked)
{
	(void)parked;
	op->req->status = status;
	op->req->func_was_set = op->req->func != NULL;
	/* As freeing the request does; only an interrupt, which holds the lock, may come so. */
	if (op->req->func)
		op->req->func = NULL;
	op->req->answers++;
}

static int run(struct op *op, struct repo_wait *wait)
{
	struct fuse_req *req = op->req;

	req->runs++;
	if (req->to_park <= 0)
		return req->result;
	req->to_park--;
	void (*after_park)(struct fuse_req *) = req->after_park;

	if (req->before_park)
		req->before_park(req);
	int rc = fake_park(wait, req->key);

	/* From here on nothing but the request, which this test keeps, may be touched. */
	if (rc == REPO_PARKED && after_park)
		after_park(req);
	return rc;
}

static const struct op_class class = { SESSION_GETATTR, run, NULL };

/* ---- arranging ---- */

static struct parked_list list;
static struct session session;

static void request_init(struct fuse_req *req, int to_park)
{
	memset(req, 0, sizeof(*req));
	pthread_mutex_init(&req->lock, NULL);
	req->key = req;
	req->to_park = to_park;
}

static void start(struct fuse_req *req)
{
	struct op op = { .class = &class, .session = &session, .req = req, .start_ns = clock_ns() };

	parked_start(&list, &op);
}

static uint64_t parked_now(void)
{
	uint64_t now, max;

	parked_list_count(&list, &now, &max);
	return now;
}

#define CHECK_ANSWERED(req, want)                                                                  \
	do {                                                                                       \
		CHECK_UINT((req).answers, 1);                                                      \
		CHECK_INT((req).status, want);                                                     \
		CHECK_UINT(fake_waiting(), 0);                                                     \
		CHECK_UINT(parked_now(), 0);                                                       \
	} while (0)

/* ---- one at a time ---- */

static void test_what_answers_at_once_is_answered(void)
{
	struct fuse_req req;

	request_init(&req, 0);
	start(&req);
	CHECK_ANSWERED(req, 0);
	CHECK(!req.func_was_set);
}

static void test_a_wake_runs_it_again(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	start(&req);
	CHECK_UINT(req.answers, 0);
	CHECK_UINT(parked_now(), 1);
	CHECK_UINT(fake_wake(&req, 0), 1);
	CHECK_ANSWERED(req, 0);
	CHECK_UINT(req.runs, 2);
	CHECK(!req.func_was_set);
}

static void test_it_may_park_again(void)
{
	struct fuse_req req;

	request_init(&req, 3);
	start(&req);
	for (int i = 0; i < 3; i++) {
		CHECK_UINT(req.answers, 0);
		CHECK_UINT(fake_wake(&req, 0), 1);
	}
	CHECK_ANSWERED(req, 0);
}

static void test_the_error_of_a_wait_is_eio_without_another_run(void)
{
	static const int statuses[] = { -ENOENT, -ETIMEDOUT, -EBADMSG, -ENETUNREACH, -ECANCELED };

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		struct fuse_req req;

		request_init(&req, 1);
		start(&req);
		CHECK_UINT(fake_wake(&req, statuses[i]), 1);
		CHECK_ANSWERED(req, -EIO);
		CHECK_UINT(req.runs, 1);
	}
}

static void test_an_interrupt_ends_the_wait(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	start(&req);
	interrupt(&req);
	CHECK_ANSWERED(req, -EINTR);
	CHECK_UINT(req.runs, 1);
}

static void test_an_interrupt_that_was_there_before_starts_nothing(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	req.interrupted = true;
	start(&req);
	CHECK_ANSWERED(req, -EINTR);
	CHECK_UINT(req.runs, 0);
	CHECK(!req.func_was_set);
}

static void test_an_interrupt_before_the_registration_ends_it(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	req.before_park = interrupt;
	start(&req);
	CHECK_ANSWERED(req, -EINTR);
	CHECK(!req.func_was_set);
}

static void test_an_interrupt_between_registration_and_return_ends_it(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	req.after_park = interrupt;
	start(&req);
	CHECK_ANSWERED(req, -EINTR);
	CHECK(!req.func_was_set);
}

static void test_an_interrupt_does_not_spoil_an_answer(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	start(&req);
	req.before_park = NULL;
	CHECK_UINT(fake_wake(&req, 0), 1);
	interrupt(&req);
	CHECK_ANSWERED(req, 0);
}

static void test_an_interrupt_during_a_second_run_ends_it(void)
{
	struct fuse_req req;

	request_init(&req, 2);
	start(&req);
	req.before_park = interrupt;
	CHECK_UINT(fake_wake(&req, 0), 1);
	CHECK_ANSWERED(req, -EINTR);
	CHECK_UINT(req.runs, 2);
}

static void wake_it(struct fuse_req *req)
{
	fake_wake(req, 0);
}

static void fail_it(struct fuse_req *req)
{
	fake_wake(req, -EBADMSG);
}

static void test_a_wake_before_the_return_is_not_lost(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	req.after_park = wake_it;
	start(&req);
	CHECK_ANSWERED(req, 0);
	CHECK_UINT(req.runs, 2);
}

static void test_an_error_before_the_return_is_not_lost(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	req.after_park = fail_it;
	start(&req);
	CHECK_ANSWERED(req, -EIO);
	CHECK_UINT(req.runs, 1);
}

static void wake_and_interrupt(struct fuse_req *req)
{
	fake_wake(req, 0);
	interrupt(req);
}

static void test_woken_and_interrupted_before_the_return(void)
{
	struct fuse_req req;

	request_init(&req, 2);
	req.after_park = wake_and_interrupt;
	start(&req);
	CHECK_UINT(req.answers, 1);
	CHECK(req.status == 0 || req.status == -EINTR);
	CHECK_UINT(parked_now(), 0);
	CHECK_UINT(fake_waiting(), 0);
}

/* ---- one that waits for another's reply ---- */

struct blind_pair {
	struct fake *fake;
	struct node *file;
	struct fuse_req read, stat;
	unsigned read_answers; /* when the stat was answered */
};

static int run_blind_read(struct op *op, struct repo_wait *wait)
{
	if (wait)
		fake_blind_begin(op->node, wait);
	return run(op, wait);
}

static int run_blind_stat(struct op *op, struct repo_wait *wait)
{
	struct blind_pair *pair = (struct blind_pair *)op->req->key;
	int rc = fake_blind_pass(op->node, wait);

	if (rc == 0)
		pair->read_answers = pair->read.answers;
	return rc;
}

static const struct op_class blind_read_class = { SESSION_READ_HIT, run_blind_read, NULL };
static const struct op_class blind_stat_class = { SESSION_GETATTR, run_blind_stat, NULL };

static void start_on(struct fuse_req *req, const struct op_class *what, struct node *node)
{
	struct op op = { .class = what, .session = &session, .req = req, .start_ns = clock_ns() };

	op.node = node;
	parked_start(&list, &op);
}

static void blind_pair_start(struct blind_pair *pair)
{
	struct node_table *nodes;

	memset(pair, 0, sizeof(*pair));
	pair->fake = fake_new(&nodes);
	pair->file = fake_add(pair->fake, fake_root(pair->fake), "file", 0100644, 10);
	request_init(&pair->read, 2);
	request_init(&pair->stat, 0);
	pair->stat.key = pair;
	start_on(&pair->read, &blind_read_class, pair->file);
	start_on(&pair->stat, &blind_stat_class, pair->file);
	CHECK_UINT(fake_waiting(), 2);
}

static void wake_twice(struct fuse_req *read)
{
	fake_wake(read, 0); /* it parks again */
	fake_wake(read, 0);
}

static void expire_it(struct fuse_req *read)
{
	(void)read;
	parked_list_expire(&list, clock_ns());
}

/* However a blind read ends, it has been replied to before anybody is told the size. */
static void test_the_reply_comes_before_who_waits_for_it(void)
{
	static const struct {
		void (*end)(struct fuse_req *read);
		int read_status;
	} rows[] = {
		{ wake_twice, 0 },
		{ fail_it, -EIO },
		{ interrupt, -EINTR },
		{ expire_it, -EIO },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct blind_pair pair;

		blind_pair_start(&pair);
		rows[i].end(&pair.read);
		CHECK_ANSWERED(pair.read, rows[i].read_status);
		CHECK_ANSWERED(pair.stat, 0);
		CHECK_UINT(pair.read_answers, 1);
		fake_free(pair.fake);
	}
}

static void test_who_waits_for_a_reply_can_be_interrupted(void)
{
	struct blind_pair pair;

	blind_pair_start(&pair);
	interrupt(&pair.stat);
	CHECK_UINT(pair.stat.answers, 1);
	CHECK_UINT(pair.read.answers, 0);
	wake_twice(&pair.read);
	CHECK_ANSWERED(pair.stat, -EINTR);
	CHECK_ANSWERED(pair.read, 0);
	fake_free(pair.fake);
}

/* ---- all together ---- */

static void test_expiring_ends_the_old_and_leaves_the_young(void)
{
	struct fuse_req old, young;

	request_init(&old, 1);
	request_init(&young, 1);
	start(&old);
	uint64_t between_ns = clock_ns();
	start(&young);
	CHECK_UINT(parked_list_expire(&list, between_ns), 1);
	CHECK_UINT(old.answers, 1);
	CHECK_INT(old.status, -EIO);
	CHECK_UINT(young.answers, 0);
	fake_wake(&young, 0);
	CHECK_ANSWERED(young, 0);
}

static void test_counts_now_and_most(void)
{
	struct fuse_req reqs[5];
	uint64_t now, max;

	for (int i = 0; i < 5; i++) {
		request_init(&reqs[i], 1);
		reqs[i].key = reqs;
		start(&reqs[i]);
	}
	parked_list_count(&list, &now, &max);
	CHECK_UINT(now, 5);
	CHECK_UINT(max, 5);
	CHECK_UINT(fake_wake(reqs, 0), 5);
	parked_list_count(&list, &now, &max);
	CHECK_UINT(now, 0);
	CHECK_UINT(max, 5);
}

/*
 * ---- storms: every request is started, woken and interrupted by different threads at the same
 * time ----
 */

#define STORM_COUNT 20000
#define STORM_KEYS 16

static struct fuse_req *storm;
static _Atomic unsigned storm_started;
static _Atomic bool storm_over;

static void *storm_start(void *arg)
{
	(void)arg;
	for (;;) {
		unsigned i = atomic_fetch_add(&storm_started, 1);

		if (i >= STORM_COUNT)
			return NULL;
		start(&storm[i]);
	}
}

static void *storm_wake(void *arg)
{
	(void)arg;
	while (!storm_over)
		for (unsigned key = 0; key < STORM_KEYS; key++)
			fake_wake(&storm[key], key % 5 ? 0 : -EIO);
	return NULL;
}

static void *storm_interrupt(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	while (!storm_over) {
		unsigned started = storm_started < STORM_COUNT ? storm_started : STORM_COUNT;

		if (started > 0) {
			unsigned back = (unsigned)rand_r(&seed) % 64;

			interrupt(&storm[started - 1 > back ? started - 1 - back : 0]);
		}
	}
	return NULL;
}

static void storm_prepare(void)
{
	storm = calloc(STORM_COUNT, sizeof(*storm));
	for (unsigned i = 0; i < STORM_COUNT; i++) {
		request_init(&storm[i], (int)(i % 4));
		storm[i].key = &storm[i % STORM_KEYS];
	}
	storm_started = 0;
	storm_over = false;
}

static void storm_check(void)
{
	unsigned statuses[3] = { 0 };

	for (unsigned i = 0; i < STORM_COUNT; i++) {
		CHECK_MSG(storm[i].answers == 1, "request %u", i);
		statuses[storm[i].status == 0 ? 0 : storm[i].status == -EINTR ? 1 : 2]++;
	}
	printf("# %u answered, %u interrupted, %u failed\n", statuses[0], statuses[1], statuses[2]);
	CHECK_UINT(parked_now(), 0);
	CHECK_UINT(fake_waiting(), 0);
	free(storm);
}

static void test_each_of_a_storm_is_answered_once(void)
{
	pthread_t starters[2], wakers[2], interrupters[2];

	storm_prepare();
	for (int i = 0; i < 2; i++) {
		pthread_create(&starters[i], NULL, storm_start, NULL);
		pthread_create(&wakers[i], NULL, storm_wake, NULL);
		pthread_create(&interrupters[i], NULL, storm_interrupt, (void *)(uintptr_t)(i + 1));
	}
	for (int i = 0; i < 2; i++)
		pthread_join(starters[i], NULL);
	while (parked_now() != 0)
		sched_yield();
	storm_over = true;
	for (int i = 0; i < 2; i++) {
		pthread_join(wakers[i], NULL);
		pthread_join(interrupters[i], NULL);
	}
	storm_check();
}

static void test_closing_in_a_storm_ends_all_of_them(void)
{
	pthread_t starters[2], waker, interrupter;

	storm_prepare();
	pthread_create(&waker, NULL, storm_wake, NULL);
	pthread_create(&interrupter, NULL, storm_interrupt, (void *)1);
	for (int i = 0; i < 2; i++)
		pthread_create(&starters[i], NULL, storm_start, NULL);
	while (storm_started < STORM_COUNT / 2)
		sched_yield();
	parked_list_close(&list);
	for (int i = 0; i < 2; i++)
		pthread_join(starters[i], NULL);
	parked_list_close(&list);
	storm_over = true;
	pthread_join(waker, NULL);
	pthread_join(interrupter, NULL);
	storm_check();
}

static void test_what_comes_after_the_close_is_ended_at_once(void)
{
	struct fuse_req req;

	request_init(&req, 1);
	start(&req);
	CHECK_ANSWERED(req, -EIO);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	parked_list_init(&list);
	TAP_RUN(test_what_answers_at_once_is_answered);
	TAP_RUN(test_a_wake_runs_it_again);
	TAP_RUN(test_it_may_park_again);
	TAP_RUN(test_the_error_of_a_wait_is_eio_without_another_run);
	TAP_RUN(test_an_interrupt_ends_the_wait);
	TAP_RUN(test_an_interrupt_that_was_there_before_starts_nothing);
	TAP_RUN(test_an_interrupt_before_the_registration_ends_it);
	TAP_RUN(test_an_interrupt_between_registration_and_return_ends_it);
	TAP_RUN(test_an_interrupt_does_not_spoil_an_answer);
	TAP_RUN(test_an_interrupt_during_a_second_run_ends_it);
	TAP_RUN(test_a_wake_before_the_return_is_not_lost);
	TAP_RUN(test_an_error_before_the_return_is_not_lost);
	TAP_RUN(test_woken_and_interrupted_before_the_return);
	TAP_RUN(test_the_reply_comes_before_who_waits_for_it);
	TAP_RUN(test_who_waits_for_a_reply_can_be_interrupted);
	TAP_RUN(test_expiring_ends_the_old_and_leaves_the_young);
	TAP_RUN(test_counts_now_and_most);
	TAP_RUN(test_each_of_a_storm_is_answered_once);
	TAP_RUN(test_closing_in_a_storm_ends_all_of_them);
	TAP_RUN(test_what_comes_after_the_close_is_ended_at_once);
	parked_list_close(&list);
	parked_list_release(&list);
	return tap_done();
}
