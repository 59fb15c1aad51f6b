/*
 * main: where the program begins. A placeholder until the verbs are here.
 */
#include <stdio.h>

int main(void)
{
	puts(PACKAGE_STRING);
	return 0;
}
