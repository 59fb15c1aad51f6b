#!/bin/bash
# What takes longer than `make check` may (run by `make check-long` in the build folder):
#	the whole suite under address+undefined and under thread sanitizers, in builds of their own below long/
#	the suite again with XCPFS_LONG=1: loops and sizes that take their time
#	every fuzz target for FUZZ_SECONDS (60), those of what lies on the disk for FUZZ_DISK_SECONDS (600)
#	every unit test under valgrind
# Each part leaves .trs files; the last lines sum them up, part by part and in all.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
make=${MAKE:-make}
top=${top_srcdir:-$(dirname "$here")}
jobs=${CHECK_JOBS:-2}

# Valgrind lets no thread run during a system call that it takes for one that cannot wait, lseek(2) for instance:
# who waits there for a mount of its own process waits for ever, and cannot even be killed.
valgrind_cannot() {
	case $1 in
	*/test_session) echo 'it serves a mount and uses it; tests/e2e_valgrind.py does that in two processes' ;;
	esac
}

# One TAP point per unit test.
valgrind_units() {
	[ -n "${VALGRIND:-}" ] || tap_skip_all 'valgrind is not installed'
	local test why
	for test in $UNIT_TESTS; do
		why=$(valgrind_cannot "$test")
		if [ -n "$why" ]; then
			tap_skip "$test under valgrind" "$why"
			continue
		fi
		check "$test under valgrind" timeout "${TEST_TIMEOUT:-3600}" "$VALGRIND" -q --error-exitcode=99 --leak-check=full \
			--show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
			--track-fds=no "./$test"
	done
	tap_done
}

if [ "${1:-}" = --valgrind ]; then
	valgrind_units
fi

rm -rf long
mkdir long
parts=()

say() {
	echo "==== $*"
}

# sanitized NAME LIST [COMMAND...]: the suite in a fresh build; COMMAND runs make.
sanitized() {
	local name=$1 list=$2
	shift 2
	say "the suite with -fsanitize=$list"
	mkdir "long/$name"
	(
		cd "long/$name" || exit 1
		"$top/configure" -q --enable-sanitizers="$list" CC="${CC:-cc}" CFLAGS='-O1 -g' >/dev/null &&
			"$make" -s -j"$jobs" && "$@" "$make" -s -j"$jobs" -k check
	)
	parts+=("$name:$?:long/$name")
}

# recorded NAME COMMAND...: a program that speaks TAP, with a log and a .trs below long/NAME.
recorded() {
	local name=$1
	shift
	say "$name"
	mkdir "long/$name"
	bash "$top/build-aux/tap-driver.sh" --test-name "$name" --log-file "long/$name/$name.log" \
		--trs-file "long/$name/$name.trs" --color-tests no --enable-hard-errors yes \
		--expect-failure no -- "$@"
	parts+=("$name:$?:long/$name")
}

# gcc 12's thread sanitizer does not find its memory where addresses are very random
no_random=()
if setarch -R true 2>/dev/null; then
	no_random=(setarch -R)
fi

sanitized address address,undefined
sanitized thread thread "${no_random[@]}"

say 'the suite with XCPFS_LONG=1'
XCPFS_LONG=1 "$make" -s -j"$jobs" -k check TEST_TIMEOUT=3600
status=$?
mkdir long/plain
cp --parents tests/*.trs tests/*.log long/plain
parts+=("plain:$status:long/plain")

"$make" -s -j"$jobs" fuzz
recorded fuzz env FUZZ_BINARIES="$FUZZ_BINARIES" FUZZ_WHY="$FUZZ_WHY" \
	FUZZ_SECONDS="${FUZZ_SECONDS:-60}" FUZZ_DISK_SECONDS="${FUZZ_DISK_SECONDS:-600}" \
	FUZZ_JOBS="$jobs" bash "$here/fuzz_run.sh"
recorded valgrind bash "$here/check_long.sh" --valgrind

# ---- the last lines ----

failed=0
say summary
bash "$here/summary.sh" long | sed '$d'
for part in "${parts[@]}"; do
	IFS=: read -r name status folder <<<"$part"
	line=$(bash "$here/summary.sh" "$folder" | tail -n 1)
	[ "$status" -eq 0 ] || failed=1
	printf '%-10s %s%s\n' "$name" "$line" "$([ "$status" -eq 0 ] || echo ' (make or the driver failed)')"
done
bash "$here/summary.sh" long | tail -n 1
bash "$here/summary.sh" long >/dev/null || failed=1
exit $failed
