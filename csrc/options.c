/* A rule's options by name: what they are, what they may be, what they mean together. */
#include "float_mode.h"
#include "options.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

struct option {
    const char *name;
    double initial;
    enum instep_range range;
    int traits;
};

/* In the order of the rule's struct, which is that of instep_optimizer.option. */
static const struct option options[INSTEP_RULES][INSTEP_MAX_OPTIONS + 1] = {
#define PLACE(rule, name) [RULE_##rule][offsetof(struct rule, name) / sizeof(double)]
#define OPTION(rule, name, default, range) PLACE(rule, name) = {#name, default, INSTEP_##range, 0},
#define TRAITS(rule, name, default, range, traits) PLACE(rule, name) = {#name, default, INSTEP_##range, traits},
#define STRUCTURAL(...) TRAITS(__VA_ARGS__, INSTEP_IS_STRUCTURAL)
#define AROUND(...) TRAITS(__VA_ARGS__, INSTEP_IS_AROUND)
#define OF_STEP(...) TRAITS(__VA_ARGS__, INSTEP_IS_AROUND | INSTEP_IS_OF_STEP)
#define AVERAGE(...) TRAITS(__VA_ARGS__, INSTEP_IS_AROUND | INSTEP_IS_STRUCTURAL)
#define OF_ROWS(...) TRAITS(__VA_ARGS__, INSTEP_IS_AROUND | INSTEP_IS_OF_STEP | INSTEP_IS_STRUCTURAL)
#include "rules.def"
};

static const char *const rule_names[INSTEP_RULES] = {
#define RULE(rule) [RULE_##rule] = #rule,
#include "rules.def"
};

static const struct {
    size_t states;
    const char *names[INSTEP_MAX_STATES];
} loops[INSTEP_LOOPS] = {
#define LOOP(rule, loop, count, names) [LOOP_##loop] = {count, names},
#include "rules.def"
};

struct state {
    enum instep_range range;
    double start;
};

/* A function a rule: what the state of this name may hold and, with these options, starts at. */
/* clang-format off */
#define RULE(rule) static struct state rule##_state(const struct rule *o, const char *wanted) { (void)o, (void)wanted;
#define STATE(rule, name, range, start) if (strcmp(wanted, #name) == 0) return (struct state){INSTEP_##range, start};
#define END(rule) return (struct state){INSTEP_ANY_NUMBER, 0}; }
/* clang-format on */
#include "rules.def"

static int status_of(const instep_optimizer *optimizer)
{
    if (optimizer == NULL)
        return INSTEP_NULL_ARGUMENT;
    if (optimizer->abi_version != INSTEP_ABI_VERSION || optimizer->rule >= INSTEP_RULES)
        return INSTEP_BAD_OPTIMIZER;
    return INSTEP_OK;
}

static bool sound(const instep_optimizer *optimizer)
{
    return status_of(optimizer) == INSTEP_OK;
}

/* The option's place; INSTEP_MAX_OPTIONS when there is none. */
static size_t find(const instep_optimizer *optimizer, const char *name)
{
    const struct option *o = options[optimizer->rule];
    for (size_t k = 0; o[k].name; k++)
        if (strcmp(o[k].name, name) == 0)
            return k;
    return INSTEP_MAX_OPTIONS;
}

static int status_of_value(enum instep_range range, double value)
{
    if (range == INSTEP_FLAG)
        return value == 0 || value == 1 ? INSTEP_OK : INSTEP_NOT_A_FLAG;
    if (range == INSTEP_COUNT)
        return value >= 0 && value <= 0x1p53 && value == floor(value) ? INSTEP_OK : INSTEP_NOT_A_COUNT;
    if (!isfinite(value))
        return INSTEP_NOT_FINITE;
    if (value < 0 && range != INSTEP_ANY_NUMBER)
        return INSTEP_NEGATIVE;
    switch (range) {
    case INSTEP_POSITIVE:
        return value > 0 ? INSTEP_OK : INSTEP_NOT_POSITIVE;
    case INSTEP_DECAY:
        return value < 1 ? INSTEP_OK : INSTEP_NOT_BELOW_ONE;
    case INSTEP_FRACTION:
        return value > 0 && value < 1 ? INSTEP_OK : INSTEP_NOT_A_FRACTION;
    case INSTEP_GROWTH:
        return value > 1 ? INSTEP_OK : INSTEP_NOT_ABOVE_ONE;
    default:
        return INSTEP_OK;
    }
}

