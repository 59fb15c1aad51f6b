/*
 * segment: file names, the table of files open for reading, and the one file that is appended
 * to. It knows nothing of the index beyond the place it is asked to read, and of the tails it
 * is told.
 */
#include "cache/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "cache/codec.h"

#define OPEN_MAX_COUNT 64
#define TAKE_MAX_COUNT 32
#define POOL_COUNT 16

/*
 * Without a tail from the index only this much may be cut off the end of a taken file: a few
 * batches. More means that something else is wrong with it, and it is left alone.
 */
#define WALK_LEN ((size_t)512 * 1024) /* longer than any record */
#define TORN_MAX_LEN ((size_t)8 * 1024 * 1024)

/* ---- names ---- */

void segment_name(uint64_t id, char out[SEGMENT_NAME_LEN])
{
	snprintf(out, SEGMENT_NAME_LEN, "%016llx", (unsigned long long)id);
}

int segment_name_parse(const char *name, uint64_t *out)
{
	if (strlen(name) != SEGMENT_NAME_LEN - 1 ||
	    strspn(name, "0123456789abcdef") != SEGMENT_NAME_LEN - 1)
		return -EINVAL;
	*out = strtoull(name, NULL, 16);
	return 0;
}

/*
 * Milliseconds in front, so that names sort by age; chance behind, so that they are never used
 * twice.
 */
