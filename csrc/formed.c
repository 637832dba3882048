#include "formed.h"

#include "dispatch.h"
#include "internals.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* A block is clipped before its rule is called, and scaled with it; otherwise the rule scales, which costs nothing.
 * What a huge norm leaves of a gradient may be no normal float, and is then multiplied by twice.  Not so with
 * clip_value: no norm is clipped then, and all of the scale comes before the bound, in doubles where it is so small. */
static void form_around(struct around *around, const struct preparing *o, int64_t t, struct prepared *prepared)
{
    const int is_subnormal = o->clip_value == 0 && prepared->scale != 0 && fabs(prepared->scale) < FLT_MIN;

    around->clips = o->clip_value != 0 || is_subnormal;
    around->clip = o->clip_value != 0 ? o->clip_value : INFINITY;
    around->scale = is_subnormal ? FLT_MIN : prepared->scale;
    if (around->clips)
        prepared->scale /= around->scale;
    around->averages = o->average_decay != 0;
    around->average_keep = t == 1 ? 0 : o->average_decay; /* the first parameters are their own average */
    around->zeroes = o->zero_grads != 0;
    around->measures = o->statistics != 0;
    around->any = around->clips || around->averages || around->zeroes || around->measures;
}

void instep_form(struct formed *formed, const instep_optimizer *optimizer, int64_t t, double clip)
{
    const struct preparing *preparing = instep_preparing(optimizer);

    formed->t = t;
    formed->clip = clip;
    memset(&formed->in_double, 0xff, sizeof formed->in_double); /* NaN, so that none is read that a rule did not form */
    formed->how = prepare_step(preparing, instep_lr(optimizer), clip, &formed->in_double.prepared);
    form_around(&formed->around, preparing, t, &formed->in_double.prepared);
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        rule##_coefficients((const struct rule *)optimizer->option, t, &formed->in_double.rule);                       \
        break;
#include "rules.def"
    }
    double *in_double = (double *)&formed->in_double;
    for (size_t k = 0; k < sizeof formed->in_float / sizeof(float); k++) {
        /* a sum flushes a subnormal one, however a loop uses it; a scale of -0 keeps its sign */
        in_double[k] = copysign(in_double[k] + 0, in_double[k]);
        formed->in_float[k] = (float)in_double[k];
    }
}

void instep_loops_of_formed(const struct formed *formed, const instep_optimizer *optimizer, struct loop loops[2])
{
    const enum instep_loop kernel = instep_loop_of(optimizer);

    for (int dtype = INSTEP_FLOAT32; dtype <= INSTEP_FLOAT64; dtype++)
        loops[dtype] = (struct loop){
            .kernel = instep_active_loops(dtype)->kernel[kernel],
            .preparation = formed->how,
            .coefficients = dtype == INSTEP_FLOAT32 ? (const void *)formed->in_float : &formed->in_double,
            .states = instep_states_of_rule(optimizer),
        };
}

void instep_bare_loop(const instep_optimizer *optimizer, int dtype, int64_t t, struct instep_bare_loop *loop)
{
    struct formed formed;
    struct loop loops[2];
    _Static_assert(sizeof formed.in_double <= sizeof loop->coefficients, "internals.h has too little room");

    instep_form(&formed, optimizer, t, 1);
    instep_loops_of_formed(&formed, optimizer, loops);
    loop->kernel = loops[dtype].kernel;
    loop->preparation = loops[dtype].preparation;
    memcpy(loop->coefficients, loops[dtype].coefficients,
           dtype == INSTEP_FLOAT32 ? sizeof formed.in_float : sizeof formed.in_double);
}
