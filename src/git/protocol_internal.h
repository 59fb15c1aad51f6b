/*
 * protocol_internal: what the protocol's parsers share; its stretches of text serve objects as well.
 *
 * Threads: any; no state.
 */
#ifndef GIT_PROTOCOL_INTERNAL_H
#define GIT_PROTOCOL_INTERNAL_H

#include "git/protocol.h"

/* A borrowed stretch of a packet. */
struct text {
	const char *data;
	size_t len;
};

/* The packet's bytes without the newline at their end. */
struct text text_from_packet(const uint8_t *data, size_t len);
bool text_is(struct text text, const char *word);
bool text_skip(struct text *text, const char *prefix); /* drops the prefix when it is there */
/*
 * Cuts off what stands before the first `separator` (all when there is none). False when nothing is
 * left.
 */
bool text_cut(struct text *text, char separator, struct text *out);
char *text_copy(struct text text); /* owned by the caller; NULL when out of memory */

/* Reads "<hex>" at the front up to a space or the end, and drops both. -EPROTO when it is no id. */
int text_cut_oid(struct text *text, struct oid *out);

/* Says -EREMOTEIO in the server's words. */
int protocol_server_says(struct xcp_error *err, const char *what, struct text words);

/* "ERR words" in a packet: -EREMOTEIO; 0 when it is none. */
int protocol_check_err(struct xcp_error *err, const char *what, const uint8_t *data, size_t len);

/*
 * Feeds a reader whose packets go to `handle`: 0 to go on, 1 when the answer is over, or a negative
 * errno with words already in err. `what` names the answer in the words for bad framing.
 */
typedef int (*packet_fn)(void *parser, enum pkt_kind kind, const uint8_t *data, size_t len,
			 struct xcp_error *err);
int protocol_feed(struct pkt_reader *reader, const uint8_t *data, size_t len, size_t *out_used,
		  packet_fn handle, void *parser, const char *what, struct xcp_error *err);

/* Reads one line of a v2 ls-refs answer into the list. */
int ref_list_add_line(struct ref_list *list, struct text line, struct xcp_error *err);

/* ref_list_add() with words. */
int ref_list_add_text(struct ref_list *list, struct text name, const struct oid *oid,
		      struct xcp_error *err);
int ref_set_symref(struct ref_list *list, struct ref *ref, struct text target,
		   struct xcp_error *err);

#endif
