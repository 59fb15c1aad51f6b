/*
 * source: from what a person wrote to where a repository is.
 *
 * The text is taken apart once, here; everything behind works with the fields of struct source. A
 * part that could be mistaken for an option by a program it is handed to (a host, user or path that
 * begins with "-") is refused. Apart from asking whether a local path exists, no I/O.
 */
#include "remote/source.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/uri.h"

#define TEXT_MAX 4096
#define REF_MAX 1024

/* What is being parsed, for the parts. */
struct parse {
	const struct host_table *hosts;
	struct source *out;
	struct xcp_error *err;
	char *ref;	 /* owned: "@REF" of the text; NULL */
	char *named;	 /* owned: the text for messages and `shown`: no user info */
	bool named_bare; /* "@REF" is not, or no longer, at the end of `named` */
};

static int no_memory(struct xcp_error *err)
{
	return xcp_error_set(err, -ENOMEM, "out of memory");
}

static int refuse(struct parse *parse, const char *why)
{
	return xcp_error_set(parse->err, -EINVAL, "cannot use source \"%s\": %s",
			     parse->named ? parse->named : "", why);
}

static char *buf_take_str(struct buf *buf)
{
	return buf_str(buf) ? (char *)buf_detach(buf, NULL) : NULL;
}

/* ---- pieces of text ---- */

static bool has_control(const char *text)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return true;
	return false;
}

static size_t strip_slashes(const char *text, size_t len)
{
	while (len > 0 && text[len - 1] == '/')
		len--;
	return len;
}

/*
 * Where "@REF" begins in the path of a URL: behind ".git", else in the last component, but not at
 * its very start. Returns the place of the "@", NULL when there is none.
 */
static const char *find_ref(const char *path)
{
	const char *at = strstr(path, ".git@");
	const char *last;

	if (at)
		return at + 4;
	last = strrchr(path, '/');
	last = last ? last + 1 : path;
	at = strchr(last, '@');
	return at == last ? NULL : at;
}

/* Cuts "@REF" at `at` (NULL: none) off `text`, which ends up in parse->ref. */
static int take_ref(struct parse *parse, char *text, const char *at)
{
	if (!at)
		return 0;
	parse->ref = strdup(at + 1);
	if (!parse->ref)
		return no_memory(parse->err);
	text[at - text] = '\0';
	return 0;
}

static bool ref_valid(const char *ref)
{
	if (!*ref || *ref == '-' || strlen(ref) > REF_MAX || has_control(ref))
		return false;
	if (ref[strlen(ref) - 1] == '/' || strstr(ref, "..") || strstr(ref, "@{"))
		return false;
	return !strpbrk(ref, " ~^:?*[\\");
}

/*
 * Percent-decodes; NULL for a broken escape or a decoded control character (*out_bad), or out of
 * memory.
 */
static char *decode(const char *text, bool *out_bad)
{
	char *out = malloc(strlen(text) + 1), *w = out;

	*out_bad = false;
	for (const char *p = text; out && *p; p++) {
		unsigned value = 0;

		if (*p != '%') {
			*w++ = *p;
			continue;
		}
		for (int i = 0; i < 2; i++) {
			int c = tolower((unsigned char)*++p);

			if (!isxdigit(c)) {
				*out_bad = true;
				free(out);
				return NULL;
			}
			value = value * 16 + (unsigned)(isdigit(c) ? c - '0' : c - 'a' + 10);
		}
		*w++ = (char)value;
		if (value < 0x20 || value == 0x7f) {
			*out_bad = true;
			free(out);
			return NULL;
		}
	}
	if (out)
		*w = '\0';
	return out;
}

/* A component of owner/repo. */
static bool component_valid(const char *text, size_t len)
{
	if (len == 0 || len > 255 || text[0] == '-')
		return false;
	if ((len == 1 && text[0] == '.') || (len == 2 && memcmp(text, "..", 2) == 0))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && !memchr("._-+~", text[i], 5))
			return false;
	return true;
}

