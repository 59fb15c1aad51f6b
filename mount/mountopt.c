/*
 * One table says what each option means. What always holds (ro, nosuid, nodev) may be said again;
 * its contrary is refused rather than ignored.
 */
#include "mount/mountopt.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	KIND_FUSE,   /* handed to libfuse as it is */
	KIND_ALWAYS, /* is so anyway, or means nothing to a mounted file system (fstab) */
	KIND_SECONDS,
	KIND_REFUSED,
};

static const struct option {
	const char *name; /* a last '=' stands for any value */
	enum kind kind;
	size_t field;	 /* 1 + offset in struct mountopt of a bool, or of a double; 0: none */
	const char *why; /* of KIND_REFUSED */
} table[] = {
	{ "allow_other", KIND_FUSE, 1 + offsetof(struct mountopt, allow_other), NULL },
	{ "allow_root", KIND_FUSE, 1 + offsetof(struct mountopt, allow_other), NULL },
	{ "default_permissions", KIND_ALWAYS, 1 + offsetof(struct mountopt, default_permissions),
	  NULL },
	{ "xattr", KIND_ALWAYS, 1 + offsetof(struct mountopt, xattr), NULL },
	{ "open", KIND_ALWAYS, 1 + offsetof(struct mountopt, open), NULL },
	{ "entry_timeout=", KIND_SECONDS, 1 + offsetof(struct mountopt, entry_timeout_s), NULL },
	{ "attr_timeout=", KIND_SECONDS, 1 + offsetof(struct mountopt, attr_timeout_s), NULL },
	{ "negative_timeout=", KIND_SECONDS, 1 + offsetof(struct mountopt, negative_timeout_s),
	  NULL },
	{ "auto_unmount", KIND_FUSE, 0, NULL },
	{ "exec", KIND_FUSE, 0, NULL },
	{ "noexec", KIND_FUSE, 0, NULL },
	{ "sync", KIND_FUSE, 0, NULL },
	{ "async", KIND_FUSE, 0, NULL },
	{ "dirsync", KIND_FUSE, 0, NULL },
	{ "atime", KIND_FUSE, 0, NULL },
	{ "noatime", KIND_FUSE, 0, NULL },
	{ "context=", KIND_FUSE, 0, NULL },
	{ "fscontext=", KIND_FUSE, 0, NULL },
	{ "defcontext=", KIND_FUSE, 0, NULL },
	{ "rootcontext=", KIND_FUSE, 0, NULL },
	{ "ro", KIND_ALWAYS, 0, NULL },
	{ "nosuid", KIND_ALWAYS, 0, NULL },
	{ "nodev", KIND_ALWAYS, 0, NULL },
	{ "defaults", KIND_ALWAYS, 0, NULL },
	{ "auto", KIND_ALWAYS, 0, NULL },
	{ "noauto", KIND_ALWAYS, 0, NULL },
	{ "nofail", KIND_ALWAYS, 0, NULL },
	{ "_netdev", KIND_ALWAYS, 0, NULL },
	{ "user", KIND_ALWAYS, 0, NULL },
	{ "nouser", KIND_ALWAYS, 0, NULL },
	{ "rw", KIND_REFUSED, 0, "the mount is read-only" },
	{ "suid", KIND_REFUSED, 0, "a repository's files are not trusted that far" },
	{ "dev", KIND_REFUSED, 0, "a repository's files are not trusted that far" },
	{ "fsname=", KIND_REFUSED, 0, "it is always the source" },
	{ "subtype=", KIND_REFUSED, 0, "it is always xcpfs" },
};

static const struct option *option_find(const char *text, size_t len)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t name_len = strlen(table[i].name);
		bool valued = table[i].name[name_len - 1] == '=';

		if ((valued ? len >= name_len : len == name_len) &&
		    memcmp(text, table[i].name, name_len) == 0)
			return &table[i];
	}
	return NULL;
}

/* The value behind '=': a number of seconds and nothing else. */
static bool seconds_parse(const char *text, size_t len, double *out)
{
	const char *value = memchr(text, '=', len);
	char *end;
	double seconds;

	value++;
	if (*value < '0' || *value > '9')
		return false;
	seconds = strtod(value, &end);
	if (end != text + len || seconds > MOUNTOPT_TIMEOUT_S)
		return false;
	*out = seconds;
	return true;
}

static int option_apply(const char *text, size_t len, struct mountopt *out, struct buf *fuse,
			struct xcp_error *err)
{
	const struct option *option = option_find(text, len);

	if (!option)
		return xcp_error_set(err, -EINVAL,
				     "unknown mount option '%.*s'; see xcpfs(1) for those of -o",
				     (int)len, text);
	if (option->kind == KIND_REFUSED)
		return xcp_error_set(err, -EINVAL, "mount option '%.*s' cannot be set: %s",
				     (int)len, text, option->why);
	if (option->kind == KIND_SECONDS) {
		if (seconds_parse(text, len, (double *)((char *)out + option->field - 1)))
			return 0;
		return xcp_error_set(err, -EINVAL,
				     "mount option '%.*s': a number of seconds is needed, at most "
				     "a year",
				     (int)len, text);
	}
	if (option->field)
		*((bool *)((char *)out + option->field - 1)) = true;
	if (option->kind != KIND_FUSE)
		return 0;
	if ((fuse->len && buf_add(fuse, ",", 1) != 0) || buf_add(fuse, text, len) != 0)
		return xcp_error_set(err, -ENOMEM, "cannot read the mount options: out of memory");
	return 0;
}

/* Length up to the next comma that is not escaped. */
static size_t option_len(const char *text)
{
	size_t len = 0;

	while (text[len] && text[len] != ',')
		len += text[len] == '\\' && text[len + 1] ? 2 : 1;
	return len;
}

int mountopt_parse(const char *text, struct mountopt *out, struct buf *fuse, struct xcp_error *err)
{
	struct mountopt options = { .entry_timeout_s = MOUNTOPT_TIMEOUT_S,
				    .attr_timeout_s = MOUNTOPT_TIMEOUT_S,
				    .negative_timeout_s = MOUNTOPT_TIMEOUT_S };

	while (text && *text) {
		size_t len = option_len(text);
		int rc = len ? option_apply(text, len, &options, fuse, err) : 0;

		if (rc != 0)
			return rc;
		text += len + (text[len] == ',');
	}
	if (options.allow_other)
		options.default_permissions = true;
	*out = options;
	return 0;
}

int mountopt_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		char c = (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text;

		if ((c == ',' || c == '\\') && buf_add(out, "\\", 1) != 0)
			return -ENOMEM;
		if (buf_add(out, &c, 1) != 0)
			return -ENOMEM;
	}
	return 0;
}
