/*
 * oid: object ids to and from hex.
 */
#include "base/oid.h"

#include <errno.h>

struct oid oid_from_bytes(enum oid_algo algo, const uint8_t *hash)
{
	struct oid oid = { .algo = (uint8_t)algo };

	memcpy(oid.hash, hash, oid_algo_len(algo));
	return oid;
}

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

int oid_from_hex(const char *hex, size_t len, struct oid *out)
{
	struct oid oid = { 0 };

	if (len == 2 * oid_algo_len(OID_SHA1))
		oid.algo = OID_SHA1;
	else if (len == 2 * oid_algo_len(OID_SHA256))
		oid.algo = OID_SHA256;
	else
		return -EINVAL;
	for (size_t i = 0; i < len / 2; i++) {
		int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		oid.hash[i] = (uint8_t)(high * 16 + low);
	}
	*out = oid;
	return 0;
}

char *oid_to_hex(const struct oid *oid, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t len = oid_len(oid);

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[oid->hash[i] >> 4];
		out[2 * i + 1] = digits[oid->hash[i] & 15];
	}
	out[2 * len] = '\0';
	return out;
}

const char *oid_algo_name(enum oid_algo algo)
{
	return algo == OID_SHA256 ? "sha256" : "sha1";
}
