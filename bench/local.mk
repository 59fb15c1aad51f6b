# Benchmarks answer a named question and are never tests: list their files here, run them by hand.
# To build one: make bench/NAME
EXTRA_PROGRAMS =
EXTRA_PROGRAMS += %D%/bench_cache
EXTRA_PROGRAMS += %D%/bench_node

%C%_bench_node_SOURCES = %D%/bench_node.c tests/fake_fetch.c

# The hot path, beside a file system that does nothing.
EXTRA_PROGRAMS += %D%/bench_requests
EXTRA_PROGRAMS += %D%/null_fs
dist_noinst_SCRIPTS += %D%/hot.py
CLEANFILES += $(EXTRA_PROGRAMS)
