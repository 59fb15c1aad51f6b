/*
 * pinning: names and the order of things. What a pin is: cache/pins.h.
 */
#include "cli/pinning.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/holdings.h"

static int parts_add(struct buf *out, const char *path)
{
	int ret = 0;

	while (ret == 0 && path && *(path += strspn(path, "/"))) {
		size_t len = strcspn(path, "/");

		if (out->len > 0)
			ret = buf_add_str(out, "/");
		if (ret == 0)
			ret = buf_add(out, path, len);
		path += len;
	}
	return ret;
}

char *pinning_path(const char *subdir, const char *path)
{
	struct buf out = BUF_INIT;
	char *text = NULL;

	if (parts_add(&out, subdir) == 0 && parts_add(&out, path) == 0)
		text = strdup(buf_str(&out) ? buf_str(&out) : "");
	buf_release(&out);
	return text;
}

static const char *ref_of(const struct pinning *pinning)
{
	return pinning->source->ref ? pinning->source->ref : "HEAD";
}

static char *name_of(const struct pinning *pinning, const char *path)
{
	char *name;

	if (asprintf(&name, "%s\n%s\n%s", pinning->source->identity, ref_of(pinning), path) < 0)
		return NULL;
	return name;
}

/* ---- pin ---- */

static int collect(const struct pinning *pinning, const char *path, struct holdings *out,
		   struct xcp_error *err)
{
	struct oid commit;
	int ret = holdings_commit(out->cache, pinning->source, &commit, err);

	if (!ret)
		ret = holdings_add(out, &commit, path, err);
	holdings_sum(out); /* each once */
	return ret;
}

/* The cache is closed before it is worked on. */
static int collect_from(const struct pinning *pinning, const char *path, struct holdings *out,
			struct xcp_error *err)
{
	const struct cache_config config = { .dir = pinning->settings->cache_dir,
					     .size_max_len = pinning->settings->cache_max_len };
	struct cache *cache;
	int ret = cache_open(&config, &cache, err);

	if (ret)
		return ret;
	if (err->code)
		ret = err->code; /* only in memory: why */
	holdings_init(out, cache);
	if (!ret)
		ret = collect(pinning, path, out, err);
	cache_close(&cache);
	return ret;
}

static uint64_t limit_of(const struct settings *settings)
{
	struct cache_info info = { 0 };

	if (settings->cache_max_len)
		return settings->cache_max_len;
	return cache_info(settings->cache_dir, &info, NULL) ? 0 : info.default_limit;
}

static int pin_path(const struct pinning *pinning, const char *path, struct upkeep_pinned *out,
		    struct xcp_error *err)
{
	struct upkeep_pinned pinned = { 0 };
	struct holdings holdings = { 0 };
	char *name = name_of(pinning, path);
	int ret = name ? 0 : xcp_error_set(err, -ENOMEM, "out of memory");

	if (!ret)
		ret = collect_from(pinning, path, &holdings, err);
	if (!ret) {
		const struct upkeep_pin pin = { .name = name,
						.oids = holdings.oids.v,
						.count = holdings.oids.count,
						.max_len = limit_of(pinning->settings) };

		ret = upkeep_pin(pinning->settings->cache_dir, &pin, &pinned, err);
	}
	out->objects += pinned.objects;
	out->missing += pinned.missing;
	out->bytes += pinned.bytes;
	holdings_release(&holdings);
	free(name);
	return ret;
}

int pinning_pin(const struct pinning *pinning, struct upkeep_pinned *out, struct xcp_error *err)
{
	size_t count = pinning->path_count ? pinning->path_count : 1;
	int ret = 0;

	*out = (struct upkeep_pinned){ 0 };
	for (size_t i = 0; i < count && !ret; i++) {
		char *path = pinning_path(pinning->subdir,
					  pinning->path_count ? pinning->paths[i] : NULL);

		ret = path ? pin_path(pinning, path, out, err) :
			     xcp_error_set(err, -ENOMEM, "out of memory");
		free(path);
	}
	return ret;
}

