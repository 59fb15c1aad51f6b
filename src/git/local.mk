noinst_LIBRARIES += %D%/libgit.a
%C%_libgit_a_SOURCES = \
	%D%/delta.c \
	%D%/delta.h \
	%D%/hash.c \
	%D%/hash.h \
	%D%/object.c \
	%D%/object.h \
	%D%/pack.c \
	%D%/pack.h \
	%D%/pktline.c \
	%D%/pktline.h \
	%D%/protocol.h \
	%D%/protocol_caps.c \
	%D%/protocol_internal.h \
	%D%/protocol_refs.c \
	%D%/protocol_request.c \
	%D%/protocol_response.c \
	%D%/protocol_text.c
