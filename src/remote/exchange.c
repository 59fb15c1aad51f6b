/*
 * exchange: curl's easy interface, with the options that every request of ours has.
 *
 * Only http and https, no redirects, Basic authentication only (sent at once, so that no request is
 * made twice behind our back), no "Expect: 100-continue" (a round trip for nothing), no proxy for
 * this machine (there plain http is trusted, and a proxy would be another one). A transfer that
 * moves no byte for the stall time is given up, pauses apart.
 */
#include "remote/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/clock.h"
#include "remote/origin.h"
#include "remote/remote_internal.h"

#define ERROR_BODY_MAX (64 << 10) /* of an answer that nobody reads */
#define RETRY_AFTER_MAX_S 86400

static struct exchange *of_transfer(struct net_transfer *transfer)
{
	return (struct exchange *)((char *)transfer - offsetof(struct exchange, transfer));
}

static struct exchange *of_timer(struct net_timer *timer)
{
	return (struct exchange *)((char *)timer - offsetof(struct exchange, timer));
}

int exchange_gzip(const struct buf *in, struct buf *out)
{
	z_stream z = { 0 };
	int rc;

	if (in->len > UINT32_MAX / 2 || deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16,
						     8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	rc = buf_reserve(out, deflateBound(&z, (uLong)in->len));
	if (rc == 0) {
		z.next_in = in->data;
		z.avail_in = (uInt)in->len;
		z.next_out = out->data;
		z.avail_out = (uInt)out->cap;
		rc = deflate(&z, Z_FINISH) == Z_STREAM_END ? 0 : -ENOMEM;
		out->len = out->cap - z.avail_out;
	}
	deflateEnd(&z);
	return rc;
}

/* ---- what came ---- */

static uint64_t header_number(CURL *easy, const char *name, bool *out_found)
{
	struct curl_header *header;

	*out_found = curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK;
	return *out_found ? strtoull(header->value, NULL, 10) : 0;
}

static int64_t date_of(const char *text)
{
	return (int64_t)curl_getdate(text, NULL); /* -1: none */
}

/* By the server's own clock where it shows that: ours may be years off. */
static int64_t server_now_s(CURL *easy)
{
	struct curl_header *header;
	int64_t now_s = -1;

	if (curl_easy_header(easy, "date", 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
		now_s = date_of(header->value);
	return now_s < 0 ? clock_wall_s() : now_s;
}

/* Seconds, or a date. */
static int64_t retry_after_s(CURL *easy)
{
	struct curl_header *header;
	unsigned long long seconds;

	if (curl_easy_header(easy, "retry-after", 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
		return 0;
	if (header->value[strspn(header->value, "0123456789")] != '\0')
		return date_of(header->value) - server_now_s(easy);
	seconds = strtoull(header->value, NULL, 10);
	return seconds < RETRY_AFTER_MAX_S ? (int64_t)seconds : RETRY_AFTER_MAX_S;
}

/* What a rate limit leaves, by GitHub's header or GitLab's; UINT64_MAX: not said. */
static uint64_t rate_left(CURL *easy, bool *out_gitlab)
{
	bool told;
	uint64_t left = header_number(easy, "x-ratelimit-remaining", &told);

	*out_gitlab = false;
	if (told)
		return left;
	left = header_number(easy, "ratelimit-remaining", out_gitlab);
	return *out_gitlab ? left : UINT64_MAX;
}

/* When one that is used up is a new one: GitHub and GitLab say the second of the epoch. */
static int64_t reset_after_s(CURL *easy)
{
	bool gitlab, named;
	uint64_t reset_s;

	if (rate_left(easy, &gitlab) != 0)
		return 0;
	reset_s = header_number(easy, gitlab ? "ratelimit-reset" : "x-ratelimit-reset", &named);
	return named && reset_s < INT64_MAX ? (int64_t)reset_s - server_now_s(easy) : 0;
}

/*
 * The same by the header of the IETF's draft, which Hugging Face sends: "NAME";r=LEFT;t=SECONDS.
 * Source: draft-ietf-httpapi-ratelimit-headers, 4.
 */
static int64_t draft_after_s(CURL *easy)
{
	struct curl_header *header;
	const char *left, *after;
	unsigned long long seconds;

	if (curl_easy_header(easy, "ratelimit", 0, CURLH_HEADER, -1, &header))
		return 0;
	left = strstr(header->value, ";r=");
	after = strstr(header->value, ";t=");
	if (!left || !after || strtoull(left + 3, NULL, 10) != 0)
		return 0;
	seconds = strtoull(after + 3, NULL, 10);
	return seconds < RETRY_AFTER_MAX_S ? (int64_t)seconds : RETRY_AFTER_MAX_S;
}

static uint64_t wait_asked_for_ms(CURL *easy)
{
	int64_t after_s = retry_after_s(easy);

	if (after_s <= 0)
		after_s = reset_after_s(easy);
	if (after_s <= 0)
		after_s = draft_after_s(easy);
	if (after_s <= 0)
		return 0;
	return (uint64_t)(after_s < RETRY_AFTER_MAX_S ? after_s : RETRY_AFTER_MAX_S) * 1000;
}

static void header_copy(CURL *easy, const char *name, char *out, size_t out_len)
{
	struct curl_header *header;

	out[0] = '\0';
	if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header))
		return;
	if (header->amount == 1 && strlen(header->value) < out_len)
		strcpy(out, header->value);
	else
		strcpy(out, "?");
}

static void note_head(struct exchange *exchange)
{
	CURL *easy = exchange->transfer.easy;
	const char *type = NULL;
	curl_off_t len = -1;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &exchange->status);
	curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
	curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &len);
	exchange->answer_len = len < 0 ? UINT64_MAX : (uint64_t)len;
	header_copy(easy, "Content-Range", exchange->answer_range, sizeof(exchange->answer_range));
	header_copy(easy, "Content-Encoding", exchange->answer_encoding,
		    sizeof(exchange->answer_encoding));
	exchange->answer_type[0] = '\0';
	if (type)
		text_printable(exchange->answer_type, sizeof(exchange->answer_type), type,
			       strlen(type));
}

/* curl takes a line that broke between headers for the end of them. */
static void note_cut_head(struct exchange *exchange)
{
	if (exchange->status == 0 || exchange->head_whole)
		return;
	exchange->status = 0;
	if (exchange->code == CURLE_OK)
		exchange->code = CURLE_PARTIAL_FILE;
}

/* X-GitHub-SSO: required; url=URL. Source: GitHub's REST API, "Troubleshooting", SAML. */
static void note_sso(struct exchange *exchange)
{
	struct curl_header *header;
	const char *url;

	if (curl_easy_header(exchange->transfer.easy, "x-github-sso", 0, CURLH_HEADER, -1, &header))
		return;
	url = strstr(header->value, "url=");
	if (strncmp(header->value, "required", 8) == 0 && url)
		text_printable(exchange->sso, sizeof(exchange->sso), url + 4, strlen(url + 4));
}

static void note_all(struct exchange *exchange)
{
	CURL *easy = exchange->transfer.easy;
	curl_off_t up = 0, down = 0;
	const char *redirect = NULL;
	long request_len = 0, connections = 0;
	bool gitlab;

	note_head(exchange);
	note_cut_head(exchange);
	curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request_len);
	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections);
	curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, &redirect);
	exchange->sent = request_len > 0;
	exchange->connections = (unsigned)connections;
	exchange->bytes_sent = (uint64_t)up;
	exchange->bytes_received = (uint64_t)down;
	if (redirect)
		exchange->redirect = strdup(redirect);
	note_sso(exchange);
	exchange->retry_after_ms = wait_asked_for_ms(easy);
	exchange->rate_left = rate_left(easy, &gitlab);
}

