#!/bin/bash
# A second ./bootstrap check: quick when nothing has changed, and never when something has. make is a stand-in that
# counts how often it was told to check, and a PATH without package managers leaves the machine alone.
set -u

here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
top=${top_srcdir:-$here/..}

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$work/bin" "$tree/tests" "$tree/build/tests"
for tool in bash sh env cat sed grep find sort xargs sha256sum id uname ls rm mkdir dirname git; do
	path=$(command -v $tool) && ln -s "$path" "$work/bin/$tool"
done
cat >"$work/bin/make" <<'END'
#!/bin/sh
for last; do :; done
[ "$last" = check ] || exit 0
echo check >>"$WORK/runs"
[ ! -e "$WORK/change" ] || echo changed >>"$WORK/tree/source.c"
result=PASS
[ ! -e "$WORK/fail" ] || result=FAIL
printf ':test-result: %s\n' "$result" >"$WORK/tree/build/tests/one.trs"
: >"$WORK/tree/build/tests/one.log"
[ $result = PASS ]
END
chmod +x "$work/bin/make"
cp "$top/bootstrap" "$tree"
cp "$top/tests/summary.sh" "$tree/tests"
printf '#!/bin/sh\n' >"$tree/configure"
chmod +x "$tree/configure"
: >"$tree/build/Makefile"
echo configured >"$tree/build/config.status"

# run WHAT RUNS LAST [ARGUMENT]: after it, make has checked so often in all, and the last line is this.
run() {
	local said runs
	said=$(WORK=$work PATH=$work/bin XCPFS_BUILD='' "$tree/bootstrap" check ${4+"$4"} 2>"$work/err" | tail -n 1)
	runs=$(wc -l <"$work/runs")
	if [ "$runs" -eq "$2" ] && [ "$said" = "$3" ]; then
		tap_ok "$1"
	else
		tap_not_ok "$1" "runs: $runs, want $2" "last line: $said" "$(tail -n 1 "$work/err")"
	fi
}

passed='1 passed, 0 failed, 0 skipped'
failed='0 passed, 1 failed, 0 skipped'
for kind in 'no checkout' 'a checkout'; do
	: >"$work/runs"
	rm -f "$tree/build/check.stamp"
	echo one >"$tree/source.c"
	if [ "$kind" = 'a checkout' ]; then
		printf '/build/\n' >"$tree/.gitignore"
		git -C "$tree" init -q && git -C "$tree" add -A
	fi
	run "$kind: the first run runs" 1 "$passed"
	run "$kind: the second does not" 1 "$passed"
	check_contains "$kind: it says how to run all the same" "$(cat "$work/err")" 'check --again'
	run "$kind: --again does" 2 "$passed" --again
	run "$kind: the one after that does not" 2 "$passed"
	echo two >"$tree/source.c"
	run "$kind: a changed file is a change" 3 "$passed"
	echo new >"$tree/new.c"
	run "$kind: so is a new one" 4 "$passed"
	rm "$tree/new.c"
	run "$kind: and one that is gone" 5 "$passed"
	echo otherwise >>"$tree/build/config.status"
	run "$kind: and another configuration" 6 "$passed"
	run "$kind: which is remembered" 6 "$passed"
	touch "$work/fail"
	run "$kind: a failure" 7 "$failed" --again
	run "$kind: is not remembered" 8 "$failed"
	rm "$work/fail"
	run "$kind: nor is what passed before it" 9 "$passed"
	touch "$work/change"
	run "$kind: a change in the middle" 10 "$passed" --again
	rm "$work/change"
	run "$kind: is seen by the next" 11 "$passed"
done
tap_done
