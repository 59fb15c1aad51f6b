/*
 * Tests of a whole session (session.c, ops.c, reply.c, dirops.c, parked.c) on a real /dev/fuse,
 * with an in-memory tree behind it. The program lives in a mount namespace of its own, so that
 * nothing of it is left whatever happens. What may hang is done by child processes, which make
 * plain system calls only.
 */
#include "mount/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "mount/session_internal.h"
#include "tests/fake_repo.h"
#include "tests/tap.h"

#define FILE_MODE 0100644
#define EXEC_MODE 0100755
#define LINK_MODE 0120777
#define DIR_MODE 0040755
#define PROMPT_MS 3000 /* "at once", on a loaded machine with sanitizers */

static char base[] = "/tmp/xcpfs-session-XXXXXX";
static char mountpoint[64];

/* ---- the stage: a tree, mounted ---- */

struct stage {
	struct fake *fake;
	struct node_table *nodes;
	struct node *root;
	struct session *session;
	pthread_t thread;
	int run_result;
};

static void stage_init(struct stage *stage)
{
	memset(stage, 0, sizeof(*stage));
	stage->fake = fake_new(&stage->nodes);
	stage->root = fake_root(stage->fake);
}

static void *stage_run(void *arg)
{
	struct stage *stage = arg;

	stage->run_result = session_run(stage->session, NULL);
	return NULL;
}

static int stage_mount(struct stage *stage, const char *options, struct xcp_error *err)
{
	struct session_config config = {
		.nodes = stage->nodes,
		.mountpoint = mountpoint,
		.source = "a,b\\c/some repo@main",
		.options = options,
	};
	int rc = session_open(&config, &stage->session, err);

	if (rc == 0)
		rc = session_mount(stage->session, err);
	if (rc == 0)
		pthread_create(&stage->thread, NULL, stage_run, stage);
	else
		session_close(&stage->session);
	return rc;
}

/* After the loop's end, however it came about. */
static void stage_close(struct stage *stage)
{
	pthread_join(stage->thread, NULL);
	session_close(&stage->session);
	fake_free(stage->fake);
}

static void stage_end(struct stage *stage)
{
	session_stop(stage->session);
	stage_close(stage);
}

#define STAGE_MOUNT(stage, options)                                                                \
	do {                                                                                       \
		struct xcp_error stage_err = { 0 };                                                \
		int stage_rc = stage_mount(stage, options, &stage_err);                            \
		CHECK_MSG(stage_rc == 0, "%s", stage_err.message);                                 \
	} while (0)

static const char *path_of(const char *name)
{
	static char paths[8][512];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", mountpoint, name);
	return path;
}

static struct session_counters counters_of(const struct stage *stage)
{
	struct session_counters out;

	session_counters(stage->session, &out);
	return out;
}

/* The counters follow a reply by a moment. */
static bool settles_at(const struct stage *stage, uint64_t parked)
{
	for (int i = 0; i < PROMPT_MS; i++) {
		if (counters_of(stage).parked == parked)
			return true;
		usleep(1000);
	}
	return false;
}

/* ---- children that do what may hang ---- */

static int do_stat(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? 0 : errno;
}

static int do_cat(const char *path)
{
	char data[65536];
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		return errno;
	while ((got = read(fd, data, sizeof(data))) > 0)
		;
	return got == 0 ? 0 : errno;
}

/* One page through a map: the kernel does not ask for the size before it reads. */
static int do_map(const char *path)
{
	int fd = open(path, O_RDONLY);
	volatile uint8_t *data;

	if (fd < 0)
		return errno;
	data = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED || madvise((void *)data, 4096, MADV_RANDOM))
		return errno;
	return data[0] == fake_byte(0) ? 0 : EBADMSG;
}

static int do_ls(const char *path)
{
	char data[4096];
	int fd = open(path, O_RDONLY | O_DIRECTORY);
	ssize_t got;

	if (fd < 0)
		return errno;
	while ((got = getdents64(fd, data, sizeof(data))) > 0)
		;
	return got == 0 ? 0 : errno;
}

static int do_readlink(const char *path)
{
	char data[4096];

	return readlink(path, data, sizeof(data)) >= 0 ? 0 : errno;
}

static pid_t child_start(int (*what)(const char *), const char *path)
{
	pid_t pid = fork();

	if (pid == 0) {
		close_range(
			3, ~0U,
			0); /* above all the device: a connection lives as long as anybody has it open */
		_exit(what(path));
	}
	return pid;
}

/*
 * The errno it ended with, 1000 + the signal that ended it, or -1 when it hangs (it is killed
 * then).
 */
static int child_end(pid_t pid, unsigned timeout_ms)
{
	int status;

	for (unsigned i = 0; i < timeout_ms; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
		usleep(1000);
	}
	kill(pid, SIGKILL);
	return -1;
}

static int child_run(int (*what)(const char *), const char *path)
{
	return child_end(child_start(what, path), PROMPT_MS);
}

/* ---- contents ---- */

static bool bytes_right(const uint8_t *data, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != fake_byte(off + i))
			return false;
	return true;
}

static bool file_right(const char *path, uint64_t size)
{
	static uint8_t data[1 << 20];
	int fd = open(path, O_RDONLY);
	uint64_t off = 0;
	ssize_t got;

	if (fd < 0)
		return false;
	while ((got = read(fd, data, sizeof(data))) > 0 && bytes_right(data, off, (size_t)got))
		off += (uint64_t)got;
	close(fd);
	return got == 0 && off == size;
}

/* ---- what is shown ---- */

static void check_stat(const char *name, const struct node *node, mode_t mode, uint64_t size)
{
	struct stat st;

	CHECK_INT(lstat(path_of(name), &st), 0);
	CHECK_UINT(st.st_mode, mode);
	CHECK_UINT(st.st_size, size);
	CHECK_UINT(st.st_blocks, (size + 511) / 512);
	CHECK_UINT(st.st_nlink, 1);
	CHECK_UINT(st.st_uid, getuid());
	CHECK_UINT(st.st_gid, getgid());
	CHECK_UINT(st.st_ino, fake_ino(node));
	CHECK_INT(st.st_mtime, 1000000000);
}

