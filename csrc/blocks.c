/* One block of an array after the other through its stages: gradient in, rule, parameter and states out, and what else
 * is to be done while they are in the first cache.
 *
 * CMake compiles this file as it does kernels.c, once for each instruction set and type, with the same definitions. */
#include "blocks.h"
#include "storage.h"

#if defined __FAST_MATH__ || FLT_EVAL_METHOD != 0
#error "the bits of a step are a promise: build without -ffast-math, with arithmetic in the type of the operands"
#endif

typedef INSTEP_TYPE S;
#if defined _MSC_VER && !defined __clang__
#define ANY_ALIGNMENT __unaligned
#else
#define ANY_ALIGNMENT __attribute__((aligned(1), may_alias))
#endif
typedef ANY_ALIGNMENT INSTEP_TYPE stored;
typedef ANY_ALIGNMENT uint16_t stored16;
typedef ANY_ALIGNMENT float stored_float;

enum { IS_FLOAT = sizeof(S) == sizeof(float) };

/* Where the exponents of a state of bytes begin: behind the bytes of all elements. */
static uint8_t *exponents_of(const instep_array *array, const void *state)
{
    return (uint8_t *)state + array->size;
}

/* n numbers that are stored in a format of 16 bits or 32. */
static void read_numbers(const void *from, int format, size_t n, S *to)
{
    switch (format) {
    case INSTEP_BFLOAT16:
        for (size_t i = 0; i < n; i++)
            to[i] = from_bfloat16(((const stored16 *)from)[i]);
        break;
    case INSTEP_FLOAT16:
        for (size_t i = 0; i < n; i++)
            to[i] = from_half(((const stored16 *)from)[i]);
        break;
    case INSTEP_FLOAT:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const stored_float *)from)[i];
        break;
    default:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const stored *)from)[i];
    }
}

static void write_numbers(void *to, int format, size_t n, const stored *from, struct random random, size_t first)
{
    if (format == INSTEP_BFLOAT16)
        for (size_t i = 0; i < n; i++)
            ((stored16 *)to)[i] = to_bfloat16((float)from[i], random_bits(random, first + i));
    else
        for (size_t i = 0; i < n; i++)
            ((stored16 *)to)[i] = to_half((float)from[i], random_bits(random, first + i));
}

/* With the format a constant, as it is where these are called. */
static inline void bytes_to_numbers(const uint8_t *from, const struct byte_format f, uint8_t exponent, size_t n, S *to)
{
    const int32_t base = byte_base(f, exponent);
    for (size_t i = 0; i < n; i++)
        to[i] = from_byte(f, from[i], base);
}

static inline uint8_t numbers_to_bytes(uint8_t *to, const struct byte_format f, size_t n, const stored *from,
                                       struct random random)
{
    int32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t size = bits_of((float)from[i]) & MAGNITUDE;
        largest = greater(largest, size < INFINITE ? size : 0);
    }
    uint8_t exponent = byte_exponent(f, largest);
    const int32_t base = byte_base(f, exponent);
    for (size_t i = 0; i < n; i++)
        to[i] = to_byte(f, (float)from[i], base, random_bits(random, i));
    return exponent;
}

static void read_bytes(const uint8_t *from, int format, uint8_t exponent, size_t n, S *to)
{
    if (format == INSTEP_BYTE)
        bytes_to_numbers(from, byte_format(INSTEP_BYTE), exponent, n, to);
    else
        bytes_to_numbers(from, byte_format(INSTEP_SIGNED_BYTE), exponent, n, to);
}

static uint8_t write_bytes(uint8_t *to, int format, size_t n, const stored *from, struct random random)
{
    return format == INSTEP_BYTE ? numbers_to_bytes(to, byte_format(INSTEP_BYTE), n, from, random)
                                 : numbers_to_bytes(to, byte_format(INSTEP_SIGNED_BYTE), n, from, random);
}

/* The gradient of a block, scaled and clipped where that is not left to the rule. */
static const void *arriving(const struct around *around, const void *grad, int format, size_t n, S *room)
{
    if (format == INSTEP_AS_COMPUTED && around->clip == 0)
        return grad;
    read_numbers(grad, format, n, room);
    if (around->clip != 0) {
        const S scale = (S)around->scale, most = (S)around->clip;
        for (size_t i = 0; i < n; i++) {
            S g = scale * room[i];
            g = g > most ? most : g;
            room[i] = -most > g ? -most : g;
        }
    }
    return room;
}

static void *opened_param(const instep_array *array, size_t i, size_t n, S *room)
{
    switch (array->formats.param) {
    case INSTEP_AS_COMPUTED:
        return (stored *)array->param + i;
    case INSTEP_SPLIT:
        for (size_t k = 0; k < n; k++)
            room[k] = from_split(((const stored16 *)array->param + i)[k], ((const stored16 *)array->low + i)[k]);
        return room;
    default:
        read_numbers((const uint16_t *)array->param + i, array->formats.param, n, room);
        return room;
    }
}

static void close_param(const instep_array *array, size_t i, size_t n, const stored *p, uint64_t random)
{
    switch (array->formats.param) {
    case INSTEP_AS_COMPUTED:
        break;
    case INSTEP_SPLIT:
        for (size_t k = 0; k < n; k++) {
            uint16_t high, low;
            to_split((float)p[k], &high, &low);
            ((stored16 *)array->param + i)[k] = high;
            ((stored16 *)array->low + i)[k] = low;
        }
        break;
    default:
        write_numbers((uint16_t *)array->param + i, array->formats.param, n, p, random_of(random, i / INSTEP_BLOCK, 0),
                      i % INSTEP_BLOCK);
    }
}

