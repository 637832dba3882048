/* What comes before any rule: the sense of the gradient and weight decay.
 *
 *     g <- -g                         maximize
 *     p <- (1 - lr weight_decay) p    decoupled (Loshchilov and Hutter, 2019), before the update as Keras does
 *     g <- g + weight_decay p         L2 otherwise, after the sign as torch does
 *
 * PLAIN is no arithmetic at all, because g + 0 p is not g when p is infinite. */
enum preparation { PLAIN, SCALED, DECAYED };

/* Once a step, in double. */
static inline enum preparation prepare_step(double lr, double weight_decay, int decoupled, int maximize,
                                            struct coefficients *c)
{
    c->sign = maximize ? -1 : 1;
    c->shrink = decoupled ? 1 - lr * weight_decay : 1;
    c->decay = weight_decay;
    if (weight_decay != 0 && !decoupled)
        return DECAYED;
    return weight_decay != 0 || maximize ? SCALED : PLAIN;
}

/* Once an element. */
static inline void prepare(enum preparation how, T *p, T *g, const struct coefficients *c)
{
    if (how == SCALED) {
        *p = c->shrink * *p;
        *g = c->sign * *g;
    } else if (how == DECAYED) {
        *g = c->sign * *g + c->decay * *p;
    }
}
