/*
 * How many lookups a second does the repo answer, by how many threads, and what does a node cost?
 *
 * One directory of 5,000 files of known size. Each lookup finds a name, reads its attributes and is
 * forgotten again, as under a kernel that keeps nothing. The baseline is the same loop with nothing
 * but the name's search in it. Medians of five rounds.
 *
 *	bench_node [THREADS...]
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "remote/source.h"
#include "repo/dir.h"
#include "repo/node_internal.h"
#include "repo/repo.h"
#include "tests/fake_fetch.h"

#define FILES 5000u
#define ROUNDS 5
#define LOOKUPS 200000u /* of each thread */

struct bench {
	struct fetch *fetch;
	struct remote *remote;
	struct node_table *nodes;
	struct repo *repo;
	struct source source;
	char (*names)[32];
};

static void must(int failed, const char *what)
{
	if (failed) {
		fprintf(stderr, "bench_node: %s failed\n", what);
		exit(1);
	}
}

static struct oid make_tree(struct bench *bench)
{
	struct fake_entry *entries = calloc(FILES, sizeof(*entries));
	struct oid tree;

	bench->names = calloc(FILES, sizeof(*bench->names));
	must(!entries || !bench->names, "allocating");
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(bench->names[i], sizeof(bench->names[i]), "file-%05u.c", i);
		entries[i] = (struct fake_entry){ "100644", bench->names[i],
						  fake_blob(bench->fetch, bench->names[i]) };
	}
	tree = fake_tree(bench->fetch, entries, FILES);
	free(entries);
	return tree;
}

static void bench_open(struct bench *bench)
{
	static char shown[] = "bench";
	struct repo_config config = { .source = &bench->source };
	struct oid tree, commit;

	bench->fetch = fake_open();
	bench->remote = fake_remote_open();
	bench->nodes = node_table_new();
	bench->source.shown = shown;
	tree = make_tree(bench);
	commit = fake_commit(bench->fetch, &tree, 1);
	fake_ref(bench->remote, "HEAD", &commit, NULL, NULL);
	fake_all_here(bench->fetch);
	config.fetch = bench->fetch;
	config.remote = bench->remote;
	config.nodes = bench->nodes;
	must(repo_open(&config, &bench->repo, NULL), "opening");
	node_table_set_root(bench->nodes, repo_root(bench->repo));
}

static void bench_close(struct bench *bench)
{
	repo_close(&bench->repo);
	node_table_free(&bench->nodes);
	fake_remote_close(bench->remote);
	fake_close(bench->fetch);
	free(bench->names);
}

/* ---- what is timed ---- */

struct run {
	struct bench *bench;
	void (*one)(struct bench *bench, const char *name);
	unsigned first;
};

static void search_only(struct bench *bench, const char *name)
{
	const struct dir *dir = node_dir(repo_root(bench->repo));

	must(dir_find(dir, name, strlen(name)) < 0, "finding");
}

static void look_up_and_forget(struct bench *bench, const char *name)
{
	struct repo_attr attr;
	struct node *node;

	must(repo_lookup(bench->repo, repo_root(bench->repo), name, NULL, &node), "looking up");
	repo_attr_now(bench->repo, node, &attr);
	node_forget(bench->nodes, node, 1);
}

static void *run_lookups(void *arg)
{
	struct run *run = arg;

	for (unsigned i = 0; i < LOOKUPS; i++)
		run->one(run->bench, run->bench->names[(run->first + i * 7) % FILES]);
	return NULL;
}

static double seconds_of(struct bench *bench, void (*one)(struct bench *, const char *),
			 unsigned threads)
{
	struct run runs[64];
	pthread_t ids[64];
	uint64_t start = clock_ns();

	for (unsigned i = 0; i < threads; i++) {
		runs[i] = (struct run){ bench, one, i * 911 };
		must(pthread_create(&ids[i], NULL, run_lookups, &runs[i]), "starting a thread");
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	return (double)(clock_ns() - start) / 1e9;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static double median_rate(struct bench *bench, void (*one)(struct bench *, const char *),
			  unsigned threads)
{
	double rates[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		rates[i] = LOOKUPS * threads / seconds_of(bench, one, threads);
	qsort(rates, ROUNDS, sizeof(rates[0]), compare);
	return rates[ROUNDS / 2];
}

static void report_rates(struct bench *bench, unsigned threads)
{
	double search = median_rate(bench, search_only, threads);
	double held = 0, cold = median_rate(bench, look_up_and_forget, threads);

	for (unsigned i = 0; i < FILES; i++) /* as under a kernel that holds all */
		repo_dirent_node(bench->repo, repo_root(bench->repo), i);
	held = median_rate(bench, look_up_and_forget, threads);
	for (unsigned i = 0; i < FILES; i++) {
		struct node *node = repo_dirent_node(bench->repo, repo_root(bench->repo), i);

		node_forget(bench->nodes, node, 2);
	}
	printf("%u threads: %.0f lookups/s new, %.0f of held nodes, %.0f searches alone (%.2f)\n",
	       threads, cold, held, search, cold / search);
}

static void report_memory(struct bench *bench)
{
	size_t before = mallinfo2().uordblks;

	for (unsigned i = 0; i < FILES; i++)
		repo_dirent_node(bench->repo, repo_root(bench->repo), i);
	printf("memory: %zu bytes a node\n", (mallinfo2().uordblks - before) / FILES);
}

int main(int argc, char **argv)
{
	struct bench bench = { 0 };

	bench_open(&bench);
	if (argc < 2) {
		report_rates(&bench, 1);
		report_rates(&bench, 4);
	}
	for (int i = 1; i < argc; i++) {
		int threads = atoi(argv[i]);

		must(threads < 1 || threads > 64, "reading the number of threads");
		report_rates(&bench, (unsigned)threads);
	}
	report_memory(&bench);
	bench_close(&bench);
	return 0;
}
