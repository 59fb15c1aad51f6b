/* Tests of repo/again: which files are asked for together after a step to another commit. */
#include "repo/again.h"

#include "fake_fetch.h"
#include "tap.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* Three files in a folder, one above, and the same of the commit before; "same" did not change. */
struct fixture {
	struct fetch *fetch;
	struct oid old_a, old_b, old_top, same, new_a, new_b, new_top;
	struct oid old, new, old_tree, new_tree;
};

static struct oid tree_with(struct fetch *fetch, const struct oid *a, const struct oid *b,
			    const struct oid *same, const struct oid *top)
{
	struct fake_entry folder[] = { { "100644", "a", *a },
				       { "100644", "b", *b },
				       { "100644", "same", *same } };
	struct oid tree = fake_tree(fetch, folder, COUNT(folder));
	struct fake_entry root[] = { { "40000", "folder", tree }, { "100755", "top", *top } };

	return fake_tree(fetch, root, COUNT(root));
}

static struct fixture fixture_open(void)
{
	struct fixture f = { .fetch = fake_open() };

	fake_mode(f.fetch, FAKE_THREAD);
	f.old_a = fake_blob(f.fetch, "old a");
	f.old_b = fake_blob(f.fetch, "old b");
	f.old_top = fake_blob(f.fetch, "old top");
	f.same = fake_blob(f.fetch, "same");
	f.new_a = fake_blob(f.fetch, "new a");
	f.new_b = fake_blob(f.fetch, "new b");
	f.new_top = fake_blob(f.fetch, "new top");
	f.old_tree = tree_with(f.fetch, &f.old_a, &f.old_b, &f.same, &f.old_top);
	f.new_tree = tree_with(f.fetch, &f.new_a, &f.new_b, &f.same, &f.new_top);
	f.old = fake_commit(f.fetch, &f.old_tree, 1000);
	f.new = fake_commit(f.fetch, &f.new_tree, 2000);
	fake_trees_here(f.fetch);
	fake_here(f.fetch, &f.old);
	fake_here(f.fetch, &f.new);
	return f;
}

/* A mount of the old commit, and what was read in it. */
static void old_was_read(struct fixture *f, const struct oid *const *reads, size_t count)
{
	struct oid none = { 0 };
	struct again *again = again_new(f->fetch, &none, &f->old, &f->old_tree);

	for (size_t i = 0; i < count; i++)
		again_note(again, reads[i]);
	again_save(again);
	again_free(&again);
}

static bool claim(struct again *again, const struct oid *oid, size_t *out_count)
{
	struct fetch_list list = { 0 };
	bool claimed = again_claim(again, oid, &list);

	*out_count = list.count;
	fetch_list_release(&list);
	return claimed;
}

static void test_what_was_read_and_has_changed_is_asked_for_once(void)
{
	struct fixture f = fixture_open();
	const struct oid *reads[] = { &f.old_a, &f.same, &f.old_top };
	struct again *again;
	size_t count;

	fake_here(f.fetch, &f.old_a);
	fake_here(f.fetch, &f.old_b); /* came along, and was not read */
	fake_here(f.fetch, &f.old_top);
	fake_here(f.fetch, &f.same);
	old_was_read(&f, reads, COUNT(reads));
	again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
	CHECK(!claim(again, &f.new_b, &count));
	CHECK(!claim(again, &f.same, &count));
	CHECK(claim(again, &f.new_top, &count));
	CHECK_UINT(count, 2);
	CHECK(!claim(again, &f.new_a, &count));
	again_free(&again);
	fake_close(f.fetch);
}

static void test_what_is_here_need_not_come(void)
{
	struct fixture f = fixture_open();
	const struct oid *reads[] = { &f.old_a, &f.old_top };
	struct again *again;
	size_t count;

	fake_here(f.fetch, &f.old_a);
	fake_here(f.fetch, &f.old_top);
	fake_here(f.fetch, &f.new_a);
	old_was_read(&f, reads, COUNT(reads));
	again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
	CHECK(claim(again, &f.new_top, &count));
	CHECK_UINT(count, 1);
	again_free(&again);
	fake_close(f.fetch);
}

/* Of a mount that was killed. */
static void test_without_a_word_what_is_here_was_read(void)
{
	struct fixture f = fixture_open();
	struct again *again;
	size_t count;

	fake_here(f.fetch, &f.old_b);
	again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
	CHECK(!claim(again, &f.new_a, &count));
	CHECK(claim(again, &f.new_b, &count));
	CHECK_UINT(count, 1);
	again_free(&again);
	fake_close(f.fetch);
}

static void test_large_files_do_not_come_along(void)
{
	struct fixture f = fixture_open();
	struct again *again;
	size_t count;

	fake_large(f.fetch, 5);
	fake_here(f.fetch, &f.old_a);
	fake_here(f.fetch, &f.old_top);
	again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
	CHECK(claim(again, &f.new_a, &count));
	CHECK_UINT(count, 1);
	again_free(&again);
	fake_close(f.fetch);
}

static void test_the_same_commit_again_adds_to_what_was_read(void)
{
	struct fixture f = fixture_open();
	const struct oid *reads[] = { &f.old_a };
	struct again *again;
	size_t count;

	fake_here(f.fetch, &f.old_a);
	fake_here(f.fetch, &f.old_top);
	old_was_read(&f, reads, COUNT(reads));
	again = again_new(f.fetch, &f.old, &f.old, &f.old_tree);
	CHECK(!claim(again, &f.old_b, &count));
	again_note(again, &f.old_top);
	again_save(again);
	again_free(&again);
	again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
	CHECK(claim(again, &f.new_a, &count));
	CHECK_UINT(count, 2);
	again_free(&again);
	fake_close(f.fetch);
}

static void test_a_fact_that_is_damaged_is_none(void)
{
	static const char *const values[] = { "", "0123", "zz\n" };
	struct fixture f = fixture_open();
	struct again *again;
	size_t count;

	fake_here(f.fetch, &f.old_b);
	for (size_t i = 0; i < COUNT(values); i++) {
		fetch_fact_put(f.fetch, "last", "read", values[i], strlen(values[i]));
		again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
		CHECK(claim(again, &f.new_b, &count));
		again_free(&again);
	}
	fake_close(f.fetch);
}

static void test_nothing_before_and_nothing_here(void)
{
	struct fixture f = fixture_open();
	struct oid none = { 0 };
	struct again *again = again_new(f.fetch, &none, &f.new, &f.new_tree);
	size_t count;

	CHECK(!claim(again, &f.new_b, &count));
	again_free(&again);
	fake_gone(f.fetch, &f.old_tree);
	again = again_new(f.fetch, &f.old, &f.new, &f.new_tree);
	CHECK(!claim(again, &f.new_b, &count));
	again_free(&again);
	fake_close(f.fetch);
}

int main(void)
{
	TAP_RUN(test_what_was_read_and_has_changed_is_asked_for_once);
	TAP_RUN(test_what_is_here_need_not_come);
	TAP_RUN(test_without_a_word_what_is_here_was_read);
	TAP_RUN(test_large_files_do_not_come_along);
	TAP_RUN(test_the_same_commit_again_adds_to_what_was_read);
	TAP_RUN(test_a_fact_that_is_damaged_is_none);
	TAP_RUN(test_nothing_before_and_nothing_here);
	return tap_done();
}
