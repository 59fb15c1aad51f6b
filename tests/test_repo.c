/*
 * The repo's operations against a fetch that parks, delivers, loses and forgets as told.
 */
#include "repo/repo.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "fake_fetch.h"
#include "remote/source.h"
#include "repo/inode.h"
#include "repo/node.h"
#include "tap.h"

/* ---- a small repository ---- */

struct fixture {
	struct fetch *fetch;
	struct remote *remote;
	struct source source;
	struct node_table *nodes;
	struct repo *repo;
	struct node *root;
	struct oid commit, tree, lib, file, script, link, module;
};

static struct fixture fixture_make(void)
{
	struct fixture f = { .fetch = fake_open(), .remote = fake_remote_open() };

	f.file = fake_blob(f.fetch, "hello, world\n");
	f.script = fake_blob(f.fetch, "#!/bin/sh\n");
	f.link = fake_blob(f.fetch, "../README");
	f.module = (struct oid){ .algo = OID_SHA1, .hash = { 9, 9, 9 } };
	struct fake_entry lib[] = { { "100644", "a.c", fake_blob(f.fetch, "int a;\n") },
				    { "100644", "b.c", fake_blob(f.fetch, "int b;\n") } };

	f.lib = fake_tree(f.fetch, lib, 2);
	struct fake_entry root[] = {
		{ "40000", ".git", f.lib },	  { "100644", "README", f.file },
		{ "40000", "lib", f.lib },	  { "120000", "link", f.link },
		{ "160000", "module", f.module }, { "100755", "run", f.script }
	};

	f.tree = fake_tree(f.fetch, root, sizeof(root) / sizeof(root[0]));
	f.commit = fake_commit(f.fetch, &f.tree, 1000);
	fake_ref(f.remote, "HEAD", &f.commit, NULL, "refs/heads/main");
	static char shown[] = "example/r", identity[] = "example";

	f.source = (struct source){ .shown = shown, .identity = identity };
	f.nodes = node_table_new();
	return f;
}

static int fixture_mount(struct fixture *f, const char *subdir, struct xcp_error *err)
{
	struct repo_config config = {
		.fetch = f->fetch,
		.remote = f->remote,
		.source = &f->source,
		.subdir = subdir,
		.nodes = f->nodes,
	};
	int ret;

	fake_mode(f->fetch, FAKE_THREAD);
	ret = repo_open(&config, &f->repo, err);
	fake_mode(f->fetch, FAKE_PARK);
	if (ret)
		return ret;
	f->root = repo_root(f->repo);
	node_table_set_root(f->nodes, f->root);
	return 0;
}

static struct fixture fixture_open(void)
{
	struct fixture f = fixture_make();
	struct xcp_error err;

	if (fixture_mount(&f, NULL, &err)) {
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	return f;
}

static void fixture_unmount(struct fixture *f)
{
	repo_close(&f->repo);
}

static void fixture_close(struct fixture *f)
{
	fixture_unmount(f);
	node_table_free(&f->nodes);
	fake_remote_close(f->remote);
	fake_close(f->fetch);
}

/* A wait that remembers what it was told. */
struct waiting {
	struct repo_wait wait;
	int woken, status;
};

static void on_wake(struct repo_wait *wait, int status)
{
	struct waiting *waiting = (struct waiting *)wait;

	waiting->woken++;
	waiting->status = status;
}

static struct waiting waiting_for(struct fixture *f)
{
	struct waiting waiting = { .status = 77 };

	repo_wait_init(&waiting.wait, f->repo, on_wake);
	return waiting;
}

static struct node *lookup(struct fixture *f, struct node *dir, const char *name)
{
	struct node *node;

