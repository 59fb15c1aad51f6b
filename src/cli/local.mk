noinst_LIBRARIES += %D%/libcli.a
%C%_libcli_a_SOURCES = \
	%D%/ask.c \
	%D%/ask.h \
	%D%/detach.c \
	%D%/detach.h \
	%D%/launch.c \
	%D%/launch.h \
	%D%/mounts.c \
	%D%/mounts.h \
	%D%/options.c \
	%D%/options.h \
	%D%/report.c \
	%D%/report.h \
	%D%/serve.c \
	%D%/serve.h \
	%D%/settings.c \
	%D%/settings.h \
	%D%/verb.h \
	%D%/verb_cache.c \
	%D%/verb_help.c \
	%D%/verb_mount.c \
	%D%/verb_stats.c \
	%D%/verb_status.c \
	%D%/verb_umount.c \
	%D%/verb_version.c \
	%D%/verbs.c