static void test_attributes_are_shown(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *dir = fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);
	struct node *empty = fake_add(stage.fake, stage.root, "empty", FILE_MODE, 0);
	struct node *one = fake_add(stage.fake, dir, "one", EXEC_MODE, 1);
	struct node *big = fake_add(stage.fake, dir, "big", FILE_MODE, 5000000000);
	struct node *link = fake_add(stage.fake, stage.root, "link", LINK_MODE, 0);

	fake_set_content(link, "dir/one", 7);
	STAGE_MOUNT(&stage, NULL);
	check_stat("", stage.root, DIR_MODE, 0);
	TAP_STOP();
	check_stat("dir", dir, DIR_MODE, 0);
	TAP_STOP();
	check_stat("empty", empty, FILE_MODE, 0);
	TAP_STOP();
	check_stat("dir/one", one, EXEC_MODE, 1);
	TAP_STOP();
	check_stat("dir/big", big, FILE_MODE, 5000000000);
	TAP_STOP();
	check_stat("link", link, LINK_MODE, 7);
	TAP_STOP();
	CHECK_INT(do_stat(path_of("nothing")), ENOENT);
	CHECK_INT(do_stat(path_of("empty/x")), ENOTDIR);
	stage_end(&stage);
}

static void test_links_are_read(void)
{
	struct stage stage;
	char target[64] = "";

	stage_init(&stage);
	fake_set_content(fake_add(stage.fake, stage.root, "link", LINK_MODE, 0), "a/b\xff", 4);
	fake_add(stage.fake, stage.root, "file", FILE_MODE, 1);
	STAGE_MOUNT(&stage, NULL);
	CHECK_INT(readlink(path_of("link"), target, sizeof(target)), 4);
	CHECK_STR(target, "a/b\xff");
	CHECK_INT(do_readlink(path_of("file")), EINVAL);
	stage_end(&stage);
}

static void test_listings_name_everything_once_with_its_inode(void)
{
	struct stage stage;
	char name[32];
	unsigned seen = 0;
	struct dirent *entry;

	stage_init(&stage);
	struct node *dir = fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "entry-%04d", i);
		struct node *node =
			fake_add(stage.fake, dir, name, i % 3 ? FILE_MODE : DIR_MODE, 10);

		if (i % 7 == 0)
			fake_close_gate(node, FAKE_SIZE);
	}
	STAGE_MOUNT(&stage, NULL);
	DIR *stream = opendir(path_of("dir"));

	CHECK(stream);
	while ((entry = readdir(stream)) != NULL) {
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0) {
			CHECK_UINT(entry->d_ino, fake_ino(dir));
		} else if (strcmp(entry->d_name, "..") == 0) {
			CHECK_UINT(entry->d_ino, fake_ino(stage.root));
		} else {
			snprintf(name, sizeof(name), "entry-%04u", seen);
			CHECK_STR(entry->d_name, name);
			CHECK_INT(entry->d_type, seen % 3 ? DT_REG : DT_DIR);
			seen++;
			if (seen % 7 == 1)
				continue; /* of unknown size */
			CHECK_INT(fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW),
				  0);
			CHECK_UINT(st.st_ino, entry->d_ino);
			CHECK_UINT(st.st_size, 10);
		}
	}
	closedir(stream);
	CHECK_UINT(seen, 3000);
	stage_end(&stage);
}

static void test_a_wild_directory_offset_is_harmless(void)
{
	struct stage stage;
	char data[4096];

	stage_init(&stage);
	fake_add(stage.fake, stage.root, "file", FILE_MODE, 1);
	STAGE_MOUNT(&stage, NULL);
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY);

	CHECK(fd >= 0);
	CHECK(lseek(fd, INT64_MAX - 1, SEEK_SET) == INT64_MAX - 1);
	CHECK_INT(getdents64(fd, data, sizeof(data)), 0);
	close(fd);
	stage_end(&stage);
}

static void test_the_bytes_are_right(void)
{
	static const uint64_t sizes[] = { 0, 1, 4095, 4096, 4097, 131072, 1000001, 3 << 20 };
	struct stage stage;
	char name[32];

	stage_init(&stage);
	for (size_t i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "file-%zu", i);
		fake_add(stage.fake, stage.root, name, FILE_MODE, sizes[i]);
	}
	STAGE_MOUNT(&stage, NULL);
	for (size_t i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "file-%zu", i);
		CHECK_MSG(file_right(path_of(name), sizes[i]), "%s of %" PRIu64, name, sizes[i]);
	}
	CHECK_UINT(counters_of(&stage).errors, 0);
	stage_end(&stage);
}

static void test_what_was_wrong_is_withdrawn(void)
{
	const struct oid oid = { .algo = OID_SHA1 };
	struct stage stage;
	struct node *node, *other;
	char data[16] = "";
	int fd;

	stage_init(&stage);
	node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 0);
	other = fake_add(stage.fake, stage.root, "other", FILE_MODE, 0);
	fake_set_content(node, "wrong", 5);
	fake_set_content(other, "other", 5);
	STAGE_MOUNT(&stage, NULL);
	fd = open(path_of("file"), O_RDONLY);
	CHECK_INT(pread(fd, data, sizeof(data), 0), 5);
	CHECK_STR(data, "wrong");
	fake_set_content(node, "right", 5);
	CHECK_INT(pread(fd, data, sizeof(data), 0), 5);
	CHECK_STR(data, "wrong"); /* the kernel keeps it */
	/* somebody reads meanwhile, so that pages are waited for */
	fake_close_gate(other, FAKE_CONTENT);
	pid_t reader = child_start(do_cat, path_of("other"));
	fake_wait_waiting(1);
	session_withdraw(stage.session, &oid);
	fake_open_gate(other, FAKE_CONTENT, 0);
	CHECK_INT(child_end(reader, PROMPT_MS), 0);
	for (int i = 0; i < PROMPT_MS && strcmp(data, "right") != 0; i++) {
		CHECK_INT(pread(fd, data, sizeof(data), 0), 5);
		usleep(1000);
	}
	CHECK_STR(data, "right");
	close(fd);
	stage_end(&stage);
}

