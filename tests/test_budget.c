/*
 * Tests of src/base/budget.c, with control groups made of plain files.
 */
#include "base/budget.h"

#include "cache_support.h"

#define MIB ((uint64_t)1 << 20)

static void make(const char *root, const char *rest, const char *text)
{
	char *path = path_of(root, rest);

	for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	file_write(path, text, strlen(text));
	free(path);
}

static void test_what_is_taken_comes_back(void)
{
	struct budget budget;

	budget_init(&budget, 100);
	CHECK(budget_take(&budget, 60));
	CHECK(!budget_take(&budget, 41));
	CHECK(budget_take(&budget, 40));
	CHECK(!budget_take(&budget, 1));
	budget_force(&budget, 50);
	CHECK(!budget_take(&budget, 0));
	CHECK_UINT(budget_used(&budget), 150);
	budget_give(&budget, 120);
	CHECK(!budget_take(&budget, UINT64_MAX));
	CHECK(budget_take(&budget, 70));
}

static void test_without_a_limit_it_is_64_mib(void)
{
	char *root = scratch_dir();

	CHECK_UINT(budget_default_in(root), 64 * MIB);
	make(root, "proc/self/cgroup", "0::/user/me\n");
	CHECK_UINT(budget_default_in(root), 64 * MIB);
	make(root, "sys/fs/cgroup/user/me/memory.max", "max\n");
	CHECK_UINT(budget_default_in(root), 64 * MIB);
	scratch_remove(root);
}

static void test_a_sixteenth_of_the_lowest_limit_on_the_way(void)
{
	char *root = scratch_dir();

	make(root, "proc/self/cgroup", "0::/user/me\n");
	make(root, "sys/fs/cgroup/user/me/memory.max", "536870912\n");
	CHECK_UINT(budget_default_in(root), 32 * MIB);
	make(root, "sys/fs/cgroup/user/memory.max", "268435456\n");
	CHECK_UINT(budget_default_in(root), 16 * MIB);
	make(root, "sys/fs/cgroup/memory.max", "1000\n"); /* of a container, seen from inside */
	CHECK_UINT(budget_default_in(root), 4 * MIB);
	scratch_remove(root);
}

static void test_version_1(void)
{
	char *root = scratch_dir();

	make(root, "proc/self/cgroup", "10:cpu:/a\n9:hugetlb,memory:/docker/x\nsenseless\n");
	make(root, "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "134217728\n");
	CHECK_UINT(budget_default_in(root), 8 * MIB);
	scratch_remove(root);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_what_is_taken_comes_back);
	TAP_RUN(test_without_a_limit_it_is_64_mib);
	TAP_RUN(test_a_sixteenth_of_the_lowest_limit_on_the_way);
	TAP_RUN(test_version_1);
	return tap_done();
}
