/*
 * Reads proc(5)'s mountinfo: fields separated by spaces, with octal escapes for space, tab,
 * newline and backslash; a single "-" ends the optional fields, behind it come type, source and
 * the file system's own options.
 */
#include "cli/mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Undoes \040 and the like, in place. */
static void unescape(char *text)
{
	char *out = text;

	while (*text) {
		if (text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) &&
		    is_octal(text[3])) {
			*out++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
					(text[3] - '0'));
			text += 4;
		} else {
			*out++ = *text++;
		}
	}
	*out = '\0';
}

static uid_t user_of(const char *options)
{
	const char *at = strstr(options, "user_id=");

	return at ? (uid_t)strtoul(at + 8, NULL, 10) : 0;
}

/* One line; 1 when it is one of ours, and then *out is filled in. */
static int parse_line(char *line, struct mount_entry *out)
{
	char *save, *field, *mountpoint = NULL, *type, *source, *options;
	int index = 0;

	for (field = strtok_r(line, " \n", &save); field && strcmp(field, "-");
	     field = strtok_r(NULL, " \n", &save))
		if (++index == 5)
			mountpoint = field;
	type = strtok_r(NULL, " \n", &save);
	source = strtok_r(NULL, " \n", &save);
	options = strtok_r(NULL, " \n", &save);
	if (!mountpoint || !type || !source || !options || strcmp(type, "fuse.xcpfs"))
		return 0;
	unescape(mountpoint);
	unescape(source);
	*out = (struct mount_entry){ strdup(mountpoint), strdup(source), user_of(options) };
	if (out->mountpoint && out->source)
		return 1;
	free(out->mountpoint);
	free(out->source);
	return -ENOMEM;
}

static int list_add(struct mount_list *list, const struct mount_entry *entry)
{
	struct mount_entry *v = realloc(list->v, (list->count + 1) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	list->v = v;
	v[list->count++] = *entry;
	return 0;
}

int mounts_parse(FILE *file, struct mount_list *out)
{
	char *line = NULL;
	size_t cap = 0;
	int ret = 0;

	*out = (struct mount_list){ NULL, 0 };
	while (ret >= 0 && getline(&line, &cap, file) > 0) {
		struct mount_entry entry;

		ret = parse_line(line, &entry);
		if (ret == 1 && list_add(out, &entry)) {
			free(entry.mountpoint);
			free(entry.source);
			ret = -ENOMEM;
		}
	}
	free(line);
	if (ret < 0)
		mounts_release(out);
	return ret < 0 ? ret : 0;
}

int mounts_read(struct mount_list *out, struct xcp_error *err)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	int ret;

	if (!file)
		return xcp_error_set(err, -errno, "cannot read /proc/self/mountinfo: %s",
				     strerror(errno));
	ret = mounts_parse(file, out);
	fclose(file);
	return ret ? xcp_error_set(err, ret, "out of memory") : 0;
}

void mounts_release(struct mount_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->v[i].mountpoint);
		free(list->v[i].source);
	}
	free(list->v);
	*list = (struct mount_list){ NULL, 0 };
}

const struct mount_entry *mounts_at(const struct mount_list *list, const char *path)
{
	for (size_t i = list->count; i-- > 0;)
		if (!strcmp(list->v[i].mountpoint, path))
			return &list->v[i];
	return NULL;
}

static bool is_within(const char *mountpoint, const char *path)
{
	size_t len = strlen(mountpoint);

	return !strncmp(mountpoint, path, len) && (path[len] == '/' || path[len] == '\0');
}

const struct mount_entry *mounts_containing(const struct mount_list *list, const char *path)
{
	const struct mount_entry *best = NULL;

	for (size_t i = 0; i < list->count; i++)
		if (is_within(list->v[i].mountpoint, path) &&
		    (!best || strlen(list->v[i].mountpoint) >= strlen(best->mountpoint)))
			best = &list->v[i];
	return best;
}

/*
 * The absolute form of `path` by its words alone: "." and empty components go, ".." takes one
 * away.
 */
static char *lexical(const char *path)
{
	char cwd[PATH_MAX], *out, *save, *copy, *word;
	size_t len;

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return NULL;
	if (asprintf(&copy, "%s/%s", *path == '/' ? "" : cwd, path) < 0)
		return NULL;
	out = calloc(1, strlen(copy) + 2);
	if (!out) {
		free(copy);
		return NULL;
	}
	for (word = strtok_r(copy, "/", &save); word; word = strtok_r(NULL, "/", &save)) {
		if (!strcmp(word, "."))
			continue;
		if (!strcmp(word, "..")) {
			char *slash = strrchr(out, '/');

			if (slash)
				*slash = '\0';
			continue;
		}
		len = strlen(out);
		out[len] = '/';
		strcpy(out + len + 1, word); /* out is as large as copy */
	}
	if (!*out)
		strcpy(out, "/");
	free(copy);
	return out;
}

/*
 * What the symbolic link `path` says, made absolute by the folder it is in; NULL when it is none.
 */
static char *link_target(const char *path)
{
	char target[PATH_MAX], *out;
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	if (len <= 0)
		return NULL;
	target[len] = '\0';
	if (*target == '/')
		return strdup(target);
	return asprintf(&out, "%.*s/%s", (int)(strrchr(path, '/') - path), path, target) < 0 ?
		       NULL :
		       out;
}

/* `path` with its parent resolved; NULL and errno. */
static char *with_real_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *parent, *real, *out = NULL;

	parent = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	real = parent ? realpath(parent, NULL) : NULL;
	if (real && asprintf(&out, "%s%s", !strcmp(real, "/") ? "" : real, slash) < 0)
		out = NULL;
	free(parent);
	free(real);
	return out;
}

#define LINKS_MAX 40 /* as in the kernel */

char *mounts_resolve(const struct mount_list *list, const char *path, struct xcp_error *err)
{
	char *at = lexical(path);

	for (int links = 0; at && links < LINKS_MAX; links++) {
		char *real, *target;

		if (mounts_containing(list, at) || !strcmp(at, "/"))
			return at;
		real = with_real_parent(at);
		free(at);
		if (!real || mounts_containing(list, real)) {
			at = real;
			break;
		}
		target = link_target(real);
		if (!target)
			return real;
		free(real);
		at = lexical(target);
		free(target);
		errno = ELOOP;
	}
	if (!at)
		xcp_error_set(err, -errno, "cannot find %s: %s", path, strerror(errno));
	return at;
}
