/*
 * Walks: what is brought along with a want, in which order, and what is not.
 */
#include "repo/walk.h"

#include "base/clock.h"
#include "fake_fetch.h"
#include "repo/node_internal.h"
#include "tap.h"

/*
 * A tree of blobs whose content is their own path:
 *	a/1 a/2 a/in/3 a/in/4  b/5 b/6  c/7 c/deep/8  top1 top2 z/9
 */
struct fixture {
	struct fetch *fetch;
	struct node_table *table;
	struct walk_memory *memory;
	struct node *root;
};

static struct oid blob(struct fixture *f, const char *text)
{
	return fake_blob(f->fetch, text);
}

static struct fake_entry file(struct fixture *f, const char *name, const char *text)
{
	return (struct fake_entry){ "100644", name, blob(f, text) };
}

static struct fake_entry dir(struct fixture *f, const char *name, const struct fake_entry *entries,
			     size_t count)
{
	return (struct fake_entry){ "40000", name, fake_tree(f->fetch, entries, count) };
}
#define DIR(f, name, ...)                                                                          \
	dir(f, name, (struct fake_entry[]){ __VA_ARGS__ },                                         \
	    sizeof((struct fake_entry[]){ __VA_ARGS__ }) / sizeof(struct fake_entry))

/* Loads a node's directory from what is here. */
static void load(struct fixture *f, struct node *node)
{
	struct content *content;
	struct block *block;
	struct dir *loaded;

	if (node_dir(node) || fetch_get(f->fetch, &node->oid, SIZE_MAX, &content))
		return;
	if (content_block(content, SIZE_MAX, &block) || dir_new(block, OID_SHA1, &loaded))
		abort();
	node_set_dir_take(node, loaded);
	block_unref(block);
	content_unref(content);
}

static struct fixture fixture_of_tree(struct fixture f, const struct oid *tree)
{
	struct inode_path path = inode_path_root();

	fake_trees_here(f.fetch);
	f.table = node_table_new();
	f.memory = walk_memory_new();
	f.root = node_root_new(f.table, NULL, tree, &path, 2);
	load(&f, f.root);
	return f;
}

static struct fixture fixture_open(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry in = DIR(&f, "in", file(&f, "3", "a/in/3"), file(&f, "4", "a/in/4"));
	struct fake_entry deep = DIR(&f, "deep", file(&f, "8", "c/deep/8"));
	struct fake_entry root[] = {
		DIR(&f, "a", file(&f, "1", "a/1"), file(&f, "2", "a/2"), in),
		DIR(&f, "b", file(&f, "5", "b/5"), file(&f, "6", "b/6")),
		DIR(&f, "c", file(&f, "7", "c/7"), deep),
		file(&f, "top1", "top1"),
		file(&f, "top2", "top2"),
		DIR(&f, "z", file(&f, "9", "z/9")),
	};
	struct oid tree = fake_tree(f.fetch, root, sizeof(root) / sizeof(root[0]));

	return fixture_of_tree(f, &tree);
}

static void fixture_close(struct fixture *f)
{
	node_root_free(&f->root);
	node_table_free(&f->table);
	walk_memory_free(&f->memory);
	fake_close(f->fetch);
}

static struct node *node_at(struct fixture *f, const char *path)
{
	struct node *node = f->root;

	while (*path) {
		size_t len = strcspn(path, "/");

		load(f, node);
		ssize_t index = dir_find(node_dir(node), path, len);

		if (index < 0)
			abort();
		node = node_child(node, (uint32_t)index);
		path += len + (path[len] == '/');
	}
	return node;
}

enum { CONTENTS, SIZES };

/* What is gathered for a want of `path`, as the blobs' texts, then "@" and the links'. */
static const char *gathered(struct fixture *f, const char *path, int kind,
			    const struct fetch_budget *within)
{
	struct fetch_budget budget = *within;
	static char text[4000];
	struct walk walk = { .fetch = f->fetch, .memory = f->memory, .node = node_at(f, path) };
	struct fetch_list list = { 0 };
	size_t used = 0;

	text[0] = '\0';
	budget.sizes = kind == SIZES;
	if (walk_gather(&walk, &budget, &list))
		return "failed";
	for (size_t i = 0; i < list.count + walk.links.count; i++) {
		bool is_link = i >= list.count;
		const struct content *content =
			fake_peek(f->fetch, is_link ? &walk.links.v[i - list.count] : &list.v[i]);

		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s%.*s", i ? " " : "",
					 is_link ? "@" : "", (int)content->size,
					 (const char *)content->block->data);
	}
	fetch_list_release(&list);
	fetch_list_release(&walk.links);
	return text;
}

