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

/* In the URL that `text` is, or in one that it holds. */
static bool has_user_info(const char *text)
{
	for (const char *p = strstr(text, "://"); p; p = strstr(p + 3, "://"))
		if (memchr(p + 3, '@', strcspn(p + 3, "/")))
			return true;
	return false;
}

/* ssh's user is no secret. */
static const char *without_scheme(const char *text)
{
	size_t len = strcspn(text, ":/");

	return strncmp(text + len, "://", 3) == 0 ? text + len + 3 : text;
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
	if (has_user_info(without_scheme(source->shown)))
		abort();
	if (source->kind != SOURCE_LOCAL &&
	    (has_user_info(source->url) || has_user_info(without_scheme(source->identity))))
		abort();
	if (source->kind == SOURCE_HTTP &&
	    (has_user_info(source->shown) || has_user_info(source->identity)))
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
