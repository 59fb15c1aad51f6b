# Tests speak TAP. To add one, add one line here:
#	a unit test	UNIT_TESTS, made from tests/NAME.c
#	a shell test	SHELL_TESTS
#	an e2e story	E2E_TESTS, or E2E_PENDING when the program cannot do it yet (make check-pending)
#	a fuzz target	FUZZ_TARGETS, made from tests/NAME.c
# and for what these include or import: noinst_HEADERS, dist_noinst_DATA.
# Every unit test links the program's own libraries; nothing is compiled twice.

UNIT_TESTS =
SHELL_TESTS =
E2E_TESTS =
E2E_PENDING =
FUZZ_TARGETS =

UNIT_TESTS += %D%/test_again
UNIT_TESTS += %D%/test_ahead
UNIT_TESTS += %D%/test_blind
UNIT_TESTS += %D%/test_block
UNIT_TESTS += %D%/test_blocks
UNIT_TESTS += %D%/test_broker
UNIT_TESTS += %D%/test_budget
UNIT_TESTS += %D%/test_buf
UNIT_TESTS += %D%/test_cache
UNIT_TESTS += %D%/test_cache_faults
UNIT_TESTS += %D%/test_claims
UNIT_TESTS += %D%/test_cli
UNIT_TESTS += %D%/test_commit_id
UNIT_TESTS += %D%/test_content
UNIT_TESTS += %D%/test_crawl
UNIT_TESTS += %D%/test_content_range
UNIT_TESTS += %D%/test_control
UNIT_TESTS += %D%/test_delta
UNIT_TESTS += %D%/test_dictionary
UNIT_TESTS += %D%/test_dir
UNIT_TESTS += %D%/test_dirops
UNIT_TESTS += %D%/test_entries
UNIT_TESTS += %D%/test_error
UNIT_TESTS += %D%/test_fetch
UNIT_TESTS += %D%/test_flag
UNIT_TESTS += %D%/test_flight
UNIT_TESTS += %D%/test_hash
UNIT_TESTS += %D%/test_hosts
UNIT_TESTS += %D%/test_http
UNIT_TESTS += %D%/test_ingest
UNIT_TESTS += %D%/test_inode
UNIT_TESTS += %D%/test_json_items
UNIT_TESTS += %D%/test_large
UNIT_TESTS += %D%/test_latency
UNIT_TESTS += %D%/test_line
UNIT_TESTS += %D%/test_lock
UNIT_TESTS += %D%/test_log
UNIT_TESTS += %D%/test_mountopt
UNIT_TESTS += %D%/test_node
UNIT_TESTS += %D%/test_object
UNIT_TESTS += %D%/test_oid
UNIT_TESTS += %D%/test_origin
UNIT_TESTS += %D%/test_pack
UNIT_TESTS += %D%/test_parked
UNIT_TESTS += %D%/test_packer
UNIT_TESTS += %D%/test_pages
UNIT_TESTS += %D%/test_part
UNIT_TESTS += %D%/test_pins
UNIT_TESTS += %D%/test_pipe
UNIT_TESTS += %D%/test_pending
UNIT_TESTS += %D%/test_pktline
UNIT_TESTS += %D%/test_protocol
UNIT_TESTS += %D%/test_range
UNIT_TESTS += %D%/test_reply
UNIT_TESTS += %D%/test_repo
UNIT_TESTS += %D%/test_resolve
UNIT_TESTS += %D%/test_retry
UNIT_TESTS += %D%/test_room
UNIT_TESTS += %D%/test_seen
UNIT_TESTS += %D%/test_segment
UNIT_TESTS += %D%/test_session
UNIT_TESTS += %D%/test_source
UNIT_TESTS += %D%/test_spool
UNIT_TESTS += %D%/test_step
UNIT_TESTS += %D%/test_tap
UNIT_TESTS += %D%/test_token
UNIT_TESTS += %D%/test_tree_sizes
UNIT_TESTS += %D%/test_tuning
UNIT_TESTS += %D%/test_uri
UNIT_TESTS += %D%/test_walk
UNIT_TESTS += %D%/test_window

# The scheduler without a network: src/remote/ is replaced at link time.
%C%_test_fetch_SOURCES = %D%/test_fetch.c %D%/fake_remote.c
%C%_test_large_SOURCES = %D%/test_large.c %D%/fake_remote.c