/* An answer that is none: keeps its first words when they are meant for people. */
static size_t take_error(struct exchange *exchange, const char *data, size_t len)
{
	if (exchange->error_len == 0 && strncasecmp(exchange->answer_type, "text/plain", 10) == 0)
		text_printable(exchange->said, sizeof(exchange->said), data, len);
	exchange->error_len += len;
	return exchange->error_len > ERROR_BODY_MAX ? 0 : len;
}

/* One line of the head; 1xx and those of a proxy have a head of their own. */
static size_t take_head_line(char *line, size_t size, size_t count, void *arg)
{
	struct exchange *exchange = arg;
	size_t len = size * count;

	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		exchange->head_whole = false;
	else if (len > 0 && (line[0] == '\r' || line[0] == '\n'))
		exchange->head_whole = true;
	return len;
}

static bool is_answer(const struct exchange *exchange)
{
	return exchange->status == 200 || (exchange->status == 206 && exchange->range);
}

static size_t take_bytes(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *exchange = arg;
	int rc;

	if (exchange->paused)
		return CURL_WRITEFUNC_PAUSE;
	if (!exchange->status)
		note_head(exchange);
	if (!is_answer(exchange))
		return take_error(exchange, data, size * count);
	rc = exchange->take(exchange, (const uint8_t *)data, size * count);
	exchange->paused = rc > 0;
	return rc < 0 ? 0 : size * count;
}

