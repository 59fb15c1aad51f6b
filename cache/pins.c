/*
 * pins: files that are written whole and renamed, and read whole.
 */
#include "cache/pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/log.h"
#include "cache/bytes.h"
#include "cache/store.h"

#define DIR_NAME "pins"
#define PIN_VERSION 1
#define HEADER_LEN ((size_t)40)
#define CHECK_OFF ((size_t)32)
#define FILE_MAX_LEN ((off_t)1 << 30)
#define FILE_NAME_LEN 33

static const char magic[8] = { 'x', 'c', 'p', 'f', 's', 'P', 'I', 'N' };

/* ---- one file ---- */

/* As if the check itself were not there. */
static uint64_t check_of(const uint8_t *data, size_t len)
{
	uint64_t before = XXH3_64bits(data, CHECK_OFF);

	return XXH3_64bits_withSeed(data + HEADER_LEN, len - HEADER_LEN, before);
}

static bool is_in_order(const struct pin *pin)
{
	size_t hash_len = oid_algo_len(pin->algo);

	for (size_t i = 1; i < pin->count; i++)
		if (memcmp(pin->hashes + (i - 1) * hash_len, pin->hashes + i * hash_len,
			   hash_len) >= 0)
			return false;
	return true;
}

int pin_parse(const uint8_t *data, size_t len, struct pin *out)
{
	uint64_t count;
	uint32_t algo;
	size_t rest;

	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker) */
	if (len < HEADER_LEN || memcmp(data, magic, sizeof(magic)))
		return -EBADMSG;
	if (get_le32(data + 8) != PIN_VERSION)
		return -ENOTSUP;
	algo = get_le32(data + 12);
	count = get_le64(data + 16);
	out->name_len = get_le32(data + 24);
	if ((algo != OID_SHA1 && algo != OID_SHA256) || out->name_len > PIN_NAME_MAX_LEN ||
	    out->name_len > len - HEADER_LEN || get_le64(data + CHECK_OFF) != check_of(data, len))
		return -EBADMSG;
	out->algo = algo;
	rest = len - HEADER_LEN - out->name_len;
	if (rest % oid_algo_len(out->algo) || rest / oid_algo_len(out->algo) != count)
		return -EBADMSG;
	out->name = (const char *)data + HEADER_LEN;
	out->hashes = data + HEADER_LEN + out->name_len;
	out->count = count;
	return is_in_order(out) ? 0 : -EBADMSG;
}

static int oid_order(const void *a, const void *b)
{
	return memcmp(((const struct oid *)a)->hash, ((const struct oid *)b)->hash, OID_MAX_LEN);
}

/* Sorts `oids`. */
static int pin_bytes(const char *name, struct oid *oids, size_t count, struct buf *out)
{
	enum oid_algo algo = count ? oids[0].algo : OID_SHA1;
	uint8_t header[HEADER_LEN] = { 0 };
	uint64_t unique = 0;
	int rc;

	qsort(oids, count, sizeof(*oids), oid_order);
	rc = buf_add(out, header, sizeof(header));
	if (rc == 0)
		rc = buf_add_str(out, name);
	for (size_t i = 0; i < count && rc == 0; i++) {
		if (oids[i].algo != algo)
			return -EINVAL;
		if (i > 0 && oid_equal(&oids[i], &oids[i - 1]))
			continue;
		rc = buf_add(out, oids[i].hash, oid_algo_len(algo));
		unique++;
	}
	if (rc)
		return rc;
	memcpy(out->data, magic, sizeof(magic));
	put_le32(out->data + 8, PIN_VERSION);
	put_le32(out->data + 12, algo);
	put_le64(out->data + 16, unique);
	put_le32(out->data + 24, (uint32_t)strlen(name));
	put_le64(out->data + CHECK_OFF, check_of(out->data, out->len));
	return 0;
}

/* ---- the folder ---- */

static void file_name(const char *name, char out[FILE_NAME_LEN])
{
	XXH128_hash_t hash = XXH3_128bits(name, strlen(name));

	snprintf(out, FILE_NAME_LEN, "%016llx%016llx", (unsigned long long)hash.high64,
		 (unsigned long long)hash.low64);
}

