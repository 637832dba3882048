/* Yogi (Zaheer et al., NeurIPS 2018): Adam whose average of squares moves by g^2 towards g^2, however far it is.
 *
 *     m <- beta1 m + (1 - beta1) g
 *     v <- v - (1 - beta2) sign(v - g^2) g^2
 *     p <- p - lr m / (root(v unbias + eps_root) + eps)
 */

/* ---- once an element, in the type of the arrays ---- */

struct yogi_coefficients {
    S lr, beta1, one_minus_beta1, one_minus_beta2, unbias, eps_root, eps;
};

static inline void yogi(T *p, T g, T *state, const struct yogi_coefficients *c)
{
    T *grad_avg = &state[0], *square_avg = &state[1];
    T square = g * g;

    *grad_avg = c->beta1 * *grad_avg + c->one_minus_beta1 * g;
    *square_avg -= towards(*square_avg - square, c->one_minus_beta2 * square);
    *p -= c->lr * *grad_avg / (root(*square_avg * c->unbias + c->eps_root) + c->eps);
}

/* ---- once a step, in double ---- */

static inline int yogi_contradiction(const struct yogi *o, const char **option)
{
    if (o->eps_hat != 0 && o->bias_correction == 0)
        return *option = "eps_hat", INSTEP_HAT_WITHOUT_CORRECTION;
    return INSTEP_OK;
}

ONE_LOOP(yogi)

static inline void yogi_coefficients(const struct yogi *o, int64_t t, struct yogi_coefficients *c)
{
    double bias1 = o->bias_correction != 0 ? 1 - whole_power(o->beta1, t) : 1;
    double bias2 = o->bias_correction != 0 ? 1 - whole_power(o->beta2, t) : 1;

    c->lr = o->lr / bias1;
    c->beta1 = o->beta1;
    c->one_minus_beta1 = 1 - o->beta1;
    c->one_minus_beta2 = 1 - o->beta2;
    c->unbias = 1 / bias2;
    c->eps_root = o->eps_hat != 0 ? o->eps_root / bias2 : o->eps_root;
    c->eps = o->eps_hat != 0 ? o->eps / sqrt(bias2) : o->eps;
}
