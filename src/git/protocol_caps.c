/*
 * protocol_caps: what a server can do, as it advertises it and as it is remembered.
 *
 * Only capabilities that xcpfs makes use of have a place here; all others are passed over.
 */
#include "git/protocol_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "the server's advertisement"

/* ---- remembered ---- */

static const struct {
	const char *word;
	size_t off;
} flags[] = {
	{ "shallow", offsetof(struct server_caps, fetch_shallow) },
	{ "filter", offsetof(struct server_caps, fetch_filter) },
	{ "unborn", offsetof(struct server_caps, ls_refs_unborn) },
	{ "object-info", offsetof(struct server_caps, object_info) },
	{ "agent", offsetof(struct server_caps, agent) },
	{ "object-format", offsetof(struct server_caps, object_format) },
	{ "want-any", offsetof(struct server_caps, want_any) },
	{ "ofs-delta", offsetof(struct server_caps, ofs_delta) },
	{ "thin-pack", offsetof(struct server_caps, thin_pack) },
	{ "side-band-64k", offsetof(struct server_caps, side_band_64k) },
	{ "no-progress", offsetof(struct server_caps, no_progress) },
};
#define FLAG_COUNT (sizeof(flags) / sizeof(*flags))

static bool *flag_of(struct server_caps *caps, size_t i)
{
	return (bool *)((char *)caps + flags[i].off);
}

void server_caps_init_v2(struct server_caps *caps, enum oid_algo algo)
{
	*caps = (struct server_caps){
		.version = 2,
		.algo = algo,
		.want_any = true,
		.ofs_delta = true,
		.thin_pack = true,
		.side_band_64k = true,
		.no_progress = true,
	};
}

int server_caps_format(const struct server_caps *caps, struct buf *out)
{
	struct server_caps copy = *caps;
	struct buf line = BUF_INIT;
	int rc;

	rc = buf_addf(&line, "v%u %s", caps->version, oid_algo_name(caps->algo));
	for (size_t i = 0; i < FLAG_COUNT && !rc; i++) {
		if (*flag_of(&copy, i))
			rc = buf_addf(&line, " %s", flags[i].word);
	}
	if (!rc)
		rc = buf_add(out, line.data, line.len);
	buf_release(&line);
	return rc;
}

static enum oid_algo algo_from_name(struct text name)
{
	if (text_is(name, "sha1"))
		return OID_SHA1;
	if (text_is(name, "sha256"))
		return OID_SHA256;
	return 0;
}

static void set_flag(struct server_caps *caps, struct text word)
{
	for (size_t i = 0; i < FLAG_COUNT; i++) {
		if (text_is(word, flags[i].word))
			*flag_of(caps, i) = true;
	}
}

int server_caps_parse(const char *text, struct server_caps *out)
{
	struct text line = { text, strlen(text) }, word;
	struct server_caps caps = { 0 };

	if (!text_cut(&line, ' ', &word))
		return -EINVAL;
	if (text_is(word, "v2"))
		caps.version = 2;
	else if (!text_is(word, "v0"))
		return -EINVAL;
	if (!text_cut(&line, ' ', &word))
		return -EINVAL;
	caps.algo = algo_from_name(word);
	if (!caps.algo)
		return -EINVAL;
	while (text_cut(&line, ' ', &word))
		set_flag(&caps, word);
	*out = caps;
	return 0;
}

/* ---- advertised ---- */

enum advert_state {
	ADVERT_START,	 /* nothing yet */
	ADVERT_SERVICE,	 /* behind "# service=": its flush comes */
	ADVERT_FIRST,	 /* "version N" or the first ref */
	ADVERT_V0_FIRST, /* behind "version 1" */
	ADVERT_V0_REFS,	 /* refs till the flush */
	ADVERT_V2,	 /* capabilities till the flush */
};

