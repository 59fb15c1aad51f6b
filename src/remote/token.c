#include "remote/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/uri.h"

#define TOKEN_MAX_LEN 4096
#define COMMAND_TIMEOUT_MS 120000
#define GH_WORDS "gh auth token"
#define ASK_TIMEOUT_MS 600000 /* a person types */

#define COUNT(v) (sizeof(v) / sizeof((v)[0]))

/* How a kind of host takes tokens. */
static const struct {
	const char *kind, *user;
	bool bearer;
} kinds[] = {
	{ "github", "x-access-token", true }, { "gitlab", "oauth2", true },
	{ "gitea", "token", true },	      { "forgejo", "token", true },
	{ "huggingface", "token", true },     { "bitbucket", "x-token-auth", false },
	{ "azure", "token", false },
};

static const struct {
	const char *kind, *host; /* NULL: any of the kind that is not in a row above */
	const char *variables[2];
} rows[] = {
	{ "github", "github.com", { "GH_TOKEN", "GITHUB_TOKEN" } },
	{ "github", NULL, { "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN" } },
	{ "gitlab", "gitlab.com", { "GITLAB_TOKEN", NULL } },
	{ "azure", "dev.azure.com", { "AZURE_DEVOPS_EXT_PAT", NULL } },
	{ "huggingface", NULL, { "HF_TOKEN", NULL } },
};

static bool is_token(const char *text)
{
	size_t len = 0;

	for (; text[len]; len++)
		if (text[len] <= ' ' || text[len] > '~')
			return false;
	return len <= TOKEN_MAX_LEN;
}

/* `from` is copied, `text` too. */
static int take(const struct source *source, const char *from, const char *text, struct token *out,
		struct xcp_error *err)
{
	size_t kind = 0;

	if (!is_token(text))
		return xcp_error_set(err, -EINVAL,
				     "%s holds no token: there is a blank or a control character "
				     "in it, or it is longer than %d bytes",
				     from, TOKEN_MAX_LEN);
	while (kind < COUNT(kinds) && strcmp(kinds[kind].kind, source->host_kind) != 0)
		kind++;
	*out = (struct token){ .text = strdup(text),
			       .from = strdup(from),
			       .user = kind < COUNT(kinds) ? kinds[kind].user : "token",
			       .bearer = kind < COUNT(kinds) && kinds[kind].bearer };
	return out->text && out->from ? 0 : xcp_error_set(err, -ENOMEM, "out of memory");
}

/* Cuts it behind the first line, and the blanks that are around that. */
static char *first_line(char *text)
{
	char *start = text + strspn(text, " \t");
	size_t len = strcspn(start, "\r\n");

	while (len > 0 && (start[len - 1] == ' ' || start[len - 1] == '\t'))
		len--;
	start[len] = '\0';
	return start;
}

/* ---- files ---- */

/* 1: there is no such file, or nothing in it. */
static int from_file(const struct source *source, const char *path, struct token *out,
		     struct xcp_error *err)
{
	char text[TOKEN_MAX_LEN + 512];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	int error = errno;

	if (fd >= 0)
		close(fd);
	if (len < 0 && error == ENOENT)
		return 1;
	if (len < 0)
		return xcp_error_set(err, -EACCES, "cannot read the token file %s: %s", path,
				     strerror(error));
	text[len] = '\0';
	rc = *first_line(text) ? take(source, path, first_line(text), out, err) : 1;
	secret_wipe(text, sizeof(text));
	return rc;
}

static int from_its_file(const struct source *source, struct token *out, struct xcp_error *err)
{
	int rc = from_file(source, source->token_file, out, err);

	if (rc > 0)
		return xcp_error_set(err, -EACCES,
				     "the token file %s of host \"%s\" is not there, or empty",
				     source->token_file, source->host_name);
	return rc;
}

/* Where huggingface_hub's login leaves it. */
static int from_hub_file(const struct source *source, struct token *out, struct xcp_error *err)
{
	const char *given = getenv("HF_TOKEN_PATH"), *hub = getenv("HF_HOME");
	const char *home = getenv("HOME");
	char *path = NULL;
	int len = -1, rc;

	if (given && *given)
		len = asprintf(&path, "%s", given);
	else if (hub && *hub)
		len = asprintf(&path, "%s/token", hub);
	else if (home && *home)
		len = asprintf(&path, "%s/.cache/huggingface/token", home);
	else
		return 0;
	if (len < 0)
		return xcp_error_set(err, -ENOMEM, "out of memory");
	rc = from_file(source, path, out, given && *given ? err : NULL);
	free(path);
	/* What nobody named may be of no use. */
	if (rc < 0 && rc != -ENOMEM && !(given && *given)) {
		token_release(out);
		return 0;
	}
	return rc < 0 ? rc : 0;
}

