/*
 * relay: a TCP relay on 127.0.0.1 that behaves like a long line, for measuring programs that
 * talk over one. Each direction is one bottleneck with a bounded queue that all connections
 * share in turn, then half a round trip; each connection pays a round trip before its first byte
 * and starts slowly in each direction (see line.h). Bytes are counted when they enter the line.
 *
 *	client -> [ window | queue of the line up   | half a round trip ] -> server
 *	client <- [ half a round trip | queue of the line down | window ] <- server
 *
 * What is read is kept as a chunk until it counts as acknowledged, half a round trip after it
 * was taken by the other side: so a flow never holds more than its window, and a reader that
 * is slow stops the sender. One thread, edge-triggered epoll, one timer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "bench/line.h"

#define CHUNK_LEN (64u << 10)
#define PAIRS_MAX 500u /* connections; more wait in the listener's backlog */
#define NEVER UINT64_MAX

struct chunk {
	STAILQ_ENTRY(chunk) link;
	uint64_t due_ns; /* when it has arrived; once it was taken: when that is known */
	size_t len;	 /* 0: the end of the stream */
	size_t taken;	 /* of len, by the other side */
	size_t in_flight_then;
	unsigned char data[];
};
STAILQ_HEAD(chunks, chunk);

struct end {
	int fd;
	bool readable, writable;
};

/* One direction of one connection. */
struct flow {
	struct end *from, *to;
	struct line *line;
	struct window window;
	struct chunks travelling, taken;
	bool ended;    /* nothing more will be read */
	bool finished; /* and the other side knows */
};

/* One connection. */
struct pair {
	TAILQ_ENTRY(pair) link;
	struct end client, server;
	struct flow up, down;
	uint64_t open_ns; /* when the first byte may travel */
	uint64_t gone_ns; /* when the other side learns that one side is gone; or NEVER */
};

static struct {
	unsigned listen_port, to_port;
	double rtt_ms;
	unsigned mbit;
	size_t window_len, queue_len;
} options = { .window_len = 6u << 20 };

static struct {
	uint64_t half_ns;
	size_t quantum; /* the most that one flow sends before it is another's turn */
	struct line up, down;
	uint64_t up_bytes, down_bytes, connections, now_ns;
	unsigned pair_count;
	int epoll, listener, timer, signals;
	TAILQ_HEAD(pairs, pair) pairs;
} relay = { .pairs = TAILQ_HEAD_INITIALIZER(relay.pairs) };

static void die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void clock_read(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	relay.now_ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- one flow ---- */

static void flow_open(struct flow *flow, struct end *from, struct end *to, struct line *line)
{
	flow->from = from;
	flow->to = to;
	flow->line = line;
	window_open(&flow->window, options.window_len, 2 * relay.half_ns);
	STAILQ_INIT(&flow->travelling);
	STAILQ_INIT(&flow->taken);
}

static void chunks_free(struct chunks *chunks)
{
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(chunks))) {
		STAILQ_REMOVE_HEAD(chunks, link);
		free(chunk);
	}
}

static void flow_close(struct flow *flow)
{
	chunks_free(&flow->travelling);
	chunks_free(&flow->taken);
}

static void flow_acknowledge(struct flow *flow)
{
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(&flow->taken)) && chunk->due_ns <= relay.now_ns) {
		window_acked(&flow->window, chunk->len, chunk->in_flight_then);
		STAILQ_REMOVE_HEAD(&flow->taken, link);
		free(chunk);
	}
}

/* Gives a chunk to the other side. Returns 1 when all of it was taken, 0 if not, or -errno. */
static int chunk_deliver(struct chunk *chunk, struct end *to)
{
	while (chunk->taken < chunk->len) {
		ssize_t n = send(to->fd, chunk->data + chunk->taken, chunk->len - chunk->taken,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			to->writable = false;
			return 0;
		}
		if (n < 0)
			return -errno;
		chunk->taken += (size_t)n;
	}
	if (!chunk->len)
		shutdown(to->fd, SHUT_WR);
	return 1;
}