/* The host part of an ssh address; an IPv6 literal without its brackets. */
static bool ssh_host_valid(const char *host)
{
	if (!*host || *host == '-')
		return false;
	for (const char *p = host; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(".-_:%", *p))
			return false;
	return true;
}

static bool ssh_user_valid(const char *user)
{
	if (!*user || *user == '-' || has_control(user))
		return false;
	return !strpbrk(user, " '\"`$\\;&|<>@");
}

/* ---- identity ---- */

static const char *default_port(const char *scheme)
{
	if (strcmp(scheme, "https") == 0)
		return "443";
	if (strcmp(scheme, "http") == 0)
		return "80";
	return "22";
}

/*
 * The host of the table that serves this URL in the way its kind does, NULL when that cannot be
 * said.
 */
static const struct host *forge_of(const struct parse *parse, const struct uri *uri)
{
	const struct host *host = parse->hosts ? host_table_find(parse->hosts, uri->host) : NULL;
	bool ssh = strcmp(uri->scheme, "ssh") == 0;

	if (!host || strcmp(host->name, uri->host) != 0 || strcmp(host->kind, "git") == 0)
		return NULL;
	if (uri->port && strcmp(uri->port, default_port(uri->scheme)) != 0)
		return NULL;
	if (ssh)
		return uri->user && strcmp(uri->user, "git") == 0 ? host : NULL;
	return strcmp(uri->scheme, "https") == 0 ? host : NULL;
}

static char *forge_identity(const struct host *host, const char *path)
{
	struct buf text = BUF_INIT;
	size_t len = strip_slashes(path, strlen(path));
	char *out = NULL;

	if (len > 2 && memcmp(path, "/~/", 3) == 0) { /* relative to the home of "git" */
		path += 2;
		len -= 2;
	}
	while (*path == '/') {
		path++;
		len = len ? len - 1 : 0;
	}
	if (len > 4 && memcmp(path + len - 4, ".git", 4) == 0)
		len -= 4;
	if (buf_addf(&text, "https://%s/%.*s", host->name, (int)len, path) == 0)
		out = buf_take_str(&text);
	if (out && strcmp(host->kind, "github") == 0)
		for (char *p = out; *p; p++)
			*p = (char)tolower((unsigned char)*p);
	buf_release(&text);
	return out;
}

/*
 * On hosts that we know, r, r.git and git@...:r are one repository; elsewhere only what must be the
 * same is made the same: the case of the host, the port that the scheme implies, trailing slashes.
 */
static char *url_identity(const struct parse *parse, const struct uri *uri)
{
	const struct host *forge = forge_of(parse, uri);
	size_t path_len = strip_slashes(uri->path, strlen(uri->path));
	bool v6 = strchr(uri->host, ':');
	bool port = uri->port && strcmp(uri->port, default_port(uri->scheme)) != 0;
	bool user = strcmp(uri->scheme, "ssh") == 0 && uri->user;
	struct buf text = BUF_INIT;
	char *out = NULL;

	if (forge)
		return forge_identity(forge, uri->path);
	if (buf_addf(&text, "%s://%s%s%s%s%s%s%s%.*s", uri->scheme, user ? uri->user : "",
		     user ? "@" : "", v6 ? "[" : "", uri->host, v6 ? "]" : "", port ? ":" : "",
		     port ? uri->port : "", (int)path_len, uri->path) == 0)
		out = buf_take_str(&text);
	buf_release(&text);
	return out;
}

/* ---- hosts of the table ---- */

static bool names_valid(const char *text, size_t len)
{
	for (size_t at = 0; at <= len;) {
		const char *slash = memchr(text + at, '/', len - at);
		size_t end = slash ? (size_t)(slash - text) : len;

		if (!component_valid(text + at, end - at))
			return false;
		at = end + 1;
	}
	return true;
}

