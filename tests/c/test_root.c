/* The root without the divider has the bits of the divider's, whatever the estimate that it starts from.
 *
 *     test_root          float: every 64th mantissa with every estimate, and all near the powers of 2; double: every
 * hard number with every h that may stand in the last line, and random ones test_root every    float: all mantissas
 * with every estimate, and all 2^32 numbers with the processor's own
 *
 * Every estimate means within 2^-14, as the instruction promises.  Prints what differs and exits with 1. */
#include "float_mode.h"
#include "root.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double errors[] = {0, 0x1p-14, -0x1p-14, 0x1.8p-15, -0x1.8p-15, 0x1p-20, -0x1p-20};
static double error; /* of the estimates of doubles, relative */
static __m512 given; /* the estimates of floats */
static unsigned long long differing;

static __m512 given_estimate(__m512 x)
{
    (void)x;
    return given;
}

static __m512d disturbed_estimate(__m512d x)
{
    const __m512d one = _mm512_set1_pd(1);
    return _mm512_mul_pd(_mm512_div_pd(one, _mm512_sqrt_pd(x)), _mm512_set1_pd(1 + error));
}

static void compare_floats(__m512 x, __m512 ours)
{
    __m512 theirs = _mm512_sqrt_ps(x);
    __mmask16 other = _mm512_cmp_epi32_mask(_mm512_castps_si512(ours), _mm512_castps_si512(theirs), _MM_CMPINT_NE);
    __mmask16 no_number =
        _mm512_cmp_ps_mask(ours, ours, _CMP_UNORD_Q) & _mm512_cmp_ps_mask(theirs, theirs, _CMP_UNORD_Q);
    if ((other & ~no_number) == 0)
        return;
    float numbers[2][16];
    _mm512_storeu_ps(numbers[0], x);
    _mm512_storeu_ps(numbers[1], ours);
    if (differing++ < 10)
        printf("one of these roots is wrong: that of %a is %a\n", (double)numbers[0][0], (double)numbers[1][0]);
}

static void compare_doubles(const double *numbers, const double *ours)
{
    double theirs[8];
    _mm512_storeu_pd(theirs, _mm512_sqrt_pd(_mm512_loadu_pd(numbers)));
    for (int k = 0; k < 8; k++)
        if (memcmp(&ours[k], &theirs[k], sizeof ours[k]) != 0 && !(isnan(ours[k]) && isnan(theirs[k])))
            if (differing++ < 10)
                printf("the root of %a is %a instead of %a\n", numbers[k], ours[k], theirs[k]);
}

static void roots_of_doubles(const double *numbers)
{
    __m512d x = _mm512_loadu_pd(numbers);
    double ours[8];
    _mm512_storeu_pd(ours, root_of_doubles(x, estimate_of_doubles));
    compare_doubles(numbers, ours);
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        error = errors[e];
        _mm512_storeu_pd(ours, root_of_doubles(x, disturbed_estimate));
        compare_doubles(numbers, ours);
    }
}

static float float_of(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

static uint32_t bits_of(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static __m512 next_sixteen(uint32_t bits)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_set1_epi32((int)bits), lanes));
}

/* One float with every estimate of the inverse of its root. */
static void every_estimate(uint32_t bits)
{
    float number = float_of(bits);
    double inverse = 1 / sqrt((double)number);
    uint32_t last = bits_of((float)(inverse * (1 + 0x1p-14)));
    for (uint32_t y = bits_of((float)(inverse * (1 - 0x1p-14))); y <= last; y += 16) {
        given = next_sixteen(y);
        compare_floats(_mm512_set1_ps(number), root_of_floats(_mm512_set1_ps(number), given_estimate));
    }
}

