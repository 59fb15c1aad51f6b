/*
 * Nodes: counted by the kernel's lookups and by their children, and found again while they live.
 */
#include "repo/node_internal.h"

#include <pthread.h>

#include "base/buf.h"
#include "tap.h"

/* A directory of `count` entries 0, 1, ...; even ones are directories, odd ones files. */
static struct dir *numbered_dir(unsigned count)
{
	struct buf tree = BUF_INIT;
	struct block *block;
	struct dir *dir = NULL;
	unsigned char id[20] = { 1 };

	for (unsigned i = 0; i < count; i++) {
		if (buf_addf(&tree, "%s %05u", i % 2 ? "100644" : "40000", i) ||
		    buf_add(&tree, "", 1) || buf_add(&tree, id, sizeof(id)))
			abort();
	}
	block = block_copy(tree.data, tree.len);
	if (dir_new(block, OID_SHA1, &dir))
		abort();
	for (unsigned i = 0; i < count; i++)
		dir->v[i].ino = 100 + i;
	block_unref(block);
	buf_release(&tree);
	return dir;
}

struct fixture {
	struct node_table *table;
	struct node *root;
};

static struct fixture fixture_open(unsigned count)
{
	struct fixture f = { .table = node_table_new() };
	struct inode_path path = inode_path_root();
	struct oid oid = { .algo = OID_SHA1 };

	f.root = node_root_new(f.table, NULL, &oid, &path, 77);
	node_table_set_root(f.table, f.root);
	node_set_dir_take(f.root, numbered_dir(count));
	return f;
}

static void fixture_close(struct fixture *f)
{
	node_root_free(&f->root);
	node_table_free(&f->table);
}

/* A child of an even number with a directory of its own. */
static struct node *subdir(struct node *parent, unsigned index)
{
	struct node *node = node_child(parent, index);

	if (!node_dir(node))
		node_set_dir_take(node, numbered_dir(4));
	return node;
}

static void test_a_child_is_made_once(void)
{
	struct fixture f = fixture_open(4);
	struct node *first = node_child(f.root, 1), *second = node_child(f.root, 1);

	CHECK_PTR(first, second);
	CHECK_UINT(first->ino, 101);
	CHECK_PTR(first->parent, f.root);
	CHECK_UINT(node_count(f.table), 2);
	CHECK(node_child(f.root, 2) != first);
	CHECK_UINT(node_count(f.table), 3);
	fixture_close(&f);
}

static void test_a_child_goes_with_its_last_lookup(void)
{
	struct fixture f = fixture_open(4);
	struct node *node = node_child(f.root, 1);

	node_child(f.root, 1);
	node_child(f.root, 1);
	node_forget(f.table, node, 2);
	CHECK_UINT(node_count(f.table), 2);
	CHECK_PTR(node_child(f.root, 1), node);
	node_forget(f.table, node, 2);
	CHECK_UINT(node_count(f.table), 1);
	CHECK_NULL(node_dir(f.root)->children[1]);
	fixture_close(&f);
}

static void test_a_parent_lives_as_long_as_its_child(void)
{
	struct fixture f = fixture_open(4);
	struct node *dir = subdir(f.root, 0), *inner = subdir(dir, 2), *file = node_child(inner, 1);

	node_forget(f.table, dir, 1);
	node_forget(f.table, inner, 1);
	CHECK_UINT(node_count(f.table), 4);
	CHECK_PTR(file->parent->parent, dir);
	node_forget(f.table, file, 1);
	CHECK_UINT(node_count(f.table), 1);
	fixture_close(&f);
}

static void test_a_root_is_not_forgotten(void)
{
	struct fixture f = fixture_open(4);

	node_forget(f.table, f.root, 1);
	node_forget(f.table, f.root, 1000);
	CHECK_UINT(node_count(f.table), 1);
	CHECK_PTR(node_from_id(f.table, 1), f.root);
	node_forget(f.table, node_child(f.root, 1), 1);
	CHECK_UINT(node_count(f.table), 1);
	fixture_close(&f);
}

