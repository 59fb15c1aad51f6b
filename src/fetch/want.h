/*
 * want: one want of a caller on its way to a flight: what its files share.
 *
 *	fetch_content, fetch_size ---> the cache ---> want_join_old_locked: a flight that is there
 *		\-> want_walk.c: it is one of a walk: under the walk's carrier
 *		\-> want_size.c: its size is not known: by itself, with sizes, or with a listing
 *		\-> want_join_with_company: a new flight, and who comes along
 *	---> want_look_again: it may have come in between
 *
 * A struct want lives on the stack of the call. From the moment it has joined a flight its waiter
 * is not ours any more: it may have been called, and be gone.
 *
 * Threads: any; a want belongs to its call.
 */
#ifndef FETCH_WANT_H
#define FETCH_WANT_H

#include "fetch/fetch_internal.h"

struct want {
	struct fetch *fetch;
	struct oid oid;
	enum flight_kind kind;
	enum object_type type;
	uint64_t size;
	const struct fetch_company *company;
	struct fetch_waiter *waiter;
	bool listed; /* its directory was listed, and did not tell its size */
	bool size_only;
	bool fresh;	 /* the flight was made for it */
	bool goes_on;	 /* a reader goes from file to file: as good as a listing */
	bool walks;	 /* it is one of a walk, which may have to go by id */
	unsigned step;	 /* of the crawl; CRAWL_NO_STEP */
	struct oid walk; /* another process fetches all below this tree; null */
};

/* ---- want.c: meeting a flight ---- */

/* What there is: 1 and *out: it has just come; 0: joined; -ECANCELED; -EAGAIN: there is none. */
int want_join_old_locked(struct want *want, struct content **out);
/*
 * A new one, under `carrier` or (NULL) in its queue. When there is no way to ask for it the waiter
 * is as before, and the reason comes back.
 */
int want_join_new_locked(struct want *want, struct flight *carrier);
/* Company first, with no lock held and the waiter still ours; then the flight. */
int want_join_with_company(struct want *want, const struct fetch_budget *budget,
			   struct content **out);
/* By itself, or where there is a flight. */
int want_join_alone(struct want *want, struct content **out);
/* After joining; no lock held. */
void want_look_again(struct want *want);

/* ---- want_walk.c ---- */

/* It is in a tree, and can be asked where. */
bool want_has_place(const struct fetch_company *company);

/* What is under way and will bring all that is below some directory above this one; NULL. */
struct flight *want_walk_above_locked(struct want *want);

/* What a walk is to bring. */
struct walk {
	struct oid tree;
	enum flight_kind kind;
	struct fetch_list *parts; /* owned until it is taken; NULL: the tree itself */
};

/*
 * A miss: whether it is one of a walk, and what that is to bring. `sizes`: it asks for a size, and
 * what it brings along need not be read. No lock held.
 */
bool want_is_walk(struct want *want, bool sizes, struct walk *out);
/* The same of one whose size is not known, that nobody listed. */
bool want_is_cheaper_whole(struct want *want, struct walk *out);
/* Where it is; false: nobody knows. The fetch's lock may be held. */
bool want_place(const struct want *want, struct crawl_place *out);
int want_join_walk_take(struct want *want, struct walk *walk, struct content **out);

/* ---- want_size.c ---- */

/* A directory that was listed, or is below one that came whole: what did not tell is large. */
bool want_was_listed(struct fetch *fetch, const struct fetch_company *company);
/* ---- tree_sizes.c ---- */

/* What brings the size with those of all around, from the host's API; NULL: nothing does. */
struct flight *tree_sizes_carrier_locked(struct want *want);

/* Its content is read, or mapped, before anybody asked for its size. */
int want_join_unsized(struct want *want, struct content **out);

#endif
