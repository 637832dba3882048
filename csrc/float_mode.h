/* The floating-point mode of the calling thread, put to IEEE's default for the time of a step.
 *
 * A library built with -ffast-math sets flush-to-zero in the thread that loads it; a caller may have changed the
 * rounding.  Neither may change a bit of a step, and a step may not change either, nor leave exception flags. */
#ifndef INSTEP_FLOAT_MODE_H
#define INSTEP_FLOAT_MODE_H

#include <stdint.h>

#if defined __x86_64__ || defined _M_X64

#include <xmmintrin.h>

typedef uint32_t float_mode;

static inline float_mode float_mode_enter(void)
{
    float_mode callers = _mm_getcsr();
    _mm_setcsr(0x1f80); /* all exceptions masked, round to nearest, subnormals kept: the state at power-on */
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

static inline float_mode float_mode_enter(void)
{
    float_mode callers;
    __asm__ volatile("mrs %0, fpcr" : "=r"(callers.control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(callers.status));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
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

static inline float_mode float_mode_enter(void)
{
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
