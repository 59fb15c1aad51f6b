/*
 * net: the loop around curl_multi_poll().
 *
 * Descriptors other than curl's sit in one epoll set, which itself is the one extra descriptor of
 * the poll: a hang-up is seen for what it is, and a set of any size costs the same. Timers are few,
 * a list will do. Jobs are taken one at a time, so that one may take back another.
 *
 * On HTTP/2 each transfer has a connection of its own (CURLMOPT_MAX_CONCURRENT_STREAMS 1). On a
 * shared one libcurl must go on reading for the others, and keeps what arrives for a paused stream
 * in memory: 32 MiB of it, measured with 7.88. Alone, its connection is not read at all.
 */
#include "remote/net.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "git/protocol.h"
#include "remote/remote.h"

#define CONNECT_TIMEOUT_MS 15000
#define STALL_TIMEOUT_MS 60000
#define CRAWL_STALLS 3
#define EVENTS_MAX 32

struct net {
	/* set before the thread starts */
	struct net_settings settings;
	CURLM *multi;
	int epoll;
	pthread_t thread;
	/* owned by the network thread */
	LIST_HEAD(net_timer_list, net_timer) timers;
	/* Being handled; data.ptr is NULL for a watch that was stopped meanwhile. */
	struct epoll_event events[EVENTS_MAX];
	int event_count;
	bool stopping;
	struct net_job stop_job;
	/* under `lock` */
	struct lock lock;
	TAILQ_HEAD(net_job_queue, net_job) jobs;
};

uint64_t net_now_ms(void)
{
	return clock_ns() / 1000000;
}

const struct net_settings *net_settings(const struct net *net)
{
	return &net->settings;
}

/* ---- jobs ---- */

void net_post(struct net *net, struct net_job *job)
{
	bool first = false;

	lock_take(&net->lock);
	if (!job->posted) {
		first = TAILQ_EMPTY(&net->jobs);
		job->posted = true;
		TAILQ_INSERT_TAIL(&net->jobs, job, link);
	}
	/*
	 * Woken under the lock: once it is given up the loop may run the job, and the job may be
	 * net_close()'s, behind which the multi handle is gone. The wakeup is a write to a
	 * descriptor that does not block.
	 */
	if (first)
		curl_multi_wakeup(net->multi);
	lock_give(&net->lock);
}

void net_unpost(struct net *net, struct net_job *job)
{
	lock_take(&net->lock);
	if (job->posted) {
		job->posted = false;
		TAILQ_REMOVE(&net->jobs, job, link);
	}
	lock_give(&net->lock);
}

static struct net_job *take_job(struct net *net)
{
	struct net_job *job;

	lock_take(&net->lock);
	job = TAILQ_FIRST(&net->jobs);
	if (job) {
		job->posted = false;
		TAILQ_REMOVE(&net->jobs, job, link);
	}
	lock_give(&net->lock);
	return job;
}

static void run_jobs(struct net *net)
{
	struct net_job *job;

	while ((job = take_job(net)))
		job->run(job);
}

/* ---- descriptors ---- */

int net_watch_set(struct net *net, struct net_watch *watch, bool readable, bool writable)
{
	struct epoll_event event = {
		.events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U), .data.ptr = watch
	};
	bool was = watch->readable || watch->writable, is = readable || writable;

	if (readable == watch->readable && writable == watch->writable)
		return 0;
	if ((was || is) && epoll_ctl(net->epoll,
				     !was ? EPOLL_CTL_ADD :
				     is	  ? EPOLL_CTL_MOD :
					    EPOLL_CTL_DEL,
				     watch->fd, &event))
		return -errno;
	watch->readable = readable;
	watch->writable = writable;
	return 0;
}

void net_watch_stop(struct net *net, struct net_watch *watch)
{
	net_watch_set(net, watch, false, false);
	for (int i = 0; i < net->event_count; i++)
		if (net->events[i].data.ptr == watch)
			net->events[i].data.ptr = NULL;
}

static void run_watches(struct net *net)
{
	int count = epoll_wait(net->epoll, net->events, EVENTS_MAX, 0);

	net->event_count = count > 0 ? count : 0;
	for (int i = 0; i < net->event_count; i++) {
		struct net_watch *watch = net->events[i].data.ptr;
		uint32_t got = net->events[i].events;
		bool gone = got & (EPOLLHUP | EPOLLERR);

		if (watch && (watch->readable || watch->writable))
			watch->ready(watch, watch->readable && (gone || (got & EPOLLIN)),
				     watch->writable && (gone || (got & EPOLLOUT)));
	}
	net->event_count = 0;
}

/* ---- timers ---- */

void net_timer_set(struct net *net, struct net_timer *timer, uint64_t delay_ms)
{
	net_timer_stop(timer);
	timer->at_ms = net_now_ms() + delay_ms;
	LIST_INSERT_HEAD(&net->timers, timer, link);
}

void net_timer_stop(struct net_timer *timer)
{
	if (timer->at_ms) {
		timer->at_ms = 0;
		LIST_REMOVE(timer, link);
	}
}

static struct net_timer *first_timer(struct net *net)
{
	struct net_timer *timer, *first = NULL;

	LIST_FOREACH(timer, &net->timers, link)
		if (!first || timer->at_ms < first->at_ms)
			first = timer;
	return first;
}