/* Whether an owner may be a group within a group there. */
static bool host_has_groups(const struct host *host)
{
	static const char *const flat[] = { "github",	 "gitea",	"forgejo",
					    "bitbucket", "huggingface", NULL };
	const char *const *kind = flat;

	while (*kind && strcmp(*kind, host->kind) != 0)
		kind++;
	return !*kind;
}

/* NULL stays NULL. */
static int copy_text(const char *text, char **out)
{
	*out = text ? strdup(text) : NULL;
	return text && !*out ? -ENOMEM : 0;
}

/* Takes the repository for one of this host. */
static int take_host(struct parse *parse, const struct host_match *match)
{
	struct source *out = parse->out;
	const struct host *host = match->host;

	out->owner = strndup(match->owner, match->owner_len);
	out->repo = strndup(match->repo, match->repo_len);
	out->insecure = host->insecure;
	if (!out->owner || !out->repo || copy_text(host->name, &out->host_name) ||
	    copy_text(host->kind, &out->host_kind) || copy_text(host->raw, &out->raw) ||
	    copy_text(host->api, &out->api) ||
	    copy_text(host->token_command, &out->token_command) ||
	    copy_text(host->token_file, &out->token_file))
		return no_memory(parse->err);
	return 0;
}

/* A URL may be what a host's template makes of owner/repo; if not, it is a URL all the same. */
static int recognise_host(struct parse *parse, const struct uri *uri)
{
	struct host_match match;

	if (!parse->hosts || !host_table_match(parse->hosts, uri, &match))
		return 0;
	if (!names_valid(match.owner, match.owner_len) ||
	    !component_valid(match.repo, match.repo_len) ||
	    (memchr(match.owner, '/', match.owner_len) && !host_has_groups(match.host)))
		return 0;
	return take_host(parse, &match);
}

/* ---- URLs ---- */

static char *take(char **field)
{
	char *value = *field;

	*field = NULL;
	return value;
}

static char *format_url(const struct uri *uri)
{
	struct buf text = BUF_INIT;
	char *url = uri_format(uri, &text) == 0 ? buf_take_str(&text) : NULL;

	if (url)
		url[strip_slashes(url, strlen(url))] = '\0';
	buf_release(&text);
	return url;
}

/* The parts of a URL that its kind has nothing against. */
static int take_parts(struct parse *parse, struct uri *uri)
{
	struct source *out = parse->out;

	out->url = format_url(uri);
	out->identity = url_identity(parse, uri);
	out->user = take(&uri->user);
	out->password = take(&uri->password);
	out->host = take(&uri->host);
	out->port = take(&uri->port);
	return out->url && out->identity ? 0 : no_memory(parse->err);
}

static int fill_http(struct parse *parse, struct uri *uri)
{
	int rc = 0;

	parse->out->kind = SOURCE_HTTP;
	if (strip_slashes(uri->path, strlen(uri->path)) == 0)
		return refuse(parse, "the URL names no repository");
	if (!parse->out->host_name)
		rc = recognise_host(parse, uri);
	return rc ? rc : take_parts(parse, uri);
}

static int fill_ssh(struct parse *parse, struct uri *uri)
{
	struct source *out = parse->out;
	bool bad;
	char *path;

	out->kind = SOURCE_SSH;
	if (!ssh_host_valid(uri->host))
		return refuse(parse, "that is no host name for ssh");
	if (uri->user && !ssh_user_valid(uri->user))
		return refuse(parse, "that is no user name for ssh");
	path = decode(uri->path, &bad);
	if (!path)
		return bad ? refuse(parse, "broken %-escape in the path") : no_memory(parse->err);
	path[strip_slashes(path, strlen(path))] = '\0';
	if (path[0] == '/' && path[1] == '~')
		memmove(path, path + 1, strlen(path));
	if (strncmp(path, "~/", 2) == 0)
		memmove(path, path + 2, strlen(path + 2) + 1);
	out->path = path;
	if (!*path || strcmp(path, "~") == 0)
		return refuse(parse, "the address names no repository");
	if (*path == '-')
		return refuse(parse, "the path begins with \"-\"");
	return take_parts(parse, uri);
}

