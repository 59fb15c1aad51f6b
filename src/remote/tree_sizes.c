/*
 * tree_sizes: sizes of all files below a tree, from the API of the host. One row per kind of host
 * that has such a thing.
 *
 * Sources: GitHub's REST API, "Get a tree" (its answer holds at most 100,000 entries or 7 MB, and
 * says when that was too little).
 */
#include <errno.h>
#include <string.h>

#include "remote/http_internal.h"

static const struct kind {
	const char *name;
	const char *path,
		*all_below; /* behind the API's URL of the repository: path TREE all_below */
	const char *accept;
	const char *member; /* the array of entries: {"type": "blob", "sha": ID, "size": N} */
	const char *cut;    /* true when some entries were left out */
} kinds[] = {
	{ "github", "/git/trees/", "?recursive=1", "application/vnd.github+json", "tree",
	  "truncated" },
};

static const struct kind *kind_of(const struct source *source)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (source->host_kind && strcmp(kinds[i].name, source->host_kind) == 0)
			return &kinds[i];
	return NULL;
}

/* ---- URLs ---- */

static int expand(const struct source *source, struct buf *out)
{
	const struct host_words words = { .owner = source->owner, .repo = source->repo };
	int rc = host_expand(source->api, &words, out, NULL);

	if (rc)
		return rc;
	return buf_str(out) ? 0 : -ENOMEM;
}

bool tree_sizes_possible(const struct source *source)
{
	struct buf url = BUF_INIT;
	bool possible = source->api && kind_of(source) && expand(source, &url) == 0 &&
			http_get_possible(source, buf_str(&url));

	buf_release(&url);
	return possible;
}

int tree_sizes_url(const struct source *source, const struct oid *tree, bool below, struct buf *out)
{
	const struct kind *kind = kind_of(source);
	char hex[OID_MAX_HEX + 1];
	int rc = expand(source, out);

	rc = rc ? rc : buf_add_str(out, kind->path);
	rc = rc ? rc : buf_add_str(out, oid_to_hex(tree, hex));
	rc = rc || !below ? rc : buf_add_str(out, kind->all_below);
	if (rc)
		return rc;
	return buf_str(out) ? 0 : -ENOMEM;
}

/* ---- the answer ---- */

static int take_entry(void *arg, const json_t *item)
{
	struct remote_call *call = arg;
	const char *type = json_string_value(json_object_get(item, "type"));
	const char *hex = json_string_value(json_object_get(item, "sha"));
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

static void judge(struct http_call *line)
{
	struct remote_call *call = line->call;
	struct tree_sizes_parser *parser = &call->parser.tree_sizes;
	struct xcp_error err = { 0 };
	json_t *rest = NULL;

	if (line->exchange.code == CURLE_OK && !call->judged) {
		if (json_items_end(&parser->items, &rest, &err))
			http_get_refuse(call, "", err.message);
		else
			parser->whole = true;
		call->outcome.cut =
			json_is_true(json_object_get(rest, kind_of(call->remote->source)->cut));
		json_decref(rest);
	}
	call_end(call, http_end_words(&line->exchange));
}

static void ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;

	if (http_get_follow(line))
		return;
	if (exchange->status == 200)
		judge(line);
	else
		http_get_refused(line);
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
