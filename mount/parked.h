/*
 * parked: a request that waits for bytes from afar, without a thread.
 *
 *	parked_start ---> RUNNING ---> answered: replied, freed
 *	                  ^     \ parks
 *	             wake |      v
 *	                  +-- WAITING ---> interrupted or ended, wait taken back: replied, freed
 *
 * Whoever moves it into RUNNING holds it: only the holder runs the op, replies, and frees. In
 * WAITING nobody holds it; repo has the wait. The phase changes under the object's own lock, and so
 * does the question whether a wait can be taken back, since its answer (repo_wait_cancel() true)
 * makes the asker the holder. Three may come at the same time:
 *
 *	          in RUNNING                          in WAITING
 *	wake      note it; the holder runs again      becomes the holder; runs again, or
 *	          instead of going to WAITING         replies the wait's error
 *	interrupt note it; when the holder parks      takes the wait back ---> holder: replies EINTR
 *	          again it takes the wait back        cannot (the wake is on its way): nothing; the
 *	          itself and replies EINTR            wake's run sees the note
 *	end of    as an interrupt, with EIO           takes the wait back ---> holder: replies EIO
 *	all                                           cannot: the wake's run sees that it is closing
 *
 * So the wait is only ever taken back in WAITING or by the holder, never while somebody may be
 * registering it: an interrupt that arrives before the registration is a note that the holder finds
 * right after it.
 *
 * libfuse calls an interrupt function with the request's own lock held, and
 * fuse_req_interrupt_func() takes that lock. Hence: the function is set before the first run (an
 * interrupt that was there already calls it at once, on this very stack, in RUNNING: a note); every
 * holder but the interrupt itself first takes it out, which waits for one that is running, and only
 * then replies and frees. The interrupt that became the holder replies from inside: libfuse keeps
 * the request until it returns.
 *
 * The wait is released after the reply. That may wake others (repo's blind reads), in an interrupt
 * under the lock of the request that it ended: those others take no such lock but their own, and
 * wake nobody.
 *
 * Lock order: libfuse's request, list, parked, then repo's and fetch's. None is held while an op
 * runs or a reply is sent, but for the first in an interrupt.
 *
 * Threads: any.
 */
#ifndef MOUNT_PARKED_H
#define MOUNT_PARKED_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/lock.h"
#include "mount/op.h"

struct parked;
TAILQ_HEAD(parked_queue, parked);

struct parked_list {
	struct lock lock;
	struct lock_cond empty;
	_Atomic bool closing; /* set once; orders nothing: the phases' locks do */

	/* under lock */
	struct parked_queue queue; /* oldest first */
	uint64_t count; /* may be more than the queue holds: those that are just being freed */
	uint64_t max;
};
void parked_list_init(struct parked_list *list);
void parked_list_release(struct parked_list *list); /* after parked_list_close() */

/*
 * Copies the op, which must not be touched afterwards, and runs it until it answers or waits. When
 * there is no memory for that, the request is answered ENOMEM.
 */
void parked_start(struct parked_list *list, const struct op *op);

/*
 * Replies EIO to what was parked before `before_ns` (clock_ns()), as far as it is not just being
 * answered. Returns how many.
 */
unsigned parked_list_expire(struct parked_list *list, uint64_t before_ns);

/*
 * Ends all and waits until none is left. What parks from now on is ended at once. Waits for runs
 * that are under way, never for the network.
 */
void parked_list_close(struct parked_list *list);

void parked_list_count(struct parked_list *list, uint64_t *out_now, uint64_t *out_max);

#endif
