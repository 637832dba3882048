/* Arrays that the library steps, and twins of all of them that the reference steps: in any format, at any address.
 *
 * What the library is given is allocated to the byte, so that the address sanitizer and valgrind see one too many, with
 * TWINS_GUARD bytes before and behind that must stay as they are. */
#ifndef TWINS_H
#define TWINS_H

#include "reference.h"

#ifndef TWINS_GUARD
#define TWINS_GUARD 64
#endif

enum { MOST_ARRAYS = 8, MOST_GROUPS = 3, OURS = 0, ITS_TWIN = 1, UNTOUCHED = 0xa5 };

/* One of the memories of an array. */
enum place { PARAM, LOW, GRAD, COPY, FIRST_STATE, PLACES = FIRST_STATE + INSTEP_MAX_STATES };

/* Where numbers come from. */
typedef double next_number(void *context);

struct twins {
    size_t groups, count;
    instep_optimizer optimizers[2][MOST_GROUPS];
    instep_array arrays[2][MOST_ARRAYS];
    instep_norms norms[2][MOST_ARRAYS];
    struct {
        unsigned char *allocated[PLACES], *memory[PLACES], *twin[PLACES];
        size_t size[PLACES], before;
        int format[PLACES];
        int64_t *rows, *row_steps[2];
    } of[MOST_ARRAYS];
};

/* How many rows an array has, whatever its gradient is of. */
static size_t rows_of(const instep_array *array)
{
    return array->size / array->row_size;
}

static void twins_begin(struct twins *twins, const instep_optimizer *optimizers, size_t groups)
{
    memset(twins, 0, sizeof *twins);
    twins->groups = groups;
    for (int who = OURS; who <= ITS_TWIN; who++)
        memcpy(twins->optimizers[who], optimizers, groups * sizeof *optimizers);
}

/* Fills memory of n elements with numbers in a format; `low` is the lower half of INSTEP_SPLIT. */
static void fill_numbers(void *memory, void *low, int format, size_t computed, size_t n, next_number *next,
                         void *context)
{
    bool is_single = computed == sizeof(float);
    double *doubles = some(n * sizeof(double));
    float *floats = some(n * sizeof(float));
    bool *all = some(n);

    for (size_t i = 0; i < n; i++) {
        all[i] = true;
        doubles[i] = next(context);
        if (format == INSTEP_BYTE)
            doubles[i] = fabs(doubles[i]);
        floats[i] = (float)doubles[i];
        if (format == INSTEP_FLOAT)
            memcpy((char *)memory + i * sizeof(float), &floats[i], sizeof(float));
    }
    if (format != INSTEP_FLOAT && is_single)
        close_f32(memory, low, format, n, floats, all, NULL);
    if (format != INSTEP_FLOAT && !is_single)
        close_f64(memory, low, format, n, doubles, all, NULL);
    free(all);
    free(floats);
    free(doubles);
}

/* Both have the same numbers. */
static void fill_place(struct twins *twins, size_t k, enum place place, next_number *next, void *context)
{
    const instep_array *array = &twins->arrays[OURS][k];
    size_t n = place == GRAD ? runs_of(array) * elements_of_run(array) : array->size;
    size_t computed = computed_in(array);
    if (twins->of[k].memory[place] == NULL || place == LOW)
        return;
    fill_numbers(twins->of[k].twin[place], twins->of[k].twin[LOW], twins->of[k].format[place], computed, n, next,
                 context);
    memcpy(twins->of[k].memory[place], twins->of[k].twin[place], twins->of[k].size[place]);
    if (place == PARAM && twins->of[k].memory[LOW] != NULL)
        memcpy(twins->of[k].memory[LOW], twins->of[k].twin[LOW], twins->of[k].size[LOW]);
}

static void add_place(struct twins *twins, size_t k, enum place place, int format, size_t n)
{
    size_t size = bytes_in(format, computed_in(&twins->arrays[OURS][k]), n), before = twins->of[k].before;
    twins->of[k].allocated[place] = malloc(before + size + TWINS_GUARD);
    twins->of[k].twin[place] = some(size);
    if (twins->of[k].allocated[place] == NULL)
        abort();
    memset(twins->of[k].allocated[place], UNTOUCHED, before + size + TWINS_GUARD);
    twins->of[k].memory[place] = twins->of[k].allocated[place] + before;
    twins->of[k].size[place] = size;
    twins->of[k].format[place] = format;
}

