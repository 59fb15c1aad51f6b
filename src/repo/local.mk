noinst_LIBRARIES += %D%/librepo.a
%C%_librepo_a_SOURCES =
%C%_librepo_a_SOURCES += %D%/node.h
%C%_librepo_a_SOURCES += %D%/repo.h
