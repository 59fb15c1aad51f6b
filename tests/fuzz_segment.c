/*
 * Fuzz target: segment files. The first byte says whether checks are made right first, or
 * nothing would ever come behind them. A walk must end inside the file, a sound header must
 * keep its promises, a body must unpack to the promised length or not at all.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "cache/bytes.h"
#include "cache/codec.h"
#include "cache/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void seal(uint8_t *record, size_t len)
{
	size_t stored_len = get_le32(record + 68);

	if (stored_len <= len - RECORD_HEADER_LEN)
		put_le64(record + 72, record_body_check(record + RECORD_HEADER_LEN, stored_len));
	put_le64(record + 80, XXH3_64bits(record, 80));
}

static void check_header(const struct record_header *header, size_t len)
{
	if (header->raw_len > RECORD_RAW_MAX || header->stored_len > header->raw_len ||
	    len != record_len(header->stored_len) || len % 8 != 0 ||
	    (uint64_t)header->block_index * RECORD_RAW_MAX + header->raw_len > header->object_size)
		abort();
}

static void check_body(struct codec *codec, const struct record_header *header, const uint8_t *body)
{
	uint8_t *raw;

	if (header->codec != CODEC_ZSTD)
		return;
	raw = malloc(header->raw_len + 1u);
	if (!raw)
		return;
	codec_unpack(codec, NULL, body, header->stored_len, raw, header->raw_len);
	free(raw);
}

static void check_records(uint8_t *bytes, size_t len, int do_seal)
{
	struct codec *codec = codec_new();
	size_t off = SEGMENT_HEADER_LEN;

	while (codec && off <= len && len - off >= RECORD_HEADER_LEN) {
		struct record_header header;
		size_t one_len;

		if (do_seal)
			seal(bytes + off, len - off);
		if (record_header_decode(bytes + off, &header, &one_len))
			break;
		check_header(&header, one_len);
		if (one_len > len - off)
			break;
		check_body(codec, &header, bytes + off + RECORD_HEADER_LEN);
		off += one_len;
	}
	codec_free(codec);
}

static void check_walk(const uint8_t *bytes, size_t len)
{
	int fd = memfd_create("segment", MFD_CLOEXEC);
	uint64_t end;

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		abort();
	end = segment_walk(fd, SEGMENT_HEADER_LEN, len);
	if (len >= SEGMENT_HEADER_LEN ? end > len : end != SEGMENT_HEADER_LEN)
		abort();
	if (end % 8 != 0)
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct segment_header header;
	uint8_t *bytes;

	if (len < 1 + SEGMENT_HEADER_LEN)
		return 0;
	len--;
	bytes = malloc(len);
	if (!bytes)
		return 0;
	memcpy(bytes, data + 1, len);
	segment_header_decode(bytes, &header);
	check_records(bytes, len, data[0] & 1);
	check_walk(bytes, len);
	free(bytes);
	return 0;
}
