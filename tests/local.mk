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

UNIT_TESTS += %D%/test_block
UNIT_TESTS += %D%/test_broker
UNIT_TESTS += %D%/test_buf
UNIT_TESTS += %D%/test_content
UNIT_TESTS += %D%/test_delta
UNIT_TESTS += %D%/test_error
UNIT_TESTS += %D%/test_hash
UNIT_TESTS += %D%/test_hosts
UNIT_TESTS += %D%/test_lock
UNIT_TESTS += %D%/test_log
UNIT_TESTS += %D%/test_object
UNIT_TESTS += %D%/test_oid
UNIT_TESTS += %D%/test_pack
UNIT_TESTS += %D%/test_pktline
UNIT_TESTS += %D%/test_protocol
UNIT_TESTS += %D%/test_source
UNIT_TESTS += %D%/test_tap
UNIT_TESTS += %D%/test_uri

FUZZ_TARGETS += %D%/fuzz_commit
FUZZ_TARGETS += %D%/fuzz_delta
FUZZ_TARGETS += %D%/fuzz_pack
FUZZ_TARGETS += %D%/fuzz_pktline
FUZZ_TARGETS += %D%/fuzz_protocol
FUZZ_TARGETS += %D%/fuzz_source
FUZZ_TARGETS += %D%/fuzz_tree

noinst_HEADERS += %D%/expect.h
noinst_HEADERS += %D%/git_support.h
noinst_HEADERS += %D%/pack_support.h
noinst_HEADERS += %D%/tap.h

E2E_TESTS += %D%/e2e_infrastructure.py

E2E_PENDING += %D%/e2e_cli.py
E2E_PENDING += %D%/e2e_credentials.py
E2E_PENDING += %D%/e2e_faults.py
E2E_PENDING += %D%/e2e_hostile.py
E2E_PENDING += %D%/e2e_hosts.py
E2E_PENDING += %D%/e2e_http_differential.py
E2E_PENDING += %D%/e2e_kill.py
E2E_PENDING += %D%/e2e_local.py
E2E_PENDING += %D%/e2e_loop.py
E2E_PENDING += %D%/e2e_memory.py
E2E_PENDING += %D%/e2e_mountlife.py
E2E_PENDING += %D%/e2e_no_filter.py
E2E_PENDING += %D%/e2e_offline.py
E2E_PENDING += %D%/e2e_readers.py
E2E_PENDING += %D%/e2e_real_tree.py
E2E_PENDING += %D%/e2e_refs.py
E2E_PENDING += %D%/e2e_sha256.py
E2E_PENDING += %D%/e2e_shared_cache.py
E2E_PENDING += %D%/e2e_sizes.py
E2E_PENDING += %D%/e2e_ssh.py
E2E_PENDING += %D%/e2e_tls_http2.py
E2E_PENDING += %D%/e2e_valgrind.py

dist_noinst_DATA += %D%/e2e/__init__.py
dist_noinst_DATA += %D%/e2e/backend.py
dist_noinst_DATA += %D%/e2e/debsource.py
dist_noinst_DATA += %D%/e2e/differential.py
dist_noinst_DATA += %D%/e2e/env.py
dist_noinst_DATA += %D%/e2e/faults.py
dist_noinst_DATA += %D%/e2e/lighttpd.py
dist_noinst_DATA += %D%/e2e/mounts.py
dist_noinst_DATA += %D%/e2e/proc.py
dist_noinst_DATA += %D%/e2e/repos.py
dist_noinst_DATA += %D%/e2e/served.py
dist_noinst_DATA += %D%/e2e/sshd.py
dist_noinst_DATA += %D%/e2e/tap.py
dist_noinst_DATA += %D%/e2e/tls.py
dist_noinst_DATA += %D%/e2e/wire.py

LDADD = $(XCPFS_LIBS) $(XCPFS_SYSTEM_LIBS)
check_PROGRAMS += $(UNIT_TESTS)
dist_check_SCRIPTS += $(SHELL_TESTS) $(E2E_TESTS) $(E2E_PENDING)
TESTS += $(UNIT_TESTS) $(SHELL_TESTS) $(E2E_TESTS)

TEST_EXTENSIONS = .sh .py
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
PY_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_COMPILER = bash
PY_LOG_COMPILER = $(PYTHON) -B

# What a test may rely on, wherever it is run from.
AM_TESTS_ENVIRONMENT = \
	XCPFS='$(abs_top_builddir)/xcpfs'; export XCPFS; \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	SANITIZERS='$(SANITIZERS)'; export SANITIZERS; \
	CC='$(CC)'; export CC; \
	PYTHON='$(PYTHON)'; export PYTHON;

check-pending: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(E2E_PENDING)'
.PHONY: check-pending

# Repositories that the stories make once; hundreds of MiB.
distclean-local:
	-rm -rf tests/e2e-work
