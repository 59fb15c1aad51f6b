/*
 * fake_repo: repo.h and node.h played by an in-memory tree whose parts arrive when the test says
 * so. Linked instead of librepo.
 *
 *	fake_add ... ---> fake_close_gate(node, what) ---> operations on it park
 *	          ---> fake_open_gate: they are woken
 *
 * Threads: build the tree and set contents before the session runs; gates from any thread.
 */
#ifndef TESTS_FAKE_REPO_H
#define TESTS_FAKE_REPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "repo/node.h"
#include "repo/repo.h"

enum fake_gate {
	FAKE_NAME,    /* LOOKUP of this node */
	FAKE_SIZE,    /* closed: the size is not known */
	FAKE_CONTENT, /* READ and READLINK */
	FAKE_TREE,    /* what is in this directory */
	FAKE_GATE_COUNT,
};

struct fake;

struct fake *fake_new(struct node_table **out_nodes);
void fake_free(struct fake *fake);
struct repo *fake_repo(struct fake *fake);
struct node *fake_root(struct fake *fake);

/* mode with type bits. A file's bytes are fake_byte(), unless set. */
struct node *fake_add(struct fake *fake, struct node *dir, const char *name, uint32_t mode,
		      uint64_t size);
void fake_set_content(struct node *node, const void *data, size_t len); /* borrowed */
uint8_t fake_byte(uint64_t off);
uint64_t fake_ino(const struct node *node);

void fake_close_gate(struct node *node, enum fake_gate gate);
/*
 * Opens it and wakes who waits, with status (0, or an error; then the gate stays closed), from the
 * calling thread.
 */
void fake_open_gate(struct node *node, enum fake_gate gate, int status);
/* The next `count` wakes of this node come although nothing has: they will park again. */
void fake_open_falsely(struct node *node, enum fake_gate gate, unsigned count);

unsigned fake_waiting(void);	    /* now, on whatever */
void fake_wait_waiting(unsigned n); /* until that many wait (at least) */
unsigned fake_lookups(const struct node *node);

/* A blind read, as repo's (blind.h): counted once for each wait, until that is released. */
void fake_blind_begin(struct node *node, struct repo_wait *wait);
/* REPO_PARKED while there are any; a `wait` of NULL asks. */
int fake_blind_pass(struct node *node, struct repo_wait *wait);

/* The waiting alone, for tests that have no tree: parks on `key`. */
int fake_park(struct repo_wait *wait, const void *key);
unsigned fake_wake(const void *key, int status); /* returns how many */

#endif
