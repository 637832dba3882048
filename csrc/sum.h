/* A sum that has the same bits whatever the order of its terms, and whatever threads they come from: exact, and rounded
 * once, at the end.  `math.fsum` is the same in Python.
 *
 * It is a fixed-point number as wide as double reaches, in limbs of 32 bits that are kept in 64, so that 2^30 terms fit
 * before a carry.  Terms are 0 or greater; infinities and NaNs are counted. */
#ifndef INSTEP_SUM_H
#define INSTEP_SUM_H

#include "instep.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { SUM_INFINITIES = INSTEP_LIMBS - 2, SUM_NANS = INSTEP_LIMBS - 1 };

struct sum {
    int64_t limb[INSTEP_LIMBS];
};

/* What is not a normal number counts as 0, as it does in the mode of a step. */
static inline void sum_add(struct sum *sum, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    unsigned exponent = (unsigned)(bits >> 52) & 0x7ff;
    if (exponent == 0x7ff) {
        sum->limb[bits << 12 ? SUM_NANS : SUM_INFINITIES] += 1;
        return;
    }
    if (exponent == 0)
        return;
    uint64_t digits = (bits & 0xfffffffffffff) | 0x10000000000000; /* times 2^(exponent - 1 - 1074) */
    int64_t *limb = &sum->limb[(exponent - 1) / 32];
    unsigned shift = (exponent - 1) % 32;
    uint64_t low = (digits & 0xffffffff) << shift, high = (digits >> 32) << shift;
    limb[0] += (int64_t)(low & 0xffffffff);
    limb[1] += (int64_t)((low >> 32) + (high & 0xffffffff));
    limb[2] += (int64_t)(high >> 32);
}

/* Adds one sum to another, to which other threads may be adding theirs. */
static inline void sum_merge(int64_t *into, const struct sum *sum)
{
    for (int k = 0; k < INSTEP_LIMBS; k++)
        if (sum->limb[k] != 0)
            atomic_fetch_add_explicit((_Atomic int64_t *)&into[k], sum->limb[k], memory_order_relaxed);
}

/* The sum, rounded to nearest; in IEEE mode. */
static inline double sum_value(const int64_t *sum)
{
    uint32_t limb[SUM_INFINITIES];
    int64_t carry = 0;
    int top = 0, sticky = 0;

    if (sum[SUM_NANS] != 0)
        return NAN;
    if (sum[SUM_INFINITIES] != 0)
        return INFINITY;
    for (int k = 0; k < SUM_INFINITIES; k++) {
        carry += sum[k];
        limb[k] = (uint32_t)carry;
        carry >>= 32;
        if (limb[k] != 0)
            top = k;
    }
    if (carry != 0) /* more than the limbs hold, and than any double */
        return INFINITY;
    if (top < 2) /* less than the square of any normal number is after rounding */
        top = 2;
    uint64_t high = (uint64_t)limb[top] << 32 | limb[top - 1], low = (uint64_t)limb[top - 2] << 32;
    int exponent = 32 * (top - 1) - 1074;
    for (int k = 0; k < top - 2; k++)
        sticky |= limb[k] != 0;
    if (high == 0)
        return 0;
    while (high >> 63 == 0) {
        high = high << 1 | low >> 63;
        low <<= 1;
        exponent--;
    }
    sticky |= low != 0;
    uint64_t digits = high >> 11, rest = high & 0x7ff;
    digits += rest > 0x400 || (rest == 0x400 && (sticky || digits & 1));
    return ldexp((double)digits, exponent + 11);
}

#endif
