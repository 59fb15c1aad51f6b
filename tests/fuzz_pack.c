/*
 * Fuzz target: pack streams. The first byte says which hash and how the rest is cut. Whatever
 * comes, events keep their order, no entry gives more bytes than its size, and a base lies in front
 * of its delta.
 */
#include <errno.h>
#include <stdlib.h>

#include "git/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct watch {
	bool open;
	struct pack_entry entry;
	uint64_t given, next_off;
};

static int watch_entry(void *arg, const struct pack_entry *entry)
{
	struct watch *watch = arg;

	if (watch->open || entry->off < watch->next_off || entry->size > INT64_MAX)
		abort();
	if (entry->kind == PACK_OFS_DELTA &&
	    (entry->base_off < 12 || entry->base_off >= entry->off))
		abort();
	if (entry->kind == PACK_REF_DELTA && oid_is_null(&entry->base_oid))
		abort();
	watch->open = true;
	watch->entry = *entry;
	watch->given = 0;
	watch->next_off = entry->off + 1;
	return 0;
}

static int watch_data(void *arg, const uint8_t *data, size_t len)
{
	struct watch *watch = arg;

	watch->given += len;
	if (!watch->open || len == 0 || len > 65536 || watch->given > watch->entry.size || !data)
		abort();
	return 0;
}

static int watch_end(void *arg)
{
	struct watch *watch = arg;

	if (!watch->open || watch->given != watch->entry.size)
		abort();
	watch->open = false;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct pack_events events = { NULL, watch_entry, watch_data, watch_end };
	static const size_t pieces[] = { 1, 2, 7, 20, 64, 1000, 65536, 1 << 20 };
	struct watch watch = { .next_off = 12 };
	struct pack_parser *parser;
	size_t piece;
	int rc = 0;

	if (len == 0)
		return 0;
	piece = pieces[data[0] % 8];
	parser = pack_parser_new(data[0] & 8 ? OID_SHA256 : OID_SHA1, &events, &watch);
	if (!parser)
		return 0;
	for (size_t off = 1; off < len && !rc; off += piece)
		rc = pack_parser_feed(parser, data + off, len - off < piece ? len - off : piece);
	if (rc && (rc != pack_parser_feed(parser, data, 1) || *pack_parser_error(parser) == '\0'))
		abort();
	if (pack_parser_finished(parser) && (rc || watch.open))
		abort();
	pack_parser_free(parser);
	return 0;
}
