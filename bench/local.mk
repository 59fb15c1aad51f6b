# Benchmarks answer a named question and are never tests; README.md here says how. `make check` builds the programs,
# so that they are known to compile.

check_PROGRAMS += %D%/bench_cache
check_PROGRAMS += %D%/bench_node

%C%_bench_node_SOURCES = %D%/bench_node.c tests/fake_fetch.c

check_PROGRAMS += %D%/relay
%C%_relay_SOURCES = %D%/relay.c %D%/line.c
%C%_relay_LDADD =
noinst_HEADERS += %D%/line.h

dist_noinst_SCRIPTS += %D%/bench.py
dist_noinst_DATA += %D%/README.md
dist_noinst_DATA += %D%/suite/__init__.py
dist_noinst_DATA += %D%/suite/compare.py
dist_noinst_DATA += %D%/suite/competitors.py
dist_noinst_DATA += %D%/suite/goals.py
dist_noinst_DATA += %D%/suite/link.py
dist_noinst_DATA += %D%/suite/place.py
dist_noinst_DATA += %D%/suite/questions.py
dist_noinst_DATA += %D%/suite/report.py
dist_noinst_DATA += %D%/suite/repositories.py
dist_noinst_DATA += %D%/suite/result.py
dist_noinst_DATA += %D%/suite/run.py
dist_noinst_DATA += %D%/suite/stage.py
dist_noinst_DATA += %D%/suite/static.py

# BENCH, PROFILE and REPO choose a part, RUNS says how often, ADD=--add keeps the rest of the
# result; XCPFS and XCPFS_BENCH_DIR are taken from the environment.
BENCH_RESULT = bench-result.json
BENCH_BASELINE = bench-baseline.json
BENCH_PAGE = bench-report.html
BENCH_THRESHOLD = 10
BENCH_PY = XCPFS="$${XCPFS:-$(abs_top_builddir)/xcpfs}" top_srcdir='$(abs_top_srcdir)' \
	top_builddir='$(abs_top_builddir)' $(PYTHON) -B $(srcdir)/%D%/bench.py

bench: all %D%/relay
	$(BENCH_PY) run --out $(BENCH_RESULT) $(ADD)

# The clone and large-file ratios once more, over real TCP stacks with vde2's wirefilter between.
bench-tcp: all %D%/relay
	PLACE=tcp PROFILE=50ms-100mbit REPO=medium BENCH='mount-ls grep' $(BENCH_PY) run \
		--out $(BENCH_RESULT) --add
	PLACE=tcp PROFILE=50ms-100mbit REPO=big BENCH='sequential random' $(BENCH_PY) run \
		--out $(BENCH_RESULT) --add

# Keeps the result there is (or makes one) to compare later ones with.
bench-baseline: all %D%/relay
	test -s $(BENCH_RESULT) || $(BENCH_PY) run --out $(BENCH_RESULT)
	cp $(BENCH_RESULT) $(BENCH_BASELINE)

bench-compare:
	$(BENCH_PY) compare --threshold $(BENCH_THRESHOLD) $(BENCH_BASELINE) $(BENCH_RESULT)

bench-report:
	$(BENCH_PY) report $(BENCH_RESULT) $(BENCH_PAGE)

.PHONY: bench bench-baseline bench-compare bench-report bench-tcp
# The hot path, beside a file system that does nothing.
check_PROGRAMS += %D%/bench_requests
check_PROGRAMS += %D%/null_fs
dist_noinst_SCRIPTS += %D%/hot.py
dist_noinst_SCRIPTS += %D%/limit.py

