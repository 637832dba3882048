/* What csrc/instep.h promises of a step, in plain loops: formats and their rounding, clipping, skipping, the rule, the
 * average, sums, rows and groups.
 *
 * It shares nothing with csrc/ but the association of each sum and product and the mode of the arithmetic, in which
 * subnormal numbers count as 0.  Where csrc/ computes with bits, it computes with numbers: what lies below a value, how
 * far above that it is.  Build with -ffp-contract=off. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "float_mode.h"
#include "instep.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

/* Of all rules. */
/* clang-format off */
#define EVERY_OPTION(DO) \
    DO(lr) DO(rho) DO(beta1) DO(beta2) DO(eps) DO(eps_root) DO(eps_inside) DO(eps_hat) DO(momentum) DO(nesterov) \
    DO(lr_in_momentum) DO(dampening) DO(dampen_first) DO(centered) DO(bias_correction) DO(amsgrad) \
    DO(amsgrad_corrected) DO(lr_decay) DO(eta_minus) DO(eta_plus) DO(step_min) DO(step_max) DO(weight_decay) \
    DO(decoupled_weight_decay) DO(maximize) DO(grad_scale) DO(clip_value) DO(clip_norm) DO(clip_global_norm) \
    DO(skip_nonfinite) DO(grow_every) DO(statistics) DO(zero_grads) DO(average_decay) DO(exact_rows) \
    DO(seed)
/* clang-format on */

struct options {
    const char *rule;
#define FIELD(name) double name;
    EVERY_OPTION(FIELD)
#undef FIELD
};

/* Those of one rule; the others are 0. */
static struct options options_of(const instep_optimizer *optimizer)
{
    struct options options = {.rule = instep_rule_name(optimizer->rule)};
#define READ(name) instep_get(optimizer, #name, &options.name);
    EVERY_OPTION(READ)
#undef READ
    return options;
}

/* x^t in multiplications alone, by squaring. */
static double power_of(double x, int64_t t)
{
    double power = 1;
    for (; t > 0; t /= 2, x *= x)
        if (t % 2 == 1)
            power *= x;
    return power;
}

/* ---- random numbers --------------------------------------------------------------------------------------------- */

enum { BLOCK = 256, OF_PARAM = 0, OF_STATES = 1 };

static uint64_t split_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* What the 16 bits for an element depend on: nothing else. */
struct source {
    uint64_t seed, stream, step;
    unsigned place;
};

static unsigned random_at(const struct source *source, size_t i)
{
    if (source == NULL) /* cut off */
        return 0;
    uint64_t step = split_mix(split_mix(split_mix(source->seed) ^ source->stream) ^ source->step);
    uint64_t of_block = split_mix(step ^ (i / BLOCK * 8 + source->place));
    uint32_t a = (uint32_t)of_block, b = (uint32_t)(of_block >> 32);
    return (a + b * (uint32_t)(i % BLOCK)) >> 16;
}

/* ---- formats ---------------------------------------------------------------------------------------------------- */

/* Whether what lies this far above a number goes to the next one, which is `digit` above. */
static bool goes_up(double above, double digit, unsigned random)
{
    return floor(above / digit * 65536) + random >= 65536;
}

static double rounded(double size, double digit, unsigned random)
{
    double below = floor(size / digit) * digit;
    return goes_up(size - below, digit, random) ? below + digit : below;
}

/* To the nearest, the even one of two that are as near. */
static double nearest(double size, double digit)
{
    double digits = floor(size / digit), above = size / digit - digits;
    return (digits + (above > 0.5 || (above == 0.5 && fmod(digits, 2) != 0))) * digit;
}

/* By what numbers of this size differ if they have so many binary digits behind the first, and are not smaller than
 * 2^least. */
static double digit_of(double size, int digits, int least)
{
    int exponent;
    frexp(size, &exponent);
    return ldexp(1.0, (exponent - 1 > least ? exponent - 1 : least) - digits);
}

static uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float of_bfloat16(uint16_t stored)
{
    return float_of_bits((uint32_t)stored << 16);
}

