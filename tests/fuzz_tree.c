/*
 * Fuzz target: trees and names. The first byte says which hash. Entries must lie inside the tree,
 * each behind the last, and no name that could leave its directory may pass.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "git/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_name(const char *name, size_t len)
{
	if (tree_name_refused(name, len))
		return;
	if (len == 0 || len > 255 || memchr(name, '/', len) || memchr(name, '\0', len))
		abort();
	if ((len == 1 && name[0] == '.') || (len == 2 && memcmp(name, "..", 2) == 0) ||
	    (len == 4 && strncasecmp(name, ".git", 4) == 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct tree_cursor cursor;
	struct tree_entry entry;
	const char *last = NULL;

	if (len == 0)
		return 0;
	check_name((const char *)data + 1, len - 1);
	tree_cursor_init(&cursor, data[0] & 1 ? OID_SHA256 : OID_SHA1, data + 1, len - 1);
	while (tree_next(&cursor, &entry) > 0) {
		if (entry.name <= last || entry.name[entry.name_len] != '\0' ||
		    cursor.off > cursor.len)
			abort();
		last = entry.name;
		check_name(entry.name, entry.name_len);
	}
	return 0;
}
