/*
 * index_write: changes to the index, one transaction after the other. Each operation looks at what
 * is there by now: since it was thought of others may have written.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/bytes.h"
#include "cache/index_internal.h"

#define READER_CHECK_MS 10000

struct write {
	struct index *index;
	MDB_txn *txn;
	struct pages_look *look; /* NULL: with an LMDB whose pages we do not know */
};

/* ---- before a write: nothing damaged may be copied or moved (pages.h) ---- */

static int look_code(int rc)
{
	return rc == -EBADMSG ? MDB_CORRUPTED : -rc;
}

/* What this transaction changed is in memory; the file is as it was till the commit. */
static int look_begin(struct write *w)
{
	const struct pages pages = index_pages(w->index);

	if (!w->index->map)
		return 0;
	return look_code(pages_look_begin(&pages, mdb_txn_id(w->txn) - 1, &w->look));
}

static int look_put(const struct write *w, enum index_db db, const MDB_val *key)
{
	return w->look ? look_code(pages_look_put(w->look, index_db_names[db], key->mv_data,
						  key->mv_size)) :
			 0;
}

static int look_delete(const struct write *w, enum index_db db, const MDB_val *key)
{
	return w->look ? look_code(pages_look_delete(w->look, index_db_names[db], key->mv_data,
						     key->mv_size)) :
			 0;
}

/* ---- values; everything in this file returns LMDB's codes or errno, as LMDB does ---- */

static int put_sealed(const struct write *w, enum index_db db, struct index_key *key,
		      uint8_t *value, size_t len)
{
	MDB_val k = index_key_val(key), v = { .mv_size = len + CHECK_LEN, .mv_data = value };
	int rc = look_put(w, db, &k);

	if (rc)
		return rc;
	index_value_seal(db, &k, value, len);
	return mdb_put(w->txn, w->index->dbis[db], &k, &v, 0);
}

static int apply_object(const struct write *w, const struct oid *oid,
			const struct index_object *object)
{
	uint8_t value[OBJECT_LEN + CHECK_LEN];
	struct index_key key;

	index_key_of_oid(oid, &key);
	return put_sealed(w, DB_OBJECTS, &key, value, index_object_encode(object, value));
}

static int apply_size(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object size_only = op->object;
	int rc = index_txn_object(w->index, w->txn, &op->oid, &known);

	if (rc == 0 && (known.content != CONTENT_NONE ||
			(known.size == op->object.size && known.type == op->object.type)))
		return 0;
	if (rc && rc != -ENOENT && rc != -EBADMSG)
		return rc == -EUCLEAN ? MDB_CORRUPTED : -rc;
	size_only.content = CONTENT_NONE;
	size_only.pinned = rc == 0 && known.pinned;
	return apply_object(w, &op->oid, &size_only);
}

static int apply_block(const struct write *w, const struct index_op *op)
{
	uint8_t value[BLOCK_LEN + CHECK_LEN] = { VALUE_VERSION };
	struct index_key key;

	index_key_of_block(&op->oid, op->block, &key);
	index_place_encode(&op->place, value + 8);
	return put_sealed(w, DB_BLOCKS, &key, value, BLOCK_LEN);
}

static int apply_segment(const struct write *w, const struct index_op *op)
{
	uint8_t value[SEGMENT_LEN + CHECK_LEN] = { VALUE_VERSION };
	struct index_segment known = { .tail = 0 };
	struct index_key key;
	int rc = index_txn_segment(w->index, w->txn, op->place.segment, &known);

	if (rc == -EUCLEAN)
		return MDB_CORRUPTED;
	if (op->kind == OP_TAIL)
		known.tail = op->place.off;
	else if (op->kind == OP_AGAIN)
		known.head = known.stays = 0;
	else
		known.head = op->place.off, known.stays += op->stays;
	if (known.tail < known.head)
		known.tail = known.head;
	index_key_of_segment(op->place.segment, &key);
	put_le64(value + 8, known.tail);
	put_le64(value + 16, known.head);
	put_le64(value + 24, known.stays);
	return put_sealed(w, DB_SEGMENTS, &key, value, SEGMENT_LEN);
}

