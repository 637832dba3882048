/* The square root of a vector without the divider, correctly rounded.
 *
 * A processor with two 512-bit FMA units takes the root of sixteen floats, or of eight doubles, from an estimate in less
 * time than its divider does, which is free for the division meanwhile.  The bits are those of the divider, for every
 * float and double and for any estimate y of 1 / sqrt(x) that is within 2^-14 of it, as the instruction promises:
 *
 *     g = x y                          about sqrt(x)
 *     h = y / 2                        about 1 / (2 sqrt(x))
 *     r = 1/2 - g h                    how far the two are off, |r| < 2^-13.9
 *     t = r + 3/2 r^2 [+ 5/2 r^3]      1 / sqrt(1 - 2 r) - 1, but for terms under 2^-40 [2^-53]
 *     g = g + g t,  h = h + h t        within one unit in the last place
 *     g = g + (x - g^2) h              correctly rounded
 *
 * The last line, for double.  Let g = s (1 + e) with s the root and h = (1 + d) / 2 s.  The residual x - g^2 is a double
 * (it has no more bits than x, for g is within a unit of s) and the FMA forms it exactly.  Before it is rounded the sum
 * is s (1 - e^2/2 - e d - ...), off by less than |e|^2/2 + |e d| < 2^-103.  It rounds as s does unless a midpoint m of two
 * doubles lies between them.  Scaled by a power of 4 so that s is in [2^52, 2^53), x is an integer X and m is n + 1/2, so
 * that X - m^2 = X - n (n + 1) - 1/4; and between them it can only lie where |X - m^2| < 2 X 2^-103 < 8.  There are few such
 * X: 2^52 divides them, so that n solves n (n + 1) = -j modulo 2^52 for a whole |j| <= 8, and n is found by lifting the
 * root of 1 - 4 j bit by bit.  tests/c/test_root.c takes them all, with the estimate off by as much as it may be; and for
 * float it takes all 2^32 numbers.
 *
 * Operands so small that the residual would be flushed are scaled; zeros, infinity and what is flushed come out of a
 * table of the instruction set's own, so that no value takes another time. */
#ifndef INSTEP_ROOT_H
#define INSTEP_ROOT_H

#include <immintrin.h>

/* For fixupimm: of a zero and of plus infinity take the operand itself, of all else what was computed. */
enum { ROOT_OF_ITSELF = 0x00100100 };

static inline __m512 root_of_floats(__m512 x, __m512 (*estimate)(__m512))
{
    const __m512 half = _mm512_set1_ps(0.5f);
    const __mmask16 small = _mm512_cmp_ps_mask(x, _mm512_set1_ps(0x1p-100f), _CMP_LT_OQ);
    const __m512 scaled = _mm512_mask_mul_ps(x, small, x, _mm512_set1_ps(0x1p96f));

    __m512 y = estimate(scaled);
    __m512 g = _mm512_mul_ps(scaled, y);
    __m512 h = _mm512_mul_ps(y, half);
    __m512 r = _mm512_fnmadd_ps(g, h, half);
    __m512 t = _mm512_fmadd_ps(_mm512_mul_ps(r, _mm512_set1_ps(1.5f)), r, r);
    g = _mm512_fmadd_ps(g, t, g);
    h = _mm512_fmadd_ps(h, t, h);
    g = _mm512_fmadd_ps(_mm512_fnmadd_ps(g, g, scaled), h, g);
    g = _mm512_mask_mul_ps(g, small, g, _mm512_set1_ps(0x1p-48f));
    return _mm512_fixupimm_ps(g, x, _mm512_set1_epi32(ROOT_OF_ITSELF), 0);
}

static inline __m512d root_of_doubles(__m512d x, __m512d (*estimate)(__m512d))
{
    const __m512d half = _mm512_set1_pd(0.5);
    const __mmask8 small = _mm512_cmp_pd_mask(x, _mm512_set1_pd(0x1p-900), _CMP_LT_OQ);
    const __m512d scaled = _mm512_mask_mul_pd(x, small, x, _mm512_set1_pd(0x1p800));

    __m512d y = estimate(scaled);
    __m512d g = _mm512_mul_pd(scaled, y);
    __m512d h = _mm512_mul_pd(y, half);
    __m512d r = _mm512_fnmadd_pd(g, h, half);
    __m512d t = _mm512_fmadd_pd(_mm512_set1_pd(2.5), r, _mm512_set1_pd(1.5));
    t = _mm512_mul_pd(_mm512_fmadd_pd(t, r, _mm512_set1_pd(1)), r);
    g = _mm512_fmadd_pd(g, t, g);
    h = _mm512_fmadd_pd(h, t, h);
    g = _mm512_fmadd_pd(_mm512_fnmadd_pd(g, g, scaled), h, g);
    g = _mm512_mask_mul_pd(g, small, g, _mm512_set1_pd(0x1p-400));
    return _mm512_fixupimm_pd(g, x, _mm512_set1_epi64(ROOT_OF_ITSELF), 0);
}

static inline __m512 estimate_of_floats(__m512 x)
{
    return _mm512_rsqrt14_ps(x);
}

static inline __m512d estimate_of_doubles(__m512d x)
{
    return _mm512_rsqrt14_pd(x);
}

#define root(x)                                                                                                        \
    _Generic((x),                                                                                                      \
        __m512: root_of_floats,                                                                                        \
        __m512d: root_of_doubles)((x), _Generic((x), __m512: estimate_of_floats, __m512d: estimate_of_doubles))

#endif
