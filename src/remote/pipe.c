/*
 * pipe: git-upload-pack behind the pipes of a child: ssh, or a repository on this machine.
 *
 * With protocol v2 one child serves many calls, one after the other: a session. A few sessions
 * stand side by side, so that one call that stalls does not block the rest. With v0 a child serves
 * one fetch and ends.
 *
 *	session_new ---> ADVERT ---> IDLE <---> BUSY ---> closed
 *	                   |           (v0: once)  |
 *	                   +------> ENDING <-------+	stdout ended; stderr may say why
 *
 * Which form of the command a host understands takes a try. With a shell on the other side FORM_ENV
 * gives the most; hosts that know only one command want FORM_PLAIN. What worked once is kept for
 * the life of the remote.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "remote/remote_internal.h"
#include "remote/upload_pack.h"

#define SESSIONS_MAX 3
#define READ_LEN 65536
#define WORDS_LEN 4096 /* of stderr, kept */
#define IDLE_MS 300000
#define ENDING_MS 1000	      /* stdout has ended: how long stderr may take */
#define INTERACTIVE_MS 300000 /* a person may be typing a password */

enum session_state { SESSION_ADVERT, SESSION_IDLE, SESSION_BUSY, SESSION_ENDING };

struct pipe_wait;

struct session {
	struct pipe *pipe;
	struct broker_child child;
	enum session_state state;
	enum upload_pack_form form;
	struct net_watch in, out, err;
	struct net_timer timer;
	struct advert_parser advert;
	struct xcp_error advert_error; /* what is wrong with it; code 0: nothing */
	struct remote_call *call;      /* BUSY, or ENDING after that */
	size_t sent_len;	       /* of the call's request */
	unsigned served;	       /* calls begun */
	bool heard; /* anything on stdout since it began, or since the call began */
	bool stalled, crawls;
	uint64_t moved_ms;
	uint64_t began_ms, began_len; /* the advertisement or answer, and what came of it */
	struct buf words;	      /* the end of stderr */
};

struct pipe {
	struct remote *remote;
	bool ssh;
	char *program;				/* ssh, or what the environment names; owned */
	struct session *sessions[SESSIONS_MAX]; /* owned; NULL: none */
	TAILQ_HEAD(remote_call_queue, remote_call) waiting;
	enum upload_pack_form form;
	unsigned forms_tried; /* bits */
	bool form_proven;
	bool plain_is_v0; /* it works, the other form is being tried for something better */
	struct pipe_wait *wait;
	uint8_t *read_room; /* READ_LEN */
};

/* Somebody who waits for the first advertisement. */
struct pipe_wait {
	struct net_job job;
	struct remote *remote;
	/* written by the network thread, read after `done` */
	struct server_caps caps;
	struct ref_list refs;
	struct xcp_error err;
	/* under `lock` */
	struct lock lock;
	struct lock_cond changed;
	bool done;
};

static void pipe_schedule(struct pipe *pipe);
static void session_check_timer(struct net_timer *timer);
static void session_out_ready(struct net_watch *watch, bool readable, bool writable);
static void session_in_ready(struct net_watch *watch, bool readable, bool writable);
static void session_err_ready(struct net_watch *watch, bool readable, bool writable);

static struct net *net_of(const struct session *session)
{
	return session->pipe->remote->net;
}

/* ---- what stderr says ---- */

static void session_drain_words(struct session *session)
{
	char room[1024];
	ssize_t n;

	while (session->child.err >= 0 && (n = read(session->child.err, room, sizeof(room))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 || buf_add(&session->words, room, (size_t)n))
			break;
		if (session->words.len > WORDS_LEN)
			buf_consume(&session->words, session->words.len - WORDS_LEN);
	}
	if (session->child.err >= 0) {
		net_watch_stop(net_of(session), &session->err);
		close(session->child.err);
		session->child.err = -1;
	}
}

static const char *session_said(struct session *session)
{
	const char *said = session->words.len ? buf_str(&session->words) : NULL;

	return said ? said : "";
}

