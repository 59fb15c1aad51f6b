# Benchmarks answer a named question and are never tests: list their files here, run them by hand.
# To build one: make bench/NAME
EXTRA_PROGRAMS =
EXTRA_PROGRAMS += %D%/bench_cache
EXTRA_PROGRAMS += %D%/bench_node
CLEANFILES += $(EXTRA_PROGRAMS)

%C%_bench_node_SOURCES = %D%/bench_node.c tests/fake_fetch.c
