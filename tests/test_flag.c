/* Tests of src/base/flag.c. */
#include "base/flag.h"

#include <errno.h>

#include "expect.h"

static void test_yes_and_no_have_many_words(void)
{
	static const struct {
		const char *text;
		int want; /* -1: neither */
	} rows[] = {
		{ "true", 1 },	 { "TRUE", 1 },	  { "yes", 1 }, { "On", 1 },	  { "1", 1 },
		{ "", 1 },	 { "false", 0 },  { "No", 0 },	{ "off", 0 },	  { "0", 0 },
		{ "maybe", -1 }, { " true", -1 }, { "01", -1 }, { "truely", -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool flag = rows[i].want != 1;
		bool want = rows[i].want == 1 || (rows[i].want < 0 && flag);

		EXPECT_INT(flag_parse(rows[i].text, &flag), rows[i].want < 0 ? -EINVAL : 0,
			   "\"%s\"", rows[i].text);
		EXPECT_INT(flag, want, "\"%s\"", rows[i].text);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_yes_and_no_have_many_words);
	return tap_done();
}
