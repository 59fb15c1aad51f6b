/*
 * The life of a mount: options to libfuse, the mount itself, the loop, and an end that leaves
 * nothing behind: no parked request, no thread, no mount. Requests are ops.c's; waiting is
 * parked.c's.
 */
#include "mount/session.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "mount/ops.h"
#include "mount/session_internal.h"
#include "mount/tuning.h"

/*
 * Twice the largest request: of a read of 1 MiB that is not aligned the kernel then asks for what it
 * needs. With less it takes the 257th page for the next step of a sequential reader, and brings 3 MiB.
 */
#define READ_AHEAD_KIB 2048
#define PATIENCE_MS 30000

/*
 * ---- before the mount: say what is wrong in words that libfuse and fusermount3 do not have ----
 */

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	char full[4096];

	for (path = path ? path : "/usr/bin:/bin"; *path; path += *path == ':') {
		size_t len = strcspn(path, ":");

		snprintf(full, sizeof(full), "%.*s/%s", (int)len, path, program);
		if (access(full, X_OK) == 0)
			return true;
		path += len;
	}
	return false;
}

static int check_device(struct xcp_error *err)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno == EACCES || errno == EPERM)
		return xcp_error_set(err, -EACCES,
				     "cannot open /dev/fuse: permission denied; its mode does not "
				     "let ordinary users mount here: "
				     "have root run 'chmod 666 /dev/fuse', or mount as root");
	return xcp_error_set(err, -errno,
			     "cannot open /dev/fuse: %s; load the module with 'modprobe fuse', or "
			     "give the container the device",
			     strerror(errno));
}

/* fuse.conf(5): without this line fusermount3 refuses allow_other. */
static bool users_may_allow_other(void)
{
	char line[256];
	bool found = false;
	FILE *file = fopen("/etc/fuse.conf", "re");

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = strncmp(line, "user_allow_other", strlen("user_allow_other")) == 0;
	fclose(file);
	return found;
}

static int check_ordinary_user(const struct session *session, struct xcp_error *err)
{
	if (!in_path("fusermount3") && access("/usr/bin/fusermount3", X_OK) != 0)
		return xcp_error_set(err, -ENOENT,
				     "cannot mount as an ordinary user without fusermount3; "
				     "install the package fuse3");
	if (access(session->mountpoint, W_OK) != 0)
		return xcp_error_set(err, -EACCES,
				     "cannot mount on %s: an ordinary user needs write access to "
				     "it; choose a directory of your own",
				     session->mountpoint);
	if (session->options.allow_other && !users_may_allow_other())
		return xcp_error_set(err, -EPERM,
				     "cannot use allow_other as an ordinary user: have root put "
				     "the line 'user_allow_other' into /etc/fuse.conf");
	return 0;
}

/* ---- libfuse ---- */

__attribute__((format(printf, 2, 0))) static void log_libfuse(enum fuse_log_level level,
							      const char *fmt, va_list args)
{
	int saved = errno;
	char text[512];

	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = '\0';
	log_line(level <= FUSE_LOG_ERR ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "libfuse: %s", text);
	errno = saved;
}

/* While mounting, its errors come back to the caller in our own words. */
__attribute__((format(printf, 2, 0))) static void log_libfuse_quietly(enum fuse_log_level level,
								      const char *fmt, va_list args)
{
	log_libfuse(FUSE_LOG_DEBUG, fmt, args);
}

static int fuse_options(const struct session *session, const char *extra, struct buf *out)
{
	int rc = buf_add_str(out, "ro,nosuid,nodev,subtype=xcpfs,fsname=");

	if (rc == 0)
		rc = mountopt_escape(out, session->source);
	if (rc == 0 && session->options.default_permissions)
		rc = buf_add_str(out, ",default_permissions");
	if (rc == 0 && *extra)
		rc = buf_addf(out, ",%s", extra);
	return rc;
}

