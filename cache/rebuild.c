/*
 * rebuild: a list of segments, and of the large objects of which blocks were found: whether one is
 * whole is known at the end.
 */
#include "cache/rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, key_len, out) (out) = (unsigned)XXH3_64bits(key, key_len)
#include <uthash.h>
#include <xxhash.h>

#include "base/clock.h"

#define CHUNK_LEN ((size_t)1024 * 1024)
#define LARGES_AT_ONCE 64

struct large {
	UT_hash_handle hh;
	struct oid oid;
	enum object_type type;
	uint64_t size;
};

struct rebuild {
	uint64_t *segments; /* ids, the newest last */
	size_t segment_count;
	struct large *larges; /* hash table */
	struct rebuild_progress progress;
	struct index_op *ops;
	size_t op_count, op_cap;
	int64_t now_s;
	uint8_t chunk[CHUNK_LEN];
};

/* ---- which ---- */

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int segment_add(struct rebuild *rebuild, uint64_t id)
{
	size_t count = rebuild->segment_count;
	uint64_t *ids;

	if ((count & (count - 1)) == 0) {
		ids = realloc(rebuild->segments, (count ? count * 2 : 1) * sizeof(*ids));
		if (!ids)
			return -ENOMEM;
		rebuild->segments = ids;
	}
	rebuild->segments[rebuild->segment_count++] = id;
	return 0;
}

/* How far the index knows it; what it does not know at all, from the first record on. */
static uint64_t known_up_to(const struct store *store, uint64_t id)
{
	struct index_segment known = { .tail = 0 };

	index_get_segment(store->index, id, &known);
	return known.tail < SEGMENT_HEADER_LEN ? SEGMENT_HEADER_LEN : known.tail;
}

static int segments_find(struct rebuild *rebuild, const struct store *store)
{
	DIR *dir = dir_open(store->v1_fd, "segments");
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return 0;
	while (rc == 0 && (entry = readdir(dir))) {
		uint64_t id, known;
		struct stat st;

		if (segment_name_parse(entry->d_name, &id) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISREG(st.st_mode))
			continue;
		known = known_up_to(store, id);
		if ((uint64_t)st.st_size <= known)
			continue;
		rebuild->progress.total_bytes += (uint64_t)st.st_size - known;
		rc = segment_add(rebuild, id);
	}
	closedir(dir);
	if (rebuild->segment_count > 1)
		qsort(rebuild->segments, rebuild->segment_count, sizeof(uint64_t), by_id);
	return rc;
}

struct rebuild *rebuild_new(const struct store *store)
{
	struct rebuild *rebuild = calloc(1, sizeof(*rebuild));

	if (!rebuild)
		return NULL;
	rebuild->now_s = clock_wall_s();
	if (segments_find(rebuild, store) == 0)
		return rebuild;
	rebuild_free(rebuild);
	return NULL;
}

void rebuild_free(struct rebuild *rebuild)
{
	struct large *large, *next;

	if (!rebuild)
		return;
	HASH_ITER(hh, rebuild->larges, large, next) {
		HASH_DELETE(hh, rebuild->larges, large);
		free(large);
	}
	free(rebuild->segments);
	free(rebuild->ops);
	free(rebuild);
}

void rebuild_progress(const struct rebuild *rebuild, struct rebuild_progress *out)
{
	*out = rebuild->progress;
}

/* ---- a record ---- */

static struct index_op *op_new(struct rebuild *rebuild, enum index_op_kind kind)
{
	struct index_op *op;

