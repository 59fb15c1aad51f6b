/*
 * fake_remote: stands in for src/remote/ at link time, so that the scheduler is tested without a
 * network. It is a server with objects and a thread that calls the sinks, and does what the test
 * says: hold answers back, fail, leave out, damage, stop in the middle.
 *
 *	fake_remote_new ---> fake_add ..., fake_hold, fake_fail ... ---> fake_calls, fake_call ...
 *		---> fake_remote_free (calls must have ended)
 *
 * Threads: any.
 */
#ifndef TESTS_FAKE_REMOTE_H
#define TESTS_FAKE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/content.h"
#include "base/oid.h"
#include "remote/remote.h"

struct remote *fake_remote_new(unsigned caps);
void fake_remote_free(struct remote *remote);

/* ---- what the server has ---- */

struct oid fake_add(struct remote *remote, enum object_type type, const void *data, size_t len);
/* A blob of `len` bytes that do not shrink; the same for the same seed. */
struct oid fake_add_blob(struct remote *remote, size_t len, uint32_t seed);
/* Sent along with the other one: what a tree filter with a depth, or a commit, brings. */
void fake_include(struct remote *remote, const struct oid *tree, const struct oid *child);
/* `oid` is answered with something else. */
void fake_swap(struct remote *remote, const struct oid *oid, const struct oid *other);
/* Not in any answer, without a word. */
void fake_omit(struct remote *remote, const struct oid *oid, bool omit);
/* The API's answers hold no more files than this, and say when that is not all. */
void fake_tree_sizes_max(struct remote *remote, size_t max);
/* Left out where sizes are told, and only there. */
void fake_sizeless(struct remote *remote, const struct oid *oid);

/* ---- how it behaves ---- */

/*
 * While it is held, calls stay unanswered. Letting go of `count` answers that many and goes on
 * holding the rest.
 */
void fake_hold(struct remote *remote, bool hold);
void fake_release(struct remote *remote, unsigned count);
/* Newest first instead. */
void fake_fail(struct remote *remote, unsigned count, enum remote_verdict verdict, bool answered,
	       uint64_t retry_after_ms);
void fake_refuse_filter(
	struct remote *remote,
	const char *prefix); /* an empty answer to filters that begin so; NULL: none */
void fake_unnamed(struct remote *remote,
		  bool unnamed); /* an unknown id fails the call without being named */
void fake_damage(struct remote *remote,
		 unsigned count); /* a byte of the pack is flipped in the next calls */
void fake_cut(struct remote *remote,
	      unsigned count); /* the pack ends in the middle, and the verdict is OK */
/* The next packs break off in the middle. */
void fake_break(struct remote *remote, unsigned count);
/* After so many bytes of each pack nothing more comes, till cancelled. 0: off. */
void fake_stall(struct remote *remote, size_t after);
/* What is cancelled goes on as long as its bytes are taken. */
void fake_deaf(struct remote *remote, bool deaf);
void fake_deltas(struct remote *remote,
		 bool deltas); /* blobs are sent as deltas of the one before */

/* Called when the next call for objects has been started, before its start returns. */
void fake_linger(struct remote *remote, void (*linger)(void));

/* ---- ranges ---- */

/* `path` of any commit is this blob from now on. */
void fake_file(struct remote *remote, const char *path, const struct oid *oid);
enum fake_ranges {
	FAKE_RANGES,	    /* as asked for */
	FAKE_RANGES_WHOLE,  /* the whole file, whatever was asked for */
	FAKE_RANGES_NONE,   /* refused */
	FAKE_RANGES_LONGER, /* of a file that is one byte longer */
};
void fake_ranges(struct remote *remote, enum fake_ranges how);
/* The byte at `off` of this blob is another one, in ranges and in packs. SIZE_MAX: it is right. */
void fake_spoil(struct remote *remote, const struct oid *oid, size_t off);

/* ---- what it saw ---- */

struct fake_seen {
	bool sizes, range;
	bool tree_sizes, below; /* of the tree `first`; with all that is below it */
	uint64_t off, len;	/* of a range */
	size_t want_count;
	struct oid first;
	char filter[128];
	unsigned deepen;
	bool cancelled;
	size_t sent; /* bytes of the pack, or of the file */
};
size_t fake_calls(struct remote *remote); /* started so far */
struct fake_seen fake_call(struct remote *remote, size_t index);
bool fake_wanted(struct remote *remote, size_t index, const struct oid *oid);
size_t fake_ended(struct remote *remote); /* calls that have ended */
/* Waits (a few seconds at most) until so many were started. */
bool fake_wait_calls(struct remote *remote, size_t count);

#endif
