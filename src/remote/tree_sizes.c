/*
 * tree_sizes: sizes of all files below a tree, from the API of the host. One row per kind of host
 * that has such a thing.
 *
 * Sources: GitHub's REST API, "Get a tree" (its answer holds at most 100,000 entries or 7 MB, and
 * says when that was too little). Gitea's API, "GetTree" (pages, of which all but the last say that
 * they are not all; Forgejo's is the same). Azure DevOps' REST API, "Trees - Get". GitLab's has no
 * sizes; Bitbucket's has no ids.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "remote/http_internal.h"

static const struct kind {
	const char *name;
	/* behind the API's URL of the repository: path TREE, and what asks for which of it */
	const char *path, *direct, *all_below;
	const char *accept;
	const char *member; /* the array of entries: {type: "blob", id: ID, "size": N} */
	const char *type, *id;
	const char *more; /* true when some entries were left out; NULL: none ever are */
	bool pages;	  /* these are on the next page */
} kinds[] = {
	{ "github", "/git/trees/", "", "?recursive=1", "application/vnd.github+json", "tree",
	  "type", "sha", "truncated", false },
	{ "gitea", "/git/trees/", "?per_page=1000", "?recursive=true&per_page=1000",
	  "application/json", "tree", "type", "sha", "truncated", true },
	{ "forgejo", "/git/trees/", "?per_page=1000", "?recursive=true&per_page=1000",
	  "application/json", "tree", "type", "sha", "truncated", true },
	{ "azure", "/trees/", "?api-version=7.1", "?recursive=true&api-version=7.1",
	  "application/json", "treeEntries", "gitObjectType", "objectId", NULL, false },
};

#define PAGES_MAX 200 /* of one tree: what is beyond is asked for by its own */

static const struct kind *kind_of(const struct source *source)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (source->host_kind && strcmp(kinds[i].name, source->host_kind) == 0)
			return &kinds[i];
	return NULL;
}

/* ---- URLs ---- */

bool tree_sizes_possible(const struct source *source)
{
	return kind_of(source) && http_api_possible(source);
}

int tree_sizes_url(const struct source *source, const struct oid *tree, bool below, struct buf *out)
{
	const struct kind *kind = kind_of(source);
	char hex[OID_MAX_HEX + 1];
	int rc = http_api_url(source, out);

	rc = rc ? rc : buf_add_str(out, kind->path);
	rc = rc ? rc : buf_add_str(out, oid_to_hex(tree, hex));
	rc = rc ? rc : buf_add_str(out, below ? kind->all_below : kind->direct);
	if (rc)
		return rc;
	return buf_str(out) ? 0 : -ENOMEM;
}

/* ---- the answer ---- */

static int take_entry(void *arg, const json_t *item)
{
	struct remote_call *call = arg;
	const struct kind *kind = kind_of(call->remote->source);
	const char *type = json_string_value(json_object_get(item, kind->type));
	const char *hex = json_string_value(json_object_get(item, kind->id));
	const json_t *size = json_object_get(item, "size");
	struct oid oid;

	if (!type || strcmp(type, "blob") != 0 || !hex || !json_is_integer(size) ||
	    json_integer_value(size) < 0 || oid_from_hex(hex, strlen(hex), &oid))
		return 0;
	call->sink->size(call->sink, &oid, true, (uint64_t)json_integer_value(size));
	return 0;
}

void tree_sizes_init(struct remote_call *call)
{
	struct tree_sizes_parser *parser = &call->parser.tree_sizes;

	if (parser->page == 0)
		parser->page = 1;
	json_items_init(&parser->items, kind_of(call->remote->source)->member, take_entry, call);
}

static int take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct http_call *line = (struct http_call *)exchange;

	if (!http_type_is(exchange, "application/json"))
		return http_get_refuse(line->call, "the answer is no JSON but ",
				       exchange->answer_type);
	return call_feed(line->call, data, len, NULL);
}

/* A page has come to its end. Whether it says that some entries are not on it. */
static bool page_end(struct http_call *line)
{
	struct remote_call *call = line->call;
	const struct kind *kind = kind_of(call->remote->source);
	struct tree_sizes_parser *parser = &call->parser.tree_sizes;
	struct xcp_error err = { 0 };
	json_t *rest = NULL;
	bool more;

	if (line->exchange.code != CURLE_OK || call->judged)
		return false;
	if (json_items_end(&parser->items, &rest, &err))
		http_get_refuse(call, "", err.message);
	more = kind->more && json_is_true(json_object_get(rest, kind->more));
	json_decref(rest);
	return more;
}

/* Whether the request for the next page is on its way; if not the verdict is there, or to come. */
static bool next_page(struct http_call *line)
{
	struct remote_call *call = line->call;
	struct tree_sizes_parser *parser = &call->parser.tree_sizes;

	if (!kind_of(call->remote->source)->pages || call->judged || parser->page == PAGES_MAX)
		return false;
	json_items_release(&parser->items);
	tree_sizes_init(call);
	parser->page++;
	snprintf(line->suffix, sizeof(line->suffix), "%cpage=%u",
		 strchr(line->place.base, '?') ? '&' : '?', parser->page);
	if (http_get_again(line) == 0)
		return true;
	call_fail(call, REMOTE_TRANSIENT, -ENOMEM, "out of memory");
	return false;
}

static void ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;
	struct remote_call *call = line->call;

	/* Where the first one was the others are. */
	if (call->parser.tree_sizes.page == 1 && http_get_follow(line))
		return;
	if (exchange->status == 200) {
		call->outcome.cut = page_end(line);
		if (call->outcome.cut && next_page(line))
			return;
		call->parser.tree_sizes.whole = exchange->code == CURLE_OK && !call->judged;
		call_end(call, http_end_words(exchange));
	} else {
		http_get_refused(line);
	}
	http_call_done(line);
}

/* ---- the call ---- */

static int fill(struct http_call *line)
{
	struct exchange *exchange = &line->exchange;

	exchange->accept = kind_of(line->call->remote->source)->accept;
	exchange->take_gzip = true;
	exchange->take = take;
	exchange->ended = ended;
	return http_get_fill(line);
}

static void start(struct remote_call *call)
{
	http_call_start(call, http_get_begin, fill);
}

const struct transport_ops tree_sizes_transport = {
	.start = start,
	.resume = http_call_resume,
	.cancel = http_call_cancel,
};
