/*
 * lock: a mutex that knows its holder, and conditions on the monotonic clock.
 *
 * A critical section is short, has one exit, and calls nothing that can wait: no network, no disk
 * write, no callback. `_locked` in a name means that the caller holds the lock; the function
 * asserts it with lock_held().
 *
 * Lock order, where two are ever held (outer first). Keep it this short:
 *	1. repo (node table)
 *	2. fetch (flights)
 *	3. cache (pending table), log and other leaves
 *
 * Threads: any.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lock {
	pthread_mutex_t mutex;
	_Atomic int holder; /* thread id; 0: free; relaxed: only the holder relies on it */
};

void lock_init(struct lock *lock);
void lock_release(struct lock *lock); /* destroys it; nobody may hold it */
void lock_take(struct lock *lock);
void lock_give(struct lock *lock);
bool lock_held(const struct lock *lock); /* by the calling thread */

struct lock_cond {
	pthread_cond_t cond;
};
void lock_cond_init(struct lock_cond *cond);
void lock_cond_release(struct lock_cond *cond);
void lock_cond_signal(struct lock_cond *cond);
void lock_cond_broadcast(struct lock_cond *cond);

/* Waits holding `lock`. Always recheck the condition in a loop. */
void lock_cond_wait(struct lock_cond *cond, struct lock *lock);

/* Returns false when `timeout_ms` passed (real time, also under a fake clock). */
bool lock_cond_wait_ms(struct lock_cond *cond, struct lock *lock, uint64_t timeout_ms);

/*
 * Picks one of `count` things for the calling thread, always the same one: pools that are cut up
 * this way are seldom asked for by two threads at once.
 */
unsigned thread_stripe(unsigned count);

/*
 * Starts a thread named `name` (at most 15 bytes), all signals blocked but SIGSEGV and SIGBUS.
 * Returns 0 or -errno.
 */
int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *arg);

#endif
