/*
 * Tests of git/protocol: requests byte for byte, answers in every form known from servers, and both
 * against the real git-upload-pack, in versions 0, 1 and 2, SHA-1 and SHA-256, fed whole and in
 * random pieces.
 */
#include "git/protocol.h"

#include "expect.h"
#include "git_support.h"
#include "pack_support.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "cccccccccccccccccccccccccccccccccccccccc"
#define ZERO "0000000000000000000000000000000000000000"
#define A256 A "aaaaaaaaaaaaaaaaaaaaaaaa"

static struct oid oid_of(const char *hex)
{
	struct oid oid = { 0 };

	oid_from_hex(hex, strlen(hex), &oid);
	return oid;
}

static const char *hex_of(const struct oid *oid)
{
	static char hex[4][OID_MAX_HEX + 1];
	static unsigned next;

	return oid_is_null(oid) ? "-" : oid_to_hex(oid, hex[next++ % 4]);
}

/*
 * Answers are written as text: each line is a packet with its newline, "~" in front leaves the
 * newline out, and "F" and "D" alone are flush and delim. "^1" at the front of a line stands for a
 * byte 1, "|" for a NUL.
 */
static void add_line(struct buf *out, const char *line, size_t len)
{
	char packet[1024];
	size_t n = 0;
	bool newline = true;

	if (len == 1 && *line == 'F') {
		pkt_add_flush(out);
		return;
	}
	if (len == 1 && *line == 'D') {
		pkt_add_delim(out);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (i == 0 && line[i] == '~')
			newline = false;
		else if (line[i] == '^' && line[i + 1] >= '0' && line[i + 1] <= '3')
			packet[n++] = (char)(line[++i] - '0');
		else
			packet[n++] = line[i] == '|' ? '\0' : line[i];
	}
	if (newline)
		packet[n++] = '\n';
	pkt_add(out, packet, n);
}

static struct buf packets(const char *text)
{
	struct buf out = BUF_INIT;

	while (*text) {
		size_t len = strcspn(text, "\n");

		add_line(&out, text, len);
		text += len + (text[len] == '\n');
	}
	return out;
}

/* The other way: packets as text with F and D, so that requests can be compared. */
static int add_text(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len)
{
	static const char *const words[] = { "", "F\n", "D\n", "E\n" };

	return kind == PKT_DATA ? buf_add(arg, data, len) : buf_add_str(arg, words[kind]);
}

static void is_request(struct buf *request, const char *want, const char *name)
{
	struct pkt_reader reader;
	struct buf text = BUF_INIT;

	pkt_reader_init(&reader);
	pkt_reader_feed(&reader, request->data, request->len, NULL, add_text, &text);
	EXPECT_STR(buf_str(&text), want, "%s", name);
	pkt_reader_release(&reader);
	buf_release(&text);
	buf_release(request);
}

/* ---- feeding in pieces ---- */

typedef int (*feed_fn)(void *parser, const uint8_t *data, size_t len, size_t *out_used,
		       struct xcp_error *err);

static int feed_advert(void *p, const uint8_t *data, size_t len, size_t *used,
		       struct xcp_error *err)
{
	return advert_parser_feed(p, data, len, used, err);
}

static int feed_refs(void *p, const uint8_t *data, size_t len, size_t *used, struct xcp_error *err)
{
	return refs_parser_feed(p, data, len, used, err);
}

static int feed_fetch(void *p, const uint8_t *data, size_t len, size_t *used, struct xcp_error *err)
{
	return fetch_parser_feed(p, data, len, used, err);
}

static int feed_sizes(void *p, const uint8_t *data, size_t len, size_t *used, struct xcp_error *err)
{
	return sizes_parser_feed(p, data, len, used, err);
}

/*
 * `seed` 0: whole; else pieces of random length. Returns the parser's value; *out_used how many
 * bytes it took in all.
 */
static int feed_all(feed_fn fn, void *parser, const uint8_t *data, size_t len, uint32_t seed,
		    size_t *out_used, struct xcp_error *err)
{
	size_t off = 0, used, piece;
	int rc = 0;

	while (off < len && !rc) {
		piece = seed ? 1 + git_random(&seed) % (git_random(&seed) % 4 ? 7 : 5000) : len;
		if (piece > len - off)
			piece = len - off;
		rc = fn(parser, data + off, piece, &used, err);
		off += used;
		if (used < piece)
			break;
	}
	if (out_used)
		*out_used = off;
	return rc;
}

/* ---- refs ---- */

static void describe_refs(const struct ref_list *list, struct buf *out)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct ref *ref = &list->v[i];

		buf_addf(out, "%.4s %s %.4s %s\n", hex_of(&ref->oid), ref->name,
			 hex_of(&ref->peeled), ref->symref ? ref->symref : "-");
	}
}

