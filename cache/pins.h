/*
 * pins: sets of objects that are not given up to make room. Each has a name and is a file of pins/;
 * there is no other truth about it, so that it outlives every index, and processes with an index of
 * their own keep to it, too.
 *
 *	pin_write, pin_remove: one of them
 *	pins_new ---> pins_refresh, pins_has ... ---> pins_free: all of them
 *
 * A file, little endian, called by the XXH128 of its name in hex:
 *
 *	0 magic[8], 8 version u32, 12 algorithm u32, 16 count u64, 24 length of the name u32,
 *	28 zero u32, 32 check u64 (XXH3 of all before and behind it), 40 the name,
 *	then the hashes in order, none twice
 *
 * Objects may be named that are not here (yet).
 *
 * Threads: a struct belongs to one. pin_write() and pin_remove() under the directory's write lock,
 * pins_refresh() too if nothing may change meanwhile.
 */
#ifndef CACHE_PINS_H
#define CACHE_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/oid.h"

#define PIN_NAME_MAX_LEN ((size_t)16 * 1024)

struct pin {
	const char *name; /* borrowed, as the hashes; no NUL behind it */
	size_t name_len;
	enum oid_algo algo;
	const uint8_t *hashes;
	size_t count;
};

/* Points into `data`. -EBADMSG for what is no such file, -ENOTSUP for one of another version. */
int pin_parse(const uint8_t *data, size_t len, struct pin *out);

/*
 * On stable storage when it returns. `oids` are all of one algorithm, in any order; takes the place
 * of one of the same name. 0 or -errno.
 */
int pin_write(int v1_fd, const char *name, const struct oid *oids, size_t count);
int pin_remove(int v1_fd, const char *name); /* -ENOENT when there is none */

struct pins;
struct pins *pins_new(void); /* NULL when out of memory */
void pins_free(struct pins *pins);

/*
 * Reads them again if anything changed. *out_seal is another number after each change; 0: there are
 * none. What is damaged is said in the log, and left out.
 */
int pins_refresh(struct pins *pins, int v1_fd, uint64_t *out_seal);

bool pins_has(const struct pins *pins, const struct oid *oid);

/* In no order; NULL behind the last. */
const struct pin *pins_at(const struct pins *pins, size_t i);

#endif
