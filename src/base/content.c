/*
 * content: a whole object, in a block or in an unlinked file.
 *
 * A file that turns out shorter than the object it holds is -EIO: content exists only after it was
 * verified.
 */
#include "base/content.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

const char *object_type_name(enum object_type type)
{
	switch (type) {
	case OBJECT_COMMIT:
		return "commit";
	case OBJECT_TREE:
		return "tree";
	case OBJECT_BLOB:
		return "blob";
	case OBJECT_TAG:
		return "tag";
	case OBJECT_NONE:
		break;
	}
	return "none";
}

static struct content *content_new(const struct oid *oid, enum object_type type)
{
	struct content *content = calloc(1, sizeof(*content));

	if (!content)
		return NULL;
	atomic_init(&content->refs, 1);
	content->oid = *oid;
	content->type = type;
	content->fd = -1;
	return content;
}

struct content *content_from_block_take(const struct oid *oid, enum object_type type,
					struct block *block)
{
	struct content *content = content_new(oid, type);

	if (!content) {
		block_unref(block);
		return NULL;
	}
	content->size = block->len;
	content->block = block;
	return content;
}

struct content *content_from_fd_take(const struct oid *oid, enum object_type type, int fd,
				     uint64_t size)
{
	struct content *content = content_new(oid, type);

	if (!content) {
		close(fd);
		return NULL;
	}
	content->size = size;
	content->fd = fd;
	return content;
}

struct content *content_ref(struct content *content)
{
	atomic_fetch_add_explicit(&content->refs, 1, memory_order_relaxed);
	return content;
}

void content_unref(struct content *content)
{
	/* acquire and release, as in block_unref() */
	if (!content || atomic_fetch_sub_explicit(&content->refs, 1, memory_order_acq_rel) != 1)
		return;
	block_unref(content->block);
	if (content->fd >= 0)
		close(content->fd);
	free(content);
}

static int read_fully(int fd, uint8_t *data, size_t len, uint64_t off)
{
	while (len > 0) {
		ssize_t got = pread(fd, data, len, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO;
		data += got;
		len -= (size_t)got;
		off += (uint64_t)got;
	}
	return 0;
}

static int read_block(int fd, uint64_t off, size_t len, struct block **out)
{
	struct block *block = block_new(len);
	int rc;

	if (!block)
		return -ENOMEM;
	rc = read_fully(fd, block->data, len, off);
	if (rc) {
		block_unref(block);
		return rc;
	}
	*out = block;
	return 0;
}

int content_read(struct content *content, uint64_t off, size_t len, struct spans *out)
{
	struct block *block;
	int rc;

	if (off >= content->size || len == 0)
		return 0;
	if (len > content->size - off)
		len = (size_t)(content->size - off);
	if (content->block)
		return spans_add_take(out, block_ref(content->block), (size_t)off, len);
	rc = read_block(content->fd, off, len, &block);
	return rc ? rc : spans_add_take(out, block, 0, len);
}

int content_block(struct content *content, size_t max_len, struct block **out)
{
	if (content->size > max_len)
		return -EFBIG;
	if (!content->block)
		return read_block(content->fd, 0, (size_t)content->size, out);
	*out = block_ref(content->block);
	return 0;
}