void advert_parser_init(struct advert_parser *parser)
{
	memset(parser, 0, sizeof(*parser));
	pkt_reader_init(&parser->reader);
	parser->caps.algo = OID_SHA1;
	parser->state = ADVERT_START;
}

void advert_parser_release(struct advert_parser *parser)
{
	pkt_reader_release(&parser->reader);
	ref_list_release(&parser->refs);
	free(parser->symref_head);
	parser->symref_head = NULL;
}

static int malformed(struct xcp_error *err)
{
	return xcp_error_set(err, -EPROTO, "cannot read " WHAT ": malformed; is it a git server?");
}

static int set_object_format(struct advert_parser *parser, struct text name, struct xcp_error *err)
{
	enum oid_algo algo = algo_from_name(name);

	if (!algo)
		return xcp_error_set(err, -EPROTO,
				     "cannot read " WHAT
				     ": its object format is neither sha1 nor sha256");
	parser->caps.algo = algo;
	parser->caps.object_format = true;
	return 0;
}

static void set_fetch_feature(struct server_caps *caps, struct text feature)
{
	if (text_is(feature, "shallow"))
		caps->fetch_shallow = true;
	else if (text_is(feature, "filter"))
		caps->fetch_filter = true;
}

/* "key" or "key=value value" */
static int take_v2_capability(struct advert_parser *parser, struct text line, struct xcp_error *err)
{
	struct server_caps *caps = &parser->caps;
	struct text feature;

	if (text_skip(&line, "object-format="))
		return set_object_format(parser, line, err);
	if (text_skip(&line, "agent=")) {
		caps->agent = true;
	} else if (text_is(line, "object-info") || text_skip(&line, "object-info=")) {
		caps->object_info = true;
	} else if (text_skip(&line, "fetch=")) {
		while (text_cut(&line, ' ', &feature))
			set_fetch_feature(caps, feature);
	} else if (text_skip(&line, "ls-refs=")) {
		while (text_cut(&line, ' ', &feature))
			caps->ls_refs_unborn |= text_is(feature, "unborn");
	}
	return 0;
}

static int set_symref_head(struct advert_parser *parser, struct text target, struct xcp_error *err)
{
	free(parser->symref_head);
	parser->symref_head = text_copy(target);
	return parser->symref_head ?
		       0 :
		       xcp_error_set(err, -ENOMEM, "cannot read " WHAT ": out of memory");
}

struct v0_allows {
	bool tip, reachable; /* both together is how allowAnySHA1InWant shows */
};

static int take_v0_capability(struct advert_parser *parser, struct text word,
			      struct v0_allows *allows, struct xcp_error *err)
{
	static const char *const known[] = { "shallow",	  "filter",	   "ofs-delta",
					     "thin-pack", "side-band-64k", "no-progress" };

	if (text_skip(&word, "object-format="))
		return set_object_format(parser, word, err);
	if (text_skip(&word, "symref=HEAD:"))
		return set_symref_head(parser, word, err);
	if (text_skip(&word, "agent="))
		parser->caps.agent = true;
	allows->tip |= text_is(word, "allow-tip-sha1-in-want");
	allows->reachable |= text_is(word, "allow-reachable-sha1-in-want");
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (text_is(word, known[i]))
			set_flag(&parser->caps, word);
	}
	return 0;
}

static int take_v0_capabilities(struct advert_parser *parser, struct text words,
				struct xcp_error *err)
{
	struct v0_allows allows = { false, false };
	struct text word;
	int rc = 0;

	while (!rc && text_cut(&words, ' ', &word))
		rc = take_v0_capability(parser, word, &allows, err);
	parser->caps.want_any = allows.tip && allows.reachable;
	return rc;
}

/* "NAME^{}" is what the tag NAME in the line before points to. */
static bool take_peeled(struct advert_parser *parser, struct text name, const struct oid *oid)
{
	struct ref *last = parser->refs.count ? &parser->refs.v[parser->refs.count - 1] : NULL;

	if (name.len < 3 || memcmp(name.data + name.len - 3, "^{}", 3) != 0)
		return false;
	name.len -= 3;
	if (last && text_is(name, last->name))
		last->peeled = *oid;
	return true; /* also "capabilities^{}", which stands where there are no refs */
}

