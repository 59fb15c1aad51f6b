/*
 * Fuzz target: deltas. The first byte is the length of the base, which follows; the rest is the
 * delta. Both ways to apply it must agree, and neither may read or write beside its memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "git/delta.h"

#define RESULT_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct base {
	const uint8_t *data;
	size_t len;
};

static int base_read(void *arg, uint64_t off, uint8_t *out, size_t len)
{
	const struct base *base = arg;

	if (off > base->len || len > base->len - off)
		abort();
	memcpy(out, base->data + off, len);
	return 0;
}

static int result_add(void *arg, const uint8_t *data, size_t len)
{
	if (len == 0 || len > 65536)
		abort();
	return buf_add(arg, data, len);
}

static void apply(const uint8_t *delta, size_t len, const struct base *base, size_t result_size)
{
	struct buf streamed = BUF_INIT;
	uint8_t *result = malloc(result_size ? result_size : 1);
	struct base copy = *base;
	int rc;

	if (!result)
		return;
	rc = delta_apply(delta, len, base->len, base_read, &copy, result_add, &streamed);
	if (rc != delta_apply_mem(delta, len, base->data, base->len, result, result_size))
		abort();
	if (!rc && (streamed.len != result_size ||
		    (result_size && memcmp(result, streamed.data, result_size) != 0)))
		abort();
	free(result);
	buf_release(&streamed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct delta_header header;
	struct base base;

	if (len == 0 || data[0] > len - 1)
		return 0;
	base.data = data + 1;
	base.len = data[0];
	data += 1 + base.len;
	len -= 1 + base.len;
	if (delta_header(data, len, &header) == 0 && header.result_size <= RESULT_MAX)
		apply(data, len, &base, (size_t)header.result_size);
	return 0;
}