static void test_a_withdrawal_under_way_does_not_keep_a_session(void)
{
	const struct oid oid = { .algo = OID_SHA1 };
	struct stage stage;
	struct node *node;

	stage_init(&stage);
	node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 100);
	STAGE_MOUNT(&stage, NULL);
	fake_close_gate(node, FAKE_CONTENT);
	pid_t reader = child_start(do_cat, path_of("file"));
	fake_wait_waiting(1);
	for (unsigned i = 0; i < 200; i++) /* more than it keeps */
		session_withdraw(stage.session, &oid);
	stage_end(&stage);
	int ended = child_end(reader, PROMPT_MS);

	CHECK_MSG(ended == EIO || ended == ENOTCONN || ended == ECONNABORTED, "%d", ended);
}

static void test_seeking_for_holes_finds_none(void)
{
	struct stage stage;

	stage_init(&stage);
	fake_add(stage.fake, stage.root, "file", FILE_MODE, 10000);
	STAGE_MOUNT(&stage, NULL);
	int fd = open(path_of("file"), O_RDONLY);

	CHECK_INT(lseek(fd, 5, SEEK_DATA), 5);
	CHECK_INT(lseek(fd, 5, SEEK_HOLE), 10000);
	CHECK_INT(lseek(fd, 0, SEEK_END), 10000);
	CHECK_INT(lseek(fd, 10000, SEEK_DATA), -1);
	CHECK_INT(errno, ENXIO);
	close(fd);
	stage_end(&stage);
}

static void test_programs_can_be_executed(void)
{
	struct stage stage;
	struct stat st;
	int fd = open("/bin/true", O_RDONLY), status;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	void *program = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

	close(fd);
	stage_init(&stage);
	fake_set_content(fake_add(stage.fake, stage.root, "program", EXEC_MODE, 0), program,
			 (size_t)st.st_size);
	STAGE_MOUNT(&stage, NULL);
	const char *path = path_of("program");
	pid_t pid = fork();

	if (pid == 0) {
		execl(path, path, (char *)NULL);
		_exit(errno);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	stage_end(&stage);
	munmap(program, (size_t)st.st_size);
}

#define CHECK_EROFS(call)                                                                          \
	do {                                                                                       \
		errno = 0;                                                                         \
		CHECK_INT(call, -1);                                                               \
		CHECK_INT(errno, EROFS);                                                           \
	} while (0)

static void test_nothing_can_be_written(void)
{
	struct stage stage;

	stage_init(&stage);
	fake_add(stage.fake, stage.root, "file", FILE_MODE, 10);
	fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);
	STAGE_MOUNT(&stage, NULL);
	CHECK_EROFS(open(path_of("file"), O_WRONLY));
	CHECK_EROFS(open(path_of("file"), O_RDWR));
	CHECK_EROFS(open(path_of("file"), O_RDONLY | O_TRUNC));
	CHECK_EROFS(open(path_of("new"), O_WRONLY | O_CREAT, 0600));
	CHECK_EROFS(mkdir(path_of("new"), 0700));
	CHECK_EROFS(mknod(path_of("new"), S_IFREG | 0600, 0));
	CHECK_EROFS(unlink(path_of("file")));
	CHECK_EROFS(rmdir(path_of("dir")));
	CHECK_EROFS(symlink("x", path_of("new")));
	CHECK_EROFS(link(path_of("file"), path_of("new")));
	CHECK_EROFS(rename(path_of("file"), path_of("new")));
	CHECK_EROFS(chmod(path_of("file"), 0600));
	CHECK_EROFS(truncate(path_of("file"), 0));
	CHECK_EROFS(utimensat(AT_FDCWD, path_of("file"), NULL, 0));
	CHECK_EROFS(setxattr(path_of("file"), "user.x", "y", 1, 0));
	CHECK_EROFS(removexattr(path_of("file"), "user.x"));
	stage_end(&stage);
}

static void test_the_file_system_has_sensible_totals(void)
{
	struct stage stage;
	struct statvfs st;

	stage_init(&stage);
	STAGE_MOUNT(&stage, NULL);
	CHECK_INT(statvfs(mountpoint, &st), 0);
	CHECK_UINT(st.f_files, 42);
	CHECK_UINT(st.f_blocks * st.f_frsize, 45056);
	CHECK_UINT(st.f_bavail, 0);
	CHECK_UINT(st.f_namemax, 255);
	CHECK_UINT(st.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV),
		   ST_RDONLY | ST_NOSUID | ST_NODEV);
	stage_end(&stage);
}

/* The line of the mount table; "" when nothing is mounted. */
static const char *mount_line(void)
{
	static char line[4096];
	FILE *file = fopen("/proc/self/mounts", "re");

	while (fgets(line, sizeof(line), file))
		if (strstr(line, mountpoint)) {
			fclose(file);
			return line;
		}
	fclose(file);
	return "";
}

static void test_the_mount_table_shows_the_source(void)
{
	struct stage stage;

	stage_init(&stage);
	STAGE_MOUNT(&stage, NULL);
	CHECK_CONTAINS(mount_line(), "a,b\\134c/some\\040repo@main ");
	CHECK_CONTAINS(mount_line(), " fuse.xcpfs ro,nosuid,nodev");
	CHECK(!strstr(mount_line(), "default_permissions"));
	stage_end(&stage);
	CHECK_STR(mount_line(), "");
}

/* ---- options ---- */

static void test_unknown_and_impossible_options_are_refused_by_name(void)
{
	static const char *const refused[] = { "nonsense", "xattr,nonsense", "rw",     "suid",
					       "dev",	   "fsname=x",	     "xattr=1" };
	struct stage stage;

	stage_init(&stage);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct xcp_error err = { 0 };
		const char *comma = strchr(refused[i], ',');

		CHECK_INT(stage_mount(&stage, refused[i], &err), -EINVAL);
		CHECK_CONTAINS(err.message, comma ? comma + 1 : refused[i]);
	}
	CHECK_STR(mount_line(), "");
	fake_free(stage.fake);
}

