/*
 * crawl: a small table of steps, searched whole at each miss. A step that is pushed out may still
 * be counted for by what it brought: its place then counts a little wrong, which does no harm.
 */
#include "fetch/crawl.h"

#include <string.h>

#define STEPS_JUDGED 8
#define STEP_TOO_OLD_MS 60000
#define WALK_STEPS_MIN 2 /* besides the one that the miss is in */
#define BROUGHT_MIN 3	 /* fewer say nothing by themselves */

bool crawl_place_add(struct crawl_place *place, const struct oid *tree)
{
	if (place->count == CRAWL_DEPTH_MAX) {
		place->count = 0;
		return false;
	}
	memcpy(&place->trees[place->count++], tree->hash, sizeof(place->trees[0]));
	return true;
}

/* How many levels, from the root on, two places share. */
static unsigned common_levels(const struct crawl_place *a, const struct crawl_place *b)
{
	unsigned most = a->count < b->count ? a->count : b->count;
	unsigned common = 0;

	while (common < most && a->trees[a->count - 1 - common] == b->trees[b->count - 1 - common])
		common++;
	return common;
}

static bool same_place(const struct crawl_place *a, const struct crawl_place *b)
{
	return a->count == b->count && common_levels(a, b) == a->count;
}

static struct crawl_step *step_of(struct crawl *crawl, const struct crawl_place *place)
{
	struct crawl_step *oldest = &crawl->steps[0];

	for (unsigned i = 0; i < CRAWL_STEPS; i++) {
		struct crawl_step *step = &crawl->steps[i];

		if (step->turn && same_place(&step->place, place))
			return step;
		if (step->turn < oldest->turn)
			oldest = step;
	}
	atomic_store_explicit(&oldest->brought, 0, memory_order_relaxed);
	atomic_store_explicit(&oldest->used, 0, memory_order_relaxed);
	oldest->place = *place;
	oldest->sizes = false;
	return oldest;
}

enum worth { WORTH_IT, WORTH_NOTHING, WORTH_UNKNOWN };

static enum worth judge(const struct crawl_step *step, bool on_the_way)
{
	unsigned brought = atomic_load_explicit(&step->brought, memory_order_relaxed);
	unsigned used = atomic_load_explicit(&step->used, memory_order_relaxed);

	if (step->sizes)
		return step->place.listed ? WORTH_IT : WORTH_UNKNOWN;
	if (on_the_way)
		return step->place.listed && (used > 1 || brought < BROUGHT_MIN) ? WORTH_IT :
										   WORTH_UNKNOWN;
	if (used * 4 < brought)
		return WORTH_NOTHING;
	if (used * 2 < brought || (brought < BROUGHT_MIN && !step->place.listed))
		return WORTH_UNKNOWN;
	return WORTH_IT;
}

/* Where the walk is that the steps before `here` make, as crawl_miss_locked() says it. */
static int walk_of(const struct crawl *crawl, const struct crawl_step *here, uint64_t now_ms)
{
	unsigned good = 0, bad = 0, up = 0;

	for (unsigned i = 0; i < CRAWL_STEPS; i++) {
		const struct crawl_step *step = &crawl->steps[i];
		unsigned common;

		if (step == here || !step->turn || step->turn + STEPS_JUDGED < crawl->turns ||
		    now_ms > step->seen_ms + STEP_TOO_OLD_MS)
			continue;
		common = common_levels(&step->place, &here->place);
		if (!common)
			continue;
		switch (judge(step, common == step->place.count)) {
		case WORTH_IT:
			good++;
			if (here->place.count - common > up)
				up = here->place.count - common;
			break;
		case WORTH_NOTHING:
			bad++;
			break;
		case WORTH_UNKNOWN:
			break;
		}
	}
	return good >= WALK_STEPS_MIN && bad * 3 <= good ? (int)up : -1;
}

int crawl_miss_locked(struct crawl *crawl, const struct crawl_place *place, bool sizes,
		      uint64_t now_ms, unsigned *out_step)
{
	struct crawl_step *here;

	*out_step = CRAWL_NO_STEP;
	if (!place->count)
		return -1;
	here = step_of(crawl, place);
	here->place.listed = here->place.listed || place->listed;
	here->sizes = here->sizes || sizes;
	if (!here->turn || here->turn != crawl->turns)
		here->turn = ++crawl->turns;
	here->seen_ms = now_ms;
	*out_step = (unsigned)(here - crawl->steps);
	crawl_brought(crawl, *out_step);
	crawl_used(crawl, *out_step);
	return walk_of(crawl, here, now_ms);
}

void crawl_brought(struct crawl *crawl, unsigned step)
{
	if (step < CRAWL_STEPS)
		atomic_fetch_add_explicit(&crawl->steps[step].brought, 1, memory_order_relaxed);
}

void crawl_used(struct crawl *crawl, unsigned step)
{
	if (step < CRAWL_STEPS)
		atomic_fetch_add_explicit(&crawl->steps[step].used, 1, memory_order_relaxed);
}

void crawl_forget_locked(struct crawl *crawl)
{
	for (unsigned i = 0; i < CRAWL_STEPS; i++)
		crawl->steps[i].turn = 0;
}
