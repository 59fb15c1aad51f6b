/*
 * loop: the threads that take requests from the device, and their end.
 *
 *	loop_init ---> loop_run: unmounted, stopped, or a broken device ---> loop_release
 *
 * Not libfuse's own loop, because that one cannot be stopped for sure while it is idle: it only
 * looks at its flag when a worker comes back from read(2), and waking it by a signal may come a
 * moment too early. Here a stop is a semaphore, and idle workers are cancelled in read(2), where a
 * cancellation that comes early is kept. One device descriptor for all: with one per worker
 * (clone_fd) 8 processes on 2 cores made the same 140,000-200,000 null requests a second, and
 * libfuse 3.14 then loses an interrupt that overtakes its request (it asks for it again on the
 * wrong descriptor).
 *
 * Threads: run from the main thread; stop from any, and from a signal handler, between init and
 * release.
 */
#ifndef MOUNT_LOOP_H
#define MOUNT_LOOP_H

#include <semaphore.h>
#include <stdatomic.h>

struct fuse_session;

struct loop {
	sem_t ended;	   /* posted by a stop, and by each worker that found the device gone */
	_Atomic int error; /* the first worker's; 0 for an unmount */
};

void loop_init(struct loop *loop);
void loop_release(struct loop *loop);

/*
 * Returns 0, or -errno when the device failed or no thread could be had. No worker is left
 * afterwards. Stopped before: returns at once. `last` is called at the end, while workers still
 * answer, as far as there is anybody to answer.
 */
int loop_run(struct loop *loop, struct fuse_session *fuse, unsigned workers,
	     void (*last)(void *arg), void *arg);
void loop_stop(struct loop *loop);

#endif
