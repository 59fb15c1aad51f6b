/*
 * Resolving. The names that a ref can be short for, and their order, are ref_select()'s; here is
 * what is asked of the remote for them, what is remembered, and what a person is told when it
 * comes to nothing.
 */
#include "repo/resolve.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "git/protocol.h"
#include "remote/remote.h"
#include "repo/bring.h"
#include "repo/near.h"
#include "repo/step.h"

#define PEEL_MAX 16 /* tags of tags */
#define COMMIT_MAX_LEN ((size_t)16 << 20)

static const char *ref_name(const struct resolve_config *config)
{
	return config->name ? config->name : "HEAD";
}

/* ---- what is remembered ---- */

static int recall(const struct resolve_config *config, struct resolved *out)
{
	struct buf value = BUF_INIT;
	int64_t stored_s = 0;
	int ret = fetch_fact_get(config->fetch, RESOLVE_FACT, ref_name(config), &value, &stored_s);

	if (ret == 0)
		ret = oid_from_hex((const char *)value.data, value.len, &out->commit);
	buf_release(&value);
	if (ret)
		return -ENOENT;
	out->from_cache = true;
	out->resolved_s = stored_s;
	return 0;
}

void resolve_remember(const struct resolve_config *config, const struct resolved *resolved)
{
	char hex[OID_MAX_HEX + 1];
	int ret;

	if (resolved->from_cache)
		return;
	oid_to_hex(&resolved->commit, hex);
	ret = fetch_fact_put(config->fetch, RESOLVE_FACT, ref_name(config), hex, strlen(hex));
	if (ret)
		log_debug("repo: cannot remember %s: %s", ref_name(config), strerror(-ret));
}

/* ---- asking the remote ---- */

#define FORM_COUNT 6
#define FORM_MAX_LEN 4096 /* nothing longer is a ref anywhere */

/* What the remote is asked for a name. */
struct question {
	const char *prefixes[FORM_COUNT];
	size_t count;
	struct buf texts[FORM_COUNT]; /* what the prefixes point to */
};

static void question_release(struct question *question)
{
	for (size_t i = 0; i < FORM_COUNT; i++)
		buf_release(&question->texts[i]);
}

static int add_form(struct question *question, const char *form, const char *name)
{
	struct buf *text = &question->texts[question->count];
	const char *mark = strstr(form, "%s");
	int ret = buf_add(text, form, (size_t)(mark - form));

	ret = ret ? ret : buf_add_str(text, name);
	ret = ret ? ret : buf_add_str(text, mark + 2);
	question->prefixes[question->count++] = buf_str(text);
	return ret || !buf_str(text) ? -ENOMEM : 0;
}

/* -EINVAL for what is too long for a name; release it in any case. */
static int question_init(struct question *question, const char *name)
{
	static const char *const forms[FORM_COUNT] = { "%s",
						       "refs/%s",
						       "refs/tags/%s",
						       "refs/heads/%s",
						       "refs/remotes/%s",
						       "refs/remotes/%s/HEAD" };
	bool head = !name || strcmp(name, "HEAD") == 0;
	int ret = 0;

	*question = (struct question){ 0 };
	if (head)
		return add_form(question, "%s", "HEAD");
	if (strlen(name) > FORM_MAX_LEN)
		return -EINVAL;
	for (size_t i = 0; i < FORM_COUNT && ret == 0; i++)
		ret = add_form(question, forms[i], name);
	return ret;
}

static bool is_id(const char *name, struct oid *out)
{
	return name && oid_from_hex(name, strlen(name), out) == 0;
}

void resolve_expect(struct remote *remote, const char *name)
{
	struct question question;
	struct oid oid;

	if (is_id(name, &oid))
		return;
	if (question_init(&question, name) == 0)
		remote_expect_refs(remote, question.prefixes, question.count);
	question_release(&question);
}

static int ask(const struct resolve_config *config, struct ref_list *out, struct xcp_error *err)
{
	struct question question;
	int ret = question_init(&question, config->name);

	if (ret == 0)
		ret = remote_refs(config->remote, question.prefixes, question.count, out, err);
	else if (ret == -EINVAL)
		xcp_error_set(err, ret, "a ref of %zu bytes is too long", strlen(config->name));
	else
		xcp_error_set(err, ret, "out of memory");
	question_release(&question);
	return ret;
}

/* ---- words for what is not there ---- */

static bool looks_abbreviated(const char *name)
{
	size_t len = strspn(name, "0123456789abcdefABCDEF");

	return name[len] == '\0' && len >= 4 && len < OID_MAX_HEX;
}

