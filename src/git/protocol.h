/*
 * protocol: what a client says to git-upload-pack, and what it hears. Sources: gitprotocol-v2,
 * gitprotocol-pack (v0/v1), gitprotocol-http, gitprotocol-capabilities.
 *
 * Builders append to a buf; parsers are fed bytes as they arrive and call back. No I/O here: the
 * same bytes go over HTTP bodies, ssh and local pipes.
 *
 * Only what was advertised is ever asked for: an argument that was not gets an empty answer.
 *
 * Threads: a struct belongs to one thread at a time.
 */
#ifndef GIT_PROTOCOL_H
#define GIT_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/oid.h"
#include "git/pktline.h"

/* ---- refs ---- */

struct ref {
	char *name;	   /* owned */
	struct oid oid;	   /* null: unborn, a symbolic ref whose target does not exist yet */
	struct oid peeled; /* of an annotated tag; null otherwise */
	char *symref;	   /* owned; what a symbolic ref points to; NULL */
};
struct ref_list {
	struct ref *v; /* owned */
	size_t count, cap;
	size_t bytes; /* of everything the list holds; bounded, whatever a server sends */
};
#define REF_LIST_MAX_BYTES ((size_t)256 << 20) /* about two million refs */
void ref_list_release(struct ref_list *list);
/*
 * -ENOMEM, -E2BIG beyond REF_LIST_MAX_BYTES, -EINVAL for a name that is empty or has a control
 * character or a space in it.
 */
int ref_list_add(struct ref_list *list, const char *name, size_t name_len, const struct oid *oid);

/*
 * Finds what a person means by `name`, in rev-parse's order: the name itself, refs/NAME,
 * refs/tags/NAME, refs/heads/NAME, refs/remotes/NAME, refs/remotes/NAME/HEAD. NULL when there is
 * none.
 */
const struct ref *ref_select(const struct ref_list *list, const char *name);

/* ---- capabilities ---- */

struct server_caps {
	unsigned version; /* 0 (also 1) or 2 */
	enum oid_algo algo;
	bool fetch_shallow, fetch_filter; /* v2 "fetch=shallow filter", v0 "shallow", "filter" */
	bool ls_refs_unborn;
	bool object_info;
	bool agent;	    /* the server names itself, so may we */
	bool object_format; /* advertised: must be sent with every command */
	/* Any object id may be wanted: always in v2; v0: both allow-...-sha1-in-want. */
	bool want_any;
	bool ofs_delta, thin_pack, side_band_64k, no_progress; /* v0; in v2 always true */
};

/* What a v2 server can do at the least: enough to post ls-refs without having asked. */
void server_caps_init_v2(struct server_caps *caps, enum oid_algo algo);

/*
 * One text line ("v2 sha1 filter shallow ...") that server_caps_parse() reads back: how a host's
 * abilities are remembered. Words that it does not know are passed over; -EINVAL without a version
 * and an algorithm.
 */
int server_caps_format(const struct server_caps *caps, struct buf *out);
int server_caps_parse(const char *text, struct server_caps *out);

/*
 * Reads an advertisement as it arrives, in all its forms: "version 2" at once (git http-backend),
 * behind "# service=git-upload-pack" and a flush (GitHub, and v0), v0/v1 refs with capabilities
 * behind a NUL, "version 1".
 */
struct advert_parser {
	struct pkt_reader reader;
	struct server_caps caps;
	struct ref_list refs; /* v0 and v1 only; peeled and symref filled in */
	char *symref_head;    /* owned; v0 "symref=HEAD:..." */
	int state;
	bool finished; /* the flush that ends it has been seen */
};

/*
 * All feeds below: *out_used (may be NULL) tells how many bytes were taken; less than all when the
 * answer ended before them, so that the next answer on the same pipe can be read from there. A
 * finished parser takes nothing more. After an error only release it. Bytes that end before
 * `finished`, or none at all, are the caller's to report: a server that dies says nothing. Words
 * from the server are stripped of everything that is not printable ASCII.
 */
