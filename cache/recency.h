/*
 * recency: which records were read since the hand last came by (hand.h). One bit for each of some
 * groups of records, chosen by hash: two that share a bit are taken for read when one was, which
 * costs a little room and nothing else.
 *
 * A read sets a bit in memory and writes nothing. From time to time the bits go to a file that all
 * processes on the directory share, so that who makes room spares what others read, too:
 *
 *	DIR/v1/recency	"xcpfsREC", version (LE32), bits (LE32), zeros up to 64 bytes; then the bits
 *
 *	recency_new ---> recency_touch (readers) ... recency_publish (writer) ---> recency_free
 *
 * A file that is lost, damaged or of another version only means that nothing was read lately.
 *
 * Threads: recency_touch() any; the others belong to the writer.
 */
#ifndef CACHE_RECENCY_H
#define CACHE_RECENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/oid.h"

#define RECENCY_BITS (1u << 21)
#define RECENCY_HEADER_LEN 64

struct recency;

struct recency *recency_new(void); /* NULL when out of memory */
void recency_free(struct recency *recency);

/* A record was read. `block` is 0 for whole objects. */
void recency_touch(struct recency *recency, const struct oid *oid, uint32_t block);

/* Adds what this process read to the file in the directory. Failures do not matter. */
void recency_publish(struct recency *recency, int dir_fd);
bool recency_is_dirty(const struct recency *recency); /* something to publish */

/* Before recency_was_read(): takes in what all processes published. */
void recency_load(struct recency *recency, int dir_fd);
bool recency_was_read(const struct recency *recency, const struct oid *oid, uint32_t block);
/* The hand has come by. */
void recency_forget(struct recency *recency, const struct oid *oid, uint32_t block);
/* What was forgotten since recency_load() is forgotten in the file, too. */
void recency_store(struct recency *recency, int dir_fd);

#endif
