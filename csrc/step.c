/* The step: check everything, count, then walk the arrays' cache lines. */
#include "dispatch.h"
#include "float_mode.h"
#include "internals.h"
#include "options.h"
#include "pool.h"
#include "step.h"

#include <string.h>

enum {
    LINE = 64, /* bytes: the unit in which a step is cut between threads */
    /* Below two of these no thread wakes: measured by bench/lab/threshold.py. */
    LINES_PER_THREAD = 4096
};

struct work {
    const instep_optimizer *optimizer;
    instep_array *arrays;
    size_t count, states;
    enum instep_loop loop;
};

/* The coefficients of an array's t-th step, in both types. */
struct plan {
    int64_t t;
    enum preparation how;
    struct coefficients in_double;
    float in_float[sizeof(struct coefficients) / sizeof(double)];
};

static void make_plan(struct plan *plan, const instep_optimizer *optimizer, int64_t t)
{
    plan->t = t;
    plan->how = PLAIN;
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        plan->how = rule##_coefficients((const struct rule *)optimizer->option, t, &plan->in_double);                  \
        break;
#include "rules.def"
    }
    size_t k = 0;
#define COEFFICIENT(name) plan->in_float[k++] = (float)plan->in_double.name;
#include "rules.def"
}

void instep_form(const instep_optimizer *optimizer, int dtype, int64_t t, struct instep_formed *formed)
{
    struct plan plan = {0};
    _Static_assert(sizeof plan.in_double <= sizeof formed->coefficients, "internals.h has too little room");

    make_plan(&plan, optimizer, t);
    formed->kernel = instep_active_kernels(dtype)[instep_loop_of(optimizer)];
    formed->preparation = plan.how;
    if (dtype == INSTEP_FLOAT32)
        memcpy(formed->coefficients, plan.in_float, sizeof plan.in_float);
    else
        memcpy(formed->coefficients, &plan.in_double, sizeof plan.in_double);
}

static size_t bytes(const instep_array *array)
{
    return array->size * (array->dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double));
}

static size_t lines(size_t bytes)
{
    return (bytes + LINE - 1) / LINE;
}

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
    float_mode callers = float_mode_enter();
    struct plan plan;

    plan.t = -1;
    for (size_t k = array_of_line(work, begin); begin < end; k++) {
        const instep_array *array = &work->arrays[k];
        if (array->grad == NULL || array->size == 0)
            continue;
        if (array->step_count != plan.t)
            make_plan(&plan, work->optimizer, array->step_count);

        size_t offset = (begin - array->first_line) * LINE;
        size_t length = (end - begin) * LINE;
        if (length > bytes(array) - offset)
            length = bytes(array) - offset;
        void *state[INSTEP_MAX_STATES];
        for (size_t s = 0; s < work->states; s++)
            state[s] = (char *)array->state[s] + offset;

        if (array->dtype == INSTEP_FLOAT32)
            in_float(length / sizeof(float), (char *)array->param + offset, (const char *)array->grad + offset, state,
                     plan.how, plan.in_float);
        else
            in_double(length / sizeof(double), (char *)array->param + offset, (const char *)array->grad + offset, state,
                      plan.how, &plan.in_double);
        begin += lines(length);
    }
    float_mode_leave(callers);
}

static int check_array(const instep_array *array, size_t states)
{
    if (array->grad == NULL)
        return INSTEP_OK;
    if (array->dtype != INSTEP_FLOAT32 && array->dtype != INSTEP_FLOAT64)
        return INSTEP_BAD_DTYPE;
    if (array->step_count < 0 || array->step_count == INT64_MAX)
        return INSTEP_BAD_STEP_COUNT;
    if (array->size > PTRDIFF_MAX / sizeof(double))
        return INSTEP_BAD_SIZE;
    if (array->size == 0)
        return INSTEP_OK;
    if (array->param == NULL)
        return INSTEP_NULL_ARGUMENT;
    for (size_t s = 0; s < states; s++)
        if (array->state[s] == NULL)
            return INSTEP_NULL_ARGUMENT;
    return INSTEP_OK;
}

int instep_plan(const instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t *total)
{
    int narrowest = INSTEP_FLOAT64; /* what is good for float32 is good for float64 */
    size_t states = instep_state_count(optimizer);
    int status;

    if (arrays == NULL && count != 0)
        return INSTEP_NULL_ARGUMENT;
    *total = 0;
    for (size_t k = 0; k < count; k++) {
        if ((status = check_array(&arrays[k], states)) != INSTEP_OK)
            return status;
        if (arrays[k].grad && arrays[k].dtype == INSTEP_FLOAT32)
            narrowest = INSTEP_FLOAT32;
        arrays[k].first_line = *total;
        *total += arrays[k].grad ? lines(bytes(&arrays[k])) : 0;
        if (*total > PTRDIFF_MAX / LINE)
            return INSTEP_BAD_SIZE;
    }
    if ((status = instep_check(optimizer, narrowest, NULL)) != INSTEP_OK)
        return status;
    return optimizer->step_count < 0 || optimizer->step_count == INT64_MAX ? INSTEP_BAD_STEP_COUNT : INSTEP_OK;
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

int instep_step(instep_optimizer *optimizer, instep_array *arrays, size_t count)
{
    size_t total;
    int status = instep_plan(optimizer, arrays, count, &total);
    if (status == INSTEP_OK)
        instep_run(optimizer, arrays, count, total, optimizer->step_count + 1);
    return status;
}

int instep_step_one(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index)
{
    size_t total;
    if (index >= count)
        return INSTEP_BAD_INDEX;
    if (arrays == NULL || arrays[index].grad == NULL)
        return INSTEP_NULL_ARGUMENT;
    int status = instep_plan(optimizer, &arrays[index], 1, &total);
    if (status == INSTEP_OK) {
        int64_t steps_of_array = arrays[index].step_count + 1;
        instep_run(optimizer, &arrays[index], 1, total,
                   optimizer->step_count > steps_of_array ? optimizer->step_count : steps_of_array);
    }
    return status;
}
