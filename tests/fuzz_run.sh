#!/bin/bash
# Runs each fuzz target of FUZZ_BINARIES for FUZZ_SECONDS and speaks TAP, FUZZ_JOBS (2) at a time. Those of what lies on the
# disk of a cache, which nobody looks at before us, run for FUZZ_DISK_SECONDS. Run from the build folder: what the targets
# find stays in fuzz/corpus/TARGET, an input that failed in fuzz/found/TARGET-*.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
seconds=${FUZZ_SECONDS:-30}
disk_seconds=${FUZZ_DISK_SECONDS:-$seconds}
jobs=${FUZZ_JOBS:-2}

[ -n "${FUZZ_BINARIES:-}" ] || tap_skip_all "${FUZZ_WHY:-no fuzz targets were built}"

mkdir -p fuzz/found
seeds=$(mktemp -d fuzz/seeds-XXXXXX) || exit 1
trap 'rm -rf "$seeds"' EXIT
check 'the seeds are made' "${PYTHON:-python3}" -B "$here/fuzz_corpus.py" "$seeds"

seconds_of() { # target
	case $1 in
	fuzz_pages | fuzz_pins | fuzz_segment | fuzz_values) echo "$disk_seconds" ;;
	*) echo "$seconds" ;;
	esac
}

# What it says goes to a file; its exit status to another.
fuzz() { # binary target
	"$1" -max_total_time="$(seconds_of "$2")" -timeout=25 -rss_limit_mb=1024 -max_len=65536 \
		-print_final_stats=1 -verbosity=0 -artifact_prefix="fuzz/found/$2-" \
		"fuzz/corpus/$2" "$seeds/$2" >"$seeds/$2.said" 2>&1
	echo $? >"$seeds/$2.status"
}

for binary in $FUZZ_BINARIES; do
	target=$(basename "$binary")
	mkdir -p "fuzz/corpus/$target" "$seeds/$target"
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	fuzz "$binary" "$target" &
done
wait

for binary in $FUZZ_BINARIES; do
	target=$(basename "$binary")
	if [ "$(cat "$seeds/$target.status" 2>/dev/null)" = 0 ]; then
		runs=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$seeds/$target.said")
		tap_ok "$target found nothing in $(seconds_of "$target") s, ${runs:-?} inputs"
	else
		tap_not_ok "$target" "$(tail -n 60 "$seeds/$target.said")"
	fi
done
tap_done
