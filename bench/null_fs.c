/*
 * null_fs: a file system that answers at once, as a measure of what FUSE itself costs here.
 *
 *	null_fs MOUNTPOINT		serves until unmounted
 *
 * It has one directory. A name in it of the form INDEX-SIZE is a file of SIZE zero bytes; there are
 * as many as anybody asks for, and nothing is kept of them: the nodeid says it all. The session is
 * set up as xcpfs's is (the same loop and number of threads, no OPEN, the same limits), and the
 * kernel may keep neither names nor attributes, so that every request arrives.
 */
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mount/loop.h"

#define READ_MAX (1u << 20)
#define SIZE_BITS 24
#define MAX_BACKGROUND 1024

static char zeros[READ_MAX];

/* Index and size in one number, clear of 0 and the root's 1. */
static fuse_ino_t ino_of(const char *name)
{
	unsigned long index, size;
	char end;

	if (sscanf(name, "%lu-%lu%c", &index, &size, &end) != 2 || size >> SIZE_BITS)
		return 0;
	return ((fuse_ino_t)index + 1) << SIZE_BITS | size;
}

static struct stat stat_of(fuse_ino_t ino)
{
	if (ino == FUSE_ROOT_ID)
		return (struct stat){ .st_ino = ino, .st_mode = S_IFDIR | 0755, .st_nlink = 1 };
	return (struct stat){ .st_ino = ino,
			      .st_mode = S_IFREG | 0644,
			      .st_nlink = 1,
			      .st_size = (off_t)(ino & ((1u << SIZE_BITS) - 1)) };
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = ino_of(name) };

	(void)parent;
	if (entry.ino == 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	entry.attr = stat_of(entry.ino);
	fuse_reply_entry(req, &entry);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct stat st = stat_of(ino);

	(void)file;
	fuse_reply_attr(req, &st, 0);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t off,
		    struct fuse_file_info *file)
{
	struct stat st = stat_of(ino);
	size_t left = off < st.st_size ? (size_t)(st.st_size - off) : 0;

	(void)file;
	if (len > left)
		len = left;
	fuse_reply_buf(req, zeros, len < READ_MAX ? len : READ_MAX);
}

static void no_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	(void)ino;
	(void)file;
	fuse_reply_err(req, ENOSYS);
}

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND;
	conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
				       FUSE_CAP_EXPLICIT_INVAL_DATA);
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA; /* or a read is a GETATTR as well */
}

static const struct fuse_lowlevel_ops ops = {
	.init = do_init,
	.lookup = do_lookup,
	.getattr = do_getattr,
	.read = do_read,
	.open = no_open,
	.opendir = no_open,
};

static void nothing_more(void *arg)
{
	(void)arg;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *fuse;
	struct loop loop;
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: null_fs MOUNTPOINT\n");
		return 2;
	}
	fuse_opt_add_arg(&args, "null_fs");
	fuse_opt_add_arg(&args, "-oro,nosuid,nodev,subtype=null,fsname=null");
	fuse = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	fuse_opt_free_args(&args);
	if (!fuse || fuse_session_mount(fuse, argv[1]) != 0)
		return 1;
	loop_init(&loop);
	rc = loop_run(&loop, fuse, 4 + 2 * (unsigned)sysconf(_SC_NPROCESSORS_ONLN), nothing_more,
		      NULL);
	fuse_session_unmount(fuse);
	fuse_session_destroy(fuse);
	loop_release(&loop);
	return rc != 0;
}