static const struct fetch_budget all = {
	.count = 100, .bytes = 10000, .object_bytes = 1000, .leave_directory = true
};
static const struct fetch_budget own = { .count = 100, .bytes = 10000, .object_bytes = 1000 };

static void sizes_known(struct fixture *f)
{
	static const char *const texts[] = { "a/1", "a/2",  "a/in/3", "a/in/4",	  "b/5", "b/6",
					     "c/7", "top1", "top2",   "c/deep/8", "z/9" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct oid oid = blob(f, texts[i]);

		fake_size_here(f->fetch, &oid);
	}
}

static void test_own_directory_comes_first_from_the_want_on(void)
{
	struct fixture f = fixture_open();

	CHECK_STR(gathered(&f, "top2", SIZES, &own), "top1");
	CHECK_STR(gathered(&f, "a/1", SIZES, &own), "a/2");
	fixture_close(&f);
}

static void test_files_behind_the_want_come_before_those_in_front(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry root[] = { file(&f, "a", "a"), file(&f, "b", "b"), file(&f, "c", "c"),
				     file(&f, "d", "d"), file(&f, "e", "e") };
	struct oid tree = fake_tree(f.fetch, root, 5);

	f = fixture_of_tree(f, &tree);
	CHECK_STR(gathered(&f, "c", SIZES, &own), "d e b a");
	fixture_close(&f);
}

static void test_then_what_a_crawler_comes_to(void)
{
	struct fixture f = fixture_open();

	CHECK_STR(gathered(&f, "a/1", SIZES, &all),
		  "a/2 a/in/3 a/in/4 b/5 b/6 c/7 c/deep/8 z/9 top1 top2");
	fixture_close(&f);
}

static void test_then_the_rest_of_the_tree(void)
{
	struct fixture f = fixture_open();

	CHECK_STR(gathered(&f, "c/deep/8", SIZES, &all),
		  "z/9 top1 top2 a/1 a/2 a/in/3 a/in/4 b/5 b/6 c/7");
	fixture_close(&f);
}

static void test_what_is_known_is_not_asked_for(void)
{
	struct fixture f = fixture_open();
	struct oid known = blob(&f, "b/5");

	fake_size_here(f.fetch, &known);
	CHECK_STR(gathered(&f, "a/1", SIZES, &all),
		  "a/2 a/in/3 a/in/4 b/6 c/7 c/deep/8 z/9 top1 top2");
	fixture_close(&f);
}

static void test_contents_are_of_known_size_and_not_here(void)
{
	struct fixture f = fixture_open();
	struct oid oid;

	sizes_known(&f);
	oid = blob(&f, "a/2");
	fake_here(f.fetch, &oid);
	oid = blob(&f, "b/5");
	fake_gone(f.fetch, &oid);
	CHECK_STR(gathered(&f, "a/1", CONTENTS, &all),
		  "a/in/3 a/in/4 b/6 c/7 c/deep/8 z/9 top1 top2");
	fixture_close(&f);
}

static void test_contents_stay_in_the_budget(void)
{
	struct fixture f = fixture_open();
	struct fetch_budget budget = {
		.count = 100, .bytes = 15, .object_bytes = 1000, .leave_directory = true
	};

	sizes_known(&f);
	CHECK_STR(gathered(&f, "a/1", CONTENTS, &budget), "a/2 a/in/3 a/in/4"); /* 3 + 6 + 6 */
	walk_memory_free(&f.memory);
	f.memory = walk_memory_new();
	budget.bytes = 14;
	CHECK_STR(gathered(&f, "a/1", CONTENTS, &budget), "a/2 a/in/3");
	walk_memory_free(&f.memory);
	f.memory = walk_memory_new();
	budget.count = 1;
	CHECK_STR(gathered(&f, "a/1", CONTENTS, &budget), "a/2");
	fixture_close(&f);
}

static void test_large_files_are_passed_over(void)
{
	struct fixture f = fixture_open();
	struct fetch_budget budget = {
		.count = 100, .bytes = 1000, .object_bytes = 4, .leave_directory = true
	};

	sizes_known(&f);
	CHECK_STR(gathered(&f, "a/1", CONTENTS, &budget), "a/2 b/5 b/6 c/7 z/9 top1 top2");
	fixture_close(&f);
}