static int status_in_type(enum instep_range range, double value, int dtype)
{
    double largest = dtype == INSTEP_FLOAT32 ? FLT_MAX : DBL_MAX;
    double smallest = dtype == INSTEP_FLOAT32 ? FLT_MIN : DBL_MIN; /* that a step does not flush */

    if (fabs(value) > largest)
        return INSTEP_OVERFLOWS;
    if (range == INSTEP_ANY_NUMBER || range == INSTEP_ANY_SIZE || range == INSTEP_FLAG || range == INSTEP_COUNT)
        return INSTEP_OK;
    if (value != 0 && value < smallest)
        return INSTEP_VANISHES;
    return dtype == INSTEP_FLOAT32 && range != INSTEP_POSITIVE && (float)value == 1 ? INSTEP_ROUNDS_TO_ONE : INSTEP_OK;
}

/* The option by which a gradient of 0 would move a parameter, or its average; NULL if none does. */
static const char *mover(const instep_optimizer *optimizer)
{
    if (instep_preparing(optimizer)->weight_decay != 0)
        return "weight_decay";
    if (instep_preparing(optimizer)->average_decay != 0)
        return "average_decay";
    switch (optimizer->rule) {
#define STILL(rule, name)                                                                                              \
    case RULE_##rule:                                                                                                  \
        return ((const struct rule *)optimizer->option)->name != 0 ? #name : NULL;
#include "rules.def"
    default:
        return "exact_rows";
    }
}

static int check(const instep_optimizer *optimizer, int dtype, const char **option)
{
    const double *value = optimizer->option;
    for (const struct option *o = options[optimizer->rule]; o->name; o++, value++) {
        int status = status_of_value(o->range, *value);
        if (status == INSTEP_OK)
            status = status_in_type(o->range, *value, dtype);
        if (status != INSTEP_OK)
            return *option = o->name, status;
    }
    if (instep_preparing(optimizer)->exact_rows != 0 && (*option = mover(optimizer)) != NULL)
        return INSTEP_ROWS_WOULD_MOVE;
    int status = prepare_contradiction(instep_preparing(optimizer), instep_lr(optimizer), option);
    if (status != INSTEP_OK)
        return status;
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        return rule##_contradiction((const struct rule *)optimizer->option, option);
#include "rules.def"
    default:
        return INSTEP_BAD_OPTIMIZER;
    }
}

int instep_check(const instep_optimizer *optimizer, int dtype, const char **option)
{
    const char *at_fault = NULL;
    int status;

    if (option)
        *option = NULL;
    if ((status = status_of(optimizer)) != INSTEP_OK)
        return status;
    if (dtype != INSTEP_FLOAT32 && dtype != INSTEP_FLOAT64)
        return INSTEP_BAD_DTYPE;
    float_mode callers = float_mode_enter(IEEE);
    status = check(optimizer, dtype, &at_fault);
    float_mode_leave(callers);
    if (option)
        *option = at_fault;
    return status;
}

int instep_init(instep_optimizer *optimizer, const char *rule, int abi_version)
{
    if (abi_version != INSTEP_ABI_VERSION)
        return INSTEP_ABI_MISMATCH;
    if (optimizer == NULL || rule == NULL)
        return INSTEP_NULL_ARGUMENT;
    for (uint32_t k = 0; k < INSTEP_RULES; k++) {
        if (strcmp(rule, rule_names[k]) != 0)
            continue;
        *optimizer = (instep_optimizer){.abi_version = INSTEP_ABI_VERSION, .rule = k};
        for (size_t i = 0; options[k][i].name; i++)
            optimizer->option[i] = options[k][i].initial;
        return INSTEP_OK;
    }
    return INSTEP_UNKNOWN_RULE;
}

