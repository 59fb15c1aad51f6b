/*
 * The operations on a mounted commit. Each looks in the same places in the same order: the node,
 * what the wait brought, the cache, and at last fetch, where it parks. What came with a wait is
 * used before the cache is asked, so that a cache that keeps nothing slows a mount down but does
 * not stop it.
 */
#include "repo/repo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "repo/repo_internal.h"

#define NAME_MAX_LEN 255
#define LINK_MAX_LEN 4095
#define READ_MAX_LEN ((size_t)1 << 20)
#define LOG_INTERVAL_MS 60000

const struct repo_identity *repo_identity(const struct repo *repo)
{
	return &repo->identity;
}

struct fetch *repo_fetch(const struct repo *repo)
{
	return repo->fetch;
}

struct node *repo_root(struct repo *repo)
{
	return repo->root;
}

/* ---- waiting ---- */

static void on_arrival(struct fetch_waiter *waiter, int status, struct content *content,
		       uint64_t size)
{
	struct repo_wait *wait =
		(struct repo_wait *)((char *)waiter - offsetof(struct repo_wait, waiter));

	if (status) {
		memset(&wait->sized, 0, sizeof(wait->sized));
	} else {
		wait->size = size;
		if (content) {
			content_unref(wait->content);
			wait->content = content_ref(content);
		}
	}
	/* The object is missing, not the name: ENOENT would be remembered as such. */
	wait->wake(wait, status == -ENOENT ? -EIO : status);
}

static void on_blind_end(struct blind_wait *blind)
{
	struct repo_wait *wait =
		(struct repo_wait *)((char *)blind - offsetof(struct repo_wait, blind));

	wait->wake(wait, 0);
}

void repo_wait_init(struct repo_wait *wait, struct repo *repo,
		    void (*wake)(struct repo_wait *, int status))
{
	memset(wait, 0, sizeof(*wait));
	wait->wake = wake;
	wait->fetch = repo->fetch;
	fetch_waiter_init(&wait->waiter, on_arrival);
	blind_wait_init(&wait->blind, &repo->blind, on_blind_end);
}

bool repo_wait_cancel(struct repo_wait *wait)
{
	enum blind_state was = blind_cancel(&wait->blind);

	/* where it is too late the wait may be gone */
	if (was == BLIND_WOKEN || (was == BLIND_IDLE && !fetch_cancel(wait->fetch, &wait->waiter)))
		return false;
	wait->canceled = true;
	return true;
}

void repo_wait_release(struct repo_wait *wait)
{
	content_unref(wait->content);
	wait->content = NULL;
	fetch_waiter_release(&wait->waiter);
	blind_read_end(&wait->blind);
}

/* What the wait brought, when it is `oid`; borrowed. */
static struct content *wait_content(const struct repo_wait *wait, const struct oid *oid)
{
	return wait && wait->content && oid_equal(&wait->content->oid, oid) ? wait->content : NULL;
}

/*
 * A tree may call anything a file or a directory. -EBADMSG when the object is not what its entry
 * says.
 */
static int check_type(struct repo *repo, struct node *node, enum object_type type)
{
	enum object_type want = node_is_dir(node) ? OBJECT_TREE : OBJECT_BLOB;
	struct buf path = BUF_INIT;
	char hex[OID_MAX_HEX + 1];
	unsigned more;

	if (type == want)
		return 0;
	if (log_limit_pass(&repo->misnamed, LOG_INTERVAL_MS, &more) &&
	    !repo_path(repo, node, &path) && buf_str(&path))
		log_warn("%s: the directory says %s, but the object %s is a %s: the repository is "
			 "damaged there, and reading it fails",
			 buf_str(&path), object_type_name(want), oid_to_hex(&node->oid, hex),
			 object_type_name(type));
	buf_release(&path);
	return -EBADMSG;
}

/* ---- sizes ---- */

/* Whether the size is known without asking anyone. */
static bool size_known(struct repo *repo, struct node *node, const struct repo_wait *wait,
		       uint64_t *out)
{
	struct content *content = wait_content(wait, &node->oid);
	uint64_t size = node_size(node);

	if (size == NODE_SIZE_UNKNOWN) {
		if (content)
			size = content->size;
		else if (wait && oid_equal(&wait->sized, &node->oid))
			size = wait->size;
		else if (!fetch_size_known(repo->fetch, &node->oid, &size))
			return false;
		node_set_size(node, size);
	}
	*out = size;
	return true;
}

#define LISTINGS_FRESH 8 /* a walk lists on, level by level, before it reads */

