/*
 * A wait that blocks its thread: only for repo_open(), before there is a kernel to answer. What it
 * waits for comes first in an answer. So it ends after a long while although bytes arrive, as those
 * of a server that trickles do for ever.
 */
#include "repo/bring.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"

#define LONG_MS 600000

struct bring {
	struct fetch_waiter waiter;
	uint64_t end_ms;
	struct lock lock;
	struct lock_cond cond;
	/* under lock */
	bool done;
	int status;
	struct content *content; /* owned */
};

static void on_done(struct fetch_waiter *waiter, int status, struct content *content, uint64_t size)
{
	struct bring *bring = (struct bring *)((char *)waiter - offsetof(struct bring, waiter));

	(void)size;
	lock_take(&bring->lock);
	bring->status = status;
	if (status == 0 && content)
		bring->content = content_ref(content);
	bring->done = true;
	lock_cond_signal(&bring->cond);
	lock_give(&bring->lock);
}

static void bring_init(struct bring *bring)
{
	memset(bring, 0, sizeof(*bring));
	fetch_waiter_init(&bring->waiter, on_done);
	bring->end_ms = clock_ms() + LONG_MS;
	lock_init(&bring->lock);
	lock_cond_init(&bring->cond);
}

static bool wait_till(struct bring *bring, uint64_t end_ms)
{
	uint64_t now_ms;
	bool done;

	lock_take(&bring->lock);
	while (!bring->done && (now_ms = clock_ms()) < end_ms)
		lock_cond_wait_ms(&bring->cond, &bring->lock, end_ms - now_ms);
	done = bring->done;
	lock_give(&bring->lock);
	return done;
}

static int bring_wait(struct fetch *fetch, struct bring *bring)
{
	if (wait_till(bring, bring->end_ms))
		return bring->status;
	if (fetch_cancel(fetch, &bring->waiter))
		return -ETIMEDOUT;
	wait_till(bring, UINT64_MAX); /* it is being told just now */
	return bring->status;
}

/* `asked` is what the want returned: 1, 0 or an error. */
static int bring_finish(struct fetch *fetch, struct bring *bring, int asked, struct content **out)
{
	int ret = asked < 0 ? asked : 0;

	if (asked == 0) {
		ret = bring_wait(fetch, bring);
		if (ret == 0 && !bring->content)
			ret = -EIO;
		if (ret == 0)
			*out = bring->content;
	}
	lock_cond_release(&bring->cond);
	lock_release(&bring->lock);
	return ret;
}

static const char *why(int status)
{
	switch (status) {
	case -ENOENT:
		return "the remote does not have it";
	case -ENETUNREACH:
		return "the remote does not answer, or xcpfs was told to stay offline, and the "
		       "cache does not have it";
	case -ETIMEDOUT:
		return "nothing came in time";
	case -EACCES:
		return "the remote refuses access; check the credentials";
	case -EBADMSG:
		return "what came is not what was asked for, and was thrown away";
	default:
		return strerror(-status);
	}
}

static int say(struct fetch *fetch, int status, const char *what, const struct oid *oid,
	       struct xcp_error *err)
{
	struct fetch_counters counters;
	char hex[OID_MAX_HEX + 1];

	if (status == 0)
		return 0;
	fetch_counters(fetch, &counters);
	return xcp_error_set(err, status, "cannot fetch %s %s: %s%s%s", what, oid_to_hex(oid, hex),
			     why(status), counters.last_error[0] ? ": " : "", counters.last_error);
}

int bring_object(struct fetch *fetch, const struct oid *oid, enum object_type type,
		 const char *what, struct content **out, struct xcp_error *err)
{
	struct bring bring;
	int ret = fetch_get(fetch, oid, BRING_TREE_MAX_LEN, out);

	if (ret == 0)
		return 0;
	bring_init(&bring);
	ret = fetch_content(fetch, oid, type, UINT64_MAX, NULL, &bring.waiter, out);
	ret = bring_finish(fetch, &bring, ret, out);
	return say(fetch, ret, what, oid, err);
}

int bring_commit(struct fetch *fetch, const struct oid *oid, const char *what, struct content **out,
		 struct xcp_error *err)
{
	struct bring bring;
	int ret;

	bring_init(&bring);
	ret = fetch_commit(fetch, oid, &bring.waiter, out);
	ret = bring_finish(fetch, &bring, ret, out);
	return say(fetch, ret, what, oid, err);
}
