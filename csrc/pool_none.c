/* The pool where there are no POSIX threads: every step runs on the thread that asks for it, which is a number of
 * threads that it may use, whatever was set. */
#include "pool.h"

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

int instep_pool_survived(void)
{
    return 0;
}

int instep_pool_default(void)
{
    return 1;
}
