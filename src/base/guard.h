/*
 * guard: runs a function in which a bad memory access (SIGSEGV, SIGBUS) is an answer and not the
 * end of the process. For code of others that reads mapped files: a file that was cut short, or
 * whose pages are damaged, makes it follow pointers to nowhere.
 *
 * What the function held when it was left (locks, memory) stays held: give up everything it worked
 * on. A fault anywhere else ends the process as ever.
 *
 * Threads: any, each with its own; thread_start() leaves these signals open.
 */
#ifndef BASE_GUARD_H
#define BASE_GUARD_H

#include <stdbool.h>

/* False when a fault ended fn(arg) early. May be nested. */
bool guard_run(void (*fn)(void *arg), void *arg);

/*
 * From within fn: as a fault. For libraries that would otherwise end the process themselves. Comes
 * back when no guard is on duty.
 */
void guard_fail(void);

#endif
