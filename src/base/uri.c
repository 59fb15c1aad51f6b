/*
 * uri: splitting, putting together, redacting and escaping. It knows no schemes and judges no
 * host names: whoever hands a part to a command or a server checks that part.
 */
#include "base/uri.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

void secret_wipe(void *data, size_t len)
{
	if (data)
		explicit_bzero(data, len);
}

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	digit = (char)(digit | 0x20);
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The byte behind a '%', -1 when these are no two hex digits. Looks at nothing behind a NUL. */
static int percent_value(const char *digits)
{
	int high = hex_value(digits[0]);
	int low = high < 0 ? -1 : hex_value(digits[1]);

	return low < 0 ? -1 : high * 16 + low;
}

/* No control characters, and every '%' is followed by two hex digits. */
static bool well_formed(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 32 || c == 127)
			return false;
		if (c == '%' && percent_value(text + 1) < 0)
			return false;
	}
	return true;
}

static size_t scheme_len(const char *text)
{
	size_t len = 0;

	if (!isalpha((unsigned char)text[0]))
		return 0;
	while (isalnum((unsigned char)text[len]) || (text[len] && strchr("+-.", text[len])))
		len++;
	return len;
}

static int copy_lower(const char *text, size_t len, char **out)
{
	char *copy = strndup(text, len);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	*out = copy;
	return 0;
}

/* -EINVAL for a %00: what follows it would be lost in a C string. */
static int copy_decoded(const char *text, size_t len, char **out)
{
	char *copy = malloc(len + 1), *to = copy;

	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		int value = (unsigned char)text[i];

		if (value == '%') {
			value = i + 2 < len ? percent_value(text + i + 1) : -1;
			i += 2;
		}
		if (value <= 0) {
			secret_wipe(copy, len + 1);
			free(copy);
			return -EINVAL;
		}
		*to++ = (char)value;
	}
	*to = '\0';
	*out = copy;
	return 0;
}

static int parse_user_info(const char *text, size_t len, struct uri *out)
{
	const char *colon = memchr(text, ':', len);
	size_t user_len = colon ? (size_t)(colon - text) : len;
	int rc = copy_decoded(text, user_len, &out->user);

	if (rc || !colon)
		return rc;
	return copy_decoded(colon + 1, len - user_len - 1, &out->password);
}

static bool port_valid(const char *text, size_t len)
{
	unsigned value = 0;

	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)text[i]))
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	return value > 0 && value <= 65535;
}

/* What RFC 3986 allows (so no '\\', which others read as '/'), and bytes of names that are not ASCII. */
static bool host_bytes_valid(const char *text, size_t len, bool literal)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (isalnum(c) || c >= 128)
			continue;
		if (!strchr(literal ? ":.%_-" : "-._~%!$&'()*+,;=", c))
			return false;
	}
	return true;
}

struct host_port {
	const char *host, *port; /* into the text; port NULL when there is none */
	size_t host_len, port_len;
};

/* host, host:, host:port, [literal], [literal]:port */
static int split_host(const char *text, size_t len, struct host_port *out)
{
	const char *end = text + len, *rest;
	struct host_port found = { .host = text };

	if (len > 0 && text[0] == '[') {
		rest = memchr(text, ']', len);
		if (!rest)
			return -EINVAL;
		found.host = text + 1;
		found.host_len = (size_t)(rest - found.host);
		rest++;
		if (found.host_len == 0 || (rest < end && *rest != ':'))
			return -EINVAL;
	} else {
		rest = memchr(text, ':', len);
		if (!rest)
			rest = end;
		found.host_len = (size_t)(rest - text);
	}
	if (!host_bytes_valid(found.host, found.host_len, text[0] == '['))
		return -EINVAL;
	if (end - rest > 1) {
		found.port = rest + 1;
		found.port_len = (size_t)(end - rest) - 1;
		if (!port_valid(found.port, found.port_len))
			return -EINVAL;
	}
	*out = found;
	return 0;
}

