/*
 * remote: calls and their verdicts, common to all transports.
 *
 * A call is a request in git's words and a parser for the answer. The transports feed the parser;
 * here its errors, the server's own words and the ways a line can end become one verdict. Nothing
 * is repeated here, with two exceptions: when remote_connect() believed what was remembered and the
 * server then shows that it is no longer so, remote_refs() asks it anew; and so it does when the
 * early answer is not good.
 */
#include "remote/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uri.h"
#include "remote/ls_refs.h"
#include "remote/remote_internal.h"

/* ---- words ---- */

void text_printable(char *out, size_t out_len, const char *text, size_t len)
{
	size_t used = 0;

	for (size_t i = 0; i < len && used + 1 < out_len; i++) {
		char c = text[i];

		if (c == '\n' || c == '\r' || c == '\t')
			c = ' ';
		if (c == ' ' && (used == 0 || out[used - 1] == ' '))
			continue;
		out[used++] = c >= ' ' && c <= '~' ? c : '?';
	}
	while (used > 0 && out[used - 1] == ' ')
		used--;
	out[used] = '\0';
}

enum remote_verdict verdict_of_words(const char *words)
{
	static const struct {
		const char *words;
		enum remote_verdict verdict;
	} table[] = {
		/* the first that is found counts */
		{ "not our ref", REMOTE_UNKNOWN_OBJECT },
		{ "unadvertised object", REMOTE_UNKNOWN_OBJECT },
		{ "dubious ownership", REMOTE_DENIED },
		{ "does not appear to be a git repository", REMOTE_GONE },
		{ "not a git repository", REMOTE_GONE },
		{ "invalid gitfile format", REMOTE_GONE },
		{ "not found", REMOTE_GONE },
		{ "does not exist", REMOTE_GONE },
		{ "no such file or directory", REMOTE_GONE },
		{ "permission denied", REMOTE_DENIED },
		{ "access denied", REMOTE_DENIED },
		{ "not authorized", REMOTE_DENIED },
		{ "unauthorized", REMOTE_DENIED },
		{ "authentication failed", REMOTE_DENIED },
		{ "host key verification failed", REMOTE_DENIED },
		{ "remote host identification has changed", REMOTE_DENIED },
		{ "timed out", REMOTE_TRANSIENT },
		{ "timeout", REMOTE_TRANSIENT },
		{ "could not resolve", REMOTE_TRANSIENT },
		{ "connection refused", REMOTE_TRANSIENT },
		{ "connection reset", REMOTE_TRANSIENT },
		{ "connection closed", REMOTE_TRANSIENT },
		{ "no route to host", REMOTE_TRANSIENT },
		{ "network is unreachable", REMOTE_TRANSIENT },
		{ "broken pipe", REMOTE_TRANSIENT },
		{ "lost connection", REMOTE_TRANSIENT },
		{ "too many", REMOTE_TRANSIENT },
		{ "rate limit", REMOTE_TRANSIENT },
		{ "try again", REMOTE_TRANSIENT },
		{ "temporar", REMOTE_TRANSIENT },
		{ "unavailable", REMOTE_TRANSIENT },
		{ "out of memory", REMOTE_TRANSIENT },
		{ "internal server error", REMOTE_TRANSIENT },
		{ "filter", REMOTE_REFUSED_FEATURE },
		{ "unexpected line", REMOTE_REFUSED_FEATURE },
		{ "unknown argument", REMOTE_REFUSED_FEATURE },
		{ "unknown capability", REMOTE_REFUSED_FEATURE },
		{ "invalid command", REMOTE_REFUSED_FEATURE },
		{ "not supported", REMOTE_REFUSED_FEATURE },
		{ "not allowed", REMOTE_REFUSED_FEATURE },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcasestr(words, table[i].words))
			return table[i].verdict;
	return REMOTE_BROKEN;
}

