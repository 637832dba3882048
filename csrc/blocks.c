/* One block of an array after the other through its stages: gradient in, rule, parameter and states out, and what else
 * is to be done while they are in the first cache.
 *
 * CMake compiles this file as it does kernels.c, once for each instruction set and type, with the same definitions.
 *
 * A stage that converts takes a whole block, so that its loop has no remainder, and what is stored of a block that is
 * not whole is padded.  It is compiled by itself: inside the loop over blocks the constants of every stage would be
 * formed for every block, needed or not.  Where a stage is short it is written out, for AVX-512 whole: a loop costs up
 * to a tenth of a step there. */
#include "blocks.h"

#include "compiler.h"
#include "storage.h"

#include <float.h>

#if defined __F16C__ || defined __AVX2__
#include <immintrin.h>
#endif

#if defined __FAST_MATH__ || FLT_EVAL_METHOD != 0
#error "the bits of a step are a promise: build without -ffast-math, with arithmetic in the type of the operands"
#endif

typedef INSTEP_TYPE S;
typedef ANY_ALIGNMENT INSTEP_TYPE stored;
typedef ANY_ALIGNMENT uint16_t stored16;
typedef ANY_ALIGNMENT float stored_float;

enum { IS_FLOAT = sizeof(S) == sizeof(float) };

/* ---- formats: a whole block in the type of the arithmetic is its room ------------------------------------------- */

NO_INLINE void read_bfloat16(const stored16 *restrict from, S *restrict to)
{
    UNROLLED(8)
    for (size_t i = 0; i < INSTEP_BLOCK; i++)
        to[i] = from_bfloat16(from[i]);
}

NO_INLINE void read_half(const stored16 *restrict from, S *restrict to)
{
    size_t i = 0;
/* The same, but for the payload of a signalling NaN: gcc does not make vectors of _Float16. */
#if defined __AVX512F__
    UNROLLED(16)
    for (; IS_FLOAT && i < INSTEP_BLOCK; i += 16)
        _mm512_storeu_ps((float *)to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(from + i))));
#elif defined __F16C__
    for (; IS_FLOAT && i < INSTEP_BLOCK; i += 8)
        _mm256_storeu_ps((float *)to + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(from + i))));
#endif
    for (; i < INSTEP_BLOCK; i++)
        to[i] = from_half(from[i]);
}

NO_INLINE void read_float(const stored_float *restrict from, S *restrict to)
{
    for (size_t i = 0; i < INSTEP_BLOCK; i++)
        to[i] = from[i];
}

NO_INLINE void read_split(const stored16 *restrict high, const stored16 *restrict low, S *restrict to)
{
    for (size_t i = 0; i < INSTEP_BLOCK; i++)
        to[i] = from_split(high[i], low[i]);
}

/* Bytes are widened and narrowed in loops of their own, some elements at a time, which stay in registers: in one loop
 * with the rest gcc does that to every term of a code. */
INLINE void widen(const uint8_t *restrict from, int32_t *restrict to)
{
#if defined __AVX512F__
    for (size_t k = 0; k < ABREAST; k += 16)
        _mm512_storeu_si512(to + k, _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(from + k))));
#elif defined __AVX2__
    for (size_t k = 0; k < ABREAST; k += 8)
        _mm256_storeu_si256((void *)(to + k), _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(from + k))));
#else
    for (size_t k = 0; k < ABREAST; k++)
        to[k] = from[k];
#endif
}

INLINE void narrow(const int32_t *restrict from, uint8_t *restrict to)
{
#if defined __AVX512F__
    for (size_t k = 0; k < ABREAST; k += 16)
        _mm_storeu_si128((void *)(to + k), _mm512_cvtepi32_epi8(_mm512_loadu_si512(from + k)));
#elif defined __AVX2__
    const __m256i *eight = (const void *)from;
    __m256i words = _mm256_packs_epi32(_mm256_loadu_si256(eight), _mm256_loadu_si256(eight + 1));
    words = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0)); /* they come out in fours, those of each first */
    _Static_assert(ABREAST == 16, "one vector of words");
    _mm_storeu_si128((void *)to, _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
#else
    for (size_t k = 0; k < ABREAST; k++)
        to[k] = (uint8_t)from[k];
#endif
}

