/*
 * The doubles. Objects are in a hash table by id, facts and parked waits in lists; one lock for all
 * of it, never held over a callback.
 */
#include "fake_fetch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HASH_FUNCTION(key, key_len, out) (out) = (unsigned)XXH3_64bits(key, key_len)
#include <uthash.h>

#include "base/clock.h"
#include "git/hash.h"

struct object {
	struct oid oid;
	struct content *content; /* owned */
	bool here, size_here;
	UT_hash_handle hh;
};

struct fact {
	char *kind, *key, *value; /* owned */
	size_t value_len;
	int64_t stored_s;
	struct fact *next;
};

struct flight {
	struct oid oid;
	enum object_type type; /* what comes must be this */
	bool size_only;
	struct fetch_waiter *waiter;
	TAILQ_ENTRY(flight) entry;
};

struct fetch {
	struct oid step; /* what was said of a step */
	bool step_whole;
	struct fetch_list together; /* what was said to be wanted together; owned */
	struct lock lock;
	struct lock_cond cond;
	/* under lock */
	struct object *objects;
	struct fact *facts;
	TAILQ_HEAD(, flight) flights;
	unsigned flight_count;
	enum fake_mode mode;
	bool keep, closing;
	int silence;
	struct fake_counts counts;
	struct fetch_budget budget;
	struct fetch_list company;
	struct oid company_tree;
	int64_t fact_time_s;
	unsigned fact_puts;
	void (*hook)(void *);
	void *hook_arg;
	uint64_t large_limit; /* 0: nothing is large */
	char place[256];      /* of the last part that was wanted */

	bool threaded;
	pthread_t thread;
};

struct remote {
	struct ref_list refs;
	int status;
	unsigned calls;
	struct buf expected, asked;
	int short_status;
	struct oid short_commit;
	unsigned short_calls;
};

/* ---- objects ---- */

static void must(int failed, const char *what)
{
	if (failed) {
		fprintf(stderr, "fake_fetch: %s failed\n", what);
		abort();
	}
}

static struct object *object_find(struct fetch *fetch, const struct oid *oid)
{
	struct object *object;

	HASH_FIND(hh, fetch->objects, oid, sizeof(*oid), object);
	return object;
}

struct oid fake_object(struct fetch *fetch, enum object_type type, const void *data, size_t len)
{
	struct object *object = calloc(1, sizeof(*object));
	struct object *other;
	struct block *block = block_new(len);

	must(!object || !block, "allocating");
	memcpy(block->data, data, len);
	must(object_hash(OID_SHA1, type, data, len, &object->oid), "hashing");
	other = object_find(fetch, &object->oid);
	if (other) {
		block_unref(block);
		free(object);
		return other->oid;
	}
	object->content = content_from_block_take(&object->oid, type, block);
	HASH_ADD(hh, fetch->objects, oid, sizeof(object->oid), object);
	return object->oid;
}

struct oid fake_blob(struct fetch *fetch, const char *text)
{
	return fake_object(fetch, OBJECT_BLOB, text, strlen(text));
}

struct oid fake_commit(struct fetch *fetch, const struct oid *tree, long long time)
{
	char hex[OID_MAX_HEX + 1], text[400];
	int len = snprintf(text, sizeof(text),
			   "tree %s\nauthor A <a@b> 1 +0000\ncommitter C <c@d> %lld +0000\n\nm\n",
			   oid_to_hex(tree, hex), time);

	return fake_object(fetch, OBJECT_COMMIT, text, (size_t)len);
}

struct oid fake_tag(struct fetch *fetch, const struct oid *object, const char *type)
{
	char hex[OID_MAX_HEX + 1], text[400];
	int len = snprintf(text, sizeof(text),
			   "object %s\ntype %s\ntag t\ntagger T <t@t> 1 +0000\n\nm\n",
			   oid_to_hex(object, hex), type);

	return fake_object(fetch, OBJECT_TAG, text, (size_t)len);
}

struct oid fake_tree(struct fetch *fetch, const struct fake_entry *entries, size_t count)
{
	struct buf buf = BUF_INIT;
	struct oid oid;

