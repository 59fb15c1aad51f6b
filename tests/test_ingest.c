/*
 * Tests of fetch/ingest: packs made in memory, so that every order of deltas and bases, every size
 * and every damage can be had.
 */
#include "fetch/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "fetch/spool.h"
#include "pack_build.h"
#include "tap.h"

#define LIMIT 4096
#define ARRIVED_MAX 512

/* What came out; and what is "elsewhere". */
struct world {
	struct content *arrived[ARRIVED_MAX];
	size_t count;
	bool keep; /* base_stat() has what arrived */
	struct content *elsewhere[8];
	size_t elsewhere_count;
	unsigned tmpfiles, base_reads;
	int tmpfile_status;
	uint64_t first_size;
	int entry_status;
};

static int on_entry(void *arg, const struct pack_entry *entry)
{
	struct world *world = arg;

	if (!world->first_size)
		world->first_size = entry->size;
	return world->entry_status;
}

static bool on_object(void *arg, struct content *content)
{
	struct world *world = arg;

	if (world->count < ARRIVED_MAX)
		world->arrived[world->count++] = content_ref(content);
	return world->keep;
}

static struct content *find(struct world *world, const struct oid *oid)
{
	for (size_t i = 0; i < world->elsewhere_count; i++)
		if (oid_equal(&world->elsewhere[i]->oid, oid))
			return world->elsewhere[i];
	for (size_t i = 0; world->keep && i < world->count; i++)
		if (oid_equal(&world->arrived[i]->oid, oid))
			return world->arrived[i];
	return NULL;
}

static int on_base_stat(void *arg, const struct oid *oid, enum object_type *out_type,
			uint64_t *out_size)
{
	struct content *content = find(arg, oid);

	if (!content)
		return -ENOENT;
	*out_type = content->type;
	*out_size = content->size;
	return 0;
}

static int on_base_read(void *arg, const struct oid *oid, uint64_t off, size_t len,
			struct spans *out)
{
	struct content *content = find(arg, oid);
	struct world *world = arg;

	world->base_reads++;
	return content ? content_read(content, off, len, out) : -ENOENT;
}

static int on_tmpfile(void *arg)
{
	struct world *world = arg;
	char name[] = "/tmp/xcpfs-ingest.XXXXXX";
	int fd;

	if (world->tmpfile_status)
		return world->tmpfile_status;
	world->tmpfiles++;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd < 0 ? -errno : fd;
}

static const struct ingest_ops ops = {
	.entry = on_entry,
	.object = on_object,
	.base_stat = on_base_stat,
	.base_read = on_base_read,
	.tmpfile = on_tmpfile,
};

struct outcome {
	int status;
	bool finished;
	size_t unresolved;
	int trouble;
};

static struct outcome feed_windowed(struct world *world, const struct pack_build *build,
				    size_t piece, size_t window)
{
	const struct ingest_config config = {
		.algo = build->algo,
		.large_limit = LIMIT,
		.window_max_len = window,
		.ops = &ops,
		.arg = world,
	};
	struct ingest *ingest = ingest_new(&config);
	struct outcome outcome = { 0 };

	for (size_t off = 0; off < build->bytes.len && !outcome.status; off += piece) {
		size_t len = build->bytes.len - off < piece ? build->bytes.len - off : piece;

		outcome.status = ingest_feed(ingest, build->bytes.data + off, len);
	}
	outcome.finished = ingest_finished(ingest);
	outcome.unresolved = ingest_unresolved(ingest);
	outcome.trouble = ingest_trouble(ingest);
	ingest_free(ingest);
	return outcome;
}

static struct outcome feed(struct world *world, const struct pack_build *build)
{
	return feed_windowed(world, build, 1000, 64 * 1024);
}

static void world_release(struct world *world)
{
	for (size_t i = 0; i < world->count; i++)
		content_unref(world->arrived[i]);
	for (size_t i = 0; i < world->elsewhere_count; i++)
		content_unref(world->elsewhere[i]);
}

static struct oid hash_of(enum oid_algo algo, const void *data, size_t len)
{
	struct oid oid;

	object_hash(algo, OBJECT_BLOB, data, len, &oid);
	return oid;
}

/* Bytes that differ from one `seed` to another and do not shrink to nothing. */
static void fill(uint8_t *data, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		data[i] = (uint8_t)(seed >> 24);
	}
}

