noinst_LIBRARIES += %D%/libremote.a
%C%_libremote_a_SOURCES =
%C%_libremote_a_SOURCES += %D%/broker.h
%C%_libremote_a_SOURCES += %D%/hosts.h
%C%_libremote_a_SOURCES += %D%/remote.h
%C%_libremote_a_SOURCES += %D%/source.h