static void test_allow_other_comes_with_default_permissions(void)
{
	struct stage stage;

	stage_init(&stage);
	STAGE_MOUNT(&stage, "allow_other,noatime,,ro");
	CHECK_CONTAINS(mount_line(), "default_permissions");
	CHECK_CONTAINS(mount_line(), "allow_other");
	stage_end(&stage);
}

static void check_xattr(const char *name, const char *want)
{
	char value[256] = "";
	ssize_t len = getxattr(path_of("dir/file"), name, value, sizeof(value) - 1);

	CHECK_MSG(len == (ssize_t)strlen(want), "%s: %zd, errno %d", name, len, errno);
	CHECK_STR(value, want);
	CHECK_INT(getxattr(path_of("dir/file"), name, NULL, 0), len);
}

static void test_xattrs_are_answered_by_name_and_never_listed(void)
{
	static const char oid[] = "abababababababababababababababababababab";
	struct stage stage;
	char value[16];

	stage_init(&stage);
	struct node *dir = fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);

	fake_add(stage.fake, dir, "file", FILE_MODE, 10);
	STAGE_MOUNT(&stage, "xattr");
	check_xattr("user.xcpfs.oid", oid);
	TAP_STOP();
	check_xattr("user.xcpfs.commit", oid);
	TAP_STOP();
	check_xattr("user.xcpfs.cached", "yes");
	TAP_STOP();
	check_xattr("user.xcpfs.origin", "a,b\\c/some repo@main");
	TAP_STOP();
	CHECK_INT(getxattr(path_of("dir/file"), "user.xcpfs.oid", value, sizeof(value)), -1);
	CHECK_INT(errno, ERANGE);
	CHECK_INT(getxattr(path_of("dir/file"), "user.other", value, sizeof(value)), -1);
	CHECK_INT(errno, ENODATA);
	CHECK_INT(listxattr(path_of("dir/file"), value, sizeof(value)), 0);
	CHECK_INT(listxattr(path_of("dir/file"), NULL, 0), 0);
	stage_end(&stage);
}

static void test_without_xattr_they_are_not_supported(void)
{
	struct stage stage;
	char value[64];

	stage_init(&stage);
	fake_add(stage.fake, stage.root, "file", FILE_MODE, 10);
	STAGE_MOUNT(&stage, NULL);
	CHECK_INT(getxattr(path_of("file"), "user.xcpfs.oid", value, sizeof(value)), -1);
	CHECK_INT(errno, EOPNOTSUPP);
	stage_end(&stage);
}

static void test_with_open_all_works_as_without(void)
{
	struct stage stage;
	char data[64];

	stage_init(&stage);
	struct node *dir = fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);

	fake_add(stage.fake, dir, "file", FILE_MODE, 300000);
	STAGE_MOUNT(&stage, "open");
	CHECK(file_right(path_of("dir/file"), 300000));
	CHECK(file_right(path_of("dir/file"), 300000));
	CHECK_INT(child_run(do_ls, path_of("dir")), 0);
	CHECK_EROFS(open(path_of("dir/file"), O_WRONLY));
	int fd = open(path_of("dir/file"), O_RDONLY);

	CHECK_INT(pread(fd, data, sizeof(data), 4096), 64);
	CHECK(bytes_right((uint8_t *)data, 4096, 64));
	close(fd);
	stage_end(&stage);
}

static uint64_t requests_of(const struct stage *stage)
{
	uint64_t count = 0;

	usleep(20000); /* counters follow their replies by a moment */
	struct session_counters counters = counters_of(stage);

	for (int op = 0; op < SESSION_OP_COUNT; op++)
		count += counters.ops[op].count;
	return count;
}

static void use_everything(void)
{
	CHECK(file_right(path_of("dir/link"), 300000));
	CHECK_INT(do_stat(path_of("dir/none")), ENOENT);
	CHECK_INT(child_run(do_ls, path_of("dir")), 0);
}

/* Twice, since the kernel lists a directory first with and then without attributes. */
static void test_what_was_seen_twice_costs_no_request(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *dir = fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);

	fake_add(stage.fake, dir, "file", FILE_MODE, 300000);
	fake_set_content(fake_add(stage.fake, dir, "link", LINK_MODE, 0), "file", 4);
	STAGE_MOUNT(&stage, NULL);
	for (int round = 0; round < 2; round++) {
		use_everything();
		TAP_STOP();
	}
	uint64_t before = requests_of(&stage);

	use_everything();
	TAP_STOP();
	CHECK_UINT(requests_of(&stage), before);
	stage_end(&stage);
}

/* ---- unknown sizes ---- */

static void test_stat_waits_for_an_unknown_size_and_is_right(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 12345);

	fake_close_gate(node, FAKE_SIZE);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_stat, path_of("file"));

	fake_wait_waiting(1);
	CHECK_UINT(counters_of(&stage).parked, 1);
	fake_open_gate(node, FAKE_SIZE, 0);
	CHECK_INT(child_end(pid, PROMPT_MS), 0);
	check_stat("file", node, FILE_MODE, 12345);
	TAP_STOP();
	CHECK(settles_at(&stage, 0));
	stage_end(&stage);
}

static void test_a_file_of_unknown_size_reads_and_maps_right(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 10000);
	struct node *mapped = fake_add(stage.fake, stage.root, "mapped", FILE_MODE, 10000);

	fake_close_gate(node, FAKE_SIZE);
	fake_close_gate(mapped, FAKE_SIZE);
	STAGE_MOUNT(&stage, NULL);
	/* The kernel asks for the size before it reads. */
	pid_t cat = child_start(do_cat, path_of("file"));

	fake_wait_waiting(1);
	fake_open_gate(node, FAKE_SIZE, 0);
	CHECK_INT(child_end(cat, PROMPT_MS), 0);
	int fd = open(path_of("mapped"), O_RDONLY);

	CHECK(fd >= 0);
	const uint8_t *data = mmap(NULL, 12288, PROT_READ, MAP_SHARED, fd, 0);

	CHECK(data != MAP_FAILED);
	CHECK(bytes_right(data, 0, 10000));
	CHECK_INT(data[10000], 0);
	check_stat("mapped", mapped, FILE_MODE, 10000);
	TAP_STOP();
	CHECK(bytes_right(data, 0, 10000));
	CHECK(file_right(path_of("file"), 10000));
	munmap((void *)data, 12288);
	close(fd);
	stage_end(&stage);
}

