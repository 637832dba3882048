/* The floating-point mode of the calling thread, put to one of ours for a while.
 *
 *     IEEE      its default: options are checked in it
 *     STEP      the same, but what is too small for a normal number counts as 0, results and operands alike: on some
 *               processors arithmetic on subnormal numbers takes 20 to 40 times as long, and a unit that died, a
 *               gradient that vanishes, an average that nothing feeds any more are full of them
 *
 * A library built with -ffast-math sets flush-to-zero in the thread that loads it; a caller may have changed the
 * rounding.  Neither may change a bit of a step, and a step may not change either, nor leave exception flags. */
#ifndef INSTEP_FLOAT_MODE_H
#define INSTEP_FLOAT_MODE_H

#include <stdint.h>

#if defined __x86_64__ || defined _M_X64

#include <xmmintrin.h>

typedef uint32_t float_mode;

/* All exceptions masked, round to nearest: the state at power-on.  Bits 15 and 6 flush results and operands. */
enum float_arithmetic { IEEE = 0x1f80, STEP = 0x1f80 | 0x8040 };

static inline float_mode float_mode_enter(enum float_arithmetic arithmetic)
{
    float_mode callers = _mm_getcsr();
    _mm_setcsr((uint32_t)arithmetic);
    return callers;
}

static inline void float_mode_leave(float_mode callers)
{
    _mm_setcsr(callers);
}

#elif defined __aarch64__

typedef struct {
    uint64_t control, status;
} float_mode;

/* Bit 24 of FPCR flushes results and operands. */
enum float_arithmetic { IEEE = 0, STEP = 1 << 24 };

static inline float_mode float_mode_enter(enum float_arithmetic arithmetic)
{
    float_mode callers;
    __asm__ volatile("mrs %0, fpcr" : "=r"(callers.control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(callers.status));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)arithmetic) : "memory");
    return callers;
}

static inline void float_mode_leave(float_mode callers)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(callers.control) : "memory");
    __asm__ volatile("msr fpsr, %0" : : "r"(callers.status) : "memory");
}

#else

#include <fenv.h>

typedef fenv_t float_mode;

/* C has no word for flushing: here a step keeps subnormal numbers. */
enum float_arithmetic { IEEE, STEP };

static inline float_mode float_mode_enter(enum float_arithmetic arithmetic)
{
    (void)arithmetic;
    float_mode callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    return callers;
}

static inline void float_mode_leave(float_mode callers)
{
    fesetenv(&callers);
}

#endif
#endif
