/*
 * early: refs that are asked for while it is still being found out what the server can do.
 *
 *	early_expect ---> early_ask ---> early_take
 *			      +---> early_drop
 *
 * Version 2 over HTTP is stateless: a question is understood without another before it, if the
 * server speaks that version and SHA-1. Whether it does, and that this is the place and the user to
 * ask, the first request of http_connect.c tells, which goes out just before, on a connection of
 * its own (some servers take one at a time). When it tells anything else, or the answer is not good,
 * nobody hears of the question, and the refs are asked for as if it had never been.
 *
 * Threads: the one that connects and then wants the refs (main, at mount time). It posts the question
 * behind its own first request and waits for that alone; the network thread serves both. It looks
 * for the answer when the refs are wanted, and whoever drops the question waits till the network
 * thread has let go of it, which is at once.
 */
#ifndef REMOTE_EARLY_H
#define REMOTE_EARLY_H

#include "base/buf.h"
#include "remote/remote.h"

struct ls_refs;
struct early {
	/* The question, as the least of servers understands it; empty: there is none. */
	struct buf expected;
	struct ls_refs *question; /* owned; on its way or answered; NULL */
};

/* What the first question for refs will be. Without memory there is none. */
void early_expect(struct early *early, const char *const *prefixes, size_t prefix_count);

/* Asks it, once. */
void early_ask(struct early *early, struct remote *remote);

/*
 * Whether these prefixes are what was asked, and the answer is good: then it is given away. Waits
 * for it, though not for long. Afterwards all is as after early_drop().
 */
bool early_take(struct early *early, const struct remote *remote, const char *const *prefixes,
		size_t prefix_count, struct ref_list *out);

void early_drop(struct early *early); /* takes the question back; harmless when there is none */

#endif
