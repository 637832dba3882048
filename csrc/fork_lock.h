/* A lock that survives a fork: what a thread of the parent held is free in the child, where that thread is not. */
#ifndef INSTEP_FORK_LOCK_H
#define INSTEP_FORK_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

/* Free when all zero. */
typedef struct instep_lock {
    atomic_uint holder;
    atomic_ullong waiting;
} instep_lock;

bool instep_lock_try(instep_lock *lock);
/* By a thread of this process. */
bool instep_lock_is_held(instep_lock *lock);
/* Sleeps until the lock is had.  Nobody comes twice before one who waits has had the chance. */
void instep_lock_wait(instep_lock *lock);
void instep_lock_release(instep_lock *lock);

#endif
