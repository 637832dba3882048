/* What the loops read in an array's t-th step. */
#ifndef INSTEP_FORMED_H
#define INSTEP_FORMED_H

#include "options.h"

struct formed {
    int64_t t;
    enum preparation how;
    struct coefficients in_double;
    float in_float[sizeof(struct coefficients) / sizeof(double)];
};

/* Forms the coefficients in double and rounds them once. */
void instep_form(struct formed *formed, const instep_optimizer *optimizer, int64_t t);

#endif