static uint16_t bfloat16_of(float x, unsigned random)
{
    if (isfinite(x)) {
        double size = rounded(fabs((double)x), digit_of(x, 7, -126), random);
        x = (float)copysign(size > 0x1.fep127 ? 0x1.fep127 : size, (double)x);
    }
    return isnan(x) ? 0x7fc0 : (uint16_t)(bits_of_float(x) >> 16);
}

static uint16_t nearest_bfloat16_of(float x)
{
    double size = isfinite(x) ? nearest(fabs((double)x), digit_of(x, 7, -126)) : 0;
    if (isfinite(x) && size < 0x1p128)
        return bfloat16_of((float)copysign(size, (double)x), 0);
    return isnan(x) ? 0x7fc0 : signbit(x) ? 0xff80 : 0x7f80;
}

static float of_half(uint16_t stored)
{
    int exponent = stored >> 10 & 31, digits = stored & 1023;
    double size = exponent == 0 ? ldexp((double)digits, -24) : ldexp((double)(1024 + digits), exponent - 25);
    if (exponent == 31)
        size = digits == 0 ? INFINITY : NAN;
    return (float)(stored >> 15 ? -size : size);
}

static uint16_t half_of(float x, unsigned random)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    double size = fabs((double)x);
    int exponent;

    if (isnan(x))
        return 0x7e00;
    if (size >= 65536)
        return sign | 0x7c00;
    size = rounded(size, digit_of(size, 10, -14), random);
    if (size > 65504)
        size = 65504;
    if (size < 0x1p-14)
        return sign | (uint16_t)(size * 0x1p24);
    frexp(size, &exponent);
    return (uint16_t)(sign | (exponent + 14) << 10 | ((int)ldexp(size, 11 - exponent) - 1024));
}

static uint16_t nearest_half_of(float x)
{
    double size = isnan(x) || fabs((double)x) >= 65536 ? fabs((double)x)
                                                       : nearest(fabs((double)x), digit_of(fabs((double)x), 10, -14));
    return half_of((float)copysign(size, (double)x), 0);
}

static float of_split(uint16_t high, uint16_t low)
{
    return float_of_bits(((uint32_t)high << 16) + (uint32_t)(low < 0x8000 ? low : low - 0x10000));
}

/* The upper half is the nearest bfloat16, the one further from 0 where two are as near. */
static void split_of(float x, uint16_t *high, uint16_t *low)
{
    uint32_t bits = bits_of_float(x), rest = isnan(x) ? 0 : bits % 65536;
    *high = (uint16_t)(bits / 65536 + (rest >= 0x8000));
    *low = (uint16_t)rest;
}

/* How far codes reach below the exponent of a block, and the last that is a finite number. */
struct codes {
    int reach, last;
};

static struct codes codes_of(int format)
{
    return format == INSTEP_BYTE ? (struct codes){31, 253} : (struct codes){15, 125};
}

static double value_of_code(struct codes codes, int code, int exponent)
{
    if (code > codes.last)
        return code == codes.last + 1 ? INFINITY : NAN;
    return code == 0 ? 0 : ldexp(1 + (code - 1) % 8 / 8.0, exponent - codes.reach + (code - 1) / 8 - 127);
}

static float of_byte(int format, uint8_t stored, int exponent)
{
    bool has_sign = format == INSTEP_SIGNED_BYTE;
    double size = value_of_code(codes_of(format), has_sign ? stored & 127 : stored, exponent);
    return (float)(has_sign && stored >> 7 ? -size : size);
}

/* The smallest exponent whose codes reach up to all finite numbers. */
static int exponent_of(struct codes codes, const float *x, size_t n)
{
    int exponent = codes.reach + 1;
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]) && fabs((double)x[i]) > largest)
            largest = fabs((double)x[i]);
    while (exponent < 255 && value_of_code(codes, codes.last, exponent) < largest)
        exponent++;
    return exponent;
}

/* `values` are those of the codes, ascending. */
static int code_of(struct codes codes, const double *values, bool has_sign, double size, unsigned random)
{
    int code = 0, end = codes.last + 1;
    if (!isfinite(size))
        return isnan(size) ? codes.last + 2 : codes.last + 1;
    while (end - code > 1) {
        int middle = (code + end) / 2;
        if (values[middle] <= size)
            code = middle;
        else
            end = middle;
    }
    if (code == 0 && !has_sign)
        return size > 0;
    double above = code == codes.last ? INFINITY : values[code + 1];
    return code + (above <= FLT_MAX && goes_up(size - values[code], above - values[code], random));
}

