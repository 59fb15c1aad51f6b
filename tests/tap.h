/*
 * tap: a test harness in one header. A test program is a set of functions, each one TAP test point:
 *
 *	static void test_empty_input_is_refused(void)
 *	{
 *		CHECK_INT(parse("", 0), -EINVAL);
 *	}
 *	int main(void)
 *	{
 *		TAP_RUN(test_empty_input_is_refused);
 *		return tap_done();
 *	}
 *
 * A failed CHECK says file:line, the expression and both values, and ends its function (by return),
 * so use CHECKs only in functions that return void; helpers that check are followed by TAP_STOP().
 * What a failed test leaks is nobody's concern; what a passing test leaks is.
 *
 * TAP_SKIP(reason) skips one function; tap_skip_all(reason) the program, before anything ran.
 * With arguments only the functions whose names contain one of them run: ./test_pack delta
 *
 * Threads: checks only in the main thread; others hand their findings over.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tap {
	unsigned run, failed;
	bool current_failed;
	char skip[256];
	char **only;
};
static struct tap tap __attribute__((unused));

__attribute__((unused)) static void tap_print_bytes(const char *label, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	size_t i, shown = len > 200 ? 200 : len;

	printf("#   %s (%zu bytes) \"", label, len);
	for (i = 0; i < shown; i++) {
		if (bytes[i] == '"' || bytes[i] == '\\')
			printf("\\%c", bytes[i]);
		else if (bytes[i] >= 32 && bytes[i] < 127)
			putchar(bytes[i]);
		else
			printf("\\x%02x", bytes[i]);
	}
	printf("\"%s\n", shown < len ? "..." : "");
}

__attribute__((unused, format(printf, 3, 4))) static void tap_fail(const char *file, int line,
								   const char *fmt, ...)
{
	va_list args;

	tap.current_failed = true;
	printf("# %s:%d: ", file, line);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

__attribute__((unused)) static bool tap_wanted(const char *name)
{
	char **only = tap.only;

	if (!only || !*only)
		return true;
	for (; *only; only++)
		if (strstr(name, *only))
			return true;
	return false;
}

__attribute__((unused)) static void tap_run(const char *name, void (*test)(void))
{
	if (!tap_wanted(name))
		return;
	tap.current_failed = false;
	tap.skip[0] = '\0';
	test();
	tap.run++;
	if (tap.current_failed)
		tap.failed++;
	printf("%s %u - %s%s%s\n", tap.current_failed ? "not ok" : "ok", tap.run, name,
	       tap.skip[0] && !tap.current_failed ? " # SKIP " : "",
	       tap.current_failed ? "" : tap.skip);
	fflush(stdout);
}

/* Hand main's argv over to let a person pick functions by name. */
__attribute__((unused)) static void tap_args(char **argv)
{
	tap.only = argv[0] ? argv + 1 : NULL;
}

/* Prints the plan. The value is main's exit status. */
__attribute__((unused)) static int tap_done(void)
{
	printf("1..%u\n", tap.run);
	fflush(stdout);
	return tap.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

__attribute__((unused, noreturn)) static void tap_skip_all(const char *reason)
{
	printf("1..0 # SKIP %s\n", reason);
	exit(EXIT_SUCCESS);
}

#define TAP_RUN(test) tap_run(#test, test)

#define TAP_SKIP(...)                                                                              \
	do {                                                                                       \
		snprintf(tap.skip, sizeof(tap.skip), __VA_ARGS__);                                 \
		return;                                                                            \
	} while (0)

/* After a helper that checks: ends this function too when the helper failed. */
#define TAP_STOP()                                                                                 \
	do {                                                                                       \
		if (tap.current_failed)                                                            \
			return;                                                                    \
	} while (0)

#define FAIL(...)                                                                                  \
	do {                                                                                       \
		tap_fail(__FILE__, __LINE__, __VA_ARGS__);                                         \
		return;                                                                            \
	} while (0)

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			FAIL("%s is false", #condition);                                           \
	} while (0)

/* The same with words that are printed on failure: which row of a table, for example. */
#define CHECK_MSG(condition, ...)                                                                  \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			tap_fail(__FILE__, __LINE__, "%s is false", #condition);                   \
			printf("#   ");                                                            \
			printf(__VA_ARGS__);                                                       \
			putchar('\n');                                                             \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define CHECK_INT(got, want)                                                                       \
	do {                                                                                       \
		intmax_t tap_got = (got), tap_want = (want);                                       \
		if (tap_got != tap_want)                                                           \
			FAIL("%s is %" PRIdMAX ", want %s = %" PRIdMAX, #got, tap_got, #want,      \
			     tap_want);                                                            \
	} while (0)

#define CHECK_UINT(got, want)                                                                      \
	do {                                                                                       \
		uintmax_t tap_got = (got), tap_want = (want);                                      \
		if (tap_got != tap_want)                                                           \
			FAIL("%s is %" PRIuMAX " (0x%" PRIxMAX "), want %s = %" PRIuMAX            \
			     " (0x%" PRIxMAX ")",                                                  \
			     #got, tap_got, tap_got, #want, tap_want, tap_want);                   \
	} while (0)

/* Strings; NULL equals only NULL. */
#define CHECK_STR(got, want)                                                                       \
	do {                                                                                       \
		const char *tap_got = (got), *tap_want = (want);                                   \
		if ((!tap_got || !tap_want) ? tap_got != tap_want :                                \
					      strcmp(tap_got, tap_want) != 0)                      \
			FAIL("%s is \"%s\", want \"%s\"", #got, tap_got ? tap_got : "(null)",      \
			     tap_want ? tap_want : "(null)");                                      \
	} while (0)

#define CHECK_CONTAINS(got, part)                                                                  \
	do {                                                                                       \
		const char *tap_got = (got), *tap_part = (part);                                   \
		if (!tap_got || !strstr(tap_got, tap_part))                                        \
			FAIL("%s is \"%s\", which lacks \"%s\"", #got,                             \
			     tap_got ? tap_got : "(null)", tap_part);                              \
	} while (0)

#define CHECK_MEM(got, got_len, want, want_len)                                                    \
	do {                                                                                       \
		const void *tap_got = (got), *tap_want = (want);                                   \
		size_t tap_got_len = (got_len), tap_want_len = (want_len);                         \
		if (tap_got_len != tap_want_len ||                                                 \
		    (tap_got_len && memcmp(tap_got, tap_want, tap_got_len) != 0)) {                \
			tap_fail(__FILE__, __LINE__, "%s differs from %s", #got, #want);           \
			tap_print_bytes("got ", tap_got, tap_got_len);                             \
			tap_print_bytes("want", tap_want, tap_want_len);                           \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define CHECK_PTR(got, want)                                                                       \
	do {                                                                                       \
		const void *tap_got = (got), *tap_want = (want);                                   \
		if (tap_got != tap_want)                                                           \
			FAIL("%s is %p, want %s = %p", #got, tap_got, #want, tap_want);            \
	} while (0)

#define CHECK_NULL(got) CHECK_PTR(got, NULL)

#endif
