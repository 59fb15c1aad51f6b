#!/bin/bash
# The include rule (HACKING.md, "Folders"): who may include whom, and which library's headers belong where.
# The same check runs over the tree and over snippets that break each rule, so that it is known to be able to fail.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
top=${top_srcdir:-$here/..}

folders='src/base src/git src/remote src/fetch src/repo src/cli cache mount'

# What a folder may include besides itself.
allowed() {
	case $1 in
	src/base) echo '' ;;
	src/git | cache) echo 'base' ;;
	src/remote) echo 'base git' ;;
	src/fetch) echo 'base git cache remote' ;;
	src/repo) echo 'base git fetch' ;;
	mount) echo 'base repo' ;;
	src/cli) echo 'base git cache remote fetch repo mount' ;;
	esac
}

# One header more: repo_open() resolves the ref, which is a question to the remote and not a want of fetch.
allowed_header() {
	case $1:$2 in
	src/repo:remote/remote.h | src/repo:remote/source.h) return 0 ;;
	esac
	return 1
}

# The only folders in which a header of a library may be included; anything else outside is free but for base and git.
home_of() {
	case $1 in
	fuse_lowlevel.h | fuse.h | fuse3/* | fuse_*.h | linux/fuse.h) echo mount ;;
	curl/*) echo src/remote ;;
	lmdb.h | zstd.h | zdict.h | zstd_errors.h) echo cache ;;
	esac
}

# base stands on libc alone; git does no I/O and knows no threads, besides inflating and hashing.
forbidden_in() {
	case $1:$2 in
	src/base:curl/* | src/base:jansson.h | src/base:ini.h | src/base:zlib.h | src/base:openssl/*) return 0 ;;
	src/base:uthash.h | src/base:utlist.h | src/base:xxhash.h) return 0 ;;
	src/git:pthread.h | src/git:threads.h | src/git:unistd.h | src/git:fcntl.h | src/git:poll.h) return 0 ;;
	src/git:sys/socket.h | src/git:sys/epoll.h | src/git:sys/mman.h | src/git:dirent.h) return 0 ;;
	src/git:curl/* | src/git:jansson.h) return 0 ;;
	esac
	return 1
}

# base/log.h is output, base/lock.h is threads: not for git.
forbidden_own_in() {
	case $1:$2 in
	src/git:base/log.h | src/git:base/lock.h | src/git:base/clock.h) return 0 ;;
	esac
	return 1
}

check_own() { # folder file header
	local folder=$1 file=$2 header=$3 own part
	own=$(basename "$folder")
	[ "$header" = config.h ] && return
	part=${header%%/*}
	if [ "$part" = "$header" ]; then
		echo "$file: \"$header\" does not say its folder"
	elif forbidden_own_in "$folder" "$header"; then
		echo "$file: \"$header\" is not for $folder"
	elif [ "$file" = mount/main.c ] || [ "$part" = "$own" ]; then
		:
	elif allowed_header "$folder" "$header"; then
		:
	elif ! [[ " $(allowed "$folder") " == *" $part "* ]]; then
		echo "$file: $folder may not include \"$header\""
	fi
}

check_system() { # folder file header
	local folder=$1 file=$2 header=$3 home
	home=$(home_of "$header")
	if [ -n "$home" ] && [ "$home" != "$folder" ]; then
		echo "$file: <$header> belongs in $home/ only"
	elif forbidden_in "$folder" "$header"; then
		echo "$file: <$header> is not for $folder"
	fi
}

# Prints what breaks the rule in one folder of a tree.
violations() { # top folder
	local folder=$2 line file header
	[ -d "$1/$folder" ] || return 0
	(cd "$1" && grep -nE '^[[:space:]]*#[[:space:]]*include' "$folder"/*.[ch] /dev/null) |
		while IFS= read -r line; do
			file=${line%%:*}
			header=$(sed -nE 's/^[^<"]*"([^"]+)".*/\1/p' <<<"$line")
			if [ -n "$header" ]; then
				check_own "$folder" "$file" "$header"
				continue
			fi
			header=$(sed -nE 's/^[^<"]*<([^>]+)>.*/\1/p' <<<"$line")
			if [ -n "$header" ]; then
				check_system "$folder" "$file" "$header"
			else
				echo "$file: cannot read this include: $line"
			fi
		done
}

for folder in $folders; do
	check_empty "$folder keeps the include rule" "$(violations "$top" "$folder")"
done

# ---- the check itself can fail ----

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

breaks() { # file line
	local said
	rm -rf "${work:?}"/*
	mkdir -p "$work/$(dirname "$1")"
	printf '%s\n' "$2" >"$work/$1"
	said=$(violations "$work" "$(dirname "$1")")
	if [ -n "$said" ]; then
		tap_ok "refused in $1: $2"
	else
		tap_not_ok "refused in $1: $2" "nothing was said"
	fi
}

passes() { # file line
	rm -rf "${work:?}"/*
	mkdir -p "$work/$(dirname "$1")"
	printf '%s\n' "$2" >"$work/$1"
	check_empty "fine in $1: $2" "$(violations "$work" "$(dirname "$1")")"
}

breaks src/base/a.c '#include "git/pack.h"'
breaks src/base/a.c '#include <uthash.h>'
breaks src/git/a.c '#include "cache/cache.h"'
breaks src/git/a.c '#include <pthread.h>'
breaks src/git/a.c '#include "base/lock.h"'
breaks cache/a.c '#include "git/object.h"'
breaks cache/a.c '#include "remote/remote.h"'
breaks src/remote/a.c '# include "cache/cache.h"'
breaks src/remote/a.h '#include "fetch/fetch.h"'
breaks src/fetch/a.c '#include "repo/repo.h"'
breaks src/fetch/a.c '#include <curl/curl.h>'
breaks src/repo/a.c '#include "cache/cache.h"'
breaks src/repo/a.c '#include "remote/http.h"'
breaks src/repo/a.c '#include <fuse_lowlevel.h>'
breaks src/remote/a.c '#include <lmdb.h>'
breaks src/fetch/a.c '#include <zstd.h>'
breaks mount/a.c '#include "fetch/fetch.h"'
breaks mount/a.c '#include "cli/verb.h"'
breaks mount/a.c '#include "a.h"'
breaks src/cli/a.c '#include <fuse_lowlevel.h>'
breaks src/repo/a.c '#include HEADER'
passes mount/main.c '#include "cli/verb.h"'
passes src/cli/a.c '#include "mount/session.h"'
passes cache/a.c '#include <lmdb.h>'
passes src/fetch/a.c '#include "cache/cache.h"'
tap_done
