/*
 * Sources: GitHub's REST API, "Get a commit" (media type sha); Gitea's API, "GetSingleCommit";
 * GitLab's API, "Get a single commit"; Bitbucket's, "Get a commit".
 */
#include "remote/commit_id.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "remote/http_internal.h"

static const struct kind {
	const char *name;
	const char *path, *behind; /* of the id, behind the API's URL of the repository */
	const char *accept;
	const char *member; /* of the answer; NULL: it is the id and nothing else */
} kinds[] = {
	{ "github", "/commits/", "", "application/vnd.github.sha", NULL },
	{ "gitea", "/git/commits/", "?stat=false&verification=false&files=false",
	  "application/json", "sha" },
	{ "forgejo", "/git/commits/", "?stat=false&verification=false&files=false",
	  "application/json", "sha" },
	{ "gitlab", "/repository/commits/", "?stats=false", "application/json", "id" },
	{ "bitbucket", "/commit/", "?fields=hash", "application/json", "hash" },
};

static const struct kind *kind_of(const struct source *source)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (source->host_kind && strcmp(kinds[i].name, source->host_kind) == 0)
			return &kinds[i];
	return NULL;
}

/* ---- the answer ---- */

int commit_id_feed(struct commit_parser *parser, const uint8_t *data, size_t len,
		   struct xcp_error *err)
{
	if (parser->text.len + len > COMMIT_ANSWER_MAX_LEN)
		return xcp_error_set(err, -EPROTO, "the answer is too long");
	if (buf_add(&parser->text, data, len))
		return xcp_error_set(err, -ENOMEM, "out of memory");
	return 0;
}

static bool read_json(const struct buf *text, const char *member, struct oid *out)
{
	json_t *json = json_loadb((const char *)text->data, text->len, 0, NULL);
	const char *hex = json_string_value(json_object_get(json, member));
	bool good = hex && oid_from_hex(hex, strlen(hex), out) == 0;

	json_decref(json);
	return good;
}

static bool read_text(const struct buf *text, struct oid *out)
{
	size_t len = text->len;

	while (len > 0 && strchr("\r\n", text->data[len - 1]))
		len--;
	return oid_from_hex((const char *)text->data, len, out) == 0;
}

static void judge(struct http_call *line)
{
	struct remote_call *call = line->call;
	struct commit_parser *parser = &call->parser.commit;
	const struct kind *kind = kind_of(call->remote->source);

	if (line->exchange.code != CURLE_OK || call->judged)
		return;
	parser->whole = kind->member ? read_json(&parser->text, kind->member, parser->out) :
				       read_text(&parser->text, parser->out);
	if (!parser->whole)
		http_get_refuse(call, "the answer holds no commit id but ",
				line->exchange.answer_type);
}

static int take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct http_call *line = (struct http_call *)exchange;

	return call_feed(line->call, data, len, NULL);
}

static void ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;

	if (http_get_follow(line))
		return;
	if (exchange->status == 200) {
		judge(line);
		call_end(line->call, http_end_words(exchange));
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
	exchange->small = true;
	exchange->take = take;
	exchange->ended = ended;
	return http_get_fill(line);
}

static void start(struct remote_call *call)
{
	http_call_start(call, http_get_begin, fill);
}

const struct transport_ops commit_id_transport = {
	.start = start,
	.resume = http_call_resume,
	.cancel = http_call_cancel,
};

/* ---- the question ---- */

struct question {
	struct remote_sink sink;
	struct oid oid;
	struct lock lock;
	struct lock_cond changed;
	/* under `lock` */
	bool done;
	struct remote_outcome outcome;
};

static void on_done(struct remote_sink *sink, const struct remote_outcome *outcome)
{
	struct question *question = (struct question *)sink;

	lock_take(&question->lock);
	question->outcome = *outcome;
	question->done = true;
	lock_cond_signal(&question->changed);
	lock_give(&question->lock);
}

/* Starts it, and waits for its end. */
static int put(struct remote *remote, const char *id, struct question *question)
{
	struct remote_call *call = call_new(remote, CALL_COMMIT, &question->sink);
	const struct kind *kind = kind_of(remote->source);
	struct buf *url;
	int rc;

	if (!call)
		return -ENOMEM;
	call->parser.commit.out = &question->oid;
	url = &call->request;
	rc = http_api_url(remote->source, url);
	rc = rc ? rc : buf_add_str(url, kind->path);
	rc = rc ? rc : buf_add_str(url, id);
	rc = rc ? rc : buf_add_str(url, kind->behind);
	rc = call_launch(call, rc || !buf_str(url) ? -ENOMEM : 0, NULL);
	if (rc)
		return rc;
	lock_take(&question->lock);
	while (!question->done)
		lock_cond_wait(&question->changed, &question->lock);
	lock_give(&question->lock);
	return 0;
}

static bool is_hex(const char *id)
{
	return *id && strspn(id, "0123456789abcdefABCDEF") == strlen(id) &&
	       strlen(id) < OID_MAX_HEX;
}

static bool begins_with(const struct oid *oid, const char *id)
{
	char hex[OID_MAX_HEX + 1];

	return strncasecmp(oid_to_hex(oid, hex), id, strlen(id)) == 0;
}

static int judge_question(const struct question *question, const char *id, struct oid *out,
			  struct xcp_error *err)
{
	const struct remote_outcome *outcome = &question->outcome;

	if (outcome->verdict == REMOTE_REFUSED_FEATURE)
		return xcp_error_set(err, -ENOENT, "%s", outcome->error.message);
	if (outcome->verdict != REMOTE_OK)
		return xcp_error_set(err, verdict_code(outcome->verdict), "%s",
				     outcome->error.message);
	if (!begins_with(&question->oid, id))
		return xcp_error_set(err, -EPROTO, "the host's API names another commit for %s",
				     id);
	*out = question->oid;
	return 0;
}

int remote_find_commit(struct remote *remote, const char *id, struct oid *out,
		       struct xcp_error *err)
{
	struct question question = { .sink.done = on_done };
	int rc;

	if (!remote->connected || !is_hex(id))
		return xcp_error_set(err, -EINVAL, "\"%s\" is no part of a commit id", id);
	if (!kind_of(remote->source) || !http_api_possible(remote->source))
		return xcp_error_set(err, -EOPNOTSUPP, "the host has no API that knows it");
	lock_init(&question.lock);
	lock_cond_init(&question.changed);
	rc = put(remote, id, &question);
	rc = rc ? xcp_error_set(err, rc, "%s", strerror(-rc)) :
		  judge_question(&question, id, out, err);
	lock_cond_release(&question.changed);
	lock_release(&question.lock);
	return rc;
}