	for (size_t i = 0; i < count; i++) {
		must(buf_addf(&buf, "%s %s", entries[i].mode, entries[i].name), "adding");
		must(buf_add(&buf, "", 1), "adding");
		must(buf_add(&buf, entries[i].oid.hash, 20), "adding");
	}
	oid = fake_object(fetch, OBJECT_TREE, buf.data ? (const void *)buf.data : "", buf.len);
	buf_release(&buf);
	return oid;
}

static void set_here(struct fetch *fetch, const struct oid *oid, bool here, bool size_here)
{
	lock_take(&fetch->lock);
	struct object *object = object_find(fetch, oid);

	must(!object, "finding an object");
	object->here = here;
	object->size_here = size_here;
	lock_give(&fetch->lock);
}

void fake_here(struct fetch *fetch, const struct oid *oid)
{
	set_here(fetch, oid, true, true);
}

void fake_size_here(struct fetch *fetch, const struct oid *oid)
{
	set_here(fetch, oid, false, true);
}

void fake_gone(struct fetch *fetch, const struct oid *oid)
{
	set_here(fetch, oid, false, false);
}

void fake_all_here(struct fetch *fetch)
{
	for (struct object *object = fetch->objects; object; object = object->hh.next)
		object->here = object->size_here = true;
}

void fake_trees_here(struct fetch *fetch)
{
	for (struct object *object = fetch->objects; object; object = object->hh.next) {
		if (object->content->type == OBJECT_TREE)
			object->here = object->size_here = true;
	}
}

const struct content *fake_peek(struct fetch *fetch, const struct oid *oid)
{
	struct object *object = object_find(fetch, oid);

	must(!object, "finding an object");
	return object->content;
}

/* ---- settings ---- */

void fake_mode(struct fetch *fetch, enum fake_mode mode)
{
	lock_take(&fetch->lock);
	fetch->mode = mode;
	lock_give(&fetch->lock);
}

void fake_keep(struct fetch *fetch, bool keep)
{
	lock_take(&fetch->lock);
	fetch->keep = keep;
	lock_give(&fetch->lock);
}

void fake_silence(struct fetch *fetch, int status)
{
	lock_take(&fetch->lock);
	fetch->silence = status;
	lock_give(&fetch->lock);
}

void fake_hook(struct fetch *fetch, void (*hook)(void *arg), void *arg)
{
	fetch->hook = hook;
	fetch->hook_arg = arg;
}

void fake_budget(struct fetch *fetch, const struct fetch_budget *budget)
{
	fetch->budget = *budget;
}

const struct fetch_list *fake_company(struct fetch *fetch)
{
	return &fetch->company;
}

struct oid fake_company_tree(struct fetch *fetch)
{
	return fetch->company_tree;
}

struct fake_counts fake_counts(struct fetch *fetch)
{
	lock_take(&fetch->lock);
	struct fake_counts counts = fetch->counts;
	lock_give(&fetch->lock);
	return counts;
}

void fake_fact_time(struct fetch *fetch, int64_t stored_s)
{
	fetch->fact_time_s = stored_s;
}

unsigned fake_fact_puts(struct fetch *fetch)
{
	return fetch->fact_puts;
}

/* ---- delivery ---- */

static struct flight *flight_take_locked(struct fetch *fetch, const struct oid *oid)
{
	struct flight *flight;

	TAILQ_FOREACH(flight, &fetch->flights, entry) {
		if (oid && !oid_equal(&flight->oid, oid))
			continue;
		TAILQ_REMOVE(&fetch->flights, flight, entry);
		fetch->flight_count--;
		flight->waiter->state = FETCH_WAITER_DONE;
		return flight;
	}
	return NULL;
}

static void arrive_locked(struct fetch *fetch, struct object *object, const struct flight *flight)
{
	if (!fetch->keep)
		return;
	object->size_here = true;
	if (!flight->size_only)
		object->here = true;
}

