/* Tests of fetch/entries: found by offset and by id, however many there are. */
#include "fetch/entries.h"

#include <errno.h>

#include "tap.h"

static struct oid oid_of(uint32_t n)
{
	struct oid oid = { .algo = OID_SHA1 };
	uint32_t mixed = n * 2654435761u;

	memcpy(oid.hash, &mixed, sizeof(mixed));
	memcpy(oid.hash + 4, &n, sizeof(n));
	return oid;
}

static void name(struct entries *entries, uint32_t index, uint32_t n)
{
	struct content content = { .oid = oid_of(n), .type = OBJECT_BLOB, .size = n };

	entries_name(entries, index, &content);
}

static void test_entries_are_found_by_offset(void)
{
	struct entries entries;
	uint32_t index;

	entries_init(&entries, OID_SHA1);
	CHECK_INT(entries_find_off(&entries, 12, &index), -ENOENT);
	for (uint32_t i = 0; i < 10000; i++) {
		CHECK_INT(entries_add(&entries, 12 + i * 3, &index), 0);
		CHECK_UINT(index, i);
	}
	for (uint32_t i = 0; i < 10000; i++) {
		CHECK_INT(entries_find_off(&entries, 12 + i * 3, &index), 0);
		CHECK_UINT(index, i);
		CHECK_INT(entries_find_off(&entries, 13 + i * 3, &index), -ENOENT);
	}
	entries_release(&entries);
}

/* Searches in between, so that the hash is built, filled, dropped and built again. */
static void test_entries_are_found_by_id_once_they_are_named(void)
{
	struct entries entries;
	uint32_t index;

	entries_init(&entries, OID_SHA1);
	for (uint32_t i = 0; i < 10000; i++) {
		struct oid oid = oid_of(i), half = oid_of(i / 2);

		CHECK_INT(entries_add(&entries, 12 + i, &index), 0);
		CHECK_INT(entries_find_oid(&entries, &oid, &index), -ENOENT);
		name(&entries, i, i);
		CHECK_INT(entries_find_oid(&entries, &oid, &index), 0);
		CHECK_UINT(index, i);
		CHECK_INT(entries_find_oid(&entries, &half, &index), 0);
		CHECK_UINT(index, i / 2);
		CHECK_UINT(entries_at(&entries, index)->size, i / 2);
	}
	entries_release(&entries);
}

static void test_same_object_twice_is_found_once(void)
{
	struct entries entries;
	struct oid oid = oid_of(7);
	uint32_t index;

	entries_init(&entries, OID_SHA1);
	for (uint32_t i = 0; i < 2; i++) {
		CHECK_INT(entries_add(&entries, 12 + i, &index), 0);
		name(&entries, index, 7);
	}
	CHECK_INT(entries_find_oid(&entries, &oid, &index), 0);
	CHECK(index < 2);
	CHECK_MEM(entries_oid(&entries, index).hash, 20, oid.hash, 20);
	entries_release(&entries);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_entries_are_found_by_offset);
	TAP_RUN(test_entries_are_found_by_id_once_they_are_named);
	TAP_RUN(test_same_object_twice_is_found_once);
	return tap_done();
}