/* Why HEAD names nothing. `all` holds branches and tags. */
static int say_no_head(const struct resolve_config *config, const struct ref_list *all,
		       const char *target, struct xcp_error *err)
{
	char names[400];

	if (all->count == 0)
		return xcp_error_set(err, -ENOENT,
				     "%s is an empty repository: there is no commit to mount yet",
				     config->shown);
	near_list(all, "", names, sizeof(names));
	return xcp_error_set(
		err, -ENOENT, "HEAD of %s names no commit%s%s; choose a ref with --ref: %s",
		config->shown, target ? ": there is no " : "", target ? target : "", names);
}

static int say_no_ref(const struct resolve_config *config, const struct ref_list *all,
		      struct xcp_error *err)
{
	char names[400];

	if (all->count == 0)
		return xcp_error_set(
			err, -ENOENT,
			"there is no ref \"%s\" in %s, which has no branches and no tags",
			config->name, config->shown);
	if (looks_abbreviated(config->name))
		return xcp_error_set(err, -ENOENT,
				     "there is no branch or tag \"%s\" in %s; if it is short for a "
				     "commit id, give all of it",
				     config->name, config->shown);
	near_list(all, config->name, names, sizeof(names));
	return xcp_error_set(err, -ENOENT, "there is no branch, tag or commit \"%s\" in %s%s%s",
			     config->name, config->shown, names[0] ? "; there is " : "", names);
}

/* `found`: a ref that points to nothing; NULL. */
static int say_missing(const struct resolve_config *config, const struct ref *found,
		       struct xcp_error *err)
{
	static const char *const prefixes[] = { "refs/heads/", "refs/tags/" };
	struct ref_list all = { 0 };
	int ret = remote_refs(config->remote, prefixes, 2, &all, NULL);

	if (ret) /* the first answer is enough to know that it is not there */
		ret = xcp_error_set(err, -ENOENT, "there is no \"%s\" in %s", ref_name(config),
				    config->shown);
	else if (strcmp(ref_name(config), "HEAD") == 0)
		ret = say_no_head(config, &all, found ? found->symref : NULL, err);
	else
		ret = say_no_ref(config, &all, err);
	ref_list_release(&all);
	return ret;
}

/* ---- a commit's id, abbreviated ---- */

/* Not a ref, but perhaps the beginning of an id, which the API of the host may know. */
static int find_abbreviated(const struct resolve_config *config, struct oid *out,
			    struct xcp_error *err)
{
	struct resolved known = { 0 };
	struct xcp_error why = { 0 };
	int ret;

	if (!looks_abbreviated(ref_name(config)))
		return -EOPNOTSUPP;
	if (recall(config, &known) == 0) { /* it does not come to mean another */
		*out = known.commit;
		return 0;
	}
	ret = remote_find_commit(config->remote, config->name, out, &why);
	if (ret == 0 || ret == -EOPNOTSUPP)
		return ret;
	return xcp_error_set(err, -ENOENT,
			     "there is no branch or tag \"%s\" in %s, nor is it known to be short "
			     "for a commit id: %s",
			     config->name, config->shown, why.message);
}

/* ---- the id ---- */

static bool is_silence(int status)
{
	return status == -ENETUNREACH || status == -ETIMEDOUT || status == -EAGAIN;
}

static int say_unknown(const struct resolve_config *config, struct xcp_error *err)
{
	return xcp_error_set(
		err, -ENETUNREACH,
		"%s of %s was never resolved here; mount it once while its remote can be reached",
		ref_name(config), config->shown);
}

static int resolve_remotely(const struct resolve_config *config, struct resolved *out,
			    struct xcp_error *err)
{
	struct ref_list list = { 0 };
	int ret = ask(config, &list, err);

	if (ret) {
		xcp_error_prefix(err, "resolving %s", ref_name(config));
	} else {
		const struct ref *ref = ref_select(&list, ref_name(config));

		if (ref && !oid_is_null(&ref->oid))
			out->commit = oid_is_null(&ref->peeled) ? ref->oid : ref->peeled;
		else
			ret = ref ? -EOPNOTSUPP : find_abbreviated(config, &out->commit, err);
		if (ret == -EOPNOTSUPP)
			ret = say_missing(config, ref, err);
	}
	if (ret == 0) {
		out->from_cache = false;
		out->resolved_s = clock_wall_s();
	}
	ref_list_release(&list);
	return ret;
}

/* A full id means itself; a tag's was perhaps peeled before. */
static void take_id(const struct resolve_config *config, const struct oid *oid,
		    struct resolved *out)
{
	if (recall(config, out)) {
		out->commit = *oid;
		out->resolved_s = clock_wall_s();
	}
	out->from_cache = config->offline;
}

