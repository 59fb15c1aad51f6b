/* Pins are files: their format, what a damaged one does, and that changes are seen. */
#include "cache/pins.h"

#include <dirent.h>

#include "cache/bytes.h"
#include "tests/cache_support.h"

static int dir_fd_of(const char *dir)
{
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static struct oid sha1_of(uint64_t n)
{
	return oid_of(n * 5);
}

/* The only file in pins/; the caller frees. */
static char *only_file(const char *dir)
{
	char *folder = path_of(dir, "pins"), *path = NULL;
	struct dirent *entry;
	DIR *d = opendir(folder);

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.' && !path)
			path = path_of(folder, entry->d_name);
	if (d)
		closedir(d);
	free(folder);
	return path;
}

static void test_what_was_written_is_read(void)
{
	char *dir = scratch_dir();
	int fd = dir_fd_of(dir);
	struct oid oids[] = { sha1_of(3), sha1_of(1), sha1_of(2), sha1_of(1) };
	struct oid other = sha1_of(4), sha256 = oid_of(4);
	struct pins *pins = pins_new();
	uint64_t none, first, second;

	CHECK_INT(pins_refresh(pins, fd, &none), 0);
	CHECK_UINT(none, 0);
	CHECK(!pins_has(pins, &oids[0]));
	CHECK_INT(pin_remove(fd, "one"), -ENOENT);
	CHECK_INT(pin_write(fd, "one", oids, 4), 0);
	CHECK_INT(pins_refresh(pins, fd, &first), 0);
	CHECK(first != none);
	CHECK_UINT(pins_at(pins, 0)->count, 3);
	CHECK_NULL(pins_at(pins, 1));
	for (size_t i = 0; i < 4; i++)
		CHECK(pins_has(pins, &oids[i]));
	CHECK(!pins_has(pins, &other));
	CHECK_INT(pin_write(fd, "two", &sha256, 1), 0);
	CHECK_INT(pin_write(fd, "one", &other, 1), 0);
	CHECK_INT(pins_refresh(pins, fd, &second), 0);
	CHECK(second != first && second != none);
	CHECK(pins_has(pins, &other) && pins_has(pins, &sha256));
	CHECK(!pins_has(pins, &oids[0]));
	CHECK_INT(pin_write(fd, "mixed", (struct oid[]){ other, sha256 }, 2), -EINVAL);
	CHECK_INT(pin_write(fd, "empty", NULL, 0), 0);
	CHECK_INT(pin_remove(fd, "one"), 0);
	CHECK_INT(pin_remove(fd, "two"), 0);
	CHECK_INT(pin_remove(fd, "empty"), 0);
	CHECK_INT(pins_refresh(pins, fd, &first), 0);
	CHECK_UINT(first, 0);
	CHECK(!pins_has(pins, &other));
	pins_free(pins);
	close(fd);
	scratch_remove(dir);
}

static void test_format_is_locked(void)
{
	static const uint8_t want[] = {
		'x', 'c', 'p', 'f', 's', 'P', 'I', 'N', 1,   0,	  0,   0,   1,	0,  0,	0,
		1,   0,	  0,   0,   0,	 0,   0,   0,	4,   0,	  0,   0,   0,	0,  0,	0,
		0,   0,	  0,   0,   0,	 0,   0,   0,	'n', 'a', 'm', 'e', 1,	2,  3,	4,
		5,   6,	  7,   8,   9,	 10,  11,  12,	13,  14,  15,  16,  17, 18, 19, 20,
	};
	char *dir = scratch_dir(), *path;
	int fd = dir_fd_of(dir);
	struct oid oid = { .algo = OID_SHA1 };
	uint8_t *bytes;
	size_t len;

	for (uint8_t i = 0; i < 20; i++)
		oid.hash[i] = i + 1;
	CHECK_INT(pin_write(fd, "name", &oid, 1), 0);
	path = only_file(dir);
	CHECK_STR(strrchr(path, '/') + 1, "c96a918390b153ff53816205aaaa5e4a");
	bytes = file_read(path, &len);
	CHECK_UINT(len, sizeof(want));
	CHECK_UINT(get_le64(bytes + 32), 0xc0a728e5ad5a02b4);
	memset(bytes + 32, 0, 8);
	CHECK_MEM(bytes, len, want, sizeof(want));
	free(bytes);
	free(path);
	close(fd);
	scratch_remove(dir);
}

/* Every bit of it, and every length. */
static void test_a_damaged_one_is_left_out(void)
{
	char *dir = scratch_dir(), *path;
	int fd = dir_fd_of(dir);
	struct oid oids[] = { sha1_of(1), sha1_of(2), sha1_of(3) };
	struct pins *pins = pins_new();
	struct pin pin;
	uint64_t seal, later;
	uint8_t *bytes;
	size_t len;

	pin_write(fd, "name", oids, 3);
	path = only_file(dir);
	bytes = file_read(path, &len);
	CHECK_INT(pin_parse(bytes, len, &pin), 0);
	CHECK_UINT(pin.count, 3);
	for (size_t bit = 0; bit < len * 8; bit++) {
		int rc;

		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		rc = pin_parse(bytes, len, &pin);
		CHECK_MSG(rc == -EBADMSG || rc == -ENOTSUP, "bit %zu: %d", bit, rc);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t cut = 0; cut < len; cut++)
		CHECK_INT(pin_parse(bytes, cut, &pin), -EBADMSG);
	CHECK_INT(pins_refresh(pins, fd, &seal), 0);
	CHECK(pins_has(pins, &oids[0]));
	bytes[len - 1] ^= 1;
	file_write(path, bytes, len - 1);
	CHECK_INT(pins_refresh(pins, fd, &later), 0);
	CHECK(later != seal);
	CHECK(!pins_has(pins, &oids[0]));
	pins_free(pins);
	free(bytes);
	free(path);
	close(fd);
	scratch_remove(dir);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_was_written_is_read);
	TAP_RUN(test_format_is_locked);
	TAP_RUN(test_a_damaged_one_is_left_out);
	return tap_done();
}