INLINE void read_bytes_as(const struct byte_format f, const uint8_t *restrict from, uint8_t exponent, S *restrict to)
{
    const int32_t base = byte_base(f, exponent);
    uint8_t largest = 0;
    for (size_t i = 0; i < INSTEP_BLOCK; i++) {
        uint8_t code = (uint8_t)byte_code(f, from[i]);
        largest = code > largest ? code : largest;
    }
    const int are_finite = largest <= f.last;
    for (size_t i = 0; i < INSTEP_BLOCK; i += ABREAST) {
        int32_t stored[ABREAST];
        widen(from + i, stored);
        if (are_finite)
            for (size_t k = 0; k < ABREAST; k++)
                to[i + k] = from_byte(f, stored[k], base);
        else
            for (size_t k = 0; k < ABREAST; k++)
                to[i + k] = from_any_byte(f, stored[k], base);
    }
}

NO_INLINE void read_bytes(const uint8_t *from, uint8_t exponent, S *to)
{
    read_bytes_as(byte_format(INSTEP_BYTE), from, exponent, to);
}

NO_INLINE void read_signed_bytes(const uint8_t *from, uint8_t exponent, S *to)
{
    read_bytes_as(byte_format(INSTEP_SIGNED_BYTE), from, exponent, to);
}

NO_INLINE void write_bfloat16(stored16 *restrict to, const stored *restrict from, struct random random)
{
    const struct spread spread = spread_of(random);
    UNROLLED(8)
    for (size_t i = 0; i < INSTEP_BLOCK; i += ABREAST, random = random_after(random, ABREAST))
        for (size_t k = 0; k < ABREAST; k++)
            to[i + k] = to_bfloat16((float)from[i + k], random_bits(random, spread.of[k]));
}

NO_INLINE void write_half(stored16 *restrict to, const stored *restrict from, struct random random)
{
    const struct spread spread = spread_of(random);
    for (size_t i = 0; i < INSTEP_BLOCK; i += ABREAST, random = random_after(random, ABREAST))
        for (size_t k = 0; k < ABREAST; k++)
            to[i + k] = to_half((float)from[i + k], random_bits(random, spread.of[k]));
}

NO_INLINE void copy_as_bfloat16(stored16 *restrict to, const stored *restrict from)
{
    for (size_t i = 0; i < INSTEP_BLOCK; i++)
        to[i] = nearest_bfloat16((float)from[i]);
}

NO_INLINE void copy_as_half(stored16 *restrict to, const stored *restrict from)
{
    for (size_t i = 0; i < INSTEP_BLOCK; i++)
        to[i] = nearest_half((float)from[i]);
}

NO_INLINE void write_split(stored16 *restrict high, stored16 *restrict low, const S *restrict from)
{
    for (size_t i = 0; i < INSTEP_BLOCK; i++) {
        uint16_t h, l;
        to_split((float)from[i], &h, &l);
        high[i] = h;
        low[i] = l;
    }
}

INLINE uint8_t write_bytes_as(const struct byte_format f, uint8_t *restrict to, const S *restrict from,
                              struct random random)
{
    int32_t largest = 0;
    UNROLLED(32)
    for (size_t i = 0; i < INSTEP_BLOCK; i++)
        largest = greater(largest, bits_of((float)from[i]) & MAGNITUDE);
    const int are_finite = largest < INFINITE;
    if (!are_finite) { /* then the largest of the others */
        largest = 0;
        for (size_t i = 0; i < INSTEP_BLOCK; i++) {
            int32_t size = bits_of((float)from[i]) & MAGNITUDE;
            largest = greater(largest, size < INFINITE ? size : 0);
        }
    }
    const uint8_t exponent = byte_exponent(f, largest);
    const int32_t base = byte_base(f, exponent), limit = (LARGEST_FLOAT - (base - BYTE_DIGIT)) >> 20;
    const struct spread spread = spread_of(random);
    int32_t stored[ABREAST];
    if (are_finite) {
        UNROLLED(8)
        for (size_t i = 0; i < INSTEP_BLOCK; i += ABREAST, random = random_after(random, ABREAST)) {
            for (size_t k = 0; k < ABREAST; k++)
                stored[k] = to_byte(f, (float)from[i + k], base, limit, random_bits(random, spread.of[k]));
            narrow(stored, to + i);
        }
    } else {
        for (size_t i = 0; i < INSTEP_BLOCK; i += ABREAST, random = random_after(random, ABREAST)) {
            for (size_t k = 0; k < ABREAST; k++)
                stored[k] = to_any_byte(f, (float)from[i + k], base, limit, random_bits(random, spread.of[k]));
            narrow(stored, to + i);
        }
    }
    return exponent;
}

