/*
 * Where every setting has its name, its default and its check. A wrong line in a file is an error
 * that names file and line: guessing on would show up much later as a mount that does something
 * else.
 */
#include "cli/settings.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/flag.h"

#define DEFAULT_TIMEOUT_S 30
#define MAX_TIMEOUT_S 86400
#define MEMORY_MIN_LEN ((uint64_t)4 << 20)
#define CACHE_MIN_LEN ((uint64_t)16 << 20)
#define SIZE_MAX_LEN ((uint64_t)1 << 50)
#define FILE_MAX_LEN ((size_t)1 << 20)
#define SCOPE_SHOWN_LEN 100

static const char *const setting_names[] = { "cache-dir", "cache-size", "cache-scope", "log-file",
					     "log-level", "timeout",	"memory",      "offline",
					     "fill",	  NULL };
static const char *const scope_names[] = { "all", "host", "repo" };

static int replace(char **where, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*where);
	*where = copy;
	return 0;
}

static int parse_scope(const char *value, enum cache_scope *out)
{
	for (size_t i = 0; i < sizeof(scope_names) / sizeof(*scope_names); i++)
		if (!strcmp(scope_names[i], value)) {
			*out = (enum cache_scope)i;
			return 0;
		}
	return -EINVAL;
}

static int parse_timeout(const char *value, uint64_t *out_ms)
{
	char *end;
	unsigned long seconds;

	errno = 0;
	seconds = strtoul(value, &end, 10);
	if (errno || end == value || *end || !isdigit((unsigned char)*value) || !seconds ||
	    seconds > MAX_TIMEOUT_S)
		return -EINVAL;
	*out_ms = (uint64_t)seconds * 1000;
	return 0;
}

int settings_parse_size(const char *value, uint64_t min, uint64_t *out_len)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t len;
	char *end;

	errno = 0;
	len = strtoull(value, &end, 10);
	if (errno || end == value || !isdigit((unsigned char)*value) || len > SIZE_MAX_LEN)
		return -EINVAL;
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);

		if (len > SIZE_MAX_LEN >> shift)
			return -EINVAL;
		len <<= shift;
		end++;
	}
	if (*end || len < min || len > SIZE_MAX_LEN)
		return -EINVAL;
	*out_len = len;
	return 0;
}

int settings_set(struct settings *settings, const char *name, const char *value,
		 struct xcp_error *err)
{
	if (!strcmp(name, "cache-dir")) {
		if (!*value)
			return xcp_error_set(err, -EINVAL, "cache-dir is empty; name a directory");
		return replace(&settings->cache_dir, value);
	}
	if (!strcmp(name, "log-file"))
		return replace(&settings->log_file, value);
	if (!strcmp(name, "log-level")) {
		if (log_level_parse(value, &settings->log_level))
			return xcp_error_set(
				err, -EINVAL,
				"log-level is \"%s\"; it can be error, warn, info or debug", value);
		return 0;
	}
	if (!strcmp(name, "timeout")) {
		if (parse_timeout(value, &settings->timeout_ms))
			return xcp_error_set(
				err, -EINVAL,
				"timeout is \"%s\"; it is a number of seconds from 1 to %d", value,
				MAX_TIMEOUT_S);
		return 0;
	}
	if (!strcmp(name, "memory")) {
		if (settings_parse_size(value, MEMORY_MIN_LEN, &settings->memory_max_len))
			return xcp_error_set(
				err, -EINVAL,
				"memory is \"%s\"; it is a number of bytes, 4M at least, with K, "
				"M or G for units",
				value);
		return 0;
	}
	if (!strcmp(name, "cache-size")) {
		if (settings_parse_size(value, CACHE_MIN_LEN, &settings->cache_max_len))
			return xcp_error_set(
				err, -EINVAL,
				"cache-size is \"%s\"; it is a number of bytes, 16M at least, "
				"with K, M, G or T for units",
				value);
		return 0;
	}
	if (!strcmp(name, "cache-scope")) {
		if (parse_scope(value, &settings->cache_scope))
			return xcp_error_set(err, -EINVAL,
					     "cache-scope is \"%s\"; it can be all, host or repo",
					     value);
		return 0;
	}
	if (!strcmp(name, "offline")) {
		if (flag_parse(value, &settings->offline))
			return xcp_error_set(err, -EINVAL,
					     "offline is \"%s\"; it can be true or false", value);
		return 0;
	}
	if (!strcmp(name, "fill")) {
		if (flag_parse(value, &settings->fill))
			return xcp_error_set(err, -EINVAL,
					     "fill is \"%s\"; it can be true or false", value);
		return 0;
	}
	return -ENOENT;
}

