/*
 * settings: what the configuration, the environment and the command line say together.
 *
 * In this order, the later over the earlier: $XDG_CONFIG_HOME/xcpfs/config (else
 * ~/.config/xcpfs/config), --config FILE, XCPFS_* of the environment (XCPFS_CACHE_DIR for
 * cache-dir, and so on), options. The configuration is INI:
 *
 *	cache-dir = /var/cache/xcpfs
 *	timeout = 60
 *	[host "github.com"]
 *	git = https://github.example/{owner}/{repo}.git
 *
 * Threads: filled in by the main thread, then read-only.
 */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "remote/hosts.h"
#include "remote/source.h"

/*
 * Which repositories share what is cached. An id is a hash, and what is cached under it was checked
 * against it; but of SHA-1 collisions can be made.
 */
enum cache_scope { CACHE_SCOPE_ALL, CACHE_SCOPE_HOST, CACHE_SCOPE_REPO };

struct settings {	 /* strings owned */
	char *cache_dir; /* after settings_settle() that of the scope */
	enum cache_scope cache_scope;
	char *log_file; /* NULL: syslog as a daemon, stderr in front */
	enum log_level log_level;
	uint64_t timeout_ms;
	uint64_t cache_max_len;	 /* 0: a tenth of the file system (cache.h) */
	uint64_t memory_max_len; /* 0: by what there is */
	bool offline;
	bool fill; /* bring the rest in the background */
	struct host_table *hosts;
};

/*
 * Defaults, then the user's file, then `config_file` (NULL: none), then the environment. Release
 * also after a failure.
 */
int settings_load(const char *config_file, struct settings *out, struct xcp_error *err);
/*
 * One of them by its name: "cache-dir", "cache-size", "cache-scope", "log-file", "log-level",
 * "timeout", "memory", "offline", "fill". -ENOENT for another name.
 */
int settings_set(struct settings *settings, const char *name, const char *value,
		 struct xcp_error *err);
/* A number of bytes, with K, M, G or T behind it for powers of 1024; `min` at least. -EINVAL. */
int settings_parse_size(const char *value, uint64_t min, uint64_t *out_len);
/*
 * When all is said: paths are made absolute, and cache_dir that of the scope which `source` is in
 * (NULL: of no repository in particular). Once.
 */
int settings_settle(struct settings *settings, const struct source *source, struct xcp_error *err);
void settings_release(struct settings *settings);

#endif