/* Its directory is among those that were listed last. */
static bool listed_just_before(const struct repo *repo, const struct node *node)
{
	uint32_t now = atomic_load_explicit(&repo->listings, memory_order_relaxed);
	uint32_t then = atomic_load_explicit(&node_dir(node->parent)->listed, memory_order_relaxed);

	return then && now - then < LISTINGS_FRESH;
}

static struct walk walk_from(struct repo *repo, struct node *node)
{
	return (struct walk){ .fetch = repo->fetch, .memory = repo->walks, .node = node };
}

static struct fetch_company company_of(const struct repo *repo, struct walk *walk)
{
	return (struct fetch_company){ .gather = walk_gather,
				       .tree = walk_tree,
				       .count = walk_count,
				       .children = walk_children,
				       .arg = walk,
				       .listed = listed_just_before(repo, walk->node),
				       .index = walk->node->index };
}

/* Those that are likely to be read with it come in one request. */
static void bring_again(struct repo *repo, const struct node *node)
{
	struct fetch_list list = { 0 };

	if (again_claim(repo->again, &node->oid, &list))
		fetch_together(repo->fetch, &list, false);
	fetch_list_release(&list);
}

/* 0 with the size, REPO_PARKED, or an error. */
static int size_fetch(struct repo *repo, struct node *node, struct repo_wait *wait, uint64_t *out)
{
	struct walk walk = walk_from(repo, node);
	struct fetch_company company = company_of(repo, &walk);
	int ret;

	if (!wait)
		return -EAGAIN;
	wait->sized = node->oid;
	bring_again(repo, node);
	node_hold(node); /* gathering may outlast the wait, and the wait the node */
	ret = fetch_size(repo->fetch, &node->oid, &company, &wait->waiter, out);
	fetch_together(repo->fetch, &walk.links, true);
	fetch_list_release(&walk.links);
	if (ret == 1)
		node_set_size(node, *out);
	node_forget(repo->nodes, node, 1);
	if (ret == 0)
		return REPO_PARKED;
	memset(&wait->sized, 0, sizeof(wait->sized));
	return ret < 0 ? ret : 0;
}

/* ---- contents ---- */

/*
 * The whole content of a file or link: 0 with a reference, REPO_PARKED, or an error.
 */
static int content_fetch(struct repo *repo, struct node *node, struct repo_wait *wait,
			 struct content **out)
{
	struct walk walk = walk_from(repo, node);
	struct fetch_company company = company_of(repo, &walk);
	int ret;

	if (!wait)
		return -EAGAIN;
	wait->sized = node->oid; /* of a large one only the size may come */
	bring_again(repo, node);
	node_hold(node);
	ret = fetch_content(repo->fetch, &node->oid, OBJECT_BLOB, node_size(node), &company,
			    &wait->waiter, out);
	fetch_list_release(&walk.links); /* a reader of contents need not read them */
	node_forget(repo->nodes, node, 1);
	if (ret == 0)
		return REPO_PARKED;
	memset(&wait->sized, 0, sizeof(wait->sized));
	return ret < 0 ? ret : 0;
}

/* ---- directories ---- */

#define FACT_INO "ino"
#define FACT_INO_KEY "exceptions"

int repo_inodes_load(struct repo *repo)
{
	struct buf text = BUF_INIT;
	int ret = fetch_fact_get(repo->fetch, FACT_INO, FACT_INO_KEY, &text, NULL);

	if (ret == 0)
		ret = inode_table_load(repo->inodes, (const char *)text.data, text.len);
	buf_release(&text);
	return ret == -ENOENT ? 0 : ret;
}

static void inodes_write(struct repo *repo)
{
	struct buf text = BUF_INIT;
	int ret = repo_inodes_load(repo); /* what another process has kept since */

	if (ret == 0)
		ret = inode_table_save(repo->inodes, &text);
	if (ret == 0)
		ret = fetch_fact_put(repo->fetch, FACT_INO, FACT_INO_KEY, text.data, text.len);
	if (ret)
		log_debug("repo: cannot remember inode numbers: %s", strerror(-ret));
	buf_release(&text);
}

/*
 * Writes the exceptions when there are new ones. A thread that finds another writing leaves it to
 * that one.
 */
static void inodes_keep(struct repo *repo)
{
	uint64_t changes;

	while ((changes = inode_table_changes(repo->inodes)) != atomic_load(&repo->inodes_kept)) {
		if (atomic_flag_test_and_set(&repo->keeping))
			return;
		atomic_store(&repo->inodes_kept, changes);
		inodes_write(repo);
		atomic_flag_clear(&repo->keeping);
	}
}

