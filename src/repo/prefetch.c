/*
 * prefetch: a stack of nodes that some threads take from and put to. A stack, so that a directory's
 * files are read together, and few nodes wait at a time.
 */
#include "repo/prefetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/lock.h"
#include "repo/node.h"

#define THREADS 16
#define PIECE_LEN ((size_t)1024 * 1024)
#define PROGRESS_MS 200
#define NAME_MAX_LEN 255
#define TRIES_MAX 3
#define WHOLE_MS 30000
#define WHOLE_LOOK_MS 20

struct task {
	struct node *node; /* one lookup is ours, unless it is the root */
	uint32_t mode;
};

struct prefetch {
	const struct prefetch_config *config;
	struct lock lock;
	struct lock_cond work, idle, never; /* never: for waits that only time ends */
	/* under lock */
	struct task *stack; /* owned */
	size_t count, cap;
	unsigned busy, directories; /* tasks at hand; directories at hand or on the stack */
	bool quit, out_of_memory;
	struct prefetch_totals totals;
	int first_failure;
	char first_path[256];
};

/* ---- an operation, waited for ---- */

struct patient {
	struct repo_wait wait;
	struct lock lock;
	struct lock_cond cond;
	/* under lock */
	bool woken;
	int status;
};

static void wake(struct repo_wait *wait, int status)
{
	struct patient *patient = (struct patient *)wait;

	lock_take(&patient->lock);
	patient->woken = true;
	patient->status = status;
	lock_cond_signal(&patient->cond);
	lock_give(&patient->lock);
}

static void patient_init(struct patient *patient, struct repo *repo)
{
	*patient = (struct patient){ .woken = false };
	lock_init(&patient->lock);
	lock_cond_init(&patient->cond);
	repo_wait_init(&patient->wait, repo, wake);
}

static void patient_release(struct patient *patient)
{
	repo_wait_release(&patient->wait);
	lock_cond_release(&patient->cond);
	lock_release(&patient->lock);
}

/* After an operation returned `ret`. 1: try it again; else that is what came of it. */
static int patient_wait(struct patient *patient, int ret)
{
	if (ret != REPO_PARKED)
		return ret;
	lock_take(&patient->lock);
	while (!patient->woken)
		lock_cond_wait(&patient->cond, &patient->lock);
	patient->woken = false;
	ret = patient->status;
	lock_give(&patient->lock);
	return ret ? ret : 1;
}

static int load_directory(struct repo *repo, struct node *node)
{
	struct patient patient;
	int ret;

	patient_init(&patient, repo);
	do
		ret = patient_wait(&patient, repo_dir_load(repo, node, &patient.wait));
	while (ret == 1);
	patient_release(&patient);
	return ret;
}

static int look_up(struct repo *repo, struct node *dir, const char *name, struct node **out)
{
	struct patient patient;
	int ret;

	patient_init(&patient, repo);
	do
		ret = patient_wait(&patient, repo_lookup(repo, dir, name, &patient.wait, out));
	while (ret == 1);
	patient_release(&patient);
	return ret;
}

static int read_link(struct repo *repo, struct node *node)
{
	struct block *target = NULL;
	struct patient patient;
	int ret;

	patient_init(&patient, repo);
	do
		ret = patient_wait(&patient, repo_readlink(repo, node, &patient.wait, &target));
	while (ret == 1);
	if (ret == 0)
		block_unref(target);
	patient_release(&patient);
	return ret;
}

/* One piece; *out_len is how much came. */
static int read_piece(struct repo *repo, struct node *node, uint64_t off, size_t *out_len)
{
	struct spans spans = SPANS_INIT;
	struct patient patient;
	int ret;

	patient_init(&patient, repo);
	do
		ret = patient_wait(&patient,
				   repo_read(repo, node, off, PIECE_LEN, &patient.wait, &spans));
	while (ret == 1 || ret == -ESTALE);
	if (ret == 0)
		*out_len = spans.len;
	spans_release(&spans);
	patient_release(&patient);
	return ret;
}

/* ---- tasks ---- */

static void task_add_locked(struct prefetch *p, const struct task *task)
{
	if (p->count == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 256;
		struct task *stack = realloc(p->stack, cap * sizeof(*stack));

		if (!stack) {
			p->out_of_memory = true;
			return;
		}
		p->stack = stack;
		p->cap = cap;
	}
	p->stack[p->count++] = *task;
	if (S_ISDIR(task->mode))
		p->directories++;
	lock_cond_signal(&p->work);
}

static void task_end(struct prefetch *p, const struct task *task)
{
	if (task->node != repo_root(p->config->repo))
		node_forget(p->config->nodes, task->node, 1);
	lock_take(&p->lock);
	p->busy--;
	if (S_ISDIR(task->mode))
		p->directories--;
	p->totals.complete = p->directories == 0;
	if (p->busy == 0 && p->count == 0) {
		lock_cond_broadcast(&p->work);
		lock_cond_signal(&p->idle);
	}
	lock_give(&p->lock);
}

