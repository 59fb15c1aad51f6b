/*
 * range: parts of files, from the URLs that a host has for single files. Source: RFC 9110, 14.
 *
 * What the answer claims is compared with what was asked before a byte is passed on; the bytes
 * themselves mean nothing here.
 *
 * No If-Range: a URL names a commit, behind which content does not change.
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
	bool possible = source->raw && expand(source, "commit", "path", &url) == 0 &&
			http_get_possible(source, buf_str(&url));

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
		return http_get_refuse(call, "the answer has several parts", "");
	if (content_range_parse(header, &got))
		return http_get_refuse(call,
				       "the answer does not say which bytes it has: ", header);
	if (got.total == UINT64_MAX)
		got.total = asked->size;
	if (got.total == UINT64_MAX)
		return http_get_refuse(call,
				       "the answer does not say how large the file is: ", header);
	if (asked->size != UINT64_MAX && got.total != asked->size)
		return http_get_refuse(call, "the file there has another size: ", header);
	if (got.first != asked->off || got.last + 1 != range_end(asked, got.total))
		return http_get_refuse(call,
				       "the answer has other bytes than were asked for: ", header);
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
		return http_get_refuse(call, "the answer does not say how large the file is", "");
	if (size != UINT64_MAX && total != size) {
		snprintf(words, sizeof(words), "%llu bytes", (unsigned long long)total);
		return http_get_refuse(call, "the file there has another size: ", words);
	}
	return call_begin(call, 0, total, total);
}

static int begin(struct http_call *line)
{
	const char *encoding = line->exchange.answer_encoding;

	if (*encoding && strcasecmp(encoding, "identity") != 0)
		return http_get_refuse(
			line->call,
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

/* ---- requests ---- */

static void range_ended(struct exchange *exchange);

/* What is asked of the place that `line` has by now. */
static int fill_request(struct http_call *line)
{
	const struct range_parser *asked = &line->call->parser.range;
	struct exchange *exchange = &line->exchange;
	uint64_t end = range_end(asked, asked->size);

	snprintf(line->range, sizeof(line->range), "bytes=%llu-%llu",
		 (unsigned long long)asked->off, (unsigned long long)(end - 1));
	exchange->accept = "*/*";
	exchange->range = line->range;
	exchange->take = range_take;
	exchange->ended = range_ended;
	return http_get_fill(line);
}

static void range_ended(struct exchange *exchange)
{
	struct http_call *line = (struct http_call *)exchange;

	if (http_get_follow(line))
		return;
	if (exchange->status == 200 || exchange->status == 206)
		judge_answer(line);
	else
		http_get_refused(line);
	http_call_done(line);
}

/* ---- the call ---- */

static void range_start(struct remote_call *call)
{
	http_call_start(call, http_get_begin, fill_request);
}

const struct transport_ops range_transport = {
	.start = range_start,
	.resume = http_call_resume,
	.cancel = http_call_cancel,
};
