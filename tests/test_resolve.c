/*
 * Resolving: what a name means, what is remembered of it, and what a person is told.
 */
#include "repo/resolve.h"

#include <errno.h>

#include "base/clock.h"
#include "fake_fetch.h"
#include "tap.h"

struct fixture {
	struct fetch *fetch;
	struct remote *remote;
	struct oid tree, old, new; /* old and new are commits */
};

static struct fixture fixture_open(void)
{
	struct fixture f = { .fetch = fake_open(), .remote = fake_remote_open() };

	clock_fake(5000000);
	fake_mode(f.fetch, FAKE_THREAD);
	f.tree = fake_tree(f.fetch, NULL, 0);
	f.old = fake_commit(f.fetch, &f.tree, 1000);
	f.new = fake_commit(f.fetch, &f.tree, 2000);
	return f;
}

static void fixture_close(struct fixture *f)
{
	fake_remote_close(f->remote);
	fake_close(f->fetch);
	clock_real();
}

static struct resolve_config config(const struct fixture *f, const char *name)
{
	return (struct resolve_config){
		.fetch = f->fetch, .remote = f->remote, .name = name, .shown = "example/r"
	};
}

static int resolve_name(const struct fixture *f, const char *name, struct resolved *out,
			struct xcp_error *err)
{
	struct resolve_config how = config(f, name);

	*err = (struct xcp_error){ 0 };
	return resolve(&how, out, err);
}

static void remember(const struct fixture *f, const char *name)
{
	struct resolve_config how = config(f, name);
	struct resolved resolved;

	if (resolve(&how, &resolved, NULL))
		abort();
	resolve_remember(&how, &resolved);
}

static const char *hex_of(const struct oid *oid)
{
	static char hex[OID_MAX_HEX + 1];

	return oid_to_hex(oid, hex);
}

#define CHECK_OID(got, want) CHECK_MEM(&(got), sizeof(struct oid), &(want), sizeof(struct oid))

static void test_no_name_means_the_remotes_head(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "HEAD", &f.new, NULL, "refs/heads/trunk");
	fake_ref(f.remote, "refs/heads/trunk", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/heads/main", &f.old, NULL, NULL);
	CHECK_INT(resolve_name(&f, NULL, &r, &err), 0);
	CHECK_OID(r.commit, f.new);
	CHECK_OID(r.parsed.tree, f.tree);
	CHECK_INT(r.parsed.time, 2000);
	CHECK(!r.from_cache);
	CHECK_INT(r.resolved_s, 5000);
	CHECK_UINT(fake_remote_calls(f.remote), 1);
	fixture_close(&f);
}