static void fail(struct prefetch *p, struct node *node, int code)
{
	struct buf path = BUF_INIT;
	const char *text = repo_path(p->config->repo, node, &path) ? NULL : buf_str(&path);

	lock_take(&p->lock);
	p->totals.failed++;
	if (!p->first_failure) {
		p->first_failure = code;
		strncpy(p->first_path, text ? text : "", sizeof(p->first_path) - 1);
	}
	lock_give(&p->lock);
	buf_release(&path);
}

static int directory(struct prefetch *p, const struct task *task)
{
	struct repo *repo = p->config->repo;
	struct repo_dirent entry;
	size_t count = 0;
	int ret = load_directory(repo, task->node);

	if (ret)
		return ret;
	repo_dir_listed(repo, task->node);
	while (repo_dirent(repo, task->node, count, &entry) == 0)
		count++;
	/* The last one first: it is taken last, and a walk is known by its order. */
	for (size_t i = count; i-- > 0 && repo_dirent(repo, task->node, i, &entry) == 0;) {
		struct task next = { .node = repo_dirent_node(repo, task->node, i),
				     .mode = entry.mode };

		if (!next.node)
			return -ENOMEM;
		lock_take(&p->lock);
		task_add_locked(p, &next);
		p->totals.files += !S_ISDIR(next.mode);
		lock_give(&p->lock);
	}
	return 0;
}

/*
 * A large file came in parts, and is only here as a whole once these were hashed. One that turns out
 * to be wrong, or is lost, is not waited for for ever.
 */
static void wait_whole(struct prefetch *p, struct node *node)
{
	uint64_t end_ms = clock_ms() + WHOLE_MS;
	struct repo_origin origin;

	repo_origin(p->config->repo, node, &origin);
	while (!origin.cached && clock_ms() < end_ms) {
		lock_take(&p->lock);
		lock_cond_wait_ms(&p->never, &p->lock, WHOLE_LOOK_MS);
		lock_give(&p->lock);
		repo_origin(p->config->repo, node, &origin);
	}
}

static int whole_file(struct prefetch *p, struct node *node)
{
	size_t len = PIECE_LEN;
	struct repo_attr attr;
	int ret = 0;

	for (uint64_t off = 0; ret == 0 && len == PIECE_LEN; off += len) {
		ret = read_piece(p->config->repo, node, off, &len);
		if (ret)
			break;
		lock_take(&p->lock);
		p->totals.bytes_done += len;
		lock_give(&p->lock);
	}
	repo_attr_now(p->config->repo, node, &attr);
	if (ret == 0 && attr.size_known && fetch_is_large(repo_fetch(p->config->repo), attr.size))
		wait_whole(p, node);
	return ret;
}

static int file(struct prefetch *p, const struct task *task)
{
	struct repo *repo = p->config->repo;
	struct repo_origin origin;
	struct repo_attr attr;
	uint64_t size;
	int ret = 0;

	repo_attr_now(repo, task->node, &attr);
	repo_origin(repo, task->node, &origin);
	size = attr.size_known ? attr.size : 0;
	if (!origin.cached && !p->config->dry)
		ret = S_ISLNK(task->mode) ? read_link(repo, task->node) : whole_file(p, task->node);
	if (!attr.size_known && !p->config->dry) {
		repo_attr_now(repo, task->node, &attr);
		size = attr.size_known ? attr.size : 0;
	}
	lock_take(&p->lock);
	p->totals.done += ret == 0;
	p->totals.here += origin.cached;
	p->totals.bytes += size;
	p->totals.unsized += !attr.size_known;
	if (origin.cached)
		p->totals.bytes_done += size;
	lock_give(&p->lock);
	return ret;
}

static void *run(void *arg)
{
	struct prefetch *p = arg;

	lock_take(&p->lock);
	for (;;) {
		struct task task;
		int ret;

		while (p->count == 0 && p->busy > 0 && !p->quit)
			lock_cond_wait(&p->work, &p->lock);
		if (p->count == 0)
			break;
		task = p->stack[--p->count];
		p->busy++;
		lock_give(&p->lock);
		ret = S_ISDIR(task.mode) ? directory(p, &task) : file(p, &task);
		if (ret)
			fail(p, task.node, ret);
		task_end(p, &task);
		lock_take(&p->lock);
	}
	lock_give(&p->lock);
	return NULL;
}

/* ---- where it begins ---- */

static int path_walk(struct prefetch *p, const char *path, struct task *out)
{
	struct repo *repo = p->config->repo;
	struct node *root = repo_root(repo), *node = root;
	struct repo_attr attr;
	int ret = 0;

	while (ret == 0 && *(path += strspn(path, "/"))) {
		size_t len = strcspn(path, "/");
		char name[NAME_MAX_LEN + 1];
		struct node *next = NULL;

		if (len > NAME_MAX_LEN)
			return -ENAMETOOLONG;
		memcpy(name, path, len);
		name[len] = '\0';
		ret = look_up(repo, node, name, &next);
		if (node != root)
			node_forget(p->config->nodes, node, 1);
		if (ret)
			return ret;
		node = next;
		path += len;
	}
	repo_attr_now(repo, node, &attr);
	*out = (struct task){ .node = node, .mode = attr.mode };
	return ret;
}

