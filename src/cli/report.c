/*
 * Turns snapshots into JSON with jansson. Strings from outside may not be UTF-8; they are shown
 * with their odd bytes escaped as %XX.
 */
#include "cli/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/uri.h"
#include "cli/serve.h"

static json_t *json_text(const char *text)
{
	json_t *value = text ? json_string(text) : json_null();
	struct buf escaped = BUF_INIT;

	if (value || !text)
		return value;
	if (!uri_escape(&escaped, text, "/:@ ,+=~")) /* not UTF-8 */
		value = json_string(buf_str(&escaped));
	buf_release(&escaped);
	return value;
}

static json_t *json_oid(const struct oid *oid)
{
	char hex[OID_MAX_HEX + 1];

	return json_string(oid_to_hex(oid, hex));
}

static json_t *json_count(uint64_t count)
{
	return json_integer((json_int_t)count);
}

/* ---- status ---- */

static const char *state_name(const struct serve *serve, const struct fetch_counters *fetch)
{
	if (serve->config->settings->offline || fetch->state == FETCH_OFFLINE)
		return "offline";
	if (fetch->state == FETCH_FAILING)
		return "failing";
	if (repo_identity(serve->repo)->from_cache && !fetch->objects_fetched)
		return "offline"; /* it did not answer when we mounted, and was not asked since */
	return "online";
}

static json_t *report_cache(const struct serve *serve)
{
	struct cache_counters counters;
	json_t *out = json_object();

	cache_counters(serve->cache, &counters);
	json_object_set_new(out, "dir", json_text(serve->config->settings->cache_dir));
	json_object_set_new(out, "degraded", json_boolean(counters.degraded));
	json_object_set_new(out, "why",
			    counters.degraded ? json_text(counters.degraded_why) : json_null());
	return out;
}

/* Whether the host's API is asked: NULL where there is none. */
static json_t *report_api(const struct fetch_counters *fetch)
{
	static const char *const states[] = { [FETCH_API_ASKED] = "asked",
					      [FETCH_API_RESTS] = "resting",
					      [FETCH_API_REFUSED] = "refused" };
	json_t *out;

	if (fetch->api == FETCH_API_NONE)
		return json_null();
	out = json_object();
	json_object_set_new(out, "state", json_string(states[fetch->api]));
	json_object_set_new(out, "rests_s", json_count((fetch->api_rests_ms + 999) / 1000));
	return out;
}

static json_t *report_status(const struct serve *serve)
{
	const struct serve_config *config = serve->config;
	const struct repo_identity *identity = repo_identity(serve->repo);
	struct fetch_counters fetch;
	json_t *out = json_object();

	fetch_counters(serve->fetch, &fetch);
	json_object_set_new(out, "source", json_text(config->source->shown));
	json_object_set_new(out, "ref",
			    json_text(config->source->ref ? config->source->ref : "HEAD"));
	json_object_set_new(out, "commit", json_oid(&identity->commit));
	json_object_set_new(out, "tree", json_oid(&identity->tree));
	json_object_set_new(out, "subdir", json_text(config->subdir));
	json_object_set_new(out, "mountpoint", json_text(config->mountpoint));
	json_object_set_new(out, "pid", json_integer(getpid()));
	json_object_set_new(out, "state", json_string(state_name(serve, &fetch)));
	json_object_set_new(out, "last_error",
			    *fetch.last_error ? json_text(fetch.last_error) : json_null());
	json_object_set_new(out, "from_cache", json_boolean(identity->from_cache));
	json_object_set_new(out, "resolved", json_integer(identity->resolved_s));
	json_object_set_new(out, "started", json_integer(serve->started_s));
	json_object_set_new(out, "api", report_api(&fetch));
	json_object_set_new(out, "cache", report_cache(serve));
	json_object_set_new(out, "version", json_string(PACKAGE_VERSION));
	return out;
}

/* ---- stats ---- */

/* A "Name:   123 kB" line of /proc/self/status, in bytes. */
static uint64_t memory_of(const char *name)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	uint64_t kib = 0;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			kib = strtoull(line + strlen(name) + 1, NULL, 10);
	if (file)
		fclose(file);
	return kib * 1024;
}

/* What `du` says of a folder; it has few files. Folders that vanish meanwhile count nothing. */
static uint64_t disk_usage(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;
	uint64_t bytes = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		bytes += (uint64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode))
			bytes += disk_usage(dirfd(dir), entry->d_name);
	}
	closedir(dir);
	return bytes;
}

