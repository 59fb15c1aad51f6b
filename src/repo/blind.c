/*
 * Blind reads are counted in their node, so that beginning and ending one takes no lock. Who waits
 * for them is in one list for all nodes: those are few, and only the end of a read that somebody
 * waits for looks at it, which a bit next to the count says.
 */
#include "repo/blind.h"

#include <string.h>

#include "repo/node_internal.h"

#define AWAITED                                                                                    \
	(UINT32_C(1) << 31) /* somebody may be in the list; set and cleared under its lock */

void blind_table_init(struct blind_table *table)
{
	lock_init(&table->lock);
	TAILQ_INIT(&table->parked);
}

void blind_table_release(struct blind_table *table)
{
	lock_release(&table->lock);
}

void blind_wait_init(struct blind_wait *wait, struct blind_table *table,
		     void (*done)(struct blind_wait *))
{
	*wait = (struct blind_wait){ .table = table, .done = done };
}

void blind_told(struct node *node, bool size_known)
{
	if (atomic_load_explicit(&node->told, memory_order_relaxed) != size_known)
		atomic_store_explicit(&node->told, size_known, memory_order_relaxed);
}

/* ---- reads ---- */

void blind_read_begin(struct blind_wait *wait, struct node *node)
{
	if (wait->read || atomic_load_explicit(&node->told, memory_order_relaxed))
		return;
	node_hold(node); /* the reply lets the kernel forget it */
	wait->read = node;
	atomic_fetch_add_explicit(&node->blind, 1, memory_order_relaxed);
}

/* Whether there is a read to wait for; if so its end will look into the list. */
static bool await_locked(struct node *node)
{
	uint32_t count = atomic_load_explicit(&node->blind, memory_order_acquire);

	do {
		if ((count & ~AWAITED) == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&node->blind, &count, count | AWAITED, memory_order_acquire, memory_order_acquire));
	return true;
}

static void wake_all(struct blind_table *table, struct node *node)
{
	struct blind_queue woken = TAILQ_HEAD_INITIALIZER(woken);
	struct blind_wait *wait, *next;

	lock_take(&table->lock);
	atomic_fetch_and_explicit(&node->blind, ~AWAITED, memory_order_relaxed);
	for (wait = TAILQ_FIRST(&table->parked); wait; wait = next) {
		next = TAILQ_NEXT(wait, entry);
		if (wait->awaited != node)
			continue;
		TAILQ_REMOVE(&table->parked, wait, entry);
		TAILQ_INSERT_TAIL(&woken, wait, entry);
		wait->state = BLIND_WOKEN;
	}
	lock_give(&table->lock);

	while ((wait = TAILQ_FIRST(&woken)) != NULL) {
		TAILQ_REMOVE(&woken, wait, entry);
		wait->done(wait);
	}
}

void blind_read_end(struct blind_wait *wait)
{
	struct node *node = wait->read;

	if (!node)
		return;
	wait->read = NULL;
	/* release: the reply comes before whatever is told to those who find no read any more */
	if (atomic_fetch_sub_explicit(&node->blind, 1, memory_order_release) == (AWAITED | 1))
		wake_all(wait->table, node);
	node_forget(node->table, node, 1);
}

/* ---- those that wait for them ---- */

bool blind_reads(const struct node *node)
{
	return (atomic_load_explicit(&node->blind, memory_order_acquire) & ~AWAITED) != 0;
}

bool blind_park(struct blind_wait *wait, struct node *node)
{
	lock_take(&wait->table->lock);
	bool parks = await_locked(node);

	wait->state = parks ? BLIND_PARKED : BLIND_IDLE;
	if (parks) {
		wait->awaited = node;
		TAILQ_INSERT_TAIL(&wait->table->parked, wait, entry);
	}
	lock_give(&wait->table->lock);
	return parks;
}

enum blind_state blind_cancel(struct blind_wait *wait)
{
	lock_take(&wait->table->lock);
	enum blind_state was = wait->state;

	if (was == BLIND_PARKED) {
		TAILQ_REMOVE(&wait->table->parked, wait, entry);
		wait->state = BLIND_IDLE;
	}
	lock_give(&wait->table->lock);
	return was;
}