static int begin(struct prefetch *p, struct xcp_error *err)
{
	static const char *const everything[] = { "" };
	const char *const *paths = p->config->path_count ? p->config->paths : everything;
	size_t count = p->config->path_count ? p->config->path_count : 1;

	for (size_t i = 0; i < count; i++) {
		struct task task;
		int ret = path_walk(p, paths[i], &task);

		if (ret)
			return xcp_error_set(err, ret, "cannot prefetch %s: %s", paths[i],
					     strerror(-ret));
		lock_take(&p->lock);
		task_add_locked(p, &task);
		p->totals.files += !S_ISDIR(task.mode);
		lock_give(&p->lock);
	}
	return 0;
}

static void watch(struct prefetch *p)
{
	lock_take(&p->lock);
	while (p->busy > 0 || p->count > 0) {
		struct prefetch_totals now;

		lock_cond_wait_ms(&p->idle, &p->lock, PROGRESS_MS);
		now = p->totals;
		lock_give(&p->lock);
		if (p->config->progress)
			p->config->progress(p->config->arg, &now);
		lock_take(&p->lock);
	}
	lock_give(&p->lock);
}

static void forget_rest(struct prefetch *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->stack[i].node != repo_root(p->config->repo))
			node_forget(p->config->nodes, p->stack[i].node, 1);
	free(p->stack);
}

static int work(struct prefetch *p, struct xcp_error *err)
{
	pthread_t threads[THREADS];
	unsigned started = 0;
	int ret = 0;

	for (; started < THREADS && ret == 0; started += ret == 0)
		ret = thread_start(&threads[started], "prefetch", run, p);
	if (started > 0)
		watch(p);
	lock_take(&p->lock);
	p->quit = true;
	lock_cond_broadcast(&p->work);
	lock_give(&p->lock);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (started == 0)
		return xcp_error_set(err, ret, "cannot start a thread: %s", strerror(-ret));
	return p->out_of_memory ? xcp_error_set(err, -ENOMEM, "out of memory") : 0;
}

static int pass(const struct prefetch_config *config, struct prefetch_totals *totals,
		struct xcp_error *err)
{
	struct prefetch p = { .config = config };
	int ret;

	lock_init(&p.lock);
	lock_cond_init(&p.work);
	lock_cond_init(&p.idle);
	lock_cond_init(&p.never);
	ret = begin(&p, err);
	if (ret == 0)
		ret = work(&p, err);
	*totals = p.totals;
	if (ret == 0 && p.first_failure)
		xcp_error_set(err, p.first_failure, "%s: %s", p.first_path,
			      strerror(-p.first_failure));
	forget_rest(&p);
	lock_cond_release(&p.work);
	lock_cond_release(&p.idle);
	lock_cond_release(&p.never);
	lock_release(&p.lock);
	return ret;
}

/* ---- most of it is missing: in one request ---- */

/* In the background, and waited for; what it leaves out is read afterwards. */
static void bring_tree(const struct prefetch_config *config, const struct oid *tree,
		       const struct prefetch_totals *totals)
{
	struct fetch *fetch = repo_fetch(config->repo);
	struct patient pace;
	unsigned asked = 0;

	patient_init(&pace, config->repo);
	lock_take(&pace.lock);
	for (;;) {
		int ret = fetch_fill(fetch, tree, true);

		asked += ret == FETCH_FILL_ASKED;
		if (asked > TRIES_MAX || ret == FETCH_FILL_HERE || (ret < 0 && ret != -EBUSY))
			break;
		lock_cond_wait_ms(&pace.cond, &pace.lock, PROGRESS_MS / 2);
		if (config->progress)
			config->progress(config->arg, totals);
	}
	lock_give(&pace.lock);
	patient_release(&pace);
}

static void bring_trees(const struct prefetch_config *config, const struct prefetch_totals *totals)
{
	struct prefetch p = { .config = config };
	size_t count = config->path_count ? config->path_count : 1;

	for (size_t i = 0; i < count; i++) {
		struct repo_origin origin;
		struct task task;

		if (path_walk(&p, config->path_count ? config->paths[i] : "", &task))
			continue;
		repo_origin(config->repo, task.node, &origin);
		if (S_ISDIR(task.mode))
			bring_tree(config, &origin.oid, totals);
		if (task.node != repo_root(config->repo))
			node_forget(config->nodes, task.node, 1);
	}
}

int prefetch_run(const struct prefetch_config *config, struct prefetch_totals *totals,
		 struct xcp_error *err)
{
	struct prefetch_config look = *config;
	uint64_t here;
	int ret;

	look.dry = true;
	look.progress = NULL;
	ret = pass(&look, totals, err);
	if (ret || config->dry)
		return ret;
	if (totals->files - totals->here > totals->files / 2)
		bring_trees(config, totals);
	here = totals->here;
	look.dry = false;
	look.progress = config->progress;
	ret = pass(&look, totals, err);
	totals->here = here;
	return ret;
}