static int apply_fact(const struct write *w, const struct index_op *op)
{
	struct index_key key;
	size_t key_len, len;
	uint8_t *value;
	int rc = index_key_of_fact(op->fact_kind, op->fact_key, op->fact_key_len, &key);

	if (rc)
		return -rc;
	key_len = key.hashed ? op->fact_key_len : 0;
	len = FACT_HEADER_LEN + key_len + op->fact_value_len;
	value = malloc(len + CHECK_LEN);
	if (!value)
		return ENOMEM;
	memset(value, 0, FACT_HEADER_LEN);
	value[0] = VALUE_VERSION;
	put_le32(value + 4, (uint32_t)key_len);
	put_le64(value + 8, (uint64_t)op->object.time_s);
	if (key_len > 0)
		memcpy(value + FACT_HEADER_LEN, op->fact_key, key_len);
	if (op->fact_value_len > 0)
		memcpy(value + FACT_HEADER_LEN + key_len, op->fact_value, op->fact_value_len);
	rc = put_sealed(w, DB_FACTS, &key, value, len);
	free(value);
	return rc;
}

static int txn_delete(const struct write *w, enum index_db db, struct index_key *key)
{
	MDB_val k = index_key_val(key);
	int rc = look_delete(w, db, &k);

	if (rc)
		return rc;
	rc = mdb_del(w->txn, w->index->dbis[db], &k, NULL);

	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The bad block's own entry; *out_meant when it was the one that was meant. */
static int forget_block(const struct write *w, const struct index_op *op, bool *out_meant)
{
	struct place place = { .segment = 0 };
	struct index_key key;
	int rc = index_txn_block(w->index, w->txn, &op->oid, op->block, &place);

	*out_meant = rc != 0 || place_equal(&place, &op->place);
	if (!*out_meant)
		return 0;
	index_key_of_block(&op->oid, op->block, &key);
	return txn_delete(w, DB_BLOCKS, &key);
}

static int apply_forget_object(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_key key;
	bool meant = true;
	int rc = index_txn_object(w->index, w->txn, &op->oid, &known);

	index_key_of_oid(&op->oid, &key);
	if (rc == -EBADMSG)
		return txn_delete(w, DB_OBJECTS, &key);
	if (rc || known.content == CONTENT_NONE)
		return 0;
	if (known.content == CONTENT_PARTIAL)
		return forget_block(w, op, &meant);
	if (known.content == CONTENT_RECORD)
		meant = place_equal(&known.place, &op->place);
	if (known.content == CONTENT_BLOCKS)
		rc = forget_block(w, op, &meant);
	if (rc || !meant)
		return rc;
	known.content = CONTENT_NONE;
	return apply_object(w, &op->oid, &known);
}

/* ---- what was stored, moved, given up ---- */

static uint32_t block_count_of(uint64_t size)
{
	return (uint32_t)((size + RECORD_RAW_MAX - 1) / RECORD_RAW_MAX);
}

/* LMDB's code for a look that ended neither well nor with "not here". */
static int look_failed(int rc)
{
	return rc == -EUCLEAN ? MDB_CORRUPTED : 0;
}

/* The first blocks of a very large object may have made room for the last ones. */
static int txn_has_all_blocks(const struct write *w, const struct oid *oid, uint64_t size,
			      bool *out)
{
	for (uint32_t i = 0; i < block_count_of(size); i++) {
		struct place place = { .segment = 0 };
		int rc = index_txn_block(w->index, w->txn, oid, i, &place);

		if (rc) {
			*out = false;
			return look_failed(rc);
		}
	}
	*out = true;
	return 0;
}

static int apply_stored(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object stored = op->object;
	bool whole = true;
	int rc = 0;

	if (stored.content == CONTENT_BLOCKS)
		rc = txn_has_all_blocks(w, &op->oid, stored.size, &whole);
	if (rc)
		return rc;
	if (!whole)
		stored.content = CONTENT_NONE;
	if (index_txn_object(w->index, w->txn, &op->oid, &known) == 0)
		stored.pinned |= known.pinned;
	return apply_object(w, &op->oid, &stored);
}

/* It may have become smaller on the way. */
static uint64_t stored_after_move(uint64_t stored_bytes, const struct index_op *op)
{
	uint64_t less = record_len(op->from.stored_len), more = record_len(op->place.stored_len);

	return stored_bytes > less ? stored_bytes - less + more : more;
}

static int move_block(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct place place = { .segment = 0 };
	int rc = index_txn_block(w->index, w->txn, &op->oid, op->block, &place);

	if (rc)
		return look_failed(rc);
	if (!place_equal(&place, &op->from))
		return 0;
	rc = apply_block(w, op);
	if (rc || op->from.stored_len == op->place.stored_len)
		return rc;
	rc = index_txn_object(w->index, w->txn, &op->oid, &known);
	if (rc || (known.content != CONTENT_BLOCKS && known.content != CONTENT_PARTIAL))
		return look_failed(rc);
	known.stored_bytes = stored_after_move(known.stored_bytes, op);
	return apply_object(w, &op->oid, &known);
}

static int apply_move(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	int rc;

	if (!op->whole)
		return move_block(w, op);
	rc = index_txn_object(w->index, w->txn, &op->oid, &known);
	if (rc)
		return look_failed(rc);
	if (known.content != CONTENT_RECORD || !place_equal(&known.place, &op->from))
		return 0;
	known.place = op->place;
	known.stored_bytes = record_len(op->place.stored_len);
	return apply_object(w, &op->oid, &known);
}

static int give_up_object(const struct write *w, const struct index_op *op,
			  struct index_object *known)
{
	struct index_key key;

	if (op->size_too && !known->pinned) {
		index_key_of_oid(&op->oid, &key);
		return txn_delete(w, DB_OBJECTS, &key);
	}
	known->content = CONTENT_NONE;
	return apply_object(w, &op->oid, known);
}

static int give_up_block(const struct write *w, const struct index_op *op,
			 struct index_object *known)
{
	uint64_t len = record_len(op->from.stored_len);
	struct place place = { .segment = 0 };
	struct index_key key;
	int rc = index_txn_block(w->index, w->txn, &op->oid, op->block, &place);

	if (rc)
		return look_failed(rc);
	if (!place_equal(&place, &op->from))
		return 0;
	index_key_of_block(&op->oid, op->block, &key);
	rc = txn_delete(w, DB_BLOCKS, &key);
	if (rc)
		return rc;
	if (known->content == CONTENT_BLOCKS)
		return give_up_object(w, op, known);
	if (known->content != CONTENT_PARTIAL)
		return 0;
	known->stored_bytes = known->stored_bytes > len ? known->stored_bytes - len : 0;
	if (known->stored_bytes == 0)
		return give_up_object(w, op, known);
	return apply_object(w, &op->oid, known);
}

static int apply_give_up(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	int rc = index_txn_object(w->index, w->txn, &op->oid, &known);

	if (rc == -EUCLEAN)
		return MDB_CORRUPTED;
	if (!op->whole)
		return give_up_block(w, op, &known);
	if (rc || known.content != CONTENT_RECORD || !place_equal(&known.place, &op->from))
		return 0;
	return give_up_object(w, op, &known);
}

/* ---- what was found on disk ---- */

static int apply_found(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE }, found = op->object;
	struct place place = { .segment = 0 };
	int rc;

	if (!op->whole) {
		rc = index_txn_block(w->index, w->txn, &op->oid, op->block, &place);
		if (rc == 0 || rc == -EUCLEAN)
			return look_failed(rc);
		return apply_block(w, op);
	}
	rc = index_txn_object(w->index, w->txn, &op->oid, &known);
	if (rc == -EUCLEAN || known.content != CONTENT_NONE)
		return look_failed(rc);
	found.content = CONTENT_RECORD;
	found.pinned |= known.pinned;
	found.place = op->place;
	found.stored_bytes = record_len(op->place.stored_len);
	return apply_object(w, &op->oid, &found);
}

