/*
 * The program. Its parts are put together in src/cli/serve.c.
 */
#include "cli/verb.h"

int main(int argc, char **argv)
{
	return cli_main(argc, argv);
}