	return repo_lookup(f->repo, dir, name, NULL, &node) ? NULL : node;
}

static void forget(struct fixture *f, struct node *node)
{
	node_forget(f->nodes, node, 1);
}

/* The bytes of spans as text. */
static const char *text_of(struct spans *spans)
{
	static char text[4096];
	size_t used = 0;

	for (unsigned i = 0; i < spans->count && used + spans->v[i].len < sizeof(text); i++) {
		memcpy(text + used, spans->v[i].block->data + spans->v[i].off, spans->v[i].len);
		used += spans->v[i].len;
	}
	text[used] = '\0';
	spans_release(spans);
	return text;
}

#define CHECK_OID(got, want) CHECK_MEM(&(got), sizeof(struct oid), &(want), sizeof(struct oid))

/* ---- opening ---- */

static void test_opening_shows_the_root(void)
{
	struct fixture f = fixture_open();
	struct repo_dirent entry;
	struct repo_attr attr;

	CHECK_OID(repo_identity(f.repo)->commit, f.commit);
	CHECK_OID(repo_identity(f.repo)->tree, f.tree);
	CHECK(!repo_identity(f.repo)->from_cache);
	CHECK_PTR(repo_fetch(f.repo), f.fetch);
	CHECK_PTR(node_repo(f.root), f.repo);
	CHECK_PTR(repo_parent(f.repo, f.root), f.root);
	CHECK_INT(repo_dirent(f.repo, f.root, 0, &entry), 0);
	CHECK_STR(entry.name, "README");
	CHECK_INT(repo_getattr(f.repo, f.root, NULL, &attr), 0);
	CHECK_UINT(attr.mode, S_IFDIR | 0755);
	CHECK_UINT(attr.size, 0);
	CHECK(attr.size_known);
	CHECK_UINT(fake_counts(f.fetch).commits, 1);
	CHECK_UINT(fake_counts(f.fetch).contents, 1); /* the root's tree alone */
	fixture_close(&f);
}

static void test_opening_fails_with_words(void)
{
	struct fixture f = fixture_make();
	struct xcp_error err = { 0 };

	static char unknown[] = "nothing-of-the-kind";

	f.source.ref = unknown;
	CHECK_INT(fixture_mount(&f, NULL, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "nothing-of-the-kind");
	CHECK_NULL(f.repo);
	CHECK_UINT(node_count(f.nodes), 0);
	f.source.ref = NULL;
	fake_silence(f.fetch, -ETIMEDOUT);
	CHECK_INT(fixture_mount(&f, NULL, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.message, "cannot fetch commit");
	fixture_close(&f);
}

static void much_time_passes(void *arg)
{
	(void)arg;
	clock_fake_advance(600000);
}

/* A server that trickles: the wait is never told of an end. */
static void test_opening_does_not_wait_for_ever(void)
{
	struct fixture f = fixture_make();
	struct repo_config config = {
		.fetch = f.fetch, .remote = f.remote, .source = &f.source, .nodes = f.nodes
	};
	struct xcp_error err = { 0 };

	clock_fake(1000);
	fake_hook(f.fetch, much_time_passes, NULL);
	CHECK_INT(repo_open(&config, &f.repo, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.message, "nothing came in time");
	CHECK_UINT(fake_waiting(f.fetch), 0);
	clock_real();
	fixture_close(&f);
}

static void test_a_subdirectory_is_shown_alone(void)
{
	static const char *const spellings[] = {
		"lib", "/lib", "lib/", "./lib", "//lib//", "lib/."
	};

	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
		struct fixture f = fixture_make();
		struct xcp_error err = { 0 };
		struct buf path = BUF_INIT;
		struct node *node;

		CHECK_INT(fixture_mount(&f, spellings[i], &err), 0);
		node = lookup(&f, f.root, "a.c");
		CHECK(node != NULL);
		CHECK_NULL(lookup(&f, f.root, "README"));
		CHECK_INT(repo_path(f.repo, node, &path), 0);
		CHECK_MEM(path.data, path.len, "a.c", 3);
		CHECK_OID(repo_identity(f.repo)->tree, f.tree);
		buf_release(&path);
		fixture_close(&f);
	}
}

static void test_a_subdirectorys_inodes_are_those_of_the_whole(void)
{
	struct fixture f = fixture_open();
	struct repo_attr whole, part, whole_dir, part_dir;
	struct node *lib = lookup(&f, f.root, "lib");

	fake_here(f.fetch, &f.lib);
	repo_attr_now(f.repo, lookup(&f, lib, "a.c"), &whole);
	repo_attr_now(f.repo, lib, &whole_dir);
	fixture_unmount(&f);
	CHECK_INT(fixture_mount(&f, "lib", NULL), 0);
	repo_attr_now(f.repo, lookup(&f, f.root, "a.c"), &part);
	repo_attr_now(f.repo, f.root, &part_dir);
	CHECK_UINT(part.ino, whole.ino);
	CHECK_UINT(part_dir.ino, whole_dir.ino);
	fixture_close(&f);
}

static void test_a_wrong_subdirectory_is_named(void)
{
	static const struct {
		const char *subdir;
		int code;
		const char *words;
	} rows[] = {
		{ "nowhere", -ENOENT, "nowhere does not exist" },
		{ "lib/nowhere/x", -ENOENT, "lib/nowhere does not exist" },
		{ "README", -ENOTDIR, "README is a file" },
		{ "lib/a.c/x", -ENOTDIR, "lib/a.c is a file" },
		{ "link", -ENOTDIR, "link is a file" },
		{ "module", -ENOTDIR, "is a submodule" },
		{ ".git", -ENOENT, "does not exist" },
		{ "lib/../lib", -EINVAL, "\"..\"" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fixture f = fixture_make();
		struct xcp_error err = { 0 };

		CHECK_INT(fixture_mount(&f, rows[i].subdir, &err), rows[i].code);
		CHECK_CONTAINS(err.message, rows[i].words);
		fixture_close(&f);
	}
}

static void test_a_commit_without_a_tree_is_refused(void)
{
	struct fixture f = fixture_make();
	struct oid commit = fake_commit(f.fetch, &f.file, 1000); /* a blob for a tree */
	struct xcp_error err = { 0 };
	char hex[OID_MAX_HEX + 1];

	f.source.ref = oid_to_hex(&commit, hex);
	CHECK_INT(fixture_mount(&f, NULL, &err), -EBADMSG);
	CHECK(err.message[0]);
	fixture_close(&f);
}

static void test_a_remount_without_the_remote_shows_the_same(void)
{
	struct fixture f = fixture_open();
	struct repo_attr before, after;

	repo_attr_now(f.repo, lookup(&f, f.root, "README"), &before);
	fixture_unmount(&f);
	fake_remote_fail(f.remote, -ENETUNREACH);
	fake_silence(f.fetch, -ENETUNREACH);
	CHECK_INT(fixture_mount(&f, NULL, NULL), 0);
	CHECK(repo_identity(f.repo)->from_cache);
	CHECK_INT(repo_identity(f.repo)->resolved_s, 1000);
	repo_attr_now(f.repo, lookup(&f, f.root, "README"), &after);
	CHECK_UINT(after.ino, before.ino);
	CHECK_INT(after.mtime_s, before.mtime_s);
	fixture_close(&f);
}

static void test_a_ref_is_remembered_only_when_its_tree_was_seen(void)
{
	struct fixture f = fixture_make();
	struct buf value = BUF_INIT;

	CHECK_INT(fixture_mount(&f, "nowhere", NULL), -ENOENT);
	CHECK_INT(fetch_fact_get(f.fetch, "ref", "HEAD", &value, NULL), -ENOENT);
	CHECK_INT(fixture_mount(&f, NULL, NULL), 0);
	CHECK_INT(fetch_fact_get(f.fetch, "ref", "HEAD", &value, NULL), 0);
	buf_release(&value);
	fixture_close(&f);
}

/* ---- times ---- */

static int64_t mtime_of(struct fixture *f, long long commit_time)
{
	struct oid commit = fake_commit(f->fetch, &f->tree, commit_time);
	char hex[OID_MAX_HEX + 1];
	int64_t mtime_s;

	f->source.ref = oid_to_hex(&commit, hex);
	if (fixture_mount(f, NULL, NULL))
		return -1;
	mtime_s = repo_identity(f->repo)->mtime_s;
	fixture_unmount(f);
	return mtime_s;
}

static void test_mtimes_are_the_commits_no_later_than_the_first_mount(void)
{
	struct fixture f = fixture_make();

	clock_fake(50000 * 1000);
	CHECK_INT(mtime_of(&f, 40000), 40000);
	CHECK_INT(mtime_of(&f, 60000), 50000);
	CHECK_INT(mtime_of(&f, 0), 1);
	clock_fake(55000 * 1000);
	CHECK_INT(mtime_of(&f, 60000), 50000); /* kept */
	clock_fake(10000 * 1000);
	CHECK_INT(mtime_of(&f, 40000), 40000);
	clock_real();
	fixture_close(&f);
}

static void test_a_damaged_identity_is_made_anew(void)
{
	static const char *const values[] = {
		"", "x", "0 tree", "-5 tree", "99", "40001 deadbeef"
	};

	clock_fake(50000 * 1000);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct fixture f = fixture_make();
		struct oid commit = fake_commit(f.fetch, &f.tree, 40000);
		char hex[OID_MAX_HEX + 1];

		fetch_fact_put(f.fetch, "mount", oid_to_hex(&commit, hex), values[i],
			       strlen(values[i]));
		CHECK_INT(mtime_of(&f, 40000), 40000);
		fixture_close(&f);
	}
	clock_real();
}

/* ---- looking up ---- */

static void test_names_are_found_and_kinds_shown(void)
{
	static const struct {
		const char *name;
		uint32_t mode;
	} rows[] = {
		{ "README", S_IFREG | 0644 }, { "run", S_IFREG | 0755 },
		{ "link", S_IFLNK | 0777 },   { "lib", S_IFDIR | 0755 },
		{ "module", S_IFDIR | 0755 },
	};
	struct fixture f = fixture_open();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct node *node = lookup(&f, f.root, rows[i].name);
		struct repo_attr attr;

		CHECK(node != NULL);
		repo_attr_now(f.repo, node, &attr);
		CHECK_UINT(attr.mode, rows[i].mode);
		CHECK_INT(attr.mtime_s, 1000);
		CHECK(attr.ino > 1 && attr.ino < 1ull << 48);
		CHECK_PTR(repo_parent(f.repo, node), f.root);
		forget(&f, node);
	}
	CHECK_UINT(node_count(f.nodes), 1);
	fixture_close(&f);
}

static void test_names_that_are_not_there_are_not_found(void)
{
	struct fixture f = fixture_open();
	struct node *node, *file = lookup(&f, f.root, "README");
	char name[300];

	memset(name, 'n', sizeof(name) - 1);
	name[256] = '\0';
	CHECK_INT(repo_lookup(f.repo, f.root, "nothing", NULL, &node), -ENOENT);
	CHECK_INT(repo_lookup(f.repo, f.root, "readme", NULL, &node), -ENOENT);
	CHECK_INT(repo_lookup(f.repo, f.root, ".git", NULL, &node), -ENOENT);
	CHECK_INT(repo_lookup(f.repo, f.root, "..", NULL, &node), -ENOENT);
	CHECK_INT(repo_lookup(f.repo, f.root, name, NULL, &node), -ENAMETOOLONG);
	name[255] = '\0';
	CHECK_INT(repo_lookup(f.repo, f.root, name, NULL, &node), -ENOENT);
	CHECK_INT(repo_lookup(f.repo, file, "x", NULL, &node), -ENOTDIR);
	CHECK_INT(repo_dir_load(f.repo, file, NULL), -ENOTDIR);
	CHECK_UINT(node_count(f.nodes), 2);
	fixture_close(&f);
}

static void test_a_gitlink_is_an_empty_directory(void)
{
	struct fixture f = fixture_open();
	struct node *module = lookup(&f, f.root, "module"), *node;
	struct repo_dirent entry;
	struct repo_origin origin;

	CHECK_INT(repo_dir_load(f.repo, module, NULL), 0);
	CHECK_INT(repo_dirent(f.repo, module, 0, &entry), -ENOENT);
	CHECK_INT(repo_lookup(f.repo, module, "x", NULL, &node), -ENOENT);
	CHECK_NULL(repo_dirent_node(f.repo, module, 0));
	repo_origin(f.repo, module, &origin);
	CHECK_OID(origin.oid, f.module);
	CHECK(!origin.cached);
	fixture_close(&f);
}

static void test_a_lookup_waits_for_the_directorys_tree(void)
{
	struct fixture f = fixture_open();
	struct node *lib = lookup(&f, f.root, "lib"), *node = NULL;
	struct waiting waiting = waiting_for(&f);

	CHECK_INT(repo_lookup(f.repo, lib, "a.c", NULL, &node), -EAGAIN);
	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &waiting.wait, &node), REPO_PARKED);
	CHECK_INT(waiting.woken, 0);
	CHECK_UINT(fake_deliver(f.fetch, &f.lib, 0), 1);
	CHECK_INT(waiting.woken, 1);
	CHECK_INT(waiting.status, 0);
	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &waiting.wait, &node), 0);
	CHECK(node != NULL);
	CHECK_INT(repo_lookup(f.repo, lib, "b.c", NULL, &node), 0); /* loaded now */
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_progress_is_made_without_a_cache(void)
{
	struct fixture f = fixture_open();
	struct node *lib = lookup(&f, f.root, "lib"), *node = NULL;
	struct waiting waiting = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;
	struct block *target;

	fake_keep(f.fetch, false);
	fake_gone(f.fetch, &f.lib);
	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &waiting.wait, &node), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &waiting.wait, &node), 0);
	CHECK_INT(repo_getattr(f.repo, node, &waiting.wait, &attr), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_getattr(f.repo, node, &waiting.wait, &attr), 0);
	CHECK_UINT(attr.size, 7);
	CHECK_INT(repo_read(f.repo, node, 0, 100, &waiting.wait, &spans), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_read(f.repo, node, 0, 100, &waiting.wait, &spans), 0);
	CHECK_STR(text_of(&spans), "int a;\n");
	node = lookup(&f, f.root, "link");
	CHECK_INT(repo_readlink(f.repo, node, &waiting.wait, &target), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_readlink(f.repo, node, &waiting.wait, &target), 0);
	CHECK_MEM(target->data, target->len, "../README", 9);
	block_unref(target);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_a_missing_object_is_no_missing_name(void)
{
	struct fixture f = fixture_open();
	struct node *lib = lookup(&f, f.root, "lib"), *node;
	struct waiting waiting = waiting_for(&f);

	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &waiting.wait, &node), REPO_PARKED);
	fake_deliver(f.fetch, NULL, -ENOENT);
	CHECK_INT(waiting.status, -EIO);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_a_failed_wait_may_be_tried_again(void)
{
	struct fixture f = fixture_open();
	struct node *lib = lookup(&f, f.root, "lib"), *node;
	struct waiting waiting = waiting_for(&f), again = waiting_for(&f);

	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &waiting.wait, &node), REPO_PARKED);
	fake_deliver(f.fetch, NULL, -ETIMEDOUT);
	CHECK_INT(waiting.status, -ETIMEDOUT);
	repo_wait_release(&waiting.wait);
	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &again.wait, &node), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_lookup(f.repo, lib, "a.c", &again.wait, &node), 0);
	repo_wait_release(&again.wait);
	fixture_close(&f);
}

