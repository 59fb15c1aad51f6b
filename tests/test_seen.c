/* Tests of repo/seen: what was come by is known again. */
#include "repo/seen.h"

#include "tap.h"

static struct oid id_of(uint64_t n)
{
	struct oid oid = { .algo = OID_SHA1 };

	memcpy(oid.hash, &n, sizeof(n));
	return oid;
}

static void test_what_was_added_is_known_however_many_come_after(void)
{
	struct seen seen = { 0 };
	unsigned added = 0, again = 0;

	for (uint64_t n = 0; n < 10000; n++) {
		struct oid oid = id_of(n * 0x9e3779b97f4a7c15u);

		added += seen_add(&seen, &oid) == 1;
	}
	for (uint64_t n = 0; n < 10000; n++) {
		struct oid oid = id_of(n * 0x9e3779b97f4a7c15u);

		again += seen_add(&seen, &oid) == 0;
	}
	CHECK_UINT(added, 10000);
	CHECK_UINT(again, 10000);
	CHECK_UINT(seen.count, 10000);
	seen_release(&seen);
	CHECK_UINT(seen.count, 0);
}

static void test_ids_that_fall_on_one_place_are_told_apart(void)
{
	struct seen seen = { 0 };

	for (uint64_t n = 1; n <= 100; n++) {
		struct oid oid = id_of(n << 40);

		CHECK_INT(seen_add(&seen, &oid), 1);
		CHECK_INT(seen_add(&seen, &oid), 0);
	}
	seen_release(&seen);
}

int main(void)
{
	TAP_RUN(test_what_was_added_is_known_however_many_come_after);
	TAP_RUN(test_ids_that_fall_on_one_place_are_told_apart);
	return tap_done();
}
