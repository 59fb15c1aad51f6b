/*
 * Fuzz target: a host's JSON, in two pieces. The first byte says which document it is to be and
 * where it is cut. Cut or not, the same items come of it.
 */
#include "remote/json_items.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int count_item(void *arg, const json_t *item)
{
	size_t *count = arg;

	if (!json_is_object(item))
		abort();
	++*count;
	return 0;
}

static size_t read_cut(const uint8_t *data, size_t len, size_t cut, const char *member, int *out_rc)
{
	struct json_items items;
	struct xcp_error err = { 0 };
	json_t *rest = NULL;
	size_t count = 0;
	int rc;

	json_items_init(&items, member, count_item, &count);
	rc = json_items_feed(&items, data, cut, &err);
	if (!rc)
		rc = json_items_feed(&items, data + cut, len - cut, &err);
	if (!rc)
		rc = json_items_end(&items, &rest, &err);
	if (!rc != (rest != NULL))
		abort();
	json_decref(rest);
	json_items_release(&items);
	*out_rc = rc;
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *member;
	int whole_rc, cut_rc;
	size_t cut;

	if (len < 1)
		return 0;
	member = data[0] & 1 ? "tree" : NULL;
	cut = (len - 1) * (data[0] >> 1) / 128;
	if (read_cut(data + 1, len - 1, 0, member, &whole_rc) !=
		    read_cut(data + 1, len - 1, cut, member, &cut_rc) ||
	    whole_rc != cut_rc)
		abort();
	return 0;
}
