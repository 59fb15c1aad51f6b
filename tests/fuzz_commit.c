/*
 * Fuzz target: commits and tags. The first byte says which hash.
 */
#include <stdlib.h>

#include "git/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	enum oid_algo algo;
	struct commit commit;
	struct tag tag;

	if (len == 0)
		return 0;
	algo = data[0] & 1 ? OID_SHA256 : OID_SHA1;
	if (commit_parse(algo, data + 1, len - 1, &commit) == 0 &&
	    (commit.tree.algo != algo || commit.time < 0))
		abort();
	if (tag_parse(algo, data + 1, len - 1, &tag) == 0 &&
	    (tag.object.algo != algo || tag.type == OBJECT_NONE))
		abort();
	return 0;
}
