/* Tests of src/remote/json_items.c. */
#include "remote/json_items.h"

#include <errno.h>

#include "expect.h"

struct got {
	char names[400]; /* "a b " */
	int fail_with;
};

static int on_item(void *arg, const json_t *item)
{
	struct got *got = arg;
	const char *name = json_string_value(json_object_get(item, "n"));
	size_t len = strlen(got->names);

	snprintf(got->names + len, sizeof(got->names) - len, "%s ", name ? name : "-");
	return got->fail_with;
}

/* Fed in pieces of `step` bytes; *out is the rest, NULL on an error. */
static int read_all(const char *text, size_t len, const char *member, size_t step, struct got *got,
		    json_t **out)
{
	struct json_items items;
	struct xcp_error err = { 0 };
	int rc = 0;

	*out = NULL;
	got->names[0] = '\0';
	json_items_init(&items, member, on_item, got);
	for (size_t at = 0; at < len && !rc; at += step)
		rc = json_items_feed(&items, (const uint8_t *)text + at,
				     len - at < step ? len - at : step, &err);
	if (!rc)
		rc = json_items_end(&items, out, &err);
	json_items_release(&items);
	return rc;
}

static void test_items_are_found_however_they_come(void)
{
	static const struct {
		const char *text, *member, *names;
	} rows[] = {
		{ "{\"sha\":\"x\",\"tree\":[{\"n\":\"a\"},{\"n\":\"b\"}],\"truncated\":false}",
		  "tree", "a b " },
		{ " { \"tree\" : [ {\"n\":\"a\"} ,\n{\"n\":\"b\" } ] }\n", "tree", "a b " },
		{ "{\"tree\":[]}", "tree", "" },
		{ "[{\"n\":\"a\"},{\"n\":\"b\"}]", NULL, "a b " },
		{ "[]", NULL, "" },
		/* brackets and quotes in strings, arrays and objects in items */
		{ "{\"tree\":[{\"n\":\"a]}\",\"x\":[{\"tree\":[{}]},[]]},{\"n\":\"\\\"]\\\\\"}]}",
		  "tree", "a]} \"]\\ " },
		/* other arrays, and the name as a value or deeper down */
		{ "{\"other\":[{\"n\":\"x\"}],\"tree\":[{\"n\":\"a\"}]}", "tree", "a " },
		{ "{\"k\":\"tree\",\"l\":[{\"n\":\"x\"}],\"tree\":[{\"n\":\"a\"}]}", "tree", "a " },
		{ "{\"k\":{\"tree\":[{\"n\":\"x\"}]},\"tree\":[{\"n\":\"a\"}]}", "tree", "a " },
		{ "{\"tree\":[{\"n\":\"a\"}],\"tree\":[{\"n\":\"x\"}]}", "tree", "a " },
		/* what is no item is passed over */
		{ "{\"tree\":[{\"n\":\"a\"},{\"n\":\"\xff\"},{\"n\"},{\"n\":\"b\"}]}", "tree",
		  "a b " },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t step = 1; step < 100; step += step < 5 ? 1 : 30) {
			struct got got = { 0 };
			json_t *rest;

			EXPECT_INT(read_all(rows[i].text, strlen(rows[i].text), rows[i].member,
					    step, &got, &rest),
				   0, "%s", rows[i].text);
			EXPECT(!strcmp(got.names, rows[i].names), "%s: %s", rows[i].text,
			       got.names);
			json_decref(rest);
		}
	}
}

static void test_the_rest_is_what_is_around(void)
{
	const char *text = "{\"sha\":\"x\",\"tree\":[{\"truncated\":false}],\"truncated\":true}";
	struct got got = { 0 };
	json_t *rest;

	CHECK_INT(read_all(text, strlen(text), "tree", 7, &got, &rest), 0);
	CHECK(json_is_true(json_object_get(rest, "truncated")));
	CHECK_STR(json_string_value(json_object_get(rest, "sha")), "x");
	CHECK_UINT(json_array_size(json_object_get(rest, "tree")), 0);
	json_decref(rest);
}

static void test_what_is_no_such_document_is_refused(void)
{
	static const struct {
		const char *text, *member;
	} rows[] = {
		{ "", "tree" },
		{ "<html>", "tree" },
		{ "{}", "tree" },
		{ "[]", "tree" },
		{ "{\"tree\":{}}", "tree" },
		{ "{\"tree\":null}", "tree" },
		{ "{\"tree\":\"x\",\"y\":[{}]}", "tree" },
		{ "{\"tree\":[1]}", "tree" },
		{ "{\"tree\":[[]]}", "tree" },
		{ "{\"tree\":[\"a\"]}", "tree" },
		{ "{\"tree\":[{}]", "tree" },
		{ "{\"tree\":[{}]}}", "tree" },
		{ "{\"tree\":[{}]}{}", "tree" },
		{ "{\"tree\":[{}]} x", "tree" },
		{ "{\"tree\":[{}],}", "tree" },
		{ "{\"tree\" x:[{}]}", "tree" },
		{ "{}", NULL },
		{ "[{}", NULL },
		{ "[1]", NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct got got = { 0 };
		json_t *rest;

		EXPECT_INT(read_all(rows[i].text, strlen(rows[i].text), rows[i].member, 3, &got,
				    &rest),
			   -EPROTO, "%s", rows[i].text);
		EXPECT(!rest, "%s", rows[i].text);
	}
}

static void test_an_item_may_end_it(void)
{
	const char *text = "[{\"n\":\"a\"},{\"n\":\"b\"}]";
	struct got got = { .fail_with = -ECANCELED };
	json_t *rest;

	CHECK_INT(read_all(text, strlen(text), NULL, 100, &got, &rest), -ECANCELED);
	CHECK_STR(got.names, "a ");
}

static int read_filled(const char *head, char filler, size_t count, const char *tail)
{
	size_t head_len = strlen(head), len = head_len + count + strlen(tail);
	char *text = malloc(len + 1);
	struct got got = { 0 };
	json_t *rest;
	int rc;

	memcpy(text, head, head_len);
	memset(text + head_len, filler, count);
	strcpy(text + head_len + count, tail);
	rc = read_all(text, len, "tree", 4096, &got, &rest);
	json_decref(rest);
	free(text);
	return rc;
}

static void test_neither_items_nor_the_rest_are_endless(void)
{
	CHECK_INT(read_filled("{\"tree\":[{\"n\":\"", 'a', JSON_ITEM_MAX_LEN - 100, "\"}]}"), 0);
	CHECK_INT(read_filled("{\"tree\":[{\"n\":\"", 'a', JSON_ITEM_MAX_LEN, "\"}]}"), -EPROTO);
	CHECK_INT(read_filled("{\"x\":\"", 'a', JSON_REST_MAX_LEN - 100, "\",\"tree\":[]}"), 0);
	CHECK_INT(read_filled("{\"x\":\"", 'a', JSON_REST_MAX_LEN, "\",\"tree\":[]}"), -EPROTO);
	CHECK_INT(read_filled("{\"tree\":[{\"x\":", '[', 100, "]}]}"), -EPROTO);
	CHECK_INT(read_filled("{\"tree\":[", ' ', 4 << 20, "]}"), 0);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_items_are_found_however_they_come);
	TAP_RUN(test_the_rest_is_what_is_around);
	TAP_RUN(test_what_is_no_such_document_is_refused);
	TAP_RUN(test_an_item_may_end_it);
	TAP_RUN(test_neither_items_nor_the_rest_are_endless);
	return tap_done();
}