NO_INLINE uint8_t write_bytes(uint8_t *to, const S *from, struct random random)
{
    return write_bytes_as(byte_format(INSTEP_BYTE), to, from, random);
}

NO_INLINE uint8_t write_signed_bytes(uint8_t *to, const S *from, struct random random)
{
    return write_bytes_as(byte_format(INSTEP_SIGNED_BYTE), to, from, random);
}

/* ---- what is in memory of a block, n elements from `i` on, to its room and back --------------------------------- */

/* Stored numbers of a block that is not whole; zeros follow. */
union part {
    uint8_t byte[INSTEP_BLOCK];
    uint16_t half[INSTEP_BLOCK];
    float number[INSTEP_BLOCK];
};

NO_INLINE const void *padded(const void *from, size_t bytes, union part *part)
{
    memset(part, 0, sizeof *part);
    return memcpy(part, from, bytes);
}

static void read_numbers(const void *from, int format, size_t n, S *room)
{
    union part part;
    if (n < INSTEP_BLOCK)
        from = padded(from, n * (format == INSTEP_FLOAT ? sizeof(float) : sizeof(uint16_t)), &part);
    if (format == INSTEP_BFLOAT16)
        read_bfloat16(from, room);
    else if (format == INSTEP_FLOAT16)
        read_half(from, room);
    else
        read_float(from, room);
}

static void write_numbers(void *to, int format, size_t n, const stored *room, struct random random)
{
    union part part;
    void *whole = n < INSTEP_BLOCK ? &part : to;
    if (format == INSTEP_BFLOAT16)
        write_bfloat16(whole, room, random);
    else
        write_half(whole, room, random);
    if (n < INSTEP_BLOCK)
        memcpy(to, whole, n * sizeof(uint16_t));
}

static void read_halves(const stored16 *high, const stored16 *low, size_t n, S *room)
{
    union part parts[2];
    if (n < INSTEP_BLOCK) {
        high = padded(high, n * sizeof *high, &parts[0]);
        low = padded(low, n * sizeof *low, &parts[1]);
    }
    read_split(high, low, room);
}

static void write_halves(stored16 *high, stored16 *low, size_t n, const S *room)
{
    union part parts[2];
    if (n == INSTEP_BLOCK) {
        write_split(high, low, room);
    } else {
        write_split(parts[0].half, parts[1].half, room);
        memcpy(high, &parts[0], n * sizeof *high);
        memcpy(low, &parts[1], n * sizeof *low);
    }
}

static void read_codes(const uint8_t *from, int format, uint8_t exponent, size_t n, S *room)
{
    union part part;
    if (n < INSTEP_BLOCK)
        from = padded(from, n, &part);
    if (format == INSTEP_BYTE)
        read_bytes(from, exponent, room);
    else
        read_signed_bytes(from, exponent, room);
}

static uint8_t write_codes(uint8_t *to, int format, size_t n, const S *room, struct random random)
{
    union part part;
    uint8_t *whole = n < INSTEP_BLOCK ? part.byte : to;
    uint8_t exponent =
        format == INSTEP_BYTE ? write_bytes(whole, room, random) : write_signed_bytes(whole, room, random);
    if (n < INSTEP_BLOCK)
        memcpy(to, whole, n);
    return exponent;
}

/* Where the exponents of a state of bytes begin: behind the bytes of all elements. */
static uint8_t *exponents_of(const instep_array *array, const void *state)
{
    return (uint8_t *)state + array->size;
}

static stored *opened_param(const instep_array *array, size_t i, size_t n, S *room)
{
    switch (array->formats.param) {
    case INSTEP_AS_COMPUTED:
        return (stored *)array->param + i;
    case INSTEP_SPLIT:
        read_halves((const stored16 *)array->param + i, (const stored16 *)array->low + i, n, room);
        return room;
    default:
        read_numbers((const stored16 *)array->param + i, array->formats.param, n, room);
        return room;
    }
}

static void close_param(const instep_array *array, size_t i, size_t n, const S *room, uint64_t random)
{
    switch (array->formats.param) {
    case INSTEP_AS_COMPUTED:
        break;
    case INSTEP_SPLIT:
        write_halves((stored16 *)array->param + i, (stored16 *)array->low + i, n, room);
        break;
    default:
        write_numbers((stored16 *)array->param + i, array->formats.param, n, room,
                      random_of(random, i / INSTEP_BLOCK, 0, i % INSTEP_BLOCK));
    }
}

