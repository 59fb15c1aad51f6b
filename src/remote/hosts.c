/*
 * hosts: the table of named hosts and the expansion of their URL templates.
 *
 * A handful of entries that are looked up once per mount, so a plain array. Templates are checked
 * when they are set, by expanding them with stand-in words, so that a mistake in the configuration
 * is reported with its key.
 */
#include "remote/hosts.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"

struct host_table {
	struct host *v; /* owned */
	size_t count, cap;
};

static const struct {
	const char *name, *alias, *kind, *git, *api, *raw;
} builtin[] = {
	{ "github.com", "github", "github", "https://github.com/{owner}/{repo}.git",
	  "https://api.github.com/repos/{owner}/{repo}",
	  "https://raw.githubusercontent.com/{owner}/{repo}/{commit}/{path}" },
	{ "gitlab.com", "gitlab", "gitlab", "https://gitlab.com/{owner}/{repo}.git", NULL, NULL },
	{ "codeberg.org", "codeberg", "gitea", "https://codeberg.org/{owner}/{repo}.git", NULL,
	  NULL },
	{ "bitbucket.org", "bitbucket", "bitbucket", "https://bitbucket.org/{owner}/{repo}.git",
	  NULL, NULL },
};

static void host_release(struct host *host)
{
	free(host->name);
	free(host->alias);
	free(host->kind);
	free(host->git);
	free(host->api);
	free(host->raw);
}

void host_table_free(struct host_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->count; i++)
		host_release(&table->v[i]);
	free(table->v);
	free(table);
}