static int assign_numbers(struct repo *repo, const struct node *node, struct dir *dir)
{
	int ret = 0;

	for (size_t i = 0; i < dir->count && ret == 0; i++) {
		struct inode_path path =
			inode_path_child(&node->path, dir_name(dir, i), dir->v[i].name_len);

		ret = inode_assign(repo->inodes, &path, &dir->v[i].ino);
	}
	return ret;
}

static int dir_publish(struct repo *repo, struct node *node, struct block *block)
{
	struct dir *dir;
	int ret = dir_new(block, (enum oid_algo)node->oid.algo, &dir);

	if (ret)
		return ret;
	ret = assign_numbers(repo, node, dir);
	if (ret) {
		dir_free(dir);
		return ret;
	}
	node_set_dir_take(node, dir);
	inodes_keep(repo);
	return 0;
}

int repo_dir_make(struct repo *repo, struct node *node, struct content *content)
{
	struct block *block;
	int ret;

	ret = check_type(repo, node, content->type);
	if (ret)
		return ret;
	ret = content_block(content, TREE_MAX_LEN, &block);
	if (ret)
		return ret;
	ret = dir_publish(repo, node, block);
	block_unref(block);
	return ret;
}

/* The tree: 0 with a reference, REPO_PARKED, or an error. */
static int tree_get(struct repo *repo, const struct oid *oid, struct repo_wait *wait,
		    struct content **out)
{
	struct content *brought = wait_content(wait, oid);
	int ret;

	if (brought) {
		*out = content_ref(brought);
		return 0;
	}
	ret = fetch_get(repo->fetch, oid, TREE_MAX_LEN, out);
	if (ret != -ENOENT)
		return ret;
	if (!wait)
		return -EAGAIN;
	ret = fetch_content(repo->fetch, oid, OBJECT_TREE, UINT64_MAX, NULL, &wait->waiter, out);
	if (ret == 0)
		return REPO_PARKED;
	return ret < 0 ? ret : 0;
}

int repo_dir_load(struct repo *repo, struct node *dir, struct repo_wait *wait)
{
	struct content *tree;
	int ret;

	if (!node_is_dir(dir))
		return -ENOTDIR;
	if (node_dir(dir))
		return 0;
	if (dir->kind == DIR_GITLINK) /* names a commit elsewhere: nothing to show */
		return dir_publish(repo, dir, NULL);
	ret = tree_get(repo, &dir->oid, wait, &tree);
	if (ret)
		return ret;
	ret = repo_dir_make(repo, dir, tree);
	content_unref(tree);
	return ret;
}

int repo_lookup(struct repo *repo, struct node *dir, const char *name, struct repo_wait *wait,
		struct node **out)
{
	size_t name_len = strlen(name);
	struct node *found;
	ssize_t index;
	int ret = repo_dir_load(repo, dir, wait);

	if (ret)
		return ret;
	if (name_len > NAME_MAX_LEN)
		return -ENAMETOOLONG;
	index = dir_find(node_dir(dir), name, name_len);
	if (index < 0)
		return -ENOENT;
	found = node_child(dir, (uint32_t)index);
	if (!found)
		return -ENOMEM;
	*out = found;
	return 0;
}

void repo_dir_listed(struct repo *repo, struct node *dir)
{
	uint32_t number = atomic_fetch_add_explicit(&repo->listings, 1, memory_order_relaxed) + 1;

	if (node_dir(dir))
		atomic_store_explicit(&node_dir(dir)->listed, number ? number : 1,
				      memory_order_relaxed);
}

int repo_dirent(struct repo *repo, struct node *dir, size_t index, struct repo_dirent *out)
{
	const struct dir *loaded = node_dir(dir);

	(void)repo;
	if (!loaded || index >= loaded->count)
		return -ENOENT;
	out->name = dir_name(loaded, index);
	out->mode = dir_kind_mode((enum dir_kind)loaded->v[index].kind);
	out->ino = loaded->v[index].ino;
	return 0;
}

struct node *repo_dirent_node(struct repo *repo, struct node *dir, size_t index)
{
	const struct dir *loaded = node_dir(dir);

	(void)repo;
	return loaded && index < loaded->count ? node_child(dir, (uint32_t)index) : NULL;
}

struct node *repo_parent(struct repo *repo, struct node *node)
{
	(void)repo;
	return node->parent ? node->parent : node;
}

/* ---- attributes ---- */

static void attr_fill(const struct repo *repo, const struct node *node, bool known, uint64_t size,
		      struct repo_attr *out)
{
	*out = (struct repo_attr){
		.ino = node->ino,
		.mode = dir_kind_mode((enum dir_kind)node->kind),
		.size = known ? size : REPO_SIZE_PLACEHOLDER,
		.size_known = known,
		.mtime_s = repo->identity.mtime_s,
	};
}