int verdict_code(enum remote_verdict verdict)
{
	switch (verdict) {
	case REMOTE_OK:
		return 0;
	case REMOTE_TRANSIENT:
		return -EAGAIN;
	case REMOTE_DENIED:
		return -EACCES;
	case REMOTE_GONE:
	case REMOTE_UNKNOWN_OBJECT:
		return -ENOENT;
	case REMOTE_REFUSED_FEATURE:
		return -EOPNOTSUPP;
	case REMOTE_CANCELED:
		return -ECANCELED;
	case REMOTE_BROKEN:
		break;
	}
	return -EPROTO;
}

static const char *call_task(const struct remote_call *call)
{
	switch (call->kind) {
	case CALL_REFS:
		return "list the refs of";
	case CALL_FETCH:
		return "fetch objects from";
	case CALL_SIZES:
	case CALL_TREE_SIZES:
		return "ask for sizes at";
	case CALL_COMMIT:
		return "ask for a commit at";
	case CALL_RANGE:
		break;
	}
	return "read a part of";
}

/* Where it was asked; a URL that is longer than a line is cut. */
static const char *call_place(struct remote_call *call, char *room, size_t room_len)
{
	if (call->kind != CALL_RANGE && call->kind != CALL_TREE_SIZES && call->kind != CALL_COMMIT)
		return call->remote->source->url;
	return uri_redact((const char *)call->request.data, room, room_len);
}

/* ---- counters ---- */

void remote_count(struct remote *remote, const struct remote_counters *more)
{
	struct remote_counters *sum = &remote->counters;

	lock_take(&remote->lock);
	sum->requests_caps += more->requests_caps;
	sum->requests_refs += more->requests_refs;
	sum->requests_fetch += more->requests_fetch;
	sum->requests_sizes += more->requests_sizes;
	sum->requests_range += more->requests_range;
	sum->requests_api += more->requests_api;
	sum->requests_credential += more->requests_credential;
	sum->bytes_sent += more->bytes_sent;
	sum->bytes_received += more->bytes_received;
	sum->connections += more->connections;
	sum->errors += more->errors;
	if (more->limited) {
		sum->limited = true;
		sum->rate_left = more->rate_left;
	}
	lock_give(&remote->lock);
}

void call_counters(const struct remote_call *call, struct remote_counters *out)
{
	*out = (struct remote_counters){ .requests_refs = call->kind == CALL_REFS,
					 .requests_fetch = call->kind == CALL_FETCH,
					 .requests_sizes = call->kind == CALL_SIZES,
					 .requests_range = call->kind == CALL_RANGE,
					 .requests_api = call->kind == CALL_TREE_SIZES ||
							 call->kind == CALL_COMMIT };
}

void remote_counters(struct remote *remote, struct remote_counters *out)
{
	lock_take(&remote->lock);
	*out = remote->counters;
	lock_give(&remote->lock);
}

/* ---- verdicts ---- */

void call_fail(struct remote_call *call, enum remote_verdict verdict, int code, const char *fmt,
	       ...)
{
	struct remote_outcome *outcome = &call->outcome;
	char words[XCP_ERROR_LEN], place[300];
	va_list args;

	if (call->judged)
		return;
	call->judged = true;
	va_start(args, fmt);
	vsnprintf(words, sizeof(words), fmt, args);
	va_end(args);
	outcome->verdict = verdict;
	/* the words may quote the path, which may hold another URL */
	xcp_error_set(&outcome->error, code, "cannot %s %s: %s", call_task(call),
		      call_place(call, place, sizeof(place)),
		      uri_redact(words, words, sizeof(words)));
}

/* The parser does not go on: `err` says why. */
static void judge_answer(struct remote_call *call, int rc, const struct xcp_error *err)
{
	enum remote_verdict verdict = REMOTE_BROKEN;

	if (rc == -EREMOTEIO)
		verdict = verdict_of_words(err->message);
	else if (rc == -ENOMEM)
		verdict = REMOTE_TRANSIENT;
	else if (call->kind == CALL_TREE_SIZES)
		verdict = REMOTE_REFUSED_FEATURE; /* git's own way is open */
	if (call->kind == CALL_FETCH && verdict == REMOTE_UNKNOWN_OBJECT)
		call->outcome.unknown = call->parser.fetch.unknown;
	call_fail(call, verdict, rc == -EREMOTEIO ? verdict_code(verdict) : rc, "%s", err->message);
}

