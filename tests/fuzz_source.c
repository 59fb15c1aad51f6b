/*
 * Fuzzes source_parse(): the first byte says whether there is a --ref (the bytes up to a newline),
 * the rest is SOURCE. Whatever it is, what comes out holds together, and no user info is in what
 * people see.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "remote/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool has_user_info(const char *url)
{
	const char *host = url + strcspn(url, ":/");

	return strncmp(host, "://", 3) == 0 && memchr(host + 3, '@', strcspn(host + 3, "/"));
}

static void check(const struct source *source)
{
	if (!source->shown || !source->url || !source->identity)
		abort();
	if (source->ref && (!*source->ref || *source->ref == '-'))
		abort();
	if (source->path && *source->path == '-')
		abort();
	if (source->kind == SOURCE_SSH &&
	    (*source->host == '-' || (source->user && *source->user == '-')))
		abort();
	if (source->kind != SOURCE_LOCAL && has_user_info(source->url))
		abort();
	if (source->kind == SOURCE_HTTP && has_user_info(source->shown))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct host_table *hosts = host_table_new();
	char *text = malloc(len + 1), *ref = NULL, *line;
	struct source source;

	if (!hosts || !text || len == 0)
		goto out;
	memcpy(text, data, len);
	text[len] = '\0';
	line = memchr(text, '\n', len);
	if ((data[0] & 1) && line) {
		*line = '\0';
		ref = text + 1;
		line++;
	} else {
		line = text + 1;
	}
	if (source_parse(line, ref, hosts, &source, NULL) == 0) {
		check(&source);
		source_release(&source);
	}
out:
	free(text);
	host_table_free(hosts);
	return 0;
}