static void test_ids_lead_back_to_nodes(void)
{
	struct fixture f = fixture_open(4);
	struct node *node = node_child(f.root, 3);

	CHECK_UINT(node_id(f.table, f.root), 1);
	CHECK_PTR(node_from_id(f.table, node_id(f.table, node)), node);
	CHECK(node_id(f.table, node) != 1);
	fixture_close(&f);
}

static void count_held(void *arg, struct node *node)
{
	unsigned *count = arg;

	*count += node->refs > 1 ? 1 : 1000;
}

static void test_nodes_of_an_object_are_found_wherever_they_are(void)
{
	struct fixture f = fixture_open(6);
	struct node *dir = subdir(f.root, 2), *inner = subdir(dir, 2);
	struct oid oid = node_child(f.root, 1)->oid, none = { .algo = OID_SHA1 };
	unsigned count = 0;

	node_child(dir, 1);
	node_child(inner, 3);
	node_each_of(f.root, &oid, count_held, &count);
	CHECK_UINT(count, 5); /* all entries have one id */
	CHECK_UINT(node_count(f.table), 6);
	count = 0;
	node_each_of(f.root, &none, count_held, &count);
	CHECK_UINT(count, 0);
	node_forget(f.table, node_child(f.root, 1), 2);
	count = 0;
	node_each_of(f.root, &oid, count_held, &count);
	CHECK_UINT(count, 4);
	fixture_close(&f);
}

static void test_the_table_holds_several_roots(void)
{
	struct fixture f = fixture_open(4);
	struct inode_path path = inode_path_root();
	struct oid oid = { .algo = OID_SHA1 };
	struct node *other = node_root_new(f.table, NULL, &oid, &path, 78);
	struct node *child;

	node_set_dir_take(other, numbered_dir(4));
	child = node_child(other, 1);
	CHECK(node_child(f.root, 1) != child);
	CHECK_PTR(node_from_id(f.table, node_id(f.table, other)), other);
	CHECK_UINT(node_count(f.table), 4);
	node_root_free(&other);
	CHECK_NULL(other);
	CHECK_UINT(node_count(f.table), 2);
	fixture_close(&f);
}

static void test_a_roots_end_frees_what_the_kernel_still_holds(void)
{
	struct fixture f = fixture_open(100);

	for (unsigned i = 0; i < 100; i++) {
		struct node *node = i % 2 ? node_child(f.root, i) : subdir(f.root, i);

		if (i % 2 == 0)
			node_child(node, 3);
	}
	CHECK_UINT(node_count(f.table), 151);
	node_root_free(&f.root);
	CHECK_UINT(node_count(f.table), 0);
	CHECK_NULL(node_from_id(f.table, 1));
	fixture_close(&f);
}

static void test_the_tables_end_frees_what_is_left(void)
{
	struct fixture f = fixture_open(4);

	subdir(f.root, 0);
	node_table_free(&f.table);
	CHECK_NULL(f.table);
}

static void test_a_deep_tree_is_freed(void)
{
	struct fixture f = fixture_open(4);
	struct node *node = f.root;

	for (int i = 0; i < 20000; i++) {
		struct node *next = subdir(node, 0);

		if (node != f.root)
			node_forget(f.table, node, 1);
		node = next;
	}
	CHECK_UINT(node_count(f.table), 20001);
	node_hold(node);
	node_forget(f.table, node, 1);
	CHECK_UINT(node_count(f.table), 20001);
	fixture_close(&f);
}

static void test_a_deep_tree_is_forgotten(void)
{
	struct fixture f = fixture_open(4);
	struct node *node = f.root;

	for (int i = 0; i < 20000; i++) {
		struct node *next = subdir(node, 0);

		if (node != f.root)
			node_forget(f.table, node, 1);
		node = next;
	}
	node_forget(f.table, node, 1);
	CHECK_UINT(node_count(f.table), 1);
	fixture_close(&f);
}

static void test_sizes_are_set_once_and_summed(void)
{
	struct fixture f = fixture_open(4);
	struct node *file = node_child(f.root, 1), *dir = node_child(f.root, 2);

	CHECK_UINT(node_size(file), NODE_SIZE_UNKNOWN);
	CHECK_UINT(node_size(dir), 0);
	node_set_size(file, 10);
	node_set_size(file, 99);
	CHECK_UINT(node_size(file), 10);
	CHECK_UINT(node_bytes(f.table), 10);
	node_forget(f.table, file, 1);
	CHECK_UINT(node_bytes(f.table), 0);
	fixture_close(&f);
}