static void test_a_failed_wait_is_eio_and_the_next_try_works(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 100);

	fake_close_gate(node, FAKE_CONTENT);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_cat, path_of("file"));

	fake_wait_waiting(1);
	fake_open_gate(node, FAKE_CONTENT, -ETIMEDOUT);
	/* The kernel tries the page by itself after a failed read-ahead. */
	if (child_end(pid, 50) == -1)
		while (fake_waiting())
			fake_open_gate(node, FAKE_CONTENT, -ETIMEDOUT);
	CHECK(counters_of(&stage).errors > 0);
	fake_open_gate(node, FAKE_CONTENT, 0);
	CHECK(file_right(path_of("file"), 100));
	stage_end(&stage);
}

static void test_a_tree_that_does_not_come_is_no_missing_name(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *dir = fake_add(stage.fake, stage.root, "dir", DIR_MODE, 0);

	fake_add(stage.fake, dir, "file", FILE_MODE, 100);
	fake_close_gate(dir, FAKE_TREE);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_stat, path_of("dir/file"));

	fake_wait_waiting(1);
	fake_open_gate(dir, FAKE_TREE, -ENOENT);
	CHECK_INT(child_end(pid, PROMPT_MS), EIO);
	fake_open_gate(dir, FAKE_TREE, 0);
	CHECK_INT(child_run(do_stat, path_of("dir/file")), 0);
	stage_end(&stage);
}

static void test_a_wait_that_ends_with_nothing_goes_on(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 100);

	fake_close_gate(node, FAKE_CONTENT);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_cat, path_of("file"));

	fake_wait_waiting(1);
	fake_open_falsely(node, FAKE_CONTENT, 3);
	fake_open_gate(node, FAKE_CONTENT, 0);
	CHECK_INT(child_end(pid, PROMPT_MS), 0);
	stage_end(&stage);
}

/* As where fs.fuse.max_request_timeout is set: the kernel would abort the whole connection. */
static void test_with_a_kernel_timeout_waits_end_before_it(void)
{
	struct stage stage;
	struct xcp_error err;
	struct session_config config = { .mountpoint = mountpoint, .source = "x" };

	stage_init(&stage);
	config.nodes = stage.nodes;
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 100);

	fake_close_gate(node, FAKE_SIZE);
	CHECK_INT(session_open(&config, &stage.session, &err), 0);
	CHECK_INT(session_mount(stage.session, &err), 0);
	stage.session->expire_ns = 100000000;
	pthread_create(&stage.thread, NULL, stage_run, &stage);
	CHECK_INT(child_run(do_stat, path_of("file")), EIO);
	fake_open_gate(node, FAKE_SIZE, 0);
	CHECK_INT(child_run(do_stat, path_of("file")), 0);
	stage_end(&stage);
}

static void test_patience_is_what_was_asked_for(void)
{
	if (tuning_request_timeout_ms(NULL) != 0)
		TAP_SKIP("the kernel has a request timeout");
	CHECK_UINT(session_patience_ms(0), 30000);
	CHECK_UINT(session_patience_ms(1234), 1234);
}

/* ---- many at once ---- */

#define READERS 500

static void *read_file(void *arg)
{
	char path[sizeof(mountpoint) + 32];
	uint8_t data[100];

	snprintf(path, sizeof(path), "%s/cold-%d", mountpoint, (int)(intptr_t)arg);
	int fd = open(path, O_RDONLY);
	ssize_t got = fd < 0 ? -1 : read(fd, data, sizeof(data));

	close(fd);
	return (void *)(intptr_t)(got == 100 && bytes_right(data, 0, 100));
}

static void test_the_mount_serves_while_500_reads_are_parked(void)
{
	static pthread_t threads[READERS];
	static struct node *cold[READERS];
	pthread_attr_t attr;
	struct stage stage;
	char name[32];

	stage_init(&stage);
	for (int i = 0; i < READERS; i++) {
		snprintf(name, sizeof(name), "cold-%d", i);
		cold[i] = fake_add(stage.fake, stage.root, name, FILE_MODE, 100);
		fake_close_gate(cold[i], FAKE_CONTENT);
	}
	fake_add(stage.fake, stage.root, "hot", FILE_MODE, 1 << 20);
	STAGE_MOUNT(&stage, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	for (int i = 0; i < READERS; i++)
		CHECK_INT(pthread_create(&threads[i], &attr, read_file, (void *)(intptr_t)i), 0);
	pthread_attr_destroy(&attr);
	fake_wait_waiting(READERS);

	uint64_t before = counters_of(&stage).ops[SESSION_READ_HIT].count;

	CHECK_INT(child_run(do_cat, path_of("hot")), 0);
	CHECK_INT(child_run(do_stat, path_of("hot")), 0);
	CHECK_INT(child_run(do_ls, mountpoint), 0);
	usleep(20000);
	uint64_t requests = counters_of(&stage).ops[SESSION_READ_HIT].count - before;

	printf("# 1 MiB in %" PRIu64 " requests, %" PRIu64 " parked\n", requests,
	       counters_of(&stage).parked);
	CHECK(requests <= 6); /* 8 and more when background requests are congested */

	bool right = true;
	for (int i = 0; i < READERS; i++)
		fake_open_gate(cold[i], FAKE_CONTENT, 0);
	for (int i = 0; i < READERS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		right = right && result;
	}
	CHECK(right);
	CHECK(settles_at(&stage, 0));
	CHECK(counters_of(&stage).parked_max >= READERS);
	CHECK(counters_of(&stage).ops[SESSION_READ_MISS].count >= READERS);
	stage_end(&stage);
}

static void test_a_parked_lookup_does_not_hold_up_its_directory(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *slow = fake_add(stage.fake, stage.root, "slow", FILE_MODE, 1);

	fake_add(stage.fake, stage.root, "quick", FILE_MODE, 1);
	fake_close_gate(slow, FAKE_NAME);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_stat, path_of("slow"));

	fake_wait_waiting(1);
	CHECK_INT(child_run(do_stat, path_of("quick")), 0);
	CHECK_INT(child_run(do_stat, path_of("missing")), ENOENT);
	fake_open_gate(slow, FAKE_NAME, 0);
	CHECK_INT(child_end(pid, PROMPT_MS), 0);
	CHECK_UINT(fake_lookups(slow), 1);
	stage_end(&stage);
}

