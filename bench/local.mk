# Benchmarks answer a named question and are never tests; README.md here says how.
# To build one of the C programs: make bench/NAME
EXTRA_PROGRAMS =
EXTRA_PROGRAMS += %D%/bench_cache
EXTRA_PROGRAMS += %D%/bench_node
EXTRA_PROGRAMS += %D%/relay
CLEANFILES += $(EXTRA_PROGRAMS)

%C%_bench_node_SOURCES = %D%/bench_node.c tests/fake_fetch.c

%C%_relay_SOURCES = %D%/relay.c %D%/line.c
%C%_relay_LDADD =
noinst_HEADERS += %D%/line.h
