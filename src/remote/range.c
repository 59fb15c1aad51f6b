/*
 * range: parts of files, from the URLs that a host has for single files. Source: RFC 9110, 14.
 *
 * A call is one GET with a Range, and what it takes to follow redirects (such hosts keep content
 * elsewhere). What the answer claims is compared with what was asked before a byte is passed on;
 * the bytes themselves mean nothing here. Since git's own way is always open, whatever is wrong with
 * an answer and will be so again is no worse than REMOTE_REFUSED_FEATURE.
 *
 * No If-Range: a URL names a commit, behind which content does not change.
 *
 * User and password of the git URL go to that very origin only; elsewhere it is those in the
 * template, or none. A redirect to another origin leaves them behind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"
#include "remote/content_range.h"
#include "remote/http_internal.h"
#include "remote/origin.h"

/* ---- URLs ---- */

static bool is_web(const struct uri *uri)
{
	return uri->host && (strcmp(uri->scheme, "https") == 0 || strcmp(uri->scheme, "http") == 0);
}

static bool may_read(const struct source *source, const struct uri *uri)
{
	return is_web(uri) && (source->insecure || origin_is_safe(uri));
}

static int expand(const struct source *source, const char *commit, const char *path,
		  struct buf *out)
{
	const struct host_words words = { source->owner, source->repo, commit, path };
	int rc = host_expand(source->raw, &words, out, NULL);

	if (rc)
		return rc;
	return buf_str(out) ? 0 : -ENOMEM;
}

bool range_possible(const struct source *source)
{
	struct buf url = BUF_INIT;
	struct uri uri;
	bool possible = false;

	if (source->raw && expand(source, "commit", "path", &url) == 0 &&
	    uri_parse(buf_str(&url), &uri) == 0) {
		possible = may_read(source, &uri);
		uri_release(&uri);
	}
	buf_release(&url);
	return possible;
}

/* Whether it would arrive at the server as it is: no component that URLs do without. */
static bool path_valid(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		if (len == 0 || (len == 1 && path[0] == '.') ||
		    (len == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (path[len] == '\0')
			return true;
		path += len + 1;
	}
}

int range_url(const struct source *source, const struct range_spec *spec, struct buf *out)
{
	char commit[OID_MAX_HEX + 1];

	if (!path_valid(spec->path))
		return -EINVAL;
	return expand(source, oid_to_hex(&spec->commit, commit), spec->path, out);
}

/* ---- the answer ---- */

static int refuse(struct remote_call *call, const char *why, const char *what)
{
	call_fail(call, REMOTE_REFUSED_FEATURE, -EOPNOTSUPP, "%s%.100s", why, what);
	return -EOPNOTSUPP;
}

/* The end of what was asked for, in a file of this size. */
static uint64_t range_end(const struct range_parser *asked, uint64_t total)
{
	uint64_t end = asked->off + asked->len;

	return end < total ? end : total;
}

static int begin_part(struct http_call *line)
{
	struct remote_call *call = line->call;
	const struct range_parser *asked = &call->parser.range;
	const char *header = line->exchange.answer_range;
	struct content_range got;

	if (http_type_is(&line->exchange, "multipart/byteranges"))
		return refuse(call, "the answer has several parts", "");
	if (content_range_parse(header, &got))
		return refuse(call, "the answer does not say which bytes it has: ", header);
	if (got.total == UINT64_MAX)
		got.total = asked->size;
	if (got.total == UINT64_MAX)
		return refuse(call, "the answer does not say how large the file is: ", header);
	if (asked->size != UINT64_MAX && got.total != asked->size)
		return refuse(call, "the file there has another size: ", header);
	if (got.first != asked->off || got.last + 1 != range_end(asked, got.total))
		return refuse(call, "the answer has other bytes than were asked for: ", header);
	return call_begin(call, got.first, got.last - got.first + 1, got.total);
}

/* The server knows no ranges, or does not want to: it is the whole file. */
static int begin_whole(struct http_call *line)
{
	struct remote_call *call = line->call;
	uint64_t size = call->parser.range.size, total = line->exchange.answer_len;
	char words[64];

	if (total == UINT64_MAX)
		total = size;
	if (total == UINT64_MAX)
		return refuse(call, "the answer does not say how large the file is", "");
	if (size != UINT64_MAX && total != size) {
		snprintf(words, sizeof(words), "%llu bytes", (unsigned long long)total);
		return refuse(call, "the file there has another size: ", words);
	}
	return call_begin(call, 0, total, total);
}

static int begin(struct http_call *line)
{
	const char *encoding = line->exchange.answer_encoding;

	if (*encoding && strcasecmp(encoding, "identity") != 0)
		return refuse(line->call,
			      "the answer is encoded, though that was not asked for: ", encoding);
	return line->exchange.status == 206 ? begin_part(line) : begin_whole(line);
}

static int range_take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct http_call *line = (struct http_call *)exchange;
	int rc = line->call->parser.range.begun ? 0 : begin(line);

	return rc ? rc : call_feed(line->call, data, len, NULL);
}

/* An answer of which not a byte came has not been looked at yet. */
static void judge_answer(struct http_call *line)
{
	struct remote_call *call = line->call;

	if (!call->parser.range.begun && !call->judged)
		begin(line);
	call_end(call, http_end_words(&line->exchange));
}

