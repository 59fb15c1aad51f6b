/*
 * The control socket, both ends. The daemon's end is one thread over poll(2): a handful of
 * connections, each with a deadline and a bounded line, so that a client that says nothing, or
 * reads nothing, costs a slot for a few seconds and nobody's time.
 *
 * The directory is opened and checked once (owned by the user, closed to others); sockets are bound
 * and connected to through /proc/self/fd, so that neither a swapped directory nor a long path
 * matters.
 */
#include "mount/control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

#define REQUEST_MAX 4096
#define ANSWER_MAX (16u << 20) /* what a client takes */
#define CLIENT_COUNT 16
#define CLIENT_MS 5000

/* ---- where ---- */

#define PLACE_COUNT 3
#define NAME_LEN sizeof("0123456789abcdef.sock")

static uint64_t now_ms(void)
{
	return clock_ns() / 1000000; /* deadlines of sockets are real, also under a fake clock */
}

static void socket_name(const char *mountpoint, char out[static NAME_LEN])
{
	snprintf(out, NAME_LEN, "%016llx.sock",
		 (unsigned long long)XXH3_64bits(mountpoint, strlen(mountpoint)));
}

/*
 * The directories to try, best first; out[i] is "" for one that does not apply. Whoever asks may
 * have another environment than the daemon had.
 */
static void places(uid_t uid, char out[static PLACE_COUNT][PATH_MAX])
{
	const char *runtime = uid == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;

	memset(out, 0, PLACE_COUNT * sizeof(out[0]));
	if (runtime && *runtime == '/')
		snprintf(out[0], sizeof(out[0]), "%s/xcpfs", runtime);
	else
		snprintf(out[0], sizeof(out[0]), "/run/user/%u/xcpfs", (unsigned)uid);
	if (uid == 0)
		snprintf(out[1], sizeof(out[1]), "/run/xcpfs");
	snprintf(out[2], sizeof(out[2]), "/tmp/xcpfs-%u", (unsigned)uid);
}

/* Opens a place when it is the user's own and closed to others. */
static int place_open(const char *dir, uid_t uid)
{
	struct stat st;
	int fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || st.st_uid != uid || (st.st_mode & 077) != 0) {
		close(fd);
		return -EACCES;
	}
	return fd;
}

static int place_make(const char *dir, uid_t uid)
{
	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return -errno;
	return place_open(dir, uid);
}

int control_path(const char *mountpoint, uid_t uid, char *out, size_t out_len)
{
	char dirs[PLACE_COUNT][PATH_MAX], name[NAME_LEN];
	const char *found = NULL;
	int len;

	places(uid, dirs);
	socket_name(mountpoint, name);
	for (unsigned i = 0; i < PLACE_COUNT && !found; i++) {
		int fd = *dirs[i] ? place_open(dirs[i], uid) : -ENOENT;

		if (fd < 0)
			continue;
		if (faccessat(fd, name, F_OK, 0) == 0)
			found = dirs[i];
		close(fd);
	}
	len = snprintf(out, out_len, "%s/%s", found ? found : dirs[0], name);
	return len < 0 || (size_t)len >= out_len ? -ENAMETOOLONG : 0;
}

static int socket_address(int dir_fd, const char *name, struct sockaddr_un *out)
{
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	int len =
		snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/%s", dir_fd, name);

	return len < 0 || (size_t)len >= sizeof(out->sun_path) ? -ENAMETOOLONG : 0;
}

/* ---- the daemon's end ---- */

struct client {
	int fd; /* -1: free */
	uint64_t deadline_ms;
	struct buf request, answer;
	size_t sent_len;
	bool answering;
};

struct control {
	/* set before the thread starts */
	control_answer_fn answer;
	void *arg;
	int dir_fd, listen_fd;
	int wake[2]; /* closing [1] ends the thread */
	char name[NAME_LEN];
	ino_t ino; /* the socket's, so that only our own is removed */
	pthread_t thread;
	bool started;

	/* owned by the thread */
	struct client clients[CLIENT_COUNT];
};

static void client_close(struct client *client)
{
	close(client->fd);
	buf_release(&client->request);
	buf_release(&client->answer);
	*client = (struct client){ .fd = -1 };
}

