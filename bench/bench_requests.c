/*
 * bench_requests: how many requests a second does a mount answer, and how long does each take, seen
 * by those who wait for it; beside a file system that does nothing (null_fs)?
 *
 *	bench_requests NULL-DIR MOUNT-DIR LIST [KIND...]
 *	bench_requests --crowd COUNT MOUNT-DIR LIST
 *
 * LIST has a line "SIZE PATH" for each file to use. Both mounts must keep the kernel from keeping
 * names and attributes (-o entry_timeout=0,attr_timeout=0), so that each call below is exactly one
 * request:
 *
 *	lookup	openat(directory, name, O_PATH)		LOOKUP
 *	getattr	fstat of an open file			GETATTR
 *	read	pread of a whole file, O_DIRECT		READ
 *	reread	the same, but of the first 16 files only
 *
 * Clients are processes, 1, 2 and 4 of them. The two mounts take turns in every round; what is
 * printed is the median of the rounds, as lines "name unit value". A client of the crowd reads
 * files for some seconds; what is printed is how evenly they got on.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 1024
#define READ_MAX (1u << 20)
#define CLIENTS_MAX 4
#define REQUESTS 2000u /* of each client in each round */
#define ROUNDS 25
#define CROWD_SECONDS 5
#define ALIGNMENT 4096

struct file {
	size_t size;
	int dir_fd, fd;
	const char *name;
};
static struct file files[2][FILES_MAX]; /* the null file system's, the mount's */
static char *paths[FILES_MAX];
static size_t file_count;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *shared(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

/* ---- files ---- */

static void list_read(const char *path)
{
	FILE *list = fopen(path, "re");
	char line[4096];

	if (!list)
		die(path);
	while (file_count < FILES_MAX && fgets(line, sizeof(line), list)) {
		char *name = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		if (!name || strtoul(line, NULL, 10) > READ_MAX)
			continue;
		files[0][file_count].size = files[1][file_count].size = strtoul(line, NULL, 10);
		paths[file_count++] = strdup(name + 1);
	}
	fclose(list);
	if (file_count == 0)
		die("no files listed");
}

static void file_open(struct file *file, const char *path)
{
	char *dir = strdup(path);
	char *slash = strrchr(dir, '/');

	*slash = '\0';
	file->name = path + (slash - dir) + 1;
	file->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	file->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (file->dir_fd < 0 || file->fd < 0)
		die(path);
	free(dir);
}

/* Open from beginning to end, so that nothing but what is measured arrives meanwhile. */
static void files_open(const char *null_dir, const char *mount_dir)
{
	for (size_t i = 0; i < file_count; i++) {
		char *path;

		if (null_dir && asprintf(&path, "%s/%zu-%zu", null_dir, i, files[0][i].size) > 0)
			file_open(&files[0][i], path); /* keeps the path's end */
		if (asprintf(&path, "%s/%s", mount_dir, paths[i]) > 0)
			file_open(&files[1][i], path);
	}
}

/* ---- requests ---- */

static void ask_lookup(const struct file *file, void *buffer)
{
	int fd = openat(file->dir_fd, file->name, O_PATH | O_CLOEXEC);

	(void)buffer;
	if (fd < 0)
		die(file->name);
	close(fd);
}

static void ask_getattr(const struct file *file, void *buffer)
{
	struct stat st;

	(void)buffer;
	if (fstat(file->fd, &st) != 0 || (size_t)st.st_size != file->size)
		die(file->name);
}

static void ask_read(const struct file *file, void *buffer)
{
	/* Not a byte more: to read behind the end is to ask for the size as well. */
	if (pread(file->fd, buffer, file->size, 0) != (ssize_t)file->size)
		die(file->name);
}

static const struct kind {
	const char *name;
	void (*ask)(const struct file *file, void *buffer);
	size_t files; /* at most so many */
} kinds[] = {
	{ "lookup", ask_lookup, FILES_MAX },
	{ "getattr", ask_getattr, FILES_MAX },
	{ "read", ask_read, FILES_MAX },
	{ "reread", ask_read, 16 },
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static void *buffer_new(void)
{
	void *buffer = aligned_alloc(ALIGNMENT, READ_MAX);

	if (!buffer)
		die("aligned_alloc");
	return memset(buffer, 0, READ_MAX);
}

/* ---- clients ---- */

struct board { /* shared by all processes */
	_Atomic unsigned ready;
	_Atomic unsigned go;
	uint32_t took_ns[CLIENTS_MAX * REQUESTS];
};

static void client(const struct kind *kind, const struct file *of, struct board *board,
		   unsigned number)
{
	size_t count = file_count < kind->files ? file_count : kind->files;
	uint32_t *took_ns = board->took_ns + (size_t)number * REQUESTS;
	void *buffer = buffer_new();

	board->ready++;
	while (!board->go)
		usleep(100);
	for (unsigned i = 0; i < REQUESTS; i++) {
		uint64_t start = now_ns();

		kind->ask(&of[(i + number * 257u) % count], buffer);
		took_ns[i] = (uint32_t)(now_ns() - start);
	}
	_exit(0);
}

static void clients_wait(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int status;

		if (wait(&status) < 0 || status != 0) {
			fprintf(stderr, "bench_requests: a client failed\n");
			exit(1);
		}
	}
}

/* Seconds from the first request to the last answer. */
static double round_run(const struct kind *kind, const struct file *of, struct board *board,
			unsigned clients)
{
	uint64_t start;

	board->ready = 0;
	board->go = 0;
	for (unsigned i = 0; i < clients; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			client(kind, of, board, i);
	}
	while (board->ready < clients)
		usleep(100);
	start = now_ns();
	board->go = 1;
	clients_wait(clients);
	return (double)(now_ns() - start) / 1e9;
}

/* ---- figures ---- */

enum figure { RATE, P50, P95, P99, FIGURE_COUNT };
static const char *const figure_names[] = { "rate", "p50", "p95", "p99" };
static const char *const figure_units[] = { "1/s", "us", "us", "us" };

static int by_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void figures_take(struct board *board, unsigned clients, double seconds,
			 double out[FIGURE_COUNT])
{
	size_t count = (size_t)clients * REQUESTS;

	qsort(board->took_ns, count, sizeof(board->took_ns[0]), by_ns);
	out[RATE] = (double)count / seconds;
	out[P50] = board->took_ns[count / 2] / 1e3;
	out[P95] = board->took_ns[count * 95 / 100] / 1e3;
	out[P99] = board->took_ns[count * 99 / 100] / 1e3;
}

static double median(double values[ROUNDS])
{
	qsort(values, ROUNDS, sizeof(values[0]), by_value);
	return values[ROUNDS / 2];
}

/* Of the null file system and the mount; "beside" is the ratio of rates, or what is ours of p. */
static void figures_print(const char *kind, unsigned clients, double got[2][FIGURE_COUNT][ROUNDS])
{
	for (unsigned f = 0; f < FIGURE_COUNT; f++) {
		double null = median(got[0][f]), ours = median(got[1][f]);
		const char *name = figure_names[f];

		printf("%s_%u_%s_null %s %.1f\n", kind, clients, name, figure_units[f], null);
		printf("%s_%u_%s_mount %s %.1f\n", kind, clients, name, figure_units[f], ours);
		if (f == RATE)
			printf("%s_%u_%s_ratio 1 %.2f\n", kind, clients, name, ours / null);
		else
			printf("%s_%u_%s_own us %.1f\n", kind, clients, name, ours - null);
	}
	fflush(stdout);
}

static void kind_run(const struct kind *kind, struct board *board)
{
	static double got[2][FIGURE_COUNT][ROUNDS];

	for (unsigned clients = 1; clients <= CLIENTS_MAX; clients *= 2) {
		for (unsigned round = 0; round < ROUNDS; round++) {
			for (unsigned which = 0; which < 2; which++) {
				double figures[FIGURE_COUNT], seconds;

				seconds = round_run(kind, files[which], board, clients);
				figures_take(board, clients, seconds, figures);
				for (unsigned f = 0; f < FIGURE_COUNT; f++)
					got[which][f][round] = figures[f];
			}
		}
		figures_print(kind->name, clients, got);
	}
}

/* ---- the crowd ---- */

struct crowd {
	_Atomic unsigned ready;
	_Atomic unsigned go;
	struct {
		uint64_t reads, longest_ns;
	} client[];
};

static void crowd_client(struct crowd *crowd, unsigned number)
{
	void *buffer = buffer_new();
	uint64_t end;

	crowd->ready++;
	while (!crowd->go)
		usleep(1000);
	end = now_ns() + (uint64_t)CROWD_SECONDS * 1000000000u;
	for (size_t i = number; now_ns() < end; i++) {
		uint64_t start = now_ns(), took;

		ask_read(&files[1][i % file_count], buffer);
		took = now_ns() - start;
		crowd->client[number].reads++;
		if (took > crowd->client[number].longest_ns)
			crowd->client[number].longest_ns = took;
	}
	_exit(0);
}

static void crowd_print(const struct crowd *crowd, unsigned count)
{
	uint64_t least = UINT64_MAX, most = 0, sum = 0, longest = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t reads = crowd->client[i].reads;

		sum += reads;
		least = reads < least ? reads : least;
		most = reads > most ? reads : most;
		if (crowd->client[i].longest_ns > longest)
			longest = crowd->client[i].longest_ns;
	}
	printf("crowd_rate 1/s %.0f\n", (double)sum / CROWD_SECONDS);
	printf("crowd_mean reads %.0f\n", (double)sum / count);
	printf("crowd_least reads %llu\n", (unsigned long long)least);
	printf("crowd_most reads %llu\n", (unsigned long long)most);
	printf("crowd_longest ms %.1f\n", (double)longest / 1e6);
}

