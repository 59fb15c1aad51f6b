/*
 * blind: reads that wait while the kernel does not know how long the file is, and who waits for
 * them.
 *
 * A LOOKUP that cannot tell a size gives the kernel a placeholder, and a program that reads without
 * asking for the size makes it send READs while the placeholder is all it knows: blind ones. The
 * pages of a READ are locked until it is answered. A kernel that hears another size meanwhile drops
 * every page of the file, wherever its end is, and waits for the locked ones where no signal
 * reaches: a stat of the name could not be ended with Ctrl-C. So nobody is told the size of a file while blind reads of it
 * wait: entries say that it is not known, and GETATTR parks, which a signal does end.
 *
 *	a read parks, the kernel was not told: blind_read_begin ---> replied ---> blind_read_end
 *	                                                                              |
 *	blind_park ---> PARKED ---> WOKEN, done() when the node has no blind read <---/
 *	                       \--> blind_cancel: taken out
 *
 * A window stays, in the kernel and out of our reach: a READ that was sent and not yet taken by us,
 * or whose turn comes just while the answer with the size is on its way (one that failed and is
 * tried again at once, too). That is a matter of microseconds, once for each file: a kernel that
 * has heard the size has nothing more to drop.
 *
 * A node pays a counter and a flag; reads that do not park pay nothing.
 *
 * Threads: any. done() is called with no lock held.
 */
#ifndef REPO_BLIND_H
#define REPO_BLIND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/lock.h"

struct node;
struct blind_wait;
TAILQ_HEAD(blind_queue, blind_wait);

struct blind_table {
	struct lock lock;
	struct blind_queue parked; /* under lock */
};
void blind_table_init(struct blind_table *table);
void blind_table_release(struct blind_table *table); /* nothing may be parked */

/* What one request has to do with it: as a read that is counted, or as one that waits for those. */
struct blind_wait {
	/* set before */
	struct blind_table *table; /* borrowed */
	void (*done)(struct blind_wait *wait);

	struct node *read; /* where it is counted, with a ref; NULL: nowhere. The request's own */

	/* under the table's lock */
	enum blind_state { BLIND_IDLE, BLIND_PARKED, BLIND_WOKEN } state;
	struct node *awaited; /* while PARKED; borrowed: the request keeps it */
	TAILQ_ENTRY(blind_wait) entry;
};
void blind_wait_init(struct blind_wait *wait, struct blind_table *table,
		     void (*done)(struct blind_wait *));

/* What the kernel is being told of the node: its size, or that nobody knows it. */
void blind_told(struct node *node, bool size_known);

/*
 * A read may park: before it does. Counts it when it is blind, once for each wait. The node must be
 * alive.
 */
void blind_read_begin(struct blind_wait *wait, struct node *node);

/*
 * The read has been replied to. Calls done() of those that waited for it when it was the last.
 * Nothing for one that was not counted.
 */
void blind_read_end(struct blind_wait *wait);

/* Whether blind reads of the node wait. A read that ended was replied to before. */
bool blind_reads(const struct node *node);

/*
 * True: done() will be called when the node has no blind read any more; ask again then, there may
 * be new ones. False: there are none. Ends the BLIND_WOKEN of an earlier call.
 */
bool blind_park(struct blind_wait *wait, struct node *node);

/*
 * Takes it out when it is parked. Returns what it was: BLIND_WOKEN says that done() was or is being
 * called.
 */
enum blind_state blind_cancel(struct blind_wait *wait);

#endif
