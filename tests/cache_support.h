/*
 * cache_support: directories, contents and children for the tests of the cache.
 *
 * Content number n is a function of n alone, so that any process can tell whether what it reads
 * is right. Children are this program again (exec), so that nothing is inherited:
 * children_main() runs them.
 */
#ifndef TESTS_CACHE_SUPPORT_H
#define TESTS_CACHE_SUPPORT_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/block.h"
#include "base/content.h"
#include "cache/cache.h"
#include "tests/tap.h"

/* ---- how long, and by what chance ---- */

__attribute__((unused)) static bool is_long(void)
{
	const char *value = getenv("XCPFS_LONG");

	return value && *value && *value != '0';
}

/* XCPFS_SEED, or another one each time; said, so that a failure can be had again. */
__attribute__((unused)) static uint64_t chance_seed(void)
{
	const char *given = getenv("XCPFS_SEED");
	uint64_t seed = 0;

	if (given)
		seed = strtoull(given, NULL, 10);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		abort();
	seed |= 1;
	printf("# XCPFS_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

__attribute__((unused)) static uint64_t chance_next(uint64_t *x)
{
	*x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
	return *x;
}

/* ---- directories ---- */

__attribute__((unused)) static char *scratch_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	char *path;

	if (asprintf(&path, "%s/xcpfs-test-XXXXXX", tmp ? tmp : "/tmp") < 0 || !mkdtemp(path))
		abort();
	return path;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	remove(path);
	return 0;
}

__attribute__((unused)) static void dir_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

__attribute__((unused)) static void scratch_remove(char *path)
{
	dir_remove(path);
	free(path);
}

__attribute__((unused)) static char *path_of(const char *dir, const char *rest)
{
	char *path;

	if (asprintf(&path, "%s/%s", dir, rest) < 0)
		abort();
	return path;
}

__attribute__((unused)) static void copy_dir(const char *from, const char *to)
{
	char *command;

	if (asprintf(&command, "cp -a --sparse=never '%s' '%s'", from, to) < 0 || system(command))
		abort();
	free(command);
}

__attribute__((unused)) static uint8_t *file_read(const char *path, size_t *out_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes;

	if (fd < 0 || fstat(fd, &st))
		abort();
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes || read(fd, bytes, (size_t)st.st_size) != st.st_size)
		abort();
	close(fd);
	*out_len = (size_t)st.st_size;
	return bytes;
}

__attribute__((unused)) static void file_write(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	close(fd);
}

__attribute__((unused)) static void file_poke(const char *path, uint64_t off, const void *bytes,
					      size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || pwrite(fd, bytes, len, (off_t)off) != (ssize_t)len)
		abort();
	close(fd);
}

/* ---- contents ---- */

__attribute__((unused)) static struct oid oid_of(uint64_t n)
{
	struct oid oid = { .algo = n % 5 == 4 ? OID_SHA256 : OID_SHA1 };
	uint64_t x = (n + 1) * 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < oid_len(&oid); i++) {
		oid.hash[i] = (uint8_t)(x >> 56);
		x = x * 6364136223846793005u + 1442695040888963407u;
	}
	return oid;
}

/* Every third one is noise, the others shrink. */
__attribute__((unused)) static void bytes_fill(uint64_t n, uint8_t *out, size_t len)
{
	static const char *const words[8] = { "static ", "int ",  "return ", "(void)",
					      "struct ", "{\n\t", "}\n",     "cache " };
	uint64_t x = n * 2862933555777941757u + 3037000493u;
	size_t i = 0;

	while (i < len) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (n % 3 == 0) {
			out[i++] = (uint8_t)(x >> 32);
			continue;
		}
		for (const char *w = words[(x >> 40) % 8]; *w && i < len; w++)
			out[i++] = (uint8_t)*w;
	}
}

__attribute__((unused)) static enum object_type type_of(uint64_t n)
{
	return n % 7 == 6 ? OBJECT_TREE : OBJECT_BLOB;
}

__attribute__((unused)) static struct content *content_of(uint64_t n, size_t len)
{
	struct oid oid = oid_of(n);
	struct block *block = block_new(len);

	bytes_fill(n, block->data, len);
	return content_from_block_take(&oid, type_of(n), block);
}

