/* The pool where there are no POSIX threads: every step runs on the thread that asks for it, which is a number of
 * threads that it may use, whatever was set. */
#include "pool.h"

#include "instep.h"

#include <stdatomic.h>

enum { MAX_THREADS = 256 };

static atomic_int wanted; /* 0 until asked */

void instep_pool_run(instep_task *task, void *work, size_t total, size_t grain)
{
    (void)grain;
    task(work, 0, total);
}

void instep_pool_enter(void)
{
}

void instep_pool_leave(void)
{
}

unsigned instep_pool_generation(void)
{
    return 0;
}

int instep_set_threads(int threads)
{
    if (threads < 0 || threads > MAX_THREADS)
        return INSTEP_BAD_THREADS;
    atomic_store_explicit(&wanted, threads, memory_order_relaxed);
    return INSTEP_OK;
}

int instep_get_threads(void)
{
    int threads = atomic_load_explicit(&wanted, memory_order_relaxed);
    return threads == 0 ? 1 : threads;
}
