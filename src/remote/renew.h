/*
 * renew: who we are at a server that no longer takes what it took before: a token that expired, a
 * password that was changed.
 *
 *	a call is refused ---> renew_wanted ---> a thread of its own: the token is looked for again,
 *		and the server asked as when it was mounted, helpers included
 *
 * Calls that are refused meanwhile are told to try later, and readers wait as for a server that
 * does not answer.
 *
 * Threads: renew_wanted() and renew_count() on the network thread, renew_end() from who closes the
 * remote.
 */
#ifndef REMOTE_RENEW_H
#define REMOTE_RENEW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct remote;

struct renewal {	/* under the remote's lock */
	unsigned count; /* those that came to a good end */
	bool useless; /* the last one changed nothing: what is beside git refuses what git takes */
	bool running;
	bool made; /* there is a thread to join */
	pthread_t thread;
	uint64_t rests_until_ms; /* after a try nobody tries again for a while */
};

unsigned renew_count(struct remote *remote);

/*
 * A call was refused that began with that count. True: try again later, it is being renewed, or was
 * meanwhile. False: refused it is.
 */
bool renew_wanted(struct remote *remote, unsigned count, bool beside_git);

/* No more from now on; waits for what runs. While the transport is there. */
void renew_end(struct remote *remote);

#endif
