noinst_LIBRARIES += %D%/libbase.a
%C%_libbase_a_SOURCES = \
	%D%/block.c \
	%D%/block.h \
	%D%/buf.c \
	%D%/buf.h \
	%D%/clock.h \
	%D%/content.c \
	%D%/content.h \
	%D%/error.c \
	%D%/error.h \
	%D%/lock.h \
	%D%/log.h \
	%D%/oid.c \
	%D%/oid.h \
	%D%/uri.h
