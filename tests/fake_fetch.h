/*
 * fake_fetch: a fetch and a remote that live in memory and do what a test says. Linked instead of
 *the real ones: it has the functions of fetch/fetch.h that a repo calls, and what asks for refs.
 *
 *	fake_open ---> fake_blob, fake_tree, ...: what the remote has ---> calls of the repo --->
 *fake_deliver ... ---> fake_close
 *
 * A want for what is not "here" parks; the test delivers it, loses it or fails it. done() is called
 *from the delivering thread.
 *
 * Threads: any, but for setting up.
 */
#ifndef TESTS_FAKE_FETCH_H
#define TESTS_FAKE_FETCH_H

#include <stdbool.h>

#include "base/lock.h"
#include "fetch/fetch.h"
#include "git/object.h"
#include "remote/remote.h"

enum fake_mode {
	FAKE_PARK,    /* wants wait for fake_deliver() */
	FAKE_THREAD,  /* wants are delivered by another thread, soon */
	FAKE_INSTANT, /* wants are answered at once, as if from the cache */
};

struct fake_counts {
	unsigned contents, sizes, commits; /* wants that were parked or answered from the remote */
	unsigned has, size_known, gets, reads;
};

struct fetch *fake_open(void);
void fake_close(struct fetch *fetch);

void fake_mode(struct fetch *fetch, enum fake_mode mode);
void fake_keep(struct fetch *fetch,
	       bool keep); /* whether what was delivered is here afterwards; true at first */
/* every later want fails with this; 0: no more */
void fake_silence(struct fetch *fetch, int status);
/* called when a want was parked, before it returns */
void fake_hook(struct fetch *fetch, void (*hook)(void *arg), void *arg);

/* What the remote has. */
struct oid fake_object(struct fetch *fetch, enum object_type type, const void *data, size_t len);
struct oid fake_blob(struct fetch *fetch, const char *text);
struct oid fake_commit(struct fetch *fetch, const struct oid *tree, long long time);
struct oid fake_tag(struct fetch *fetch, const struct oid *object, const char *type);

struct fake_entry {
	const char *mode; /* octal, as in a tree */
	const char *name;
	struct oid oid;
};
/* In the order given. */
struct oid fake_tree(struct fetch *fetch, const struct fake_entry *entries, size_t count);

void fake_here(struct fetch *fetch, const struct oid *oid);	 /* the content is in the cache */
void fake_size_here(struct fetch *fetch, const struct oid *oid); /* the size is */
void fake_gone(struct fetch *fetch, const struct oid *oid);	 /* neither is */
void fake_all_here(struct fetch *fetch); /* every object that the remote has */
void fake_trees_here(struct fetch *fetch);

/* What the remote has; borrowed. */
const struct content *fake_peek(struct fetch *fetch, const struct oid *oid);

/* Ends the waits for `oid` (NULL: all): status 0 brings what the remote has. Returns how many. */
unsigned fake_deliver(struct fetch *fetch, const struct oid *oid, int status);
unsigned fake_waiting(struct fetch *fetch);

struct fake_counts fake_counts(struct fetch *fetch);

/* What a want gathers along. No budget: nothing is gathered. The list is the last want's, borrowed
 * until the next. */
void fake_budget(struct fetch *fetch, const struct fetch_budget *budget);
const struct fetch_list *fake_company(struct fetch *fetch);
struct oid fake_company_tree(struct fetch *fetch);
/* Whether the last step was from a commit that is here whole; *out_from: from which, or null. */
bool fake_step(struct fetch *fetch, struct oid *out_from);

/* All that fetch_together() was given; borrowed. */
const struct fetch_list *fake_together(struct fetch *fetch);

/* What is larger is read in parts; a part comes as a whole. 0: nothing is. */
void fake_large(struct fetch *fetch, uint64_t limit);
const char *fake_place(struct fetch *fetch); /* of the last part that was wanted */

void fake_fact_time(struct fetch *fetch, int64_t stored_s); /* of facts put from now on */
unsigned fake_fact_puts(struct fetch *fetch);

/* ---- a remote that has refs ---- */

struct remote *fake_remote_open(void);
void fake_remote_close(struct remote *remote);
void fake_ref(struct remote *remote, const char *name, const struct oid *oid,
	      const struct oid *peeled, const char *symref);
void fake_remote_fail(struct remote *remote, int status); /* 0: answers */
unsigned fake_remote_calls(const struct remote *remote);
/* What its host's API says of every abbreviated id; at first there is none (-EOPNOTSUPP). */
void fake_remote_short(struct remote *remote, int status, const struct oid *commit);
unsigned fake_remote_short_calls(const struct remote *remote);
/* The prefixes that were expected, and those that were asked for last; a space before each. */
const char *fake_remote_expected(struct remote *remote);
const char *fake_remote_asked(struct remote *remote);

#endif