bool call_finished(const struct remote_call *call)
{
	switch (call->kind) {
	case CALL_REFS:
		return call->parser.refs.finished;
	case CALL_FETCH:
		return call->parser.fetch.finished;
	case CALL_SIZES:
		return call->parser.sizes.finished;
	case CALL_TREE_SIZES:
		return call->parser.tree_sizes.whole;
	case CALL_COMMIT:
		return call->parser.commit.whole;
	case CALL_RANGE:
		break;
	}
	return call->parser.range.begun && call->parser.range.left == 0;
}

bool call_whole(const struct remote_call *call)
{
	const struct fetch_parser *fetch = &call->parser.fetch;

	/* Nothing else ends such a pack; it has its own checksum. */
	return call_finished(call) || (call->kind == CALL_FETCH && fetch->version != 2 &&
				       !fetch->sideband && fetch->saw_pack);
}

static void call_end_whole(struct remote_call *call)
{
	if (call->judged)
		return;
	call->judged = true;
	call->outcome.verdict = REMOTE_OK;
}

void call_end(struct remote_call *call, const char *how)
{
	bool whole = call_whole(call);

	if (whole && call->kind == CALL_FETCH && !call->parser.fetch.saw_pack)
		call_fail(call, REMOTE_BROKEN, -EPROTO, "the answer holds no pack");
	else if (whole)
		call_end_whole(call);
	else
		call_fail(call, REMOTE_TRANSIENT, -EAGAIN,
			  "the answer broke off after %llu bytes%s%s",
			  (unsigned long long)call->taken_len, *how ? ": " : "", how);
}

/* ---- feeding ---- */

static int give_pack(void *arg, const uint8_t *data, size_t len)
{
	struct remote_call *call = arg;

	if (!call->sink->pack(call->sink, data, len))
		call->paused = true;
	return 0;
}

static int give_size(void *arg, const struct oid *oid, bool known, uint64_t size)
{
	struct remote_call *call = arg;

	call->sink->size(call->sink, oid, known, size);
	return 0;
}

int call_begin(struct remote_call *call, uint64_t off, uint64_t len, uint64_t total)
{
	struct range_parser *range = &call->parser.range;

	range->begun = true;
	range->left = len;
	if (call->sink->begin(call->sink, off, total))
		return 0;
	call_fail(call, REMOTE_CANCELED, -ECANCELED, "it is not wanted in this way");
	return -ECANCELED;
}

static int range_feed(struct remote_call *call, const uint8_t *data, size_t len, size_t *out_used,
		      struct xcp_error *err)
{
	struct range_parser *range = &call->parser.range;
	size_t wanted = len < range->left ? len : (size_t)range->left;

	if (wanted > 0)
		give_pack(call, data, wanted);
	range->left -= wanted;
	*out_used = wanted;
	if (wanted < len)
		return xcp_error_set(err, -EPROTO, "more bytes came than there should be");
	return 0;
}

int call_feed(struct remote_call *call, const uint8_t *data, size_t len, size_t *out_used)
{
	struct xcp_error err = { 0 };
	size_t used = 0;
	int rc = 0;

	call->outcome.answered = true;
	switch (call->kind) {
	case CALL_REFS:
		rc = refs_parser_feed(&call->parser.refs, data, len, &used, &err);
		break;
	case CALL_FETCH:
		rc = fetch_parser_feed(&call->parser.fetch, data, len, &used, &err);
		break;
	case CALL_SIZES:
		rc = sizes_parser_feed(&call->parser.sizes, data, len, &used, &err);
		break;
	case CALL_TREE_SIZES:
		used = len;
		rc = json_items_feed(&call->parser.tree_sizes.items, data, len, &err);
		break;
	case CALL_COMMIT:
		rc = commit_id_feed(&call->parser.commit, data, len, &err);
		break;
	case CALL_RANGE:
		rc = range_feed(call, data, len, &used, &err);
		break;
	}
	call->taken_len += used;
	if (out_used)
		*out_used = used;
	if (rc) {
		judge_answer(call, rc, &err);
		return rc;
	}
	return call->paused;
}

