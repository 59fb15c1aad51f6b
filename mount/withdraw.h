/*
 * withdraw: takes back from the kernel what it was given of an object that turned out to be wrong.
 *
 * The kernel drops pages only when nobody is reading them, and who reads them waits for an answer
 * of ours: so this is done by a thread that answers nothing, and until it is done reads of that
 * object fail at once (repo_withdraw()).
 *
 *	withdraw_init ---> withdraw_start ---> withdraw_add ... ---> withdraw_end
 *	                                             (while requests are answered) ---> release
 *
 * Threads: withdraw_add() from any; the others from the main thread.
 */
#ifndef MOUNT_WITHDRAW_H
#define MOUNT_WITHDRAW_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/lock.h"
#include "base/oid.h"

struct session;

#define WITHDRAW_MAX 64

struct withdraw {
	struct session *session; /* borrowed */
	pthread_t thread;
	bool started;
	struct lock lock;
	struct lock_cond cond;
	/* under lock */
	struct oid queue[WITHDRAW_MAX];
	size_t count;
	bool stop;
};

void withdraw_init(struct withdraw *withdraw, struct session *session);
int withdraw_start(struct withdraw *withdraw);
/* The data of every file with this content. Of more than WITHDRAW_MAX at once reads go on failing. */
void withdraw_add(struct withdraw *withdraw, const struct oid *oid);
void withdraw_end(struct withdraw *withdraw);
void withdraw_release(struct withdraw *withdraw);

#endif
