/*
 * The composition root of a mount. It decides the order in which parts come and go, and what to
 * do when the remote does not answer; all else is the parts' own business.
 *
 * What a host can do is remembered for a day, so that a second mount costs one request. When a
 * remembered ability turns out to be wrong (the server asks for a password now, or has forgotten
 * filters), it is asked again once.
 */
#include "cli/serve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "cli/report.h"
#include "repo/resolve.h"

#define CAPS_KEPT_S (INT64_C(24) * 3600)

/* ---- signals ---- */

static void stop_signals(sigset_t *out)
{
	sigemptyset(out);
	sigaddset(out, SIGTERM);
	sigaddset(out, SIGINT);
	sigaddset(out, SIGHUP);
}

static void *wait_for_signal(void *arg)
{
	struct serve *serve = arg;
	sigset_t set;
	int number;

	stop_signals(&set);
	if (!sigwait(&set, &number)) {
		log_debug("stopping signal=%d", number);
		session_stop(serve->session);
	}
	return NULL;
}

/* ---- the remote ---- */

/*
 * Whatever is remembered of the host, however old, as text in `out`; the age in seconds, or -1
 * when there is nothing.
 */
static int64_t remembered_caps(struct serve *serve, struct buf *out)
{
	const char *key = serve->config->source->identity;
	int64_t stored_s;

	if (cache_fact_get(serve->cache, "caps", key, strlen(key), out, &stored_s))
		return -1;
	return clock_age_s(stored_s);
}

static void remember_caps(struct serve *serve)
{
	const char *key = serve->config->source->identity;
	struct buf text = BUF_INIT;

	if (!server_caps_format(remote_server_caps(serve->remote), &text))
		cache_fact_put(serve->cache, "caps", key, strlen(key), text.data, text.len);
	buf_release(&text);
}

static int ask_caps(struct serve *serve, struct xcp_error *err)
{
	int ret = remote_connect(serve->remote, NULL, err);

	if (!ret)
		remember_caps(serve);
	return ret;
}

static bool does_not_answer(int code)
{
	return code == -ENETUNREACH || code == -ETIMEDOUT;
}

/*
 * Connects, by what is remembered where that is fresh enough. *out_remembered says that nothing
 * was sent. A remote that does not answer is no failure as long as something is remembered: the
 * repository may be in the cache.
 */
static int connect_remote(struct serve *serve, bool *out_remembered, struct xcp_error *err)
{
	bool offline = serve->config->settings->offline;
	struct buf text = BUF_INIT;
	int64_t age_s = remembered_caps(serve, &text);
	const char *known = age_s >= 0 ? buf_str(&text) : NULL;
	int ret = 0;

	*out_remembered = false;
	if (!known && offline) {
		ret = xcp_error_set(
			err, -ENETUNREACH,
			"nothing of %s is in the cache; mount it once without --offline",
			serve->config->source->shown);
	} else if (known && (offline || age_s < CAPS_KEPT_S)) {
		ret = remote_connect(serve->remote, known, err);
		*out_remembered = !ret;
	}
	if (!ret && !*out_remembered) {
		ret = ask_caps(serve, err);
		if (does_not_answer(ret) && known) {
			ret = remote_connect(serve->remote, known, err);
			*out_remembered = !ret;
		}
	}
	buf_release(&text);
	return ret;
}

/* ---- opening, in order ---- */

/*
 * What buffers may hold together: half of it is for what of large files is on its way, most of the
 * rest for what waits for the cache's writer and for blocks at hand.
 */
static uint64_t memory_max_len(const struct serve *serve)
{
	uint64_t wanted = serve->config->settings->memory_max_len;

	return wanted ? wanted : budget_default();
}

