/* Floats in fewer bits: reading them is exact, writing them rounds stochastically, but for a copy of a parameter.
 *
 * Rounded up or down with a probability by how near either is, a value is right on the average, and an average of
 * squares that grows by less than half a bit a step still grows.  Rounded to the nearest it would stand still for ever,
 * so that is to be had only for a copy, which no step goes on from.  A value is rounded up where what is cut off of it,
 * in 2^-16 of a digit, and the random number reach 2^16 together.  That of element i of a block is the upper half of
 *
 *     a + b i  modulo 2^32
 *
 * with a and b the halves of a hash of seed, stream, step, place and block (random_of): any two are independent, and
 * none depends on threads or on where a step was cut.
 *
 * All of it is done on the bits, in integers of 32: loops over these become vectors with any instruction set.  Bits are
 * compared signed, for which there are instructions.  What is written is the result of arithmetic, whose NaNs are
 * quiet: they remain NaNs where their digits are cut off. */
#ifndef INSTEP_STORAGE_H
#define INSTEP_STORAGE_H

#include "instep.h"

#include <string.h>

enum {
    INFINITE = 0x7f800000,
    LARGEST_FLOAT = 0x7f7fffff,
    LARGEST_BFLOAT16 = 0x7f7f,
    QUIET = 0x00400000,
    MAGNITUDE = 0x7fffffff,
    /* half precision */
    HALF_INFINITE = 0x7c00,
    HALF_QUIET = 0x0200,
    LARGEST_HALF = 0x477fe000,         /* 65504 */
    HALF_OVERFLOWS = 0x47800000,       /* 2^16 */
    SMALLEST_NORMAL_HALF = 0x38800000, /* 2^-14 */
    HALF_BIAS = 112 << 23,             /* what the exponents of float and half differ by */
    /* bytes */
    BYTE_DIGIT = 1 << 20 /* what two codes differ by, among the bits of a float */
};