void repo_attr_now(struct repo *repo, struct node *node, struct repo_attr *out)
{
	uint64_t size = 0;
	bool known = size_known(repo, node, NULL, &size);

	attr_fill(repo, node, known, size, out);
}

void repo_attr_tell(struct repo *repo, struct node *node, struct repo_attr *out)
{
	uint64_t size = 0;
	bool known = !blind_reads(node) && size_known(repo, node, NULL, &size);

	blind_told(node, known);
	attr_fill(repo, node, known, size, out);
}

/* 0 when no blind read of the node waits, REPO_PARKED until then, or an error. */
static int blind_pass(struct node *node, struct repo_wait *wait)
{
	if (!wait || wait->canceled) {
		int refused = wait ? -ECANCELED : -EAGAIN;

		return blind_reads(node) ? refused : 0;
	}
	return blind_park(&wait->blind, node) ? REPO_PARKED : 0;
}

int repo_getattr(struct repo *repo, struct node *node, struct repo_wait *wait,
		 struct repo_attr *out)
{
	uint64_t size;
	int ret = blind_pass(node, wait);

	if (ret)
		return ret;
	if (!size_known(repo, node, wait, &size)) {
		ret = size_fetch(repo, node, wait, &size);
		if (ret)
			return ret;
	}
	blind_told(node, true);
	attr_fill(repo, node, true, size, out);
	return 0;
}

/* ---- reading ---- */

/* What `node` names is known to be of this type and size now. */
static int prove(struct repo *repo, struct node *node, enum object_type type, uint64_t size)
{
	int ret = check_type(repo, node, type);

	if (ret)
		return ret;
	return node_prove_size(node, size) ? 0 : -ESTALE;
}

static int read_content(struct repo *repo, struct node *node, struct content *content, uint64_t off,
			size_t len, struct spans *out)
{
	int ret = prove(repo, node, content->type, content->size);

	return ret ? ret : content_read(content, off, len, out);
}

/* The same of bytes that were in the cache. */
static int check_cached(struct repo *repo, struct node *node, struct spans *out)
{
	enum object_type type;
	uint64_t size;
	int ret;

	if (node_size_proven(node) || !fetch_known(repo->fetch, &node->oid, &type, &size))
		return 0;
	ret = prove(repo, node, type, size);
	if (ret)
		spans_release(out);
	return ret;
}

/* Where a file is, from the root of the commit's tree. */
struct place_of {
	struct repo *repo;
	struct node *node;
};

static int place_find(void *arg, struct oid *out_commit, struct buf *out_path)
{
	const struct place_of *of = arg;
	int ret = 0;

	*out_commit = of->repo->identity.commit;
	if (*of->repo->subdir)
		ret = buf_addf(out_path, "%s/", of->repo->subdir);
	return ret ? ret : repo_path(of->repo, of->node, out_path);
}

/* Some of a large file. */
static int read_part(struct repo *repo, struct node *node, uint64_t off, size_t len,
		     struct repo_wait *wait, struct spans *out)
{
	struct place_of of = { repo, node };
	const struct fetch_part part = {
		.oid = node->oid,
		.size = node_size(node),
		.off = off,
		.len = len,
		.place = place_find,
		.arg = &of,
	};
	struct content *content;
	int ret;

	node_hold(node); /* the wait may outlast the node */
	if (wait)
		blind_read_begin(&wait->blind, node);
	ret = fetch_part(repo->fetch, &part, wait ? &wait->waiter : NULL, out, &content);
	if (ret == 1 && content)
		ret = read_content(repo, node, content, off, len, out);
	else if (ret == 1)
		ret = node_size_proven(node) || !fetch_has(repo->fetch, &node->oid) ?
			      0 :
			      check_cached(repo, node, out);
	else if (ret == 0)
		ret = REPO_PARKED;
	content_unref(content);
	node_forget(repo->nodes, node, 1);
	return ret;
}

static int read_small(struct repo *repo, struct node *node, uint64_t off, size_t len,
		      struct repo_wait *wait, struct spans *out)
{
	struct content *content;
	int ret = fetch_read(repo->fetch, &node->oid, off, len, out);

	if (ret != -ENOENT)
		return ret ? ret : check_cached(repo, node, out);
	if (wait)
		blind_read_begin(&wait->blind, node);
	ret = content_fetch(repo, node, wait, &content);
	if (ret)
		return ret;
	if (!content) { /* a large one has come into the cache meanwhile */
		ret = fetch_read(repo->fetch, &node->oid, off, len, out);
		return ret ? ret : check_cached(repo, node, out);
	}
	ret = read_content(repo, node, content, off, len, out);
	content_unref(content);
	return ret;
}

