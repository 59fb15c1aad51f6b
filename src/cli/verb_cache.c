/*
 * xcpfs cache: looking at the cache, verifying it, making it smaller, emptying it, and saying what
 * it is to keep.
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
#include "cli/holdings.h"
#include "cli/launch.h"
#include "cli/pinning.h"
#include "cli/settings.h"
#include "cli/verb.h"
#include "git/hash.h"
#include "repo/resolve.h"

static const struct option_row rows[] = {
	{ "cache-dir", 'c', "DIR", "The cache to work on, instead of $XDG_CACHE_HOME/xcpfs." },
	{ "cache-scope", 0, "SCOPE",
	  "Which part of it is SOURCE's: as it was said when it was mounted (all)." },
	{ "ref", 'r', "REF", "Of SOURCE: branch, tag or full commit id, instead of HEAD or @REF." },
	{ "subdir", 's', "DIR", "pin, unpin: what PATHs are below." },
	{ "config", 0, "FILE", "Read this configuration after the user's own." },
	{ "rebuild", 0, NULL, "verify: make the index again from what is in the segments, first." },
	{ "to", 0, "SIZE",
	  "gc: how much may be left, such as 2G, instead of the limit (cache-size)." },
	{ "json", 'j', NULL, "Print JSON." },
	OPTION_HELP,
	{ 0 },
};

struct cache_words {
	const char *dir, *scope, *config, *to, *ref, *subdir; /* borrowed from argv */
	char *source;					      /* NULL: none was given */
	const char *const *paths;
	size_t path_count;
	bool as_json, rebuild;
};

struct asked {
	const struct cache_words *words;
	const struct settings *settings;
	const struct source *source; /* NULL: none was given */
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
	else if (!strcmp(name, "cache-scope"))
		words->scope = value;
	else if (!strcmp(name, "ref"))
		words->ref = value;
	else if (!strcmp(name, "subdir"))
		words->subdir = value;
	else if (!strcmp(name, "to"))
		words->to = value;
	else if (!strcmp(name, "rebuild"))
		words->rebuild = true;
	else
		words->as_json = true;
	return 0;
}

/* ---- the cache, to look something up in it ---- */

static int cache_use(const struct asked *asked,
		     int (*use)(struct cache *cache, const struct asked *asked, void *arg,
				struct xcp_error *err),
		     void *arg, struct xcp_error *err)
{
	const struct cache_config config = { .dir = asked->dir,
					     .size_max_len = asked->settings->cache_max_len };
	struct cache *cache;
	int ret = cache_open(&config, &cache, err);

	if (ret)
		return ret;
	ret = err->code ? err->code : use(cache, asked, arg, err);
	cache_close(&cache);
	return ret;
}

/* ---- info ---- */

static json_t *share_of(struct holdings *holdings)
{
	json_t *out = json_object();

	holdings_sum(holdings);
	json_object_set_new(out, "files", json_integer((json_int_t)holdings->files));
	json_object_set_new(out, "files_cached", json_integer((json_int_t)holdings->files_here));
	json_object_set_new(out, "directories_unseen", json_integer((json_int_t)holdings->unseen));
	json_object_set_new(out, "raw_bytes", json_integer((json_int_t)holdings->raw_bytes));
	json_object_set_new(out, "disk_bytes", json_integer((json_int_t)holdings->stored_bytes));
	return out;
}

/* The key of the fact: identity, NUL, ref. */
static int share_found(void *arg, const void *key, size_t key_len, const void *value,
		       size_t value_len)
{
	json_t *all = arg; /* {IDENTITY: [[REF, COMMIT] ...]} */
	const char *identity = key, *ref = memchr(key, 0, key_len);
	json_t *refs;

	if (!ref || value_len > OID_MAX_HEX)
		return 0;
	refs = json_object_get(all, identity);
	if (!refs) {
		refs = json_array();
		if (json_object_set_new(all, identity, refs))
			return 0; /* a path that is not UTF-8, which JSON cannot say */
	}
	ref++;
	json_array_append_new(refs, json_pack("[oo]",
					      json_stringn(ref, key_len - (size_t)(ref - identity)),
					      json_stringn(value, value_len)));
	return 0;
}

