/* The step: check everything, count, then walk. */
#include "step.h"

#include "blocks.h"
#include "options.h"
#include "runs.h"

#include <string.h>

static int counts_on(int64_t count)
{
    return count >= 0 && count < INT64_MAX;
}

static int holds_params(int dtype, int format)
{
    return format == INSTEP_AS_COMPUTED
           || (dtype == INSTEP_FLOAT32
               && (format == INSTEP_BFLOAT16 || format == INSTEP_FLOAT16 || format == INSTEP_SPLIT));
}

static int holds_grads(int dtype, int format)
{
    return format == INSTEP_AS_COMPUTED || format == INSTEP_BFLOAT16 || format == INSTEP_FLOAT16
           || (dtype == INSTEP_FLOAT64 && format == INSTEP_FLOAT);
}

static int holds_copies(int dtype, int format)
{
    return dtype == INSTEP_FLOAT32 && (format == INSTEP_BFLOAT16 || format == INSTEP_FLOAT16);
}

static int holds_states(int dtype, int format, int range)
{
    if (format == INSTEP_AS_COMPUTED)
        return 1;
    if (dtype != INSTEP_FLOAT32)
        return 0;
    return format == INSTEP_BFLOAT16 || format == INSTEP_SIGNED_BYTE
           || (format == INSTEP_BYTE && range != INSTEP_ANY_NUMBER);
}

static int check_formats(const instep_optimizer *optimizer, const instep_array *array, size_t states)
{
    static const instep_formats as_computed;
    const instep_formats *formats = &array->formats;

    if (array->copy != NULL && !holds_copies((int)array->dtype, formats->copy))
        return INSTEP_BAD_FORMAT;
    if (memcmp(formats, &as_computed, sizeof as_computed) == 0)
        return INSTEP_OK;
    if (!holds_params((int)array->dtype, formats->param) || !holds_grads((int)array->dtype, formats->grad))
        return INSTEP_BAD_FORMAT;
    if (formats->param == INSTEP_SPLIT && array->low == NULL && array->size != 0)
        return INSTEP_NULL_ARGUMENT;
    size_t of_rule = instep_states_of_rule(optimizer);
    for (size_t s = 0; s < states; s++) {
        int range = s < of_rule ? instep_state_range(optimizer, s) : INSTEP_ANY_NUMBER;
        if (!holds_states((int)array->dtype, formats->state[s], range))
            return INSTEP_BAD_FORMAT;
        int is_bytes = formats->state[s] == INSTEP_BYTE || formats->state[s] == INSTEP_SIGNED_BYTE;
        if ((is_bytes && array->rows != NULL) || (s >= of_rule && formats->state[s] != INSTEP_AS_COMPUTED))
            return INSTEP_BAD_FORMAT;
    }
    return INSTEP_OK;
}

static int check_rows(const instep_array *array)
{
    if (array->row_size == 0 || array->size % array->row_size != 0 || array->row_count > array->size / array->row_size)
        return INSTEP_BAD_ROWS;
    int64_t last = -1, end = (int64_t)(array->size / array->row_size);
    for (size_t r = 0; r < array->row_count; r++) {
        if (array->rows[r] <= last || array->rows[r] >= end)
            return INSTEP_BAD_ROWS;
        last = array->rows[r];
    }
    return INSTEP_OK;
}

static int check_row_steps(const instep_array *array, size_t states)
{
    if (array->row_steps == NULL)
        return array->rows == NULL ? INSTEP_OK : INSTEP_NULL_ARGUMENT;
    if (array->row_size == 0 || array->size % array->row_size != 0)
        return INSTEP_BAD_ROWS;
    for (size_t s = 0; s < states; s++)
        if (array->formats.state[s] != INSTEP_AS_COMPUTED) /* which would be rounded at random in every step */
            return INSTEP_BAD_FORMAT;
    return INSTEP_OK;
}

