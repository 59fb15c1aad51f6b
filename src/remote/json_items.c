#include "remote/json_items.h"

#include <errno.h>
#include <string.h>

#define DEPTH_MAX 64

void json_items_init(struct json_items *items, const char *member,
		     int (*item)(void *arg, const json_t *item), void *arg)
{
	*items = (struct json_items){ .member = member, .item = item, .arg = arg };
}

void json_items_release(struct json_items *items)
{
	buf_release(&items->text);
	buf_release(&items->rest);
	buf_release(&items->key);
}

static int wrong(struct xcp_error *err, const char *why)
{
	return xcp_error_set(err, -EPROTO, "the answer is not the JSON that it should be: %s", why);
}

/* Brackets that are open around an item. */
static unsigned array_depth(const struct json_items *items)
{
	return items->member ? 2 : 1;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int keep(struct buf *buf, size_t max, char c, struct xcp_error *err)
{
	if (buf->len >= max)
		return wrong(err, "it has too much in one place");
	return buf_add(buf, &c, 1);
}

/* An item is whole. */
static int take_item(struct json_items *items)
{
	json_t *item = json_loadb((const char *)items->text.data, items->text.len, 0, NULL);
	int rc = item ? items->item(items->arg, item) : 0;

	json_decref(item);
	items->text.len = 0;
	return rc;
}

/* A bracket that opens; what it opens may be the array. */
static int open_bracket(struct json_items *items, char c, struct xcp_error *err)
{
	bool array = c == '[' && items->depth == array_depth(items) - 1 && !items->seen &&
		     (!items->member || items->named);

	if (items->ended)
		return wrong(err, "something follows its end");
	if (++items->depth > DEPTH_MAX)
		return wrong(err, "it is nested too deeply");
	items->named = false;
	if (array)
		items->in_array = items->seen = true;
	return 0;
}

static int close_bracket(struct json_items *items, struct xcp_error *err)
{
	if (!items->depth)
		return wrong(err, "a bracket is closed that was not opened");
	items->depth--;
	items->named = false;
	if (items->in_array && items->depth < array_depth(items))
		items->in_array = false;
	items->ended = items->depth == 0;
	return 0;
}

/* Inside a string of the top level, which may be the member's name. */
static int take_string(struct json_items *items, char c, struct xcp_error *err)
{
	bool ends = c == '"' && !items->escaped;

	items->escaped = c == '\\' && !items->escaped;
	if (ends)
		items->in_string = false;
	else if (items->depth == 1 && !items->in_array)
		return keep(&items->key, JSON_REST_MAX_LEN, c, err);
	return 0;
}

static bool is_member(const struct json_items *items)
{
	return items->member && items->depth == 1 && items->key.len == strlen(items->member) &&
	       memcmp(items->key.data, items->member, items->key.len) == 0;
}

/* What a byte outside of strings means for where we are. */
static int take_mark(struct json_items *items, char c, struct xcp_error *err)
{
	switch (c) {
	case '"':
		items->in_string = true;
		if (!items->in_array)
			items->key.len = 0;
		items->named = false;
		return 0;
	case '{':
	case '[':
		return open_bracket(items, c, err);
	case '}':
	case ']':
		return close_bracket(items, err);
	case ':':
		items->named = !items->in_array && is_member(items);
		return 0;
	default:
		if (!is_space(c))
			items->named = false;
		return 0;
	}
}

/* Between the brackets of the array, before this byte and behind it: it belongs to an item. */
static int take_inside(struct json_items *items, char c, bool between, struct xcp_error *err)
{
	int rc;

	if (between && (c == ',' || is_space(c)))
		return 0;
	if (between && c != '{')
		return wrong(err, "an item is no object");
	rc = keep(&items->text, JSON_ITEM_MAX_LEN, c, err);
	if (!rc && !items->in_string && items->depth == array_depth(items) && c == '}')
		rc = take_item(items);
	return rc;
}

static int take(struct json_items *items, char c, struct xcp_error *err)
{
	bool was_inside = items->in_array;
	bool between = was_inside && !items->in_string && items->depth == array_depth(items);
	int rc = items->in_string ? take_string(items, c, err) : take_mark(items, c, err);

	if (rc)
		return rc;
	if (was_inside && items->in_array)
		return take_inside(items, c, between, err);
	return keep(&items->rest, JSON_REST_MAX_LEN, c, err);
}

int json_items_feed(struct json_items *items, const uint8_t *data, size_t len,
		    struct xcp_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < len && !rc; i++)
		rc = take(items, (char)data[i], err);
	return rc;
}

int json_items_end(struct json_items *items, json_t **out, struct xcp_error *err)
{
	json_error_t why;

	*out = NULL;
	if (!items->ended)
		return wrong(err, "it breaks off");
	if (!items->seen)
		return wrong(err, "what it should list is missing");
	*out = json_loadb((const char *)items->rest.data, items->rest.len, 0, &why);
	return *out ? 0 : wrong(err, why.text);
}
