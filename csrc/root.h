/* The square root of a vector without the divider, correctly rounded.
 *
 * A processor with two 512-bit FMA units takes the root of sixteen floats, or of eight doubles, from an estimate in
 * less time than its divider does, which is free for the division meanwhile.  The bits are those of the divider, for
 * every float and double and for any estimate y of 1 / sqrt(x) that is within 2^-14 of it, as the instruction promises:
 *
 *     g = x y                          about the root s
 *     h = y / 2                        about 1 / 2 s
 *     r = 1/2 - g h                    how far the two are off, |r| < 2^-13.9
 *     t = r + 3/2 r^2                  1 / sqrt(1 - 2 r) - 1, but for terms under 2^-39
 *     g = g + g t,  h = h + h t
 *     g = g + (x - g^2) h              float: the root.  Double, rounded down: the number at or below the root
 *     h = h + y (1/2 - g h)            double, rounded down: the number at or below 1 / 2 g
 *     g = g + (x - g^2) h              double: the root
 *
 * For float tests/c/test_root.c takes every number with every estimate.  The hardest is the largest below a power of 4:
 * its root lies just below a midpoint of two numbers, above which numbers are twice as far apart.  It is why r is
 * formed with a little less than 1/2, which leaves g at or below the root: a g above would be corrected to the
 * midpoint.
 *
 * For double, let g = s (1 + e) and h = (1 + d) / 2 s in the last line.  Before it is rounded the sum is
 * s (1 - e^2/2 - e d - ...).  It rounds as s does unless the midpoint m of two doubles lies between them.  Scaled by a
 * power of 4 so that s is in [2^52, 2^53), x is an integer X and m is n + 1/2, so that X - m^2 = X - n (n + 1) - 1/4.
 * With e in (-2^-52, 0] and |d| < 2^-51 it can only lie between them where |X - m^2| < 2 X 2^-102.8 < 32.  There are
 * few such X: 2^52 divides them, so that n solves n (n + 1) + j = 0 modulo 2^52 for a whole |j| <= 32, and is found bit
 * by bit.  The test takes all of them, and far more, with every h that may stand in the last line.
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
    const __mmask16 small = _mm512_cmp_ps_mask(x, _mm512_set1_ps(0x1p-100f), _CMP_LT_OQ);
    const __m512 scaled = _mm512_mask_mul_ps(x, small, x, _mm512_set1_ps(0x1p96f));

    __m512 y = estimate(scaled);
    __m512 g = _mm512_mul_ps(scaled, y);
    __m512 h = _mm512_mul_ps(y, _mm512_set1_ps(0.5f));
    __m512 r = _mm512_fnmadd_ps(g, h, _mm512_set1_ps(0x1.fffffep-2f));
    __m512 t = _mm512_fmadd_ps(_mm512_mul_ps(r, _mm512_set1_ps(1.5f)), r, r);
    g = _mm512_fmadd_ps(g, t, g);
    h = _mm512_fmadd_ps(h, t, h);
    g = _mm512_fmadd_ps(_mm512_fnmadd_ps(g, g, scaled), h, g);
    g = _mm512_mask_mul_ps(g, small, g, _mm512_set1_ps(0x1p-48f));
    return _mm512_fixupimm_ps(g, x, _mm512_set1_epi32(ROOT_OF_ITSELF), 0);
}

static inline __m512d last_line_of_doubles(__m512d x, __m512d g, __m512d h)
{
    return _mm512_fmadd_pd(_mm512_fnmadd_pd(g, g, x), h, g);
}

static inline __m512d root_of_doubles(__m512d x, __m512d (*estimate)(__m512d))
{
    enum { DOWN = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC };
    const __m512d half = _mm512_set1_pd(0.5);
    const __mmask8 small = _mm512_cmp_pd_mask(x, _mm512_set1_pd(0x1p-900), _CMP_LT_OQ);
    const __m512d scaled = _mm512_mask_mul_pd(x, small, x, _mm512_set1_pd(0x1p800));

    __m512d y = estimate(scaled);
    __m512d g = _mm512_mul_pd(scaled, y);
    __m512d h = _mm512_mul_pd(y, half);
    __m512d r = _mm512_fnmadd_pd(g, h, half);
    __m512d t = _mm512_fmadd_pd(_mm512_mul_pd(r, _mm512_set1_pd(1.5)), r, r);
    g = _mm512_fmadd_pd(g, t, g);
    h = _mm512_fmadd_pd(h, t, h);
    g = _mm512_fmadd_round_pd(_mm512_fnmadd_pd(g, g, scaled), h, g, DOWN);
    h = _mm512_fmadd_round_pd(_mm512_fnmadd_pd(g, h, half), y, h, DOWN);
    g = last_line_of_doubles(scaled, g, h);
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
    _Generic((x), __m512: root_of_floats, __m512d: root_of_doubles)(                                                   \
        (x), _Generic((x), __m512: estimate_of_floats, __m512d: estimate_of_doubles))

#endif
