/*
 * The daemon ends by itself when its mount goes: taking the mount away is all there is to do, and
 * waiting for the daemon so that a following command finds its cache closed.
 */
#include "cli/detach.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount/control.h"

#define ASK_TIMEOUT_MS 5000
#define END_TIMEOUT_MS 30000

/*
 * Does the kernel say that nobody serves the mount any more? Asked by a process of its own: statfs(2) goes
 * to the daemon, and one that is stopped does not answer.
 */
static bool is_disconnected(const char *mountpoint)
{
	struct pollfd ended = { .events = POLLIN };
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (pid == 0) {
		struct statfs ignored;

		_exit(statfs(mountpoint, &ignored) && (errno == ENOTCONN || errno == ECONNABORTED));
	}
	ended.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (poll(&ended, 1, ASK_TIMEOUT_MS) != 1)
		kill(pid, SIGKILL);
	close(ended.fd);
	/* It is not waited for longer: in the kernel it may be beyond killing. */
	return waitpid(pid, &status, WNOHANG) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 1;
}

/*
 * No socket is no proof of death: the mount may have been made with another XDG_RUNTIME_DIR, or in another
 * mount namespace.
 */
bool mount_is_alive(const struct mount_entry *entry)
{
	struct buf answer = BUF_INIT;
	int ret =
		control_ask(entry->mountpoint, entry->uid, "status", ASK_TIMEOUT_MS, &answer, NULL);

	buf_release(&answer);
	return (ret != -ECONNREFUSED && ret != -ENOENT) || !is_disconnected(entry->mountpoint);
}

/* A pidfd of the daemon, or -1 when it does not say who it is. */
static int daemon_pidfd(const struct mount_entry *entry)
{
	struct buf answer = BUF_INIT;
	json_t *status = NULL;
	pid_t pid = 0;

	if (!control_ask(entry->mountpoint, entry->uid, "status", ASK_TIMEOUT_MS, &answer, NULL))
		status = json_loadb((char *)answer.data, answer.len, 0, NULL);
	pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
	json_decref(status);
	buf_release(&answer);
	return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

static int detach_as_root(const char *path, bool lazy)
{
	return umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) ? -errno : 0;
}

static int detach_as_user(const char *path, bool lazy)
{
	char *argv[] = { (char *)"fusermount3", (char *)(lazy ? "-uqz" : "-uq"), (char *)"--",
			 (char *)path, NULL };
	pid_t pid;
	int status, ret = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);

	if (ret)
		return -ret;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBUSY;
}

int mount_detach(const struct mount_entry *entry, enum detach_mode mode, struct xcp_error *err)
{
	bool lazy = mode != DETACH_CLEAN;
	int pidfd = mode == DETACH_CLEAN ? daemon_pidfd(entry) : -1;
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	int ret = geteuid() ? detach_as_user(entry->mountpoint, lazy) :
			      detach_as_root(entry->mountpoint, lazy);

	if (ret == -EBUSY)
		xcp_error_set(err, ret,
			      "cannot unmount %s: something in it is in use (fuser -m shows what); "
			      "--lazy takes it out of sight",
			      entry->mountpoint);
	else if (ret)
		xcp_error_set(err, ret, "cannot unmount %s: %s", entry->mountpoint, strerror(-ret));
	else if (pidfd >= 0 && poll(&ended, 1, END_TIMEOUT_MS) == 0)
		ret = xcp_error_set(
			err, -ETIMEDOUT,
			"%s is unmounted, but its daemon has not ended after %d seconds",
			entry->mountpoint, END_TIMEOUT_MS / 1000);
	if (pidfd >= 0)
		close(pidfd);
	return ret;
}
