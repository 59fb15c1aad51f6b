noinst_LIBRARIES += %D%/libremote.a
%C%_libremote_a_SOURCES = \
	%D%/broker.h \
	%D%/hosts.h \
	%D%/remote.h \
	%D%/source.h
