/*
 * Workers around fuse_session_receive_buf() and fuse_session_process_buf(). A worker may be
 * cancelled only while it waits for a request; one that was read and is lost to a cancellation at
 * that very moment ends with the connection, like all that were not read.
 */
#include "mount/loop.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/lock.h"

struct worker {
	struct loop *loop;	   /* borrowed */
	struct fuse_session *fuse; /* borrowed */
	struct fuse_buf buf; /* owned; as large as the largest request, and mostly never touched */
	pthread_t thread;
};

static int worker_receive(struct worker *worker)
{
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	int got = fuse_session_receive_buf(worker->fuse, &worker->buf);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	return got;
}

static void *worker_run(void *arg)
{
	struct worker *worker = arg;
	int got = 1;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	while (!fuse_session_exited(worker->fuse)) {
		got = worker_receive(worker);
		if (got == -EINTR || got == -EAGAIN)
			continue;
		if (got <= 0)
			break;
		fuse_session_process_buf(worker->fuse, &worker->buf);
	}
	if (got < 0) {
		int none = 0;

		atomic_compare_exchange_strong(&worker->loop->error, &none, got);
	}
	sem_post(&worker->loop->ended);
	return NULL;
}

void loop_init(struct loop *loop)
{
	sem_init(&loop->ended, 0, 0);
	atomic_init(&loop->error, 0);
}

void loop_release(struct loop *loop)
{
	sem_destroy(&loop->ended);
}

void loop_stop(struct loop *loop)
{
	sem_post(&loop->ended);
}

static void workers_end(struct worker *workers, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		pthread_cancel(workers[i].thread);
	for (unsigned i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		free(workers[i].buf.mem);
	}
}

int loop_run(struct loop *loop, struct fuse_session *fuse, unsigned count, void (*last)(void *arg),
	     void *arg)
{
	struct worker *workers = calloc(count, sizeof(*workers));
	unsigned started = 0;
	int rc = workers ? 0 : -ENOMEM;

	while (rc == 0 && started < count) {
		workers[started] = (struct worker){ .loop = loop, .fuse = fuse };
		rc = thread_start(&workers[started].thread, "xcpfs-worker", worker_run,
				  &workers[started]);
		started += rc == 0;
	}
	while (rc == 0 && sem_wait(&loop->ended) != 0)
		;
	last(arg);
	fuse_session_exit(fuse);
	workers_end(workers, started);
	free(workers);
	return rc ? rc : atomic_load(&loop->error);
}
