/*
 * Reads parts of one file through src/remote, for the story e2e_range.py:
 *	read_range GIT RAW SOURCE COMMIT PATH SIZE OFF:LEN...
 * GIT and RAW are the templates of the host "forge"; SIZE may be "unknown". The parts are asked for
 * one after the other, or all at once with READ_RANGE_TOGETHER in the environment.
 *
 * Prints a line of JSON for each part, with the bytes in hexadecimal, and one with the counters.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../remote_support.h"
#include "base/buf.h"

#define PARTS_MAX 64

static struct place place;
static struct collector parts[PARTS_MAX];

static int fail(const char *words)
{
	fprintf(stderr, "read_range: %s\n", words);
	return EXIT_FAILURE;
}

static int open_place(char **argv)
{
	struct host_table *hosts = host_table_new();
	struct xcp_error err = { 0 };

	if (host_table_set(hosts, "forge", "git", argv[1], &err) ||
	    host_table_set(hosts, "forge", "raw", argv[2], &err))
		return fail(err.message);
	if (!place_open_at(&place, hosts, argv[3], NULL, true, 0))
		return fail("no such place");
	if (remote_connect(place.remote, NULL, &err))
		return fail(err.message);
	if (!(remote_caps(place.remote) & REMOTE_RANGE))
		return fail("it has no ranges");
	return 0;
}

static void start(struct range_spec *spec, const char *text, struct collector *part)
{
	struct remote_call *call;
	char *end;

	spec->off = strtoull(text, &end, 10);
	spec->len = strtoull(end + (*end == ':'), NULL, 10);
	collector_init(part);
	if (remote_start_range(place.remote, spec, &part->sink, &call))
		exit(fail("the range is not asked for"));
}

static void print_hex(const struct buf *bytes)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < bytes->len; i++) {
		putchar(digits[bytes->data[i] >> 4]);
		putchar(digits[bytes->data[i] & 15]);
	}
}

static void print_part(struct collector *part)
{
	enum remote_verdict verdict = collector_wait(part);

	printf("{\"verdict\": %d, \"off\": %llu, \"total\": %llu, \"bytes\": \"", verdict,
	       (unsigned long long)part->begin_off, (unsigned long long)part->begin_total);
	print_hex(&part->pack);
	printf("\"}\n");
	fprintf(stderr, "%s\n", part->outcome.error.message);
	collector_release(part);
}

static void print_counters(void)
{
	struct remote_counters counters;

	remote_counters(place.remote, &counters);
	printf("{\"requests\": %llu, \"connections\": %llu, \"received\": %llu}\n",
	       (unsigned long long)counters.requests_range,
	       (unsigned long long)counters.connections,
	       (unsigned long long)counters.bytes_received);
}

int main(int argc, char **argv)
{
	struct range_spec spec = { .size = UINT64_MAX };
	bool together = getenv("READ_RANGE_TOGETHER");
	int count = argc - 7;

	if (count < 1 || count > PARTS_MAX || oid_from_hex(argv[4], strlen(argv[4]), &spec.commit))
		return fail("GIT RAW SOURCE COMMIT PATH SIZE OFF:LEN...");
	if (open_place(argv))
		return EXIT_FAILURE;
	spec.path = argv[5];
	if (strcmp(argv[6], "unknown") != 0)
		spec.size = strtoull(argv[6], NULL, 10);
	for (int i = 0; i < count; i++) {
		start(&spec, argv[7 + i], &parts[i]);
		if (!together)
			print_part(&parts[i]);
	}
	for (int i = 0; together && i < count; i++)
		print_part(&parts[i]);
	print_counters();
	place_close(&place);
	return EXIT_SUCCESS;
}