static void *opened_state(const instep_array *array, size_t s, size_t i, size_t n, S *room)
{
    void *state = array->state[s];
    switch (array->formats.state[s]) {
    case INSTEP_AS_COMPUTED:
        return (stored *)state + i;
    case INSTEP_BFLOAT16:
        read_numbers((const uint16_t *)state + i, INSTEP_BFLOAT16, n, room);
        return room;
    default:
        read_bytes((const uint8_t *)state + i, array->formats.state[s], exponents_of(array, state)[i / INSTEP_BLOCK],
                   n, room);
        return room;
    }
}

static void close_state(const instep_array *array, size_t s, size_t i, size_t n, const stored *values, uint64_t random)
{
    void *state = array->state[s];
    struct random r = random_of(random, i / INSTEP_BLOCK, 2 + (unsigned)s);
    switch (array->formats.state[s]) {
    case INSTEP_AS_COMPUTED:
        break;
    case INSTEP_BFLOAT16:
        write_numbers((uint16_t *)state + i, INSTEP_BFLOAT16, n, values, r, i % INSTEP_BLOCK);
        break;
    default:
        exponents_of(array, state)[i / INSTEP_BLOCK] =
            write_bytes((uint8_t *)state + i, array->formats.state[s], n, values, r);
    }
}

static double sum_of_block(const void *from, size_t n)
{
    const stored *x = from;
    double lane[INSTEP_SUM_LANES] = {0};
    size_t i = 0;
    for (; i + INSTEP_SUM_LANES <= n; i += INSTEP_SUM_LANES)
        for (size_t k = 0; k < INSTEP_SUM_LANES; k++) {
            double y = (double)x[i + k];
            lane[k] += y * y;
        }
    for (size_t k = 0; i + k < n; k++) {
        double y = (double)x[i + k];
        lane[k] += y * y;
    }
    for (size_t half = INSTEP_SUM_LANES / 2; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++)
            lane[k] += lane[k + half];
    return lane[0];
}

#define JOIN_(name, dtype, isa) instep_##name##_##dtype##_##isa
#define JOIN(name, dtype, isa) JOIN_(name, dtype, isa)
#define NAME(name) JOIN(name, INSTEP_DTYPE, INSTEP_ISA)

static void NAME(blocks)(const struct loop *loop, const struct around *around, const instep_array *array, size_t begin,
                         size_t end, const void *grad, struct sum sums[2])
{
    _Alignas(64) S param_room[INSTEP_BLOCK], grad_room[INSTEP_BLOCK], before[INSTEP_BLOCK];
    _Alignas(64) S state_room[INSTEP_MAX_STATES][INSTEP_BLOCK];
    const size_t width = instep_width(IS_FLOAT ? INSTEP_FLOAT32 : INSTEP_FLOAT64, array->formats.grad);

    for (size_t i = begin, n; i < end; i += n, grad = (const char *)grad + n * width) {
        n = INSTEP_BLOCK - i % INSTEP_BLOCK;
        n = end - i < n ? end - i : n;

        const void *g = arriving(around, grad, array->formats.grad, n, grad_room);
        stored *p = opened_param(array, i, n, param_room);
        void *state[INSTEP_MAX_STATES];
        for (size_t s = 0; s < loop->states; s++)
            state[s] = opened_state(array, s, i, n, state_room[s]);
        if (around->measures)
            memcpy(before, p, n * sizeof(S));

        loop->kernel(n, p, g, state, loop->preparation, loop->coefficients);

        for (size_t s = 0; s < loop->states; s++)
            close_state(array, s, i, n, state[s], around->random);
        close_param(array, i, n, p, around->random);
        if (array->copy != NULL)
            write_numbers((uint16_t *)array->copy + i, array->formats.copy, n, p,
                          random_of(around->random, i / INSTEP_BLOCK, 1), i % INSTEP_BLOCK);
        if (around->averages) {
            const S keep = (S)around->average_keep, blend = (S)(1 - around->average_keep);
            stored *average = (stored *)array->state[loop->states] + i;
            for (size_t k = 0; k < n; k++)
                average[k] = keep * average[k] + blend * p[k];
        }
        if (around->measures) {
            for (size_t k = 0; k < n; k++)
                before[k] = p[k] - before[k];
            sum_add(&sums[0], sum_of_block(before, n));
            sum_add(&sums[1], sum_of_block(p, n));
        }
        if (around->zeroes)
            memset((void *)grad, 0, n * width);
    }
}

static void NAME(squares)(const void *from, int format, size_t size, struct sum *sum)
{
    S room[INSTEP_BLOCK];
    const size_t width = instep_width(IS_FLOAT ? INSTEP_FLOAT32 : INSTEP_FLOAT64, format);

    for (size_t i = 0; i < size; i += INSTEP_BLOCK) {
        size_t n = size - i < INSTEP_BLOCK ? size - i : INSTEP_BLOCK;
        const void *x = (const char *)from + i * width;
        if (format != INSTEP_AS_COMPUTED) {
            read_numbers(x, format, n, room);
            x = room;
        }
        sum_add(sum, sum_of_block(x, n));
    }
}

extern const struct instep_block_loops NAME(block_loops);
const struct instep_block_loops NAME(block_loops) = {NAME(blocks), NAME(squares)};
