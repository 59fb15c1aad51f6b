/*
 * json_items: a JSON document with one long array in it, whose items are handed on while it comes:
 * what hosts send of a tree may be megabytes. Only an item at a time is in memory, and what is
 * around the array, which is short.
 *
 *	json_items_init ---> json_items_feed ... ---> json_items_end [---> its answer is the rest]
 *		---> json_items_release
 *
 * Where items begin and end is found here; what they say is jansson's business. Source: RFC 8259.
 *
 * Threads: a struct belongs to its caller.
 */
#ifndef REMOTE_JSON_ITEMS_H
#define REMOTE_JSON_ITEMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

#define JSON_ITEM_MAX_LEN ((size_t)1 << 20)
#define JSON_REST_MAX_LEN ((size_t)64 << 10)

struct json_items {
	/* set by init */
	const char *member; /* borrowed */
	int (*item)(void *arg, const json_t *item);
	void *arg;

	/* private */
	struct buf text; /* the item, as far as it has come */
	struct buf rest; /* what is around the array */
	struct buf key;	 /* the last string of the top level */
	unsigned depth;	 /* of brackets that are open */
	bool in_array;	 /* the array is open */
	bool in_string, escaped;
	bool named; /* the key is the member's name, and its value comes */
	bool seen;  /* there was such an array */
	bool ended; /* the last bracket was closed */
};

/*
 * `member`: the array is its value in the object that is the document; NULL: the document is the
 * array. item() gets what is borrowed, an object; what it returns that is not 0 ends the feeding.
 * Items that are not valid by themselves (bytes that are no UTF-8, say) are passed over.
 */
void json_items_init(struct json_items *items, const char *member,
		     int (*item)(void *arg, const json_t *item), void *arg);
void json_items_release(struct json_items *items);

/* -EPROTO for what is no such document, -ENOMEM, or what item() returned. */
int json_items_feed(struct json_items *items, const uint8_t *data, size_t len,
		    struct xcp_error *err);

/*
 * The end of the document: *out, the caller's, is it without the items. -EPROTO when it breaks off,
 * or has no such array.
 */
int json_items_end(struct json_items *items, json_t **out, struct xcp_error *err);

#endif
