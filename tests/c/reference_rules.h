/* Every rule as the table in the docstring of its Python class has it: one element, one branch an option.
 *
 * Include it once for each type, with
 *     T           float or double
 *     NAME(name)  what makes the names of its functions, NAME(reference) among them
 * and build with -ffp-contract=off.  It shares nothing with csrc/ but the association of each sum and product and the
 * mode of the arithmetic, in which subnormal numbers count as 0. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "float_mode.h"
#include "instep.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

/* Of all rules. */
/* clang-format off */
#define EVERY_OPTION(DO) \
    DO(lr) DO(rho) DO(beta1) DO(beta2) DO(eps) DO(eps_root) DO(eps_inside) DO(eps_hat) DO(momentum) DO(nesterov) \
    DO(lr_in_momentum) DO(dampening) DO(dampen_first) DO(centered) DO(bias_correction) DO(amsgrad) \
    DO(amsgrad_corrected) DO(lr_decay) DO(eta_minus) DO(eta_plus) DO(step_min) DO(step_max) DO(weight_decay) \
    DO(decoupled_weight_decay) DO(maximize)
/* clang-format on */

struct options {
    const char *rule;
#define FIELD(name) double name;
    EVERY_OPTION(FIELD)
#undef FIELD
};

/* Those of one rule; the others are 0. */
static struct options options_of(const instep_optimizer *optimizer)
{
    struct options options = {.rule = instep_rule_name(optimizer->rule)};
#define READ(name) instep_get(optimizer, #name, &options.name);
    EVERY_OPTION(READ)
#undef READ
    return options;
}

/* x^t in multiplications alone, by squaring. */
static double power_of(double x, int64_t t)
{
    double power = 1;
    for (; t > 0; t /= 2, x *= x)
        if (t % 2 == 1)
            power *= x;
    return power;
}

#endif

/* What no arithmetic has met yet. */
static T NAME(flushed)(T x)
{
    return fabs(x) < (sizeof(T) == sizeof(float) ? (T)FLT_MIN : (T)DBL_MIN) ? copysign((T)0, x) : x;
}

static T NAME(sign)(T x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

/* Momentum, Nesterov's too: what the parameter moves by. */
static T NAME(momentum)(const struct options *o, T u, T *b)
{
    const T momentum = (T)o->momentum;
    *b = momentum * *b + u;
    return o->nesterov != 0 ? u + momentum * *b : *b;
}

static void NAME(rmsprop)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const T lr = (T)o->lr, rho = (T)o->rho, one_minus_rho = (T)(1 - o->rho), eps = (T)o->eps;
    const T largest = sizeof(T) == sizeof(float) ? (T)FLT_MAX : (T)DBL_MAX;
    T *v = state[0], *b = state[o->centered != 0 ? 2 : 1];

    if (o->centered != 0) {
        T *m = state[1], d = g - *m;
        d = d > largest ? largest : d < -largest ? -largest : d;
        *v = rho * (*v + one_minus_rho * d * d);
        *m += one_minus_rho * d;
    } else {
        *v = rho * *v + one_minus_rho * (g * g);
    }
    T c = o->bias_correction != 0 ? *v * (T)(1 / (1 - power_of(o->rho, t))) : *v;
    T u = o->eps_inside != 0 ? g / sqrt(c + eps) : g / (sqrt(c) + eps);
    if (o->momentum == 0)
        *p -= lr * u;
    else if (o->lr_in_momentum != 0)
        *p -= NAME(momentum)(o, lr * u, b);
    else
        *p -= lr * NAME(momentum)(o, u, b);
}

static void NAME(sgd)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    double enters = t == 1 && o->dampen_first == 0 ? 1 : 1 - o->dampening;
    if (o->momentum == 0)
        *p -= (T)o->lr * g;
    else if (o->lr_in_momentum != 0)
        *p -= NAME(momentum)(o, (T)(o->lr * enters) * g, state[0]);
    else
        *p -= (T)o->lr * NAME(momentum)(o, (T)enters * g, state[0]);
}

static void NAME(adagrad)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const T lr = (T)(o->lr / (1 + (double)(t - 1) * o->lr_decay)), eps = (T)o->eps;
    T *s = state[0];
    *s += g * g;
    *p -= lr * (g / (o->eps_inside != 0 ? sqrt(*s + eps) : sqrt(*s) + eps));
}

