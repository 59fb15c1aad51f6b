/*
 * origin: names are compared as they are written; nothing is looked up. "Loopback" is decided by
 * the text alone, so that no name server has a say in it (curl takes "localhost" for this machine
 * without asking).
 */
#include "remote/origin.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/uri.h"

static const char *port_of(const struct uri *uri)
{
	if (uri->port)
		return uri->port;
	if (strcmp(uri->scheme, "https") == 0)
		return "443";
	return strcmp(uri->scheme, "http") == 0 ? "80" : "";
}

bool origin_equal(const struct uri *a, const struct uri *b)
{
	return a->host && b->host && strcmp(a->scheme, b->scheme) == 0 &&
	       strcmp(a->host, b->host) == 0 && strcmp(port_of(a), port_of(b)) == 0;
}

bool origin_is_loopback(const struct uri *uri)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (!uri->host)
		return false;
	if (inet_pton(AF_INET, uri->host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, uri->host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcmp(uri->host, "localhost") == 0;
}

bool origin_is_safe(const struct uri *uri)
{
	if (strcmp(uri->scheme, "https") == 0)
		return uri->host;
	return strcmp(uri->scheme, "http") == 0 && origin_is_loopback(uri);
}

static bool ask(const char *url, bool (*question)(const struct uri *uri))
{
	struct uri uri;
	bool answer;

	if (uri_parse(url, &uri))
		return false;
	answer = question(&uri);
	uri_release(&uri);
	return answer;
}

bool url_is_loopback(const char *url)
{
	return ask(url, origin_is_loopback);
}

bool url_is_safe(const char *url)
{
	return ask(url, origin_is_safe);
}