static void note_read(struct repo *repo, struct node *node)
{
	if (atomic_load_explicit(&node->noted, memory_order_relaxed))
		return;
	atomic_store_explicit(&node->noted, true, memory_order_relaxed);
	again_note(repo->again, &node->oid);
}

int repo_read(struct repo *repo, struct node *node, uint64_t off, size_t len,
	      struct repo_wait *wait, struct spans *out)
{
	struct content *content = wait_content(wait, &node->oid);
	uint64_t size;

	if (node_is_dir(node))
		return -EISDIR;
	if (node->kind == DIR_LINK)
		return -EINVAL;
	out->count = 0;
	out->len = 0;
	if (off >= node_size(node))
		return 0;
	if (len > READ_MAX_LEN)
		len = READ_MAX_LEN;
	if (content)
		return read_content(repo, node, content, off, len, out);
	if (size_known(repo, node, wait, &size) && fetch_is_large(repo->fetch, size))
		return read_part(repo, node, off, len, wait, out);
	note_read(repo, node);
	return read_small(repo, node, off, len, wait, out);
}

static int link_target(struct repo *repo, struct node *node, struct content *content,
		       struct block **out)
{
	struct block *block;
	int ret = prove(repo, node, content->type, content->size);

	if (ret)
		return ret;
	if (content->size > LINK_MAX_LEN)
		return -ENAMETOOLONG;
	ret = content_block(content, LINK_MAX_LEN, &block);
	if (ret)
		return ret;
	if (memchr(block->data, '\0', block->len)) {
		block_unref(block);
		return -EIO;
	}
	*out = block;
	return 0;
}

static int link_get(struct repo *repo, struct node *node, struct repo_wait *wait,
		    struct content **out)
{
	struct content *brought = wait_content(wait, &node->oid);
	int ret;

	if (brought) {
		*out = content_ref(brought);
		return 0;
	}
	ret = fetch_get(repo->fetch, &node->oid, LINK_MAX_LEN, out);
	if (ret == -EFBIG)
		return -ENAMETOOLONG;
	if (ret == -ENOENT)
		ret = content_fetch(repo, node, wait, out);
	return ret == 0 && !*out ? -ENAMETOOLONG : ret; /* none: too large to be returned whole */
}

int repo_readlink(struct repo *repo, struct node *node, struct repo_wait *wait, struct block **out)
{
	struct content *content;
	uint64_t size = node_size(node);
	int ret;

	if (node->kind != DIR_LINK)
		return -EINVAL;
	if (size != NODE_SIZE_UNKNOWN && size > LINK_MAX_LEN)
		return -ENAMETOOLONG;
	ret = link_get(repo, node, wait, &content);
	if (ret)
		return ret;
	ret = link_target(repo, node, content, out);
	content_unref(content);
	return ret;
}

/* ---- looking ---- */

void repo_origin(struct repo *repo, struct node *node, struct repo_origin *out)
{
	out->oid = node->oid;
	if (node->kind == DIR_GITLINK)
		out->cached = false;
	else
		out->cached = node_dir(node) || fetch_has(repo->fetch, &node->oid);
}

static const struct dir_entry *node_entry(const struct node *node)
{
	return &node_dir(node->parent)->v[node->index];
}

int repo_path(struct repo *repo, struct node *node, struct buf *out)
{
	size_t len = 0;
	uint8_t *end;
	int ret;

	(void)repo;
	if (!node->parent)
		return 0;
	for (const struct node *at = node; at->parent; at = at->parent)
		len += (size_t)node_entry(at)->name_len + 1;
	len--; /* no "/" in front */
	ret = buf_reserve(out, len);
	if (ret)
		return ret;
	end = out->data + out->len + len;
	for (const struct node *at = node; at->parent; at = at->parent) {
		size_t name_len = node_entry(at)->name_len;

		end -= name_len;
		memcpy(end, dir_name(node_dir(at->parent), at->index), name_len);
		if (at->parent->parent)
			*--end = '/';
	}
	out->len += len;
	return 0;
}

void repo_withdraw(struct repo *repo, const struct oid *oid,
		   void (*drop)(void *arg, struct node *node), void *arg)
{
	node_each_of(repo->root, oid, drop, arg);
	fetch_withdrawn(repo->fetch, oid);
}

void repo_totals(struct repo *repo, struct repo_totals *out)
{
	out->nodes = inode_count(repo->inodes);
	out->bytes_known = node_bytes(repo->nodes);
}
