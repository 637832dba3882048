#include "walk.h"

#include "aligned.h"
#include "float_mode.h"

#include <string.h>

enum {
    BLOCK = 1024, /* elements: the unit in which the arrays, laid end to end, are cut between threads */
    BLOCKS_PER_THREAD = 8
};

#define ISA(name, timed, plain) extern const struct instep_walls instep_walls_f32_##plain, instep_walls_f64_##plain;
#include "isas.def"
#undef ISA

static const struct {
    const char *isa;
    const struct instep_walls *walls[2]; /* by instep_dtype */
} table[] = {
#define ISA(name, timed, plain) {#name, {&instep_walls_f32_##plain, &instep_walls_f64_##plain}},
#include "isas.def"
#undef ISA
};

struct work {
    instep_kernel *kernel;
    const struct instep_walk *walk;
};

static instep_kernel *kernel_of(const struct instep_walk *walk, enum instep_bench_loop loop)
{
    if (loop == INSTEP_BARE)
        return walk->bare.kernel;
    size_t k = 0;
    while (strcmp(table[k].isa, walk->isa) != 0)
        k++;
    const struct instep_walls *walls = table[k].walls[walk->arrays[0].dtype];
    return loop == INSTEP_ROOF ? walls->roof[walk->states] : walls->divider[loop - INSTEP_DIVIDER];
}

static size_t width_of(const struct instep_walk *walk)
{
    return walk->arrays[0].dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
}

static void walk_all(const struct work *work)
{
    const struct instep_walk *walk = work->walk;
    size_t width = width_of(walk);
    float_mode callers = float_mode_enter(STEP);
    for (size_t k = 0; k < walk->count; k++) {
        const instep_array *array = &walk->arrays[k];
        run_aligned(work->kernel, array->size, width, array->param, array->grad, array->state, walk->states,
                    walk->bare.preparation, walk->bare.coefficients);
    }
    float_mode_leave(callers);
}

static void walk_blocks(void *context, size_t begin, size_t end)
{
    const struct work *work = context;
    const struct instep_walk *walk = work->walk;
    size_t width = width_of(walk);
    float_mode callers = float_mode_enter(STEP);
    begin *= BLOCK;
    end *= BLOCK;
    for (size_t k = 0, start = 0; k < walk->count && start < end; start += walk->arrays[k++].size) {
        const instep_array *array = &walk->arrays[k];
        size_t from = begin > start ? begin - start : 0;
        size_t to = end - start < array->size ? end - start : array->size;
        if (from >= to)
            continue;
        size_t offset = from * width;
        void *state[INSTEP_MAX_STATES] = {NULL};
        for (size_t s = 0; s < walk->states; s++)
            state[s] = (char *)array->state[s] + offset;
        run_aligned(work->kernel, to - from, width, (char *)array->param + offset, (const char *)array->grad + offset,
                    state, walk->states, walk->bare.preparation, walk->bare.coefficients);
    }
    float_mode_leave(callers);
}

void instep_bench_walk(const struct instep_walk *walk, enum instep_bench_loop loop, int on_several, size_t repeats)
{
    size_t total = 0;
    if (walk->count == 0)
        return;
    for (size_t k = 0; k < walk->count; k++)
        total += walk->arrays[k].size;
    struct work work = {kernel_of(walk, loop), walk};

    walk->library->pool_enter();
    for (size_t r = 0; r < repeats; r++) {
        if (on_several)
            walk->library->pool_run(walk_blocks, &work, total / BLOCK + 1, BLOCKS_PER_THREAD);
        else
            walk_all(&work);
    }
    walk->library->pool_leave();
}
