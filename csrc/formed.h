/* What an array's t-th step reads beside arrays. */
#ifndef INSTEP_FORMED_H
#define INSTEP_FORMED_H

#include "blocks.h"
#include "options.h"

struct formed {
    int64_t t;
    double clip; /* what clipping by a norm leaves of the gradient */
    enum preparation how;
    struct coefficients in_double;
    float in_float[sizeof(struct coefficients) / sizeof(double)];
    struct around around;
};

/* Forms the coefficients in double and rounds them once. */
void instep_form(struct formed *formed, const instep_optimizer *optimizer, int64_t t, double clip);

/* The loop of the rule with these coefficients, by instep_dtype: good while `formed` is. */
void instep_loops_of_formed(const struct formed *formed, const instep_optimizer *optimizer, struct loop loops[2]);

#endif
