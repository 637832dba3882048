/* Which threads a step may use, and how many, which the pool asks for. */
#include "instep.h"
#include "pool.h"

#include <stdatomic.h>

static atomic_int wanted; /* the caller's thread included; 0 until asked */

static _Thread_local struct instep_lent lent;

int instep_set_threads(int threads)
{
    if (threads < 0 || threads > INSTEP_MAX_THREADS)
        return INSTEP_BAD_THREADS;
    atomic_store_explicit(&wanted, threads, memory_order_relaxed);
    return INSTEP_OK;
}

int instep_get_threads(void)
{
    int threads = atomic_load_explicit(&wanted, memory_order_relaxed);
    if (threads == 0) {
        threads = instep_pool_default();
        threads = threads < INSTEP_MAX_THREADS ? threads : INSTEP_MAX_THREADS;
        int unset = 0;
        if (!atomic_compare_exchange_strong(&wanted, &unset, threads))
            threads = unset;
    }
    return threads;
}

void instep_lend_team(instep_team *team, int threads)
{
    lent = (struct instep_lent){team, threads};
}

struct instep_lent instep_lent_team(void)
{
    return lent;
}
