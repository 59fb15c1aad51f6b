/*
 * Tests src/cli: options, settings and the list of mounts. The verbs themselves are tested end to
 * end.
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "cli/mounts.h"
#include "cli/option_table.h"
#include "cli/settings.h"
#include "tap.h"

/* ---- options ---- */

static const struct option_row rows[] = {
	{ "foreground", 'f', NULL, "Stay in front." },
	{ "ref", 'r', "REF", "What to show." },
	{ "json", 0, NULL, "Print JSON." },
	{ 0 },
};

static int note_option(void *arg, const char *name, const char *value)
{
	return buf_addf(arg, "%s=%s;", name, value ? value : "-");
}

static void test_options_may_follow_operands_and_end_with_two_dashes(void)
{
	static const struct {
		const char *const argv[8];
		int argc, ret;
		const char *seen;
		int operand_count;
	} table[] = {
		{ { "mount", "-f", "a", "b" }, 4, 0, "foreground=-;", 2 },
		{ { "mount", "a", "--ref", "v1", "b" }, 5, 0, "ref=v1;", 2 },
		{ { "mount", "a", "b", "-rv1", "--json" }, 5, 0, "ref=v1;json=-;", 2 },
		{ { "mount", "--ref=v1", "--", "-f" }, 4, 0, "ref=v1;", 1 },
		{ { "mount", "--ref=" }, 2, 0, "ref=;", 0 },
		{ { "mount", "--nope" }, 2, -EINVAL, "", 0 },
		{ { "mount", "-x" }, 2, -EINVAL, "", 0 },
		{ { "mount", "-r" }, 2, -EINVAL, "", 0 },
		{ { "mount", "--json=1" }, 2, -EINVAL, "", 0 },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct buf seen = BUF_INIT;
		char *argv[9] = { NULL }, **operands;
		int count;

		memcpy(argv, table[i].argv, sizeof(table[i].argv));
		CHECK_INT(option_table_parse(rows, table[i].argc, argv, note_option, &seen,
					     &operands, &count),
			  table[i].ret);
		CHECK_STR(seen.len ? buf_str(&seen) : "", table[i].seen);
		if (!table[i].ret)
			CHECK_INT(count, table[i].operand_count);
		buf_release(&seen);
	}
}

/* ---- settings ---- */

static const char *write_config(const char *text)
{
	static char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/xcpfs-test-config-%d", (int)getpid());
	file = fopen(path, "we");
	if (!file || fputs(text, file) < 0 || fclose(file))
		return NULL;
	return path;
}

static void clear_environment(void)
{
	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
	setenv("XDG_CACHE_HOME", "/caches", 1);
	unsetenv("XCPFS_CACHE_DIR");
	unsetenv("XCPFS_TIMEOUT");
	unsetenv("XCPFS_OFFLINE");
	unsetenv("XCPFS_LOG_LEVEL");
	unsetenv("XCPFS_LOG_FILE");
}

static void test_settings_have_defaults(void)
{
	struct settings settings;

	clear_environment();
	CHECK_INT(settings_load(NULL, &settings, NULL), 0);
	CHECK_STR(settings.cache_dir, "/caches/xcpfs");
	CHECK_INT(settings.timeout_ms, 30000);
	CHECK_UINT(settings.memory_max_len, 0);
	CHECK(!settings.offline);
	CHECK(host_table_find(settings.hosts, "github") != NULL);
	settings_release(&settings);
}

static void test_the_environment_goes_over_the_file_and_options_over_both(void)
{
	struct settings settings;
	const char *path = write_config("cache-dir = /from/file\ntimeout = 5\nlog-level = debug\n"
					"[host \"git.example.org\"]\nalias = ex\ngit = "
					"https://git.example.org/{owner}/{repo}\n");

	clear_environment();
	setenv("XCPFS_TIMEOUT", "7", 1);
	CHECK_INT(settings_load(path, &settings, NULL), 0);
	CHECK_STR(settings.cache_dir, "/from/file");
	CHECK_INT(settings.timeout_ms, 7000);
	CHECK_INT(settings.log_level, LOG_LEVEL_DEBUG);
	CHECK(host_table_find(settings.hosts, "ex") != NULL);
	CHECK_INT(settings_set(&settings, "timeout", "9", NULL), 0);
	CHECK_INT(settings.timeout_ms, 9000);
	CHECK_INT(settings_set(&settings, "memory", "8m", NULL), 0);
	CHECK_UINT(settings.memory_max_len, 8u << 20);
	CHECK_INT(settings_set(&settings, "memory", "4194304", NULL), 0);
	CHECK_UINT(settings.memory_max_len, 4u << 20);
	settings_release(&settings);
	clear_environment();
	unlink(path);
}