static void test_a_tree_that_is_none_is_refused(void)
{
	struct fixture f = fixture_make();
	struct oid broken = fake_object(f.fetch, OBJECT_TREE, "100644 x", 8);
	struct fake_entry root[] = { { "40000", "blob", f.file }, { "40000", "broken", broken } };
	struct oid tree = fake_tree(f.fetch, root, 2), commit = fake_commit(f.fetch, &tree, 1);
	char hex[OID_MAX_HEX + 1];
	struct node *node;

	f.source.ref = oid_to_hex(&commit, hex);
	CHECK_INT(fixture_mount(&f, NULL, NULL), 0);
	fake_all_here(f.fetch);
	CHECK_INT(repo_lookup(f.repo, lookup(&f, f.root, "blob"), "x", NULL, &node), -EBADMSG);
	CHECK_INT(repo_lookup(f.repo, lookup(&f, f.root, "broken"), "x", NULL, &node), -EPROTO);
	fixture_close(&f);
}

static void test_entries_are_listed_in_the_trees_order(void)
{
	static const char *const names[] = { "README", "lib", "link", "module", "run" };
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFDIR, S_IFREG };
	struct fixture f = fixture_open();
	struct repo_dirent entry;

	for (size_t i = 0; i < 5; i++) {
		struct repo_attr attr;
		struct node *node;

		CHECK_INT(repo_dirent(f.repo, f.root, i, &entry), 0);
		CHECK_STR(entry.name, names[i]);
		CHECK_UINT(entry.mode & S_IFMT, types[i]);
		node = repo_dirent_node(f.repo, f.root, i);
		CHECK_PTR(node, lookup(&f, f.root, names[i]));
		repo_attr_now(f.repo, node, &attr);
		CHECK_UINT(attr.ino, entry.ino);
	}
	CHECK_INT(repo_dirent(f.repo, f.root, 5, &entry), -ENOENT);
	CHECK_INT(repo_dirent(f.repo, f.root, SIZE_MAX, &entry), -ENOENT);
	CHECK_NULL(repo_dirent_node(f.repo, f.root, 5));
	fixture_close(&f);
}

