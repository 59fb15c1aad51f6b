/*
 * Fuzz target: the files of pins. The first byte says whether the check is made right first. What
 * is taken for a pin stays in the bytes, and its hashes are in order.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cache/bytes.h"
#include "cache/pins.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct pin *pin, const uint8_t *bytes, size_t len)
{
	size_t hash_len = oid_algo_len(pin->algo);

	if (pin->name != (const char *)bytes + 40 || pin->hashes < bytes + 40 ||
	    (size_t)(bytes + len - pin->hashes) != pin->count * hash_len)
		abort();
	for (size_t i = 1; i < pin->count; i++)
		if (memcmp(pin->hashes + (i - 1) * hash_len, pin->hashes + i * hash_len,
			   hash_len) >= 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pin pin;
	uint8_t *bytes;

	if (len < 1)
		return 0;
	bytes = malloc(len);
	if (!bytes)
		return 0;
	memcpy(bytes, data + 1, len - 1);
	if ((data[0] & 1) && len - 1 >= 40)
		put_le64(bytes + 32,
			 XXH3_64bits_withSeed(bytes + 40, len - 41, XXH3_64bits(bytes, 32)));
	if (pin_parse(bytes, len - 1, &pin) == 0)
		check(&pin, bytes, len - 1);
	free(bytes);
	return 0;
}
