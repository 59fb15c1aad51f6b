/*
 * content_range: the header that says which bytes of a file an answer holds (RFC 9110, 14.4).
 *
 * Threads: any; no state.
 */
#ifndef REMOTE_CONTENT_RANGE_H
#define REMOTE_CONTENT_RANGE_H

#include <stdint.h>

struct content_range {
	uint64_t first, last; /* last is part of it: first <= last */
	uint64_t total;	      /* of the file, > last; UINT64_MAX: "*", not said */
};

/*
 * Reads "bytes FIRST-LAST/TOTAL", where TOTAL may be a star. -EINVAL for anything else, also for
 * numbers of 2^63 and more, and for a star in place of FIRST-LAST, which says that there is no such
 * range.
 */
int content_range_parse(const char *text, struct content_range *out);

#endif