static void write_copy(const instep_array *array, size_t i, size_t n, const stored *p, S *room)
{
    union part part;
    stored16 *to = (stored16 *)array->copy + i, *whole = n < INSTEP_BLOCK ? part.half : to;
    if (n < INSTEP_BLOCK && array->formats.param == INSTEP_AS_COMPUTED) {
        memset(room, 0, INSTEP_BLOCK * sizeof(S));
        p = memcpy(room, p, n * sizeof(S));
    }
    if (array->formats.copy == INSTEP_BFLOAT16)
        copy_as_bfloat16(whole, p);
    else
        copy_as_half(whole, p);
    if (n < INSTEP_BLOCK)
        memcpy(to, whole, n * sizeof *to);
}

static stored *opened_state(const instep_array *array, size_t s, size_t i, size_t n, S *room)
{
    void *state = array->state[s];
    switch (array->formats.state[s]) {
    case INSTEP_AS_COMPUTED:
        return (stored *)state + i;
    case INSTEP_BFLOAT16:
        read_numbers((const stored16 *)state + i, INSTEP_BFLOAT16, n, room);
        return room;
    default:
        read_codes((const uint8_t *)state + i, array->formats.state[s], exponents_of(array, state)[i / INSTEP_BLOCK], n,
                   room);
        return room;
    }
}

static void close_state(const instep_array *array, size_t s, size_t i, size_t n, const S *room, uint64_t random)
{
    void *state = array->state[s];
    unsigned place = 1 + (unsigned)s;
    switch (array->formats.state[s]) {
    case INSTEP_AS_COMPUTED:
        break;
    case INSTEP_BFLOAT16:
        write_numbers((stored16 *)state + i, INSTEP_BFLOAT16, n, room,
                      random_of(random, i / INSTEP_BLOCK, place, i % INSTEP_BLOCK));
        break;
    default: /* from the beginning of a block on: its exponent is of all of it */
        exponents_of(array, state)[i / INSTEP_BLOCK] = write_codes((uint8_t *)state + i, array->formats.state[s], n,
                                                                   room, random_of(random, i / INSTEP_BLOCK, place, 0));
    }
}

/* ---- what else happens to a block ------------------------------------------------------------------------------- */

NO_INLINE void clip(const struct around *around, size_t n, const stored *restrict from, S *restrict to)
{
    const S scale = (S)around->scale, most = (S)around->clip;
    for (size_t i = 0; i < n; i++) {
        S g = scale * from[i];
        g = g > most ? most : g;
        to[i] = -most > g ? -most : g;
    }
}

NO_INLINE void copy(size_t n, const stored *restrict from, stored *restrict to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
}

NO_INLINE void average(const struct around *around, size_t n, stored *restrict param_avg, const stored *restrict p)
{
    const S keep = (S)around->average_keep, blend = (S)(1 - around->average_keep);
    if (around->average_keep == 0) { /* times what there was, which may be a NaN, it would be one */
        copy(n, p, param_avg);
        return;
    }
    for (size_t i = 0; i < n; i++)
        param_avg[i] = keep * param_avg[i] + blend * p[i];
}

NO_INLINE void add(size_t n, stored *restrict sums, const stored *restrict x)
{
    for (size_t i = 0; i < n; i++)
        sums[i] = sums[i] + x[i];
}

NO_INLINE void subtract(size_t n, S *restrict from, const stored *restrict x)
{
    for (size_t i = 0; i < n; i++)
        from[i] = x[i] - from[i];
}

INLINE void fold(double *lane, size_t half)
{
    for (size_t k = 0; k < half; k++)
        lane[k] += lane[k + half];
}