static int folder_open(int v1_fd, bool make)
{
	int fd;

	if (make && mkdirat(v1_fd, DIR_NAME, 0700) && errno != EEXIST)
		return -errno;
	fd = openat(v1_fd, DIR_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int file_store(int folder, const char *name, const struct buf *bytes)
{
	int fd = openat(folder, "new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t done = 0;
	int rc = 0;

	if (fd < 0)
		return -errno;
	while (rc == 0 && done < bytes->len) {
		ssize_t n = write(fd, bytes->data + done, bytes->len - done);

		if (n < 0 && errno != EINTR)
			rc = -errno;
		else if (n > 0)
			done += (size_t)n;
	}
	if (rc == 0 && fsync(fd))
		rc = -errno;
	close(fd);
	if (rc == 0 && renameat(folder, "new", folder, name))
		rc = -errno;
	if (rc)
		unlinkat(folder, "new", 0);
	return rc;
}

int pin_write(int v1_fd, const char *name, const struct oid *oids, size_t count)
{
	struct oid *copy = calloc(count + 1, sizeof(*copy));
	struct buf bytes = BUF_INIT;
	char file[FILE_NAME_LEN];
	int folder = -1;
	int rc = copy ? 0 : -ENOMEM;

	if (strlen(name) > PIN_NAME_MAX_LEN)
		rc = -ENAMETOOLONG;
	if (rc == 0 && count > 0)
		memcpy(copy, oids, count * sizeof(*copy));
	if (rc == 0)
		rc = pin_bytes(name, copy, count, &bytes);
	if (rc == 0) {
		folder = folder_open(v1_fd, true);
		rc = folder < 0 ? folder : 0;
	}
	file_name(name, file);
	if (rc == 0)
		rc = file_store(folder, file, &bytes);
	if (rc == 0 && (fsync(folder) || fsync(v1_fd)))
		rc = -errno;
	if (folder >= 0)
		close(folder);
	buf_release(&bytes);
	free(copy);
	return rc;
}

int pin_remove(int v1_fd, const char *name)
{
	int folder = folder_open(v1_fd, false);
	char file[FILE_NAME_LEN];
	int rc = 0;

	if (folder < 0)
		return folder;
	file_name(name, file);
	if (unlinkat(folder, file, 0) || fsync(folder))
		rc = -errno;
	close(folder);
	return rc;
}

/* ---- all of them ---- */

struct loaded {
	struct buf bytes;
	struct pin pin; /* points into it */
};

struct pins {
	struct loaded *v;
	size_t count, cap;
	uint64_t seal;
};

struct pins *pins_new(void)
{
	return calloc(1, sizeof(struct pins));
}

static void pins_clear(struct pins *pins)
{
	for (size_t i = 0; i < pins->count; i++)
		buf_release(&pins->v[i].bytes);
	pins->count = 0;
	pins->seal = 0;
}

void pins_free(struct pins *pins)
{
	if (!pins)
		return;
	pins_clear(pins);
	free(pins->v);
	free(pins);
}

/* Whether it is the same file as before; in any order. */
static uint64_t seal_of(int folder, const char *name)
{
	struct stat st;
	uint64_t parts[4];

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return 0;
	parts[0] = (uint64_t)st.st_ino;
	parts[1] = (uint64_t)st.st_size;
	parts[2] = (uint64_t)st.st_mtim.tv_sec;
	parts[3] = (uint64_t)st.st_mtim.tv_nsec;
	return XXH3_64bits_withSeed(parts, sizeof(parts), XXH3_64bits(name, strlen(name)));
}

static bool is_pin_name(const char *name)
{
	return strlen(name) == FILE_NAME_LEN - 1 && strspn(name, "0123456789abcdef") == 32;
}

static int read_whole(int folder, const char *name, struct buf *out)
{
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	ssize_t n = 0;
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_LEN)
		rc = -EBADMSG;
	else
		rc = buf_reserve(out, (size_t)st.st_size);
	while (rc == 0 && out->len < (size_t)st.st_size) {
		n = pread(fd, out->data + out->len, (size_t)st.st_size - out->len, (off_t)out->len);
		if (n < 0 && errno != EINTR)
			rc = -errno;
		else if (n == 0)
			rc = -EBADMSG;
		else if (n > 0)
			out->len += (size_t)n;
	}
	close(fd);
	return rc;
}

static int load(struct pins *pins, int folder, const char *name)
{
	struct loaded loaded = { .bytes = BUF_INIT };
	int rc = read_whole(folder, name, &loaded.bytes);

	if (rc == 0)
		rc = pin_parse(loaded.bytes.data, loaded.bytes.len, &loaded.pin);
	if (rc == 0 && pins->count == pins->cap) {
		size_t cap = pins->cap ? pins->cap * 2 : 8;
		struct loaded *v = realloc(pins->v, cap * sizeof(*v));

		if (v) {
			pins->v = v;
			pins->cap = cap;
		} else {
			rc = -ENOMEM;
		}
	}
	if (rc) {
		buf_release(&loaded.bytes);
		if (rc == -EBADMSG)
			log_warn("cache: pin %s is damaged, and left out; pin again", name);
		return rc == -EBADMSG || rc == -ENOENT ? 0 : rc;
	}
	pins->v[pins->count++] = loaded;
	return 0;
}

static int folder_each(DIR *dir, struct pins *pins, uint64_t *out_seal)
{
	struct dirent *entry;
	int rc = 0;

	rewinddir(dir);
	while (rc == 0 && (entry = readdir(dir))) {
		if (!is_pin_name(entry->d_name))
			continue;
		if (pins)
			rc = load(pins, dirfd(dir), entry->d_name);
		*out_seal ^= seal_of(dirfd(dir), entry->d_name);
	}
	return rc;
}

int pins_refresh(struct pins *pins, int v1_fd, uint64_t *out_seal)
{
	DIR *dir = dir_open(v1_fd, DIR_NAME);
	uint64_t seal = 0;
	int rc = 0;

	*out_seal = 0;
	if (!dir && errno != ENOENT)
		return -errno;
	if (dir)
		folder_each(dir, NULL, &seal);
	if (seal != pins->seal) {
		pins_clear(pins);
		seal = 0;
		if (dir)
			rc = folder_each(dir, pins, &seal);
		pins->seal = rc ? 0 : seal;
	}
	if (dir)
		closedir(dir);
	*out_seal = seal;
	return rc;
}

static bool pin_has(const struct pin *pin, const struct oid *oid)
{
	size_t hash_len = oid_algo_len(pin->algo), low = 0, high = pin->count;

	if (pin->algo != oid->algo)
		return false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = memcmp(oid->hash, pin->hashes + middle * hash_len, hash_len);

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

bool pins_has(const struct pins *pins, const struct oid *oid)
{
	for (size_t i = 0; i < pins->count; i++)
		if (pin_has(&pins->v[i].pin, oid))
			return true;
	return false;
}

const struct pin *pins_at(const struct pins *pins, size_t i)
{
	return i < pins->count ? &pins->v[i].pin : NULL;
}
