/*
 * Tests of src/remote/pipe.c and remote.c against real git, on this machine and through a stand-in
 * for ssh.
 */
#include "remote/remote.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "expect.h"
#include "git_support.h"
#include "remote_support.h"

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))
#define NOWHERE "0123456789012345678901234567890123456789"

static struct broker *broker;
static struct place place;
static struct collector collector;

static bool stage_source(const char *text, unsigned stall_ms)
{
	collector_init(&collector);
	return place_open(&place, text, broker, false, stall_ms);
}

static bool stage(const char *repository)
{
	char text[256];

	snprintf(text, sizeof(text), "%s/%s", git_dir_path, repository);
	return stage_source(text, 0);
}

static void leave(void)
{
	place_close(&place);
	collector_release(&collector);
}

static int start_fetch(const struct oid *want, unsigned deepen, const char *filter,
		       struct remote_sink *sink, struct remote_call **out)
{
	struct fetch_spec spec = {
		.wants = want, .want_count = 1, .deepen = deepen, .filter = filter
	};

	return remote_start_fetch(place.remote, &spec, sink, out);
}

/* Fetches the depth-1 history of HEAD with all it refers to, and has git look through the pack. */
static void check_fetch_of_head(const char *repository, const char *filter, const char *want_count)
{
	struct remote_call *call;
	struct buf count = BUF_INIT;
	struct oid head;
	char line[128];

	snprintf(line, sizeof(line), "git -C %s rev-parse HEAD", repository);
	head = git_oid(line);
	CHECK_INT(start_fetch(&head, 1, filter, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	git_write_file("got.pack", collector.pack.data, collector.pack.len);
	CHECK_INT(git_sh(NULL, "rm -f got.idx; git -C %s index-pack --strict ../got.pack",
			 repository),
		  0);
	git_sh(&count,
	       "git show-index --object-format=$(git -C %s rev-parse --show-object-format) "
	       "<got.idx | wc -l",
	       repository);
	CHECK_STR(buf_str(&count), want_count);
	buf_release(&count);
}

/* ---- this machine ---- */

static void test_a_local_repository_is_asked_in_version_2(void)
{
	const char *const prefixes[] = { "refs/tags/", "HEAD" };
	struct ref_list refs = { 0 };

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_UINT(remote_caps(place.remote), REMOTE_OBJECTS | REMOTE_SUBTREE | REMOTE_STEP |
						      REMOTE_SIZES | REMOTE_SHALLOW | REMOTE_EARLY);
	CHECK_INT(remote_refs(place.remote, prefixes, 2, &refs, NULL), 0);
	CHECK_STR(ref_select(&refs, "HEAD")->symref, "refs/heads/main");
	CHECK(!oid_is_null(&ref_select(&refs, "v1")->peeled));
	ref_list_release(&refs);
	leave();
}

static void test_all_trees_come_in_one_answer(void)
{
	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	check_fetch_of_head("sha1", "blob:none", "4\n");
	TAP_STOP();
	leave();
}

static void test_sha256_as_well(void)
{
	CHECK(stage("sha256"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	check_fetch_of_head("sha256", "blob:none", "4\n");
	TAP_STOP();
	leave();
}

static void test_one_child_serves_many_calls_in_turn(void)
{
	struct remote_counters counters;
	struct remote_call *call;
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:one");
	struct ref_list refs = { 0 };

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	for (int i = 0; i < 10; i++) {
		CHECK_INT(start_fetch(&blob, 0, NULL, &collector.sink, &call), 0);
		CHECK_INT(collector_wait(&collector), REMOTE_OK);
		CHECK_MEM(collector.pack.data, 4, "PACK", 4);
		collector_release(&collector);
		collector_init(&collector);
		CHECK_INT(remote_start_sizes(place.remote, &blob, 1, &collector.sink, &call), 0);
		CHECK_INT(collector_wait(&collector), REMOTE_OK);
		CHECK_UINT(collector.size_sum, 1);
		collector_release(&collector);
		collector_init(&collector);
		CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
		ref_list_release(&refs);
	}
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.connections, 1);
	CHECK_UINT(counters.requests_caps, 1);
	CHECK_UINT(counters.requests_fetch, 10);
	CHECK_UINT(counters.requests_sizes, 10);
	CHECK_UINT(counters.requests_refs, 10);
	CHECK(counters.bytes_received > 1000);
	CHECK(counters.bytes_sent > 1000);
	leave();
}

static void test_what_is_known_needs_no_question(void)
{
	struct remote_counters counters;
	struct remote_call *call;
	struct buf known = BUF_INIT;
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:one");

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(server_caps_format(remote_server_caps(place.remote), &known), 0);
	leave();
	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, buf_str(&known), NULL), 0);
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.connections, 0);
	CHECK_INT(start_fetch(&blob, 0, NULL, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	buf_release(&known);
	leave();
}

static void test_an_unknown_object_is_named_and_the_next_call_works(void)
{
	struct oid wants[2] = { git_oid("git -C sha1 rev-parse HEAD:one") };
	struct fetch_spec spec = { .wants = wants, .want_count = 2 };
	struct remote_call *call;

	CHECK_INT(oid_from_hex(NOWHERE, 40, &wants[1]), 0);
	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_INT(remote_start_fetch(place.remote, &spec, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_UNKNOWN_OBJECT);
	CHECK(oid_equal(&collector.outcome.unknown, &wants[1]));
	CHECK(collector.outcome.answered);
	collector_release(&collector);
	collector_init(&collector);
	CHECK_INT(start_fetch(&wants[0], 0, NULL, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	leave();
}

static void test_many_calls_at_once_share_a_few_children(void)
{
	static struct collector many[20];
	struct remote_counters counters;
	struct remote_call *call;
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:random");

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	for (size_t i = 0; i < COUNT(many); i++) {
		collector_init(&many[i]);
		CHECK_INT(start_fetch(&blob, 0, NULL, &many[i].sink, &call), 0);
	}
	for (size_t i = 0; i < COUNT(many); i++) {
		CHECK_INT(collector_wait(&many[i]), REMOTE_OK);
		CHECK(many[i].pack.len > 300000);
		collector_release(&many[i]);
	}
	remote_counters(place.remote, &counters);
	CHECK(counters.connections <= 3);
	CHECK_UINT(counters.requests_fetch, COUNT(many));
	leave();
}

static void test_a_paused_call_does_not_hold_up_others_and_goes_on(void)
{
	static struct collector paused;
	struct remote_call *paused_call, *call;
	struct oid large = git_oid("git -C sha1 rev-parse HEAD:random");
	struct oid small = git_oid("git -C sha1 rev-parse HEAD:one");

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	collector_init(&paused);
	paused.pause_every = 100000;
	paused.pause_at = 1;
	CHECK_INT(start_fetch(&large, 0, NULL, &paused.sink, &paused_call), 0);
	collector_wait_bytes(&paused, 1);
	CHECK_INT(start_fetch(&small, 0, NULL, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	CHECK(!collector_is_done(&paused));
	CHECK(collector_len(&paused) < 100 << 10);
	for (unsigned pauses = 1; !collector_is_done(&paused); pauses++) {
		remote_call_resume(paused_call);
		lock_take(&paused.lock);
		while (paused.pauses <= pauses && !paused.done)
			lock_cond_wait(&paused.changed, &paused.lock);
		lock_give(&paused.lock);
	}
	CHECK_INT(paused.outcome.verdict, REMOTE_OK);
	CHECK(paused.pack.len > 300000);
	collector_release(&paused);
	leave();
}

static void test_a_canceled_call_ends_and_its_child_with_it(void)
{
	static struct collector paused;
	struct remote_call *call;
	struct oid large = git_oid("git -C sha1 rev-parse HEAD:random");

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	collector_init(&paused);
	paused.pause_every = paused.pause_at = 1;
	CHECK_INT(start_fetch(&large, 0, NULL, &paused.sink, &call), 0);
	collector_wait_bytes(&paused, 1);
	remote_call_cancel(call);
	CHECK_INT(collector_wait(&paused), REMOTE_CANCELED);
	CHECK_INT(start_fetch(&large, 0, NULL, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	collector_release(&paused);
	leave();
}

static void test_calls_in_the_queue_can_be_canceled_and_closing_ends_all(void)
{
	static struct collector many[10];
	struct remote_call *calls[COUNT(many)];
	struct oid large = git_oid("git -C sha1 rev-parse HEAD:random");

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	for (size_t i = 0; i < COUNT(many); i++) {
		collector_init(&many[i]);
		many[i].pause_every = many[i].pause_at = 1;
		CHECK_INT(start_fetch(&large, 0, NULL, &many[i].sink, &calls[i]), 0);
	}
	/* Three are served and pause, the rest wait: from either end one is canceled. */
	remote_call_cancel(calls[COUNT(many) - 1]);
	CHECK_INT(collector_wait(&many[COUNT(many) - 1]), REMOTE_CANCELED);
	remote_call_cancel(calls[0]);
	CHECK_INT(collector_wait(&many[0]), REMOTE_CANCELED);
	remote_close(&place.remote);
	for (size_t i = 0; i < COUNT(many); i++) {
		CHECK(many[i].done);
		CHECK_INT(many[i].outcome.verdict, REMOTE_CANCELED);
		collector_release(&many[i]);
	}
	leave();
}

static void test_a_child_that_died_between_calls_is_replaced(void)
{
	struct remote_counters counters;
	struct remote_call *call;
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:one");

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	for (int i = 0; i < 5; i++) {
		CHECK_INT(start_fetch(&blob, 0, NULL, &collector.sink, &call), 0);
		CHECK_INT(collector_wait(&collector), REMOTE_OK);
		collector_release(&collector);
		collector_init(&collector);
		/* this test's child is the seed, below it are the broker and then git */
		git_sh(NULL,
		       "for seed in $(pgrep -P %d -x xcpfs-seed); do "
		       "kill -9 $(pgrep -P $(pgrep -P $seed)); done",
		       (int)getpid());
	}
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.connections, 5);
	CHECK_UINT(counters.errors, 0);
	leave();
}

static enum remote_verdict fetch_one(const struct oid *blob)
{
	struct remote_call *call;

	collector_release(&collector);
	collector_init(&collector);
	if (start_fetch(blob, 0, NULL, &collector.sink, &call))
		return REMOTE_BROKEN;
	return collector_wait(&collector);
}

static void test_a_killed_broker_costs_one_try_at_most(void)
{
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:one");
	unsigned kills = 0;

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	for (unsigned round = 0; kills < 3 && round < 500; round++) {
		unsigned failed = 0;

		/* There is none till the one before is missed: nothing to kill. */
		kills += git_sh(NULL, "pkill -9 -P $(pgrep -P %d -x xcpfs-seed)", (int)getpid()) ==
			 0;
		/* git is ended for it, a moment later: be it in the middle of a call */
		for (unsigned try = 0; try < 3; try++) {
			enum remote_verdict verdict = fetch_one(&blob);

			CHECK(verdict == REMOTE_OK || verdict == REMOTE_TRANSIENT);
			failed += verdict != REMOTE_OK;
		}
		CHECK(failed <= 1);
	}
	CHECK_UINT(kills, 3);
	leave();
}

static void test_version_0_serves_each_fetch_with_a_child_of_its_own(void)
{
	struct remote_counters counters;
	struct ref_list refs = { 0 };

	git_write_file("mode", "v0", 2);
	CHECK(stage_source("me@host.example:sha1", 0));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_UINT(remote_server_caps(place.remote)->version, 0);
	CHECK_INT(remote_refs(place.remote, NULL, 0, &refs, NULL), 0);
	CHECK(refs.count > 4);
	ref_list_release(&refs);
	check_fetch_of_head("sha1", NULL, "12\n");
	TAP_STOP();
	collector_release(&collector);
	collector_init(&collector);
	check_fetch_of_head("sha1", NULL, "12\n");
	TAP_STOP();
	remote_counters(place.remote, &counters);
	CHECK_UINT(counters.connections, 2);
	leave();
}

static void test_what_is_wrong_with_a_path_is_said(void)
{
	static const struct {
		const char *path;
		int code;
		const char *words;
	} rows[] = {
		{ "none", -ENOENT, "there is no such path" },
		{ "plain/file/x", -ENOENT, "there is no such path" },
		{ "plain", -ENOENT, "it is no git repository" },
		{ "plain/file", -ENOENT, "it is no git repository" },
		{ "closed", -ENOENT, "you may not read it" },
	};

	git_sh(NULL, "mkdir -p plain closed; touch plain/file; chmod 0 closed");
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct xcp_error err = { 0 };

		if (strcmp(rows[i].path, "closed") == 0 && geteuid() == 0)
			continue; /* nothing is closed to root */
		CHECK(stage(rows[i].path));
		EXPECT_INT(remote_connect(place.remote, NULL, &err), rows[i].code, "row %zu: %s", i,
			   err.message);
		EXPECT(strstr(err.message, rows[i].words) != NULL, "row %zu: %s", i, err.message);
		EXPECT(strstr(err.message, "cannot open /") == err.message, "row %zu: %s", i,
		       err.message);
		leave();
	}
}

static void test_dubious_ownership_comes_with_its_remedy(void)
{
	struct xcp_error err = { 0 };

	if (geteuid() != 0)
		TAP_SKIP("only root can give files away");
	git_sh(NULL, "cp -a sha1 others && chown -R 12345 others");
	CHECK(stage("others"));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -EACCES);
	CHECK_CONTAINS(err.message, "git config --global --add safe.directory /");
	CHECK_CONTAINS(err.message, "/others");
	leave();
}

static void test_without_a_broker_there_is_an_error(void)
{
	struct xcp_error err = { 0 };
	struct remote_call *call;
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:one");
	char text[256];

	snprintf(text, sizeof(text), "%s/sha1", git_dir_path);
	collector_init(&collector);
	CHECK(place_open(&place, text, NULL, false, 0));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -ENOTSUP);
	CHECK_INT(remote_connect(place.remote, "v2 sha1", NULL), 0);
	CHECK_INT(start_fetch(&blob, 0, NULL, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_BROKEN);
	leave();
}

/* ---- ssh, as far as that can be told apart without one ---- */

/*
 * Logs its arguments. The first word of the file "mode" says what kind of host it is:
 *	shell	runs any command; the environment does not arrive
 *	forge	knows git-upload-pack alone; the environment arrives
 *	narrow	knows git-upload-pack alone; the environment does not arrive
 *	v0	runs any command, of which none knows version 2
 *	fail	prints the rest of the file to stderr
 *	mute	says nothing
 *	noise	says something else
 *	trickle	an advertisement, without end
 *	banner	like shell, with noise on stderr
 */
static const char fake_ssh[] =
	"#!/bin/sh\n"
	"cd '%1$s'; printf '%%s\\n' \"$*\" >>ssh.log\n"
	"for command; do :; done\n"
	"read mode rest <mode\n"
	"case $mode in\n"
	"shell) unset GIT_PROTOCOL;;\n"
	"banner) unset GIT_PROTOCOL; echo 'Unauthorized access is prohibited' >&2;;\n"
	"forge) case $command in git-upload-pack*) ;; *) echo \"Invalid command: $command\" >&2; "
	"exit 1;; esac;;\n"
	"narrow) unset GIT_PROTOCOL; case $command in git-upload-pack*) ;; *) echo \"Invalid "
	"command: $command\" >&2; exit 1;; esac;;\n"
	"v0) unset GIT_PROTOCOL; command=${command#env GIT_PROTOCOL=version=2 };;\n"
	"fail) tail -n +2 mode >&2; exit 255;;\n"
	"mute) exec sleep 1000;;\n"
	"noise) echo Welcome; exit 0;;\n"
	"trickle) echo 000eversion 2; while sleep 0.05; do printf '0008a=b\\n'; done;;\n"
	"esac\n"
	"exec sh -c \"$command\"\n";

static void make_fake_ssh(void)
{
	char text[4096], path[128];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), fake_ssh, git_dir_path);
#pragma GCC diagnostic pop
	git_write_file("fake-ssh", text, strlen(text));
	snprintf(path, sizeof(path), "%s/fake-ssh", git_dir_path);
	chmod(path, 0700);
	setenv("XCPFS_SSH", path, 1);
}

static const char *ssh_log(void)
{
	static struct buf log;

	buf_clear(&log);
	git_sh(&log, "cat ssh.log; rm -f ssh.log");
	return buf_str(&log);
}

static void set_mode(const char *mode)
{
	git_write_file("mode", mode, strlen(mode));
	git_sh(NULL, "rm -f ssh.log");
}

static void test_each_kind_of_host_is_called_in_the_way_it_understands(void)
{
	static const struct {
		const char *mode, *source;
		unsigned version, connections;
		bool filter;
	} rows[] = {
		{ "shell", "me@h:sha1", 2, 1, true },	    { "shell", "git@h:sha1", 2, 2, true },
		{ "forge", "me@h:sha1", 2, 2, true },	    { "forge", "git@h:sha1", 2, 1, true },
		{ "narrow", "me@h:sha1", 0, 2, true },	    { "narrow", "git@h:sha1", 0, 3, true },
		{ "banner", "ssh://h/~/sha1", 2, 1, true },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct remote_counters counters;
		struct remote_call *call;
		struct xcp_error err = { 0 };
		struct oid blob = git_oid("git -C sha1 rev-parse main");

		set_mode(rows[i].mode);
		CHECK(stage_source(rows[i].source, 0));
		if (!EXPECT(remote_connect(place.remote, NULL, &err) == 0, "row %zu: %s", i,
			    err.message)) {
			leave();
			continue;
		}
		EXPECT_INT(remote_server_caps(place.remote)->version, rows[i].version, "row %zu",
			   i);
		EXPECT_INT(remote_server_caps(place.remote)->fetch_filter, rows[i].filter,
			   "row %zu", i);
		CHECK_INT(start_fetch(&blob, 1, NULL, &collector.sink, &call), 0);
		EXPECT_INT(collector_wait(&collector), REMOTE_OK, "row %zu: %s", i,
			   collector.outcome.error.message);
		remote_counters(place.remote, &counters);
		EXPECT_INT(counters.connections, rows[i].connections, "row %zu: %s", i, ssh_log());
		leave();
	}
}

static void test_the_arguments_of_ssh(void)
{
	set_mode("shell");
	CHECK(stage_source("ssh://me@host.example:2222/~/it's%20a%20r!epo", 0));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	CHECK_STR(ssh_log(),
		  "-o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o "
		  "SendEnv=GIT_PROTOCOL -p 2222 -- me@host.example env "
		  "GIT_PROTOCOL=version=2 git -c uploadpack.allowFilter=true "
		  "-c transfer.advertiseObjectInfo=true upload-pack 'it'\\''s a r'\\!'epo'\n");
	leave();
}

static void test_what_ssh_says_is_understood(void)
{
	static const struct {
		const char *mode;
		int code;
		unsigned connections;
		const char *words;
	} rows[] = {
		{ "fail\nme@h: Permission denied (publickey).\n", -EACCES, 1,
		  "cannot connect to ssh://h/~/sha1: the host does not let you in (me@h: "
		  "Permission "
		  "denied (publickey).); check the user name" },
		{ "fail\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key "
		  "verification failed.\n",
		  -EACCES, 1, "ssh-keygen -R h" },
		{ "fail\nfatal: '/x': Permission denied\n", -EACCES, 2,
		  "you may not read it there" },
		{ "fail\nHost key verification failed.\n", -EACCES, 1, "run \"ssh h\" once" },
		{ "fail\nssh: Could not resolve hostname h: Name or service not known\n",
		  -ENETUNREACH, 1,
		  "the host's name is not known (ssh: Could not resolve hostname" },
		{ "fail\nssh: connect to host h port 22: Connection refused\n", -ENETUNREACH, 1,
		  "no ssh server listens there (ssh: connect to host h port 22: Connection "
		  "refused)" },
		{ "fail\nssh: connect to host h port 22: Connection timed out\n", -ETIMEDOUT, 1,
		  "timed out" },
		{ "fail\nHello\nERROR: Repository not found.\n\n", -ENOENT, 2,
		  "Repository not found" },
		{ "fail\nfatal: '/x' does not appear to be a git repository\nfatal: more\n",
		  -ENOENT, 1,
		  "cannot open ssh://h/~/sha1: the host has no git repository at that path (fatal: "
		  "'/x' does not appear" },
		{ "fail\nsh: git-upload-pack: command not found\n", -ENOENT, 2,
		  "git is not installed there" },
		{ "fail\nsh: 1: git-upload-pack: not found\n", -ENOENT, 2,
		  "git is not installed there" },
		{ "fail\n", -ENETUNREACH, 2, "without a word" },
		{ "noise\n", -EPROTO, 2, "not git" },
		{ "mute\n", -ETIMEDOUT, 1, "no answer" },
		{ "trickle\n", -ETIMEDOUT, 1, "too slowly to be of use" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct remote_counters counters;
		struct xcp_error err = { 0 };

		set_mode(rows[i].mode);
		CHECK(stage_source("me@h:sha1", i + 2 >= COUNT(rows) ? 300 : 0));
		EXPECT_INT(remote_connect(place.remote, NULL, &err), rows[i].code, "row %zu: %s", i,
			   err.message);
		EXPECT(strstr(err.message, rows[i].words) != NULL, "row %zu: %s", i, err.message);
		remote_counters(place.remote, &counters);
		EXPECT_INT(counters.connections, rows[i].connections, "row %zu", i);
		leave();
	}
}

static void test_a_missing_ssh_is_named(void)
{
	struct xcp_error err = { 0 };

	setenv("XCPFS_SSH", "/nonexistent/ssh", 1);
	CHECK(stage_source("me@h:r", 0));
	CHECK_INT(remote_connect(place.remote, NULL, &err), -EIO);
	CHECK_CONTAINS(err.message, "/nonexistent/ssh");
	leave();
	make_fake_ssh();
}

static void test_a_host_that_stalls_ends_the_calls_and_comes_back(void)
{
	static struct collector many[5];
	struct remote_call *call;
	struct oid blob = git_oid("git -C sha1 rev-parse HEAD:one");

	set_mode("mute");
	CHECK(stage_source("me@h:sha1", 200));
	CHECK_INT(remote_connect(place.remote, "v2 sha1 shallow filter", NULL), 0);
	for (size_t i = 0; i < COUNT(many); i++) {
		collector_init(&many[i]);
		CHECK_INT(start_fetch(&blob, 0, NULL, &many[i].sink, &call), 0);
	}
	for (size_t i = 0; i < COUNT(many); i++) {
		CHECK_INT(collector_wait(&many[i]), REMOTE_TRANSIENT);
		CHECK(!many[i].outcome.answered);
		collector_release(&many[i]);
	}
	set_mode("forge");
	CHECK_INT(start_fetch(&blob, 0, NULL, &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_OK);
	leave();
}

static void test_a_refused_feature_is_recognised(void)
{
	struct remote_call *call;
	struct oid blob = git_oid("git -C nofilter rev-parse HEAD:one");

	/* What was remembered of this host is no longer so. */
	set_mode("forge");
	CHECK(stage_source("git@h:nofilter", 0));
	CHECK_INT(remote_connect(place.remote, "v2 sha1 shallow filter", NULL), 0);
	CHECK_INT(start_fetch(&blob, 0, "blob:none", &collector.sink, &call), 0);
	CHECK_INT(collector_wait(&collector), REMOTE_REFUSED_FEATURE);
	CHECK_CONTAINS(collector.outcome.error.message, "filter");
	leave();
}

static void test_children_are_gone_when_the_remote_is_closed(void)
{
	struct buf count = BUF_INIT;

	CHECK(stage("sha1"));
	CHECK_INT(remote_connect(place.remote, NULL, NULL), 0);
	leave();
	/* The broker reaps them; with its next answer it has heard of the order to kill. */
	for (int i = 0; i < 2000 && !(count.len == 2 && count.data[0] == '0'); i++) {
		buf_clear(&count);
		git_sh(&count, "ps -o args= -u $(id -u) | grep -c '[u]pload-pack %s'",
		       git_dir_path);
	}
	CHECK_STR(buf_str(&count), "0\n");
	buf_release(&count);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	git_setup();
	unsetenv("GIT_SSH");
	make_fake_ssh();
	git_make_repository("sha1", "sha1");
	git_make_repository("sha256", "sha256");
	git_sh(NULL, "cp -a sha1 \"it's a r!epo\"; cp -a sha1 nofilter; git -C nofilter config "
		     "uploadpack.allowFilter false");
	if (broker_start(&broker, NULL))
		return EXIT_FAILURE;
	broker_detach(broker);
	TAP_RUN(test_a_local_repository_is_asked_in_version_2);
	TAP_RUN(test_all_trees_come_in_one_answer);
	TAP_RUN(test_sha256_as_well);
	TAP_RUN(test_one_child_serves_many_calls_in_turn);
	TAP_RUN(test_what_is_known_needs_no_question);
	TAP_RUN(test_an_unknown_object_is_named_and_the_next_call_works);
	TAP_RUN(test_many_calls_at_once_share_a_few_children);
	TAP_RUN(test_a_paused_call_does_not_hold_up_others_and_goes_on);
	TAP_RUN(test_a_canceled_call_ends_and_its_child_with_it);
	TAP_RUN(test_calls_in_the_queue_can_be_canceled_and_closing_ends_all);
	TAP_RUN(test_a_child_that_died_between_calls_is_replaced);
	TAP_RUN(test_a_killed_broker_costs_one_try_at_most);
	TAP_RUN(test_version_0_serves_each_fetch_with_a_child_of_its_own);
	TAP_RUN(test_what_is_wrong_with_a_path_is_said);
	TAP_RUN(test_dubious_ownership_comes_with_its_remedy);
	TAP_RUN(test_without_a_broker_there_is_an_error);
	TAP_RUN(test_each_kind_of_host_is_called_in_the_way_it_understands);
	TAP_RUN(test_the_arguments_of_ssh);
	TAP_RUN(test_what_ssh_says_is_understood);
	TAP_RUN(test_a_missing_ssh_is_named);
	TAP_RUN(test_a_host_that_stalls_ends_the_calls_and_comes_back);
	TAP_RUN(test_a_refused_feature_is_recognised);
	TAP_RUN(test_children_are_gone_when_the_remote_is_closed);
	broker_stop(&broker);
	return tap_done();
}
