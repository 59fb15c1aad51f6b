/*
 * upkeep: what is done to a cache directory by hand: verify it, rebuild its index, make it smaller.
 * In use or not: mounts go on meanwhile, and wait for nothing that takes longer than their own
 * writes.
 *
 * Each call opens the directory for itself, as a mount does: so not in a process that has it open.
 *
 * Threads: one.
 */
#ifndef CACHE_UPKEEP_H
#define CACHE_UPKEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/content.h"
#include "base/error.h"
#include "base/oid.h"

/* Hashes as git does; the caller knows how. 0 or -errno. */
struct upkeep_hasher {
	int (*begin)(void *arg, enum oid_algo algo, enum object_type type, uint64_t size);
	int (*update)(void *arg, const void *data, size_t len);
	int (*end)(void *arg, struct oid *out);
	void *arg;
};

/* Called now and then; of `what` ("rebuild", "verify") so much is done. */
struct upkeep_progress {
	void (*say)(void *arg, const char *what, uint64_t done, uint64_t total);
	void *arg;
};

struct upkeep_verified {
	uint64_t objects, records, bytes; /* looked at; raw bytes */
	uint64_t bad_objects;		  /* gone now: they will be fetched again */
	uint64_t rebuilt_records, rebuilt_bad;
	double rebuild_s;
};

/*
 * Reads every record that the index names, and compares the hash of every object with its id. What
 * is bad is forgotten. `rebuild`: first throws the index away and makes it again from the segments.
 * -ENOENT when there is no cache.
 */
int upkeep_verify(const char *dir, bool rebuild, const struct upkeep_hasher *hasher,
		  const struct upkeep_progress *progress, struct upkeep_verified *out,
		  struct xcp_error *err);

/*
 * Gives up what was not read for longest until the directory takes at most to_len bytes. *out_freed
 * is by how much it became smaller. -ENOSPC when what is left must stay.
 */
int upkeep_shrink(const char *dir, uint64_t to_len, uint64_t *out_freed, struct xcp_error *err);

/* ---- objects by name ---- */

struct upkeep_pin {
	const char *name; /* of people, any text */
	const struct oid *oids;
	size_t count;
	/* What the directory may take: pins get UPKEEP_PIN_PERCENT of it, or nothing new had room. */
	uint64_t max_len;
};
#define UPKEEP_PIN_PERCENT 75

struct upkeep_pinned {
	uint64_t objects, missing; /* missing: not here; pinned as soon as they are */
	uint64_t bytes;		   /* on disk, of what is here */
};

/*
 * From its return on the objects are not given up to make room, also after a power cut. Takes the
 * place of a pin of the same name. -ENOSPC when all pins together would take too much.
 */
int upkeep_pin(const char *dir, const struct upkeep_pin *pin, struct upkeep_pinned *out,
	       struct xcp_error *err);
int upkeep_unpin(const char *dir, const char *name, struct xcp_error *err);

/* `each` is called with every pin; the name is borrowed. */
int upkeep_pins(const char *dir,
		int (*each)(void *arg, const char *name, const struct upkeep_pinned *pinned),
		void *arg, struct xcp_error *err);

/*
 * The objects are not here any more, but for what is pinned: *out_stay so many. *out_freed as
 * upkeep_shrink().
 */
int upkeep_forget(const char *dir, const struct oid *oids, size_t count, uint64_t *out_freed,
		  uint64_t *out_stay, struct xcp_error *err);

#endif