static bool deliver_one(struct fetch *fetch, const struct oid *oid, int status)
{
	struct content *content = NULL;
	struct object *object = NULL;
	struct flight *flight;

	lock_take(&fetch->lock);
	flight = flight_take_locked(fetch, oid);
	if (flight && status == 0) {
		object = object_find(fetch, &flight->oid);
		status = fetch->silence ? fetch->silence : object ? 0 : -ENOENT;
		if (status == 0) {
			arrive_locked(fetch, object, flight);
			content = content_ref(object->content);
			if (content->type != flight->type)
				status = -EBADMSG;
		}
	}
	lock_give(&fetch->lock);
	if (!flight)
		return false;
	flight->waiter->done(flight->waiter, status, status || flight->size_only ? NULL : content,
			     content ? content->size : 0);
	content_unref(content);
	free(flight);
	return true;
}

unsigned fake_deliver(struct fetch *fetch, const struct oid *oid, int status)
{
	unsigned count = 0;

	/* only those that wait now: a wake may park again */
	for (unsigned waiting = fake_waiting(fetch); waiting && deliver_one(fetch, oid, status);
	     waiting--)
		count++;
	return count;
}

unsigned fake_waiting(struct fetch *fetch)
{
	lock_take(&fetch->lock);
	unsigned count = fetch->flight_count;
	lock_give(&fetch->lock);
	return count;
}

static void *deliverer(void *arg)
{
	struct fetch *fetch = arg;

	lock_take(&fetch->lock);
	while (!fetch->closing) {
		if (fetch->mode == FAKE_THREAD && fetch->flight_count) {
			lock_give(&fetch->lock);
			deliver_one(fetch, NULL, 0);
			lock_take(&fetch->lock);
		} else {
			lock_cond_wait(&fetch->cond, &fetch->lock);
		}
	}
	lock_give(&fetch->lock);
	return NULL;
}

struct fetch *fake_open(void)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));

	must(!fetch, "allocating");
	lock_init(&fetch->lock);
	lock_cond_init(&fetch->cond);
	TAILQ_INIT(&fetch->flights);
	fetch->keep = true;
	fetch->fact_time_s = 1000;
	must(thread_start(&fetch->thread, "fake", deliverer, fetch), "starting a thread");
	return fetch;
}

void fake_close(struct fetch *fetch)
{
	struct object *object, *next;

	lock_take(&fetch->lock);
	fetch->closing = true;
	lock_cond_broadcast(&fetch->cond);
	lock_give(&fetch->lock);
	pthread_join(fetch->thread, NULL);
	must(fetch->flight_count != 0, "having no flights at the end");
	HASH_ITER(hh, fetch->objects, object, next) {
		HASH_DEL(fetch->objects, object);
		content_unref(object->content);
		free(object);
	}
	for (struct fact *fact; (fact = fetch->facts);) {
		fetch->facts = fact->next;
		free(fact->kind);
		free(fact->key);
		free(fact->value);
		free(fact);
	}
	fetch_list_release(&fetch->company);
	fetch_list_release(&fetch->together);
	lock_cond_release(&fetch->cond);
	lock_release(&fetch->lock);
	free(fetch);
}

/* ---- fetch.h ---- */

void fetch_waiter_init(struct fetch_waiter *waiter,
		       void (*done)(struct fetch_waiter *, int, struct content *, uint64_t))
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->done = done;
	waiter->state = FETCH_WAITER_IDLE;
}

bool fetch_cancel(struct fetch *fetch, struct fetch_waiter *waiter)
{
	struct flight *flight = NULL;
	bool canceled;

	lock_take(&fetch->lock);
	canceled = waiter->state != FETCH_WAITER_DONE;
	if (waiter->state == FETCH_WAITER_PARKED) {
		TAILQ_FOREACH(flight, &fetch->flights, entry) {
			if (flight->waiter == waiter)
				break;
		}
		must(!flight, "finding a parked waiter");
		TAILQ_REMOVE(&fetch->flights, flight, entry);
		fetch->flight_count--;
	}
	if (canceled)
		waiter->state = FETCH_WAITER_CANCELED;
	lock_give(&fetch->lock);
	free(flight);
	return canceled;
}

int fetch_list_add(struct fetch_list *list, const struct oid *oid)
{
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct oid *v = realloc(list->v, cap * sizeof(*v));

		must(!v, "allocating");
		list->v = v;
		list->cap = cap;
	}
	list->v[list->count++] = *oid;
	return 0;
}