static void session_explain(struct session *session, struct remote_finding *out)
{
	upload_pack_explain(session->pipe->remote->source, session_said(session), session->stalled,
			    out);
	if (session->crawls)
		snprintf(out->words, sizeof(out->words), "%s", NET_CRAWLS_WORDS);
}

/* ---- sessions: begin and end ---- */

/* All but its place in the pipe. */
static void session_end(struct session *session)
{
	struct net *net = net_of(session);

	net_timer_stop(&session->timer);
	net_watch_stop(net, &session->in);
	net_watch_stop(net, &session->out);
	net_watch_stop(net, &session->err);
	close(session->child.in);
	close(session->child.out);
	if (session->child.err >= 0)
		close(session->child.err);
	broker_kill(session->pipe->remote->broker, session->child.pid);
	advert_parser_release(&session->advert);
	buf_release(&session->words);
	free(session);
}

static struct session **find_slot(struct pipe *pipe, const struct session *session)
{
	for (unsigned i = 0; i < SESSIONS_MAX; i++)
		if (pipe->sessions[i] == session)
			return &pipe->sessions[i];
	return NULL;
}

static void pipe_drop(struct pipe *pipe, struct session *session)
{
	struct session **slot = find_slot(pipe, session);

	if (slot)
		*slot = NULL;
	session_end(session);
}

static void session_free(struct session *session)
{
	pipe_drop(session->pipe, session);
}

/* An advertisement or an answer is to come. */
static void session_begin(struct session *session)
{
	session->heard = false;
	session->began_ms = session->moved_ms = net_now_ms();
	session->began_len = 0;
}

/* There must be a free slot. */
static int session_new(struct pipe *pipe, struct xcp_error *err)
{
	struct session *session = calloc(1, sizeof(*session));
	struct net *net = pipe->remote->net;
	struct session **slot = find_slot(pipe, NULL);
	int rc;

	if (!session)
		return xcp_error_set(err, -ENOMEM, "out of memory");
	session->pipe = pipe;
	session->form = pipe->form;
	rc = upload_pack_spawn(pipe->remote->broker, pipe->remote->source, pipe->program,
			       pipe->form, &session->child, err);
	if (rc) {
		free(session);
		return rc;
	}
	pipe->forms_tried |= 1U << pipe->form;
	advert_parser_init(&session->advert);
	session->in = (struct net_watch){ .fd = session->child.in, .ready = session_in_ready };
	session->out = (struct net_watch){ .fd = session->child.out, .ready = session_out_ready };
	session->err = (struct net_watch){ .fd = session->child.err, .ready = session_err_ready };
	session->timer.fire = session_check_timer;
	session_begin(session);
	*slot = session;
	remote_count(pipe->remote,
		     &(struct remote_counters){ .requests_caps = 1, .connections = 1 });
	net_timer_set(net, &session->timer, net_settings(net)->stall_timeout_ms / 4 + 1);
	rc = net_watch_set(net, &session->out, true, false);
	rc = rc ? rc : net_watch_set(net, &session->err, true, false);
	if (rc) {
		session_free(session);
		return xcp_error_set(err, rc, "cannot wait for the child: %s", strerror(-rc));
	}
	return 0;
}

static void wait_answer(struct pipe *pipe)
{
	struct pipe_wait *wait = pipe->wait;

	pipe->wait = NULL;
	lock_take(&wait->lock);
	wait->done = true;
	lock_cond_signal(&wait->changed);
	lock_give(&wait->lock);
}

/* "connect to" where getting there is what failed. */
static const char *task_of(const struct pipe *pipe, const struct remote_finding *finding)
{
	bool there = finding->verdict != REMOTE_TRANSIENT && finding->verdict != REMOTE_DENIED;

	return pipe->ssh && !there ? "connect to" : "open";
}

/*
 * Nobody can be served as things are: who waits hears why; of the calls the first, the others bring
 * about tries of their own.
 */