static bool has_bytes(struct content *content, const void *data, size_t len)
{
	uint8_t *got = malloc(len + 1);
	bool same = content->size == len;

	if (same && content->block)
		same = !memcmp(content->block->data, data, len);
	else if (same)
		same = !spool_fd_read(content->fd, 0, got, len) && !memcmp(got, data, len);
	free(got);
	return same;
}

static void test_whole_objects_come_out_with_their_ids(void)
{
	for (int sha256 = 0; sha256 < 2; sha256++) {
		enum oid_algo algo = sha256 ? OID_SHA256 : OID_SHA1;
		struct oid want = hash_of(algo, "hello\n", 6);
		struct world world = { 0 };
		struct pack_build build;
		struct outcome outcome;

		pack_build_start(&build, algo);
		pack_build_object(&build, OBJECT_BLOB, "hello\n", 6);
		pack_build_object(&build, OBJECT_BLOB, "", 0);
		pack_build_object(&build, OBJECT_TREE, "", 0);
		pack_build_end(&build);
		outcome = feed_windowed(&world, &build, 1, 65536);
		CHECK_INT(outcome.status, 0);
		CHECK(outcome.finished);
		CHECK_UINT(world.count, 3);
		CHECK(oid_equal(&world.arrived[0]->oid, &want));
		CHECK(has_bytes(world.arrived[0], "hello\n", 6));
		CHECK_UINT(world.arrived[1]->size, 0);
		CHECK_INT(world.arrived[2]->type, OBJECT_TREE);
		world_release(&world);
		buf_release(&build.bytes);
	}
}

static void test_object_is_handed_on_before_the_pack_ends(void)
{
	struct world world = { 0 };
	struct pack_build build;
	struct outcome outcome;

	pack_build_start(&build, OID_SHA1);
	pack_build_object(&build, OBJECT_BLOB, "one", 3);
	pack_build_object(&build, OBJECT_BLOB, "two", 3);
	pack_build_end(&build);
	build.bytes.len -= 25; /* cut in the second one */
	outcome = feed(&world, &build);
	CHECK_INT(outcome.status, 0);
	CHECK(!outcome.finished);
	CHECK_UINT(world.count, 1);
	world_release(&world);
	buf_release(&build.bytes);
}

static void test_large_object_goes_to_a_file(void)
{
	struct world world = { 0 };
	struct pack_build build;
	uint8_t *data = malloc(LIMIT * 20);
	struct oid want;

	fill(data, LIMIT * 20, 1);
	want = hash_of(OID_SHA1, data, LIMIT * 20);
	pack_build_start(&build, OID_SHA1);
	pack_build_object(&build, OBJECT_BLOB, data, LIMIT * 20);
	pack_build_object(&build, OBJECT_BLOB, data, LIMIT); /* at the limit: in memory */
	pack_build_object(&build, OBJECT_BLOB, data, LIMIT + 1);
	pack_build_end(&build);
	CHECK(feed(&world, &build).finished);
	CHECK_UINT(world.count, 3);
	CHECK(world.arrived[0]->fd >= 0);
	CHECK(oid_equal(&world.arrived[0]->oid, &want));
	CHECK(has_bytes(world.arrived[0], data, LIMIT * 20));
	CHECK(world.arrived[1]->block != NULL);
	CHECK(world.arrived[2]->fd >= 0);
	CHECK(has_bytes(world.arrived[2], data, LIMIT + 1));
	world_release(&world);
	buf_release(&build.bytes);
	free(data);
}

/* A chain of `depth` deltas on a base of base_len bytes; every link adds its number. */
static void chain(struct pack_build *build, size_t base_len, unsigned depth, uint8_t *out_last,
		  size_t *out_len)
{
	uint64_t off;
	size_t len = base_len;

	fill(out_last, base_len, 7);
	off = pack_build_object(build, OBJECT_BLOB, out_last, base_len);
	for (unsigned i = 0; i < depth; i++) {
		struct buf delta = BUF_INIT;
		uint8_t tail[4] = { 'x', (uint8_t)i, (uint8_t)(i >> 8), 'y' };

		delta_build_append(&delta, len, tail, sizeof(tail));
		off = pack_build_ofs(build, off, delta.data, delta.len);
		memcpy(out_last + len, tail, sizeof(tail));
		len += sizeof(tail);
		buf_release(&delta);
	}
	*out_len = len;
}