static void test_the_want_itself_and_doubles_are_not_listed(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry root[] = { file(&f, "a", "same"), file(&f, "b", "same"),
				     file(&f, "c", "other"), file(&f, "d", "want"),
				     file(&f, "e", "want") };
	struct oid tree = fake_tree(f.fetch, root, 5);

	f = fixture_of_tree(f, &tree);
	CHECK_STR(gathered(&f, "d", SIZES, &own), "other same");
	fixture_close(&f);
}

static void test_links_come_along_and_gitlinks_do_not(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry root[] = { file(&f, "a", "a"),
				     { "120000", "link", fake_blob(f.fetch, "target") },
				     { "160000", "module", fake_blob(f.fetch, "module") },
				     { "100755", "run", fake_blob(f.fetch, "run") } };
	struct oid tree = fake_tree(f.fetch, root, 4);

	f = fixture_of_tree(f, &tree);
	CHECK_STR(gathered(&f, "a", SIZES, &own), "run @target");
	walk_memory_free(&f.memory);
	f.memory = walk_memory_new();
	CHECK_STR(gathered(&f, "run", SIZES, &all), "a @target");
	fixture_close(&f);
}

static void test_trees_that_are_not_here_are_passed_over(void)
{
	struct fixture f = fixture_open();

	node_at(&f, "a/1");
	fake_gone(f.fetch, &node_at(&f, "b")->oid);
	CHECK_STR(gathered(&f, "a/1", SIZES, &all), "a/2 a/in/3 a/in/4 c/7 c/deep/8 z/9 top1 top2");
	fixture_close(&f);
}

static void test_a_tree_that_came_later_is_walked_by_the_next(void)
{
	struct fixture f = fixture_open();
	struct oid b = node_at(&f, "b")->oid;

	fake_gone(f.fetch, &b);
	CHECK_STR(gathered(&f, "a/1", SIZES, &all), "a/2 a/in/3 a/in/4 c/7 c/deep/8 z/9 top1 top2");
	fake_here(f.fetch, &b);
	CHECK_STR(gathered(&f, "a/in/4", SIZES, &all), "a/in/3 b/5 b/6 c/7 c/deep/8 z/9");
	fixture_close(&f);
}

static void test_the_next_walk_goes_on_where_the_last_one_ended(void)
{
	struct fixture f = fixture_open();
	struct fetch_budget three = { .count = 3, .leave_directory = true };

	CHECK_STR(gathered(&f, "a/1", SIZES, &three), "a/2 a/in/3 a/in/4");
	CHECK_STR(gathered(&f, "a/in/3", SIZES, &three), "a/in/4 b/5 b/6");
	CHECK_STR(gathered(&f, "b/5", SIZES, &three), "b/6 c/7 c/deep/8");
	CHECK_STR(gathered(&f, "c/deep/8", SIZES, &three), "z/9 top1 top2");
	fixture_close(&f);
}

static void test_a_walk_elsewhere_starts_there_and_jumps_over_the_last(void)
{
	struct fixture f = fixture_open();
	struct fetch_budget two = { .count = 2, .leave_directory = true };

	CHECK_STR(gathered(&f, "b/5", SIZES, &two), "b/6 c/7");
	CHECK_STR(gathered(&f, "a/in/3", SIZES, &two), "a/in/4 c/deep/8");
	fixture_close(&f);
}

static void test_sizes_and_contents_are_remembered_apart(void)
{
	struct fixture f = fixture_open();
	struct fetch_budget two = {
		.count = 2, .bytes = 1000, .object_bytes = 1000, .leave_directory = true
	};

	CHECK_STR(gathered(&f, "a/in/3", SIZES, &two), "a/in/4 b/5");
	sizes_known(&f);
	CHECK_STR(gathered(&f, "a/in/3", CONTENTS, &two), "a/in/4 b/5");
	fixture_close(&f);
}

static void test_after_the_whole_tree_only_the_own_directory_for_a_while(void)
{
	struct fixture f = fixture_open();

	clock_fake(100000);
	gathered(&f, "a/1", SIZES, &all);
	CHECK_STR(gathered(&f, "b/5", SIZES, &all), "b/6");
	clock_fake_advance(4000);
	CHECK_STR(gathered(&f, "b/5", SIZES, &all), "b/6");
	clock_fake_advance(4000);
	CHECK_STR(gathered(&f, "b/5", SIZES, &all),
		  "b/6 c/7 c/deep/8 z/9 top1 top2 a/1 a/2 a/in/3 a/in/4");
	clock_real();
	fixture_close(&f);
}

/* ---- bounds ---- */

