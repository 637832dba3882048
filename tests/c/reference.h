/* RMSprop as the table in the docstring of instep.RMSprop has it: one element after the other, one branch an option.
 *
 * Include it once for each type, with
 *     T           float or double
 *     REFERENCE   the name of the function
 * and build with -ffp-contract=off.  It shares no line with csrc/. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "instep.h"

#include <float.h>
#include <math.h>
#include <tgmath.h>

struct options {
    double lr, rho, eps, eps_inside, momentum, nesterov, lr_in_momentum, centered, bias_correction, weight_decay,
        decoupled_weight_decay, maximize;
};

static double option_of(const instep_optimizer *optimizer, const char *name)
{
    double value = NAN;
    instep_get(optimizer, name, &value);
    return value;
}

static struct options options_of(const instep_optimizer *optimizer)
{
    return (struct options){
        .lr = option_of(optimizer, "lr"),
        .rho = option_of(optimizer, "rho"),
        .eps = option_of(optimizer, "eps"),
        .eps_inside = option_of(optimizer, "eps_inside"),
        .momentum = option_of(optimizer, "momentum"),
        .nesterov = option_of(optimizer, "nesterov"),
        .lr_in_momentum = option_of(optimizer, "lr_in_momentum"),
        .centered = option_of(optimizer, "centered"),
        .bias_correction = option_of(optimizer, "bias_correction"),
        .weight_decay = option_of(optimizer, "weight_decay"),
        .decoupled_weight_decay = option_of(optimizer, "decoupled_weight_decay"),
        .maximize = option_of(optimizer, "maximize"),
    };
}

/* rho^t in multiplications alone, by squaring. */
static double power_of(double x, int64_t t)
{
    double power = 1;
    for (; t > 0; t /= 2, x *= x)
        if (t % 2 == 1)
            power *= x;
    return power;
}

#endif

/* The t-th step, counted from 1, of arrays that are aligned. */
static void REFERENCE(const struct options *o, int64_t t, size_t size, T *param, const T *grad, T *const *state)
{
    const T lr = (T)o->lr, rho = (T)o->rho, eps = (T)o->eps, momentum = (T)o->momentum;
    const T one_minus_rho = (T)(1 - o->rho);
    const T largest = sizeof(T) == sizeof(float) ? (T)FLT_MAX : (T)DBL_MAX;

    for (size_t i = 0; i < size; i++) {
        T g = o->maximize != 0 ? -grad[i] : grad[i];
        if (o->weight_decay != 0 && o->decoupled_weight_decay != 0)
            param[i] *= (T)(1 - o->lr * o->weight_decay);
        else if (o->weight_decay != 0)
            g += (T)o->weight_decay * param[i];

        T v;
        if (o->centered != 0) {
            T d = g - state[1][i];
            if (d > largest)
                d = largest;
            if (d < -largest)
                d = -largest;
            state[0][i] = rho * (state[0][i] + one_minus_rho * d * d);
            state[1][i] += one_minus_rho * d;
            v = state[0][i];
        } else {
            state[0][i] = rho * state[0][i] + one_minus_rho * (g * g);
            v = state[0][i];
        }
        if (o->bias_correction != 0)
            v *= (T)(1 / (1 - power_of(o->rho, t)));

        T u = o->eps_inside != 0 ? g / sqrt(v + eps) : g / (sqrt(v) + eps);
        if (o->momentum == 0) {
            param[i] -= lr * u;
            continue;
        }
        T *b = &state[o->centered != 0 ? 2 : 1][i];
        if (o->lr_in_momentum != 0)
            u = lr * u;
        *b = momentum * *b + u;
        T move = o->nesterov != 0 ? u + momentum * *b : *b;
        param[i] -= o->lr_in_momentum != 0 ? move : lr * move;
    }
}

#undef T
#undef REFERENCE
