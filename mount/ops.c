/*
 * Each kind of request that may have to wait is a pair: run_X() asks repo, answer_X() replies;
 * op_start() tries it on the stack, and parks it when that does not do. The others reply at once.
 * Nothing here maps an error or decides how long the kernel may keep something: reply.c does.
 *
 * Content does not change and nothing is written, so the kernel is told to do as much as it can
 * without us: no OPEN (ENOSYS means "always works, keep the pages"), no ACCESS, no extended
 * attributes, no LSEEK (it knows that there are no holes), no FLUSH.
 */
#include "mount/ops.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "mount/parked.h"
#include "mount/reply.h"
#include "mount/session_internal.h"

#define READ_MAX (1u << 20)
#define READDIR_MAX (256u << 10)
#define STATFS_BLOCK 4096
#define MAX_BACKGROUND 1024

static struct session *session_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static struct node *node_of(fuse_req_t req, fuse_ino_t ino)
{
	return node_from_id(session_of(req)->nodes, ino);
}

static struct op op_begin(fuse_req_t req, const struct op_class *class, fuse_ino_t ino)
{
	return (struct op){
		.class = class,
		.session = session_of(req),
		.req = req,
		.start_ns = clock_ns(),
		.node = node_of(req, ino),
	};
}

static void op_start(struct op *op)
{
	int status = op->class->run(op, NULL);

	if (status == -EAGAIN)
		parked_start(&op->session->parked, op);
	else
		op_finish(op, status, false);
}

static void count_status(struct session *session, int status)
{
	if (status == -EINTR)
		atomic_fetch_add_explicit(&session->interrupted, 1, memory_order_relaxed);
	else if (status == -EIO || status == -ENOMEM)
		atomic_fetch_add_explicit(&session->errors, 1, memory_order_relaxed);
}

void op_finish(struct op *op, int status, bool parked)
{
	struct session *session = op->session;
	enum session_op kind = op->class->counted_as;

	if (kind == SESSION_READ_HIT && parked)
		kind = SESSION_READ_MISS;
	if (status == -ESTALE)
		reply_forget_attr(op);
	if (status != 0)
		status = -reply_errno(kind, status);
	count_status(session, status);

	assert(status != 0 || op->class->answer); /* what has no answer never ends well */
	if (status == 0)
		op->class->answer(op);
	else if (kind == SESSION_LOOKUP && status == -ENOENT)
		reply_missing(op);
	else
		reply_error(op, -status);

	latency_add(&session->latency[kind], op->took_ns);
	log_debug("op=%s node=%p off=%llu len=%zu status=%d parked=%d us=%llu",
		  session_op_name(kind), (void *)op->node, (unsigned long long)op->off, op->len,
		  status, parked, (unsigned long long)(op->took_ns / 1000));
}

/* ---- LOOKUP, FORGET, GETATTR, READLINK ---- */

static int run_lookup(struct op *op, struct repo_wait *wait)
{
	return repo_lookup(node_repo(op->node), op->node, op->name, wait, &op->out.found);
}

static void answer_lookup(struct op *op)
{
	reply_found(op, op->out.found);
}

static const struct op_class lookup_class = { SESSION_LOOKUP, run_lookup, answer_lookup };

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op op = op_begin(req, &lookup_class, parent);

	op.name = name;
	op_start(&op);
}

static void forget_one(struct session *session, fuse_ino_t ino, uint64_t count)
{
	if (ino != FUSE_ROOT_ID) /* lives as long as the mount */
		node_forget(session->nodes, node_from_id(session->nodes, ino), count);
}

static const struct op_class forget_class = { SESSION_FORGET, NULL, reply_none };

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	struct op op = op_begin(req, &forget_class, FUSE_ROOT_ID);

	forget_one(op.session, ino, count);
	op_finish(&op, 0, false);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct op op = op_begin(req, &forget_class, FUSE_ROOT_ID);

	for (size_t i = 0; i < count; i++)
		forget_one(op.session, forgets[i].ino, forgets[i].nlookup);
	op_finish(&op, 0, false);
}

static int run_getattr(struct op *op, struct repo_wait *wait)
{
	return repo_getattr(node_repo(op->node), op->node, wait, &op->out.attr);
}

static void answer_getattr(struct op *op)
{
	reply_attr(op, &op->out.attr);
}

static const struct op_class getattr_class = { SESSION_GETATTR, run_getattr, answer_getattr };

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &getattr_class, ino);

	op_start(&op);
}

static int run_readlink(struct op *op, struct repo_wait *wait)
{
	return repo_readlink(node_repo(op->node), op->node, wait, &op->out.block);
}