/* `width` directories of `width` files each; no two alike. */
static struct fixture fixture_wide(unsigned width)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry *dirs = calloc(width, sizeof(*dirs)),
			  *files = calloc(width, sizeof(*files));
	char(*names)[16] = calloc(width, sizeof(*names)), text[32];
	struct oid tree;

	for (unsigned i = 0; i < width; i++)
		snprintf(names[i], sizeof(names[i]), "%05u", i);
	for (unsigned i = 0; i < width; i++) {
		for (unsigned j = 0; j < width; j++) {
			snprintf(text, sizeof(text), "%u/%u", i, j);
			files[j] = file(&f, names[j], text);
		}
		dirs[i] = dir(&f, names[i], files, width);
	}
	tree = fake_tree(f.fetch, dirs, width);
	free(dirs);
	free(files);
	f = fixture_of_tree(f, &tree);
	free(names);
	return f;
}

static size_t gathered_count(struct fixture *f, const char *path, const struct fetch_budget *budget)
{
	struct walk walk = { .fetch = f->fetch, .memory = f->memory, .node = node_at(f, path) };
	struct fetch_list list = { 0 };
	size_t count;

	if (walk_gather(&walk, budget, &list))
		return SIZE_MAX;
	count = list.count;
	fetch_list_release(&list);
	return count;
}

static void test_a_walk_that_finds_nothing_gives_up(void)
{
	struct fixture f = fixture_wide(200); /* 40,000 files, all here */
	struct fake_counts before, after;

	fake_all_here(f.fetch);
	before = fake_counts(f.fetch);
	CHECK_UINT(gathered_count(&f, "00003/00003", &all), 0);
	after = fake_counts(f.fetch);
	CHECK_MSG(after.size_known - before.size_known < 10000, "%u looks",
		  after.size_known - before.size_known);
	fixture_close(&f);
}

static void test_walks_of_a_large_tree_do_not_begin_again(void)
{
	struct fixture f = fixture_wide(100); /* 10,000 files in 100 directories */
	struct fetch_budget budget = {
		.count = 50, .bytes = 1 << 20, .object_bytes = 100, .leave_directory = true
	};
	struct fake_counts before, after;
	char path[32];

	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 100; j++) {
			snprintf(path, sizeof(path), "%u/%u", i, j);
			struct oid oid = blob(&f, path);

			fake_size_here(f.fetch, &oid);
		}
	}
	before = fake_counts(f.fetch);
	for (unsigned i = 0; i < 100; i++) { /* every directory's first file is a want */
		snprintf(path, sizeof(path), "%05u/00000", i);
		CHECK(gathered_count(&f, path, &budget) <= 50);
	}
	after = fake_counts(f.fetch);
	CHECK_MSG(after.size_known - before.size_known < 20000, "%u looks",
		  after.size_known - before.size_known);
	CHECK_MSG(after.gets - before.gets < 1000, "%u trees", after.gets - before.gets);
	fixture_close(&f);
}

static void test_a_very_deep_tree_is_walked_only_so_far(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry entries[2] = { file(&f, "f", "bottom") };
	struct oid tree = fake_tree(f.fetch, entries, 1);
	struct node *node;

	for (int i = 0; i < 300; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		entries[0] = (struct fake_entry){ "40000", "d", tree };
		entries[1] = file(&f, "f", text);
		tree = fake_tree(f.fetch, entries, 2);
	}
	f = fixture_of_tree(f, &tree);
	CHECK(strlen(gathered(&f, "f", SIZES,
			      &(struct fetch_budget){ .count = 1000, .leave_directory = true })) >
	      0);
	node = f.root;
	for (int i = 0; i < 300; i++) {
		load(&f, node);
		node = node_child(node, (uint32_t)dir_find(node_dir(node), "d", 1));
	}
	load(&f, node);
	node = node_child(node, 0);
	struct walk walk = { .fetch = f.fetch, .memory = f.memory, .node = node };
	struct fetch_budget sizes = all;
	struct fetch_list list = { 0 };

	sizes.sizes = true;
	CHECK_INT(walk_gather(&walk, &sizes, &list), 0);
	fetch_list_release(&list);
	fixture_close(&f);
}

static void test_a_broken_tree_ends_where_it_is_broken(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct oid broken = fake_object(f.fetch, OBJECT_TREE, "100644 x", 8);
	struct fake_entry root[] = { { "40000", "a", broken },
				     { "40000", "b", fake_blob(f.fetch, "no tree") },
				     file(&f, "c", "c"),
				     file(&f, "d", "d") };
	struct oid tree = fake_tree(f.fetch, root, 4);

	f = fixture_of_tree(f, &tree);
	fake_here(f.fetch, &root[1].oid);
	CHECK_STR(gathered(&f, "c", SIZES, &all), "d");
	fixture_close(&f);
}