static int take_v0_ref(struct advert_parser *parser, struct text line, struct xcp_error *err)
{
	struct oid oid;

	if (text_skip(&line, "shallow "))
		return 0;
	if (text_cut_oid(&line, &oid) || oid.algo != parser->caps.algo)
		return malformed(err);
	if (text_is(line, ".have") || take_peeled(parser, line, &oid))
		return 0;
	return ref_list_add_text(&parser->refs, line, &oid, err);
}

/* The first ref has the capabilities behind a NUL; they say how long an id is. */
static int take_v0_first(struct advert_parser *parser, struct text line, struct xcp_error *err)
{
	struct text ref;
	int rc;

	parser->state = ADVERT_V0_REFS;
	if (!text_cut(&line, '\0', &ref))
		return malformed(err);
	rc = take_v0_capabilities(parser, line, err);
	return rc ? rc : take_v0_ref(parser, ref, err);
}

static int take_first(struct advert_parser *parser, struct text line, struct xcp_error *err)
{
	if (text_is(line, "version 2")) {
		server_caps_init_v2(&parser->caps, OID_SHA1);
		parser->state = ADVERT_V2;
		return 0;
	}
	if (text_is(line, "version 1")) {
		parser->state = ADVERT_V0_FIRST;
		return 0;
	}
	return take_v0_first(parser, line, err);
}

static int take_line(struct advert_parser *parser, struct text line, struct xcp_error *err)
{
	switch ((enum advert_state)parser->state) {
	case ADVERT_START:
		if (text_skip(&line, "# service=")) {
			parser->state = ADVERT_SERVICE;
			return text_is(line, "git-upload-pack") ? 0 : malformed(err);
		}
		return take_first(parser, line, err);
	case ADVERT_FIRST:
		return take_first(parser, line, err);
	case ADVERT_V0_FIRST:
		return take_v0_first(parser, line, err);
	case ADVERT_V0_REFS:
		return take_v0_ref(parser, line, err);
	case ADVERT_V2:
		return take_v2_capability(parser, line, err);
	case ADVERT_SERVICE:
		break;
	}
	return malformed(err);
}

/* What v0 says about HEAD belongs to its ref. */
static int apply_symref_head(struct advert_parser *parser, struct xcp_error *err)
{
	for (size_t i = 0; parser->symref_head && i < parser->refs.count; i++) {
		struct ref *ref = &parser->refs.v[i];
		struct text target = { parser->symref_head, strlen(parser->symref_head) };

		if (strcmp(ref->name, "HEAD") == 0)
			return ref_set_symref(&parser->refs, ref, target, err);
	}
	return 0;
}

static int take_flush(struct advert_parser *parser, struct xcp_error *err)
{
	int rc;

	if (parser->state == ADVERT_SERVICE) {
		parser->state = ADVERT_FIRST;
		return 0;
	}
	rc = apply_symref_head(parser, err);
	if (rc)
		return rc;
	parser->finished = true;
	return 1;
}

static int take_packet(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len,
		       struct xcp_error *err)
{
	struct advert_parser *parser = arg;
	int rc;

	if (kind == PKT_FLUSH)
		return take_flush(parser, err);
	if (kind != PKT_DATA)
		return malformed(err);
	rc = protocol_check_err(err, WHAT, data, len);
	return rc ? rc : take_line(parser, text_from_packet(data, len), err);
}

int advert_parser_feed(struct advert_parser *parser, const uint8_t *data, size_t len,
		       size_t *out_used, struct xcp_error *err)
{
	if (out_used)
		*out_used = 0;
	if (parser->finished)
		return 0;
	return protocol_feed(&parser->reader, data, len, out_used, take_packet, parser, WHAT, err);
}
