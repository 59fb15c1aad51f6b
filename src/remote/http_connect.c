/*
 * http_connect: the first request (info/refs), made while somebody waits.
 *
 * It alone follows redirects and asks for credentials; what it finds out (the base URL, user and
 * password) serves all later ones. Credentials belong to an origin (scheme, host and port): a
 * redirect elsewhere leaves them behind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"
#include "remote/credential.h"
#include "remote/http_internal.h"
#include "remote/origin.h"

#define INFO_REFS "/info/refs?service=git-upload-pack"
#define TYPE_ADVERT "application/x-git-upload-pack-advertisement"

/* ---- the first request ---- */

/* One GET of info/refs, waited for. */
struct probe {
	struct exchange exchange;
	/*
	 * owned by the waiting thread before the job is posted and after `done`, by the network
	 * thread in between
	 */
	struct advert_parser advert;
	bool bad; /* advert does not go on: err says why */
	struct xcp_error err;
	struct remote *remote;
	struct net_job job, stop_job;
	/* under `lock` */
	struct lock lock;
	struct lock_cond changed;
	bool done;
};

static int probe_take(struct exchange *exchange, const uint8_t *data, size_t len)
{
	struct probe *probe = (struct probe *)exchange;
	int rc;

	if (!http_type_is(exchange, TYPE_ADVERT))
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
	struct http *http = probe->remote->transport;

	lock_take(&http->lock);
	http->probe = NULL;
	lock_give(&http->lock);
	net_unpost(probe->remote->net, &probe->stop_job);
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

static void probe_stop(struct net_job *job)
{
	struct probe *probe = (struct probe *)((char *)job - offsetof(struct probe, stop_job));

	exchange_stop(&probe->exchange);
	probe->exchange.code = CURLE_ABORTED_BY_CALLBACK;
	probe_ended(&probe->exchange);
}

/* Sends it off, unless there are to be no more. */
static bool probe_post(struct remote *remote, struct probe *probe)
{
	struct http *http = remote->transport;
	bool stopped;

	probe->remote = remote;
	probe->job.run = probe_start;
	probe->stop_job.run = probe_stop;
	lock_take(&http->lock);
	stopped = http->stopped;
	if (!stopped) {
		http->probe = probe;
		net_post(remote->net, &probe->job);
	}
	lock_give(&http->lock);
	return !stopped;
}

void http_connect_stop(struct remote *remote)
{
	struct http *http = remote->transport;

	lock_take(&http->lock);
	http->stopped = true;
	if (http->probe)
		net_post(remote->net, &http->probe->stop_job);
	lock_give(&http->lock);
}

static int probe_run(struct remote *remote, struct probe *probe, const struct place *place,
		     bool may_be_early)
{
	struct remote_counters more = { .requests_caps = 1 };
	char *url = place_url(place, INFO_REFS);
	bool posted;

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
	probe->exchange.small = true;
	probe->exchange.accept = "*/*";
	probe->exchange.take = probe_take;
	probe->exchange.ended = probe_ended;
	posted = probe_post(remote, probe);
	if (posted) {
		if (may_be_early)
			early_ask(&remote->early, remote);
		lock_take(&probe->lock);
		while (!probe->done)
			lock_cond_wait(&probe->changed, &probe->lock);
		lock_give(&probe->lock);
		http_count(remote, &probe->exchange, &more);
	}
	lock_cond_release(&probe->changed);
	lock_release(&probe->lock);
	http_wipe(&url);
	return posted ? 0 : -ECANCELED;
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
	bool from_url;	 /* user and password are those of the URL */
	bool elsewhere;	 /* it redirected to another origin, whose secrets ours are not */
	bool token_sent; /* the host's token was */
	bool gh_asked;
	bool renewing; /* somebody else is served meanwhile: refs are not asked for early */
	bool rejected; /* git's helpers said what the server refused, and know that */
	bool asked; /* credential holds what the helpers said for this origin, and place the same */
	struct credential credential;
	char wish[300];
	struct xcp_error *err;
};

static int connect_fail(struct connecting *connecting, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int connect_fail(struct connecting *connecting, int code, const char *fmt, ...)
{
	char base[XCP_ERROR_LEN], words[XCP_ERROR_LEN];
	va_list args;

	va_start(args, fmt);
	vsnprintf(words, sizeof(words), fmt, args);
	va_end(args);
	return xcp_error_set(connecting->err, code, "cannot connect to %s: %s",
			     uri_redact(connecting->place.base, base, sizeof(base)),
			     uri_redact(words, words, sizeof(words)));
}

/* Checks where a redirect leads; the new base, or NULL with the reason said. */
static char *redirect_base(struct connecting *connecting, const struct uri *from,
			   const struct uri *to)
{
	struct buf text = BUF_INIT;
	size_t len, suffix_len = strlen(INFO_REFS);

	if (strcmp(to->scheme, "https") != 0 && strcmp(to->scheme, "http") != 0) {
		connect_fail(connecting, -EPROTO, "it redirects to a %.20s URL", to->scheme);
		return NULL;
	}
	if (strcmp(from->scheme, "https") == 0 && strcmp(to->scheme, "http") == 0) {
		connect_fail(connecting, -EPROTO,
			     "it redirects from https to http, at %.200s, which is refused",
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
			     "it redirects to a page at %.200s that is no git repository; is a "
			     "login needed, or "
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

	if (++connecting->redirects > HTTP_REDIRECTS_MAX)
		return connect_fail(connecting, -EPROTO, "more than %d redirects",
				    HTTP_REDIRECTS_MAX);
	if (!exchange->redirect || uri_parse(exchange->redirect, &to))
		return connect_fail(connecting, -EPROTO, "it redirects to nowhere");
	if (uri_parse(place->base, &from)) {
		uri_release(&to);
		return connect_fail(connecting, -ENOMEM, "out of memory");
	}
	base = redirect_base(connecting, &from, &to);
	if (base) {
		if (!origin_equal(&from, &to)) {
			place_forget(place);
			credential_forget(&connecting->credential);
			connecting->asked = connecting->from_url = false;
			connecting->elsewhere = true;
		}
		free(place->base);
		place->base = base;
	}
	uri_release(&from);
	uri_release(&to);
	return base ? 0 : -EPROTO;
}

/* What the server wants, after the host's token. */
static const char *wish(struct connecting *connecting)
{
	const struct token *token = &connecting->remote->token;

	if (!connecting->token_sent || connecting->elsewhere)
		return "the server asks for a password";
	snprintf(connecting->wish, sizeof(connecting->wish),
		 "the server refused the token of %.200s", token->from);
	return connecting->wish;
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
	credential->user = place->user ? strdup(place->user) : NULL;
	remote_count(remote, &(struct remote_counters){ .requests_credential = 1 });
	rc = credential_fill(remote->broker, credential, &why);
	if (rc)
		return connect_fail(
			connecting, rc == -EINVAL || rc == -ENOMEM ? rc : -EACCES,
			"%s (private, or missing), and %s; set a credential helper, or write it to "
			"~/.netrc",
			wish(connecting), why.message);
	place_forget(place);
	place->user = strdup(credential->user);
	place->password = strdup(credential->password);
	connecting->asked = true;
	return place->user && place->password ? 0 :
						connect_fail(connecting, -ENOMEM, "out of memory");
}

/* Nobody in between may hear it. */
static bool may_send_token(const struct connecting *connecting)
{
	const struct remote *remote = connecting->remote;

	return remote->token.text && !connecting->token_sent && !connecting->elsewhere &&
	       (remote->source->insecure || url_is_safe(connecting->place.base));
}

static int send_token(struct connecting *connecting)
{
	const struct token *token = &connecting->remote->token;
	struct place *place = &connecting->place;

	connecting->token_sent = true;
	place_forget(place);
	place->user = strdup(token->user);
	place->password = strdup(token->text);
	return place->user && place->password ? 0 :
						connect_fail(connecting, -ENOMEM, "out of memory");
}

/* Whether gh knows of a token that was not tried: it was asked for none, or long ago. */
static bool ask_gh(struct connecting *connecting)
{
	struct remote *remote = connecting->remote;
	struct token token;

	if (connecting->gh_asked || connecting->elsewhere || remote->no_helpers ||
	    (remote->token.text && !token_is_gh(&remote->token)))
		return false;
	connecting->gh_asked = true;
	if (token_of_gh(remote->source, remote->broker, &remote->stop, &token) || !token.text)
		return false;
	remote_count(remote, &(struct remote_counters){ .requests_credential = 1 });
	if (remote->token.text && strcmp(token.text, remote->token.text) == 0) {
		token_release(&token);
		return false;
	}
	remote_put_token(remote, &token);
	connecting->token_sent = false;
	return true;
}

/* Status 401. */
static int authenticate(struct connecting *connecting)
{
	struct remote *remote = connecting->remote;

	if (connecting->asked) {
		remote_count(remote, &(struct remote_counters){ .requests_credential = 1 });
		credential_reject(remote->broker, &connecting->credential);
		connecting->asked = false;
		/* What was right once they may have kept; now they look further. */
		if (connecting->renewing && !connecting->rejected) {
			connecting->rejected = true;
			place_forget(&connecting->place);
			return ask_helpers(connecting);
		}
		return connect_fail(connecting, -EACCES,
				    "the server refused the password that git credential gave");
	}
	if (connecting->from_url)
		return connect_fail(connecting, -EACCES,
				    "the server refused the user and password of the URL");
	if (may_send_token(connecting) || (ask_gh(connecting) && may_send_token(connecting)))
		return send_token(connecting);
	if (connecting->token_sent && !connecting->elsewhere)
		place_forget(&connecting->place); /* it was refused */
	if (!remote->broker || remote->no_helpers)
		return connect_fail(connecting, -EACCES,
				    "%s (private, or missing); write user and password to ~/.netrc",
				    wish(connecting));
	return ask_helpers(connecting);
}

static int judge_advert(struct connecting *connecting, struct probe *probe)
{
	const struct exchange *exchange = &probe->exchange;

	if (!http_type_is(exchange, TYPE_ADVERT)) {
		if (strncasecmp(exchange->answer_type, "text/plain", 10) == 0)
			return connect_fail(
				connecting, -EPROTO,
				"this is a plain web server (git's \"dumb\" HTTP), which xcpfs "
				"cannot use; it needs git's smart HTTP");
		return connect_fail(
			connecting, -EPROTO,
			"the server answered with \"%s\", so this is not a git repository; is "
			"the URL right?",
			exchange->answer_type[0] ? exchange->answer_type : "no content type");
	}
	if (probe->bad)
		return connect_fail(connecting,
				    probe->err.code == -EREMOTEIO ?
					    verdict_code(verdict_of_words(probe->err.message)) :
					    probe->err.code,
				    "%s", probe->err.message);
	if (!probe->advert.finished && exchange->crawls)
		return connect_fail(connecting, -ETIMEDOUT, "%s", NET_CRAWLS_WORDS);
	if (!probe->advert.finished)
		return connect_fail(connecting, -EAGAIN, "the answer broke off");
	return 0;
}

/* Returns 0 when connected, 1 to ask again, or a negative errno. */
static int judge_probe(struct connecting *connecting, struct probe *probe)
{
	const struct exchange *exchange = &probe->exchange;
	struct remote_finding finding;
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
	http_explain(exchange, &finding);
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
	http->place.proved = true;
	lock_give(&http->lock);
	connecting->place = old;
}

static int connect_as(struct connecting *connecting, struct server_caps *out_caps,
		      struct ref_list *out_refs)
{
	struct remote *remote = connecting->remote;
	int rc;

	do {
		struct probe probe;

		rc = probe_run(remote, &probe, &connecting->place, !connecting->renewing);
		rc = rc ? connect_fail(connecting, rc, "%s", strerror(-rc)) :
			  judge_probe(connecting, &probe);
		if (rc == 0) {
			*out_caps = probe.advert.caps;
			*out_refs = probe.advert.refs;
			probe.advert.refs = (struct ref_list){ 0 };
			adopt(connecting);
		}
		probe_release(&probe);
		/* it was asked elsewhere, or as somebody else */
		if (rc > 0 && !connecting->renewing)
			early_drop(&remote->early);
	} while (rc > 0);
	return rc;
}

static int connect_start(struct remote *remote, bool renewing, struct server_caps *out_caps,
			 struct ref_list *out_refs, struct xcp_error *err)
{
	const struct source *source = remote->source;
	const struct place start = { .base = source->address,
				     .user = source->user,
				     .password = source->password };
	struct connecting connecting = { .remote = remote,
					 .err = err,
					 .renewing = renewing,
					 .from_url = source->password,
					 .credential.stop = &remote->stop };
	int rc = place_copy(&connecting.place, &start);

	if (rc)
		return xcp_error_set(err, rc, "cannot connect to %s: out of memory", source->url);
	rc = connect_as(&connecting, out_caps, out_refs);
	credential_release(&connecting.credential);
	place_release(&connecting.place);
	return rc;
}

int http_connect(struct remote *remote, struct server_caps *out_caps, struct ref_list *out_refs,
		 struct xcp_error *err)
{
	return connect_start(remote, false, out_caps, out_refs, err);
}

/* ---- the same, later ---- */

static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool token_is(struct remote *remote, const char *text)
{
	bool same;

	lock_take(&remote->lock);
	same = text_equal(remote->token.text, text);
	lock_give(&remote->lock);
	return same;
}

int http_reconnect(struct remote *remote, bool *out_changed, struct xcp_error *err)
{
	struct server_caps caps = { 0 };
	struct ref_list refs = { 0 };
	struct place before = { 0 }, after = { 0 };
	char *token = remote->token.text ? strdup(remote->token.text) : NULL;
	int rc = http_place(remote, &before);

	rc = rc ? xcp_error_set(err, rc, "out of memory") : remote_load_token(remote, err);
	rc = rc ? rc : connect_start(remote, true, &caps, &refs, err);
	if (rc == 0)
		rc = http_place(remote, &after);
	*out_changed = rc == 0 &&
		       (!text_equal(before.user, after.user) ||
			!text_equal(before.password, after.password) || !token_is(remote, token));
	ref_list_release(&refs);
	http_wipe(&token);
	place_release(&before);
	place_release(&after);
	return rc;
}
