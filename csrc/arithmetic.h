/* What several rules are made of. */
#include <stdint.h>

/* x^n by squaring: multiplications alone, so that it has the same bits under every C library, unlike pow. */
static inline double whole_power(double x, int64_t n)
{
    double power = 1;
    for (; n > 0; n >>= 1) {
        if (n & 1)
            power *= x;
        x *= x;
    }
    return power;
}

/* Comparisons, not a library's: a NaN and either zero stay what they are on every processor. */
static inline T sign_of(T x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

static inline T clamped(T x, T least, T most)
{
    x = x > most ? most : x;
    return x < least ? least : x;
}

/* b <- momentum b + u.  What the parameter moves by: b, or Nesterov's u + momentum b, a step further along it. */
static inline T heavy_ball(T u, T *momentum_buffer, T momentum)
{
    return *momentum_buffer = momentum * *momentum_buffer + u;
}

static inline T look_ahead(T u, T *momentum_buffer, T momentum)
{
    return u + momentum * heavy_ball(u, momentum_buffer, momentum);
}
