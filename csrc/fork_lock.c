#define _POSIX_C_SOURCE 200809L
#include "fork_lock.h"

#include "pool.h"

#include <stdint.h>

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

/* How many wait, and in the upper half in which process: the waiters of a parent are not in its children. */
static unsigned long long with_waiter(unsigned long long waiting)
{
    unsigned long long here = (unsigned long long)this_process() << 32;
    return waiting >> 32 == this_process() ? waiting + 1 : here + 1;
}

static bool somebody_waits(instep_lock *lock)
{
    unsigned long long waiting = atomic_load_explicit(&lock->waiting, memory_order_relaxed);
    return (uint32_t)waiting != 0 && waiting >> 32 == this_process();
}

bool instep_lock_try(instep_lock *lock)
{
    return !somebody_waits(lock) && take(lock);
}

bool instep_lock_is_held(instep_lock *lock)
{
    return atomic_load_explicit(&lock->holder, memory_order_relaxed) == this_process();
}

void instep_lock_wait(instep_lock *lock)
{
    unsigned long long waiting = atomic_load_explicit(&lock->waiting, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&lock->waiting, &waiting, with_waiter(waiting), memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
    do
        NAP();
    while (!take(lock));
    atomic_fetch_sub_explicit(&lock->waiting, 1, memory_order_relaxed);
}

void instep_lock_release(instep_lock *lock)
{
    atomic_store_explicit(&lock->holder, 0, memory_order_release);
}
