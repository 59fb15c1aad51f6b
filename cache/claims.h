/*
 * claims: who fetches what, among the processes on a cache directory, so that two of them do not
 * fetch the same thing at the same time.
 *
 *	DIR/v1/claims	empty; a byte of it that is locked is a claim of what hashes to it, the
 *			first one (read-locked) says that there is somebody
 *
 * The blocks of an object in the making lie behind each other, so that a run of them is one lock.
 *
 * Locks of the open file description: they end with the process, however that ends. They only save
 * bytes: who finds a thing claimed waits for a while and then fetches it himself, and two things
 * that hash to the same byte are fetched one after the other.
 *
 *	claims_open ---> claims_take/give ... ---> claims_unref
 *
 * Threads: any.
 */
#ifndef CACHE_CLAIMS_H
#define CACHE_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/oid.h"

struct claims;

/*
 * What of it is fetched: itself, all that is below it, its size with those of what follows it, or
 * some of its blocks. A seed of the hash.
 */
enum claim_kind { CLAIM_OBJECT, CLAIM_BELOW, CLAIM_SIZES, CLAIM_BLOCKS };

/* NULL when it cannot be: then everything is free. */
struct claims *claims_open(int dir_fd);
struct claims *claims_ref(struct claims *claims); /* NULL is fine, as in all below */
void claims_unref(struct claims *claims);

/* Another process has them open. */
bool claims_has_others(const struct claims *claims);

/* False: another process has it. */
bool claims_take(struct claims *claims, const struct oid *oid, enum claim_kind kind);
void claims_give(struct claims *claims, const struct oid *oid, enum claim_kind kind);
/* Another process has it. */
bool claims_is_taken(const struct claims *claims, const struct oid *oid, enum claim_kind kind);

/*
 * The same for blocks of an object in the making (`name`): as many as are free from the first on,
 * at most `count`. 0: another process has the first, and *out_others blocks from there on.
 */
uint32_t claims_take_blocks(struct claims *claims, const struct oid *name, uint32_t first,
			    uint32_t count, uint32_t *out_others);
void claims_give_blocks(struct claims *claims, const struct oid *name, uint32_t first,
			uint32_t count);
/* Another process has any of them. */
bool claims_are_blocks_taken(const struct claims *claims, const struct oid *name, uint32_t first,
			     uint32_t count);

#endif