/* The bytes of a block, and their exponent. */
static int bytes_of(int format, const float *x, size_t n, const struct source *source, size_t first, uint8_t *bytes)
{
    const struct codes codes = codes_of(format);
    const bool has_sign = format == INSTEP_SIGNED_BYTE;
    const int exponent = exponent_of(codes, x, n);
    double values[256];

    for (int code = 0; code <= codes.last; code++)
        values[code] = value_of_code(codes, code, exponent);
    for (size_t i = 0; i < n; i++) {
        int code = code_of(codes, values, has_sign, fabs((double)x[i]), random_at(source, first + i));
        bytes[i] = (uint8_t)(code | (has_sign && signbit(x[i]) ? 128 : 0));
    }
    return exponent;
}

static size_t width_of(int format, size_t computed)
{
    switch (format) {
    case INSTEP_AS_COMPUTED:
        return computed;
    case INSTEP_FLOAT:
        return sizeof(float);
    case INSTEP_BYTE:
    case INSTEP_SIGNED_BYTE:
        return 1;
    default:
        return sizeof(uint16_t);
    }
}

/* How many bytes an array of so many elements has. */
static size_t bytes_in(int format, size_t computed, size_t size)
{
    bool has_exponents = format == INSTEP_BYTE || format == INSTEP_SIGNED_BYTE;
    return size * width_of(format, computed) + (has_exponents ? (size + BLOCK - 1) / BLOCK : 0);
}

/* ---- sums ------------------------------------------------------------------------------------------------------- */

/* Numbers that do not overlap and whose sum is exact (Shewchuk, 1997), as in Python's fsum. */
struct exact {
    double part[2200]; /* no two of them have a bit of the same weight */
    int parts;
    double not_finite;
};

static void add_exactly(struct exact *sum, double x)
{
    int kept = 0;
    if (!isfinite(x)) {
        sum->not_finite += x;
        return;
    }
    for (int k = 0; k < sum->parts; k++) {
        double y = sum->part[k], larger = fabs(x) < fabs(y) ? y : x, smaller = fabs(x) < fabs(y) ? x : y;
        double high = larger + smaller, low = smaller - (high - larger);
        if (low != 0)
            sum->part[kept++] = low;
        x = high;
    }
    if (!isfinite(x))
        sum->not_finite = INFINITY;
    if (x != 0)
        sum->part[kept++] = x;
    sum->parts = kept;
}

static double value_of_sum(const struct exact *sum)
{
    double high = 0, low = 0;
    int k = sum->parts;

    if (sum->not_finite != 0)
        return sum->not_finite;
    while (k > 0 && low == 0) {
        double x = high, y = sum->part[--k];
        high = x + y;
        low = y - (high - x);
    }
    /* half way between two numbers: what is left decides */
    if (k > 0 && ((low < 0) == (sum->part[k - 1] < 0)) && low != 0) {
        double y = low * 2, x = high + y;
        if (y == x - high)
            high = x;
    }
    return high;
}

static double norm_of(const struct exact *squares, double grad_scale)
{
    return grad_scale * sqrt(value_of_sum(squares));
}

/* ---- one array -------------------------------------------------------------------------------------------------- */

static void *some(size_t size)
{
    void *memory = calloc(size + 1, 1);
    if (memory == NULL) {
        fputs("no memory\n", stderr);
        abort();
    }
    return memory;
}

static size_t computed_in(const instep_array *array)
{
    return array->dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
}

/* Which elements a gradient is of: runs that begin so and have so many. */
static size_t runs_of(const instep_array *array)
{
    return array->rows == NULL ? array->size != 0 : array->row_count;
}

static size_t elements_of_run(const instep_array *array)
{
    return array->rows == NULL ? array->size : array->row_size;
}

static size_t begin_of_run(const instep_array *array, size_t run)
{
    return array->rows == NULL ? 0 : (size_t)array->rows[run] * array->row_size;
}

