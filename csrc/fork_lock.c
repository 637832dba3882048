#define _POSIX_C_SOURCE 200809L
#include "fork_lock.h"

#include "pool.h"

#if defined _WIN32
#include <windows.h>
#define NAP() Sleep(1)
#else
#include <time.h>
#define NAP() nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL)
#endif

/* 0 is free, so generations count from 1 here. */
static unsigned this_process(void)
{
    return instep_pool_generation() + 1;
}

static bool take(instep_lock *lock)
{
    unsigned holder = atomic_load_explicit(&lock->holder, memory_order_relaxed);
    return holder != this_process()
           && atomic_compare_exchange_strong_explicit(&lock->holder, &holder, this_process(), memory_order_acquire,
                                                      memory_order_relaxed);
}

bool instep_lock_try(instep_lock *lock)
{
    return atomic_load_explicit(&lock->waiting, memory_order_relaxed) == 0 && take(lock);
}

bool instep_lock_is_held(instep_lock *lock)
{
    return atomic_load_explicit(&lock->holder, memory_order_relaxed) == this_process();
}

void instep_lock_wait(instep_lock *lock)
{
    atomic_fetch_add_explicit(&lock->waiting, 1, memory_order_relaxed);
    do
        NAP();
    while (!take(lock));
    atomic_fetch_sub_explicit(&lock->waiting, 1, memory_order_relaxed);
}

void instep_lock_release(instep_lock *lock)
{
    atomic_store_explicit(&lock->holder, 0, memory_order_release);
}
