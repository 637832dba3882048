/* The rules as options see them: structs of doubles, coefficients in double. */
#ifndef INSTEP_OPTIONS_H
#define INSTEP_OPTIONS_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef double S;
#define LARGEST DBL_MAX
#include "rules.h"

enum instep_rule {
#define RULE(rule) RULE_##rule,
#include "rules.def"
    INSTEP_RULES
};

/* Which loop these options run. */
enum instep_loop instep_loop_of(const instep_optimizer *optimizer);

/* Those that every rule has, and the learning rate, which every rule calls lr. */
const struct preparing *instep_preparing(const instep_optimizer *optimizer);
struct preparing *instep_preparing_of(instep_optimizer *optimizer);
double instep_lr(const instep_optimizer *optimizer);

/* How many states the rule's loop advances: all but the average of the parameters. */
size_t instep_states_of_rule(const instep_optimizer *optimizer);

#endif