static void add_requests(const struct serve *serve, const struct fetch_counters *fetch, json_t *out)
{
	struct remote_counters remote;
	json_t *kinds = json_object();

	remote_counters(serve->remote, &remote);
	json_object_set_new(kinds, "caps", json_count(remote.requests_caps));
	json_object_set_new(kinds, "refs", json_count(remote.requests_refs));
	json_object_set_new(kinds, "fetch", json_count(remote.requests_fetch));
	json_object_set_new(kinds, "sizes", json_count(remote.requests_sizes));
	json_object_set_new(kinds, "range", json_count(remote.requests_range));
	json_object_set_new(kinds, "api", json_count(remote.requests_api));
	json_object_set_new(kinds, "total",
			    json_count(remote.requests_caps + remote.requests_refs +
				       remote.requests_fetch + remote.requests_sizes +
				       remote.requests_range + remote.requests_api));
	json_object_set_new(out, "requests", kinds);
	/* of the API: git's own protocol tells none */
	json_object_set_new(out, "rate_limit_remaining",
			    remote.limited ? json_count(remote.rate_left) : json_null());
	json_object_set_new(out, "credential_requests", json_count(remote.requests_credential));
	json_object_set_new(out, "connections", json_count(remote.connections));
	json_object_set_new(out, "bytes_sent", json_count(remote.bytes_sent));
	json_object_set_new(out, "bytes_received", json_count(remote.bytes_received));

	kinds = json_object();
	json_object_set_new(kinds, "trees", json_count(fetch->batches_trees));
	json_object_set_new(kinds, "objects", json_count(fetch->batches_objects));
	json_object_set_new(kinds, "listing", json_count(fetch->batches_listing));
	json_object_set_new(kinds, "subtree", json_count(fetch->batches_subtree));
	json_object_set_new(kinds, "sizes", json_count(fetch->batches_sizes));
	json_object_set_new(kinds, "large", json_count(fetch->batches_large));
	json_object_set_new(kinds, "ranges", json_count(fetch->batches_ranges));
	json_object_set_new(out, "batches", kinds);
	json_object_set_new(out, "errors", json_count(remote.errors + fetch->errors));
}

static void add_fetch(const struct fetch_counters *fetch, json_t *out)
{
	json_object_set_new(out, "objects_fetched", json_count(fetch->objects_fetched));
	json_object_set_new(out, "objects_from_neighbours", json_count(fetch->from_neighbours));
	json_object_set_new(out, "objects_prefetched", json_count(fetch->objects_prefetched));
	json_object_set_new(out, "prefetch_used", json_count(fetch->prefetch_used));
	json_object_set_new(out, "flights", json_count(fetch->flights));
	json_object_set_new(out, "waiters", json_count(fetch->waiters));
	json_object_set_new(out, "retries", json_count(fetch->retries));
	json_object_set_new(out, "timeouts", json_count(fetch->timeouts));
}

static void add_cache(const struct serve *serve, json_t *out)
{
	struct cache_counters counters;

	cache_counters(serve->cache, &counters);
	json_object_set_new(out, "cache_hits", json_count(counters.hits));
	json_object_set_new(out, "cache_misses", json_count(counters.misses));
	json_object_set_new(out, "cache_bytes",
			    json_count(disk_usage(AT_FDCWD, serve->config->settings->cache_dir)));
	json_object_set_new(out, "cache_stored_bytes", json_count(counters.stored_bytes));
	json_object_set_new(out, "cache_pending_bytes", json_count(counters.pending_bytes));
	json_object_set_new(out, "cache_dropped", json_count(counters.dropped));
	json_object_set_new(out, "cache_given_up", json_count(counters.given_up));
	json_object_set_new(out, "cache_repacked", json_count(counters.repacked));
	json_object_set_new(out, "cache_faults", json_count(counters.faults));
}

static void add_session(const struct serve *serve, json_t *out)
{
	struct session_counters counters;
	json_t *latency = json_object();

	session_counters(serve->session, &counters);
	json_object_set_new(out, "bytes_served", json_count(counters.bytes_served));
	json_object_set_new(out, "parked", json_count(counters.parked));
	json_object_set_new(out, "parked_max", json_count(counters.parked_max));
	json_object_set_new(out, "interrupted", json_count(counters.interrupted));
	json_object_set_new(out, "read_errors", json_count(counters.errors));
	for (unsigned op = 0; op < SESSION_OP_COUNT; op++) {
		const struct session_latency *from = &counters.ops[op];
		json_t *to = json_object();

		json_object_set_new(to, "count", json_count(from->count));
		json_object_set_new(to, "p50", json_count(from->p50_us));
		json_object_set_new(to, "p95", json_count(from->p95_us));
		json_object_set_new(to, "p99", json_count(from->p99_us));
		json_object_set_new(to, "max", json_count(from->max_us));
		json_object_set_new(latency, session_op_name(op), to);
	}
	json_object_set_new(out, "latency_us", latency);
}