static char *lower_dup(const char *text)
{
	char *copy = strdup(text);

	for (char *p = copy; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

/* By name alone: aliases are for people, sections of the configuration name hosts. */
static struct host *find_by_name(const struct host_table *table, const char *name)
{
	for (size_t i = 0; i < table->count; i++)
		if (strcasecmp(table->v[i].name, name) == 0)
			return &table->v[i];
	return NULL;
}

static struct host *host_add(struct host_table *table, const char *name)
{
	struct host host = { .name = lower_dup(name), .kind = strdup("git") };

	if (table->count == table->cap) {
		size_t cap = table->cap ? table->cap * 2 : 8;
		struct host *v = reallocarray(table->v, cap, sizeof(*v));

		if (!v)
			goto fail;
		table->v = v;
		table->cap = cap;
	}
	if (!host.name || !host.kind)
		goto fail;
	table->v[table->count] = host;
	return &table->v[table->count++];
fail:
	host_release(&host);
	return NULL;
}

static int set_string(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

struct host_table *host_table_new(void)
{
	struct host_table *table = calloc(1, sizeof(*table));

	for (size_t i = 0; table && i < sizeof(builtin) / sizeof(builtin[0]); i++) {
		struct host *host = host_add(table, builtin[i].name);

		if (!host || set_string(&host->alias, builtin[i].alias) ||
		    set_string(&host->kind, builtin[i].kind) ||
		    set_string(&host->git, builtin[i].git) ||
		    (builtin[i].api && set_string(&host->api, builtin[i].api)) ||
		    (builtin[i].raw && set_string(&host->raw, builtin[i].raw))) {
			host_table_free(table);
			return NULL;
		}
	}
	return table;
}

static bool name_valid(const char *name)
{
	if (!isalnum((unsigned char)name[0]))
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(".-_", *p))
			return false;
	return strlen(name) < 256;
}

/* A template is right when it makes a URL of a scheme that we can use. */
static int template_check(const char *name, const char *key, const char *template,
			  struct xcp_error *err)
{
	static const struct host_words stand_in = { "owner", "repo", "commit", "path" };
	static const char *const schemes[] = { "http", "https", "ssh", "file" };
	struct buf text = BUF_INIT;
	struct uri uri;
	bool known = false;
	int rc = host_expand(template, &stand_in, &text, err);

	if (rc) {
		xcp_error_prefix(err, "host \"%s\", %s", name, key);
		goto out;
	}
	if (!buf_str(&text)) {
		rc = xcp_error_set(err, -ENOMEM, "host \"%s\": out of memory", name);
		goto out;
	}
	rc = uri_parse(buf_str(&text), &uri);
	if (rc == 0) {
		for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
			known |= strcmp(uri.scheme, schemes[i]) == 0;
		uri_release(&uri);
	}
	if (!known)
		rc = xcp_error_set(err, -EINVAL,
				   "host \"%s\": %s is no http, https, ssh or file URL; write "
				   "something like https://%s/{owner}/{repo}.git",
				   name, key, name);
out:
	buf_release(&text);
	return rc;
}

static const struct key {
	const char *name;
	size_t field;
	bool is_template;
} keys[] = {
	{ "kind", offsetof(struct host, kind), false },
	{ "alias", offsetof(struct host, alias), false },
	{ "git", offsetof(struct host, git), true },
	{ "api", offsetof(struct host, api), true },
	{ "raw", offsetof(struct host, raw), true },
};

static const struct key *key_find(const char *name)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

int host_table_set(struct host_table *table, const char *name, const char *key, const char *value,
		   struct xcp_error *err)
{
	struct host *host;
	const struct key *known = key_find(key);

	if (!name_valid(name))
		return xcp_error_set(err, -EINVAL, "\"%s\" is no host name", name);
	if (!known)
		return xcp_error_set(err, -EINVAL,
				     "host \"%s\": unknown key \"%s\"; known are kind, git, api, "
				     "raw and alias",
				     name, key);
	if (known->is_template) {
		int rc = template_check(name, key, value, err);

		if (rc)
			return rc;
	} else if (!name_valid(value)) {
		return xcp_error_set(err, -EINVAL, "host \"%s\": %s must be one word", name, key);
	}

	host = find_by_name(table, name);
	if (!host)
		host = host_add(table, name);
	if (!host || set_string((char **)((char *)host + known->field), value))
		return xcp_error_set(err, -ENOMEM, "host \"%s\": out of memory", name);
	return 0;
}

const struct host *host_table_find(const struct host_table *table, const char *name)
{
	const struct host *host = find_by_name(table, name);

	for (size_t i = 0; !host && i < table->count; i++)
		if (table->v[i].alias && strcasecmp(table->v[i].alias, name) == 0)
			host = &table->v[i];
	return host;
}

/*
 * The value of the word [name, name+len), NULL for one that there is not. `*keep` are bytes to
 * leave alone.
 */
static const char *word_find(const struct host_words *words, const char *name, size_t len,
			     const char **keep)
{
	const struct {
		const char *name, *value, *keep;
	} known[] = {
		{ "owner", words->owner, "/~" }, /* groups within groups */
		{ "repo", words->repo, "~" },
		{ "commit", words->commit, "" },
		{ "path", words->path, "/~" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0) {
			*keep = known[i].keep;
			return known[i].value;
		}
	}
	return NULL;
}

int host_expand(const char *template, const struct host_words *words, struct buf *out,
		struct xcp_error *err)
{
	for (const char *p = template; *p;) {
		size_t plain = strcspn(p, "{");
		const char *end, *value, *keep;

		if (buf_add(out, p, plain))
			return xcp_error_set(err, -ENOMEM, "out of memory");
		p += plain;
		if (!*p)
			break;
		end = strchr(p, '}');
		value = end ? word_find(words, p + 1, (size_t)(end - p - 1), &keep) : NULL;
		if (!value)
			return xcp_error_set(err, -EINVAL,
					     "unknown word in template near \"%.20s\"; known are "
					     "{owner}, {repo}, {commit} and {path}",
					     p);
		if (uri_escape(out, value, keep))
			return xcp_error_set(err, -ENOMEM, "out of memory");
		p = end + 1;
	}
	return 0;
}
