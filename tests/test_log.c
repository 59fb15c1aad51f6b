/* log: levels, the file sink, hostile names, rate limits. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "tests/tap.h"

static char path[64];

static int open_file(enum log_level level)
{
	const struct log_config config = { .level = level, .file = path };
	int fd;

	strcpy(path, "/tmp/xcpfs-test-log-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return -errno;
	close(fd);
	unlink(path);
	return log_open(&config, NULL);
}

/* Closes the log, removes the file and returns what is in it (to be freed). */
static char *close_file(void)
{
	struct stat st;
	char *text = NULL;
	FILE *file;

	log_close();
	file = fopen(path, "r");
	unlink(path);
	if (!file)
		return NULL;
	if (fstat(fileno(file), &st) == 0 && (text = calloc(1, (size_t)st.st_size + 1)))
		if (fread(text, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
			text[0] = '\0';
	fclose(file);
	return text;
}

static void test_level_names(void)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	static const char *const wrong[] = { "", "warning", "Error", "debug ", "3" };
	enum log_level level = LOG_LEVEL_INFO;

	for (size_t i = 0; i < 4; i++) {
		CHECK_INT(log_level_parse(names[i], &level), 0);
		CHECK_INT(level, (int)i);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK_MSG(log_level_parse(wrong[i], &level) == -EINVAL, "\"%s\"", wrong[i]);
	CHECK_INT(level, LOG_LEVEL_DEBUG);
}

static void test_lines_below_the_level_are_left_out(void)
{
	char *text;

	CHECK_INT(open_file(LOG_LEVEL_INFO), 0);
	CHECK(log_enabled(LOG_LEVEL_INFO));
	CHECK(!log_enabled(LOG_LEVEL_DEBUG));
	log_error("one");
	log_info("two %d", 2);
	log_debug("three");
	text = close_file();
	CHECK_CONTAINS(text, " error one\n");
	CHECK_CONTAINS(text, " info two 2\n");
	CHECK(!strstr(text, "three"));
	free(text);
	CHECK(!log_enabled(LOG_LEVEL_INFO)); /* closed: warn and above, to stderr */
}

static void test_a_file_is_private_and_appended_to(void)
{
	struct log_config config = { .level = LOG_LEVEL_WARN, .file = path };
	struct stat st;
	char *text;

	CHECK_INT(open_file(LOG_LEVEL_WARN), 0);
	CHECK_INT(stat(path, &st), 0);
	CHECK_UINT(st.st_mode & 07777, 0600);
	log_warn("first");
	log_close();
	CHECK_INT(log_open(&config, NULL), 0);
	log_warn("second");
	text = close_file();
	CHECK_CONTAINS(text, "first\n");
	CHECK_CONTAINS(text, "second\n");
	free(text);
}

static void test_a_name_cannot_make_a_line(void)
{
	char *text;

	CHECK_INT(open_file(LOG_LEVEL_WARN), 0);
	log_warn("name \"%s\"", "a\nb\033[2J\177\303\244");
	text = close_file();
	CHECK_CONTAINS(text, "name \"a\\x0ab\\x1b[2J\\x7f\303\244\"\n");
	free(text);
}

static void test_a_long_line_is_cut_and_ends(void)
{
	char *text, *name = malloc(20001);

	memset(name, '\n', 20000);
	name[20000] = '\0';
	CHECK_INT(open_file(LOG_LEVEL_WARN), 0);
	log_warn("%s", name);
	log_warn("next");
	free(name);
	text = close_file();
	CHECK(strchr(text, '\n') - text < 5000);
	CHECK_CONTAINS(strchr(text, '\n'), "next\n");
	free(text);
}

static void test_a_file_that_cannot_be_opened_says_so(void)
{
	const struct log_config config = { .file = "/nonexistent/folder/log" };
	struct xcp_error err;

	CHECK_INT(log_open(&config, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "/nonexistent/folder/log");
	CHECK_CONTAINS(err.message, strerror(ENOENT));
}

static void test_errno_survives(void)
{
	CHECK_INT(open_file(LOG_LEVEL_WARN), 0);
	errno = EXDEV;
	log_warn("something");
	CHECK_INT(errno, EXDEV);
	free(close_file());
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < 200; i++)
		log_warn("thread=%s abcdefghijklmnopqrstuvwxyz end", (const char *)arg);
	return NULL;
}

static void test_threads_write_whole_lines(void)
{
	static char names[4][2] = { "a", "b", "c", "d" };
	pthread_t threads[4];
	unsigned lines = 0;
	char *text, *line, *save = NULL;

	CHECK_INT(open_file(LOG_LEVEL_WARN), 0);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	text = close_file();
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), lines++) {
		CHECK_CONTAINS(line, "abcdefghijklmnopqrstuvwxyz end");
		CHECK_NULL(strstr(strstr(line, " end"), "thread="));
	}
	CHECK_UINT(lines, 800);
	free(text);
}

static void test_limit_counts_what_it_holds_back(void)
{
	struct log_limit limit = { 0 };
	unsigned suppressed = 99;

	clock_fake(5000);
	CHECK(log_limit_pass(&limit, 60000, &suppressed));
	CHECK_UINT(suppressed, 0);
	for (int i = 0; i < 3; i++)
		CHECK(!log_limit_pass(&limit, 60000, &suppressed));
	clock_fake_advance(59999);
	CHECK(!log_limit_pass(&limit, 60000, &suppressed));
	clock_fake_advance(1);
	CHECK(log_limit_pass(&limit, 60000, &suppressed));
	CHECK_UINT(suppressed, 4);
	CHECK(!log_limit_pass(&limit, 60000, &suppressed));
	clock_real();
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_level_names);
	TAP_RUN(test_lines_below_the_level_are_left_out);
	TAP_RUN(test_a_file_is_private_and_appended_to);
	TAP_RUN(test_a_name_cannot_make_a_line);
	TAP_RUN(test_a_long_line_is_cut_and_ends);
	TAP_RUN(test_a_file_that_cannot_be_opened_says_so);
	TAP_RUN(test_errno_survives);
	TAP_RUN(test_threads_write_whole_lines);
	TAP_RUN(test_limit_counts_what_it_holds_back);
	return tap_done();
}