/* ---- interrupts ---- */

static const struct interruptible {
	const char *name;
	enum fake_gate gate;
	int (*what)(const char *);
	uint32_t mode;
} interruptibles[] = {
	{ "lookup", FAKE_NAME, do_stat, FILE_MODE },
	{ "stat", FAKE_SIZE, do_stat, FILE_MODE },
	{ "cat", FAKE_CONTENT, do_cat, FILE_MODE },
	{ "ls", FAKE_TREE, do_ls, DIR_MODE },
	{ "readlink", FAKE_CONTENT, do_readlink, LINK_MODE },
};
#define INTERRUPTIBLE_COUNT (sizeof(interruptibles) / sizeof(interruptibles[0]))

static void test_ctrl_c_ends_whatever_waits(void)
{
	struct stage stage;
	struct node *nodes[INTERRUPTIBLE_COUNT];

	stage_init(&stage);
	for (size_t i = 0; i < INTERRUPTIBLE_COUNT; i++) {
		nodes[i] = fake_add(stage.fake, stage.root, interruptibles[i].name,
				    interruptibles[i].mode, 10);
		fake_close_gate(nodes[i], interruptibles[i].gate);
	}
	STAGE_MOUNT(&stage, NULL);
	for (size_t i = 0; i < INTERRUPTIBLE_COUNT; i++) {
		pid_t pid = child_start(interruptibles[i].what, path_of(interruptibles[i].name));

		fake_wait_waiting(1);
		kill(pid, SIGINT);
		int end = child_end(pid, PROMPT_MS);

		CHECK_MSG(end == 1000 + SIGINT, "%s: %d", interruptibles[i].name, end);
		/* Read-ahead is never interrupted (the kernel sends nothing for it). */
		fake_open_gate(nodes[i], interruptibles[i].gate, 0);
		CHECK(settles_at(&stage, 0));
		end = child_run(interruptibles[i].what, path_of(interruptibles[i].name));
		CHECK_MSG(end == 0, "%s again: %d", interruptibles[i].name, end);
	}
	CHECK(counters_of(&stage).interrupted >= 3);
	stage_end(&stage);
}

static void test_kill_ends_whatever_waits(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 10);

	fake_close_gate(node, FAKE_SIZE);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_stat, path_of("file"));

	fake_wait_waiting(1);
	kill(pid, SIGKILL);
	CHECK_INT(child_end(pid, PROMPT_MS), 1000 + SIGKILL);
	CHECK(settles_at(&stage, 0));
	stage_end(&stage);
}

/* ---- blind reads: repo/blind.h says what the kernel does to who is told a size too early ---- */

/* What the state of a process in /proc is, e.g. 'S'. */
static char state_of(pid_t pid)
{
	char path[64], line[512] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return '?';
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	const char *end = strrchr(line, ')');

	return end && strlen(end) > 2 ? end[2] : '?';
}

/* A file of unknown size whose read is parked, and whose size becomes known then. */
static void blind_reader_start(struct stage *stage, struct node **out_node, pid_t *out_reader)
{
	stage_init(stage);
	*out_node = fake_add(stage->fake, stage->root, "file", FILE_MODE, 100);
	fake_close_gate(*out_node, FAKE_SIZE);
	fake_close_gate(*out_node, FAKE_CONTENT);
	STAGE_MOUNT(stage, NULL);
	*out_reader = child_start(do_map, path_of("file"));
	fake_wait_waiting(1);
	fake_open_gate(*out_node, FAKE_SIZE, 0);
}

static void test_stat_of_a_file_that_is_read_blindly_can_be_ended(void)
{
	static const int signals[] = { SIGINT, SIGKILL };
	struct stage stage;
	struct node *node;
	pid_t reader;

	blind_reader_start(&stage, &node, &reader);
	for (int i = 0; i < 2; i++) {
		pid_t pid = child_start(do_stat, path_of("file"));

		fake_wait_waiting(2);
		CHECK(state_of(pid) != 'D');
		CHECK_INT(child_run(do_ls, mountpoint), 0);
		kill(pid, signals[i]);
		CHECK_INT(child_end(pid, PROMPT_MS), 1000 + signals[i]);
		CHECK(settles_at(&stage, 1));
	}
	fake_open_gate(node, FAKE_CONTENT, 0);
	CHECK_INT(child_end(reader, PROMPT_MS), 0);
	check_stat("file", node, FILE_MODE, 100);
	stage_end(&stage);
}

static void test_stat_of_a_file_that_is_read_blindly_waits_for_the_read(void)
{
	struct stage stage;
	struct node *node;
	pid_t reader, pid;

	blind_reader_start(&stage, &node, &reader);
	pid = child_start(do_stat, path_of("file"));
	fake_wait_waiting(2);
	fake_open_gate(node, FAKE_CONTENT, 0);
	CHECK_INT(child_end(pid, PROMPT_MS), 0);
	CHECK_INT(child_end(reader, PROMPT_MS), 0);
	check_stat("file", node, FILE_MODE, 100);
	CHECK(file_right(path_of("file"), 100));
	stage_end(&stage);
}

/* ---- ends ---- */

static bool thread_ends(pthread_t thread)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PROMPT_MS / 1000;
	return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

static void check_ends_cleanly(struct stage *stage)
{
	if (!thread_ends(stage->thread)) {
		tap_fail(__FILE__, __LINE__, "the session does not end");
		printf("1..1\n");
		_exit(1); /* nothing here can be saved */
	}
	CHECK_INT(stage->run_result, 0);
	CHECK_UINT(counters_of(stage).parked, 0);
	session_close(&stage->session);
	fake_free(stage->fake);
	CHECK_STR(mount_line(), "");
}