void fetch_list_release(struct fetch_list *list)
{
	free(list->v);
	memset(list, 0, sizeof(*list));
}

static int park_locked(struct fetch *fetch, const struct oid *oid, enum object_type type,
		       bool size_only, struct fetch_waiter *waiter)
{
	struct flight *flight;

	if (waiter->state == FETCH_WAITER_CANCELED)
		return -ECANCELED;
	flight = calloc(1, sizeof(*flight));
	must(!flight, "allocating");
	flight->oid = *oid;
	flight->type = type;
	flight->size_only = size_only;
	flight->waiter = waiter;
	waiter->state = FETCH_WAITER_PARKED;
	TAILQ_INSERT_TAIL(&fetch->flights, flight, entry);
	fetch->flight_count++;
	lock_cond_signal(&fetch->cond);
	return 0;
}

static void gather(struct fetch *fetch, const struct fetch_company *company, bool sizes)
{
	struct fetch_budget budget = fetch->budget;
	struct fetch_list list = { 0 }, old;

	budget.sizes = sizes;
	if (company && fetch->budget.count)
		must(company->gather(company->arg, &budget, &list), "gathering");
	lock_take(&fetch->lock);
	old = fetch->company;
	fetch->company = list;
	if (company)
		must(company->tree(company->arg, 0, &fetch->company_tree), "naming the tree");
	lock_give(&fetch->lock);
	fetch_list_release(&old);
}

static int want(struct fetch *fetch, const struct oid *oid, enum object_type type, bool size_only,
		const struct fetch_company *company, struct fetch_waiter *waiter,
		struct content **out)
{
	struct object *object;
	int ret;

	lock_take(&fetch->lock);
	object = object_find(fetch, oid);
	if (waiter->state != FETCH_WAITER_CANCELED && object &&
	    (object->here || fetch->mode == FAKE_INSTANT)) {
		*out = content_ref(object->content);
		lock_give(&fetch->lock);
		return 1;
	}
	ret = park_locked(fetch, oid, type, size_only, waiter);
	lock_give(&fetch->lock);
	if (ret)
		return ret;
	if (fetch->hook)
		fetch->hook(fetch->hook_arg);
	gather(fetch, company, size_only);
	return ret;
}

int fetch_content(struct fetch *fetch, const struct oid *oid, enum object_type type,
		  uint64_t known_size, const struct fetch_company *company,
		  struct fetch_waiter *waiter, struct content **out)
{
	(void)known_size;
	lock_take(&fetch->lock);
	fetch->counts.contents++;
	lock_give(&fetch->lock);
	return want(fetch, oid, type, false, company, waiter, out);
}

int fetch_size(struct fetch *fetch, const struct oid *oid, const struct fetch_company *company,
	       struct fetch_waiter *waiter, uint64_t *out)
{
	struct content *content;
	int ret;

	lock_take(&fetch->lock);
	fetch->counts.sizes++;
	lock_give(&fetch->lock);
	ret = want(fetch, oid, OBJECT_BLOB, true, company, waiter, &content);
	if (ret == 1) {
		*out = content->size;
		content_unref(content);
	}
	return ret;
}

int fetch_commit(struct fetch *fetch, const struct oid *commit, struct fetch_waiter *waiter,
		 struct content **out)
{
	lock_take(&fetch->lock);
	fetch->counts.commits++;
	lock_give(&fetch->lock);
	return want(fetch, commit, OBJECT_COMMIT, false, NULL, waiter, out);
}

static struct content *get_here(struct fetch *fetch, const struct oid *oid, unsigned *counter)
{
	struct content *content = NULL;

	lock_take(&fetch->lock);
	struct object *object = object_find(fetch, oid);

	(*counter)++;
	if (object && object->here)
		content = content_ref(object->content);
	lock_give(&fetch->lock);
	return content;
}

void fake_large(struct fetch *fetch, uint64_t limit)
{
	fetch->large_limit = limit;
}

const char *fake_place(struct fetch *fetch)
{
	return fetch->place;
}

bool fetch_is_large(const struct fetch *fetch, uint64_t size)
{
	return fetch->large_limit && size > fetch->large_limit;
}

