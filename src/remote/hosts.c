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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/flag.h"
#include "base/uri.h"
#include "remote/origin.h"

struct host_table {
	struct host *v; /* owned */
	size_t count, cap;
};

/* What an installation of a kind has, behind https://NAME. */
static const struct {
	const char *kind, *git, *api, *raw;
} kinds[] = {
	{ "github", "/{owner}/{repo}.git", "/api/v3/repos/{owner}/{repo}",
	  "/raw/{owner}/{repo}/{commit}/{path}" },
	{ "gitlab", "/{owner}/{repo}.git", "/api/v4/projects/{project}", NULL },
	{ "gitea", "/{owner}/{repo}.git", "/api/v1/repos/{owner}/{repo}",
	  "/{owner}/{repo}/raw/commit/{commit}/{path}" },
	{ "forgejo", "/{owner}/{repo}.git", "/api/v1/repos/{owner}/{repo}",
	  "/{owner}/{repo}/raw/commit/{commit}/{path}" },
	{ "bitbucket", "/{owner}/{repo}.git", NULL, NULL },
	{ "huggingface", "/{owner}/{repo}", NULL, "/{owner}/{repo}/resolve/{commit}/{path}" },
	{ "azure", "/{owner}/_git/{repo}", "/{owner}/_apis/git/repositories/{repo}", NULL },
};

/* Without `git` it has what its kind has. */
static const struct {
	const char *name, *alias, *kind, *git, *api, *raw;
} builtin[] = {
	{ "github.com", "github", "github", "https://github.com/{owner}/{repo}.git",
	  "https://api.github.com/repos/{owner}/{repo}",
	  "https://raw.githubusercontent.com/{owner}/{repo}/{commit}/{path}" },
	{ "gitlab.com", "gitlab", "gitlab", NULL, NULL, NULL },
	{ "codeberg.org", "codeberg", "forgejo", NULL, NULL, NULL },
	{ "gitea.com", "gitea", "gitea", NULL, NULL, NULL },
	{ "bitbucket.org", "bitbucket", "bitbucket", "https://bitbucket.org/{owner}/{repo}.git",
	  "https://api.bitbucket.org/2.0/repositories/{owner}/{repo}", NULL },
	{ "dev.azure.com", "azure", "azure", NULL, NULL, NULL },
	/* Before the models, of which these would be some whose owner has two parts. */
	{ "datasets.huggingface.co", "hf-datasets", "huggingface",
	  "https://huggingface.co/datasets/{owner}/{repo}", NULL,
	  "https://huggingface.co/datasets/{owner}/{repo}/resolve/{commit}/{path}" },
	{ "spaces.huggingface.co", "hf-spaces", "huggingface",
	  "https://huggingface.co/spaces/{owner}/{repo}", NULL,
	  "https://huggingface.co/spaces/{owner}/{repo}/resolve/{commit}/{path}" },
	{ "huggingface.co", "hf", "huggingface", NULL, NULL, NULL },
};

static void host_release(struct host *host)
{
	free(host->name);
	free(host->alias);
	free(host->kind);
	free(host->git);
	free(host->api);
	free(host->raw);
	free(host->token_command);
	free(host->token_file);
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
		    (builtin[i].git && set_string(&host->git, builtin[i].git)) ||
		    (builtin[i].api && set_string(&host->api, builtin[i].api)) ||
		    (builtin[i].raw && set_string(&host->raw, builtin[i].raw))) {
			host_table_free(table);
			return NULL;
		}
	}
	if (table && host_table_finish(table)) {
		host_table_free(table);
		return NULL;
	}
	return table;
}

/* https://NAME and what is behind it, where there is neither yet. */
static int set_default(const struct host *host, char **field, const char *behind)
{
	if (*field || !behind || asprintf(field, "https://%s%s", host->name, behind) >= 0)
		return 0;
	*field = NULL;
	return -ENOMEM;
}

/* The datasets and spaces of Hugging Face are at the same place, and take the same token. */
static int share_token(struct host_table *table, const char *name)
{
	const struct host *from = find_by_name(table, "huggingface.co");
	struct host *to = find_by_name(table, name);
	int rc = 0;

	if (!from || !to || to->token_command || to->token_file)
		return 0;
	if (from->token_command)
		rc = set_string(&to->token_command, from->token_command);
	if (rc == 0 && from->token_file)
		rc = set_string(&to->token_file, from->token_file);
	return rc;
}