static inline int32_t bits_of(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int32_t lesser(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t greater(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* ---- random numbers --------------------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea and Flood, 2014): the number after x. */
static inline uint64_t hashed(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* Of an array's t-th step. */
static inline uint64_t random_of_step(uint64_t seed, uint64_t stream, uint64_t t)
{
    return hashed(hashed(hashed(seed) ^ stream) ^ t);
}

/* Of a block: the number of the first element from here on, and how much further that of each next one is. */
struct random {
    uint32_t next, step;
};

/* From element `first` of a block on; place 0 is the parameter, and 1 the first of the states. */
static inline struct random random_of(uint64_t step, uint64_t block, unsigned place, size_t first)
{
    uint64_t hash = hashed(step ^ (block * 8 + place));
    uint32_t a = (uint32_t)hash, b = (uint32_t)(hash >> 32);
    return (struct random){a + b * (uint32_t)first, b};
}

/* How many elements are rounded side by side: as many as fill a vector with 16 bits of each, or more. */
#if defined __AVX512F__
enum { ABREAST = 32 };
#else
enum { ABREAST = 16 };
#endif

/* How much further than that of the first the numbers of these are.  Formed once a block, it leaves a sum an element,
 * in 32 bits from the start, as vectors like it.  A product for each would take longer, and so would a running sum,
 * whose first vector compilers form lane by lane. */
struct spread {
    uint32_t of[ABREAST];
};

static inline struct spread spread_of(struct random random)
{
    struct spread spread;
    for (uint32_t k = 0; k < ABREAST; k++)
        spread.of[k] = k * random.step;
    return spread;
}

/* 16 bits, for an element so much further. */
static inline int32_t random_bits(struct random random, uint32_t further)
{
    return (int32_t)((random.next + further) >> 16);
}

static inline struct random random_after(struct random random, uint32_t elements)
{
    return (struct random){random.next + elements * random.step, random.step};
}

/* ---- bfloat16: the upper half of a float ------------------------------------------------------------------------ */

static inline float from_bfloat16(uint16_t stored)
{
    return float_of((int32_t)((uint32_t)stored << 16));
}

/* A finite number stays finite: what has the largest upper half is cut off, and so are infinity and NaN. */
static inline uint16_t to_bfloat16(float x, int32_t random)
{
    int32_t bits = bits_of(x);
    int32_t digits = (bits & MAGNITUDE) < LARGEST_BFLOAT16 << 16 ? random : 0;
    return (uint16_t)(((uint32_t)bits + (uint32_t)digits) >> 16);
}

/* To the nearest, the even one of two that are as near; for a NaN see to_split. */
static inline uint16_t nearest_bfloat16(float x)
{
    uint32_t bits = (uint32_t)bits_of(x);
    uint32_t half = (int32_t)(bits & MAGNITUDE) > INFINITE ? 0 : 0x7fff + (bits >> 16 & 1);
    return (uint16_t)((bits + half) >> 16);
}

/* ---- a float in two halves: the upper one rounded to nearest, the lower one what that is off by ----------------- */

static inline float from_split(uint16_t high, uint16_t low)
{
    return float_of((int32_t)(((uint32_t)high << 16) + (uint32_t)(int32_t)(int16_t)low));
}

static inline void to_split(float x, uint16_t *high, uint16_t *low)
{
    uint32_t bits = (uint32_t)bits_of(x);
    /* the lower half of a NaN is dropped, for it might round up past the sign */
    bits &= (int32_t)(bits & MAGNITUDE) > INFINITE ? 0xffff0000 : 0xffffffff;
    *high = (uint16_t)((bits + 0x8000) >> 16);
    *low = (uint16_t)bits;
}

/* ---- IEEE half precision ---------------------------------------------------------------------------------------- */

static inline float from_half(uint16_t stored)
{
    int32_t size = (stored & 0x7fff) << 13, sign = (int32_t)((uint32_t)(stored & 0x8000) << 16);
    int32_t normal = size + HALF_BIAS;
    normal += size >= HALF_INFINITE << 13 ? HALF_BIAS : 0;
    /* one that is subnormal as a half: its digits below those of 2^-14, which is taken away again */
    int32_t small = bits_of(float_of(size + SMALLEST_NORMAL_HALF) - float_of(SMALLEST_NORMAL_HALF));
    return float_of((size < 0x400 << 13 ? small : normal) | sign);
}

/* The half for a float of these bits, whose size is that of a normal half or of a subnormal one. */
static inline uint16_t half_of_size(int32_t bits, int32_t normal, int32_t small)
{
    int32_t size = bits & MAGNITUDE, rounded = size < SMALLEST_NORMAL_HALF ? small : normal;
    rounded |= size > INFINITE ? HALF_QUIET : 0;
    return (uint16_t)(((uint32_t)rounded << 16 | ((uint32_t)bits & 0x80000000)) >> 16);
}

/* From 2^16 on it is infinite, as in any conversion; below it stays finite. */
static inline uint16_t to_half(float x, int32_t random)
{
    int32_t bits = bits_of(x), size = bits & MAGNITUDE;
    int32_t digits = size < LARGEST_HALF ? random >> 3 : 0;
    int32_t normal = (lesser(size + digits, HALF_OVERFLOWS) - HALF_BIAS) >> 13;
    /* one that is subnormal as a half: in 2^-16 of the last digit */
    int32_t small = ((int32_t)(float_of(lesser(size, SMALLEST_NORMAL_HALF)) * 0x1p40f) + random) >> 16;
    return half_of_size(bits, normal, small);
}

/* To the nearest, the even one of two that are as near. */
static inline uint16_t nearest_half(float x)
{
    int32_t bits = bits_of(x), size = lesser(bits & MAGNITUDE, HALF_OVERFLOWS);
    int32_t normal = (size - HALF_BIAS + 0xfff + (size >> 13 & 1)) >> 13;
    /* one that is subnormal as a half: its last digit is that of a float from 1/2 on, to which a sum is rounded */
    int32_t small = bits_of(float_of(lesser(size, SMALLEST_NORMAL_HALF)) + 0.5f) - bits_of(0.5f);
    return half_of_size(bits, normal, small);
}

/* ---- bytes: three digits and an exponent relative to the block's ---------------------------------------------------
 *
 * A code c from 1 on is the float whose bits are those of 2^(E - R) plus (c - 1) 2^20, E being the block's exponent, a
 * byte of its own, and R how far the codes reach below it.  Code 0 is 0, the last two are infinity and NaN, so that
 * either stays in its element.  Without a sign a positive number never becomes 0: it may be a denominator. */

struct byte_format {
    int32_t reach, last; /* R, and the code of the largest finite number */
    int32_t is_signed;
};

static inline struct byte_format byte_format(int format)
{
    return format == INSTEP_BYTE ? (struct byte_format){31, 253, 0} : (struct byte_format){15, 125, 1};
}

/* The bits of code 1. */
static inline int32_t byte_base(struct byte_format f, uint8_t exponent)
{
    return (int32_t)(exponent - f.reach) * (1 << 23);
}

/* The smallest exponent whose codes reach up to this size, that of the largest finite number of a block. */
static inline uint8_t byte_exponent(struct byte_format f, int32_t largest)
{
    int32_t exponent = (largest + (4 << 20) - 1) >> 23;
    return (uint8_t)greater(lesser(exponent, 255), f.reach + 1);
}

static inline int32_t byte_code(struct byte_format f, int32_t stored)
{
    return f.is_signed ? stored & 0x7f : stored;
}

/* Its sign as that of a float, and the other way round. */
static inline int32_t sign_of_byte(struct byte_format f, int32_t stored)
{
    return f.is_signed ? (int32_t)((uint32_t)(stored & 0x80) << 24) : 0;
}

static inline int32_t sign_for_byte(struct byte_format f, int32_t bits)
{
    return f.is_signed ? (int32_t)((uint32_t)bits >> 24 & 0x80) : 0;
}

/* Of a finite number.  Hardly a block has others, so that they have functions of their own. */
static inline float from_byte(struct byte_format f, int32_t stored, int32_t base)
{
    int32_t code = byte_code(f, stored), bits = base - BYTE_DIGIT + code * BYTE_DIGIT;
    bits = code == 0 ? 0 : bits;
    return float_of(bits | sign_of_byte(f, stored));
}

static inline float from_any_byte(struct byte_format f, int32_t stored, int32_t base)
{
    int32_t code = byte_code(f, stored), other = (INFINITE + (code - f.last - 1) * QUIET) | sign_of_byte(f, stored);
    return float_of(code > f.last ? other : bits_of(from_byte(f, stored, base)));
}

/* The code of a finite number; `limit` is that of the largest float. */
static inline int32_t to_byte(struct byte_format f, float x, int32_t base, int32_t limit, int32_t random)
{
    int32_t bits = bits_of(x), size = bits & MAGNITUDE, digits = random * (BYTE_DIGIT >> 16);
    int32_t code = lesser((int32_t)((uint32_t)size + (uint32_t)digits - (uint32_t)(base - BYTE_DIGIT)) >> 20, limit);
    if (f.is_signed) {
        /* below code 1: the size relative to it, in 2^-16 */
        float one = float_of((254 << 23) - base); /* its reciprocal */
        int32_t below = (int32_t)(float_of(lesser(size, base)) * one * 65536.0f);
        code = size < base ? (below + random) >> 16 : code;
    } else {
        code = greater(code, lesser(size, 1));
    }
    return code | sign_for_byte(f, bits);
}

static inline int32_t to_any_byte(struct byte_format f, float x, int32_t base, int32_t limit, int32_t random)
{
    int32_t bits = bits_of(x), size = bits & MAGNITUDE, other = size > INFINITE ? f.last + 2 : f.last + 1;
    return size < INFINITE ? to_byte(f, x, base, limit, random) : other | sign_for_byte(f, bits);
}

#endif
