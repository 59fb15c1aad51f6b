/*
 * http: git's smart HTTP. Source: gitprotocol-http, with gitprotocol-v2 for what is inside.
 *
 * The first request (info/refs) is made while somebody waits: it alone follows redirects and asks for credentials, and what it finds out
 * (the base URL, user and password) serves all later ones. Those are one POST each, tried once.
 *
 * Credentials belong to an origin (scheme, host and port): a redirect elsewhere leaves them behind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"
#include "remote/credential.h"
#include "remote/exchange.h"
#include "remote/remote_internal.h"

#define INFO_REFS "/info/refs?service=git-upload-pack"
#define TYPE_ADVERT "application/x-git-upload-pack-advertisement"
#define TYPE_REQUEST "application/x-git-upload-pack-request"
#define TYPE_RESULT "application/x-git-upload-pack-result"
#define REDIRECTS_MAX 5
#define GZIP_FROM_LEN 1024

/* Where the repository is, and who we are there. */
struct place {
	char *base;	  /* owned; without user info */
	char *user, *password; /* owned; both NULL: netrc may know. A user alone is looked up there too */
};

struct http {
	struct lock lock;
	struct place place; /* under `lock` */
};

struct http_call {
	struct exchange exchange;
	struct remote_call *call;
	struct place place;
	char *url;	    /* owned */
	struct buf gzipped; /* the request, when that is shorter */
};

/* ---- places ---- */

static void wipe_free(char **text)
{
	if (*text)
		secret_wipe(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

static void place_forget(struct place *place)
{
	wipe_free(&place->user);
	wipe_free(&place->password);
}

static void place_release(struct place *place)
{
	place_forget(place);
	free(place->base);
	place->base = NULL;
}

static char *dup_or_null(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int place_copy(struct place *out, const struct place *from)
{
	*out = (struct place){ strdup(from->base), dup_or_null(from->user), dup_or_null(from->password) };
	if (!out->base || (from->user && !out->user) || (from->password && !out->password)) {
		place_release(out);
		return -ENOMEM;
	}
	return 0;
}

/* base + suffix. A user without a password goes into the URL: there curl takes it as whom to look up in netrc. */
static char *place_url(const struct place *place, const char *suffix)
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

/* What an exchange with this place needs; the place must outlive it. */
static void place_fill(const struct place *place, struct exchange *exchange)
{
	if (place->password) {
		exchange->user = place->user;
		exchange->password = place->password;
	}
}

static const char *uri_port_of(const struct uri *uri)
{
	return uri->port ? uri->port : strcmp(uri->scheme, "https") == 0 ? "443" : "80";
}

static bool same_origin(const struct uri *a, const struct uri *b)
{
	return strcmp(a->scheme, b->scheme) == 0 && strcmp(a->host, b->host) == 0 &&
	       strcmp(uri_port_of(a), uri_port_of(b)) == 0;
}

/* ---- what an answer means ---- */

static bool type_is(const struct exchange *exchange, const char *type)
{
	size_t len = strlen(type);

	return strncasecmp(exchange->answer_type, type, len) == 0 &&
	       (exchange->answer_type[len] == '\0' || strchr("; ", exchange->answer_type[len]));
}

struct finding {
	enum remote_verdict verdict;
	int code;
	char words[XCP_ERROR_LEN / 2];
};

static void find_status(const struct exchange *exchange, struct finding *out)
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
	} else if (status == 403 || status == 408 || status == 425 || status == 429 || status >= 500) {
		out->verdict = REMOTE_TRANSIENT;
		meaning = status == 429 || status == 403 ? " (too many requests)" : "";
	}
	if (out->verdict != REMOTE_BROKEN)
		out->code = verdict_code(out->verdict);
	snprintf(out->words, sizeof(out->words), "the server answered %ld%s%s%.200s", status, meaning,
		 exchange->said[0] ? ": " : "", exchange->said);
}

/* There was no answer at all. */
static void find_no_answer(const struct exchange *exchange, struct finding *out)
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
static void find(const struct exchange *exchange, struct finding *out)
{
	if (exchange->status == 0)
		find_no_answer(exchange, out);
	else
		find_status(exchange, out);
}

/* ---- calls ---- */

static void http_call_free(struct http_call *line)
{
	exchange_release(&line->exchange);
	place_release(&line->place);
	wipe_free(&line->url);
	buf_release(&line->gzipped);
	free(line);
}

static void count_exchange(struct remote *remote, const struct exchange *exchange, struct remote_counters *more)
{
	if (!exchange->sent)
		*more = (struct remote_counters){ 0 };
	more->bytes_sent = exchange->bytes_sent;
	more->bytes_received = exchange->bytes_received;
	more->connections = exchange->connections;
	remote_count(remote, more);
}

/* The exchange is over, in whatever way. */
static void http_call_done(struct http_call *line)
{
	struct remote_call *call = line->call;
	struct remote_counters more;

	call_counters(call, &more);
	count_exchange(call->remote, &line->exchange, &more);
	http_call_free(line);
	call_done(call);
}

static int call_take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct http_call *line = (struct http_call *)exchange;

	if (!type_is(exchange, TYPE_RESULT)) {
		call_fail(line->call, REMOTE_BROKEN, -EPROTO,
			  "the answer is \"%s\", not git's; is something in between?", exchange->answer_type);
		return -EPROTO;
	}
	return call_feed(line->call, data, len, NULL);
}

