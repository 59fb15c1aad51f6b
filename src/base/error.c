/*
 * error: words for the person at the terminal. Too long a message is cut, never refused.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int xcp_error_set(struct xcp_error *err, int code, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	vsnprintf(err->message, sizeof(err->message), fmt, args);
	va_end(args);
	return code;
}

int xcp_error_prefix(struct xcp_error *err, const char *fmt, ...)
{
	char old[XCP_ERROR_LEN];
	va_list args;
	size_t len;
	int written;

	if (!err)
		return 0;
	memcpy(old, err->message, sizeof(old));
	va_start(args, fmt);
	written = vsnprintf(err->message, sizeof(err->message), fmt, args);
	va_end(args);
	len = written < 0 ? 0 : strnlen(err->message, sizeof(err->message) - 1);
	snprintf(err->message + len, sizeof(err->message) - len, ": %s", old);
	return err->code;
}
