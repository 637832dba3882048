/* One array in one step, around its rule.
 *
 * reference.h includes it once for each type, as reference_rules.h. */

/* A float as it arrives: one that is subnormal counts as 0 however wide T is. */
static T NAME(of_float)(float x)
{
    return (T)(fabs(x) < FLT_MIN ? copysign(0.0f, x) : x);
}

/* All numbers of an array that is stored so; `low` is the lower half of INSTEP_SPLIT. */
static T *NAME(opened)(const void *memory, const void *low, int format, size_t size)
{
    T *numbers = some(size * sizeof *numbers);
    for (size_t i = 0; i < size; i++) {
        const unsigned char *at = (const unsigned char *)memory + i * width_of(format, sizeof(T));
        uint16_t half = 0, lower = 0;
        float narrow;
        if (width_of(format, sizeof(T)) == sizeof half)
            memcpy(&half, at, sizeof half);
        switch (format) {
        case INSTEP_AS_COMPUTED:
            memcpy(&numbers[i], at, sizeof(T));
            break;
        case INSTEP_FLOAT:
            memcpy(&narrow, at, sizeof narrow);
            numbers[i] = NAME(of_float)(narrow);
            break;
        case INSTEP_BFLOAT16:
            numbers[i] = NAME(of_float)(of_bfloat16(half));
            break;
        case INSTEP_FLOAT16:
            numbers[i] = of_half(half);
            break;
        case INSTEP_SPLIT:
            memcpy(&lower, (const unsigned char *)low + i * sizeof lower, sizeof lower);
            numbers[i] = of_split(half, lower);
            break;
        default:
            numbers[i] = of_byte(format, *at, ((const unsigned char *)memory)[size + i / BLOCK]);
        }
    }
    return numbers;
}

/* Stores the numbers of the elements that were touched. */
static void NAME(close)(void *memory, void *low, int format, size_t size, const T *numbers, const bool *touched,
                        const struct source *source)
{
    unsigned char *bytes = memory;
    if (format == INSTEP_BYTE || format == INSTEP_SIGNED_BYTE) {
        for (size_t first = 0; first < size; first += BLOCK) {
            float block[BLOCK];
            size_t n = size - first < BLOCK ? size - first : BLOCK;
            for (size_t i = 0; i < n; i++)
                block[i] = (float)numbers[first + i];
            bytes[size + first / BLOCK] = (uint8_t)bytes_of(format, block, n, source, first, bytes + first);
        }
        return;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char *at = bytes + i * width_of(format, sizeof(T));
        uint16_t half = 0, lower = 0;
        if (!touched[i])
            continue;
        if (format == INSTEP_AS_COMPUTED) {
            memcpy(at, &numbers[i], sizeof(T));
            continue;
        }
        if (format == INSTEP_BFLOAT16)
            half = bfloat16_of((float)numbers[i], random_at(source, i));
        if (format == INSTEP_FLOAT16)
            half = half_of((float)numbers[i], random_at(source, i));
        if (format == INSTEP_SPLIT) {
            split_of((float)numbers[i], &half, &lower);
            memcpy((unsigned char *)low + i * sizeof lower, &lower, sizeof lower);
        }
        memcpy(at, &half, sizeof half);
    }
}

/* The copy of a parameter. */
static void NAME(close_copy)(void *memory, int format, size_t size, const T *numbers, const bool *touched)
{
    for (size_t i = 0; i < size; i++)
        if (touched[i]) {
            float x = (float)numbers[i];
            uint16_t half = format == INSTEP_BFLOAT16 ? nearest_bfloat16_of(x) : nearest_half_of(x);
            memcpy((unsigned char *)memory + i * sizeof half, &half, sizeof half);
        }
}

/* The sum of squares of n numbers, in 32 partial sums. */
static double NAME(sum_of_squares)(const T *x, size_t n)
{
    double partial[32] = {0};
    float_mode callers = float_mode_enter(STEP);
    for (size_t i = 0; i < n; i++)
        partial[i % 32] += (double)x[i] * (double)x[i];
    for (size_t half = 16; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++)
            partial[k] += partial[k + half];
    float_mode_leave(callers);
    return partial[0];
}

static void NAME(add_squares)(const instep_array *array, struct exact *sum)
{
    const size_t size = runs_of(array) * elements_of_run(array), together = summed_together(array);
    T *grad = NAME(opened)(array->grad, NULL, array->formats.grad, size);
    size_t of_rows = array->rows != NULL && array->row_size > BLOCK ? array->row_size : size;

    for (size_t begin = 0; begin < size; begin += of_rows)
        for (size_t i = 0; i < of_rows; i += together)
            add_exactly(sum, NAME(sum_of_squares)(grad + begin + i, of_rows - i < together ? of_rows - i : together));
    free(grad);
}

/* Of the blocks that a run is in, each by itself. */
static void NAME(add_squares_of_run)(const T *numbers, size_t begin, size_t end, struct exact *sum)
{
    while (begin < end) {
        size_t next = (begin / BLOCK + 1) * BLOCK < end ? (begin / BLOCK + 1) * BLOCK : end;
        add_exactly(sum, NAME(sum_of_squares)(numbers + begin, next - begin));
        begin = next;
    }
}