static void test_ls_refs_answers(void)
{
	static const struct {
		const char *answer;
		int rc;
		bool finished;
		const char *want;
	} cases[] = {
		{ "F", 0, true, "" },
		{ A " HEAD symref-target:refs/heads/main\n" A " refs/heads/main\n" B
		    " refs/tags/v1 peeled:" A "\nF",
		  0, true,
		  "aaaa HEAD - refs/heads/main\naaaa refs/heads/main - -\nbbbb refs/tags/v1 aaaa "
		  "-\n" },
		{ "unborn HEAD symref-target:refs/heads/main\nF", 0, true,
		  "- HEAD - refs/heads/main\n" },
		{ "~" A " HEAD\nF", 0, true, "aaaa HEAD - -\n" },
		{ A " HEAD new-attribute:x\nF", 0, true, "aaaa HEAD - -\n" },
		{ A256 " HEAD\nF", 0, true, "aaaa HEAD - -\n" },
		{ A " HEAD", 0, false, "aaaa HEAD - -\n" },
		{ "ERR no such\e[1mthing\x07\nF", -EREMOTEIO, false, "" },
		{ A " HEAD\nD", -EPROTO, false, "aaaa HEAD - -\n" },
		{ "aaaa HEAD\nF", -EPROTO, false, "" },
		{ A "\nF", -EPROTO, false, "" },
		{ A "  x\nF", -EPROTO, false, "" },
		{ A " a|b\nF", -EPROTO, false, "" },
		{ A " a\tb\nF", -EPROTO, false, "" },
		{ A " t peeled:xyz\nF", -EPROTO, false, "aaaa t - -\n" },
		{ A " t symref-target:\nF", -EPROTO, false, "aaaa t - -\n" },
		{ "~\nF", -EPROTO, false, "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (uint32_t seed = 0; seed < 3; seed++) {
			struct buf answer = packets(cases[i].answer), got = BUF_INIT;
			struct xcp_error err = { 0 };
			struct refs_parser parser;

			refs_parser_init(&parser);
			EXPECT_INT(feed_all(feed_refs, &parser, answer.data, answer.len, seed, NULL,
					    &err),
				   cases[i].rc, "refs %zu", i);
			EXPECT_INT(err.code, cases[i].rc, "the error has the code");
			EXPECT(!cases[i].rc == (err.message[0] == '\0'), "and words: %s",
			       err.message);
			describe_refs(&parser.refs, &got);
			EXPECT_STR(buf_str(&got), cases[i].want, "its refs");
			EXPECT_INT(parser.finished, cases[i].finished, "finished or not");
			refs_parser_release(&parser);
			buf_release(&got);
			buf_release(&answer);
		}
	}
}

static void test_the_list_has_a_limit(void)
{
	struct ref_list list = { 0 };
	struct oid oid = oid_of(A);
	static char name[60000];
	int rc = 0;

	memset(name, 'x', sizeof(name));
	for (int i = 0; i < 10000 && !rc; i++)
		rc = ref_list_add(&list, name, sizeof(name), &oid);
	EXPECT_INT(rc, -E2BIG, "a server cannot fill the memory");
	EXPECT(list.bytes <= REF_LIST_MAX_BYTES, "the list stays below its limit");
	ref_list_release(&list);
	EXPECT_INT(ref_list_add(&list, "", 0, &oid), -EINVAL, "no name");
	EXPECT_INT(ref_list_add(&list, "a b", 3, &oid), -EINVAL, "name with a space");
	EXPECT_INT(ref_list_add(&list, "ok", 2, &oid), 0, "usable after release");
	ref_list_release(&list);
}

static void test_choosing_a_ref(void)
{
	static const char *const names[] = { "HEAD",
					     "refs/heads/a",
					     "refs/heads/tag",
					     "refs/heads/v1",
					     "refs/tags/v1",
					     "refs/remotes/origin/HEAD",
					     "refs/remotes/origin/x",
					     "refs/x",
					     "refs/heads/refs/heads/a" };
	static const struct {
		const char *name, *want;
	} cases[] = {
		{ "HEAD", "HEAD" },
		{ "a", "refs/heads/a" },
		{ "heads/a", "refs/heads/a" },
		{ "refs/heads/a", "refs/heads/a" },
		{ "v1", "refs/tags/v1" },
		{ "heads/v1", "refs/heads/v1" },
		{ "x", "refs/x" },
		{ "origin", "refs/remotes/origin/HEAD" },
		{ "origin/x", "refs/remotes/origin/x" },
		{ "nothing", NULL },
		{ "", NULL },
		{ "head", NULL },
	};
	struct ref_list list = { 0 };
	struct oid oid = oid_of(A);

	EXPECT(!ref_select(&list, "HEAD"), "nothing in an empty list");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		ref_list_add(&list, names[i], strlen(names[i]), &oid);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct ref *ref = ref_select(&list, cases[i].name);

		EXPECT_STR(ref ? ref->name : NULL, cases[i].want, "'%s'", cases[i].name);
	}
	ref_list_release(&list);
}

/* ---- advertisements ---- */

#define V0_CAPS                                                                                    \
	"multi_ack thin-pack side-band side-band-64k ofs-delta shallow no-progress include-tag "   \
	"symref=HEAD:refs/heads/main agent=git/2"