int host_table_finish(struct host_table *table)
{
	int rc = share_token(table, "datasets.huggingface.co");

	rc = rc ? rc : share_token(table, "spaces.huggingface.co");

	for (size_t i = 0; i < table->count && rc == 0; i++) {
		struct host *host = &table->v[i];
		size_t kind = 0;

		while (kind < sizeof(kinds) / sizeof(kinds[0]) &&
		       strcmp(kinds[kind].kind, host->kind) != 0)
			kind++;
		if (host->git || kind == sizeof(kinds) / sizeof(kinds[0]))
			continue;
		rc = set_default(host, &host->git, kinds[kind].git);
		rc = rc ? rc : set_default(host, &host->api, kinds[kind].api);
		rc = rc ? rc : set_default(host, &host->raw, kinds[kind].raw);
	}
	return rc;
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

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words) != 0)
		words++;
	return *words;
}

/* Whether the URL that a template makes is of a scheme that we can use. */
static int template_check_scheme(const char *url, bool web_only)
{
	static const char *const web[] = { "http", "https", NULL };
	static const char *const all[] = { "http", "https", "ssh", "file", NULL };
	struct uri uri;
	bool known;

	if (uri_parse(url, &uri))
		return -EINVAL;
	known = is_one_of(uri.scheme, web_only ? web : all);
	uri_release(&uri);
	return known ? 0 : -EINVAL;
}

/* A template is checked by what it makes of stand-in words. */
static int template_check(const char *name, const char *key, const char *template,
			  struct xcp_error *err)
{
	static const struct host_words stand_in = { "owner", "repo", "commit", "path" };
	bool is_git = strcmp(key, "git") == 0;
	struct buf text = BUF_INIT;
	int rc = host_expand(template, &stand_in, &text, err);

	if (rc)
		xcp_error_prefix(err, "host \"%s\", %s", name, key);
	else if (!buf_str(&text))
		rc = xcp_error_set(err, -ENOMEM, "host \"%s\": out of memory", name);
	else if (template_check_scheme(buf_str(&text), !is_git))
		rc = xcp_error_set(err, -EINVAL,
				   "host \"%s\": %s is no http%s URL; write something like "
				   "https://%s/{owner}/{repo}.git",
				   name, key, is_git ? ", https, ssh or file" : " or https", name);
	buf_release(&text);
	return rc;
}

/* ---- keys ---- */

static int set_word(struct host *host, size_t field, const char *value)
{
	return set_string((char **)((char *)host + field), value);
}

static int set_flag(struct host *host, size_t field, const char *value)
{
	return flag_parse(value, (bool *)((char *)host + field));
}

static int check_word(const char *name, const char *key, const char *value, struct xcp_error *err)
{
	if (name_valid(value))
		return 0;
	return xcp_error_set(err, -EINVAL, "host \"%s\": %s must be one word", name, key);
}

/* What it makes must not be the same for two files, or for two versions of one. */
static int check_raw(const char *name, const char *key, const char *value, struct xcp_error *err)
{
	if (!strstr(value, "{commit}") || !strstr(value, "{path}"))
		return xcp_error_set(err, -EINVAL, "host \"%s\": %s names no {commit} or no {path}",
				     name, key);
	return template_check(name, key, value, err);
}

static int check_text(const char *name, const char *key, const char *value, struct xcp_error *err)
{
	if (*value)
		return 0;
	return xcp_error_set(err, -EINVAL, "host \"%s\": %s is empty", name, key);
}

/* One that is the same wherever the program was started. */
static int check_file(const char *name, const char *key, const char *value, struct xcp_error *err)
{
	if (*value == '/' || strncmp(value, "~/", 2) == 0)
		return 0;
	return xcp_error_set(err, -EINVAL, "host \"%s\": %s must begin with \"/\" or \"~/\"", name,
			     key);
}

static int set_file(struct host *host, size_t field, const char *value)
{
	const char *home = getenv("HOME");
	char *path;
	int rc;

	if (*value != '~' || !home)
		return set_word(host, field, value);
	if (asprintf(&path, "%s%s", home, value + 1) < 0)
		return -ENOMEM;
	rc = set_word(host, field, path);
	free(path);
	return rc;
}

static int check_flag(const char *name, const char *key, const char *value, struct xcp_error *err)
{
	bool flag;

	if (flag_parse(value, &flag) == 0)
		return 0;
	return xcp_error_set(err, -EINVAL, "host \"%s\": %s is \"%s\"; it can be true or false",
			     name, key, value);
}

