/*
 * object: looks into commits, tags and trees.
 *
 * Only what a mount needs is read. Trees are taken as git takes them (any known mode, in any order,
 * with doubles), since what `git clone` shows is what a mount shows; deciding about names is
 * tree_name_refused()'s.
 */
#include "git/object.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "git/protocol_internal.h"

#define NAME_MAX_LEN 255

/* ---- commits and tags ---- */

/* Cuts the first line off, without its newline. False when there is no newline. */
static bool text_line(struct text *text, struct text *out)
{
	const char *end = text->len ? memchr(text->data, '\n', text->len) : NULL;

	if (!end)
		return false;
	out->data = text->data;
	out->len = (size_t)(end - text->data);
	text->data = end + 1;
	text->len -= out->len + 1;
	return true;
}

/* "KEY HEX\n" with as many digits as the algorithm has. */
static int read_oid_line(struct text *text, const char *key, enum oid_algo algo, struct oid *out)
{
	struct text line;

	if (!text_line(text, &line) || !text_skip(&line, key) ||
	    line.len != 2 * oid_algo_len(algo) || oid_from_hex(line.data, line.len, out))
		return -EPROTO;
	return 0;
}

/* The number behind the last '>' of "NAME <MAIL> SECONDS ZONE"; 0 when there is none that fits. */
static int64_t ident_time(struct text ident)
{
	const char *mail_end = ident.len ? memrchr(ident.data, '>', ident.len) : NULL;
	const char *end = ident.data + ident.len;
	int64_t time = 0;

	if (!mail_end)
		return 0;
	for (const char *p = mail_end + 1; p < end; p++) {
		if (*p == ' ' && time == 0)
			continue;
		if (*p < '0' || *p > '9')
			break;
		if (time > (INT64_MAX - 9) / 10)
			return 0;
		time = time * 10 + (*p - '0');
	}
	return time;
}

int commit_parse(enum oid_algo algo, const uint8_t *data, size_t len, struct commit *out)
{
	struct text text = { (const char *)data, len }, line;
	struct commit commit = { 0 };

	if (read_oid_line(&text, "tree ", algo, &commit.tree))
		return -EPROTO;
	while (text_line(&text, &line) && line.len > 0) {
		if (text_skip(&line, "committer ")) {
			commit.time = ident_time(line);
			break;
		}
	}
	*out = commit;
	return 0;
}

static enum object_type type_from_name(struct text name)
{
	for (enum object_type type = OBJECT_COMMIT; type <= OBJECT_TAG; type++) {
		const char *known = object_type_name(type);

		if (name.len == strlen(known) && memcmp(name.data, known, name.len) == 0)
			return type;
	}
	return OBJECT_NONE;
}

int tag_parse(enum oid_algo algo, const uint8_t *data, size_t len, struct tag *out)
{
	struct text text = { (const char *)data, len }, line;
	struct tag tag = { 0 };

	if (read_oid_line(&text, "object ", algo, &tag.object) || !text_line(&text, &line) ||
	    !text_skip(&line, "type "))
		return -EPROTO;
	tag.type = type_from_name(line);
	if (tag.type == OBJECT_NONE)
		return -EPROTO;
	*out = tag;
	return 0;
}

/* ---- trees ---- */

void tree_cursor_init(struct tree_cursor *cursor, enum oid_algo algo, const uint8_t *data,
		      size_t len)
{
	cursor->algo = algo;
	cursor->data = data;
	cursor->len = len;
	cursor->off = 0;
}

/*
 * What git makes of a mode: permissions of files become one of two, and whatever it does not know
 * is a gitlink.
 */
static enum tree_mode canonical_mode(unsigned mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return mode & S_IXUSR ? TREE_MODE_EXEC : TREE_MODE_FILE;
	case S_IFLNK:
		return TREE_MODE_LINK;
	case S_IFDIR:
		return TREE_MODE_DIR;
	default:
		return TREE_MODE_GITLINK;
	}
}

/* Octal digits and a space. */
static int read_mode(struct tree_cursor *cursor, enum tree_mode *out)
{
	size_t start = cursor->off;
	unsigned mode = 0;

	for (; cursor->off < cursor->len; cursor->off++) {
		uint8_t byte = cursor->data[cursor->off];

		if (byte == ' ' && cursor->off > start) {
			cursor->off++;
			*out = canonical_mode(mode);
			return 0;
		}
		if (byte < '0' || byte > '7')
			return -EPROTO;
		mode = mode << 3 | (unsigned)(byte - '0');
		if (mode > 0177777)
			return -EPROTO;
	}
	return -EPROTO;
}

