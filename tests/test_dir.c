/*
 * Directories: listing in the tree's order, finding by name, and what a hostile tree must not do.
 */
#include "repo/dir.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "tap.h"

struct entry {
	const char *mode, *name;
};

static void add_entry(struct buf *tree, const char *mode, const char *name, size_t name_len,
		      unsigned char id, size_t id_len)
{
	unsigned char bytes[32];

	memset(bytes, id, sizeof(bytes));
	if (buf_addf(tree, "%s ", mode) || buf_add(tree, name, name_len) || buf_add(tree, "", 1) ||
	    buf_add(tree, bytes, id_len))
		abort();
}

static struct dir *dir_of_bytes(struct buf *tree, enum oid_algo algo)
{
	struct block *block = block_copy(tree->data ? (const void *)tree->data : "", tree->len);
	struct dir *dir = NULL;

	if (dir_new(block, algo, &dir))
		dir = NULL;
	block_unref(block);
	buf_release(tree);
	return dir;
}

/* Ids are the number of the entry, from 1. */
static struct dir *dir_of(const struct entry *entries, size_t count)
{
	struct buf tree = BUF_INIT;

	for (size_t i = 0; i < count; i++)
		add_entry(&tree, entries[i].mode, entries[i].name, strlen(entries[i].name),
			  (unsigned char)(i + 1), 20);
	return dir_of_bytes(&tree, OID_SHA1);
}
#define DIR_OF(...)                                                                                \
	dir_of((const struct entry[]){ __VA_ARGS__ },                                              \
	       sizeof((const struct entry[]){ __VA_ARGS__ }) / sizeof(struct entry))

static int id_at(const struct dir *dir, const char *name)
{
	ssize_t index = dir_find(dir, name, strlen(name));

	return index < 0 ? (int)index : dir_oid(dir, (size_t)index).hash[0];
}

static void test_entries_keep_the_trees_order(void)
{
	/* as git sorts: "a.c" < "a/" < "a0" */
	struct dir *dir = DIR_OF({ "100644", "a.c" }, { "40000", "a" }, { "100755", "a0" });

	CHECK_UINT(dir->count, 3);
	CHECK_STR(dir_name(dir, 0), "a.c");
	CHECK_STR(dir_name(dir, 1), "a");
	CHECK_STR(dir_name(dir, 2), "a0");
	dir_free(dir);
}

static void test_names_are_found_though_git_sorts_directories_differently(void)
{
	struct dir *dir = DIR_OF({ "100644", "a.c" }, { "40000", "a" }, { "100755", "a0" });

	CHECK(dir->by_name != NULL);
	CHECK_INT(id_at(dir, "a"), 2);
	CHECK_INT(id_at(dir, "a.c"), 1);
	CHECK_INT(id_at(dir, "a0"), 3);
	CHECK_INT(id_at(dir, "a.d"), -ENOENT);
	CHECK_INT(id_at(dir, ""), -ENOENT);
	CHECK_INT(id_at(dir, "b"), -ENOENT);
	dir_free(dir);
}

static void test_no_index_is_kept_where_the_order_is_that_of_bytes(void)
{
	struct dir *dir = DIR_OF({ "100644", "a" }, { "40000", "b" }, { "100755", "c" });

	CHECK_NULL(dir->by_name);
	CHECK_INT(id_at(dir, "b"), 2);
	dir_free(dir);
}

static void test_names_are_found_in_a_tree_of_any_order(void)
{
	struct dir *dir =
		DIR_OF({ "100644", "z" }, { "100644", "m" }, { "100644", "a" }, { "100644", "q" });

	CHECK_INT(id_at(dir, "a"), 3);
	CHECK_INT(id_at(dir, "m"), 2);
	CHECK_INT(id_at(dir, "q"), 4);
	CHECK_INT(id_at(dir, "z"), 1);
	CHECK_STR(dir_name(dir, 0), "z");
	dir_free(dir);
}

static void test_of_a_name_that_comes_twice_the_first_counts(void)
{
	struct dir *dir = DIR_OF({ "100644", "b" }, { "100644", "a" }, { "40000", "b" },
				 { "120000", "b" }, { "100644", "c" }, { "100644", "a" });

	CHECK_UINT(dir->count, 3);
	CHECK_STR(dir_name(dir, 0), "b");
	CHECK_STR(dir_name(dir, 1), "a");
	CHECK_STR(dir_name(dir, 2), "c");
	CHECK_INT(id_at(dir, "b"), 1);
	CHECK_INT(id_at(dir, "a"), 2);
	CHECK_INT(id_at(dir, "c"), 5);
	CHECK_INT(dir->v[0].kind, DIR_FILE);
	dir_free(dir);
}

static void test_refused_names_are_left_out(void)
{
	struct dir *dir = DIR_OF({ "40000", ".git" }, { "40000", ".GIT" }, { "40000", "GIT~1" },
				 { "100644", "." }, { "40000", ".." }, { "100644", "a/b" },
				 { "100644", "fine" });

	CHECK_UINT(dir->count, 1);
	CHECK_STR(dir_name(dir, 0), "fine");
	CHECK_INT(id_at(dir, ".git"), -ENOENT);
	CHECK_INT(id_at(dir, ".."), -ENOENT);
	CHECK_INT(id_at(dir, "a/b"), -ENOENT);
	dir_free(dir);
}