/* ---- the life of a call ---- */

static void start_job(struct net_job *job)
{
	struct remote_call *call =
		(struct remote_call *)((char *)job - offsetof(struct remote_call, start_job));

	call->ops->start(call);
}

static void resume_job(struct net_job *job)
{
	struct remote_call *call =
		(struct remote_call *)((char *)job - offsetof(struct remote_call, resume_job));

	if (!call->paused)
		return;
	call->paused = false;
	call->ops->resume(call);
}

static void cancel_job(struct net_job *job)
{
	struct remote_call *call =
		(struct remote_call *)((char *)job - offsetof(struct remote_call, cancel_job));

	call_fail(call, REMOTE_CANCELED, -ECANCELED, "nobody wants it any more");
	call->ops->cancel(call);
}

static void call_free(struct remote_call *call)
{
	switch (call->kind) {
	case CALL_REFS:
		refs_parser_release(&call->parser.refs);
		break;
	case CALL_FETCH:
		fetch_parser_release(&call->parser.fetch);
		break;
	case CALL_SIZES:
		sizes_parser_release(&call->parser.sizes);
		break;
	case CALL_TREE_SIZES:
		json_items_release(&call->parser.tree_sizes.items);
		break;
	case CALL_COMMIT:
		buf_release(&call->parser.commit.text);
		break;
	case CALL_RANGE:
		break;
	}
	buf_release(&call->request);
	free(call);
}

void call_done(struct remote_call *call)
{
	struct remote *remote = call->remote;
	enum remote_verdict verdict = call->outcome.verdict;

	if (call->out_refs && verdict == REMOTE_OK) {
		*call->out_refs = call->parser.refs.refs;
		call->parser.refs.refs = (struct ref_list){ 0 };
	}
	if (verdict != REMOTE_OK && verdict != REMOTE_CANCELED && !call->early)
		remote_count(remote, &(struct remote_counters){ .errors = 1 });
	call->sink->done(call->sink, &call->outcome);

	/* From here on nobody else knows the call. What they posted before is taken back. */
	net_unpost(remote->net, &call->resume_job);
	lock_take(&remote->lock);
	LIST_REMOVE(call, link);
	net_unpost(remote->net, &call->cancel_job);
	lock_cond_broadcast(&remote->calls_changed);
	lock_give(&remote->lock);
	call_free(call);
}

struct remote_call *call_new(struct remote *remote, enum call_kind kind, struct remote_sink *sink)
{
	struct remote_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->remote = remote;
	call->kind = kind;
	call->ops = kind == CALL_RANGE	    ? &range_transport :
		    kind == CALL_TREE_SIZES ? &tree_sizes_transport :
		    kind == CALL_COMMIT	    ? &commit_id_transport :
					      remote->ops;
	call->sink = sink;
	call->start_job.run = start_job;
	call->resume_job.run = resume_job;
	call->cancel_job.run = cancel_job;
	switch (kind) {
	case CALL_REFS:
		refs_parser_init(&call->parser.refs);
		break;
	case CALL_FETCH:
		fetch_parser_init(&call->parser.fetch, &remote->caps, give_pack, call);
		break;
	case CALL_SIZES:
		sizes_parser_init(&call->parser.sizes, give_size, call);
		break;
	case CALL_TREE_SIZES:
		tree_sizes_init(call);
		break;
	case CALL_COMMIT:
	case CALL_RANGE:
		break;
	}
	return call;
}

int call_launch(struct remote_call *call, int rc, struct remote_call **out)
{
	struct remote *remote = call->remote;

	if (rc == 0) {
		lock_take(&remote->lock);
		if (remote->closing)
			rc = -ECANCELED;
		else
			LIST_INSERT_HEAD(&remote->calls, call, link);
		/* Before the job can run: done() may come before this function returns. */
		if (rc == 0 && out)
			*out = call;
		if (rc == 0)
			net_post(remote->net, &call->start_job);
		lock_give(&remote->lock);
	}
	if (rc)
		call_free(call);
	return rc;
}