static void test_names_mean_what_they_mean_to_git(void)
{
	struct fixture f = fixture_open();
	struct oid tag = fake_tag(f.fetch, &f.old, "commit");
	static const struct {
		const char *name;
		bool is_new;
	} rows[] = {
		{ "main", true },
		{ "refs/heads/main", true },
		{ "heads/main", true },
		/* tag wins */
		{ "v1", false },
		{ "tags/v1", false },
		{ "both", false },
		{ "heads/both", true },
		{ "dir/leaf", true },
		{ "annotated", false },
		{ "refs/pull/1/head", true },
		{ "pull/1/head", true },
	};

	fake_ref(f.remote, "refs/heads/main", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/heads/main2", &f.old, NULL, NULL);
	fake_ref(f.remote, "refs/heads/both", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/heads/dir/leaf", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/pull/1/head", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/tags/both", &f.old, NULL, NULL);
	fake_ref(f.remote, "refs/tags/v1", &f.old, NULL, NULL);
	fake_ref(f.remote, "refs/tags/annotated", &tag, &f.old, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct xcp_error err;
		struct resolved r;

		CHECK_MSG(resolve_name(&f, rows[i].name, &r, &err) == 0, "%s: %s", rows[i].name,
			  err.message);
		CHECK_MSG(oid_equal(&r.commit, rows[i].is_new ? &f.new : &f.old), "%s",
			  rows[i].name);
	}
	fixture_close(&f);
}

static void test_a_full_id_is_not_asked_for(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	CHECK_INT(resolve_name(&f, hex_of(&f.old), &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK(!r.from_cache);
	CHECK_UINT(fake_remote_calls(f.remote), 0);
	CHECK_UINT(fake_counts(f.fetch).commits, 1);
	fixture_close(&f);
}

static void test_what_is_expected_is_what_is_asked(void)
{
	static const char *const names[] = { NULL, "HEAD", "main", "refs/tags/v1" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct fixture f = fixture_open();
		struct xcp_error err;
		struct resolved r;

		resolve_expect(f.remote, names[i]);
		CHECK_CONTAINS(fake_remote_expected(f.remote), names[i] ? names[i] : "HEAD");
		fake_remote_fail(f.remote, -EPROTO);
		CHECK_INT(resolve_name(&f, names[i], &r, &err), -EPROTO);
		CHECK_STR(fake_remote_asked(f.remote), fake_remote_expected(f.remote));
		fixture_close(&f);
	}
}

static void test_for_an_id_nothing_is_expected(void)
{
	struct fixture f = fixture_open();

	resolve_expect(f.remote, hex_of(&f.old));
	CHECK_STR(fake_remote_expected(f.remote), "");
	fixture_close(&f);
}

static void test_a_tags_id_is_peeled_and_remembered(void)
{
	struct fixture f = fixture_open();
	struct oid tag = fake_tag(f.fetch, &f.old, "commit"),
		   tagtag = fake_tag(f.fetch, &tag, "tag");
	char name[OID_MAX_HEX + 1];
	struct xcp_error err;
	struct resolved r;

	oid_to_hex(&tagtag, name);
	CHECK_INT(resolve_name(&f, name, &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK_UINT(fake_counts(f.fetch).commits, 3);
	remember(&f, name);
	unsigned before = fake_counts(f.fetch).commits;

	CHECK_INT(resolve_name(&f, name, &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK_UINT(fake_counts(f.fetch).commits, before + 1);
	fixture_close(&f);
}

static void test_a_tags_id_is_peeled_without_a_cache(void)
{
	struct fixture f = fixture_open();
	struct oid tag = fake_tag(f.fetch, &f.old, "commit"), blob = fake_blob(f.fetch, "x");
	struct xcp_error err;
	struct resolved r;

	fake_keep(f.fetch, false);
	CHECK_INT(resolve_name(&f, hex_of(&tag), &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK_INT(err.code, 0);
	CHECK_INT(resolve_name(&f, hex_of(&blob), &r, &err), -EBADMSG);
	CHECK_CONTAINS(err.message, hex_of(&blob));
	fixture_close(&f);
}

static void test_a_tag_of_no_commit_is_refused(void)
{
	struct fixture f = fixture_open();
	struct oid blob = fake_blob(f.fetch, "x");
	struct oid tag = fake_tag(f.fetch, &f.tree, "tree");
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/tags/tree", &tag, &f.tree, NULL);
	fake_ref(f.remote, "refs/tags/blob", &blob, NULL, NULL);
	CHECK_INT(resolve_name(&f, "tree", &r, &err), -EINVAL);
	CHECK_CONTAINS(err.message, "tree of example/r names a tree, not a commit");
	CHECK_INT(resolve_name(&f, "blob", &r, &err), -EINVAL);
	CHECK_CONTAINS(err.message, "names a blob");
	CHECK_INT(resolve_name(&f, hex_of(&tag), &r, &err), -EINVAL);
	CHECK_CONTAINS(err.message, "names a tree");
	CHECK_INT(resolve_name(&f, hex_of(&blob), &r, &err), -EINVAL);
	fixture_close(&f);
}

static void test_a_tag_chain_without_end_ends(void)
{
	struct fixture f = fixture_open();
	struct oid tag = fake_tag(f.fetch, &f.old, "commit");
	struct xcp_error err;
	struct resolved r;

	for (int i = 0; i < 40; i++)
		tag = fake_tag(f.fetch, &tag, "tag");
	CHECK_INT(resolve_name(&f, hex_of(&tag), &r, &err), -ELOOP);
	fixture_close(&f);
}

static void test_malformed_objects_are_refused(void)
{
	struct fixture f = fixture_open();
	struct oid commit = fake_object(f.fetch, OBJECT_COMMIT, "nonsense", 8);
	struct oid tag = fake_object(f.fetch, OBJECT_TAG, "nonsense", 8);
	struct xcp_error err;
	struct resolved r;

	CHECK_INT(resolve_name(&f, hex_of(&commit), &r, &err), -EPROTO);
	CHECK(err.message[0]);
	CHECK_INT(resolve_name(&f, hex_of(&tag), &r, &err), -EPROTO);
	CHECK(err.message[0]);
	fixture_close(&f);
}

/* ---- nothing there ---- */

static void test_an_unknown_name_is_answered_with_those_like_it(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/main", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/heads/release-2", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/tags/v1.0", &f.new, NULL, NULL);
	for (int i = 0; i < 20; i++) {
		char name[40];

		snprintf(name, sizeof(name), "refs/heads/topic/number-%d", i);
		fake_ref(f.remote, name, &f.new, NULL, NULL);
	}
	CHECK_INT(resolve_name(&f, "mian", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "there is no branch, tag or commit \"mian\" in example/r");
	CHECK_CONTAINS(err.message, "; there is main");
	CHECK(!strstr(err.message, "topic"));
	CHECK_INT(resolve_name(&f, "release", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "release-2");
	CHECK_INT(resolve_name(&f, "1.0", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "v1.0");
	CHECK_INT(resolve_name(&f, "entirely-different", &r, &err), -ENOENT);
	CHECK(!strstr(err.message, "there is main"));
	fixture_close(&f);
}

static void test_of_few_refs_all_are_offered(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/trunk", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/tags/one", &f.new, NULL, NULL);
	CHECK_INT(resolve_name(&f, "zzzzzzzz", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "there is trunk or one");
	fixture_close(&f);
}

static void test_a_short_id_is_answered_with_what_to_do(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/trunk", &f.new, NULL, NULL);
	CHECK_INT(resolve_name(&f, "deadbeef", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "short for a commit id, give all of it");
	fixture_close(&f);
}

static void test_a_short_id_is_found_where_the_host_knows_it(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/trunk", &f.new, NULL, NULL);
	fake_ref(f.remote, "refs/heads/beef", &f.new, NULL, NULL);
	fake_remote_short(f.remote, 0, &f.old);
	CHECK_INT(resolve_name(&f, "deadbeef", &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK(!r.from_cache);
	CHECK_UINT(fake_remote_short_calls(f.remote), 1);
	/* It means the same for ever. */
	remember(&f, "deadbeef");
	fake_remote_short(f.remote, -EAGAIN, NULL);
	CHECK_INT(resolve_name(&f, "deadbeef", &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK(!r.from_cache);
	CHECK_UINT(fake_remote_short_calls(f.remote), 2); /* of remember() */
	/* A branch of that name is meant first. */
	CHECK_INT(resolve_name(&f, "beef", &r, &err), 0);
	CHECK_OID(r.commit, f.new);
	CHECK_UINT(fake_remote_short_calls(f.remote), 2);
	/* What is no id is not asked for. */
	CHECK_INT(resolve_name(&f, "nothing", &r, &err), -ENOENT);
	CHECK_INT(resolve_name(&f, "abc", &r, &err), -ENOENT);
	CHECK_UINT(fake_remote_short_calls(f.remote), 2);
	fixture_close(&f);
}

static void test_a_short_id_that_the_host_does_not_know(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/trunk", &f.new, NULL, NULL);
	for (unsigned i = 0; i < 2; i++) {
		fake_remote_short(f.remote, i ? -ENOENT : -EAGAIN, NULL);
		CHECK_INT(resolve_name(&f, "deadbeef", &r, &err), -ENOENT);
		CHECK_CONTAINS(err.message, "there is no branch or tag \"deadbeef\"");
		CHECK_CONTAINS(err.message, "the fake API does not say");
	}
	fixture_close(&f);
}

static void test_an_empty_repository_is_called_that(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	CHECK_INT(resolve_name(&f, NULL, &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "example/r is an empty repository");
	fake_ref(f.remote, "HEAD", NULL, NULL, "refs/heads/main"); /* unborn */
	CHECK_INT(resolve_name(&f, NULL, &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "empty repository");
	CHECK_INT(resolve_name(&f, "main", &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "no branches and no tags");
	fixture_close(&f);
}

static void test_a_head_that_names_nothing_is_answered_with_branches(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "HEAD", NULL, NULL, "refs/heads/master");
	fake_ref(f.remote, "refs/heads/main", &f.new, NULL, NULL);
	CHECK_INT(resolve_name(&f, NULL, &r, &err), -ENOENT);
	CHECK_CONTAINS(err.message, "there is no refs/heads/master; choose a ref with --ref: main");
	fixture_close(&f);
}

static void test_a_very_long_name_is_refused(void)
{
	struct fixture f = fixture_open();
	char name[8000];
	struct xcp_error err;
	struct resolved r;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK_INT(resolve_name(&f, name, &r, &err), -EINVAL);
	fixture_close(&f);
}

/* ---- remembering ---- */

static void test_without_the_remote_the_last_known_commit_is_taken(void)
{
	static const int silences[] = { -ENETUNREACH, -ETIMEDOUT, -EAGAIN };
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/main", &f.old, NULL, NULL);
	fake_fact_time(f.fetch, 4321);
	remember(&f, "main");
	for (size_t i = 0; i < sizeof(silences) / sizeof(silences[0]); i++) {
		fake_remote_fail(f.remote, silences[i]);
		CHECK_INT(resolve_name(&f, "main", &r, &err), 0);
		CHECK_OID(r.commit, f.old);
		CHECK(r.from_cache);
		CHECK_INT(r.resolved_s, 4321);
		CHECK_INT(err.code, 0);
	}
	fixture_close(&f);
}

static void test_other_failures_of_the_remote_are_errors(void)
{
	static const int failures[] = { -EACCES, -ENOENT, -EPROTO, -EREMOTEIO };
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/main", &f.old, NULL, NULL);
	remember(&f, "main");
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		fake_remote_fail(f.remote, failures[i]);
		CHECK_INT(resolve_name(&f, "main", &r, &err), failures[i]);
		CHECK_CONTAINS(err.message, "resolving main: the fake remote fails");
	}
	fixture_close(&f);
}

static void test_without_the_remote_an_unknown_name_is_an_error(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_remote_fail(f.remote, -ETIMEDOUT);
	CHECK_INT(resolve_name(&f, "main", &r, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.message, "the fake remote fails");
	fixture_close(&f);
}

static void test_offline_asks_nobody(void)
{
	struct fixture f = fixture_open();
	struct resolve_config how = config(&f, "main");
	struct xcp_error err;
	struct resolved r;

	how.offline = true;
	CHECK_INT(resolve(&how, &r, &err), -ENETUNREACH);
	CHECK_CONTAINS(err.message, "was never resolved here");
	fake_ref(f.remote, "refs/heads/main", &f.old, NULL, NULL);
	remember(&f, "main");
	how.remote = NULL;
	CHECK_INT(resolve(&how, &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK(r.from_cache);
	CHECK_UINT(fake_remote_calls(f.remote), 1);
	fixture_close(&f);
}

static void test_what_is_remembered_is_kept_per_name(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "HEAD", &f.new, NULL, "refs/heads/main");
	fake_ref(f.remote, "refs/heads/side", &f.old, NULL, NULL);
	remember(&f, NULL);
	remember(&f, "side");
	fake_remote_fail(f.remote, -ENETUNREACH);
	CHECK_INT(resolve_name(&f, NULL, &r, &err), 0);
	CHECK_OID(r.commit, f.new);
	CHECK_INT(resolve_name(&f, "side", &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	fixture_close(&f);
}

static void test_a_remembered_commit_is_not_remembered_anew(void)
{
	struct fixture f = fixture_open();
	struct resolve_config how = config(&f, "main");
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/main", &f.old, NULL, NULL);
	remember(&f, "main");
	fake_remote_fail(f.remote, -ENETUNREACH);
	CHECK_INT(resolve(&how, &r, &err), 0);
	resolve_remember(&how, &r);
	CHECK_UINT(fake_fact_puts(f.fetch), 1);
	fixture_close(&f);
}

static void test_a_damaged_memory_is_none(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fetch_fact_put(f.fetch, "ref", "main", "12345", 5);
	fake_remote_fail(f.remote, -ENETUNREACH);
	CHECK_INT(resolve_name(&f, "main", &r, &err), -ENETUNREACH);
	fixture_close(&f);
}

static void test_a_remote_that_falls_silent_later_is_silent_too(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fetch_fact_put(f.fetch, "ref", "main", hex_of(&f.old), 40);
	fake_here(f.fetch, &f.old);
	fake_ref(f.remote, "refs/heads/main", &f.new, NULL, NULL);
	fake_silence(f.fetch, -ENETUNREACH);
	CHECK_INT(resolve_name(&f, "main", &r, &err), 0);
	CHECK_OID(r.commit, f.old);
	CHECK(r.from_cache);
	fixture_close(&f);
}

static void test_a_commit_that_cannot_be_had_is_named(void)
{
	struct fixture f = fixture_open();
	struct xcp_error err;
	struct resolved r;

	fake_ref(f.remote, "refs/heads/main", &f.new, NULL, NULL);
	fake_silence(f.fetch, -EACCES);
	CHECK_INT(resolve_name(&f, "main", &r, &err), -EACCES);
	CHECK_CONTAINS(err.message, hex_of(&f.new));
	CHECK_CONTAINS(err.message, "refuses access");
	fixture_close(&f);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_no_name_means_the_remotes_head);
	TAP_RUN(test_names_mean_what_they_mean_to_git);
	TAP_RUN(test_a_full_id_is_not_asked_for);
	TAP_RUN(test_what_is_expected_is_what_is_asked);
	TAP_RUN(test_for_an_id_nothing_is_expected);
	TAP_RUN(test_a_tags_id_is_peeled_and_remembered);
	TAP_RUN(test_a_tags_id_is_peeled_without_a_cache);
	TAP_RUN(test_a_tag_of_no_commit_is_refused);
	TAP_RUN(test_a_tag_chain_without_end_ends);
	TAP_RUN(test_malformed_objects_are_refused);
	TAP_RUN(test_an_unknown_name_is_answered_with_those_like_it);
	TAP_RUN(test_of_few_refs_all_are_offered);
	TAP_RUN(test_a_short_id_is_answered_with_what_to_do);
	TAP_RUN(test_a_short_id_is_found_where_the_host_knows_it);
	TAP_RUN(test_a_short_id_that_the_host_does_not_know);
	TAP_RUN(test_an_empty_repository_is_called_that);
	TAP_RUN(test_a_head_that_names_nothing_is_answered_with_branches);
	TAP_RUN(test_a_very_long_name_is_refused);
	TAP_RUN(test_without_the_remote_the_last_known_commit_is_taken);
	TAP_RUN(test_other_failures_of_the_remote_are_errors);
	TAP_RUN(test_without_the_remote_an_unknown_name_is_an_error);
	TAP_RUN(test_offline_asks_nobody);
	TAP_RUN(test_what_is_remembered_is_kept_per_name);
	TAP_RUN(test_a_remembered_commit_is_not_remembered_anew);
	TAP_RUN(test_a_damaged_memory_is_none);
	TAP_RUN(test_a_remote_that_falls_silent_later_is_silent_too);
	TAP_RUN(test_a_commit_that_cannot_be_had_is_named);
	return tap_done();
}
