/*
 * budget: the number, and what the kernel says about how large it may be.
 *
 * A limit may stand at any level of the control group's path, and in a container the path is the
 * host's while the files are the container's: so every level is looked at, and the root as well.
 */
#include "base/budget.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX ((uint64_t)64 << 20)
#define DEFAULT_MIN ((uint64_t)4 << 20)
#define SHARE 16

void budget_init(struct budget *budget, uint64_t max)
{
	budget->max = max;
	atomic_init(&budget->used, 0);
}

bool budget_take(struct budget *budget, uint64_t len)
{
	uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);

	do {
		if (used > budget->max || len > budget->max - used)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&budget->used, &used, used + len, memory_order_relaxed, memory_order_relaxed));
	return true;
}

void budget_force(struct budget *budget, uint64_t len)
{
	atomic_fetch_add_explicit(&budget->used, len, memory_order_relaxed);
}

void budget_give(struct budget *budget, uint64_t len)
{
	atomic_fetch_sub_explicit(&budget->used, len, memory_order_relaxed);
}

uint64_t budget_used(const struct budget *budget)
{
	return atomic_load_explicit(&budget->used, memory_order_relaxed);
}

/* ---- what the control group has ---- */

/* UINT64_MAX for no limit, or no such file. */
static uint64_t limit_in(const char *path)
{
	FILE *file = fopen(path, "re");
	char text[64] = "", *end;
	uint64_t limit = UINT64_MAX;

	if (!file)
		return UINT64_MAX;
	if (fgets(text, sizeof(text), file)) {
		limit = strtoull(text, &end, 10);
		if (end == text) /* "max" */
			limit = UINT64_MAX;
	}
	fclose(file);
	return limit;
}

/* The lowest limit of the group and all above it; cuts the path short. */
static uint64_t limit_of(const char *mount, char *group, const char *name)
{
	uint64_t lowest = UINT64_MAX;

	for (;;) {
		char path[PATH_MAX];
		char *slash = strrchr(group, '/');
		uint64_t limit;

		if (snprintf(path, sizeof(path), "%s%s/%s", mount, group, name) >=
		    (int)sizeof(path))
			return lowest;
		limit = limit_in(path);
		lowest = limit < lowest ? limit : lowest;
		if (!slash)
			return lowest;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup: "0::/path", or "9:cpu,memory:/path". */
static uint64_t limit_by_line(const char *root, char *line)
{
	char *controllers = strchr(line, ':'), *group;
	char mount[PATH_MAX];

	group = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!group)
		return UINT64_MAX;
	*controllers++ = *group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (!*controllers) {
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup", root);
		return limit_of(mount, group, "memory.max");
	}
	if (!strstr(controllers, "memory"))
		return UINT64_MAX;
	snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup/memory", root);
	return limit_of(mount, group, "memory.limit_in_bytes");
}

uint64_t budget_default_in(const char *root)
{
	char path[PATH_MAX], line[PATH_MAX];
	uint64_t lowest = UINT64_MAX, share;
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		uint64_t limit = limit_by_line(root, line);

		lowest = limit < lowest ? limit : lowest;
	}
	if (file)
		fclose(file);
	share = lowest / SHARE;
	if (share < DEFAULT_MIN)
		return DEFAULT_MIN;
	return share < DEFAULT_MAX ? share : DEFAULT_MAX;
}

uint64_t budget_default(void)
{
	return budget_default_in("");
}
