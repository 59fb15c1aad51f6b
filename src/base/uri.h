/*
 * uri: the little that xcpfs needs of RFC 3986: splitting, redacting, escaping.
 *
 * Threads: any.
 */
#ifndef BASE_URI_H
#define BASE_URI_H

#include <stdbool.h>
#include <stddef.h>

struct buf;

/*
 * The parts of scheme://[user[:password]@]host[:port]/path[?query]; all owned, NULL where absent.
 */
struct uri {
	char *scheme;	/* lower case */
	char *user;	/* percent-decoded */
	char *password; /* percent-decoded; wiped by uri_release() */
	char *host;	/* without [] of an IPv6 literal; lower case */
	char *port;	/* digits */
	char *path;	/* with its leading slash; "" when absent; query included; not decoded */
};

/*
 * Returns -EINVAL when `text` has no scheme://, a control character, a broken %XX, a host with bytes
 * that no host has, or a port that is none.
 */
int uri_parse(const char *text, struct uri *out);
void uri_release(struct uri *uri);

/* Puts the URI together again, without user and password. */
int uri_format(const struct uri *uri, struct buf *out);

/*
 * `text` with anything between "://" and the last "@" before a "/" replaced by nothing, also words
 * behind a URL without a path; for logs, errors, the mount table, status. Never fails for odd
 * input: what cannot be parsed is cut at the "@". Writes at most out_len bytes with the NUL;
 * returns `out`, which may be `text`.
 */
char *uri_redact(const char *text, char *out, size_t out_len);

/* Percent-escapes every byte but unreserved ones and those in `keep` (for example "/"). */
int uri_escape(struct buf *out, const char *text, const char *keep);

/* Overwrites memory in a way that the compiler does not remove. */
void secret_wipe(void *data, size_t len);

#endif
