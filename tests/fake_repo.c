/*
 * The least that a session needs of a repository. Waiting is done with the fields that the real one
 * uses, and with its rules: done() comes from another thread than the one that parked and with no
 * lock held; cancelling says true exactly when nobody will be woken any more, and before a
 * registration it makes that fail.
 */
#include "tests/fake_repo.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- waiting ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	TAILQ_HEAD(, fetch_waiter) queue;
	unsigned count;
} waits = { .lock = PTHREAD_MUTEX_INITIALIZER,
	    .more = PTHREAD_COND_INITIALIZER,
	    .queue = TAILQ_HEAD_INITIALIZER(waits.queue) };

static struct repo_wait *wait_of(struct fetch_waiter *waiter)
{
	return (struct repo_wait *)((char *)waiter - offsetof(struct repo_wait, waiter));
}

void repo_wait_init(struct repo_wait *wait, struct repo *repo,
		    void (*wake)(struct repo_wait *, int))
{
	(void)repo;
	memset(wait, 0, sizeof(*wait));
	wait->wake = wake;
}

int fake_park(struct repo_wait *wait, const void *key)
{
	int rc = REPO_PARKED;

	if (!wait)
		return -EAGAIN;
	pthread_mutex_lock(&waits.lock);
	if (wait->waiter.state == FETCH_WAITER_CANCELED) {
		rc = -ECANCELED;
	} else {
		wait->waiter.state = FETCH_WAITER_PARKED;
		wait->waiter.flight = (struct flight *)(uintptr_t)key;
		TAILQ_INSERT_TAIL(&waits.queue, &wait->waiter, entry);
		waits.count++;
		pthread_cond_broadcast(&waits.more);
	}
	pthread_mutex_unlock(&waits.lock);
	return rc;
}

static void unpark_locked(struct fetch_waiter *waiter)
{
	TAILQ_REMOVE(&waits.queue, waiter, entry);
	waits.count--;
	pthread_cond_broadcast(&waits.more);
}

unsigned fake_wake(const void *key, int status)
{
	struct fetch_waiter *waiter, *next;
	TAILQ_HEAD(, fetch_waiter) woken = TAILQ_HEAD_INITIALIZER(woken);
	unsigned count = 0;

	pthread_mutex_lock(&waits.lock);
	for (waiter = TAILQ_FIRST(&waits.queue); waiter; waiter = next) {
		next = TAILQ_NEXT(waiter, entry);
		if (waiter->flight != (struct flight *)(uintptr_t)key)
			continue;
		unpark_locked(waiter);
		waiter->state = FETCH_WAITER_DONE;
		TAILQ_INSERT_TAIL(&woken, waiter, entry);
	}
	pthread_mutex_unlock(&waits.lock);

	while ((waiter = TAILQ_FIRST(&woken)) != NULL) {
		TAILQ_REMOVE(&woken, waiter, entry);
		wait_of(waiter)->wake(wait_of(waiter), status);
		count++;
	}
	return count;
}

bool repo_wait_cancel(struct repo_wait *wait)
{
	pthread_mutex_lock(&waits.lock);
	bool won = wait->waiter.state != FETCH_WAITER_DONE;

	if (wait->waiter.state == FETCH_WAITER_PARKED)
		unpark_locked(&wait->waiter);
	if (won)
		wait->waiter.state = FETCH_WAITER_CANCELED;
	pthread_mutex_unlock(&waits.lock);
	return won;
}

unsigned fake_waiting(void)
{
	pthread_mutex_lock(&waits.lock);
	unsigned count = waits.count;
	pthread_mutex_unlock(&waits.lock);
	return count;
}

void fake_wait_waiting(unsigned n)
{
	pthread_mutex_lock(&waits.lock);
	while (waits.count < n)
		pthread_cond_wait(&waits.more, &waits.lock);
	pthread_mutex_unlock(&waits.lock);
}

/* ---- the tree ---- */

struct node {
	struct fake *fake;
	struct node *parent, *sibling, *children;
	char *name;
	uint32_t mode;
	uint64_t ino, size;
	const void *content; /* NULL: fake_byte() */
	_Atomic bool closed[FAKE_GATE_COUNT];
	_Atomic unsigned falsely[FAKE_GATE_COUNT];
	_Atomic unsigned lookups;
	_Atomic unsigned blind;
	_Atomic bool told;
};

struct repo {
	struct repo_identity identity;
};

struct node_table {
	struct node *root;
};

struct fake {
	struct repo repo;
	struct node_table nodes;
	struct node *root;
	uint64_t next_ino;
};

static struct node *node_new(struct fake *fake, struct node *dir, const char *name, uint32_t mode,
			     uint64_t size)
{
	struct node *node = calloc(1, sizeof(*node));

	node->fake = fake;
	node->parent = dir ? dir : node;
	node->name = strdup(name);
	node->mode = mode;
	node->size = size;
	node->ino = ++fake->next_ino * 1000;
	return node;
}

