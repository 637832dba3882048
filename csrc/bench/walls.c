/* What no step can be faster than, as loops with the signature of a kernel.
 *
 * CMake compiles this file as it compiles kernels.c: once for each instruction set and type.
 *     roof      memory: the streams of a rule, read and written as a step does, with the arithmetic of a copy
 *     divider   the square roots and the one division of an element, and nothing else */
#include "walk.h"

#include <tgmath.h>

typedef INSTEP_TYPE T;

#define JOIN_(wall, dtype, isa) instep_##wall##_##dtype##_##isa
#define JOIN(wall, dtype, isa) JOIN_(wall, dtype, isa)
#define NAME(wall) JOIN(wall, INSTEP_DTYPE, INSTEP_ISA)

#define WALL(wall, element)                                                                                            \
    static void NAME(wall)(size_t size, void *param, const void *grad, void *const *state, int how, const void *c)     \
    {                                                                                                                  \
        T *restrict p = param, *restrict u = state[0], *restrict v = state[1], *restrict w = state[2];                 \
        const T *restrict g = grad;                                                                                    \
        (void)u, (void)v, (void)w, (void)g, (void)how, (void)c;                                                        \
        for (size_t i = 0; i < size; i++)                                                                              \
            element;                                                                                                   \
    }

WALL(roof_0, p[i] -= g[i] * (T)0.001)
WALL(roof_1, (u[i] += g[i], p[i] -= g[i] * (T)0.001))
WALL(roof_2, (u[i] += g[i], v[i] += g[i], p[i] -= g[i] * (T)0.001))
WALL(roof_3, (u[i] += g[i], v[i] += g[i], w[i] += g[i], p[i] -= g[i] * (T)0.001))
WALL(divider, p[i] = g[i] / sqrt(u[i]))
WALL(divider_of_two_roots, p[i] = sqrt(v[i]) / sqrt(u[i]))

extern const struct instep_walls NAME(walls);
const struct instep_walls NAME(walls) = {
    .roof = {NAME(roof_0), NAME(roof_1), NAME(roof_2), NAME(roof_3)},
    .divider = {NAME(divider), NAME(divider_of_two_roots)},
};