static uint64_t segment_id_new(void)
{
	uint64_t chance = 0;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (getrandom(&chance, sizeof(chance), 0) != sizeof(chance))
		chance = clock_ns() ^ ((uint64_t)getpid() << 16);
	return (((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000) << 20) |
	       (chance & 0xfffff);
}

/* ---- whole reads and writes ---- */

ssize_t segment_pread(int fd, void *data, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (uint8_t *)data + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

uint64_t segment_skip_hole(int fd, uint64_t off, uint64_t file_len)
{
	off_t data = lseek(fd, (off_t)off, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? file_len : off;
	return (uint64_t)data > off ? (uint64_t)data & ~(uint64_t)7 : off;
}

static int pwrite_full(int fd, const void *data, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			pwrite(fd, (const uint8_t *)data + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int segment_check(int fd, uint64_t id)
{
	uint8_t bytes[SEGMENT_HEADER_LEN];
	struct segment_header header;
	ssize_t n = segment_pread(fd, bytes, sizeof(bytes), 0);
	int rc;

	if (n < 0)
		return (int)n;
	if (n != (ssize_t)sizeof(bytes))
		return -EBADMSG;
	rc = segment_header_decode(bytes, &header);
	if (rc)
		return rc;
	return header.id == id ? 0 : -EBADMSG;
}

/* ---- files open for reading ---- */

struct open_file {
	TAILQ_ENTRY(open_file) link;
	_Atomic unsigned refs; /* one is the table's */
	uint64_t id;
	int fd;
};
TAILQ_HEAD(open_list, open_file);

/* What a read needs and is worth keeping. */
struct scratch {
	struct codec *codec;
	struct open_file *file; /* counted: the one read last; NULL at first */
	uint8_t body[RECORD_RAW_MAX];
};

/* One for each of some groups of threads, which so do not meet at a lock. */
struct pool {
	_Alignas(64) struct lock lock;
	struct scratch *scratch; /* under lock; or NULL */
};

struct segments {
	/* set before threads start */
	int dir_fd; /* borrowed */
	segments_dictionary_fn find_dictionary;
	void *find_arg;
	struct pool pools[POOL_COUNT];
	struct lock lock;
	/* under lock */
	struct open_list files; /* the most recently asked for first */
	unsigned file_count;
};

struct segments *segments_new(int dir_fd)
{
	struct segments *segments = aligned_alloc(_Alignof(struct segments), sizeof(*segments));

	if (!segments)
		return NULL;
	memset(segments, 0, sizeof(*segments));
	segments->dir_fd = dir_fd;
	lock_init(&segments->lock);
	for (unsigned i = 0; i < POOL_COUNT; i++)
		lock_init(&segments->pools[i].lock);
	TAILQ_INIT(&segments->files);
	return segments;
}

void segments_set_dictionaries(struct segments *segments, segments_dictionary_fn find, void *arg)
{
	segments->find_dictionary = find;
	segments->find_arg = arg;
}

static void open_file_unref(struct open_file *file)
{
	if (!file || atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
		return;
	close(file->fd);
	free(file);
}

static void scratch_free(struct scratch *scratch)
{
	if (!scratch)
		return;
	codec_free(scratch->codec);
	open_file_unref(scratch->file);
	free(scratch);
}

void segments_free(struct segments *segments)
{
	struct open_file *file;

	if (!segments)
		return;
	while ((file = TAILQ_FIRST(&segments->files))) {
		TAILQ_REMOVE(&segments->files, file, link);
		open_file_unref(file);
	}
	for (unsigned i = 0; i < POOL_COUNT; i++) {
		scratch_free(segments->pools[i].scratch);
		lock_release(&segments->pools[i].lock);
	}
	lock_release(&segments->lock);
	free(segments);
}

static struct open_file *files_find_locked(struct segments *segments, uint64_t id)
{
	struct open_file *file;

	TAILQ_FOREACH(file, &segments->files, link) {
		if (file->id != id)
			continue;
		TAILQ_REMOVE(&segments->files, file, link);
		TAILQ_INSERT_HEAD(&segments->files, file, link);
		atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
		return file;
	}
	return NULL;
}

static int file_open(struct segments *segments, uint64_t id, struct open_file **out)
{
	struct open_file *file;
	char name[SEGMENT_NAME_LEN];
	struct stat st;
	int rc = 0;
	int fd;

	segment_name(id, name);
	fd = openat(segments->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP ? -EBADMSG : -errno;
	if (fstat(fd, &st))
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -EBADMSG;
	else
		rc = segment_check(fd, id);
	file = rc ? NULL : calloc(1, sizeof(*file));
	if (!file) {
		close(fd);
		return rc == -ENOTSUP ? -EBADMSG : rc ? rc : -ENOMEM;
	}
	file->id = id;
	file->fd = fd;
	atomic_init(&file->refs, 1);
	*out = file;
	return 0;
}

/* Keeps `file` in the table unless another thread was quicker; returns what has to leave for it. */
static struct open_file *files_add_locked(struct segments *segments, struct open_file *file)
{
	struct open_file *old, *last = NULL;

	TAILQ_FOREACH(old, &segments->files, link)
		if (old->id == file->id)
			return NULL;
	atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
	TAILQ_INSERT_HEAD(&segments->files, file, link);
	if (++segments->file_count > OPEN_MAX_COUNT) {
		last = TAILQ_LAST(&segments->files, open_list);
		TAILQ_REMOVE(&segments->files, last, link);
		segments->file_count--;
	}
	return last;
}

static int file_get(struct segments *segments, uint64_t id, struct open_file **out)
{
	struct open_file *file, *gone;
	int rc;

	lock_take(&segments->lock);
	file = files_find_locked(segments, id);
	lock_give(&segments->lock);
	if (file) {
		*out = file;
		return 0;
	}
	rc = file_open(segments, id, &file);
	if (rc)
		return rc;
	lock_take(&segments->lock);
	gone = files_add_locked(segments, file);
	lock_give(&segments->lock);
	if (gone != file)
		open_file_unref(gone);
	*out = file;
	return 0;
}

/* Leaves `scratch` in the calling thread's pool, and returns what was there. */
static struct scratch *pool_swap(struct segments *segments, struct scratch *scratch)
{
	struct pool *pool = &segments->pools[thread_stripe(POOL_COUNT)];
	struct scratch *before;

	lock_take(&pool->lock);
	before = pool->scratch;
	pool->scratch = scratch;
	lock_give(&pool->lock);
	return before;
}

static struct scratch *scratch_get(struct segments *segments)
{
	struct scratch *scratch = pool_swap(segments, NULL);

	if (scratch)
		return scratch;
	scratch = malloc(sizeof(*scratch));
	if (!scratch)
		return NULL;
	scratch->file = NULL;
	scratch->codec = codec_new();
	if (!scratch->codec) {
		free(scratch);
		return NULL;
	}
	return scratch;
}

static void scratch_put(struct segments *segments, struct scratch *scratch)
{
	scratch_free(pool_swap(segments, scratch));
}

/* Makes scratch->file the file `id`. */
static int scratch_open(struct segments *segments, struct scratch *scratch, uint64_t id)
{
	struct open_file *file;
	int rc;

	if (scratch->file && scratch->file->id == id)
		return 0;
	rc = file_get(segments, id, &file);
	if (rc)
		return rc;
	open_file_unref(scratch->file);
	scratch->file = file;
	return 0;
}

/* ---- reading a record ---- */

static bool header_is_wanted(const struct record_header *h, const struct place *place,
			     const struct record_want *want)
{
	return h->type == want->type && oid_equal(&h->oid, &want->oid) &&
	       h->block_index == want->block_index && h->object_type == want->object_type &&
	       h->object_size == want->object_size && h->codec == (enum record_codec)place->codec &&
	       h->dictionary == place->dictionary && h->raw_len == place->raw_len &&
	       h->stored_len == place->stored_len;
}

/* Header and body in one call. */
static int read_parts(int fd, uint64_t off, uint8_t *header, uint8_t *body, size_t body_len)
{
	struct iovec parts[2] = { { header, RECORD_HEADER_LEN }, { body, body_len } };
	size_t len = RECORD_HEADER_LEN + body_len;
	ssize_t n;

	do
		n = preadv(fd, parts, 2, (off_t)off);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n == len)
		return 0;
	/* Cut short by a signal or by the end of the file: again, part by part. */
	n = segment_pread(fd, header, RECORD_HEADER_LEN, off);
	if (n != RECORD_HEADER_LEN)
		return n < 0 ? (int)n : -EBADMSG;
	n = segment_pread(fd, body, body_len, off + RECORD_HEADER_LEN);
	return n < 0 ? (int)n : (size_t)n == body_len ? 0 : -EBADMSG;
}

static int body_unpack(const struct segments *segments, struct scratch *scratch,
		       const struct record_header *header, const uint8_t *body, struct block *block,
		       const char **out_why)
{
	const struct codec_dictionary *dictionary = NULL;

	if (record_body_check(body, header->stored_len) != header->body_check) {
		*out_why = "its body does not check";
		return -EBADMSG;
	}
	if (header->codec == CODEC_RAW)
		return 0; /* was read in place */
	if (header->dictionary != 0 && segments->find_dictionary)
		dictionary = segments->find_dictionary(segments->find_arg, header->dictionary);
	if (header->dictionary != 0 && !dictionary) {
		*out_why = "its dictionary is not here";
		return -EBADMSG;
	}
	*out_why = "its body cannot be unpacked";
	return codec_unpack(scratch->codec, dictionary, body, header->stored_len, block->data,
			    header->raw_len);
}

static int record_read(const struct segments *segments, struct scratch *scratch, int fd,
		       const struct place *place, const struct record_want *want,
		       struct block *block, const char **out_why)
{
	uint8_t header_bytes[RECORD_HEADER_LEN];
	uint8_t *body = place->codec == CODEC_RAW ? block->data : scratch->body;
	struct record_header header;
	int rc = read_parts(fd, place->off, header_bytes, body, place->stored_len);

	*out_why = "it cannot be read";
	if (rc)
		return rc;
	*out_why = "its header does not check";
	if (record_header_decode(header_bytes, &header, NULL))
		return -EBADMSG;
	*out_why = "another record is in its place";
	if (!header_is_wanted(&header, place, want))
		return -EBADMSG;
	return body_unpack(segments, scratch, &header, body, block, out_why);
}

int segments_read(struct segments *segments, const struct place *place,
		  const struct record_want *want, struct block **out, const char **out_why)
{
	const char *why = "its file cannot be opened";
	struct scratch *scratch;
	struct block *block = NULL;
	int rc;

	if (!out_why)
		out_why = &why;
	*out_why = why;
	/* Before anything is allocated for it. */
	if (place->raw_len > RECORD_RAW_MAX || place->stored_len > place->raw_len ||
	    (place->codec == CODEC_RAW && place->stored_len != place->raw_len))
		return -EBADMSG;
	scratch = scratch_get(segments);
	if (!scratch)
		return -ENOMEM;
	rc = scratch_open(segments, scratch, place->segment);
	if (rc == 0 && !(block = block_new(place->raw_len)))
		rc = -ENOMEM;
	if (rc == 0)
		rc = record_read(segments, scratch, scratch->file->fd, place, want, block, out_why);
	scratch_put(segments, scratch);
	if (rc) {
		block_unref(block);
		return rc;
	}
	*out = block;
	return 0;
}

/* ---- walking ---- */

struct walk_end {
	uint64_t base, end;
};

static int note_end(void *arg, size_t off, const uint8_t *bytes, size_t len,
		    const struct record_header *header)
{
	struct walk_end *at = arg;

	if (record_body_check(bytes + RECORD_HEADER_LEN, header->stored_len) == header->body_check)
		at->end = at->base + off + len;
	return 0;
}

uint64_t segment_walk(int fd, uint64_t off, uint64_t file_len)
{
	struct walk_end at = { .end = off };
	uint8_t *chunk = malloc(WALK_LEN);

	while (chunk && off < file_len) {
		size_t done;
		ssize_t n;

		off = segment_skip_hole(fd, off, file_len);
		if (off >= file_len)
			break;
		at.base = off;
		n = segment_pread(fd, chunk, WALK_LEN, off);
		if (n <= 0)
			break;
		record_walk(chunk, (size_t)n, note_end, &at, &done);
		if (done == 0)
			break;
		off += done;
	}
	free(chunk);
	return at.end;
}

/* ---- writing ---- */

struct segment_writer {
	int fd; /* holds the flock */
	uint64_t id;
	uint64_t max_len;
	uint64_t tail;
};

static bool file_has_name(int fd, int dir_fd, const char *name)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dir_fd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* From the tail that the index knows, or from the first record on. */
static int tail_find(int fd, uint64_t id, const struct segment_tails *tails, uint64_t file_len,
		     uint64_t *out)
{
	uint64_t known, end;
	int rc = tails->get(tails->arg, id, &known);

	if (rc == -ESTALE)
		return rc;
	if (rc == 0) {
		if (known > file_len || known < SEGMENT_HEADER_LEN || known % 8 != 0)
			return -EBADMSG;
		end = segment_walk(fd, known, file_len);
	} else {
		end = segment_walk(fd, SEGMENT_HEADER_LEN, file_len);
	}
	if (file_len - end > TORN_MAX_LEN)
		return -EBADMSG;
	*out = end;
	return 0;
}

static int header_write(int fd, uint64_t id)
{
	struct segment_header header = { .id = id, .made_s = clock_wall_s() };
	uint8_t bytes[SEGMENT_HEADER_LEN];

	segment_header_encode(&header, bytes);
	return pwrite_full(fd, bytes, sizeof(bytes), 0);
}

/* A file whose maker died before it wrote the header is begun again. */
static int tail_prepare(int fd, uint64_t id, const struct segment_tails *tails, uint64_t *out)
{
	struct stat st;
	int rc;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size < SEGMENT_HEADER_LEN) {
		*out = SEGMENT_HEADER_LEN;
		return header_write(fd, id);
	}
	rc = segment_check(fd, id);
	if (rc == 0)
		rc = tail_find(fd, id, tails, (uint64_t)st.st_size, out);
	if (rc == 0 && *out < (uint64_t)st.st_size && ftruncate(fd, (off_t)*out))
		rc = -errno;
	return rc;
}

static int writer_adopt(int fd, uint64_t id, uint64_t tail, uint64_t max_len,
			struct segment_writer **out)
{
	struct segment_writer *writer = calloc(1, sizeof(*writer));

	if (!writer)
		return -ENOMEM;
	writer->fd = fd;
	writer->id = id;
	writer->tail = tail;
	writer->max_len = max_len;
	*out = writer;
	return 0;
}

static bool file_is_candidate(int dir_fd, const char *name, uint64_t max_len)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size < max_len;
}

/* Any failure means: not this one. */
static int writer_take_over(int dir_fd, const char *name, uint64_t max_len,
			    const struct segment_tails *tails, struct segment_writer **out)
{
	uint64_t id, tail = 0;
	int rc;
	int fd;

	if (segment_name_parse(name, &id) || !file_is_candidate(dir_fd, name, max_len))
		return -EINVAL;
	fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	rc = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
	if (rc == 0 && !file_has_name(fd, dir_fd, name))
		rc = -ESTALE;
	if (rc == 0)
		rc = tail_prepare(fd, id, tails, &tail);
	if (rc == 0 && tail >= max_len)
		rc = -EFBIG;
	if (rc == 0)
		rc = writer_adopt(fd, id, tail, max_len, out);
	if (rc)
		close(fd);
	return rc;
}

static DIR *dir_open(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

/* The newest file below `limit`; false when there is none. */
static bool newest_below(int dir_fd, uint64_t limit, uint64_t *out)
{
	DIR *dir = dir_open(dir_fd);
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		uint64_t id;

		if (segment_name_parse(entry->d_name, &id) || id >= limit || (found && id <= *out))
			continue;
		*out = id;
		found = true;
	}
	closedir(dir);
	return found;
}

/*
 * The newest ones only: what is older is sooner given up, and would take what is written into it
 * along.
 */
static bool writer_find_free(int dir_fd, uint64_t max_len, const struct segment_tails *tails,
			     struct segment_writer **out)
{
	uint64_t id = UINT64_MAX;

	for (unsigned i = 0; i < TAKE_MAX_COUNT && newest_below(dir_fd, id, &id); i++) {
		char name[SEGMENT_NAME_LEN];

		segment_name(id, name);
		if (writer_take_over(dir_fd, name, max_len, tails, out) == 0)
			return true;
	}
	return false;
}

static bool file_is_new(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size == 0 && st.st_nlink > 0;
}

static int writer_make(int dir_fd, uint64_t max_len, struct segment_writer **out)
{
	uint64_t id = segment_id_new();
	char name[SEGMENT_NAME_LEN];
	int rc;
	int fd;

	segment_name(id, name);
	fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/*
	 * Somebody who looks for a free one, or for one to give up, may be quicker: then it is
	 * theirs, or was, and is full by now or gone.
	 */
	rc = flock(fd, LOCK_EX | LOCK_NB) || !file_is_new(fd) ? -EEXIST : 0;
	if (rc == 0) {
		rc = header_write(fd, id);
		if (rc == 0)
			rc = writer_adopt(fd, id, SEGMENT_HEADER_LEN, max_len, out);
		if (rc)
			unlinkat(dir_fd, name, 0);
	}
	if (rc)
		close(fd);
	return rc;
}

int segment_writer_open(int dir_fd, uint64_t max_len, const struct segment_tails *tails,
			struct segment_writer **out, struct xcp_error *err)
{
	int rc = -EEXIST;

	if (writer_find_free(dir_fd, max_len, tails, out))
		return 0;
	for (unsigned tries = 0; tries < 8 && rc == -EEXIST; tries++)
		rc = writer_make(dir_fd, max_len, out);
	if (rc)
		return xcp_error_set(err, rc, "cannot make a segment of the cache: %s",
				     strerror(-rc));
	return 0;
}

void segment_writer_close(struct segment_writer **writer)
{
	if (!*writer)
		return;
	close((*writer)->fd);
	free(*writer);
	*writer = NULL;
}

uint64_t segment_writer_id(const struct segment_writer *writer)
{
	return writer->id;
}

uint64_t segment_writer_tail(const struct segment_writer *writer)
{
	return writer->tail;
}

bool segment_writer_has_room(const struct segment_writer *writer, uint64_t len)
{
	/* An empty one takes anything, or a batch longer than a segment would never find room. */
	if (writer->tail == SEGMENT_HEADER_LEN)
		return true;
	return writer->tail < writer->max_len && len <= writer->max_len - writer->tail;
}

bool segment_writer_is_linked(const struct segment_writer *writer)
{
	struct stat st;

	return fstat(writer->fd, &st) == 0 && st.st_nlink > 0;
}

int segment_append(struct segment_writer *writer, const void *records, size_t len,
		   struct xcp_error *err)
{
	int rc = pwrite_full(writer->fd, records, len, writer->tail);

	if (rc) {
		segment_rewind(writer, writer->tail);
		return xcp_error_set(err, rc, "cannot write to a segment of the cache: %s",
				     strerror(-rc));
	}
	writer->tail += len;
	return 0;
}

void segment_rewind(struct segment_writer *writer, uint64_t tail)
{
	/* What cannot be cut off is walked over, or cut off, by the next one who takes the file. */
	if (ftruncate(writer->fd, (off_t)tail) == 0 || tail < writer->tail)
		writer->tail = tail;
}

int segment_writer_sync(const struct segment_writer *writer)
{
	return fdatasync(writer->fd) ? -errno : 0;
}

void segment_writer_push(struct segment_writer *writer)
{
	sync_file_range(writer->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* ---- giving back ---- */

bool segment_punch(int fd, uint64_t from, uint64_t to)
{
	if (from < SEGMENT_HEADER_LEN)
		from = SEGMENT_HEADER_LEN;
	if (from >= to)
		return true;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			 (off_t)(to - from)) == 0;
}

static int place_order(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static void punch_named(int segments_fd, uint64_t segment, uint64_t from, uint64_t to)
{
	char name[SEGMENT_NAME_LEN];
	int fd;

	segment_name(segment, name);
	fd = openat(segments_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	segment_punch(fd, from, to);
	close(fd);
}

void segments_give_back(int segments_fd, struct place *places, size_t count)
{
	size_t next;

	if (count > 0)
		qsort(places, count, sizeof(*places), place_order);
	for (size_t i = 0; i < count; i = next) {
		uint64_t to = places[i].off;

		for (next = i; next < count && places[next].segment == places[i].segment &&
			       places[next].off == to;
		     next++)
			to += record_len(places[next].stored_len);
		punch_named(segments_fd, places[i].segment, places[i].off, to);
	}
}
