/*
 * writer: the one thread that puts pending things on disk.
 *
 *	writer_start ---> (works when something is pending) ---> cache->stopping ---> writer_join
 *
 * A batch: compress what the index does not have; take the write lock; look again, because
 * another process may have been quicker; append the records; commit the facts that name them;
 * give the lock back. Large objects go block by block, a step between batches, and are named
 * when their last block is there.
 *
 * When something fails the batch waits where it was, the cache is degraded and says why, and
 * the writer tries again after a pause.
 *
 * Threads: writer_start() and writer_join() while no other thread uses the cache.
 */
#ifndef CACHE_WRITER_H
#define CACHE_WRITER_H

#include "base/error.h"

struct cache;

/*
 * Opens the store, then starts the thread. -ENOMEM or the thread's error; a store that does not
 * open is not a failure: `err` says why.
 */
int writer_start(struct cache *cache, struct xcp_error *err);

/*
 * cache->stopping is set: one last attempt to write everything, a clean end, and the thread is
 * gone.
 */
void writer_join(struct cache *cache);

#endif
