/*
 * recency: two sets of bits. `fresh` is what readers of this process set and nobody else knows yet;
 * `known` is the file as it was last loaded, for the hand. Two processes that write the file at the
 * same time may lose each other's bits of one word: a record that was read looks as if it was not.
 */
#include "cache/recency.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "cache/bytes.h"

#define FILE_NAME "recency"
#define FILE_VERSION 1
#define WORD_BITS 64
#define WORD_COUNT (RECENCY_BITS / WORD_BITS)
#define PAGE_WORDS 512
#define PAGE_COUNT (WORD_COUNT / PAGE_WORDS)

static const char magic[8] = { 'x', 'c', 'p', 'f', 's', 'R', 'E', 'C' };

struct recency {
	_Atomic bool dirty;
	_Atomic uint64_t fresh[WORD_COUNT];
	/* the writer's */
	bool page_changed[PAGE_COUNT];
	uint64_t known[WORD_COUNT];
};

struct recency *recency_new(void)
{
	return calloc(1, sizeof(struct recency));
}

void recency_free(struct recency *recency)
{
	free(recency);
}

static uint32_t bit_of(const struct oid *oid, uint32_t block)
{
	return (uint32_t)XXH3_64bits_withSeed(oid->hash, OID_MAX_LEN, block) % RECENCY_BITS;
}

void recency_touch(struct recency *recency, const struct oid *oid, uint32_t block)
{
	uint32_t bit = bit_of(oid, block);
	_Atomic uint64_t *word = &recency->fresh[bit / WORD_BITS];
	uint64_t mask = UINT64_C(1) << bit % WORD_BITS;

	/* Most are set already, and a line that is only read stays with all processors. */
	if (atomic_load_explicit(word, memory_order_relaxed) & mask)
		return;
	atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
	atomic_store_explicit(&recency->dirty, true, memory_order_relaxed);
}

bool recency_is_dirty(const struct recency *recency)
{
	return atomic_load_explicit(&recency->dirty, memory_order_relaxed);
}

/* ---- the file ---- */

static void header_make(uint8_t out[RECENCY_HEADER_LEN])
{
	memset(out, 0, RECENCY_HEADER_LEN);
	memcpy(out, magic, sizeof(magic));
	put_le32(out + 8, FILE_VERSION);
	put_le32(out + 12, RECENCY_BITS);
}

/* The file, with a header that is ours; or -1. */
static int file_open(int dir_fd)
{
	uint8_t want[RECENCY_HEADER_LEN], got[RECENCY_HEADER_LEN];
	int fd = openat(dir_fd, FILE_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
			0600);

	if (fd < 0)
		return -1;
	header_make(want);
	if (pread(fd, got, sizeof(got), 0) == sizeof(got) && memcmp(want, got, sizeof(got)) == 0)
		return fd;
	if (ftruncate(fd, 0) == 0 && pwrite(fd, want, sizeof(want), 0) == sizeof(want))
		return fd;
	close(fd);
	return -1;
}

static off_t page_off(unsigned page)
{
	return RECENCY_HEADER_LEN + (off_t)page * PAGE_WORDS * (off_t)sizeof(uint64_t);
}

/* What is not there was not read. */
static void page_load(int fd, unsigned page, uint64_t *out)
{
	uint8_t bytes[PAGE_WORDS * sizeof(uint64_t)] = { 0 };

	if (pread(fd, bytes, sizeof(bytes), page_off(page)) < 0)
		memset(bytes, 0, sizeof(bytes));
	for (unsigned i = 0; i < PAGE_WORDS; i++)
		out[i] = get_le64(bytes + i * sizeof(uint64_t));
}

static void page_store(int fd, unsigned page, const uint64_t *words)
{
	uint8_t bytes[PAGE_WORDS * sizeof(uint64_t)];

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		put_le64(bytes + i * sizeof(uint64_t), words[i]);
	if (pwrite(fd, bytes, sizeof(bytes), page_off(page)) < 0)
		return; /* a full disk: nothing was read lately, then */
}

/* Moves the fresh bits of a page to `out`; true when there were any. */
static bool page_take(struct recency *recency, unsigned page, uint64_t *out)
{
	_Atomic uint64_t *fresh = recency->fresh + (size_t)page * PAGE_WORDS;
	bool any = false;

	for (unsigned i = 0; i < PAGE_WORDS; i++) {
		out[i] = 0;
		if (atomic_load_explicit(&fresh[i], memory_order_relaxed))
			out[i] = atomic_exchange_explicit(&fresh[i], 0, memory_order_relaxed);
		any |= out[i] != 0;
	}
	return any;
}

static void page_publish(struct recency *recency, int fd, unsigned page)
{
	uint64_t fresh[PAGE_WORDS], stored[PAGE_WORDS];

	if (!page_take(recency, page, fresh))
		return;
	page_load(fd, page, stored);
	for (unsigned i = 0; i < PAGE_WORDS; i++)
		stored[i] |= fresh[i];
	page_store(fd, page, stored);
}

void recency_publish(struct recency *recency, int dir_fd)
{
	int fd;

	if (!atomic_exchange_explicit(&recency->dirty, false, memory_order_relaxed))
		return;
	fd = file_open(dir_fd);
	if (fd < 0)
		return;
	for (unsigned page = 0; page < PAGE_COUNT; page++)
		page_publish(recency, fd, page);
	close(fd);
}

/* ---- the hand ---- */

void recency_load(struct recency *recency, int dir_fd)
{
	int fd = file_open(dir_fd);

	memset(recency->page_changed, 0, sizeof(recency->page_changed));
	memset(recency->known, 0, sizeof(recency->known));
	for (unsigned page = 0; page < PAGE_COUNT && fd >= 0; page++)
		page_load(fd, page, recency->known + (size_t)page * PAGE_WORDS);
	if (fd >= 0)
		close(fd);
}

bool recency_was_read(const struct recency *recency, const struct oid *oid, uint32_t block)
{
	uint32_t bit = bit_of(oid, block), word = bit / WORD_BITS;
	uint64_t mask = UINT64_C(1) << bit % WORD_BITS;

	return (recency->known[word] & mask) ||
	       (atomic_load_explicit(&recency->fresh[word], memory_order_relaxed) & mask);
}

void recency_forget(struct recency *recency, const struct oid *oid, uint32_t block)
{
	uint32_t bit = bit_of(oid, block), word = bit / WORD_BITS;
	uint64_t mask = UINT64_C(1) << bit % WORD_BITS;

	atomic_fetch_and_explicit(&recency->fresh[word], ~mask, memory_order_relaxed);
	if (!(recency->known[word] & mask))
		return;
	recency->known[word] &= ~mask;
	recency->page_changed[word / PAGE_WORDS] = true;
}

void recency_store(struct recency *recency, int dir_fd)
{
	int fd = file_open(dir_fd);

	for (unsigned page = 0; page < PAGE_COUNT && fd >= 0; page++)
		if (recency->page_changed[page])
			page_store(fd, page, recency->known + (size_t)page * PAGE_WORDS);
	memset(recency->page_changed, 0, sizeof(recency->page_changed));
	if (fd >= 0)
		close(fd);
}
