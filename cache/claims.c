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

static int set(int fd, short type, off_t at)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &lock);
}

static bool is_free(int fd, off_t at)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &lock) || lock.l_type == F_UNLCK;
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
	if (claims->fd >= 0 && set(claims->fd, F_RDLCK, 0) == 0)
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
	return claims && !is_free(claims->fd, 0);
}

bool claims_take(struct claims *claims, const struct oid *oid, enum claim_kind kind)
{
	if (!claims || set(claims->fd, F_WRLCK, place_of(oid, kind)) == 0)
		return true;
	return errno != EAGAIN && errno != EACCES;
}

void claims_give(struct claims *claims, const struct oid *oid, enum claim_kind kind)
{
	if (claims)
		set(claims->fd, F_UNLCK, place_of(oid, kind));
}

bool claims_is_taken(const struct claims *claims, const struct oid *oid, enum claim_kind kind)
{
	return claims && !is_free(claims->fd, place_of(oid, kind));
}