/* ---- commands ---- */

static int run(const struct source *source, struct broker *broker, const atomic_bool *stop,
	       struct buf *output, struct xcp_error *err)
{
	const char *const argv[] = { "/bin/sh", "-c", source->token_command, NULL };
	const struct broker_command command = { argv, NULL };
	int status = 0, rc;

	rc = broker_run(broker, &command, NULL, 0,
			broker_interactive(broker) ? ASK_TIMEOUT_MS : COMMAND_TIMEOUT_MS, stop,
			output, &status, err);
	if (rc) {
		xcp_error_prefix(err, "the token-command of host \"%s\"", source->host_name);
		return rc == -ENOMEM ? rc : -EACCES;
	}
	if (status)
		return xcp_error_set(
			err, -EACCES, "the token-command of host \"%s\" failed (%s %d)",
			source->host_name, WIFEXITED(status) ? "exit status" : "signal",
			WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return 0;
}

static int from_command(const struct source *source, struct broker *broker, const atomic_bool *stop,
			struct token *out, struct xcp_error *err)
{
	struct buf output = BUF_INIT;
	char *text;
	int rc;

	if (!broker)
		return xcp_error_set(err, -EACCES,
				     "the token-command of host \"%s\" cannot be run here",
				     source->host_name);
	/* Room from the start: growing would leave copies behind. */
	if (buf_reserve(&output, BROKER_OUTPUT_MAX + 1))
		return xcp_error_set(err, -ENOMEM, "out of memory");
	rc = run(source, broker, stop, &output, err);
	text = rc || !buf_str(&output) ? NULL : (char *)output.data;
	if (text && *first_line(text))
		rc = take(source, "the token-command", first_line(text), out, err);
	else if (rc == 0)
		rc = xcp_error_set(err, -EACCES, "the token-command of host \"%s\" said nothing",
				   source->host_name);
	secret_wipe(output.data, output.cap);
	buf_release(&output);
	return rc;
}

bool token_is_gh(const struct token *token)
{
	return token->from && strcmp(token->from, GH_WORDS) == 0;
}

int token_of_gh(const struct source *source, struct broker *broker, const atomic_bool *stop,
		struct token *out)
{
	const char *const argv[] = { "gh", "auth", "token", "--hostname", source->host_name, NULL };
	const struct broker_command command = { argv, NULL };
	struct buf output = BUF_INIT;
	int status = -1, rc;

	*out = (struct token){ 0 };
	if (!broker || !source->host_name || strcmp(source->host_kind, "github") != 0)
		return 0;
	if (buf_reserve(&output, BROKER_OUTPUT_MAX + 1))
		return -ENOMEM;
	rc = broker_run(broker, &command, NULL, 0, COMMAND_TIMEOUT_MS, stop, &output, &status,
			NULL);
	if (rc == 0 && status == 0 && buf_str(&output) && *first_line((char *)output.data))
		rc = take(source, GH_WORDS, first_line((char *)output.data), out, NULL);
	secret_wipe(output.data, output.cap);
	buf_release(&output);
	if (rc) /* no gh, or it knows nothing: others are asked */
		token_release(out);
	return rc == -ENOMEM ? rc : 0;
}

/* ---- all of them ---- */

static int from_environment(const struct source *source, struct token *out, struct xcp_error *err)
{
	size_t row = 0;

	while (row < COUNT(rows) &&
	       (strcmp(rows[row].kind, source->host_kind) != 0 ||
		(rows[row].host && strcmp(rows[row].host, source->host_name) != 0)))
		row++;
	for (size_t i = 0; row < COUNT(rows) && i < COUNT(rows[row].variables); i++) {
		const char *variable = rows[row].variables[i];
		const char *text = variable ? getenv(variable) : NULL;

		if (text && *text)
			return take(source, variable, text, out, err);
	}
	return 0;
}

int token_find(const struct source *source, struct broker *broker, const atomic_bool *stop,
	       struct token *out, struct xcp_error *err)
{
	int rc;

	*out = (struct token){ 0 };
	if (!source->host_name)
		return 0;
	if (source->token_command)
		return from_command(source, broker, stop, out, err);
	if (source->token_file)
		return from_its_file(source, out, err);
	rc = from_environment(source, out, err);
	if (rc == 0 && !out->text && strcmp(source->host_kind, "huggingface") == 0)
		rc = from_hub_file(source, out, err);
	return rc;
}

void token_release(struct token *token)
{
	if (token->text)
		secret_wipe(token->text, strlen(token->text));
	free(token->text);
	free(token->from);
	*token = (struct token){ 0 };
}
