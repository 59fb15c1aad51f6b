/*
 * git_support: repositories of the real git for unit tests, in a directory that goes away with the
 * program.
 *
 * git_sh() runs a shell line in it with a git that reads no configuration but its own repository's
 * and has fixed names and times, so that ids come out the same everywhere.
 *
 * Threads: the one that runs main().
 */
#ifndef TESTS_GIT_SUPPORT_H
#define TESTS_GIT_SUPPORT_H

#include <ftw.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/oid.h"
#include "tap.h"

static char git_dir_path[64];

static inline int git_dir_remove_one(const char *path, const struct stat *st, int kind,
				     struct FTW *walk)
{
	(void)st, (void)kind, (void)walk;
	return remove(path);
}

static inline void git_dir_remove(void)
{
	nftw(git_dir_path, git_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void git_fatal(const char *what)
{
	printf("Bail out! %s\n", what);
	exit(99);
}

/* Once, at the start; skips the whole program where there is no git. */
static inline void git_setup(void)
{
	static const char *const env[][2] = {
		{ "GIT_CONFIG_GLOBAL", "/dev/null" },
		{ "GIT_CONFIG_NOSYSTEM", "1" },
		{ "GIT_AUTHOR_NAME", "A U Thor" },
		{ "GIT_AUTHOR_EMAIL", "author@example.org" },
		{ "GIT_COMMITTER_NAME", "C O Mitter" },
		{ "GIT_COMMITTER_EMAIL", "committer@example.org" },
		{ "GIT_AUTHOR_DATE", "1700000000 +0100" },
		{ "GIT_COMMITTER_DATE", "1700000001 +0100" },
		{ "LC_ALL", "C" },
	};

	if (system("git --version >/dev/null 2>&1") != 0)
		tap_skip_all("git is not installed");
	snprintf(git_dir_path, sizeof(git_dir_path), "/tmp/xcpfs-test.XXXXXX");
	if (!mkdtemp(git_dir_path))
		git_fatal("cannot make a temporary directory");
	atexit(git_dir_remove);
	for (size_t i = 0; i < sizeof(env) / sizeof(*env); i++)
		setenv(env[i][0], env[i][1], 1);
	unsetenv("GIT_DIR");
	unsetenv("GIT_PROTOCOL");
}

/*
 * Runs `sh -c` there and appends what it prints to `out` (NULL: dropped). Returns its exit status.
 */
__attribute__((format(printf, 2, 3))) static inline int git_sh(struct buf *out, const char *fmt,
							       ...)
{
	char line[4096], whole[8192];
	uint8_t piece[4096];
	va_list args;
	FILE *pipe;
	size_t len;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	snprintf(whole, sizeof(whole), "cd '%s' && { %s\n} 2>>stderr", git_dir_path, line);
	fflush(stdout);
	pipe = popen(whole, "re");
	if (!pipe)
		git_fatal("cannot run the shell");
	while ((len = fread(piece, 1, sizeof(piece), pipe)) > 0) {
		if (out && buf_add(out, piece, len))
			git_fatal("out of memory");
	}
	return pclose(pipe);
}

static inline void git_write_file(const char *name, const void *data, size_t len)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", git_dir_path, name);
	file = fopen(path, "we");
	if (!file || fwrite(data, 1, len, file) != len || fclose(file))
		git_fatal("cannot write a file");
}

/* The first id in what a shell line prints. */
static inline struct oid git_oid(const char *line)
{
	struct buf out = BUF_INIT;
	struct oid oid = { 0 };
	size_t len = 0;

	git_sh(&out, "%s", line);
	while (len < out.len && strchr("0123456789abcdef", out.data[len]) && out.data[len])
		len++;
	if (oid_from_hex((const char *)out.data, len, &oid))
		git_fatal(line);
	buf_release(&out);
	return oid;
}

/*
 * A repository NAME with the object format `format`: text that changes from commit to commit, so
 * that its packs hold deltas, an incompressible file, a tag, a branch, an executable, a link.
 */
static inline void git_make_repository(const char *name, const char *format)
{
	int rc = git_sh(
		NULL,
		"git init -q -b main --object-format=%s %s && cd %s &&\n"
		"git config uploadpack.allowFilter true && git config transfer.advertiseObjectInfo "
		"true &&\n"
		"mkdir -p dir/deep && echo hello >dir/deep/file && printf 'x' >one && : >empty &&\n"
		"head -c 300000 /dev/urandom >random && ln -s dir/deep/file link &&\n"
		"echo '#!/bin/sh' >run && chmod +x run && git add . &&\n"
		"for i in 1 2 3 4 5 6; do\n"
		"  seq 1 20000 | sed \"s/7$i/changed $i/\" >text; seq $i 4000 >dir/text\n"
		"  git add . && git commit -q -m \"commit $i\" || exit 1\n"
		"done; git tag -a -m 'a tag' v1 HEAD~2 && git tag light HEAD~1 && git branch topic "
		"HEAD~3",
		format, name, name);
	if (rc)
		git_fatal("cannot make a repository with git");
}

/* A stream of numbers that is the same in every run. */
static inline uint32_t git_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

#endif