static int open_cache(struct serve *serve, struct xcp_error *err)
{
	uint64_t memory = memory_max_len(serve);
	struct cache_config config = {
		.dir = serve->config->settings->cache_dir,
		.size_max_len = serve->config->settings->cache_max_len,
		.queue_max_len = (size_t)(memory / 4),
		.memory_max_len = (size_t)(memory / 8),
	};
	struct xcp_error why = { 0 };
	int ret = cache_open(&config, &serve->cache, &why);

	if (ret)
		return xcp_error_set(err, ret, "cannot open the cache: %s", why.message);
	if (why.code) {
		log_warn("cache %s: %s; going on without it", config.dir, why.message);
		launch_note(serve->config->launch, "warning: nothing will be cached: %s",
			    why.message);
	}
	return 0;
}

static int open_remote(struct serve *serve, bool *out_remembered, struct xcp_error *err)
{
	struct net_config net = { 0 };
	struct remote_config config = { .broker = serve->broker,
					.source = serve->config->source,
					.offline = serve->config->settings->offline };
	int ret = net_open(&net, &serve->net, err);

	if (ret)
		return ret;
	config.net = serve->net;
	ret = remote_open(&config, &serve->remote, err);
	if (ret)
		return ret;
	resolve_expect(serve->remote, serve->config->source->ref);
	return connect_remote(serve, out_remembered, err);
}

/* There are no readers before there is a session. */
static void on_distrusted(void *arg, const struct oid *oid)
{
	struct serve *serve = arg;

	if (serve->session)
		session_withdraw(serve->session, oid);
}

static int open_repo(struct serve *serve, struct xcp_error *err)
{
	const struct settings *settings = serve->config->settings;
	struct fetch_config fetch = {
		.remote = serve->remote,
		.cache = serve->cache,
		.offline = settings->offline,
		.patience_ms = session_patience_ms(settings->timeout_ms),
		.name = serve->config->source->shown,
		.identity = serve->config->source->identity,
		.large_memory_len = memory_max_len(serve) / 2,
		.distrusted = on_distrusted,
		.distrusted_arg = serve,
	};
	struct repo_config repo = {
		.remote = serve->remote,
		.source = serve->config->source,
		.subdir = serve->config->subdir,
		.offline = settings->offline,
	};
	int ret = fetch_open(&fetch, &serve->fetch, err);

	if (ret)
		return ret;
	serve->nodes = node_table_new();
	if (!serve->nodes)
		return xcp_error_set(err, -ENOMEM, "out of memory");
	repo.fetch = serve->fetch;
	repo.nodes = serve->nodes;
	return repo_open(&repo, &serve->repo, err);
}

static void close_repo(struct serve *serve)
{
	fetch_close(&serve->fetch);
	repo_close(&serve->repo);
	node_table_free(&serve->nodes);
}

/*
 * It may take long, so it is said before. The log has it each time; a person is told when a server
 * is new.
 */
static void note_whole_commits(struct serve *serve)
{
	if (!(remote_caps(serve->remote) & REMOTE_SUBTREE))
		launch_note(serve->config->launch,
			    "%s has no filters: each commit comes over as a whole",
			    serve->config->source->shown);
}

/*
 * Opens the repository; asks anew what the server can do when a remembered answer does not fit
 * any more.
 */
static int open_commit(struct serve *serve, struct xcp_error *err)
{
	bool remembered = false;
	int ret = open_remote(serve, &remembered, err);

	if (ret)
		return ret;
	if (!remembered)
		note_whole_commits(serve);
	ret = open_repo(serve, err);
	if (!ret || !remembered || does_not_answer(ret) || ret == -ENOMEM ||
	    serve->config->settings->offline)
		return ret;
	log_debug("asking capabilities again after=%d", ret);
	close_repo(serve);
	ret = ask_caps(serve, err);
	return ret ? ret : open_repo(serve, err);
}