/* ---- when all is said ---- */

/* The daemon lives in "/": paths of the command line must not depend on where it was typed. */
static int make_absolute(char **path, struct xcp_error *err)
{
	char *cwd, *absolute;

	if (!*path || **path == '/')
		return 0;
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&absolute, "%s/%s", cwd, *path) < 0) {
		free(cwd);
		return xcp_error_set(err, -ENOMEM, "cannot make %s absolute", *path);
	}
	free(cwd);
	free(*path);
	*path = absolute;
	return 0;
}

/* A name that tells people what it is of, and a hash that tells it from all others. */
static int enter_scope(struct settings *settings, const char *kind, const char *of)
{
	char shown[SCOPE_SHOWN_LEN + 1];
	char *dir;
	size_t i;

	for (i = 0; of[i] && i < SCOPE_SHOWN_LEN; i++)
		shown[i] = isalnum((unsigned char)of[i]) || strchr(".-", of[i]) ? of[i] : '_';
	shown[i] = '\0';
	if (asprintf(&dir, "%s/%s-%s-%016llx", settings->cache_dir, kind, shown,
		     (unsigned long long)XXH3_64bits(of, strlen(of))) < 0)
		return -ENOMEM;
	free(settings->cache_dir);
	settings->cache_dir = dir;
	return 0;
}

int settings_settle(struct settings *settings, const struct source *source, struct xcp_error *err)
{
	int ret = make_absolute(&settings->cache_dir, err);

	if (!ret)
		ret = make_absolute(&settings->log_file, err);
	if (ret || !source || settings->cache_scope == CACHE_SCOPE_ALL)
		return ret;
	if (settings->cache_scope == CACHE_SCOPE_HOST)
		ret = enter_scope(settings, "host", source->host ? source->host : "local");
	else
		ret = enter_scope(settings, "repo", source->identity);
	return ret ? xcp_error_set(err, ret, "out of memory") : 0;
}

/* ---- files ---- */

struct reading {
	struct settings *settings;
	struct xcp_error *err;
	int code; /* the first error's */
};

/* The NAME of a section [host "NAME"]; NULL when it is no such section. The caller frees. */
static char *host_section(const char *section)
{
	const char *name = section + 4;
	size_t len;

	if (strncmp(section, "host", 4))
		return NULL;
	name += strspn(name, " \t");
	len = strlen(name);
	if (len < 3 || name[0] != '"' || name[len - 1] != '"')
		return NULL;
	return strndup(name + 1, len - 2);
}

/* One line for inih: non-zero is success there. */
static int take_line(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *reading = arg;
	int ret;

	if (!strncmp(section, "host", 4)) {
		char *host = host_section(section);

		ret = host ? host_table_set(reading->settings->hosts, host, name, value,
					    reading->err) :
			     xcp_error_set(reading->err, -EINVAL,
					   "section [%s] should be [host \"NAME\"]", section);
		free(host);
	} else if (*section) {
		ret = xcp_error_set(reading->err, -EINVAL, "unknown section [%s]", section);
	} else {
		ret = settings_set(reading->settings, name, value, reading->err);
		if (ret == -ENOENT)
			ret = xcp_error_set(reading->err, -EINVAL, "unknown setting \"%s\"", name);
	}
	if (ret && !reading->code)
		reading->code = ret;
	return ret == 0;
}

