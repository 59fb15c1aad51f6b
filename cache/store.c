/*
 * store: opens a cache directory, and finds out whether what is in it may be used. All paths
 * are relative to descriptors, but LMDB's, so that a directory replaced meanwhile is noticed
 * and not mixed up.
 */
#include "cache/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define BOOT_ID_LEN 40
#define STATE_MAX_LEN 128
#define USE_MAX_LEN 32
/* At close, when one part in so many of it is of no use. */
#define COMPACT_SHARE 4
#define COMPACT_MIN_LEN ((uint64_t)256 * 1024)

/* ---- small parts ---- */

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

int flock_wait(int fd, int operation, unsigned wait_ms)
{
	uint64_t end = clock_ns() + (uint64_t)wait_ms * 1000000;
	unsigned pause = 1;

	while (flock(fd, operation | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (clock_ns() >= end)
			return -EAGAIN;
		sleep_ms(pause);
		pause = pause < 16 ? pause * 2 : pause;
	}
	return 0;
}

/* Bytes in the file, at most len - 1, with a NUL behind them; -errno. */
static ssize_t read_small(int dir_fd, const char *name, char *out, size_t len)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, out, len - 1, 0);
	if (n < 0)
		n = -errno;
	else
		out[n] = '\0';
	close(fd);
	return n;
}

static int dir_make(int dir_fd, const char *name)
{
	int fd;

	if (mkdirat(dir_fd, name, 0700) && errno != EEXIST)
		return -errno;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd;
}

/* mkdir -p; the last one 0700, as those above it that are missing. */
static int path_make(const char *path)
{
	char *copy = strdup(path);
	int rc = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; rc == 0 && *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0700) && errno != EEXIST && access(copy, F_OK))
			rc = -errno;
		*p = '/';
	}
	if (rc == 0 && mkdir(copy, 0700) && errno != EEXIST)
		rc = -errno;
	free(copy);
	return rc;
}

static int lock_file_open(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	return fd;
}

void store_index_name(unsigned i, char out[16])
{
	if (i == 0)
		snprintf(out, 16, "index");
	else
		snprintf(out, 16, "index.%u", i % STORE_INDEX_COUNT);
}

/* ---- throwing away ---- */

static void trash_name(char out[64])
{
	unsigned chance = 0;

	if (getrandom(&chance, sizeof(chance), 0) < 0)
		chance = (unsigned)clock_ns();
	snprintf(out, 64, "trash-%lld-%08x", (long long)clock_wall_s(), chance);
}

int store_throw_away(int v1_fd, const char *name)
{
	char trash[64], path[80];

	trash_name(trash);
	snprintf(path, sizeof(path), "tmp/%s", trash);
	return renameat(v1_fd, name, v1_fd, path) ? -errno : 0;
}

DIR *dir_open(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static struct dirent *dir_first(DIR *dir)
{
	struct dirent *entry;

	do
		entry = readdir(dir);
	while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	return entry;
}

/* Removes one entry of the directory `name`, or `name` itself when it is empty or none. */
static bool trash_remove_one(int tmp_fd, const char *name)
{
	DIR *dir = dir_open(tmp_fd, name);
	struct dirent *entry;
	char deeper[64];
	bool done;

	if (!dir)
		return unlinkat(tmp_fd, name, 0) == 0;
	entry = dir_first(dir);
	if (!entry) {
		done = unlinkat(tmp_fd, name, AT_REMOVEDIR) == 0;
	} else {
		done = unlinkat(dirfd(dir), entry->d_name, 0) == 0;
		if (!done) {
			trash_name(deeper);
			done = renameat(dirfd(dir), entry->d_name, tmp_fd, deeper) == 0;
		}
	}
	closedir(dir);
	return done;
}

bool store_trash_step(int tmp_fd)
{
	DIR *dir = dir_open(tmp_fd, ".");
	struct dirent *entry;
	bool done = false;

	if (!dir)
		return false;
	while (!done && (entry = readdir(dir)))
		if (strncmp(entry->d_name, "trash-", 6) == 0)
			done = trash_remove_one(tmp_fd, entry->d_name);
	closedir(dir);
	return done;
}

/* ---- the state of an index ---- */

/* Empty when it cannot be known; then no index is of this boot. */
static void boot_id_read(char out[BOOT_ID_LEN])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, BOOT_ID_LEN - 1);

	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n ")] = '\0';
}

