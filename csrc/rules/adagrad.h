/* Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011).
 *
 *     s <- s + g^2
 *     p <- p - lr / (1 + (t - 1) lr_decay) g / (root(s + eps_in) + eps_out)
 */

/* ---- once an element, in the type of the arrays ---- */

struct adagrad_coefficients {
    S lr, eps_in, eps_out;
};

static inline void adagrad(T *p, T g, T *state, const struct adagrad_coefficients *c)
{
    T *square_sum = &state[0];

    *square_sum = *square_sum + g * g;
    *p -= c->lr * g / (root(*square_sum + c->eps_in) + c->eps_out);
}

/* ---- once a step, in double ---- */

NO_CONTRADICTION(adagrad)
ONE_LOOP(adagrad)

static inline void adagrad_coefficients(const struct adagrad *o, int64_t t, struct adagrad_coefficients *c)
{
    c->lr = o->lr / (1 + (double)(t - 1) * o->lr_decay);
    c->eps_in = o->eps_inside != 0 ? o->eps : 0;
    c->eps_out = o->eps_inside != 0 ? 0 : o->eps;
}
