/*
 * Fuzzes content_range_parse(): what it takes holds together, and written anew is taken again for
 * the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote/content_range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct content_range *range)
{
	struct content_range again;
	char total[32] = "*", text[128];

	if (range->first > range->last || range->last >= range->total)
		abort();
	if (range->total != UINT64_MAX)
		snprintf(total, sizeof(total), "%llu", (unsigned long long)range->total);
	snprintf(text, sizeof(text), "bytes %llu-%llu/%s", (unsigned long long)range->first,
		 (unsigned long long)range->last, total);
	if (content_range_parse(text, &again) || again.first != range->first ||
	    again.last != range->last || again.total != range->total)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct content_range range;
	char *text = malloc(len + 1);

	if (!text)
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	if (content_range_parse(text, &range) == 0)
		check(&range);
	free(text);
	return 0;
}