int remote_start_fetch(struct remote *remote, const struct fetch_spec *spec,
		       struct remote_sink *sink, struct remote_call **out)
{
	struct remote_call *call;

	if (!remote->connected)
		return -ENOTCONN;
	call = call_new(remote, CALL_FETCH, sink);
	if (!call)
		return -ENOMEM;
	return call_launch(call, protocol_fetch_request(&call->request, &remote->caps, spec), out);
}

int remote_start_sizes(struct remote *remote, const struct oid *oids, size_t count,
		       struct remote_sink *sink, struct remote_call **out)
{
	struct remote_call *call;

	if (!remote->connected)
		return -ENOTCONN;
	if (!remote->caps.object_info)
		return -EOPNOTSUPP;
	call = call_new(remote, CALL_SIZES, sink);
	if (!call)
		return -ENOMEM;
	return call_launch(call, protocol_sizes_request(&call->request, &remote->caps, oids, count),
			   out);
}

int remote_start_tree_sizes(struct remote *remote, const struct oid *tree, bool below,
			    struct remote_sink *sink, struct remote_call **out)
{
	struct remote_call *call;

	if (!remote->connected)
		return -ENOTCONN;
	if (!remote->tree_sizes)
		return -EOPNOTSUPP;
	call = call_new(remote, CALL_TREE_SIZES, sink);
	if (!call)
		return -ENOMEM;
	return call_launch(call, tree_sizes_url(remote->source, tree, below, &call->request), out);
}

int remote_start_range(struct remote *remote, const struct range_spec *spec,
		       struct remote_sink *sink, struct remote_call **out)
{
	struct remote_call *call;

	if (!remote->connected)
		return -ENOTCONN;
	if (!remote->ranges)
		return -EOPNOTSUPP;
	if (spec->len == 0 || spec->len > INT64_MAX || spec->off > INT64_MAX - spec->len ||
	    spec->off >= spec->size)
		return -EINVAL;
	call = call_new(remote, CALL_RANGE, sink);
	if (!call)
		return -ENOMEM;
	call->parser.range =
		(struct range_parser){ .off = spec->off, .len = spec->len, .size = spec->size };
	return call_launch(call, range_url(remote->source, spec, &call->request), out);
}

void remote_call_resume(struct remote_call *call)
{
	net_post(call->remote->net, &call->resume_job);
}

void remote_call_cancel(struct remote_call *call)
{
	net_post(call->remote->net, &call->cancel_job);
}

/* ---- connecting ---- */

static bool caps_equal(const struct server_caps *a, const struct server_caps *b)
{
	struct buf text_a = BUF_INIT, text_b = BUF_INIT;
	bool equal = server_caps_format(a, &text_a) == 0 && server_caps_format(b, &text_b) == 0 &&
		     text_a.len == text_b.len && memcmp(text_a.data, text_b.data, text_a.len) == 0;

	buf_release(&text_a);
	buf_release(&text_b);
	return equal;
}

void remote_expect_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count)
{
	early_expect(&remote->early, prefixes, prefix_count);
}

/*
 * Asks the server, whatever is believed so far. What has not changed is not written: other threads
 * may be reading it.
 */
static int probe(struct remote *remote, struct xcp_error *err)
{
	struct server_caps caps = { 0 };
	struct ref_list refs = { 0 };
	int rc = remote->ops->connect(remote, &caps, &refs, err);

	if (rc || caps.version != 2 || caps.algo != OID_SHA1)
		early_drop(&remote->early);
	if (rc) {
		remote_count(remote, &(struct remote_counters){ .errors = 1 });
		return rc;
	}
	if (!caps_equal(&caps, &remote->caps))
		remote->caps = caps;
	ref_list_release(&remote->refs);
	remote->refs = refs;
	remote->have_refs = caps.version != 2;
	remote->connected = remote->probed = true;
	return 0;
}