static void check_chain(size_t window, bool keep)
{
	struct world world = { .keep = keep };
	struct pack_build build;
	uint8_t *last = malloc(1000 + 200 * 4);
	struct outcome outcome;
	size_t len;

	pack_build_start(&build, OID_SHA1);
	chain(&build, 1000, 200, last, &len);
	pack_build_end(&build);
	outcome = feed_windowed(&world, &build, 777, window);
	CHECK_INT(outcome.status, 0);
	CHECK(outcome.finished);
	CHECK_UINT(outcome.unresolved, 0);
	CHECK_UINT(world.count, 201);
	CHECK(has_bytes(world.arrived[200], last, len));
	CHECK(!keep || window || world.base_reads > 0);
	world_release(&world);
	buf_release(&build.bytes);
	free(last);
}

static void test_delta_chain_is_resolved_from_the_window(void)
{
	check_chain(64 * 1024, true);
}

static void test_delta_chain_is_resolved_from_the_cache_without_a_window(void)
{
	check_chain(0, true);
}

static void test_delta_chain_is_resolved_from_a_spool_when_nothing_was_cached(void)
{
	check_chain(0, false);
}

static void test_ref_delta_before_its_base(void)
{
	struct world world = { 0 };
	struct pack_build build;
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct oid base = hash_of(OID_SHA1, "base", 4), middle = hash_of(OID_SHA1, "base1", 5);

	delta_build_append(&first, 4, "1", 1);
	delta_build_append(&second, 5, "2", 1);
	pack_build_start(&build, OID_SHA1);
	pack_build_ref(&build, &middle, second.data, second.len);
	pack_build_ref(&build, &base, first.data, first.len);
	pack_build_object(&build, OBJECT_BLOB, "base", 4);
	pack_build_end(&build);
	CHECK(feed(&world, &build).finished);
	CHECK_UINT(world.count, 3);
	CHECK(has_bytes(world.arrived[1], "base1", 5));
	CHECK(has_bytes(world.arrived[2], "base12", 6));
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&first);
	buf_release(&second);
}

static void test_ofs_delta_on_a_delta_that_still_waits(void)
{
	struct world world = { 0 };
	struct pack_build build;
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct oid base = hash_of(OID_SHA1, "base", 4);
	uint64_t off;

	delta_build_append(&first, 4, "1", 1);
	delta_build_append(&second, 5, "2", 1);
	pack_build_start(&build, OID_SHA1);
	off = pack_build_ref(&build, &base, first.data, first.len);
	pack_build_ofs(&build, off, second.data, second.len);
	pack_build_object(&build, OBJECT_BLOB, "base", 4);
	pack_build_end(&build);
	CHECK_UINT(feed(&world, &build).unresolved, 0);
	CHECK_UINT(world.count, 3);
	CHECK(has_bytes(world.arrived[2], "base12", 6));
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&first);
	buf_release(&second);
}

static void test_ref_delta_on_an_object_from_elsewhere(void)
{
	struct oid base = hash_of(OID_SHA1, "base", 4);
	struct world world = { .elsewhere_count = 1 };
	struct pack_build build;
	struct buf delta = BUF_INIT;

	world.elsewhere[0] = content_from_block_take(&base, OBJECT_BLOB, block_copy("base", 4));
	delta_build_append(&delta, 4, "!", 1);
	pack_build_start(&build, OID_SHA1);
	pack_build_ref(&build, &base, delta.data, delta.len);
	pack_build_end(&build);
	CHECK(feed(&world, &build).finished);
	CHECK_UINT(world.count, 1);
	CHECK(has_bytes(world.arrived[0], "base!", 5));
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&delta);
}

static void test_delta_without_a_base_is_counted_and_not_handed_on(void)
{
	struct oid base = hash_of(OID_SHA1, "nowhere", 7);
	struct world world = { 0 };
	struct pack_build build;
	struct buf delta = BUF_INIT;
	struct outcome outcome;

	delta_build_append(&delta, 7, "!", 1);
	pack_build_start(&build, OID_SHA1);
	pack_build_ref(&build, &base, delta.data, delta.len);
	pack_build_object(&build, OBJECT_BLOB, "other", 5);
	pack_build_end(&build);
	outcome = feed(&world, &build);
	CHECK(outcome.finished);
	CHECK_UINT(outcome.unresolved, 1);
	CHECK_UINT(world.count, 1);
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&delta);
}