static json_t *report_stats(const struct serve *serve)
{
	struct fetch_counters fetch;
	struct repo_totals totals;
	json_t *out = json_object();

	fetch_counters(serve->fetch, &fetch);
	repo_totals(serve->repo, &totals);
	add_requests(serve, &fetch, out);
	add_fetch(&fetch, out);
	add_cache(serve, out);
	add_session(serve, out);
	json_object_set_new(out, "nodes", json_count(totals.nodes));
	json_object_set_new(out, "rss_bytes", json_count(memory_of("VmRSS")));
	json_object_set_new(out, "rss_anon_bytes", json_count(memory_of("RssAnon")));
	json_object_set_new(out, "uptime_s", json_count((clock_ms() - serve->started_ms) / 1000));
	return out;
}

/* ---- one file ---- */

static int percent_decode(const char *text, char *out, size_t out_len)
{
	size_t len = 0;

	for (; *text; text++) {
		unsigned byte = (unsigned char)*text;

		if (len + 1 >= out_len)
			return -ENAMETOOLONG;
		if (byte == '%') {
			if (sscanf(text, "%%%2x", &byte) != 1 || !byte)
				return -EINVAL;
			text += 2;
		}
		out[len++] = (char)byte;
	}
	out[len] = '\0';
	return 0;
}

/*
 * Walks down `path` through trees that are here; takes a lookup on *out, which the caller
 * forgets.
 */
static int find_node(const struct serve *serve, char *path, struct node **out)
{
	struct node *node = repo_root(serve->repo), *next;
	bool counted = false;
	char *save, *name;
	int ret = 0;

	for (name = strtok_r(path, "/", &save); !ret && name; name = strtok_r(NULL, "/", &save)) {
		ret = repo_lookup(serve->repo, node, name, NULL, &next);
		if (counted)
			node_forget(serve->nodes, node, 1);
		counted = !ret;
		node = next;
	}
	*out = counted ? node : NULL;
	return ret;
}

static int report_file(const struct serve *serve, const char *escaped, json_t **out)
{
	struct repo_origin origin;
	struct repo_attr attr;
	struct node *node;
	char path[4096], mode[16];
	int ret = percent_decode(escaped, path, sizeof(path));

	if (!ret)
		ret = find_node(serve, path, &node);
	if (ret)
		return ret;
	repo_origin(serve->repo, node ? node : repo_root(serve->repo), &origin);
	repo_attr_now(serve->repo, node ? node : repo_root(serve->repo), &attr);
	if (node)
		node_forget(serve->nodes, node, 1);
	snprintf(mode, sizeof(mode), "%06o", attr.mode);
	*out = json_object();
	json_object_set_new(*out, "path", json_string(escaped));
	json_object_set_new(*out, "oid", json_oid(&origin.oid));
	json_object_set_new(*out, "mode", json_string(mode));
	json_object_set_new(*out, "size", attr.size_known ? json_count(attr.size) : json_null());
	json_object_set_new(*out, "cached", json_boolean(origin.cached));
	json_object_set_new(*out, "commit", json_oid(&repo_identity(serve->repo)->commit));
	json_object_set_new(*out, "origin", json_text(serve->config->source->shown));
	return 0;
}

int report_answer(void *arg, const char *request, struct buf *out)
{
	const struct serve *serve = arg;
	json_t *answer = NULL;
	char *text;
	int ret = 0;

	if (!strcmp(request, "status"))
		answer = report_status(serve);
	else if (!strcmp(request, "stats"))
		answer = report_stats(serve);
	else if (!strncmp(request, "file ", 5))
		ret = report_file(serve, request + 5, &answer);
	else
		return -ENOENT;
	if (ret) {
		answer = json_object();
		json_object_set_new(answer, "error", json_string(strerror(-ret)));
	}
	text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	ret = text ? buf_add_str(out, text) : -ENOMEM;
	free(text);
	json_decref(answer);
	return ret;
}