/* Rows take the steps that they missed, of a gradient of 0. */
static void NAME(take_missed_steps)(const struct options *o, instep_array *array, size_t states, T **state, T zero,
                                    NAME(formula) * formula)
{
    const size_t rows = array->rows == NULL ? array->size / array->row_size : array->row_count;
    for (size_t r = 0; r < rows; r++) {
        const size_t row = array->rows == NULL ? r : (size_t)array->rows[r];
        for (int64_t t = array->row_steps[row] + 1; t < array->step_count; t++)
            for (size_t i = row * array->row_size; i < (row + 1) * array->row_size; i++) {
                T p = 0, *at[INSTEP_MAX_STATES] = {NULL};
                for (size_t s = 0; s < states; s++)
                    at[s] = &state[s][i];
                formula(o, t, &p, zero, at);
            }
        array->row_steps[row] = array->step_count;
    }
}

/* The step that array->step_count counts. */
static void NAME(step_array)(const struct options *o, instep_array *array, size_t states, double clip)
{
    const size_t size = array->size, per_run = elements_of_run(array);
    const double scale = (o->maximize != 0 ? -1 : 1) * (o->grad_scale * clip);
    const double keep = o->average_decay;
    T *p = NAME(opened)(array->param, array->low, array->formats.param, size);
    T *moved = some(size * sizeof *moved), *state[INSTEP_MAX_STATES] = {NULL}, *average = NULL;
    T *grad = NAME(opened)(array->grad, NULL, array->formats.grad, runs_of(array) * per_run);
    bool *touched = some(size);
    NAME(formula) *formula = NAME(formula_of)(o);
    struct exact update = {.parts = 0}, param = {.parts = 0};

    for (size_t s = 0; s < states; s++)
        state[s] = NAME(opened)(array->state[s], NULL, array->formats.state[s], size);
    if (o->average_decay != 0)
        average = NAME(opened)(array->state[states], NULL, INSTEP_AS_COMPUTED, size);

    float_mode callers = float_mode_enter(STEP);
    if (o->exact_rows != 0 && array->row_steps != NULL)
        NAME(take_missed_steps)(o, array, states, state, (T)scale * 0, formula);
    for (size_t run = 0; run < runs_of(array); run++)
        for (size_t k = 0; k < per_run; k++) {
            const size_t i = begin_of_run(array, run) + k;
            const T before = p[i];
            T g = grad[run * per_run + k], *at[INSTEP_MAX_STATES] = {NULL};
            g = scale != 0 && fabs(scale) < FLT_MIN ? (T)(scale / FLT_MIN) * ((T)FLT_MIN * g) : (T)scale * g;
            if (o->clip_value != 0 && g > (T)o->clip_value)
                g = (T)o->clip_value;
            if (o->clip_value != 0 && g < -(T)o->clip_value)
                g = -(T)o->clip_value;
            g = NAME(flushed)(g);
            if (o->decoupled_weight_decay != 0)
                p[i] *= (T)(1 - o->lr * o->weight_decay);
            else if (o->weight_decay != 0)
                g += (T)o->weight_decay * p[i];
            for (size_t s = 0; s < states; s++)
                at[s] = &state[s][i];
            formula(o, array->step_count, &p[i], g, at);
            moved[i] = p[i] - before;
            touched[i] = true;
            if (average != NULL)
                average[i] = array->step_count == 1 ? p[i] : (T)keep * average[i] + (T)(1 - keep) * p[i];
        }
    float_mode_leave(callers);

    struct source source = {(uint64_t)o->seed, array->stream, (uint64_t)array->step_count, OF_PARAM};
    NAME(close)(array->param, array->low, array->formats.param, size, p, touched, &source);
    if (array->copy != NULL)
        NAME(close_copy)(array->copy, array->formats.copy, size, p, touched);
    for (size_t s = 0; s < states; s++) {
        source.place = (unsigned)(OF_STATES + s);
        NAME(close)(array->state[s], NULL, array->formats.state[s], size, state[s], touched, &source);
    }
    if (average != NULL)
        NAME(close)(array->state[states], NULL, INSTEP_AS_COMPUTED, size, average, touched, &source);
    if (o->zero_grads != 0)
        memset((void *)array->grad, 0, runs_of(array) * per_run * width_of(array->formats.grad, sizeof(T)));
    if (o->statistics != 0) {
        for (size_t run = 0; run < runs_of(array); run++) {
            size_t begin = begin_of_run(array, run);
            NAME(add_squares_of_run)(moved, begin, begin + per_run, &update);
            NAME(add_squares_of_run)(p, begin, begin + per_run, &param);
        }
        array->norms->update = norm_of(&update, 1);
        array->norms->param = norm_of(&param, 1);
    }
    for (size_t s = 0; s < states; s++)
        free(state[s]);
    free(average);
    free(touched);
    free(grad);
    free(moved);
    free(p);
}
