/*
 * http: git's smart HTTP. Source: gitprotocol-http, with gitprotocol-v2 for what is inside.
 *
 * A call is one POST, tried once, at the place that http_connect.c found, with the credentials that
 * it found right.
 */
#include "remote/http_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"
#include "remote/origin.h"

#define TYPE_REQUEST "application/x-git-upload-pack-request"
#define TYPE_RESULT "application/x-git-upload-pack-result"
#define GZIP_FROM_LEN 1024

/* ---- places ---- */

void http_wipe(char **text)
{
	if (*text)
		secret_wipe(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void place_forget(struct place *place)
{
	http_wipe(&place->user);
	http_wipe(&place->password);
	http_wipe(&place->bearer);
	place->proved = false;
}

void place_release(struct place *place)
{
	place_forget(place);
	free(place->base);
	place->base = NULL;
}

static char *dup_or_null(const char *text)
{
	return text ? strdup(text) : NULL;
}

int place_copy(struct place *out, const struct place *from)
{
	*out = (struct place){ strdup(from->base), dup_or_null(from->user),
			       dup_or_null(from->password), dup_or_null(from->bearer),
			       from->proved };
	if (!out->base || (from->user && !out->user) || (from->password && !out->password) ||
	    (from->bearer && !out->bearer)) {
		place_release(out);
		return -ENOMEM;
	}
	return 0;
}

/*
 * base + suffix. A user without a password goes into the URL: there curl takes it as whom to look
 * up in netrc.
 */
char *place_url(const struct place *place, const char *suffix)
{
	struct buf text = BUF_INIT;
	const char *host = strstr(place->base, "://") + 3;
	char *url = NULL;
	int rc;

	rc = buf_add(&text, place->base, (size_t)(host - place->base));
	if (rc == 0 && place->user && !place->password) {
		rc = uri_escape(&text, place->user, "");
		rc = rc ? rc : buf_add_str(&text, "@");
	}
	rc = rc ? rc : buf_add_str(&text, host);
	rc = rc ? rc : buf_add_str(&text, suffix);
	if (rc == 0 && buf_str(&text))
		url = (char *)buf_detach(&text, NULL);
	buf_release(&text);
	return url;
}

int http_place(struct remote *remote, struct place *out)
{
	struct http *http = remote->transport;
	int rc;

	lock_take(&http->lock);
	rc = place_copy(out, &http->place);
	lock_give(&http->lock);
	return rc;
}

/* What an exchange with this place needs; the place must outlive it. */
void place_fill(const struct place *place, struct exchange *exchange)
{
	exchange->bearer = place->bearer;
	if (place->password) {
		exchange->user = place->user;
		exchange->password = place->password;
	}
}

/* ---- what an answer means ---- */

bool http_type_is(const struct exchange *exchange, const char *type)
{
	size_t len = strlen(type);

	return strncasecmp(exchange->answer_type, type, len) == 0 &&
	       (exchange->answer_type[len] == '\0' || strchr("; ", exchange->answer_type[len]));
}

static void find_status(const struct exchange *exchange, struct remote_finding *out)
{
	long status = exchange->status;
	const char *meaning = "";

	out->verdict = REMOTE_BROKEN;
	out->code = -EPROTO;
	if (status == 401) {
		out->verdict = REMOTE_DENIED;
		meaning = " (credentials are missing or refused)";
	} else if (status == 403 && !exchange->retry_after_ms) {
		out->verdict = REMOTE_DENIED;
		meaning = " (you may not read it)";
	} else if (status == 404 || status == 410) {
		out->verdict = REMOTE_GONE;
		meaning = " (missing, or you may not see it)";
	} else if (status >= 300 && status < 400) {
		out->verdict = REMOTE_GONE;
		meaning = " (it is elsewhere now)";
	} else if (status == 403 || status == 408 || status == 425 || status == 429 ||
		   status >= 500) {
		out->verdict = REMOTE_TRANSIENT;
		meaning = status == 429 || status == 403 ? " (too many requests)" : "";
	}
	if (out->verdict != REMOTE_BROKEN)
		out->code = verdict_code(out->verdict);
	if (status == 403 && exchange->sso[0])
		snprintf(
			out->words, sizeof(out->words),
			"the server answered 403: authorise the token for single sign-on at %.300s",
			exchange->sso);
	else
		snprintf(out->words, sizeof(out->words), "the server answered %ld%s%s%.200s",
			 status, meaning, exchange->said[0] ? ": " : "", exchange->said);
}

/* There was no answer at all. */
static void find_no_answer(const struct exchange *exchange, struct remote_finding *out)
{
	const char *curl_words = exchange->curl_words[0] ? exchange->curl_words :
							   curl_easy_strerror(exchange->code);

	out->verdict = REMOTE_TRANSIENT;
	out->code = -ENETUNREACH;
	switch (exchange->code) {
	case CURLE_OPERATION_TIMEDOUT:
		out->code = -ETIMEDOUT;
		break;
	case CURLE_OUT_OF_MEMORY:
		out->code = -ENOMEM;
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		out->verdict = REMOTE_BROKEN;
		out->code = -EPROTO;
		snprintf(out->words, sizeof(out->words),
			 "its TLS certificate is not trusted: %.250s; name the authority's file in "
			 "SSL_CERT_FILE",
			 curl_words);
		return;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		out->verdict = REMOTE_BROKEN;
		out->code = -EPROTO;
		break;
	default:
		break;
	}
	if (exchange->stalled)
		snprintf(out->words, sizeof(out->words), "no answer for %u s",
			 net_settings(exchange->net)->stall_timeout_ms / 1000);
	else
		snprintf(out->words, sizeof(out->words), "%.300s", curl_words);
}

/* What an exchange that brought no good answer means. */
void http_explain(const struct exchange *exchange, struct remote_finding *out)
{
	if (exchange->status == 0)
		find_no_answer(exchange, out);
	else
		find_status(exchange, out);
}

const char *http_end_words(const struct exchange *exchange)
{
	if (exchange->stalled)
		return "it stalled";
	if (exchange->code == CURLE_OK)
		return "";
	return exchange->curl_words[0] ? exchange->curl_words : curl_easy_strerror(exchange->code);
}

void http_count(struct remote *remote, const struct exchange *exchange,
		struct remote_counters *more)
{
	if (!exchange->sent)
		*more = (struct remote_counters){ 0 };
	more->bytes_sent = exchange->bytes_sent;
	more->bytes_received = exchange->bytes_received;
	more->connections = exchange->connections;
	remote_count(remote, more);
}

/* ---- calls ---- */

static void http_call_free(struct http_call *line)
{
	exchange_release(&line->exchange);
	place_release(&line->place);
	http_wipe(&line->url);
	buf_release(&line->gzipped);
	free(line);
}

void http_call_count(struct http_call *line)
{
	struct remote_counters more;

	call_counters(line->call, &more);
	more.limited = more.requests_api && line->exchange.rate_left != UINT64_MAX;
	more.rate_left = line->exchange.rate_left;
	http_count(line->call->remote, &line->exchange, &more);
}

void http_call_done(struct http_call *line)
{
	struct remote_call *call = line->call;

	http_call_count(line);
	http_call_free(line);
	call_done(call);
}

/*
 * Whether it was refused for who we are, and that may be mended. Some hosts say "missing" of a
 * repository that a bad token may not see; of what is beside git that is what it means.
 */
static bool renews(const struct http_call *line)
{
	struct remote *remote = line->call->remote;
	long status = line->exchange.status;
	bool beside = line->fill;
	bool refused = status == 401 || (status == 404 && !beside);
	bool worked = line->place.bearer ? remote->bearer_worked :
		      beside		 ? line->shared :
					   line->place.proved && line->place.password;

	/* Who waits for these at mount time sees to it by itself. */
	if (line->call->kind == CALL_REFS || line->call->kind == CALL_COMMIT)
		return false;
	return refused && worked && renew_wanted(remote, line->renewals, beside);
}

void http_call_explain(struct http_call *line, struct remote_finding *out)
{
	const struct exchange *exchange = &line->exchange;
	struct remote_outcome *outcome = &line->call->outcome;

	http_explain(exchange, out);
	if (renews(line)) {
		outcome->renewing = true;
		out->verdict = REMOTE_TRANSIENT;
		out->code = verdict_code(REMOTE_TRANSIENT);
	}
	/* broken without a status: it is there, but not to be trusted */
	outcome->answered = exchange->status || out->verdict == REMOTE_BROKEN;
	if (out->verdict == REMOTE_TRANSIENT)
		outcome->retry_after_ms = exchange->retry_after_ms;
}

void http_call_start(struct remote_call *call, int (*begin)(struct http_call *line),
		     int (*fill)(struct http_call *line))
{
	struct http_call *line = calloc(1, sizeof(*line));

	if (line) {
		line->call = call;
		line->fill = fill;
		line->renewals = renew_count(call->remote);
		if (begin(line) == 0 && exchange_start(&line->exchange) == 0) {
			call->line = line;
			return;
		}
		http_call_free(line);
	}
	call_fail(call, REMOTE_TRANSIENT, -ENOMEM, "out of memory");
	call_done(call);
}

void http_call_resume(struct remote_call *call)
{
	struct http_call *line = call->line;

	exchange_resume(&line->exchange);
}

void http_call_cancel(struct remote_call *call)
{
	struct http_call *line = call->line;

	exchange_stop(&line->exchange);
	http_call_done(line);
}

/* ---- git's own calls ---- */

static int call_take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct http_call *line = (struct http_call *)exchange;

	if (!http_type_is(exchange, TYPE_RESULT)) {
		call_fail(line->call, REMOTE_BROKEN, -EPROTO,
			  "the answer is \"%s\", not git's; is something in between?",
			  exchange->answer_type);
		return -EPROTO;
	}
	return call_feed(line->call, data, len, NULL);
}

static void judge_200(struct http_call *line)
{
	struct remote_call *call = line->call;
	const struct exchange *exchange = &line->exchange;

	if (exchange->code == CURLE_OK && call->taken_len == 0 && !call->judged) {
		if (!http_type_is(exchange, TYPE_RESULT))
			call_fail(call, REMOTE_BROKEN, -EPROTO,
				  "the answer is empty and not git's");
		else
			call_fail(
				call, REMOTE_REFUSED_FEATURE, -EOPNOTSUPP,
				"the answer is empty: the server does not understand the request");
		return;
	}
	if (exchange->crawls)
		call_fail(call, REMOTE_TRANSIENT, -ETIMEDOUT, "%s", NET_CRAWLS_WORDS);
	call_end(call, http_end_words(exchange));
}

static void call_ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;
	struct remote_call *call = line->call;
	struct remote_finding finding;

	if (exchange->status == 200) {
		call->outcome.answered = true;
		judge_200(line);
	} else {
		http_call_explain(line, &finding);
		call_fail(call, finding.verdict, finding.code, "%s", finding.words);
	}
	http_call_done(line);
}