static void test_the_size_of_the_content_wins(void)
{
	struct fixture f = fixture_open(4);
	struct node *told = node_child(f.root, 0), *unknown = node_child(f.root, 1);

	node_set_size(told, 10);
	CHECK(!node_size_proven(told));
	CHECK(!node_prove_size(told, 7)); /* somebody may have heard of 10 */
	CHECK(node_size_proven(told));
	CHECK(node_prove_size(told, 7));
	CHECK(node_prove_size(unknown, 5));
	CHECK_UINT(node_size(told), 7);
	CHECK_UINT(node_bytes(f.table), 12);
	node_forget(f.table, told, 1);
	node_forget(f.table, unknown, 1);
	CHECK_UINT(node_bytes(f.table), 0);
	fixture_close(&f);
}

static void test_of_two_dirs_the_first_stays(void)
{
	struct fixture f = fixture_open(4);
	struct dir *first = node_dir(f.root);

	CHECK_PTR(node_set_dir_take(f.root, numbered_dir(4)), first);
	fixture_close(&f);
}

/* ---- many threads ---- */

#define THREADS 4
#define ROUNDS 20000

struct racer {
	struct fixture *f;
	unsigned seed;
	unsigned wrong;
};

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

/* Goes down to a file by lookups, as the kernel does, and forgets in either order. */
static void go_down_and_back(struct racer *racer)
{
	struct node_table *table = racer->f->table;
	unsigned random = next_random(&racer->seed);
	unsigned a = random % 2 * 2, b = random / 2 % 2 * 2, c = random / 4 % 2 * 2 + 1;
	struct node *dir = subdir(racer->f->root, a), *inner = subdir(dir, b),
		    *file = node_child(inner, c);

	if (file->parent != inner || inner->parent != dir || file->index != c)
		racer->wrong++;
	if (random & 8) {
		node_forget(table, file, 1);
		node_forget(table, inner, 1);
		node_forget(table, dir, 1);
	} else {
		node_forget(table, dir, 1);
		node_hold(file);
		node_forget(table, inner, 1);
		if (file->parent->parent != dir)
			racer->wrong++;
		node_forget(table, file, 2);
	}
}

static void *run_racer(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		go_down_and_back(arg);
	return NULL;
}

static void test_lookups_and_forgets_race(void)
{
	struct fixture f = fixture_open(4);
	struct racer racers[THREADS];
	pthread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		racers[i] = (struct racer){ .f = &f, .seed = i * 77 + 1 };
		pthread_create(&threads[i], NULL, run_racer, &racers[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_UINT(racers[i].wrong, 0);
	CHECK_UINT(node_count(f.table), 1);
	for (unsigned i = 0; i < 4; i++)
		CHECK_NULL(node_dir(f.root)->children[i]);
	fixture_close(&f);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_a_child_is_made_once);
	TAP_RUN(test_a_child_goes_with_its_last_lookup);
	TAP_RUN(test_a_parent_lives_as_long_as_its_child);
	TAP_RUN(test_a_root_is_not_forgotten);
	TAP_RUN(test_ids_lead_back_to_nodes);
	TAP_RUN(test_nodes_of_an_object_are_found_wherever_they_are);
	TAP_RUN(test_the_table_holds_several_roots);
	TAP_RUN(test_a_roots_end_frees_what_the_kernel_still_holds);
	TAP_RUN(test_the_tables_end_frees_what_is_left);
	TAP_RUN(test_a_deep_tree_is_freed);
	TAP_RUN(test_a_deep_tree_is_forgotten);
	TAP_RUN(test_sizes_are_set_once_and_summed);
	TAP_RUN(test_the_size_of_the_content_wins);
	TAP_RUN(test_of_two_dirs_the_first_stays);
	TAP_RUN(test_lookups_and_forgets_race);
	return tap_done();
}