static void test_an_unloaded_directory_lists_nothing(void)
{
	struct fixture f = fixture_open();
	struct node *lib = lookup(&f, f.root, "lib");
	struct repo_dirent entry;

	CHECK_INT(repo_dirent(f.repo, lib, 0, &entry), -ENOENT);
	CHECK_NULL(repo_dirent_node(f.repo, lib, 0));
	fixture_close(&f);
}

static void test_paths_are_put_together(void)
{
	struct fixture f = fixture_open();
	struct node *lib = lookup(&f, f.root, "lib");
	struct buf path = BUF_INIT;

	fake_here(f.fetch, &f.lib);
	CHECK_INT(repo_path(f.repo, f.root, &path), 0);
	CHECK_UINT(path.len, 0);
	CHECK_INT(buf_add_str(&path, "at "), 0);
	CHECK_INT(repo_path(f.repo, lookup(&f, lib, "b.c"), &path), 0);
	CHECK_MEM(path.data, path.len, "at lib/b.c", 10);
	buf_release(&path);
	fixture_close(&f);
}

/* ---- sizes ---- */

static void test_an_unknown_size_is_never_given_as_known(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct repo_attr attr;

	repo_attr_now(f.repo, file, &attr);
	CHECK(!attr.size_known);
	CHECK_UINT(attr.size, REPO_SIZE_PLACEHOLDER);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), -EAGAIN);
	fake_size_here(f.fetch, &f.file);
	repo_attr_now(f.repo, file, &attr);
	CHECK(attr.size_known);
	CHECK_UINT(attr.size, 13);
	fixture_close(&f);
}

