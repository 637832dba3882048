#include "walk.h"

#include "dispatch.h"
#include "formed.h"
#include "pool.h"

#include <string.h>

enum { BLOCK = 1024 }; /* elements: the unit in which the arrays, laid end to end, are cut between threads */

#define ISA(name)                                                                                                      \
    extern instep_kernel *const instep_walls_f32_##name[INSTEP_WALLS];                                                 \
    extern instep_kernel *const instep_walls_f64_##name[INSTEP_WALLS];
#include "isas.def"
#undef ISA

static const struct {
    const char *isa;
    instep_kernel *const *walls[2]; /* by instep_dtype */
} table[] = {
#define ISA(name) {#name, {instep_walls_f32_##name, instep_walls_f64_##name}},
#include "isas.def"
#undef ISA
};

struct walk {
    instep_kernel *kernel;
    const instep_array *arrays;
    size_t count, width;
    enum preparation how;
    const void *coefficients;
};

static instep_kernel *kernel_of(enum instep_bench_loop loop, uint32_t dtype)
{
    if (loop == INSTEP_BARE)
        return instep_active_kernels((int)dtype)[LOOP_rmsprop];
    size_t k = 0;
    while (strcmp(table[k].isa, instep_active_isa()) != 0)
        k++;
    return table[k].walls[dtype][loop];
}

static void walk_all(const struct walk *walk)
{
    for (size_t k = 0; k < walk->count; k++) {
        const instep_array *array = &walk->arrays[k];
        walk->kernel(array->size, array->param, array->grad, array->state, walk->how, walk->coefficients);
    }
}

static void walk_blocks(void *context, size_t begin, size_t end)
{
    const struct walk *walk = context;
    begin *= BLOCK;
    end *= BLOCK;
    for (size_t k = 0, start = 0; k < walk->count && start < end; start += walk->arrays[k++].size) {
        const instep_array *array = &walk->arrays[k];
        size_t from = begin > start ? begin - start : 0;
        size_t to = end - start < array->size ? end - start : array->size;
        if (from >= to)
            continue;
        size_t offset = from * walk->width;
        void *state[] = {(char *)array->state[0] + offset};
        walk->kernel(to - from, (char *)array->param + offset, (const char *)array->grad + offset, state, walk->how,
                     walk->coefficients);
    }
}

void instep_bench_walk(enum instep_bench_loop loop, const instep_array *arrays, size_t count, int threads,
                       size_t repeats)
{
    instep_optimizer optimizer;
    struct formed formed;
    struct walk walk = {.arrays = arrays, .count = count};
    size_t total = 0;

    if (count == 0)
        return;
    instep_init(&optimizer, "rmsprop", INSTEP_ABI_VERSION);
    instep_set(&optimizer, "lr", 0.01);
    instep_set(&optimizer, "rho", 0.99);
    instep_form(&formed, &optimizer, 1);
    walk.how = formed.how;
    walk.kernel = kernel_of(loop, arrays[0].dtype);
    walk.width = arrays[0].dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
    walk.coefficients = arrays[0].dtype == INSTEP_FLOAT32 ? (const void *)formed.in_float : &formed.in_double;
    for (size_t a = 0; a < count; a++)
        total += arrays[a].size;

    instep_pool_enter();
    instep_set_threads(threads);
    for (size_t r = 0; r < repeats; r++) {
        if (threads == 1)
            walk_all(&walk);
        else
            instep_pool_run(walk_blocks, &walk, total / BLOCK + 1, 1);
    }
    instep_pool_leave();
}
