/* One loop over many arrays, again and again, unchecked: what a step costs if all but its loop is free. */
#ifndef INSTEP_BENCH_WALK_H
#define INSTEP_BENCH_WALK_H

#include "instep.h"

enum instep_bench_loop {
    INSTEP_ROOF,
    INSTEP_DIVIDER,
    INSTEP_WALLS,
    /* RMSprop's plain kernel: lr 0.01, rho 0.99, eps 1e-8 */
    INSTEP_BARE = INSTEP_WALLS
};

/* All arrays of one dtype, each with a gradient and one state. */
void instep_bench_walk(enum instep_bench_loop loop, const instep_array *arrays, size_t count, int threads,
                       size_t repeats);

#endif