static void pipe_fail(struct pipe *pipe, const struct remote_finding *finding, bool answered)
{
	struct remote_call *call = TAILQ_FIRST(&pipe->waiting);

	if (pipe->wait) {
		xcp_error_set(&pipe->wait->err, finding->code, "cannot %s %s: %s",
			      task_of(pipe, finding), pipe->remote->source->url, finding->words);
		wait_answer(pipe);
	} else if (call) {
		TAILQ_REMOVE(&pipe->waiting, call, queue);
		call->outcome.answered = answered;
		call_fail(call, finding->verdict, finding->code, "%s", finding->words);
		call_done(call);
	}
}

/* Another way to call upload-pack that is worth a try now; then it is set. */
static bool pipe_other_form(struct pipe *pipe, struct session *failed)
{
	if (!pipe->ssh || pipe->form_proven)
		return false;
	if (pipe->plain_is_v0) { /* the try for something better failed */
		pipe->form = FORM_PLAIN;
		pipe->form_proven = true;
		return true;
	}
	if (failed->form != pipe->form) /* somebody else went on already */
		return true;
	if (failed->stalled || upload_pack_said_no(session_said(failed)))
		return false;
	for (unsigned form = 0; form < FORM_COUNT; form++) {
		if (!(pipe->forms_tried & (1U << form))) {
			pipe->form = form;
			return true;
		}
	}
	return false;
}

/* The advertisement did not come. */
static void session_no_advert(struct session *session)
{
	struct pipe *pipe = session->pipe;
	struct remote_finding finding;
	bool heard = session->heard, again = pipe_other_form(pipe, session);

	session_explain(session, &finding);
	if (session->advert_error.code == -EREMOTEIO) {
		finding.verdict = verdict_of_words(session->advert_error.message);
		finding.code = verdict_code(finding.verdict);
		snprintf(finding.words, sizeof(finding.words), "%.600s",
			 session->advert_error.message);
	} else if (heard && !session->words.len && !session->crawls) {
		finding.verdict = REMOTE_BROKEN;
		finding.code = -EPROTO;
		snprintf(finding.words, sizeof(finding.words), "what answers is not git%s%.500s",
			 session->advert_error.code ? ": " : "", session->advert_error.message);
	}
	session_free(session);
	if (!again)
		pipe_fail(pipe, &finding, heard || finding.verdict != REMOTE_TRANSIENT);
	pipe_schedule(pipe);
}

/* The line ended in the middle of a call. */
static void session_call_ended(struct session *session)
{
	struct pipe *pipe = session->pipe;
	struct remote_call *call = session->call;
	struct remote_finding finding;

	if (!session->heard && session->served > 1 && !session->stalled && !call->judged) {
		/* It had died before it heard of this call; a fresh one may do better. */
		TAILQ_INSERT_HEAD(&pipe->waiting, call, queue);
		call->line = NULL;
		session_free(session);
		pipe_schedule(pipe);
		return;
	}
	session_explain(session, &finding);
	if (call_whole(call))
		call_end(call, "");
	else if (session->words.len && !session->heard)
		call_fail(call, finding.verdict, finding.code, "%s", finding.words);
	else if (session->words.len && finding.verdict != REMOTE_BROKEN)
		call_fail(call, finding.verdict, finding.code, "the answer broke off: %s",
			  finding.words);
	call_end(call, finding.words);
	session_free(session);
	call_done(call);
	pipe_schedule(pipe);
}

/* Nothing more will come. */
static void session_ended(struct session *session)
{
	struct pipe *pipe = session->pipe;

	session_drain_words(session);
	if (session->call) {
		session_call_ended(session);
	} else if (!session->advert.finished || session->advert_error.code) {
		session_no_advert(session);
	} else {
		session_free(session);
		pipe_schedule(pipe);
	}
}

/* stdout has ended (or makes no sense): the reason may still come on stderr. */
static void session_ending(struct session *session)
{
	session->state = SESSION_ENDING;
	net_watch_stop(net_of(session), &session->in);
	net_watch_stop(net_of(session), &session->out);
	session_drain_words(session);
	if (session->child.err < 0)
		session_ended(session);
	else
		net_timer_set(net_of(session), &session->timer, ENDING_MS);
}

