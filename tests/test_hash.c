/* Tests of git/hash: ids that git itself gives, contexts used again. */
#include "git/hash.h"

#include <errno.h>

#include "expect.h"

static const struct {
	enum oid_algo algo;
	enum object_type type;
	const char *data, *hex;
} cases[] = {
	{ OID_SHA1, OBJECT_BLOB, "", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" },
	{ OID_SHA1, OBJECT_TREE, "", "4b825dc642cb6eb9a060e54bf8d69288fbee4904" },
	{ OID_SHA1, OBJECT_BLOB, "hello\n", "ce013625030ba8dba906f756967f9e9ca394464a" },
	{ OID_SHA256, OBJECT_BLOB, "",
	  "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813" },
	{ OID_SHA256, OBJECT_TREE, "",
	  "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321" },
};
#define CASE_COUNT (sizeof(cases) / sizeof(*cases))

static void test_known_ids(void)
{
	char hex[OID_MAX_HEX + 1];
	struct oid oid;

	for (size_t i = 0; i < CASE_COUNT; i++) {
		EXPECT_INT(object_hash(cases[i].algo, cases[i].type, cases[i].data,
				       strlen(cases[i].data), &oid),
			   0, "hash %zu", i);
		EXPECT_STR(oid_to_hex(&oid, hex), cases[i].hex, "id %zu", i);
	}
}

static void test_one_hasher_for_many(void)
{
	struct hasher hasher = { 0 };
	char hex[OID_MAX_HEX + 1];
	struct oid oid;

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < CASE_COUNT; i++) {
			const char *data = cases[i].data;

			hasher_init(&hasher, OID_SHA1);
			hasher_update(&hasher, "left behind", 11);
			EXPECT_INT(hasher_init_object(&hasher, cases[i].algo, cases[i].type,
						      strlen(data)),
				   0, "init");
			for (; *data; data++)
				hasher_update(&hasher, data, 1);
			EXPECT_INT(hasher_final(&hasher, &oid), 0, "final");
			EXPECT_STR(oid_to_hex(&oid, hex), cases[i].hex, "round %d, id %zu", round,
				   i);
		}
	}
	hasher_release(&hasher);
	hasher_release(&hasher);
	EXPECT_INT(hasher_update(&hasher, "x", 1), -EIO, "update without init");
	EXPECT_INT(hasher_final(&hasher, &oid), -EIO, "final without init");
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_known_ids);
	TAP_RUN(test_one_hasher_for_many);
	return tap_done();
}
