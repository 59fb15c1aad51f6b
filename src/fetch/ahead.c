/*
 * ahead: the window and the table of what was brought. A miss counts as brought and used itself: a
 * directory with a single file that is read is a good guess too, and a crawl through many such
 * directories must be allowed to leave them.
 */
#include "fetch/ahead.h"

#include "base/clock.h"

#define STEP_MASK ((uint64_t)31) /* room for a step in a slot */
_Static_assert(CRAWL_NO_STEP <= 31, "a step fits into a slot");

#define BYTES_PER_OBJECT_MIN (256u * 1024 / AHEAD_WINDOW_MIN)
#define BYTES_MAX (8u << 20)
#define OBJECT_BYTES_MIN (64u * 1024)
#define SAMPLE_MIN 16 /* do not judge by fewer */
#define CREDIT_MAX ((int64_t)32 << 20)
#define CREDIT_PER_MS ((int64_t)1024)

void ahead_init(struct ahead *ahead, uint64_t large_limit)
{
	ahead->large_limit = large_limit;
	atomic_store(&ahead->window, AHEAD_WINDOW_MIN);
	atomic_store(&ahead->credit, CREDIT_MAX);
	atomic_store(&ahead->credit_ms, clock_ms());
}

static void credit_add(struct ahead *ahead, int64_t bytes)
{
	int64_t credit = atomic_load_explicit(&ahead->credit, memory_order_relaxed), more;

	do {
		more = credit + bytes < CREDIT_MAX ? credit + bytes : CREDIT_MAX;
	} while (!atomic_compare_exchange_weak(&ahead->credit, &credit, more));
}

/* What may be brought on guesses now. Only one of those who come at once lets it recover. */
static uint64_t credit_left(struct ahead *ahead)
{
	uint64_t now_ms = clock_ms();
	uint64_t since_ms =
		atomic_exchange_explicit(&ahead->credit_ms, now_ms, memory_order_relaxed);
	int64_t credit;

	if (now_ms > since_ms)
		credit_add(ahead, now_ms - since_ms < (uint64_t)(CREDIT_MAX / CREDIT_PER_MS) ?
					  (int64_t)(now_ms - since_ms) * CREDIT_PER_MS :
					  CREDIT_MAX);
	credit = atomic_load_explicit(&ahead->credit, memory_order_relaxed);
	return credit > 0 ? (uint64_t)credit : 0;
}

static void window_judge(struct ahead *ahead)
{
	uint64_t brought = atomic_load_explicit(&ahead->brought, memory_order_relaxed);
	uint64_t used = atomic_load_explicit(&ahead->used, memory_order_relaxed);
	unsigned window = atomic_load_explicit(&ahead->window, memory_order_relaxed);

	if (brought < SAMPLE_MIN)
		return;
	if (used * 4 >= brought * 3)
		window = window * 2 < AHEAD_WINDOW_MAX ? window * 2 : AHEAD_WINDOW_MAX;
	else if (used * 2 < brought)
		window = AHEAD_WINDOW_MIN;
	else
		return;
	atomic_store_explicit(&ahead->window, window, memory_order_relaxed);
	atomic_fetch_sub_explicit(&ahead->brought, brought, memory_order_relaxed);
	atomic_fetch_sub_explicit(&ahead->used, used, memory_order_relaxed);
}

void ahead_budget(struct ahead *ahead, bool climbs, struct fetch_budget *out)
{
	unsigned window;
	uint64_t object_bytes, credit;

	window_judge(ahead);
	atomic_fetch_add_explicit(&ahead->brought, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&ahead->used, 1, memory_order_relaxed);

	window = atomic_load_explicit(&ahead->window, memory_order_relaxed);
	object_bytes = (uint64_t)OBJECT_BYTES_MIN * (window / AHEAD_WINDOW_MIN);
	*out = (struct fetch_budget){
		.count = window,
		.bytes = (uint64_t)window * BYTES_PER_OBJECT_MIN,
		.object_bytes = object_bytes < ahead->large_limit ? object_bytes :
								    ahead->large_limit,
		.leave_directory = window > AHEAD_WINDOW_MIN && !climbs,
	};
	if (out->bytes > BYTES_MAX)
		out->bytes = BYTES_MAX;
	credit = credit_left(ahead);
	if (out->bytes > credit)
		out->bytes = credit;
}

static uint64_t fingerprint(const struct oid *oid)
{
	uint64_t print;

	memcpy(&print, oid->hash, sizeof(print));
	print &= ~STEP_MASK;
	return print ? print : STEP_MASK + 1;
}

static _Atomic uint64_t *slot_of(struct ahead *ahead, uint64_t print)
{
	return &ahead->slots[print / (STEP_MASK + 1) % AHEAD_SLOTS];
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* On the average. */
static uint64_t bytes_each(const struct ahead *ahead)
{
	uint64_t brought = atomic_load_explicit(&ahead->total_brought, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&ahead->total_bytes, memory_order_relaxed);

	return brought ? bytes / brought : 0;
}

void ahead_brought(struct ahead *ahead, const struct oid *oid, uint64_t size, unsigned step)
{
	uint64_t print = fingerprint(oid);
	uint64_t old =
		atomic_exchange_explicit(slot_of(ahead, print), print | step, memory_order_relaxed);

	add(&ahead->brought, 1);
	add(&ahead->total_brought, 1);
	add(&ahead->total_bytes, size);
	credit_add(ahead, -(int64_t)size);
	if (!old)
		add(&ahead->unread, 1);
}

bool ahead_used(struct ahead *ahead, const struct oid *oid, unsigned *out_step)
{
	uint64_t print = fingerprint(oid);
	_Atomic uint64_t *slot = slot_of(ahead, print);
	uint64_t expected = atomic_load_explicit(slot, memory_order_relaxed);

	if ((expected & ~STEP_MASK) != print || !atomic_compare_exchange_strong(slot, &expected, 0))
		return false;
	*out_step = expected & STEP_MASK;
	add(&ahead->used, 1);
	add(&ahead->total_used, 1);
	credit_add(ahead, (int64_t)bytes_each(ahead));
	atomic_fetch_sub_explicit(&ahead->unread, 1, memory_order_relaxed);
	atomic_store_explicit(&ahead->used_ms, clock_ms(), memory_order_relaxed);
	return true;
}

uint64_t ahead_unread_bytes(const struct ahead *ahead)
{
	return bytes_each(ahead) * atomic_load_explicit(&ahead->unread, memory_order_relaxed);
}
