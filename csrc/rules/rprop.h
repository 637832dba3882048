/* Rprop (Riedmiller and Braun, 1993; without weight backtracking, as torch has it).
 *
 *     x <- g' g, g' the gradient of the step before
 *     s <- s eta_plus if x > 0, s eta_minus if x < 0, s otherwise; held between step_min and step_max
 *     g <- 0 if x < 0
 *     p <- p - sign(g) s;  g' <- g
 */

/* ---- once an element, in the type of the arrays ---- */

struct rprop_coefficients {
    S eta_minus, eta_plus, step_min, step_max;
};

static inline void rprop(T *p, T g, T *state, const struct rprop_coefficients *c)
{
    T *step_size = &state[0], *prev_grad = &state[1];
    T x = *prev_grad * g;
    T shrink_or_keep = where_greater(every(0), x, every(c->eta_minus), every(1));
    T factor = where_greater(x, every(0), every(c->eta_plus), shrink_or_keep);

    *step_size = clamped(*step_size * factor, c->step_min, c->step_max);
    g = where_greater(every(0), x, every(0), g);
    *p -= towards(g, *step_size);
    *prev_grad = g;
}

/* ---- once a step, in double ---- */

static inline int rprop_contradiction(const struct rprop *o, const char **option)
{
    if (o->step_min > o->step_max)
        return *option = "step_min", INSTEP_STEPS_OUT_OF_ORDER;
    return INSTEP_OK;
}

ONE_LOOP(rprop)

static inline void rprop_coefficients(const struct rprop *o, int64_t t, struct rprop_coefficients *c)
{
    (void)t;
    c->eta_minus = o->eta_minus;
    c->eta_plus = o->eta_plus;
    c->step_min = o->step_min;
    c->step_max = o->step_max;
}
