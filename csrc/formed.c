#include "formed.h"

#include "dispatch.h"
#include "internals.h"

#include <string.h>

void instep_form(struct formed *formed, const instep_optimizer *optimizer, int64_t t)
{
    const struct preparing preparing = instep_preparing(optimizer);

    formed->t = t;
    memset(&formed->in_double, 0xff, sizeof formed->in_double); /* NaN, so that none is read that a rule did not form */
    formed->how = prepare_step(&preparing, &formed->in_double.prepared);
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        rule##_coefficients((const struct rule *)optimizer->option, t, &formed->in_double.rule);                       \
        break;
#include "rules.def"
    }
    double *in_double = (double *)&formed->in_double;
    for (size_t k = 0; k < sizeof formed->in_float / sizeof(float); k++) {
        in_double[k] += 0; /* which flushes a subnormal one, however a loop uses it */
        formed->in_float[k] = (float)in_double[k];
    }
}

void instep_bare_loop(const instep_optimizer *optimizer, int dtype, int64_t t, struct instep_bare_loop *loop)
{
    struct formed formed;
    _Static_assert(sizeof formed.in_double <= sizeof loop->coefficients, "internals.h has too little room");

    instep_form(&formed, optimizer, t);
    loop->kernel = instep_active_kernels(dtype)[instep_loop_of(optimizer)];
    loop->preparation = formed.how;
    if (dtype == INSTEP_FLOAT32)
        memcpy(loop->coefficients, formed.in_float, sizeof formed.in_float);
    else
        memcpy(loop->coefficients, &formed.in_double, sizeof formed.in_double);
}