json_t *pinning_describe(const struct upkeep_pinned *pinned)
{
	json_t *out = json_object();

	json_object_set_new(out, "objects", json_integer((json_int_t)pinned->objects));
	json_object_set_new(out, "objects_missing", json_integer((json_int_t)pinned->missing));
	json_object_set_new(out, "disk_bytes", json_integer((json_int_t)pinned->bytes));
	return out;
}

/* ---- unpin ---- */

struct matching {
	const struct pinning *pinning;
	char **names; /* owned, with what is in it */
	size_t count;
};

static bool path_matches(const struct pinning *pinning, const char *path)
{
	if (pinning->path_count == 0 && !pinning->subdir)
		return true;
	for (size_t i = 0; i < pinning->path_count || i == 0; i++) {
		char *wanted = pinning_path(pinning->subdir,
					    pinning->path_count ? pinning->paths[i] : NULL);
		bool same = wanted && !strcmp(wanted, path);

		free(wanted);
		if (same)
			return true;
	}
	return false;
}

static bool matches(const struct pinning *pinning, const char *name)
{
	size_t identity_len = strlen(pinning->source->identity);
	const char *wanted = pinning->source->ref, *ref, *path;

	if (strncmp(name, pinning->source->identity, identity_len) || name[identity_len] != '\n')
		return false;
	ref = name + identity_len + 1;
	path = strchr(ref, '\n');
	if (!path)
		return false;
	if (wanted &&
	    (strlen(wanted) != (size_t)(path - ref) || strncmp(ref, wanted, (size_t)(path - ref))))
		return false;
	return path_matches(pinning, path + 1);
}

static int match(void *arg, const char *name, const struct upkeep_pinned *pinned)
{
	struct matching *matching = arg;
	char **names;

	(void)pinned;
	if (!matches(matching->pinning, name))
		return 0;
	names = realloc(matching->names, (matching->count + 1) * sizeof(*names));
	if (!names)
		return -ENOMEM;
	matching->names = names;
	names[matching->count] = strdup(name);
	return names[matching->count] ? (matching->count++, 0) : -ENOMEM;
}

int pinning_unpin(const struct pinning *pinning, unsigned *out_count, struct xcp_error *err)
{
	const char *dir = pinning->settings->cache_dir;
	struct matching matching = { .pinning = pinning };
	int ret = upkeep_pins(dir, match, &matching, err);

	*out_count = 0;
	for (size_t i = 0; i < matching.count; i++) {
		if (!ret)
			ret = upkeep_unpin(dir, matching.names[i], err);
		*out_count += !ret;
		free(matching.names[i]);
	}
	free(matching.names);
	if (!ret && matching.count == 0)
		ret = xcp_error_set(err, -ENOENT,
				    "nothing of %s is pinned that way; `xcpfs cache pins` lists "
				    "what is",
				    pinning->source->url);
	return ret;
}

/* ---- which there are ---- */

static int list_one(void *arg, const char *name, const struct upkeep_pinned *pinned)
{
	const char *ref = strchr(name, '\n'), *path = ref ? strchr(ref + 1, '\n') : NULL;
	json_t *one;

	if (!path)
		return 0; /* of something else */
	one = pinning_describe(pinned);
	json_object_set_new(one, "repository", json_stringn(name, (size_t)(ref - name)));
	json_object_set_new(one, "ref", json_stringn(ref + 1, (size_t)(path - ref - 1)));
	json_object_set_new(one, "path", json_string(path + 1));
	return json_array_append_new(arg, one) ? -ENOMEM : 0;
}

json_t *pinning_list(const char *cache_dir, struct xcp_error *err)
{
	json_t *out = json_array();
	int ret = out ? upkeep_pins(cache_dir, list_one, out, err) : -ENOMEM;

	if (!ret || ret == -ENOENT)
		return out; /* no cache yet has no pins */
	json_decref(out);
	return NULL;
}