static void check_large_delta(bool keep)
{
	size_t base_len = LIMIT * 40;
	struct world world = { .keep = keep };
	struct pack_build build;
	struct buf delta = BUF_INIT, small = BUF_INIT;
	uint8_t *data = malloc(base_len + 4);
	uint64_t off;

	fill(data, base_len, 3);
	memcpy(data + base_len, "tail", 4);
	pack_build_start(&build, OID_SHA1);
	off = pack_build_object(&build, OBJECT_BLOB, data, base_len);
	delta_build_append(&delta, base_len, "tail", 4);
	pack_build_ofs(&build, off, delta.data, delta.len);
	delta_build_size(&small, base_len); /* a small result of a large base */
	delta_build_size(&small, 100);
	delta_build_copy(&small, 5000, 100);
	pack_build_ofs(&build, off, small.data, small.len);
	pack_build_end(&build);
	CHECK(feed_windowed(&world, &build, 1000, keep ? 0 : 65536).finished);
	CHECK_UINT(world.count, 3);
	CHECK(world.arrived[1]->fd >= 0);
	CHECK(has_bytes(world.arrived[1], data, base_len + 4));
	CHECK(has_bytes(world.arrived[2], data + 5000, 100));
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&delta);
	buf_release(&small);
	free(data);
}

static void test_large_results_and_bases_stay_in_files(void)
{
	check_large_delta(false);
	TAP_STOP();
	check_large_delta(true);
}

static void test_large_delta_is_read_from_a_file(void)
{
	struct world world = { 0 };
	struct pack_build build;
	struct buf delta = BUF_INIT, want = BUF_INIT;
	uint8_t piece[100];
	uint64_t off;

	fill(piece, sizeof(piece), 5);
	delta_build_size(&delta, 4);
	delta_build_size(&delta, 100 * sizeof(piece));
	for (int i = 0; i < 100; i++) {
		delta_build_insert(&delta, piece, sizeof(piece));
		buf_add(&want, piece, sizeof(piece));
	}
	CHECK(delta.len > LIMIT);
	pack_build_start(&build, OID_SHA1);
	off = pack_build_object(&build, OBJECT_BLOB, "base", 4);
	pack_build_ofs(&build, off, delta.data, delta.len);
	pack_build_end(&build);
	CHECK(feed(&world, &build).finished);
	CHECK_UINT(world.count, 2);
	CHECK(has_bytes(world.arrived[1], want.data, want.len));
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&delta);
	buf_release(&want);
}

/* More waiting deltas than memory is meant for: the rest is spilled. */
static void test_many_waiting_deltas_are_spilled(void)
{
	struct world world = { 0 };
	struct pack_build build;
	struct oid base = hash_of(OID_SHA1, "base", 4);
	struct outcome outcome;
	unsigned count = 400;

	pack_build_start(&build, OID_SHA1);
	for (unsigned i = 0; i < count; i++) {
		struct buf delta = BUF_INIT;
		uint8_t piece[100];

		delta_build_size(&delta, 4);
		delta_build_size(&delta, 35 * sizeof(piece));
		for (unsigned j = 0; j < 35; j++) {
			fill(piece, sizeof(piece), i * 1000 + j);
			delta_build_insert(&delta, piece, sizeof(piece));
		}
		pack_build_ref(&build, &base, delta.data, delta.len);
		buf_release(&delta);
	}
	pack_build_object(&build, OBJECT_BLOB, "base", 4);
	pack_build_end(&build);
	outcome = feed(&world, &build);
	CHECK(outcome.finished);
	CHECK_UINT(outcome.unresolved, 0);
	CHECK_UINT(world.count, count + 1);
	CHECK(world.tmpfiles > 0);
	world_release(&world);
	buf_release(&build.bytes);
}

static void test_damaged_delta_is_lost_alone(void)
{
	struct world world = { 0 };
	struct pack_build build;
	struct buf wrong_base = BUF_INIT, beyond = BUF_INIT;
	struct outcome outcome;
	uint64_t off;

	delta_build_append(&wrong_base, 5, "1", 1);
	delta_build_size(&beyond, 4);
	delta_build_size(&beyond, 50);
	delta_build_copy(&beyond, 0, 50);
	pack_build_start(&build, OID_SHA1);
	off = pack_build_object(&build, OBJECT_BLOB, "base", 4);
	pack_build_ofs(&build, off, wrong_base.data, wrong_base.len);
	pack_build_ofs(&build, off, beyond.data, beyond.len);
	pack_build_ofs(&build, off, "", 0);
	pack_build_object(&build, OBJECT_BLOB, "good", 4);
	pack_build_end(&build);
	outcome = feed(&world, &build);
	CHECK_INT(outcome.status, 0);
	CHECK_UINT(outcome.unresolved, 3);
	CHECK_INT(outcome.trouble, 0);
	CHECK_UINT(world.count, 2);
	world_release(&world);
	buf_release(&build.bytes);
	buf_release(&wrong_base);
	buf_release(&beyond);
}

