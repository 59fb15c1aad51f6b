/*
 * The fact {"mount", commit}: "MTIME TREE" as text, written at the first mount.
 */
#include "repo/identity.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#define FACT_MOUNT "mount"

/* False for what is not a fact about this tree. */
static bool fact_read(struct buf *value, const struct oid *tree, int64_t *out)
{
	const char *text = buf_str(value);
	char hex[OID_MAX_HEX + 1];
	int64_t mtime_s;
	int hex_at = 0;

	if (!text || sscanf(text, "%" SCNd64 " %n", &mtime_s, &hex_at) != 1 || mtime_s < 1)
		return false;
	if (strcmp(text + hex_at, oid_to_hex(tree, hex)) != 0)
		return false;
	*out = mtime_s;
	return true;
}

static void fact_write(struct fetch *fetch, const char *commit_hex, const struct oid *tree,
		       int64_t mtime_s)
{
	char hex[OID_MAX_HEX + 1], value[32 + OID_MAX_HEX];
	int len = snprintf(value, sizeof(value), "%" PRId64 " %s", mtime_s, oid_to_hex(tree, hex));
	int ret = fetch_fact_put(fetch, FACT_MOUNT, commit_hex, value, (size_t)len);

	if (ret)
		log_debug("repo: cannot remember the times of %s: %s", commit_hex, strerror(-ret));
}

static int64_t clamp(int64_t time_s, int64_t now_s)
{
	if (time_s > now_s)
		time_s = now_s;
	return time_s < 1 ? 1 : time_s;
}

int64_t identity_mtime(struct fetch *fetch, const struct oid *commit, const struct commit *parsed)
{
	struct buf value = BUF_INIT;
	char hex[OID_MAX_HEX + 1];
	int64_t mtime_s;

	oid_to_hex(commit, hex);
	if (fetch_fact_get(fetch, FACT_MOUNT, hex, &value, NULL) ||
	    !fact_read(&value, &parsed->tree, &mtime_s)) {
		mtime_s = clamp(parsed->time, clock_wall_s());
		fact_write(fetch, hex, &parsed->tree, mtime_s);
	}
	buf_release(&value);
	return mtime_s;
}
