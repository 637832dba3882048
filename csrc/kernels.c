/* The loop, and every rule inside it.
 *
 * CMake compiles this file once for each instruction set and type, with
 *     INSTEP_ISA    baseline, x86_v3, ...   the name, and the compiler flags that go with it
 *     INSTEP_TYPE   float or double
 *     INSTEP_DTYPE  f32 or f64
 * Nothing in it may be called before the processor is known to run that instruction set: dispatch.c sees to it. */
#include "kernels.h"

#include <float.h>
#include <tgmath.h>

#if defined __FAST_MATH__ || FLT_EVAL_METHOD != 0
#error "the bits of a step are a promise: build without -ffast-math, with arithmetic in the type of the operands"
#endif

#if defined _MSC_VER && !defined __clang__
#define INLINE static __forceinline
#define ANY_ALIGNMENT __unaligned
#define INDEPENDENT __pragma(loop(ivdep))
#elif defined __clang__
#define INLINE static inline __attribute__((always_inline))
#define ANY_ALIGNMENT __attribute__((aligned(1), may_alias))
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INLINE static inline __attribute__((always_inline))
#define ANY_ALIGNMENT __attribute__((aligned(1), may_alias))
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define LARGEST _Generic((T)0, float: FLT_MAX, double: DBL_MAX)
typedef INSTEP_TYPE T;
typedef ANY_ALIGNMENT INSTEP_TYPE stored;

#include "rules.h"

/* The only loop.  `states`, `how` and `rule` are constants wherever it is called, so each call becomes a loop with
 * the rule inside and without a branch. */
INLINE void step(size_t size, stored *param, const stored *grad, void *const *state, const int states,
                 const enum preparation how, const struct coefficients *coefficients,
                 void (*const rule)(T *, T, T *, const struct coefficients *))
{
    const struct coefficients c = *coefficients;
    stored *first = states > 0 ? state[0] : NULL;
    stored *second = states > 1 ? state[1] : NULL;
    stored *third = states > 2 ? state[2] : NULL;

    INDEPENDENT
    for (size_t i = 0; i < size; i++) {
        T p = param[i];
        T g = grad[i];
        T s[3] = {states > 0 ? first[i] : 0, states > 1 ? second[i] : 0, states > 2 ? third[i] : 0};

        prepare(how, &p, &g, &c.prepared);
        rule(&p, g, s, &c);

        param[i] = p;
        if (states > 0)
            first[i] = s[0];
        if (states > 1)
            second[i] = s[1];
        if (states > 2)
            third[i] = s[2];
    }
}

#define JOIN_(loop, dtype, isa) instep_##loop##_##dtype##_##isa
#define JOIN(loop, dtype, isa) JOIN_(loop, dtype, isa)
#define NAME(loop) JOIN(loop, INSTEP_DTYPE, INSTEP_ISA)

#define LOOP(rule, loop, count, names)                                                                                 \
    INLINE void loop##_element(T *p, T g, T *state, const struct coefficients *c)                                      \
    {                                                                                                                  \
        loop(p, g, state, &c->rule);                                                                                   \
    }                                                                                                                  \
    static void NAME(loop)(size_t size, void *param, const void *grad, void *const *state, int how, const void *c)     \
    {                                                                                                                  \
        if (how == SCALED)                                                                                             \
            step(size, param, grad, state, count, SCALED, c, loop##_element);                                          \
        else                                                                                                           \
            step(size, param, grad, state, count, DECAYED, c, loop##_element);                                         \
    }
#include "rules.def"

extern instep_kernel *const NAME(kernels)[INSTEP_LOOPS];
instep_kernel *const NAME(kernels)[INSTEP_LOOPS] = {
#define LOOP(rule, loop, count, names) NAME(loop),
#include "rules.def"
};