/* All of it as text that the caller frees; a file without an end is not read for ever. */
static int read_text(FILE *file, char **out)
{
	char *text = malloc(FILE_MAX_LEN + 1);
	size_t len = text ? fread(text, 1, FILE_MAX_LEN + 1, file) : 0;
	int ret = 0;

	if (!text)
		return -ENOMEM;
	if (ferror(file))
		ret = -errno;
	else if (len > FILE_MAX_LEN)
		ret = -EFBIG;
	else if (memchr(text, '\0', len))
		ret = -EILSEQ;
	if (ret) {
		free(text);
		return ret;
	}
	text[len] = '\0';
	*out = text;
	return 0;
}

static int read_file(struct settings *settings, const char *path, bool must_exist,
		     struct xcp_error *err)
{
	struct reading reading = { .settings = settings, .err = err };
	FILE *file = fopen(path, "re");
	int line, ret = file ? 0 : -errno;
	char *text = NULL;

	if (ret == -ENOENT && !must_exist)
		return 0;
	if (file) {
		ret = read_text(file, &text);
		fclose(file);
	}
	if (ret)
		return xcp_error_set(err, ret, "cannot read the configuration %s: %s", path,
				     strerror(-ret));
	line = ini_parse_string(text, take_line, &reading);
	free(text);
	if (!line)
		return 0;
	if (!reading.code)
		return xcp_error_set(err, -EINVAL, "configuration %s, line %d: not a line of INI",
				     path, line);
	xcp_error_prefix(err, "configuration %s, line %d", path, line);
	return reading.code;
}

/* ---- where things are ---- */

/*
 * $`variable`/xcpfs`tail`, else ~/`fallback`/xcpfs`tail`; NULL when there is no home. The caller
 * frees.
 */
static char *user_path(const char *variable, const char *fallback, const char *tail)
{
	const char *base = getenv(variable), *home = getenv("HOME");
	char *path = NULL;
	int len = -1;

	if (base && *base == '/')
		len = asprintf(&path, "%s/xcpfs%s", base, tail);
	else if (home && *home == '/')
		len = asprintf(&path, "%s/%s/xcpfs%s", home, fallback, tail);
	return len < 0 ? NULL : path;
}

static int default_cache_dir(struct settings *settings)
{
	char *path = user_path("XDG_CACHE_HOME", ".cache", "");

	/* a unit of the system has no HOME */
	if (!path &&
	    asprintf(&path, geteuid() ? "/tmp/xcpfs-cache-%u" : "/var/cache/xcpfs", geteuid()) < 0)
		return -ENOMEM;
	settings->cache_dir = path;
	return 0;
}

static int read_environment(struct settings *settings, struct xcp_error *err)
{
	for (const char *const *name = setting_names; *name; name++) {
		char variable[32];
		const char *value;
		int ret;

		snprintf(variable, sizeof(variable), "XCPFS_%s", *name);
		for (char *c = variable; *c; c++)
			*c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
		value = getenv(variable);
		if (!value || !*value)
			continue;
		ret = settings_set(settings, *name, value, err);
		if (ret) {
			xcp_error_prefix(err, "environment variable %s", variable);
			return ret;
		}
	}
	return 0;
}

int settings_load(const char *config_file, struct settings *out, struct xcp_error *err)
{
	char *user_file;
	int ret;

	*out = (struct settings){ .log_level = LOG_LEVEL_INFO,
				  .timeout_ms = UINT64_C(1000) * DEFAULT_TIMEOUT_S };
	out->hosts = host_table_new();
	if (!out->hosts || default_cache_dir(out))
		return xcp_error_set(err, -ENOMEM, "out of memory");
	user_file = user_path("XDG_CONFIG_HOME", ".config", "/config");
	ret = user_file ? read_file(out, user_file, false, err) : 0;
	free(user_file);
	if (!ret && config_file)
		ret = read_file(out, config_file, true, err);
	if (!ret)
		ret = read_environment(out, err);
	if (!ret && host_table_finish(out->hosts))
		ret = xcp_error_set(err, -ENOMEM, "out of memory");
	return ret;
}

void settings_release(struct settings *settings)
{
	free(settings->cache_dir);
	free(settings->log_file);
	host_table_free(settings->hosts);
	*settings = (struct settings){ 0 };
}
