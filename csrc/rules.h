/* Every rule for numbers of type S: included where the loops are and, with S double, where the coefficients are formed.
 *
 * Of a rule come struct <rule>, its options as the roll-call lists them, and from its room in rules/
 *
 *     struct <rule>_coefficients                     what its loops read: members of type S alone
 *     <loop>(p, g, state, coefficients)              one element of one variant, or a vector of them: see lanes.h
 *     <rule>_contradiction(options, &option)         the status of options that do not go together; which is at fault
 *     <rule>_loop(options)                           the variant that they choose
 *     <rule>_coefficients(options, t, coefficients)  for an array's t-th step, counted from 1 */
#include "arithmetic.h"
#include "instep.h"
#include "kernels.h"
#include "prepare.h"

/* clang-format off */
#define RULE(rule) struct rule {
#define OPTION(rule, name, default, range) double name;
#define END(rule) };
/* clang-format on */
#include "rules.def"

/* For rules whose options always go together, and for those of one loop. */
#define NO_CONTRADICTION(rule)                                                                                         \
    static inline int rule##_contradiction(const struct rule *o, const char **option)                                  \
    {                                                                                                                  \
        return (void)o, (void)option, INSTEP_OK;                                                                       \
    }
#define ONE_LOOP(rule)                                                                                                 \
    static inline enum instep_loop rule##_loop(const struct rule *o)                                                   \
    {                                                                                                                  \
        return (void)o, LOOP_##rule;                                                                                   \
    }

#define FORMULAS
#include "rules.def"

#undef NO_CONTRADICTION
#undef ONE_LOOP

struct coefficients {
    struct prepared prepared;
    union {
#define RULE(rule) struct rule##_coefficients rule;
#include "rules.def"
    };
};
