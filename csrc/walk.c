/* The walk: every block of every array once, on as many threads as it is worth. */
#include "aligned.h"
#include "dispatch.h"
#include "float_mode.h"
#include "formed.h"
#include "missed.h"
#include "pool.h"
#include "runs.h"
#include "step.h"
#include "storage.h"

enum {
    /* What takes a thread some microseconds: below two of these a step is not shared. */
    BLOCKS_PER_THREAD = 32,
    BLOCKS_OF_SUM_PER_THREAD = 128,
    NOT_WORTH_FETCHING = 64,
    /* So many rows are stepped while one more comes from memory; 4 took up to a third longer, where it is far. */
    ROWS_AHEAD = 8
};

#if defined __GNUC__
#define PREFETCH(line) __builtin_prefetch(line, 1)
#else
#define PREFETCH(line) ((void)(line))
#endif

struct work {
    const instep_optimizer *optimizers;
    instep_array *arrays;
    size_t count;
    int clips_by_array;
    double clip;       /* what clipping by the global norm leaves of a gradient */
    struct sum *total; /* of the squares of all gradients, while they are measured */
};

static size_t lesser_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The array that holds this block: the last one that starts at it or before. */
static size_t array_of_block(const struct work *work, size_t block)
{
    size_t low = 0, high = work->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (work->arrays[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Of blocks begin to end of the step, those of this array: they become its own, and begin moves on. */
struct range {
    size_t begin, end;
};

static struct range blocks_of_array(const instep_array *array, size_t *begin, size_t end)
{
    struct range range = {*begin - array->first_block, end - array->first_block};
    range.end = lesser_of(range.end, instep_blocks_of(array));
    *begin = array->first_block + range.end;
    return range;
}

static size_t elements_of_gradient(const instep_array *array)
{
    return array->rows == NULL ? array->size : array->row_count * array->row_size;
}

/* So many blocks of the step take as long as so many whole ones.  The first elements of an array do not count: that
 * another core steps them is not worth what it takes to fetch them, and all that belongs to the array. */
static size_t grain_of(const struct work *work, size_t total, size_t whole_blocks)
{
    size_t counted = 0;
    if (total < 2 * whole_blocks)
        return whole_blocks;
    for (size_t k = 0; k < work->count; k++) {
        const instep_array *array = &work->arrays[k];
        size_t size = elements_of_gradient(array);
        if (array->grad != NULL && size > NOT_WORTH_FETCHING)
            counted += size - NOT_WORTH_FETCHING;
    }
    /* not in doubles: here the caller's mode is on, which would be left with a flag */
    return counted == 0 ? total : (size_t)((uint64_t)whole_blocks * INSTEP_BLOCK * total / counted);
}

/* ---- the gradients' squares, before anything is written
 * --------------------------------------------------------------- */

static void sum_blocks(void *context, size_t begin, size_t end)
{
    struct work *work = context;
    float_mode callers = float_mode_enter(STEP);

    for (size_t k = array_of_block(work, begin); begin < end; k++) {
        instep_array *array = &work->arrays[k];
        if (array->grad == NULL || array->size == 0)
            continue;
        const size_t width = instep_width((int)array->dtype, array->formats.grad);
        instep_squares *squares = instep_active_loops((int)array->dtype)->in_blocks->squares;
        struct range blocks = blocks_of_array(array, &begin, end);
        struct sum sum = {{0}};
        if (array->rows == NULL) {
            size_t first = blocks.begin * INSTEP_BLOCK, last = lesser_of(blocks.end * INSTEP_BLOCK, array->size);
            squares((const char *)array->grad + first * width, array->formats.grad, last - first, &sum);
        } else {
            size_t rows = instep_rows_of_block(array);
            for (size_t b = blocks.begin; b < blocks.end; b++) {
                size_t first = b * rows, last = lesser_of(first + rows, array->row_count);
                squares((const char *)array->grad + first * array->row_size * width, array->formats.grad,
                        (last - first) * array->row_size, &sum);
            }
        }
        sum_merge(work->total->limb, &sum);
        if (array->norms != NULL)
            sum_merge(array->norms->sums[0], &sum);
    }
    float_mode_leave(callers);
}

/* Whether a gradient of float that is finite may not be once it is scaled, for all that their norm says. */
static int overflows(const struct work *work, double grad_scale, double norm)
{
    if (grad_scale <= 1 || norm < 0x1p127)
        return 0;
    for (size_t k = 0; k < work->count; k++)
        if (work->arrays[k].grad != NULL && work->arrays[k].dtype == INSTEP_FLOAT32)
            return 1;
    return 0;
}

/* Whether the step is to be taken: not if it would be of gradients that are not finite, and those are to be skipped. */
static int measure_gradients(instep_optimizer *optimizers, size_t groups, struct work *work, size_t total)
{
    const struct preparing *o = instep_preparing(optimizers);
    for (size_t g = 0; g < groups; g++)
        work->clips_by_array |= instep_preparing(&optimizers[g])->clip_norm != 0;
    if (!work->clips_by_array && o->statistics == 0 && o->clip_global_norm == 0 && o->skip_nonfinite == 0
        && o->grow_every == 0)
        return 1;

    struct sum squares = {{0}};
    work->total = &squares;
    for (size_t k = 0; k < work->count; k++)
        if (work->arrays[k].norms != NULL)
            memset(work->arrays[k].norms, 0, sizeof *work->arrays[k].norms);
    if (total != 0)
        instep_pool_run(sum_blocks, work, total, grain_of(work, total, BLOCKS_OF_SUM_PER_THREAD));

    float_mode callers = float_mode_enter(IEEE);
    double norm = o->grad_scale * sqrt(sum_value(squares.limb));
    if (o->clip_global_norm != 0 && norm > o->clip_global_norm)
        work->clip = o->clip_global_norm / norm;
    int taken =
        (isfinite(norm) && !overflows(work, o->grad_scale, norm)) || (o->skip_nonfinite == 0 && o->grow_every == 0);
    for (size_t k = 0; k < work->count; k++)
        if (work->arrays[k].grad != NULL && work->arrays[k].norms != NULL)
            work->arrays[k].norms->grad = o->grad_scale * sqrt(sum_value(work->arrays[k].norms->sums[0]));
    optimizers->grad_norm = norm;
    optimizers->skipped_count += !taken;
    optimizers->finite_count = taken ? optimizers->finite_count + 1 : 0;
    float_mode_leave(callers);
    return taken;
}

/* The scale of a loss that halves where gradients overflow and doubles after so many steps in which none did: that of
 * its gradients is one over it. */
static void adjust_grad_scale(instep_optimizer *optimizers, size_t groups, int taken)
{
    const struct preparing *o = instep_preparing(optimizers);
    double factor = 1;

    if (o->grow_every == 0)
        return;
    if (!taken && o->grad_scale < 0x1p100)
        factor = 2;
    if (taken && optimizers->finite_count >= o->grow_every) {
        optimizers->finite_count = 0;
        factor = o->grad_scale > 0x1p-100 ? 0.5 : 1;
    }
    for (size_t g = 0; g < groups; g++)
        instep_preparing_of(&optimizers[g])->grad_scale *= factor;
}

/* ---- the step -------------------------------------------------------------------------------------------------------
 */

/* What the arrays of one group and of one count of steps have in common. */
struct plan {
    const instep_optimizer *optimizer;
    struct formed formed;
    struct loop loops[2]; /* by instep_dtype */
};

static void make_plan(struct plan *plan, const instep_optimizer *optimizer, int64_t t, double clip)
{
    plan->optimizer = optimizer;
    instep_form(&plan->formed, optimizer, t, clip);
    instep_loops_of_formed(&plan->formed, optimizer, plan->loops);
}

static double clip_of(const struct work *work, const instep_array *array)
{
    double bound = instep_preparing(&work->optimizers[array->group])->clip_norm;
    if (bound == 0)
        return work->clip;
    return array->norms->grad > bound ? bound / array->norms->grad : 1;
}

/* Whether the loop of the rule takes the array as it is: where there is a copy to write, it has a format. */
static inline int is_plain(const struct plan *plan, const instep_array *array)
{
    uint64_t formats;
    _Static_assert(sizeof formats == sizeof array->formats, "all formats are read as one number");
    memcpy(&formats, &array->formats, sizeof formats);
    return formats == 0 && array->rows == NULL && !plan->formed.around.any;
}

/* Elements begin to end of an array, whose gradient begins at grad. */
static inline void step_elements(const struct loop *loop, const instep_array *array, size_t begin, size_t end,
                                 const void *grad)
{
    size_t width = array->dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
    void *state[INSTEP_MAX_STATES];
    for (size_t s = 0; s < loop->states; s++)
        state[s] = (char *)array->state[s] + begin * width;
    run_aligned(loop->kernel, end - begin, width, (char *)array->param + begin * width, grad, state, loop->states,
                loop->preparation, loop->coefficients);
}

static void fetch(const void *array, size_t width, size_t first, size_t size)
{
    for (const char *line = (const char *)array + first * width, *end = line + size * width; line < end; line += LINE)
        PREFETCH(line);
}

/* Asks for a row of an array before it is stepped: where the next one is, no processor can guess. */
static void fetch_row(const struct loop *loop, const instep_array *array, size_t row)
{
    const size_t first = (size_t)array->rows[row] * array->row_size;
    const size_t size = lesser_of(array->row_size, INSTEP_BLOCK);

    fetch(array->param, instep_width((int)array->dtype, array->formats.param), first, size);
    for (size_t s = 0; s < loop->states; s++)
        fetch(array->state[s], instep_width((int)array->dtype, array->formats.state[s]), first, size);
}

/* Blocks of an array that something surrounds, or of which there are rows alone. */
static void step_surrounded(const struct plan *plan, const instep_array *array, struct range blocks)
{
    const struct loop *loop = &plan->loops[array->dtype];
    const size_t width = instep_width((int)array->dtype, array->formats.grad);
    instep_blocks *in_blocks = instep_active_loops((int)array->dtype)->in_blocks->blocks;
    struct around around = plan->formed.around;
    struct sum sums[2];

    around.random =
        random_of_step((uint64_t)instep_preparing(plan->optimizer)->seed, array->stream, (uint64_t)array->step_count);
    if (around.measures)
        memset(sums, 0, sizeof sums);
    if (array->rows == NULL) {
        size_t first = blocks.begin * INSTEP_BLOCK, last = lesser_of(blocks.end * INSTEP_BLOCK, array->size);
        in_blocks(loop, &around, array, first, last, (const char *)array->grad + first * width, sums);
    } else {
        size_t rows = instep_rows_of_block(array), last = lesser_of(blocks.end * rows, array->row_count);
        for (size_t r = blocks.begin * rows; r < last; r++) {
            if (r + ROWS_AHEAD < last)
                fetch_row(loop, array, r + ROWS_AHEAD);
            size_t first = (size_t)array->rows[r] * array->row_size, end = first + array->row_size;
            in_blocks(loop, &around, array, first, end, (const char *)array->grad + r * array->row_size * width, sums);
        }
    }
    if (around.measures) {
        sum_merge(array->norms->sums[1], &sums[0]);
        sum_merge(array->norms->sums[2], &sums[1]);
    }
}

static void step_blocks(void *context, size_t begin, size_t end)
{
    const struct work *work = context;
    float_mode callers = float_mode_enter(STEP);
    struct plan plan;

    plan.formed.t = -1;
    for (size_t k = array_of_block(work, begin); begin < end; k++) {
        const instep_array *array = &work->arrays[k];
        if (array->grad == NULL || array->size == 0)
            continue;
        double clip = work->clips_by_array ? clip_of(work, array) : work->clip;
        if (array->step_count != plan.formed.t || &work->optimizers[array->group] != plan.optimizer
            || clip != plan.formed.clip)
            make_plan(&plan, &work->optimizers[array->group], array->step_count, clip);

        struct range blocks = blocks_of_array(array, &begin, end);
        if (is_plain(&plan, array)) {
            size_t width = array->dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
            size_t first = blocks.begin * INSTEP_BLOCK, last = lesser_of(blocks.end * INSTEP_BLOCK, array->size);
            step_elements(&plan.loops[array->dtype], array, first, last, (const char *)array->grad + first * width);
        } else {
            step_surrounded(&plan, array, blocks);
        }
    }
    float_mode_leave(callers);
}

static void take_missed_steps(const struct work *work)
{
    if (instep_preparing(work->optimizers)->exact_rows == 0)
        return;
    for (size_t k = 0; k < work->count; k++)
        if (work->arrays[k].grad != NULL)
            instep_take_missed_steps(&work->optimizers[work->arrays[k].group], &work->arrays[k]);
}

static void finish_statistics(const struct work *work)
{
    if (instep_preparing(work->optimizers)->statistics == 0)
        return;
    float_mode callers = float_mode_enter(IEEE);
    for (size_t k = 0; k < work->count; k++)
        if (work->arrays[k].grad != NULL) {
            instep_norms *norms = work->arrays[k].norms;
            norms->update = sqrt(sum_value(norms->sums[1]));
            norms->param = sqrt(sum_value(norms->sums[2]));
        }
    float_mode_leave(callers);
}

/* A gradient that was not finite must not stay in a sum that the caller goes on with. */
static void zero_skipped_gradients(const struct work *work)
{
    for (size_t k = 0; k < work->count; k++) {
        const instep_array *array = &work->arrays[k];
        if (array->grad == NULL || instep_preparing(&work->optimizers[array->group])->zero_grads == 0)
            continue;
        size_t width = instep_width((int)array->dtype, array->formats.grad);
        memset((void *)array->grad, 0, elements_of_gradient(array) * width);
    }
}

void instep_run(instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count, size_t total,
                int64_t step_count)
{
    struct work work = {.optimizers = optimizers, .arrays = arrays, .count = count, .clip = 1};

    instep_pool_enter();
    int taken = measure_gradients(optimizers, groups, &work, total);
    if (taken) {
        for (size_t g = 0; g < groups; g++)
            optimizers[g].step_count = step_count;
        for (size_t k = 0; k < count; k++)
            arrays[k].step_count += arrays[k].grad != NULL;
        take_missed_steps(&work);
        if (total != 0)
            instep_pool_run(step_blocks, &work, total, grain_of(&work, total, BLOCKS_PER_THREAD));
        finish_statistics(&work);
    } else {
        zero_skipped_gradients(&work);
    }
    adjust_grad_scale(optimizers, groups, taken);
    instep_pool_leave();
}