static int check_array(const instep_optimizer *optimizer, const instep_array *array, size_t states)
{
    const struct preparing *o = instep_preparing(optimizer);
    int status;

    if (array->dtype != INSTEP_FLOAT32 && array->dtype != INSTEP_FLOAT64)
        return INSTEP_BAD_DTYPE;
    if (!counts_on(array->step_count))
        return INSTEP_BAD_STEP_COUNT;
    if (array->size > PTRDIFF_MAX / sizeof(double))
        return INSTEP_BAD_SIZE;
    if ((status = check_formats(optimizer, array, states)) != INSTEP_OK)
        return status;
    if (array->norms == NULL && (o->clip_norm != 0 || o->statistics != 0))
        return INSTEP_NULL_ARGUMENT;
    if (array->rows != NULL && (status = check_rows(array)) != INSTEP_OK)
        return status;
    if (array->size == 0)
        return INSTEP_OK;
    if (o->exact_rows != 0 && (status = check_row_steps(array, states)) != INSTEP_OK)
        return status;
    if (array->param == NULL)
        return INSTEP_NULL_ARGUMENT;
    for (size_t s = 0; s < states; s++)
        if (array->state[s] == NULL)
            return INSTEP_NULL_ARGUMENT;
    return INSTEP_OK;
}

/* One rule, the same states, and what is of the step said once. */
static int check_groups(const instep_optimizer *optimizers, size_t groups, int narrowest)
{
    if (groups == 0)
        return INSTEP_BAD_GROUP;
    for (size_t g = 0; g < groups; g++) {
        int status = instep_check(&optimizers[g], narrowest, NULL);
        if (status != INSTEP_OK)
            return status;
        if (g == 0)
            continue;
        if (optimizers[g].rule != optimizers[0].rule
            || instep_state_count(&optimizers[g]) != instep_state_count(&optimizers[0]))
            return INSTEP_BAD_GROUP;
        for (size_t s = 0; s < instep_state_count(&optimizers[0]); s++)
            if (strcmp(instep_state_name(&optimizers[g], s), instep_state_name(&optimizers[0], s)) != 0)
                return INSTEP_BAD_GROUP;
        for (size_t k = 0; instep_option_name(&optimizers[0], k) != NULL; k++)
            if (instep_option_traits(&optimizers[0], k) & INSTEP_IS_OF_STEP
                && optimizers[g].option[k] != optimizers[0].option[k])
                return INSTEP_OF_ONE_GROUP;
    }
    return INSTEP_OK;
}

int instep_plan(const instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count, size_t *total)
{
    int narrowest = INSTEP_FLOAT64; /* what is good for float32 is good for float64 */
    int status;

    if ((optimizers == NULL && groups != 0) || (arrays == NULL && count != 0))
        return INSTEP_NULL_ARGUMENT;
    for (size_t k = 0; k < count; k++)
        if (arrays[k].grad != NULL && arrays[k].dtype == INSTEP_FLOAT32)
            narrowest = INSTEP_FLOAT32;
    if ((status = check_groups(optimizers, groups, narrowest)) != INSTEP_OK)
        return status;
    size_t states = instep_state_count(optimizers);
    *total = 0;
    for (size_t k = 0; k < count; k++) {
        arrays[k].first_block = *total;
        if (arrays[k].grad == NULL)
            continue;
        if (arrays[k].group >= groups)
            return INSTEP_BAD_GROUP;
        if ((status = check_array(&optimizers[arrays[k].group], &arrays[k], states)) != INSTEP_OK)
            return status;
        *total += instep_blocks_of(&arrays[k]);
        if (*total > PTRDIFF_MAX / INSTEP_BLOCK)
            return INSTEP_BAD_SIZE;
    }
    return counts_on(optimizers->step_count) && counts_on(optimizers->skipped_count)
                   && counts_on(optimizers->finite_count)
               ? INSTEP_OK
               : INSTEP_BAD_STEP_COUNT;
}

int instep_step_groups(instep_optimizer *optimizers, size_t groups, instep_array *arrays, size_t count)
{
    size_t total;
    int status = instep_plan(optimizers, groups, arrays, count, &total);
    if (status == INSTEP_OK)
        instep_run(optimizers, groups, arrays, count, total, optimizers->step_count + 1);
    return status;
}

int instep_step(instep_optimizer *optimizer, instep_array *arrays, size_t count)
{
    return instep_step_groups(optimizer, 1, arrays, count);
}

int instep_step_one(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index)
{
    size_t total;
    if (index >= count)
        return INSTEP_BAD_INDEX;
    if (arrays == NULL || arrays[index].grad == NULL)
        return INSTEP_NULL_ARGUMENT;
    int status = instep_plan(optimizer, 1, &arrays[index], 1, &total);
    if (status == INSTEP_OK) {
        int64_t steps_of_array = arrays[index].step_count + 1;
        instep_run(optimizer, 1, &arrays[index], 1, total,
                   optimizer->step_count > steps_of_array ? optimizer->step_count : steps_of_array);
    }
    return status;
}
