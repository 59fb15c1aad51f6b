/*
 * codec: a stretch of an object <-> its stored form, a zstd frame or the bytes themselves.
 *
 *	codec_new ---> codec_pack / codec_unpack ... ---> codec_free
 *
 * Threads: a codec belongs to one thread at a time; make as many as there are threads.
 */
#ifndef CACHE_CODEC_H
#define CACHE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/record.h"

struct codec;

struct codec *codec_new(void); /* NULL when out of memory; contexts are made when first used */
void codec_free(struct codec *codec);

/*
 * ---- dictionaries: what many small contents have in common, so that none has to say it ----
 */

struct codec_dictionary;

/* To unpack with. Copies. NULL when out of memory. Any thread may use it afterwards. */
struct codec_dictionary *codec_dictionary_new(uint32_t id, const void *bytes, size_t len);
/* To pack with, too, by its owner alone: the same bytes again. -ENOMEM. */
int codec_dictionary_prepare(struct codec_dictionary *dictionary, const void *bytes, size_t len);
void codec_dictionary_free(struct codec_dictionary *dictionary);
uint32_t codec_dictionary_id(const struct codec_dictionary *dictionary);

/*
 * Makes a dictionary of at most cap bytes from samples that lie one behind the other. 0 when they
 * have nothing in common; takes a second of the processor, or a good part of it.
 */
size_t codec_train(const void *samples, const size_t *lens, unsigned count, void *out, size_t cap);

/* Room that codec_pack() wants for `len` bytes. */
size_t codec_bound(size_t len);

/* How hard to try, by how much waits to be packed; CODEC_IDLE: nothing does. */
enum codec_effort { CODEC_FAST, CODEC_MEDIUM, CODEC_SMALL, CODEC_IDLE, CODEC_EFFORT_COUNT };

/*
 * Before it is packed with, at every effort; makes tables the first time. False: out of memory, pack
 * without.
 */
bool codec_dictionary_ready(struct codec_dictionary *dictionary, enum codec_effort effort);

/*
 * Writes the stored form of src to dst (which has codec_bound(len) bytes) and says which one it
 * is: raw when the frame would not be smaller. `dictionary`, one that is ready, may be NULL. Never
 * fails: what cannot be compressed is raw.
 */
enum record_codec codec_pack(struct codec *codec, enum codec_effort effort,
			     const struct codec_dictionary *dictionary, const void *src, size_t len,
			     uint8_t *dst, size_t *out_len);

/*
 * Unpacks exactly raw_len bytes, with the dictionary they were packed with, or NULL. -EBADMSG when the frame is damaged or holds another number of
 * bytes.
 */
int codec_unpack(struct codec *codec, const struct codec_dictionary *dictionary, const void *src,
		 size_t len, uint8_t *dst, size_t raw_len);

#endif