static const struct key {
	const char *name;
	size_t field;
	int (*check)(const char *name, const char *key, const char *value, struct xcp_error *err);
	int (*set)(struct host *host, size_t field, const char *value);
} keys[] = {
	{ "kind", offsetof(struct host, kind), check_word, set_word },
	{ "alias", offsetof(struct host, alias), check_word, set_word },
	{ "git", offsetof(struct host, git), template_check, set_word },
	{ "api", offsetof(struct host, api), template_check, set_word },
	{ "raw", offsetof(struct host, raw), check_raw, set_word },
	{ "insecure", offsetof(struct host, insecure), check_flag, set_flag },
	{ "token-command", offsetof(struct host, token_command), check_text, set_word },
	{ "token-file", offsetof(struct host, token_file), check_file, set_file },
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
	int rc;

	if (!name_valid(name))
		return xcp_error_set(err, -EINVAL, "\"%s\" is no host name", name);
	if (!known)
		return xcp_error_set(err, -EINVAL,
				     "host \"%s\": unknown key \"%s\"; known are kind, git, api, "
				     "raw, alias, insecure, token-command and token-file",
				     name, key);
	rc = known->check(name, key, value, err);
	if (rc)
		return rc;
	host = find_by_name(table, name);
	if (!host)
		host = host_add(table, name);
	if (!host || known->set(host, known->field, value))
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

/* ---- from a URL back to owner and repository ---- */

/* The text, without `end` behind it where that is there. */
static bool cut_end(const char *text, size_t *len, const char *end)
{
	size_t end_len = strlen(end);

	if (*len < end_len || memcmp(text + *len - end_len, end, end_len) != 0)
		return false;
	*len -= end_len;
	return true;
}

/* Owner and repository, parted by the last `between`: there are groups within groups. */
static bool split_names(const char *text, size_t len, const char *between, size_t between_len,
			struct host_match *out)
{
	for (size_t at = len; at-- > 0;) {
		if (len - at < between_len || memcmp(text + at, between, between_len) != 0)
			continue;
		out->owner = text;
		out->owner_len = at;
		out->repo = text + at + between_len;
		out->repo_len = len - at - between_len;
		return out->owner_len > 0 && out->repo_len > 0;
	}
	return false;
}

/* `base` is the URL in front of {owner}. */
static bool match_behind(const struct uri *base, const char *between, const struct uri *uri,
			 struct host_match *out)
{
	const char *repo = strstr(between, "{repo}");
	size_t base_len = strlen(base->path), len = strlen(uri->path);
	const char *end = repo + strlen("{repo}");

	if (!origin_equal(base, uri) || strncmp(uri->path, base->path, base_len) != 0)
		return false;
	len -= base_len;
	while (len > 0 && uri->path[base_len + len - 1] == '/')
		len--;
	if (!cut_end(uri->path + base_len, &len, *end ? end : ".git") && *end &&
	    strcmp(end, ".git") != 0)
		return false;
	return split_names(uri->path + base_len, len, between, (size_t)(repo - between), out);
}

static bool host_match(const struct host *host, const struct uri *uri, struct host_match *out)
{
	const char *owner = host->git ? strstr(host->git, "{owner}") : NULL;
	const char *between = owner ? owner + strlen("{owner}") : NULL;
	struct uri base;
	char *prefix;
	bool found;

	/* Nothing between them would say where one ends. */
	if (!between || *between == '{' || !strstr(between, "{repo}"))
		return false;
	prefix = strndup(host->git, (size_t)(owner - host->git));
	found = prefix && uri_parse(prefix, &base) == 0;
	free(prefix);
	if (!found)
		return false;
	found = match_behind(&base, between, uri, out);
	uri_release(&base);
	return found;
}

bool host_table_match(const struct host_table *table, const struct uri *uri, struct host_match *out)
{
	for (size_t i = 0; i < table->count; i++) {
		struct host_match match = { .host = &table->v[i] };

		if (host_match(match.host, uri, &match)) {
			*out = match;
			return true;
		}
	}
	return false;
}

/* ---- templates ---- */

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
		{ "owner", words->owner, "/~" },			/* groups within groups */
		{ "repo", words->repo, "~" },	 { "project", "", "" }, /* both: add_project() */
		{ "commit", words->commit, "" }, { "path", words->path, "/~" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0) {
			*keep = known[i].keep;
			return known[i].value;
		}
	}
	return NULL;
}

/* owner/repo as one word, as GitLab names a repository. */
static int add_project(const struct host_words *words, struct buf *out)
{
	return uri_escape(out, words->owner, "~") || buf_add_str(out, "%2F") ||
			       uri_escape(out, words->repo, "~") ?
		       -ENOMEM :
		       0;
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
					     "{owner}, {repo}, {project}, {commit} and {path}",
					     p);
		if (*value ? uri_escape(out, value, keep) : add_project(words, out))
			return xcp_error_set(err, -ENOMEM, "out of memory");
		p = end + 1;
	}
	return 0;
}
