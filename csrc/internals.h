/* What `instep bench` needs of the library beside instep.h, so that what it measures are the loops and the pool that
 * steps run, and no second copy of them.  The binding has the table in a capsule, for instep._bench alone: both are of
 * one build, and the next may have another table. */
#ifndef INSTEP_INTERNALS_H
#define INSTEP_INTERNALS_H

#include "instep.h"
#include "kernels.h"
#include "pool.h"

#define INSTEP_INTERNALS "instep._core._INTERNALS"

/* A loop of the active instruction set, with all that it reads beside arrays. */
struct instep_bare_loop {
    instep_kernel *kernel;
    int preparation;
    double coefficients[32]; /* in the type of the arrays */
};

/* What an array's t-th step runs, counted from 1. */
void instep_bare_loop(const instep_optimizer *optimizer, int dtype, int64_t t, struct instep_bare_loop *loop);

struct instep_internals {
    void (*bare_loop)(const instep_optimizer *optimizer, int dtype, int64_t t, struct instep_bare_loop *loop);
    void (*pool_enter)(void);
    void (*pool_run)(instep_task *task, void *work, size_t total, size_t grain);
    void (*pool_leave)(void);
};

#endif