static void test_getattr_waits_for_the_size_with_company(void)
{
	static const struct fetch_budget budget = { .count = 10 };
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting waiting = waiting_for(&f);
	struct repo_attr attr;

	fake_budget(f.fetch, &budget);
	CHECK_INT(repo_getattr(f.repo, file, &waiting.wait, &attr), REPO_PARKED);
	struct oid tree = fake_company_tree(f.fetch);

	CHECK_OID(tree, f.tree);
	CHECK_UINT(fake_company(f.fetch)->count, 1);
	CHECK_OID(fake_company(f.fetch)->v[0], f.script);
	CHECK_UINT(fake_together(f.fetch)->count, 1); /* what a link says is its size */
	CHECK_OID(fake_together(f.fetch)->v[0], f.link);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(waiting.status, 0);
	CHECK_INT(repo_getattr(f.repo, file, &waiting.wait, &attr), 0);
	CHECK_UINT(attr.size, 13);
	CHECK(attr.size_known);
	CHECK_UINT(fake_counts(f.fetch).sizes, 1);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_a_size_stays_with_its_node(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct repo_totals totals;
	struct repo_attr attr;

	fake_size_here(f.fetch, &f.file);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
	fake_gone(f.fetch, &f.file);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
	CHECK_UINT(attr.size, 13);
	repo_totals(f.repo, &totals);
	CHECK_UINT(totals.bytes_known, 13);
	CHECK_UINT(totals.nodes, 6); /* the root and five names */
	fixture_close(&f);
}

static void test_a_failed_size_is_not_taken_for_one(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting waiting = waiting_for(&f);
	struct repo_attr attr;

	CHECK_INT(repo_getattr(f.repo, file, &waiting.wait, &attr), REPO_PARKED);
	fake_deliver(f.fetch, NULL, -EIO);
	CHECK_INT(waiting.status, -EIO);
	CHECK_INT(repo_getattr(f.repo, file, &waiting.wait, &attr), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_getattr(f.repo, file, &waiting.wait, &attr), 0);
	CHECK_UINT(attr.size, 13);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_a_links_size_is_its_targets_length(void)
{
	struct fixture f = fixture_open();
	struct node *link = lookup(&f, f.root, "link");
	struct waiting waiting = waiting_for(&f);
	struct repo_attr attr;

	CHECK_INT(repo_getattr(f.repo, link, &waiting.wait, &attr), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_getattr(f.repo, link, &waiting.wait, &attr), 0);
	CHECK_UINT(attr.size, 9);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

/* ---- reading ---- */

static void test_reads_are_cut_at_the_end(void)
{
	static const struct {
		uint64_t off;
		size_t len;
		const char *text;
	} rows[] = {
		{ 0, 100, "hello, world\n" },
		{ 0, 5, "hello" },
		{ 7, 5, "world" },
		{ 7, 500, "world\n" },
		{ 12, 1, "\n" },
		{ 13, 1, "" },
		{ 14, 10, "" },
		{ UINT64_MAX, 10, "" },
		{ 0, 0, "" },
		{ 0, SIZE_MAX, "hello, world\n" },
	};
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");

	fake_here(f.fetch, &f.file);
	for (int round = 0; round < 2; round++) { /* without the size known, and with it */
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct spans spans = SPANS_INIT;

			CHECK_INT(repo_read(f.repo, file, rows[i].off, rows[i].len, NULL, &spans),
				  0);
			CHECK_STR(text_of(&spans), rows[i].text);
		}
		struct repo_attr attr;

		CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
	}
	fixture_close(&f);
}

static void test_a_read_waits_for_the_content_with_company(void)
{
	static const struct fetch_budget budget = { .count = 10,
						    .bytes = 1000,
						    .object_bytes = 100 };
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting waiting = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	fake_budget(f.fetch, &budget);
	fake_size_here(f.fetch, &f.script);
	CHECK_INT(repo_read(f.repo, file, 7, 5, NULL, &spans), -EAGAIN);
	CHECK_INT(repo_read(f.repo, file, 7, 5, &waiting.wait, &spans), REPO_PARKED);
	CHECK_UINT(fake_company(f.fetch)->count, 1);
	CHECK_OID(fake_company(f.fetch)->v[0], f.script);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_read(f.repo, file, 7, 5, &waiting.wait, &spans), 0);
	CHECK_STR(text_of(&spans), "world");
	repo_attr_now(f.repo, file, &attr); /* learned from the content */
	CHECK(attr.size_known);
	CHECK_UINT(attr.size, 13);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

/* Whether it is in the cache, comes from it at once, or with a wait. */
static void test_a_file_that_is_no_blob_is_refused(void)
{
	struct fixture f = fixture_make();
	struct fake_entry inner[] = { { "100644", "x", f.file } };
	struct oid folder = fake_tree(f.fetch, inner, 1);
	struct fake_entry root[] = { { "100644", "file", folder },
				     { "120000", "link", folder },
				     { "100755", "run", folder } };
	struct oid tree = fake_tree(f.fetch, root, 3), commit = fake_commit(f.fetch, &tree, 1);
	char hex[OID_MAX_HEX + 1];
	struct node *file, *link;
	struct spans spans = SPANS_INIT;
	struct waiting waiting;
	struct block *target;

	f.source.ref = oid_to_hex(&commit, hex);
	CHECK_INT(fixture_mount(&f, NULL, NULL), 0);
	file = lookup(&f, f.root, "file");
	link = lookup(&f, f.root, "link");
	waiting = waiting_for(&f);
	fake_gone(f.fetch, &folder);
	CHECK_INT(repo_read(f.repo, file, 0, 100, &waiting.wait, &spans), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_read(f.repo, file, 0, 100, &waiting.wait, &spans), -EBADMSG);
	repo_wait_release(&waiting.wait);
	fake_here(f.fetch, &folder);
	for (int round = 0; round < 2; round++) {
		CHECK_INT(repo_read(f.repo, file, 0, 100, NULL, &spans), -EBADMSG);
		CHECK_UINT(spans.count, 0);
		CHECK_INT(repo_readlink(f.repo, link, NULL, &target), -EBADMSG);
	}
	fixture_close(&f);
}

static void test_behind_a_known_end_nothing_is_asked_for(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	fake_size_here(f.fetch, &f.file);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
	CHECK_INT(repo_read(f.repo, file, 13, 4096, NULL, &spans), 0);
	CHECK_UINT(spans.len, 0);
	CHECK_UINT(fake_counts(f.fetch).reads, 0);
	fixture_close(&f);
}

static void test_only_files_are_read(void)
{
	struct fixture f = fixture_open();
	struct spans spans = SPANS_INIT;
	struct block *target;

	CHECK_INT(repo_read(f.repo, f.root, 0, 1, NULL, &spans), -EISDIR);
	CHECK_INT(repo_read(f.repo, lookup(&f, f.root, "module"), 0, 1, NULL, &spans), -EISDIR);
	CHECK_INT(repo_read(f.repo, lookup(&f, f.root, "link"), 0, 1, NULL, &spans), -EINVAL);
	CHECK_INT(repo_readlink(f.repo, lookup(&f, f.root, "README"), NULL, &target), -EINVAL);
	CHECK_INT(repo_readlink(f.repo, f.root, NULL, &target), -EINVAL);
	fixture_close(&f);
}

static void test_link_targets(void)
{
	struct fixture f = fixture_make();
	char longest[4096], longer[4097];
	struct node *node;
	struct block *target;

	memset(longest, 'l', sizeof(longest));
	memset(longer, 'l', sizeof(longer));
	struct fake_entry root[] = {
		{ "120000", "absolute", fake_blob(f.fetch, "/etc/passwd") },
		{ "120000", "empty", fake_blob(f.fetch, "") },
		{ "120000", "long", fake_object(f.fetch, OBJECT_BLOB, longest, 4095) },
		{ "120000", "longer", fake_object(f.fetch, OBJECT_BLOB, longer, 4096) },
		{ "120000", "nul", fake_object(f.fetch, OBJECT_BLOB, "a\0b", 3) },
	};
	struct oid tree = fake_tree(f.fetch, root, 5), commit = fake_commit(f.fetch, &tree, 1);
	char hex[OID_MAX_HEX + 1];

	f.source.ref = oid_to_hex(&commit, hex);
	CHECK_INT(fixture_mount(&f, NULL, NULL), 0);
	fake_all_here(f.fetch);
	CHECK_INT(repo_readlink(f.repo, lookup(&f, f.root, "absolute"), NULL, &target), 0);
	CHECK_MEM(target->data, target->len, "/etc/passwd", 11);
	block_unref(target);
	CHECK_INT(repo_readlink(f.repo, lookup(&f, f.root, "empty"), NULL, &target), 0);
	CHECK_UINT(target->len, 0);
	block_unref(target);
	CHECK_INT(repo_readlink(f.repo, lookup(&f, f.root, "long"), NULL, &target), 0);
	CHECK_UINT(target->len, 4095);
	block_unref(target);
	CHECK_INT(repo_readlink(f.repo, lookup(&f, f.root, "longer"), NULL, &target),
		  -ENAMETOOLONG);
	CHECK_INT(repo_readlink(f.repo, lookup(&f, f.root, "nul"), NULL, &target), -EIO);
	node = lookup(&f, f.root, "longer");
	struct repo_attr attr;

	CHECK_INT(repo_getattr(f.repo, node, NULL, &attr), 0);
	fake_gone(f.fetch, &root[3].oid);
	/* by its size alone */
	CHECK_INT(repo_readlink(f.repo, node, NULL, &target), -ENAMETOOLONG);
	fixture_close(&f);
}

static void test_a_waits_content_serves_only_its_own_object(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README"), *script = lookup(&f, f.root, "run");
	struct waiting waiting = waiting_for(&f);
	struct spans spans = SPANS_INIT;

	fake_keep(f.fetch, false);
	CHECK_INT(repo_read(f.repo, file, 0, 100, &waiting.wait, &spans), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_read(f.repo, script, 0, 100, &waiting.wait, &spans), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_read(f.repo, script, 0, 100, &waiting.wait, &spans), 0);
	CHECK_STR(text_of(&spans), "#!/bin/sh\n");
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_origins(void)
{
	struct fixture f = fixture_open();
	struct repo_origin origin;
	struct node *file = lookup(&f, f.root, "README");

	repo_origin(f.repo, file, &origin);
	CHECK_OID(origin.oid, f.file);
	CHECK(!origin.cached);
	fake_here(f.fetch, &f.file);
	repo_origin(f.repo, file, &origin);
	CHECK(origin.cached);
	repo_origin(f.repo, f.root, &origin);
	CHECK_OID(origin.oid, f.tree);
	CHECK(origin.cached);
	fixture_close(&f);
}

/* ---- cancelling ---- */

static void test_a_wait_canceled_before_never_parks(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting waiting = waiting_for(&f);
	struct spans spans = SPANS_INIT;

	CHECK(repo_wait_cancel(&waiting.wait));
	CHECK_INT(repo_read(f.repo, file, 0, 1, &waiting.wait, &spans), -ECANCELED);
	CHECK_UINT(fake_waiting(f.fetch), 0);
	CHECK_INT(waiting.woken, 0);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

static void test_a_wait_canceled_while_parked_is_not_woken(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting waiting = waiting_for(&f), other = waiting_for(&f);
	struct spans spans = SPANS_INIT;

	CHECK_INT(repo_read(f.repo, file, 0, 1, &waiting.wait, &spans), REPO_PARKED);
	CHECK_INT(repo_read(f.repo, file, 0, 1, &other.wait, &spans), REPO_PARKED);
	CHECK(repo_wait_cancel(&waiting.wait));
	CHECK_UINT(fake_deliver(f.fetch, NULL, 0), 1);
	CHECK_INT(waiting.woken, 0);
	CHECK_INT(other.woken, 1);
	repo_wait_release(&waiting.wait);
	repo_wait_release(&other.wait);
	fixture_close(&f);
}

static void test_a_wait_canceled_after_is_too_late(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting waiting = waiting_for(&f);
	struct spans spans = SPANS_INIT;

	CHECK_INT(repo_read(f.repo, file, 0, 1, &waiting.wait, &spans), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	CHECK(!repo_wait_cancel(&waiting.wait));
	CHECK_INT(repo_read(f.repo, file, 0, 1, &waiting.wait, &spans), 0);
	spans_release(&spans);
	repo_wait_release(&waiting.wait);
	fixture_close(&f);
}

/* ---- blind reads (blind.h) ---- */

static void test_a_blind_read_hides_the_size_until_its_reply(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting reader = waiting_for(&f), stat = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	repo_attr_tell(f.repo, file, &attr);
	CHECK_UINT(attr.size, REPO_SIZE_PLACEHOLDER);
	CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), REPO_PARKED);
	fake_size_here(f.fetch, &f.file);
	repo_attr_tell(f.repo, file, &attr);
	CHECK(!attr.size_known);
	CHECK_UINT(attr.size, REPO_SIZE_PLACEHOLDER);
	repo_attr_now(f.repo, file, &attr); /* no secret to others than the kernel */
	CHECK_UINT(attr.size, 13);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), -EAGAIN);
	CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);

	fake_deliver(f.fetch, NULL, 0);
	CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), 0);
	CHECK_STR(text_of(&spans), "hello, world\n");
	CHECK_INT(stat.woken, 0); /* it is not replied to yet */
	repo_wait_release(&reader.wait);
	CHECK_INT(stat.woken, 1);
	CHECK_INT(stat.status, 0);
	CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), 0);
	CHECK_UINT(attr.size, 13);
	repo_attr_tell(f.repo, file, &attr);
	CHECK(attr.size_known);
	repo_wait_release(&stat.wait);
	fixture_close(&f);
}

