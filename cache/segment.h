/*
 * segment: the append-only files that hold the records (their bytes: record.h).
 *
 *	segments/0123456789abcdef	named by id; ids are time and chance, and never used twice
 *
 * Writing: one process appends to a file, the one that holds its flock; every process has at
 * most one in use. A file that nobody holds and that is not full is taken over, so that many
 * short processes do not leave many files.
 *
 *	segment_writer_open ---> segment_append ... (segment_rewind) ---> segment_writer_close
 *
 * Reading: with pread only, never mmap: a file that was cut short must not be a SIGBUS. Nothing
 * is believed: the header must be the one that was asked for, the body must check before it is
 * unpacked.
 *
 *	segments_new ---> segments_read ... ---> segments_free
 *
 * Threads: struct segments any; a struct segment_writer belongs to one thread.
 */
#ifndef CACHE_SEGMENT_H
#define CACHE_SEGMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/block.h"
#include "base/error.h"
#include "base/oid.h"
#include "cache/index.h"
#include "cache/record.h"

/* ---- reading ---- */

struct codec_dictionary;
struct segments;

/* Borrows the directory's descriptor until segments_free(). NULL when out of memory. */
struct segments *segments_new(int dir_fd);
void segments_free(struct segments *segments);

/* Who has the dictionaries that records name; before any thread reads. NULL from it: not here. */
typedef const struct codec_dictionary *(*segments_dictionary_fn)(void *arg, uint32_t id);
void segments_set_dictionaries(struct segments *segments, segments_dictionary_fn find, void *arg);

/* What a record must be for. */
struct record_want {
	struct oid oid;
	uint32_t block_index;
	enum record_type type;
	enum object_type object_type;
	uint64_t object_size;
};

/*
 * Reads and unpacks one record. -EBADMSG: the record or the file is not what it should be
 * (damaged, cut short, another key), -ENOENT: there is no such file; other errors say nothing
 * about the record. `out_why` (may be NULL) then names the reason.
 */
int segments_read(struct segments *segments, const struct place *place,
		  const struct record_want *want, struct block **out, const char **out_why);

/* ---- writing ---- */

struct segment_writer;

/*
 * Takes over a free segment, the newest first, or makes one. `tails` tells from where on a taken
 * file has to be looked at (index_get_segment() in practice), -ESTALE for one that is being given
 * up; records behind the tail are walked, and what is torn at the end is cut off. Returns -errno
 * with the reason.
 */
struct segment_tails {
	int (*get)(void *arg, uint64_t segment, uint64_t *out);
	void *arg;
};
int segment_writer_open(int dir_fd, uint64_t max_len, const struct segment_tails *tails,
			struct segment_writer **out, struct xcp_error *err);
void segment_writer_close(struct segment_writer **writer);

uint64_t segment_writer_id(const struct segment_writer *writer);
uint64_t segment_writer_tail(const struct segment_writer *writer); /* where the next record goes */
bool segment_writer_has_room(const struct segment_writer *writer, uint64_t len);
bool segment_writer_is_linked(const struct segment_writer *writer); /* its file still has a name */

/* Appends whole records. On failure the file is as before, as far as can be done. */
int segment_append(struct segment_writer *writer, const void *records, size_t len,
		   struct xcp_error *err);

/* Takes back what was appended since the tail was at `tail`. */
void segment_rewind(struct segment_writer *writer, uint64_t tail);

/* What was appended is on stable storage. 0 or -errno. */
int segment_writer_sync(const struct segment_writer *writer);

/* Starts writing the file back to disk, without waiting. */
void segment_writer_push(struct segment_writer *writer);

/*
 * Walks records from `off` to the end of the file, past holes and what is damaged. Returns where the
 * last good one ends.
 */
uint64_t segment_walk(int fd, uint64_t off, uint64_t file_len);

/* ---- parts for those who look at whole files ---- */

/* 0 when the file is a sound segment with this id; -EBADMSG, -ENOTSUP or what reading says. */
int segment_check(int fd, uint64_t id);
/* Bytes read, fewer only at the end of the file; or -errno. */
ssize_t segment_pread(int fd, void *data, size_t len, uint64_t off);
/* `off`, or where there is something again when it lies in a hole; file_len when there is not. */
uint64_t segment_skip_hole(int fd, uint64_t off, uint64_t file_len);

/*
 * Gives [from, to) of a segment back to the file system, as whole pages, and makes the rest zeros:
 * what were bytes of a file must never be taken for a record. Not the segment's header. False with
 * errno where that cannot be.
 */
#define SEGMENT_PAGE_LEN 4096u
bool segment_punch(int fd, uint64_t from, uint64_t to);
/* The same of records that nobody needs any more, neighbours together; sorts `places`. */
void segments_give_back(int segments_fd, struct place *places, size_t count);

#define SEGMENT_NAME_LEN 17
void segment_name(uint64_t id, char out[SEGMENT_NAME_LEN]);
int segment_name_parse(const char *name, uint64_t *out); /* -EINVAL when it is none */

#endif
