noinst_LIBRARIES += %D%/librepo.a
%C%_librepo_a_SOURCES = \
	%D%/node.h \
	%D%/repo.h
