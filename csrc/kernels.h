/* What one compilation of kernels.c offers. */
#ifndef INSTEP_KERNELS_H
#define INSTEP_KERNELS_H

#include <stddef.h>

/* Advances `size` elements.  `preparation` and `coefficients` are those of rules/prepare.h and coefficients.h. */
typedef void instep_kernel(size_t size, void *param, const void *grad, void *const *state, int preparation,
                           const void *coefficients);

/* Every loop there is, by number. */
enum instep_loop {
#define LOOP(rule, loop, states, ...) LOOP_##loop,
#include "rules.def"
    INSTEP_LOOPS
};

#endif
