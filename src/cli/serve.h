/*
 * serve: everything that a mount is made of, put together, run, and taken apart.
 *
 *	broker (forked first) -> cache, net -> remote -> fetch -> nodes, repo -> control, session
 *	serve_run: ... ready, until unmounted or told to stop, then all of it in reverse
 *
 * Threads: the main thread, which becomes the session's. One more waits for SIGTERM, SIGINT and
 * SIGHUP.
 */
#ifndef CLI_SERVE_H
#define CLI_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cache/cache.h"
#include "cli/launch.h"
#include "cli/settings.h"
#include "fetch/fetch.h"
#include "mount/control.h"
#include "mount/session.h"
#include "remote/remote.h"
#include "repo/fill.h"
#include "repo/repo.h"

struct serve_config { /* all borrowed during serve_run() */
	const struct settings *settings;
	const struct source *source;
	const char *subdir;	/* NULL: none */
	const char *mountpoint; /* absolute */
	const char *options;	/* of -o; NULL */
	struct broker *broker;	/* owned from here on: serve_run() stops it */
	struct launch *launch;
};

/*
 * Mounts and serves until the end. Returns 0, or the error that kept it from becoming ready (also
 * told to launch).
 */
int serve_run(const struct serve_config *config);

/*
 * Opens everything but a mount (mountpoint and options do not matter, launch is one in front), calls
 * use() with it, and closes it. Returns what use() did, or why it came to nothing.
 */
struct serve;
int serve_without_mount(const struct serve_config *config,
			int (*use)(void *arg, struct serve *serve, struct xcp_error *err),
			void *arg, struct xcp_error *err);

/* What is running, for the report. Set before the control socket is answered. */
struct serve {
	const struct serve_config *config;
	struct broker *broker;
	struct cache *cache;
	struct net *net;
	struct remote *remote;
	struct fetch *fetch;
	struct node_table *nodes;
	struct repo *repo;
	struct fill *fill; /* NULL: not asked for */
	struct session *session;
	struct control *control;
	int64_t started_s;   /* for people */
	uint64_t started_ms; /* what the uptime is counted from */
};

#endif