void remote_put_token(struct remote *remote, struct token *token)
{
	struct token old;

	lock_take(&remote->lock);
	old = remote->token;
	remote->token = *token;
	lock_give(&remote->lock);
	token_release(&old);
}

int remote_load_token(struct remote *remote, struct xcp_error *err)
{
	struct token token;
	int rc = token_find(remote->source, remote->broker, &remote->stop, &token, err);

	if (rc) {
		xcp_error_prefix(err, "cannot connect to %s", remote->source->url);
		token_release(&token);
		return rc;
	}
	/* gh's is not looked for before somebody asks: what it said stands till then. */
	if (token.text || !token_is_gh(&remote->token))
		remote_put_token(remote, &token);
	return 0;
}

int remote_connect(struct remote *remote, const char *known, struct xcp_error *err)
{
	struct server_caps caps = { 0 };
	bool believed = known && server_caps_parse(known, &caps) == 0;
	struct xcp_error why = { 0 };
	int rc;

	lock_take(&remote->connect_lock);
	rc = remote->offline ? 0 : remote_load_token(remote, &why);
	if (rc && believed) { /* nothing is sent, and perhaps nothing is needed */
		log_warn("%s", why.message);
		rc = 0;
	}
	if (rc && err)
		*err = why;
	if (rc == 0 && !believed)
		rc = probe(remote, err);
	lock_give(&remote->connect_lock);
	if (rc || !believed)
		return rc;
	remote->caps = caps;
	remote->connected = true;
	remote->probed = false;
	return 0;
}

unsigned remote_caps(const struct remote *remote)
{
	const struct server_caps *caps = &remote->caps;
	bool any = caps->version == 2 || caps->want_any;
	unsigned bits = 0;

	if (any)
		bits |= REMOTE_OBJECTS;
	if (any && caps->fetch_filter)
		bits |= REMOTE_SUBTREE;
	if (caps->version == 2 && caps->fetch_shallow)
		bits |= REMOTE_STEP;
	if (caps->object_info)
		bits |= REMOTE_SIZES;
	if (caps->fetch_shallow)
		bits |= REMOTE_SHALLOW;
	if (remote->ranges)
		bits |= REMOTE_RANGE;
	if (remote->tree_sizes)
		bits |= REMOTE_TREE_SIZES;
	if (remote->source->insecure || remote->ops->safe(remote))
		bits |= REMOTE_EARLY;
	return bits;
}

const struct server_caps *remote_server_caps(const struct remote *remote)
{
	return &remote->caps;
}

/* v0: they came with the probe; a second question needs a new one. */
static int advertised_refs(struct remote *remote, struct ref_list *out, struct xcp_error *err)
{
	int rc = remote->have_refs ? 0 : probe(remote, err);

	if (rc)
		return rc;
	*out = remote->refs;
	remote->refs = (struct ref_list){ 0 };
	remote->have_refs = false;
	return 0;
}

/*
 * Whether an answer may mean that what was remembered of the server holds no longer, or that it
 * wants credentials.
 */
static bool worth_probing(const struct remote *remote, enum remote_verdict verdict)
{
	return !remote->probed && (verdict == REMOTE_DENIED || verdict == REMOTE_GONE ||
				   verdict == REMOTE_REFUSED_FEATURE || verdict == REMOTE_BROKEN);
}

static int list_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count,
		     struct ref_list *out, struct remote_outcome *out_outcome)
{
	struct buf request = BUF_INIT;
	struct ls_refs *question;
	int rc = protocol_ls_refs_request(&request, &remote->caps, prefixes, prefix_count);

	rc = rc ? rc : ls_refs_start(remote, &request, false, &question);
	buf_release(&request);
	if (rc)
		return rc;
	ls_refs_wait(question, 0);
	ls_refs_answer(question, out, out_outcome);
	ls_refs_end(&question);
	return 0;
}

