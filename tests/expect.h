/*
 * expect: checks for tests that walk a table. Unlike tap.h's CHECKs they go on after a failure, may
 * stand in functions that return a value, and take words (printf-like) that say which row it was.
 *
 * Threads: the one that runs main().
 */
#ifndef TESTS_EXPECT_H
#define TESTS_EXPECT_H

#include "tap.h"

__attribute__((unused, format(printf, 4, 5))) static bool expect_result(bool good, const char *file,
									int line, const char *fmt,
									...)
{
	char words[512];
	va_list args;

	if (good)
		return true;
	va_start(args, fmt);
	vsnprintf(words, sizeof(words), fmt, args);
	va_end(args);
	tap_fail(file, line, "%s", words);
	return false;
}

__attribute__((unused)) static bool expect_same_str(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

#define EXPECT(condition, ...) expect_result((condition), __FILE__, __LINE__, __VA_ARGS__)

#define EXPECT_INT(got, want, ...)                                                                 \
	do {                                                                                       \
		intmax_t expect_got = (got), expect_want = (want);                                 \
		if (!EXPECT(expect_got == expect_want, __VA_ARGS__))                               \
			printf("#   %s is %" PRIdMAX ", want %" PRIdMAX "\n", #got, expect_got,    \
			       expect_want);                                                       \
	} while (0)

#define EXPECT_STR(got, want, ...)                                                                 \
	do {                                                                                       \
		const char *expect_got = (got), *expect_want = (want);                             \
		if (!EXPECT(expect_same_str(expect_got, expect_want), __VA_ARGS__)) {              \
			printf("#   %s is \"%s\"\n", #got, expect_got ? expect_got : "(null)");    \
			printf("#   want \"%s\"\n", expect_want ? expect_want : "(null)");         \
		}                                                                                  \
	} while (0)

#define EXPECT_MEM(got, got_len, want, want_len, ...)                                              \
	do {                                                                                       \
		size_t expect_got = (got_len), expect_want = (want_len);                           \
		bool expect_same = expect_got == expect_want &&                                    \
				   (expect_got == 0 || memcmp((got), (want), expect_got) == 0);    \
		if (!EXPECT(expect_same, __VA_ARGS__)) {                                           \
			tap_print_bytes("got ", (got), expect_got);                                \
			tap_print_bytes("want", (want), expect_want);                              \
		}                                                                                  \
	} while (0)

#endif
