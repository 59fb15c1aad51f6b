/*
 * xcpfs mount: understands the command line, makes sure that the mountpoint can be used, and
 * starts what serves it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/detach.h"
#include "cli/launch.h"
#include "cli/mounts.h"
#include "cli/serve.h"
#include "cli/settings.h"
#include "cli/verb.h"
#include "mount/mountopt.h"

static const struct option_row rows[] = {
	{ "foreground", 'f', NULL, "Stay in front; log to standard error." },
	{ "ref", 'r', "REF",
	  "Branch, tag or full commit id to show, instead of the remote's HEAD or @REF." },
	{ "subdir", 's', "DIR", "Show this directory of the tree only." },
	{ "options", 'o', "OPTIONS",
	  "FUSE options, separated by commas: allow_other, xattr, open and those of mount.fuse." },
	{ "cache-dir", 'c', "DIR", "Where the cache is kept, instead of $XDG_CACHE_HOME/xcpfs." },
	{ "cache-size", 0, "SIZE",
	  "How much the cache may take, such as 20G (a tenth of the file system, 1G to 64G)." },
	{ "cache-scope", 0, "SCOPE",
	  "Who shares what is cached: all (default), host or repo; see SECURITY in xcpfs(1)." },
	{ "config", 0, "FILE", "Read this configuration after the user's own." },
	{ "timeout", 't', "SECONDS",
	  "How long a read waits without any progress before it fails (30)." },
	{ "memory", 'm', "SIZE",
	  "How much buffers may hold together, such as 32M (64M, or a sixteenth of what there "
	  "is)." },
	{ "offline", 0, NULL, "Ask the remote nothing: show what is in the cache." },
	{ "fill", 0, NULL,
	  "Bring the small files that nobody asked for too, while nothing else goes on." },
	{ "log-level", 0, "LEVEL", "error, warn, info (default) or debug." },
	{ "log-file", 0, "FILE",
	  "Append log lines to this file instead of sending them to syslog." },
	OPTION_HELP,
	{ 0 },
};

struct mount_words { /* strings borrowed from argv, but for `options` */
	const char *ref, *subdir, *config;
	char *options; /* owned: all -o joined */
	bool foreground;
	struct {
		const char *name, *value;
	} settings[16]; /* applied over the configuration, in the order given */
	unsigned setting_count;
};

static int join_options(struct mount_words *words, const char *value)
{
	char *joined = NULL;

	if (asprintf(&joined, "%s%s%s", words->options ? words->options : "",
		     words->options ? "," : "", value) < 0)
		return -ENOMEM;
	free(words->options);
	words->options = joined;
	return 0;
}

static int take_option(void *arg, const char *name, const char *value)
{
	struct mount_words *words = arg;

	if (!strcmp(name, "help"))
		return OPTION_WANTS_HELP;
	if (!strcmp(name, "foreground"))
		words->foreground = true;
	else if (!strcmp(name, "ref"))
		words->ref = value;
	else if (!strcmp(name, "subdir"))
		words->subdir = value;
	else if (!strcmp(name, "config"))
		words->config = value;
	else if (!strcmp(name, "options"))
		return join_options(words, value);
	else if (words->setting_count < sizeof(words->settings) / sizeof(*words->settings)) {
		words->settings[words->setting_count].name = name;
		words->settings[words->setting_count++].value = value ? value : "true";
	} else {
		fprintf(stderr, "xcpfs mount: --%s is given too often\n", name);
		return -EINVAL;
	}
	return 0;
}

static int load_settings(const struct mount_words *words, struct settings *out,
			 struct xcp_error *err)
{
	int ret = settings_load(words->config, out, err);

	for (unsigned i = 0; !ret && i < words->setting_count; i++)
		ret = settings_set(out, words->settings[i].name, words->settings[i].value, err);
	return ret;
}

/* The mount reads them again: here only, so that a wrong one is a wrong word, not a failed try. */
static int check_options(const char *options, struct xcp_error *err)
{
	struct mountopt ignored;
	struct buf fuse = BUF_INIT;
	int ret = mountopt_parse(options, &ignored, &fuse, err);

	buf_release(&fuse);
	return ret;
}

static int check_mountpoint(const char *path, struct xcp_error *err)
{
	struct stat st;
	int code = stat(path, &st) ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;

	if (!code)
		return 0;
	return xcp_error_set(err, -code, "cannot use %s as a mountpoint: %s%s", path,
			     strerror(code), code == ENOENT ? "; make the directory first" : "");
}