/* fuse_reply_readlink() wants a C string; on the wire a link is just its bytes. */
static void answer_readlink(struct op *op)
{
	struct block *target = op->out.block;

	reply_data(op, target->data, target->len);
	block_unref(target);
}

static const struct op_class readlink_class = { SESSION_READLINK, run_readlink, answer_readlink };

static void do_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct op op = op_begin(req, &readlink_class, ino);

	op_start(&op);
}

/* ---- files ---- */

static int run_read(struct op *op, struct repo_wait *wait)
{
	op->out.spans = (struct spans)SPANS_INIT;
	return repo_read(node_repo(op->node), op->node, op->off, op->len, wait, &op->out.spans);
}

static void answer_read(struct op *op)
{
	reply_spans(op, &op->out.spans);
}

static const struct op_class read_class = { SESSION_READ_HIT, run_read, answer_read };

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off,
		    struct fuse_file_info *file)
{
	struct op op = op_begin(req, &read_class, ino);

	if (off < 0) {
		op_finish(&op, -EINVAL, false);
		return;
	}
	op.off = (uint64_t)off;
	op.len = len < READ_MAX ? len : READ_MAX;
	op_start(&op);
}

static void answer_open(struct op *op)
{
	reply_open(op, &(struct fuse_file_info){ .keep_cache = 1 });
}

static const struct op_class open_class = { SESSION_OPEN, NULL, answer_open };

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &open_class, ino);
	bool writes = (file->flags & O_ACCMODE) != O_RDONLY || (file->flags & O_TRUNC);

	op_finish(&op, writes ? -EROFS : 0, false);
}

/* "There is no OPEN here, and none is needed": the kernel does not ask again. */
static void no_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &open_class, ino);

	op_finish(&op, -ENOSYS, false);
}

static void answer_done(struct op *op)
{
	reply_error(op, 0);
}

static const struct op_class release_class = { SESSION_OPEN, NULL, answer_done };
static const struct op_class releasedir_class = { SESSION_OPENDIR, NULL, answer_done };

static void do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &release_class, ino);

	op_finish(&op, 0, false);
}

static void do_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &releasedir_class, ino);

	op_finish(&op, 0, false);
}

/* ---- directories ---- */

static int run_dir_load(struct op *op, struct repo_wait *wait)
{
	return repo_dir_load(node_repo(op->node), op->node, wait);
}

static void answer_opendir(struct op *op)
{
	reply_open(op, &(struct fuse_file_info){ .keep_cache = 1, .cache_readdir = 1 });
}

static const struct op_class opendir_class = { SESSION_OPENDIR, run_dir_load, answer_opendir };

static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &opendir_class, ino);

	op_start(&op);
}

static void no_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct op op = op_begin(req, &opendir_class, ino);

	op_finish(&op, -ENOSYS, false);
}

/* Entries of a directory in the making. Places: 0 is ".", 1 is "..", then the tree's entries. */
#define DOT_COUNT 2

struct listing {
	struct op *op;
	struct repo *repo;
	char *data;
	size_t len, cap;
	uint64_t place;
};

static bool dirent_at(struct listing *listing, struct repo_dirent *out)
{
	struct node *dir = listing->op->node;

	if (listing->place >= DOT_COUNT)
		return repo_dirent(listing->repo, dir, listing->place - DOT_COUNT, out) == 0;

	struct repo_attr attr;

	repo_attr_now(listing->repo, listing->place == 0 ? dir : repo_parent(listing->repo, dir),
		      &attr);
	*out = (struct repo_dirent){ listing->place == 0 ? "." : "..", attr.mode, attr.ino };
	return true;
}

/* False when it does not fit any more. */
static bool add_plain(struct listing *listing, const struct repo_dirent *dirent)
{
	struct stat st = { .st_ino = dirent->ino, .st_mode = dirent->mode };
	size_t room = listing->cap - listing->len;
	size_t need = fuse_add_direntry(listing->op->req, listing->data + listing->len, room,
					dirent->name, &st, (off_t)(listing->place + 1));

	if (need > room)
		return false;
	listing->len += need;
	return true;
}

/* With nodeid 0 the kernel takes the name and asks for the rest when it needs it. */
static void fill_entry(struct listing *listing, const struct repo_dirent *dirent,
		       struct fuse_entry_param *entry)
{
	struct session *session = listing->op->session;
	struct repo_attr attr;

	*entry = (struct fuse_entry_param){ .attr = { .st_ino = dirent->ino,
						      .st_mode = dirent->mode } };
	if (listing->place < DOT_COUNT)
		return;

	struct node *node =
		repo_dirent_node(listing->repo, listing->op->node, listing->place - DOT_COUNT);

