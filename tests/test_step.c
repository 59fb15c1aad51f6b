/* Tests of repo/step: from which commit the next one is asked for, and what may come along. */
#include "repo/step.h"

#include "fake_fetch.h"
#include "tap.h"

struct fixture {
	struct fetch *fetch;
	struct oid file, deep, old, new; /* old has two files, one in a folder */
};

static struct fixture fixture_open(void)
{
	struct fixture f = { .fetch = fake_open() };
	struct fake_entry folder[1], root[2];
	struct oid tree;

	fake_mode(f.fetch, FAKE_THREAD);
	f.file = fake_blob(f.fetch, "a file");
	f.deep = fake_blob(f.fetch, "another");
	folder[0] = (struct fake_entry){ "100644", "deep", f.deep };
	tree = fake_tree(f.fetch, folder, 1);
	root[0] = (struct fake_entry){ "100644", "file", f.file };
	root[1] = (struct fake_entry){ "40000", "folder", tree };
	tree = fake_tree(f.fetch, root, 2);
	f.old = fake_commit(f.fetch, &tree, 1000);
	f.new = fake_commit(f.fetch, &tree, 2000);
	return f;
}

static void old_is_here(struct fixture *f)
{
	fake_trees_here(f->fetch);
	fake_here(f->fetch, &f->old);
	step_remember(f->fetch, &f->old);
}

static void test_with_nothing_remembered_there_is_no_step(void)
{
	struct fixture f = fixture_open();
	struct oid from;

	fake_all_here(f.fetch);
	fake_gone(f.fetch, &f.new);
	step_prepare(f.fetch, &f.new);
	CHECK(!fake_step(f.fetch, &from));
	CHECK(oid_is_null(&from));
	fake_close(f.fetch);
}

static void test_from_a_commit_whose_files_are_all_here(void)
{
	struct fixture f = fixture_open();
	struct oid from;

	old_is_here(&f);
	fake_here(f.fetch, &f.file);
	fake_here(f.fetch, &f.deep);
	step_prepare(f.fetch, &f.new);
	CHECK(fake_step(f.fetch, &from));
	CHECK(oid_equal(&from, &f.old));
	fake_close(f.fetch);
}

static void test_from_a_commit_that_lacks_a_file_far_down(void)
{
	struct fixture f = fixture_open();
	struct oid from;

	old_is_here(&f);
	fake_here(f.fetch, &f.file);
	step_prepare(f.fetch, &f.new);
	CHECK(!fake_step(f.fetch, &from));
	CHECK(oid_equal(&from, &f.old));
	fake_close(f.fetch);
}

static void test_what_is_here_needs_no_step(void)
{
	struct fixture f = fixture_open();
	struct oid from;

	old_is_here(&f);
	fake_here(f.fetch, &f.new);
	step_prepare(f.fetch, &f.new);
	step_prepare(f.fetch, &f.old);
	fake_step(f.fetch, &from);
	CHECK(oid_is_null(&from));
	fake_close(f.fetch);
}

static void test_a_last_commit_that_has_gone_is_no_ground(void)
{
	struct fixture f = fixture_open();
	struct oid from;

	step_remember(f.fetch, &f.old);
	step_prepare(f.fetch, &f.new);
	fake_step(f.fetch, &from);
	CHECK(oid_is_null(&from));
	fake_close(f.fetch);
}

#define LEVELS 20 /* a million paths */

static void test_a_tree_in_very_many_places_is_looked_at_once(void)
{
	struct fixture f = fixture_open();
	struct oid from, tree = fake_tree(f.fetch, NULL, 0);

	for (unsigned i = 0; i < LEVELS; i++) {
		struct fake_entry twice[] = { { "40000", "a", tree }, { "40000", "b", tree } };

		tree = fake_tree(f.fetch, twice, 2);
	}
	f.old = fake_commit(f.fetch, &tree, 3000);
	old_is_here(&f);
	step_prepare(f.fetch, &f.new);
	CHECK(fake_step(f.fetch, &from));
	CHECK(fake_counts(f.fetch).gets < LEVELS + 10);
	fake_close(f.fetch);
}

int main(void)
{
	TAP_RUN(test_with_nothing_remembered_there_is_no_step);
	TAP_RUN(test_from_a_commit_whose_files_are_all_here);
	TAP_RUN(test_from_a_commit_that_lacks_a_file_far_down);
	TAP_RUN(test_what_is_here_needs_no_step);
	TAP_RUN(test_a_last_commit_that_has_gone_is_no_ground);
	TAP_RUN(test_a_tree_in_very_many_places_is_looked_at_once);
	return tap_done();
}