	if (rebuild->op_count == rebuild->op_cap) {
		size_t cap = rebuild->op_cap ? rebuild->op_cap * 2 : 256;
		struct index_op *ops = realloc(rebuild->ops, cap * sizeof(*ops));

		if (!ops)
			return NULL;
		rebuild->ops = ops;
		rebuild->op_cap = cap;
	}
	op = &rebuild->ops[rebuild->op_count++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	return op;
}

static int large_add(struct rebuild *rebuild, const struct record_header *header)
{
	struct large *large;

	HASH_FIND(hh, rebuild->larges, &header->oid, sizeof(header->oid), large);
	if (large)
		return 0;
	large = calloc(1, sizeof(*large));
	if (!large)
		return -ENOMEM;
	large->oid = header->oid;
	large->type = header->object_type;
	large->size = header->object_size;
	HASH_ADD(hh, rebuild->larges, oid, sizeof(large->oid), large);
	if (large->hh.tbl)
		return 0;
	free(large);
	return -ENOMEM;
}

struct chunk {
	struct rebuild *rebuild;
	uint64_t segment, base;
};

static int record_found(void *arg, size_t off, const uint8_t *bytes, size_t len,
			const struct record_header *header)
{
	struct chunk *chunk = arg;
	struct rebuild *rebuild = chunk->rebuild;
	struct index_op *op;

	(void)len;
	if (record_body_check(bytes + RECORD_HEADER_LEN, header->stored_len) !=
	    header->body_check) {
		rebuild->progress.bad++;
		return 0;
	}
	op = op_new(rebuild, OP_FOUND);
	if (!op)
		return -ENOMEM;
	op->oid = header->oid;
	op->block = header->block_index;
	op->whole = header->type != RECORD_BLOCK;
	op->place = (struct place){ .segment = chunk->segment,
				    .off = chunk->base + off,
				    .stored_len = header->stored_len,
				    .raw_len = header->raw_len,
				    .dictionary = header->dictionary,
				    .codec = (uint8_t)header->codec };
	op->object = (struct index_object){ .type = header->object_type,
					    .pinned = header->type == RECORD_DICTIONARY,
					    .size = header->object_size,
					    .time_s = rebuild->now_s };
	rebuild->progress.records++;
	return op->whole ? 0 : large_add(rebuild, header);
}

/* ---- a step ---- */

static int segment_open(const struct store *store, uint64_t id, uint64_t *out_len)
{
	char name[SEGMENT_NAME_LEN];
	struct stat st;
	int fd;

	segment_name(id, name);
	fd = openat(store->segments_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return fd;
	if (segment_check(fd, id) == 0 && fstat(fd, &st) == 0) {
		*out_len = (uint64_t)st.st_size;
		return fd;
	}
	close(fd);
	return -1;
}

static int tail_add(struct rebuild *rebuild, uint64_t id, uint64_t tail)
{
	struct index_op *op = op_new(rebuild, OP_TAIL);

	if (!op)
		return -ENOMEM;
	op->place = (struct place){ .segment = id, .off = tail };
	return 0;
}

/* What a chunk of the newest segment holds; when that was its last, it leaves the list. */
static int chunk_take(struct rebuild *rebuild, const struct store *store)
{
	uint64_t id = rebuild->segments[rebuild->segment_count - 1], off, file_len;
	struct chunk chunk = { .rebuild = rebuild, .segment = id };
	int fd = segment_open(store, id, &file_len);
	size_t done = 0;
	ssize_t n = 0;
	int rc;

	if (fd < 0) {
		rebuild->segment_count--;
		return 0;
	}
	off = known_up_to(store, id);
	chunk.base = segment_skip_hole(fd, off, file_len);
	if (chunk.base < file_len)
		n = segment_pread(fd, rebuild->chunk, CHUNK_LEN, chunk.base);
	close(fd);
	rc = record_walk(rebuild->chunk, n > 0 ? (size_t)n : 0, record_found, &chunk, &done);
	if (rc)
		return rc;
	/* Short: the end of the file, or what cannot be read. */
	if (n < (ssize_t)CHUNK_LEN) {
		rebuild->segment_count--;
		rebuild->progress.done_bytes += file_len > off ? file_len - off : 0;
		return n < 0 ? 0 : tail_add(rebuild, id, chunk.base + done);
	}
	rebuild->progress.done_bytes += chunk.base + done - off;
	return tail_add(rebuild, id, chunk.base + done);
}

/* Whether they are whole is looked up when it is applied. */
static int larges_take(struct rebuild *rebuild)
{
	struct large *large;

	while ((large = rebuild->larges) && rebuild->op_count < LARGES_AT_ONCE) {
		struct index_op *op = op_new(rebuild, OP_FOUND_ALL);

		if (!op)
			return -ENOMEM;
		/* The analyzer takes the next one for the one that was freed. */
		op->oid = large->oid; /* NOLINT(clang-analyzer-unix.Malloc) */
		op->object = (struct index_object){ .type = large->type,
						    .size = large->size,
						    .time_s = rebuild->now_s };
		HASH_DELETE(hh, rebuild->larges, large);
		free(large);
	}
	return 0;
}

int rebuild_step(struct rebuild *rebuild, const struct store *store, struct xcp_error *err)
{
	int rc = 0;

	rebuild->op_count = 0;
	if (rebuild->segment_count > 0)
		rc = chunk_take(rebuild, store);
	else if (rebuild->larges)
		rc = larges_take(rebuild);
	if (rc)
		return xcp_error_set(err, rc, "cannot rebuild the cache index: out of memory");
	if (rebuild->op_count > 0)
		rc = index_apply(store->index, rebuild->ops, rebuild->op_count, err);
	if (rc)
		return rc;
	return rebuild->segment_count > 0 || rebuild->larges;
}