static void test_a_read_of_a_size_that_was_told_hides_nothing(void)
{
	for (int entry = 0; entry < 2; entry++) {
		struct fixture f = fixture_open();
		struct node *file = lookup(&f, f.root, "README");
		struct waiting reader = waiting_for(&f);
		struct spans spans = SPANS_INIT;
		struct repo_attr attr;

		fake_size_here(f.fetch, &f.file);
		if (entry)
			repo_attr_tell(f.repo, file, &attr);
		else
			CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
		CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), REPO_PARKED);
		CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
		repo_attr_tell(f.repo, file, &attr);
		CHECK(attr.size_known);
		CHECK(repo_wait_cancel(&reader.wait));
		repo_wait_release(&reader.wait);
		fixture_close(&f);
	}
}

static void test_a_size_that_others_asked_for_was_not_told(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting reader = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	fake_size_here(f.fetch, &f.file);
	repo_attr_now(f.repo, file, &attr);
	CHECK(attr.size_known);
	CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), REPO_PARKED);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), -EAGAIN);
	CHECK(repo_wait_cancel(&reader.wait));
	repo_wait_release(&reader.wait);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
	fixture_close(&f);
}

static void test_a_read_that_need_not_park_hides_nothing(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting reader = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	CHECK_INT(repo_read(f.repo, file, 0, 4096, NULL, &spans), -EAGAIN);
	fake_here(f.fetch, &f.file);
	CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), 0);
	CHECK_STR(text_of(&spans), "hello, world\n");
	repo_attr_tell(f.repo, file, &attr);
	CHECK_UINT(attr.size, 13);
	repo_wait_release(&reader.wait);
	fixture_close(&f);
}

/* However a read ends: its content is lost, or it is interrupted. */
static void test_a_blind_read_that_fails_ends_too(void)
{
	for (int canceled = 0; canceled < 2; canceled++) {
		struct fixture f = fixture_open();
		struct node *file = lookup(&f, f.root, "README");
		struct waiting reader = waiting_for(&f), stat = waiting_for(&f);
		struct spans spans = SPANS_INIT;
		struct repo_attr attr;

		CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), REPO_PARKED);
		CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);
		if (canceled)
			CHECK(repo_wait_cancel(&reader.wait));
		else
			fake_deliver(f.fetch, NULL, -ETIMEDOUT);
		CHECK_INT(stat.woken, 0);
		repo_wait_release(&reader.wait);
		CHECK_INT(stat.woken, 1);
		/* now for the size itself */
		CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);
		CHECK_UINT(fake_counts(f.fetch).sizes, 1);
		fake_deliver(f.fetch, NULL, 0);
		CHECK_INT(stat.woken, 2);
		CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), 0);
		CHECK_UINT(attr.size, 13);
		repo_wait_release(&stat.wait);
		fixture_close(&f);
	}
}

