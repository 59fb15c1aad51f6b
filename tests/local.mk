# Tests speak TAP. To add one:
#	a unit test	its name in UNIT_TESTS and a line NAME_SOURCES = %D%/NAME.c
#	a shell test	a line in dist_check_SCRIPTS
#	an e2e story	a line in E2E_TESTS
# Every unit test links the program's own libraries; nothing is compiled twice.

LDADD = $(XCPFS_LIBS) $(XCPFS_SYSTEM_LIBS)

UNIT_TESTS = \
	%D%/test_delta \
	%D%/test_hash \
	%D%/test_object \
	%D%/test_pack \
	%D%/test_pktline \
	%D%/test_protocol \
	%D%/test_tap

%C%_test_delta_SOURCES = %D%/test_delta.c %D%/expect.h %D%/tap.h
%C%_test_hash_SOURCES = %D%/test_hash.c %D%/expect.h %D%/tap.h
%C%_test_object_SOURCES = %D%/test_object.c %D%/expect.h %D%/git_support.h %D%/tap.h
%C%_test_pack_SOURCES = %D%/test_pack.c %D%/expect.h %D%/git_support.h %D%/pack_support.h %D%/tap.h
%C%_test_pktline_SOURCES = %D%/test_pktline.c %D%/expect.h %D%/tap.h
%C%_test_protocol_SOURCES = %D%/test_protocol.c %D%/expect.h %D%/git_support.h %D%/pack_support.h %D%/tap.h
%C%_test_tap_SOURCES = %D%/test_tap.c %D%/tap.h

SHELL_TESTS =

E2E_TESTS = \
	%D%/e2e_infrastructure.py

dist_noinst_DATA += \
	%D%/e2e/__init__.py \
	%D%/e2e/backend.py \
	%D%/e2e/debsource.py \
	%D%/e2e/differential.py \
	%D%/e2e/env.py \
	%D%/e2e/faults.py \
	%D%/e2e/lighttpd.py \
	%D%/e2e/mounts.py \
	%D%/e2e/proc.py \
	%D%/e2e/repos.py \
	%D%/e2e/served.py \
	%D%/e2e/sshd.py \
	%D%/e2e/tap.py \
	%D%/e2e/tls.py \
	%D%/e2e/wire.py

check_PROGRAMS += $(UNIT_TESTS)
dist_check_SCRIPTS += $(SHELL_TESTS) $(E2E_TESTS)
TESTS += $(UNIT_TESTS) $(SHELL_TESTS) $(E2E_TESTS)

TEST_EXTENSIONS = .sh .py
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
PY_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_COMPILER = $(SHELL)
PY_LOG_COMPILER = $(PYTHON) -B

# What a test may rely on, wherever it is run from.
AM_TESTS_ENVIRONMENT = \
	XCPFS='$(abs_top_builddir)/xcpfs'; export XCPFS; \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	SANITIZERS='$(SANITIZERS)'; export SANITIZERS; \
	CC='$(CC)'; export CC; \
	PYTHON='$(PYTHON)'; export PYTHON;