struct state {
	char boot[BOOT_ID_LEN];
	bool clean;
	bool there;
};

static void state_read(int index_fd, struct state *out)
{
	char text[STATE_MAX_LEN];
	char word[8] = "";

	memset(out, 0, sizeof(*out));
	if (read_small(index_fd, "state", text, sizeof(text)) <= 0)
		return;
	out->there = sscanf(text, "boot %39s\nsync %7s\n", out->boot, word) == 2;
	out->clean = out->there && strcmp(word, "clean") == 0;
}

static bool state_is_of_this_boot(const struct state *state)
{
	char boot[BOOT_ID_LEN];

	boot_id_read(boot);
	return state->there && boot[0] && strcmp(state->boot, boot) == 0;
}

static bool state_is_usable(const struct state *state)
{
	return state->there && (state->clean || state_is_of_this_boot(state));
}

static int state_write(int index_fd, bool clean, bool durable)
{
	char boot[BOOT_ID_LEN];
	char text[STATE_MAX_LEN];
	int len, fd;
	int rc = 0;

	boot_id_read(boot);
	len = snprintf(text, sizeof(text), "boot %s\nsync %s\n", boot[0] ? boot : "unknown",
		       clean ? "clean" : "dirty");
	fd = openat(index_fd, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)len) != len)
		rc = errno ? -errno : -EIO;
	else if ((durable && fsync(fd)) || renameat(index_fd, "state.new", index_fd, "state") ||
		 (durable && fsync(index_fd)))
		rc = -errno;
	close(fd);
	return rc;
}

/*
 * An index of ours that may be believed. A fresh directory, with neither state nor data, may
 * be, too.
 */
static bool index_dir_is_usable(int index_fd)
{
	struct state state;
	struct stat st;

	state_read(index_fd, &state);
	if (!state.there)
		return fstatat(index_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) != 0;
	return state_is_usable(&state);
}

/* ---- whose index it is ---- */

static uint64_t pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : (uint64_t)st.st_ino;
}

static uint64_t use_read(int use_fd)
{
	char text[USE_MAX_LEN];
	ssize_t n = pread(use_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtoull(text, NULL, 10);
}

static int use_write(int use_fd, uint64_t namespace)
{
	char text[USE_MAX_LEN];
	int len = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)namespace);

	/* A full disk must not keep anybody from reading. */
	if (use_read(use_fd) == namespace)
		return 0;
	if (pwrite(use_fd, text, (size_t)len, 0) != len || ftruncate(use_fd, len))
		return errno ? -errno : -EIO;
	return 0;
}

/*
 * Leaves use_fd locked shared when the index is ours. Who gets it alone may name the namespace;
 * whoever shares it can rely on the name, because nobody can be alone then.
 */
static int use_join(int use_fd, uint64_t namespace)
{
	int rc;

	if (flock(use_fd, LOCK_EX | LOCK_NB) == 0) {
		rc = use_write(use_fd, namespace);
		if (rc)
			return rc;
	}
	/* Turning an exclusive lock into a shared one is not atomic: so look again. */
	rc = flock_wait(use_fd, LOCK_SH, STORE_LOCK_WAIT_MS);
	if (rc)
		return rc == -EAGAIN ? -EBUSY : rc;
	return use_read(use_fd) == namespace ? 0 : -EBUSY;
}

/* ---- opening ---- */

static struct store *store_new(void)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	atomic_init(&store->refs, 1);
	store->v1_fd = store->segments_fd = store->tmp_fd = -1;
	store->write_lock_fd = store->use_fd = store->index_fd = -1;
	return store;
}

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void store_unref(struct store *store)
{
	if (!store || atomic_fetch_sub_explicit(&store->refs, 1, memory_order_acq_rel) != 1)
		return;
	index_close(&store->index);
	segments_free(store->segments);
	dictionaries_free(store->dictionaries);
	claims_unref(store->claims);
	fd_close(&store->index_fd);
	fd_close(&store->use_fd);
	fd_close(&store->write_lock_fd);
	fd_close(&store->tmp_fd);
	fd_close(&store->segments_fd);
	fd_close(&store->v1_fd);
	free(store->path);
	free(store);
}

