/*
 * Fuzz target: packs through ingest, deltas and all. The first byte says how. Odd: the rest is a
 * pack as it is. Even: the rest is a recipe, from which a pack with good checksums is built, so
 * that most of the input reaches the deltas. Whatever comes, an object that is handed on has the id that
 * its bytes have, and nothing is handed on from a pack of another id.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fetch/ingest.h"
#include "pack_build.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define LIMIT 512
#define KEPT_MAX 64

struct world {
	enum oid_algo algo;
	bool keep;
	struct content *kept[KEPT_MAX];
	size_t count;
	struct buf early; /* what came of a large one as it came */
	enum object_type early_type;
	uint64_t early_size;
};

static void check_id(const struct world *world, struct content *content)
{
	struct block *block;
	struct oid oid;

	if (content_block(content, SIZE_MAX, &block))
		abort();
	if (object_hash(world->algo, content->type, block->data, block->len, &oid) ||
	    !oid_equal(&oid, &content->oid))
		abort();
	block_unref(block);
}

static bool on_object(void *arg, struct content *content)
{
	struct world *world = arg;

	check_id(world, content);
	if (!world->keep || world->count == KEPT_MAX)
		return false;
	world->kept[world->count++] = content_ref(content);
	return true;
}

static struct content *find(struct world *world, const struct oid *oid)
{
	for (size_t i = 0; i < world->count; i++)
		if (oid_equal(&world->kept[i]->oid, oid))
			return world->kept[i];
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

	return content ? content_read(content, off, len, out) : -ENOENT;
}

static int on_tmpfile(void *arg)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	(void)arg;
	return fd < 0 ? -errno : fd;
}

/* Every other large one is taken as it comes. */
static int on_early(void *arg, const struct pack_entry *entry)
{
	struct world *world = arg;

	buf_clear(&world->early);
	world->early_type = (enum object_type)entry->kind;
	world->early_size = entry->size;
	return entry->size % 2 ? 1 : entry->size % 7 ? 0 : -ECANCELED;
}

static int on_early_data(void *arg, const uint8_t *data, size_t len)
{
	struct world *world = arg;

	return buf_add(&world->early, data, len);
}

static void on_early_end(void *arg, const struct oid *oid)
{
	struct world *world = arg;
	struct oid want;

	if (world->early.len != world->early_size ||
	    object_hash(world->algo, world->early_type, world->early.data, world->early.len,
			&want) ||
	    !oid_equal(&want, oid))
		abort();
}

/* ---- the recipe: kind, length, and what a base is counted from ---- */

static void build_from(struct pack_build *build, const uint8_t *data, size_t len)
{
	uint64_t offs[256];
	struct oid oids[256];
	size_t count = 0;

	while (len >= 3 && count < 256) {
		size_t piece = data[1] < len - 3 ? data[1] : len - 3;
		const uint8_t *bytes = data + 3;
		size_t base = count ? data[2] % count : 0;

		oids[count] = (struct oid){ .algo = build->algo };
		object_hash(build->algo, OBJECT_BLOB, bytes, piece, &oids[count]);
		switch (data[0] % 4) {
		case 0:
			offs[count] = pack_build_object(build, OBJECT_BLOB, bytes, piece);
			break;
		case 1:
			offs[count] = count ? pack_build_ofs(build, offs[base], bytes, piece) :
					      pack_build_ofs(build, build->bytes.len, bytes, piece);
			break;
		case 2:
			offs[count] = pack_build_ref(build, &oids[base], bytes, piece);
			break;
		default: { /* a delta on a base that comes later, if ever */
			struct oid later;

			object_hash(build->algo, OBJECT_BLOB, data, len < 8 ? len : 8, &later);
			offs[count] = pack_build_ref(build, &later, bytes, piece);
			break;
		}
		}
		count++;
		data += 3 + piece;
		len -= 3 + piece;
	}
	pack_build_end(build);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct ingest_ops ops = {
		.object = on_object,
		.base_stat = on_base_stat,
		.base_read = on_base_read,
		.tmpfile = on_tmpfile,
		.early = on_early,
		.early_data = on_early_data,
		.early_end = on_early_end,
	};
	struct ingest_config config = { .large_limit = LIMIT, .ops = &ops };
	struct world world = { .algo = OID_SHA1 };
	struct pack_build build = { 0 };
	struct ingest *ingest;
	size_t piece;
	int status = 0;

	if (len < 1)
		return 0;
	if (data[0] & 2)
		world.algo = OID_SHA256;
	world.keep = data[0] & 4;
	piece = data[0] & 8 ? 3 : 1000;
	config.window_max_len = data[0] & 16 ? 0 : 4096;
	if (data[0] & 32)
		config.large_limit = LIMIT / 8;
	config.algo = world.algo;
	config.arg = &world;
	if (data[0] & 1) {
		buf_add(&build.bytes, data + 1, len - 1);
	} else {
		pack_build_start(&build, world.algo);
		build_from(&build, data + 1, len - 1);
	}
	ingest = ingest_new(&config);
	for (size_t off = 0; ingest && off < build.bytes.len && !status; off += piece)
		status = ingest_feed(ingest, build.bytes.data + off,
				     build.bytes.len - off < piece ? build.bytes.len - off : piece);
	if (ingest && status && ingest_finished(ingest))
		abort();
	ingest_free(ingest);
	for (size_t i = 0; i < world.count; i++)
		content_unref(world.kept[i]);
	buf_release(&build.bytes);
	buf_release(&world.early);
	return 0;
}
