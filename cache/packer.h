/*
 * packer: how the writer packs: how hard it tries, with which dictionaries, and what it learns for
 * the next ones.
 *
 *	packer_init ---> packer_choose (when a store was opened) ---> packer_pack ... ---> packer_release
 *
 * Threads: the writer's.
 */
#ifndef CACHE_PACKER_H
#define CACHE_PACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/oid.h"
#include "cache/codec.h"
#include "cache/dictionary.h"
#include "cache/record.h"

struct packer {
	struct codec *codec;
	struct trainer *trainer;
	struct codec_dictionary *dictionaries[DICTIONARY_KIND_COUNT]; /* in use; NULL: none */
	enum codec_effort effort;
	bool poor; /* something could be packed better, with more time; the caller's to clear */
	/* blocks in a row of one large file that did not shrink */
	struct oid noisy;
	unsigned noisy_count;
	/* of the time that packing took since packer_begin() it had a processor */
	uint64_t began_ns, began_cpu_ns;
	bool crowded;
};

int packer_init(struct packer *packer); /* -ENOMEM; release also then */
void packer_release(struct packer *packer);

/* The dictionaries of a directory, made by others or by this process before. */
void packer_choose(struct packer *packer, struct dictionaries *dictionaries);
void packer_forget(struct packer *packer);

/*
 * Before a batch, of which `waiting` of at most `room` bytes wait behind it, and after it. Who has to
 * wait for room must not wait for small sizes; and where all processors are busy with something
 * else, that must not wait, either.
 */
void packer_begin(struct packer *packer, size_t waiting, size_t room, bool hurry);
void packer_end(struct packer *packer);

/* `out` has codec_bound(len) bytes. Fills in the header's codec and dictionary. */
void packer_pack(struct packer *packer, struct record_header *header, const uint8_t *raw,
		 size_t len, uint8_t *out, size_t *out_len);

#endif
