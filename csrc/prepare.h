/* What comes before any rule: the sense of the gradient and weight decay.
 *
 *     p <- (1 - lr weight_decay) p    decoupled (Loshchilov and Hutter, 2019), before the update as Keras does
 *     g <- -g                         maximize
 *     g <- g + weight_decay p         L2 otherwise, after the sign as torch does
 *
 * Times 1 is exact, so that only L2 decay has a variant of its own: g + 0 p is not g where p is infinite. */
enum preparation { SCALED, DECAYED, PREPARATIONS };

struct prepared {
    S shrink, sign, decay;
};

/* The options of every rule. */
struct preparing {
    double lr, weight_decay;
    int decoupled, maximize;
};

static inline int prepare_contradiction(const struct preparing *o, const char **option)
{
    if (o->decoupled && o->lr * o->weight_decay > 1)
        return *option = "weight_decay", INSTEP_DECAY_PAST_ZERO;
    return INSTEP_OK;
}

/* Once a step, in double. */
static inline enum preparation prepare_step(const struct preparing *o, struct prepared *c)
{
    c->shrink = o->decoupled ? 1 - o->lr * o->weight_decay : 1;
    c->sign = o->maximize ? -1 : 1;
    c->decay = o->decoupled ? 0 : o->weight_decay;
    return c->decay != 0 ? DECAYED : SCALED;
}

/* Once an element. */
static inline void prepare(enum preparation how, T *p, T *g, const struct prepared *c)
{
    *p = c->shrink * *p;
    *g = c->sign * *g;
    if (how == DECAYED)
        *g = *g + c->decay * *p;
}
