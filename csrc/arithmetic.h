/* What several rules are made of. */
#include "lanes.h"

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

/* `size` in the direction of x, or x itself where it is a zero or NaN: sign(x) size, without a product. */
static inline T towards(T x, T size)
{
    return where_greater(x, every(0), size, where_greater(every(0), x, -size, x));
}

static inline T clamped(T x, S least, S most)
{
    x = where_greater(x, every(most), every(most), x);
    return where_greater(every(least), x, every(least), x);
}

/* b <- momentum b + u.  What the parameter moves by: b, or Nesterov's u + momentum b, a step further along it. */
static inline T heavy_ball(T u, T *momentum_buffer, S momentum)
{
    return *momentum_buffer = momentum * *momentum_buffer + u;
}

static inline T look_ahead(T u, T *momentum_buffer, S momentum)
{
    return u + momentum * heavy_ball(u, momentum_buffer, momentum);
}