/*
 * Finds out where to mount. A mount of ours whose daemon is dead is cleared away; one that lives
 * is an error. The mountpoint itself is touched only when no mount of ours is there.
 */
static int prepare_mountpoint(const char *typed, char **out, struct xcp_error *err)
{
	struct mount_list list;
	const struct mount_entry *entry;
	char *path = NULL;
	int ret;

	ret = mounts_read(&list, err);
	if (ret)
		return ret;
	path = mounts_resolve(&list, typed, err);
	if (!path) {
		mounts_release(&list);
		return err->code;
	}
	entry = mounts_at(&list, path);
	if (entry && mount_is_alive(entry))
		ret = xcp_error_set(err, -EBUSY,
				    "%s is mounted already, with %s; xcpfs umount %s ends that",
				    path, entry->source, path);
	else if (entry)
		ret = mount_detach(entry, DETACH_DEAD, err);
	mounts_release(&list);
	if (!ret)
		ret = check_mountpoint(path, err);
	if (ret)
		free(path);
	else
		*out = path;
	return ret;
}

static int open_log(const struct settings *settings, bool foreground, struct xcp_error *err)
{
	struct log_config config = {
		.level = settings->log_level,
		.file = settings->log_file,
		.to_stderr = foreground,
		.to_syslog = !foreground,
	};

	return log_open(&config, err);
}

/*
 * The broker is the daemon's child and ends with it; it is started while there still is a
 * terminal to ask for a password on.
 */
static int serve(struct serve_config *config)
{
	struct xcp_error err = { 0 };

	if (broker_start(&config->broker, &err)) {
		launch_failed(config->launch, &err);
		return EXIT_FAILED;
	}
	launch_leave_terminal(config->launch);
	return serve_run(config) ? EXIT_FAILED : EXIT_OK;
}

/* Returns the exit status, in the process that the person started and in the daemon. */
static int start(struct serve_config *config, bool foreground)
{
	struct xcp_error err = { 0 };
	struct launch launch;
	int status, ret = 0;

	if (foreground)
		launch_in_front(&launch);
	else
		ret = launch_daemon(&launch, &status, &err);
	if (ret == 1)
		return status;
	if (ret) {
		fprintf(stderr, "xcpfs: %s\n", err.message);
		return EXIT_FAILED;
	}
	config->launch = &launch;
	return serve(config);
}

static int run_with(const struct mount_words *words, char *source_text, const char *mountpoint_text)
{
	struct xcp_error err = { 0 };
	struct settings settings = { 0 };
	struct source source = { 0 };
	char *mountpoint = NULL;
	int status = EXIT_USAGE, ret = load_settings(words, &settings, &err);

	if (!ret)
		ret = check_options(words->options, &err);
	if (!ret)
		ret = source_parse(source_text, words->ref, settings.hosts, &source, &err);
	if (!ret)
		ret = settings_settle(&settings, &source, &err);
	if (!ret) {
		launch_conceal(source_text, source.shown);
		status = EXIT_FAILED;
		ret = prepare_mountpoint(mountpoint_text, &mountpoint, &err);
	}
	if (!ret)
		ret = open_log(&settings, words->foreground, &err);
	if (!ret) {
		struct serve_config config = {
			.settings = &settings,
			.source = &source,
			.subdir = words->subdir,
			.mountpoint = mountpoint,
			.options = words->options,
		};

		status = start(&config, words->foreground);
	} else {
		fprintf(stderr, "xcpfs: %s\n", err.message);
	}
	free(mountpoint);
	source_release(&source);
	settings_release(&settings);
	return status;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct mount_words words = { 0 };
	char **operands;
	int count, status,
		ret = option_table_parse(rows, argc, argv, take_option, &words, &operands, &count);

	if (ret == OPTION_WANTS_HELP) {
		verb_print_help(verb);
		status = EXIT_OK;
	} else if (ret) {
		status = EXIT_USAGE;
	} else if (count != 2) {
		status = verb_usage(verb, count < 2 ? "a SOURCE and a MOUNTPOINT are needed" :
						      "too many operands");
	} else {
		status = run_with(&words, operands[0], operands[1]);
	}
	free(words.options);
	return status;
}

const struct verb verb_mount = {
	.name = "mount",
	.operands = "[OPTIONS] SOURCE MOUNTPOINT",
	.summary = "Show a repository's files under MOUNTPOINT; they come over as they are read.",
	.options = rows,
	.run = run,
};