static json_t *share_describe(struct cache *cache, const char *identity, const json_t *refs)
{
	struct holdings holdings;
	json_t *out, *pair;
	size_t i;

	holdings_init(&holdings, cache);
	json_array_foreach(refs, i, pair)
	{
		const char *hex = json_string_value(json_array_get(pair, 1));
		struct oid commit;

		if (hex && oid_from_hex(hex, strlen(hex), &commit) == 0)
			holdings_add(&holdings, &commit, "", NULL);
	}
	out = share_of(&holdings);
	holdings_release(&holdings);
	json_object_set_new(out, "repository", json_string(identity));
	json_object_set_new(out, "refs", json_integer((json_int_t)json_array_size(refs)));
	return out;
}

/* What is cached of each repository; what several have counts for each of them. */
static int add_shares(struct cache *cache, const struct asked *asked, void *arg,
		      struct xcp_error *err)
{
	json_t *all = json_object(), *out = arg, *refs;
	const char *identity;
	int ret = cache_facts(cache, RESOLVE_FACT, share_found, all);

	(void)asked;
	if (ret)
		xcp_error_set(err, ret, "cannot read the cache: %s", strerror(-ret));
	json_object_foreach(all, identity, refs) if (!ret)
		json_array_append_new(out, share_describe(cache, identity, refs));
	json_decref(all);
	return ret;
}

/* Of the mounts of this moment that use this cache. */
static void add_hit_rate(const struct asked *asked, json_t *out)
{
	struct mount_list list = { 0 };
	json_int_t hits = 0, misses = 0, mounts = 0;

	if (mounts_read(&list, NULL))
		return;
	for (size_t i = 0; i < list.count; i++) {
		json_t *status = ask_mount(&list.v[i], "status", NULL);
		json_t *stats = ask_mount(&list.v[i], "stats", NULL);
		const char *dir =
			json_string_value(json_object_get(json_object_get(status, "cache"), "dir"));

		if (dir && stats && !strcmp(dir, asked->dir)) {
			mounts++;
			hits += json_integer_value(json_object_get(stats, "cache_hits"));
			misses += json_integer_value(json_object_get(stats, "cache_misses"));
		}
		json_decref(status);
		json_decref(stats);
	}
	mounts_release(&list);
	json_object_set_new(out, "mounts", json_integer(mounts));
	json_object_set_new(out, "hit_rate",
			    hits + misses ? json_real((double)hits / (double)(hits + misses)) :
					    json_null());
}

static int add_source(struct cache *cache, const struct asked *asked, void *arg,
		      struct xcp_error *err)
{
	struct holdings holdings;
	struct oid commit;
	char hex[OID_MAX_HEX + 1];
	json_t **out = arg;
	int ret;

	holdings_init(&holdings, cache);
	ret = holdings_commit(cache, asked->source, &commit, err);
	if (!ret)
		ret = holdings_add(&holdings, &commit, "", err);
	if (!ret) {
		*out = share_of(&holdings);
		json_object_set_new(*out, "repository", json_string(asked->source->identity));
		json_object_set_new(*out, "commit", json_string(oid_to_hex(&commit, hex)));
	}
	holdings_release(&holdings);
	return ret;
}

static int show_source(const struct asked *asked, struct xcp_error *err)
{
	json_t *out = NULL;
	int ret = cache_use(asked, add_source, &out, err);

	if (ret)
		return ret;
	ask_print(out, asked->words->as_json);
	json_decref(out);
	return 0;
}

