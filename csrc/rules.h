/* Every rule for numbers of type S: included where the loops are and, with S double, where the coefficients are formed.
 *
 * Of a rule come struct <rule>, its options as the roll-call lists them, and from its room in rules/
 *
 *     struct <rule>_coefficients                     what its loops read: members of type S alone
 *     <loop>(p, g, state, coefficients)              one element of one variant, or a vector of them: see lanes.h
 *     <rule>_contradiction(options, &option)         the status of options that do not go together, and which is at fault
 *     <rule>_loop(options)                           the variant that they choose
 *     <rule>_coefficients(options, t, coefficients)  for an array's t-th step, counted from 1 */
#include "arithmetic.h"
#include "instep.h"
#include "kernels.h"
#include "prepare.h"

#define RULE(rule) struct rule {
#define OPTION(rule, name, default, range) double name;
#define END(rule)                                                                                                      \
    }                                                                                                                  \
    ;
#include "rules.def"

#define FORMULAS
#include "rules.def"

struct coefficients {
    struct prepared prepared;
    union {
#define RULE(rule) struct rule##_coefficients rule;
#include "rules.def"
    };
};
