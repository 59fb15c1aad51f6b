/*
 * A thin table over getopt_long(), so that an option exists in exactly one place. It knows
 * nothing of what the options mean.
 */
#include "cli/option_table.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_LONG 256 /* values of options without a letter begin here, above every char */

static size_t row_count(const struct option_row *rows)
{
	size_t count = 0;

	while (rows[count].name)
		count++;
	return count;
}

/* getopt's two tables, made from ours; both owned by the caller. */
static int make_tables(const struct option_row *rows, struct option **out_long, char **out_short)
{
	size_t count = row_count(rows), at = 0;
	struct option *longs = calloc(count + 1, sizeof(*longs));
	char *shorts = malloc(2 * count + 2);

	if (!longs || !shorts) {
		free(longs);
		free(shorts);
		return -ENOMEM;
	}
	shorts[at++] = ':'; /* a missing value is told apart from an unknown option */
	for (size_t i = 0; i < count; i++) {
		longs[i].name = rows[i].name;
		longs[i].has_arg = rows[i].value ? required_argument : no_argument;
		longs[i].val = FIRST_LONG + (int)i;
		if (!rows[i].letter)
			continue;
		shorts[at++] = rows[i].letter;
		if (rows[i].value)
			shorts[at++] = ':';
	}
	shorts[at] = '\0';
	*out_long = longs;
	*out_short = shorts;
	return 0;
}

static const struct option_row *row_of(const struct option_row *rows, int code)
{
	if (code >= FIRST_LONG)
		return &rows[code - FIRST_LONG];
	for (; rows->name; rows++)
		if (rows->letter == code)
			return rows;
	return NULL;
}

/* No file, directory or repository has an empty name: it was a script's unset variable. */
static int check_operands(const char *verb, char **operands, int count)
{
	for (int i = 0; i < count; i++) {
		if (!*operands[i]) {
			fprintf(stderr, "xcpfs %s: operand %d is empty; an unset variable?\n", verb,
				i + 1);
			return -EINVAL;
		}
	}
	return 0;
}

int option_table_parse(const struct option_row *rows, int argc, char **argv, option_fn take,
		       void *arg, char ***out_operands, int *out_operand_count)
{
	struct option *longs;
	char *shorts;
	int code, ret = make_tables(rows, &longs, &shorts);

	if (ret)
		return ret;
	optind = 0; /* glibc: begin anew, also after an earlier parse */
	opterr = 0;
	while (!ret && (code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = code == '?' || code == ':' ? NULL :
									    row_of(rows, code);

		if (row) {
			ret = take(arg, row->name, row->value ? optarg : NULL);
			continue;
		}
		/* argv itself may hold a secret: only the option's own name is shown */
		if (code == ':')
			fprintf(stderr, "xcpfs %s: %s needs a value\n", argv[0], argv[optind - 1]);
		else if (optopt && optopt < FIRST_LONG)
			fprintf(stderr, "xcpfs %s: unknown option -%c\n", argv[0], optopt);
		else
			fprintf(stderr, "xcpfs %s: unknown or misused option %.*s\n", argv[0],
				(int)strcspn(argv[optind - 1], "="), argv[optind - 1]);
		ret = -EINVAL;
	}
	*out_operands = argv + optind;
	*out_operand_count = argc - optind;
	free(longs);
	free(shorts);
	return ret ? ret : check_operands(argv[0], *out_operands, *out_operand_count);
}

/* Prints `text` wrapped, from column `indent` on. */
static void print_wrapped(FILE *stream, const char *text, int indent)
{
	int column = indent;

	while (*text) {
		int len = (int)strcspn(text, " ");

		if (column > indent && column + 1 + len > 79) {
			fprintf(stream, "\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			fputc(' ', stream);
			column++;
		}
		fprintf(stream, "%.*s", len, text);
		column += len;
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', stream);
}

void option_table_print(const struct option_row *rows, FILE *stream)
{
	for (; rows->name; rows++) {
		char left[64];
		int len = snprintf(left, sizeof(left), "  %c%c%s--%s%s%s", rows->letter ? '-' : ' ',
				   rows->letter ? rows->letter : ' ', rows->letter ? ", " : "  ",
				   rows->name, rows->value ? " " : "",
				   rows->value ? rows->value : "");

		fprintf(stream, "%-28s", left);
		if (len >= 28)
			fprintf(stream, "\n%28s", "");
		print_wrapped(stream, rows->help, 28);
	}
}