	if (!node)
		return;
	repo_attr_tell(listing->repo, node, &attr);
	if (attr.size_known)
		reply_entry_param(session, node, &attr, entry);
	else
		node_forget(session->nodes, node, 1);
}

static bool add_plus(struct listing *listing, const struct repo_dirent *dirent)
{
	struct fuse_entry_param entry;
	size_t room = listing->cap - listing->len;

	if (fuse_add_direntry_plus(listing->op->req, NULL, 0, dirent->name, NULL, 0) > room)
		return false;

	fill_entry(listing, dirent, &entry);
	listing->len += fuse_add_direntry_plus(listing->op->req, listing->data + listing->len, room,
					       dirent->name, &entry, (off_t)(listing->place + 1));
	return true;
}

static bool listing_fill(struct listing *listing, struct op *op,
			 bool (*add)(struct listing *, const struct repo_dirent *))
{
	struct repo_dirent dirent;

	*listing = (struct listing){ .op = op, .repo = node_repo(op->node), .place = op->off };
	listing->cap = op->len < READDIR_MAX ? op->len : READDIR_MAX;
	listing->data = malloc(listing->cap ? listing->cap : 1);
	if (!listing->data)
		return false;
	while (dirent_at(listing, &dirent) && add(listing, &dirent))
		listing->place++;
	return true;
}

static void answer_readdir(struct op *op)
{
	struct listing listing;

	if (op->off == 0)
		repo_dir_listed(node_repo(op->node), op->node);
	if (listing_fill(&listing, op, add_plain))
		reply_data(op, listing.data, listing.len);
	else
		reply_error(op, ENOMEM);
	free(listing.data);
}

/* The lookups in a listing that never arrived. */
static void forget_listed(const struct listing *listing)
{
	struct node_table *nodes = listing->op->session->nodes;
	struct fuse_direntplus entry;

	for (size_t at = 0; at + sizeof(entry) <= listing->len;) {
		memcpy(&entry, listing->data + at, sizeof(entry));
		if (entry.entry_out.nodeid != 0)
			node_forget(nodes, node_from_id(nodes, entry.entry_out.nodeid), 1);
		at += FUSE_DIRENTPLUS_SIZE(&entry);
	}
}

static void answer_readdirplus(struct op *op)
{
	struct listing listing;

	if (op->off == 0)
		repo_dir_listed(node_repo(op->node), op->node);
	if (!listing_fill(&listing, op, add_plus))
		reply_error(op, ENOMEM);
	else if (reply_data(op, listing.data, listing.len) != 0)
		forget_listed(&listing);
	free(listing.data);
}

static const struct op_class readdir_class = { SESSION_READDIR, run_dir_load, answer_readdir };
static const struct op_class readdirplus_class = { SESSION_READDIRPLUS, run_dir_load,
						   answer_readdirplus };

static void readdir_start(fuse_req_t req, const struct op_class *class, fuse_ino_t ino, size_t len,
			  off_t off)
{
	struct op op = op_begin(req, class, ino);

	if (off < 0) {
		op_finish(&op, -EINVAL, false);
		return;
	}
	op.off = (uint64_t)off;
	op.len = len;
	op_start(&op);
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off,
		       struct fuse_file_info *file)
{
	readdir_start(req, &readdir_class, ino, len, off);
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off,
			   struct fuse_file_info *file)
{
	readdir_start(req, &readdirplus_class, ino, len, off);
}

/* ---- the file system as a whole ---- */

static void answer_statfs(struct op *op)
{
	struct statvfs st = { .f_bsize = STATFS_BLOCK, .f_frsize = STATFS_BLOCK, .f_namemax = 255 };
	struct repo_totals totals;

	repo_totals(node_repo(op->node), &totals);
	st.f_blocks = totals.bytes_known / STATFS_BLOCK + (totals.bytes_known % STATFS_BLOCK != 0);
	st.f_files = totals.nodes;
	reply_statfs(op, &st);
}

static const struct op_class statfs_class = { SESSION_STATFS, NULL, answer_statfs };

static void do_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct op op = op_begin(req, &statfs_class, ino);

	op_finish(&op, 0, false);
}

/*
 * ---- -o xattr: by name, never in a list, or an overlay would copy them up and keep a stale id
 * ----
 */

static int xattr_value(struct session *session, struct node *node, const char *name,
		       struct buf *out)
{
	struct repo *repo = node_repo(node);
	struct repo_origin origin;
	char hex[OID_MAX_HEX + 1];

