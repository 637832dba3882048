/* Adam (Kingma and Ba, arXiv:1412.6980, 2015), its AMSGrad (Reddi, Kale and Kumar, ICLR 2018) and Nesterov's momentum
 * in it (Dozat, 2016, as optax has it).
 *
 *     m <- beta1 m + (1 - beta1) g
 *     v <- beta2 v + (1 - beta2) g^2
 *
 *     plain       p <- p - lr m / (root(v unbias + eps_root) + eps)
 *     Nesterov    with ahead m + now g for m
 *     AMSGrad     x <- max(x, v unbias);  with x unbias_max for v unbias
 *
 * Corrections of the bias are in the coefficients; lr has that of m, but for Nesterov's. */

/* ---- once an element, in the type of the arrays ---- */

struct adam_coefficients {
    S lr, beta1, one_minus_beta1, beta2, one_minus_beta2, ahead, now, unbias, unbias_max, eps_root, eps;
};

static inline T adam_grad_avg(T g, T *grad_avg, const struct adam_coefficients *c)
{
    return *grad_avg = c->beta1 * *grad_avg + c->one_minus_beta1 * g;
}

static inline T adam_square_avg(T g, T *square_avg, const struct adam_coefficients *c)
{
    return *square_avg = c->beta2 * *square_avg + c->one_minus_beta2 * (g * g);
}

static inline T adam_max(T v, T *max_square_avg, const struct adam_coefficients *c)
{
    v = v * c->unbias;
    /* plus 0, for some processors take a maximum that flushes a subnormal number, and some one that does not */
    *max_square_avg = where_greater(v, *max_square_avg, v, *max_square_avg) + 0;
    return *max_square_avg * c->unbias_max;
}

static inline T adam_update(T m, T v, const struct adam_coefficients *c)
{
    return c->lr * m / (root(v + c->eps_root) + c->eps);
}

static inline void adam(T *p, T g, T *state, const struct adam_coefficients *c)
{
    T m = adam_grad_avg(g, &state[0], c);
    T v = adam_square_avg(g, &state[1], c);
    *p -= adam_update(m, v * c->unbias, c);
}

static inline void adam_nesterov(T *p, T g, T *state, const struct adam_coefficients *c)
{
    T m = adam_grad_avg(g, &state[0], c);
    T v = adam_square_avg(g, &state[1], c);
    *p -= adam_update(c->ahead * m + c->now * g, v * c->unbias, c);
}

static inline void adam_amsgrad(T *p, T g, T *state, const struct adam_coefficients *c)
{
    T m = adam_grad_avg(g, &state[0], c);
    T v = adam_square_avg(g, &state[1], c);
    *p -= adam_update(m, adam_max(v, &state[2], c), c);
}

static inline void adam_amsgrad_nesterov(T *p, T g, T *state, const struct adam_coefficients *c)
{
    T m = adam_grad_avg(g, &state[0], c);
    T v = adam_square_avg(g, &state[1], c);
    *p -= adam_update(c->ahead * m + c->now * g, adam_max(v, &state[2], c), c);
}

/* ---- once a step, in double ---- */

static inline int adam_contradiction(const struct adam *o, const char **option)
{
    if (o->amsgrad_corrected != 0 && o->amsgrad == 0)
        return *option = "amsgrad_corrected", INSTEP_CORRECTED_WITHOUT_AMSGRAD;
    if (o->eps_hat != 0 && o->bias_correction == 0)
        return *option = "eps_hat", INSTEP_HAT_WITHOUT_CORRECTION;
    return INSTEP_OK;
}

static inline enum instep_loop adam_loop(const struct adam *o)
{
    if (o->amsgrad != 0)
        return o->nesterov != 0 ? LOOP_adam_amsgrad_nesterov : LOOP_adam_amsgrad;
    return o->nesterov != 0 ? LOOP_adam_nesterov : LOOP_adam;
}

static inline void adam_coefficients(const struct adam *o, int64_t t, struct adam_coefficients *c)
{
    int corrects = o->bias_correction != 0;
    double power1 = whole_power(o->beta1, t);
    double bias1 = corrects ? 1 - power1 : 1;
    double bias1_ahead = corrects ? 1 - o->beta1 * power1 : 1; /* of the next step */
    double bias2 = corrects ? 1 - whole_power(o->beta2, t) : 1;
    int corrects_max = o->amsgrad != 0 && o->amsgrad_corrected == 0;

    c->lr = o->nesterov != 0 ? o->lr : o->lr / bias1;
    c->beta1 = o->beta1;
    c->one_minus_beta1 = 1 - o->beta1;
    c->beta2 = o->beta2;
    c->one_minus_beta2 = 1 - o->beta2;
    c->ahead = o->beta1 / bias1_ahead;
    c->now = (1 - o->beta1) / bias1;
    c->unbias = corrects_max ? 1 : 1 / bias2;
    c->unbias_max = corrects_max ? 1 / bias2 : 1;
    /* "epsilon hat", section 2 of the paper: eps beside the root of what is not corrected */
    c->eps_root = o->eps_hat != 0 ? o->eps_root / bias2 : o->eps_root;
    c->eps = o->eps_hat != 0 ? o->eps / sqrt(bias2) : o->eps;
}