static void test_a_blind_read_that_parks_again_counts_once(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting reader = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	for (int i = 0; i < 3; i++) {
		CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), REPO_PARKED);
		fake_deliver(f.fetch, NULL, -EIO);
		CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), -EAGAIN);
	}
	repo_wait_release(&reader.wait);
	fake_size_here(f.fetch, &f.file);
	CHECK_INT(repo_getattr(f.repo, file, NULL, &attr), 0);
	fixture_close(&f);
}

static void test_a_wait_for_a_blind_read_can_be_canceled(void)
{
	struct fixture f = fixture_open();
	struct node *file = lookup(&f, f.root, "README");
	struct waiting reader = waiting_for(&f), early = waiting_for(&f), stat = waiting_for(&f),
		       late = waiting_for(&f);
	struct spans spans = SPANS_INIT;
	struct repo_attr attr;

	CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans), REPO_PARKED);
	CHECK(repo_wait_cancel(&early.wait));
	CHECK_INT(repo_getattr(f.repo, file, &early.wait, &attr), -ECANCELED);
	CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);
	CHECK(repo_wait_cancel(&stat.wait));
	CHECK_INT(repo_getattr(f.repo, file, &late.wait, &attr), REPO_PARKED);
	fake_deliver(f.fetch, NULL, 0);
	repo_wait_release(&reader.wait);
	CHECK_INT(early.woken, 0);
	CHECK_INT(stat.woken, 0);
	CHECK_INT(late.woken, 1);
	CHECK(!repo_wait_cancel(&late.wait));
	CHECK_INT(repo_getattr(f.repo, file, &late.wait, &attr), 0);
	fixture_close(&f);
}

/* First for the size, then for a read, then for the size: each can be canceled in its place. */
static void test_a_wait_may_change_what_it_is_for(void)
{
	for (int stop = 0; stop < 3; stop++) {
		struct fixture f = fixture_open();
		struct node *file = lookup(&f, f.root, "README");
		struct waiting reader = waiting_for(&f), stat = waiting_for(&f);
		struct spans spans = SPANS_INIT;
		struct repo_attr attr;

		CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);
		if (stop > 0) {
			CHECK_INT(repo_read(f.repo, file, 0, 4096, &reader.wait, &spans),
				  REPO_PARKED);
			fake_deliver(f.fetch, NULL, -EIO);
			CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);
		}
		if (stop > 1) {
			repo_wait_release(&reader.wait);
			CHECK_INT(repo_getattr(f.repo, file, &stat.wait, &attr), REPO_PARKED);
		}
		CHECK_INT(stat.woken, stop);
		CHECK(repo_wait_cancel(&stat.wait));
		repo_wait_release(&reader.wait);
		CHECK_UINT(fake_deliver(f.fetch, NULL, 0), 0);
		CHECK_INT(stat.woken, stop);
		repo_wait_release(&stat.wait);
		fixture_close(&f);
	}
}

/* ---- what may happen before a want has returned ---- */

struct sudden_end {
	struct fixture *f;
	struct node *node;
	struct node *parent;
};

/* The wait ends, its request is answered, and the kernel forgets what it was about. */
static void end_and_forget(void *arg)
{
	struct sudden_end *end = arg;

	fake_deliver(end->f->fetch, NULL, 0);
	forget(end->f, end->node);
	forget(end->f, end->parent);
}

static void test_a_node_outlives_the_gathering_of_its_company(void)
{
	static const struct fetch_budget budget = {
		.count = 10, .bytes = 1000, .object_bytes = 100, .leave_directory = true
	};

	for (int size = 0; size < 2; size++) {
		struct fixture f = fixture_open();
		struct sudden_end end = { .f = &f, .parent = lookup(&f, f.root, "lib") };
		struct waiting waiting = waiting_for(&f);
		struct spans spans = SPANS_INIT;
		struct repo_attr attr;

		fake_here(f.fetch, &f.lib);
		fake_budget(f.fetch, &budget);
		end.node = lookup(&f, end.parent, "a.c");
		fake_hook(f.fetch, end_and_forget, &end);
		if (size)
			CHECK_INT(repo_getattr(f.repo, end.node, &waiting.wait, &attr),
				  REPO_PARKED);
		else
			CHECK_INT(repo_read(f.repo, end.node, 0, 1, &waiting.wait, &spans),
				  REPO_PARKED);
		CHECK_INT(waiting.woken, 1);
		repo_wait_release(&waiting.wait);
		CHECK_UINT(node_count(f.nodes), 1);
		fixture_close(&f);
	}
}

/* ---- inode numbers over mounts ---- */

static void test_kept_exceptions_hold_at_the_next_mount(void)
{
	struct fixture f = fixture_open();
	struct repo_attr attr;
	struct node *file;
	char line[80];

	repo_attr_now(f.repo, lookup(&f, f.root, "README"), &attr);
	fixture_unmount(&f);
	/* as if README had come second to another path of its number */
	struct inode_path root = inode_path_root();
	struct inode_path path = inode_path_child(&root, "README", 6);

	snprintf(line, sizeof(line), "%016llx %016llx %012llx\n", (unsigned long long)path.hash,
		 (unsigned long long)path.check, 0x123456ull);
	fetch_fact_put(f.fetch, "ino", "exceptions", line, strlen(line));
	CHECK_INT(fixture_mount(&f, NULL, NULL), 0);
	file = lookup(&f, f.root, "README");
	CHECK(attr.ino != 0x123456);
	repo_attr_now(f.repo, file, &attr);
	CHECK_UINT(attr.ino, 0x123456);
	fixture_close(&f);
}

/* ---- many threads ---- */

#define THREADS 4

struct reader {
	struct fixture *f;
	unsigned seed, wrong;
};

/* A wait that blocks its thread until it was woken. */
struct blocking {
	struct repo_wait wait;
	struct lock lock;
	struct lock_cond cond;
	bool woken;
	int status;
};

static void on_blocking_wake(struct repo_wait *wait, int status)
{
	struct blocking *blocking = (struct blocking *)wait;

	lock_take(&blocking->lock);
	blocking->woken = true;
	blocking->status = status;
	lock_cond_signal(&blocking->cond);
	lock_give(&blocking->lock);
}

static void blocking_init(struct blocking *blocking, struct fixture *f)
{
	repo_wait_init(&blocking->wait, f->repo, on_blocking_wake);
	lock_init(&blocking->lock);
	lock_cond_init(&blocking->cond);
	blocking->woken = false;
}