/* An array like this one, `offset` bytes past an aligned address.  Its pointers say by NULL or not whether it has a
 * gradient, rows (which are copied), a copy and norms. */
static void twins_add(struct twins *twins, const instep_array *like, size_t offset, next_number *next, void *context)
{
    const size_t k = twins->count++, n = like->size;
    const instep_optimizer *own = &twins->optimizers[OURS][like->group];
    instep_array *ours = &twins->arrays[OURS][k], *twin = &twins->arrays[ITS_TWIN][k];

    *ours = *twin = *like;
    twins->of[k].before = TWINS_GUARD + offset;
    if (like->rows != NULL) {
        twins->of[k].rows = malloc(like->row_count * sizeof(int64_t) + 1);
        memcpy(twins->of[k].rows, like->rows, like->row_count * sizeof(int64_t));
        ours->rows = twin->rows = twins->of[k].rows;
    }
    if (like->row_steps != NULL) /* of which all are 0 */
        for (int who = OURS; who <= ITS_TWIN; who++)
            twins->arrays[who][k].row_steps = twins->of[k].row_steps[who] = some(rows_of(like) * sizeof(int64_t));
    if (like->norms != NULL) {
        ours->norms = &twins->norms[OURS][k];
        twin->norms = &twins->norms[ITS_TWIN][k];
    }
    add_place(twins, k, PARAM, like->formats.param, n);
    if (like->formats.param == INSTEP_SPLIT)
        add_place(twins, k, LOW, like->formats.param, n);
    if (like->grad != NULL)
        add_place(twins, k, GRAD, like->formats.grad, runs_of(ours) * elements_of_run(ours));
    if (like->copy != NULL)
        add_place(twins, k, COPY, like->formats.copy, n);
    for (size_t s = 0; s < instep_state_count(own); s++)
        add_place(twins, k, (enum place)(FIRST_STATE + s), like->formats.state[s], n);
    for (int place = PARAM; place < PLACES; place++)
        fill_place(twins, k, (enum place)place, next, context);
    for (int who = OURS; who <= ITS_TWIN; who++) {
        instep_array *array = &twins->arrays[who][k];
        unsigned char **memory = who == OURS ? twins->of[k].memory : twins->of[k].twin;
        array->param = memory[PARAM];
        array->low = memory[LOW];
        array->grad = memory[GRAD];
        array->copy = memory[COPY];
        for (size_t s = 0; s < INSTEP_MAX_STATES; s++) /* no other is looked at */
            array->state[s] = memory[FIRST_STATE + s];
    }
}

static void twins_renew_gradients(struct twins *twins, next_number *next, void *context)
{
    for (size_t k = 0; k < twins->count; k++)
        fill_place(twins, k, GRAD, next, context);
}

static void twins_end(struct twins *twins)
{
    for (size_t k = 0; k < twins->count; k++) {
        free(twins->of[k].rows);
        free(twins->of[k].row_steps[OURS]);
        free(twins->of[k].row_steps[ITS_TWIN]);
        for (int place = PARAM; place < PLACES; place++) {
            free(twins->of[k].allocated[place]);
            free(twins->of[k].twin[place]);
        }
    }
}

/* ---- what is compared: all bits, but of NaNs only that they are ---- */

/* Of all results but NaN: FNV-1a, an element at a time.  The same on every processor. */
static uint64_t digest;

static void digest_element(const void *element, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, element, size);
    digest = (digest ^ bits) * 0x100000001b3u;
}

static bool is_nan(const unsigned char *at, const unsigned char *low, int format, size_t computed)
{
    uint16_t half = 0, lower = 0;
    double number = 0;
    float narrow = 0;

    switch (format) {
    case INSTEP_BFLOAT16:
        memcpy(&half, at, sizeof half);
        return isnan(of_bfloat16(half));
    case INSTEP_FLOAT16:
        memcpy(&half, at, sizeof half);
        return isnan(of_half(half));
    case INSTEP_SPLIT:
        memcpy(&half, at, sizeof half);
        memcpy(&lower, low, sizeof lower);
        return isnan(of_split(half, lower));
    case INSTEP_BYTE:
    case INSTEP_SIGNED_BYTE:
        return isnan(of_byte(format, *at, 255));
    default:
        if (format == INSTEP_AS_COMPUTED && computed == sizeof number) {
            memcpy(&number, at, sizeof number);
            return isnan(number);
        }
        memcpy(&narrow, at, sizeof narrow);
        return isnan(narrow);
    }
}

