noinst_LIBRARIES += %D%/libcache.a
%C%_libcache_a_SOURCES =
%C%_libcache_a_SOURCES += %D%/cache.h