static void judge_200(struct http_call *line)
{
	struct remote_call *call = line->call;
	const struct exchange *exchange = &line->exchange;

	if (exchange->code == CURLE_OK && call->taken_len == 0 && !call->judged) {
		if (!type_is(exchange, TYPE_RESULT))
			call_fail(call, REMOTE_BROKEN, -EPROTO, "the answer is empty and not git's");
		else
			call_fail(call, REMOTE_REFUSED_FEATURE, -EOPNOTSUPP,
				  "the answer is empty: the server does not understand the request");
		return;
	}
	if (exchange->stalled)
		call_end(call, "it stalled");
	else
		call_end(call, exchange->code == CURLE_OK ? "" :
			       exchange->curl_words[0]	  ? exchange->curl_words :
							    curl_easy_strerror(exchange->code));
}

static void call_ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;
	struct remote_call *call = line->call;
	struct finding finding;

	call->outcome.answered = exchange->status != 0;
	if (exchange->status == 200) {
		judge_200(line);
	} else {
		find(exchange, &finding);
		if (!exchange->status && finding.verdict == REMOTE_BROKEN)
			call->outcome.answered = true; /* it is there, but not to be trusted */
		call_fail(call, finding.verdict, finding.code, "%s", finding.words);
		if (finding.verdict == REMOTE_TRANSIENT)
			call->outcome.retry_after_ms = exchange->retry_after_ms;
	}
	http_call_done(line);
}

static int fill_call(struct http_call *line)
{
	struct remote_call *call = line->call;
	struct http *http = call->remote->transport;
	struct exchange *exchange = &line->exchange;
	int rc;

	lock_take(&http->lock);
	rc = place_copy(&line->place, &http->place);
	lock_give(&http->lock);
	if (rc)
		return rc;
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
	exchange->ask_v2 = call->remote->caps.version == 2;
	exchange->take_gzip = call->kind != CALL_FETCH; /* packs are compressed already */
	exchange->take = call_take;
	exchange->ended = call_ended;
	return line->url ? 0 : -ENOMEM;
}

static void http_start(struct remote_call *call)
{
	struct http_call *line = calloc(1, sizeof(*line));

	if (line) {
		line->call = call;
		if (fill_call(line) == 0 && exchange_start(&line->exchange) == 0) {
			call->line = line;
			return;
		}
		http_call_free(line);
	}
	call_fail(call, REMOTE_TRANSIENT, -ENOMEM, "out of memory");
	call_done(call);
}