static bool same_place(const struct twins *twins, size_t k, enum place place)
{
    const unsigned char *ours = twins->of[k].memory[place], *twin = twins->of[k].twin[place];
    const int format = twins->of[k].format[place];
    const size_t computed = computed_in(&twins->arrays[OURS][k]), width = width_of(format, computed);
    const size_t n = format == INSTEP_BYTE || format == INSTEP_SIGNED_BYTE ? twins->arrays[OURS][k].size
                                                                           : twins->of[k].size[place] / width;
    bool same = true;

    for (size_t i = 0; i < n && same; i++) {
        const bool has_low = twins->of[k].memory[LOW] != NULL;
        const unsigned char *our_low = has_low ? twins->of[k].memory[LOW] + i * sizeof(uint16_t) : NULL;
        const unsigned char *its_low = has_low ? twins->of[k].twin[LOW] + i * sizeof(uint16_t) : NULL;
        size_t at = i * width;
        if (place == LOW) { /* compared with the upper half */
            continue;
        } else if (is_nan(ours + at, our_low, format, computed)) {
            uint16_t upper = 0;
            if (format == INSTEP_SPLIT) /* the upper half is one by itself: a model reads it */
                memcpy(&upper, ours + at, sizeof upper);
            same =
                (format != INSTEP_SPLIT || isnan(of_bfloat16(upper))) && is_nan(twin + at, its_low, format, computed);
        } else {
            same = memcmp(ours + at, twin + at, width) == 0;
            digest_element(ours + at, width);
            if (format == INSTEP_SPLIT && place == PARAM) {
                same &= memcmp(our_low, its_low, sizeof(uint16_t)) == 0;
                digest_element(our_low, sizeof(uint16_t));
            }
        }
    }
    return same && memcmp(ours + n * width, twin + n * width, twins->of[k].size[place] - n * width) == 0;
}

static bool is_untouched(const unsigned char *bytes, size_t count)
{
    while (count > 0 && bytes[count - 1] == UNTOUCHED)
        count--;
    return count == 0;
}

static bool same_number(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* What is not the same, or NULL.  Without `bits` those of results are not compared: only what is not to be written, and
 * counts. */
static const char *twins_differ(const struct twins *twins, bool bits)
{
    for (size_t g = 0; g < twins->groups; g++) {
        const instep_optimizer *ours = &twins->optimizers[OURS][g], *twin = &twins->optimizers[ITS_TWIN][g];
        if (ours->step_count != twin->step_count)
            return "the count of steps";
        if (bits && (ours->skipped_count != twin->skipped_count || ours->finite_count != twin->finite_count))
            return "the count of skipped steps";
        if (bits && memcmp(ours->option, twin->option, sizeof ours->option) != 0)
            return "an option";
        if (bits && !same_number(ours->grad_norm, twin->grad_norm))
            return "the norm of all gradients";
    }
    for (size_t k = 0; k < twins->count; k++) {
        static const char *const names[PLACES] = {"param",    "low",      "grad",     "copy",
                                                  "state[0]", "state[1]", "state[2]", "state[3]"};
        const instep_norms *ours = &twins->norms[OURS][k], *twin = &twins->norms[ITS_TWIN][k];
        int64_t *const *steps = twins->of[k].row_steps;
        if (steps[OURS] != NULL
            && memcmp(steps[OURS], steps[ITS_TWIN], rows_of(&twins->arrays[OURS][k]) * sizeof **steps) != 0)
            return "the last step of a row";
        if (twins->arrays[OURS][k].step_count != twins->arrays[ITS_TWIN][k].step_count)
            return "the count of an array";
        for (int place = PARAM; place < PLACES; place++) {
            const unsigned char *allocated = twins->of[k].allocated[place];
            if (allocated == NULL)
                continue;
            if (bits && !same_place(twins, k, (enum place)place))
                return names[place];
            if (!is_untouched(allocated, twins->of[k].before)
                || !is_untouched(twins->of[k].memory[place] + twins->of[k].size[place], TWINS_GUARD))
                return "what is around an array";
        }
        if (bits
            && (!same_number(ours->grad, twin->grad) || !same_number(ours->update, twin->update)
                || !same_number(ours->param, twin->param)))
            return "what is measured of an array";
    }
    return NULL;
}

#endif
