/*
 * upload_pack: commands, and the words of git and ssh.
 *
 * On stock installations filters have to be allowed by whoever starts upload-pack, and object sizes
 * to be advertised; who can read the repository may do both. What ends up in a shell on the other
 * side is quoted as git quotes it; what could be taken for an option was refused by source.c.
 */
#include "remote/upload_pack.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/uri.h"

/* Without what could lead git to another repository than the one that was asked for. */
static const char *const child_env[] = { "GIT_DIR",
					 "GIT_WORK_TREE",
					 "GIT_INDEX_FILE",
					 "GIT_OBJECT_DIRECTORY",
					 "GIT_ALTERNATE_OBJECT_DIRECTORIES",
					 "GIT_COMMON_DIR",
					 "GIT_NAMESPACE",
					 "GIT_PREFIX",
					 "GIT_SHALLOW_FILE",
					 "GIT_GRAFT_FILE",
					 "GIT_REPLACE_REF_BASE",
					 "GIT_IMPLICIT_WORK_TREE",
					 "GIT_CONFIG_PARAMETERS",
					 "GIT_CEILING_DIRECTORIES",
					 "GIT_PROTOCOL=version=2",
					 "LC_ALL=C",
					 "LANGUAGE=C",
					 NULL };

/* ---- commands ---- */

char *upload_pack_ssh_program(void)
{
	const char *name = getenv("XCPFS_SSH");

	if (!name || !*name)
		name = getenv("GIT_SSH");
	return strdup(name && *name ? name : "ssh");
}

static int spawn_local(struct broker *broker, const char *path, struct broker_child *out,
		       struct xcp_error *err)
{
	const char *const argv[] = { "git",
				     "-c",
				     "uploadpack.allowFilter=true",
				     "-c",
				     "uploadpack.allowAnySHA1InWant=true",
				     "-c",
				     "transfer.advertiseObjectInfo=true",
				     "upload-pack",
				     path,
				     NULL };
	const struct broker_command command = { argv, child_env };

	return broker_spawn(broker, &command, out, err);
}

/* Safe in every Bourne shell, and "!" in csh too. */
static int add_quoted(struct buf *out, const char *text)
{
	int rc = buf_add_str(out, "'");

	for (; rc == 0 && *text; text++) {
		if (*text == '\'' || *text == '!')
			rc = buf_addf(out, "'\\%c'", *text);
		else
			rc = buf_add(out, text, 1);
	}
	return rc ? rc : buf_add_str(out, "'");
}

static const char *remote_command(struct buf *out, enum upload_pack_form form, const char *path)
{
	static const char *const commands[FORM_COUNT] = {
		[FORM_ENV] = "env GIT_PROTOCOL=version=2 git -c uploadpack.allowFilter=true "
			     "-c transfer.advertiseObjectInfo=true upload-pack ",
		[FORM_PLAIN] = "git-upload-pack ",
	};

	if (buf_add_str(out, commands[form]) || add_quoted(out, path))
		return NULL;
	return buf_str(out);
}

static const char *ssh_address(struct buf *out, const struct source *source)
{
	if (source->user && buf_addf(out, "%s@", source->user))
		return NULL;
	return buf_add_str(out, source->host) ? NULL : buf_str(out);
}

static int spawn_ssh(struct broker *broker, const struct source *source, const char *program,
		     enum upload_pack_form form, struct broker_child *out, struct xcp_error *err)
{
	struct buf command_text = BUF_INIT, address_text = BUF_INIT;
	const char *text = remote_command(&command_text, form, source->path);
	const char *address = ssh_address(&address_text, source);
	const char *argv[20];
	const struct broker_command command = { argv, child_env };
	size_t n = 0;
	int rc;

	argv[n++] = program;
	if (!broker_interactive(broker)) {
		argv[n++] = "-o";
		argv[n++] = "BatchMode=yes";
	}
	argv[n++] = "-o";
	argv[n++] = "ConnectTimeout=15";
	argv[n++] = "-o";
	argv[n++] = "ServerAliveInterval=15";
	argv[n++] = "-o";
	argv[n++] = "SendEnv=GIT_PROTOCOL";
	if (source->port) {
		argv[n++] = "-p";
		argv[n++] = source->port;
	}
	argv[n++] = "--";
	argv[n++] = address;
	argv[n++] = text;
	argv[n] = NULL;
	rc = text && address ? broker_spawn(broker, &command, out, err) :
			       xcp_error_set(err, -ENOMEM, "out of memory");
	buf_release(&command_text);
	buf_release(&address_text);
	return rc;
}

int upload_pack_spawn(struct broker *broker, const struct source *source, const char *ssh_program,
		      enum upload_pack_form form, struct broker_child *out, struct xcp_error *err)
{
	if (!broker)
		return xcp_error_set(err, -ENOTSUP, "no programs may be started here");
	if (source->kind == SOURCE_SSH)
		return spawn_ssh(broker, source, ssh_program, form, out, err);
	return spawn_local(broker, source->path, out, err);
}

/* ---- words ---- */

/* The line that says most: git's first "fatal:", else the last one. */
static void best_line(const char *said, char *out, size_t out_len)
{
	const char *line = strstr(said, "fatal: ");
	size_t len = strlen(said);

	if (line) {
		text_printable(out, out_len, line, strcspn(line, "\n"));
		return;
	}
	while (len > 0 && isspace((unsigned char)said[len - 1]))
		len--;
	line = len ? memrchr(said, '\n', len) : NULL;
	line = line ? line + 1 : said;
	text_printable(out, out_len, line, len - (size_t)(line - said));
}

