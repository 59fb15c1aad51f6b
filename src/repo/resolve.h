/*
 * resolve: from what a person calls a commit to the commit.
 *
 *	[resolve_expect --->] resolve (asks the remote; brings the commit)
 *		---> the tree was seen ---> resolve_remember
 *
 * A full id is taken as it is; anything else is asked of the remote, by the few names that it can
 * be short for. Annotated tags are peeled, however deep. What a name meant is remembered, so that
 * it means the same when the remote does not answer.
 *
 * Threads: the one that opens the repo.
 */
#ifndef REPO_RESOLVE_H
#define REPO_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/oid.h"
#include "fetch/fetch.h"
#include "git/object.h"

/*
 * Before the remote is connected: what will be asked of it for a name (NULL: HEAD), which may save
 * a round trip. For an id that is nothing.
 */
void resolve_expect(struct remote *remote, const char *name);

/* Facts of this kind, by the name of the ref ("HEAD" for none): the commit's id as text. */
#define RESOLVE_FACT "ref"

struct resolve_config {
	struct fetch *fetch;   /* borrowed */
	struct remote *remote; /* borrowed; may be NULL with offline */
	const char *name;      /* borrowed; the ref; NULL: HEAD */
	const char *shown;     /* borrowed; the repository, for words */
	bool offline;
};

struct resolved {
	struct oid commit;
	struct commit parsed;
	bool from_cache;
	int64_t resolved_s; /* when the remote last said so */
};

/*
 * -ENOENT: no such ref, or an empty repository; -EINVAL: it names no commit; or why the remote or
 * the commit cannot be had.
 */
int resolve(const struct resolve_config *config, struct resolved *out, struct xcp_error *err);

/*
 * Keeps what the name meant, unless it is only remembered itself. Failing is no harm but to a
 * later mount without the remote.
 */
void resolve_remember(const struct resolve_config *config, const struct resolved *resolved);

#endif