static void test_odd_names_are_found(void)
{
	static const char *const names[] = { " ",     "a b", "new\nline", "\xff\xfe", "\x01",
					     "tab\t", "-rf", "*",	  "\\",	      "\"" };
	struct buf tree = BUF_INIT;
	struct dir *dir;
	char longest[256];

	memset(longest, 'n', 255);
	longest[255] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		add_entry(&tree, "100644", names[i], strlen(names[i]), (unsigned char)(i + 1), 20);
	add_entry(&tree, "100644", longest, 255, 99, 20);
	dir = dir_of_bytes(&tree, OID_SHA1);
	CHECK(dir != NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CHECK_MSG(id_at(dir, names[i]) == (int)i + 1, "name %zu", i);
	CHECK_INT(id_at(dir, longest), 99);
	dir_free(dir);
}

static void test_a_name_of_256_bytes_is_left_out(void)
{
	struct buf tree = BUF_INIT;
	struct dir *dir;
	char name[256];

	memset(name, 'n', 256);
	add_entry(&tree, "100644", name, 256, 1, 20);
	dir = dir_of_bytes(&tree, OID_SHA1);
	CHECK(dir != NULL);
	CHECK_UINT(dir->count, 0);
	dir_free(dir);
}

static void test_modes_become_kinds(void)
{
	static const struct {
		const char *mode;
		enum dir_kind kind;
		unsigned shown;
	} rows[] = {
		{ "100644", DIR_FILE, S_IFREG | 0644 },	   { "100664", DIR_FILE, S_IFREG | 0644 },
		{ "100755", DIR_EXEC, S_IFREG | 0755 },	   { "120000", DIR_LINK, S_IFLNK | 0777 },
		{ "40000", DIR_TREE, S_IFDIR | 0755 },	   { "040000", DIR_TREE, S_IFDIR | 0755 },
		{ "160000", DIR_GITLINK, S_IFDIR | 0755 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct dir *dir = DIR_OF({ rows[i].mode, "x" });

		CHECK_UINT(dir->count, 1);
		CHECK_INT(dir->v[0].kind, rows[i].kind);
		CHECK_UINT(dir_kind_mode((enum dir_kind)dir->v[0].kind), rows[i].shown);
		dir_free(dir);
	}
}

static void test_sha256_ids_are_read(void)
{
	struct buf tree = BUF_INIT;
	struct dir *dir;
	struct oid oid;

	add_entry(&tree, "100644", "a", 1, 7, 32);
	add_entry(&tree, "100644", "b", 1, 8, 32);
	dir = dir_of_bytes(&tree, OID_SHA256);
	CHECK(dir != NULL);
	oid = dir_oid(dir, (size_t)dir_find(dir, "b", 1));
	CHECK_INT(oid.algo, OID_SHA256);
	CHECK_INT(oid.hash[31], 8);
	dir_free(dir);
}

static void test_an_empty_tree_is_empty(void)
{
	struct buf tree = BUF_INIT;
	struct dir *dir = dir_of_bytes(&tree, OID_SHA1);

	CHECK(dir != NULL);
	CHECK_UINT(dir->count, 0);
	CHECK_INT(dir_find(dir, "a", 1), -ENOENT);
	dir_free(dir);
	CHECK_INT(dir_new(NULL, OID_SHA1, &dir), 0);
	CHECK_UINT(dir->count, 0);
	CHECK_INT(dir_find(dir, "a", 1), -ENOENT);
	dir_free(dir);
}

static void test_a_broken_tree_is_refused(void)
{
	static const char *const trees[] = { "100644", "100644 a", "100644 a\0short",
					     "x a\0aaaaaaaaaaaaaaaaaaaa" };
	static const size_t lens[] = { 6, 8, 14, 24 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct block *block = block_copy(trees[i], lens[i]);
		struct dir *dir = NULL;

		CHECK_INT(dir_new(block, OID_SHA1, &dir), -EPROTO);
		CHECK_NULL(dir);
		block_unref(block);
	}
}

static void test_a_large_directory_is_searched_quickly(void)
{
	struct buf tree = BUF_INIT;
	struct dir *dir;
	char name[32];

	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "file-%d", i); /* not in the order of bytes */
		add_entry(&tree, "100644", name, strlen(name), (unsigned char)(i % 250), 20);
	}
	dir = dir_of_bytes(&tree, OID_SHA1);
	CHECK(dir != NULL);
	CHECK_UINT(dir->count, 5000);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 5000; i++) {
			snprintf(name, sizeof(name), "file-%d", i);
			CHECK_INT(dir_find(dir, name, strlen(name)), i);
		}
	}
	dir_free(dir);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_entries_keep_the_trees_order);
	TAP_RUN(test_names_are_found_though_git_sorts_directories_differently);
	TAP_RUN(test_no_index_is_kept_where_the_order_is_that_of_bytes);
	TAP_RUN(test_names_are_found_in_a_tree_of_any_order);
	TAP_RUN(test_of_a_name_that_comes_twice_the_first_counts);
	TAP_RUN(test_refused_names_are_left_out);
	TAP_RUN(test_odd_names_are_found);
	TAP_RUN(test_a_name_of_256_bytes_is_left_out);
	TAP_RUN(test_modes_become_kinds);
	TAP_RUN(test_sha256_ids_are_read);
	TAP_RUN(test_an_empty_tree_is_empty);
	TAP_RUN(test_a_broken_tree_is_refused);
	TAP_RUN(test_a_large_directory_is_searched_quickly);
	return tap_done();
}
