/*
 * budget: an amount of memory that many draw on.
 *
 *	budget_take (or budget_force: who must go on) ---> budget_give
 *
 * Threads: any; one atomic number, which orders nothing.
 */
#ifndef BASE_BUDGET_H
#define BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
	uint64_t max; /* set at the start */
	_Atomic uint64_t used;
};

void budget_init(struct budget *budget, uint64_t max);

/* False when there is not that much left. */
bool budget_take(struct budget *budget, uint64_t len);
void budget_force(struct budget *budget, uint64_t len);
void budget_give(struct budget *budget, uint64_t len);
uint64_t budget_used(const struct budget *budget);

/*
 * What this process may use when nobody said: 64 MiB, or a sixteenth of what its control group
 * (version 2 or 1) has, if that is less; 4 MiB at least. Reads files below /proc and /sys.
 */
uint64_t budget_default(void);

/* The same of another root than "/". For tests. */
uint64_t budget_default_in(const char *root);

#endif
