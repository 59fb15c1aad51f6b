/*
 * Fuzz target: LMDB's pages. The first byte says which look, and whether the metas are made right
 * first, or nothing would ever come behind them. Whatever they say, the looks stay in the bytes
 * and come to an end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/bytes.h"
#include "cache/pages.h"

#define PAGE_LEN ((size_t)512)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void metas_mend(uint8_t *bytes, uint64_t page_count)
{
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *meta = bytes + i * PAGE_LEN + 16;

		put_le32(meta, 0xBEEFC0DE);
		put_le32(meta + 4, 1);
		put_le32(meta + 24, PAGE_LEN);
		meta[24 + 4] = 8; /* numbers are its keys */
		meta[24 + 5] = 0;
		put_le32(meta + 24 + 48 + 4, get_le32(meta + 24 + 48 + 4) & 0xffff0000u);
		put_le64(meta + 24 + 96, page_count - 1);
		put_le64(meta + 24 + 104, i);
	}
	for (uint64_t n = 2; n < page_count; n++)
		put_le64(bytes + n * PAGE_LEN, n);
}

static void head_check(const uint8_t *bytes, size_t len)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("head", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)len) || pwrite(fd, bytes, len, 0) != (ssize_t)len)
		abort();
	pages_check_head(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct pages pages = { .page_len = PAGE_LEN };
	size_t key_len = len < 21 ? len : 21;
	struct pages_look *look;
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
	if (pages_look_begin(&pages, data[0] >> 1 & 1, &look) == 0) {
		/* In any order: what one has found the next relies on. */
		if (data[0] & 4)
			pages_look_all(look);
		if (data[0] & 8)
			pages_look_put(look, "objects", data, key_len);
		if (data[0] & 16)
			pages_look_delete(look, "objects", data, key_len);
		if (data[0] & 32)
			pages_look_all(look);
		pages_look_end(&look);
	}
	if (data[0] & 64)
		head_check(bytes, pages.len);
	free(bytes);
	return 0;
}