static void NAME(adam)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const bool corrects = o->bias_correction != 0;
    const double power = power_of(o->beta1, t);
    const double of_m = corrects ? 1 - power : 1, of_m_ahead = corrects ? 1 - o->beta1 * power : 1;
    const double of_v = corrects ? 1 - power_of(o->beta2, t) : 1;
    T *m = state[0], *v = state[1], *x = state[2], d, c;

    *m = (T)o->beta1 * *m + (T)(1 - o->beta1) * g;
    *v = (T)o->beta2 * *v + (T)(1 - o->beta2) * (g * g);
    if (o->nesterov != 0)
        d = (T)(o->beta1 / of_m_ahead) * *m + (T)((1 - o->beta1) / of_m) * g;
    else
        d = *m;
    c = *v * (T)(1 / of_v);
    if (o->amsgrad_corrected != 0) {
        *x = (c > *x ? c : *x) + 0;
        c = *x;
    } else if (o->amsgrad != 0) {
        *x = (*v > *x ? *v : *x) + 0;
        c = *x * (T)(1 / of_v);
    }
    c = sqrt(c + (T)(o->eps_hat != 0 ? o->eps_root / of_v : o->eps_root));
    c += (T)(o->eps_hat != 0 ? o->eps / sqrt(of_v) : o->eps);
    *p -= (T)(o->nesterov != 0 ? o->lr : o->lr / of_m) * (d / c);
}

static void NAME(yogi)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const double of_m = o->bias_correction != 0 ? 1 - power_of(o->beta1, t) : 1;
    const double of_v = o->bias_correction != 0 ? 1 - power_of(o->beta2, t) : 1;
    T *m = state[0], *v = state[1], c;

    *m = (T)o->beta1 * *m + (T)(1 - o->beta1) * g;
    *v = *v - (T)(1 - o->beta2) * (NAME(sign)(*v - g * g) * (g * g));
    c = sqrt(*v * (T)(1 / of_v) + (T)(o->eps_hat != 0 ? o->eps_root / of_v : o->eps_root));
    c += (T)(o->eps_hat != 0 ? o->eps / sqrt(of_v) : o->eps);
    *p -= (T)(o->lr / of_m) * (*m / c);
}

static void NAME(adadelta)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const T rho = (T)o->rho, one_minus_rho = (T)(1 - o->rho), eps = (T)o->eps;
    T *v = state[0], *d = state[1];
    *v = rho * *v + one_minus_rho * (g * g);
    T u = sqrt(*d + eps) / sqrt(*v + eps) * g;
    *d = rho * *d + one_minus_rho * (u * u);
    *p -= (T)o->lr * u;
    (void)t;
}

static void NAME(rprop)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const T least = NAME(flushed)((T)o->step_min), most = NAME(flushed)((T)o->step_max);
    T *s = state[0], *before = state[1], x = *before * g;
    *s = NAME(flushed)(*s);
    if (x > 0)
        *s *= (T)o->eta_plus;
    if (x < 0) {
        *s *= (T)o->eta_minus;
        g = 0;
    }
    if (*s > most)
        *s = most;
    if (*s < least)
        *s = least;
    *p -= NAME(sign)(g) * *s;
    *before = g;
    (void)t;
}

static void NAME(lion)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    T *m = state[0];
    *p -= (T)o->lr * NAME(sign)((T)o->beta1 * *m + (T)(1 - o->beta1) * g);
    *m = (T)o->beta2 * *m + (T)(1 - o->beta2) * g;
    (void)t;
}

/* The t-th step, counted from 1, of arrays that are aligned. */
static void NAME(reference)(const struct options *o, int64_t t, size_t size, T *param, const T *grad, T *const *state)
{
    static const struct {
        const char *name;
        void (*step)(const struct options *, int64_t, T *, T, T *const *);
    } rules[] = {
        {"rmsprop", NAME(rmsprop)}, {"sgd", NAME(sgd)},           {"adagrad", NAME(adagrad)}, {"adam", NAME(adam)},
        {"yogi", NAME(yogi)},       {"adadelta", NAME(adadelta)}, {"rprop", NAME(rprop)},     {"lion", NAME(lion)},
    };
    size_t rule = 0;
    while (rule < sizeof rules / sizeof rules[0] && strcmp(rules[rule].name, o->rule) != 0)
        rule++;
    if (rule == sizeof rules / sizeof rules[0]) {
        fprintf(stderr, "tests/c/reference.h does not have the rule %s\n", o->rule);
        abort();
    }
    float_mode callers = float_mode_enter(STEP);
    for (size_t i = 0; i < size; i++) {
        T *at[INSTEP_MAX_STATES], g = NAME(flushed)(o->maximize != 0 ? -grad[i] : grad[i]);
        for (size_t s = 0; s < INSTEP_MAX_STATES; s++)
            at[s] = &state[s][i];
        if (o->decoupled_weight_decay != 0)
            param[i] *= (T)(1 - o->lr * o->weight_decay);
        else if (o->weight_decay != 0)
            g += (T)o->weight_decay * param[i];
        rules[rule].step(o, t, &param[i], g, at);
    }
    float_mode_leave(callers);
}

#undef T
#undef NAME
