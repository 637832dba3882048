/* The walk: every line of every array once, on as many threads as it is worth. */
#include "aligned.h"
#include "dispatch.h"
#include "float_mode.h"
#include "formed.h"
#include "pool.h"
#include "step.h"

enum {
    /* Some microseconds, below two of which a step is not shared: measured by bench/lab/gaps.py. */
    LINES_PER_THREAD = 512
};

struct work {
    const instep_optimizer *optimizer;
    instep_array *arrays;
    size_t count, states;
    enum instep_loop loop;
};

/* The array that holds this line: the last one that starts at it or before. */
static size_t array_of_line(const struct work *work, size_t line)
{
    size_t low = 0, high = work->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (work->arrays[middle].first_line <= line)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void step_lines(void *context, size_t begin, size_t end)
{
    const struct work *work = context;
    instep_kernel *in_float = instep_active_kernels(INSTEP_FLOAT32)[work->loop];
    instep_kernel *in_double = instep_active_kernels(INSTEP_FLOAT64)[work->loop];
    float_mode callers = float_mode_enter(STEP);
    struct formed formed;

    formed.t = -1;
    for (size_t k = array_of_line(work, begin); begin < end; k++) {
        const instep_array *array = &work->arrays[k];
        if (array->grad == NULL || array->size == 0)
            continue;
        if (array->step_count != formed.t)
            instep_form(&formed, work->optimizer, array->step_count);

        size_t offset = (begin - array->first_line) * INSTEP_LINE;
        size_t length = (end - begin) * INSTEP_LINE;
        if (length > instep_bytes(array) - offset)
            length = instep_bytes(array) - offset;
        void *state[INSTEP_MAX_STATES];
        for (size_t s = 0; s < work->states; s++)
            state[s] = (char *)array->state[s] + offset;

        if (array->dtype == INSTEP_FLOAT32)
            run_aligned(in_float, length / sizeof(float), sizeof(float), (char *)array->param + offset,
                        (const char *)array->grad + offset, state, work->states, formed.how, formed.in_float);
        else
            run_aligned(in_double, length / sizeof(double), sizeof(double), (char *)array->param + offset,
                        (const char *)array->grad + offset, state, work->states, formed.how, &formed.in_double);
        begin += instep_lines(length);
    }
    float_mode_leave(callers);
}

void instep_run(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t total, int64_t step_count)
{
    struct work work = {optimizer, arrays, count, instep_state_count(optimizer), instep_loop_of(optimizer)};

    instep_pool_enter();
    optimizer->step_count = step_count;
    for (size_t k = 0; k < count; k++)
        arrays[k].step_count += arrays[k].grad != NULL;
    if (total != 0)
        instep_pool_run(step_lines, &work, total, LINES_PER_THREAD);
    instep_pool_leave();
}
