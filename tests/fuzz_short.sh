#!/bin/bash
# Every fuzz target for a moment: that it builds, gets through its seeds, and finds nothing at once.
FUZZ_SECONDS=${FUZZ_SHORT_SECONDS:-3} exec bash "$(dirname "$0")/fuzz_run.sh"
