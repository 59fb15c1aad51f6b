/*
 * Fuzz target: LMDB's pages. The first byte says which check, and whether the metas are made right
 * first, or nothing would ever come behind them. Whatever they say, the checks stay in the bytes
 * and come to an end.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/bytes.h"
#include "cache/pages.h"

#define PAGE_LEN 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void metas_mend(uint8_t *bytes, uint64_t page_count)
{
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *meta = bytes + i * PAGE_LEN + 16;

		put_le32(meta, 0xBEEFC0DE);
		put_le32(meta + 4, 1);
		put_le64(meta + 24 + 96, page_count - 1);
	}
	for (uint64_t n = 2; n < page_count; n++)
		put_le64(bytes + n * PAGE_LEN, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pages pages = { .page_len = PAGE_LEN };
	uint8_t *bytes;

	if (len < 1)
		return 0;
	/* Exactly as long as it says, so that a byte too far is noticed. */
	bytes = malloc(len);
	if (!bytes)
		return 0;
	memcpy(bytes, data + 1, len - 1);
	pages.map = bytes;
	pages.len = len - 1;
	if ((data[0] & 1) && pages.len >= 2 * PAGE_LEN)
		metas_mend(bytes, pages.len / PAGE_LEN);
	if (data[0] & 2)
		pages_check_all(&pages);
	if (data[0] & 4)
		pages_check_free(&pages);
	if (data[0] & 8)
		pages_check_path(&pages, "objects", data, len < 21 ? len : 21);
	free(bytes);
	return 0;
}