static void judge_refusal(struct http_call *line)
{
	struct remote_finding finding;

	http_call_explain(line, &finding);
	if (finding.verdict == REMOTE_TRANSIENT)
		call_fail(line->call, REMOTE_TRANSIENT, finding.code, "%s", finding.words);
	else
		refuse(line->call, "", finding.words);
}

/* ---- requests ---- */

static void range_ended(struct exchange *exchange);

/* What is asked of the place that `line` has by now. */
static int fill_request(struct http_call *line)
{
	const struct range_parser *asked = &line->call->parser.range;
	struct exchange *exchange = &line->exchange;
	uint64_t end = range_end(asked, asked->size);

	line->url = place_url(&line->place, "");
	snprintf(line->range, sizeof(line->range), "bytes=%llu-%llu",
		 (unsigned long long)asked->off, (unsigned long long)(end - 1));
	place_fill(&line->place, exchange);
	exchange->net = line->call->remote->net;
	exchange->url = line->url;
	exchange->accept = "*/*";
	exchange->no_netrc = line->anonymous;
	exchange->range = line->range;
	exchange->take = range_take;
	exchange->ended = range_ended;
	return line->url ? 0 : -ENOMEM;
}

/* Takes what a URL says: where, and who we are there. */
static int place_of_uri(struct uri *uri, struct place *out)
{
	struct buf base = BUF_INIT;

	if (uri_format(uri, &base) || !buf_str(&base)) {
		buf_release(&base);
		return -ENOMEM;
	}
	*out = (struct place){ (char *)buf_detach(&base, NULL), uri->user, uri->password };
	uri->user = uri->password = NULL;
	return 0;
}

/*
 * At git's own origin we are who we are for git; that may be whom netrc knows there. Elsewhere the
 * URL alone says it.
 */
static int share_credentials(struct http_call *line, struct uri *uri)
{
	struct remote *remote = line->call->remote;
	struct place git = { 0 };
	struct uri git_uri = { 0 };
	int rc;

	line->anonymous = true;
	if (remote->ops != &http_transport || uri->user)
		return 0;
	rc = http_place(remote, &git);
	rc = rc ? rc : uri_parse(git.base, &git_uri);
	if (rc == 0 && origin_equal(&git_uri, uri)) {
		line->anonymous = false;
		uri->user = git.user;
		uri->password = git.password;
		git.user = git.password = NULL;
	}
	uri_release(&git_uri);
	place_release(&git);
	return rc;
}

static int fill_first(struct http_call *line)
{
	struct uri uri;
	int rc = uri_parse((const char *)line->call->request.data, &uri);

	if (rc)
		return rc;
	rc = share_credentials(line, &uri);
	rc = rc ? rc : place_of_uri(&uri, &line->place);
	uri_release(&uri);
	return rc ? rc : fill_request(line);
}

/* ---- redirects ---- */

/* Whether the redirect may be followed; if not the verdict says why. */
static bool may_follow(struct http_call *line, const struct uri *from, const struct uri *to)
{
	struct remote_call *call = line->call;

	if (++line->redirects > HTTP_REDIRECTS_MAX)
		refuse(call, "it redirects too often", "");
	else if (!may_read(call->remote->source, to))
		refuse(call, "it redirects to what is not to be trusted, at ",
		       to->host ? to->host : to->scheme);
	else if (strcmp(from->scheme, "https") == 0 && strcmp(to->scheme, "https") != 0)
		refuse(call, "it redirects from https to http, at ", to->host);
	return !call->judged;
}

/* Makes the line one to the new place, and sends the request there. */
static int move(struct http_call *line, bool same_origin, const struct uri *to)
{
	struct buf base = BUF_INIT;

	if (uri_format(to, &base) || !buf_str(&base)) {
		buf_release(&base);
		return -ENOMEM;
	}
	http_call_count(line);
	exchange_release(&line->exchange);
	line->exchange = (struct exchange){ 0 };
	http_wipe(&line->url);
	free(line->place.base);
	line->place.base = (char *)buf_detach(&base, NULL);
	if (!same_origin) {
		place_forget(&line->place);
		line->anonymous = true;
	}
	return fill_request(line) || exchange_start(&line->exchange) ? -ENOMEM : 0;
}

/* Whether the request is on its way again; if not the verdict says why. */
static bool follow(struct http_call *line)
{
	struct exchange *exchange = &line->exchange;
	struct uri from = { 0 }, to = { 0 };
	int rc = 0;

	if (!exchange->redirect || uri_parse(exchange->redirect, &to))
		refuse(line->call, "it redirects to nowhere", "");
	else if (uri_parse(line->place.base, &from))
		rc = -ENOMEM;
	else if (may_follow(line, &from, &to))
		rc = move(line, origin_equal(&from, &to), &to);
	if (rc)
		call_fail(line->call, REMOTE_TRANSIENT, -ENOMEM, "out of memory");
	uri_release(&from);
	uri_release(&to);
	return !line->call->judged;
}

static bool is_redirect(long status)
{
	return status > 300 && status < 400 && status != 304;
}

static void range_ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;

	line->call->outcome.answered = exchange->status;
	if (is_redirect(exchange->status) && follow(line))
		return;
	if (exchange->status == 200 || exchange->status == 206)
		judge_answer(line);
	else
		judge_refusal(line);
	http_call_done(line);
}

/* ---- the call ---- */

static void range_start(struct remote_call *call)
{
	http_call_start(call, fill_first);
}

const struct transport_ops range_transport = {
	.start = range_start,
	.resume = http_call_resume,
	.cancel = http_call_cancel,
};