static void blocking_release(struct blocking *blocking)
{
	repo_wait_release(&blocking->wait);
	lock_cond_release(&blocking->cond);
	lock_release(&blocking->lock);
}

static int blocking_wait(struct blocking *blocking)
{
	lock_take(&blocking->lock);
	while (!blocking->woken)
		lock_cond_wait(&blocking->cond, &blocking->lock);
	blocking->woken = false;
	int status = blocking->status;
	lock_give(&blocking->lock);
	return status;
}

/* lib/a.c or lib/b.c, looked up, measured, read and forgotten, as a kernel would. */
static void read_once(struct reader *reader, bool second)
{
	struct fixture *f = reader->f;
	struct node *lib = lookup(f, f->root, "lib"), *file = NULL;
	struct spans spans = SPANS_INIT;
	struct blocking blocking;
	struct repo_attr attr;
	int ret;

	blocking_init(&blocking, f);
	while ((ret = repo_lookup(f->repo, lib, second ? "b.c" : "a.c", &blocking.wait, &file)) ==
	       REPO_PARKED)
		reader->wrong += blocking_wait(&blocking) != 0;
	reader->wrong += ret != 0;
	while ((ret = repo_getattr(f->repo, file, &blocking.wait, &attr)) == REPO_PARKED)
		reader->wrong += blocking_wait(&blocking) != 0;
	reader->wrong += ret != 0 || attr.size != 7;
	while ((ret = repo_read(f->repo, file, 4, 1, &blocking.wait, &spans)) == REPO_PARKED)
		reader->wrong += blocking_wait(&blocking) != 0;
	reader->wrong += ret != 0 || spans.len != 1 ||
			 spans.v[0].block->data[spans.v[0].off] != (second ? 'b' : 'a');
	spans_release(&spans);
	blocking_release(&blocking);
	node_forget(f->nodes, file, 1);
	node_forget(f->nodes, lib, 1);
}

static void *run_reader(void *arg)
{
	struct reader *reader = arg;

	for (unsigned i = 0; i < 1500; i++)
		read_once(reader, (i + reader->seed) % 2);
	return NULL;
}

static void read_in_threads(struct fixture *f)
{
	static const struct fetch_budget budget = {
		.count = 10, .bytes = 1000, .object_bytes = 100, .leave_directory = true
	};
	struct reader readers[THREADS];
	pthread_t threads[THREADS];

	fake_budget(f->fetch, &budget);
	fake_mode(f->fetch, FAKE_THREAD);
	for (unsigned i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .f = f, .seed = i };
		pthread_create(&threads[i], NULL, run_reader, &readers[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	fake_mode(f->fetch, FAKE_PARK);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK_UINT(readers[i].wrong, 0);
	CHECK_UINT(node_count(f->nodes), 1);
}

static void test_readers_in_threads(void)
{
	struct fixture f = fixture_open();

	read_in_threads(&f);
	TAP_STOP();
	fixture_close(&f);
}

static void test_readers_in_threads_without_a_cache(void)
{
	struct fixture f = fixture_open();

	fake_keep(f.fetch, false);
	read_in_threads(&f);
	TAP_STOP();
	fixture_close(&f);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_opening_shows_the_root);
	TAP_RUN(test_opening_fails_with_words);
	TAP_RUN(test_opening_does_not_wait_for_ever);
	TAP_RUN(test_a_subdirectory_is_shown_alone);
	TAP_RUN(test_a_subdirectorys_inodes_are_those_of_the_whole);
	TAP_RUN(test_a_wrong_subdirectory_is_named);
	TAP_RUN(test_a_commit_without_a_tree_is_refused);
	TAP_RUN(test_a_remount_without_the_remote_shows_the_same);
	TAP_RUN(test_a_ref_is_remembered_only_when_its_tree_was_seen);
	TAP_RUN(test_mtimes_are_the_commits_no_later_than_the_first_mount);
	TAP_RUN(test_a_damaged_identity_is_made_anew);
	TAP_RUN(test_names_are_found_and_kinds_shown);
	TAP_RUN(test_names_that_are_not_there_are_not_found);
	TAP_RUN(test_a_gitlink_is_an_empty_directory);
	TAP_RUN(test_a_lookup_waits_for_the_directorys_tree);
	TAP_RUN(test_progress_is_made_without_a_cache);
	TAP_RUN(test_a_missing_object_is_no_missing_name);
	TAP_RUN(test_a_failed_wait_may_be_tried_again);
	TAP_RUN(test_a_tree_that_is_none_is_refused);
	TAP_RUN(test_entries_are_listed_in_the_trees_order);
	TAP_RUN(test_an_unloaded_directory_lists_nothing);
	TAP_RUN(test_paths_are_put_together);
	TAP_RUN(test_an_unknown_size_is_never_given_as_known);
	TAP_RUN(test_getattr_waits_for_the_size_with_company);
	TAP_RUN(test_a_size_stays_with_its_node);
	TAP_RUN(test_a_failed_size_is_not_taken_for_one);
	TAP_RUN(test_a_links_size_is_its_targets_length);
	TAP_RUN(test_reads_are_cut_at_the_end);
	TAP_RUN(test_a_read_waits_for_the_content_with_company);
	TAP_RUN(test_a_file_that_is_no_blob_is_refused);
	TAP_RUN(test_behind_a_known_end_nothing_is_asked_for);
	TAP_RUN(test_only_files_are_read);
	TAP_RUN(test_link_targets);
	TAP_RUN(test_a_waits_content_serves_only_its_own_object);
	TAP_RUN(test_origins);
	TAP_RUN(test_a_wait_canceled_before_never_parks);
	TAP_RUN(test_a_wait_canceled_while_parked_is_not_woken);
	TAP_RUN(test_a_wait_canceled_after_is_too_late);
	TAP_RUN(test_a_blind_read_hides_the_size_until_its_reply);
	TAP_RUN(test_a_read_of_a_size_that_was_told_hides_nothing);
	TAP_RUN(test_a_size_that_others_asked_for_was_not_told);
	TAP_RUN(test_a_read_that_need_not_park_hides_nothing);
	TAP_RUN(test_a_blind_read_that_fails_ends_too);
	TAP_RUN(test_a_blind_read_that_parks_again_counts_once);
	TAP_RUN(test_a_wait_for_a_blind_read_can_be_canceled);
	TAP_RUN(test_a_wait_may_change_what_it_is_for);
	TAP_RUN(test_a_node_outlives_the_gathering_of_its_company);
	TAP_RUN(test_kept_exceptions_hold_at_the_next_mount);
	TAP_RUN(test_readers_in_threads);
	TAP_RUN(test_readers_in_threads_without_a_cache);
	return tap_done();
}