__attribute__((unused)) static struct content *content_in_file(uint64_t n, size_t len)
{
	struct oid oid = oid_of(n);
	uint8_t *bytes = malloc(len);
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	bytes_fill(n, bytes, len);
	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	free(bytes);
	return content_from_fd_take(&oid, type_of(n), fd, len);
}

/* A length that goes with the number, for tests with many: mostly small, some of several blocks. */
__attribute__((unused)) static size_t len_of(uint64_t n)
{
	if (n % 61 == 60)
		return 300000 + n % 7;
	if (n % 23 == 22)
		return 0;
	return (size_t)(n * 2654435761u % 9000);
}

/* ---- asking ---- */

enum answer { MISS, RIGHT, WRONG };

__attribute__((unused)) static enum answer ask(struct cache *cache, uint64_t n, size_t len)
{
	struct oid oid = oid_of(n);
	struct content *content;
	enum answer answer = WRONG;
	uint8_t *want;
	int rc = cache_get(cache, &oid, SIZE_MAX, &content);

	if (rc)
		return rc == -ENOENT ? MISS : WRONG;
	want = malloc(len + 1);
	bytes_fill(n, want, len);
	if (content->size == len && content->type == type_of(n) && oid_equal(&content->oid, &oid)) {
		struct block *block = NULL;

		if (content_block(content, len, &block) == 0 && block->len == len &&
		    (len == 0 || memcmp(block->data, want, len) == 0))
			answer = RIGHT;
		block_unref(block);
	}
	free(want);
	content_unref(content);
	return answer;
}

__attribute__((unused)) static int put(struct cache *cache, uint64_t n, size_t len)
{
	struct content *content = content_of(n, len);
	int rc = cache_put(cache, content, 2000);

	content_unref(content);
	return rc;
}

__attribute__((unused)) static struct cache *open_with(const struct cache_config *config,
						       struct xcp_error *err)
{
	struct cache *cache = NULL;

	if (cache_open(config, &cache, err))
		abort();
	return cache;
}

/*
 * memory_max_len 1: nothing is kept at hand, every read goes to the disk. A small index: one that
 * was found damaged is never unmapped, and valgrind has address space for few large ones.
 */
#define TEST_INDEX_LEN ((size_t)256 << 20)
__attribute__((unused)) static struct cache *open_at(const char *dir)
{
	struct cache_config config = { .dir = dir,
				       .memory_max_len = 1,
				       .index_max_len = TEST_INDEX_LEN };

	return open_with(&config, NULL);
}

__attribute__((unused)) static struct cache_counters counters_of(struct cache *cache)
{
	struct cache_counters counters;

	cache_counters(cache, &counters);
	return counters;
}

/* ---- children ---- */

struct child {
	pid_t pid;
	int out_fd; /* what it says */
};

/* Runs `name` of the children with two arguments. */
__attribute__((unused)) static struct child child_start(const char *name, const char *dir,
							uint64_t first, uint64_t count)
{
	char numbers[2][24], program[PATH_MAX] = "";
	struct child child;
	int fds[2];

	/* not the link itself: under valgrind that is valgrind */
	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		abort();
	snprintf(numbers[0], sizeof(numbers[0]), "%llu", (unsigned long long)first);
	snprintf(numbers[1], sizeof(numbers[1]), "%llu", (unsigned long long)count);
	if (pipe2(fds, O_CLOEXEC))
		abort();
	child.pid = fork();
	if (child.pid < 0)
		abort();
	if (child.pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execl(program, "child", "--child", name, dir, numbers[0], numbers[1], (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	child.out_fd = fds[0];
	return child;
}

/* Waits for the child to say something. */
__attribute__((unused)) static bool child_hear(struct child *child)
{
	char c;

	return read(child->out_fd, &c, 1) == 1;
}

/* Its exit status, or 128 + the signal that ended it. */
__attribute__((unused)) static int child_wait(struct child *child)
{
	int status;

	if (waitpid(child->pid, &status, 0) != child->pid)
		abort();
	close(child->out_fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

__attribute__((unused)) static int child_kill(struct child *child)
{
	kill(child->pid, SIGKILL);
	return child_wait(child);
}

#endif
