/*
 * ls_refs: one question for refs, and who will wait for the answer.
 *
 *	ls_refs_start ---> ls_refs_wait ---> ls_refs_answer ---> ls_refs_end
 *	                        +------- given up ---------------^
 *
 * Threads: a question belongs to the thread that asks (main, at mount time), which may do something
 * else meanwhile; the network thread puts the answer in.
 */
#ifndef REMOTE_LS_REFS_H
#define REMOTE_LS_REFS_H

#include "base/buf.h"
#include "remote/remote.h"

struct ls_refs;

/*
 * `request` is copied. `early`: it is not known yet whether the server can be asked in this way, so
 * that to fail is no error of the remote's. Returns 0, -ENOMEM, or -ECANCELED while the remote is
 * being closed.
 */
int ls_refs_start(struct remote *remote, const struct buf *request, bool early,
		  struct ls_refs **out);

/*
 * Returns false when the answer is not there after so long. With timeout_ms 0 that does not happen:
 * every call has an end, because one without progress is given up on the network thread.
 */
bool ls_refs_wait(struct ls_refs *question, unsigned timeout_ms);

/* After a wait that returned true. Gives the refs away, which are none unless it is REMOTE_OK. */
void ls_refs_answer(struct ls_refs *question, struct ref_list *out_refs,
		    struct remote_outcome *out);

void ls_refs_end(struct ls_refs **question); /* cancels it when it is still on its way */

#endif
