/*
 * claims: who fetches what, among the processes on a cache directory, so that two of them do not
 * fetch the same thing at the same time.
 *
 *	DIR/v1/claims	empty; a byte of it that is locked is a claim of what hashes to it, the
 *			first one (read-locked) says that there is somebody
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

#include "base/oid.h"

struct claims;

/*
 * What of it is fetched: itself, all that is below it, or its size with those of what follows it. A
 * seed of the hash.
 */
enum claim_kind { CLAIM_OBJECT, CLAIM_BELOW, CLAIM_SIZES };

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

#endif
