/*
 * ls_refs: a call of kind CALL_REFS whose sink is a struct that can be waited for.
 */
#include "remote/ls_refs.h"

#include <errno.h>
#include <stdlib.h>

#include "remote/remote_internal.h"

struct ls_refs {
	struct remote_sink sink;
	struct remote_call *call; /* valid while not `done` */
	struct ref_list refs;	  /* the network thread's until `done` */
	/* under `lock` */
	struct lock lock;
	struct lock_cond changed;
	bool done;
	struct remote_outcome outcome;
};

static void on_done(struct remote_sink *sink, const struct remote_outcome *outcome)
{
	struct ls_refs *question = (struct ls_refs *)sink;

	lock_take(&question->lock);
	question->outcome = *outcome;
	question->done = true;
	lock_cond_signal(&question->changed);
	lock_give(&question->lock);
}

static void question_free(struct ls_refs *question)
{
	ref_list_release(&question->refs);
	lock_cond_release(&question->changed);
	lock_release(&question->lock);
	free(question);
}

int ls_refs_start(struct remote *remote, const struct buf *request, bool early,
		  struct ls_refs **out)
{
	struct ls_refs *question = calloc(1, sizeof(*question));
	struct remote_call *call;
	int rc;

	if (!question)
		return -ENOMEM;
	question->sink.done = on_done;
	lock_init(&question->lock);
	lock_cond_init(&question->changed);
	call = call_new(remote, CALL_REFS, &question->sink);
	rc = call ? 0 : -ENOMEM;
	if (call) {
		call->early = early;
		call->out_refs = &question->refs;
		rc = call_launch(call, buf_add(&call->request, request->data, request->len),
				 &question->call);
	}
	if (rc) {
		question_free(question);
		return rc;
	}
	*out = question;
	return 0;
}

bool ls_refs_wait(struct ls_refs *question, unsigned timeout_ms)
{
	uint64_t end_ms = net_now_ms() + timeout_ms, now_ms;
	bool done;

	lock_take(&question->lock);
	while (!question->done && !timeout_ms)
		lock_cond_wait(&question->changed, &question->lock);
	while (!question->done && (now_ms = net_now_ms()) < end_ms)
		lock_cond_wait_ms(&question->changed, &question->lock, end_ms - now_ms);
	done = question->done;
	lock_give(&question->lock);
	return done;
}

void ls_refs_answer(struct ls_refs *question, struct ref_list *out_refs, struct remote_outcome *out)
{
	*out = question->outcome;
	*out_refs = question->refs;
	question->refs = (struct ref_list){ 0 };
}

void ls_refs_end(struct ls_refs **question_p)
{
	struct ls_refs *question = *question_p;

	*question_p = NULL;
	if (!question)
		return;
	lock_take(&question->lock);
	if (!question->done)
		remote_call_cancel(question->call);
	lock_give(&question->lock);
	ls_refs_wait(question, 0);
	question_free(question);
}