FUZZ_TARGETS += %D%/fuzz_commit
FUZZ_TARGETS += %D%/fuzz_content_range
FUZZ_TARGETS += %D%/fuzz_delta
FUZZ_TARGETS += %D%/fuzz_ingest
FUZZ_TARGETS += %D%/fuzz_json_items
FUZZ_TARGETS += %D%/fuzz_pack
FUZZ_TARGETS += %D%/fuzz_pages
FUZZ_TARGETS += %D%/fuzz_pktline
FUZZ_TARGETS += %D%/fuzz_protocol
FUZZ_TARGETS += %D%/fuzz_pins
FUZZ_TARGETS += %D%/fuzz_segment
FUZZ_TARGETS += %D%/fuzz_source
FUZZ_TARGETS += %D%/fuzz_tree
FUZZ_TARGETS += %D%/fuzz_values

noinst_HEADERS += %D%/cache_support.h
noinst_HEADERS += %D%/expect.h
noinst_HEADERS += %D%/fake_fetch.h
noinst_HEADERS += %D%/fake_remote.h
noinst_HEADERS += %D%/faulty_calls.h
noinst_HEADERS += %D%/fake_repo.h
noinst_HEADERS += %D%/git_support.h
noinst_HEADERS += %D%/http_support.h
noinst_HEADERS += %D%/pack_build.h
noinst_HEADERS += %D%/pack_support.h
noinst_HEADERS += %D%/remote_support.h
noinst_HEADERS += %D%/tap.h

SHELL_TESTS += %D%/bootstrap_check.sh
SHELL_TESTS += %D%/fuzz_short.sh
SHELL_TESTS += %D%/lint_headers.sh
SHELL_TESTS += %D%/lint_layers.sh

E2E_TESTS += %D%/e2e_infrastructure.py

E2E_TESTS += %D%/e2e_bench.py
E2E_TESTS += %D%/e2e_cache.py
E2E_TESTS += %D%/e2e_cli.py
E2E_TESTS += %D%/e2e_clock.py
E2E_TESTS += %D%/e2e_credentials.py
E2E_TESTS += %D%/e2e_faults.py
E2E_TESTS += %D%/e2e_fill.py
E2E_TESTS += %D%/e2e_forges.py
E2E_TESTS += %D%/e2e_github.py
E2E_TESTS += %D%/e2e_hostile.py
E2E_TESTS += %D%/e2e_hosts.py
E2E_TESTS += %D%/e2e_http_differential.py
E2E_TESTS += %D%/e2e_kill.py
E2E_TESTS += %D%/e2e_large.py
E2E_TESTS += %D%/e2e_lies.py
E2E_TESTS += %D%/e2e_local.py
E2E_TESTS += %D%/e2e_loop.py
E2E_TESTS += %D%/e2e_memory.py
E2E_TESTS += %D%/e2e_mountlife.py
E2E_TESTS += %D%/e2e_no_filter.py
E2E_TESTS += %D%/e2e_offline.py
E2E_TESTS += %D%/e2e_range.py
E2E_TESTS += %D%/e2e_readers.py
E2E_TESTS += %D%/e2e_real_tree.py
E2E_TESTS += %D%/e2e_refs.py
E2E_TESTS += %D%/e2e_sha256.py
E2E_TESTS += %D%/e2e_shared_cache.py
E2E_TESTS += %D%/e2e_sizes.py
E2E_TESTS += %D%/e2e_ssh.py
E2E_TESTS += %D%/e2e_step.py
E2E_TESTS += %D%/e2e_tls_http2.py
E2E_TESTS += %D%/e2e_valgrind.py

dist_noinst_DATA += %D%/tap.sh
dist_noinst_DATA += %D%/e2e/__init__.py
dist_noinst_DATA += %D%/e2e/backend.py
dist_noinst_DATA += %D%/e2e/debsource.py
dist_noinst_DATA += %D%/e2e/differential.py
dist_noinst_DATA += %D%/e2e/env.py
dist_noinst_DATA += %D%/e2e/faults.py
dist_noinst_DATA += %D%/e2e/forges.py
dist_noinst_DATA += %D%/e2e/github.py
dist_noinst_DATA += %D%/e2e/hidden.py
dist_noinst_DATA += %D%/e2e/lighttpd.py
dist_noinst_DATA += %D%/e2e/mounts.py
dist_noinst_DATA += %D%/e2e/proc.py
dist_noinst_DATA += %D%/e2e/repos.py
dist_noinst_DATA += %D%/e2e/served.py
dist_noinst_DATA += %D%/e2e/sshd.py
dist_noinst_DATA += %D%/e2e/tap.py
dist_noinst_DATA += %D%/e2e/terminal.py
dist_noinst_DATA += %D%/e2e/tls.py
dist_noinst_DATA += %D%/e2e/wire.py

# The long line of the benchmark's relay.
%C%_test_line_SOURCES = %D%/test_line.c bench/line.c

# Linked before the libraries, the fake takes librepo's place.
%C%_test_parked_SOURCES = %D%/test_parked.c %D%/fake_repo.c
%C%_test_reply_SOURCES = %D%/test_reply.c %D%/fake_repo.c
%C%_test_session_SOURCES = %D%/test_session.c %D%/fake_repo.c