static void http_resume(struct remote_call *call)
{
	struct http_call *line = call->line;

	exchange_resume(&line->exchange);
}

static void http_cancel(struct remote_call *call)
{
	struct http_call *line = call->line;

	exchange_stop(&line->exchange);
	http_call_done(line);
}

/* ---- the first request ---- */

/* One GET of info/refs, waited for. */
struct probe {
	struct exchange exchange;
	/* owned by the waiting thread before the job is posted and after `done`, by the network thread in between */
	struct advert_parser advert;
	bool bad; /* advert does not go on: err says why */
	struct xcp_error err;
	struct net_job job;
	/* under `lock` */
	struct lock lock;
	struct lock_cond changed;
	bool done;
};

static int probe_take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct probe *probe = (struct probe *)exchange;
	int rc;

	if (!type_is(exchange, TYPE_ADVERT))
		return -EPROTO; /* said at the end */
	if (probe->advert.finished)
		return 0;
	rc = advert_parser_feed(&probe->advert, data, len, NULL, &probe->err);
	probe->bad = rc < 0;
	return rc;
}

static void probe_ended(struct exchange *exchange)
{
	struct probe *probe = (struct probe *)exchange;

	lock_take(&probe->lock);
	probe->done = true;
	lock_cond_signal(&probe->changed);
	lock_give(&probe->lock);
}

static void probe_start(struct net_job *job)
{
	struct probe *probe = (struct probe *)((char *)job - offsetof(struct probe, job));

	if (exchange_start(&probe->exchange)) {
		probe->exchange.code = CURLE_OUT_OF_MEMORY;
		probe_ended(&probe->exchange);
	}
}

static int probe_run(struct remote *remote, struct probe *probe, const struct place *place)
{
	struct remote_counters more = { .requests_caps = 1 };
	char *url = place_url(place, INFO_REFS);

	memset(probe, 0, sizeof(*probe));
	advert_parser_init(&probe->advert);
	if (!url)
		return -ENOMEM;
	lock_init(&probe->lock);
	lock_cond_init(&probe->changed);
	place_fill(place, &probe->exchange);
	probe->exchange.net = remote->net;
	probe->exchange.url = url;
	probe->exchange.ask_v2 = true;
	probe->exchange.take_gzip = true;
	probe->exchange.accept = "*/*";
	probe->exchange.take = probe_take;
	probe->exchange.ended = probe_ended;
	probe->job.run = probe_start;
	net_post(remote->net, &probe->job);
	lock_take(&probe->lock);
	while (!probe->done)
		lock_cond_wait(&probe->changed, &probe->lock);
	lock_give(&probe->lock);
	lock_cond_release(&probe->changed);
	lock_release(&probe->lock);
	count_exchange(remote, &probe->exchange, &more);
	wipe_free(&url);
	return 0;
}

static void probe_release(struct probe *probe)
{
	advert_parser_release(&probe->advert);
	exchange_release(&probe->exchange);
}

/* ---- connecting: redirects and credentials ---- */

struct connecting {
	struct remote *remote;
	struct place place;
	unsigned redirects;
	bool from_url;		      /* user and password are those of the URL */
	bool asked;		      /* credential holds what the helpers said for this origin, and place the same */
	struct credential credential;
	struct xcp_error *err;
};

