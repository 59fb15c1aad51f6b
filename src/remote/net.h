/*
 * net: the one network thread, as the transports see it.
 *
 * It waits in curl_multi_poll() for HTTP transfers, watched descriptors (pipes), timers, and jobs
 * that other threads hand over. Everything here is embedded in structs of its user, so that nothing
 * can fail for want of memory once it is under way.
 *
 * Threads: net_post() and net_unpost() from any; everything else, and every callback, on the
 * network thread.
 */
#ifndef REMOTE_NET_H
#define REMOTE_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <curl/curl.h>

#include "base/error.h"

struct net;

/* ---- jobs: how other threads reach this one ---- */

struct net_job { /* zeroed, with `run` set */
	void (*run)(struct net_job *job);
	TAILQ_ENTRY(net_job) link; /* under the net's lock, like `posted` */
	bool posted;
};

/* Runs in the order of posting. A job that is posted already stays where it is. */
void net_post(struct net *net, struct net_job *job);

/* Takes back what did not run yet. On the network thread: afterwards it will not run. */
void net_unpost(struct net *net, struct net_job *job);

/* ---- descriptors ---- */

struct net_watch {		 /* zeroed, with `ready` set and fd -1 */
	int fd;			 /* borrowed */
	bool readable, writable; /* what is waited for; with neither, also not for hang-ups */
	void (*ready)(struct net_watch *watch, bool readable,
		      bool writable); /* a hang-up is both */
};

/*
 * Sets what is waited for. The descriptor must be of a kind that epoll knows. Returns 0 or -errno.
 */
int net_watch_set(struct net *net, struct net_watch *watch, bool readable, bool writable);
/* Afterwards `ready` is not called any more, and the descriptor may be closed. */
void net_watch_stop(struct net *net, struct net_watch *watch);

/* ---- timers, on the real clock ---- */

struct net_timer { /* zeroed, with `fire` set */
	void (*fire)(struct net_timer *timer);
	LIST_ENTRY(net_timer) link;
	uint64_t at_ms; /* 0: not set */
};
uint64_t net_now_ms(void); /* monotonic, never faked; any thread */
void net_timer_set(struct net *net, struct net_timer *timer, uint64_t delay_ms);
void net_timer_stop(struct net_timer *timer);

/* ---- HTTP transfers ---- */

struct net_transfer { /* CURLOPT_PRIVATE of its easy handle */
	CURL *easy;   /* owned by the user */
	void (*ended)(struct net_transfer *transfer,
		      CURLcode code); /* it has left the multi handle */
};
int net_transfer_start(struct net *net, struct net_transfer *transfer); /* 0 or -ENOMEM */
void net_transfer_stop(struct net *net, struct net_transfer *transfer);

/* ---- what it was opened with ---- */

struct net_settings { /* set before the thread starts */
	unsigned connect_timeout_ms, stall_timeout_ms;
	char *user_agent;	 /* owned */
	char *ca_file, *ca_path; /* owned; NULL: what libcurl was built with */
};
const struct net_settings *net_settings(const struct net *net); /* any thread */

/*
 * Whether an answer that began then and is of some size by now is a mere trickle: small ones, which
 * people wait for, must come at a thousand bytes a second once three stall times are over. Each
 * byte is a sign of life, and so a stall alone would never end them.
 */
bool net_crawls(const struct net *net, uint64_t since_ms, uint64_t len);
#define NET_CRAWLS_WORDS                                                                           \
	"the answer comes too slowly to be of use; check the network and the server"

#endif
