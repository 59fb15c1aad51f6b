/*
 * pipe: git-upload-pack behind the pipes of a child: ssh, or a repository on this machine.
 *
 * With protocol v2 one child serves many calls, one after the other: a session. A few sessions stand side by side, so that one call that
 * stalls does not block the rest. With v0 a child serves one fetch and ends.
 *
 *	session_new ---> ADVERT ---> IDLE <---> BUSY ---> closed
 *	                   |           (v0: once)  |
 *	                   +------> ENDING <-------+	stdout has ended; stderr is still read for the reason
 *
 * How upload-pack is called over ssh takes a try: with a shell on the other side, `env ... git -c uploadpack.allowFilter=true upload-pack` gives the
 * most; hosts that know only one command want `git-upload-pack`. What worked once is kept for the life of the remote.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/uri.h"
#include "remote/broker.h"
#include "remote/remote_internal.h"

#define SESSIONS_MAX 3
#define READ_LEN 65536
#define WORDS_LEN 4096	     /* of stderr, kept */
#define IDLE_MS 300000
#define ENDING_MS 1000	     /* stdout has ended: how long stderr may take */
#define INTERACTIVE_MS 300000 /* a person may be typing a password */
#define CONNECT_S "15"

enum form { FORM_ENV, FORM_PLAIN, FORM_COUNT }; /* of the command over ssh */
enum session_state { SESSION_ADVERT, SESSION_IDLE, SESSION_BUSY, SESSION_ENDING };

struct pipe_wait;

struct session {
	LIST_ENTRY(session) link;
	struct pipe *pipe;
	struct broker_child child;
	enum session_state state;
	enum form form;
	struct net_watch in, out, err;
	struct net_timer timer;
	struct advert_parser advert;
	struct xcp_error advert_error; /* what is wrong with it; code 0: nothing */
	struct remote_call *call; /* BUSY, or ENDING after that */
	size_t sent_len;	  /* of the call's request */
	unsigned served;	  /* calls begun */
	bool heard;		  /* anything on stdout since it began, or since the call began */
	bool stalled;
	uint64_t moved_ms;
	struct buf words; /* the end of stderr */
};