static void test_full_disk_loses_the_object_and_says_so(void)
{
	struct world world = { .tmpfile_status = -ENOSPC };
	struct pack_build build;
	uint8_t *data = calloc(1, LIMIT * 4);
	struct outcome outcome;

	pack_build_start(&build, OID_SHA1);
	pack_build_object(&build, OBJECT_BLOB, data, LIMIT * 4);
	pack_build_object(&build, OBJECT_BLOB, "good", 4);
	pack_build_end(&build);
	outcome = feed(&world, &build);
	CHECK(outcome.finished);
	CHECK_UINT(outcome.unresolved, 1);
	CHECK_INT(outcome.trouble, -ENOSPC);
	CHECK_UINT(world.count, 1);
	world_release(&world);
	buf_release(&build.bytes);
	free(data);
}

static void test_flipped_byte_never_gives_a_wrong_object(void)
{
	struct pack_build build;
	struct oid one = hash_of(OID_SHA1, "one one one one", 15),
		   two = hash_of(OID_SHA1, "two two two", 11);

	pack_build_start(&build, OID_SHA1);
	pack_build_object(&build, OBJECT_BLOB, "one one one one", 15);
	pack_build_object(&build, OBJECT_BLOB, "two two two", 11);
	pack_build_end(&build);
	for (size_t i = 0; i < build.bytes.len; i++) {
		struct world world = { 0 };
		struct outcome outcome;

		build.bytes.data[i] ^= 0x10;
		outcome = feed(&world, &build);
		CHECK_MSG(!outcome.finished, "byte %zu", i);
		for (size_t j = 0; j < world.count; j++) {
			struct content *content = world.arrived[j];

			if (oid_equal(&content->oid, &one))
				CHECK(has_bytes(content, "one one one one", 15));
			if (oid_equal(&content->oid, &two))
				CHECK(has_bytes(content, "two two two", 11));
		}
		world_release(&world);
		build.bytes.data[i] ^= 0x10;
	}
	buf_release(&build.bytes);
}

static void test_entry_can_stop_the_pack(void)
{
	struct world world = { .entry_status = -ECANCELED };
	struct pack_build build;

	pack_build_start(&build, OID_SHA1);
	pack_build_object(&build, OBJECT_BLOB, "hello", 5);
	pack_build_end(&build);
	CHECK_INT(feed(&world, &build).status, -ECANCELED);
	CHECK_UINT(world.first_size, 5);
	CHECK_UINT(world.count, 0);
	buf_release(&build.bytes);
}

int main(int argc, char **argv)
{
	(void)argc;
	tap_args(argv);
	TAP_RUN(test_whole_objects_come_out_with_their_ids);
	TAP_RUN(test_object_is_handed_on_before_the_pack_ends);
	TAP_RUN(test_large_object_goes_to_a_file);
	TAP_RUN(test_delta_chain_is_resolved_from_the_window);
	TAP_RUN(test_delta_chain_is_resolved_from_the_cache_without_a_window);
	TAP_RUN(test_delta_chain_is_resolved_from_a_spool_when_nothing_was_cached);
	TAP_RUN(test_ref_delta_before_its_base);
	TAP_RUN(test_ofs_delta_on_a_delta_that_still_waits);
	TAP_RUN(test_ref_delta_on_an_object_from_elsewhere);
	TAP_RUN(test_delta_without_a_base_is_counted_and_not_handed_on);
	TAP_RUN(test_large_results_and_bases_stay_in_files);
	TAP_RUN(test_large_delta_is_read_from_a_file);
	TAP_RUN(test_many_waiting_deltas_are_spilled);
	TAP_RUN(test_damaged_delta_is_lost_alone);
	TAP_RUN(test_full_disk_loses_the_object_and_says_so);
	TAP_RUN(test_flipped_byte_never_gives_a_wrong_object);
	TAP_RUN(test_entry_can_stop_the_pack);
	return tap_done();
}