static void test_advertisements(void)
{
	static const struct {
		const char *answer;
		int rc;
		const char *caps, *refs;
	} cases[] = {
		{ "version 2\nagent=git/2.39\nls-refs=unborn\nfetch=shallow wait-for-done "
		  "filter\nserver-option\nobject-format=sha1\nobject-info\nF",
		  0,
		  "v2 sha1 shallow filter unborn object-info agent object-format want-any "
		  "ofs-delta thin-pack side-band-64k no-progress",
		  "" },
		{ "# service=git-upload-pack\nF\nversion "
		  "2\nls-refs\nfetch\nobject-format=sha256\nF",
		  0,
		  "v2 sha256 object-format want-any ofs-delta thin-pack side-band-64k no-progress",
		  "" },
		{ "# service=git-upload-pack\nF\n" A " HEAD|" V0_CAPS "\n" A " refs/heads/main\n" B
		  " refs/tags/v1\n" A " refs/tags/v1^{}\nF",
		  0, "v0 sha1 shallow agent ofs-delta thin-pack side-band-64k no-progress",
		  "aaaa HEAD - refs/heads/main\naaaa refs/heads/main - -\nbbbb refs/tags/v1 aaaa "
		  "-\n" },
		{ A " HEAD| filter allow-tip-sha1-in-want allow-reachable-sha1-in-want\nF", 0,
		  "v0 sha1 filter want-any", "aaaa HEAD - -\n" },
		{ A " HEAD|allow-tip-sha1-in-want\nF", 0, "v0 sha1", "aaaa HEAD - -\n" },
		{ "version 1\n" A " HEAD|ofs-delta\n" B " refs/heads/x\nshallow " A "\nF", 0,
		  "v0 sha1 ofs-delta", "aaaa HEAD - -\nbbbb refs/heads/x - -\n" },
		{ ZERO " capabilities^{}|ofs-delta\nF", 0, "v0 sha1 ofs-delta", "" },
		{ A256 " HEAD|object-format=sha256\nF", 0, "v0 sha256 object-format",
		  "aaaa HEAD - -\n" },
		{ A " HEAD\nF", 0, "v0 sha1", "aaaa HEAD - -\n" },
		{ A " HEAD|\n" B " .have\nF", 0, "v0 sha1", "aaaa HEAD - -\n" },
		{ "F", 0, "v0 sha1", "" },
		{ "# service=git-upload-pack\nF\nF", 0, "v0 sha1", "" },
		{ "ERR access denied or repository not exported: /x\nF", -EREMOTEIO, NULL, NULL },
		{ "version 2\nERR late\nF", -EREMOTEIO, NULL, NULL },
		{ "# service=git-receive-pack\nF\nF", -EPROTO, NULL, NULL },
		{ "# service=git-upload-pack\nversion 2\nF", -EPROTO, NULL, NULL },
		{ "version 2\nobject-format=sha512\nF", -EPROTO, NULL, NULL },
		{ "version 2\nD", -EPROTO, NULL, NULL },
		{ "version 3\nF", -EPROTO, NULL, NULL },
		{ A " HEAD|object-format=sha256\nF", -EPROTO, NULL, NULL },
		{ A256 " HEAD|\nF", -EPROTO, NULL, NULL },
		{ A "\tHEAD\nF", -EPROTO, NULL, NULL },
		{ A " HEAD|\nhello\nF", -EPROTO, NULL, NULL },
		{ "~\nF", -EPROTO, NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (uint32_t seed = 0; seed < 3; seed++) {
			struct buf answer = packets(cases[i].answer), caps = BUF_INIT,
				   refs = BUF_INIT;
			struct xcp_error err = { 0 };
			struct advert_parser parser;
			size_t used;

			buf_add(&answer, "rest", 4);
			advert_parser_init(&parser);
			EXPECT_INT(feed_all(feed_advert, &parser, answer.data, answer.len, seed,
					    &used, &err),
				   cases[i].rc, "advertisement %zu", i);
			EXPECT_INT(err.code, cases[i].rc, "the error has the code: %s",
				   err.message);
			if (!cases[i].rc) {
				EXPECT(parser.finished && used == answer.len - 4,
				       "finished in front of the rest");
				server_caps_format(&parser.caps, &caps);
				describe_refs(&parser.refs, &refs);
				EXPECT_STR(buf_str(&caps), cases[i].caps, "its capabilities");
				EXPECT_STR(buf_str(&refs), cases[i].refs, "its refs");
			}
			advert_parser_release(&parser);
			buf_release(&caps);
			buf_release(&refs);
			buf_release(&answer);
		}
	}
}

static void test_other_servers(void)
{
	static const char *const texts[] = { "<!DOCTYPE html>", A "\trefs/heads/main\n", "PACK" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct advert_parser parser;
		struct xcp_error err = { 0 };
		int rc;

		advert_parser_init(&parser);
		rc = advert_parser_feed(&parser, (const uint8_t *)texts[i], strlen(texts[i]), NULL,
					&err);
		EXPECT(!parser.finished && (rc == 0 || rc == -EPROTO), "no git server %zu: %s", i,
		       err.message);
		advert_parser_release(&parser);
	}
}

static void test_remembered_caps(void)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "v2 sha1", "v2 sha1" },
		{ "v2 sha256 filter shallow", "v2 sha256 shallow filter" },
		{ "v0 sha1 later-word side-band-64k", "v0 sha1 side-band-64k" },
		{ "v2", NULL },
		{ "", NULL },
		{ "v3 sha1", NULL },
		{ "v2 sha512", NULL },
		{ "v2  sha1", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct server_caps caps;
		struct buf out = BUF_INIT;
		int rc = server_caps_parse(cases[i].text, &caps);

		EXPECT_INT(rc, cases[i].want ? 0 : -EINVAL, "'%s'", cases[i].text);
		if (!rc) {
			server_caps_format(&caps, &out);
			EXPECT_STR(buf_str(&out), cases[i].want, "there and back");
		}
		buf_release(&out);
	}
}

/* ---- requests ---- */

static void test_ls_refs_requests(void)
{
	static const char *const prefixes[] = { "HEAD", "refs/tags/v1" };
	struct server_caps caps, old = { .version = 0, .algo = OID_SHA1 };
	struct buf out = BUF_INIT;

	server_caps_init_v2(&caps, OID_SHA1);
	EXPECT_INT(protocol_ls_refs_request(&out, &caps, NULL, 0), 0, "unasked");
	is_request(&out, "command=ls-refs\nD\npeel\nsymrefs\nF\n", "unasked");
	caps.agent = caps.object_format = caps.ls_refs_unborn = true;
	caps.algo = OID_SHA256;
	EXPECT_INT(protocol_ls_refs_request(&out, &caps, prefixes, 2), 0, "with everything");
	is_request(&out,
		   "command=ls-refs\nagent=" PROTOCOL_AGENT
		   "\nobject-format=sha256\nD\npeel\nsymrefs\nunborn\n"
		   "ref-prefix HEAD\nref-prefix refs/tags/v1\nF\n",
		   "with everything");
	EXPECT_INT(protocol_ls_refs_request(&out, &old, NULL, 0), -EOPNOTSUPP,
		   "there is none in v0");
}