static void session_check_timer(struct net_timer *timer)
{
	struct session *session =
		(struct session *)((char *)timer - offsetof(struct session, timer));
	struct pipe *pipe = session->pipe;
	uint64_t now = net_now_ms(), limit = net_settings(net_of(session))->stall_timeout_ms;

	if (session->state == SESSION_ENDING) {
		session_ended(session);
		return;
	}
	if (session->state == SESSION_IDLE) {
		session_free(session);
		return;
	}
	if (session->call && session->call->paused)
		session->moved_ms = now;
	if (session->state == SESSION_ADVERT && pipe->ssh &&
	    broker_interactive(pipe->remote->broker) && limit < INTERACTIVE_MS)
		limit = INTERACTIVE_MS;
	/* Before anything came a person may be typing; packs take their time. */
	session->crawls = session->heard && !(session->call && session->call->kind == CALL_FETCH) &&
			  net_crawls(net_of(session), session->began_ms, session->began_len);
	if (session->crawls || now - session->moved_ms >= limit) {
		session->stalled = true;
		session_ended(session);
		return;
	}
	net_timer_set(net_of(session), timer, limit / 4 + 1);
}

/* ---- calls ---- */

static void session_send(struct session *session)
{
	const struct buf *request = &session->call->request;
	bool more = true;

	while (session->sent_len < request->len) {
		/* The network thread has SIGPIPE blocked. */
		ssize_t n = write(session->child.in, request->data + session->sent_len,
				  request->len - session->sent_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			more = errno == EAGAIN; /* else: gone; stdout will tell */
			break;
		}
		session->sent_len += (size_t)n;
		session->moved_ms = net_now_ms();
		remote_count(session->pipe->remote,
			     &(struct remote_counters){ .bytes_sent = (uint64_t)n });
	}
	net_watch_set(net_of(session), &session->in, false,
		      more && session->sent_len < request->len);
}

static void session_in_ready(struct net_watch *watch, bool readable, bool writable)
{
	struct session *session = (struct session *)((char *)watch - offsetof(struct session, in));

	(void)readable;
	if (writable && session->call)
		session_send(session);
}

static void session_serve(struct session *session, struct remote_call *call)
{
	struct remote_counters more;

	call_counters(call, &more);
	remote_count(session->pipe->remote, &more);
	session->state = SESSION_BUSY;
	session->call = call;
	session->served++;
	session->sent_len = 0;
	session_begin(session);
	buf_clear(&session->words);
	call->line = session;
	net_timer_set(net_of(session), &session->timer,
		      net_settings(net_of(session))->stall_timeout_ms / 4 + 1);
	session_send(session);
}

static void session_idle(struct session *session)
{
	session->state = SESSION_IDLE;
	session->call = NULL;
	net_timer_set(net_of(session), &session->timer, IDLE_MS);
}

/*
 * The call is over, the answer whole or no good. `clean`: the session stands right behind the
 * answer.
 */
static void session_call_over(struct session *session, bool clean)
{
	struct pipe *pipe = session->pipe;
	struct remote_call *call = session->call;

	if (clean && session->advert.caps.version == 2)
		session_idle(session);
	else
		session_free(session);
	call_done(call);
	pipe_schedule(pipe);
}

static void session_feed_call(struct session *session, const uint8_t *data, size_t len)
{
	struct remote_call *call = session->call;
	size_t used;
	int rc = call_feed(call, data, len, &used);

	if (rc < 0) {
		session_call_over(session, false);
	} else if (call_finished(call)) {
		call_end(call, "");
		session_call_over(session, used == len && session->sent_len == call->request.len);
	} else if (rc > 0) {
		net_watch_set(net_of(session), &session->out, false, false);
	}
}

/* ---- the advertisement ---- */

static void session_advert_done(struct session *session)
{
	struct pipe *pipe = session->pipe;
	const struct server_caps *caps = &session->advert.caps;

	if (pipe->ssh && !pipe->form_proven && pipe->form == FORM_PLAIN && caps->version != 2 &&
	    !(pipe->forms_tried & (1U << FORM_ENV))) {
		/*
		 * It works, but the environment did not arrive; with a shell there is a better way.
		 */
		pipe->plain_is_v0 = true;
		pipe->form = FORM_ENV;
		session_free(session);
		pipe_schedule(pipe);
		return;
	}
	pipe->form_proven = true;
	if (pipe->wait) {
		pipe->wait->caps = *caps;
		pipe->wait->refs = session->advert.refs;
		session->advert.refs = (struct ref_list){ 0 };
		wait_answer(pipe);
	}
	session_idle(session);
	pipe_schedule(pipe);
}