/* A whole URL, its ref cut off already. */
static int fill_url(struct parse *parse, const char *text)
{
	struct uri uri;
	int rc = uri_parse(text, &uri);

	if (rc == -ENOMEM)
		return no_memory(parse->err);
	if (rc)
		return refuse(parse, "that is not a well-formed URL");
	if (strpbrk(uri.path, "?#"))
		rc = refuse(parse, "a query or fragment cannot be part of a repository's URL");
	else if (strcmp(uri.scheme, "http") == 0 || strcmp(uri.scheme, "https") == 0)
		rc = uri.host && *uri.host ? fill_http(parse, &uri) :
					     refuse(parse, "the URL names no host");
	else if (strcmp(uri.scheme, "ssh") == 0)
		rc = uri.host && *uri.host ? fill_ssh(parse, &uri) :
					     refuse(parse, "the URL names no host");
	else
		rc = refuse(parse, "unknown scheme; known are https, http, ssh and file");
	uri_release(&uri);
	return rc;
}

static int parse_url(struct parse *parse, char *text)
{
	char *path = strstr(text, "://") + 3;
	int rc;

	path += strcspn(path, "/");
	rc = take_ref(parse, text, find_ref(path));
	return rc ? rc : fill_url(parse, text);
}

/* ---- [user@]host:path ---- */

static int parse_scp(struct parse *parse, char *text, char *colon)
{
	struct buf url = BUF_INIT;
	char *at, *host = text, *path = colon + 1;
	int rc;

	*colon = '\0';
	at = strrchr(text, '@');
	if (at) {
		*at = '\0';
		host = at + 1;
		if (!ssh_user_valid(text))
			return refuse(parse, "that is no user name for ssh");
	}
	if (*host == '[' && colon[-1] == ']') {
		host++;
		colon[-1] = '\0';
	}
	if (!ssh_host_valid(host))
		return refuse(parse, "that is no host name for ssh");
	if (*path == '-')
		return refuse(parse, "the path begins with \"-\"");
	if (*path == ':')
		return refuse(parse, "remote helpers (\"name::\") are not for a mount");
	rc = take_ref(parse, path, find_ref(path));
	if (rc)
		return rc;
	if (memchr(path, '@', strcspn(path, "/")))
		return refuse(parse, "it looks like a URL with user info but without https://");
	if (!*path)
		return refuse(parse, "the address names no repository");

	rc = buf_add_str(&url, "ssh://");
	if (rc == 0 && at) {
		rc = uri_escape(&url, text, "");
		rc = rc ? rc : buf_add_str(&url, "@");
	}
	if (rc == 0)
		rc = buf_addf(&url, strchr(host, ':') ? "[%s]%s" : "%s%s", host,
			      *path == '/' ? "" :
			      *path == '~' ? "/" :
					     "/~/");
	rc = rc ? rc : uri_escape(&url, path, "/~:@");
	if (rc || !buf_str(&url))
		rc = no_memory(parse->err);
	else
		rc = fill_url(parse, buf_str(&url));
	buf_release(&url);
	return rc;
}

/* ---- paths ---- */

/* As upload-pack looks: "repo" also finds "repo.git". NULL when there is neither. */
static char *local_find(const char *path)
{
	char *found = realpath(path, NULL);
	struct buf text = BUF_INIT;

	if (!found && buf_addf(&text, "%s.git", path) == 0 && buf_str(&text))
		found = realpath(buf_str(&text), NULL);
	buf_release(&text);
	return found;
}

/*
 * The longest existing path in front of an "@" (or the whole); cuts the ref off. Owned; NULL when
 * nothing exists.
 */
static char *local_split(char *text, const char **out_ref)
{
	char *found = local_find(text);

	*out_ref = NULL;
	for (size_t i = strlen(text); !found && i > 1; i--) {
		if (text[i - 1] != '@' || text[i - 2] == '/')
			continue;
		text[i - 1] = '\0';
		found = local_find(text);
		if (found)
			*out_ref = text + i;
		else
			text[i - 1] = '@';
	}
	return found;
}