struct fake *fake_new(struct node_table **out_nodes)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	uint8_t hash[20];

	memset(hash, 0xab, sizeof(hash));
	fake->repo.identity.commit = oid_from_bytes(OID_SHA1, hash);
	fake->repo.identity.tree = fake->repo.identity.commit;
	fake->root = node_new(fake, NULL, "", 040755, 0);
	fake->nodes.root = fake->root;
	*out_nodes = &fake->nodes;
	return fake;
}

static void node_free(struct node *node)
{
	while (node->children) {
		struct node *child = node->children;

		node->children = child->sibling;
		node_free(child);
	}
	free(node->name);
	free(node);
}

void fake_free(struct fake *fake)
{
	node_free(fake->root);
	free(fake);
}

struct repo *fake_repo(struct fake *fake)
{
	return &fake->repo;
}
struct node *fake_root(struct fake *fake)
{
	return fake->root;
}

struct node *fake_add(struct fake *fake, struct node *dir, const char *name, uint32_t mode,
		      uint64_t size)
{
	struct node *node = node_new(fake, dir, name, mode, size), **end = &dir->children;

	while (*end)
		end = &(*end)->sibling;
	*end = node;
	return node;
}

void fake_set_content(struct node *node, const void *data, size_t len)
{
	node->content = data;
	node->size = len;
}

uint8_t fake_byte(uint64_t off)
{
	return (uint8_t)(off * 7 + (off >> 12) * 13);
}
uint64_t fake_ino(const struct node *node)
{
	return node->ino;
}
unsigned fake_lookups(const struct node *node)
{
	return node->lookups;
}

void fake_close_gate(struct node *node, enum fake_gate gate)
{
	node->closed[gate] = true;
}

void fake_open_falsely(struct node *node, enum fake_gate gate, unsigned count)
{
	node->falsely[gate] = count;
}

void fake_open_gate(struct node *node, enum fake_gate gate, int status)
{
	do {
		if (node->falsely[gate] == 0 && status == 0)
			node->closed[gate] = false;
		fake_wake(&node->closed[gate], status);
	} while (node->falsely[gate] != 0 && node->falsely[gate]--);
}

/* ---- blind reads ---- */

void fake_blind_begin(struct node *node, struct repo_wait *wait)
{
	if (wait->blind.read || node->told)
		return;
	wait->blind.read = node;
	node->blind++;
}

int fake_blind_pass(struct node *node, struct repo_wait *wait)
{
	if (node->blind == 0)
		return 0;
	int rc = fake_park(wait, &node->blind);

	if (rc == REPO_PARKED && node->blind == 0)
		fake_wake(&node->blind, 0); /* it ended meanwhile */
	return rc;
}

void repo_wait_release(struct repo_wait *wait)
{
	struct node *node = wait->blind.read;

	wait->blind.read = NULL;
	if (node && --node->blind == 0)
		fake_wake(&node->blind, 0);
}

/*
 * Under the wait's own lock a gate cannot open between the look and the registration, as with a
 * real flight.
 */
static int pass(struct node *node, enum fake_gate gate, struct repo_wait *wait)
{
	if (!node->closed[gate])
		return 0;
	int rc = fake_park(wait, &node->closed[gate]);

	if (rc == REPO_PARKED && !node->closed[gate])
		fake_wake(&node->closed[gate], 0); /* it opened meanwhile */
	return rc;
}

/* ---- node.h ---- */

void node_table_set_root(struct node_table *table, struct node *root)
{
	table->root = root;
}

struct node *node_from_id(struct node_table *table, uint64_t nodeid)
{
	return nodeid == 1 ? table->root : (struct node *)(uintptr_t)nodeid;
}

uint64_t node_id(const struct node_table *table, const struct node *node)
{
	return node == table->root ? 1 : (uint64_t)(uintptr_t)node;
}

struct repo *node_repo(const struct node *node)
{
	return node ? &node->fake->repo : NULL;
}

void node_forget(struct node_table *table, struct node *node, uint64_t count)
{
	(void)table;
	if (node->lookups < count)
		abort();
	node->lookups -= (unsigned)count;
}

uint64_t node_count(struct node_table *table)
{
	(void)table;
	return 0;
}

/* ---- repo.h ---- */

const struct repo_identity *repo_identity(const struct repo *repo)
{
	return &repo->identity;
}

/* The nodes have no ids: all that the kernel knows are meant. */
static void each_below(struct node *dir, void (*each)(void *, struct node *), void *arg)
{
	for (struct node *node = dir->children; node; node = node->sibling) {
		if (node->lookups)
			each(arg, node);
		each_below(node, each, arg);
	}
}

void repo_withdraw(struct repo *repo, const struct oid *oid,
		   void (*drop)(void *arg, struct node *node), void *arg)
{
	(void)oid;
	each_below(((struct fake *)repo)->root, drop, arg);
}

struct node *repo_parent(struct repo *repo, struct node *node)
{
	(void)repo;
	return node->parent;
}

