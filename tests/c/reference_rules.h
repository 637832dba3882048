/* Every rule as the table in the docstring of its Python class has it: one element, one branch an option.
 *
 * reference.h includes it once for each type, with
 *     T           float or double
 *     NAME(name)  what makes the names of its functions */

/* What no arithmetic has met yet. */
static T NAME(flushed)(T x)
{
    return fabs(x) < (sizeof(T) == sizeof(float) ? (T)FLT_MIN : (T)DBL_MIN) ? copysign((T)0, x) : x;
}

/* sign(x) size, but x itself where it is a zero or NaN. */
static T NAME(towards)(T x, T size)
{
    return x > 0 ? size : x < 0 ? -size : x;
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
    T divisor = o->eps_inside != 0 ? sqrt(c + eps) : sqrt(c) + eps;
    if (o->momentum == 0)
        *p -= lr * g / divisor;
    else if (o->lr_in_momentum != 0)
        *p -= NAME(momentum)(o, lr * g / divisor, b);
    else
        *p -= lr * NAME(momentum)(o, g / divisor, b);
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
    *p -= lr * g / (o->eps_inside != 0 ? sqrt(*s + eps) : sqrt(*s) + eps);
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
    *p -= (T)(o->nesterov != 0 ? o->lr : o->lr / of_m) * d / c;
}

static void NAME(yogi)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    const double of_m = o->bias_correction != 0 ? 1 - power_of(o->beta1, t) : 1;
    const double of_v = o->bias_correction != 0 ? 1 - power_of(o->beta2, t) : 1;
    T *m = state[0], *v = state[1], c;

    *m = (T)o->beta1 * *m + (T)(1 - o->beta1) * g;
    *v -= NAME(towards)(*v - g * g, (T)(1 - o->beta2) * (g * g));
    c = sqrt(*v * (T)(1 / of_v) + (T)(o->eps_hat != 0 ? o->eps_root / of_v : o->eps_root));
    c += (T)(o->eps_hat != 0 ? o->eps / sqrt(of_v) : o->eps);
    *p -= (T)(o->lr / of_m) * *m / c;
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
    *p -= NAME(towards)(g, *s);
    *before = g;
    (void)t;
}

static void NAME(lion)(const struct options *o, int64_t t, T *p, T g, T *const *state)
{
    T *m = state[0];
    *p -= NAME(towards)((T)o->beta1 * *m + (T)(1 - o->beta1) * g, (T)o->lr);
    *m = (T)o->beta2 * *m + (T)(1 - o->beta2) * g;
    (void)t;
}

/* The formula of one element, in its t-th step, counted from 1. */
typedef void NAME(formula)(const struct options *o, int64_t t, T *p, T g, T *const *state);

static NAME(formula) * NAME(formula_of)(const struct options *o)
{
    static const struct {
        const char *name;
        NAME(formula) * formula;
    } rules[] = {
        {"rmsprop", NAME(rmsprop)}, {"sgd", NAME(sgd)},           {"adagrad", NAME(adagrad)}, {"adam", NAME(adam)},
        {"yogi", NAME(yogi)},       {"adadelta", NAME(adadelta)}, {"rprop", NAME(rprop)},     {"lion", NAME(lion)},
    };
    for (size_t rule = 0; rule < sizeof rules / sizeof rules[0]; rule++)
        if (strcmp(rules[rule].name, o->rule) == 0)
            return rules[rule].formula;
    fprintf(stderr, "tests/c/reference_rules.h does not have the rule %s\n", o->rule);
    abort();
}