/* What arrives for one that is gone is thrown away: it has used the line all the same. */
static int flow_deliver(struct flow *flow, bool gone)
{
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(&flow->travelling)) && chunk->due_ns <= relay.now_ns) {
		int rc = gone ? 1 : flow->to->writable ? chunk_deliver(chunk, flow->to) : 0;

		if (rc <= 0)
			return rc;
		flow->finished = !chunk->len;
		chunk->due_ns = relay.now_ns + relay.half_ns;
		STAILQ_REMOVE_HEAD(&flow->travelling, link);
		STAILQ_INSERT_TAIL(&flow->taken, chunk, link);
	}
	return 0;
}

static void flow_send(struct flow *flow, const void *data, size_t len)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + len);

	if (!chunk)
		die("memory");
	memcpy(chunk->data, data, len);
	chunk->len = len;
	chunk->taken = 0;
	chunk->due_ns = line_send(flow->line, relay.now_ns, len) + relay.half_ns;
	chunk->in_flight_then = window_sent(&flow->window, relay.now_ns, len);
	STAILQ_INSERT_TAIL(&flow->travelling, chunk, link);
	*(flow->line == &relay.up ? &relay.up_bytes : &relay.down_bytes) += len;
}

/* No crumbs: a sender waits until a segment fits, and until the queue takes a turn's worth. */
static size_t flow_room(struct flow *flow)
{
	size_t window = window_room(&flow->window, relay.now_ns);
	size_t line = line_room(flow->line, relay.now_ns);

	if (window < SEGMENT_LEN || line < relay.quantum)
		return 0;
	return window < relay.quantum ? window : relay.quantum;
}

