/*
 * Blind reads: which ones count, and that whoever waits for them is woken once, whatever comes at
 * the same time.
 */
#include "repo/blind.h"

#include <pthread.h>
#include <sched.h>

#include "repo/node_internal.h"
#include "tap.h"

#define FILE_COUNT 4
#define MIB ((uint64_t)1 << 20)

struct fixture {
	struct blind_table table;
	struct node_table *nodes;
	struct node *root;
	struct node *files[FILE_COUNT];
};

static struct dir *flat_dir(void)
{
	static const char tree[] = "100644 0\0aaaaaaaaaaaaaaaaaaaa"
				   "100644 1\0bbbbbbbbbbbbbbbbbbbb"
				   "100644 2\0cccccccccccccccccccc"
				   "100644 3\0dddddddddddddddddddd";
	struct block *block = block_copy(tree, sizeof(tree) - 1);
	struct dir *dir;

	if (!block || dir_new(block, OID_SHA1, &dir))
		abort();
	block_unref(block);
	return dir;
}

static void fixture_open(struct fixture *f)
{
	struct inode_path path = inode_path_root();
	struct oid oid = { .algo = OID_SHA1 };

	blind_table_init(&f->table);
	f->nodes = node_table_new();
	f->root = node_root_new(f->nodes, NULL, &oid, &path, 77);
	node_table_set_root(f->nodes, f->root);
	node_set_dir_take(f->root, flat_dir());
	for (uint32_t i = 0; i < FILE_COUNT; i++)
		f->files[i] = node_child(f->root, i);
}

static void fixture_close(struct fixture *f)
{
	node_root_free(&f->root);
	node_table_free(&f->nodes);
	blind_table_release(&f->table);
}

struct waiting {
	struct blind_wait wait;
	_Atomic unsigned woken;
};

static void on_done(struct blind_wait *wait)
{
	((struct waiting *)wait)->woken++;
}

static struct waiting waiting_for(struct fixture *f)
{
	struct waiting waiting = { .woken = 0 };

	blind_wait_init(&waiting.wait, &f->table, on_done);
	return waiting;
}

/* Whether a read is counted. */
static bool counted(struct fixture *f, struct node *node)
{
	struct waiting read = waiting_for(f);

	blind_read_begin(&read.wait, node);
	bool blind = blind_reads(node);

	blind_read_end(&read.wait);
	return blind && !blind_reads(node);
}

/* ---- which ones count ---- */

static void test_a_read_is_blind_until_the_kernel_was_told(void)
{
	struct fixture f;

	fixture_open(&f);
	CHECK(counted(&f, f.files[0]));
	blind_told(f.files[0], true);
	CHECK(!counted(&f, f.files[0]));
	CHECK(counted(&f, f.files[1]));
	blind_told(f.files[0], false); /* it was told the placeholder again */
	CHECK(counted(&f, f.files[0]));
	fixture_close(&f);
}

static void test_what_the_kernel_was_told_wrong_it_was_not_told(void)
{
	struct fixture f;

	fixture_open(&f);
	node_set_size(f.files[0], 10);
	blind_told(f.files[0], true);
	CHECK(node_prove_size(f.files[0], 10));
	CHECK(!counted(&f, f.files[0]));
	CHECK(!node_prove_size(f.files[0], 7));
	CHECK(counted(&f, f.files[0]));
	fixture_close(&f);
}

static void test_a_size_that_only_we_know_changes_nothing(void)
{
	struct fixture f;

	fixture_open(&f);
	node_set_size(f.files[0], 10 * MIB);
	CHECK(counted(&f, f.files[0]));
	fixture_close(&f);
}

static void test_a_read_counts_once_and_keeps_its_node(void)
{
	struct fixture f;
	struct waiting read, other;

	fixture_open(&f);
	read = waiting_for(&f);
	other = waiting_for(&f);
	blind_read_begin(&read.wait, f.files[0]);
	blind_read_begin(&read.wait, f.files[0]);
	blind_read_begin(&other.wait, f.files[0]);
	node_forget(f.nodes, f.files[0], 1);
	blind_read_end(&read.wait);
	CHECK(blind_reads(f.files[0]));
	CHECK_UINT(node_count(f.nodes), 1 + FILE_COUNT);
	blind_read_end(&other.wait);
	CHECK_UINT(node_count(f.nodes), FILE_COUNT);
	blind_read_end(&other.wait); /* ended already */
	fixture_close(&f);
}

/* ---- waiting for them ---- */

static void test_the_end_of_the_last_read_wakes_those_of_its_node(void)
{
	struct fixture f;
	struct waiting reads[3], stats[3];

	fixture_open(&f);
	for (int i = 0; i < 3; i++) {
		reads[i] = waiting_for(&f);
		stats[i] = waiting_for(&f);
		blind_read_begin(&reads[i].wait, f.files[i / 2]);
	}
	CHECK(blind_park(&stats[0].wait, f.files[0]));
	CHECK(blind_park(&stats[1].wait, f.files[0]));
	CHECK(blind_park(&stats[2].wait, f.files[1]));
	blind_read_end(&reads[0].wait);
	CHECK_UINT(stats[0].woken + stats[1].woken + stats[2].woken, 0);
	blind_read_end(&reads[1].wait);
	CHECK_UINT(stats[0].woken, 1);
	CHECK_UINT(stats[1].woken, 1);
	CHECK_UINT(stats[2].woken, 0);
	CHECK(!blind_park(&stats[0].wait, f.files[0]));
	blind_read_end(&reads[2].wait);
	CHECK_UINT(stats[0].woken, 1);
	CHECK_UINT(stats[2].woken, 1);
	fixture_close(&f);
}

