/* One loop over many arrays, again and again, unchecked: what a step costs if all but its loop is free. */
#ifndef INSTEP_BENCH_WALK_H
#define INSTEP_BENCH_WALK_H

#include "internals.h"

/* walls.c has all but the first. */
enum instep_bench_loop { INSTEP_BARE, INSTEP_ROOF, INSTEP_DIVIDER, INSTEP_DIVIDER_OF_TWO_ROOTS };

struct instep_walls {
    instep_kernel *roof[INSTEP_MAX_STATES + 1]; /* by the number of states */
    instep_kernel *divider[2];                  /* of one root and of two, which take as many states */
};

/* All arrays have a gradient and so many states, and are of one dtype. */
struct instep_walk {
    const struct instep_internals *library;
    struct instep_bare_loop bare;
    const char *isa; /* of the walls */
    const instep_array *arrays;
    size_t count, states;
};

/* On several threads, as many of them as instep_set_threads says. */
void instep_bench_walk(const struct instep_walk *walk, enum instep_bench_loop loop, int on_several, size_t repeats);

#endif
