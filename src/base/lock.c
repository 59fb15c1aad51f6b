/*
 * lock: mutexes with a holder, conditions on the monotonic clock, named threads.
 *
 * That a mutex operation fails means that the lock was used wrongly (not initialised, given back
 * by someone else): an invariant of ours, so it is asserted.
 */
#include "base/lock.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

/*
 * A number of our own per thread: gettid() is a system call per lock, and its values come again
 * after a fork. The counter is only ever added to.
 */
static _Atomic int last_thread;
static _Thread_local int this_thread;

static int thread_number(void)
{
	if (!this_thread)
		this_thread = atomic_fetch_add_explicit(&last_thread, 1, memory_order_relaxed) + 1;
	return this_thread;
}

static void must(int rc)
{
	assert(rc == 0);
	(void)rc;
}

void lock_init(struct lock *lock)
{
	must(pthread_mutex_init(&lock->mutex, NULL));
	atomic_init(&lock->holder, 0);
}

void lock_release(struct lock *lock)
{
	must(pthread_mutex_destroy(&lock->mutex));
}

/* relaxed everywhere: a thread only compares with its own number, which only itself ever stores */
static void set_holder(struct lock *lock, int number)
{
	atomic_store_explicit(&lock->holder, number, memory_order_relaxed);
}

bool lock_held(const struct lock *lock)
{
	return atomic_load_explicit(&lock->holder, memory_order_relaxed) == thread_number();
}

void lock_take(struct lock *lock)
{
	assert(!lock_held(lock));
	must(pthread_mutex_lock(&lock->mutex));
	set_holder(lock, thread_number());
}

void lock_give(struct lock *lock)
{
	assert(lock_held(lock));
	set_holder(lock, 0);
	must(pthread_mutex_unlock(&lock->mutex));
}

void lock_cond_init(struct lock_cond *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr));
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	must(pthread_cond_init(&cond->cond, &attr));
	must(pthread_condattr_destroy(&attr));
}

void lock_cond_release(struct lock_cond *cond)
{
	must(pthread_cond_destroy(&cond->cond));
}

void lock_cond_signal(struct lock_cond *cond)
{
	must(pthread_cond_signal(&cond->cond));
}

void lock_cond_broadcast(struct lock_cond *cond)
{
	must(pthread_cond_broadcast(&cond->cond));
}

void lock_cond_wait(struct lock_cond *cond, struct lock *lock)
{
	assert(lock_held(lock));
	set_holder(lock, 0);
	must(pthread_cond_wait(&cond->cond, &lock->mutex));
	set_holder(lock, thread_number());
}

/*
 * Far away is as good as never: longer waits are cut to a year, which also keeps tv_sec from
 * overflowing.
 */
static struct timespec deadline_in(uint64_t timeout_ms)
{
	const uint64_t year_ms = UINT64_C(365) * 24 * 3600 * 1000;
	struct timespec at;

	if (timeout_ms > year_ms)
		timeout_ms = year_ms;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += (time_t)(timeout_ms / 1000);
	at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return at;
}

bool lock_cond_wait_ms(struct lock_cond *cond, struct lock *lock, uint64_t timeout_ms)
{
	struct timespec deadline = deadline_in(timeout_ms);
	int rc;

	assert(lock_held(lock));
	set_holder(lock, 0);
	rc = pthread_cond_timedwait(&cond->cond, &lock->mutex, &deadline);
	set_holder(lock, thread_number());
	must(rc == ETIMEDOUT ? 0 : rc);
	return rc != ETIMEDOUT;
}

unsigned thread_stripe(unsigned count)
{
	return (unsigned)thread_number() % count;
}

int thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *arg)
{
	char short_name[16];
	sigset_t all, before;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	/* Faults cannot wait, and some are expected (guard.h). */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return -rc;
	/* may fail for a thread that is gone already; the name is for people */
	if (snprintf(short_name, sizeof(short_name), "%s", name) > 0)
		pthread_setname_np(thread, short_name);
	*out = thread;
	return 0;
}
