/* Adadelta (Zeiler, arXiv:1212.5701, 2012).
 *
 *     v <- rho v + (1 - rho) g^2
 *     u <- sqrt(d + eps) / root(v + eps) g
 *     d <- rho d + (1 - rho) u^2
 *     p <- p - lr u
 */

/* ---- once an element, in the type of the arrays ---- */

struct adadelta_coefficients {
    S lr, rho, one_minus_rho, eps;
};

static inline void adadelta(T *p, T g, T *state, const struct adadelta_coefficients *c)
{
    T *square_avg = &state[0], *square_update_avg = &state[1];

    *square_avg = c->rho * *square_avg + c->one_minus_rho * (g * g);
    T u = root(*square_update_avg + c->eps) / root(*square_avg + c->eps) * g;
    *square_update_avg = c->rho * *square_update_avg + c->one_minus_rho * (u * u);
    *p -= c->lr * u;
}

/* ---- once a step, in double ---- */

NO_CONTRADICTION(adadelta)
ONE_LOOP(adadelta)

static inline void adadelta_coefficients(const struct adadelta *o, int64_t t, struct adadelta_coefficients *c)
{
    (void)t;
    c->lr = o->lr;
    c->rho = o->rho;
    c->one_minus_rho = 1 - o->rho;
    c->eps = o->eps;
}