void fetch_withdrawn(struct fetch *fetch, const struct oid *oid)
{
	(void)fetch, (void)oid;
}

void fetch_waiter_release(struct fetch_waiter *waiter)
{
	(void)waiter;
}

/* Parts come as a whole. */
int fetch_part(struct fetch *fetch, const struct fetch_part *part, struct fetch_waiter *waiter,
	       struct spans *out, struct content **out_content)
{
	struct buf path = BUF_INIT;
	struct oid commit;
	int ret;

	*out_content = NULL;
	ret = fetch_read(fetch, &part->oid, part->off, part->len, out);
	if (ret != -ENOENT)
		return ret ? ret : 1;
	if (!waiter)
		return -EAGAIN;
	must(part->place(part->arg, &commit, &path), "placing");
	snprintf(fetch->place, sizeof(fetch->place), "%s", buf_str(&path));
	buf_release(&path);
	return fetch_content(fetch, &part->oid, OBJECT_BLOB, part->size, NULL, waiter, out_content);
}

int fetch_read(struct fetch *fetch, const struct oid *oid, uint64_t off, size_t len,
	       struct spans *out)
{
	struct content *content = get_here(fetch, oid, &fetch->counts.reads);
	int ret;

	if (!content)
		return -ENOENT;
	ret = content_read(content, off, len, out);
	content_unref(content);
	return ret;
}

int fetch_get(struct fetch *fetch, const struct oid *oid, size_t max_len, struct content **out)
{
	struct content *content = get_here(fetch, oid, &fetch->counts.gets);

	if (!content)
		return -ENOENT;
	if (content->size > max_len) {
		content_unref(content);
		return -EFBIG;
	}
	*out = content;
	return 0;
}

bool fetch_known(struct fetch *fetch, const struct oid *oid, enum object_type *out_type,
		 uint64_t *out_size)
{
	bool known;

	lock_take(&fetch->lock);
	struct object *object = object_find(fetch, oid);

	fetch->counts.size_known++;
	known = object && object->size_here;
	if (known) {
		*out_type = object->content->type;
		*out_size = object->content->size;
	}
	lock_give(&fetch->lock);
	return known;
}

bool fetch_size_known(struct fetch *fetch, const struct oid *oid, uint64_t *out)
{
	enum object_type type;

	return fetch_known(fetch, oid, &type, out);
}

bool fetch_commit_is_here(struct fetch *fetch, const struct oid *commit)
{
	return fetch_has(fetch, commit);
}

bool fetch_is_settled(struct fetch *fetch, const struct oid *oid)
{
	return fetch_has(fetch, oid);
}

void fetch_step_from(struct fetch *fetch, const struct oid *commit, bool whole)
{
	lock_take(&fetch->lock);
	fetch->step = *commit;
	fetch->step_whole = whole;
	lock_give(&fetch->lock);
}

bool fake_step(struct fetch *fetch, struct oid *out_from)
{
	*out_from = fetch->step;
	return fetch->step_whole;
}

void fetch_together(struct fetch *fetch, const struct fetch_list *list, bool now)
{
	(void)now;
	lock_take(&fetch->lock);
	for (size_t i = 0; i < list->count; i++)
		fetch_list_add(&fetch->together, &list->v[i]);
	lock_give(&fetch->lock);
}

const struct fetch_list *fake_together(struct fetch *fetch)
{
	return &fetch->together;
}

bool fetch_has(struct fetch *fetch, const struct oid *oid)
{
	struct content *content = get_here(fetch, oid, &fetch->counts.has);

	content_unref(content);
	return content != NULL;
}

static struct fact *fact_find(struct fetch *fetch, const char *kind, const char *key)
{
	struct fact *fact = fetch->facts;

	while (fact && (strcmp(fact->kind, kind) != 0 || strcmp(fact->key, key) != 0))
		fact = fact->next;
	return fact;
}

