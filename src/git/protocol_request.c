/*
 * protocol_request: what is said to git-upload-pack.
 *
 * A builder either appends a whole request or, on an error, nothing.
 */
#include "git/protocol_internal.h"

#include <errno.h>

/* Drops what was appended since `start` when something went wrong. */
static int finish(struct buf *out, size_t start, int rc)
{
	if (rc)
		out->len = start;
	return rc;
}

static int add_command(struct buf *out, const struct server_caps *caps, const char *command)
{
	int rc = pkt_addf(out, "command=%s\n", command);

	if (!rc && caps->agent)
		rc = pkt_addf(out, "agent=%s\n", PROTOCOL_AGENT);
	if (!rc && caps->object_format)
		rc = pkt_addf(out, "object-format=%s\n", oid_algo_name(caps->algo));
	return rc ? rc : pkt_add_delim(out);
}

static int add_oids(struct buf *out, const struct server_caps *caps, const char *key,
		    const struct oid *oids, size_t count)
{
	char hex[OID_MAX_HEX + 1];
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++) {
		if (oids[i].algo != caps->algo)
			return -EINVAL;
		rc = pkt_addf(out, "%s %s\n", key, oid_to_hex(&oids[i], hex));
	}
	return rc;
}

/* ---- ls-refs ---- */

static int add_ls_refs(struct buf *out, const struct server_caps *caps, const char *const *prefixes,
		       size_t prefix_count)
{
	int rc = add_command(out, caps, "ls-refs");

	if (!rc)
		rc = pkt_addf(out, "peel\n");
	if (!rc)
		rc = pkt_addf(out, "symrefs\n");
	if (!rc && caps->ls_refs_unborn)
		rc = pkt_addf(out, "unborn\n");
	for (size_t i = 0; i < prefix_count && !rc; i++)
		rc = pkt_addf(out, "ref-prefix %s\n", prefixes[i]);
	return rc ? rc : pkt_add_flush(out);
}

int protocol_ls_refs_request(struct buf *out, const struct server_caps *caps,
			     const char *const *prefixes, size_t prefix_count)
{
	size_t start = out->len;

	if (caps->version != 2)
		return -EOPNOTSUPP;
	return finish(out, start, add_ls_refs(out, caps, prefixes, prefix_count));
}

/* ---- fetch ---- */

static int check_spec(const struct server_caps *caps, const struct fetch_spec *spec)
{
	if (spec->want_count == 0)
		return -EINVAL;
	if (spec->filter && !caps->fetch_filter)
		return -EOPNOTSUPP;
	if ((spec->deepen || spec->shallow_count) && !caps->fetch_shallow)
		return -EOPNOTSUPP;
	return 0;
}

static int add_depth(struct buf *out, const struct server_caps *caps, const struct fetch_spec *spec)
{
	int rc = add_oids(out, caps, "shallow", spec->shallows, spec->shallow_count);

	if (!rc && spec->deepen)
		rc = pkt_addf(out, "deepen %u\n", spec->deepen);
	if (!rc && spec->filter)
		rc = pkt_addf(out, "filter %s\n", spec->filter);
	return rc;
}

static int add_fetch_v2(struct buf *out, const struct server_caps *caps,
			const struct fetch_spec *spec)
{
	int rc = add_command(out, caps, "fetch");

	if (!rc && spec->thin)
		rc = pkt_addf(out, "thin-pack\n");
	if (!rc)
		rc = pkt_addf(out, "ofs-delta\n");
	if (!rc)
		rc = pkt_addf(out, "no-progress\n");
	if (!rc)
		rc = add_depth(out, caps, spec);
	if (!rc)
		rc = add_oids(out, caps, "want", spec->wants, spec->want_count);
	if (!rc)
		rc = add_oids(out, caps, "have", spec->haves, spec->have_count);
	if (!rc)
		rc = pkt_addf(out, "done\n");
	return rc ? rc : pkt_add_flush(out);
}

/* In v0 the capabilities are asked for behind the first want. */
static int add_v0_first_want(struct buf *out, const struct server_caps *caps,
			     const struct fetch_spec *spec)
{
	const struct oid *want = &spec->wants[0];
	char hex[OID_MAX_HEX + 1];

	if (want->algo != caps->algo)
		return -EINVAL;
	return pkt_addf(out, "want %s%s%s%s%s%s%s%s%s\n", oid_to_hex(want, hex),
			caps->side_band_64k ? " side-band-64k" : "",
			caps->ofs_delta ? " ofs-delta" : "",
			caps->no_progress ? " no-progress" : "",
			spec->thin && caps->thin_pack ? " thin-pack" : "",
			spec->filter ? " filter" : "", caps->object_format ? " object-format=" : "",
			caps->object_format ? oid_algo_name(caps->algo) : "",
			caps->agent ? " agent=" PROTOCOL_AGENT : "");
}

static int add_fetch_v0(struct buf *out, const struct server_caps *caps,
			const struct fetch_spec *spec)
{
	int rc = add_v0_first_want(out, caps, spec);

	if (!rc)
		rc = add_oids(out, caps, "want", spec->wants + 1, spec->want_count - 1);
	if (!rc)
		rc = add_depth(out, caps, spec);
	if (!rc)
		rc = pkt_add_flush(out);
	if (!rc)
		rc = add_oids(out, caps, "have", spec->haves, spec->have_count);
	return rc ? rc : pkt_addf(out, "done\n");
}

int protocol_fetch_request(struct buf *out, const struct server_caps *caps,
			   const struct fetch_spec *spec)
{
	size_t start = out->len;
	int rc = check_spec(caps, spec);

	if (!rc)
		rc = caps->version == 2 ? add_fetch_v2(out, caps, spec) :
					  add_fetch_v0(out, caps, spec);
	return finish(out, start, rc);
}

/* ---- object-info ---- */

int protocol_sizes_request(struct buf *out, const struct server_caps *caps, const struct oid *oids,
			   size_t count)
{
	size_t start = out->len;
	int rc;

	if (caps->version != 2 || !caps->object_info)
		return -EOPNOTSUPP;
	rc = add_command(out, caps, "object-info");
	if (!rc)
		rc = pkt_addf(out, "size\n");
	if (!rc)
		rc = add_oids(out, caps, "oid", oids, count);
	if (!rc)
		rc = pkt_add_flush(out);
	return finish(out, start, rc);
}
