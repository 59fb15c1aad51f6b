/*
 * http_support: a web server inside a test that answers from a script and keeps what it was asked.
 *
 *	web_start ---> requests ---> web_stop ---> web_release
 *
 * The n-th request, in order of arrival, gets the n-th reply; the last reply serves all that follow.
 * Replies may be for one method alone: then they are counted among those that suit a request.
 *
 * Threads: one that accepts and one per connection; a test reads the log after what it waits for
 * has been answered, or after web_stop().
 */
#ifndef TESTS_HTTP_SUPPORT_H
#define TESTS_HTTP_SUPPORT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"

#define WEB_REQUESTS_MAX 256

struct web_reply {
	int status;	     /* 0: closes without a word; -1: says nothing until web_stop() */
	const char *type;    /* Content-Type; NULL: none */
	const char *headers; /* more lines, each with \r\n; NULL */
	const void *body;
	size_t len;	 /* 0 with a body: strlen */
	size_t send_len; /* with `cut`: so much of the body, then the connection closes */
	bool cut;
	bool stall;	    /* after send_len bytes: nothing more until web_stop() */
	bool close;	    /* after the answer, without saying so before */
	bool no_length;	    /* no Content-Length: the body ends with the connection */
	const char *raw;    /* instead of all that: these bytes, and the connection closes */
	bool drip;	    /* a byte now and then, without end */
	const char *method; /* of the requests that it is for; NULL: any */
	size_t after;	    /* not before so many requests have come */
};

struct web_request {
	char line[512]; /* "GET /path HTTP/1.1" */
	char head[4096];
	struct buf body;     /* as it came */
	unsigned connection; /* which one, from 0 */
};

struct web {
	int fd;
	unsigned short port;
	const struct web_reply *script;
	size_t script_len;
	pthread_t acceptor;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool stopping;
	unsigned connections;
	pthread_t threads[WEB_REQUESTS_MAX];
	int fds[WEB_REQUESTS_MAX];
	size_t request_count;
	bool used[WEB_REQUESTS_MAX]; /* replies */
	size_t response_bytes;	     /* of bodies */
	struct web_request requests[WEB_REQUESTS_MAX];
};

struct web_connection {
	struct web *web;
	int fd;
	unsigned number;
};

static inline bool web_send(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* The value of a header as a string in `out`; "" when it is not there. */
static inline const char *web_header(const struct web_request *request, const char *name, char *out,
				     size_t out_len)
{
	size_t name_len = strlen(name);

	out[0] = '\0';
	for (const char *line = request->head; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncasecmp(line, name, name_len) == 0 && line[name_len] == ':') {
			const char *value = line + name_len + 1 + strspn(line + name_len + 1, " ");

			snprintf(out, out_len, "%.*s", (int)strcspn(value, "\r\n"), value);
			break;
		}
	}
	return out;
}

/* One request; false at the end of the connection. */
static inline bool web_receive(int fd, struct buf *pending, struct web_request *out)
{
	char room[16384], value[64];
	uint8_t *end;
	size_t body_len, head_len;

	while (!(end = pending->len ? memmem(pending->data, pending->len, "\r\n\r\n", 4) : NULL)) {
		ssize_t n = recv(fd, room, sizeof(room), 0);

		if (n <= 0 || buf_add(pending, room, (size_t)n))
			return false;
	}
	head_len = (size_t)(end - pending->data) + 4;
	if (head_len >= sizeof(out->head))
		return false;
	memcpy(out->head, pending->data, head_len);
	out->head[head_len] = '\0';
	snprintf(out->line, sizeof(out->line), "%.*s", (int)strcspn(out->head, "\r"), out->head);
	buf_consume(pending, head_len);
	body_len =
		(size_t)strtoul(web_header(out, "Content-Length", value, sizeof(value)), NULL, 10);
	while (pending->len < body_len) {
		ssize_t n = recv(fd, room, sizeof(room), 0);

		if (n <= 0 || buf_add(pending, room, (size_t)n))
			return false;
	}
	if (body_len)
		buf_add(&out->body, pending->data, body_len);
	buf_consume(pending, body_len);
	return true;
}

static inline void web_wait_for_stop(struct web *web)
{
	pthread_mutex_lock(&web->mutex);
	while (!web->stopping)
		pthread_cond_wait(&web->changed, &web->mutex);
	pthread_mutex_unlock(&web->mutex);
}

/* The body, again and again, each byte after a while, till nobody reads or the server stops. */
static inline bool web_drip(struct web *web, int fd, const char *body, size_t len)
{
	bool go_on = true;

	for (size_t i = 0; go_on; i = (i + 1) % len) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 20000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		go_on = web_send(fd, body + i, 1);
		pthread_mutex_lock(&web->mutex);
		if (!web->stopping)
			pthread_cond_timedwait(&web->changed, &web->mutex, &until);
		go_on = go_on && !web->stopping;
		pthread_mutex_unlock(&web->mutex);
	}
	return false;
}