static uint64_t random_bits(void)
{
    static uint64_t state = 1;
    uint64_t z = state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* One number, scaled by powers of 4 through the whole range. */
static void through_the_range(double x)
{
    static const int powers[8] = {0, -106, -300, -700, -904, -1000, 200, 800};
    double numbers[8];
    for (int k = 0; k < 8; k++)
        numbers[k] = ldexp(x, powers[k]);
    roots_of_doubles(numbers);
}

/* The last line for one number with every h that may be there: at or below what is within 2^-54.5 of 1 / 2 g, g being
 * the number below the root. */
static void every_last_line(double x)
{
    double numbers[8], ours[8], g = sqrt(x), h[8];
    if (fma(-g, g, x) < 0)
        g = nextafter(g, 0);
    for (int i = 0; i < 8; i++) {
        long double wanted = 0.5L / (long double)g * (1 + (i - 3) * 0x1p-56L); /* -2^-54.4 to 2^-54 and more */
        numbers[i] = x;
        h[i] = (double)wanted;
        if ((long double)h[i] > wanted)
            h[i] = nextafter(h[i], 0);
    }
    __m512d wide_x = _mm512_loadu_pd(numbers), wide_h = _mm512_loadu_pd(h);
    _mm512_storeu_pd(ours, last_line_of_doubles(wide_x, _mm512_set1_pd(g), wide_h));
    compare_doubles(numbers, ours);
}

/* Every double whose root lies nearest to the middle between two others: X = n (n + 1) + j with X of 53 bits and small
 * j, where n solves n (n + 1) + j = 0 modulo 2^52 or 2^53 and is found bit by bit. */
static int hard_doubles(int furthest)
{
    int found = 0;
    for (int shift = 52; shift <= 53; shift++)
        for (int64_t j = -furthest; j <= furthest; j += 2) /* n (n + 1) is even */
            for (uint64_t n0 = 0; n0 <= 1; n0++) {
                uint64_t n = n0;
                for (int bit = 1; bit < shift; bit++)
                    if ((n * (n + 1) + (uint64_t)j) >> bit & 1)
                        n |= (uint64_t)1 << bit;
                if (shift == 52)
                    n |= (uint64_t)1 << 52;
                if (n < (uint64_t)1 << 52)
                    continue;
                unsigned __int128 X = (unsigned __int128)n * (n + 1) + (unsigned __int128)(__int128)j;
                uint64_t mantissa = (uint64_t)(X >> shift);
                if ((unsigned __int128)mantissa << shift != X || mantissa < (uint64_t)1 << 52 || mantissa >> 53 != 0)
                    continue;
                through_the_range(ldexp((double)mantissa, shift));
                every_last_line(ldexp((double)mantissa, shift - 106));
                found++;
            }
    return found;
}

int main(int count, char **arguments)
{
    int every = count > 1 && strcmp(arguments[1], "every") == 0;
    float_mode callers = float_mode_enter(STEP);

    /* 1 to 4: all mantissas, exponents odd and even */
    for (uint32_t bits = 0x3f800000; bits < 0x40800000; bits++)
        if (every || bits % 64 == 0 || (bits + 256) % (1 << 23) < 512)
            every_estimate(bits);
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += every ? 16 : 16 * 61) {
        __m512 x = next_sixteen((uint32_t)bits);
        compare_floats(x, root_of_floats(x, estimate_of_floats));
    }

    int hard = hard_doubles(4096);
    for (int k = 0; k < (every ? 1 << 24 : 1 << 19); k++) {
        double numbers[8];
        for (int i = 0; i < 8; i++) {
            uint64_t bits = random_bits();
            memcpy(&numbers[i], &bits, sizeof bits);
        }
        roots_of_doubles(numbers);
    }
    static const double special[8] = {0.0, -0.0, INFINITY, -INFINITY, NAN, -1.0, 0x1p-1074, 0x1.fffffffffffffp1023};
    roots_of_doubles(special);

    float_mode_leave(callers);
    printf("%d hard doubles, %llu roots differ\n", hard, differing);
    return differing != 0 || hard < 1000;
}
