/* Tests of git/object: commits, tags, trees, and the names that are never shown. */
#include "git/object.h"

#include <errno.h>

#include "expect.h"
#include "git_support.h"

#define HEX1 "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
#define HEX256 "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"

static void test_commits(void)
{
	static const struct {
		const char *text;
		enum oid_algo algo;
		int rc;
		int64_t time;
	} cases[] = {
		{ "tree " HEX1
		  "\nauthor A <a@b> 1 +0000\ncommitter C <c@d> 1700000001 +0100\n\nhi\n",
		  OID_SHA1, 0, 1700000001 },
		{ "tree " HEX256 "\ncommitter C <c@d> 5 +0100\n\n", OID_SHA256, 0, 5 },
		{ "tree " HEX1 "\nparent " HEX1 "\nparent " HEX1 "\ncommitter C <c> 7> 9 +0000\n",
		  OID_SHA1, 0, 9 },
		{ "tree " HEX1 "\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1 "\n\ncommitter C <c> 9 +0000\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1 "\ncommitter C c 9 +0000\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1 "\ncommitter C <c> -9 +0000\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1 "\ncommitter C <c> 99999999999999999999 +0000\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1 "\ncommitter C <c> 9223372036854775807 +0000\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1 "\ncommitter C <c>\n", OID_SHA1, 0, 0 },
		{ "tree " HEX1, OID_SHA1, -EPROTO, 0 },
		{ "tree " HEX1 "\n", OID_SHA256, -EPROTO, 0 },
		{ "tree " HEX256 "\n", OID_SHA1, -EPROTO, 0 },
		{ "tree x" HEX1 "\n", OID_SHA1, -EPROTO, 0 },
		{ "parent " HEX1 "\ntree " HEX1 "\n", OID_SHA1, -EPROTO, 0 },
		{ "", OID_SHA1, -EPROTO, 0 },
		{ "\n", OID_SHA1, -EPROTO, 0 },
	};
	char hex[OID_MAX_HEX + 1];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct commit commit;
		int rc = commit_parse(cases[i].algo, (const uint8_t *)cases[i].text,
				      strlen(cases[i].text), &commit);

		EXPECT_INT(rc, cases[i].rc, "commit %zu", i);
		if (rc)
			continue;
		EXPECT_STR(oid_to_hex(&commit.tree, hex), cases[i].algo == OID_SHA1 ? HEX1 : HEX256,
			   "its tree");
		EXPECT_INT(commit.time, cases[i].time, "its time");
	}
}