int tree_next(struct tree_cursor *cursor, struct tree_entry *out)
{
	size_t hash_len = oid_algo_len(cursor->algo), left;
	struct tree_entry entry;
	const uint8_t *end;

	if (cursor->off == cursor->len)
		return 0;
	if (read_mode(cursor, &entry.mode))
		return -EPROTO;
	left = cursor->len - cursor->off;
	end = left ? memchr(cursor->data + cursor->off, 0, left) : NULL;
	if (!end)
		return -EPROTO;
	entry.name = (const char *)cursor->data + cursor->off;
	entry.name_len = (size_t)(end - cursor->data) - cursor->off;
	left -= entry.name_len + 1;
	if (left < hash_len)
		return -EPROTO;
	entry.oid = oid_from_bytes(cursor->algo, end + 1);
	cursor->off = cursor->len - left + hash_len;
	*out = entry;
	return 1;
}

/* ---- names ---- */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Whether `name` begins with the lower-case `word`, whatever its own case. */
static bool begins_with(const char *name, size_t name_len, const char *word)
{
	size_t len = strlen(word);

	if (name_len < len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (lower(name[i]) != word[i])
			return false;
	}
	return true;
}

/*
 * NTFS drops dots and spaces at the end, takes ':' as the start of a stream's name, and has short
 * names.
 */
static bool ntfs_means_dotgit(const char *name, size_t name_len)
{
	size_t i;

	if (begins_with(name, name_len, ".git"))
		i = strlen(".git");
	else if (begins_with(name, name_len, "git~1"))
		i = strlen("git~1");
	else
		return false;
	while (i < name_len && (name[i] == '.' || name[i] == ' '))
		i++;
	return i == name_len || name[i] == ':' || name[i] == '\\';
}

/* A backslash separates directories there: any part of the name may be the one. */
static bool ntfs_part_means_dotgit(const char *name, size_t name_len)
{
	for (size_t i = 0; i < name_len; i++) {
		if ((i == 0 || name[i - 1] == '\\') && ntfs_means_dotgit(name + i, name_len - i))
			return true;
	}
	return false;
}

#define UTF8_BAD UINT32_MAX

/* The code point at the front, *out_len its bytes; UTF8_BAD for what is none. */
static uint32_t utf8_decode(const uint8_t *bytes, size_t len, size_t *out_len)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t first = bytes[0];
	size_t want = first < 0x80     ? 1 :
		      first >> 5 == 6  ? 2 :
		      first >> 4 == 14 ? 3 :
		      first >> 3 == 30 ? 4 :
					 0;
	uint32_t point;

	if (want == 0 || want > len)
		return UTF8_BAD;
	point = want == 1 ? first : first & (0x7fu >> want);
	for (size_t i = 1; i < want; i++) {
		if (bytes[i] >> 6 != 2)
			return UTF8_BAD;
		point = point << 6 | (bytes[i] & 0x3f);
	}
	if (point < smallest[want] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
		return UTF8_BAD;
	*out_len = want;
	return point;
}

/* Code points that HFS+ passes over when it compares names. */
static bool hfs_ignores(uint32_t point)
{
	return (point >= 0x200c && point <= 0x200f) || (point >= 0x202a && point <= 0x202e) ||
	       (point >= 0x206a && point <= 0x206f) || point == 0xfeff;
}

static bool hfs_means_dotgit(const char *name, size_t name_len)
{
	static const char word[] = ".git";
	size_t matched = 0, i = 0;

	while (i < name_len) {
		size_t len = 0;
		uint32_t point = utf8_decode((const uint8_t *)name + i, name_len - i, &len);

		if (point == UTF8_BAD) /* ends the name, as it does for git */
			break;
		i += len;
		if (hfs_ignores(point))
			continue;
		if (point > 0x7f || word[matched] == '\0' || lower((char)point) != word[matched])
			return false;
		matched++;
	}
	return matched == strlen(word);
}

bool tree_name_refused(const char *name, size_t name_len)
{
	if (name_len == 0 || name_len > NAME_MAX_LEN)
		return true;
	if (memchr(name, '/', name_len) || memchr(name, '\0', name_len))
		return true;
	if (name[0] == '.' && (name_len == 1 || (name_len == 2 && name[1] == '.')))
		return true;
	return ntfs_part_means_dotgit(name, name_len) || hfs_means_dotgit(name, name_len);
}
