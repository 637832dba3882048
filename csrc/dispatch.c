/* Chooses among the compilations of kernels.c.  Compiled for the baseline alone: it runs before anything is known of
 * the processor. */
#include "dispatch.h"

#include "cpu.h"
#include "instep.h"

#include <stdatomic.h>
#include <string.h>

#if defined __AVX__
#error "dispatch.c runs on every processor: build it for the baseline"
#endif

#define ISA(name)                                                                                                      \
    extern instep_kernel *const instep_kernels_f32_##name[INSTEP_LOOPS];                                               \
    extern instep_kernel *const instep_kernels_f64_##name[INSTEP_LOOPS];
#include "isas.def"
#undef ISA

static const struct isa {
    const char *name;
    int (*available)(void);
    instep_kernel *const *kernels[2]; /* by instep_dtype */
} isas[] = {
#define ISA(name) {#name, instep_cpu_##name, {instep_kernels_f32_##name, instep_kernels_f64_##name}},
#include "isas.def"
#undef ISA
};

enum { ISAS = sizeof isas / sizeof isas[0] };

static _Atomic(const struct isa *) chosen;

static const struct isa *highest_available(void)
{
    const struct isa *highest = &isas[0];
    for (size_t k = 0; k < ISAS; k++)
        if (isas[k].available())
            highest = &isas[k];
    return highest;
}

static const struct isa *active(void)
{
    const struct isa *isa = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (isa == NULL) {
        isa = highest_available();
        atomic_store_explicit(&chosen, isa, memory_order_relaxed);
    }
    return isa;
}

instep_kernel *const *instep_active_kernels(int dtype)
{
    return active()->kernels[dtype];
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
        atomic_store_explicit(&chosen, highest_available(), memory_order_relaxed);
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