static void test_who_was_taken_out_is_not_woken(void)
{
	struct fixture f;
	struct waiting read, stat;

	fixture_open(&f);
	read = waiting_for(&f);
	stat = waiting_for(&f);
	blind_read_begin(&read.wait, f.files[0]);
	CHECK_INT(blind_cancel(&stat.wait), BLIND_IDLE);
	CHECK(blind_park(&stat.wait, f.files[0]));
	CHECK_INT(blind_cancel(&stat.wait), BLIND_PARKED);
	CHECK_INT(blind_cancel(&stat.wait), BLIND_IDLE);
	blind_read_end(&read.wait);
	CHECK_UINT(stat.woken, 0);
	fixture_close(&f);
}

static void test_who_was_woken_cannot_be_taken_out_until_it_asked_again(void)
{
	struct fixture f;
	struct waiting read, stat;

	fixture_open(&f);
	read = waiting_for(&f);
	stat = waiting_for(&f);
	blind_read_begin(&read.wait, f.files[0]);
	CHECK(blind_park(&stat.wait, f.files[0]));
	blind_read_end(&read.wait);
	CHECK_INT(blind_cancel(&stat.wait), BLIND_WOKEN);
	blind_read_begin(&read.wait, f.files[0]);
	CHECK(blind_park(&stat.wait, f.files[0])); /* a new read */
	blind_read_end(&read.wait);
	CHECK_UINT(stat.woken, 2);
	CHECK(!blind_park(&stat.wait, f.files[0]));
	CHECK_INT(blind_cancel(&stat.wait), BLIND_IDLE);
	fixture_close(&f);
}

/* ---- all at the same time ---- */

#define STORM_ROUNDS 20000

struct storm {
	struct fixture f;
	_Atomic unsigned readers; /* that go on */
	_Atomic unsigned lost, parked, canceled;
};

static void *storm_read(void *arg)
{
	struct storm *storm = arg;

	for (unsigned i = 0; i < STORM_ROUNDS; i++) {
		struct waiting read = waiting_for(&storm->f);

		blind_read_begin(&read.wait, storm->f.files[i % FILE_COUNT]);
		sched_yield();
		blind_read_end(&read.wait);
	}
	storm->readers--;
	return NULL;
}

/* Every wait ends: woken, or taken out; with the last reader gone at the latest. */
static void *storm_stat(void *arg)
{
	struct storm *storm = arg;

	for (unsigned i = 0; storm->readers != 0; i++) {
		struct waiting stat = waiting_for(&storm->f);

		if (!blind_park(&stat.wait, storm->f.files[i % FILE_COUNT]))
			continue;
		storm->parked++;
		if (i % 3 == 0 && blind_cancel(&stat.wait) == BLIND_PARKED) {
			storm->canceled++;
			storm->lost += stat.woken;
			continue;
		}
		while (stat.woken == 0)
			sched_yield();
		storm->lost += stat.woken != 1;
	}
	return NULL;
}

static void test_nobody_is_lost_in_a_storm(void)
{
	static struct storm storm;
	pthread_t readers[3], stats[3];

	fixture_open(&storm.f);
	storm.readers = 3;
	for (int i = 0; i < 3; i++) {
		pthread_create(&readers[i], NULL, storm_read, &storm);
		pthread_create(&stats[i], NULL, storm_stat, &storm);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(readers[i], NULL);
		pthread_join(stats[i], NULL);
	}
	printf("# %u parked, %u of them taken out\n", storm.parked, storm.canceled);
	CHECK_UINT(storm.lost, 0);
	CHECK(TAILQ_EMPTY(&storm.f.table.parked));
	for (int i = 0; i < FILE_COUNT; i++) {
		CHECK(!blind_reads(storm.f.files[i]));
		CHECK_UINT(storm.f.files[i]->refs, 1);
	}
	fixture_close(&storm.f);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_a_read_is_blind_until_the_kernel_was_told);
	TAP_RUN(test_what_the_kernel_was_told_wrong_it_was_not_told);
	TAP_RUN(test_a_size_that_only_we_know_changes_nothing);
	TAP_RUN(test_a_read_counts_once_and_keeps_its_node);
	TAP_RUN(test_the_end_of_the_last_read_wakes_those_of_its_node);
	TAP_RUN(test_who_was_taken_out_is_not_woken);
	TAP_RUN(test_who_was_woken_cannot_be_taken_out_until_it_asked_again);
	TAP_RUN(test_nobody_is_lost_in_a_storm);
	return tap_done();
}
