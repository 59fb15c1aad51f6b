/*
 * Fuzz target: packets. The first byte says how the rest is cut; in pieces or whole, the same
 * packets must come out.
 */
#include <stdlib.h>
#include <string.h>

#include "git/pktline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int add(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len)
{
	if (len > PKT_MAX_DATA || (kind != PKT_DATA && len != 0))
		abort();
	return buf_addf(arg, "%d %zu ", kind, len) || buf_add(arg, data, len);
}

static int read_all(const uint8_t *data, size_t len, size_t piece, struct buf *out)
{
	struct pkt_reader reader;
	int rc = 0;

	pkt_reader_init(&reader);
	for (size_t off = 0; off < len && !rc; off += piece) {
		size_t used, part = len - off < piece ? len - off : piece;

		rc = pkt_reader_feed(&reader, data + off, part, &used, add, out);
		if (used > part || (!rc && used != part) || reader.partial.len > PKT_MAX_DATA)
			abort();
	}
	pkt_reader_release(&reader);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct buf whole = BUF_INIT, pieces = BUF_INIT;

	if (len < 2)
		return 0;
	if (read_all(data + 1, len - 1, len, &whole) !=
	    read_all(data + 1, len - 1, data[0] % 32 + 1, &pieces))
		abort();
	if (whole.len != pieces.len ||
	    (whole.len && memcmp(whole.data, pieces.data, whole.len) != 0))
		abort();
	buf_release(&whole);
	buf_release(&pieces);
	return 0;
}
