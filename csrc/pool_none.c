/* The pool where there are no POSIX threads: every step runs on the thread that asks for it. */
#include "pool.h"

#include "instep.h"

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
    return threads == 0 || threads == 1 ? INSTEP_OK : INSTEP_BAD_THREADS;
}

int instep_get_threads(void)
{
    return 1;
}