static int open_failed(struct xcp_error *err, int rc, const struct store *store, const char *what)
{
	return xcp_error_set(err, rc, "cannot use the cache directory %s: %s: %s", store->path,
			     what, strerror(-rc));
}

/*
 * The checks in the files are no proof against somebody who means harm: ids are not verified
 * again.
 */
static int check_owner(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	return st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : -EPERM;
}

static int open_base(struct store *store, const char *dir, struct xcp_error *err)
{
	int rc;

	if (asprintf(&store->path, "%s/" STORE_VERSION_DIR, dir) < 0) {
		store->path = NULL;
		return xcp_error_set(err, -ENOMEM, "cannot open the cache: out of memory");
	}
	rc = path_make(dir);
	if (rc)
		return open_failed(err, rc, store, "cannot make it");
	store->v1_fd = dir_make(AT_FDCWD, store->path);
	if (store->v1_fd < 0)
		return open_failed(err, store->v1_fd, store, "cannot make it");
	rc = check_owner(store->v1_fd);
	if (rc)
		return open_failed(err, rc, store,
				   "it must belong to you, and nobody else may write to it");
	store->tmp_fd = dir_make(store->v1_fd, "tmp");
	if (store->tmp_fd < 0)
		return open_failed(err, store->tmp_fd, store, "cannot make tmp");
	store->write_lock_fd = lock_file_open(store->v1_fd, "write.lock");
	if (store->write_lock_fd < 0)
		return open_failed(err, store->write_lock_fd, store, "cannot open write.lock");
	return 0;
}

static const struct codec_dictionary *find_dictionary(void *arg, uint32_t id)
{
	return dictionaries_get(arg, id);
}

static int open_segments(struct store *store, struct xcp_error *err)
{
	store->segments_fd = dir_make(store->v1_fd, "segments");
	if (store->segments_fd < 0)
		return open_failed(err, store->segments_fd, store, "cannot make segments");
	store->segments = segments_new(store->segments_fd);
	if (store->segments)
		store->dictionaries = dictionaries_new(store->index, store->segments);
	if (!store->dictionaries)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache: out of memory");
	segments_set_dictionaries(store->segments, find_dictionary, store->dictionaries);
	store->claims = claims_open(store->v1_fd);
	return 0;
}

