/*
 * xcpfs prefetch: brings a repository, or parts of it, into the cache, and waits until it is on the
 * disk. No mount is needed, and mounts on the same cache have it at once.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/ask.h"
#include "cli/launch.h"
#include "cli/pinning.h"
#include "cli/serve.h"
#include "cli/settings.h"
#include "cli/verb.h"
#include "remote/broker.h"
#include "remote/source.h"
#include "repo/prefetch.h"

static const struct option_row rows[] = {
	{ "ref", 'r', "REF",
	  "Branch, tag or full commit id, instead of the remote's HEAD or @REF." },
	{ "subdir", 's', "DIR", "What PATHs are below; without PATH, all that is in it." },
	{ "dry-run", 'n', NULL, "Say what there is and what is missing; bring nothing." },
	{ "pin", 'p', NULL,
	  "Keep it: nothing else gets its place in the cache till it is unpinned." },
	{ "cache-dir", 'c', "DIR", "Where the cache is kept, instead of $XDG_CACHE_HOME/xcpfs." },
	{ "cache-size", 0, "SIZE",
	  "How much the cache may take, such as 20G (a tenth of the file system, 1G to 64G)." },
	{ "cache-scope", 0, "SCOPE",
	  "Who shares what is cached: all (default), host or repo; see SECURITY in xcpfs(1)." },
	{ "config", 0, "FILE", "Read this configuration after the user's own." },
	{ "timeout", 't', "SECONDS",
	  "How long a read waits without any progress before it fails (30)." },
	{ "memory", 'm', "SIZE", "How much buffers may hold together, such as 32M." },
	{ "log-level", 0, "LEVEL", "error, warn (default), info or debug." },
	{ "json", 'j', NULL, "Print JSON." },
	OPTION_HELP,
	{ 0 },
};

struct prefetch_words { /* strings borrowed from argv */
	const char *ref, *subdir, *config;
	const char *const *paths;
	size_t path_count;
	bool dry, pin, as_json, level_given;
	struct {
		const char *name, *value;
	} settings[16];
	unsigned setting_count;
};

static int take_option(void *arg, const char *name, const char *value)
{
	struct prefetch_words *words = arg;

	if (!strcmp(name, "help"))
		return OPTION_WANTS_HELP;
	if (!strcmp(name, "ref"))
		words->ref = value;
	else if (!strcmp(name, "subdir"))
		words->subdir = value;
	else if (!strcmp(name, "config"))
		words->config = value;
	else if (!strcmp(name, "pin"))
		words->pin = true;
	else if (!strcmp(name, "dry-run"))
		words->dry = true;
	else if (!strcmp(name, "json"))
		words->as_json = true;
	else if (words->setting_count < sizeof(words->settings) / sizeof(*words->settings)) {
		words->level_given |= !strcmp(name, "log-level");
		words->settings[words->setting_count].name = name;
		words->settings[words->setting_count++].value = value;
	} else {
		fprintf(stderr, "xcpfs prefetch: --%s is given too often\n", name);
		return -EINVAL;
	}
	return 0;
}

/* ---- what is seen meanwhile ---- */

struct showing {
	const struct prefetch_words *words;
	uint64_t started_ms;
	bool shown;
};

/* On a terminal, and only there: one line that is written over. */
static void show_progress(void *arg, const struct prefetch_totals *totals)
{
	struct showing *showing = arg;
	uint64_t ms = clock_ms() - showing->started_ms + 1;
	double rate = (double)totals->bytes_done / (double)ms / 1000;

	if (!isatty(STDERR_FILENO) || showing->words->as_json)
		return;
	showing->shown = true;
	fprintf(stderr, "\r%" PRIu64 "%s%" PRIu64 " files, %.1f MB, %.1f MB/s", totals->done,
		totals->complete ? " of " : " of at least ", totals->files,
		(double)totals->bytes_done / 1e6, rate);
	/* By files: sizes are not known before they come. */
	if (totals->complete && totals->done > totals->here && totals->files > totals->done)
		fprintf(stderr, ", %" PRIu64 " s left ",
			(totals->files - totals->done) * ms / (totals->done - totals->here) / 1000);
	fputs("\033[K", stderr);
}

static void show_totals(const struct prefetch_words *words, const struct prefetch_totals *totals,
			uint64_t ms)
{
	json_t *out = json_object();

	json_object_set_new(out, "files", json_integer((json_int_t)totals->files));
	json_object_set_new(out, "files_cached_before", json_integer((json_int_t)totals->here));
	json_object_set_new(out, "files_missing",
			    json_integer((json_int_t)(words->dry ? totals->files - totals->here :
								   totals->files - totals->done)));
	json_object_set_new(out, "bytes_known", json_integer((json_int_t)totals->bytes));
	json_object_set_new(out, "files_of_unknown_size",
			    json_integer((json_int_t)totals->unsized));
	json_object_set_new(out, "files_failed", json_integer((json_int_t)totals->failed));
	json_object_set_new(out, "seconds", json_real((double)ms / 1000));
	ask_print(out, words->as_json);
	json_decref(out);
}

