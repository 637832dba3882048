/* Threads: the only file that knows them is pool.c (pool_none.c where there are no POSIX threads). */
#ifndef INSTEP_POOL_H
#define INSTEP_POOL_H

#include "instep.h"

enum { INSTEP_MAX_THREADS = 256 };

typedef void instep_task(void *work, size_t begin, size_t end);

/* A parallel version of
 *
 *     task(work, 0, total);
 *
 * for a task whose range may be cut anywhere and whose pieces may run in any order, at the same time, on any thread.
 * At most one thread for each `grain` is woken.  When the pool is busy with another caller's task, or no thread can
 * be had, the caller does it all: this cannot fail. */
void instep_pool_run(instep_task *task, void *work, size_t total, size_t grain);

/* How many threads a task may use where nobody has said it: at least 1. */
int instep_pool_default(void);

/* What the calling thread has been lent: NULL and 0 are nothing. */
struct instep_lent {
    instep_team *team;
    int threads;
};

struct instep_lent instep_lent_team(void);

/* Brackets around whatever a fork must not cut in two. */
void instep_pool_enter(void);
void instep_pool_leave(void);

/* Differs between a process and its forked children: whoever held a lock under another generation is not here. */
unsigned instep_pool_generation(void);

/* In a forked child, whether this is the thread that forked: a new one may have the number of one that is not here. */
int instep_pool_survived(void);

#endif