/* The sum of the squares: in so many partial sums, which are then folded. */
INLINE double sum_of(const stored *x, size_t n)
{
    double lane[INSTEP_SUM_LANES];
    size_t i = 0;

    for (size_t k = 0; k < INSTEP_SUM_LANES; k++)
        lane[k] = 0;
    for (; i + INSTEP_SUM_LANES <= n; i += INSTEP_SUM_LANES) {
        UNROLLED(4)
        for (size_t k = 0; k < INSTEP_SUM_LANES; k++) {
            double y = (double)x[i + k];
            lane[k] += y * y;
        }
    }
    for (size_t k = 0; i + k < n; k++) {
        double y = (double)x[i + k];
        lane[k] += y * y;
    }
    _Static_assert(INSTEP_SUM_LANES == 32, "a sum is folded five times");
    fold(lane, INSTEP_SUM_LANES / 2); /* each by itself: a loop over them gcc does not unroll */
    fold(lane, INSTEP_SUM_LANES / 4);
    fold(lane, INSTEP_SUM_LANES / 8);
    fold(lane, INSTEP_SUM_LANES / 16);
    fold(lane, INSTEP_SUM_LANES / 32);
    return lane[0];
}

NO_INLINE double sum_of_part(const stored *x, size_t n)
{
    return sum_of(x, n);
}

NO_INLINE double sum_of_whole(const stored *x)
{
    return sum_of(x, INSTEP_BLOCK);
}

static double sum_of_block(const stored *x, size_t n)
{
    return n == INSTEP_BLOCK ? sum_of_whole(x) : sum_of_part(x, n);
}

NO_INLINE void zero(stored16 *grad, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof *grad; i++)
        grad[i] = 0;
}
/* Numbers of any format in the type of the arithmetic: where they are, or else in the room. */
static const stored *opened_numbers(const void *from, int format, size_t n, S *room)
{
    if (format == INSTEP_AS_COMPUTED)
        return from;
    read_numbers(from, format, n, room);
    return room;
}

/* ---- a block ---------------------------------------------------------------------------------------------------- */

/* The gradient, scaled and clipped where that is not left to the rule. */
static const stored *arriving(const struct around *around, const void *grad, int format, size_t n, S *room)
{
    S decoded[INSTEP_BLOCK];
    if (!around->clips)
        return opened_numbers(grad, format, n, room);
    clip(around, n, opened_numbers(grad, format, n, decoded), room);
    return room;
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

        const stored *g = arriving(around, grad, array->formats.grad, n, grad_room);
        stored *p = opened_param(array, i, n, param_room);
        void *state[INSTEP_MAX_STATES];
        for (size_t s = 0; s < loop->states; s++)
            state[s] = opened_state(array, s, i, n, state_room[s]);
        if (around->measures)
            copy(n, p, before);

        loop->kernel(n, p, g, state, loop->preparation, loop->coefficients);

        for (size_t s = 0; s < loop->states; s++)
            close_state(array, s, i, n, state_room[s], around->random);
        close_param(array, i, n, param_room, around->random);
        if (array->copy != NULL)
            write_copy(array, i, n, p, param_room);
        if (around->averages)
            average(around, n, (stored *)array->state[loop->states] + i, p);
        if (around->measures) {
            subtract(n, before, p);
            sum_add(&sums[0], sum_of_block(before, n));
            sum_add(&sums[1], sum_of_block(p, n));
        }
        if (around->zeroes)
            zero((stored16 *)grad, n * width);
    }
}

static void NAME(squares)(const void *from, int format, size_t size, struct sum *sum)
{
    S room[INSTEP_BLOCK];
    const size_t width = instep_width(IS_FLOAT ? INSTEP_FLOAT32 : INSTEP_FLOAT64, format);

    for (size_t i = 0; i < size; i += INSTEP_BLOCK) {
        size_t n = size - i < INSTEP_BLOCK ? size - i : INSTEP_BLOCK;
        const stored *x = opened_numbers((const char *)from + i * width, format, n, room);
        sum_add(sum, sum_of_block(x, n));
    }
}

static void NAME(add)(void *sums, const void *from, int format, size_t size, int begins)
{
    S room[INSTEP_BLOCK];
    const size_t width = instep_width(IS_FLOAT ? INSTEP_FLOAT32 : INSTEP_FLOAT64, format);

    for (size_t i = 0; i < size; i += INSTEP_BLOCK) {
        size_t n = size - i < INSTEP_BLOCK ? size - i : INSTEP_BLOCK;
        const stored *x = opened_numbers((const char *)from + i * width, format, n, room);
        if (begins)
            copy(n, x, (stored *)sums + i);
        else
            add(n, (stored *)sums + i, x);
    }
}

extern const struct instep_block_loops NAME(block_loops);
const struct instep_block_loops NAME(block_loops) = {NAME(blocks), NAME(squares), NAME(add)};
