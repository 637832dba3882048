/* RMSprop (Hinton, Coursera lecture 6e, 2012; centered as in Graves, arXiv:1308.0850, 2013).
 *
 *     v <- rho v + (1 - rho) g^2
 *     u <- lr_in g / (root(v unbias + eps_in) + eps_out)
 *
 *     no momentum    p <- p - u
 *     heavy ball     b <- momentum b + u;  p <- p - lr_out b
 *     Nesterov       b <- momentum b + u;  p <- p - lr_out (u + momentum b)
 *
 * Centered divides by the variance instead of v.  It is advanced by itself: v - m^2 cancels, and the root of its
 * rounding error is a NaN in the libraries that form it.
 *
 *     d <- g - m;  v <- rho (v + (1 - rho) d^2);  m <- m + (1 - rho) d
 */

/* ---- once an element, in the type of the arrays ---- */

struct rmsprop_coefficients {
    S rho, one_minus_rho, unbias, eps_in, eps_out, momentum, lr_in, lr_out;
};

static inline T rmsprop_square_avg(T g, T *square_avg, const struct rmsprop_coefficients *c)
{
    *square_avg = c->rho * *square_avg + c->one_minus_rho * (g * g);
    return *square_avg * c->unbias;
}

static inline T rmsprop_variance(T g, T *variance, T *grad_avg, const struct rmsprop_coefficients *c)
{
    /* Held to the largest finite number, for two huge gradients of opposite sign are further apart than that. */
    T d = clamped(g - *grad_avg, -LARGEST, LARGEST);
    *grad_avg = *grad_avg + c->one_minus_rho * d;
    return *variance = c->rho * (*variance + c->one_minus_rho * d * d);
}

static inline T rmsprop_update(T g, T v, const struct rmsprop_coefficients *c)
{
    return c->lr_in * g / (root(v + c->eps_in) + c->eps_out);
}

static inline void rmsprop(T *p, T g, T *state, const struct rmsprop_coefficients *c)
{
    *p -= rmsprop_update(g, rmsprop_square_avg(g, &state[0], c), c);
}

static inline void rmsprop_momentum(T *p, T g, T *state, const struct rmsprop_coefficients *c)
{
    T u = rmsprop_update(g, rmsprop_square_avg(g, &state[0], c), c);
    *p -= c->lr_out * heavy_ball(u, &state[1], c->momentum);
}

static inline void rmsprop_nesterov(T *p, T g, T *state, const struct rmsprop_coefficients *c)
{
    T u = rmsprop_update(g, rmsprop_square_avg(g, &state[0], c), c);
    *p -= c->lr_out * look_ahead(u, &state[1], c->momentum);
}

static inline void rmsprop_centered(T *p, T g, T *state, const struct rmsprop_coefficients *c)
{
    *p -= rmsprop_update(g, rmsprop_variance(g, &state[0], &state[1], c), c);
}

static inline void rmsprop_centered_momentum(T *p, T g, T *state, const struct rmsprop_coefficients *c)
{
    T u = rmsprop_update(g, rmsprop_variance(g, &state[0], &state[1], c), c);
    *p -= c->lr_out * heavy_ball(u, &state[2], c->momentum);
}

static inline void rmsprop_centered_nesterov(T *p, T g, T *state, const struct rmsprop_coefficients *c)
{
    T u = rmsprop_update(g, rmsprop_variance(g, &state[0], &state[1], c), c);
    *p -= c->lr_out * look_ahead(u, &state[2], c->momentum);
}

/* ---- once a step, in double ---- */

static inline int rmsprop_contradiction(const struct rmsprop *o, const char **option)
{
    if (o->nesterov != 0 && o->momentum == 0)
        return *option = "nesterov", INSTEP_NESTEROV_WITHOUT_MOMENTUM;
    if (o->bias_correction != 0 && o->centered != 0)
        return *option = "bias_correction", INSTEP_BIAS_CORRECTION_OF_CENTERED;
    if (o->bias_correction != 0 && o->initial_square_avg != 0)
        return *option = "bias_correction", INSTEP_BIAS_CORRECTION_OF_NONZERO_START;
    if (o->centered != 0 && o->rho == 0)
        return *option = "centered", INSTEP_CENTERED_WITHOUT_MEMORY;
    return INSTEP_OK;
}

static inline enum instep_loop rmsprop_loop(const struct rmsprop *o)
{
    if (o->momentum == 0)
        return o->centered != 0 ? LOOP_rmsprop_centered : LOOP_rmsprop;
    if (o->nesterov == 0)
        return o->centered != 0 ? LOOP_rmsprop_centered_momentum : LOOP_rmsprop_momentum;
    return o->centered != 0 ? LOOP_rmsprop_centered_nesterov : LOOP_rmsprop_nesterov;
}

static inline void rmsprop_coefficients(const struct rmsprop *o, int64_t t, struct rmsprop_coefficients *c)
{
    int scale_before = o->momentum == 0 || o->lr_in_momentum != 0;

    c->rho = o->rho;
    c->one_minus_rho = 1 - o->rho;
    c->unbias = o->bias_correction != 0 ? 1 / (1 - whole_power(o->rho, t)) : 1;
    c->eps_in = o->eps_inside != 0 ? o->eps : 0;
    c->eps_out = o->eps_inside != 0 ? 0 : o->eps;
    c->momentum = o->momentum;
    c->lr_in = scale_before ? o->lr : 1;
    c->lr_out = scale_before ? 1 : o->lr;
}
