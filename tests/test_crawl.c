/* Tests of fetch/crawl: what makes a walk of misses, and how high it climbs. */
#include "fetch/crawl.h"

#include <string.h>

#include "tap.h"

static struct crawl crawl;
static unsigned step;
static uint64_t now_ms;

static void start(void)
{
	memset(&crawl, 0, sizeof(crawl));
	now_ms = 1000;
}

/* "a/b" is the directory b in a in the root; "" the root. */
static struct crawl_place place_of(const char *path, bool listed)
{
	struct crawl_place place = { .listed = listed };
	char above[64];

	snprintf(above, sizeof(above), "/%s", path);
	for (size_t len = *path ? strlen(above) : 1; len > 0; len--) {
		struct oid oid = { .algo = OID_SHA1 };
		uint64_t mixed = 0xcbf29ce484222325u;

		if (len > 1 && above[len] != '/' && above[len] != '\0')
			continue;
		for (size_t i = 0; i < len; i++)
			mixed = (mixed ^ (uint8_t)above[i]) * 0x100000001b3u;
		memcpy(oid.hash, &mixed, sizeof(mixed));
		crawl_place_add(&place, &oid);
	}
	return place;
}

/* A miss there, after which `brought` come along and `used` of them are read. */
static int visit(const char *path, bool listed, unsigned brought, unsigned used)
{
	struct crawl_place place = place_of(path, listed);
	int up = crawl_miss_locked(&crawl, &place, false, now_ms, &step);

	for (unsigned i = 0; i < brought; i++)
		crawl_brought(&crawl, step);
	for (unsigned i = 0; i < used; i++)
		crawl_used(&crawl, step);
	return up;
}

static void test_places_are_what_this_test_thinks_they_are(void)
{
	struct crawl_place root = place_of("", false), deep = place_of("a/b/c", false);

	CHECK_UINT(root.count, 1);
	CHECK_UINT(deep.count, 4);
	CHECK(deep.trees[3] == root.trees[0]);
	CHECK(deep.trees[0] != deep.trees[1]);
}

static void test_two_directories_that_were_read_and_a_third_make_a_walk(void)
{
	start();
	CHECK_INT(visit("src/a", false, 10, 9), -1);
	CHECK_INT(visit("src/b", false, 10, 9), -1);
	CHECK_INT(visit("src/c", false, 0, 0), 1); /* of src */
}

static void test_a_walk_climbs_to_what_holds_its_steps(void)
{
	start();
	visit("x/y/a", false, 10, 10);
	visit("x/y/b", false, 10, 10);
	CHECK_INT(visit("x/z", false, 0, 0), 1);	 /* x */
	CHECK_INT(visit("top/one/two", false, 0, 0), 3); /* the root */
}

static void test_misses_in_one_directory_are_no_walk(void)
{
	start();
	for (unsigned i = 0; i < 20; i++)
		CHECK_INT(visit("src", true, 64, 64), -1);
}

static void test_scattered_reads_are_no_walk(void)
{
	char path[16];

	start();
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "d%u", i);
		CHECK_INT(visit(path, false, 20, 0), -1);
	}
}

static void test_lone_files_of_directories_that_nobody_listed_are_no_walk(void)
{
	char path[16];

	start();
	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "d%u", i);
		CHECK_INT(visit(path, false, 0, 0), -1);
	}
}

static void test_lone_files_of_directories_just_listed_are_one(void)
{
	start();
	CHECK_INT(visit("org/a", true, 0, 0), -1);
	CHECK_INT(visit("org/b", true, 0, 0), -1);
	CHECK_INT(visit("org/c", true, 0, 0), 1);
}

static void test_the_way_down_counts_where_reading_went_on(void)
{
	start();
	CHECK_INT(visit("", true, 64, 3), -1);
	CHECK_INT(visit("a", true, 2, 2), -1);
	CHECK_INT(visit("a/b", true, 0, 0), 2);

	/* One file a level: somebody looks around. */
	start();
	CHECK_INT(visit("", true, 64, 0), -1);
	CHECK_INT(visit("a", true, 20, 0), -1);
	CHECK_INT(visit("a/b", true, 20, 0), -1);
	CHECK_INT(visit("a/b/c", true, 20, 0), -1);
}

static void test_guesses_that_were_wrong_speak_against_it(void)
{
	start();
	visit("a", false, 10, 10);
	visit("b", false, 10, 10);
	visit("c", false, 30, 0);
	CHECK_INT(visit("d", false, 0, 0), -1);
}

static void test_old_steps_are_forgotten(void)
{
	start();
	visit("a", false, 10, 10);
	visit("b", false, 10, 10);
	now_ms += 61000;
	CHECK_INT(visit("c", false, 0, 0), -1);

	start();
	visit("a", false, 10, 10);
	visit("b", false, 10, 10);
	crawl_forget_locked(&crawl);
	CHECK_INT(visit("c", false, 0, 0), -1);
}

static void test_asking_for_sizes_is_enough_where_directories_are_listed(void)
{
	struct crawl_place a = place_of("a", true), b = place_of("b", true),
			   c = place_of("c", true);

	start();
	CHECK_INT(crawl_miss_locked(&crawl, &a, true, now_ms, &step), -1);
	CHECK_INT(crawl_miss_locked(&crawl, &b, true, now_ms, &step), -1);
	CHECK_INT(crawl_miss_locked(&crawl, &c, true, now_ms, &step), 1);
}

static void test_a_place_that_is_too_deep_is_none(void)
{
	struct crawl_place place = { 0 };
	struct oid oid = { .algo = OID_SHA1 };
	unsigned levels = 0;

	while (levels < 1000 && crawl_place_add(&place, &oid))
		levels++;
	CHECK_UINT(levels, CRAWL_DEPTH_MAX);
	start();
	CHECK_INT(crawl_miss_locked(&crawl, &place, false, now_ms, &step), -1);
	CHECK_UINT(step, CRAWL_NO_STEP);
	crawl_brought(&crawl, step);
	crawl_used(&crawl, step);
}

int main(void)
{
	TAP_RUN(test_places_are_what_this_test_thinks_they_are);
	TAP_RUN(test_two_directories_that_were_read_and_a_third_make_a_walk);
	TAP_RUN(test_a_walk_climbs_to_what_holds_its_steps);
	TAP_RUN(test_misses_in_one_directory_are_no_walk);
	TAP_RUN(test_scattered_reads_are_no_walk);
	TAP_RUN(test_lone_files_of_directories_that_nobody_listed_are_no_walk);
	TAP_RUN(test_lone_files_of_directories_just_listed_are_one);
	TAP_RUN(test_the_way_down_counts_where_reading_went_on);
	TAP_RUN(test_guesses_that_were_wrong_speak_against_it);
	TAP_RUN(test_old_steps_are_forgotten);
	TAP_RUN(test_asking_for_sizes_is_enough_where_directories_are_listed);
	TAP_RUN(test_a_place_that_is_too_deep_is_none);
	return tap_done();
}