void repo_attr_now(struct repo *repo, struct node *node, struct repo_attr *out)
{
	(void)repo;
	bool known = !node->closed[FAKE_SIZE];

	*out = (struct repo_attr){ .ino = node->ino,
				   .mode = node->mode,
				   .size = known ? node->size : REPO_SIZE_PLACEHOLDER,
				   .size_known = known,
				   .mtime_s = 1000000000 };
}

void repo_attr_tell(struct repo *repo, struct node *node, struct repo_attr *out)
{
	repo_attr_now(repo, node, out);
	if (node->blind != 0) {
		out->size = REPO_SIZE_PLACEHOLDER;
		out->size_known = false;
	}
	node->told = out->size_known;
}

int repo_getattr(struct repo *repo, struct node *node, struct repo_wait *wait,
		 struct repo_attr *out)
{
	int rc = fake_blind_pass(node, wait);

	if (rc == 0)
		rc = pass(node, FAKE_SIZE, wait);
	if (rc != 0)
		return rc;
	repo_attr_now(repo, node, out);
	node->told = true;
	return 0;
}

int repo_lookup(struct repo *repo, struct node *dir, const char *name, struct repo_wait *wait,
		struct node **out)
{
	int rc = repo_dir_load(repo, dir, wait);

	if (rc != 0)
		return rc;
	if (strlen(name) > 255)
		return -ENAMETOOLONG;
	for (struct node *child = dir->children; child; child = child->sibling) {
		if (strcmp(child->name, name) != 0)
			continue;
		rc = pass(child, FAKE_NAME, wait);
		if (rc == 0) {
			child->lookups++;
			*out = child;
		}
		return rc;
	}
	return -ENOENT;
}

int repo_dir_load(struct repo *repo, struct node *dir, struct repo_wait *wait)
{
	(void)repo;
	if ((dir->mode & 0170000) != 0040000)
		return -ENOTDIR;
	return pass(dir, FAKE_TREE, wait);
}

static struct node *child_at(struct node *dir, size_t index)
{
	struct node *child = dir->children;

	while (child && index--)
		child = child->sibling;
	return child;
}

void repo_dir_listed(struct repo *repo, struct node *dir)
{
	(void)repo;
	(void)dir;
}

int repo_dirent(struct repo *repo, struct node *dir, size_t index, struct repo_dirent *out)
{
	struct node *child = child_at(dir, index);

	(void)repo;
	if (!child)
		return -ENOENT;
	*out = (struct repo_dirent){ child->name, child->mode, child->ino };
	return 0;
}

struct node *repo_dirent_node(struct repo *repo, struct node *dir, size_t index)
{
	struct node *child = child_at(dir, index);

	(void)repo;
	if (child)
		child->lookups++;
	return child;
}

static struct block *content(struct node *node, uint64_t off, size_t len)
{
	struct block *block = block_new(len);

	for (size_t i = 0; i < len; i++)
		block->data[i] = node->content ? ((const uint8_t *)node->content)[off + i] :
						 fake_byte(off + i);
	return block;
}

/* In pieces, so that replies are gathered from several blocks. */
int repo_read(struct repo *repo, struct node *node, uint64_t off, size_t len,
	      struct repo_wait *wait, struct spans *out)
{
	(void)repo;
	if (wait && node->closed[FAKE_CONTENT])
		fake_blind_begin(node, wait);
	int rc = pass(node, FAKE_CONTENT, wait);

	if (rc != 0)
		return rc;
	node->closed[FAKE_SIZE] = false; /* who has the content knows its size */
	*out = (struct spans)SPANS_INIT;
	if (off >= node->size)
		return 0;
	if (len > node->size - off)
		len = (size_t)(node->size - off);
	while (rc == 0 && len > 0) {
		size_t piece = len < 100000 ? len : 100000;

		rc = spans_add_take(out, content(node, off, piece), 0, piece);
		off += piece;
		len -= piece;
	}
	return rc;
}

int repo_readlink(struct repo *repo, struct node *node, struct repo_wait *wait, struct block **out)
{
	(void)repo;
	if ((node->mode & 0170000) != 0120000)
		return -EINVAL;
	int rc = pass(node, FAKE_CONTENT, wait);

	if (rc == 0)
		*out = content(node, 0, node->size);
	return rc;
}

void repo_origin(struct repo *repo, struct node *node, struct repo_origin *out)
{
	out->oid = repo->identity.commit;
	out->cached = !node->closed[FAKE_CONTENT];
}

int repo_path(struct repo *repo, struct node *node, struct buf *out)
{
	if (node->parent == node)
		return 0;
	int rc = repo_path(repo, node->parent, out);

	if (rc == 0 && node->parent->parent != node->parent)
		rc = buf_add_str(out, "/");
	return rc ? rc : buf_add_str(out, node->name);
}

void repo_totals(struct repo *repo, struct repo_totals *out)
{
	(void)repo;
	*out = (struct repo_totals){ .nodes = 42, .bytes_known = 40961 };
}
