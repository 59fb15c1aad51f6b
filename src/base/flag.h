/*
 * flag: yes and no as people write them in configuration.
 *
 * Threads: any; no state.
 */
#ifndef BASE_FLAG_H
#define BASE_FLAG_H

#include <stdbool.h>

/* true, yes, on, 1 and "" (it was named); false, no, off, 0; any case. Else -EINVAL. */
int flag_parse(const char *text, bool *out);

#endif