static int parse_authority(const char *text, size_t len, struct uri *out)
{
	const char *at = memrchr(text, '@', len);
	struct host_port found = { 0 };
	int rc = 0;

	if (at) {
		rc = parse_user_info(text, (size_t)(at - text), out);
		len -= (size_t)(at + 1 - text);
		text = at + 1;
	}
	if (rc == 0)
		rc = split_host(text, len, &found);
	if (rc == 0 && found.host_len > 0)
		rc = copy_lower(found.host, found.host_len, &out->host);
	if (rc == 0 && found.port)
		rc = copy_lower(found.port, found.port_len, &out->port);
	return rc;
}

int uri_parse(const char *text, struct uri *out)
{
	size_t len = scheme_len(text), authority_len;
	struct uri uri = { 0 };
	const char *authority;
	int rc;

	if (len == 0 || strncmp(text + len, "://", 3) != 0 || !well_formed(text))
		return -EINVAL;
	authority = text + len + 3;
	authority_len = strcspn(authority, "/?#");
	rc = copy_lower(text, len, &uri.scheme);
	if (rc == 0)
		rc = parse_authority(authority, authority_len, &uri);
	if (rc == 0) {
		uri.path = strdup(authority + authority_len);
		rc = uri.path ? 0 : -ENOMEM;
	}
	if (rc) {
		uri_release(&uri);
		return rc;
	}
	*out = uri;
	return 0;
}

void uri_release(struct uri *uri)
{
	if (uri->password)
		secret_wipe(uri->password, strlen(uri->password));
	free(uri->scheme);
	free(uri->user);
	free(uri->password);
	free(uri->host);
	free(uri->port);
	free(uri->path);
	*uri = (struct uri){ 0 };
}

int uri_format(const struct uri *uri, struct buf *out)
{
	const char *host = uri->host ? uri->host : "";
	bool literal = strchr(host, ':') != NULL;

	return buf_addf(out, "%s://%s%s%s%s%s%s", uri->scheme, literal ? "[" : "", host,
			literal ? "]" : "", uri->port ? ":" : "", uri->port ? uri->port : "",
			uri->path ? uri->path : "");
}

/* ---- redacting ---- */

/*
 * How many of the bytes behind "://" are user info. It may hold spaces, and what would end it in a
 * well-formed URL. An authority that makes no sense without what lies behind it (a password with a
 * '/' in it) reaches to the last '@' there is: rather too little of a message than a secret.
 */
static size_t user_info_len(const char *text)
{
	size_t len = strcspn(text, "/");
	const char *at = memrchr(text, '@', len);
	const char *far_at = strrchr(text, '@');
	struct host_port found = { 0 };

	if (at)
		return (size_t)(at + 1 - text);
	if (far_at && split_host(text, len, &found) != 0)
		return (size_t)(far_at + 1 - text);
	return 0;
}

char *uri_redact(const char *text, char *out, size_t out_len)
{
	size_t len = 0;

	if (out_len == 0)
		return out;
	while (*text && len + 1 < out_len) {
		if (strncmp(text, "://", 3) == 0) {
			size_t skip = user_info_len(text + 3);

			for (size_t i = 0; i < 3 && len + 1 < out_len; i++)
				out[len++] = text[i];
			text += 3 + skip;
			continue;
		}
		out[len++] = *text++;
	}
	out[len] = '\0';
	return out;
}

/* ---- escaping ---- */

static bool unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

int uri_escape(struct buf *out, const char *text, const char *keep)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t before = out->len;

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		char escaped[3] = { '%', digits[c >> 4], digits[c & 15] };
		bool plain = unreserved(*text) || strchr(keep, *text) != NULL;
		int rc = plain ? buf_add(out, text, 1) : buf_add(out, escaped, 3);

		if (rc) {
			out->len = before;
			return rc;
		}
	}
	return 0;
}