static void test_an_idle_session_stops_at_once(void)
{
	struct stage stage;

	stage_init(&stage);
	STAGE_MOUNT(&stage, NULL);
	CHECK_INT(child_run(do_ls, mountpoint), 0);
	session_stop(stage.session);
	check_ends_cleanly(&stage);
}

static void test_a_session_that_never_ran_closes(void)
{
	struct stage stage;
	struct xcp_error err;
	struct session_config config = { .mountpoint = mountpoint, .source = "x" };

	stage_init(&stage);
	config.nodes = stage.nodes;
	CHECK_INT(session_open(&config, &stage.session, &err), 0);
	CHECK_INT(session_mount(stage.session, &err), 0);
	session_close(&stage.session);
	CHECK_NULL(stage.session);
	fake_free(stage.fake);
	CHECK_STR(mount_line(), "");
}

static void test_a_stop_before_the_run_is_not_lost(void)
{
	struct stage stage;
	struct xcp_error err;
	struct session_config config = { .mountpoint = mountpoint, .source = "x" };

	stage_init(&stage);
	config.nodes = stage.nodes;
	CHECK_INT(session_open(&config, &stage.session, &err), 0);
	CHECK_INT(session_mount(stage.session, &err), 0);
	session_stop(stage.session);
	pthread_create(&stage.thread, NULL, stage_run, &stage);
	check_ends_cleanly(&stage);
}

static void test_umount_ends_the_session(void)
{
	struct stage stage;

	stage_init(&stage);
	STAGE_MOUNT(&stage, NULL);
	CHECK_INT(child_run(do_ls, mountpoint), 0);
	CHECK_INT(umount2(mountpoint, 0), 0);
	check_ends_cleanly(&stage);
}

/* 20 stats and 20 cats that wait. */
static void park_forty(struct stage *stage, pid_t *pids)
{
	char name[32];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		fake_close_gate(fake_add(stage->fake, stage->root, name, FILE_MODE, 100),
				i % 2 ? FAKE_SIZE : FAKE_CONTENT);
	}
	STAGE_MOUNT(stage, NULL);
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		pids[i] = child_start(i % 2 ? do_stat : do_cat, path_of(name));
	}
	fake_wait_waiting(40);
}

static void check_forty_ended(const pid_t *pids)
{
	for (int i = 0; i < 40; i++) {
		int end = child_end(pids[i], PROMPT_MS);

		CHECK_MSG(end > 0 && end < 1000, "reader %d: %d", i, end);
	}
}

static void test_a_stop_ends_what_is_parked(void)
{
	struct stage stage;
	pid_t pids[40];

	stage_init(&stage);
	park_forty(&stage, pids);
	TAP_STOP();
	session_stop(stage.session);
	check_ends_cleanly(&stage);
	check_forty_ended(pids);
}

static void test_a_stop_ends_blind_reads_and_who_waits_for_them(void)
{
	struct stage stage;
	struct node *node;
	pid_t reader, pid;

	blind_reader_start(&stage, &node, &reader);
	pid = child_start(do_stat, path_of("file"));
	fake_wait_waiting(2);
	TAP_STOP();
	session_stop(stage.session);
	check_ends_cleanly(&stage);
	CHECK(child_end(reader, PROMPT_MS) > 0);
	CHECK(child_end(pid, PROMPT_MS) != -1); /* told the size when the read had ended, or not */
}

static void test_a_forced_umount_ends_what_is_parked(void)
{
	struct stage stage;
	pid_t pids[40];

	stage_init(&stage);
	park_forty(&stage, pids);
	TAP_STOP();
	umount2(mountpoint, MNT_FORCE); /* EBUSY, but the connection is aborted */
	check_ends_cleanly(&stage);
	check_forty_ended(pids);
}

static void test_a_lazy_umount_ends_once_the_readers_did(void)
{
	struct stage stage;

	stage_init(&stage);
	struct node *node = fake_add(stage.fake, stage.root, "file", FILE_MODE, 100);

	fake_close_gate(node, FAKE_CONTENT);
	STAGE_MOUNT(&stage, NULL);
	pid_t pid = child_start(do_cat, path_of("file"));

	fake_wait_waiting(1);
	CHECK_INT(umount2(mountpoint, MNT_DETACH), 0);
	fake_open_gate(node, FAKE_CONTENT, 0);
	CHECK_INT(child_end(pid, PROMPT_MS), 0);
	check_ends_cleanly(&stage);
}

static void test_an_aborted_connection_leaves_no_mount(void)
{
	struct stage stage;
	struct stat st;
	char path[64];

	stage_init(&stage);
	STAGE_MOUNT(&stage, NULL);
	CHECK_INT(stat(mountpoint, &st), 0);
	mount("none", "/sys/fs/fuse/connections", "fusectl", 0, NULL);
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor(st.st_dev));
	int fd = open(path, O_WRONLY);

	if (fd < 0) {
		stage_end(&stage);
		TAP_SKIP("no fusectl here");
	}
	CHECK_INT(write(fd, "1", 1), 1);
	close(fd);
	check_ends_cleanly(&stage);
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void test_mounting_again_and_again_leaks_no_descriptor(void)
{
	unsigned before = count_fds();

	for (int i = 0; i < 30; i++) {
		struct stage stage;

		stage_init(&stage);
		fake_add(stage.fake, stage.root, "file", FILE_MODE, 100);
		STAGE_MOUNT(&stage, NULL);
		CHECK(file_right(path_of("file"), 100));
		if (i % 2)
			umount2(mountpoint, MNT_DETACH);
		else
			session_stop(stage.session);
		stage_close(&stage);
	}
	CHECK_UINT(count_fds(), before);
}

/* ---- an ordinary user ---- */

#define NOBODY 65534

