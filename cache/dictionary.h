/*
 * dictionary: the dictionaries of a cache directory. They lie in the segments, as records that are
 * never given up, and every record that was packed with one names it.
 *
 *	dictionaries_new ---> dictionaries_get ... ---> dictionaries_free
 *
 * The writer has one for each kind of content, once there is one, and the next process goes on with
 * the newest:
 *
 *	trainer_new ---> trainer_offer (what is being packed) ... ---> trainer_take: a new one
 *	                        \-> a thread of its own trains, at the lowest priority
 *	---> trainer_free
 *
 * A dictionary has to pay: what it saves on samples that it was not made from must be worth it,
 * else there is none until much more was seen. Later, now and then, one content is packed without
 * it, too, and when the difference is gone it is time for another.
 *
 * Threads: dictionaries_get() any; the others belong to the writer.
 */
#ifndef CACHE_DICTIONARY_H
#define CACHE_DICTIONARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/content.h"
#include "cache/codec.h"
#include "cache/index.h"

/* Of one directory at most: each stays for ever. */
#define DICTIONARY_MAX_COUNT 16
#define DICTIONARY_MAX_LEN ((size_t)64 * 1024)
/* Larger contents have enough in common with themselves. */
#define DICTIONARY_SAMPLE_MAX_LEN ((size_t)64 * 1024)

/* ---- those there are ---- */

struct segments;
struct dictionaries;

/* Borrows both. NULL when out of memory. */
struct dictionaries *dictionaries_new(struct index *index, struct segments *segments);
void dictionaries_free(struct dictionaries *dictionaries);

/* Good as long as `dictionaries`. NULL: it is not here, or bad. */
const struct codec_dictionary *dictionaries_get(struct dictionaries *dictionaries, uint32_t id);

/* One to pack with, too; the caller frees it. NULL as above. */
struct codec_dictionary *dictionaries_get_to_pack(struct dictionaries *dictionaries, uint32_t id);

/* What is alike enough to share one. */
enum dictionary_kind { DICTIONARY_BLOB, DICTIONARY_TREE, DICTIONARY_KIND_COUNT, DICTIONARY_NONE };
enum dictionary_kind dictionary_kind_of(enum object_type type, size_t len);
enum object_type dictionary_type(enum dictionary_kind kind);

/* The newest of a kind, 0: none; and how many there are of all kinds. */
uint32_t dictionaries_newest(struct dictionaries *dictionaries, enum dictionary_kind kind,
			     unsigned *out_count);

/* ---- making them ---- */

struct trainer;

struct trainer *trainer_new(void);	    /* NULL when out of memory */
void trainer_free(struct trainer *trainer); /* waits for what is being trained: a second at most */

/* A content that is being packed; copied while samples are wanted. */
void trainer_offer(struct trainer *trainer, enum dictionary_kind kind, const void *bytes,
		   size_t len);
/* The same content came to so many bytes with and without the dictionary in use. */
void trainer_compare(struct trainer *trainer, enum dictionary_kind kind, size_t with,
		     size_t without);
/* Now is a time to compare. */
bool trainer_wants_comparison(struct trainer *trainer, enum dictionary_kind kind);

/* There is one, or there can be none: nothing need be trained; or the one there was is gone. */
void trainer_settle(struct trainer *trainer, enum dictionary_kind kind);
void trainer_unsettle(struct trainer *trainer, enum dictionary_kind kind);

/* Adds a dictionary that has come out to `out`; false when there is none. */
bool trainer_take(struct trainer *trainer, enum dictionary_kind kind, struct buf *out);

/* Its number: from its bytes. */
uint32_t dictionary_id_of(const void *bytes, size_t len);

#endif