static void test_fetch_requests(void)
{
	struct oid wants[] = { oid_of(A), oid_of(B) }, have = oid_of(C), large = oid_of(A256);
	struct fetch_spec spec = { .wants = wants, .want_count = 2 }, bad = { 0 };
	struct server_caps caps;
	struct buf out = BUF_INIT;

	server_caps_init_v2(&caps, OID_SHA1);
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), 0, "wants alone");
	is_request(&out,
		   "command=fetch\nD\nofs-delta\nno-progress\nwant " A "\nwant " B "\ndone\nF\n",
		   "wants alone");

	spec.deepen = 1;
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), -EOPNOTSUPP,
		   "no depth where there is none");
	caps.fetch_shallow = true;
	spec.filter = "blob:none";
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), -EOPNOTSUPP,
		   "no filter where there is none");
	EXPECT_INT(out.len, 0, "nothing was written");

	caps.fetch_filter = caps.agent = caps.object_format = true;
	spec.shallows = spec.haves = &have;
	spec.shallow_count = spec.have_count = 1;
	spec.thin = true;
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), 0, "everything");
	is_request(&out,
		   "command=fetch\nagent=" PROTOCOL_AGENT
		   "\nobject-format=sha1\nD\nthin-pack\nofs-delta\nno-progress\nshallow " C
		   "\ndeepen 1\nfilter blob:none\nwant " A "\nwant " B "\nhave " C "\ndone\nF\n",
		   "everything");

	caps.version = 0;
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), 0, "everything in v0");
	is_request(&out,
		   "want " A " side-band-64k ofs-delta no-progress thin-pack filter "
		   "object-format=sha1 agent=" PROTOCOL_AGENT "\nwant " B "\nshallow " C
		   "\ndeepen 1\nfilter blob:none\nF\nhave " C "\ndone\n",
		   "everything in v0");

	caps = (struct server_caps){ .version = 0, .algo = OID_SHA1 };
	spec = (struct fetch_spec){ .wants = wants, .want_count = 1 };
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), 0, "the poorest server");
	is_request(&out, "want " A "\nF\ndone\n", "the poorest server");

	buf_add(&out, "x", 1);
	EXPECT_INT(protocol_fetch_request(&out, &caps, &bad), -EINVAL, "without wants");
	spec.wants = &large;
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), -EINVAL, "id of another algorithm");
	server_caps_init_v2(&caps, OID_SHA1);
	EXPECT_INT(protocol_fetch_request(&out, &caps, &spec), -EINVAL,
		   "id of another algorithm in v2");
	EXPECT_INT(out.len, 1, "what was there stays, nothing is added");
	buf_release(&out);
}

static void test_sizes_requests(void)
{
	struct oid oids[] = { oid_of(A), oid_of(B) };
	struct server_caps caps;
	struct buf out = BUF_INIT;

	server_caps_init_v2(&caps, OID_SHA1);
	EXPECT_INT(protocol_sizes_request(&out, &caps, oids, 2), -EOPNOTSUPP, "not advertised");
	caps.object_info = true;
	EXPECT_INT(protocol_sizes_request(&out, &caps, oids, 2), 0, "advertised");
	is_request(&out, "command=object-info\nD\nsize\noid " A "\noid " B "\nF\n", "two sizes");
}

/* ---- fetch answers ---- */

static int pack_add(void *arg, const uint8_t *data, size_t len)
{
	return buf_add(arg, data, len);
}

