/* Who fetches what, between processes: here between open files, which is the same to the kernel. */
#include "cache/claims.h"

#include "tests/cache_support.h"

static struct claims *claims_at(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct claims *claims = claims_open(fd);

	close(fd);
	return claims;
}

static void test_one_has_it_and_the_other_sees_that(void)
{
	char *dir = scratch_dir();
	struct claims *a = claims_at(dir), *b;
	struct oid one = oid_of(1), two = oid_of(2);

	CHECK(!claims_has_others(a));
	b = claims_at(dir);
	CHECK(claims_has_others(a));
	CHECK(claims_has_others(b));
	CHECK(claims_take(a, &one, CLAIM_OBJECT));
	CHECK(claims_take(a, &one, CLAIM_OBJECT));
	CHECK(!claims_is_taken(a, &one, CLAIM_OBJECT));
	CHECK(claims_is_taken(b, &one, CLAIM_OBJECT));
	CHECK(!claims_take(b, &one, CLAIM_OBJECT));
	CHECK(claims_take(b, &one, CLAIM_BELOW));
	CHECK(claims_take(b, &two, CLAIM_OBJECT));
	CHECK(!claims_take(a, &two, CLAIM_OBJECT));
	claims_give(a, &one, CLAIM_OBJECT);
	CHECK(claims_take(b, &one, CLAIM_OBJECT));
	claims_unref(b);
	CHECK(!claims_has_others(a));
	CHECK(claims_take(a, &one, CLAIM_OBJECT));
	CHECK(claims_take(a, &two, CLAIM_OBJECT));
	claims_unref(a);
	scratch_remove(dir);
}

static void test_blocks_are_claimed_by_the_run(void)
{
	char *dir = scratch_dir();
	struct claims *a = claims_at(dir), *b = claims_at(dir), *c = claims_at(dir);
	struct oid one = oid_of(1), two = oid_of(2);
	uint32_t others;

	CHECK_UINT(claims_take_blocks(a, &one, 10, 10, &others), 10);
	CHECK_UINT(claims_take_blocks(a, &one, 15, 10, &others), 10);
	CHECK_UINT(claims_take_blocks(b, &two, 10, 10, &others), 10);
	/* up to where another's begin */
	CHECK_UINT(claims_take_blocks(b, &one, 4, 100, &others), 6);
	CHECK_UINT(claims_take_blocks(c, &one, 0, 100, &others), 4);
	/* how many are another's, and no more than was asked about */
	CHECK_UINT(claims_take_blocks(c, &one, 10, 100, &others), 0);
	CHECK_UINT(others, 15);
	CHECK_UINT(claims_take_blocks(c, &one, 12, 5, &others), 0);
	CHECK_UINT(others, 5);
	CHECK(claims_are_blocks_taken(c, &one, 24, 1));
	CHECK(!claims_are_blocks_taken(c, &one, 25, 1));
	CHECK(!claims_are_blocks_taken(a, &one, 24, 1));
	/* a part of them is free again */
	claims_give_blocks(a, &one, 12, 3);
	CHECK_UINT(claims_take_blocks(c, &one, 12, 100, &others), 3);
	claims_give_blocks(a, &one, 0, 0);
	CHECK(claims_are_blocks_taken(c, &one, 11, 1));
	claims_unref(a);
	CHECK(!claims_are_blocks_taken(c, &one, 11, 1));
	claims_unref(b);
	claims_unref(c);
	scratch_remove(dir);
}

static void test_none_at_all_is_free(void)
{
	uint32_t others;

	struct oid one = oid_of(1);

	CHECK_NULL(claims_open(-1));
	CHECK(!claims_has_others(NULL));
	CHECK(claims_take(NULL, &one, CLAIM_OBJECT));
	CHECK(!claims_is_taken(NULL, &one, CLAIM_OBJECT));
	claims_give(NULL, &one, CLAIM_OBJECT);
	CHECK_UINT(claims_take_blocks(NULL, &one, 3, 7, &others), 7);
	CHECK(!claims_are_blocks_taken(NULL, &one, 3, 1));
	claims_give_blocks(NULL, &one, 3, 7);
	CHECK_NULL(claims_ref(NULL));
	claims_unref(NULL);
}

static int child_hold(const char *dir, uint64_t first, uint64_t count)
{
	struct claims *claims = claims_at(dir);

	for (uint64_t n = first; n < first + count; n++) {
		struct oid oid = oid_of(n);

		if (!claims_take(claims, &oid, CLAIM_OBJECT))
			return 1;
	}
	if (write(STDOUT_FILENO, "x", 1) != 1)
		return 2;
	for (;;)
		pause();
}

static void test_claims_end_with_their_process(void)
{
	char *dir = scratch_dir();
	struct child child = child_start("hold", dir, 0, 2000);
	struct claims *claims = claims_at(dir);
	struct oid oid = oid_of(1234);

	CHECK(child_hear(&child));
	CHECK(claims_has_others(claims));
	CHECK(!claims_take(claims, &oid, CLAIM_OBJECT));
	CHECK_INT(child_kill(&child), 128 + SIGKILL);
	CHECK(!claims_has_others(claims));
	CHECK(claims_take(claims, &oid, CLAIM_OBJECT));
	claims_unref(claims);
	scratch_remove(dir);
}

/* A claim is given up when what was put before is there for others. */
static void test_a_claim_ends_behind_what_was_put(void)
{
	char *dir = scratch_dir();
	struct cache *cache = open_at(dir);
	char *v1 = path_of(dir, "v1");
	struct child child = child_start("hold", v1, 900000, 1);
	struct oid oid = oid_of(3);
	struct claims *other;

	CHECK(child_hear(&child));
	CHECK(cache_has_neighbours(cache));
	CHECK(cache_claim(cache, &oid, CACHE_CLAIM_OBJECT));
	other = claims_at(v1);
	CHECK(claims_is_taken(other, &oid, CLAIM_OBJECT));
	CHECK_INT(put(cache, 3, 5000), 0);
	cache_unclaim(cache, &oid, CACHE_CLAIM_OBJECT);
	cache_flush(cache);
	/* It is let go of when its item is freed, which is a moment later. */
	for (unsigned i = 0; i < 1000 && claims_is_taken(other, &oid, CLAIM_OBJECT); i++)
		usleep(1000);
	CHECK(!claims_is_taken(other, &oid, CLAIM_OBJECT));
	CHECK(!cache_is_claimed(cache, &oid, CACHE_CLAIM_OBJECT));
	oid = oid_of(900000);
	CHECK(cache_is_claimed(cache, &oid, CACHE_CLAIM_OBJECT));
	CHECK(!cache_claim(cache, &oid, CACHE_CLAIM_OBJECT));
	child_kill(&child);
	claims_unref(other);
	cache_close(&cache);
	free(v1);
	scratch_remove(dir);
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "--child"))
		return child_hold(argv[3], strtoull(argv[4], NULL, 10),
				  strtoull(argv[5], NULL, 10));
	tap_args(argv);
	TAP_RUN(test_one_has_it_and_the_other_sees_that);
	TAP_RUN(test_blocks_are_claimed_by_the_run);
	TAP_RUN(test_none_at_all_is_free);
	TAP_RUN(test_claims_end_with_their_process);
	TAP_RUN(test_a_claim_ends_behind_what_was_put);
	return tap_done();
}