/* What a line of git or ssh means for whom it is shown to, and what to try. The first one counts. */
static const struct saying {
	const char *said, *means, *remedy;
} ssh_sayings[] = {
	{ "Permission denied (", "the host does not let you in",
	  "check the user name, and that ssh has a key that the host knows (ssh-add -l)" },
	{ "Too many authentication", "the host does not let you in",
	  "name the right key with IdentityFile in ~/.ssh/config" },
	{ "ould not resolve hostname", "the host's name is not known",
	  "check its spelling and the network" },
	{ "onnection refused", "no ssh server listens there", "check the host and the port" },
	{ "timed out", "the host does not answer", "check its name and the network" },
	{ "No route to host", "the host cannot be reached", "check its name and the network" },
	{ "etwork is unreachable", "the host cannot be reached", "check the network" },
	{ "command not found", "git is not installed there, or not in the PATH of commands by ssh",
	  "install it on the host" },
	{ "git-upload-pack: not found", "git is not installed there, or not in the PATH",
	  "install it on the host" },
	{ "git: not found", "git is not installed there, or not in the PATH",
	  "install it on the host" },
	{ "git repository", "the host has no git repository at that path",
	  "check it; without a \"/\" in front it begins in the home folder there" },
	{ "epository not found", "the host does not have it, or does not show it to you",
	  "check the name and the key that ssh uses" },
	{ "ermission denied", "you may not read it there", "ask the host's owner" },
	{ NULL, NULL, NULL },
};

/* On this machine one can look: git says the same of nearly all. */
static const struct saying *local_saying(const struct source *source, const char *line)
{
	static const struct saying none = { "", "there is no such path", "check its spelling" },
				   closed = { "", "you may not read it", "check its permissions" },
				   plain = { "", "it is no git repository",
					     "name a bare one, or the folder that .git is in" };

	if (!strstr(line, "git repository") && !strstr(line, "invalid gitfile"))
		return NULL;
	if (access(source->path, R_OK) == 0)
		return &plain;
	return errno == ENOENT || errno == ENOTDIR ? &none : errno == EACCES ? &closed : &plain;
}

static const struct saying *ssh_saying(const char *line)
{
	const struct saying *saying = ssh_sayings;

	while (saying->said && !strstr(line, saying->said))
		saying++;
	return saying->said ? saying : NULL;
}

static bool explain_host_key(const struct source *source, const char *said, const char *line,
			     struct remote_finding *out)
{
	const char *host = source->host ? source->host : "";

	if (strstr(said, "HOST IDENTIFICATION HAS CHANGED"))
		snprintf(
			out->words, sizeof(out->words),
			"the host's key is not the one that ssh knows, so it may be another host "
			"(%s); if its owner says that the key is new, run \"ssh-keygen -R %.200s\"",
			line, host);
	else if (strstr(line, "ost key verification failed"))
		snprintf(out->words, sizeof(out->words),
			 "ssh does not know the host's key (Host key verification failed); run "
			 "\"ssh %.200s\" once and accept it",
			 host);
	else
		return false;
	return true;
}

static void explain_line(const struct source *source, const char *line, struct remote_finding *out)
{
	const struct saying *saying = source->kind == SOURCE_SSH ? ssh_saying(line) :
								   local_saying(source, line);

	if (saying)
		snprintf(out->words, sizeof(out->words), "%s (%s); %s", saying->means, line,
			 saying->remedy);
	else
		snprintf(out->words, sizeof(out->words), "%s",
			 *line ? line : "the connection ended without a word");
}

void upload_pack_explain(const struct source *source, const char *said, bool stalled,
			 struct remote_finding *out)
{
	const char *where = source->kind == SOURCE_SSH ? " there" : "";
	char line[300];

	/* One line: what stands around it may be anything, a banner for instance. */
	best_line(said, line, sizeof(line));
	uri_redact(line, line, sizeof(line));
	out->verdict = *line && !stalled ? verdict_of_words(line) : REMOTE_TRANSIENT;
	out->code = verdict_code(out->verdict);
	if (out->verdict == REMOTE_TRANSIENT)
		out->code = stalled || strcasestr(line, "timed out") ? -ETIMEDOUT : -ENETUNREACH;
	if (strstr(line, "dubious ownership"))
		snprintf(
			out->words, sizeof(out->words),
			"git refuses it because it belongs to another user (dubious ownership); if "
			"you trust it, run%s: git config --global --add safe.directory %.200s",
			where, source->path);
	else if (stalled)
		snprintf(out->words, sizeof(out->words), "no answer%s%s", *line ? ": " : "", line);
	else if (!explain_host_key(source, said, line, out))
		explain_line(source, line, out);
}

bool upload_pack_said_no(const char *said)
{
	static const char *const final[] = {
		"dubious ownership",
		"does not appear to be a git repository",
		"not a git repository",
		"Permission denied (",
		"Host key verification failed",
		"HOST IDENTIFICATION HAS CHANGED",
		"Could not resolve hostname",
		"Connection refused",
		"Connection timed out",
		"No route to host",
		"Network is unreachable",
		"Connection closed by",
		"Connection reset by",
		"Too many authentication",
		"Bad configuration option",
	};

	for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++)
		if (strstr(said, final[i]))
			return true;
	return false;
}