/* ---- its life ---- */

static void finish(struct exchange *exchange)
{
	net_timer_stop(&exchange->timer);
	note_all(exchange);
	curl_easy_cleanup(exchange->transfer.easy);
	exchange->transfer.easy = NULL;
	curl_slist_free_all(exchange->headers);
	exchange->headers = NULL;
}

static void transfer_ended(struct net_transfer *transfer, CURLcode code)
{
	struct exchange *exchange = of_transfer(transfer);

	exchange->code = code;
	finish(exchange);
	exchange->ended(exchange);
}

static void check_progress(struct net_timer *timer)
{
	struct exchange *exchange = of_timer(timer);
	unsigned stall_ms = net_settings(exchange->net)->stall_timeout_ms;
	curl_off_t up = 0, down = 0;

	curl_easy_getinfo(exchange->transfer.easy, CURLINFO_SIZE_UPLOAD_T, &up);
	curl_easy_getinfo(exchange->transfer.easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	if (exchange->paused || (uint64_t)(up + down) != exchange->moved_bytes) {
		exchange->moved_bytes = (uint64_t)(up + down);
		exchange->moved_ms = net_now_ms();
	}
	exchange->stalled = net_now_ms() - exchange->moved_ms >= stall_ms;
	exchange->crawls = exchange->small &&
			   net_crawls(exchange->net, exchange->started_ms, (uint64_t)down);
	if (exchange->stalled || exchange->crawls) {
		net_transfer_stop(exchange->net, &exchange->transfer);
		transfer_ended(&exchange->transfer, CURLE_OPERATION_TIMEDOUT);
		return;
	}
	net_timer_set(exchange->net, timer, stall_ms / 4 + 1);
}

static bool add_header(struct exchange *exchange, const char *name, const char *value)
{
	struct buf line = BUF_INIT;
	struct curl_slist *list = NULL;

	if (buf_addf(&line, "%s: %s", name, value) == 0 && buf_str(&line))
		list = curl_slist_append(exchange->headers, buf_str(&line));
	buf_release(&line);
	if (list)
		exchange->headers = list;
	return list;
}

static bool set_headers(struct exchange *exchange)
{
	bool ok = !exchange->accept || add_header(exchange, "Accept", exchange->accept);

	if (exchange->range)
		ok = ok && add_header(exchange, "Range", exchange->range);
	if (exchange->ask_v2)
		ok = ok && add_header(exchange, "Git-Protocol", "version=2");
	if (exchange->body) {
		struct curl_slist *list = curl_slist_append(exchange->headers, "Expect:");

		ok = ok && list;
		exchange->headers = list ? list : exchange->headers;
		ok = ok && add_header(exchange, "Content-Type", exchange->content_type);
		if (exchange->body_gzipped)
			ok = ok && add_header(exchange, "Content-Encoding", "gzip");
	}
	return ok;
}

static bool set_options(struct exchange *exchange)
{
	const struct net_settings *settings = net_settings(exchange->net);
	CURL *easy = exchange->transfer.easy;
	CURLcode rc = CURLE_OK;

#define SET(option, value) (rc = rc ? rc : curl_easy_setopt(easy, CURLOPT_##option, value))
	SET(URL, exchange->url);
	SET(PROTOCOLS_STR, "http,https");
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(FOLLOWLOCATION, 0L);
	SET(NOSIGNAL, 1L);
	SET(TCP_KEEPALIVE, 1L);
	SET(BUFFERSIZE, 65536L);
	SET(CONNECTTIMEOUT_MS, (long)settings->connect_timeout_ms);
	SET(USERAGENT, settings->user_agent);
	SET(ACCEPT_ENCODING, exchange->take_gzip ? "gzip, deflate" : "identity");
	SET(ERRORBUFFER, exchange->curl_words);
	SET(HEADERFUNCTION, take_head_line);
	SET(HEADERDATA, exchange);
	SET(WRITEFUNCTION, take_bytes);
	SET(WRITEDATA, exchange);
	SET(HTTPHEADER, exchange->headers);
	SET(HTTPAUTH, (long)CURLAUTH_BASIC);
	if (settings->ca_file)
		SET(CAINFO, settings->ca_file);
	if (settings->ca_path)
		SET(CAPATH, settings->ca_path);
	if (exchange->bearer) {
		SET(HTTPAUTH, (long)CURLAUTH_BEARER);
		SET(XOAUTH2_BEARER, exchange->bearer);
	} else if (exchange->user) {
		SET(USERNAME, exchange->user);
		SET(PASSWORD, exchange->password ? exchange->password : "");
	} else if (!exchange->no_netrc) {
		SET(NETRC, (long)CURL_NETRC_OPTIONAL);
	}
	if (url_is_loopback(exchange->url))
		SET(NOPROXY, "*");
	if (exchange->body) {
		SET(POST, 1L);
		SET(POSTFIELDSIZE_LARGE, (curl_off_t)exchange->body->len);
		SET(POSTFIELDS, exchange->body->data);
	}
#undef SET
	return rc == CURLE_OK;
}

int exchange_start(struct exchange *exchange)
{
	exchange->transfer.easy = curl_easy_init();
	exchange->transfer.ended = transfer_ended;
	exchange->timer.fire = check_progress;
	if (!exchange->transfer.easy)
		return -ENOMEM;
	if (!set_headers(exchange) || !set_options(exchange) ||
	    net_transfer_start(exchange->net, &exchange->transfer)) {
		finish(exchange);
		return -ENOMEM;
	}
	exchange->started_ms = exchange->moved_ms = net_now_ms();
	net_timer_set(exchange->net, &exchange->timer,
		      net_settings(exchange->net)->stall_timeout_ms / 4 + 1);
	return 0;
}

/* What curl had in its hands is taken within; if that is no good, nothing else may ever come. */
void exchange_resume(struct exchange *exchange)
{
	CURLcode code;

	if (!exchange->paused)
		return;
	exchange->paused = false;
	exchange->moved_ms = net_now_ms();
	code = curl_easy_pause(exchange->transfer.easy, CURLPAUSE_CONT);
	if (code == CURLE_OK)
		return;
	net_transfer_stop(exchange->net, &exchange->transfer);
	transfer_ended(&exchange->transfer, code);
}

void exchange_stop(struct exchange *exchange)
{
	if (!exchange->transfer.easy)
		return;
	net_transfer_stop(exchange->net, &exchange->transfer);
	finish(exchange);
}

void exchange_release(struct exchange *exchange)
{
	free(exchange->redirect);
	exchange->redirect = NULL;
}