static void test_fetch_answers(void)
{
	static const struct {
		const char *answer;
		unsigned version;
		bool sideband;
		int rc;
		bool finished;
		const char *pack, *unknown;
	} cases[] = {
		{ "packfile\n~^1PACK\n~^1\n^2progress\n~^1more\nF", 2, true, 0, true, "PACKmore",
		  NULL },
		{ "shallow-info\nshallow " A "\nD\npackfile\n~^1PACK\nF", 2, true, 0, true, "PACK",
		  NULL },
		{ "acknowledgments\nACK " A "\nready\nD\nwanted-refs\n" A
		  " refs/x\nD\npackfile-uris\nx y\nD\npackfile\n~^1P\nF",
		  2, true, 0, true, "P", NULL },
		{ "some-later-section\nx\nD\npackfile\n~^1P\nF", 2, true, 0, true, "P", NULL },
		{ "acknowledgments\nNAK\nF", 2, true, 0, true, "", NULL },
		{ "packfile\n~^1PA", 2, true, 0, false, "PA", NULL },
		{ "", 2, true, 0, false, "", NULL },
		{ "ERR upload-pack: not our ref " A "\n", 2, true, -EREMOTEIO, false, "", A },
		{ "~ERR upload-pack: not our ref " A256, 2, true, -EREMOTEIO, false, "", A256 },
		{ "ERR want " B " not valid\n", 2, true, -EREMOTEIO, false, "", B },
		{ "ERR upload-pack: not our ref xyz\n", 2, true, -EREMOTEIO, false, "", NULL },
		{ "ERR not our ref \n", 2, true, -EREMOTEIO, false, "", NULL },
		{ "ERR \n", 2, true, -EREMOTEIO, false, "", NULL },
		{ "packfile\n~^1PA\nERR late\n", 2, true, -EREMOTEIO, false, "PA", NULL },
		{ "packfile\n~^1PA\n~^3upload-pack: not our ref " C, 2, true, -EREMOTEIO, false,
		  "PA", C },
		{ "packfile\n~^3", 2, true, -EREMOTEIO, false, "", NULL },
		{ "packfile\n~^0x", 2, true, -EPROTO, false, "", NULL },
		{ "packfile\n~", 2, true, -EPROTO, false, "", NULL },
		{ "packfile\n~^1x\nD", 2, true, -EPROTO, false, "x", NULL },
		{ "D", 2, true, -EPROTO, false, "", NULL },
		{ "NAK\n~^1PACK\n^2progress\n~^1\n~^1x\nF", 0, true, 0, true, "PACKx", NULL },
		{ "shallow " A "\nunshallow " B "\nF\nNAK\n~^1PACK\nF", 0, true, 0, true, "PACK",
		  NULL },
		{ "ACK " A "\n~^1PACK\nF", 0, true, 0, true, "PACK", NULL },
		{ "ACK " A " common\nACK " A "\n~^1PACK\nF", 0, true, 0, true, "PACK", NULL },
		{ "NAK\n~^3upload-pack: not our ref " A "\n", 0, true, -EREMOTEIO, false, "", A },
		{ "ERR upload-pack: not our ref " A "\n", 0, true, -EREMOTEIO, false, "", A },
		{ "hello\n", 0, true, -EPROTO, false, "", NULL },
		{ "~^1PACK\n", 0, true, -EPROTO, false, "", NULL },
		{ "NAK\nD", 0, true, -EPROTO, false, "", NULL },
		{ "shallow " A "\nF\nNAK", 0, false, 0, false, "", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (uint32_t seed = 0; seed < 4; seed++) {
			struct server_caps caps = { .version = cases[i].version,
						    .algo = OID_SHA1,
						    .side_band_64k = cases[i].sideband };
			struct buf answer = packets(cases[i].answer), pack = BUF_INIT;
			struct xcp_error err = { 0 };
			struct fetch_parser parser;

			fetch_parser_init(&parser, &caps, pack_add, &pack);
			EXPECT_INT(feed_all(feed_fetch, &parser, answer.data, answer.len, seed,
					    NULL, &err),
				   cases[i].rc, "answer %zu", i);
			EXPECT_INT(err.code, cases[i].rc, "the error has the code: %s",
				   err.message);
			EXPECT_INT(parser.finished, cases[i].finished, "finished or not");
			EXPECT_STR(buf_str(&pack), cases[i].pack, "its pack");
			EXPECT_INT(parser.saw_pack, pack.len > 0, "seen or not");
			EXPECT_STR(hex_of(&parser.unknown),
				   cases[i].unknown ? cases[i].unknown : "-", "the unknown id");
			fetch_parser_release(&parser);
			buf_release(&pack);
			buf_release(&answer);
		}
	}
}

static void test_a_pack_without_sideband(void)
{
	static const char raw[] = "PACK and 0000 whatever follows, 0005x";

	for (uint32_t seed = 0; seed < 8; seed++) {
		struct server_caps caps = { .version = 0, .algo = OID_SHA1 };
		struct buf answer = packets("shallow " A "\nF\nNAK"), pack = BUF_INIT;
		struct fetch_parser parser;
		size_t used;

		buf_add(&answer, raw, strlen(raw));
		fetch_parser_init(&parser, &caps, pack_add, &pack);
		EXPECT_INT(
			feed_all(feed_fetch, &parser, answer.data, answer.len, seed, &used, NULL),
			0, "raw");
		EXPECT_INT(used, answer.len, "all was taken");
		EXPECT_STR(buf_str(&pack), raw, "all behind NAK is the pack");
		fetch_parser_release(&parser);
		buf_release(&pack);
		buf_release(&answer);
	}
}

static int fail_pack(void *arg, const uint8_t *data, size_t len)
{
	(void)arg, (void)data, (void)len;
	return -ENOSPC;
}

static void test_the_receiver_stops_an_answer(void)
{
	struct buf answer = packets("packfile\n~^1PACK\nF");
	struct xcp_error err = { .code = 5 };
	struct server_caps caps;
	struct fetch_parser parser;

	server_caps_init_v2(&caps, OID_SHA1);
	fetch_parser_init(&parser, &caps, fail_pack, NULL);
	EXPECT_INT(fetch_parser_feed(&parser, answer.data, answer.len, NULL, &err), -ENOSPC,
		   "its error comes out");
	EXPECT_INT(err.code, 5, "its words are left alone");
	fetch_parser_release(&parser);
	buf_release(&answer);
}

static void test_words_of_a_server_are_harmless(void)
{
	struct buf answer = packets("ERR a\e[31m\x9b\tb\r");
	struct xcp_error err = { 0 };
	struct refs_parser parser;

	refs_parser_init(&parser);
	refs_parser_feed(&parser, answer.data, answer.len, NULL, &err);
	EXPECT_STR(err.message, "cannot read refs: server says: a?[31m? b",
		   "printable ASCII on one line");
	refs_parser_release(&parser);
	buf_release(&answer);
}

/* ---- object-info answers ---- */

static int add_size(void *arg, const struct oid *oid, bool known, uint64_t size)
{
	return buf_addf(arg, "%.2s=%lld ", hex_of(oid), known ? (long long)size : -1LL);
}

static void test_sizes_answers(void)
{
	static const struct {
		const char *answer;
		int rc;
		bool finished;
		const char *want;
	} cases[] = {
		{ "size\n" A " 5\n" B " 4611686018427387904\nF", 0, true,
		  "aa=5 bb=4611686018427387904 " },
		{ "size\n" A " \n" B "\n" C " 0\nF", 0, true, "aa=-1 bb=-1 cc=0 " },
		{ "~size\n~" A " 7\nF", 0, true, "aa=7 " },
		{ "size\nF", 0, true, "" },
		{ "F", 0, true, "" },
		{ "size\n" A " 5", 0, false, "aa=5 " },
		{ "ERR no\n", -EREMOTEIO, false, "" },
		{ A " 5\nF", -EPROTO, false, "" },
		{ "size\naa 5\nF", -EPROTO, false, "" },
		{ "size\n" A " -5\nF", -EPROTO, false, "" },
		{ "size\n" A " 5 6\nF", -EPROTO, false, "" },
		{ "size\n" A " 99999999999999999999\nF", -EPROTO, false, "" },
		{ "size\nD", -EPROTO, false, "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (uint32_t seed = 0; seed < 3; seed++) {
			struct buf answer = packets(cases[i].answer), got = BUF_INIT;
			struct xcp_error err = { 0 };
			struct sizes_parser parser;

			sizes_parser_init(&parser, add_size, &got);
			EXPECT_INT(feed_all(feed_sizes, &parser, answer.data, answer.len, seed,
					    NULL, &err),
				   cases[i].rc, "sizes %zu", i);
			EXPECT_INT(err.code, cases[i].rc, "the error has the code: %s",
				   err.message);
			EXPECT_STR(buf_str(&got), cases[i].want, "its sizes");
			EXPECT_INT(parser.finished, cases[i].finished, "finished or not");
			sizes_parser_release(&parser);
			buf_release(&got);
			buf_release(&answer);
		}
	}
}

/* ---- the real upload-pack ---- */

static struct server_caps advert_of_git(const char *repository, unsigned version, bool http,
					struct ref_list *out_refs)
{
	struct buf answer = BUF_INIT;
	struct xcp_error err = { 0 };
	struct advert_parser parser;
	struct server_caps caps;

	if (http && version < 2)
		answer = packets("# service=git-upload-pack\nF");
	git_sh(&answer,
	       "GIT_PROTOCOL=version=%u git upload-pack --stateless-rpc --advertise-refs %s",
	       version, repository);
	advert_parser_init(&parser);
	EXPECT_INT(feed_all(feed_advert, &parser, answer.data, answer.len, 5, NULL, &err), 0,
		   "%s v%u: advertisement %s", repository, version, err.message);
	EXPECT(parser.finished, "finished");
	EXPECT_INT(parser.caps.version, version == 2 ? 2 : 0, "its version");
	caps = parser.caps;
	*out_refs = parser.refs;
	parser.refs = (struct ref_list){ 0 };
	advert_parser_release(&parser);
	buf_release(&answer);
	return caps;
}

/* Posts a request as HTTP would and gives the answer. */
static struct buf post(const char *repository, unsigned version, struct buf *request)
{
	struct buf answer = BUF_INIT;

	git_write_file("request", request->data, request->len);
	git_sh(&answer, "GIT_PROTOCOL=version=%u git upload-pack --stateless-rpc %s <request",
	       version, repository);
	buf_release(request);
	return answer;
}

static struct ref_list refs_of_git(const char *repository, const struct server_caps *caps)
{
	static const char *const prefixes[] = { "HEAD", "refs/" };
	struct buf request = BUF_INIT, answer;
	struct xcp_error err = { 0 };
	struct refs_parser parser;
	struct ref_list refs;

	EXPECT_INT(protocol_ls_refs_request(&request, caps, prefixes, 2), 0, "ls-refs request");
	answer = post(repository, 2, &request);
	refs_parser_init(&parser);
	EXPECT_INT(feed_all(feed_refs, &parser, answer.data, answer.len, 3, NULL, &err), 0,
		   "ls-refs answer %s", err.message);
	EXPECT(parser.finished, "finished");
	refs = parser.refs;
	parser.refs = (struct ref_list){ 0 };
	refs_parser_release(&parser);
	buf_release(&answer);
	return refs;
}

static void check_refs(const char *repository, const struct ref_list *refs)
{
	static const struct {
		const char *name, *rev;
	} cases[] = {
		{ "HEAD", "HEAD" }, { "topic", "topic" }, { "v1", "v1" }, { "light", "light" }
	};
	const struct ref *head = ref_select(refs, "HEAD"), *tag = ref_select(refs, "v1");
	char line[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct ref *ref = ref_select(refs, cases[i].name);
		struct oid want;

		snprintf(line, sizeof(line), "git -C %s rev-parse %s", repository, cases[i].rev);
		want = git_oid(line);
		EXPECT(ref && oid_equal(&ref->oid, &want), "%s is git's", cases[i].name);
	}
	snprintf(line, sizeof(line), "git -C %s rev-parse 'v1^{}'", repository);
	struct oid peeled = git_oid(line);

	EXPECT(tag && oid_equal(&tag->peeled, &peeled), "the tag is peeled");
	EXPECT_STR(head ? head->symref : NULL, "refs/heads/main", "HEAD is symbolic");
}

struct answer_pack {
	struct pack_parser *parser;
};

static int pack_feed(void *arg, const uint8_t *data, size_t len)
{
	struct answer_pack *pack = arg;

	return pack_parser_feed(pack->parser, data, len);
}

/* Reads one answer with its pack; `c` then holds the objects. */
static int read_fetch(const struct server_caps *caps, const uint8_t *data, size_t len,
		      uint32_t seed, struct collector *c, size_t *out_used, struct oid *out_unknown)
{
	struct answer_pack pack = { pack_parser_new(caps->algo, &collector_events, c) };
	struct xcp_error err = { 0 };
	struct fetch_parser parser;
	int rc;

	c->algo = caps->algo;
	fetch_parser_init(&parser, caps, pack_feed, &pack);
	rc = feed_all(feed_fetch, &parser, data, len, seed, out_used, &err);
	if (!rc)
		EXPECT(parser.finished && pack_parser_finished(pack.parser),
		       "answer and pack are whole");
	else
		printf("# %s\n", err.message);
	if (out_unknown)
		*out_unknown = parser.unknown;
	fetch_parser_release(&parser);
	pack_parser_free(pack.parser);
	return rc;
}

static void check_fetch(const char *repository, unsigned version, const struct server_caps *caps,
			const struct fetch_spec *spec, size_t want_objects, const char *name)
{
	struct buf request = BUF_INIT, answer;

	EXPECT_INT(protocol_fetch_request(&request, caps, spec), 0, "%s v%u: %s: request",
		   repository, version, name);
	answer = post(repository, version, &request);
	for (uint32_t seed = 0; seed < 2; seed++) {
		struct collector c = { 0 };

		EXPECT_INT(read_fetch(caps, answer.data, answer.len, seed, &c, NULL, NULL), 0,
			   "answer");
		EXPECT_INT(collector_resolve(&c), 0, "all deltas resolve");
		EXPECT_INT(c.count, want_objects, "so many objects");
		for (size_t i = 0; i < spec->want_count; i++)
			EXPECT(collector_find(&c, &spec->wants[i]), "want %zu is among them", i);
		collector_release(&c);
	}
	buf_release(&answer);
}

static size_t count_objects(const char *repository, const char *how)
{
	struct buf out = BUF_INIT;
	size_t count = 0;

	git_sh(&out, "git -C %s %s", repository, how);
	for (size_t i = 0; i < out.len; i++)
		count += out.data[i] == '\n';
	buf_release(&out);
	return count;
}

static struct oid rev(const char *repository, const char *name)
{
	char line[200];

	snprintf(line, sizeof(line), "git -C %s rev-parse '%s'", repository, name);
	return git_oid(line);
}

static void check_unknown(const char *repository, unsigned version, const struct server_caps *caps)
{
	struct oid wants[2] = { rev(repository, "HEAD"), rev(repository, "HEAD") }, unknown;
	struct fetch_spec spec = { .wants = wants, .want_count = 2 };
	struct buf request = BUF_INIT, answer;
	struct collector c = { 0 };

	wants[1].hash[3] ^= 1;
	EXPECT_INT(protocol_fetch_request(&request, caps, &spec), 0, "request with an unknown id");
	answer = post(repository, version, &request);
	EXPECT_INT(read_fetch(caps, answer.data, answer.len, 0, &c, NULL, &unknown), -EREMOTEIO,
		   "is refused");
	EXPECT(oid_equal(&unknown, &wants[1]), "and the id is named");
	collector_release(&c);
	buf_release(&answer);
}

static void check_sizes(const char *repository, const struct server_caps *caps)
{
	struct oid oids[3] = { rev(repository, "HEAD:dir/deep/file"), rev(repository, "HEAD:empty"),
			       rev(repository, "HEAD") };
	struct buf request = BUF_INIT, answer, got = BUF_INIT, want = BUF_INIT;
	struct xcp_error err = { 0 };
	struct sizes_parser parser;

	oids[2].hash[0] ^= 1;
	EXPECT_INT(protocol_sizes_request(&request, caps, oids, 3), 0, "sizes: request");
	answer = post(repository, 2, &request);
	sizes_parser_init(&parser, add_size, &got);
	EXPECT_INT(feed_all(feed_sizes, &parser, answer.data, answer.len, 9, NULL, &err), 0,
		   "sizes: answer %s", err.message);
	EXPECT(parser.finished, "finished");
	buf_addf(&want, "%.2s=6 %.2s=0 %.2s=-1 ", hex_of(&oids[0]), hex_of(&oids[1]),
		 hex_of(&oids[2]));
	EXPECT_STR(buf_str(&got), buf_str(&want), "a size, a zero, an unknown");
	sizes_parser_release(&parser);
	buf_release(&got);
	buf_release(&want);
	buf_release(&answer);
}

static void check_against_git(const char *repository, unsigned version, bool http)
{
	struct ref_list refs;
	struct server_caps caps = advert_of_git(repository, version, http, &refs);
	struct oid head = rev(repository, "HEAD"), old = rev(repository, "HEAD~1");
	struct oid blobs[] = { rev(repository, "HEAD:dir/deep/file"), rev(repository, "HEAD:text"),
			       rev(repository, "HEAD:one") };
	struct fetch_spec spec = { .wants = &head, .want_count = 1 };

	if (version == 2) {
		ref_list_release(&refs);
		refs = refs_of_git(repository, &caps);
		check_sizes(repository, &caps);
	}
	check_refs(repository, &refs);
	EXPECT(caps.fetch_filter && caps.fetch_shallow, "filters and depth are advertised");

	check_fetch(repository, version, &caps, &spec,
		    count_objects(repository, "rev-list --objects HEAD"), "all");
	spec.haves = &old;
	spec.have_count = 1;
	check_fetch(repository, version, &caps, &spec,
		    count_objects(repository, "rev-list --objects HEAD~1..HEAD"), "a step");
	spec.have_count = 0;
	spec.deepen = 1;
	check_fetch(repository, version, &caps, &spec,
		    count_objects(repository, "rev-list --objects --max-count=1 HEAD"), "one deep");
	spec.filter = "blob:none";
	check_fetch(repository, version, &caps, &spec, 4, "one deep without blobs");
	if (version == 2) {
		spec = (struct fetch_spec){ .wants = blobs, .want_count = 3 };
		check_fetch(repository, version, &caps, &spec, 3, "three blobs");
	}
	check_unknown(repository, version, &caps);
	ref_list_release(&refs);
}

static void test_git_in_version_0(void)
{
	check_against_git("one", 0, false);
	check_against_git("two", 0, true);
}

static void test_git_in_version_1(void)
{
	check_against_git("one", 1, true);
	check_against_git("two", 1, false);
}

static void test_git_in_version_2(void)
{
	check_against_git("one", 2, false);
	check_against_git("two", 2, true);
}

/*
 * Several commands over one pipe, as ssh and local remotes have it: each answer ends where the next
 * begins.
 */
static void test_one_session_many_commands(void)
{
	struct oid head = rev("one", "HEAD"), blob = rev("one", "HEAD:one");
	struct fetch_spec first = {
		.wants = &head, .want_count = 1, .deepen = 1, .filter = "blob:none"
	};
	struct fetch_spec second = { .wants = &blob, .want_count = 1 };

	for (uint32_t seed = 0; seed < 3; seed++) {
		struct buf request = BUF_INIT, answer = BUF_INIT;
		struct advert_parser advert;
		struct collector c1 = { 0 }, c2 = { 0 };
		struct refs_parser refs;
		struct server_caps caps;
		size_t off = 0, used;

		server_caps_init_v2(&caps, OID_SHA1);
		caps.fetch_filter = caps.fetch_shallow = true;
		protocol_ls_refs_request(&request, &caps, NULL, 0);
		protocol_fetch_request(&request, &caps, &first);
		protocol_fetch_request(&request, &caps, &second);
		pkt_add_flush(&request);
		git_write_file("request", request.data, request.len);
		git_sh(&answer, "GIT_PROTOCOL=version=2 git upload-pack one <request");

		advert_parser_init(&advert);
		EXPECT_INT(
			feed_all(feed_advert, &advert, answer.data, answer.len, seed, &used, NULL),
			0, "advertisement");
		off += used;
		refs_parser_init(&refs);
		EXPECT_INT(feed_all(feed_refs, &refs, answer.data + off, answer.len - off, seed,
				    &used, NULL),
			   0, "refs");
		check_refs("one", &refs.refs);
		off += used;
		EXPECT_INT(read_fetch(&caps, answer.data + off, answer.len - off, seed, &c1, &used,
				      NULL),
			   0, "first fetch");
		EXPECT_INT(c1.count, 4, "a commit and its trees");
		off += used;
		EXPECT_INT(read_fetch(&caps, answer.data + off, answer.len - off, seed, &c2, &used,
				      NULL),
			   0, "second fetch");
		EXPECT_INT(c2.count, 1, "a blob");
		EXPECT_INT(off + used, answer.len, "nothing is left");
		advert_parser_release(&advert);
		refs_parser_release(&refs);
		collector_release(&c1);
		collector_release(&c2);
		buf_release(&request);
		buf_release(&answer);
	}
}

/*
 * The first bytes of a v0 pack behind a server without side-band-64k, for which the parser must not
 * look for packets.
 */
static void test_git_without_sideband(void)
{
	struct ref_list refs;
	struct server_caps caps = advert_of_git("one", 0, false, &refs);
	struct oid head = rev("one", "HEAD");
	struct fetch_spec spec = { .wants = &head, .want_count = 1, .deepen = 1 };
	struct buf request = BUF_INIT, answer, pack = BUF_INIT;
	struct collector c = { .algo = OID_SHA1 };
	struct fetch_parser parser;
	struct pack_parser *inner;

	caps.side_band_64k = false;
	protocol_fetch_request(&request, &caps, &spec);
	answer = post("one", 0, &request);
	fetch_parser_init(&parser, &caps, pack_add, &pack);
	EXPECT_INT(feed_all(feed_fetch, &parser, answer.data, answer.len, 4, NULL, NULL), 0,
		   "unframed pack");
	inner = pack_parser_new(OID_SHA1, &collector_events, &c);
	EXPECT_INT(pack_parser_feed(inner, pack.data, pack.len), 0, "is a pack");
	EXPECT(pack_parser_finished(inner), "and whole");
	pack_parser_free(inner);
	fetch_parser_release(&parser);
	collector_release(&c);
	ref_list_release(&refs);
	buf_release(&pack);
	buf_release(&answer);
}

static void test_empty_repositories(void)
{
	for (unsigned version = 0; version <= 2; version++) {
		struct ref_list refs;

		git_sh(NULL, "test -d empty || git init -q --bare -b main empty");
		advert_of_git("empty", version, version == 1, &refs);
		EXPECT_INT(refs.count, 0, "no refs");
		ref_list_release(&refs);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	git_setup();
	git_make_repository("one", "sha1");
	git_make_repository("two", "sha256");

	TAP_RUN(test_ls_refs_answers);
	TAP_RUN(test_the_list_has_a_limit);
	TAP_RUN(test_choosing_a_ref);
	TAP_RUN(test_advertisements);
	TAP_RUN(test_other_servers);
	TAP_RUN(test_remembered_caps);
	TAP_RUN(test_ls_refs_requests);
	TAP_RUN(test_fetch_requests);
	TAP_RUN(test_sizes_requests);
	TAP_RUN(test_fetch_answers);
	TAP_RUN(test_a_pack_without_sideband);
	TAP_RUN(test_the_receiver_stops_an_answer);
	TAP_RUN(test_words_of_a_server_are_harmless);
	TAP_RUN(test_sizes_answers);
	TAP_RUN(test_git_in_version_0);
	TAP_RUN(test_git_in_version_1);
	TAP_RUN(test_git_in_version_2);
	TAP_RUN(test_one_session_many_commands);
	TAP_RUN(test_git_without_sideband);
	TAP_RUN(test_empty_repositories);
	return tap_done();
}
