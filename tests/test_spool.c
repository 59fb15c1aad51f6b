/* Tests of fetch/spool. */
#include "fetch/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tap.h"

static int open_count, open_status;

static int open_tmp(void *arg)
{
	char name[] = "/tmp/xcpfs-spool.XXXXXX";
	int fd;

	(void)arg;
	if (open_status)
		return open_status;
	open_count++;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd < 0 ? -errno : fd;
}

static void test_what_is_appended_is_read_back(void)
{
	struct spool spool;
	char out[8] = "";

	open_count = open_status = 0;
	spool_init(&spool, open_tmp, NULL);
	CHECK_INT(open_count, 0); /* no file before the first byte */
	CHECK_INT(spool_append(&spool, "hello ", 6), 0);
	CHECK_INT(spool_append(&spool, "world", 5), 0);
	CHECK_INT(open_count, 1);
	CHECK_UINT(spool.len, 11);
	CHECK_INT(spool_read(&spool, 4, out, 5), 0);
	CHECK_MEM(out, 5, "o wor", 5);
	CHECK_INT(spool_read(&spool, 8, out, 5), -EIO);
	spool_release(&spool);
	CHECK_INT(spool.fd, -1);
}

static void test_map_shows_a_stretch_that_is_not_aligned(void)
{
	struct spool_map map;
	struct spool spool;
	uint8_t data[10000];

	open_status = 0;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	spool_init(&spool, open_tmp, NULL);
	CHECK_INT(spool_append(&spool, data, sizeof(data)), 0);
	CHECK_INT(spool_map(&spool, 4099, 5000, &map), 0);
	CHECK_MEM(map.data, 5000, data + 4099, 5000);
	spool_unmap(&map);
	CHECK_NULL(map.data);
	CHECK_INT(spool_map(&spool, 9000, 1001, &map), -EINVAL);
	CHECK_INT(spool_map(&spool, UINT64_MAX, 2, &map), -EINVAL);
	CHECK_INT(spool_map(&spool, 0, 0, &map), -EINVAL);
	spool_release(&spool);
}

static void test_detached_file_is_the_callers(void)
{
	struct spool spool;
	char out[4];
	int fd;

	open_status = 0;
	spool_init(&spool, open_tmp, NULL);
	CHECK_INT(spool_detach(&spool), -ENOENT);
	CHECK_INT(spool_append(&spool, "data", 4), 0);
	fd = spool_detach(&spool);
	CHECK(fd >= 0);
	spool_release(&spool);
	CHECK_INT(spool_fd_read(fd, 0, out, 4), 0);
	CHECK_MEM(out, 4, "data", 4);
	close(fd);
}

static void test_failure_to_open_comes_out_of_append(void)
{
	struct spool spool;

	open_status = -ENOSPC;
	spool_init(&spool, open_tmp, NULL);
	CHECK_INT(spool_append(&spool, "x", 1), -ENOSPC);
	CHECK_INT(spool_read(&spool, 0, NULL, 0), 0);
	spool_release(&spool);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_is_appended_is_read_back);
	TAP_RUN(test_map_shows_a_stretch_that_is_not_aligned);
	TAP_RUN(test_detached_file_is_the_callers);
	TAP_RUN(test_failure_to_open_comes_out_of_append);
	return tap_done();
}
