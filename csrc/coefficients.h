#include <stdint.h>

/* What the loops read, in the type T of the arrays; where the coefficients are formed, T is double. */
struct coefficients {
#define COEFFICIENT(name) T name;
#include "rules.def"
};

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
