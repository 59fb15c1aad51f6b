/* flag: two lists of words. */
#include "base/flag.h"

#include <errno.h>
#include <stddef.h>
#include <strings.h>

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcasecmp(text, *words) == 0)
			return true;
	return false;
}

int flag_parse(const char *text, bool *out)
{
	static const char *const yes[] = { "true", "yes", "on", "1", "", NULL };
	static const char *const no[] = { "false", "no", "off", "0", NULL };

	if (!is_one_of(text, yes) && !is_one_of(text, no))
		return -EINVAL;
	*out = is_one_of(text, yes);
	return 0;
}