int instep_set(instep_optimizer *optimizer, const char *option, double value)
{
    int status = option == NULL ? INSTEP_NULL_ARGUMENT : status_of(optimizer);
    if (status != INSTEP_OK)
        return status;
    size_t k = find(optimizer, option);
    if (k == INSTEP_MAX_OPTIONS)
        return INSTEP_UNKNOWN_OPTION;
    float_mode callers = float_mode_enter(IEEE);
    status = status_of_value(options[optimizer->rule][k].range, value);
    float_mode_leave(callers);
    if (status == INSTEP_OK)
        optimizer->option[k] = value;
    return status;
}

int instep_get(const instep_optimizer *optimizer, const char *option, double *value)
{
    int status = option == NULL || value == NULL ? INSTEP_NULL_ARGUMENT : status_of(optimizer);
    if (status != INSTEP_OK)
        return status;
    size_t k = find(optimizer, option);
    if (k == INSTEP_MAX_OPTIONS)
        return INSTEP_UNKNOWN_OPTION;
    *value = optimizer->option[k];
    return INSTEP_OK;
}

const char *instep_rule_name(size_t rule)
{
    return rule < INSTEP_RULES ? rule_names[rule] : NULL;
}

const char *instep_option_name(const instep_optimizer *optimizer, size_t option)
{
    return sound(optimizer) && option < INSTEP_MAX_OPTIONS ? options[optimizer->rule][option].name : NULL;
}

int instep_option_range(const instep_optimizer *optimizer, size_t option)
{
    return instep_option_name(optimizer, option) != NULL ? (int)options[optimizer->rule][option].range
                                                         : INSTEP_ANY_NUMBER;
}

int instep_option_traits(const instep_optimizer *optimizer, size_t option)
{
    return instep_option_name(optimizer, option) != NULL ? options[optimizer->rule][option].traits : 0;
}

/* Every rule has them in one piece, which begins with the first of every_rule.def. */
const struct preparing *instep_preparing(const instep_optimizer *optimizer)
{
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        return (const struct preparing *)&((const struct rule *)optimizer->option)->weight_decay;
#include "rules.def"
    default:
        return NULL;
    }
}

struct preparing *instep_preparing_of(instep_optimizer *optimizer)
{
    return (struct preparing *)instep_preparing(optimizer);
}

double instep_lr(const instep_optimizer *optimizer)
{
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        return ((const struct rule *)optimizer->option)->lr;
#include "rules.def"
    default:
        return 0;
    }
}

enum instep_loop instep_loop_of(const instep_optimizer *optimizer)
{
    switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        return rule##_loop((const struct rule *)optimizer->option);
#include "rules.def"
    default:
        return INSTEP_LOOPS;
    }
}

size_t instep_states_of_rule(const instep_optimizer *optimizer)
{
    return loops[instep_loop_of(optimizer)].states;
}

size_t instep_state_count(const instep_optimizer *optimizer)
{
    if (!sound(optimizer))
        return 0;
    return instep_states_of_rule(optimizer) + (instep_preparing(optimizer)->average_decay != 0);
}

const char *instep_state_name(const instep_optimizer *optimizer, size_t state)
{
    if (state >= instep_state_count(optimizer))
        return NULL;
    return state < instep_states_of_rule(optimizer) ? loops[instep_loop_of(optimizer)].names[state] : "param_avg";
}

static struct state state_of(const instep_optimizer *optimizer, size_t state)
{
    const char *name = instep_state_name(optimizer, state);
    if (name != NULL)
        switch (optimizer->rule) {
#define RULE(rule)                                                                                                     \
    case RULE_##rule:                                                                                                  \
        return rule##_state((const struct rule *)optimizer->option, name);
#include "rules.def"
        }
    return (struct state){INSTEP_ANY_NUMBER, 0};
}

int instep_state_range(const instep_optimizer *optimizer, size_t state)
{
    return (int)state_of(optimizer, state).range;
}

double instep_state_start(const instep_optimizer *optimizer, size_t state)
{
    return state_of(optimizer, state).start;
}

int instep_abi_version(void)
{
    return INSTEP_ABI_VERSION;
}

