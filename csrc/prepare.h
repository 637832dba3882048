/* What comes before any rule: the scale and the sense of the gradient, and weight decay.
 *
 *     p <- (1 - lr weight_decay) p    decoupled (Loshchilov and Hutter, 2019), before the update as Keras does
 *     g <- scale g                    grad_scale, what clipping by a norm leaves of it, and -1 for maximize, in one
 *     g <- g + weight_decay p         L2 otherwise, after the sign as torch does
 *
 * Times 1 is exact, so that only L2 decay has a variant of its own: g + 0 p is not g where p is infinite. */
enum preparation { SCALED, DECAYED, PREPARATIONS };

struct prepared {
    S shrink, scale, decay;
};

/* The options of every rule. */
#include "every_rule.def"
#define OPTION(rule, name, default, range) double name;
#define AROUND OPTION
#define OF_STEP OPTION
#define AVERAGE OPTION
#define OF_ROWS OPTION
struct preparing {
    PREPARED(every)
};
#undef OPTION
#undef AROUND
#undef OF_STEP
#undef AVERAGE
#undef OF_ROWS

static inline int prepare_contradiction(const struct preparing *o, double lr, const char **option)
{
    if (o->decoupled_weight_decay != 0 && lr * o->weight_decay > 1)
        return *option = "weight_decay", INSTEP_DECAY_PAST_ZERO;
    if ((o->clip_value != 0) + (o->clip_norm != 0) + (o->clip_global_norm != 0) > 1)
        return *option = o->clip_value != 0 ? "clip_value" : "clip_norm", INSTEP_CLIPPED_TWICE;
    return INSTEP_OK;
}

/* Once a step, in double; `clip` is what clipping by a norm multiplies the gradient by. */
static inline enum preparation prepare_step(const struct preparing *o, double lr, double clip, struct prepared *c)
{
    int decoupled = o->decoupled_weight_decay != 0;

    c->shrink = decoupled ? 1 - lr * o->weight_decay : 1;
    c->scale = (o->maximize != 0 ? -1 : 1) * (o->grad_scale * clip);
    c->decay = decoupled ? 0 : o->weight_decay;
    return c->decay != 0 ? DECAYED : SCALED;
}

/* Once an element. */
static inline void prepare(enum preparation how, T *p, T *g, const struct prepared *c)
{
    *p = c->shrink * *p;
    *g = c->scale * *g;
    if (how == DECAYED)
        *g = *g + c->decay * *p;
}