static void test_a_wrong_line_is_an_error_that_names_file_and_line(void)
{
	static const struct {
		const char *text, *words;
	} table[] = {
		{ "timeout = soon\n", "line 1: timeout is \"soon\"" },
		{ "\ntimeout = 0\n", "line 2: timeout" },
		{ "timeout = -3\n", "line 1: timeout" },
		{ "memory = 3M\n", "4M at least" },
		{ "memory = 8MB\n", "memory is \"8MB\"" },
		{ "memory = 99999999999999999999\n", "memory" },
		{ "memory = -8M\n", "memory" },
		{ "memory = 2000000000G\n", "memory" },
		{ "colour = red\n", "unknown setting \"colour\"" },
		{ "[hosts]\na = b\n", "line 2" },
		{ "[host github.com]\ngit = https://x/{owner}\n", "[host \"NAME\"]" },
		{ "offline = perhaps\n", "true or false" },
		{ "log-level = loud\n", "error, warn, info or debug" },
		{ "cache-dir =\n", "name a directory" },
		{ "[host \"x\"]\ngit = https://x/{color}\n", "line 2" },
	};

	clear_environment();
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct xcp_error err = { 0 };
		struct settings settings;
		const char *path = write_config(table[i].text);

		CHECK(settings_load(path, &settings, &err) < 0);
		CHECK_CONTAINS(err.message, table[i].words);
		CHECK(strstr(err.message, path) != NULL);
		settings_release(&settings);
		unlink(path);
	}
}

static void test_a_missing_config_file_that_was_named_is_an_error(void)
{
	struct settings settings;

	clear_environment();
	CHECK_INT(settings_load("/nonexistent/config", &settings, NULL), -ENOENT);
	settings_release(&settings);
}

/* ---- mounts ---- */

static int parse(const char *text, struct mount_list *out)
{
	FILE *file = fmemopen((char *)text, strlen(text), "r");
	int ret = mounts_parse(file, out);

	fclose(file);
	return ret;
}

static const char mountinfo[] =
	"22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
	"40 27 0:50 / /mnt/a rw,nosuid,nodev - fuse.xcpfs owner/a rw,user_id=1000,group_id=1000\n"
	"41 40 0:51 / /mnt/a/b\\040c ro,nosuid shared:9 master:2 - fuse.xcpfs /srv/x\\134y\\012z "
	"ro,user_id=0,group_id=0\n"
	"42 27 0:52 / /mnt/s rw - fuse.sshfs host:/ rw,user_id=0\n"
	"short line\n"
	"43 27 0:53 / /mnt/a rw - fuse.xcpfs owner/top ro,user_id=7\n";

static void test_only_our_mounts_are_listed_unescaped(void)
{
	struct mount_list list;

	CHECK_INT(parse(mountinfo, &list), 0);
	CHECK_INT(list.count, 3);
	CHECK_STR(list.v[0].mountpoint, "/mnt/a");
	CHECK_STR(list.v[0].source, "owner/a");
	CHECK_INT(list.v[0].uid, 1000);
	CHECK_STR(list.v[1].mountpoint, "/mnt/a/b c");
	CHECK_STR(list.v[1].source, "/srv/x\\y\nz");
	mounts_release(&list);
}

static void test_the_topmost_and_the_innermost_mount_are_found(void)
{
	struct mount_list list;

	CHECK_INT(parse(mountinfo, &list), 0);
	CHECK_STR(mounts_at(&list, "/mnt/a")->source, "owner/top");
	CHECK(mounts_at(&list, "/mnt/a/x") == NULL);
	CHECK_STR(mounts_containing(&list, "/mnt/a/x/y")->source, "owner/top");
	CHECK_STR(mounts_containing(&list, "/mnt/a/b c/d")->mountpoint, "/mnt/a/b c");
	CHECK(mounts_containing(&list, "/mnt/ab") == NULL);
	mounts_release(&list);
}

static void test_paths_in_a_mount_are_resolved_without_touching_it(void)
{
	struct mount_list list;
	struct xcp_error err;
	char *path;

	CHECK_INT(parse(mountinfo, &list), 0);
	path = mounts_resolve(&list, "/mnt/./a//gone/../x/", &err);
	CHECK_STR(path, "/mnt/a/x");
	free(path);
	path = mounts_resolve(&list, "/", &err);
	CHECK_STR(path, "/");
	free(path);
	CHECK(mounts_resolve(&list, "/nonexistent/dir/m", &err) == NULL);
	CHECK_INT(err.code, -ENOENT);
	mounts_release(&list);
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_options_may_follow_operands_and_end_with_two_dashes);
	TAP_RUN(test_settings_have_defaults);
	TAP_RUN(test_the_environment_goes_over_the_file_and_options_over_both);
	TAP_RUN(test_a_wrong_line_is_an_error_that_names_file_and_line);
	TAP_RUN(test_a_missing_config_file_that_was_named_is_an_error);
	TAP_RUN(test_only_our_mounts_are_listed_unescaped);
	TAP_RUN(test_the_topmost_and_the_innermost_mount_are_found);
	TAP_RUN(test_paths_in_a_mount_are_resolved_without_touching_it);
	return tap_done();
}
