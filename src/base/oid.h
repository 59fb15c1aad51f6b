/*
 * oid: the id of a git object, a value of 20 (SHA-1) or 32 (SHA-256) bytes.
 *
 * Bytes behind the used ones are zero, so that two oids are equal exactly when their structs are
 * (memcmp), and the struct itself is a hash key.
 *
 * Threads: values; any.
 */
#ifndef BASE_OID_H
#define BASE_OID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum oid_algo { OID_SHA1 = 1, OID_SHA256 = 2 };

#define OID_MAX_LEN 32
#define OID_MAX_HEX 64

struct oid {
	uint8_t algo; /* enum oid_algo; 0 in the null oid */
	uint8_t hash[OID_MAX_LEN];
};

static inline size_t oid_algo_len(enum oid_algo algo)
{
	return algo == OID_SHA256 ? 32 : 20;
}
static inline size_t oid_len(const struct oid *oid)
{
	return oid_algo_len(oid->algo);
}
static inline bool oid_equal(const struct oid *a, const struct oid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}
static inline bool oid_is_null(const struct oid *oid)
{
	return oid->algo == 0;
}

/* `hash` holds oid_algo_len(algo) bytes. */
struct oid oid_from_bytes(enum oid_algo algo, const uint8_t *hash);

/*
 * Reads exactly 40 or 64 hex digits (either case); the length tells the algorithm. -EINVAL for
 * anything else; `len` bytes are looked at, no terminator needed.
 */
int oid_from_hex(const char *hex, size_t len, struct oid *out);

/* Writes lower-case hex and a NUL; `out` holds OID_MAX_HEX + 1 bytes. Returns `out`. */
char *oid_to_hex(const struct oid *oid, char *out);

const char *oid_algo_name(enum oid_algo algo); /* "sha1" or "sha256" */

#endif
