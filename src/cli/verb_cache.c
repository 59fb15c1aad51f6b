/*
 * xcpfs cache: looking at the cache and emptying it.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cache/cache.h"
#include "cli/ask.h"
#include "cli/settings.h"
#include "cli/verb.h"

static const struct option_row rows[] = {
	{ "cache-dir", 'c', "DIR", "The cache to work on, instead of $XDG_CACHE_HOME/xcpfs." },
	{ "config", 0, "FILE", "Read this configuration after the user's own." },
	{ "json", 'j', NULL, "Print JSON." },
	OPTION_HELP,
	{ 0 },
};

struct cache_words {
	const char *dir, *config; /* borrowed from argv */
	bool as_json;
};

static int take_option(void *arg, const char *name, const char *value)
{
	struct cache_words *words = arg;

	if (!strcmp(name, "help"))
		return OPTION_WANTS_HELP;
	if (!strcmp(name, "cache-dir"))
		words->dir = value;
	else if (!strcmp(name, "config"))
		words->config = value;
	else
		words->as_json = true;
	return 0;
}

static int show_info(const char *dir, bool as_json, struct xcp_error *err)
{
	struct cache_info info = { 0 };
	json_t *out;
	int ret = cache_info(dir, &info, err);

	if (ret && ret != -ENOENT)
		return ret;
	out = json_object(); /* no cache yet is an empty one */
	json_object_set_new(out, "dir", json_string(dir));
	json_object_set_new(out, "disk_bytes", json_integer((json_int_t)info.disk_bytes));
	json_object_set_new(out, "index_bytes", json_integer((json_int_t)info.index_bytes));
	json_object_set_new(out, "segments", json_integer((json_int_t)info.segment_count));
	json_object_set_new(out, "objects", json_integer((json_int_t)info.object_count));
	json_object_set_new(out, "sizes_only", json_integer((json_int_t)info.size_only_count));
	json_object_set_new(out, "facts", json_integer((json_int_t)info.fact_count));
	json_object_set_new(out, "raw_bytes", json_integer((json_int_t)info.raw_bytes));
	json_object_set_new(out, "stored_bytes", json_integer((json_int_t)info.stored_bytes));
	json_object_set_new(out, "ratio",
			    info.stored_bytes ?
				    json_real((double)info.raw_bytes / (double)info.stored_bytes) :
				    json_null());
	ask_print(out, as_json);
	json_decref(out);
	return 0;
}

static int clear(const char *dir, bool as_json, struct xcp_error *err)
{
	uint64_t freed = 0;
	int ret = cache_clear(dir, &freed, err);

	if (ret && ret != -ENOENT)
		return ret;
	if (as_json)
		printf("{\"freed_bytes\":%" PRIu64 "}\n", freed);
	else
		printf("%" PRIu64 " bytes freed in %s\n", freed, dir);
	return 0;
}

static int run_with(const struct verb *verb, const struct cache_words *words, const char *what)
{
	struct xcp_error err = { 0 };
	struct settings settings = { 0 };
	int status = EXIT_USAGE, ret = settings_load(words->config, &settings, &err);

	if (!ret && words->dir)
		ret = settings_set(&settings, "cache-dir", words->dir, &err);
	if (!ret) {
		status = EXIT_FAILED;
		if (!strcmp(what, "info"))
			ret = show_info(settings.cache_dir, words->as_json, &err);
		else if (!strcmp(what, "clear"))
			ret = clear(settings.cache_dir, words->as_json, &err);
		else
			status = verb_usage(verb, "%s is not something to do with a cache", what),
			ret = 1;
	}
	if (ret < 0)
		fprintf(stderr, "xcpfs: %s\n", err.message);
	settings_release(&settings);
	return ret ? status : EXIT_OK;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct cache_words words = { 0 };
	char **operands;
	int count,
		ret = option_table_parse(rows, argc, argv, take_option, &words, &operands, &count);

	if (ret == OPTION_WANTS_HELP) {
		verb_print_help(verb);
		return EXIT_OK;
	}
	if (ret)
		return EXIT_USAGE;
	if (count != 1)
		return verb_usage(verb, "info or clear?");
	return run_with(verb, &words, operands[0]);
}

const struct verb verb_cache = {
	.name = "cache",
	.operands = "[OPTIONS] info|clear",
	.summary = "Show how large the cache is and what is in it, or empty it. Mounts that use it "
		   "go on.",
	.options = rows,
	.run = run,
};