static bool index_is_usable(int v1_fd, const char *name)
{
	int fd = openat(v1_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool usable = fd >= 0 && index_dir_is_usable(fd);

	if (fd >= 0)
		close(fd);
	return usable;
}

static int index_throw_away(struct store *store, const char *name, const char *why)
{
	int rc = store_throw_away(store->v1_fd, name);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	log_warn("cache %s: %s was thrown away, and is made again from the segments: %s",
		 store->path, name, why);
	return 0;
}

/* Those that nobody would open for long, because the first one is free again. */
static void indexes_sweep(struct store *store)
{
	char name[16];

	for (unsigned i = 0; i < STORE_INDEX_COUNT; i++) {
		struct stat st;

		store_index_name(i, name);
		if (fstatat(store->v1_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !index_is_usable(store->v1_fd, name))
			index_throw_away(store, name,
					 "it was not closed before the machine stopped");
	}
}

static void index_leave(struct store *store)
{
	index_close(&store->index);
	fd_close(&store->use_fd);
	fd_close(&store->index_fd);
}

/*
 * Joins the index `name`: -EBUSY when it is another namespace's, -EUCLEAN when it cannot be
 * believed.
 */
static int index_join(struct store *store, const char *name, uint64_t namespace)
{
	int rc;

	store->index_fd = dir_make(store->v1_fd, name);
	if (store->index_fd < 0)
		return store->index_fd;
	store->use_fd = lock_file_open(store->index_fd, "use");
	if (store->use_fd < 0)
		return store->use_fd;
	rc = use_join(store->use_fd, namespace);
	if (rc)
		return rc;
	return index_dir_is_usable(store->index_fd) ? 0 : -EUCLEAN;
}

static int index_open_in(struct store *store, const char *name, size_t max_len,
			 struct xcp_error *err)
{
	struct state state;
	char *path;
	int rc;

	state_read(store->index_fd, &state);
	if (!state.there) {
		/* Lost in a crash, it leaves an index without a state, which nobody believes. */
		rc = state_write(store->index_fd, false, false);
		if (rc)
			return open_failed(err, rc, store, "cannot write the state of the index");
	}
	if (asprintf(&path, "%s/%s", store->path, name) < 0)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache: out of memory");
	rc = index_open(path, max_len, &store->index, err);
	free(path);
	return rc;
}

static int index_try(struct store *store, const char *name, size_t max_len, uint64_t namespace,
		     struct xcp_error *err)
{
	const char *why = "it was not closed before the machine stopped";
	int rc = index_join(store, name, namespace);

	if (rc == 0) {
		rc = index_open_in(store, name, max_len, err);
		why = "it is damaged";
	}
	if (rc == -EUCLEAN) {
		index_leave(store);
		rc = index_throw_away(store, name, why);
		if (rc == 0)
			rc = index_join(store, name, namespace);
		if (rc == 0)
			rc = index_open_in(store, name, max_len, err);
	}
	if (rc)
		index_leave(store);
	return rc;
}

static int open_index(struct store *store, const struct store_config *config, struct xcp_error *err)
{
	uint64_t namespace = pid_namespace();
	int rc = -EBUSY;

	indexes_sweep(store);
	if (namespace == 0)
		return open_failed(err, -ENOTSUP, store,
				   "cannot tell the PID namespace; is /proc mounted?");
	for (unsigned i = 0; i < STORE_INDEX_COUNT && rc == -EBUSY; i++) {
		store_index_name(i, store->index_name);
		if (config->unwanted && strcmp(config->unwanted, store->index_name) == 0)
			index_throw_away(store, config->unwanted, config->why);
		rc = index_try(store, store->index_name, config->index_max_len, namespace, err);
	}
	if (rc && (!err || err->code == 0))
		return open_failed(err, rc, store, "cannot open its index");
	return rc;
}

static int open_locked(struct store *store, const struct store_config *config,
		       struct xcp_error *err)
{
	int rc = open_index(store, config, err);

	return rc ? rc : open_segments(store, err);
}

int store_open(const struct store_config *config, struct store **out, struct xcp_error *err)
{
	struct store *store = store_new();
	int lock_fd;
	int rc;

	if (!store)
		return xcp_error_set(err, -ENOMEM, "cannot open the cache: out of memory");
	rc = open_base(store, config->dir, err);
	if (rc)
		goto out;
	lock_fd = lock_file_open(store->v1_fd, "open.lock");
	rc = lock_fd < 0 ? lock_fd : flock_wait(lock_fd, LOCK_EX, STORE_LOCK_WAIT_MS);
	if (rc == 0)
		rc = open_locked(store, config, err);
	else
		open_failed(err, rc, store, "another process holds open.lock");
	fd_close(&lock_fd);
out:
	if (rc)
		store_unref(store);
	else
		*out = store;
	return rc;
}

/* ---- in use ---- */

static bool same_file(int fd, int dir_fd, const char *name)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dir_fd, name, &b, 0) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int store_check(const struct store *store)
{
	if (same_file(store->v1_fd, AT_FDCWD, store->path) &&
	    same_file(store->segments_fd, store->v1_fd, "segments") &&
	    same_file(store->index_fd, store->v1_fd, store->index_name) &&
	    same_file(store->use_fd, store->index_fd, "use") &&
	    same_file(store->write_lock_fd, store->v1_fd, "write.lock"))
		return 0;
	return -ESTALE;
}

int store_write_lock(struct store *store, struct xcp_error *err)
{
	int rc = flock_wait(store->write_lock_fd, LOCK_EX, STORE_LOCK_WAIT_MS);

	if (rc == -EAGAIN)
		return xcp_error_set(err, rc, "another process holds %s/write.lock", store->path);
	if (rc)
		return xcp_error_set(err, rc, "cannot lock %s/write.lock: %s", store->path,
				     strerror(-rc));
	return 0;
}

void store_write_unlock(struct store *store)
{
	flock(store->write_lock_fd, LOCK_UN);
}

int store_mark_dirty(struct store *store, struct xcp_error *err)
{
	struct state state;
	int rc;

	state_read(store->index_fd, &state);
	store->wrote = true;
	if (!state.clean && state_is_of_this_boot(&state))
		return 0;
	rc = state_write(store->index_fd, false, true);
	if (rc)
		return xcp_error_set(err, rc, "cannot write the state of the cache index: %s",
				     strerror(-rc));
	return 0;
}

/*
 * Alone for a moment is enough: who comes later finds the write lock taken, and then the state
 * clean.
 */
static bool index_is_ours_alone(struct store *store)
{
	return flock(store->use_fd, LOCK_EX | LOCK_NB) == 0 &&
	       flock(store->use_fd, LOCK_SH | LOCK_NB) == 0;
}

/*
 * LMDB never gives pages back: after much was written half of the file is of no use. A copy takes
 * its place while nobody has it open, and nobody can open it. True: `index` is closed then.
 */
static bool index_compact(struct store *store)
{
	struct index_space space;
	char *copy = NULL;
	bool done;

	if (index_space(store->index, &space) || space.file_len < COMPACT_MIN_LEN ||
	    space.file_len - space.used_len < space.file_len / COMPACT_SHARE ||
	    asprintf(&copy, "%s/%s/data.new", store->path, store->index_name) < 0)
		return false;
	unlinkat(store->index_fd, "data.new", 0); /* of one who was killed at it */
	done = index_copy(store->index, copy) == 0;
	free(copy);
	if (done) {
		/* Who opens next must not meet LMDB's lock file as we know it. */
		index_close(&store->index);
		done = renameat(store->index_fd, "data.new", store->index_fd, "data.mdb") == 0;
	}
	if (!done)
		unlinkat(store->index_fd, "data.new", 0);
	return !store->index;
}

/* The write lock is ours, and so is the last word about the state. */
static void mark_clean_locked(struct store *store)
{
	int fd = lock_file_open(store->v1_fd, "open.lock");
	bool closed = false;

	if (fd >= 0 && flock_wait(fd, LOCK_EX, STORE_LOCK_WAIT_MS) == 0 &&
	    index_is_ours_alone(store))
		closed = index_compact(store);
	if (closed || index_sync(store->index) == 0)
		state_write(store->index_fd, true, true);
	fd_close(&fd);
}

void store_mark_clean(struct store *store)
{
	if (!store->wrote || store_check(store) || !index_is_ours_alone(store) ||
	    index_sync(store->index))
		return;
	if (store_write_lock(store, NULL))
		return;
	mark_clean_locked(store);
	store_write_unlock(store);
}

static int segments_sync(const struct store *store)
{
	DIR *dir = dir_open(store->v1_fd, "segments");
	struct dirent *entry;
	int rc = dir ? 0 : -errno;

	while (dir && rc == 0 && (entry = readdir(dir))) {
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 && fdatasync(fd))
			rc = -errno;
		fd_close(&fd);
	}
	if (dir && rc == 0 && fsync(dirfd(dir)))
		rc = -errno;
	if (dir)
		closedir(dir);
	return rc;
}

/* The data first. */
int store_sync(const struct store *store, struct xcp_error *err)
{
	int rc = segments_sync(store);

	if (rc == 0)
		rc = index_sync(store->index);
	if (rc == 0 && fsync(store->index_fd))
		rc = -errno;
	return rc ? xcp_error_set(err, rc, "cannot sync the cache %s: %s", store->path,
				  strerror(-rc)) :
		    0;
}

int store_tmpfile(const struct store *store)
{
	int fd = openat(store->tmp_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char name[64];

	if (fd >= 0)
		return fd;
	/* A file system that cannot; what is left behind by a crash is trash. */
	trash_name(name);
	fd = openat(store->tmp_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(store->tmp_fd, name, 0);
	return fd;
}
