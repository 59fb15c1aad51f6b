/*
 * error: words for the person at the terminal. Too long a message is cut, never refused.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int xcp_error_set(struct xcp_error *err, int code, const char *fmt, ...)
{
	char text[XCP_ERROR_LEN]; /* the message may quote what is in err */
	va_list args;

	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	strcpy(err->message, text);
	return code;
}

int xcp_error_prefix(struct xcp_error *err, const char *fmt, ...)
{
	char prefix[XCP_ERROR_LEN];
	va_list args;

	if (!err)
		return 0;
	va_start(args, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, args);
	va_end(args);
	return xcp_error_set(err, err->code, "%s: %s", prefix, err->message);
}
