#!/bin/bash
# Runs each fuzz target of FUZZ_BINARIES for FUZZ_SECONDS and speaks TAP. Run from the build folder: what the targets
# find stays in fuzz/corpus/TARGET, an input that failed in fuzz/found/TARGET-*.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/tap.sh"
seconds=${FUZZ_SECONDS:-30}

[ -n "${FUZZ_BINARIES:-}" ] || tap_skip_all "${FUZZ_WHY:-no fuzz targets were built}"

mkdir -p fuzz/found
seeds=$(mktemp -d fuzz/seeds-XXXXXX) || exit 1
trap 'rm -rf "$seeds"' EXIT
check 'the seeds are made' "${PYTHON:-python3}" -B "$here/fuzz_corpus.py" "$seeds"

for binary in $FUZZ_BINARIES; do
	target=$(basename "$binary")
	mkdir -p "fuzz/corpus/$target" "$seeds/$target"
	if said=$("$binary" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=1024 -max_len=65536 \
		-print_final_stats=1 -verbosity=0 -artifact_prefix="fuzz/found/$target-" \
		"fuzz/corpus/$target" "$seeds/$target" 2>&1); then
		runs=$(sed -nE 's/^stat::number_of_executed_units: *//p' <<<"$said")
		tap_ok "$target found nothing in $seconds s, ${runs:-?} inputs"
	else
		tap_not_ok "$target" "$(tail -n 60 <<<"$said")"
	fi
done
tap_done
