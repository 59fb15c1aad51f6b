noinst_LIBRARIES += %D%/libmount.a
%C%_libmount_a_SOURCES = \
	%D%/control.c \
	%D%/control.h \
	%D%/dirops.c \
	%D%/dirops.h \
	%D%/latency.c \
	%D%/latency.h \
	%D%/loop.c \
	%D%/loop.h \
	%D%/mountopt.c \
	%D%/mountopt.h \
	%D%/op.h \
	%D%/ops.c \
	%D%/ops.h \
	%D%/parked.c \
	%D%/parked.h \
	%D%/reply.c \
	%D%/reply.h \
	%D%/session.c \
	%D%/session.h \
	%D%/session_internal.h \
	%D%/tuning.c \
	%D%/tuning.h \
	%D%/withdraw.c \
	%D%/withdraw.h

bin_PROGRAMS += xcpfs
xcpfs_SOURCES = %D%/main.c
xcpfs_LDADD = $(XCPFS_LIBS) $(XCPFS_SYSTEM_LIBS)
