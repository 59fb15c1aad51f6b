# TAP for shell tests: source it, call ok/not_ok/skip, end with tap_done.
#	. "$(dirname "$0")/tap.sh"
#	check "what is expected" command args...	ok when the command succeeds
# shellcheck shell=bash

tap_count=0
tap_failed=0

tap_ok() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1"
}

# The rest of the arguments are shown as diagnostics.
tap_not_ok() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_count - $1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

tap_skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

tap_skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

check() {
	local what=$1 said
	shift
	if said=$("$@" 2>&1); then
		tap_ok "$what"
	else
		tap_not_ok "$what" "failed: $*" "$said"
	fi
}

# check_empty WHAT TEXT: ok when TEXT is empty, else TEXT is what was found.
check_empty() {
	if [ -z "$2" ]; then
		tap_ok "$1"
	else
		tap_not_ok "$1" "$2"
	fi
}

# check_contains WHAT TEXT PART
check_contains() {
	case $2 in
	*"$3"*) tap_ok "$1" ;;
	*) tap_not_ok "$1" "lacks \"$3\":" "$2" ;;
	esac
}

tap_done() {
	echo "1..$tap_count"
	[ "$tap_failed" -eq 0 ]
	exit
}