static void run_timers(struct net *net)
{
	uint64_t now = net_now_ms();
	struct net_timer *timer;

	/* What is set while they run lies behind `now`. */
	while ((timer = first_timer(net)) && timer->at_ms <= now) {
		net_timer_stop(timer);
		timer->fire(timer);
	}
}

static int poll_timeout(struct net *net)
{
	struct net_timer *timer = first_timer(net);
	uint64_t now = net_now_ms();

	if (!timer)
		return 60000;
	if (timer->at_ms <= now)
		return 0;
	return timer->at_ms - now < 60000 ? (int)(timer->at_ms - now) : 60000;
}

/* ---- transfers ---- */

int net_transfer_start(struct net *net, struct net_transfer *transfer)
{
	curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer);
	return curl_multi_add_handle(net->multi, transfer->easy) ? -ENOMEM : 0;
}

void net_transfer_stop(struct net *net, struct net_transfer *transfer)
{
	curl_multi_remove_handle(net->multi, transfer->easy);
}

static void run_transfers(struct net *net)
{
	struct CURLMsg *message;
	int left;

	curl_multi_perform(net->multi, &left);
	while ((message = curl_multi_info_read(net->multi, &left))) {
		struct net_transfer *transfer = NULL;
		CURLcode code = message->data.result;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		curl_multi_remove_handle(net->multi, transfer->easy);
		transfer->ended(transfer, code);
	}
}

/* ---- the thread ---- */

static void *net_run(void *arg)
{
	struct net *net = arg;
	struct curl_waitfd extra = { .fd = net->epoll, .events = CURL_WAIT_POLLIN };

	while (!net->stopping) {
		curl_multi_poll(net->multi, &extra, 1, poll_timeout(net), NULL);
		run_jobs(net);
		run_watches(net);
		run_timers(net);
		run_transfers(net);
	}
	return NULL;
}

static void net_stop(struct net_job *job)
{
	struct net *net = (struct net *)((char *)job - offsetof(struct net, stop_job));

	net->stopping = true;
}

static void net_free(struct net *net)
{
	if (net->multi)
		curl_multi_cleanup(net->multi);
	if (net->epoll >= 0)
		close(net->epoll);
	lock_release(&net->lock);
	free(net->settings.user_agent);
	free(net->settings.ca_file);
	free(net->settings.ca_path);
	free(net);
	curl_global_cleanup();
}

static char *env_dup(const char *const *names)
{
	for (; *names; names++) {
		const char *value = getenv(*names);

		if (value && *value)
			return strdup(value);
	}
	return NULL;
}

bool net_crawls(const struct net *net, uint64_t since_ms, uint64_t len)
{
	uint64_t grace_ms = (uint64_t)net->settings.stall_timeout_ms * CRAWL_STALLS;

	return net_now_ms() - since_ms >= grace_ms + len;
}

/*
 * The environment is read here, on the caller's thread: nobody may change it later while we look.
 */
static int settings_init(struct net_settings *settings, const struct net_config *config)
{
	static const char *const ca_files[] = { "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "SSL_CERT_FILE",
						NULL };
	static const char *const ca_paths[] = { "GIT_SSL_CAPATH", "SSL_CERT_DIR", NULL };
	const char *agent = config && config->user_agent ? config->user_agent : PROTOCOL_AGENT;

	settings->connect_timeout_ms = CONNECT_TIMEOUT_MS;
	settings->stall_timeout_ms = STALL_TIMEOUT_MS;
	if (config && config->connect_timeout_ms)
		settings->connect_timeout_ms = config->connect_timeout_ms;
	if (config && config->stall_timeout_ms)
		settings->stall_timeout_ms = config->stall_timeout_ms;
	settings->user_agent = strdup(agent);
	settings->ca_file = env_dup(ca_files);
	settings->ca_path = env_dup(ca_paths);
	return settings->user_agent ? 0 : -ENOMEM;
}

int net_open(const struct net_config *config, struct net **out, struct xcp_error *err)
{
	struct net *net = calloc(1, sizeof(*net));
	int rc;

	if (!net)
		return xcp_error_set(err, -ENOMEM, "cannot start the network: out of memory");
	if (curl_global_init(CURL_GLOBAL_DEFAULT)) {
		free(net);
		return xcp_error_set(err, -EIO, "cannot start the network: libcurl does not start");
	}
	lock_init(&net->lock);
	TAILQ_INIT(&net->jobs);
	LIST_INIT(&net->timers);
	net->stop_job.run = net_stop;
	net->epoll = epoll_create1(EPOLL_CLOEXEC);
	net->multi = curl_multi_init();
	rc = settings_init(&net->settings, config);
	/* libcurl does without its wakeup when it gets no descriptors, and then never hears of us */
	if (rc || net->epoll < 0 || !net->multi || curl_multi_wakeup(net->multi)) {
		net_free(net);
		return xcp_error_set(err, -ENOMEM,
				     "cannot start the network: out of memory or descriptors");
	}
	curl_multi_setopt(net->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, 1L);
	curl_multi_setopt(net->multi, CURLMOPT_MAXCONNECTS, 16L);
	rc = thread_start(&net->thread, "xcpfs-net", net_run, net);
	if (rc) {
		net_free(net);
		return xcp_error_set(err, rc, "cannot start the network: no thread");
	}
	*out = net;
	return 0;
}

void net_close(struct net **net_p)
{
	struct net *net = *net_p;

	*net_p = NULL;
	if (!net)
		return;
	net_post(net, &net->stop_job);
	pthread_join(net->thread, NULL);
	net_free(net);
}
