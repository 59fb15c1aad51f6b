#!/bin/bash
# Every header compiles by itself, twice in a row, and opens as HACKING.md asks (a "Threads:" line).

here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
top=${top_srcdir:-$here/..}
[ -n "$LINT_CPPFLAGS" ] || tap_skip_all 'LINT_CPPFLAGS is not set; run it through make check'

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# Prints what is wrong with one header; `$1` is the folder that it is included from.
complaints() { # root header
	printf '#include "%s"\n#include "%s"\n' "$2" "$2" >"$work/unit.c"
	# shellcheck disable=SC2086 # flags are words
	${CC:-cc} -iquote "$1" $LINT_CPPFLAGS -std=gnu11 -Wall -Wextra -Werror -fsyntax-only \
		"$work/unit.c" 2>&1
	grep -q 'Threads:' "$1/$2" || echo "$2: no Threads: line"
}

while IFS= read -r header; do
	check_empty "$header" "$(complaints "$top" "$header")"
done < <(cd "$top" && ls src/*/*.h cache/*.h mount/*.h tests/tap.h)

# ---- the check itself can fail ----

mkdir "$work/bad"
fails() { # what text
	printf '%s\n' "$2" >"$work/bad/bad.h"
	if [ -n "$(complaints "$work" bad/bad.h)" ]; then
		tap_ok "refused: $1"
	else
		tap_not_ok "refused: $1" 'nothing was said'
	fi
}
fails 'a header that needs another one first' '/* Threads: any */ size_t f(void);'
fails 'a header without a guard' '/* Threads: any */ struct s { int i; };'
fails 'a header without a Threads line' 'int f(void);'
printf '/* Threads: any. */\n#ifndef B\n#define B\n#include <stddef.h>\nsize_t f(void);\n#endif\n' >"$work/bad/good.h"
check_empty 'a good header passes' "$(complaints "$work" bad/good.h)"
tap_done