# Tests of the repo link a fetch and a remote that do what they say.
%C%_test_cache_faults_SOURCES = %D%/test_cache_faults.c %D%/faulty_calls.c
%C%_test_again_SOURCES = %D%/test_again.c %D%/fake_fetch.c
%C%_test_repo_SOURCES = %D%/test_repo.c %D%/fake_fetch.c
%C%_test_resolve_SOURCES = %D%/test_resolve.c %D%/fake_fetch.c
%C%_test_step_SOURCES = %D%/test_step.c %D%/fake_fetch.c
%C%_test_walk_SOURCES = %D%/test_walk.c %D%/fake_fetch.c

LDADD = $(XCPFS_LIBS) $(XCPFS_SYSTEM_LIBS)
check_PROGRAMS += $(UNIT_TESTS)
check_PROGRAMS += %D%/e2e/read_range
dist_check_SCRIPTS += $(SHELL_TESTS) $(E2E_TESTS) $(E2E_PENDING)
TESTS += $(UNIT_TESTS) $(SHELL_TESTS) $(E2E_TESTS)

TEST_EXTENSIONS = .sh .py
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
PY_LOG_DRIVER = $(TAP_DRIVER)
# A test that hangs is ended: with an interrupt, so that it can unmount what it mounted.
TEST_TIMEOUT = 900
LOG_COMPILER = timeout -s INT -k 20 $(TEST_TIMEOUT)
SH_LOG_COMPILER = timeout -s INT -k 20 $(TEST_TIMEOUT) bash
PY_LOG_COMPILER = timeout -s INT -k 20 $(TEST_TIMEOUT) $(PYTHON) -B

# What a test may rely on, wherever it is run from.
AM_TESTS_ENVIRONMENT = \
	XCPFS='$(abs_top_builddir)/xcpfs'; export XCPFS; \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	SANITIZERS='$(SANITIZERS)'; export SANITIZERS; \
	CC='$(CC)'; export CC; \
	PYTHON='$(PYTHON)'; export PYTHON; \
	LINT_CPPFLAGS='$(AM_CPPFLAGS) $(CPPFLAGS)'; export LINT_CPPFLAGS; \
	FUZZ_BINARIES='$(FUZZ_BINARIES)'; export FUZZ_BINARIES; \
	FUZZ_WHY='$(FUZZ_WHY)'; export FUZZ_WHY; \
	ASAN_OPTIONS="$${ASAN_OPTIONS-detect_stack_use_after_return=1}"; export ASAN_OPTIONS; \
	UBSAN_OPTIONS="$${UBSAN_OPTIONS-print_stacktrace=1}"; export UBSAN_OPTIONS; \
	TSAN_OPTIONS="$${TSAN_OPTIONS-second_deadlock_stack=1}"; export TSAN_OPTIONS;

# ---- fuzzing: the targets and the libraries they test, compiled once more, by clang ----

dist_noinst_DATA += $(FUZZ_TARGETS:=.c)
dist_noinst_SCRIPTS += %D%/fuzz_corpus.py %D%/fuzz_run.sh %D%/check_long.sh %D%/summary.sh

if FUZZ
FUZZ_BINARIES = $(FUZZ_TARGETS:%D%/%=fuzz/%)
endif

FUZZ_SECONDS = 30
FUZZ_LONG_SECONDS = 60
FUZZ_FLAGS = -g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all
FUZZ_COMPILE = $(FUZZ_CC) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) -std=gnu11 -pthread $(FUZZ_FLAGS) \
	-fsanitize=fuzzer-no-link,address,undefined
FUZZ_OBJECTS = $(patsubst %.c,fuzz/obj/%.o,$(filter %.c, \
	$(src_base_libbase_a_SOURCES) \
	$(src_git_libgit_a_SOURCES) \
	$(src_remote_libremote_a_SOURCES) \
	$(src_fetch_libfetch_a_SOURCES) \
	$(cache_libcache_a_SOURCES)))

fuzz: $(FUZZ_BINARIES)
	@test -n "$(FUZZ_BINARIES)" || echo "nothing to fuzz: $(FUZZ_WHY)"

fuzz/obj/%.o: %.c config.h
	$(AM_V_CC)$(MKDIR_P) $(@D) && $(FUZZ_COMPILE) -MMD -MP -c -o $@ $<

fuzz/libfuzz.a: $(FUZZ_OBJECTS)
	$(AM_V_AR)rm -f $@ && $(AR) cr $@ $(FUZZ_OBJECTS)

fuzz/%: fuzz/obj/%D%/%.o fuzz/libfuzz.a
	$(AM_V_CCLD)$(FUZZ_CC) -pthread $(FUZZ_FLAGS) -fsanitize=fuzzer,address,undefined \
		-o $@ $< fuzz/libfuzz.a $(XCPFS_SYSTEM_LIBS)