static void test_tags(void)
{
	static const struct {
		const char *text;
		int rc;
		enum object_type type;
	} cases[] = {
		{ "object " HEX1 "\ntype commit\ntag v1\n", 0, OBJECT_COMMIT },
		{ "object " HEX1 "\ntype tag\ntag v1\n", 0, OBJECT_TAG },
		{ "object " HEX1 "\ntype tree\n", 0, OBJECT_TREE },
		{ "object " HEX1 "\ntype blob\n", 0, OBJECT_BLOB },
		{ "object " HEX1 "\ntype none\n", -EPROTO, 0 },
		{ "object " HEX1 "\ntype commits\n", -EPROTO, 0 },
		{ "object " HEX1 "\ntype commit", -EPROTO, 0 },
		{ "object " HEX1 "\ntag v1\n", -EPROTO, 0 },
		{ "object " HEX256 "\ntype commit\n", -EPROTO, 0 },
		{ "", -EPROTO, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tag tag;
		int rc = tag_parse(OID_SHA1, (const uint8_t *)cases[i].text, strlen(cases[i].text),
				   &tag);

		EXPECT_INT(rc, cases[i].rc, "tag %zu", i);
		if (!rc)
			EXPECT_INT(tag.type, cases[i].type, "its type");
	}
}

#define H20 "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
#define H32 H20 "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20"
#define T(bytes) bytes, sizeof(bytes) - 1

/* Reads a tree as "mode name, ..." in octal; "!" behind it where it is malformed. */
static const char *tree_text(struct buf *out, enum oid_algo algo, const void *data, size_t len)
{
	struct tree_cursor cursor;
	struct tree_entry entry;
	int rc;

	tree_cursor_init(&cursor, algo, data, len);
	while ((rc = tree_next(&cursor, &entry)) > 0) {
		buf_addf(out, "%o %s,", (unsigned)entry.mode, entry.name);
		if (entry.name_len != strlen(entry.name) ||
		    memcmp(entry.oid.hash, H32, oid_algo_len(algo)) != 0)
			buf_addf(out, "(wrong)");
	}
	if (rc)
		buf_addf(out, rc == -EPROTO ? "!" : "(%d)", rc);
	return buf_str(out);
}

static void test_trees(void)
{
	static const struct {
		enum oid_algo algo;
		const char *data;
		size_t len;
		const char *want;
	} cases[] = {
		{ OID_SHA1, T(""), "" },
		{ OID_SHA1, T("100644 a\0" H20), "100644 a," },
		{ OID_SHA256, T("100644 a\0" H32 "40000 d\0" H32), "100644 a,40000 d," },
		{ OID_SHA1,
		  T("100644 a b\0" H20 "100755 x\0" H20 "120000 l\0" H20 "160000 s\0" H20),
		  "100644 a b,100755 x,120000 l,160000 s," },
		{ OID_SHA1,
		  T("100664 a\0" H20 "100600 b\0" H20 "100777 c\0" H20 "040000 d\0" H20
		    "120777 l\0" H20),
		  "100644 a,100644 b,100755 c,40000 d,120000 l," },
		{ OID_SHA1, T("0 a\0" H20 "20000 b\0" H20), "160000 a,160000 b," },
		{ OID_SHA1, T("100644 \0" H20), "100644 ," },
		{ OID_SHA1, T("100644 a\0" H20 "1"), "100644 a,!" },
		{ OID_SHA1, T("100644 a\0\x01\x02"), "!" },
		{ OID_SHA1, T("100644 a"), "!" },
		{ OID_SHA1, T("100644 "), "!" },
		{ OID_SHA1, T("100644"), "!" },
		{ OID_SHA1, T(" a\0" H20), "!" },
		{ OID_SHA1, T("100648 a\0" H20), "!" },
		{ OID_SHA1, T("-100644 a\0" H20), "!" },
		{ OID_SHA1, T("7777777777777777777777100644 a\0" H20), "!" },
		{ OID_SHA256, T("100644 a\0" H20), "!" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf out = BUF_INIT;
		uint8_t *exact = malloc(
			cases[i].len ? cases[i].len : 1); /* no byte behind it, for the sanitizer */

		memcpy(exact, cases[i].data, cases[i].len);
		EXPECT_STR(tree_text(&out, cases[i].algo, exact, cases[i].len), cases[i].want,
			   "tree %zu", i);
		free(exact);
		buf_release(&out);
	}
}

#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X255 X50 X50 X50 X50 X50 "xxxxx"

static const struct {
	const char *name;
	bool refused;
} names[] = {
	{ "a", false },
	{ ".gitignore", false },
	{ ".gitmodules", false },
	{ ".gi", false },
	{ ".gitx", false },
	{ "git", false },
	{ "x.git", false },
	{ "...", false },
	{ "..a", false },
	{ ".a", false },
	{ "git~", false },
	{ "git~2", false },
	{ "git~10", false },
	{ "git~1a", false },
	{ ".git.a", false },
	{ ".git x", false },
	{ " .git", false },
	{ "a\\b", false },
	{ "a\\.gitx", false },
	{ "caf\xc3\xa9", false },
	{ "\xff\xfe", false },
	{ "\xe2\x80\x8c", false },
	{ ".g\xc3\xaft", false },
	{ "a\nb", false },
	{ X255, false },
	{ ".", true },
	{ "..", true },
	{ ".git", true },
	{ ".GIT", true },
	{ ".gIt", true },
	{ ".git.", true },
	{ ".git...", true },
	{ ".git ", true },
	{ ".git . .", true },
	{ ".git:", true },
	{ ".git::$INDEX_ALLOCATION", true },
	{ ".GIT .:x", true },
	{ "git~1", true },
	{ "GIT~1", true },
	{ "git~1 .", true },
	{ "git~1:x", true },
	{ ".git\\x", true },
	{ "a\\.git", true },
	{ "a\\.GIT .", true },
	{ "a\\git~1", true },
	{ ".g\xe2\x80\x8cit", true },
	{ "\xe2\x80\x8d.git", true },
	{ ".git\xe2\x80\x8e", true },
	{ ".Gi\xe2\x80\x8ft", true },
	{ ".g\xe2\x80\xaait", true },
	{ ".g\xe2\x80\xaeit", true },
	{ ".g\xe2\x81\xaait", true },
	{ ".g\xe2\x81\xafit", true },
	{ ".g\xef\xbb\xbfit", true },
	{ ".git\xff", true },
};

static void test_names(void)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		size_t len = strlen(names[i].name);
		char *exact = malloc(len);

		memcpy(exact, names[i].name, len); /* without a NUL behind it, for the sanitizer */
		EXPECT_INT(tree_name_refused(exact, len), names[i].refused, "name %zu", i);
		free(exact);
	}
	EXPECT(tree_name_refused("", 0), "no name");
	EXPECT(tree_name_refused("a/b", 3), "slash");
	EXPECT(tree_name_refused("/", 1), "slash alone");
	EXPECT(tree_name_refused("a\0b", 3), "NUL");
	EXPECT(tree_name_refused(X255 "x", 256), "256 bytes");
}

/* The same table, asked of git: what it refuses to put into an index, we refuse to show. */
static void test_names_as_git_has_them(void)
{
	git_sh(NULL, "git init -q names && git -C names config core.protectHFS true && git -C "
		     "names config core.protectNTFS true");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		git_write_file("name", names[i].name, strlen(names[i].name));
		EXPECT_INT(git_sh(NULL, "git -C names update-index --add --cacheinfo 100644," HEX1
					",\"$(cat name)\"") != 0,
			   names[i].refused, "git agrees on name %zu", i);
	}
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	git_setup();
	TAP_RUN(test_commits);
	TAP_RUN(test_tags);
	TAP_RUN(test_trees);
	TAP_RUN(test_names);
	TAP_RUN(test_names_as_git_has_them);
	return tap_done();
}
