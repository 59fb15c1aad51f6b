/* content: the same answers from memory and from a file. */
#include "base/content.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/tap.h"

static const char text[] = "0123456789abcdef";
#define TEXT_LEN 16

static struct oid some_oid(void)
{
	struct oid oid;

	memset(&oid, 0, sizeof(oid));
	oid.algo = OID_SHA1;
	oid.hash[0] = 0xab;
	return oid;
}

static struct content *in_memory(void)
{
	struct oid oid = some_oid();

	return content_from_block_take(&oid, OBJECT_BLOB, block_copy(text, TEXT_LEN));
}

static struct content *in_file(void)
{
	struct oid oid = some_oid();
	int fd = memfd_create("content", MFD_CLOEXEC);

	if (fd < 0 || write(fd, text, TEXT_LEN) != TEXT_LEN)
		return NULL;
	return content_from_fd_take(&oid, OBJECT_BLOB, fd, TEXT_LEN);
}

static struct content *(*const makers[])(void) = { in_memory, in_file };

static void test_reads_are_cut_at_the_end(void)
{
	static const struct {
		uint64_t off;
		size_t len;
		const char *want;
	} rows[] = {
		{ 0, 16, "0123456789abcdef" },
		{ 0, 100, "0123456789abcdef" },
		{ 3, 4, "3456" },
		{ 15, 1, "f" },
		{ 10, SIZE_MAX, "abcdef" },
		{ 16, 1, "" },
		{ 17, 1, "" },
		{ UINT64_MAX, SIZE_MAX, "" },
		{ 4, 0, "" },
	};

	for (size_t m = 0; m < 2; m++) {
		struct content *content = makers[m]();

		CHECK(content);
		CHECK_UINT(content->size, TEXT_LEN);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct spans spans = SPANS_INIT;

			CHECK_INT(content_read(content, rows[i].off, rows[i].len, &spans), 0);
			CHECK_UINT(spans.len, strlen(rows[i].want));
			if (spans.count)
				CHECK_MEM(spans.v[0].block->data + spans.v[0].off, spans.v[0].len,
					  rows[i].want, strlen(rows[i].want));
			spans_release(&spans);
		}
		content_unref(content);
	}
}

static void test_whole_as_one_block(void)
{
	for (size_t m = 0; m < 2; m++) {
		struct content *content = makers[m]();
		struct block *block = NULL;

		CHECK(content);
		CHECK_INT(content_block(content, TEXT_LEN - 1, &block), -EFBIG);
		CHECK_INT(content_block(content, TEXT_LEN, &block), 0);
		content_unref(content);
		CHECK_MEM(block->data, block->len, text, TEXT_LEN);
		block_unref(block);
	}
}

static void test_a_file_that_is_too_short_is_an_error(void)
{
	struct content *content = in_file();
	struct spans spans = SPANS_INIT;

	CHECK(content);
	CHECK_INT(ftruncate(content->fd, 4), 0);
	CHECK_INT(content_read(content, 0, TEXT_LEN, &spans), -EIO);
	CHECK_UINT(spans.count, 0);
	content_unref(content);
}

static void test_the_last_reference_closes_the_file(void)
{
	struct content *content = in_file();
	int fd;

	CHECK(content);
	fd = content->fd;
	content_unref(content_ref(content));
	CHECK(fcntl(fd, F_GETFD) >= 0);
	content_unref(content);
	CHECK_INT(fcntl(fd, F_GETFD), -1);
	content_unref(NULL);
}

static void test_type_names(void)
{
	CHECK_STR(object_type_name(OBJECT_COMMIT), "commit");
	CHECK_STR(object_type_name(OBJECT_TREE), "tree");
	CHECK_STR(object_type_name(OBJECT_BLOB), "blob");
	CHECK_STR(object_type_name(OBJECT_TAG), "tag");
	CHECK_STR(object_type_name(OBJECT_NONE), "none");
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_reads_are_cut_at_the_end);
	TAP_RUN(test_whole_as_one_block);
	TAP_RUN(test_a_file_that_is_too_short_is_an_error);
	TAP_RUN(test_the_last_reference_closes_the_file);
	TAP_RUN(test_type_names);
	return tap_done();
}
