#!/bin/bash
# Sums the .trs files that `make check` left below the folders given, one test point being one result. Prints what was
# skipped and why, what failed, and last the line "N passed, N failed, N skipped". Fails if anything failed or nothing ran.

[ $# -gt 0 ] || set -- .
find "$@" -name '*.trs' | sort | {
	passed=0 failed=0 skipped=0
	while IFS= read -r trs; do
		# the words of a result are in the log beside it
		sed -nE 's/^(SKIP|FAIL|XPASS|ERROR): (.*)/\1: \2/p' "${trs%.trs}.log"
		while read -r _ result; do
			case $result in
			PASS | XFAIL) passed=$((passed + 1)) ;;
			SKIP) skipped=$((skipped + 1)) ;;
			*) failed=$((failed + 1)) ;;
			esac
		done < <(grep '^:test-result:' "$trs")
	done
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
