/*
 * Open addressing, at most half full.
 */
#include "repo/seen.h"

#include <errno.h>
#include <stdlib.h>

#define CAP_FIRST 256

static uint64_t prefix_of(const struct oid *oid)
{
	uint64_t prefix;

	memcpy(&prefix, oid->hash, sizeof(prefix));
	return prefix ? prefix : 1;
}

/* False when it was there. There is a free slot. */
static bool put(uint64_t *v, size_t cap, uint64_t prefix)
{
	for (size_t i = prefix & (cap - 1);; i = (i + 1) & (cap - 1)) {
		if (v[i] == prefix)
			return false;
		if (v[i] == 0) {
			v[i] = prefix;
			return true;
		}
	}
}

static int grow(struct seen *seen)
{
	size_t cap = seen->cap ? seen->cap * 2 : CAP_FIRST;
	uint64_t *v = calloc(cap, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < seen->cap; i++) {
		if (seen->v[i])
			put(v, cap, seen->v[i]);
	}
	free(seen->v);
	seen->v = v;
	seen->cap = cap;
	return 0;
}

int seen_add(struct seen *seen, const struct oid *oid)
{
	if ((seen->count + 1) * 2 > seen->cap && grow(seen))
		return -ENOMEM;
	if (!put(seen->v, seen->cap, prefix_of(oid)))
		return 0;
	seen->count++;
	return 1;
}

bool seen_has(const struct seen *seen, const struct oid *oid)
{
	uint64_t prefix = prefix_of(oid);

	if (!seen->cap)
		return false;
	for (size_t i = prefix & (seen->cap - 1); seen->v[i]; i = (i + 1) & (seen->cap - 1)) {
		if (seen->v[i] == prefix)
			return true;
	}
	return false;
}

void seen_release(struct seen *seen)
{
	free(seen->v);
	*seen = (struct seen){ 0 };
}