/* ---- many threads ---- */

static void *run_walks(void *arg)
{
	struct fixture *f = arg;
	struct fetch_budget budget = {
		.count = 30, .bytes = 1 << 20, .object_bytes = 100, .leave_directory = true
	};
	char path[32];

	for (unsigned i = 0; i < 200; i++) {
		snprintf(path, sizeof(path), "%05u/%05u", i * 7 % 40, i % 40);
		gathered_count(f, path, &budget);
	}
	return NULL;
}

static void test_walks_in_threads(void)
{
	struct fixture f = fixture_wide(40);
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, run_walks, &f);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	fixture_close(&f);
}

#define LEVELS 20 /* a million paths */

/* A folder that holds another twice, that one another twice, and so on; files are in the last. */
static struct oid bomb(struct fixture *f, const struct fake_entry *files, size_t count)
{
	struct oid tree = fake_tree(f->fetch, files, count);

	for (unsigned i = 0; i < LEVELS; i++) {
		struct fake_entry twice[] = { { "40000", "a", tree }, { "40000", "b", tree } };

		tree = fake_tree(f->fetch, twice, 2);
	}
	return tree;
}

static void test_counting_files_does_not_go_through_paths_without_end(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry one = file(&f, "one", "one");
	struct oid empty = bomb(&f, NULL, 0), full = bomb(&f, &one, 1);
	struct fake_entry root[] = { { "40000", "empty", empty }, one, { "40000", "full", full } };
	struct oid tree = fake_tree(f.fetch, root, 3);
	struct walk walk;
	size_t missing;

	f = fixture_of_tree(f, &tree);
	walk = (struct walk){ .fetch = f.fetch, .memory = f.memory, .node = node_at(&f, "one") };
	CHECK_UINT(walk_count(&walk, 0, 1000, &missing), 1000);
	CHECK(fake_counts(f.fetch).gets < 1100);
	fixture_close(&f);
}

static void test_files_are_counted_up_to_the_bound(void)
{
	struct fixture f = fixture_open();
	struct walk walk = { .fetch = f.fetch, .memory = f.memory, .node = node_at(&f, "a/1") };
	size_t missing;

	CHECK_UINT(walk_count(&walk, 0, 100, &missing), 4);
	CHECK_UINT(walk_count(&walk, 1, 100, &missing), 11);
	CHECK_UINT(missing, 11); /* of which a sample was looked for */
	CHECK_UINT(walk_count(&walk, 1, 8, &missing), 8);
	CHECK_UINT(walk_count(&walk, 2, 100, &missing), 0);
	fixture_close(&f);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_own_directory_comes_first_from_the_want_on);
	TAP_RUN(test_files_behind_the_want_come_before_those_in_front);
	TAP_RUN(test_then_what_a_crawler_comes_to);
	TAP_RUN(test_then_the_rest_of_the_tree);
	TAP_RUN(test_what_is_known_is_not_asked_for);
	TAP_RUN(test_contents_are_of_known_size_and_not_here);
	TAP_RUN(test_contents_stay_in_the_budget);
	TAP_RUN(test_large_files_are_passed_over);
	TAP_RUN(test_the_want_itself_and_doubles_are_not_listed);
	TAP_RUN(test_links_come_along_and_gitlinks_do_not);
	TAP_RUN(test_trees_that_are_not_here_are_passed_over);
	TAP_RUN(test_a_tree_that_came_later_is_walked_by_the_next);
	TAP_RUN(test_the_next_walk_goes_on_where_the_last_one_ended);
	TAP_RUN(test_a_walk_elsewhere_starts_there_and_jumps_over_the_last);
	TAP_RUN(test_sizes_and_contents_are_remembered_apart);
	TAP_RUN(test_after_the_whole_tree_only_the_own_directory_for_a_while);
	TAP_RUN(test_a_walk_that_finds_nothing_gives_up);
	TAP_RUN(test_walks_of_a_large_tree_do_not_begin_again);
	TAP_RUN(test_a_very_deep_tree_is_walked_only_so_far);
	TAP_RUN(test_a_broken_tree_ends_where_it_is_broken);
	TAP_RUN(test_counting_files_does_not_go_through_paths_without_end);
	TAP_RUN(test_files_are_counted_up_to_the_bound);
	TAP_RUN(test_walks_in_threads);
	return tap_done();
}
