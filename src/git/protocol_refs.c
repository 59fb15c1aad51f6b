/*
 * protocol_refs: refs as a server lists them, and which of them a person means.
 *
 * A list is as long as the server makes it, so its memory has a limit of its own.
 */
#include "git/protocol_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "refs"

/* ---- the list ---- */

void ref_list_release(struct ref_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->v[i].name);
		free(list->v[i].symref);
	}
	free(list->v);
	memset(list, 0, sizeof(*list));
}

static int ref_list_charge(struct ref_list *list, size_t len)
{
	if (len > REF_LIST_MAX_BYTES - list->bytes)
		return -E2BIG;
	list->bytes += len;
	return 0;
}

static int ref_list_grow(struct ref_list *list)
{
	size_t cap = list->cap ? list->cap * 2 :
				 16; /* REF_LIST_MAX_BYTES keeps it from overflowing */
	struct ref *v;

	if (list->count < list->cap)
		return 0;
	v = reallocarray(list->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	list->v = v;
	list->cap = cap;
	return 0;
}

/*
 * What git itself never has in a name, and what would not survive as a C string or on a terminal.
 */
static bool name_is_sane(struct text name)
{
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.data[i];

		if (c <= ' ' || c == 0x7f)
			return false;
	}
	return name.len > 0;
}

int ref_list_add(struct ref_list *list, const char *name, size_t name_len, const struct oid *oid)
{
	struct text text = { name, name_len };
	char *copy;
	int rc;

	if (!name_is_sane(text))
		return -EINVAL;
	rc = ref_list_charge(list, sizeof(struct ref) + name_len + 1);
	if (!rc)
		rc = ref_list_grow(list);
	if (rc)
		return rc;
	copy = text_copy(text);
	if (!copy)
		return -ENOMEM;
	list->v[list->count++] = (struct ref){ .name = copy, .oid = *oid };
	return 0;
}

static int say_why(struct xcp_error *err, int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case -E2BIG:
		return xcp_error_set(
			err, rc, "cannot read " WHAT ": the server lists more than can be kept");
	case -ENOMEM:
		return xcp_error_set(err, rc, "cannot read " WHAT ": out of memory");
	default:
		return xcp_error_set(err, -EPROTO,
				     "cannot read " WHAT ": the server sent a malformed line");
	}
}

int ref_list_add_text(struct ref_list *list, struct text name, const struct oid *oid,
		      struct xcp_error *err)
{
	return say_why(err, ref_list_add(list, name.data, name.len, oid));
}

int ref_set_symref(struct ref_list *list, struct ref *ref, struct text target,
		   struct xcp_error *err)
{
	char *copy;
	int rc;

	if (!name_is_sane(target))
		return say_why(err, -EPROTO);
	rc = ref_list_charge(list, target.len + 1);
	if (rc)
		return say_why(err, rc);
	copy = text_copy(target);
	if (!copy)
		return say_why(err, -ENOMEM);
	free(ref->symref);
	ref->symref = copy;
	return 0;
}

/* ---- choosing ---- */

static bool name_matches(const char *full, const char *prefix, const char *name, const char *suffix)
{
	size_t prefix_len = strlen(prefix), name_len = strlen(name);

	return strncmp(full, prefix, prefix_len) == 0 &&
	       strncmp(full + prefix_len, name, name_len) == 0 &&
	       strcmp(full + prefix_len + name_len, suffix) == 0;
}

const struct ref *ref_select(const struct ref_list *list, const char *name)
{
	static const struct {
		const char *prefix, *suffix;
	} rules[] = {
		{ "", "" },
		{ "refs/", "" },
		{ "refs/tags/", "" },
		{ "refs/heads/", "" },
		{ "refs/remotes/", "" },
		{ "refs/remotes/", "/HEAD" },
	};

	for (size_t rule = 0; rule < sizeof(rules) / sizeof(*rules); rule++) {
		for (size_t i = 0; i < list->count; i++) {
			if (name_matches(list->v[i].name, rules[rule].prefix, name,
					 rules[rule].suffix))
				return &list->v[i];
		}
	}
	return NULL;
}

/* ---- the ls-refs answer ---- */

static int add_attributes(struct ref_list *list, struct text attributes, struct xcp_error *err)
{
	struct ref *ref = &list->v[list->count - 1];
	struct text attribute;

	while (text_cut(&attributes, ' ', &attribute)) {
		int rc = 0;

		if (text_skip(&attribute, "symref-target:"))
			rc = ref_set_symref(list, ref, attribute, err);
		else if (text_skip(&attribute, "peeled:") && text_cut_oid(&attribute, &ref->peeled))
			rc = say_why(err, -EPROTO);
		if (rc)
			return rc;
	}
	return 0;
}

/* "<oid> NAME[ symref-target:NAME][ peeled:<oid>]" or "unborn NAME symref-target:NAME" */
int ref_list_add_line(struct ref_list *list, struct text line, struct xcp_error *err)
{
	struct oid oid = { 0 };
	struct text name;
	int rc;

	if (!text_skip(&line, "unborn ") && text_cut_oid(&line, &oid))
		return say_why(err, -EPROTO);
	if (!text_cut(&line, ' ', &name))
		return say_why(err, -EPROTO);
	rc = ref_list_add_text(list, name, &oid, err);
	return rc ? rc : add_attributes(list, line, err);
}

void refs_parser_init(struct refs_parser *parser)
{
	memset(parser, 0, sizeof(*parser));
	pkt_reader_init(&parser->reader);
}

void refs_parser_release(struct refs_parser *parser)
{
	pkt_reader_release(&parser->reader);
	ref_list_release(&parser->refs);
}

static int take_packet(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len,
		       struct xcp_error *err)
{
	struct refs_parser *parser = arg;
	int rc;

	if (kind == PKT_FLUSH) {
		parser->finished = true;
		return 1;
	}
	if (kind != PKT_DATA)
		return xcp_error_set(err, -EPROTO,
				     "cannot read " WHAT ": unexpected separator in the answer");
	rc = protocol_check_err(err, WHAT, data, len);
	return rc ? rc : ref_list_add_line(&parser->refs, text_from_packet(data, len), err);
}

int refs_parser_feed(struct refs_parser *parser, const uint8_t *data, size_t len, size_t *out_used,
		     struct xcp_error *err)
{
	if (out_used)
		*out_used = 0;
	if (parser->finished)
		return 0;
	return protocol_feed(&parser->reader, data, len, out_used, take_packet, parser, WHAT, err);
}