/* ---- doing it ---- */

static int bring(void *arg, struct serve *serve, struct xcp_error *err)
{
	const struct prefetch_words *words = arg;
	struct showing showing = { .words = words, .started_ms = clock_ms() };
	struct prefetch_totals totals = { 0 };
	const struct prefetch_config config = {
		.repo = serve->repo,
		.nodes = serve->nodes,
		.paths = words->paths,
		.path_count = words->path_count,
		.dry = words->dry,
		.progress = show_progress,
		.arg = &showing,
	};
	int ret;

	node_table_set_root(serve->nodes, repo_root(serve->repo));
	ret = prefetch_run(&config, &totals, err);
	if (showing.shown)
		fputc('\n', stderr);
	if (ret)
		return ret;
	if (!words->dry && cache_sync(serve->cache, err))
		return err->code;
	show_totals(words, &totals, clock_ms() - showing.started_ms);
	if (totals.failed)
		return xcp_error_set(err, -EIO, "%" PRIu64 " files could not be brought",
				     totals.failed);
	return 0;
}

static int start(struct serve_config *config, struct prefetch_words *words, struct xcp_error *err)
{
	struct launch launch;
	int ret = broker_start(&config->broker, err);

	if (ret)
		return ret;
	launch_in_front(&launch);
	config->launch = &launch;
	return serve_without_mount(config, bring, words, err);
}

/* When all of it is on the disk, and the cache closed. */
static int pin(const struct prefetch_words *words, const struct serve_config *config,
	       struct xcp_error *err)
{
	const struct pinning pinning = { .settings = config->settings,
					 .source = config->source,
					 .subdir = words->subdir,
					 .paths = words->paths,
					 .path_count = words->path_count };
	struct upkeep_pinned pinned;
	int ret = pinning_pin(&pinning, &pinned, err);

	if (ret || !pinned.missing)
		return ret;
	return xcp_error_set(err, -ENOSPC,
			     "it is pinned, but %" PRIu64 " of %" PRIu64 " objects are not in the "
			     "cache any more; raise cache-size and prefetch again",
			     pinned.missing, pinned.objects);
}

static int load_settings(const struct prefetch_words *words, struct settings *out,
			 struct xcp_error *err)
{
	int ret = settings_load(words->config, out, err);

	for (unsigned i = 0; !ret && i < words->setting_count; i++)
		ret = settings_set(out, words->settings[i].name, words->settings[i].value, err);
	if (!ret && !words->level_given)
		out->log_level = LOG_LEVEL_WARN;
	return ret;
}

static int run_with(struct prefetch_words *words, char *source_text)
{
	struct xcp_error err = { 0 };
	struct settings settings = { 0 };
	struct source source = { 0 };
	int status = EXIT_USAGE, ret = load_settings(words, &settings, &err);

	if (!ret)
		ret = source_parse(source_text, words->ref, settings.hosts, &source, &err);
	if (!ret)
		ret = settings_settle(&settings, &source, &err);
	if (!ret) {
		const struct log_config log = { .level = settings.log_level, .to_stderr = true };
		struct serve_config config = { .settings = &settings,
					       .source = &source,
					       .subdir = words->subdir };

		launch_conceal(source_text, source.shown);
		status = EXIT_FAILED;
		ret = log_open(&log, &err);
		if (!ret)
			ret = start(&config, words, &err);
		if (!ret && words->pin)
			ret = pin(words, &config, &err);
	}
	if (ret)
		fprintf(stderr, "xcpfs: %s\n", err.message);
	source_release(&source);
	settings_release(&settings);
	return ret ? status : EXIT_OK;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct prefetch_words words = { 0 };
	char **operands;
	int count,
		ret = option_table_parse(rows, argc, argv, take_option, &words, &operands, &count);

	if (ret == OPTION_WANTS_HELP) {
		verb_print_help(verb);
		return EXIT_OK;
	}
	if (ret)
		return EXIT_USAGE;
	if (count < 1)
		return verb_usage(verb, "a SOURCE is needed");
	if (words.pin && words.dry)
		return verb_usage(verb, "--dry-run brings nothing that --pin could keep");
	words.paths = (const char *const *)operands + 1;
	words.path_count = (size_t)count - 1;
	return run_with(&words, operands[0]);
}

const struct verb verb_prefetch = {
	.name = "prefetch",
	.operands = "[OPTIONS] SOURCE [PATH...]",
	.summary =
		"Bring a repository, or what is below PATHs, into the cache, and wait until it is "
		"on the disk. What is there already is passed over.",
	.options = rows,
	.run = run,
};
