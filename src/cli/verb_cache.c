/*
 * xcpfs cache: looking at the cache, verifying it, making it smaller, emptying it.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache.h"
#include "cache/upkeep.h"
#include "cli/ask.h"
#include "cli/settings.h"
#include "cli/verb.h"
#include "git/hash.h"

static const struct option_row rows[] = {
	{ "cache-dir", 'c', "DIR", "The cache to work on, instead of $XDG_CACHE_HOME/xcpfs." },
	{ "config", 0, "FILE", "Read this configuration after the user's own." },
	{ "rebuild", 0, NULL, "verify: make the index again from what is in the segments, first." },
	{ "to", 0, "SIZE",
	  "gc: how much may be left, such as 2G, instead of the limit (cache-size)." },
	{ "json", 'j', NULL, "Print JSON." },
	OPTION_HELP,
	{ 0 },
};

struct cache_words {
	const char *dir, *config, *to; /* borrowed from argv */
	bool as_json, rebuild;
};

struct asked {
	const struct cache_words *words;
	const struct settings *settings;
	const char *dir;
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
	else if (!strcmp(name, "to"))
		words->to = value;
	else if (!strcmp(name, "rebuild"))
		words->rebuild = true;
	else
		words->as_json = true;
	return 0;
}

/* ---- info ---- */

static int show_info(const struct asked *asked, struct xcp_error *err)
{
	struct cache_info info = { 0 };
	uint64_t limit = asked->settings->cache_max_len;
	json_t *out;
	int ret = cache_info(asked->dir, &info, err);

	if (ret && ret != -ENOENT)
		return ret;
	out = json_object(); /* no cache yet is an empty one */
	json_object_set_new(out, "dir", json_string(asked->dir));
	json_object_set_new(out, "disk_bytes", json_integer((json_int_t)info.disk_bytes));
	json_object_set_new(out, "limit_bytes",
			    json_integer((json_int_t)(limit ? limit : info.default_limit)));
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
	ask_print(out, asked->words->as_json);
	json_decref(out);
	return 0;
}

/* ---- clear, gc ---- */

static void say_freed(const struct asked *asked, uint64_t freed)
{
	if (asked->words->as_json)
		printf("{\"freed_bytes\":%" PRIu64 "}\n", freed);
	else
		printf("%" PRIu64 " bytes freed in %s\n", freed, asked->dir);
}

static int clear(const struct asked *asked, struct xcp_error *err)
{
	uint64_t freed = 0;
	int ret = cache_clear(asked->dir, &freed, err);

	if (ret && ret != -ENOENT)
		return ret;
	say_freed(asked, freed);
	return 0;
}

static int shrink(const struct asked *asked, struct xcp_error *err)
{
	uint64_t freed = 0, to = asked->settings->cache_max_len;
	struct cache_info info = { 0 };
	int ret = 0;

	if (asked->words->to && settings_parse_size(asked->words->to, 0, &to))
		return xcp_error_set(
			err, -EINVAL,
			"--to is \"%s\"; it is a number of bytes, with K, M, G or T for "
			"units",
			asked->words->to);
	if (!asked->words->to && !to) {
		ret = cache_info(asked->dir, &info, err);
		to = info.default_limit;
	}
	if (!ret)
		ret = upkeep_shrink(asked->dir, to, &freed, err);
	if (ret && ret != -ENOENT)
		return ret;
	say_freed(asked, freed);
	return 0;
}

/* ---- verify ---- */

static int hash_begin(void *arg, enum oid_algo algo, enum object_type type, uint64_t size)
{
	return hasher_init_object(arg, algo, type, size);
}

static int hash_update(void *arg, const void *data, size_t len)
{
	return hasher_update(arg, data, len);
}

static int hash_end(void *arg, struct oid *out)
{
	return hasher_final(arg, out);
}

/* On a terminal, and only there: one line that is written over. */
static void say_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	unsigned *last = arg;
	unsigned percent = total ? (unsigned)(done * 100 / total) : 100;

	if (percent == *last)
		return;
	*last = percent;
	fprintf(stderr, "\r%s: %u %% ", what, percent);
	if (done >= total)
		fputc('\r', stderr);
}

static void say_verified(const struct asked *asked, const struct upkeep_verified *found)
{
	json_t *out = json_object();

	json_object_set_new(out, "dir", json_string(asked->dir));
	json_object_set_new(out, "objects", json_integer((json_int_t)found->objects));
	json_object_set_new(out, "records", json_integer((json_int_t)found->records));
	json_object_set_new(out, "raw_bytes", json_integer((json_int_t)found->bytes));
	json_object_set_new(out, "bad_objects", json_integer((json_int_t)found->bad_objects));
	json_object_set_new(out, "rebuilt_records",
			    json_integer((json_int_t)found->rebuilt_records));
	json_object_set_new(out, "rebuilt_bad_records",
			    json_integer((json_int_t)found->rebuilt_bad));
	json_object_set_new(out, "rebuild_s", json_real(found->rebuild_s));
	ask_print(out, asked->words->as_json);
	json_decref(out);
}

static int verify(const struct asked *asked, struct xcp_error *err)
{
	struct hasher hasher = { 0 };
	unsigned last = 101;
	const struct upkeep_hasher how = { hash_begin, hash_update, hash_end, &hasher };
	const struct upkeep_progress progress = { isatty(STDERR_FILENO) ? say_progress : NULL,
						  &last };
	struct upkeep_verified found = { 0 };
	int ret = upkeep_verify(asked->dir, asked->words->rebuild, &how, &progress, &found, err);

	hasher_release(&hasher);
	if (ret == -ENOENT)
		ret = 0; /* no cache yet is a sound one */
	if (ret)
		return ret;
	say_verified(asked, &found);
	return found.bad_objects ? xcp_error_set(err, -EBADMSG,
						 "%" PRIu64 " objects in %s were bad; they will be "
						 "fetched again when they are read",
						 found.bad_objects, asked->dir) :
				   0;
}

/* ---- which ---- */

static const struct action {
	const char *name;
	int (*run)(const struct asked *asked, struct xcp_error *err);
} actions[] = {
	{ "info", show_info },
	{ "clear", clear },
	{ "gc", shrink },
	{ "verify", verify },
};

static const struct action *action_find(const char *name)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++)
		if (!strcmp(actions[i].name, name))
			return &actions[i];
	return NULL;
}

static int run_with(const struct cache_words *words, const struct action *action)
{
	struct xcp_error err = { 0 };
	struct settings settings = { 0 };
	struct asked asked = { .words = words, .settings = &settings };
	int status = EXIT_USAGE, ret = settings_load(words->config, &settings, &err);

	if (!ret && words->dir)
		ret = settings_set(&settings, "cache-dir", words->dir, &err);
	if (!ret) {
		asked.dir = settings.cache_dir;
		ret = action->run(&asked, &err);
		status = ret == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	}
	if (ret)
		fprintf(stderr, "xcpfs: %s\n", err.message);
	settings_release(&settings);
	return ret ? status : EXIT_OK;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct cache_words words = { 0 };
	const struct action *action;
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
		return verb_usage(verb, "info, verify, gc or clear?");
	action = action_find(operands[0]);
	if (!action)
		return verb_usage(verb, "%s is not something to do with a cache", operands[0]);
	return run_with(&words, action);
}

const struct verb verb_cache = {
	.name = "cache",
	.operands = "[OPTIONS] info|verify|gc|clear",
	.summary = "Show how large the cache is and what is in it, verify it, make it smaller, or "
		   "empty it. Mounts that use it go on.",
	.options = rows,
	.run = run,
};
