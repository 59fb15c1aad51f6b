/*
 * The only place where the house's errors become the kernel's, and where attributes are dressed up
 * as a struct stat. A reply that does not arrive (the request was aborted, or the file system is
 * gone) is nobody's error; only the lookups that it carried have to be taken back.
 */
#include "mount/reply.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "mount/session_internal.h"

#define STAT_BLOCK_LEN 512
#define STAT_BLKSIZE 4096

int reply_errno(enum session_op op, int status)
{
	switch (-status) {
	case ENOENT:
		return op == SESSION_LOOKUP ? ENOENT : EIO;
	case EINTR:
	case EINVAL:
	case EISDIR:
	case ENAMETOOLONG:
	case ENODATA:
	case ENOMEM:
	case ENOSYS:
	case ENOTDIR:
	case ERANGE:
	case EROFS:
		return -status;
	default:
		return EIO;
	}
}

int reply_wait_status(int status)
{
	return status == -EINTR || status == -ENOMEM ? status : -EIO;
}

void reply_stat(const struct session *session, const struct repo_attr *attr, struct stat *out)
{
	memset(out, 0, sizeof(*out));
	out->st_ino = attr->ino;
	out->st_mode = attr->mode;
	out->st_nlink = 1;
	out->st_uid = session->uid;
	out->st_gid = session->gid;
	out->st_size = (off_t)attr->size;
	out->st_blksize = STAT_BLKSIZE;
	out->st_blocks =
		(blkcnt_t)(attr->size / STAT_BLOCK_LEN + (attr->size % STAT_BLOCK_LEN != 0));
	out->st_atim.tv_sec = attr->mtime_s;
	out->st_mtim.tv_sec = attr->mtime_s;
	out->st_ctim.tv_sec = attr->mtime_s;
}

void reply_entry_param(const struct session *session, struct node *node,
		       const struct repo_attr *attr, struct fuse_entry_param *out)
{
	memset(out, 0, sizeof(*out));
	out->ino = node_id(session->nodes, node);
	out->entry_timeout = session->options.entry_timeout_s;
	out->attr_timeout = attr->size_known ? session->options.attr_timeout_s : 0;
	reply_stat(session, attr, &out->attr);
}

/* What follows is the kernel's: copying, and whoever is woken by it. */
static fuse_req_t hand_over(struct op *op)
{
	op->took_ns = clock_ns() - op->start_ns;
	return op->req;
}

void reply_error(struct op *op, int kernel_errno)
{
	fuse_reply_err(hand_over(op), kernel_errno);
}

void reply_found(struct op *op, struct node *node)
{
	struct session *session = op->session;
	struct fuse_entry_param entry;
	struct repo_attr attr;

	repo_attr_tell(node_repo(node), node, &attr);
	reply_entry_param(session, node, &attr, &entry);
	if (fuse_reply_entry(hand_over(op), &entry) != 0)
		node_forget(session->nodes, node, 1);
}

void reply_missing(struct op *op)
{
	struct fuse_entry_param entry = {
		.ino = 0, .entry_timeout = op->session->options.negative_timeout_s
	};

	fuse_reply_entry(hand_over(op), &entry);
}

void reply_attr(struct op *op, const struct repo_attr *attr)
{
	double timeout_s = attr->size_known ? op->session->options.attr_timeout_s : 0;
	struct stat st;

	reply_stat(op->session, attr, &st);
	fuse_reply_attr(hand_over(op), &st, timeout_s);
}

void reply_open(struct op *op, const struct fuse_file_info *file)
{
	fuse_reply_open(hand_over(op), file);
}

void reply_statfs(struct op *op, const struct statvfs *st)
{
	fuse_reply_statfs(hand_over(op), st);
}

int reply_data(struct op *op, const void *data, size_t len)
{
	return fuse_reply_buf(hand_over(op), data, len);
}

void reply_none(struct op *op)
{
	fuse_reply_none(hand_over(op));
}

/* Only the attributes: that takes no lock in the kernel that this request may hold. */
void reply_forget_attr(struct op *op)
{
	struct session *session = op->session;

	fuse_lowlevel_notify_inval_inode(session->fuse, node_id(session->nodes, op->node), -1, 0);
}

void reply_spans(struct op *op, struct spans *spans)
{
	struct iovec iov[SPANS_MAX];

	for (unsigned i = 0; i < spans->count; i++) {
		iov[i].iov_base = spans->v[i].block->data + spans->v[i].off;
		iov[i].iov_len = spans->v[i].len;
	}
	atomic_fetch_add_explicit(&op->session->bytes_served, spans->len, memory_order_relaxed);
	if (spans->count == 0)
		reply_data(op, NULL, 0);
	else if (spans->count == 1)
		reply_data(op, iov[0].iov_base, iov[0].iov_len);
	else
		fuse_reply_iov(hand_over(op), iov, (int)spans->count);
	spans_release(spans);
}

void reply_xattr(struct op *op, const char *value, size_t value_len)
{
	if (op->len == 0)
		fuse_reply_xattr(hand_over(op), value_len);
	else if (op->len < value_len)
		reply_error(op, ERANGE);
	else
		reply_data(op, value, value_len);
}
