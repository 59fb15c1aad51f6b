/*
 * guard: one handler for the process, installed when first needed, and for each thread the place to
 * go back to. Signals that another process sent are not faults.
 */
#include "base/guard.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local sigjmp_buf *way_out;

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
	(void)context;
	if (way_out && info->si_code > 0)
		siglongjmp(*way_out, 1);
	/* Again, and this time as if we were not there. */
	signal(signal_number, SIG_DFL);
	if (info->si_code <= 0)
		raise(signal_number);
}

void guard_fail(void)
{
	if (way_out)
		siglongjmp(*way_out, 1);
}

static void install(void)
{
	/* NODEFER: who jumps out of a handler leaves the signal blocked otherwise. */
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigemptyset(&action.sa_mask);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* Sanitizers run handlers with their own mask, whatever was asked for. */
static void open_signals(void)
{
	sigset_t faults;

	sigemptyset(&faults);
	sigaddset(&faults, SIGSEGV);
	sigaddset(&faults, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

bool guard_run(void (*fn)(void *arg), void *arg)
{
	sigjmp_buf *outer = way_out;
	sigjmp_buf here;

	pthread_once(&once, install);
	if (sigsetjmp(here, 0)) {
		way_out = outer;
		open_signals();
		return false;
	}
	way_out = &here;
	fn(arg);
	way_out = outer;
	return true;
}