const char *instep_message(int status)
{
    static const char *const messages[] = {
        [INSTEP_OK] = "all is well",
        [INSTEP_NULL_ARGUMENT] = "a pointer that must point somewhere is NULL",
        [INSTEP_UNKNOWN_RULE] = "there is no rule of that name",
        [INSTEP_UNKNOWN_OPTION] = "this rule has no option of that name",
        [INSTEP_UNKNOWN_ISA] = "no instruction set of that name was compiled in",
        [INSTEP_UNAVAILABLE_ISA] = "this processor does not run that instruction set",
        [INSTEP_BAD_DTYPE] = "the type is neither float32 nor float64",
        [INSTEP_BAD_THREADS] = "the number of threads must be from 1 to 256, or 0 for the default",
        [INSTEP_BAD_OPTIMIZER] = "the optimizer was not made by instep_init of this version",
        [INSTEP_BAD_STEP_COUNT] = "a step count must be at least 0 and leave room for one step more",
        [INSTEP_BAD_SIZE] = "the arrays are larger than the address space",
        [INSTEP_BAD_INDEX] = "the index is past the last array",
        [INSTEP_ABI_MISMATCH] =
            "the header that the caller was compiled with has another ABI version than this library",
        [INSTEP_BAD_FORMAT] = "the format is not one that this array may be stored in, beside the others",
        [INSTEP_BAD_ROWS] = "the rows must ascend and lie inside the array, whose size is a multiple of a row's",
        [INSTEP_BAD_GROUP] = "there is no such group, or the groups are not of one rule with the same states",
        [INSTEP_NOT_FINITE] = "must be finite",
        [INSTEP_NEGATIVE] = "must not be negative",
        [INSTEP_NOT_POSITIVE] = "must be greater than 0",
        [INSTEP_NOT_BELOW_ONE] = "must be in [0, 1)",
        [INSTEP_NOT_A_FLAG] = "must be on or off",
        [INSTEP_NOT_A_FRACTION] = "must be between 0 and 1",
        [INSTEP_NOT_ABOVE_ONE] = "must be greater than 1",
        [INSTEP_NOT_A_COUNT] = "must be a whole number from 0 to 2^53",
        [INSTEP_OVERFLOWS] = "is infinite in the arrays' type",
        [INSTEP_VANISHES] = "counts as 0 in the arrays' type, in which it is less than the smallest normal number",
        [INSTEP_ROUNDS_TO_ONE] = "rounds to 1 in the arrays' type, where nothing would ever change",
        [INSTEP_NESTEROV_WITHOUT_MOMENTUM] = "looks ahead along the momentum: it needs momentum > 0",
        [INSTEP_BIAS_CORRECTION_OF_CENTERED] =
            "does not go with centered: the corrected variance of the first gradient is 0 / 0",
        [INSTEP_BIAS_CORRECTION_OF_NONZERO_START] = "undoes a start at 0: it needs initial_square_avg = 0",
        [INSTEP_CENTERED_WITHOUT_MEMORY] = "needs rho > 0: the variance of a single gradient is 0",
        [INSTEP_DECAY_PAST_ZERO] =
            "times lr must not exceed 1: a decoupled decay would turn the sign of every parameter",
        [INSTEP_DAMPENING_WITHOUT_MOMENTUM] = "weakens what enters the momentum: it needs momentum > 0",
        [INSTEP_DAMPENING_OF_NESTEROV] = "does not go with nesterov, which looks ahead along an undamped momentum",
        [INSTEP_CORRECTED_WITHOUT_AMSGRAD] = "says what amsgrad takes the maximum of: it needs amsgrad",
        [INSTEP_STEPS_OUT_OF_ORDER] = "must not exceed step_max",
        [INSTEP_CLIPPED_TWICE] = "does not go with another way to clip",
        [INSTEP_OF_ONE_GROUP] = "is of the step, and so the same in all groups",
        [INSTEP_ROWS_WOULD_MOVE] =
            "does not go with exact_rows: a row without a gradient would move, and not only its averages decay",
        [INSTEP_HAT_WITHOUT_CORRECTION] = "adds eps before the bias is corrected: it needs bias_correction",
    };
    if (status < 0 || (size_t)status >= sizeof messages / sizeof messages[0] || messages[status] == NULL)
        return "unknown status";
    return messages[status];
}