.PRECIOUS: fuzz/obj/%.o
-include $(wildcard fuzz/obj/*/*.d fuzz/obj/*/*/*.d)

# Each target for FUZZ_SECONDS, with a corpus that is made first and kept in fuzz/corpus.
fuzz-run: fuzz
	FUZZ_BINARIES='$(FUZZ_BINARIES)' FUZZ_WHY='$(FUZZ_WHY)' FUZZ_SECONDS='$(FUZZ_SECONDS)' \
		PYTHON='$(PYTHON)' bash $(srcdir)/%D%/fuzz_run.sh

%D%/fuzz_short.log: $(FUZZ_BINARIES)

# Repositories that the stories make once; hundreds of MiB.
distclean-local:
	-rm -rf %D%/e2e-work

clean-local:
	-rm -rf fuzz long lint

# ---- what takes longer ----

check-long: all
	+MAKE='$(MAKE)' top_srcdir='$(abs_top_srcdir)' CC='$(CC)' VALGRIND='$(VALGRIND)' \
		PYTHON='$(PYTHON)' FUZZ_BINARIES='$(FUZZ_BINARIES)' FUZZ_WHY='$(FUZZ_WHY)' \
		FUZZ_SECONDS='$(FUZZ_LONG_SECONDS)' UNIT_TESTS='$(UNIT_TESTS)' bash $(srcdir)/%D%/check_long.sh

# Stories of E2E_PENDING alone.
check-pending: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(E2E_PENDING)'

# ---- lint: layout, then three readers of the code; each may be run alone ----

lint: lint-format lint-shell lint-cppcheck lint-tidy

LINT_C = $(sort $(filter %.c %.h, \
	$(src_base_libbase_a_SOURCES) $(src_git_libgit_a_SOURCES) $(src_remote_libremote_a_SOURCES) \
	$(src_fetch_libfetch_a_SOURCES) $(src_repo_librepo_a_SOURCES) $(src_cli_libcli_a_SOURCES) \
	$(cache_libcache_a_SOURCES) $(mount_libmount_a_SOURCES) $(xcpfs_SOURCES)))
LINT_TESTS = $(sort $(UNIT_TESTS:=.c) $(FUZZ_TARGETS:=.c) $(filter %D%/%.h,$(noinst_HEADERS)) \
	$(bench_relay_SOURCES) bench/line.h)

lint-format:
	$(if $(CLANG_FORMAT),,$(error clang-format is not installed; ./bootstrap lint installs it))
	cd $(srcdir) && $(CLANG_FORMAT) --dry-run -Werror $(LINT_C) $(LINT_TESTS)

lint-shell:
	$(if $(SHELLCHECK),,$(error shellcheck is not installed; ./bootstrap lint installs it))
	cd $(srcdir) && $(SHELLCHECK) -x bootstrap .ci/run $(filter %.sh,$(dist_check_SCRIPTS) \
		$(dist_noinst_SCRIPTS) $(dist_noinst_DATA))

lint-cppcheck:
	$(if $(CPPCHECK),,$(error cppcheck is not installed; ./bootstrap lint installs it))
	cd $(srcdir) && $(CPPCHECK) -q -j 2 --std=c11 --error-exitcode=1 --inline-suppr --library=posix \
		--enable=warning,performance,portability --suppressions-list=%D%/cppcheck.supp \
		-D_GNU_SOURCE -DFUSE_USE_VERSION=314 \
		-D'LIST_HEAD(name,type)=struct name{struct type *lh_first;}' -I . -I src $(filter %.c,$(LINT_C))

TIDY_STAMPS = $(patsubst %.c,lint/%.tidy,$(filter %.c,$(LINT_C)))
lint-tidy: $(TIDY_STAMPS)
lint/%.tidy: %.c $(filter %.h,$(LINT_C)) .clang-tidy
	$(if $(CLANG_TIDY),,$(error clang-tidy is not installed; ./bootstrap lint installs it))
	$(AM_V_at)$(MKDIR_P) $(@D)
	$(AM_V_GEN)$(CLANG_TIDY) --quiet --warnings-as-errors='*' $< -- $(DEFS) $(AM_CPPFLAGS) \
		$(CPPFLAGS) -std=gnu11 -Wall -Wextra -Wno-unused-parameter >$@.out 2>&1 || \
		{ cat $@.out; exit 1; }
	$(AM_V_at)mv $@.out $@

.PHONY: fuzz fuzz-run check-long check-pending lint lint-format lint-shell lint-cppcheck lint-tidy
EXTRA_DIST += .clang-format .clang-tidy .shellcheckrc %D%/cppcheck.supp
