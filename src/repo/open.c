/*
 * Opening: the ref, the commit, what is known of it from earlier mounts, the way down to the
 * directory that is shown, and its listing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "remote/source.h"
#include "repo/bring.h"
#include "repo/identity.h"
#include "repo/repo.h"
#include "repo/repo_internal.h"
#include "repo/resolve.h"
#include "repo/step.h"

#define NAME_MAX_LEN 255

/* Where the way down has come to. */
struct place {
	struct oid tree;
	struct inode_path path;
	struct content *content; /* owned */
};

static void place_release(struct place *place)
{
	content_unref(place->content);
	place->content = NULL;
}

/* ---- down to the subdirectory ---- */

/* The next name of a path, without "/" and "." on the way; false at the end. */
static bool next_name(const char **path, const char **out_name, size_t *out_len)
{
	for (;;) {
		*path += strspn(*path, "/");
		*out_name = *path;
		*out_len = strcspn(*path, "/");
		*path += *out_len;
		if (*out_len == 0)
			return false;
		if (*out_len != 1 || **out_name != '.')
			return true;
	}
}

static int place_bring(struct fetch *fetch, struct place *place, struct xcp_error *err)
{
	struct content *content = NULL;
	int ret = bring_object(fetch, &place->tree, OBJECT_TREE, "tree", &content, err);

	if (ret)
		return ret;
	if (content->type != OBJECT_TREE) {
		content_unref(content);
		return xcp_error_set(err, -EBADMSG,
				     "the commit is broken: what should be a tree is none");
	}
	place_release(place);
	place->content = content;
	return 0;
}

/* What is there instead of a directory, in words. */
static int say_no_dir(const char *subdir, size_t len, const char *what, int code,
		      struct xcp_error *err)
{
	return xcp_error_set(err, code, "cannot show --subdir %s: %.*s %s", subdir, (int)len,
			     subdir, what);
}

static int place_enter(struct place *place, const struct dir *dir, ssize_t index,
		       const char *subdir, size_t len, struct xcp_error *err)
{
	if (index < 0)
		return say_no_dir(subdir, len, "does not exist in this commit", -ENOENT, err);
	if (dir->v[index].kind == DIR_GITLINK)
		return say_no_dir(subdir, len, "is a submodule, which is another repository",
				  -ENOTDIR, err);
	if (dir->v[index].kind != DIR_TREE)
		return say_no_dir(subdir, len, "is a file", -ENOTDIR, err);
	place->path = inode_path_child(&place->path, dir_name(dir, (size_t)index),
				       dir->v[index].name_len);
	place->tree = dir_oid(dir, (size_t)index);
	return 0;
}

/* One directory down: from the place whose content is here to the one called `name`. */
static int place_down(struct place *place, const char *name, size_t name_len, const char *subdir,
		      struct xcp_error *err)
{
	struct block *block;
	struct dir *dir;
	int ret = content_block(place->content, TREE_MAX_LEN, &block);

	if (ret == 0) {
		ret = dir_new(block, (enum oid_algo)place->tree.algo, &dir);
		block_unref(block);
	}
	if (ret)
		return xcp_error_set(err, ret, "cannot read a tree on the way to %s: %s", subdir,
				     strerror(-ret));
	ssize_t index = name_len <= NAME_MAX_LEN ? dir_find(dir, name, name_len) : -ENOENT;

	ret = place_enter(place, dir, index, subdir, (size_t)(name + name_len - subdir), err);
	dir_free(dir);
	return ret;
}

static int place_find(struct fetch *fetch, const char *subdir, struct place *place,
		      struct xcp_error *err)
{
	const char *rest = subdir ? subdir : "", *name;
	size_t name_len;
	int ret = place_bring(fetch, place, err);

	while (ret == 0 && next_name(&rest, &name, &name_len)) {
		if (name_len == 2 && memcmp(name, "..", 2) == 0)
			return xcp_error_set(err, -EINVAL,
					     "cannot show --subdir %s: \"..\" is not allowed in it",
					     subdir);
		ret = place_down(place, name, name_len, subdir, err);
		if (ret == 0)
			ret = place_bring(fetch, place, err);
	}
	return ret;
}

/* ---- the repo ---- */

static int out_of_memory(struct xcp_error *err)
{
	return xcp_error_set(err, -ENOMEM, "out of memory");
}

