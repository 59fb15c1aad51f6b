# Tests speak TAP. To add one, add one line here:
#	a unit test	UNIT_TESTS, made from tests/NAME.c
#	a shell test	SHELL_TESTS
#	an e2e story	E2E_TESTS
#	a fuzz target	FUZZ_TARGETS, made from tests/NAME.c
# and for what these include or import: noinst_HEADERS, dist_noinst_DATA.
# Every unit test links the program's own libraries; nothing is compiled twice.

UNIT_TESTS =
SHELL_TESTS =
E2E_TESTS =
FUZZ_TARGETS =

UNIT_TESTS += %D%/test_block
UNIT_TESTS += %D%/test_buf
UNIT_TESTS += %D%/test_content
UNIT_TESTS += %D%/test_delta
UNIT_TESTS += %D%/test_error
UNIT_TESTS += %D%/test_hash
UNIT_TESTS += %D%/test_lock
UNIT_TESTS += %D%/test_log
UNIT_TESTS += %D%/test_object
UNIT_TESTS += %D%/test_oid
UNIT_TESTS += %D%/test_pack
UNIT_TESTS += %D%/test_pktline
UNIT_TESTS += %D%/test_protocol
UNIT_TESTS += %D%/test_tap
UNIT_TESTS += %D%/test_uri

noinst_HEADERS += %D%/expect.h
noinst_HEADERS += %D%/git_support.h
noinst_HEADERS += %D%/pack_support.h
noinst_HEADERS += %D%/tap.h

E2E_TESTS += %D%/e2e_infrastructure.py

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
dist_check_SCRIPTS += $(SHELL_TESTS) $(E2E_TESTS)
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
