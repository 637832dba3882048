/* The loop, and every rule inside it.
 *
 * CMake compiles this file once for each instruction set and type, with
 *     INSTEP_ISA    baseline, x86_v3, ...   the name, and the compiler flags that go with it
 *     INSTEP_TYPE   float or double
 *     INSTEP_DTYPE  f32 or f64
 *     INSTEP_LANES  undefined, or the number of elements in a vector where the loops are to be made of vectors
 * Nothing in it may be called before the processor is known to run that instruction set: dispatch.c sees to it. */
#include "kernels.h"

#include "compiler.h"

#include <float.h>
#include <tgmath.h>

#if defined __FAST_MATH__ || FLT_EVAL_METHOD != 0
#error "the bits of a step are a promise: build without -ffast-math, with arithmetic in the type of the operands"
#endif

#if defined INSTEP_LANES /* made of vectors already */
#undef INDEPENDENT
#define INDEPENDENT
#endif

#define LARGEST _Generic((S)0, float: FLT_MAX, double: DBL_MAX)
typedef INSTEP_TYPE S;
typedef ANY_ALIGNMENT INSTEP_TYPE stored;

#include "rules.h"

/* The first n elements of a vector. */
#if defined INSTEP_LANES
INLINE T load(const stored *from, size_t n)
{
    return WIDE(maskz_loadu)(SOME(n), from);
}

INLINE void store(stored *to, T x, size_t n)
{
    WIDE(mask_storeu)(to, SOME(n), x);
}
#else
INLINE T load(const stored *from, size_t n)
{
    (void)n;
    return *from;
}

INLINE void store(stored *to, T x, size_t n)
{
    (void)n;
    *to = x;
}
#endif

/* What a loop is called with; `states`, `how` and `rule` are constants there. */
struct streams {
    stored *param;
    const stored *grad;
    stored *state[INSTEP_MAX_STATES];
};

INLINE void elements(size_t i, size_t n, const struct streams *a, const int states, const enum preparation how,
                     const struct coefficients *c, void (*const rule)(T *, T, T *, const struct coefficients *))
{
    T p = load(a->param + i, n), g = load(a->grad + i, n), s[INSTEP_MAX_STATES];
    UNROLLED(INSTEP_MAX_STATES)
    for (int k = 0; k < states; k++)
        s[k] = load(a->state[k] + i, n);

    prepare(how, &p, &g, &c->prepared);
    rule(&p, g, s, c);

    store(a->param + i, p, n);
    UNROLLED(INSTEP_MAX_STATES)
    for (int k = 0; k < states; k++)
        store(a->state[k] + i, s[k], n);
}

/* The only loop.  Each call becomes one with the rule inside and without a branch. */
INLINE void step(size_t size, void *param, const void *grad, void *const *state, const int states,
                 const enum preparation how, const struct coefficients *coefficients,
                 void (*const rule)(T *, T, T *, const struct coefficients *))
{
    const struct coefficients c = *coefficients;
    struct streams a = {.param = param, .grad = grad};
    for (int k = 0; k < states; k++)
        a.state[k] = state[k];

    size_t i = 0;
    INDEPENDENT
    for (; i + LANES <= size; i += LANES)
        elements(i, LANES, &a, states, how, &c, rule);
    if (i < size)
        elements(i, size - i, &a, states, how, &c, rule);
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
