/*
 * The only place where the house's errors become the kernel's, and where attributes are dressed up
 * as a struct stat. A reply that does not arrive (the request was aborted, or the file system is
 * gone) is nobody's error; only the lookups that it carried have to be taken back.
 */
#include "mount/reply.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

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
	out->entry_timeout = REPLY_TTL_S;
	out->attr_timeout = attr->size_known ? REPLY_TTL_S : 0;
	reply_stat(session, attr, &out->attr);
}

void reply_error(fuse_req_t req, int kernel_errno)
{
	fuse_reply_err(req, kernel_errno);
}

void reply_found(struct op *op, struct node *node)
{
	struct session *session = op->session;
	struct fuse_entry_param entry;
	struct repo_attr attr;

	repo_attr_tell(node_repo(node), node, &attr);
	reply_entry_param(session, node, &attr, &entry);
	if (fuse_reply_entry(op->req, &entry) != 0)
		node_forget(session->nodes, node, 1);
}

void reply_missing(fuse_req_t req)
{
	struct fuse_entry_param entry = { .ino = 0, .entry_timeout = REPLY_TTL_S };

	fuse_reply_entry(req, &entry);
}

void reply_attr(struct op *op, const struct repo_attr *attr)
{
	struct stat st;

	reply_stat(op->session, attr, &st);
	fuse_reply_attr(op->req, &st, attr->size_known ? REPLY_TTL_S : 0);
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
		fuse_reply_buf(op->req, NULL, 0);
	else if (spans->count == 1)
		fuse_reply_buf(op->req, iov[0].iov_base, iov[0].iov_len);
	else
		fuse_reply_iov(op->req, iov, (int)spans->count);
	spans_release(spans);
}

void reply_xattr(struct op *op, const char *value, size_t value_len)
{
	if (op->len == 0)
		fuse_reply_xattr(op->req, value_len);
	else if (op->len < value_len)
		fuse_reply_err(op->req, ERANGE);
	else
		fuse_reply_buf(op->req, value, value_len);
}