static int find(const struct resolve_config *config, struct resolved *out, struct xcp_error *err)
{
	struct oid oid;
	int ret;

	if (is_id(config->name, &oid)) {
		take_id(config, &oid, out);
		return 0;
	}
	if (config->offline || !config->remote)
		return recall(config, out) ? say_unknown(config, err) : 0;
	ret = resolve_remotely(config, out, err);
	if (!is_silence(ret) || recall(config, out))
		return ret;
	log_warn("%s: the remote does not answer; showing the last known commit (%s)",
		 config->shown, err->message);
	*err = (struct xcp_error){ 0 };
	return 0;
}

/* ---- the commit ---- */

static int say_no_commit(const struct resolve_config *config, enum object_type type,
			 struct xcp_error *err)
{
	return xcp_error_set(err, -EINVAL, "%s of %s names a %s, not a commit", ref_name(config),
			     config->shown, object_type_name(type));
}

/* What a tag points to. */
static int peel(const struct resolve_config *config, struct content *content, struct oid *oid,
		struct xcp_error *err)
{
	struct block *block;
	struct tag tag;
	int ret = content_block(content, 1 << 20, &block);

	if (ret)
		return xcp_error_set(err, ret, "cannot read the tag %s", ref_name(config));
	ret = tag_parse(oid->algo, block->data, block->len, &tag);
	block_unref(block);
	if (ret)
		return xcp_error_set(err, ret, "the tag %s of %s is malformed", ref_name(config),
				     config->shown);
	if (tag.type != OBJECT_COMMIT && tag.type != OBJECT_TAG)
		return say_no_commit(config, tag.type, err);
	*oid = tag.object;
	return 0;
}

static int parse(const struct resolve_config *config, struct content *content, struct resolved *out,
		 struct xcp_error *err)
{
	struct block *block;
	int ret = content_block(content, COMMIT_MAX_LEN, &block);

	if (ret == 0) {
		ret = commit_parse(out->commit.algo, block->data, block->len, &out->parsed);
		block_unref(block);
	}
	if (ret)
		return xcp_error_set(err, ret, "cannot read the commit that %s of %s names: %s",
				     ref_name(config), config->shown, strerror(-ret));
	return 0;
}

/*
 * Whatever the id names. What is asked for as a commit and is something else is refused, but may
 * have come all the same, or can be had as what it most likely is.
 */
static int bring_any(const struct resolve_config *config, const struct oid *oid,
		     struct content **out, struct xcp_error *err)
{
	int ret;

	step_prepare(config->fetch, oid);
	ret = bring_commit(config->fetch, oid, "commit", out, err);
	/* Not all of its trees came before, but what did can be shown. */
	if (is_silence(ret) && !fetch_get(config->fetch, oid, COMMIT_MAX_LEN, out)) {
		*err = (struct xcp_error){ 0 };
		return 0;
	}
	if (ret != -EBADMSG || bring_object(config->fetch, oid, OBJECT_TAG, "tag", out, NULL))
		return ret;
	*err = (struct xcp_error){ 0 };
	return 0;
}

static int bring(const struct resolve_config *config, struct resolved *out, struct xcp_error *err)
{
	struct content *content;
	int ret;

	for (int i = 0; i < PEEL_MAX; i++) {
		ret = bring_any(config, &out->commit, &content, err);
		if (ret)
			return ret;
		enum object_type type = content->type;

		if (type == OBJECT_COMMIT)
			ret = parse(config, content, out, err);
		else if (type == OBJECT_TAG)
			ret = peel(config, content, &out->commit, err);
		else
			ret = say_no_commit(config, type, err);
		content_unref(content);
		if (ret || type == OBJECT_COMMIT)
			return ret;
	}
	return xcp_error_set(err, -ELOOP, "%s of %s is a tag of a tag of a tag, and so on",
			     ref_name(config), config->shown);
}

int resolve(const struct resolve_config *config, struct resolved *out, struct xcp_error *err)
{
	struct xcp_error ignored = { 0 };
	struct resolved found = { 0 }, last = { 0 };
	int ret;

	if (!err)
		err = &ignored;
	ret = find(config, &found, err);
	if (ret)
		return ret;
	ret = bring(config, &found, err);
	/* The remote may fall silent between the two. */
	if (is_silence(ret) && !found.from_cache && !recall(config, &last) &&
	    !oid_equal(&last.commit, &found.commit)) {
		log_warn("%s: %s; showing the last known commit", config->shown, err->message);
		found = last;
		*err = (struct xcp_error){ 0 };
		ret = bring(config, &found, err);
	}
	if (ret == 0)
		*out = found;
	return ret;
}
