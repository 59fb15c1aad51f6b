/*
 * error: a code and a sentence for the person at the terminal.
 *
 * Functions return 0 or a negative errno. Those a person may hear from take a last
 * `struct xcp_error *err`; on failure it holds the same code and a message that says what was
 * being done, to what, what went wrong and what to try. `err` may be NULL: nobody wants the words.
 * Failing allocates nothing.
 *
 *	xcp_error_set ---> xcp_error_prefix (by layers that know more) ---> said once
 *
 * Secrets never enter a message: URLs go in through uri_redact().
 *
 * Threads: a struct belongs to its caller; no function here shares anything.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#define XCP_ERROR_LEN 768

struct xcp_error {
	int code; /* 0, or the negative errno that was returned */
	char message[XCP_ERROR_LEN];
};

/*
 * Sets the message and returns `code`, so that failing is one line:
 *	return xcp_error_set(err, -EINVAL, "cannot parse %s: ...", name);
 * The new message may quote the old one.
 */
int xcp_error_set(struct xcp_error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message and returns the code that is in it (0 when err is NULL). */
int xcp_error_prefix(struct xcp_error *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The house's codes with a fixed meaning, on top of errno's own:
 *	-EAGAIN, -ETIMEDOUT	try later (network)
 *	-EACCES			credentials missing or refused
 *	-ENOENT			no such thing; a cache miss
 *	-EBADMSG		failed verification
 *	-EPROTO			malformed bytes from outside
 *	-ECANCELED		nobody wants it any more
 *	-ENETUNREACH		the remote does not answer, or --offline
 */

#endif