/* One turn: reads what one may send now. Returns 1 when it sent something, 0 or -errno. */
static int flow_admit(struct flow *flow)
{
	static unsigned char buf[CHUNK_LEN];
	size_t room;

	if (flow->ended || !flow->from->readable || !(room = flow_room(flow)))
		return 0;
	ssize_t n = recv(flow->from->fd, buf, room, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN) {
		flow->from->readable = false;
		return 0;
	}
	if (n < 0)
		return -errno;
	flow->ended = n == 0;
	flow_send(flow, buf, (size_t)n);
	return 1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When time alone lets the flow go on. */
static uint64_t flow_next(struct flow *flow, uint64_t open_ns)
{
	struct chunk *chunk;
	uint64_t next = NEVER;

	if ((chunk = STAILQ_FIRST(&flow->taken)))
		next = chunk->due_ns;
	if ((chunk = STAILQ_FIRST(&flow->travelling)) && flow->to->writable)
		next = least(next, chunk->due_ns);
	if (flow->ended || !flow->from->readable)
		return next;
	if (relay.now_ns < open_ns)
		return least(next, open_ns);
	if (window_room(&flow->window, relay.now_ns) >= SEGMENT_LEN)
		next = least(next, line_room_at(flow->line, relay.quantum));
	return next;
}

/* ---- one connection ---- */

static void watch(int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	if (epoll_ctl(relay.epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

/* Returns a descriptor that may still be connecting, or -1 when nobody listens. */
static int server_connect(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)options.to_port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		die("socket");
	if (!connect(fd, (struct sockaddr *)&to, sizeof(to)) || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

static void pair_open(int client, int server)
{
	static const int one = 1;
	struct pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		die("memory");
	pair->client.fd = client;
	pair->server.fd = server;
	pair->open_ns = relay.now_ns + 2 * relay.half_ns;
	pair->gone_ns = NEVER;
	flow_open(&pair->up, &pair->client, &pair->server, &relay.up);
	flow_open(&pair->down, &pair->server, &pair->client, &relay.down);
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	watch(client, EPOLLIN | EPOLLOUT | EPOLLET, &pair->client);
	watch(server, EPOLLIN | EPOLLOUT | EPOLLET, &pair->server);
	TAILQ_INSERT_TAIL(&relay.pairs, pair, link);
	relay.pair_count++;
	relay.connections++;
}

static void pair_close(struct pair *pair)
{
	flow_close(&pair->up);
	flow_close(&pair->down);
	close(pair->client.fd);
	close(pair->server.fd);
	TAILQ_REMOVE(&relay.pairs, pair, link);
	relay.pair_count--;
	free(pair);
}

static void pair_lost(struct pair *pair)
{
	pair->gone_ns = least(pair->gone_ns, relay.now_ns + relay.half_ns);
}

static void pair_deliver(struct pair *pair)
{
	bool gone = pair->gone_ns != NEVER;

	flow_acknowledge(&pair->up);
	flow_acknowledge(&pair->down);
	if (flow_deliver(&pair->up, gone) < 0 || flow_deliver(&pair->down, gone) < 0)
		pair_lost(pair);
}

static bool pair_admit(struct pair *pair)
{
	if (relay.now_ns < pair->open_ns)
		return false;
	int up = flow_admit(&pair->up), down = flow_admit(&pair->down);

	if (up < 0 || down < 0)
		pair_lost(pair);
	return up > 0 || down > 0;
}

static bool pair_over(const struct pair *pair)
{
	return pair->gone_ns <= relay.now_ns || (pair->up.finished && pair->down.finished);
}

static uint64_t pair_next(struct pair *pair)
{
	return least(pair->gone_ns, least(flow_next(&pair->up, pair->open_ns),
					  flow_next(&pair->down, pair->open_ns)));
}

/* ---- all of them ---- */

/* Takes turns until nobody can go on; whoever was first is last the next time. */
static void admit_in_turns(void)
{
	struct pair *pair;
	bool more = true;

	while (more) {
		more = false;
		TAILQ_FOREACH(pair, &relay.pairs, link)
			more |= pair_admit(pair);
	}
	if ((pair = TAILQ_FIRST(&relay.pairs))) {
		TAILQ_REMOVE(&relay.pairs, pair, link);
		TAILQ_INSERT_TAIL(&relay.pairs, pair, link);
	}
}

/* Does what is due; returns when there is more to do. */
static uint64_t turn(void)
{
	struct pair *pair, *next;
	uint64_t wake_ns = NEVER;

	TAILQ_FOREACH(pair, &relay.pairs, link)
		pair_deliver(pair);
	admit_in_turns();
	for (pair = TAILQ_FIRST(&relay.pairs); pair; pair = next) {
		next = TAILQ_NEXT(pair, link);
		if (pair_over(pair))
			pair_close(pair);
		else
			wake_ns = least(wake_ns, pair_next(pair));
	}
	return wake_ns;
}

static void report(void)
{
	printf("up %llu down %llu connections %llu open %u\n", (unsigned long long)relay.up_bytes,
	       (unsigned long long)relay.down_bytes, (unsigned long long)relay.connections,
	       relay.pair_count);
	fflush(stdout);
}

/* Returns false at the signal that ends the program. */
static bool take_signal(void)
{
	struct signalfd_siginfo info;

	if (read(relay.signals, &info, sizeof(info)) == sizeof(info))
		report();
	return info.ssi_signo == SIGUSR1;
}

static void set_timer(uint64_t wake_ns)
{
	struct itimerspec at = { 0 };

	if (wake_ns != NEVER) {
		/* A time of zero would disarm it. */
		wake_ns = wake_ns ? wake_ns : 1;
		at.it_value.tv_sec = (time_t)(wake_ns / 1000000000);
		at.it_value.tv_nsec = (long)(wake_ns % 1000000000);
	}
	timerfd_settime(relay.timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void accept_all(void)
{
	int client;

	while (relay.pair_count < PAIRS_MAX &&
	       (client = accept4(relay.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		int server = server_connect();

		if (server >= 0)
			pair_open(client, server);
		else
			close(client);
	}
}

/* Returns false when the program is to end. */
static bool take_event(const struct epoll_event *event)
{
	static const uint32_t broken = EPOLLERR | EPOLLHUP;
	struct end *end = event->data.ptr;

	if (event->data.ptr == &relay.signals)
		return take_signal();
	if (event->data.ptr == &relay.listener || event->data.ptr == &relay.timer)
		return true;
	end->readable |= (event->events & (EPOLLIN | broken)) != 0;
	end->writable |= (event->events & (EPOLLOUT | broken)) != 0;
	return true;
}

static void run(void)
{
	struct epoll_event events[64];
	bool going = true;

	while (going) {
		int n = epoll_wait(relay.epoll, events, 64, -1);

		clock_read();
		for (int i = 0; i < n; i++)
			going &= take_event(&events[i]);
		accept_all();
		set_timer(turn());
	}
}

/* ---- beginning ---- */

static void listen_here(void)
{
	static const int one = 1;
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)options.listen_port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);

	relay.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (relay.listener < 0)
		die("socket");
	setsockopt(relay.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(relay.listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(relay.listener, 1024) < 0 ||
	    getsockname(relay.listener, (struct sockaddr *)&at, &len) < 0)
		die("listen");
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
}

static void open_all(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	relay.signals = signalfd(-1, &signals, SFD_CLOEXEC);
	relay.epoll = epoll_create1(EPOLL_CLOEXEC);
	relay.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (relay.signals < 0 || relay.epoll < 0 || relay.timer < 0)
		die("start");
	listen_here();
	watch(relay.signals, EPOLLIN, &relay.signals);
	watch(relay.listener, EPOLLIN | EPOLLET, &relay.listener);
	watch(relay.timer, EPOLLIN | EPOLLET, &relay.timer);
}

static size_t between(double least_len, double len, double most_len)
{
	return (size_t)(len < least_len ? least_len : len > most_len ? most_len : len);
}

/* A turn lasts about a millisecond; a queue holds a round trip's worth, as routers' used to. */
static void set_link(void)
{
	double bytes_per_ms = options.mbit ? options.mbit * 125.0 : CHUNK_LEN;

	relay.half_ns = (uint64_t)(options.rtt_ms * 500000);
	relay.quantum = between(2 * SEGMENT_LEN, bytes_per_ms, CHUNK_LEN);
	if (!options.queue_len)
		options.queue_len = between(128 << 10, bytes_per_ms * options.rtt_ms, 4 << 20);
	if (options.queue_len < relay.quantum)
		options.queue_len = relay.quantum;
	relay.up = (struct line){ .mbit = options.mbit, .queue_len = options.queue_len };
	relay.down = relay.up;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: relay --to PORT [--listen PORT] [--rtt MS] [--mbit N] [--window BYTES] "
		"[--queue BYTES]\n"
		"Prints its port; at SIGUSR1 and at the end its counters.\n");
	exit(2);
}

static void parse(int argc, char **argv)
{
	static const struct option known[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "to", required_argument, NULL, 't' },
		{ "rtt", required_argument, NULL, 'r' },
		{ "mbit", required_argument, NULL, 'm' },
		{ "window", required_argument, NULL, 'w' },
		{ "queue", required_argument, NULL, 'q' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'l':
			options.listen_port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 't':
			options.to_port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'r':
			options.rtt_ms = strtod(optarg, NULL);
			break;
		case 'm':
			options.mbit = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			options.window_len = strtoul(optarg, NULL, 10);
			break;
		case 'q':
			options.queue_len = strtoul(optarg, NULL, 10);
			break;
		default:
			usage();
		}
	}
	if (optind != argc || !options.to_port || options.rtt_ms < 0 ||
	    options.window_len < WINDOW_INITIAL_LEN)
		usage();
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	set_link();
	open_all();
	clock_read();
	run();
	return 0;
}
