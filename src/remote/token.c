#include "remote/token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"

#define TOKEN_MAX_LEN 4096

static const struct {
	const char *kind, *host; /* NULL: any of the kind that is not in a row above */
	const char *variables[2];
	const char *user;
	bool bearer;
} rows[] = {
	{ "github", "github.com", { "GH_TOKEN", "GITHUB_TOKEN" }, "x-access-token", true },
	{ "github",
	  NULL,
	  { "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN" },
	  "x-access-token",
	  true },
	{ "gitlab", "gitlab.com", { "GITLAB_TOKEN", NULL }, "oauth2", false },
};

static bool is_token(const char *text)
{
	size_t len = 0;

	for (; text[len]; len++)
		if (text[len] <= ' ' || text[len] > '~')
			return false;
	return len <= TOKEN_MAX_LEN;
}

static int take(size_t row, const char *variable, const char *text, struct token *out,
		struct xcp_error *err)
{
	if (!is_token(text))
		return xcp_error_set(err, -EINVAL,
				     "%s holds no token: there is a blank or a control character "
				     "in it, or it is longer than %d bytes",
				     variable, TOKEN_MAX_LEN);
	*out = (struct token){ strdup(text), variable, rows[row].user, rows[row].bearer };
	return out->text ? 0 : xcp_error_set(err, -ENOMEM, "out of memory");
}

int token_find(const struct source *source, struct token *out, struct xcp_error *err)
{
	size_t row = 0;

	*out = (struct token){ 0 };
	if (!source->host_name)
		return 0;
	while (row < sizeof(rows) / sizeof(rows[0]) &&
	       (strcmp(rows[row].kind, source->host_kind) != 0 ||
		(rows[row].host && strcmp(rows[row].host, source->host_name) != 0)))
		row++;
	for (size_t i = 0; row < sizeof(rows) / sizeof(rows[0]) && i < 2; i++) {
		const char *variable = rows[row].variables[i];
		const char *text = variable ? getenv(variable) : NULL;

		if (text && *text)
			return take(row, variable, text, out, err);
	}
	return 0;
}

void token_release(struct token *token)
{
	if (token->text)
		secret_wipe(token->text, strlen(token->text));
	free(token->text);
	*token = (struct token){ 0 };
}