static json_t *describe_info(const struct asked *asked, const struct cache_info *info)
{
	uint64_t limit = asked->settings->cache_max_len;
	json_t *out = json_object();

	json_object_set_new(out, "dir", json_string(asked->dir));
	json_object_set_new(out, "disk_bytes", json_integer((json_int_t)info->disk_bytes));
	json_object_set_new(out, "limit_bytes",
			    json_integer((json_int_t)(limit ? limit : info->default_limit)));
	json_object_set_new(out, "index_bytes", json_integer((json_int_t)info->index_bytes));
	json_object_set_new(out, "segments", json_integer((json_int_t)info->segment_count));
	json_object_set_new(out, "objects", json_integer((json_int_t)info->object_count));
	json_object_set_new(out, "sizes_only", json_integer((json_int_t)info->size_only_count));
	json_object_set_new(out, "facts", json_integer((json_int_t)info->fact_count));
	json_object_set_new(out, "raw_bytes", json_integer((json_int_t)info->raw_bytes));
	json_object_set_new(out, "stored_bytes", json_integer((json_int_t)info->stored_bytes));
	json_object_set_new(out, "ratio",
			    info->stored_bytes ? json_real((double)info->raw_bytes /
							   (double)info->stored_bytes) :
						 json_null());
	return out;
}