int remote_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count,
		struct ref_list *out, struct xcp_error *err)
{
	struct remote_outcome outcome = { 0 };
	int rc;

	if (!remote->connected)
		return xcp_error_set(err, -ENOTCONN, "not connected to %s", remote->source->url);
	if (early_take(&remote->early, remote, prefixes, prefix_count, out))
		return 0;
	for (;;) {
		if (remote->caps.version != 2)
			return advertised_refs(remote, out, err);
		rc = list_refs(remote, prefixes, prefix_count, out, &outcome);
		if (rc)
			return xcp_error_set(err, rc, "cannot ask %s for its refs: %s",
					     remote->source->url, strerror(-rc));
		if (outcome.verdict == REMOTE_OK)
			return 0;
		if (!worth_probing(remote, outcome.verdict)) {
			if (err)
				*err = outcome.error;
			return outcome.error.code;
		}
		lock_take(&remote->connect_lock);
		rc = probe(remote, err);
		lock_give(&remote->connect_lock);
		if (rc)
			return rc;
	}
}

/* ---- open, close ---- */

int remote_open(const struct remote_config *config, struct remote **out, struct xcp_error *err)
{
	struct remote *remote = calloc(1, sizeof(*remote));
	int rc;

	if (!remote)
		return xcp_error_set(err, -ENOMEM, "cannot open %s: out of memory",
				     config->source->url);
	remote->ops = config->source->kind == SOURCE_HTTP ? &http_transport : &pipe_transport;
	remote->net = config->net;
	remote->broker = config->broker;
	remote->source = config->source;
	remote->no_helpers = config->no_helpers;
	remote->offline = config->offline;
	remote->ranges = range_possible(config->source);
	remote->tree_sizes = tree_sizes_possible(config->source);
	LIST_INIT(&remote->calls);
	lock_init(&remote->lock);
	lock_init(&remote->connect_lock);
	lock_cond_init(&remote->calls_changed);
	rc = remote->ops->open(remote, err);
	if (rc) {
		lock_cond_release(&remote->calls_changed);
		lock_release(&remote->connect_lock);
		lock_release(&remote->lock);
		token_release(&remote->token);
		free(remote);
		return rc;
	}
	*out = remote;
	return 0;
}

/* The transport is closed where it lives. */
struct close_job {
	struct net_job job;
	struct remote *remote;
	struct lock lock;
	struct lock_cond changed;
	bool done;
};

static void close_run(struct net_job *job)
{
	struct close_job *closing = (struct close_job *)job;

	closing->remote->ops->close(closing->remote);
	lock_take(&closing->lock);
	closing->done = true;
	lock_cond_signal(&closing->changed);
	lock_give(&closing->lock);
}

static void close_transport(struct remote *remote)
{
	struct close_job closing = { .job.run = close_run, .remote = remote };

	lock_init(&closing.lock);
	lock_cond_init(&closing.changed);
	net_post(remote->net, &closing.job);
	lock_take(&closing.lock);
	while (!closing.done)
		lock_cond_wait(&closing.changed, &closing.lock);
	lock_give(&closing.lock);
	lock_cond_release(&closing.changed);
	lock_release(&closing.lock);
}

static void cancel_calls(struct remote *remote)
{
	struct remote_call *call;

	lock_take(&remote->lock);
	remote->closing = true;
	LIST_FOREACH(call, &remote->calls, link)
		net_post(remote->net, &call->cancel_job);
	while (!LIST_EMPTY(&remote->calls))
		lock_cond_wait(&remote->calls_changed, &remote->lock);
	lock_give(&remote->lock);
}

void remote_close(struct remote **remote_p)
{
	struct remote *remote = *remote_p;

	*remote_p = NULL;
	if (!remote)
		return;
	early_drop(&remote->early);
	cancel_calls(remote);
	renew_end(remote);
	close_transport(remote);
	ref_list_release(&remote->refs);
	token_release(&remote->token);
	lock_cond_release(&remote->calls_changed);
	lock_release(&remote->connect_lock);
	lock_release(&remote->lock);
	free(remote);
}
