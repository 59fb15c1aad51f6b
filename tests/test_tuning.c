/* Tests of mount/tuning.c. */
#include "mount/tuning.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/tap.h"

static char dir[] = "/tmp/xcpfs-tuning-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
	if (!text)
		return;
	FILE *file = fopen(path, "we");

	fputs(text, file);
	fclose(file);
}

static void test_the_shorter_of_the_kernels_timeouts_counts(void)
{
	static const struct {
		const char *usual, *most;
		uint64_t want_ms;
	} rows[] = {
		{ NULL, NULL, 0 },
		{ "0\n", "0\n", 0 },
		{ "0\n", "60\n", 60000 },
		{ "20\n", "0\n", 20000 },
		{ "20\n", "60\n", 20000 },
		{ "60\n", "20\n", 20000 },
		{ "65535\n", NULL, 65535000 },
		{ "", "nonsense", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		put("default_request_timeout", rows[i].usual);
		put("max_request_timeout", rows[i].most);
		uint64_t got_ms = tuning_request_timeout_ms(dir);

		CHECK_MSG(got_ms == rows[i].want_ms, "row %zu: %" PRIu64, i, got_ms);
	}
	put("default_request_timeout", NULL);
	put("max_request_timeout", NULL);
}

static void test_a_mount_is_told_from_what_is_below_it(void)
{
	struct mount_id root, proc, again;
	struct stat st;

	CHECK_INT(tuning_mount_id("/", &root), 0);
	CHECK_INT(tuning_mount_id("/proc", &proc), 0);
	CHECK_INT(tuning_mount_id("/proc", &again), 0);
	CHECK(root.id != proc.id && root.dev != proc.dev);
	CHECK(proc.id == again.id && proc.dev == again.dev);
	CHECK_INT(stat("/proc", &st), 0);
	CHECK_UINT(proc.dev, st.st_dev);
	CHECK_INT(tuning_mount_id("/nowhere/at/all", &again), -ENOENT);
}

static void test_a_device_without_read_ahead_is_an_error(void)
{
	CHECK(tuning_read_ahead(makedev(4095, 1), 1024) < 0);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	if (!mkdtemp(dir))
		tap_skip_all("no temporary directory");
	TAP_RUN(test_the_shorter_of_the_kernels_timeouts_counts);
	TAP_RUN(test_a_mount_is_told_from_what_is_below_it);
	TAP_RUN(test_a_device_without_read_ahead_is_an_error);
	rmdir(dir);
	return tap_done();
}