static int user_mount(void)
{
	struct stage stage;
	struct xcp_error err = { 0 };
	struct stat st;

	stage_init(&stage);
	fake_add(stage.fake, stage.root, "file", FILE_MODE, 300000);
	if (stage_mount(&stage, "xattr", &err) != 0) {
		printf("# %s\n", err.message);
		return err.code == -EACCES && strstr(err.message, "/dev/fuse") ? 10 : 11;
	}
	if (stat(path_of("file"), &st) != 0 || st.st_uid != NOBODY ||
	    !file_right(path_of("file"), 300000))
		return 12;
	if (!strstr(mount_line(), "a,b\\134c/some\\040repo@main") ||
	    !strstr(mount_line(), "fuse.xcpfs"))
		return 13;
	session_stop(stage.session);
	stage_close(&stage);
	return *mount_line() ? 14 : 0;
}

static int as_user(int (*what)(void))
{
	int status;

	fflush(stdout);
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
			_exit(20);
		alarm(300); /* it is not inherited */
		int rc = what();

		fflush(stdout);
		_exit(rc);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool user_device(mode_t mode)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/fuse-%o", base, mode);
	return mknod(path, S_IFCHR, makedev(10, 229)) == 0 && chmod(path, mode) == 0 &&
	       mount(path, "/dev/fuse", NULL, MS_BIND, NULL) == 0;
}

static void test_an_ordinary_user_is_told_about_the_device(void)
{
	if (getuid() != 0)
		TAP_SKIP("needs root");
	if (!user_device(0600))
		TAP_SKIP("cannot bind a device here: %s", strerror(errno));
	int rc = as_user(user_mount);

	umount2("/dev/fuse", MNT_DETACH);
	CHECK_INT(rc, 10);
}

static void test_an_ordinary_user_mounts(void)
{
	if (getuid() != 0)
		TAP_SKIP("needs root");
	if (access("/usr/bin/fusermount3", X_OK) != 0)
		TAP_SKIP("no fusermount3");
	if (!user_device(0666))
		TAP_SKIP("cannot bind a device here: %s", strerror(errno));
	CHECK_INT(chown(mountpoint, NOBODY, NOBODY), 0);
	int rc = as_user(user_mount);

	umount2("/dev/fuse", MNT_DETACH);
	CHECK_INT(chown(mountpoint, 0, 0), 0);
	CHECK_INT(rc, 0);
}

/* ---- main ---- */

static void prepare(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		tap_skip_all("/dev/fuse cannot be opened");
	close(fd);
	if (!mkdtemp(base))
		tap_skip_all("no temporary directory");
	snprintf(mountpoint, sizeof(mountpoint), "%s/mnt", base);
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", base, "tmpfs", 0, NULL) != 0) {
		rmdir(base);
		tap_skip_all("no mount namespace of its own (needs root)");
	}
	chmod(base, 0755);
	mkdir(mountpoint, 0755);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	prepare();
	signal(SIGINT, SIG_DFL); /* whoever runs us in the background ignores it */
	alarm(300);		 /* whatever hangs, ends, and its mounts with it */
	TAP_RUN(test_an_ordinary_user_is_told_about_the_device);
	TAP_RUN(test_an_ordinary_user_mounts);
	TAP_RUN(test_attributes_are_shown);
	TAP_RUN(test_links_are_read);
	TAP_RUN(test_listings_name_everything_once_with_its_inode);
	TAP_RUN(test_a_wild_directory_offset_is_harmless);
	TAP_RUN(test_the_bytes_are_right);
	TAP_RUN(test_what_was_wrong_is_withdrawn);
	TAP_RUN(test_a_withdrawal_under_way_does_not_keep_a_session);
	TAP_RUN(test_seeking_for_holes_finds_none);
	TAP_RUN(test_programs_can_be_executed);
	TAP_RUN(test_nothing_can_be_written);
	TAP_RUN(test_the_file_system_has_sensible_totals);
	TAP_RUN(test_the_mount_table_shows_the_source);
	TAP_RUN(test_unknown_and_impossible_options_are_refused_by_name);
	TAP_RUN(test_allow_other_comes_with_default_permissions);
	TAP_RUN(test_xattrs_are_answered_by_name_and_never_listed);
	TAP_RUN(test_without_xattr_they_are_not_supported);
	TAP_RUN(test_with_open_all_works_as_without);
	TAP_RUN(test_what_was_seen_twice_costs_no_request);
	TAP_RUN(test_stat_waits_for_an_unknown_size_and_is_right);
	TAP_RUN(test_a_file_of_unknown_size_reads_and_maps_right);
	TAP_RUN(test_a_failed_wait_is_eio_and_the_next_try_works);
	TAP_RUN(test_a_tree_that_does_not_come_is_no_missing_name);
	TAP_RUN(test_a_wait_that_ends_with_nothing_goes_on);
	TAP_RUN(test_with_a_kernel_timeout_waits_end_before_it);
	TAP_RUN(test_patience_is_what_was_asked_for);
	TAP_RUN(test_the_mount_serves_while_500_reads_are_parked);
	TAP_RUN(test_a_parked_lookup_does_not_hold_up_its_directory);
	TAP_RUN(test_ctrl_c_ends_whatever_waits);
	TAP_RUN(test_kill_ends_whatever_waits);
	TAP_RUN(test_stat_of_a_file_that_is_read_blindly_can_be_ended);
	TAP_RUN(test_stat_of_a_file_that_is_read_blindly_waits_for_the_read);
	TAP_RUN(test_an_idle_session_stops_at_once);
	TAP_RUN(test_a_session_that_never_ran_closes);
	TAP_RUN(test_a_stop_before_the_run_is_not_lost);
	TAP_RUN(test_umount_ends_the_session);
	TAP_RUN(test_a_stop_ends_what_is_parked);
	TAP_RUN(test_a_stop_ends_blind_reads_and_who_waits_for_them);
	TAP_RUN(test_a_forced_umount_ends_what_is_parked);
	TAP_RUN(test_a_lazy_umount_ends_once_the_readers_did);
	TAP_RUN(test_an_aborted_connection_leaves_no_mount);
	TAP_RUN(test_mounting_again_and_again_leaks_no_descriptor);
	umount2(base, MNT_DETACH);
	rmdir(base);
	return tap_done();
}
