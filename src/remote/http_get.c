/*
 * http_get: what is beside git at a host: its URLs for single files, its API.
 *
 * A call is one GET, and what it takes to follow redirects. Since git's own way is always open,
 * whatever is wrong with an answer and will be so again is no worse than REMOTE_REFUSED_FEATURE.
 *
 * Who we are there: whom the template names; else the host's token, where its kind takes it there;
 * else, at git's own origin only, user and password of the git URL. A redirect to
 * another origin leaves all of that behind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"
#include "remote/http_internal.h"
#include "remote/origin.h"

static bool is_web(const struct uri *uri)
{
	return uri->host && (strcmp(uri->scheme, "https") == 0 || strcmp(uri->scheme, "http") == 0);
}

static bool may_read(const struct source *source, const struct uri *uri)
{
	return is_web(uri) && (source->insecure || origin_is_safe(uri));
}

bool http_get_possible(const struct source *source, const char *url)
{
	struct uri uri;
	bool possible;

	if (uri_parse(url, &uri))
		return false;
	possible = may_read(source, &uri);
	uri_release(&uri);
	return possible;
}

int http_api_url(const struct source *source, struct buf *out)
{
	const struct host_words words = { .owner = source->owner, .repo = source->repo };
	int rc = host_expand(source->api, &words, out, NULL);

	if (rc)
		return rc;
	return buf_str(out) ? 0 : -ENOMEM;
}

bool http_api_possible(const struct source *source)
{
	struct buf url = BUF_INIT;
	bool possible = source->api && http_api_url(source, &url) == 0 &&
			http_get_possible(source, buf_str(&url));

	buf_release(&url);
	return possible;
}

int http_get_refuse(struct remote_call *call, const char *why, const char *what)
{
	call_fail(call, REMOTE_REFUSED_FEATURE, -EOPNOTSUPP, "%s%.100s", why, what);
	return -EOPNOTSUPP;
}

int http_get_fill(struct http_call *line)
{
	struct exchange *exchange = &line->exchange;

	line->url = place_url(&line->place, line->suffix);
	place_fill(&line->place, exchange);
	exchange->net = line->call->remote->net;
	exchange->url = line->url;
	exchange->no_netrc = line->anonymous;
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
	*out = (struct place){ .base = (char *)buf_detach(&base, NULL),
			       .user = uri->user,
			       .password = uri->password };
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

	if (remote->ops != &http_transport || uri->user)
		return 0;
	rc = http_place(remote, &git);
	rc = rc ? rc : uri_parse(git.base, &git_uri);
	if (rc == 0 && origin_equal(&git_uri, uri)) {
		line->anonymous = false;
		line->shared = git.password && git.proved;
		uri->user = git.user;
		uri->password = git.password;
		git.user = git.password = NULL;
	}
	uri_release(&git_uri);
	place_release(&git);
	return rc;
}

/* The host's token, where it is for URLs like these; NULL: none. */
static int copy_bearer(struct remote *remote, char **out)
{
	const struct token *token = &remote->token;

	bool wanted;

	lock_take(&remote->lock);
	wanted = token->bearer && token->text;
	*out = wanted ? strdup(token->text) : NULL;
	lock_give(&remote->lock);
	return wanted && !*out ? -ENOMEM : 0;
}

int http_get_begin(struct http_call *line)
{
	struct uri uri;
	char *bearer = NULL;
	int rc = uri_parse((const char *)line->call->request.data, &uri);

	if (rc)
		return rc;
	line->anonymous = true;
	rc = uri.user ? 0 : copy_bearer(line->call->remote, &bearer);
	rc = rc || bearer ? rc : share_credentials(line, &uri);
	rc = rc ? rc : place_of_uri(&uri, &line->place);
	uri_release(&uri);
	if (rc == 0)
		line->place.bearer = bearer;
	else
		http_wipe(&bearer);
	return rc ? rc : line->fill(line);
}

int http_get_again(struct http_call *line)
{
	http_call_count(line);
	exchange_release(&line->exchange);
	line->exchange = (struct exchange){ 0 };
	http_wipe(&line->url);
	return line->fill(line) || exchange_start(&line->exchange) ? -ENOMEM : 0;
}

/* ---- redirects ---- */

/* Whether the redirect may be followed; if not the verdict says why. */
static bool may_follow(struct http_call *line, const struct uri *from, const struct uri *to)
{
	struct remote_call *call = line->call;

	if (++line->redirects > HTTP_REDIRECTS_MAX)
		http_get_refuse(call, "it redirects too often", "");
	else if (!may_read(call->remote->source, to))
		http_get_refuse(call, "it redirects to what is not to be trusted, at ",
				to->host ? to->host : to->scheme);
	else if (strcmp(from->scheme, "https") == 0 && strcmp(to->scheme, "https") != 0)
		http_get_refuse(call, "it redirects from https to http, at ", to->host);
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
	free(line->place.base);
	line->place.base = (char *)buf_detach(&base, NULL);
	if (!same_origin) {
		place_forget(&line->place);
		line->anonymous = true;
		line->shared = false;
	}
	return http_get_again(line);
}

/* Whether the request is on its way again; if not the verdict says why. */
static bool follow(struct http_call *line)
{
	struct exchange *exchange = &line->exchange;
	struct uri from = { 0 }, to = { 0 };
	int rc = 0;

	if (!exchange->redirect || uri_parse(exchange->redirect, &to))
		http_get_refuse(line->call, "it redirects to nowhere", "");
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

bool http_get_follow(struct http_call *line)
{
	if (line->place.bearer && (line->exchange.status == 200 || line->exchange.status == 206))
		line->call->remote->bearer_worked = true;
	line->call->outcome.answered = line->exchange.status;
	return is_redirect(line->exchange.status) && follow(line);
}

void http_get_refused(struct http_call *line)
{
	struct remote_finding finding;

	http_call_explain(line, &finding);
	if (finding.verdict == REMOTE_TRANSIENT)
		call_fail(line->call, REMOTE_TRANSIENT, finding.code, "%s", finding.words);
	else
		http_get_refuse(line->call, "", finding.words);
}
