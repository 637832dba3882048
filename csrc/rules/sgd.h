/* Stochastic gradient descent, with momentum (Polyak, 1964; Sutskever et al., 2013).
 *
 *     u <- in g
 *
 *     no momentum    p <- p - u
 *     heavy ball     b <- momentum b + u;  p <- p - lr_out b
 *     Nesterov       b <- momentum b + u;  p <- p - lr_out (u + momentum b)
 */

/* ---- once an element, in the type of the arrays ---- */

struct sgd_coefficients {
    S in, momentum, lr_out;
};

static inline void sgd(T *p, T g, T *state, const struct sgd_coefficients *c)
{
    (void)state;
    *p -= c->in * g;
}

static inline void sgd_momentum(T *p, T g, T *state, const struct sgd_coefficients *c)
{
    *p -= c->lr_out * heavy_ball(c->in * g, &state[0], c->momentum);
}

static inline void sgd_nesterov(T *p, T g, T *state, const struct sgd_coefficients *c)
{
    *p -= c->lr_out * look_ahead(c->in * g, &state[0], c->momentum);
}

/* ---- once a step, in double ---- */

static inline int sgd_contradiction(const struct sgd *o, const char **option)
{
    if (o->nesterov != 0 && o->momentum == 0)
        return *option = "nesterov", INSTEP_NESTEROV_WITHOUT_MOMENTUM;
    if (o->dampening != 0 && o->momentum == 0)
        return *option = "dampening", INSTEP_DAMPENING_WITHOUT_MOMENTUM;
    if (o->dampening != 0 && o->nesterov != 0)
        return *option = "dampening", INSTEP_DAMPENING_OF_NESTEROV;
    return INSTEP_OK;
}

static inline enum instep_loop sgd_loop(const struct sgd *o)
{
    if (o->momentum == 0)
        return LOOP_sgd;
    return o->nesterov != 0 ? LOOP_sgd_nesterov : LOOP_sgd_momentum;
}

static inline void sgd_coefficients(const struct sgd *o, int64_t t, struct sgd_coefficients *c)
{
    int scale_before = o->momentum == 0 || o->lr_in_momentum != 0;
    int dampened = t > 1 || o->dampen_first != 0;

    c->in = (scale_before ? o->lr : 1) * (dampened ? 1 - o->dampening : 1);
    c->momentum = o->momentum;
    c->lr_out = scale_before ? 1 : o->lr;
}