static int apply_found_all(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE }, found = op->object;
	bool whole = true;
	int rc = index_txn_object(w->index, w->txn, &op->oid, &known);

	if (rc == -EUCLEAN || (known.content != CONTENT_NONE && known.content != CONTENT_PARTIAL))
		return look_failed(rc);
	found.pinned = known.pinned;
	found.stored_bytes = 0;
	for (uint32_t i = 0; i < block_count_of(found.size); i++) {
		struct place place = { .segment = 0 };

		rc = index_txn_block(w->index, w->txn, &op->oid, i, &place);
		if (rc == -EUCLEAN)
			return MDB_CORRUPTED;
		if (rc)
			whole = false;
		else
			found.stored_bytes += record_len(place.stored_len);
	}
	found.content = whole ? CONTENT_BLOCKS : CONTENT_PARTIAL;
	return apply_object(w, &op->oid, &found);
}

static int apply_segment_gone(const struct write *w, const struct index_op *op)
{
	struct index_key key;

	index_key_of_segment(op->place.segment, &key);
	return txn_delete(w, DB_SEGMENTS, &key);
}

/* ---- what is in the making ---- */

static int apply_part(const struct write *w, const struct index_op *op)
{
	struct index_object partial = { .content = CONTENT_NONE };
	struct place known = { .segment = 0 };
	int rc = index_txn_block(w->index, w->txn, &op->oid, op->block, &known);

	if (rc == 0)
		return 0;
	if (rc == -EUCLEAN)
		return MDB_CORRUPTED;
	rc = apply_block(w, op);
	if (rc)
		return rc;
	if (index_txn_object(w->index, w->txn, &op->oid, &partial) ||
	    partial.content != CONTENT_PARTIAL)
		partial.stored_bytes = 0;
	partial = (struct index_object){
		.pinned = partial.pinned,
		.name = partial.content == CONTENT_PARTIAL ? partial.name :
							     (struct oid){ .algo = 0 },
		.type = op->object.type,
		.content = CONTENT_PARTIAL,
		.size = op->object.size,
		.stored_bytes = partial.stored_bytes + record_len(op->place.stored_len),
		.time_s = op->object.time_s,
	};
	return apply_object(w, &op->oid, &partial);
}

