/*
 * content_range: one line of text from outside, taken literally. What almost looks like one is
 * none: a server that cannot write the header is not to be trusted with what it describes.
 */
#include "remote/content_range.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Digits at *text, which moves behind them. */
static bool take_number(const char **text, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (value > (INT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (p == *text)
		return false;
	*text = p;
	*out = value;
	return true;
}

static bool take_total(const char **text, uint64_t *out)
{
	if (**text != '*')
		return take_number(text, out);
	(*text)++;
	*out = UINT64_MAX;
	return true;
}

int content_range_parse(const char *text, struct content_range *out)
{
	static const char unit[] = "bytes ";
	struct content_range range;

	if (strncasecmp(text, unit, strlen(unit)) != 0)
		return -EINVAL;
	text += strlen(unit);
	if (!take_number(&text, &range.first) || *text++ != '-' ||
	    !take_number(&text, &range.last) || *text++ != '/' ||
	    !take_total(&text, &range.total) || *text != '\0')
		return -EINVAL;
	if (range.first > range.last || range.last >= range.total)
		return -EINVAL;
	*out = range;
	return 0;
}
