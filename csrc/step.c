/* The step: check everything, count, then walk. */
#include "step.h"

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
        *total += arrays[k].grad ? instep_lines(instep_bytes(&arrays[k])) : 0;
        if (*total > PTRDIFF_MAX / INSTEP_LINE)
            return INSTEP_BAD_SIZE;
    }
    if ((status = instep_check(optimizer, narrowest, NULL)) != INSTEP_OK)
        return status;
    return optimizer->step_count < 0 || optimizer->step_count == INT64_MAX ? INSTEP_BAD_STEP_COUNT : INSTEP_OK;
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
