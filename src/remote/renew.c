#include "remote/renew.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "remote/http_internal.h"

#define REST_MS 10000

unsigned renew_count(struct remote *remote)
{
	unsigned count;

	lock_take(&remote->lock);
	count = remote->renewal.count;
	lock_give(&remote->lock);
	return count;
}

static bool may_pass(int rc)
{
	return rc == -ENETUNREACH || rc == -ETIMEDOUT || rc == -EAGAIN;
}

static void *renew_run(void *arg)
{
	struct remote *remote = arg;
	struct renewal *renewal = &remote->renewal;
	struct xcp_error err = { 0 };
	bool changed = false, closing;
	int rc;

	lock_take(&remote->connect_lock);
	rc = http_reconnect(remote, &changed, &err);
	lock_give(&remote->connect_lock);

	lock_take(&remote->lock);
	closing = remote->closing;
	if (rc == 0 && changed)
		renewal->count++;
	renewal->useless = rc == 0 && !changed;
	renewal->rests_until_ms = may_pass(rc) ? 0 : clock_ms() + REST_MS;
	renewal->running = false;
	lock_give(&remote->lock);
	if (rc == 0 && changed)
		log_info("%s: the server refused us; credentials were renewed",
			 remote->source->url);
	else if (!closing)
		log_warn("%s: the server refuses us, and credentials cannot be renewed: %s",
			 remote->source->url, rc ? err.message : "there are no others");
	return NULL;
}

static bool start_locked(struct remote *remote)
{
	struct renewal *renewal = &remote->renewal;

	if (remote->closing || clock_ms() < renewal->rests_until_ms)
		return false;
	/* The one before has nothing left to do but to log. */
	if (renewal->made)
		pthread_join(renewal->thread, NULL);
	renewal->made = thread_start(&renewal->thread, "renew", renew_run, remote) == 0;
	renewal->running = renewal->made;
	return renewal->running;
}

bool renew_wanted(struct remote *remote, unsigned count, bool beside_git)
{
	struct renewal *renewal = &remote->renewal;
	bool later;

	if (remote->ops != &http_transport)
		return false;
	lock_take(&remote->lock);
	later = count != renewal->count || renewal->running ||
		(!(beside_git && renewal->useless) && start_locked(remote));
	lock_give(&remote->lock);
	return later;
}

void renew_end(struct remote *remote)
{
	struct renewal *renewal = &remote->renewal;

	if (remote->ops != &http_transport)
		return;
	atomic_store_explicit(&remote->stop, true, memory_order_relaxed);
	http_connect_stop(remote);
	/* Nobody else looks at it once the remote is closing. */
	if (renewal->made)
		pthread_join(renewal->thread, NULL);
	renewal->made = false;
}