static void session_feed_advert(struct session *session, const uint8_t *data, size_t len)
{
	size_t used;
	int rc = advert_parser_feed(&session->advert, data, len, &used, &session->advert_error);

	if (rc == 0 && session->advert.finished && used < len)
		rc = xcp_error_set(&session->advert_error, -EPROTO, "it says more than git would");
	if (rc < 0)
		session_ending(session);
	else if (session->advert.finished)
		session_advert_done(session);
}

static void session_out_ready(struct net_watch *watch, bool readable, bool writable)
{
	struct session *session = (struct session *)((char *)watch - offsetof(struct session, out));
	struct pipe *pipe = session->pipe;
	ssize_t n = read(session->child.out, pipe->read_room, READ_LEN);

	(void)readable;
	(void)writable;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		session_ending(session);
		return;
	}
	session->heard = true;
	session->moved_ms = net_now_ms();
	session->began_len += (uint64_t)n;
	remote_count(pipe->remote, &(struct remote_counters){ .bytes_received = (uint64_t)n });
	if (session->state == SESSION_BUSY)
		session_feed_call(session, pipe->read_room, (size_t)n);
	else if (session->state == SESSION_ADVERT)
		session_feed_advert(session, pipe->read_room, (size_t)n);
	else
		session_free(session); /* nobody asked */
}

static void session_err_ready(struct net_watch *watch, bool readable, bool writable)
{
	struct session *session = (struct session *)((char *)watch - offsetof(struct session, err));

	(void)readable;
	(void)writable;
	session_drain_words(session);
	if (session->state == SESSION_ENDING && session->child.err < 0)
		session_ended(session);
}

/* ---- who serves whom ---- */

static struct session *find_idle(struct pipe *pipe)
{
	for (unsigned i = 0; i < SESSIONS_MAX; i++) {
		struct session *session = pipe->sessions[i];

		/* No session is in two slots, so a freed one is in none. */
		if (session &&
		    session->state == SESSION_IDLE) /* NOLINT(clang-analyzer-unix.Malloc) */
			return session;
	}
	return NULL;
}

static unsigned count_coming(struct pipe *pipe)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SESSIONS_MAX; i++)
		count += pipe->sessions[i] && pipe->sessions[i]->state == SESSION_ADVERT;
	return count;
}

static unsigned count_waiting(struct pipe *pipe)
{
	struct remote_call *call;
	unsigned count = pipe->wait != NULL;

	TAILQ_FOREACH(call, &pipe->waiting, queue)
		count++;
	return count;
}

static void serve_waiting(struct pipe *pipe)
{
	struct session *session;
	struct remote_call *call;

	while ((call = TAILQ_FIRST(&pipe->waiting)) && (session = find_idle(pipe))) {
		TAILQ_REMOVE(&pipe->waiting, call, queue);
		if (session->advert.caps.version == pipe->remote->caps.version) {
			session_serve(session, call);
			continue;
		}
		pipe_drop(pipe, session);
		call->outcome.answered = true;
		call_fail(call, REMOTE_BROKEN, -EPROTO,
			  "the server speaks another protocol version than before");
		call_done(call);
	}
}

/* Brings calls and sessions together, and starts children where some are missing. */
static void pipe_schedule(struct pipe *pipe)
{
	struct xcp_error err;

	serve_waiting(pipe);
	while (count_waiting(pipe) > count_coming(pipe) && find_slot(pipe, NULL)) {
		int rc = session_new(pipe, &err);

		if (rc) {
			struct remote_finding finding = { REMOTE_TRANSIENT, rc, "" };

			if (rc == -ENOENT || rc == -E2BIG || rc == -ENOTSUP)
				finding.verdict = REMOTE_BROKEN;
			if (rc == -ENOENT) /* the program, not the repository */
				finding.code = -EIO;
			snprintf(finding.words, sizeof(finding.words), "%.600s", err.message);
			pipe_fail(pipe, &finding, false);
		}
	}
}

