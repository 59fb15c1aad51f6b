#include "cache/claims.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

struct claims {
	_Atomic unsigned refs;
	int fd;
};

/* How often to try for fewer blocks: others come and go meanwhile. */
#define TRIES 16

static int set(int fd, short type, off_t at, uint32_t len)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = len };

	return fcntl(fd, F_OFD_SETLK, &lock);
}

/* False: another has some of it, as *out says: one of them, not always the first. */
static bool is_free(int fd, off_t at, uint32_t len, struct flock *out)
{
	*out = (struct flock){
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = len
	};
	return fcntl(fd, F_OFD_GETLK, out) || out->l_type == F_UNLCK;
}

static off_t place_of(const struct oid *oid, enum claim_kind kind)
{
	/* Never the first byte, and never negative. */
	return (off_t)(XXH3_64bits_withSeed(oid->hash, OID_MAX_LEN, kind) >> 2) + 1;
}

struct claims *claims_open(int dir_fd)
{
	struct claims *claims = malloc(sizeof(*claims));

	if (!claims)
		return NULL;
	atomic_init(&claims->refs, 1);
	claims->fd = openat(dir_fd, "claims", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (claims->fd >= 0 && set(claims->fd, F_RDLCK, 0, 1) == 0)
		return claims;
	claims_unref(claims);
	return NULL;
}

struct claims *claims_ref(struct claims *claims)
{
	if (claims)
		atomic_fetch_add_explicit(&claims->refs, 1, memory_order_relaxed);
	return claims;
}

void claims_unref(struct claims *claims)
{
	if (!claims || atomic_fetch_sub_explicit(&claims->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (claims->fd >= 0)
		close(claims->fd);
	free(claims);
}

bool claims_has_others(const struct claims *claims)
{
	struct flock other;

	return claims && !is_free(claims->fd, 0, 1, &other);
}

bool claims_take(struct claims *claims, const struct oid *oid, enum claim_kind kind)
{
	if (!claims || set(claims->fd, F_WRLCK, place_of(oid, kind), 1) == 0)
		return true;
	return errno != EAGAIN && errno != EACCES;
}

void claims_give(struct claims *claims, const struct oid *oid, enum claim_kind kind)
{
	if (claims)
		set(claims->fd, F_UNLCK, place_of(oid, kind), 1);
}

bool claims_is_taken(const struct claims *claims, const struct oid *oid, enum claim_kind kind)
{
	struct flock other;

	return claims && !is_free(claims->fd, place_of(oid, kind), 1, &other);
}

/* How many of the blocks at `at` the other one has, from the first on. */
static uint32_t others_from(const struct flock *other, off_t at, uint32_t count)
{
	if (other->l_start > at)
		return 0;
	if (!other->l_len || other->l_start + other->l_len - at > (off_t)count)
		return count;
	return (uint32_t)(other->l_start + other->l_len - at);
}

uint32_t claims_take_blocks(struct claims *claims, const struct oid *name, uint32_t first,
			    uint32_t count, uint32_t *out_others)
{
	off_t at = place_of(name, CLAIM_BLOCKS) + first;

	*out_others = 0;
	for (unsigned i = 0; claims && i < TRIES; i++) {
		struct flock other;

		if (set(claims->fd, F_WRLCK, at, count) == 0 ||
		    (errno != EAGAIN && errno != EACCES))
			return count;
		if (is_free(claims->fd, at, count, &other))
			continue;
		*out_others = others_from(&other, at, count);
		if (*out_others)
			return 0;
		count = (uint32_t)(other.l_start - at);
	}
	return count; /* they are fetched twice, perhaps */
}

void claims_give_blocks(struct claims *claims, const struct oid *name, uint32_t first,
			uint32_t count)
{
	if (claims && count) /* none would be all that follow */
		set(claims->fd, F_UNLCK, place_of(name, CLAIM_BLOCKS) + first, count);
}

bool claims_are_blocks_taken(const struct claims *claims, const struct oid *name, uint32_t first,
			     uint32_t count)
{
	struct flock other;

	return claims && count &&
	       !is_free(claims->fd, place_of(name, CLAIM_BLOCKS) + first, count, &other);
}