int fetch_fact_put(struct fetch *fetch, const char *kind, const char *key, const void *value,
		   size_t value_len)
{
	struct fact *fact;

	lock_take(&fetch->lock);
	fact = fact_find(fetch, kind, key);
	if (!fact) {
		fact = calloc(1, sizeof(*fact));
		must(!fact, "allocating");
		fact->kind = strdup(kind);
		fact->key = strdup(key);
		fact->next = fetch->facts;
		fetch->facts = fact;
	}
	free(fact->value);
	fact->value = malloc(value_len + 1);
	must(!fact->value, "allocating");
	memcpy(fact->value, value, value_len);
	fact->value_len = value_len;
	fact->stored_s = fetch->fact_time_s;
	fetch->fact_puts++;
	lock_give(&fetch->lock);
	return 0;
}

int fetch_fact_get(struct fetch *fetch, const char *kind, const char *key, struct buf *out,
		   int64_t *out_stored_s)
{
	int ret = -ENOENT;

	lock_take(&fetch->lock);
	struct fact *fact = fact_find(fetch, kind, key);

	if (fact) {
		ret = buf_add(out, fact->value, fact->value_len);
		if (out_stored_s)
			*out_stored_s = fact->stored_s;
	}
	lock_give(&fetch->lock);
	return ret;
}

void fetch_counters(struct fetch *fetch, struct fetch_counters *out)
{
	(void)fetch;
	memset(out, 0, sizeof(*out));
}

/* ---- the remote ---- */

struct remote *fake_remote_open(void)
{
	struct remote *remote = calloc(1, sizeof(*remote));

	must(!remote, "allocating");
	remote->short_status = -EOPNOTSUPP;
	return remote;
}

void fake_remote_short(struct remote *remote, int status, const struct oid *commit)
{
	remote->short_status = status;
	if (commit)
		remote->short_commit = *commit;
}

unsigned fake_remote_short_calls(const struct remote *remote)
{
	return remote->short_calls;
}

int remote_find_commit(struct remote *remote, const char *id, struct oid *out,
		       struct xcp_error *err)
{
	(void)id;
	remote->short_calls++;
	if (remote->short_status)
		return xcp_error_set(err, remote->short_status, "the fake API does not say");
	*out = remote->short_commit;
	return 0;
}

void fake_remote_close(struct remote *remote)
{
	ref_list_release(&remote->refs);
	buf_release(&remote->expected);
	buf_release(&remote->asked);
	free(remote);
}

void fake_ref(struct remote *remote, const char *name, const struct oid *oid,
	      const struct oid *peeled, const char *symref)
{
	static const struct oid none;

	must(ref_list_add(&remote->refs, name, strlen(name), oid ? oid : &none), "adding a ref");
	struct ref *ref = &remote->refs.v[remote->refs.count - 1];

	if (peeled)
		ref->peeled = *peeled;
	if (symref)
		ref->symref = strdup(symref);
}

void fake_remote_fail(struct remote *remote, int status)
{
	remote->status = status;
}

unsigned fake_remote_calls(const struct remote *remote)
{
	return remote->calls;
}

const char *fake_remote_expected(struct remote *remote)
{
	return buf_str(&remote->expected);
}

const char *fake_remote_asked(struct remote *remote)
{
	return buf_str(&remote->asked);
}

static void note_prefixes(struct buf *out, const char *const *prefixes, size_t count)
{
	buf_clear(out);
	for (size_t i = 0; i < count; i++)
		must(buf_addf(out, " %s", prefixes[i]), "noting a prefix");
}

void remote_expect_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count)
{
	note_prefixes(&remote->expected, prefixes, prefix_count);
}

static bool under_prefixes(const char *name, const char *const *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	return count == 0;
}

int remote_refs(struct remote *remote, const char *const *prefixes, size_t prefix_count,
		struct ref_list *out, struct xcp_error *err)
{
	remote->calls++;
	note_prefixes(&remote->asked, prefixes, prefix_count);
	if (remote->status)
		return xcp_error_set(err, remote->status, "the fake remote fails");
	for (size_t i = 0; i < remote->refs.count; i++) {
		const struct ref *ref = &remote->refs.v[i];

		if (!under_prefixes(ref->name, prefixes, prefix_count))
			continue;
		must(ref_list_add(out, ref->name, strlen(ref->name), &ref->oid), "adding a ref");
		out->v[out->count - 1].peeled = ref->peeled;
		if (ref->symref)
			out->v[out->count - 1].symref = strdup(ref->symref);
	}
	return 0;
}
