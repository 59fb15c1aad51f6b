/* Tests of mount/reply.c: what the kernel is told. That it arrives is test_session's. */
#include "mount/reply.h"

#include <errno.h>

#include "mount/session_internal.h"
#include "tests/fake_repo.h"
#include "tests/tap.h"

static void test_only_what_a_reader_can_use_is_not_eio(void)
{
	static const struct {
		enum session_op op;
		int status, want;
	} rows[] = {
		{ SESSION_LOOKUP, -ENOENT, ENOENT },
		{ SESSION_LOOKUP, -ENAMETOOLONG, ENAMETOOLONG },
		{ SESSION_LOOKUP, -ENOTDIR, ENOTDIR },
		{ SESSION_GETATTR, -ENOENT, EIO },
		{ SESSION_READ_HIT, -ENOENT, EIO },
		{ SESSION_READ_MISS, -ENOENT, EIO },
		{ SESSION_READ_HIT, -EISDIR, EISDIR },
		{ SESSION_READ_HIT, -EBADMSG, EIO },
		{ SESSION_READ_HIT, -EPROTO, EIO },
		{ SESSION_READ_HIT, -ETIMEDOUT, EIO },
		{ SESSION_READ_HIT, -EAGAIN, EIO },
		{ SESSION_READ_HIT, -ENETUNREACH, EIO },
		{ SESSION_READ_HIT, -EACCES, EIO },
		{ SESSION_READ_HIT, -ECANCELED, EIO },
		{ SESSION_READ_HIT, -EINTR, EINTR },
		{ SESSION_READ_HIT, -ENOMEM, ENOMEM },
		{ SESSION_READLINK, -EINVAL, EINVAL },
		{ SESSION_READLINK, -ENAMETOOLONG, ENAMETOOLONG },
		{ SESSION_OTHER, -ENODATA, ENODATA },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int got = reply_errno(rows[i].op, rows[i].status);

		CHECK_MSG(got == rows[i].want, "row %zu: %d", i, got);
	}
}

static void test_nothing_a_remote_says_is_about_a_name(void)
{
	CHECK_INT(reply_wait_status(-ENOENT), -EIO);
	CHECK_INT(reply_wait_status(-ENOTDIR), -EIO);
	CHECK_INT(reply_wait_status(-ETIMEDOUT), -EIO);
	CHECK_INT(reply_wait_status(-EINTR), -EINTR);
	CHECK_INT(reply_wait_status(-ENOMEM), -ENOMEM);
}

static void test_blocks_are_of_512_bytes_rounded_up(void)
{
	static const uint64_t rows[][2] = { { 0, 0 },	       { 1, 1 },
					    { 512, 1 },	       { 513, 2 },
					    { 1000000, 1954 }, { 1ull << 50, 1ull << 41 } };
	struct session session = { .uid = 7, .gid = 8 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct repo_attr attr = {
			.ino = 5, .mode = 0100644, .size = rows[i][0], .mtime_s = 9
		};
		struct stat st;

		reply_stat(&session, &attr, &st);
		CHECK_UINT(st.st_blocks, rows[i][1]);
		CHECK_UINT(st.st_size, rows[i][0]);
		CHECK_UINT(st.st_ino, 5);
		CHECK_UINT(st.st_uid, 7);
		CHECK_UINT(st.st_gid, 8);
		CHECK_UINT(st.st_nlink, 1);
		CHECK_INT(st.st_mtime, 9);
	}
}

static void test_an_unknown_size_is_told_for_no_time(void)
{
	struct node_table *nodes;
	struct fake *fake = fake_new(&nodes);
	struct node *node = fake_add(fake, fake_root(fake), "file", 0100644, 10);
	struct session session = { .nodes = nodes,
				   .options = { .entry_timeout_s = 20, .attr_timeout_s = 30 } };
	struct fuse_entry_param entry;
	struct repo_attr attr;

	repo_attr_now(fake_repo(fake), node, &attr);
	reply_entry_param(&session, node, &attr, &entry);
	CHECK(entry.attr_timeout == 30 && entry.entry_timeout == 20);
	CHECK_UINT(entry.attr.st_size, 10);

	fake_close_gate(node, FAKE_SIZE);
	repo_attr_now(fake_repo(fake), node, &attr);
	reply_entry_param(&session, node, &attr, &entry);
	CHECK(entry.attr_timeout == 0 && entry.entry_timeout == 20);
	CHECK_UINT(entry.attr.st_size, 1ull << 50);
	CHECK_PTR(node_from_id(nodes, entry.ino), node);
	fake_free(fake);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_only_what_a_reader_can_use_is_not_eio);
	TAP_RUN(test_nothing_a_remote_says_is_about_a_name);
	TAP_RUN(test_blocks_are_of_512_bytes_rounded_up);
	TAP_RUN(test_an_unknown_size_is_told_for_no_time);
	return tap_done();
}
