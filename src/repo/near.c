/*
 * Likeness of names: one contains the other, or few letters must be changed to get from one to
 * the other.
 */
#include "repo/near.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "git/protocol.h"

#define SHOWN_MAX 6
#define NAME_MAX_LEN 96 /* longer names are offered only when one contains the other */
#define UNLIKE 1000u

static const char *short_name(const char *name)
{
	static const char *const prefixes[] = { "refs/heads/", "refs/tags/", "refs/" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return name + strlen(prefixes[i]);
	}
	return name;
}

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

/* How many letters to insert, remove or change, whatever their case. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned row[NAME_MAX_LEN + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			bool same = tolower((unsigned char)a[i - 1]) ==
				    tolower((unsigned char)b[j - 1]);
			unsigned above = row[j];

			row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + !same);
			diagonal = above;
		}
	}
	return row[b_len];
}

/* Smaller is more alike. */
static unsigned unlikeness(const char *name, const char *other)
{
	size_t len = strlen(name), other_len = strlen(other);
	size_t apart = len < other_len ? other_len - len : len - other_len;
	unsigned limit = len < 6 ? 1 + (unsigned)len / 4 : (unsigned)len / 3;

	if (len == 0)
		return 1;
	if (len <= NAME_MAX_LEN && other_len <= NAME_MAX_LEN && apart <= limit) {
		unsigned distance = edit_distance(name, len, other, other_len);

		if (distance <= limit)
			return distance;
	}
	if (len >= 3 && strcasestr(other, name))
		return 10 + (unsigned)(apart < 100 ? apart : 100);
	if (other_len >= 3 && strcasestr(name, other))
		return 200 + (unsigned)(apart < 100 ? apart : 100);
	return UNLIKE;
}

struct choice {
	const char *name;
	unsigned score;
};

/* Keeps the best ones in order. */
static void choice_add(struct choice *best, size_t *count, const char *name, unsigned score)
{
	size_t i = *count;

	for (size_t j = 0; j < *count; j++) {
		if (strcmp(best[j].name, name) == 0)
			return;
	}
	if (i == SHOWN_MAX) {
		if (best[i - 1].score <= score)
			return;
		i--;
	} else {
		(*count)++;
	}
	for (; i > 0 && best[i - 1].score > score; i--)
		best[i] = best[i - 1];
	best[i] = (struct choice){ name, score };
}

static void write_names(const struct choice *best, size_t count, char *out, size_t out_len)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		const char *between = i == 0 ? "" : i + 1 == count ? " or " : ", ";
		int len = snprintf(out + used, out_len - used, "%s%s", between, best[i].name);

		if (len < 0 || (size_t)len >= out_len - used) {
			out[used] = '\0';
			return;
		}
		used += (size_t)len;
	}
}

void near_list(const struct ref_list *list, const char *name, char *out, size_t out_len)
{
	struct choice best[SHOWN_MAX];
	size_t count = 0;
	bool few = list->count <= SHOWN_MAX;

	for (size_t i = 0; i < list->count; i++) {
		const char *other = short_name(list->v[i].name);
		unsigned score = unlikeness(name, other);

		if (score < UNLIKE || few)
			choice_add(best, &count, other, score);
	}
	write_names(best, count, out, out_len);
}