static int fill_call(struct http_call *line)
{
	struct remote_call *call = line->call;
	struct exchange *exchange = &line->exchange;

	if (http_place(call->remote, &line->place))
		return -ENOMEM;
	line->url = place_url(&line->place, "/git-upload-pack");
	if (call->request.len > GZIP_FROM_LEN && exchange_gzip(&call->request, &line->gzipped))
		return -ENOMEM;
	place_fill(&line->place, exchange);
	exchange->net = call->remote->net;
	exchange->url = line->url;
	exchange->content_type = TYPE_REQUEST;
	exchange->accept = TYPE_RESULT;
	exchange->body_gzipped = line->gzipped.len > 0;
	exchange->body = exchange->body_gzipped ? &line->gzipped : &call->request;
	/* ls-refs is version 2's alone, and may be early: caps are not known then */
	exchange->ask_v2 = call->kind == CALL_REFS || call->remote->caps.version == 2;
	exchange->take_gzip = call->kind != CALL_FETCH; /* packs are compressed already */
	exchange->small = call->kind != CALL_FETCH;
	exchange->take = call_take;
	exchange->ended = call_ended;
	return line->url ? 0 : -ENOMEM;
}

static void http_start(struct remote_call *call)
{
	http_call_start(call, fill_call, NULL);
}

/* ---- open, close ---- */

static int http_open(struct remote *remote, struct xcp_error *err)
{
	const struct source *source = remote->source;
	const struct place start = { .base = source->address,
				     .user = source->user,
				     .password = source->password };
	struct http *http = calloc(1, sizeof(*http));

	if (!http || place_copy(&http->place, &start)) {
		free(http);
		return xcp_error_set(err, -ENOMEM, "cannot open %s: out of memory", source->url);
	}
	lock_init(&http->lock);
	remote->transport = http;
	return 0;
}

static void http_close(struct remote *remote)
{
	struct http *http = remote->transport;

	place_release(&http->place);
	lock_release(&http->lock);
	free(http);
	remote->transport = NULL;
}

static bool http_safe(const struct remote *remote)
{
	struct http *http = remote->transport;
	bool safe;

	lock_take(&http->lock);
	safe = url_is_safe(http->place.base);
	lock_give(&http->lock);
	return safe;
}

const struct transport_ops http_transport = {
	.open = http_open,
	.close = http_close,
	.connect = http_connect,
	.safe = http_safe,
	.start = http_start,
	.resume = http_call_resume,
	.cancel = http_call_cancel,
};