static void note_offline(struct serve *serve)
{
	const struct repo_identity *identity = repo_identity(serve->repo);
	char hex[OID_MAX_HEX + 1], when[64];
	struct tm tm = { 0 };
	time_t resolved = (time_t)identity->resolved_s;

	if (!identity->from_cache)
		return;
	localtime_r(&resolved, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	oid_to_hex(&identity->commit, hex);
	launch_note(
		serve->config->launch, "offline: %s %s; showing commit %.12s of %s from the cache",
		serve->config->source->shown,
		serve->config->settings->offline ? "is not asked" : "does not answer", hex, when);
	log_warn("%s: offline, showing commit %s of %s from the cache",
		 serve->config->source->shown, hex, when);
}

static int open_session(struct serve *serve, struct xcp_error *err)
{
	struct session_config config = {
		.nodes = serve->nodes,
		.mountpoint = serve->config->mountpoint,
		.source = serve->config->source->shown,
		.options = serve->config->options,
	};
	sigset_t set;
	int ret;

	/* Until now there was nothing to tidy up, and a signal just ended us. */
	stop_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	node_table_set_root(serve->nodes, repo_root(serve->repo));
	ret = session_open(&config, &serve->session, err);
	/* Before the mount: who sees that may ask at once, and waits in the socket's queue. */
	if (!ret)
		ret = control_open(config.mountpoint, report_answer, serve, &serve->control, err);
	if (!ret)
		ret = session_mount(serve->session, err);
	return ret ? ret : control_start(serve->control, err);
}

static int serve_open(struct serve *serve, struct xcp_error *err)
{
	int ret = open_cache(serve, err);

	if (!ret)
		ret = open_commit(serve, err);
	if (ret)
		return ret;
	note_offline(serve);
	ret = open_session(serve, err);
	if (!ret && serve->config->settings->fill && fill_start(serve->repo, &serve->fill))
		log_warn("%s: cannot start a thread that brings the rest; going on without",
			 serve->config->source->shown);
	return ret;
}

static void serve_close(struct serve *serve)
{
	control_close(&serve->control);
	fill_stop(&serve->fill);
	if (serve->session) /* or nothing was read */
		repo_save(serve->repo);
	/* what is parked is answered while there is a session to answer to */
	if (serve->fetch)
		fetch_close(&serve->fetch);
	session_close(&serve->session);
	repo_close(&serve->repo);
	node_table_free(&serve->nodes);
	remote_close(&serve->remote);
	net_close(&serve->net);
	cache_close(&serve->cache);
	broker_stop(&serve->broker);
}

int serve_without_mount(const struct serve_config *config,
			int (*use)(void *arg, struct serve *serve, struct xcp_error *err),
			void *arg, struct xcp_error *err)
{
	struct serve serve = { .config = config,
			       .broker = config->broker,
			       .started_s = clock_wall_s(),
			       .started_ms = clock_ms() };
	int ret = open_cache(&serve, err);

	if (!ret)
		ret = open_commit(&serve, err);
	if (!ret) {
		note_offline(&serve);
		ret = use(arg, &serve, err);
	}
	serve_close(&serve);
	return ret;
}

static int serve_until_end(struct serve *serve, struct xcp_error *err)
{
	pthread_t signals;
	int ret = thread_start(&signals, "signals", wait_for_signal, serve);

	if (ret)
		return xcp_error_set(err, ret, "cannot start a thread: %s", strerror(-ret));
	broker_detach(serve->broker);
	if (launch_ready(serve->config->launch))
		ret = session_run(serve->session, err);
	pthread_kill(signals, SIGTERM);
	pthread_join(signals, NULL);
	return ret;
}

int serve_run(const struct serve_config *config)
{
	struct serve serve = { .config = config,
			       .broker = config->broker,
			       .started_s = clock_wall_s(),
			       .started_ms = clock_ms() };
	struct xcp_error err = { 0 };
	int ret = serve_open(&serve, &err);

	if (ret) {
		xcp_error_prefix(&err, "cannot mount %s on %s", config->source->shown,
				 config->mountpoint);
		launch_failed(config->launch, &err);
	} else {
		char hex[OID_MAX_HEX + 1];

		log_info("mounted %s on %s commit=%s", config->source->shown, config->mountpoint,
			 oid_to_hex(&repo_identity(serve.repo)->commit, hex));
		ret = serve_until_end(&serve, &err);
		if (ret)
			log_error("%s: %s", config->mountpoint, err.message);
		log_info("unmounted %s from %s", config->source->shown, config->mountpoint);
	}
	serve_close(&serve);
	return ret;
}
