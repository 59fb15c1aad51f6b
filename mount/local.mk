noinst_LIBRARIES += %D%/libmount.a
%C%_libmount_a_SOURCES =
%C%_libmount_a_SOURCES += %D%/control.h
%C%_libmount_a_SOURCES += %D%/session.h

bin_PROGRAMS += xcpfs
xcpfs_SOURCES = %D%/main.c
xcpfs_LDADD = $(XCPFS_LIBS) $(XCPFS_SYSTEM_LIBS)