/* ---- the transport ---- */

static void pipe_start(struct remote_call *call)
{
	struct pipe *pipe = call->remote->transport;

	call->line = NULL;
	TAILQ_INSERT_TAIL(&pipe->waiting, call, queue);
	pipe_schedule(pipe);
}

static void pipe_resume(struct remote_call *call)
{
	struct session *session = call->line;

	if (session && session->state == SESSION_BUSY) {
		session->moved_ms = net_now_ms();
		net_watch_set(net_of(session), &session->out, true, false);
	}
}

static void pipe_cancel(struct remote_call *call)
{
	struct pipe *pipe = call->remote->transport;

	if (call->line)
		session_free(call->line);
	else
		TAILQ_REMOVE(&pipe->waiting, call, queue);
	call_done(call);
	pipe_schedule(pipe);
}

static void connect_job(struct net_job *job)
{
	struct pipe_wait *wait = (struct pipe_wait *)job;
	struct pipe *pipe = wait->remote->transport;

	/* Asked anew: what stands idle answers with what it said long ago. */
	for (unsigned i = 0; i < SESSIONS_MAX; i++) {
		if (pipe->sessions[i] && pipe->sessions[i]->state == SESSION_IDLE) {
			session_end(pipe->sessions[i]);
			pipe->sessions[i] = NULL;
		}
	}
	pipe->wait = wait;
	pipe_schedule(pipe);
}

static int pipe_connect(struct remote *remote, struct server_caps *out_caps,
			struct ref_list *out_refs, struct xcp_error *err)
{
	struct pipe_wait wait = { .job.run = connect_job, .remote = remote };

	lock_init(&wait.lock);
	lock_cond_init(&wait.changed);
	net_post(remote->net, &wait.job);
	lock_take(&wait.lock);
	while (!wait.done)
		lock_cond_wait(&wait.changed, &wait.lock);
	lock_give(&wait.lock);
	lock_cond_release(&wait.changed);
	lock_release(&wait.lock);
	if (wait.err.code) {
		if (err)
			*err = wait.err;
		return wait.err.code;
	}
	*out_caps = wait.caps;
	*out_refs = wait.refs;
	return 0;
}

static int pipe_open(struct remote *remote, struct xcp_error *err)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));

	if (pipe) {
		pipe->remote = remote;
		pipe->ssh = remote->source->kind == SOURCE_SSH;
		pipe->program = upload_pack_ssh_program();
		pipe->read_room = malloc(READ_LEN);
		TAILQ_INIT(&pipe->waiting);
		/*
		 * "git@" is how hosts are addressed that know that one command and let the
		 * environment through.
		 */
		if (remote->source->user && strcmp(remote->source->user, "git") == 0)
			pipe->form = FORM_PLAIN;
	}
	if (!pipe || !pipe->program || !pipe->read_room) {
		if (pipe) {
			free(pipe->program);
			free(pipe->read_room);
		}
		free(pipe);
		return xcp_error_set(err, -ENOMEM, "cannot open %s: out of memory",
				     remote->source->url);
	}
	remote->transport = pipe;
	return 0;
}

static void pipe_close(struct remote *remote)
{
	struct pipe *pipe = remote->transport;

	for (unsigned i = 0; i < SESSIONS_MAX; i++)
		if (pipe->sessions[i])
			session_end(pipe->sessions[i]);
	free(pipe->program);
	free(pipe->read_room);
	free(pipe);
	remote->transport = NULL;
}

static bool pipe_safe(const struct remote *remote)
{
	(void)remote; /* ssh, or not on the way at all */
	return true;
}

const struct transport_ops pipe_transport = {
	.open = pipe_open,
	.close = pipe_close,
	.connect = pipe_connect,
	.safe = pipe_safe,
	.start = pipe_start,
	.resume = pipe_resume,
	.cancel = pipe_cancel,
};