static bool peer_is(int fd, uid_t uid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == uid || peer.uid == 0);
}

/* A free slot, or that of whoever has kept theirs for longest. */
static struct client *slot_take(struct control *control)
{
	struct client *oldest = &control->clients[0];

	for (unsigned i = 0; i < CLIENT_COUNT; i++) {
		struct client *client = &control->clients[i];

		if (client->fd < 0)
			return client;
		if (client->deadline_ms < oldest->deadline_ms)
			oldest = client;
	}
	client_close(oldest);
	return oldest;
}

static void client_accept(struct control *control)
{
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (!peer_is(fd, geteuid())) {
		close(fd);
		return;
	}
	struct client *client = slot_take(control);

	client->fd = fd;
	client->deadline_ms = now_ms() + CLIENT_MS;
}

static void client_send(struct client *client)
{
	while (client->sent_len < client->answer.len) {
		ssize_t put = send(client->fd, client->answer.data + client->sent_len,
				   client->answer.len - client->sent_len, MSG_NOSIGNAL);

		if (put < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (put < 0)
			break;
		client->sent_len += (size_t)put;
	}
	client_close(client);
}

static void client_answer(struct control *control, struct client *client)
{
	const char *request = buf_str(&client->request);
	int rc = request ? control->answer(control->arg, request, &client->answer) : -ENOMEM;

	if (rc != 0) {
		buf_clear(&client->answer);
		/* Without memory for these words the connection just closes. */
		buf_addf(&client->answer, "{\"error\": \"%s\"}",
			 rc == -ENOENT ? "unknown request" : strerror(-rc));
	}
	client->answering = true;
	client->deadline_ms = now_ms() + CLIENT_MS;
	client_send(client);
}

/* The request is what stands before the first newline, or before the end. */
static void client_receive(struct control *control, struct client *client)
{
	char data[512];
	ssize_t got = recv(client->fd, data, sizeof(data), 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got < 0 || client->request.len + (size_t)got > REQUEST_MAX ||
	    buf_add(&client->request, data, (size_t)got) != 0) {
		client_close(client);
		return;
	}
	const uint8_t *end = client->request.len ?
				     memchr(client->request.data, '\n', client->request.len) :
				     NULL;

	if (end)
		client->request.len = (size_t)(end - client->request.data);
	if (end || (got == 0 && client->request.len > 0))
		client_answer(control, client);
	else if (got == 0)
		client_close(client);
}

static void client_serve(struct control *control, struct client *client, short events)
{
	if (events && client->answering)
		client_send(client);
	else if (events)
		client_receive(control, client);
	if (client->fd >= 0 && now_ms() >= client->deadline_ms)
		client_close(client);
}

/* Fills in what to wait for; returns the time until the first deadline, -1 when there is none. */
static int poll_prepare(struct control *control, struct pollfd *fds)
{
	uint64_t now = now_ms();
	int timeout_ms = -1;

	fds[0] = (struct pollfd){ .fd = control->wake[0], .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = control->listen_fd, .events = POLLIN };
	for (unsigned i = 0; i < CLIENT_COUNT; i++) {
		const struct client *client = &control->clients[i];

		fds[2 + i] = (struct pollfd){ .fd = client->fd,
					      .events = client->answering ? POLLOUT : POLLIN };
		if (client->fd < 0)
			continue;
		int left_ms = client->deadline_ms > now ? (int)(client->deadline_ms - now) : 0;

		if (timeout_ms < 0 || left_ms < timeout_ms)
			timeout_ms = left_ms;
	}
	return timeout_ms;
}

static void *control_run(void *arg)
{
	struct control *control = arg;
	struct pollfd fds[2 + CLIENT_COUNT];

	for (;;) {
		int timeout_ms = poll_prepare(control, fds);
		int ready = poll(fds, 2 + CLIENT_COUNT, timeout_ms);

		if (ready < 0 && errno != EINTR)
			break;
		if (ready < 0)
			continue;
		if (fds[0].revents)
			break;
		for (unsigned i = 0; i < CLIENT_COUNT; i++)
			if (control->clients[i].fd >= 0)
				client_serve(control, &control->clients[i], fds[2 + i].revents);
		if (fds[1].revents)
			client_accept(control);
	}
	return NULL;
}

static int listen_at(struct control *control, const char *dir)
{
	struct sockaddr_un address;
	struct stat st;
	int rc;

	control->dir_fd = place_make(dir, geteuid());
	if (control->dir_fd < 0)
		return control->dir_fd;
	rc = socket_address(control->dir_fd, control->name, &address);
	if (rc != 0)
		return rc;
	unlinkat(control->dir_fd, control->name, 0); /* a dead daemon's */
	if (bind(control->listen_fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return -errno;
	if (fstatat(control->dir_fd, control->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	control->ino = st.st_ino;
	return listen(control->listen_fd, CLIENT_COUNT) == 0 ? 0 : -errno;
}

static int control_listen(struct control *control, struct xcp_error *err)
{
	char dirs[PLACE_COUNT][PATH_MAX];
	int rc = -ENOENT;

	places(geteuid(), dirs);
	for (unsigned i = 0; i < PLACE_COUNT; i++) {
		if (!*dirs[i])
			continue;
		rc = listen_at(control, dirs[i]);
		if (rc == 0)
			return 0;
		log_debug("no control socket in %s: %s", dirs[i], strerror(-rc));
		if (control->dir_fd >= 0)
			close(control->dir_fd);
		control->dir_fd = -1;
	}
	return xcp_error_set(err, rc,
			     "cannot make a control socket in %s: %s; set XDG_RUNTIME_DIR to a "
			     "directory of your own",
			     dirs[PLACE_COUNT - 1], strerror(-rc));
}

static struct control *control_new(const char *mountpoint, control_answer_fn answer, void *arg)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control)
		return NULL;
	control->answer = answer;
	control->arg = arg;
	control->dir_fd = control->wake[0] = control->wake[1] = -1;
	control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socket_name(mountpoint, control->name);
	for (unsigned i = 0; i < CLIENT_COUNT; i++)
		control->clients[i].fd = -1;
	return control;
}

int control_open(const char *mountpoint, control_answer_fn answer, void *arg, struct control **out,
		 struct xcp_error *err)
{
	struct control *control = control_new(mountpoint, answer, arg);
	int rc;

	if (!control)
		return xcp_error_set(err, -ENOMEM, "cannot make a control socket: out of memory");
	if (control->listen_fd < 0 || pipe2(control->wake, O_CLOEXEC) != 0)
		rc = xcp_error_set(err, -errno, "cannot make a control socket: %s",
				   strerror(errno));
	else
		rc = control_listen(control, err);
	if (rc != 0)
		control_close(&control);
	else
		*out = control;
	return rc;
}

int control_start(struct control *control, struct xcp_error *err)
{
	int rc = thread_start(&control->thread, "xcpfs-control", control_run, control);

	control->started = rc == 0;
	if (rc != 0)
		return xcp_error_set(err, rc, "cannot answer at the control socket: no thread");
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void socket_remove(const struct control *control)
{
	struct stat st;

	if (control->dir_fd >= 0 && control->ino != 0 &&
	    fstatat(control->dir_fd, control->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == control->ino)
		unlinkat(control->dir_fd, control->name, 0);
}

void control_close(struct control **control)
{
	struct control *closing = *control;

	*control = NULL;
	if (!closing)
		return;
	close_fd(closing->wake[1]);
	if (closing->started)
		pthread_join(closing->thread, NULL);
	socket_remove(closing);
	for (unsigned i = 0; i < CLIENT_COUNT; i++)
		if (closing->clients[i].fd >= 0)
			client_close(&closing->clients[i]);
	close_fd(closing->wake[0]);
	close_fd(closing->listen_fd);
	close_fd(closing->dir_fd);
	free(closing);
}

/* ---- the client's end ---- */

static int wait_for(int fd, short events, uint64_t deadline_ms)
{
	struct pollfd pollfd = { .fd = fd, .events = events };

	for (;;) {
		uint64_t now = now_ms();
		int ready = poll(&pollfd, 1, now < deadline_ms ? (int)(deadline_ms - now) : 0);

		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return -errno;
		if (ready == 0)
			return -ETIMEDOUT;
	}
}

/* A full backlog is EAGAIN at once, so it is asked again until the deadline. */
static int connect_until(int fd, const struct sockaddr_un *address, uint64_t deadline_ms)
{
	while (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (now_ms() >= deadline_ms)
			return -ETIMEDOUT;
		poll(NULL, 0, 10);
	}
	return 0;
}

static int connect_at(const char *dir, const char *name, uid_t uid, uint64_t deadline_ms)
{
	struct sockaddr_un address;
	int dir_fd = place_open(dir, uid);

	if (dir_fd < 0)
		return dir_fd == -EACCES ? -EACCES : -ENOENT;

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = fd < 0 ? -errno : socket_address(dir_fd, name, &address);

	if (rc == 0)
		rc = connect_until(fd, &address, deadline_ms);
	if (rc == 0 && !peer_is(fd, uid))
		rc = -EACCES;
	close(dir_fd);
	if (rc == 0)
		return fd;
	close_fd(fd);
	return rc;
}

/*
 * The first place where somebody listens. What is left of a dead daemon (-ECONNREFUSED) says more
 * than nothing at all.
 */
static int connect_any(const char *mountpoint, uid_t uid, uint64_t deadline_ms)
{
	char dirs[PLACE_COUNT][PATH_MAX], name[NAME_LEN];
	int result = -ENOENT;

	places(uid, dirs);
	socket_name(mountpoint, name);
	for (unsigned i = 0; i < PLACE_COUNT; i++) {
		int rc = *dirs[i] ? connect_at(dirs[i], name, uid, deadline_ms) : -ENOENT;

		if (rc >= 0)
			return rc;
		if (rc != -ENOENT && result != -ECONNREFUSED)
			result = rc;
	}
	return result;
}

static int send_request(int fd, const char *request, uint64_t deadline_ms)
{
	char line[REQUEST_MAX];
	int len = snprintf(line, sizeof(line), "%s\n", request);
	int rc = len < (int)sizeof(line) ? 0 : -EMSGSIZE;

	for (int sent = 0; rc == 0 && sent < len;) {
		ssize_t put = send(fd, line + sent, (size_t)(len - sent), MSG_NOSIGNAL);

		if (put >= 0)
			sent += (int)put;
		else if (errno == EAGAIN)
			rc = wait_for(fd, POLLOUT, deadline_ms);
		else if (errno != EINTR)
			rc = -errno;
	}
	return rc;
}

static int receive_answer(int fd, uint64_t deadline_ms, struct buf *out)
{
	char data[4096];

	for (;;) {
		ssize_t got = recv(fd, data, sizeof(data), 0);
		int rc = 0;

		if (got == 0)
			return out->len ? 0 : -ECONNREFUSED;
		if (got > 0 && out->len + (size_t)got > ANSWER_MAX)
			return -EMSGSIZE;
		if (got > 0)
			rc = buf_add(out, data, (size_t)got);
		else if (errno == EAGAIN)
			rc = wait_for(fd, POLLIN, deadline_ms);
		else if (errno != EINTR)
			rc = errno == ECONNRESET ? -ECONNREFUSED : -errno;
		if (rc != 0)
			return rc;
	}
}

int control_ask(const char *mountpoint, uid_t uid, const char *request, unsigned timeout_ms,
		struct buf *out, struct xcp_error *err)
{
	uint64_t deadline_ms = now_ms() + timeout_ms;
	int fd = connect_any(mountpoint, uid, deadline_ms);
	int rc = fd < 0 ? fd : send_request(fd, request, deadline_ms);

	if (rc == 0)
		rc = receive_answer(fd, deadline_ms, out);
	close_fd(fd);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return xcp_error_set(err, rc, "nobody answers for %s: its daemon is gone",
				     mountpoint);
	if (rc == -ETIMEDOUT)
		return xcp_error_set(err, rc, "the daemon of %s did not answer within %u ms",
				     mountpoint, timeout_ms);
	if (rc != 0)
		return xcp_error_set(err, rc, "cannot ask the daemon of %s: %s", mountpoint,
				     strerror(-rc));
	return 0;
}
