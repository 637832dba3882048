/* Chooses among the compilations of kernels.c.  Compiled for the baseline alone: it runs before anything is known of
 * the processor. */
#include "dispatch.h"

#include "cpu.h"
#include "float_mode.h"
#include "options.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#if defined __AVX__
#error "dispatch.c runs on every processor: build it for the baseline"
#endif

#define ISA(name, timed, plain)                                                                                        \
    extern instep_kernel *const instep_kernels_f32_##name[INSTEP_LOOPS];                                               \
    extern instep_kernel *const instep_kernels_f64_##name[INSTEP_LOOPS];                                               \
    extern const struct instep_block_loops instep_block_loops_f32_##plain;                                             \
    extern const struct instep_block_loops instep_block_loops_f64_##plain;
#include "isas.def"
#undef ISA

static const struct isa {
    const char *name;
    int (*available)(void);
    int timed;                    /* whether it is chosen only where it is faster than the one before it */
    struct instep_loops loops[2]; /* by instep_dtype */
} isas[] = {
#define LOOPS(dtype, name, plain)                                                                                      \
    {                                                                                                                  \
        instep_kernels_##dtype##_##name, &instep_block_loops_##dtype##_##plain                                         \
    }
#define ISA(name, timed, plain) {#name, instep_cpu_##name, timed, {LOOPS(f32, name, plain), LOOPS(f64, name, plain)}},
#include "isas.def"
#undef ISA
};

enum { ISAS = sizeof isas / sizeof isas[0] };

static _Atomic(const struct isa *) chosen;

static int64_t nanoseconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The shortest of a few walks through some numbers in the first cache.  The first loop of the roll-call has a root, and
 * takes the same time whatever the numbers. */
static int64_t time_taken(const struct isa *isa)
{
    enum { SIZE = 512, WALKS = 8 };
    double arrays[2 + INSTEP_MAX_STATES][SIZE] = {{0}};
    void *state[INSTEP_MAX_STATES];
    const struct coefficients none = {0};
    int64_t shortest = INT64_MAX;

    for (size_t s = 0; s < INSTEP_MAX_STATES; s++)
        state[s] = arrays[2 + s];
    float_mode callers = float_mode_enter(STEP);
    for (int walk = 0; walk < WALKS; walk++) {
        int64_t begin = nanoseconds();
        isa->loops[INSTEP_FLOAT64].kernel[0](SIZE, arrays[0], arrays[1], state, SCALED, &none);
        int64_t taken = nanoseconds() - begin;
        shortest = taken < shortest ? taken : shortest;
    }
    float_mode_leave(callers);
    return shortest;
}

/* The highest that is available, and worth it: at least 1.2 times as fast as the one before it if it must be timed. */
static const struct isa *best_available(void)
{
    const struct isa *best = &isas[0];
    for (size_t k = 0; k < ISAS; k++)
        if (isas[k].available() && (!isas[k].timed || time_taken(&isas[k]) * 6 <= time_taken(best) * 5))
            best = &isas[k];
    return best;
}

static const struct isa *active(void)
{
    const struct isa *isa = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (isa == NULL) {
        isa = best_available();
        atomic_store_explicit(&chosen, isa, memory_order_relaxed);
    }
    return isa;
}

const struct instep_loops *instep_active_loops(int dtype)
{
    return &active()->loops[dtype];
}

const char *instep_isa_name(size_t isa)
{
    return isa < ISAS ? isas[isa].name : NULL;
}

int instep_isa_available(size_t isa)
{
    return isa < ISAS && isas[isa].available();
}

const char *instep_active_isa(void)
{
    return active()->name;
}

int instep_set_isa(const char *name)
{
    if (name == NULL) {
        atomic_store_explicit(&chosen, best_available(), memory_order_relaxed);
        return INSTEP_OK;
    }
    for (size_t k = 0; k < ISAS; k++) {
        if (strcmp(name, isas[k].name) != 0)
            continue;
        if (!isas[k].available())
            return INSTEP_UNAVAILABLE_ISA;
        atomic_store_explicit(&chosen, &isas[k], memory_order_relaxed);
        return INSTEP_OK;
    }
    return INSTEP_UNKNOWN_ISA;
}
