noinst_LIBRARIES += %D%/librepo.a
%C%_librepo_a_SOURCES =
%C%_librepo_a_SOURCES += %D%/dir.c
%C%_librepo_a_SOURCES += %D%/dir.h
%C%_librepo_a_SOURCES += %D%/inode.c
%C%_librepo_a_SOURCES += %D%/inode.h
%C%_librepo_a_SOURCES += %D%/node.h
%C%_librepo_a_SOURCES += %D%/repo.h
