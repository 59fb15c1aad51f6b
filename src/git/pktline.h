/*
 * pktline: git's framing. Source: gitprotocol-common, "pkt-line Format", and gitprotocol-v2 for
 * delim and response-end.
 *
 *	pkt_reader_init ---> pkt_reader_feed ... ---> pkt_reader_release
 *
 * Threads: a reader belongs to one thread.
 */
#ifndef GIT_PKTLINE_H
#define GIT_PKTLINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define PKT_MAX_LEN 65520  /* with its four digits */
#define PKT_MAX_DATA 65516 /* without */

enum pkt_kind { PKT_DATA, PKT_FLUSH, PKT_DELIM, PKT_RESPONSE_END };

/* Writers: 0, -ENOMEM, or -E2BIG for more than PKT_MAX_DATA. */
int pkt_add(struct buf *out, const void *data, size_t len);
int pkt_addf(struct buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int pkt_add_flush(struct buf *out);
int pkt_add_delim(struct buf *out);

/*
 * One packet; `data` is borrowed for the call. A non-zero return stops the reader: see
 * pkt_reader_feed().
 */
typedef int (*pkt_fn)(void *arg, enum pkt_kind kind, const uint8_t *data, size_t len);

struct pkt_reader {
	uint8_t head[4];
	unsigned head_len;
	size_t want_len;    /* data bytes of the packet under way; 0 between packets */
	struct buf partial; /* owned: a packet that came in pieces */
};
void pkt_reader_init(struct pkt_reader *reader);
void pkt_reader_release(struct pkt_reader *reader);

/*
 * Cuts packets out of the next bytes. A packet that lies whole in `data` is not copied. Returns 0
 * when all was taken; -EPROTO for a bad length; -ENOMEM; or what `fn` returned when that was not 0,
 * with *out_used (may be NULL) telling how many bytes were taken, that packet included: the rest
 * may be fed again.
 */
int pkt_reader_feed(struct pkt_reader *reader, const uint8_t *data, size_t len, size_t *out_used,
		    pkt_fn fn, void *arg);

/* True between two packets: a stream may end here. */
int pkt_reader_at_boundary(const struct pkt_reader *reader);

#endif
