/* buf: growing, overflow, detaching. */
#include "base/buf.h"

#include <errno.h>

#include "tests/tap.h"

static void test_adds_in_order_and_grows(void)
{
	struct buf buf = BUF_INIT;

	for (int i = 0; i < 1000; i++)
		CHECK_INT(buf_addf(&buf, "%03d", i), 0);
	CHECK_UINT(buf.len, 3000);
	CHECK(buf.cap >= buf.len);
	CHECK_MEM(buf.data + 2997, 3, "999", 3);
	CHECK_UINT(strlen(buf_str(&buf)), 3000);
	buf_release(&buf);
	CHECK_NULL(buf.data);
	CHECK_UINT(buf.len, 0);
}

static void test_a_length_that_overflows_is_refused(void)
{
	struct buf buf = BUF_INIT;

	CHECK_INT(buf_add_str(&buf, "abc"), 0);
	CHECK_INT(buf_reserve(&buf, SIZE_MAX), -ENOMEM);
	CHECK_INT(buf_reserve(&buf, SIZE_MAX - 2), -ENOMEM);
	CHECK_MEM(buf.data, buf.len, "abc", 3);
	buf_release(&buf);
}

static void test_consume_drops_from_the_front(void)
{
	static const struct {
		size_t drop;
		const char *left;
	} rows[] = { { 0, "abcdef" }, { 2, "cdef" }, { 4, "" }, { 9, "" } };
	struct buf buf = BUF_INIT;

	buf_consume(&buf, 3);
	CHECK_INT(buf_add_str(&buf, "abcdef"), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		buf_consume(&buf, rows[i].drop);
		CHECK_STR(buf_str(&buf), rows[i].left);
	}
	buf_release(&buf);
}

static void test_detach_leaves_it_empty(void)
{
	struct buf buf = BUF_INIT;
	uint8_t *data;
	size_t len = 0;

	CHECK_INT(buf_add(&buf, "a\0b", 3), 0);
	data = buf_detach(&buf, &len);
	CHECK_MEM(data, len, "a\0b", 3);
	CHECK_NULL(buf.data);
	CHECK_UINT(buf.cap, 0);
	free(data);
}

static void test_empty_one_is_an_empty_string(void)
{
	struct buf buf = BUF_INIT;

	CHECK_STR(buf_str(&buf), "");
	CHECK_INT(buf_add(&buf, NULL, 0), 0);
	buf_release(&buf);
	buf_release(&buf);
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_adds_in_order_and_grows);
	TAP_RUN(test_a_length_that_overflows_is_refused);
	TAP_RUN(test_consume_drops_from_the_front);
	TAP_RUN(test_detach_leaves_it_empty);
	TAP_RUN(test_empty_one_is_an_empty_string);
	return tap_done();
}
