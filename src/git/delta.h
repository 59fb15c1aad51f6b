/*
 * delta: a git delta applied to its base. Source: gitformat-pack, "Deltified representation".
 *
 *	delta_header ---> delta_apply
 *
 * The base is read through a function, so that a base in a file need not be in memory; the result
 * goes out in pieces.
 *
 * Threads: any.
 */
#ifndef GIT_DELTA_H
#define GIT_DELTA_H

#include <stddef.h>
#include <stdint.h>

struct delta_header {
	uint64_t base_size, result_size;
	size_t len; /* of the header itself */
};

/*
 * Reads the two varints. Returns 0, -EAGAIN when `len` bytes are not enough yet, -EPROTO (sizes
 * above INT64_MAX). Enough of a delta are 20 bytes. Look at result_size before applying: one byte
 * of delta can stand for 64 KiB.
 */
int delta_header(const uint8_t *delta, size_t len, struct delta_header *out);

/*
 * Copies [off, off+len) of the base to `out`; 0 or -errno, which delta_apply passes on. Never asked
 * beyond base_size.
 */
typedef int (*delta_base_fn)(void *arg, uint64_t off, uint8_t *out, size_t len);
/* The next bytes of the result. */
typedef int (*delta_out_fn)(void *arg, const uint8_t *data, size_t len);

/*
 * Applies a whole delta (header included). -EPROTO when it is malformed, asks beyond the base, or
 * makes anything but exactly result_size bytes, -ENOMEM (64 KiB are allocated). Pieces are at most
 * 64 KiB; what went out before an error is worth nothing.
 */
int delta_apply(const uint8_t *delta, size_t len, uint64_t base_size, delta_base_fn base,
		void *base_arg, delta_out_fn out, void *out_arg);

/* The common case: both in memory; `result` holds result_size bytes. */
int delta_apply_mem(const uint8_t *delta, size_t len, const uint8_t *base, size_t base_size,
		    uint8_t *result, size_t result_size);

#endif