static int show_info(const struct asked *asked, struct xcp_error *err)
{
	struct cache_info info = { 0 };
	json_t *out, *repositories = json_array(), *pins = NULL;
	int ret;

	if (asked->source) {
		json_decref(repositories);
		return show_source(asked, err);
	}
	ret = cache_info(asked->dir, &info, err);
	if (ret == 0)
		ret = cache_use(asked, add_shares, repositories, err);
	if (ret == 0)
		pins = pinning_list(asked->dir, err);
	if (ret && ret != -ENOENT) {
		json_decref(repositories);
		return ret;
	}
	err->code = 0; /* no cache yet is an empty one */
	out = describe_info(asked, &info);
	add_hit_rate(asked, out);
	json_object_set_new(out, "repositories", repositories);
	json_object_set_new(out, "pins", pins ? pins : json_array());
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

static int holdings_of(struct cache *cache, const struct asked *asked, void *arg,
		       struct xcp_error *err)
{
	struct holdings *holdings = arg;
	struct oid commit;
	int ret;

	holdings->cache = cache;
	ret = holdings_commit(cache, asked->source, &commit, err);
	if (!ret)
		ret = holdings_add(holdings, &commit, "", err);
	holdings_sum(holdings);
	/* Directories stay: what is known of them stays true. */
	holdings_files_only(holdings);
	return ret;
}

/* What other repositories have in common with it goes, too: they fetch it again. */
static int clear_source(const struct asked *asked, struct xcp_error *err)
{
	struct holdings holdings;
	uint64_t freed = 0, stay = 0;
	int ret;

	holdings_init(&holdings, NULL);
	ret = cache_use(asked, holdings_of, &holdings, err);
	if (!ret)
		ret = upkeep_forget(asked->dir, holdings.oids.v, holdings.oids.count, &freed, &stay,
				    err);
	holdings_release(&holdings);
	if (ret)
		return ret;
	say_freed(asked, freed);
	if (stay)
		fprintf(stderr,
			"xcpfs: %" PRIu64 " objects stay: they are pinned (xcpfs cache unpin)\n",
			stay);
	return 0;
}

static int clear(const struct asked *asked, struct xcp_error *err)
{
	uint64_t freed = 0;
	int ret;

	if (asked->source)
		return clear_source(asked, err);
	ret = cache_clear(asked->dir, &freed, err);

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

/* ---- pins ---- */

static struct pinning pinning_of(const struct asked *asked)
{
	return (struct pinning){ .settings = asked->settings,
				 .source = asked->source,
				 .subdir = asked->words->subdir,
				 .paths = asked->words->paths,
				 .path_count = asked->words->path_count };
}

static int pin(const struct asked *asked, struct xcp_error *err)
{
	const struct pinning pinning = pinning_of(asked);
	struct upkeep_pinned pinned;
	json_t *out;
	int ret = pinning_pin(&pinning, &pinned, err);

	if (ret)
		return ret;
	out = pinning_describe(&pinned);
	ask_print(out, asked->words->as_json);
	json_decref(out);
	return 0;
}

static int unpin(const struct asked *asked, struct xcp_error *err)
{
	const struct pinning pinning = pinning_of(asked);
	unsigned count;
	int ret = pinning_unpin(&pinning, &count, err);

	if (ret)
		return ret;
	if (asked->words->as_json)
		printf("{\"unpinned\":%u}\n", count);
	else
		printf("%u %s removed\n", count, count == 1 ? "pin" : "pins");
	return 0;
}

static int show_pins(const struct asked *asked, struct xcp_error *err)
{
	json_t *pins = pinning_list(asked->dir, err), *out;

	if (!pins)
		return err->code;
	out = json_object();
	json_object_set_new(out, "pins", pins);
	ask_print(out, asked->words->as_json);
	json_decref(out);
	return 0;
}

/* ---- which ---- */

static const struct action {
	const char *name;
	enum { SOURCE_NONE, SOURCE_MAY, SOURCE_AND_PATHS } operands;
	int (*run)(const struct asked *asked, struct xcp_error *err);
} actions[] = {
	{ "info", SOURCE_MAY, show_info },  { "clear", SOURCE_MAY, clear },
	{ "gc", SOURCE_NONE, shrink },	    { "verify", SOURCE_NONE, verify },
	{ "pin", SOURCE_AND_PATHS, pin },   { "unpin", SOURCE_AND_PATHS, unpin },
	{ "pins", SOURCE_NONE, show_pins },
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
	struct source source = { 0 };
	struct asked asked = { .words = words, .settings = &settings };
	int status = EXIT_USAGE, ret = settings_load(words->config, &settings, &err);

	if (!ret && words->dir)
		ret = settings_set(&settings, "cache-dir", words->dir, &err);
	if (!ret && words->scope)
		ret = settings_set(&settings, "cache-scope", words->scope, &err);
	if (!ret && words->source) {
		ret = source_parse(words->source, words->ref, settings.hosts, &source, &err);
		if (!ret)
			launch_conceal(words->source, source.shown);
		asked.source = &source;
	}
	if (!ret)
		ret = settings_settle(&settings, asked.source, &err);
	if (!ret) {
		asked.dir = settings.cache_dir;
		ret = action->run(&asked, &err);
		status = ret == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	}
	if (ret)
		fprintf(stderr, "xcpfs: %s\n", err.message);
	source_release(&source);
	settings_release(&settings);
	return ret ? status : EXIT_OK;
}

static const char *const operands_words[] = {
	[SOURCE_NONE] = "no SOURCE",
	[SOURCE_MAY] = "one SOURCE or none",
	[SOURCE_AND_PATHS] = "a SOURCE, and PATHs if only these are meant",
};

static bool operands_fit(const struct action *action, int count, bool has_ref)
{
	switch (action->operands) {
	case SOURCE_NONE:
		return count == 1 && !has_ref;
	case SOURCE_MAY:
		return count <= 2 && (count == 2 || !has_ref);
	case SOURCE_AND_PATHS:
		return count >= 2;
	}
	return false;
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
	if (count < 1)
		return verb_usage(verb, "info, verify, gc, clear, pin, unpin or pins?");
	action = action_find(operands[0]);
	if (!action)
		return verb_usage(verb, "%s is not something to do with a cache", operands[0]);
	if (!operands_fit(action, count, words.ref))
		return verb_usage(verb, "cache %s takes %s", action->name,
				  operands_words[action->operands]);
	if (count > 1) {
		words.source = operands[1];
		words.paths = (const char *const *)operands + 2;
		words.path_count = (size_t)count - 2;
	}
	return run_with(&words, action);
}

const struct verb verb_cache = {
	.name = "cache",
	.operands = "[OPTIONS] info [SOURCE]|verify|gc|clear [SOURCE]|pin SOURCE [PATH...]|"
		    "unpin SOURCE [PATH...]|pins",
	.summary = "Show how large the cache is and what is in it, verify it, make it smaller, "
		   "empty it, or say what it is to keep whatever else needs room. Mounts that use "
		   "it go on.",
	.options = rows,
	.run = run,
};