/* How many elements of a gradient are summed as one: those of a block, or of the rows that fit into one. */
static size_t summed_together(const instep_array *array)
{
    return array->rows == NULL || array->row_size > BLOCK ? BLOCK : BLOCK / array->row_size * array->row_size;
}

#define T float
#define NAME(name) name##_f32
#include "reference_rules.h"
#include "reference_array.h"
#undef T
#undef NAME

#define T double
#define NAME(name) name##_f64
#include "reference_rules.h"
#include "reference_array.h"
#undef T
#undef NAME

/* ---- the step --------------------------------------------------------------------------------------------------- */

/* Whether the step is taken; `norm` is that of all gradients. */
static bool measure(instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count, double *norm)
{
    const struct options o = options_of(optimizers);
    struct exact all = {.parts = 0};
    bool measured = o.statistics != 0 || o.clip_global_norm != 0 || o.skip_nonfinite != 0 || o.grow_every != 0;

    for (size_t g = 0; g < groups; g++)
        measured |= options_of(&optimizers[g]).clip_norm != 0;
    if (!measured)
        return true;
    for (size_t k = 0; k < count; k++) {
        struct exact own = {.parts = 0};
        if (arrays[k].norms != NULL)
            memset(arrays[k].norms, 0, sizeof *arrays[k].norms);
        if (arrays[k].grad == NULL)
            continue;
        if (arrays[k].dtype == INSTEP_FLOAT32) {
            add_squares_f32(&arrays[k], &own);
            add_squares_f32(&arrays[k], &all);
        } else {
            add_squares_f64(&arrays[k], &own);
            add_squares_f64(&arrays[k], &all);
        }
        if (arrays[k].norms != NULL)
            arrays[k].norms->grad = norm_of(&own, o.grad_scale);
    }
    *norm = optimizers->grad_norm = norm_of(&all, o.grad_scale);
    bool is_finite = isfinite(*norm);
    for (size_t k = 0; k < count; k++) /* of which one may not be any more, scaled up */
        if (arrays[k].grad != NULL && arrays[k].dtype == INSTEP_FLOAT32 && o.grad_scale > 1 && *norm >= 0x1p127)
            is_finite = false;
    bool taken = is_finite || (o.skip_nonfinite == 0 && o.grow_every == 0);
    optimizers->skipped_count += !taken;
    optimizers->finite_count = taken ? optimizers->finite_count + 1 : 0;
    return taken;
}

static double clipped_to(double bound, double norm)
{
    return bound != 0 && norm > bound ? bound / norm : 1;
}

/* instep_step_groups, of what it takes. */
static void reference_step(instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count)
{
    const struct options first = options_of(optimizers);
    double norm = 0, scale = first.grad_scale;
    bool taken = measure(optimizers, groups, arrays, count, &norm);

    for (size_t k = 0; k < count; k++) {
        instep_array *array = &arrays[k];
        if (array->grad == NULL)
            continue;
        if (taken) {
            const instep_optimizer *own = &optimizers[array->group];
            const struct options o = options_of(own);
            size_t states = instep_state_count(own) - (o.average_decay != 0);
            double clip = clipped_to(first.clip_global_norm, norm);
            if (o.clip_norm != 0)
                clip = clipped_to(o.clip_norm, array->norms->grad);
            array->step_count++;
            if (array->dtype == INSTEP_FLOAT32)
                step_array_f32(&o, array, states, clip);
            else
                step_array_f64(&o, array, states, clip);
        } else if (options_of(&optimizers[array->group]).zero_grads != 0) {
            size_t size = runs_of(array) * elements_of_run(array);
            memset((void *)array->grad, 0, size * width_of(array->formats.grad, computed_in(array)));
        }
    }
    if (taken)
        for (size_t g = groups; g-- > 0;)
            optimizers[g].step_count = optimizers->step_count + 1;
    if (first.grow_every != 0 && !taken && scale < 0x1p100)
        scale *= 2;
    if (first.grow_every != 0 && taken && (double)optimizers->finite_count >= first.grow_every) {
        optimizers->finite_count = 0;
        scale = scale > 0x1p-100 ? scale / 2 : scale;
    }
    for (size_t g = 0; g < groups; g++)
        instep_set(&optimizers[g], "grad_scale", scale);
}

#endif