static int fuse_new(struct session *session, const char *extra, struct xcp_error *err)
{
	struct buf text = BUF_INIT;
	struct fuse_lowlevel_ops ops;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

	ops_fill(&session->options, &ops);
	if (fuse_options(session, extra, &text) == 0 && buf_str(&text) &&
	    fuse_opt_add_arg(&args, "xcpfs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	    fuse_opt_add_arg(&args, buf_str(&text)) == 0)
		session->fuse = fuse_session_new(&args, &ops, sizeof(ops), session);
	fuse_opt_free_args(&args);
	buf_release(&text);
	if (!session->fuse)
		return xcp_error_set(err, -EINVAL,
				     "cannot set up the mount: libfuse refused its options");
	return 0;
}

/* ---- open ---- */

/*
 * Requests may wait on disk, so there are some more than processors; but few, since the kernel
 * hands requests out in turn, and what was done by one worker is in another one's processor cache.
 * On two processors four workers read a cold cache as fast as eight or sixteen (two are 40 %
 * slower), and take less processor time for the same requests.
 */
static unsigned choose_workers(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned workers = 2 + (processors > 0 ? (unsigned)processors : 1);

	return workers < 32 ? workers : 32;
}

uint64_t session_patience_ms(uint64_t wanted_ms)
{
	uint64_t kernel_ms = tuning_request_timeout_ms(NULL);

	if (wanted_ms == 0)
		wanted_ms = PATIENCE_MS;
	return kernel_ms != 0 && kernel_ms / 2 < wanted_ms ? kernel_ms / 2 : wanted_ms;
}

static struct session *session_new(const struct session_config *config)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->nodes = config->nodes;
	session->uid = getuid();
	session->gid = getgid();
	session->workers = config->workers ? config->workers : choose_workers();
	session->expire_ns = tuning_request_timeout_ms(NULL) * 1000000 / 4 * 3;
	parked_list_init(&session->parked);
	loop_init(&session->loop);
	withdraw_init(&session->withdraw, session);
	session->mountpoint = strdup(config->mountpoint);
	session->source = strdup(config->source);
	if (!session->mountpoint || !session->source)
		session_close(&session);
	return session;
}

static int session_prepare(struct session *session, const struct session_config *config,
			   struct xcp_error *err)
{
	struct buf extra = BUF_INIT;
	int rc = mountopt_parse(config->options, &session->options, &extra, err);

	if (rc == 0)
		rc = check_device(err);
	if (rc == 0 && geteuid() != 0)
		rc = check_ordinary_user(session, err);
	if (rc == 0) {
		const char *text = buf_str(&extra);

		rc = text ? fuse_new(session, text, err) :
			    xcp_error_set(err, -ENOMEM, "cannot mount: out of memory");
	}
	buf_release(&extra);
	return rc;
}

int session_open(const struct session_config *config, struct session **out, struct xcp_error *err)
{
	struct session *session = session_new(config);
	int rc;

	if (!session)
		return xcp_error_set(err, -ENOMEM, "cannot mount: out of memory");
	fuse_set_log_func(log_libfuse_quietly);
	rc = session_prepare(session, config, err);
	fuse_set_log_func(log_libfuse);
	if (rc != 0)
		session_close(&session);
	else
		*out = session;
	return rc;
}

/* ---- mount ---- */

static int mount_failed(const struct session *session, int code, struct xcp_error *err)
{
	if (geteuid() != 0)
		return xcp_error_set(err, -EACCES,
				     "cannot mount on %s: fusermount3 refused; it says why above",
				     session->mountpoint);
	if (code == 0)
		code = EIO;
	return xcp_error_set(
		err, -code, "cannot mount on %s: %s%s", session->mountpoint, strerror(code),
		code == EPERM ? "; mounting needs CAP_SYS_ADMIN, which containers usually lack" :
				"");
}

/* Called once the kernel has our answer to INIT: only now does a larger read-ahead stay. */
static void raise_read_ahead(void *arg)
{
	struct session *session = arg;
	int rc = tuning_read_ahead(session->id.dev, READ_AHEAD_KIB);

	if (rc != 0)
		log_debug("read-ahead stays as it is: %s", strerror(-rc));
}

int session_mount(struct session *session, struct xcp_error *err)
{
	int rc;

	fuse_set_log_func(log_libfuse_quietly);
	errno = 0;
	rc = fuse_session_mount(session->fuse, session->mountpoint);
	fuse_set_log_func(log_libfuse);
	if (rc != 0)
		return mount_failed(session, errno, err);
	session->mounted = true;

	rc = tuning_mount_id(session->mountpoint, &session->id);
	if (rc != 0)
		log_debug("cannot tell the mount's device: %s", strerror(-rc));
	rc = dirops_install(session->fuse, &session->dirops, READ_AHEAD_KIB << 10, raise_read_ahead,
			    session);
	if (rc != 0)
		return xcp_error_set(err, rc,
				     "cannot mount on %s: libfuse does not let us answer INIT",
				     session->mountpoint);
	return 0;
}

/* ---- run ---- */

/* Only where the kernel has a timeout: ends what was parked for too long. */
struct expirer {
	struct session *session;
	pthread_t thread;
	struct lock lock;
	struct lock_cond cond;
	bool stop; /* under lock */
};

static void *expirer_run(void *arg)
{
	struct expirer *expirer = arg;
	struct session *session = expirer->session;
	uint64_t pause_ms = session->expire_ns / 16 / 1000000 + 1;

	lock_take(&expirer->lock);
	while (!expirer->stop) {
		lock_cond_wait_ms(&expirer->cond, &expirer->lock, pause_ms);
		lock_give(&expirer->lock);

		uint64_t now_ns = clock_ns();
		unsigned count =
			now_ns > session->expire_ns ?
				parked_list_expire(&session->parked, now_ns - session->expire_ns) :
				0;

		if (count != 0)
			log_warn("%u requests waited for almost as long as "
				 "fs.fuse.max_request_timeout allows; they got an I/O error",
				 count);
		lock_take(&expirer->lock);
	}
	lock_give(&expirer->lock);
	return NULL;
}

static int expirer_start(struct expirer *expirer, struct session *session)
{
	*expirer = (struct expirer){ .session = session };
	if (session->expire_ns == 0)
		return 0;
	lock_init(&expirer->lock);
	lock_cond_init(&expirer->cond);
	return thread_start(&expirer->thread, "xcpfs-expire", expirer_run, expirer);
}

static void expirer_end(struct expirer *expirer)
{
	if (expirer->session->expire_ns == 0)
		return;
	lock_take(&expirer->lock);
	expirer->stop = true;
	lock_cond_signal(&expirer->cond);
	lock_give(&expirer->lock);
	pthread_join(expirer->thread, NULL);
	lock_cond_release(&expirer->cond);
	lock_release(&expirer->lock);
}

/* What was parked, and who waits in the kernel for what was. */
static void end_waits(void *arg)
{
	struct session *session = arg;

	parked_list_close(&session->parked);
	withdraw_end(&session->withdraw);
}

int session_run(struct session *session, struct xcp_error *err)
{
	struct expirer expirer;
	int rc = expirer_start(&expirer, session);

	if (rc != 0)
		return xcp_error_set(err, rc, "cannot serve %s: no thread", session->mountpoint);

	rc = withdraw_start(&session->withdraw);
	if (rc != 0)
		log_warn("cannot start a thread: wrong bytes could not be taken back: %s",
			 strerror(-rc));
	rc = loop_run(&session->loop, session->fuse, session->workers, end_waits, session);
	expirer_end(&expirer);
	if (rc != 0)
		return xcp_error_set(err, rc, "cannot go on serving %s: %s", session->mountpoint,
				     strerror(-rc));
	return 0;
}

void session_stop(struct session *session)
{
	loop_stop(&session->loop);
}

void session_withdraw(struct session *session, const struct oid *oid)
{
	withdraw_add(&session->withdraw, oid);
}

/* ---- close ---- */

/* A connection that somebody aborted stays in the mount table, and libfuse leaves it there. */
static void detach(const struct session *session)
{
	struct mount_id now;
	pid_t pid;
	const char *const argv[] = { "fusermount3",	  "-u", "-q", "-z", "--",
				     session->mountpoint, NULL };

	if (session->id.dev == 0 || tuning_mount_id(session->mountpoint, &now) != 0 ||
	    now.dev != session->id.dev || now.id != session->id.id)
		return;
	log_warn("the connection of %s was aborted; unmounting what is left", session->mountpoint);
	if (umount2(session->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || geteuid() == 0)
		return;
	if (posix_spawnp(&pid, "fusermount3", NULL, NULL, (char *const *)argv, environ) == 0)
		waitpid(pid, NULL, 0);
}

void session_close(struct session **session)
{
	struct session *closing = *session;

	*session = NULL;
	if (!closing)
		return;
	parked_list_close(&closing->parked);
	parked_list_release(&closing->parked);
	loop_release(&closing->loop);
	if (closing->mounted) {
		fuse_session_unmount(closing->fuse);
		detach(closing);
	}
	withdraw_release(&closing->withdraw);
	if (closing->fuse)
		fuse_session_destroy(closing->fuse);
	free(closing->mountpoint);
	free(closing->source);
	free(closing);
}

/* ---- counters ---- */

const char *session_op_name(enum session_op op)
{
	static const char *const names[SESSION_OP_COUNT] = {
		[SESSION_LOOKUP] = "lookup",	 [SESSION_GETATTR] = "getattr",
		[SESSION_READDIR] = "readdir",	 [SESSION_READDIRPLUS] = "readdirplus",
		[SESSION_READ_HIT] = "read_hit", [SESSION_READ_MISS] = "read_miss",
		[SESSION_READLINK] = "readlink", [SESSION_OPEN] = "open",
		[SESSION_OPENDIR] = "opendir",	 [SESSION_STATFS] = "statfs",
		[SESSION_XATTR] = "xattr",	 [SESSION_FORGET] = "forget",
		[SESSION_OTHER] = "other",
	};

	return op < SESSION_OP_COUNT ? names[op] : "unknown";
}

void session_counters(struct session *session, struct session_counters *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < SESSION_OP_COUNT; i++)
		latency_read(&session->latency[i], &out->ops[i]);
	out->bytes_served = atomic_load_explicit(&session->bytes_served, memory_order_relaxed);
	out->interrupted = atomic_load_explicit(&session->interrupted, memory_order_relaxed);
	out->errors = atomic_load_explicit(&session->errors, memory_order_relaxed);
	parked_list_count(&session->parked, &out->parked, &out->parked_max);
}
