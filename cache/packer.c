/*
 * packer: see the header. That it is crowded is remembered for one batch; there are many.
 */
#include "cache/packer.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int packer_init(struct packer *packer)
{
	*packer = (struct packer){ .codec = codec_new(), .trainer = trainer_new() };
	return packer->codec && packer->trainer ? 0 : -ENOMEM;
}

void packer_release(struct packer *packer)
{
	packer_forget(packer);
	codec_free(packer->codec);
	trainer_free(packer->trainer);
}

void packer_forget(struct packer *packer)
{
	for (unsigned kind = 0; kind < DICTIONARY_KIND_COUNT; kind++) {
		codec_dictionary_free(packer->dictionaries[kind]);
		packer->dictionaries[kind] = NULL;
	}
}

void packer_choose(struct packer *packer, struct dictionaries *dictionaries)
{
	for (enum dictionary_kind kind = 0; kind < DICTIONARY_KIND_COUNT; kind++) {
		unsigned count;
		uint32_t id = dictionaries_newest(dictionaries, kind, &count);

		codec_dictionary_free(packer->dictionaries[kind]);
		packer->dictionaries[kind] = id ? dictionaries_get_to_pack(dictionaries, id) : NULL;
		if (packer->dictionaries[kind] || count >= DICTIONARY_MAX_COUNT)
			trainer_settle(packer->trainer, kind);
		else
			trainer_unsettle(packer->trainer, kind);
	}
}

/* ---- how hard ---- */

void packer_begin(struct packer *packer, size_t waiting, size_t room, bool hurry)
{
	if (hurry || packer->crowded || waiting > room / 3 * 2)
		packer->effort = CODEC_FAST;
	else
		packer->effort = waiting > room / 3 ? CODEC_MEDIUM : CODEC_SMALL;
	packer->began_ns = clock_ns();
	packer->began_cpu_ns = cpu_ns();
}

void packer_end(struct packer *packer)
{
	uint64_t took_ns = clock_ns() - packer->began_ns;

	packer->crowded = cpu_ns() - packer->began_cpu_ns < took_ns / 4 * 3;
}

/* ---- one body ---- */

/*
 * A file whose last blocks did not shrink is tried again now and then only: on a fast line trying is
 * what takes longest.
 */
#define NOISY_COUNT 8
#define NOISY_TRY 16

static bool is_noisy(const struct packer *packer, const struct record_header *header)
{
	return header->type == RECORD_BLOCK && packer->noisy_count >= NOISY_COUNT &&
	       header->block_index % NOISY_TRY && oid_equal(&packer->noisy, &header->oid);
}

static void note_noise(struct packer *packer, const struct record_header *header)
{
	if (header->type != RECORD_BLOCK)
		return;
	if (header->codec != CODEC_RAW || !oid_equal(&packer->noisy, &header->oid))
		packer->noisy_count = 0;
	packer->noisy = header->oid;
	packer->noisy_count += header->codec == CODEC_RAW;
}

void packer_pack(struct packer *packer, struct record_header *header, const uint8_t *raw,
		 size_t len, uint8_t *out, size_t *out_len)
{
	enum dictionary_kind kind = header->type == RECORD_OBJECT ?
					    dictionary_kind_of(header->object_type, len) :
					    DICTIONARY_NONE;
	struct codec_dictionary *dictionary = kind == DICTIONARY_NONE ? NULL :
									packer->dictionaries[kind];
	size_t without;

	header->dictionary = 0;
	if (is_noisy(packer, header)) {
		header->codec = CODEC_RAW;
		memcpy(out, raw, len);
		*out_len = len;
		return;
	}
	if (dictionary && !codec_dictionary_ready(dictionary, packer->effort))
		dictionary = NULL;
	if (kind != DICTIONARY_NONE)
		trainer_offer(packer->trainer, kind, raw, len);
	if (dictionary && trainer_wants_comparison(packer->trainer, kind)) {
		codec_pack(packer->codec, packer->effort, NULL, raw, len, out, &without);
		header->codec = codec_pack(packer->codec, packer->effort, dictionary, raw, len, out,
					   out_len);
		trainer_compare(packer->trainer, kind, *out_len, without);
	} else {
		header->codec = codec_pack(packer->codec, packer->effort, dictionary, raw, len, out,
					   out_len);
	}
	note_noise(packer, header);
	if (dictionary && header->codec == CODEC_ZSTD)
		header->dictionary = codec_dictionary_id(dictionary);
	packer->poor |= header->codec == CODEC_ZSTD &&
			(packer->effort < CODEC_SMALL || (kind != DICTIONARY_NONE && !dictionary));
}
