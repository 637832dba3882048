/* What no step can be faster than, as two loops with the signature of a kernel.
 *
 * CMake compiles this file as it compiles kernels.c: once for each instruction set and type.
 *     roof      memory: the streams of RMSprop, read and written as a step does, with the arithmetic of a copy
 *     divider   the one square root and the one division of an element, and nothing else */
#include "kernels.h"
#include "walk.h"

#include <tgmath.h>

typedef INSTEP_TYPE T;

#define JOIN_(wall, dtype, isa) instep_##wall##_##dtype##_##isa
#define JOIN(wall, dtype, isa) JOIN_(wall, dtype, isa)
#define NAME(wall) JOIN(wall, INSTEP_DTYPE, INSTEP_ISA)

static void NAME(roof)(size_t size, void *param, const void *grad, void *const *state, int how, const void *c)
{
    T *restrict p = param, *restrict v = state[0];
    const T *restrict g = grad;
    (void)how, (void)c;
    for (size_t i = 0; i < size; i++) {
        v[i] += g[i];
        p[i] -= g[i] * (T)0.001;
    }
}

static void NAME(divider)(size_t size, void *param, const void *grad, void *const *state, int how, const void *c)
{
    T *restrict p = param;
    const T *restrict g = grad, *restrict v = state[0];
    (void)how, (void)c;
    for (size_t i = 0; i < size; i++)
        p[i] = g[i] / sqrt(v[i]);
}

extern instep_kernel *const NAME(walls)[INSTEP_WALLS];
instep_kernel *const NAME(walls)[INSTEP_WALLS] = {NAME(roof), NAME(divider)};
