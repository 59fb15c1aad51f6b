/* error: set, prefix, cutting, no error wanted. */
#include "base/error.h"

#include <errno.h>

#include "tests/tap.h"

static void test_set_returns_the_code(void)
{
	struct xcp_error err;

	CHECK_INT(xcp_error_set(&err, -EACCES, "cannot open %s", "door"), -EACCES);
	CHECK_INT(err.code, -EACCES);
	CHECK_STR(err.message, "cannot open door");
	CHECK_INT(xcp_error_set(NULL, -EIO, "nobody listens"), -EIO);
}

static void test_prefix_goes_before(void)
{
	struct xcp_error err;

	xcp_error_set(&err, -ENOENT, "no ref");
	CHECK_INT(xcp_error_prefix(&err, "resolving %s", "HEAD"), -ENOENT);
	CHECK_INT(xcp_error_prefix(&err, "mounting %d", 7), -ENOENT);
	CHECK_STR(err.message, "mounting 7: resolving HEAD: no ref");
	CHECK_INT(xcp_error_prefix(NULL, "nobody"), 0);
}

static void test_a_message_may_quote_itself(void)
{
	struct xcp_error err;

	xcp_error_set(&err, -EIO, "inner");
	xcp_error_prefix(&err, "outer (%s)", err.message);
	CHECK_STR(err.message, "outer (inner): inner");
	xcp_error_set(&err, -EIO, "cannot go on: %s", err.message);
	CHECK_STR(err.message, "cannot go on: outer (inner): inner");
}

static void test_too_long_is_cut(void)
{
	struct xcp_error err;
	char text[2 * XCP_ERROR_LEN];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	CHECK_INT(xcp_error_set(&err, -EIO, "%s", text), -EIO);
	CHECK_UINT(strlen(err.message), XCP_ERROR_LEN - 1);
	CHECK_INT(xcp_error_prefix(&err, "%s", text), -EIO);
	CHECK_UINT(strlen(err.message), XCP_ERROR_LEN - 1);
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_set_returns_the_code);
	TAP_RUN(test_prefix_goes_before);
	TAP_RUN(test_a_message_may_quote_itself);
	TAP_RUN(test_too_long_is_cut);
	return tap_done();
}
