/*
 * option_table: each option declared once; parser, help text and man page use the same words in
 * the same order.
 *
 * Threads: the main thread.
 */
#ifndef CLI_OPTION_TABLE_H
#define CLI_OPTION_TABLE_H

#include <stdio.h>

struct option_row {
	const char *name;  /* long form, without "--" */
	char letter;	   /* short form; 0: none */
	const char *value; /* what its value is called; NULL: takes none */
	const char *help;
};

/*
 * Takes one option that was given; `value` is NULL for those without. 0, or -errno after having
 * printed why.
 */
typedef int (*option_fn)(void *arg, const char *name, const char *value);

/*
 * Parses argv[1..argc) against the table (ended by a row without a name) and moves the operands
 * to *out_operands, which points into argv. Options may follow operands; "--" ends them. Prints a
 * sentence on stderr and returns -EINVAL for what it does not know.
 */
int option_table_parse(const struct option_row *rows, int argc, char **argv, option_fn take,
		       void *arg, char ***out_operands, int *out_operand_count);

/* Two columns, wrapped at 80. */
void option_table_print(const struct option_row *rows, FILE *stream);

#endif
