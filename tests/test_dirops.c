/* Tests of mount/dirops.c: the exchange of FUSE_INIT as bytes, without a device. */
#include "mount/dirops.h"

#include <errno.h>
#include <linux/fuse.h>

#include "tests/tap.h"

struct request {
	struct fuse_in_header header;
	struct fuse_init_in init;
};

struct reply {
	struct fuse_out_header header;
	struct fuse_init_out init;
};

static struct request request_of(uint32_t flags)
{
	return (struct request){ .header = { .opcode = FUSE_INIT, .unique = 2 },
				 .init = { .major = 7, .minor = 31, .flags = flags } };
}

static bool patch(struct dirops *dirops, struct reply *reply)
{
	struct iovec iov[2] = { { &reply->header, sizeof(reply->header) },
				{ &reply->init, sizeof(reply->init) } };

	return dirops_patch_reply(dirops, iov, 2);
}

static void test_the_flag_is_added_where_the_kernel_offers_it(void)
{
	struct dirops dirops = { .max_readahead = 1 << 20 };
	struct request request = request_of(FUSE_PARALLEL_DIROPS | FUSE_ASYNC_READ);
	struct reply reply = { .header = { .unique = 2 },
			       .init = { .flags = FUSE_ASYNC_READ, .max_readahead = 131072 } };

	dirops_saw_request(&dirops, &request, sizeof(request));
	CHECK_INT(dirops.phase, DIROPS_SEEN);
	CHECK(patch(&dirops, &reply));
	CHECK_UINT(reply.init.flags, FUSE_PARALLEL_DIROPS | FUSE_ASYNC_READ);
	CHECK_UINT(reply.init.max_readahead, 1 << 20);
}

static void test_the_flag_is_not_forced_on_a_kernel(void)
{
	struct dirops dirops = { 0 };
	struct request request = request_of(FUSE_ASYNC_READ);
	struct reply reply = { .header = { .unique = 2 }, .init = { .max_readahead = 131072 } };

	dirops_saw_request(&dirops, &request, sizeof(request));
	CHECK(patch(&dirops, &reply));
	CHECK_UINT(reply.init.flags, 0);
	CHECK_UINT(reply.init.max_readahead, 131072);
}

static void test_no_other_request_is_taken_for_init(void)
{
	struct dirops dirops = { 0 };
	struct request request = request_of(FUSE_PARALLEL_DIROPS);

	request.header.opcode = FUSE_LOOKUP;
	dirops_saw_request(&dirops, &request, sizeof(request));
	CHECK_INT(dirops.phase, DIROPS_WAITING);
	request.header.opcode = FUSE_INIT;
	dirops_saw_request(&dirops, &request, sizeof(request.header) + 4);
	CHECK_INT(dirops.phase, DIROPS_WAITING);
}

static void test_no_other_reply_is_changed(void)
{
	struct dirops dirops = { .max_readahead = 1 << 20 };
	struct request request = request_of(FUSE_PARALLEL_DIROPS);
	struct reply other = { .header = { .unique = 4 } };
	struct reply failed = { .header = { .unique = 2, .error = -EPROTO } };
	struct iovec iov = { &other.header, sizeof(other.header) };

	dirops_saw_request(&dirops, &request, sizeof(request));
	CHECK(!patch(&dirops, &other));
	CHECK(!patch(&dirops, &failed));
	CHECK(!dirops_patch_reply(&dirops, &iov, 1));
	CHECK_UINT(other.init.flags | failed.init.flags, 0);
}

/* An old kernel's request ends before the second flags. */
static void test_a_short_init_is_understood(void)
{
	struct dirops dirops = { 0 };
	struct request request = request_of(FUSE_PARALLEL_DIROPS);
	struct reply reply = { .header = { .unique = 2 } };

	dirops_saw_request(&dirops, &request,
			   sizeof(request.header) + offsetof(struct fuse_init_in, flags2));
	CHECK(patch(&dirops, &reply));
	CHECK_UINT(reply.init.flags, FUSE_PARALLEL_DIROPS);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_the_flag_is_added_where_the_kernel_offers_it);
	TAP_RUN(test_the_flag_is_not_forced_on_a_kernel);
	TAP_RUN(test_no_other_request_is_taken_for_init);
	TAP_RUN(test_no_other_reply_is_changed);
	TAP_RUN(test_a_short_init_is_understood);
	return tap_done();
}
