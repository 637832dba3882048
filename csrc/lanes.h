/* What T is in the loops: one element, or, where INSTEP_LANES says how many, a vector of them.
 *
 * A rule is written once for both: + - * / work on vectors as they are, S is one number for all lanes, and the rest is
 * here.  One element is what the compiler makes vectors of.  A vector is what it cannot make, a root without the
 * divider: see root.h. */
#ifndef INSTEP_LANES_H
#define INSTEP_LANES_H

#if !defined INSTEP_LANES

enum { LANES = 1 };
typedef S T;

static inline T every(S x)
{
    return x;
}

/* a where x > y, otherwise b: a comparison and not a library's maximum, so that a NaN and either zero stay what they
 * are on every processor. */
static inline T where_greater(T x, T y, T a, T b)
{
    return x > y ? a : b;
}

#define root(x) sqrt(x)

#else

#include "root.h"

enum { LANES = INSTEP_LANES };

#if INSTEP_LANES == 16

typedef __m512 T;
#define WIDE(name) _mm512_##name##_ps
#define SOME(n) ((__mmask16)((1u << (n)) - 1))
#define COMPARE(x, y) _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ)

#else

typedef __m512d T;
#define WIDE(name) _mm512_##name##_pd
#define SOME(n) ((__mmask8)((1u << (n)) - 1))
#define COMPARE(x, y) _mm512_cmp_pd_mask(x, y, _CMP_GT_OQ)

#endif

static inline T every(S x)
{
    return WIDE(set1)(x);
}

static inline T where_greater(T x, T y, T a, T b)
{
    return WIDE(mask_blend)(COMPARE(x, y), b, a);
}

#endif
#endif