/* The root node, listed. */
static int root_make(struct repo *repo, const struct place *place, struct xcp_error *err)
{
	uint64_t ino;
	int ret;

	if (inode_assign(repo->inodes, &place->path, &ino))
		return out_of_memory(err);
	repo->root = node_root_new(repo->nodes, repo, &place->tree, &place->path, ino);
	if (!repo->root)
		return out_of_memory(err);
	ret = repo_dir_make(repo, repo->root, place->content);
	if (ret)
		return xcp_error_set(err, ret, "cannot read the tree to be shown: %s",
				     strerror(-ret));
	return 0;
}

static void identify(struct repo *repo, const struct resolved *resolved)
{
	repo->identity = (struct repo_identity){
		.commit = resolved->commit,
		.tree = resolved->parsed.tree,
		.mtime_s = identity_mtime(repo->fetch, &resolved->commit, &resolved->parsed),
		.from_cache = resolved->from_cache,
		.resolved_s = resolved->resolved_s,
	};
}

/* Before this commit is remembered as the last. */
static int again_open(struct repo *repo, struct xcp_error *err)
{
	struct oid last = { 0 };

	step_last(repo->fetch, &last);
	repo->again = again_new(repo->fetch, &last, &repo->identity.commit, &repo->identity.tree);
	return repo->again ? 0 : out_of_memory(err);
}

static int tree_open(struct repo *repo, const char *subdir, struct xcp_error *err)
{
	struct place place = { .tree = repo->identity.tree, .path = inode_path_root() };
	int ret = place_find(repo->fetch, subdir, &place, err);

	if (ret == 0)
		ret = root_make(repo, &place, err);
	place_release(&place);
	return ret;
}

/* The names of a path with one "/" between them. NULL: out of memory. */
static char *path_clean(const char *path)
{
	struct buf clean = BUF_INIT;
	const char *rest = path ? path : "", *name;
	size_t name_len;
	char *out;

	while (next_name(&rest, &name, &name_len)) {
		if (buf_addf(&clean, "%s%.*s", clean.len ? "/" : "", (int)name_len, name))
			break;
	}
	out = buf_str(&clean) ? (char *)buf_detach(&clean, &name_len) : NULL;
	buf_release(&clean);
	return out;
}

static struct repo *repo_new(const struct repo_config *config)
{
	struct repo *repo = calloc(1, sizeof(*repo));

	if (!repo)
		return NULL;
	repo->fetch = config->fetch;
	repo->nodes = config->nodes;
	repo->subdir = path_clean(config->subdir);
	repo->inodes = inode_table_new(INODE_BITS);
	repo->walks = walk_memory_new();
	blind_table_init(&repo->blind);
	atomic_flag_clear(&repo->keeping);
	if (!repo->subdir || !repo->inodes || !repo->walks || repo_inodes_load(repo))
		repo_close(&repo);
	return repo;
}

int repo_open(const struct repo_config *config, struct repo **out, struct xcp_error *err)
{
	const struct resolve_config how = {
		.fetch = config->fetch,
		.remote = config->remote,
		.name = config->source->ref,
		.shown = config->source->url ? config->source->url : config->source->shown,
		.offline = config->offline,
	};
	struct resolved resolved;
	struct repo *repo = repo_new(config);
	int ret;

	if (!repo)
		return out_of_memory(err);
	ret = resolve(&how, &resolved, err);
	if (ret == 0) {
		identify(repo, &resolved);
		ret = tree_open(repo, config->subdir, err);
	}
	if (ret == 0)
		ret = again_open(repo, err);
	if (ret) {
		repo_close(&repo);
		return ret;
	}
	resolve_remember(&how, &resolved);
	step_remember(config->fetch, &resolved.commit);
	*out = repo;
	return 0;
}

void repo_save(struct repo *repo)
{
	again_save(repo->again);
}

void repo_close(struct repo **repo_ptr)
{
	struct repo *repo = *repo_ptr;

	*repo_ptr = NULL;
	if (!repo)
		return;
	again_free(&repo->again);
	node_root_free(&repo->root);
	inode_table_free(&repo->inodes);
	walk_memory_free(&repo->walks);
	free(repo->subdir);
	blind_table_release(&repo->blind);
	free(repo);
}