static int apply_adopt(const struct write *w, const struct index_op *op)
{
	struct index_object known = { .content = CONTENT_NONE };
	struct index_object adopted = op->object, partial;
	uint64_t seal = 0;
	int rc;

	for (uint32_t i = 0; i < block_count_of(op->object.size); i++) {
		struct place place = { .segment = 0 };
		rc = index_txn_block(w->index, w->txn, &op->object.name, i, &place);

		if (rc)
			return rc == -EUCLEAN ? MDB_CORRUPTED : 0;
		seal = place_seal(seal, &place);
	}
	if (seal != op->seal || (index_txn_object(w->index, w->txn, &op->oid, &known) == 0 &&
				 known.content != CONTENT_NONE))
		return 0;
	adopted.pinned = known.pinned;
	adopted.content = CONTENT_ADOPTED;
	adopted.stored_bytes = 0; /* they count where they lie */
	rc = apply_object(w, &op->oid, &adopted);
	if (rc || index_txn_object(w->index, w->txn, &op->object.name, &partial) ||
	    partial.content != CONTENT_PARTIAL)
		return rc;
	partial.name = op->oid; /* if that is pinned, so are they */
	return apply_object(w, &op->object.name, &partial);
}

static int apply_drop(const struct write *w, const struct index_op *op)
{
	MDB_cursor *cursor;
	struct index_key key, object_key;
	MDB_val k, v;
	int rc = mdb_cursor_open(w->txn, w->index->dbis[DB_BLOCKS], &cursor);

	if (rc)
		return rc;
	index_key_of_block(&op->oid, 0, &key);
	k = index_key_val(&key);
	rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
	while (rc == 0 && k.mv_size == key.len &&
	       memcmp(k.mv_data, key.bytes, key.len - sizeof(uint32_t)) == 0) {
		rc = look_delete(w, DB_BLOCKS, &k);
		if (rc == 0)
			rc = mdb_cursor_del(cursor, 0);
		if (rc == 0)
			rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	index_key_of_oid(&op->oid, &object_key);
	return rc && rc != MDB_NOTFOUND ? rc : txn_delete(w, DB_OBJECTS, &object_key);
}

static int apply_forget_fact(const struct write *w, const struct index_op *op)
{
	struct index_key key;
	struct buf value = BUF_INIT;
	int rc = index_key_of_fact(op->fact_kind, op->fact_key, op->fact_key_len, &key);

	if (rc)
		return -rc;
	rc = index_txn_fact(w->index, w->txn, &key, op->fact_key, op->fact_key_len, &value, NULL);
	buf_release(&value);
	return rc == -EBADMSG ? txn_delete(w, DB_FACTS, &key) : 0;
}

static int apply_one(const struct write *w, const struct index_op *op)
{
	switch (op->kind) {
	case OP_OBJECT:
		return apply_stored(w, op);
	case OP_BLOCK:
		return apply_block(w, op);
	case OP_SIZE:
		return apply_size(w, op);
	case OP_FACT:
		return apply_fact(w, op);
	case OP_TAIL:
	case OP_HEAD:
	case OP_AGAIN:
		return apply_segment(w, op);
	case OP_SEGMENT_GONE:
		return apply_segment_gone(w, op);
	case OP_MOVE:
		return apply_move(w, op);
	case OP_GIVE_UP:
		return apply_give_up(w, op);
	case OP_FOUND:
		return apply_found(w, op);
	case OP_FOUND_ALL:
		return apply_found_all(w, op);
	case OP_FORGET_OBJECT:
		return apply_forget_object(w, op);
	case OP_FORGET_FACT:
		return apply_forget_fact(w, op);
	case OP_PART:
		return apply_part(w, op);
	case OP_ADOPT:
		return apply_adopt(w, op);
	case OP_DROP:
		return apply_drop(w, op);
	}
	return EINVAL;
}

/* Readers that died pin pages for ever unless somebody looks. */
static void readers_check(struct index *index)
{
	uint64_t now = clock_ms();

	if (now < index->next_reader_check_ms)
		return;
	index->next_reader_check_ms = now + READER_CHECK_MS;
	mdb_reader_check(index->env, NULL);
}

struct apply {
	struct write w;
	const struct index_op *ops;
	size_t count;
	int mdb_rc;
};

static int apply_all(struct apply *apply)
{
	int rc = look_begin(&apply->w);

	for (size_t i = 0; i < apply->count && rc == 0; i++)
		rc = apply_one(&apply->w, &apply->ops[i]);
	return rc;
}

static void apply_run(void *arg)
{
	struct index_call *call = arg;
	struct apply *apply = call->arg;
	struct index *index = call->index;
	MDB_txn *txn;
	int rc;

	readers_check(index);
	rc = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (rc == 0) {
		apply->w.txn = txn;
		rc = apply_all(apply);
		if (rc)
			mdb_txn_abort(txn);
		else
			rc = mdb_txn_commit(txn);
	}
	if (rc == MDB_CORRUPTED)
		atomic_store(&index->broken, true);
	apply->mdb_rc = rc;
	call->rc = index_error(rc);
}

int index_apply(struct index *index, const struct index_op *ops, size_t count,
		struct xcp_error *err)
{
	struct apply apply = {
		.w.index = index, .ops = ops, .count = count, .mdb_rc = MDB_CORRUPTED
	};
	struct index_call call = { .index = index, .arg = &apply };
	int rc = index_call_run(&call, apply_run);

	pages_look_end(&apply.w.look);
	if (rc)
		return xcp_error_set(err, rc, "cannot write to the cache index: %s",
				     mdb_strerror(apply.mdb_rc));
	return 0;
}
