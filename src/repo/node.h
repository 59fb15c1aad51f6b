/*
 * node: what the kernel calls an inode: one path of one repository in one generation.
 *
 *	made by a lookup (count 1) ---> looked up again (count + 1) ...
 *	                           ---> forgotten down to 0 and without children: freed
 *
 * The kernel's nodeid is the node's address, given back by node_id() and node_from_id(): a nodeid
 * is valid exactly as long as the kernel holds lookups on it, so no table is consulted and no
 * lock is taken for reads. The root is FUSE's 1. st_ino is something else: a hash of the path
 * below 2^48, the same at every mount (inode.h).
 *
 * Everything a node holds is set when it is made, but for: lookups, children, the table links
 * (under the table's lock); size (atomic; set once); dir (atomic pointer; set once, freed with
 * the node); what blind.h counts (atomic).
 *
 * Threads: any.
 */
#ifndef REPO_NODE_H
#define REPO_NODE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/oid.h"

struct node;
struct node_table;
struct repo;

struct node_table *node_table_new(void);
/* Frees every node: after the session has ended. */
void node_table_free(struct node_table **table);

/* nodeid <-> node. Id 1 is the table's root. */
void node_table_set_root(struct node_table *table, struct node *root);
struct node *node_from_id(struct node_table *table, uint64_t nodeid);
uint64_t node_id(const struct node_table *table, const struct node *node);

struct repo *node_repo(const struct node *node);

/* Gives back `count` lookups; may free the node and parents that only lived for it. */
void node_forget(struct node_table *table, struct node *node, uint64_t count);

uint64_t node_count(struct node_table *table);

#endif