void advert_parser_init(struct advert_parser *parser);
void advert_parser_release(struct advert_parser *parser);
/*
 * 0, -EPROTO (with words) for what is no advertisement, -EREMOTEIO with the server's ERR line in
 * err, -ENOMEM, -E2BIG (refs).
 */
int advert_parser_feed(struct advert_parser *parser, const uint8_t *data, size_t len,
		       size_t *out_used, struct xcp_error *err);

/* ---- requests ---- */

#define PROTOCOL_AGENT "git/2.39.5-xcpfs" /* hosts insist on "git/" in front */

/* v2 ls-refs with symrefs, peel and (where advertised) unborn. `prefixes` may be empty. */
int protocol_ls_refs_request(struct buf *out, const struct server_caps *caps,
			     const char *const *prefixes, size_t prefix_count);

struct fetch_spec {
	const struct oid *wants; /* borrowed */
	size_t want_count;
	const struct oid *shallows, *haves; /* borrowed; both may be empty */
	size_t shallow_count, have_count;
	unsigned deepen;    /* 0: not sent */
	const char *filter; /* borrowed; NULL: none */
	bool thin;	    /* allow deltas against `haves` */
};
/*
 * For either version, `done` included. -EINVAL without wants or for ids of another algorithm than
 * the server's; -EOPNOTSUPP for a filter, a depth or shallows where they are not advertised.
 */
int protocol_fetch_request(struct buf *out, const struct server_caps *caps,
			   const struct fetch_spec *spec);

/* v2 object-info with "size"; -EOPNOTSUPP where it is not advertised. */
int protocol_sizes_request(struct buf *out, const struct server_caps *caps, const struct oid *oids,
			   size_t count);

/* ---- responses ---- */

/* Reads a v2 ls-refs answer (ended by a flush). Errors as in advert_parser_feed(). */
struct refs_parser {
	struct pkt_reader reader;
	struct ref_list refs;
	bool finished;
};
void refs_parser_init(struct refs_parser *parser);
void refs_parser_release(struct refs_parser *parser);
int refs_parser_feed(struct refs_parser *parser, const uint8_t *data, size_t len, size_t *out_used,
		     struct xcp_error *err);

/*
 * Reads a fetch answer of either version: skips shallow-info, acknowledgments and the like, takes
 * the sideband apart, and hands out pack bytes. Errors of feed: -EPROTO; -EREMOTEIO with the
 * server's words (ERR line or sideband 3) in err, and when they say "not our ref <oid>" (git) or
 * "want <oid> not valid" (JGit), that id in `unknown`; or what `pack` returned, err untouched.
 *
 * v0 without side-band-64k: the pack runs to the end of the connection, and only the pack parser
 * knows when it is whole; `finished` stays false.
 */
struct fetch_parser {
	struct pkt_reader reader;
	unsigned version;
	bool sideband;
	int state;
	int (*pack)(void *arg, const uint8_t *data, size_t len);
	void *arg;
	struct oid unknown; /* null: none named */
	bool finished;	    /* the flush that ends the answer has been seen */
	bool saw_pack;
};
void fetch_parser_init(struct fetch_parser *parser, const struct server_caps *caps,
		       int (*pack)(void *arg, const uint8_t *data, size_t len), void *arg);
void fetch_parser_release(struct fetch_parser *parser);
int fetch_parser_feed(struct fetch_parser *parser, const uint8_t *data, size_t len,
		      size_t *out_used, struct xcp_error *err);

/*
 * Reads an object-info answer; `size` is called once per line; `known` is false for an object that
 * the server does not have.
 */
struct sizes_parser {
	struct pkt_reader reader;
	int state;
	int (*size)(void *arg, const struct oid *oid, bool known, uint64_t size);
	void *arg;
	bool finished;
};
void sizes_parser_init(struct sizes_parser *parser,
		       int (*size)(void *arg, const struct oid *oid, bool known, uint64_t size),
		       void *arg);
void sizes_parser_release(struct sizes_parser *parser);
int sizes_parser_feed(struct sizes_parser *parser, const uint8_t *data, size_t len,
		      size_t *out_used, struct xcp_error *err);

#endif
