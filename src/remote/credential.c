/*
 * credential: git's credential format, spoken with `git credential` through the broker.
 *
 * Format: gitcredentials(7) and git-credential(1), "INPUT/OUTPUT FORMAT". A value with a newline
 * could say more than one attribute, so it is refused.
 */
#include "remote/credential.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"

#define FILL_TIMEOUT_MS 120000
#define ASK_TIMEOUT_MS 600000 /* a person types */
#define TELL_TIMEOUT_MS 20000

static void wipe_free(char **text)
{
	if (*text)
		secret_wipe(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

static void wipe_buf(struct buf *buf)
{
	if (buf->data)
		secret_wipe(buf->data, buf->cap);
	buf_release(buf);
}

int credential_describe(struct credential *credential, const char *url)
{
	struct uri uri;
	struct buf host = BUF_INIT;
	int rc = uri_parse(url, &uri);

	if (rc)
		return rc;
	rc = buf_addf(&host, strchr(uri.host, ':') ? "[%s]%s%s" : "%s%s%s", uri.host,
		      uri.port ? ":" : "", uri.port ? uri.port : "");
	if (rc == 0 && buf_str(&host)) {
		free(credential->protocol);
		free(credential->host);
		free(credential->path);
		credential->protocol = strdup(uri.scheme);
		credential->host = (char *)buf_detach(&host, NULL);
		credential->path = strdup(uri.path + strspn(uri.path, "/"));
	}
	if (!credential->protocol || !credential->host || !credential->path)
		rc = -ENOMEM;
	buf_release(&host);
	uri_release(&uri);
	return rc;
}

static int add_line(struct buf *out, const char *name, const char *value)
{
	if (!value)
		return 0;
	if (strpbrk(value, "\r\n"))
		return -EINVAL;
	return buf_add_str(out, name) || buf_add_str(out, "=") || buf_add_str(out, value) ||
			       buf_add_str(out, "\n") ?
		       -ENOMEM :
		       0;
}

static int write_input(const struct credential *credential, struct buf *out)
{
	/* Room from the start: growing would leave copies of the password behind. */
	int rc = buf_reserve(out, BROKER_OUTPUT_MAX);

	rc = rc ? rc : add_line(out, "protocol", credential->protocol);
	rc = rc ? rc : add_line(out, "host", credential->host);
	rc = rc ? rc : add_line(out, "path", credential->path);
	rc = rc ? rc : add_line(out, "username", credential->user);
	rc = rc ? rc : add_line(out, "password", credential->password);
	return rc ? rc : buf_add_str(out, "\n");
}

/* Runs `git credential VERB`. */
static int run_git(struct broker *broker, const char *verb, const struct credential *credential,
		   unsigned timeout_ms, struct buf *output, int *out_status, struct xcp_error *err)
{
	const char *const argv[] = { "git", "credential", verb, NULL };
	const char *const env[] = {
		"GIT_DIR",    "GIT_WORK_TREE",
		"GIT_PREFIX", "GIT_INDEX_FILE",
		"GIT_TRACE",  "GIT_TRACE_CURL",
		"GIT_TRACE2", broker_interactive(broker) ? NULL : "GIT_TERMINAL_PROMPT=0",
		NULL
	};
	const struct broker_command command = { argv, env };
	struct buf input = BUF_INIT;
	int rc = write_input(credential, &input);

	if (rc)
		rc = xcp_error_set(err, rc, "cannot ask git credential about %s: %s",
				   credential->host, strerror(-rc));
	else
		rc = broker_run(broker, &command, input.data, input.len, timeout_ms,
				credential->stop, output, out_status, err);
	wipe_buf(&input);
	return rc;
}

/* Takes the value of one line of the output into `field`. */
static int take_value(const char *line, size_t len, const char *name, char **field)
{
	size_t name_len = strlen(name);

	if (len <= name_len || memcmp(line, name, name_len) != 0 || line[name_len] != '=')
		return 0;
	wipe_free(field);
	*field = strndup(line + name_len + 1, len - name_len - 1);
	return *field ? 0 : -ENOMEM;
}

static int read_output(const struct buf *output, struct credential *credential)
{
	const char *line = (const char *)output->data;
	size_t left = output->len;
	int rc = 0;

	while (rc == 0 && left > 0) {
		const char *end = memchr(line, '\n', left);
		size_t len = end ? (size_t)(end - line) : left;

		rc = take_value(line, len, "username", &credential->user);
		rc = rc ? rc : take_value(line, len, "password", &credential->password);
		len += end ? 1 : 0;
		line += len;
		left -= len;
	}
	return rc;
}

int credential_fill(struct broker *broker, struct credential *credential, struct xcp_error *err)
{
	struct buf output = BUF_INIT;
	unsigned timeout_ms = broker_interactive(broker) ? ASK_TIMEOUT_MS : FILL_TIMEOUT_MS;
	int status = 0, rc = buf_reserve(&output, BROKER_OUTPUT_MAX);

	wipe_free(&credential->password);
	if (rc)
		return xcp_error_set(err, rc, "out of memory");
	rc = run_git(broker, "fill", credential, timeout_ms, &output, &status, err);
	if (rc == 0 && status == 0)
		rc = read_output(&output, credential);
	wipe_buf(&output);
	if (rc == 0 && (!credential->user || !credential->password))
		rc = xcp_error_set(err, -EACCES, "git credential knows no password for %s",
				   credential->host);
	return rc;
}

static void tell(struct broker *broker, const char *verb, const struct credential *credential)
{
	struct buf output = BUF_INIT;
	int status;

	run_git(broker, verb, credential, TELL_TIMEOUT_MS, &output, &status, NULL);
	wipe_buf(&output);
}

void credential_approve(struct broker *broker, const struct credential *credential)
{
	tell(broker, "approve", credential);
}

void credential_reject(struct broker *broker, const struct credential *credential)
{
	tell(broker, "reject", credential);
}

void credential_forget(struct credential *credential)
{
	wipe_free(&credential->user);
	wipe_free(&credential->password);
}

void credential_release(struct credential *credential)
{
	credential_forget(credential);
	free(credential->protocol);
	free(credential->host);
	free(credential->path);
	*credential = (struct credential){ 0 };
}