	if (strcmp(name, "user.xcpfs.commit") == 0)
		return buf_add_str(out, oid_to_hex(&repo_identity(repo)->commit, hex));
	if (strcmp(name, "user.xcpfs.origin") == 0)
		return buf_add_str(out, session->source);
	repo_origin(repo, node, &origin);
	if (strcmp(name, "user.xcpfs.oid") == 0)
		return buf_add_str(out, oid_to_hex(&origin.oid, hex));
	if (strcmp(name, "user.xcpfs.cached") == 0)
		return buf_add_str(out, origin.cached ? "yes" : "no");
	return -ENODATA;
}

static int run_getxattr(struct op *op, struct repo_wait *wait)
{
	struct buf value = BUF_INIT;
	int rc = xattr_value(op->session, op->node, op->name, &value);

	if (rc == 0 && !(op->out.block = block_copy(value.data, value.len)))
		rc = -ENOMEM;
	buf_release(&value);
	return rc;
}

static void answer_getxattr(struct op *op)
{
	reply_xattr(op, (const char *)op->out.block->data, op->out.block->len);
	block_unref(op->out.block);
}

static const struct op_class getxattr_class = { SESSION_XATTR, run_getxattr, answer_getxattr };

static void do_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t len)
{
	struct op op = op_begin(req, &getxattr_class, ino);

	op.name = name;
	op.len = len;
	op_start(&op);
}

static void answer_listxattr(struct op *op)
{
	reply_xattr(op, NULL, 0);
}

static const struct op_class listxattr_class = { SESSION_XATTR, NULL, answer_listxattr };

static void do_listxattr(fuse_req_t req, fuse_ino_t ino, size_t len)
{
	struct op op = op_begin(req, &listxattr_class, ino);

	op.len = len;
	op_finish(&op, 0, false);
}

/* ---- everything that would write; the mount is ro, so the kernel refuses first ---- */

static const struct op_class refused_class = { SESSION_OTHER, NULL, NULL };

static void refuse(fuse_req_t req)
{
	struct op op = op_begin(req, &refused_class, FUSE_ROOT_ID);

	op_finish(&op, -EROFS, false);
}

static void no_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		       struct fuse_file_info *file)
{
	refuse(req);
}

static void no_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	refuse(req);
}

static void no_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	refuse(req);
}

static void no_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	refuse(req);
}

static void no_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	refuse(req);
}

static void no_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned flags)
{
	refuse(req);
}

static void no_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	refuse(req);
}

static void no_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t len, off_t off,
		     struct fuse_file_info *file)
{
	refuse(req);
}

static void no_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *file)
{
	refuse(req);
}

static void no_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t len, int flags)
{
	refuse(req);
}

static void no_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	refuse(req);
}

static void no_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *file)
{
	refuse(req);
}

static void no_copy(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_file,
		    fuse_ino_t out, off_t out_off, struct fuse_file_info *out_file, size_t len,
		    int flags)
{
	refuse(req);
}

/* ---- INIT ---- */

static void want(struct fuse_conn_info *conn, unsigned capability)
{
	conn->want |= conn->capable & capability;
}

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
	/* At the default of 12, with nine reads parked every further one comes page by page. */
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND;

	want(conn, FUSE_CAP_ASYNC_READ | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			   FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS);
	/*
	 * With it the kernel asks for a file's size before it reads, where the one that it has holds
	 * no longer: a read that is sent with the placeholder for a size may end up with the zeros
	 * behind the end of the file, when anything else is said of the file while it waits.
	 */
	want(conn, FUSE_CAP_AUTO_INVAL_DATA);
	conn->want &= ~(unsigned)FUSE_CAP_EXPLICIT_INVAL_DATA;
}

void ops_fill(const struct mountopt *options, struct fuse_lowlevel_ops *out)
{
	*out = (struct fuse_lowlevel_ops){
		.init = do_init,
		.lookup = do_lookup,
		.forget = do_forget,
		.forget_multi = do_forget_multi,
		.getattr = do_getattr,
		.readlink = do_readlink,
		.open = options->open ? do_open : no_open,
		.release = do_release,
		.read = do_read,
		.opendir = options->open ? do_opendir : no_opendir,
		.releasedir = do_releasedir,
		.readdir = do_readdir,
		.readdirplus = do_readdirplus,
		.statfs = do_statfs,
		.getxattr = options->xattr ? do_getxattr : NULL,
		.listxattr = options->xattr ? do_listxattr : NULL,

		.setattr = no_setattr,
		.mknod = no_mknod,
		.mkdir = no_mkdir,
		.unlink = no_remove,
		.rmdir = no_remove,
		.symlink = no_symlink,
		.rename = no_rename,
		.link = no_link,
		.write = no_write,
		.create = no_create,
		.setxattr = no_setxattr,
		.removexattr = no_removexattr,
		.fallocate = no_fallocate,
		.copy_file_range = no_copy,
	};
}