static char *local_absolute(const char *text)
{
	struct buf out = BUF_INIT;
	char *cwd = NULL, *path = NULL;

	if (*text != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return NULL;
	}
	if (buf_addf(&out, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", text) == 0)
		path = buf_take_str(&out);
	free(cwd);
	buf_release(&out);
	if (path && strip_slashes(path, strlen(path)))
		path[strip_slashes(path, strlen(path))] = '\0';
	return path;
}

/* From here on the source is called by its path, which has no ref at its end. */
static int rename_bare(struct parse *parse, const char *scheme, const char *path)
{
	struct buf text = BUF_INIT;
	char *named = NULL;

	if (buf_addf(&text, "%s%s", scheme, path) == 0)
		named = buf_take_str(&text);
	buf_release(&text);
	if (!named)
		return no_memory(parse->err);
	free(parse->named);
	parse->named = named;
	parse->named_bare = true;
	return 0;
}

static int parse_local(struct parse *parse, char *text)
{
	struct source *out = parse->out;
	const char *ref;
	char *found = local_split(text, &ref);
	int rc = 0;

	out->kind = SOURCE_LOCAL;
	if (ref) {
		parse->ref = strdup(ref);
		rc = parse->ref ? 0 : no_memory(parse->err);
	} else if (!found) {
		rc = take_ref(parse, text, find_ref(text));
	}
	out->url = found ? found : local_absolute(text);
	if (rc)
		return rc;
	out->path = out->url ? strdup(out->url) : NULL;
	out->identity = out->url ? strdup(out->url) : NULL;
	if (!out->path || !out->identity)
		return no_memory(parse->err);
	/* A relative path says nothing in a mount table. */
	return *text == '/' ? 0 : rename_bare(parse, "", out->path);
}

static int parse_file_url(struct parse *parse, const char *text)
{
	const char *path = text + strlen("file://");
	bool bad;
	char *decoded;
	int rc;

	if (strncmp(path, "localhost/", 10) == 0)
		path += 9;
	if (*path != '/')
		return refuse(parse, "file:// URLs are for this machine; write file:///path");
	decoded = decode(path, &bad);
	if (!decoded)
		return bad ? refuse(parse, "broken %-escape in the path") : no_memory(parse->err);
	rc = parse_local(parse, decoded);
	if (rc == 0)
		rc = rename_bare(parse, "file://", decoded);
	free(decoded);
	return rc;
}

/* ---- owner/repo ---- */

/* The URL that a template made; what the person wrote stays the name. */
static int fill_expanded(struct parse *parse, const char *url)
{
	char *named;
	int rc;

	if (strncmp(url, "file://", 7) != 0)
		return fill_url(parse, url);
	named = strdup(parse->named);
	if (!named)
		return no_memory(parse->err);
	rc = parse_file_url(parse, url);
	free(parse->named);
	parse->named = named;
	parse->named_bare = false;
	return rc;
}

static int expand_named(struct parse *parse, const struct host *host, struct buf *out)
{
	const struct host_words words = { .owner = parse->out->owner, .repo = parse->out->repo };
	int rc = host_expand(host->git, &words, out, parse->err);

	if (rc)
		return rc;
	return buf_str(out) ? 0 : no_memory(parse->err);
}

static int parse_named(struct parse *parse, const struct host *host, char *text)
{
	struct host_match match = { .host = host };
	struct buf url = BUF_INIT;
	char *slash = strchr(text, '/'), *last;
	int rc;

	rc = slash ? take_ref(parse, text, strchr(slash, '@')) : 0;
	if (rc)
		return rc;
	text[strip_slashes(text, strlen(text))] = '\0';
	last = strrchr(text, '/');
	if (!last)
		return refuse(parse, "write owner/repo, a URL, or a path that begins with / or .");
	if (last != slash && !host_has_groups(host))
		return refuse(parse,
			      "it has too many components for owner/repo; a path on this machine "
			      "begins with / or .");
	if (strlen(last) > 5 && strcmp(last + strlen(last) - 4, ".git") == 0)
		last[strlen(last) - 4] = '\0';
	if (!names_valid(text, strlen(text)))
		return refuse(parse, "it is not of the form owner/repo");
	if (!host->git)
		return refuse(parse, "the configuration has no git URL for this host");

	match.owner = text;
	match.owner_len = (size_t)(last - text);
	match.repo = last + 1;
	match.repo_len = strlen(last + 1);
	rc = take_host(parse, &match);
	rc = rc ? rc : expand_named(parse, host, &url);
	rc = rc ? rc : fill_expanded(parse, buf_str(&url));
	buf_release(&url);
	return rc;
}

/* ---- the whole ---- */

static bool is_local(const char *text)
{
	return *text == '/' || strcmp(text, ".") == 0 || strcmp(text, "..") == 0 ||
	       strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0 ||
	       strncmp(text, ".@", 2) == 0 || strncmp(text, "..@", 3) == 0;
}

/* scheme://, whatever the scheme. */
static bool is_url(const char *text)
{
	size_t len = strcspn(text, ":/");

	return len > 0 && strncmp(text + len, "://", 3) == 0;
}

static int parse_text(struct parse *parse, char *text)
{
	char *colon = strchr(text, ':');
	const struct host *host;

	if (is_local(text))
		return parse_local(parse, text);
	if (is_url(text)) {
		if (strncasecmp(text, "file://", 7) == 0)
			return parse_file_url(parse, text);
		return parse_url(parse, text);
	}
	if (*text == '[' || strstr(text, "@[")) {
		char *bracket = strstr(text, "]:");

		if (bracket)
			colon = bracket + 1;
	}
	if (colon && strcspn(text, "/") > (size_t)(colon - text)) {
		*colon = '\0';
		host = parse->hosts ? host_table_find(parse->hosts, text) : NULL;
		*colon = ':';
		if (host)
			return parse_named(parse, host, colon + 1);
		return parse_scp(parse, text, colon);
	}
	host = parse->hosts ? host_table_find(parse->hosts, "github.com") : NULL;
	if (!host)
		return refuse(parse, "no host is known for owner/repo");
	return parse_named(parse, host, text);
}

/* What messages call it before its parts are known: nothing that may be user info. */
static char *name_for_messages(const char *text)
{
	size_t len = strlen(text) + 1, limit;
	char *out = malloc(len);
	char *at = NULL;

	if (!out)
		return NULL;
	uri_redact(text, out, len);
	if (is_url(text) || is_local(text))
		return out;
	/* user@host:path, or credentials of a URL without its scheme */
	limit = strchr(out, '/') ? strcspn(out, "/") : strcspn(out, ":");
	if (limit > strcspn(out, ":") || out[limit] == ':')
		at = memrchr(out, '@', limit);
	if (at)
		memmove(out, at + 1, strlen(at + 1) + 1);
	return out;
}

/*
 * ssh's user is part of where the repository is, and no secret; of other kinds nothing in front
 * of the "@" is shown.
 */
static int add_shown_user(const struct source *source, const char **named, size_t *len,
			  struct buf *text)
{
	static const char scheme[] = "ssh://";
	size_t scheme_len = strncmp(*named, scheme, strlen(scheme)) ? 0 : strlen(scheme);
	int ret;

	if (source->kind != SOURCE_SSH || !source->user || source->host_name)
		return 0;
	ret = buf_add(text, *named, scheme_len);
	*named += scheme_len;
	*len -= scheme_len;
	return ret ? ret : buf_addf(text, "%s@", source->user);
}

/* Takes "@ref" off the end, if it is there. */
static bool cut_ref(const char *text, size_t *len, const char *ref)
{
	size_t ref_len = strlen(ref);

	if (*len <= ref_len || text[*len - ref_len - 1] != '@' ||
	    strcmp(text + *len - ref_len, ref) != 0)
		return false;
	*len -= ref_len + 1;
	return true;
}

/* A URL's path may hold another one, with user info: that of a mirror, say. */
static void hide_inner(char *text)
{
	char *rest = is_url(text) ? strstr(text, "://") + 3 : text;

	uri_redact(rest, rest, strlen(rest) + 1);
}

static int hide_secrets(struct source *out)
{
	assert(out->url && out->shown && out->identity);
	if (out->kind == SOURCE_HTTP)
		out->address = strdup(out->url);
	hide_inner(out->url);
	hide_inner(out->shown);
	if (out->kind != SOURCE_LOCAL)
		hide_inner(out->identity);
	return out->kind == SOURCE_HTTP && !out->address ? -ENOMEM : 0;
}

/* `shown` is the text without secrets and ref, and then the ref, wherever that came from. */
static int finish(struct parse *parse, const char *ref)
{
	struct source *out = parse->out;
	const char *named = parse->named;
	struct buf text = BUF_INIT;
	size_t len;

	if (parse->ref && ref)
		return refuse(parse, "a ref is given twice, behind \"@\" and by --ref");
	out->ref = parse->ref ? take(&parse->ref) : ref ? strdup(ref) : NULL;
	if (ref && !out->ref)
		return no_memory(parse->err);
	if (out->ref && !ref_valid(out->ref))
		return refuse(parse,
			      *out->ref ? "its ref is not the name of a branch or tag, nor a full "
					  "commit id" :
					  "the ref behind \"@\" is empty");
	len = strlen(named);
	if (out->ref && !ref && !parse->named_bare && out->url && !cut_ref(named, &len, out->ref)) {
		named = out->url; /* odd text, of which redaction took the ref as well */
		len = strlen(named);
	}
	if (add_shown_user(out, &named, &len, &text) == 0 && buf_add(&text, named, len) == 0 &&
	    (!out->ref || buf_addf(&text, "@%s", out->ref) == 0))
		out->shown = buf_take_str(&text);
	buf_release(&text);
	return out->shown && hide_secrets(out) == 0 ? 0 : no_memory(parse->err);
}

int source_parse(const char *text, const char *ref, const struct host_table *hosts,
		 struct source *out, struct xcp_error *err)
{
	struct source source = { 0 };
	struct parse parse = { .hosts = hosts, .out = &source, .err = err };
	char *copy;
	int rc;

	if (!*text)
		return xcp_error_set(err, -EINVAL, "the source is empty");
	if (strlen(text) > TEXT_MAX)
		return xcp_error_set(err, -EINVAL, "the source is longer than %d bytes", TEXT_MAX);
	if (has_control(text))
		return xcp_error_set(err, -EINVAL, "the source holds a control character");
	if (*text == '-')
		return xcp_error_set(err, -EINVAL, "the source begins with \"-\"");

	parse.named = name_for_messages(text);
	copy = strdup(text);
	rc = parse.named && copy ? parse_text(&parse, copy) : no_memory(err);
	if (rc == 0)
		rc = finish(&parse, ref);
	if (copy) {
		secret_wipe(copy, strlen(text));
		free(copy);
	}
	free(parse.named);
	free(parse.ref);
	if (rc) {
		source_release(&source);
		return rc;
	}
	*out = source;
	return 0;
}

void source_release(struct source *source)
{
	if (source->password)
		secret_wipe(source->password, strlen(source->password));
	if (source->user)
		secret_wipe(source->user, strlen(source->user));
	if (source->address)
		secret_wipe(source->address, strlen(source->address));
	free(source->shown);
	free(source->url);
	free(source->address);
	free(source->identity);
	free(source->user);
	free(source->password);
	free(source->host);
	free(source->port);
	free(source->path);
	free(source->ref);
	free(source->host_name);
	free(source->owner);
	free(source->repo);
	free(source->raw);
	free(source->host_kind);
	free(source->api);
	free(source->token_command);
	free(source->token_file);
	*source = (struct source){ 0 };
}
