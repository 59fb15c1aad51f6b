/*
 * codec: a stretch of an object <-> its stored form, a zstd frame or the bytes themselves.
 *
 *	codec_new ---> codec_pack / codec_unpack ... ---> codec_free
 *
 * Threads: a codec belongs to one thread at a time; make as many as there are threads.
 */
#ifndef CACHE_CODEC_H
#define CACHE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "cache/record.h"

struct codec;

struct codec *codec_new(void); /* NULL when out of memory; contexts are made when first used */
void codec_free(struct codec *codec);

/* Room that codec_pack() wants for `len` bytes. */
size_t codec_bound(size_t len);

/*
 * Writes the stored form of src to dst (which has codec_bound(len) bytes) and says which one it
 * is: raw when the frame would not be smaller. Never fails: what cannot be compressed is raw.
 */
enum record_codec codec_pack(struct codec *codec, const void *src, size_t len, uint8_t *dst,
			     size_t *out_len);

/*
 * Unpacks exactly raw_len bytes. -EBADMSG when the frame is damaged or holds another number of
 * bytes.
 */
int codec_unpack(struct codec *codec, const void *src, size_t len, uint8_t *dst, size_t raw_len);

#endif