struct pipe {
	struct remote *remote;
	bool ssh;
	char *program; /* ssh, or what the environment names; owned */
	LIST_HEAD(, session) sessions;
	unsigned session_count;
	TAILQ_HEAD(, remote_call) waiting;
	enum form form;
	unsigned forms_tried; /* bits */
	bool form_proven;
	bool plain_is_v0;     /* it works, the other form is being tried for something better */
	struct pipe_wait *wait;
	uint8_t *read_room;   /* READ_LEN */
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

/* ---- the commands ---- */

/* As git quotes: safe in every Bourne shell, and "!" in csh too. */
static int add_quoted(struct buf *out, const char *text)
{
	int rc = buf_add_str(out, "'");

	for (; rc == 0 && *text; text++) {
		if (*text == '\'' || *text == '!')
			rc = buf_addf(out, "'\\%c'", *text);
		else
			rc = buf_add(out, text, 1);
	}
	return rc ? rc : buf_add_str(out, "'");
}

/* Local repositories come with variables that could point elsewhere. */
#define CLEAN_ENV                                                                                       \
	"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",                           \
		"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX",    \
		"GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_IMPLICIT_WORK_TREE", \
		"GIT_CONFIG_PARAMETERS", "GIT_CEILING_DIRECTORIES"

static const char *const child_env[] = { CLEAN_ENV, "GIT_PROTOCOL=version=2", "LC_ALL=C", "LANGUAGE=C",
					 NULL };

static int spawn_local(struct pipe *pipe, struct broker_child *out, struct xcp_error *err)
{
	const char *const argv[] = { "git",
				     "-c",
				     "uploadpack.allowFilter=true",
				     "-c",
				     "uploadpack.allowAnySHA1InWant=true",
				     "-c",
				     "transfer.advertiseObjectInfo=true",
				     "upload-pack",
				     pipe->remote->source->path,
				     NULL };
	const struct broker_command command = { argv, child_env };

	return broker_spawn(pipe->remote->broker, &command, out, err);
}

static int add_remote_command(struct buf *out, enum form form, const char *path)
{
	int rc = buf_add_str(out, form == FORM_ENV ? "env GIT_PROTOCOL=version=2 git -c uploadpack.allowFilter=true"
						     " upload-pack " :
						     "git-upload-pack ");

	rc = rc ? rc : add_quoted(out, path);
	return rc ? rc : buf_str(out) ? 0 : -ENOMEM;
}

static int spawn_ssh(struct pipe *pipe, enum form form, struct broker_child *out, struct xcp_error *err)
{
	const struct source *source = pipe->remote->source;
	struct buf command_text = BUF_INIT, address = BUF_INIT;
	const char *argv[20];
	const struct broker_command command = { argv, child_env };
	size_t n = 0;
	int rc = add_remote_command(&command_text, form, source->path);

	rc = rc ? rc : buf_addf(&address, "%s%s%s", source->user ? source->user : "",
				source->user ? "@" : "", source->host);
	if (rc || !buf_str(&address)) {
		rc = xcp_error_set(err, -ENOMEM, "out of memory");
		goto out;
	}
	argv[n++] = pipe->program;
	if (!broker_interactive(pipe->remote->broker)) {
		argv[n++] = "-o";
		argv[n++] = "BatchMode=yes";
	}
	argv[n++] = "-o";
	argv[n++] = "ConnectTimeout=" CONNECT_S;
	argv[n++] = "-o";
	argv[n++] = "SendEnv=GIT_PROTOCOL";
	argv[n++] = "-o";
	argv[n++] = "ServerAliveInterval=15";
	if (source->port) {
		argv[n++] = "-p";
		argv[n++] = source->port;
	}
	argv[n++] = "--";
	argv[n++] = buf_str(&address);
	argv[n++] = buf_str(&command_text);
	argv[n] = NULL;
	rc = broker_spawn(pipe->remote->broker, &command, out, err);
out:
	buf_release(&command_text);
	buf_release(&address);
	return rc;
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

/* The line that says most: git's first "fatal:", else the last one. */
static void session_best_line(struct session *session, char *out, size_t out_len)
{
	const char *text = buf_str(&session->words), *line;
	size_t len;

	out[0] = '\0';
	if (!text)
		return;
	len = strlen(text);
	line = strstr(text, "fatal: ");
	if (!line) {
		while (len > 0 && isspace((unsigned char)text[len - 1]))
			len--;
		line = len ? memrchr(text, '\n', len) : NULL;
		line = line ? line + 1 : text;
		text_printable(out, out_len, line, len - (size_t)(line - text));
		return;
	}
	text_printable(out, out_len, line, strcspn(line, "\n"));
}

struct finding {
	enum remote_verdict verdict;
	int code;
	char words[XCP_ERROR_LEN - 128];
};

/* Why the child ended, as far as it said. */
static void session_find(struct session *session, struct finding *out)
{
	const struct source *source = session->pipe->remote->source;
	char line[300];

	/* One line: what stands around it may be anything, a banner for instance. */
	session_best_line(session, line, sizeof(line));
	out->verdict = *line && !session->stalled ? verdict_of_words(line) : REMOTE_TRANSIENT;
	out->code = verdict_code(out->verdict);
	if (out->verdict == REMOTE_TRANSIENT)
		out->code = session->stalled || strcasestr(line, "timed out") ? -ETIMEDOUT : -ENETUNREACH;
	if (strstr(line, "dubious ownership"))
		snprintf(out->words, sizeof(out->words),
			 "git refuses it because it belongs to another user (dubious ownership); if you trust it: "
			 "git config --global --add safe.directory %.200s",
			 source->path);
	else if (strstr(line, "ost key verification failed"))
		snprintf(out->words, sizeof(out->words),
			 "ssh does not know the host's key (Host key verification failed); run \"ssh %.200s\" once and "
			 "accept it",
			 source->host ? source->host : "");
	else if (session->stalled)
		snprintf(out->words, sizeof(out->words), "no answer%s%s", *line ? ": " : "", line);
	else
		snprintf(out->words, sizeof(out->words), "%s", *line ? line : "the connection ended without a word");
}

/* ---- sessions: begin and end ---- */

static void session_free(struct session *session)
{
	struct pipe *pipe = session->pipe;
	struct net *net = net_of(session);

	net_timer_stop(&session->timer);
	net_watch_stop(net, &session->in);
	net_watch_stop(net, &session->out);
	net_watch_stop(net, &session->err);
	close(session->child.in);
	close(session->child.out);
	if (session->child.err >= 0)
		close(session->child.err);
	broker_kill(pipe->remote->broker, session->child.pid);
	LIST_REMOVE(session, link);
	pipe->session_count--;
	advert_parser_release(&session->advert);
	buf_release(&session->words);
	free(session);
}

static int session_new(struct pipe *pipe, struct xcp_error *err)
{
	struct session *session = calloc(1, sizeof(*session));
	struct net *net = pipe->remote->net;
	int rc;

	if (!pipe->remote->broker) {
		free(session);
		return xcp_error_set(err, -ENOTSUP, "no programs may be started here");
	}
	if (!session)
		return xcp_error_set(err, -ENOMEM, "out of memory");
	session->pipe = pipe;
	session->form = pipe->form;
	rc = pipe->ssh ? spawn_ssh(pipe, pipe->form, &session->child, err) :
			 spawn_local(pipe, &session->child, err);
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
	session->moved_ms = net_now_ms();
	LIST_INSERT_HEAD(&pipe->sessions, session, link);
	pipe->session_count++;
	remote_count(pipe->remote, &(struct remote_counters){ .requests_caps = 1, .connections = 1 });
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

/* Nobody can be served as things are: who waits hears why; of the calls the first, the others bring about tries of their own. */
static void pipe_fail(struct pipe *pipe, const struct finding *finding, bool answered)
{
	struct remote_call *call = TAILQ_FIRST(&pipe->waiting);

	if (pipe->wait) {
		xcp_error_set(&pipe->wait->err, finding->code, "cannot connect to %s: %s",
			      pipe->remote->source->url, finding->words);
		wait_answer(pipe);
	} else if (call) {
		TAILQ_REMOVE(&pipe->waiting, call, queue);
		call->outcome.answered = answered;
		call_fail(call, finding->verdict, finding->code, "%s", finding->words);
		call_done(call);
	}
}

/* Whether the words show that the other form would fare no better: ssh itself failed, or git ran and refused. */
static bool words_are_final(struct session *session)
{
	static const char *const final[] = {
		"dubious ownership", "does not appear to be a git repository", "not a git repository",
		"Permission denied (", "Host key verification failed", "HOST IDENTIFICATION HAS CHANGED",
		"Could not resolve hostname", "Connection refused", "Connection timed out", "No route to host",
		"Network is unreachable", "Connection closed by", "Connection reset by", "Too many authentication",
		"Bad configuration option",
	};
	const char *words = session->words.len ? buf_str(&session->words) : NULL;

	for (size_t i = 0; words && i < sizeof(final) / sizeof(final[0]); i++)
		if (strstr(words, final[i]))
			return true;
	return session->stalled;
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
	if (words_are_final(failed))
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
	struct finding finding;
	bool heard = session->heard, again = pipe_other_form(pipe, session);

	session_find(session, &finding);
	if (session->advert_error.code == -EREMOTEIO) {
		finding.verdict = verdict_of_words(session->advert_error.message);
		finding.code = verdict_code(finding.verdict);
		snprintf(finding.words, sizeof(finding.words), "%.600s", session->advert_error.message);
	} else if (heard && !session->words.len) {
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
	struct finding finding;

	if (!session->heard && session->served > 1 && !session->stalled && !call->judged) {
		/* It had died before it heard of this call; a fresh one may do better. */
		TAILQ_INSERT_HEAD(&pipe->waiting, call, queue);
		call->line = NULL;
		session_free(session);
		pipe_schedule(pipe);
		return;
	}
	session_find(session, &finding);
	if (call_whole(call))
		call_end(call, "");
	else if (session->words.len && !session->heard)
		call_fail(call, finding.verdict, finding.code, "%s", finding.words);
	else if (session->words.len && finding.verdict != REMOTE_BROKEN)
		call_fail(call, finding.verdict, finding.code, "the answer broke off: %s", finding.words);
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
	struct session *session = (struct session *)((char *)timer - offsetof(struct session, timer));
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
	if (session->state == SESSION_ADVERT && pipe->ssh && broker_interactive(pipe->remote->broker) &&
	    limit < INTERACTIVE_MS)
		limit = INTERACTIVE_MS;
	if (now - session->moved_ms >= limit) {
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
		remote_count(session->pipe->remote, &(struct remote_counters){ .bytes_sent = (uint64_t)n });
	}
	net_watch_set(net_of(session), &session->in, false, more && session->sent_len < request->len);
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
	session->heard = false;
	session->moved_ms = net_now_ms();
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

/* The call is over, the answer whole or no good. `clean`: the session stands right behind the answer. */
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
		/* It works, but the environment did not arrive; with a shell there is a better way. */
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
	struct session *session;

	LIST_FOREACH(session, &pipe->sessions, link)
		if (session->state == SESSION_IDLE)
			return session;
	return NULL;
}

static unsigned count_coming(struct pipe *pipe)
{
	struct session *session;
	unsigned count = 0;

	LIST_FOREACH(session, &pipe->sessions, link)
		count += session->state == SESSION_ADVERT;
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
		session_free(session);
		call->outcome.answered = true;
		call_fail(call, REMOTE_BROKEN, -EPROTO, "the server speaks another protocol version than before");
		call_done(call);
	}
}

/* Brings calls and sessions together, and starts children where some are missing. */
static void pipe_schedule(struct pipe *pipe)
{
	struct xcp_error err;

	serve_waiting(pipe);
	while (count_waiting(pipe) > count_coming(pipe) && pipe->session_count < SESSIONS_MAX) {
		int rc = session_new(pipe, &err);

		if (rc) {
			struct finding finding = { REMOTE_TRANSIENT, rc, "" };

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
	struct session *idle;

	/* Asked anew: what stands idle answers with what it said long ago. */
	while ((idle = find_idle(pipe)))
		session_free(idle);
	pipe->wait = wait;
	pipe_schedule(pipe);
}

static int pipe_connect(struct remote *remote, struct server_caps *out_caps, struct ref_list *out_refs,
			struct xcp_error *err)
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

static char *ssh_program(void)
{
	const char *name = getenv("XCPFS_SSH");

	if (!name || !*name)
		name = getenv("GIT_SSH");
	return strdup(name && *name ? name : "ssh");
}

static int pipe_open(struct remote *remote, struct xcp_error *err)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));

	if (pipe) {
		pipe->remote = remote;
		pipe->ssh = remote->source->kind == SOURCE_SSH;
		pipe->program = ssh_program();
		pipe->read_room = malloc(READ_LEN);
		LIST_INIT(&pipe->sessions);
		TAILQ_INIT(&pipe->waiting);
		/* "git@" is how hosts are addressed that know that one command and let the environment through. */
		if (remote->source->user && strcmp(remote->source->user, "git") == 0)
			pipe->form = FORM_PLAIN;
	}
	if (!pipe || !pipe->program || !pipe->read_room) {
		if (pipe) {
			free(pipe->program);
			free(pipe->read_room);
		}
		free(pipe);
		return xcp_error_set(err, -ENOMEM, "cannot open %s: out of memory", remote->source->url);
	}
	remote->transport = pipe;
	return 0;
}

static void pipe_close(struct remote *remote)
{
	struct pipe *pipe = remote->transport;

	while (!LIST_EMPTY(&pipe->sessions))
		session_free(LIST_FIRST(&pipe->sessions));
	free(pipe->program);
	free(pipe->read_room);
	free(pipe);
	remote->transport = NULL;
}

const struct transport_ops pipe_transport = {
	.open = pipe_open,
	.close = pipe_close,
	.connect = pipe_connect,
	.start = pipe_start,
	.resume = pipe_resume,
	.cancel = pipe_cancel,
};
