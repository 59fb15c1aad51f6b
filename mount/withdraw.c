/*
 * withdraw: a queue and its thread. Attributes stay: only the bytes were wrong.
 */
#include "mount/withdraw.h"

#include "base/log.h"
#include "mount/session_internal.h"
#include "repo/repo.h"

void withdraw_init(struct withdraw *withdraw, struct session *session)
{
	*withdraw = (struct withdraw){ .session = session };
	lock_init(&withdraw->lock);
	lock_cond_init(&withdraw->cond);
}

static void drop_pages(void *arg, struct node *node)
{
	struct session *session = arg;
	uint64_t id = node_id(session->nodes, node);
	int rc = fuse_lowlevel_notify_inval_inode(session->fuse, id, 0, 0);

	log_debug("withdraw node=%p status=%d", (void *)node, rc);
}

static void drop_all(struct session *session, const struct oid *oid)
{
	struct node *root = node_from_id(session->nodes, FUSE_ROOT_ID);

	if (root)
		repo_withdraw(node_repo(root), oid, drop_pages, session);
}

static void *withdraw_run(void *arg)
{
	struct withdraw *withdraw = arg;

	lock_take(&withdraw->lock);
	while (!withdraw->stop) {
		struct oid oid;

		if (!withdraw->count) {
			lock_cond_wait(&withdraw->cond, &withdraw->lock);
			continue;
		}
		oid = withdraw->queue[--withdraw->count];
		lock_give(&withdraw->lock);
		drop_all(withdraw->session, &oid);
		lock_take(&withdraw->lock);
	}
	lock_give(&withdraw->lock);
	return NULL;
}

int withdraw_start(struct withdraw *withdraw)
{
	int rc = thread_start(&withdraw->thread, "xcpfs-withdraw", withdraw_run, withdraw);

	withdraw->started = rc == 0;
	return rc;
}

void withdraw_add(struct withdraw *withdraw, const struct oid *oid)
{
	lock_take(&withdraw->lock);
	if (withdraw->count < WITHDRAW_MAX)
		withdraw->queue[withdraw->count++] = *oid;
	lock_cond_signal(&withdraw->cond);
	lock_give(&withdraw->lock);
}

void withdraw_end(struct withdraw *withdraw)
{
	lock_take(&withdraw->lock);
	withdraw->stop = true;
	lock_cond_signal(&withdraw->cond);
	lock_give(&withdraw->lock);
	if (withdraw->started)
		pthread_join(withdraw->thread, NULL);
	withdraw->started = false;
}

void withdraw_release(struct withdraw *withdraw)
{
	lock_cond_release(&withdraw->cond);
	lock_release(&withdraw->lock);
}