/* False when the connection is to be closed. */
static inline bool web_answer(struct web *web, int fd, const struct web_reply *reply)
{
	size_t len = reply->body && !reply->len ? strlen(reply->body) : reply->len;
	size_t send_len = reply->cut || reply->stall ? reply->send_len : len;
	char head[2048], said_len[64] = "";

	if (reply->status < 0)
		web_wait_for_stop(web);
	if (reply->raw)
		web_send(fd, reply->raw, strlen(reply->raw));
	if (reply->raw || reply->status <= 0)
		return false;
	if (!reply->no_length)
		snprintf(said_len, sizeof(said_len), "Content-Length: %zu\r\n",
			 reply->drip ? (size_t)1 << 30 : len);
	snprintf(head, sizeof(head), "HTTP/1.1 %d Said\r\n%s%s%s%s%s\r\n", reply->status, said_len,
		 reply->type ? "Content-Type: " : "", reply->type ? reply->type : "",
		 reply->type ? "\r\n" : "", reply->headers ? reply->headers : "");
	pthread_mutex_lock(&web->mutex);
	web->response_bytes += send_len;
	pthread_mutex_unlock(&web->mutex);
	if (reply->drip)
		return web_send(fd, head, strlen(head)) && web_drip(web, fd, reply->body, len);
	if (!web_send(fd, head, strlen(head)) || (send_len && !web_send(fd, reply->body, send_len)))
		return false;
	if (reply->stall)
		web_wait_for_stop(web);
	return !reply->cut && !reply->stall && !reply->close && !reply->no_length;
}

/* The first reply that suits and is not used yet, or the last that suits. Under the mutex. */
static inline const struct web_reply *web_choose(struct web *web, const struct web_request *request)
{
	size_t chosen = web->script_len;

	for (size_t i = 0; i < web->script_len; i++) {
		const char *method = web->script[i].method;

		if (method && strncmp(request->line, method, strlen(method)) != 0)
			continue;
		chosen = i;
		if (!web->used[i])
			break;
	}
	if (chosen == web->script_len)
		abort();
	web->used[chosen] = true;
	return &web->script[chosen];
}

static inline void *web_serve(void *arg)
{
	struct web_connection *connection = arg;
	struct web *web = connection->web;
	struct buf pending = BUF_INIT;
	int fd = connection->fd;
	unsigned number = connection->number;
	bool more = true;

	free(connection);
	while (more) {
		struct web_request request = { .body = BUF_INIT, .connection = number };
		const struct web_reply *reply = NULL;

		if (!web_receive(fd, &pending, &request)) {
			buf_release(&request.body);
			break;
		}
		pthread_mutex_lock(&web->mutex);
		if (web->request_count < WEB_REQUESTS_MAX) {
			web->requests[web->request_count++] = request;
			pthread_cond_broadcast(&web->changed);
			reply = web_choose(web, &request);
			while (web->request_count < reply->after && !web->stopping)
				pthread_cond_wait(&web->changed, &web->mutex);
		}
		pthread_mutex_unlock(&web->mutex);
		more = reply && web_answer(web, fd, reply);
	}
	shutdown(fd, SHUT_RDWR);
	buf_release(&pending);
	return NULL;
}

static inline void *web_accept(void *arg)
{
	struct web *web = arg;

	for (;;) {
		struct web_connection *connection = malloc(sizeof(*connection));
		int fd = accept(web->fd, NULL, NULL);
		unsigned i;

		if (fd < 0 || !connection) {
			free(connection);
			return NULL;
		}
		pthread_mutex_lock(&web->mutex);
		i = web->connections++;
		*connection = (struct web_connection){ web, fd, i };
		web->fds[i % WEB_REQUESTS_MAX] = fd;
		pthread_mutex_unlock(&web->mutex);
		if (i >= WEB_REQUESTS_MAX ||
		    pthread_create(&web->threads[i], NULL, web_serve, connection))
			abort();
	}
}

static inline void web_start(struct web *web, const struct web_reply *script, size_t script_len)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	memset(web, 0, sizeof(*web));
	web->script = script;
	web->script_len = script_len;
	pthread_mutex_init(&web->mutex, NULL);
	pthread_cond_init(&web->changed, NULL);
	web->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (web->fd < 0 || bind(web->fd, (struct sockaddr *)&address, len) || listen(web->fd, 64) ||
	    getsockname(web->fd, (struct sockaddr *)&address, &len) ||
	    pthread_create(&web->acceptor, NULL, web_accept, web))
		abort();
	web->port = ntohs(address.sin_port);
}

/* Ends all connections. The log stays until web_release(). */
static inline void web_stop(struct web *web)
{
	unsigned connections;

	shutdown(web->fd, SHUT_RDWR);
	pthread_join(web->acceptor, NULL);
	close(web->fd);
	pthread_mutex_lock(&web->mutex);
	web->stopping = true;
	connections = web->connections;
	for (unsigned i = 0; i < connections; i++)
		shutdown(web->fds[i], SHUT_RDWR);
	pthread_cond_broadcast(&web->changed);
	pthread_mutex_unlock(&web->mutex);
	for (unsigned i = 0; i < connections; i++) {
		pthread_join(web->threads[i], NULL);
		close(web->fds[i]);
	}
}

static inline void web_release(struct web *web)
{
	for (size_t i = 0; i < web->request_count; i++)
		buf_release(&web->requests[i].body);
}

#endif
