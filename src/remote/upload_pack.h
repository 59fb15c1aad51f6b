/*
 * upload_pack: how git-upload-pack is started, here or through ssh, and what it means when it
 * complains.
 *
 * Threads: any; no state.
 */
#ifndef REMOTE_UPLOAD_PACK_H
#define REMOTE_UPLOAD_PACK_H

#include <stdbool.h>

#include "remote/broker.h"
#include "remote/remote_internal.h"

/* Of the command over ssh. On this machine there is but one. */
enum upload_pack_form {
	FORM_ENV, /* env GIT_PROTOCOL=version=2 git -c uploadpack.allowFilter=true ... upload-pack */
	FORM_PLAIN, /* git-upload-pack, the environment sent by ssh */
	FORM_COUNT,
};

/* The program for ssh, as the environment says; owned by the caller; NULL when out of memory. */
char *upload_pack_ssh_program(void);

/* Asks the broker for a child. Errors as of broker_spawn(). */
int upload_pack_spawn(struct broker *broker, const struct source *source, const char *ssh_program,
		      enum upload_pack_form form, struct broker_child *out, struct xcp_error *err);

/*
 * Why a child ended, as far as `said` (its stderr) tells. `stalled`: it did not, it was given up.
 */
void upload_pack_explain(const struct source *source, const char *said, bool stalled,
			 struct remote_finding *out);

/* Whether the other form would fare no better: ssh itself failed, or git ran and refused. */
bool upload_pack_said_no(const char *said);

#endif