static int crowd_main(unsigned count, const char *dir)
{
	struct crowd *crowd = shared(sizeof(*crowd) + count * sizeof(crowd->client[0]));

	files_open(NULL, dir);
	for (unsigned i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			crowd_client(crowd, i);
	}
	while (crowd->ready < count)
		usleep(1000);
	crowd->go = 1;
	clients_wait(count);
	crowd_print(crowd, count);
	return 0;
}

/* ---- main ---- */

static void fds_allow(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 4; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return 1;
	return argc == 4;
}

int main(int argc, char **argv)
{
	struct board *board;

	if (argc < 4 || (strcmp(argv[1], "--crowd") == 0 && argc != 5)) {
		fprintf(stderr, "usage: bench_requests NULL-DIR MOUNT-DIR LIST [KIND...]\n"
				"       bench_requests --crowd COUNT MOUNT-DIR LIST\n");
		return 2;
	}
	fds_allow();
	if (argc == 5 && strcmp(argv[1], "--crowd") == 0) {
		list_read(argv[4]);
		return crowd_main((unsigned)strtoul(argv[2], NULL, 10), argv[3]);
	}
	list_read(argv[3]);
	files_open(argv[1], argv[2]);
	board = shared(sizeof(*board));
	for (size_t k = 0; k < KIND_COUNT; k++)
		if (is_wanted(kinds[k].name, argc, argv))
			kind_run(&kinds[k], board);
	return 0;
}
