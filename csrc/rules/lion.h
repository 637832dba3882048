/* Lion (Chen et al., arXiv:2302.06675, 2023).
 *
 *     p <- p - lr sign(beta1 m + (1 - beta1) g)
 *     m <- beta2 m + (1 - beta2) g
 */

/* ---- once an element, in the type of the arrays ---- */

struct lion_coefficients {
    S lr, beta1, one_minus_beta1, beta2, one_minus_beta2;
};

static inline void lion(T *p, T g, T *state, const struct lion_coefficients *c)
{
    T *grad_avg = &state[0];

    *p -= towards(c->beta1 * *grad_avg + c->one_minus_beta1 * g, every(c->lr));
    *grad_avg = c->beta2 * *grad_avg + c->one_minus_beta2 * g;
}

/* ---- once a step, in double ---- */

NO_CONTRADICTION(lion)
ONE_LOOP(lion)

static inline void lion_coefficients(const struct lion *o, int64_t t, struct lion_coefficients *c)
{
    (void)t;
    c->lr = o->lr;
    c->beta1 = o->beta1;
    c->one_minus_beta1 = 1 - o->beta1;
    c->beta2 = o->beta2;
    c->one_minus_beta2 = 1 - o->beta2;
}
