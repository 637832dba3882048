/* A loop called so that its vectors do not cross from one cache line to the next.
 *
 * NumPy's large arrays all begin 16 bytes into a line.  Taken from there, every vector of 64 bytes is in two lines, and
 * every other one of 32: in the second cache of a Zen 3, SGD with momentum took 1.6 times as long, Adam 1.1 times.  So
 * a loop is first given the elements before the first whole line of the parameter, and then the rest, where states and
 * gradient are at the beginning of a line too if they lie as the parameter does. */
#ifndef INSTEP_ALIGNED_H
#define INSTEP_ALIGNED_H

#include "instep.h"
#include "kernels.h"

#include <stdint.h>

/* Bytes: those of a cache line, and below how many another call takes more than it gains. */
enum { LINE = 64, WORTH_ALIGNING = 4096 };

/* Calls `kernel` for `size` elements of `width` bytes. */
static inline void run_aligned(instep_kernel *kernel, size_t size, size_t width, void *param, const void *grad,
                               void *const *state, size_t states, int preparation, const void *coefficients)
{
    size_t before = -(uintptr_t)param % LINE;
    if (before == 0 || before % width != 0 || size < WORTH_ALIGNING / width) {
        kernel(size, param, grad, state, preparation, coefficients);
        return;
    }
    void *rest[INSTEP_MAX_STATES] = {NULL};
    for (size_t s = 0; s < states; s++)
        rest[s] = (char *)state[s] + before;
    kernel(before / width, param, grad, state, preparation, coefficients);
    kernel(size - before / width, (char *)param + before, (const char *)grad + before, rest, preparation, coefficients);
}

#endif
