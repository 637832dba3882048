/* What one compilation of kernels.c offers. */
#ifndef INSTEP_KERNELS_H
#define INSTEP_KERNELS_H

#include <stddef.h>

/* Advances `size` elements.  `preparation` is that of prepare.h, `coefficients` a struct of rules.h in the type of the
 * arrays. */
typedef void instep_kernel(size_t size, void *param, const void *grad, void *const *state, int preparation,
                           const void *coefficients);

/* Every loop there is, by number. */
enum instep_loop {
#define LOOP(rule, loop, count, names) LOOP_##loop,
#include "rules.def"
    INSTEP_LOOPS
};

#endif