static int connect_fail(struct connecting *connecting, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int connect_fail(struct connecting *connecting, int code, const char *fmt, ...)
{
	char words[XCP_ERROR_LEN];
	va_list args;

	va_start(args, fmt);
	vsnprintf(words, sizeof(words), fmt, args);
	va_end(args);
	return xcp_error_set(connecting->err, code, "cannot connect to %s: %s", connecting->place.base, words);
}

/* Checks where a redirect leads; the new base, or NULL with the reason said. */
static char *redirect_base(struct connecting *connecting, const struct uri *from, const struct uri *to)
{
	struct buf text = BUF_INIT;
	size_t len, suffix_len = strlen(INFO_REFS);

	if (strcmp(to->scheme, "https") != 0 && strcmp(to->scheme, "http") != 0) {
		connect_fail(connecting, -EPROTO, "it redirects to a %.20s URL", to->scheme);
		return NULL;
	}
	if (strcmp(from->scheme, "https") == 0 && strcmp(to->scheme, "http") == 0) {
		connect_fail(connecting, -EPROTO, "it redirects from https to http, at %.200s, which is refused",
			     to->host);
		return NULL;
	}
	if (uri_format(to, &text) || !buf_str(&text)) {
		buf_release(&text);
		connect_fail(connecting, -ENOMEM, "out of memory");
		return NULL;
	}
	len = text.len;
	if (len <= suffix_len || memcmp(text.data + len - suffix_len, INFO_REFS, suffix_len) != 0) {
		connect_fail(connecting, -EPROTO,
			     "it redirects to a page at %.200s that is no git repository; is a login needed, or "
			     "is the URL wrong?",
			     to->host);
		buf_release(&text);
		return NULL;
	}
	text.data[len - suffix_len] = '\0';
	return (char *)buf_detach(&text, NULL);
}

static int follow(struct connecting *connecting, const struct exchange *exchange)
{
	struct place *place = &connecting->place;
	struct uri from, to;
	char *base;

	if (++connecting->redirects > REDIRECTS_MAX)
		return connect_fail(connecting, -EPROTO, "more than %d redirects", REDIRECTS_MAX);
	if (!exchange->redirect || uri_parse(exchange->redirect, &to))
		return connect_fail(connecting, -EPROTO, "it redirects to nowhere");
	if (uri_parse(place->base, &from)) {
		uri_release(&to);
		return connect_fail(connecting, -ENOMEM, "out of memory");
	}
	base = redirect_base(connecting, &from, &to);
	if (base) {
		if (!same_origin(&from, &to)) {
			place_forget(place);
			credential_forget(&connecting->credential);
			connecting->asked = connecting->from_url = false;
		}
		free(place->base);
		place->base = base;
	}
	uri_release(&from);
	uri_release(&to);
	return base ? 0 : -EPROTO;
}

static int ask_helpers(struct connecting *connecting)
{
	struct remote *remote = connecting->remote;
	struct credential *credential = &connecting->credential;
	struct place *place = &connecting->place;
	struct xcp_error why = { 0 };
	int rc = credential_describe(credential, place->base);

	if (rc)
		return connect_fail(connecting, rc, "out of memory");
	credential_forget(credential);
	credential->user = dup_or_null(place->user);
	remote_count(remote, &(struct remote_counters){ .requests_credential = 1 });
	rc = credential_fill(remote->broker, credential, &why);
	if (rc)
		return connect_fail(connecting, rc == -EINVAL || rc == -ENOMEM ? rc : -EACCES,
				    "the server asks for a password (private, or missing), and %s; set a "
				    "credential helper, or write it to ~/.netrc",
				    why.message);
	place_forget(place);
	place->user = strdup(credential->user);
	place->password = strdup(credential->password);
	connecting->asked = true;
	return place->user && place->password ? 0 : connect_fail(connecting, -ENOMEM, "out of memory");
}

/* Status 401. */
static int authenticate(struct connecting *connecting)
{
	struct remote *remote = connecting->remote;

	if (connecting->asked) {
		remote_count(remote, &(struct remote_counters){ .requests_credential = 1 });
		credential_reject(remote->broker, &connecting->credential);
		connecting->asked = false;
		return connect_fail(connecting, -EACCES,
				    "the server refused the password that git credential gave");
	}
	if (connecting->from_url)
		return connect_fail(connecting, -EACCES,
				    "the server refused the user and password of the URL");
	if (!remote->broker || remote->no_helpers)
		return connect_fail(connecting, -EACCES,
				    "the server asks for a password (private, or missing); write user and "
				    "password to ~/.netrc");
	return ask_helpers(connecting);
}

static int judge_advert(struct connecting *connecting, struct probe *probe)
{
	const struct exchange *exchange = &probe->exchange;

	if (!type_is(exchange, TYPE_ADVERT)) {
		if (strncasecmp(exchange->answer_type, "text/plain", 10) == 0)
			return connect_fail(connecting, -EPROTO,
					    "this is a plain web server (git's \"dumb\" HTTP), which xcpfs "
					    "cannot use; it needs git's smart HTTP");
		return connect_fail(connecting, -EPROTO,
				    "the server answered with \"%s\", so this is not a git repository; is "
				    "the URL right?",
				    exchange->answer_type[0] ? exchange->answer_type : "no content type");
	}
	if (probe->bad)
		return connect_fail(connecting, probe->err.code == -EREMOTEIO ?
							verdict_code(verdict_of_words(probe->err.message)) :
							probe->err.code,
				    "%s", probe->err.message);
	if (!probe->advert.finished)
		return connect_fail(connecting, -EAGAIN, "the answer broke off");
	return 0;
}

/* Returns 0 when connected, 1 to ask again, or a negative errno. */
static int judge_probe(struct connecting *connecting, struct probe *probe)
{
	const struct exchange *exchange = &probe->exchange;
	struct finding finding;
	int rc;

	if (exchange->status == 200)
		return judge_advert(connecting, probe);
	if (exchange->status == 401) {
		rc = authenticate(connecting);
		return rc ? rc : 1;
	}
	if (exchange->status > 300 && exchange->status < 400 && exchange->status != 304) {
		rc = follow(connecting, exchange);
		return rc ? rc : 1;
	}
	find(exchange, &finding);
	return connect_fail(connecting, finding.code, "%s", finding.words);
}

/* Where it was found and with whose password is where and how it will be asked from now on. */
static void adopt(struct connecting *connecting)
{
	struct remote *remote = connecting->remote;
	struct http *http = remote->transport;
	struct place old;

	if (connecting->asked) {
		remote_count(remote, &(struct remote_counters){ .requests_credential = 1 });
		credential_approve(remote->broker, &connecting->credential);
	}
	lock_take(&http->lock);
	old = http->place;
	http->place = connecting->place;
	lock_give(&http->lock);
	connecting->place = old;
}

static int http_connect(struct remote *remote, struct server_caps *out_caps, struct ref_list *out_refs,
			struct xcp_error *err)
{
	const struct source *source = remote->source;
	const struct place start = { source->url, source->user, source->password };
	struct connecting connecting = { .remote = remote, .err = err, .from_url = source->password };
	int rc = place_copy(&connecting.place, &start);

	if (rc)
		return xcp_error_set(err, rc, "cannot connect to %s: out of memory", source->url);
	do {
		struct probe probe;

		rc = probe_run(remote, &probe, &connecting.place);
		rc = rc ? connect_fail(&connecting, rc, "out of memory") : judge_probe(&connecting, &probe);
		if (rc == 0) {
			*out_caps = probe.advert.caps;
			*out_refs = probe.advert.refs;
			probe.advert.refs = (struct ref_list){ 0 };
			adopt(&connecting);
		}
		probe_release(&probe);
	} while (rc > 0);
	credential_release(&connecting.credential);
	place_release(&connecting.place);
	return rc;
}

/* ---- open, close ---- */

static int http_open(struct remote *remote, struct xcp_error *err)
{
	const struct source *source = remote->source;
	const struct place start = { source->url, source->user, source->password };
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

const struct transport_ops http_transport = {
	.open = http_open,
	.close = http_close,
	.connect = http_connect,
	.start = http_start,
	.resume = http_resume,
	.cancel = http_cancel,
};
