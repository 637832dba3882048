#include "missed.h"

#include "float_mode.h"
#include "formed.h"
#include "pool.h"

#include <string.h>

enum {
    ROWS_A_THREAD = 32,
    /* Whether the states still change is looked at once in so many steps. */
    LOOK_EVERY = 64
};

struct work {
    const instep_array *array;
    struct formed formed;
    struct loop loops[2];
    const struct loop *loop;
    size_t width;
    int64_t upto; /* which step of the array the rows are to have taken */
};

/* No more elements than of a block, so that they stay in the first cache. */
static void take_steps(const struct work *work, size_t begin, size_t size, uint64_t missed)
{
    const struct loop *loop = work->loop;
    const size_t bytes = size * work->width;
    static const double zeros[INSTEP_BLOCK]; /* of either type */
    double param[INSTEP_BLOCK] = {0};        /* which is moved in vain */
    char before[INSTEP_MAX_STATES][INSTEP_BLOCK * sizeof(double)];
    void *state[INSTEP_MAX_STATES];

    for (size_t s = 0; s < loop->states; s++)
        state[s] = (char *)work->array->state[s] + begin * work->width;
    for (uint64_t k = 0; k < missed; k++) {
        const int looks = k % LOOK_EVERY == 0;
        int changed = 0;
        for (size_t s = 0; looks && s < loop->states; s++)
            memcpy(before[s], state[s], bytes);
        loop->kernel(size, param, zeros, state, loop->preparation, loop->coefficients);
        for (size_t s = 0; looks && s < loop->states; s++)
            changed |= memcmp(before[s], state[s], bytes);
        if (looks && !changed) /* nor would any step that follows change them */
            return;
    }
}

static void take_missed_steps(void *context, size_t begin, size_t end)
{
    const struct work *work = context;
    const instep_array *array = work->array;
    float_mode callers = float_mode_enter(STEP);

    for (size_t r = begin; r < end; r++) {
        size_t row = array->rows == NULL ? r : (size_t)array->rows[r];
        int64_t last = array->row_steps[row];
        array->row_steps[row] = array->step_count;
        if (last < 0 || last >= work->upto)
            continue;
        size_t first = row * array->row_size, past = first + array->row_size;
        for (size_t i = first, n; i < past; i += n) {
            n = past - i < INSTEP_BLOCK ? past - i : INSTEP_BLOCK;
            take_steps(work, i, n, (uint64_t)(work->upto - last));
        }
    }
    float_mode_leave(callers);
}

static void take_missed_steps_upto(int64_t upto, const instep_optimizer *optimizer, const instep_array *array)
{
    struct work work = {
        .array = array,
        .width = array->dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double),
        .upto = upto,
    };

    if (array->row_steps == NULL || array->size == 0)
        return;
    instep_optimizer unclipped = *optimizer; /* so that a zero has the sign that the rule gives it */
    instep_preparing_of(&unclipped)->clip_value = 0;
    instep_form(&work.formed, &unclipped, array->step_count, 1);
    instep_loops_of_formed(&work.formed, optimizer, work.loops);
    work.loop = &work.loops[array->dtype];
    instep_pool_run(take_missed_steps, &work, array->rows == NULL ? array->size / array->row_size : array->row_count,
                    ROWS_A_THREAD);
}

void instep_take_missed_steps(const instep_optimizer *optimizer, const instep_array *array)
{
    take_missed_steps_upto(array->step_count - 1, optimizer, array);
}

void instep_catch_up(const instep_optimizer *optimizer, const instep_array *array)
{
    instep_array whole = *array;

    whole.rows = NULL;
    instep_pool_enter();
    take_missed_steps_upto(array->step_count, optimizer, &whole);
    instep_pool_leave();
}
