/*
 * Fuzz target: what servers say. The first byte chooses the answer, the second how it is cut. In
 * pieces or whole, every parser must come to the same result, and its words must be fit for a
 * terminal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "git/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { ADVERT, REFS, SIZES, FETCH_V2, FETCH_V0, FETCH_V0_RAW, ANSWER_COUNT };

static int add_bytes(void *arg, const uint8_t *data, size_t len)
{
	if (len == 0 || len > (1 << 20))
		abort();
	return buf_add(arg, data, len);
}

static int add_size(void *arg, const struct oid *oid, bool known, uint64_t size)
{
	char hex[OID_MAX_HEX + 1];

	return buf_addf(arg, "%s %d %llu\n", oid_to_hex(oid, hex), known, (unsigned long long)size);
}

static void add_refs(struct buf *out, const struct ref_list *refs)
{
	char hex[OID_MAX_HEX + 1];

	for (size_t i = 0; i < refs->count; i++) {
		buf_addf(out, "%s %s", refs->v[i].name, oid_to_hex(&refs->v[i].oid, hex));
		buf_addf(out, " %s %s\n", oid_to_hex(&refs->v[i].peeled, hex),
			 refs->v[i].symref ? refs->v[i].symref : "-");
	}
	ref_select(refs, "main");
}

/* All parsers behind one face. */
struct session {
	int kind;
	struct advert_parser advert;
	struct refs_parser refs;
	struct sizes_parser sizes;
	struct fetch_parser fetch;
	struct buf result;
	struct xcp_error err;
};

static void session_init(struct session *session, int kind)
{
	struct server_caps caps;

	memset(session, 0, sizeof(*session));
	session->kind = kind;
	server_caps_init_v2(&caps, OID_SHA1);
	caps.version = kind == FETCH_V2 ? 2 : 0;
	caps.side_band_64k = kind != FETCH_V0_RAW;
	advert_parser_init(&session->advert);
	refs_parser_init(&session->refs);
	sizes_parser_init(&session->sizes, add_size, &session->result);
	fetch_parser_init(&session->fetch, &caps, add_bytes, &session->result);
}

static int session_feed(struct session *session, const uint8_t *data, size_t len, size_t *out_used)
{
	switch (session->kind) {
	case ADVERT:
		return advert_parser_feed(&session->advert, data, len, out_used, &session->err);
	case REFS:
		return refs_parser_feed(&session->refs, data, len, out_used, &session->err);
	case SIZES:
		return sizes_parser_feed(&session->sizes, data, len, out_used, &session->err);
	default:
		return fetch_parser_feed(&session->fetch, data, len, out_used, &session->err);
	}
}

/* Appends all that was learnt, so that two sessions can be compared. */
static void session_sum(struct session *session, int rc, size_t used)
{
	struct buf *out = &session->result;
	char hex[OID_MAX_HEX + 1];

	if (!rc)
		buf_addf(out, "used %zu ",
			 used); /* how far a malformed packet was read depends on the pieces */
	buf_addf(out, "rc %d %s ", rc, session->err.message);
	buf_addf(out, "%d%d%d%d ", session->advert.finished, session->refs.finished,
		 session->sizes.finished, session->fetch.finished);
	server_caps_format(&session->advert.caps, out);
	add_refs(out, &session->advert.refs);
	add_refs(out, &session->refs.refs);
	buf_addf(out, "%s", oid_to_hex(&session->fetch.unknown, hex));
	for (const char *c = session->err.message; *c; c++) {
		if (*c < ' ' || *c > '~')
			abort();
	}
	if ((rc != 0) != (session->err.message[0] != '\0'))
		abort();
}

static void session_run(struct session *session, const uint8_t *data, size_t len, size_t piece)
{
	size_t off = 0, used;
	int rc = 0;

	while (off < len && !rc) {
		size_t part = len - off < piece ? len - off : piece;

		rc = session_feed(session, data + off, part, &used);
		if (used > part)
			abort();
		off += used;
		if (used < part)
			break;
	}
	session_sum(session, rc, off);
}

static void session_release(struct session *session)
{
	advert_parser_release(&session->advert);
	refs_parser_release(&session->refs);
	sizes_parser_release(&session->sizes);
	fetch_parser_release(&session->fetch);
	buf_release(&session->result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct session whole, pieces;

	if (len < 3)
		return 0;
	session_init(&whole, data[0] % ANSWER_COUNT);
	session_init(&pieces, data[0] % ANSWER_COUNT);
	session_run(&whole, data + 2, len - 2, len);
	session_run(&pieces, data + 2, len - 2, data[1] % 40 + 1);
	if (whole.result.len != pieces.result.len ||
	    memcmp(whole.result.data, pieces.result.data, whole.result.len) != 0)
		abort();
	session_release(&whole);
	session_release(&pieces);
	return 0;
}
