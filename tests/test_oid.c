/* oid: hex both ways, equality, the null id. */
#include "base/oid.h"

#include <errno.h>

#include "tests/tap.h"

#define SHA1 "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_hex_round_trip(void)
{
	static const struct {
		const char *hex;
		enum oid_algo algo;
		const char *name;
	} rows[] = { { SHA1, OID_SHA1, "sha1" }, { SHA256, OID_SHA256, "sha256" } };
	char hex[OID_MAX_HEX + 1];
	struct oid oid, again;

	for (size_t i = 0; i < 2; i++) {
		CHECK_INT(oid_from_hex(rows[i].hex, strlen(rows[i].hex), &oid), 0);
		CHECK_INT(oid.algo, rows[i].algo);
		CHECK_STR(oid_algo_name(oid.algo), rows[i].name);
		CHECK_STR(oid_to_hex(&oid, hex), rows[i].hex);
		again = oid_from_bytes(oid.algo, oid.hash);
		CHECK(oid_equal(&oid, &again));
		CHECK_MEM(&oid, sizeof(oid), &again, sizeof(again));
	}
}

static void test_upper_case_is_the_same_id(void)
{
	struct oid lower, upper;

	CHECK_INT(oid_from_hex(SHA1, 40, &lower), 0);
	CHECK_INT(oid_from_hex("0123456789ABCDEF0123456789ABCDEF01234567", 40, &upper), 0);
	CHECK(oid_equal(&lower, &upper));
}

static void test_what_is_no_id_is_refused(void)
{
	static const struct {
		const char *hex;
		size_t len;
	} rows[] = {
		{ "", 0 },	     { SHA1, 39 },
		{ SHA1 "0", 41 },    { SHA256, 63 },
		{ SHA256 "00", 66 }, { "g123456789abcdef0123456789abcdef01234567", 40 },
		{ SHA256, 0 },	     { "0123456789abcdef0123456789abcdef0123456 ", 40 },
	};
	struct oid oid = { .algo = 77 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_MSG(oid_from_hex(rows[i].hex, rows[i].len, &oid) == -EINVAL, "row %zu", i);
	CHECK_INT(oid.algo, 77); /* written only on success */
}

static void test_looks_at_no_more_than_len(void)
{
	char *exact = malloc(40); /* a sanitizer sees a byte too many */
	struct oid oid;

	memcpy(exact, SHA1, 40);
	CHECK_INT(oid_from_hex(exact, 40, &oid), 0);
	free(exact);
}

static void test_null_id(void)
{
	struct oid null = { 0 }, zeros;

	CHECK(oid_is_null(&null));
	CHECK_INT(oid_from_hex("0000000000000000000000000000000000000000", 40, &zeros), 0);
	CHECK(!oid_is_null(&zeros));
	CHECK(!oid_equal(&null, &zeros));
}

int main(int argc, char **argv)
{
	tap_args(argv);
	TAP_RUN(test_hex_round_trip);
	TAP_RUN(test_upper_case_is_the_same_id);
	TAP_RUN(test_what_is_no_id_is_refused);
	TAP_RUN(test_looks_at_no_more_than_len);
	TAP_RUN(test_null_id);
	return tap_done();
}
