/*
 * origin: scheme, host and port of a URL: whom a password belongs to, and whether what comes from
 * there can be changed on the way.
 *
 * Threads: any; no state.
 */
#ifndef REMOTE_ORIGIN_H
#define REMOTE_ORIGIN_H

#include <stdbool.h>

struct uri;

/* A port that is not there is the scheme's own. */
bool origin_equal(const struct uri *a, const struct uri *b);

/* This machine, by name or address. */
bool origin_is_loopback(const struct uri *uri);

/* Nobody in between can change what comes: https, or http on loopback. */
bool origin_is_safe(const struct uri *uri);

/* The same of a URL as text; false for what is none. */
bool url_is_loopback(const char *url);
bool url_is_safe(const char *url);

#endif
