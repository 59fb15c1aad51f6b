/*
 * Parked requests: see the header for the phases and for who may do what. Nothing here knows what
 * an operation does.
 */
#include "mount/parked.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount/reply.h"

struct parked {
	struct op op;		   /* the holder's */
	struct repo_wait wait;	   /* the holder's in RUNNING, repo's in WAITING */
	struct parked_list *list;  /* borrowed */
	TAILQ_ENTRY(parked) entry; /* under the list's lock */

	struct lock lock;
	/* under lock */
	enum { PARKED_RUNNING, PARKED_WAITING } phase;
	bool interrupted;
	bool woken; /* while RUNNING */
	int woken_status;

	char name[]; /* what op.name points at */
};

static struct parked *parked_of_wait(struct repo_wait *wait)
{
	return (struct parked *)((char *)wait - offsetof(struct parked, wait));
}

/* ---- the list ---- */

static void list_add(struct parked_list *list, struct parked *parked)
{
	lock_take(&list->lock);
	TAILQ_INSERT_TAIL(&list->queue, parked, entry);
	if (++list->count > list->max)
		list->max = list->count;
	lock_give(&list->lock);
}

static void list_unlink(struct parked_list *list, struct parked *parked)
{
	lock_take(&list->lock);
	TAILQ_REMOVE(&list->queue, parked, entry);
	lock_give(&list->lock);
}

static void list_uncount(struct parked_list *list)
{
	lock_take(&list->lock);
	if (--list->count == 0)
		lock_cond_broadcast(&list->empty);
	lock_give(&list->lock);
}

/* ---- the end of one ---- */

/* Replies and frees; the caller is the holder, and no interrupt can come any more. */
static void parked_reply(struct parked *parked, int status)
{
	struct parked_list *list = parked->list;

	list_unlink(list, parked);
	op_finish(&parked->op, status, true);
	repo_wait_release(&parked->wait);
	lock_release(&parked->lock);
	free(parked);
	list_uncount(list);
}

static void parked_finish(struct parked *parked, int status)
{
	fuse_req_interrupt_func(parked->op.req, NULL, NULL);
	parked_reply(parked, status);
}

/* True when the caller has become the holder: nobody will wake it any more. */
static bool take_back_locked(struct parked *parked)
{
	assert(lock_held(&parked->lock));
	if (parked->phase != PARKED_WAITING || !repo_wait_cancel(&parked->wait))
		return false;
	parked->phase = PARKED_RUNNING;
	return true;
}

/* ---- running ---- */

/* Why waiting makes no sense any more, or 0. */
static int over_locked(struct parked *parked)
{
	assert(lock_held(&parked->lock));
	if (parked->interrupted)
		return -EINTR;
	return atomic_load(&parked->list->closing) ? -EIO : 0;
}

static int over(struct parked *parked)
{
	lock_take(&parked->lock);
	int status = over_locked(parked);
	lock_give(&parked->lock);
	return status;
}

/*
 * After a run that parked: lets go of the object, unless it was woken or ended meanwhile. Returns
 * REPO_PARKED when it was let go, 0 to run again, or the error to reply.
 */
static int let_go(struct parked *parked)
{
	int next = REPO_PARKED;

	lock_take(&parked->lock);
	if (parked->woken) {
		parked->woken = false;
		next = parked->woken_status;
	} else {
		int ended = over_locked(parked);

		parked->phase = PARKED_WAITING;
		if (ended != 0 && take_back_locked(parked))
			next = ended;
	}
	lock_give(&parked->lock);
	return next;
}

/* The caller is the holder; it is not afterwards. */
static void parked_run(struct parked *parked)
{
	int status = over(parked);

	while (status == 0) {
		status = parked->op.class->run(&parked->op, &parked->wait);
		if (status != REPO_PARKED) {
			parked_finish(parked, status);
			return;
		}
		status = let_go(parked);
	}
	if (status != REPO_PARKED)
		parked_finish(parked, reply_wait_status(status));
}

static void on_wake(struct repo_wait *wait, int status)
{
	struct parked *parked = parked_of_wait(wait);

	lock_take(&parked->lock);
	bool held = parked->phase == PARKED_RUNNING;

	if (held) {
		parked->woken = true;
		parked->woken_status = status;
	}
	parked->phase = PARKED_RUNNING;
	lock_give(&parked->lock);

	if (held)
		return;
	if (status < 0)
		parked_finish(parked, reply_wait_status(status));
	else
		parked_run(parked);
}

static void on_interrupt(fuse_req_t req, void *data)
{
	struct parked *parked = data;

	(void)req;
	lock_take(&parked->lock);
	parked->interrupted = true;
	bool holder = take_back_locked(parked);
	lock_give(&parked->lock);

	if (holder)
		parked_reply(parked, -EINTR);
}

static struct parked *parked_new(struct parked_list *list, const struct op *op)
{
	size_t name_len = op->name ? strlen(op->name) + 1 : 0;
	struct parked *parked = calloc(1, sizeof(*parked) + name_len);

	if (!parked)
		return NULL;
	parked->op = *op;
	if (op->name)
		parked->op.name = memcpy(parked->name, op->name, name_len);
	parked->list = list;
	parked->phase = PARKED_RUNNING;
	lock_init(&parked->lock);
	repo_wait_init(&parked->wait, node_repo(op->node), on_wake);
	return parked;
}

void parked_start(struct parked_list *list, const struct op *op)
{
	struct parked *parked = parked_new(list, op);

	if (!parked) {
		struct op failed = *op;

		op_finish(&failed, -ENOMEM, false);
		return;
	}
	list_add(list, parked);
	fuse_req_interrupt_func(parked->op.req, on_interrupt, parked);
	parked_run(parked);
}

/* ---- all of them ---- */

void parked_list_init(struct parked_list *list)
{
	memset(list, 0, sizeof(*list));
	lock_init(&list->lock);
	lock_cond_init(&list->empty);
	TAILQ_INIT(&list->queue);
}

void parked_list_release(struct parked_list *list)
{
	lock_cond_release(&list->empty);
	lock_release(&list->lock);
}

/*
 * Finds one that was parked before and can be taken back, and takes it. One whose wake is on its
 * way stays for its waker. The list's lock keeps each from being freed while it is looked at: it
 * leaves the list before.
 */
static struct parked *take_one(struct parked_list *list, uint64_t before_ns)
{
	struct parked *parked;

	lock_take(&list->lock);
	TAILQ_FOREACH(parked, &list->queue, entry) {
		if (parked->op.start_ns >= before_ns)
			continue;
		lock_take(&parked->lock);
		bool taken = take_back_locked(parked);
		lock_give(&parked->lock);
		if (taken)
			break;
	}
	lock_give(&list->lock);
	return parked;
}

unsigned parked_list_expire(struct parked_list *list, uint64_t before_ns)
{
	struct parked *parked;
	unsigned count = 0;

	while ((parked = take_one(list, before_ns)) != NULL) {
		parked_finish(parked, -EIO);
		count++;
	}
	return count;
}

void parked_list_close(struct parked_list *list)
{
	atomic_store(&list->closing, true);
	parked_list_expire(list, UINT64_MAX);

	lock_take(&list->lock);
	while (list->count != 0)
		lock_cond_wait(&list->empty, &list->lock);
	lock_give(&list->lock);
}

void parked_list_count(struct parked_list *list, uint64_t *out_now, uint64_t *out_max)
{
	lock_take(&list->lock);
	*out_now = list->count;
	*out_max = list->max;
	lock_give(&list->lock);
}
