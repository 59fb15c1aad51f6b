/*
 * early: one ls-refs without agent and object format, and when its answer counts.
 */
#include "remote/early.h"

#include <string.h>

#include "remote/ls_refs.h"
#include "remote/remote_internal.h"

/*
 * The answer was asked for together with one that is here. When it takes longer than this part of
 * the stall time, it may never come: from a server that takes one connection at a time.
 */
#define PATIENCE_PART 20

/* Appends nothing on an error. */
static int least_request(struct buf *out, const char *const *prefixes, size_t prefix_count)
{
	struct server_caps least;

	server_caps_init_v2(&least, OID_SHA1);
	return protocol_ls_refs_request(out, &least, prefixes, prefix_count);
}

void early_expect(struct early *early, const char *const *prefixes, size_t prefix_count)
{
	early_drop(early);
	least_request(&early->expected, prefixes, prefix_count);
}

void early_ask(struct early *early, struct remote *remote)
{
	if (early->expected.len > 0 && !early->question)
		ls_refs_start(remote, &early->expected, true, &early->question);
}

static bool is_expected(const struct early *early, const char *const *prefixes, size_t prefix_count)
{
	struct buf request = BUF_INIT;
	bool same = least_request(&request, prefixes, prefix_count) == 0 &&
		    request.len == early->expected.len &&
		    memcmp(request.data, early->expected.data, request.len) == 0;

	buf_release(&request);
	return same;
}

/* Of an unborn HEAD a server tells only who says "unborn": there no refs are no answer. */
static bool is_good(struct early *early, const struct remote *remote, struct ref_list *out)
{
	unsigned patience_ms = net_settings(remote->net)->stall_timeout_ms / PATIENCE_PART + 1;
	struct remote_outcome outcome;

	if (!ls_refs_wait(early->question, patience_ms))
		return false;
	ls_refs_answer(early->question, out, &outcome);
	return outcome.verdict == REMOTE_OK && (out->count > 0 || !remote->caps.ls_refs_unborn);
}

bool early_take(struct early *early, const struct remote *remote, const char *const *prefixes,
		size_t prefix_count, struct ref_list *out)
{
	bool taken = early->question && is_expected(early, prefixes, prefix_count) &&
		     is_good(early, remote, out);

	early_drop(early);
	return taken;
}

void early_drop(struct early *early)
{
	ls_refs_end(&early->question);
	buf_release(&early->expected);
}
