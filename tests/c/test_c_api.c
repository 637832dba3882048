/* Every function of csrc/instep.h, from C.  Prints what does not hold; the exit status is 1 if anything does not. */
#include "sum.h"
#include "twins.h"

#include <fenv.h>
#include <limits.h>

enum { STATES = INSTEP_MAX_STATES, LARGEST_SIZE = 300, STEPS = 4 };

static int failures;

static void expect(bool truth, int line, const char *what)
{
    if (truth)
        return;
    failures++;
    fprintf(stderr, "line %d: %s does not hold\n", line, what);
}
#define EXPECT(truth) expect(truth, __LINE__, #truth)

/* ---- names, options, errors ---- */

static instep_optimizer made_of(size_t rule)
{
    instep_optimizer optimizer;
    EXPECT(instep_init(&optimizer, instep_rule_name(rule), INSTEP_ABI_VERSION) == INSTEP_OK);
    return optimizer;
}

/* Where any rule would do. */
static instep_optimizer made(void)
{
    instep_optimizer optimizer;
    EXPECT(instep_init(&optimizer, "rmsprop", INSTEP_ABI_VERSION) == INSTEP_OK);
    return optimizer;
}

/* What an option of the formula is tried with, in combination with all others: `values[0]`, and `values[1]` if the
 * result is 2. */
static int tried_values(const instep_optimizer *optimizer, size_t option, double values[2])
{
    int range = instep_option_range(optimizer, option);
    double standard = optimizer->option[option];
    values[0] = range == INSTEP_ANY_SIZE && standard != 0 ? 0.07 : range == INSTEP_FLAG ? 0 : standard;
    values[1] = range == INSTEP_FLAG ? 1 : 0.3;
    if (instep_option_traits(optimizer, option) & INSTEP_IS_AROUND)
        return 1;
    return range == INSTEP_FLAG || standard == 0 ? 2 : 1;
}

/* Calls `try` with every combination of the options of a rule that goes together, and says how many there are. */
static size_t for_every_combination(size_t rule, void (*try)(instep_optimizer optimizer, size_t number))
{
    instep_optimizer standard = made_of(rule);
    double values[2];
    size_t tried = 0, choices = 0;

    for (size_t k = 0; instep_option_name(&standard, k); k++)
        choices += tried_values(&standard, k, values) == 2;
    for (size_t mask = 0; mask < (size_t)1 << choices; mask++) {
        instep_optimizer optimizer = standard;
        size_t bits = mask;
        for (size_t k = 0; instep_option_name(&standard, k); k++) {
            int count = tried_values(&standard, k, values);
            EXPECT(instep_set(&optimizer, instep_option_name(&standard, k), values[count == 2 && bits & 1])
                   == INSTEP_OK);
            if (count == 2)
                bits >>= 1;
        }
        if (instep_check(&optimizer, INSTEP_FLOAT32, NULL) == INSTEP_OK)
            try(optimizer, tried++);
    }
    return tried;
}

static void test_names(void)
{
    instep_optimizer optimizer;
    size_t rules = 0;

    EXPECT(instep_abi_version() == INSTEP_ABI_VERSION);
    for (; instep_rule_name(rules); rules++) {
        EXPECT(instep_init(&optimizer, instep_rule_name(rules), INSTEP_ABI_VERSION) == INSTEP_OK);
        EXPECT(optimizer.abi_version == INSTEP_ABI_VERSION && optimizer.rule == rules && optimizer.step_count == 0);
        EXPECT(instep_check(&optimizer, INSTEP_FLOAT32, NULL) == INSTEP_OK);
        EXPECT(instep_check(&optimizer, INSTEP_FLOAT64, NULL) == INSTEP_OK);
        size_t count = 0;
        for (; instep_option_name(&optimizer, count); count++) {
            double value = -1;
            EXPECT(instep_get(&optimizer, instep_option_name(&optimizer, count), &value) == INSTEP_OK);
            EXPECT(value == optimizer.option[count]);
            EXPECT(instep_option_range(&optimizer, count) >= INSTEP_ANY_NUMBER);
            EXPECT(instep_option_range(&optimizer, count) <= INSTEP_COUNT);
            EXPECT(instep_option_traits(&optimizer, count) >= 0);
            EXPECT(instep_option_traits(&optimizer, count)
                   <= (INSTEP_IS_STRUCTURAL | INSTEP_IS_AROUND | INSTEP_IS_OF_STEP));
        }
        EXPECT(count >= 1 && count <= INSTEP_MAX_OPTIONS);
        static const size_t past[] = {INSTEP_MAX_OPTIONS, SIZE_MAX};
        for (size_t k = 0; k < 2; k++) {
            EXPECT(instep_option_name(&optimizer, past[k]) == NULL);
            EXPECT(instep_option_range(&optimizer, past[k]) == INSTEP_ANY_NUMBER);
            EXPECT(instep_option_traits(&optimizer, past[k]) == 0);
        }
    }
    EXPECT(rules >= 1);
    EXPECT(instep_rule_name(rules) == NULL && instep_rule_name(SIZE_MAX) == NULL);
}

/* Every status has words of its own, and no other number has. */
static void test_messages(void)
{
    static const int groups[][2] = {{INSTEP_OK, INSTEP_BAD_GROUP},
                                    {INSTEP_NOT_FINITE, INSTEP_NOT_A_COUNT},
                                    {INSTEP_OVERFLOWS, INSTEP_ROUNDS_TO_ONE},
                                    {INSTEP_NESTEROV_WITHOUT_MOMENTUM, INSTEP_HAT_WITHOUT_CORRECTION}};
    for (int status = -1; status < 100; status++) {
        bool known = false;
        for (size_t k = 0; k < sizeof groups / sizeof groups[0]; k++)
            known |= groups[k][0] <= status && status <= groups[k][1];
        EXPECT(instep_message(status) && *instep_message(status));
        EXPECT(known == (strcmp(instep_message(status), instep_message(INT_MAX)) != 0));
        for (int other = 0; known && other < status; other++)
            EXPECT(strcmp(instep_message(status), instep_message(other)) != 0);
    }
    EXPECT(strcmp(instep_message(INT_MIN), instep_message(INT_MAX)) == 0);
}

static void check_states(instep_optimizer optimizer, size_t number)
{
    size_t count = instep_state_count(&optimizer), past[] = {count, SIZE_MAX};
    (void)number;
    EXPECT(count <= STATES);
    for (size_t s = 0; s < count; s++) {
        const char *name = instep_state_name(&optimizer, s);
        int range = instep_state_range(&optimizer, s);
        EXPECT(name && *name);
        for (size_t other = 0; other < s; other++)
            EXPECT(strcmp(name, instep_state_name(&optimizer, other)) != 0);
        EXPECT(range == INSTEP_ANY_NUMBER || range == INSTEP_ANY_SIZE);
        EXPECT(instep_state_start(&optimizer, s) >= 0);
    }
    for (size_t k = 0; k < 2; k++) {
        EXPECT(instep_state_name(&optimizer, past[k]) == NULL);
        EXPECT(instep_state_range(&optimizer, past[k]) == INSTEP_ANY_NUMBER);
        EXPECT(instep_state_start(&optimizer, past[k]) == 0);
    }
}

/* Some of which it is known what they are. */
static void test_states(void)
{
    static const struct {
        const char *rule, *option[2];
        double value[2];
        struct {
            const char *name;
            int range;
            double start;
        } states[STATES];
    } cases[] = {
        {"sgd", {NULL}, {0}, {{NULL, 0, 0}}},
        {"sgd", {"momentum"}, {0.9}, {{"momentum_buffer", INSTEP_ANY_NUMBER, 0}}},
        {"rmsprop", {"initial_square_avg"}, {0.5}, {{"square_avg", INSTEP_ANY_SIZE, 0.5}}},
        {"rmsprop",
         {"centered", "momentum"},
         {1, 0.9},
         {{"variance", INSTEP_ANY_SIZE, 0},
          {"grad_avg", INSTEP_ANY_NUMBER, 0},
          {"momentum_buffer", INSTEP_ANY_NUMBER, 0}}},
        {"adam",
         {"amsgrad"},
         {1},
         {{"grad_avg", INSTEP_ANY_NUMBER, 0},
          {"square_avg", INSTEP_ANY_SIZE, 0},
          {"max_square_avg", INSTEP_ANY_SIZE, 0}}},
        {"rprop", {"lr"}, {0.25}, {{"step_size", INSTEP_ANY_SIZE, 0.25}, {"prev_grad", INSTEP_ANY_NUMBER, 0}}},
        {"sgd", {"average_decay"}, {0.9}, {{"param_avg", INSTEP_ANY_NUMBER, 0}}},
        {"lion", {"average_decay"}, {0.9}, {{"grad_avg", INSTEP_ANY_NUMBER, 0}, {"param_avg", INSTEP_ANY_NUMBER, 0}}},
    };
    for (size_t rule = 0; instep_rule_name(rule); rule++)
        for_every_combination(rule, check_states);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        instep_optimizer optimizer;
        EXPECT(instep_init(&optimizer, cases[k].rule, INSTEP_ABI_VERSION) == INSTEP_OK);
        for (size_t i = 0; i < 2 && cases[k].option[i]; i++)
            EXPECT(instep_set(&optimizer, cases[k].option[i], cases[k].value[i]) == INSTEP_OK);
        size_t s = 0;
        for (; s < STATES && cases[k].states[s].name; s++) {
            EXPECT(s < instep_state_count(&optimizer));
            EXPECT(strcmp(instep_state_name(&optimizer, s), cases[k].states[s].name) == 0);
            EXPECT(instep_state_range(&optimizer, s) == cases[k].states[s].range);
            EXPECT(instep_state_start(&optimizer, s) == cases[k].states[s].start);
        }
        EXPECT(instep_state_count(&optimizer) == s);
    }
}

/* Values of every range: what is said of them by themselves, and what more in float. */
static const struct {
    int range;
    double value;
    int status, in_float;
} values_of_ranges[] = {
    {INSTEP_ANY_NUMBER, NAN, INSTEP_NOT_FINITE, 0},
    {INSTEP_ANY_NUMBER, -1, INSTEP_OK, INSTEP_OK},
    {INSTEP_ANY_NUMBER, -1e39, INSTEP_OK, INSTEP_OVERFLOWS},
    {INSTEP_ANY_SIZE, NAN, INSTEP_NOT_FINITE, 0},
    {INSTEP_ANY_SIZE, INFINITY, INSTEP_NOT_FINITE, 0},
    {INSTEP_ANY_SIZE, -INFINITY, INSTEP_NOT_FINITE, 0},
    {INSTEP_ANY_SIZE, -1, INSTEP_NEGATIVE, 0},
    {INSTEP_ANY_SIZE, 0, INSTEP_OK, INSTEP_OK},
    {INSTEP_ANY_SIZE, 1e-60, INSTEP_OK, INSTEP_OK},
    {INSTEP_ANY_SIZE, 1e39, INSTEP_OK, INSTEP_OVERFLOWS},
    {INSTEP_POSITIVE, NAN, INSTEP_NOT_FINITE, 0},
    {INSTEP_POSITIVE, -1e-8, INSTEP_NEGATIVE, 0},
    {INSTEP_POSITIVE, 0, INSTEP_NOT_POSITIVE, 0},
    {INSTEP_POSITIVE, 1e-60, INSTEP_OK, INSTEP_VANISHES},
    {INSTEP_POSITIVE, 1, INSTEP_OK, INSTEP_OK},
    {INSTEP_POSITIVE, 1e39, INSTEP_OK, INSTEP_OVERFLOWS},
    {INSTEP_DECAY, NAN, INSTEP_NOT_FINITE, 0},
    {INSTEP_DECAY, -0.5, INSTEP_NEGATIVE, 0},
    {INSTEP_DECAY, 0, INSTEP_OK, INSTEP_OK},
    {INSTEP_DECAY, 1e-60, INSTEP_OK, INSTEP_VANISHES},
    {INSTEP_DECAY, 0.5, INSTEP_OK, INSTEP_OK},
    {INSTEP_DECAY, 1 - 1e-12, INSTEP_OK, INSTEP_ROUNDS_TO_ONE},
    {INSTEP_DECAY, 1, INSTEP_NOT_BELOW_ONE, 0},
    {INSTEP_FRACTION, NAN, INSTEP_NOT_FINITE, 0},
    {INSTEP_FRACTION, -0.5, INSTEP_NEGATIVE, 0},
    {INSTEP_FRACTION, 0, INSTEP_NOT_A_FRACTION, 0},
    {INSTEP_FRACTION, 1e-60, INSTEP_OK, INSTEP_VANISHES},
    {INSTEP_FRACTION, 0.5, INSTEP_OK, INSTEP_OK},
    {INSTEP_FRACTION, 1 - 1e-12, INSTEP_OK, INSTEP_ROUNDS_TO_ONE},
    {INSTEP_FRACTION, 1, INSTEP_NOT_A_FRACTION, 0},
    {INSTEP_GROWTH, NAN, INSTEP_NOT_FINITE, 0},
    {INSTEP_GROWTH, -2, INSTEP_NEGATIVE, 0},
    {INSTEP_GROWTH, 1, INSTEP_NOT_ABOVE_ONE, 0},
    {INSTEP_GROWTH, 1 + 1e-12, INSTEP_OK, INSTEP_ROUNDS_TO_ONE},
    {INSTEP_GROWTH, 2, INSTEP_OK, INSTEP_OK},
    {INSTEP_GROWTH, 1e39, INSTEP_OK, INSTEP_OVERFLOWS},
    {INSTEP_FLAG, NAN, INSTEP_NOT_A_FLAG, 0},
    {INSTEP_FLAG, -1, INSTEP_NOT_A_FLAG, 0},
    {INSTEP_FLAG, 0.5, INSTEP_NOT_A_FLAG, 0},
    {INSTEP_FLAG, 2, INSTEP_NOT_A_FLAG, 0},
    {INSTEP_FLAG, 0, INSTEP_OK, INSTEP_OK},
    {INSTEP_FLAG, 1, INSTEP_OK, INSTEP_OK},
    {INSTEP_COUNT, NAN, INSTEP_NOT_A_COUNT, 0},
    {INSTEP_COUNT, INFINITY, INSTEP_NOT_A_COUNT, 0},
    {INSTEP_COUNT, -1, INSTEP_NOT_A_COUNT, 0},
    {INSTEP_COUNT, 0.5, INSTEP_NOT_A_COUNT, 0},
    {INSTEP_COUNT, 0x1p53 + 2, INSTEP_NOT_A_COUNT, 0},
    {INSTEP_COUNT, 0, INSTEP_OK, INSTEP_OK},
    {INSTEP_COUNT, 0x1p53, INSTEP_OK, INSTEP_OK},
};

static void check_value(const instep_optimizer *standard, size_t option, double value, int status, int in_float)
{
    const char *name = instep_option_name(standard, option), *at_fault;
    instep_optimizer optimizer = *standard;
    double got = -1;

    EXPECT(instep_set(&optimizer, name, value) == status);
    if (status != INSTEP_OK) {
        EXPECT(memcmp(&optimizer, standard, sizeof optimizer) == 0);
        optimizer.option[option] = value; /* which a step finds out */
        in_float = status;
        EXPECT(instep_check(&optimizer, INSTEP_FLOAT64, &at_fault) == status && at_fault == name);
    } else {
        EXPECT(instep_get(&optimizer, name, &got) == INSTEP_OK && got == value);
    }
    if (in_float != INSTEP_OK) /* or it may contradict another option */
        EXPECT(instep_check(&optimizer, INSTEP_FLOAT32, &at_fault) == in_float && at_fault == name);
}

static void test_values(void)
{
    for (size_t rule = 0; instep_rule_name(rule); rule++) {
        instep_optimizer optimizer = made_of(rule), before = optimizer;
        for (size_t k = 0; instep_option_name(&optimizer, k); k++)
            for (size_t v = 0; v < sizeof values_of_ranges / sizeof values_of_ranges[0]; v++)
                if (values_of_ranges[v].range == instep_option_range(&optimizer, k))
                    check_value(&optimizer, k, values_of_ranges[v].value, values_of_ranges[v].status,
                                values_of_ranges[v].in_float);
        EXPECT(instep_set(&optimizer, "no such option", 1) == INSTEP_UNKNOWN_OPTION);
        EXPECT(memcmp(&optimizer, &before, sizeof before) == 0);
    }
}

/* What is found wrong for either type: what does not go together, and less than any normal number. */
static void test_contradictions(void)
{
    static const struct {
        int status;
        const char *rule, *at_fault;
        struct {
            const char *option;
            double value;
        } set[3];
    } cases[] = {
        {INSTEP_NESTEROV_WITHOUT_MOMENTUM, "rmsprop", "nesterov", {{"nesterov", 1}}},
        {INSTEP_BIAS_CORRECTION_OF_CENTERED, "rmsprop", "bias_correction", {{"bias_correction", 1}, {"centered", 1}}},
        {INSTEP_BIAS_CORRECTION_OF_NONZERO_START,
         "rmsprop",
         "bias_correction",
         {{"bias_correction", 1}, {"initial_square_avg", 1}}},
        {INSTEP_CENTERED_WITHOUT_MEMORY, "rmsprop", "centered", {{"centered", 1}, {"rho", 0}}},
        {INSTEP_NESTEROV_WITHOUT_MOMENTUM, "sgd", "nesterov", {{"nesterov", 1}}},
        {INSTEP_DAMPENING_WITHOUT_MOMENTUM, "sgd", "dampening", {{"dampening", 0.5}}},
        {INSTEP_DAMPENING_OF_NESTEROV, "sgd", "dampening", {{"dampening", 0.5}, {"nesterov", 1}, {"momentum", 0.5}}},
        {INSTEP_CORRECTED_WITHOUT_AMSGRAD, "adam", "amsgrad_corrected", {{"amsgrad_corrected", 1}}},
        {INSTEP_HAT_WITHOUT_CORRECTION, "adam", "eps_hat", {{"eps_hat", 1}, {"bias_correction", 0}}},
        {INSTEP_HAT_WITHOUT_CORRECTION, "yogi", "eps_hat", {{"eps_hat", 1}, {"bias_correction", 0}}},
        {INSTEP_VANISHES, "adadelta", "eps", {{"eps", 1e-310}}},
        {INSTEP_STEPS_OUT_OF_ORDER, "rprop", "step_min", {{"step_min", 2}, {"step_max", 1}}},
        {INSTEP_ROWS_WOULD_MOVE, "sgd", "momentum", {{"exact_rows", 1}, {"momentum", 0.5}}},
        {INSTEP_ROWS_WOULD_MOVE, "adam", "beta1", {{"exact_rows", 1}}},
        {INSTEP_ROWS_WOULD_MOVE, "adagrad", "weight_decay", {{"exact_rows", 1}, {"weight_decay", 0.5}}},
        {INSTEP_ROWS_WOULD_MOVE, "rprop", "average_decay", {{"exact_rows", 1}, {"average_decay", 0.5}}},
        {INSTEP_CLIPPED_TWICE, "sgd", "clip_value", {{"clip_value", 1}, {"clip_norm", 1}}},
        {INSTEP_CLIPPED_TWICE, "lion", "clip_value", {{"clip_value", 1}, {"clip_global_norm", 1}}},
        {INSTEP_CLIPPED_TWICE, "adam", "clip_norm", {{"clip_norm", 1}, {"clip_global_norm", 1}}},
    };
    instep_optimizer optimizer;
    const char *option;

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        EXPECT(instep_init(&optimizer, cases[k].rule, INSTEP_ABI_VERSION) == INSTEP_OK);
        for (size_t i = 0; i < 3 && cases[k].set[i].option; i++)
            EXPECT(instep_set(&optimizer, cases[k].set[i].option, cases[k].set[i].value) == INSTEP_OK);
        for (int dtype = INSTEP_FLOAT32; dtype <= INSTEP_FLOAT64; dtype++)
            EXPECT(instep_check(&optimizer, dtype, &option) == cases[k].status
                   && strcmp(option, cases[k].at_fault) == 0);
    }
    for (size_t rule = 0; instep_rule_name(rule); rule++) {
        optimizer = made_of(rule);
        instep_set(&optimizer, "lr", 2);
        instep_set(&optimizer, "weight_decay", 1);
        EXPECT(instep_check(&optimizer, INSTEP_FLOAT32, &option) == INSTEP_OK && option == NULL);
        instep_set(&optimizer, "decoupled_weight_decay", 1);
        EXPECT(instep_check(&optimizer, INSTEP_FLOAT32, &option) == INSTEP_DECAY_PAST_ZERO);
        EXPECT(strcmp(option, "weight_decay") == 0);
        EXPECT(instep_check(&optimizer, 2, NULL) == INSTEP_BAD_DTYPE);
        EXPECT(instep_check(&optimizer, -1, NULL) == INSTEP_BAD_DTYPE);
    }
}

static void test_nulls(void)
{
    instep_optimizer optimizer = made(), other;
    double value;

    EXPECT(instep_init(NULL, "rmsprop", INSTEP_ABI_VERSION) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_init(&optimizer, NULL, INSTEP_ABI_VERSION) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_init(&optimizer, "no such rule", INSTEP_ABI_VERSION) == INSTEP_UNKNOWN_RULE);
    EXPECT(instep_set(&optimizer, NULL, 1) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_get(&optimizer, NULL, &value) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_get(&optimizer, "lr", NULL) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_get(&optimizer, "no such option", &value) == INSTEP_UNKNOWN_OPTION);
    EXPECT(instep_step(&optimizer, NULL, 1) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_step(&optimizer, NULL, 0) == INSTEP_OK && optimizer.step_count == 1);
    EXPECT(instep_step_one(&optimizer, NULL, 1, 0) == INSTEP_NULL_ARGUMENT);

    instep_array without_gradient = {.size = 3, .dtype = UINT32_MAX, .step_count = -1};
    EXPECT(instep_step(&optimizer, &without_gradient, 1) == INSTEP_OK && without_gradient.step_count == -1);

    const char *at_fault = "";
    EXPECT(instep_check(&optimizer, 2, &at_fault) == INSTEP_BAD_DTYPE && at_fault == NULL);

    other = optimizer;
    other.abi_version++;
    optimizer.rule = UINT32_MAX;
    const instep_optimizer *bad[] = {NULL, &other, &optimizer};
    instep_array empty = {.size = 0, .dtype = INSTEP_FLOAT32, .grad = &value};
    for (size_t k = 0; k < 3; k++) {
        int status = bad[k] == NULL ? INSTEP_NULL_ARGUMENT : INSTEP_BAD_OPTIMIZER;
        EXPECT(instep_check(bad[k], INSTEP_FLOAT32, NULL) == status);
        EXPECT(instep_get(bad[k], "lr", &value) == status);
        EXPECT(instep_set((instep_optimizer *)bad[k], "lr", 1) == status);
        EXPECT(instep_step((instep_optimizer *)bad[k], NULL, 0) == status);
        EXPECT(instep_step_one((instep_optimizer *)bad[k], &empty, 1, 0) == status && empty.step_count == 0);
        EXPECT(instep_option_name(bad[k], 0) == NULL);
        EXPECT(instep_option_range(bad[k], 0) == INSTEP_ANY_NUMBER);
        EXPECT(instep_option_traits(bad[k], 0) == 0);
        EXPECT(instep_state_count(bad[k]) == 0);
        EXPECT(instep_state_name(bad[k], 0) == NULL);
        EXPECT(instep_state_range(bad[k], 0) == INSTEP_ANY_NUMBER);
        EXPECT(instep_state_start(bad[k], 0) == 0);
    }
}

/* A caller whose header has another ABI version is told so, whatever else it asks for, and its memory is left alone. */
static void test_another_abi(void)
{
    static const int versions[] = {0, INSTEP_ABI_VERSION + 1, -INSTEP_ABI_VERSION, INT_MAX, INT_MIN};
    for (size_t k = 0; k < sizeof versions / sizeof versions[0]; k++) {
        unsigned char memory[sizeof(instep_optimizer)], before[sizeof memory];
        memset(memory, 0xA5, sizeof memory);
        memcpy(before, memory, sizeof memory);
        EXPECT(instep_init((instep_optimizer *)(void *)memory, "rmsprop", versions[k]) == INSTEP_ABI_MISMATCH);
        EXPECT(memcmp(memory, before, sizeof memory) == 0);
        EXPECT(instep_init(NULL, NULL, versions[k]) == INSTEP_ABI_MISMATCH);
    }
    EXPECT(strstr(instep_message(INSTEP_ABI_MISMATCH), "ABI") != NULL);
}

/* ---- steps ---- */

static uint64_t random_state;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13; /* Marsaglia, Xorshift RNGs, 2003 */
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Between -1 and 1. */
static double near_one(void *unused)
{
    (void)unused;
    return (double)(int64_t)random_bits() / 0x1p63;
}

/* Of every kind: mostly near 1, some tiny, some huge, some at the edge of a format, some any bits at all. */
static double of_any_kind(void *unused)
{
    static const double edges[] = {65504,      65505,        65535.9, 65536,   0x1p-14, 0x1.fffp-15, 0x1p-24,  0x1p-25,
                                   0x1.fep127, 0x1.feffp127, FLT_MAX, FLT_MIN, DBL_MAX, DBL_MIN,     INFINITY, 0};
    uint64_t bits = random_bits();
    double value = near_one(unused), other;
    switch (bits % 16) {
    case 1:
        return value * 1e-39;
    case 2:
        return value * 1e30;
    case 3:
        return value * 1e-7;
    case 4:
        return value * 1e5;
    case 5:
        return (double)float_of_bits((uint32_t)(bits >> 32));
    case 6:
        bits = random_bits();
        memcpy(&other, &bits, sizeof other);
        return other;
    case 7:
        return copysign(edges[bits / 16 % (sizeof edges / sizeof edges[0])], value);
    case 8: /* a NaN that would round up past the sign */
        return (double)float_of_bits(bits & 16 ? 0xffffffff : 0x7fffffff);
    default:
        return value;
    }
}

/* Whether arithmetic in the mode of a step flushes, which valgrind's does not: there no bits can be compared. */
static bool flushes(void)
{
    float_mode callers = float_mode_enter(STEP);
    volatile float smallest = FLT_MIN;
    bool result = smallest / 2 == 0;
    float_mode_leave(callers);
    return result;
}

/* How arrays are stored: `states` for each that the rule has, bytes with a sign where they need one. */
static const struct form {
    uint32_t dtype;
    uint8_t param, grad, copy, states;
} forms[] = {
    {INSTEP_FLOAT32, 0, 0, 0, 0},
    {INSTEP_FLOAT64, 0, 0, 0, 0},
    {INSTEP_FLOAT64, 0, INSTEP_FLOAT, 0, 0},
    {INSTEP_FLOAT64, 0, INSTEP_BFLOAT16, 0, 0},
    {INSTEP_FLOAT64, 0, INSTEP_FLOAT16, 0, 0},
    {INSTEP_FLOAT32, 0, INSTEP_BFLOAT16, 0, 0},
    {INSTEP_FLOAT32, 0, INSTEP_FLOAT16, INSTEP_FLOAT16, 0},
    {INSTEP_FLOAT32, INSTEP_BFLOAT16, INSTEP_BFLOAT16, 0, 0},
    {INSTEP_FLOAT32, INSTEP_FLOAT16, INSTEP_FLOAT16, 0, 0},
    {INSTEP_FLOAT32, INSTEP_SPLIT, INSTEP_BFLOAT16, 0, 0},
    {INSTEP_FLOAT32, 0, 0, INSTEP_BFLOAT16, INSTEP_BFLOAT16},
    {INSTEP_FLOAT32, 0, 0, 0, INSTEP_BYTE},
    {INSTEP_FLOAT32, INSTEP_BFLOAT16, INSTEP_BFLOAT16, INSTEP_FLOAT16, INSTEP_BYTE},
    {INSTEP_FLOAT32, INSTEP_SPLIT, 0, 0, INSTEP_SIGNED_BYTE},
};

enum { FORMS = sizeof forms / sizeof forms[0], SURROUNDINGS = 10 };

static const struct {
    const char *option;
    double value;
} surroundings[SURROUNDINGS][4] = {
    {{NULL, 0}},
    {{"clip_value", 0.25}, {"grad_scale", 0.5}},
    {{"clip_norm", 1.5}, {"average_decay", 0.75}},
    {{"clip_global_norm", 0.7}, {"statistics", 1}, {"seed", 7}},
    {{"zero_grads", 1}, {"average_decay", 0.9}, {"clip_value", 2}},
    {{"skip_nonfinite", 1}, {"seed", 0x1p53}, {"zero_grads", 1}},
    {{"grow_every", 2}, {"grad_scale", 0x1p-6}, {"statistics", 1}},
    {{"clip_norm", 1e-3}, {"statistics", 1}, {"average_decay", 0.5}, {"zero_grads", 1}},
    {{"grad_scale", 3}, {"average_decay", 0.999}},
    {{"clip_global_norm", 1e30}, {"skip_nonfinite", 1}},
};

static void surround(instep_optimizer *optimizer, size_t number)
{
    for (size_t k = 0; k < 4 && surroundings[number][k].option != NULL; k++)
        EXPECT(instep_set(optimizer, surroundings[number][k].option, surroundings[number][k].value) == INSTEP_OK);
}

/* An array of that form, for twins_add. */
static instep_array formed(const instep_optimizer *optimizer, const struct form *form, size_t size)
{
    static const char some_memory[1];
    static instep_norms some_norms;
    instep_array array = {
        .size = size,
        .dtype = form->dtype,
        .grad = some_memory,
        .copy = form->copy != 0 ? (void *)some_memory : NULL,
        .norms = &some_norms,
        .stream = 11 * size + 1,
        .formats = {.param = form->param, .grad = form->grad, .copy = form->copy},
    };
    bool averages = options_of(optimizer).average_decay != 0;
    for (size_t s = 0; s < instep_state_count(optimizer) - averages; s++) {
        array.formats.state[s] = form->states;
        if (form->states == INSTEP_BYTE && instep_state_range(optimizer, s) == INSTEP_ANY_NUMBER)
            array.formats.state[s] = INSTEP_SIGNED_BYTE;
    }
    return array;
}

/* A few steps, beside the same steps of the reference. */
static void compare_steps(struct twins *twins, next_number *next, int line, const char *what, size_t number)
{
    for (int t = 0; t < STEPS; t++) {
        twins_renew_gradients(twins, next, NULL);
        int status = instep_step_groups(twins->optimizers[OURS], twins->groups, twins->arrays[OURS], twins->count);
        if (status != INSTEP_OK) {
            expect(false, line, instep_message(status));
            return;
        }
        reference_step(twins->optimizers[ITS_TWIN], twins->groups, twins->arrays[ITS_TWIN], twins->count);
        const char *differs = twins_differ(twins, flushes());
        if (differs != NULL) {
            fprintf(stderr, "%s, %s %zu, step %d: %s differs\n", instep_rule_name(twins->optimizers[OURS]->rule), what,
                    number, t + 1, differs);
            expect(false, line, "the same bits as the reference");
            return;
        }
    }
}

/* Every combination of a rule's options, each in some form, with something around it, at some size and address. */
static void compare_combination(instep_optimizer optimizer, size_t number)
{
    static const size_t sizes[] = {0,  1,  2,  3,  4,  7,   8,   9,   15,  16,           17,
                                   31, 33, 63, 64, 65, 127, 255, 256, 257, LARGEST_SIZE, 2 * LARGEST_SIZE};
    struct twins twins;
    surround(&optimizer, number % SURROUNDINGS);
    twins_begin(&twins, &optimizer, 1);
    for (size_t k = 0; k < 3; k++) {
        const struct form *form = k < 2 ? &forms[k] : &forms[(number * 3 + number / FORMS) % FORMS];
        instep_array array = formed(&optimizer, form, sizes[(number + k) % (sizeof sizes / sizeof sizes[0])]);
        twins_add(&twins, &array, (number / 2 + k) % 8, of_any_kind, NULL);
    }
    compare_steps(&twins, of_any_kind, __LINE__, "combination", number);
    twins_end(&twins);
}

/* Every form with everything around it, with gradients whose norms are finite. */
static void compare_forms(size_t rule)
{
    static const size_t sizes[] = {1, 255, 256, 257, 700};
    for (size_t f = 0; f < FORMS; f++)
        for (size_t around = 0; around < SURROUNDINGS; around++) {
            struct twins twins;
            instep_optimizer optimizer = made_of(rule);
            surround(&optimizer, around);
            twins_begin(&twins, &optimizer, 1);
            for (size_t k = 0; k < 3; k++) {
                instep_array array = formed(&optimizer, &forms[f], sizes[(f + around + k) % 5]);
                twins_add(&twins, &array, k, near_one, NULL);
            }
            compare_steps(&twins, near_one, __LINE__, "form", f * 100 + around);
            twins_end(&twins);
        }
}

/* Gradients of some rows: short ones, of which several count as a block, and longer than a block. */
static void compare_rows(size_t rule)
{
    static const int64_t some_rows[] = {0, 1, 5, 6, 7, 12, 13};
    static const size_t row_sizes[] = {1, 3, 64, 200, 256, 300};
    size_t number = 0;
    for (size_t f = 0; f < FORMS; f++)
        for (size_t r = 0; r < sizeof row_sizes / sizeof row_sizes[0]; r++, number++) {
            struct twins twins;
            instep_optimizer optimizer = made_of(rule);
            if (forms[f].states == INSTEP_BYTE || forms[f].states == INSTEP_SIGNED_BYTE)
                continue; /* which are refused */
            surround(&optimizer, number % SURROUNDINGS);
            twins_begin(&twins, &optimizer, 1);
            for (size_t k = 0; k < 2; k++) {
                instep_array array = formed(&optimizer, &forms[f], 14 * row_sizes[r]);
                array.rows = some_rows + k;
                array.row_count = k == 0 ? 7 : number % 7;
                array.row_size = row_sizes[r];
                twins_add(&twins, &array, number % 8, near_one, NULL);
            }
            compare_steps(&twins, near_one, __LINE__, "rows", number);
            twins_end(&twins);
        }
}

/* Rows that catch up, those of some step and in the end all; where an option would move them, without it. */
static void compare_exact_rows(size_t rule)
{
    static const char *const movers[] = {"momentum", "nesterov", "beta1", "weight_decay", "average_decay"};
    static const int64_t some_rows[] = {0, 1, 5, 6, 7, 12, 13};
    static const size_t row_sizes[] = {1, 3, 64, 300};
    for (size_t number = 0; number < 4 * SURROUNDINGS; number++)
        for (uint32_t dtype = INSTEP_FLOAT32; dtype <= INSTEP_FLOAT64; dtype++) {
            const struct form as_computed = {.dtype = dtype};
            struct twins twins;
            instep_optimizer optimizer = made_of(rule);
            surround(&optimizer, number / 4);
            for (size_t k = 0; k < sizeof movers / sizeof movers[0]; k++)
                instep_set(&optimizer, movers[k], 0); /* which not every rule has */
            EXPECT(instep_set(&optimizer, "exact_rows", 1) == INSTEP_OK);
            EXPECT(instep_check(&optimizer, INSTEP_FLOAT32, NULL) == INSTEP_OK);
            twins_begin(&twins, &optimizer, 1);
            instep_array array = formed(&optimizer, &as_computed, 14 * row_sizes[number % 4]);
            array.row_size = row_sizes[number % 4];
            array.row_steps = (int64_t *)some_rows; /* as which it gets zeros */
            twins_add(&twins, &array, number % 8, near_one, NULL);
            for (size_t k = 0; k < 5; k++) {
                for (int who = OURS; who <= ITS_TWIN; who++) {
                    twins.arrays[who][0].rows = k < 4 ? some_rows + k : NULL;
                    twins.arrays[who][0].row_count = 7 - 2 * k % 7;
                }
                compare_steps(&twins, near_one, __LINE__, "exact rows", number);
            }
            EXPECT(twins.arrays[OURS][0].row_steps[13] == twins.arrays[OURS][0].step_count);
            twins_end(&twins);
        }
}

/* Groups with options of their own, an array without a gradient among them. */
static void compare_groups(size_t rule)
{
    for (size_t around = 0; around < SURROUNDINGS; around++)
        for (uint32_t dtype = INSTEP_FLOAT32; dtype <= INSTEP_FLOAT64; dtype++) {
            struct twins twins;
            instep_optimizer optimizers[MOST_GROUPS];
            for (size_t g = 0; g < MOST_GROUPS; g++) {
                optimizers[g] = made_of(rule);
                surround(&optimizers[g], around);
                optimizers[g].step_count = 7 * (int64_t)g; /* which follows the first's */
                EXPECT(instep_set(&optimizers[g], "weight_decay", 0.1 * (double)g) == INSTEP_OK);
                EXPECT(instep_set(&optimizers[g], "maximize", g == 2) == INSTEP_OK);
                EXPECT(instep_set(&optimizers[g], "zero_grads", g == 1) == INSTEP_OK);
            }
            twins_begin(&twins, optimizers, MOST_GROUPS);
            for (size_t k = 0; k < 2 * MOST_GROUPS; k++) {
                instep_array array = formed(&optimizers[0], &forms[dtype], 100 + 90 * k);
                array.group = (uint32_t)(k * 2 % MOST_GROUPS);
                array.step_count = (int64_t)(k % 3);
                if (k == 4)
                    array.grad = NULL;
                twins_add(&twins, &array, k, near_one, NULL);
            }
            compare_steps(&twins, near_one, __LINE__, "groups", around);
            EXPECT(twins.optimizers[OURS][2].step_count == twins.optimizers[OURS][0].step_count);
            twins_end(&twins);
        }
}

static void test_steps(void)
{
    for (size_t isa = 0; instep_isa_name(isa); isa++) {
        if (!instep_isa_available(isa)) {
            EXPECT(instep_set_isa(instep_isa_name(isa)) == INSTEP_UNAVAILABLE_ISA);
            continue;
        }
        EXPECT(instep_set_isa(instep_isa_name(isa)) == INSTEP_OK);
        EXPECT(strcmp(instep_active_isa(), instep_isa_name(isa)) == 0);
        size_t tried = 0;
        random_state = 88172645463325252u;
        digest = 0xcbf29ce484222325u;
        for (size_t rule = 0; instep_rule_name(rule); rule++) {
            tried += for_every_combination(rule, compare_combination);
            compare_forms(rule);
            compare_rows(rule);
            compare_exact_rows(rule);
            compare_groups(rule);
        }
        printf("%s: %zu sets of options, digest %016llx\n", instep_isa_name(isa), tried, (unsigned long long)digest);
    }
    EXPECT(instep_set_isa("no such instruction set") == INSTEP_UNKNOWN_ISA);
    EXPECT(instep_set_isa(NULL) == INSTEP_OK);
    EXPECT(instep_isa_name(SIZE_MAX) == NULL && instep_isa_available(SIZE_MAX) == 0);
}

/* What a format holds exactly stays as it is, whatever the random numbers, and is read exactly: every bfloat16, and
 * every half. */
static void test_numbers_of_16_bits_stay(void)
{
    enum { ALL = 1 << 16 };
    uint16_t *stored = malloc(ALL * sizeof *stored), *copy = malloc(ALL * sizeof *copy);
    float *zeros = calloc(ALL, sizeof *zeros), *param = calloc(ALL, sizeof *param);
    instep_optimizer optimizer;

    for (int format = INSTEP_BFLOAT16; format <= INSTEP_FLOAT16; format++) {
        EXPECT(instep_init(&optimizer, "sgd", INSTEP_ABI_VERSION) == INSTEP_OK);
        EXPECT(instep_set(&optimizer, "lr", 0) == INSTEP_OK);
        instep_array still = {.size = ALL, .param = stored, .grad = zeros, .copy = copy};
        still.formats = (instep_formats){.param = (uint8_t)format, .copy = (uint8_t)format};
        for (int t = 0; t < 3; t++) {
            int moved = 0;
            for (int i = 0; i < ALL; i++)
                stored[i] = (uint16_t)i;
            EXPECT(instep_step(&optimizer, &still, 1) == INSTEP_OK);
            for (int i = 0; i < ALL; i++) {
                float before = format == INSTEP_BFLOAT16 ? of_bfloat16((uint16_t)i) : of_half((uint16_t)i);
                if (isnan(before))
                    moved += !isnan(format == INSTEP_BFLOAT16 ? of_bfloat16(stored[i]) : of_half(stored[i]));
                else if (fabs(before) < FLT_MIN) /* which counts as 0 */
                    moved += stored[i] != (i & 0x8000) && flushes();
                else
                    moved += stored[i] != i;
                moved += copy[i] != stored[i] && !isnan(before);
            }
            EXPECT(moved == 0);
        }
        EXPECT(instep_set(&optimizer, "lr", 1) == INSTEP_OK);
        instep_array read = {.size = ALL, .param = param, .grad = stored, .formats = {.grad = (uint8_t)format}};
        for (int i = 0; i < ALL; i++) {
            stored[i] = (uint16_t)i;
            param[i] = 0;
        }
        EXPECT(instep_step(&optimizer, &read, 1) == INSTEP_OK);
        int misread = 0;
        for (int i = 0; i < ALL; i++) {
            float grad = format == INSTEP_BFLOAT16 ? of_bfloat16((uint16_t)i) : of_half((uint16_t)i);
            misread += !(param[i] == -grad || (isnan(param[i]) && isnan(grad)) || fabs(grad) < FLT_MIN);
        }
        EXPECT(misread == 0);
    }
    free(stored);
    free(copy);
    free(zeros);
    free(param);
}

/* Rounding is right on the average: a step of a hundredth of a digit is taken once in a hundred times. */
static void test_small_steps_add_up(void)
{
    enum { SIZE = 1000, STEPS_TAKEN = 500 };
    for (int format = INSTEP_BFLOAT16; format <= INSTEP_FLOAT16; format++) {
        const double digit = format == INSTEP_BFLOAT16 ? 0x1p-7 : 0x1p-10;
        uint16_t stored[SIZE];
        float grad[SIZE];
        double moved = 0;
        instep_optimizer optimizer;
        EXPECT(instep_init(&optimizer, "sgd", INSTEP_ABI_VERSION) == INSTEP_OK);
        EXPECT(instep_set(&optimizer, "lr", digit / 100) == INSTEP_OK);
        instep_array array = {.size = SIZE, .param = stored, .grad = grad, .formats = {.param = (uint8_t)format}};
        for (int i = 0; i < SIZE; i++) {
            stored[i] = format == INSTEP_BFLOAT16 ? bfloat16_of(1, 0) : half_of(1, 0);
            grad[i] = -1;
        }
        for (int t = 0; t < STEPS_TAKEN; t++)
            EXPECT(instep_step(&optimizer, &array, 1) == INSTEP_OK);
        for (int i = 0; i < SIZE; i++)
            moved += (double)(format == INSTEP_BFLOAT16 ? of_bfloat16(stored[i]) : of_half(stored[i])) - 1;
        /* by 5 digits each: within 5 deviations of their mean, for variances of 0.01 * 0.99 */
        EXPECT(fabs(moved / SIZE / digit - 5) < 5 * sqrt(STEPS_TAKEN * 0.0099 / SIZE));
    }
}

/* Sums of squares of any size, in pieces and in any order; those that no double holds are infinite, also where what is
 * above the limbs would be lost. */
static void test_sums(void)
{
    for (int try = 0; try < 300; try++) {
        struct sum whole = {{0}}, piece = {{0}};
        struct exact expected = {.parts = 0};
        for (int k = 0; k < try; k++) {
            double square =
                ldexp(1 + fabs(near_one(NULL)), (int)(random_bits() % (size_t)(try < 150 ? 2000 : 60)) - 1000);
            add_exactly(&expected, square);
            sum_add(k % 3 ? &whole : &piece, square);
        }
        sum_merge(whole.limb, &piece);
        EXPECT(same_number(sum_value(whole.limb), value_of_sum(&expected)));
    }
    static const double not_finite[][2] = {{INFINITY, INFINITY}, {NAN, NAN},      {-NAN, NAN}, {0, 0},
                                           {DBL_MIN, DBL_MIN},   {DBL_MIN / 2, 0}};
    for (size_t k = 0; k < sizeof not_finite / sizeof not_finite[0]; k++) {
        struct sum sum = {{0}};
        sum_add(&sum, not_finite[k][0]);
        EXPECT(same_number(sum_value(sum.limb), not_finite[k][1]));
    }
    struct sum huge = {{0}};
    for (int k = 0; k < 1 << 14; k++)
        sum_add(&huge, DBL_MAX);
    EXPECT(isinf(sum_value(huge.limb)));
    sum_add(&huge, 0x1p986);
    EXPECT(isinf(sum_value(huge.limb)));
}

static void test_many_arrays(void)
{
    instep_optimizer optimizer = made();
    float p[3] = {1, 2, 3}, g[3] = {1, 1, 1}, v[3] = {0};
    double q[2] = {1, 2}, h[2] = {1, -1}, w[2] = {0};
    instep_array arrays[] = {
        {.size = 3, .dtype = INSTEP_FLOAT32, .param = p, .grad = g, .state = {v}},
        {.size = 0, .dtype = INSTEP_FLOAT32, .param = NULL, .grad = g},
        {.size = 2, .dtype = INSTEP_FLOAT64, .param = q, .grad = NULL, .state = {w}},
    };

    EXPECT(instep_step(&optimizer, arrays, 3) == INSTEP_OK);
    EXPECT(optimizer.step_count == 1);
    EXPECT(arrays[0].step_count == 1 && arrays[1].step_count == 1 && arrays[2].step_count == 0);
    EXPECT(p[0] < 1 && q[0] == 1 && w[0] == 0);

    arrays[2].grad = h;
    EXPECT(instep_step_one(&optimizer, arrays, 3, 2) == INSTEP_OK);
    EXPECT(optimizer.step_count == 1 && arrays[2].step_count == 1 && q[0] < 1 && q[1] > 2);
    EXPECT(instep_step_one(&optimizer, arrays, 3, 2) == INSTEP_OK);
    EXPECT(optimizer.step_count == 2 && arrays[2].step_count == 2 && arrays[0].step_count == 1);
    EXPECT(instep_step_one(&optimizer, arrays, 3, 3) == INSTEP_BAD_INDEX);
    arrays[2].grad = NULL;
    EXPECT(instep_step_one(&optimizer, arrays, 3, 2) == INSTEP_NULL_ARGUMENT);
}

/* Spoils the optimizers of two groups, or an array of 2 x 2 elements of the second one, and says what a step answers;
 * INSTEP_OK where there is no such fault. */
static int spoil(int fault, instep_optimizer optimizers[2], instep_array *last)
{
    static const int64_t descending[] = {1, 0}, repeated[] = {1, 1}, negative[] = {-1, 0}, past[] = {0, 2},
                         good[] = {0, 1};
    static int64_t steps[2];
    last->row_size = last->row_count = 2;
    switch (fault) {
    case 0:
        return last->dtype = 2, INSTEP_BAD_DTYPE;
    case 1:
        return last->step_count = -1, INSTEP_BAD_STEP_COUNT;
    case 2:
        return last->step_count = INT64_MAX, INSTEP_BAD_STEP_COUNT;
    case 3:
        return last->size = SIZE_MAX, INSTEP_BAD_SIZE;
    case 4:
        return last->param = NULL, INSTEP_NULL_ARGUMENT;
    case 5:
        return last->state[0] = NULL, INSTEP_NULL_ARGUMENT;
    case 6:
        return last->state[1] = NULL, INSTEP_NULL_ARGUMENT;
    case 7:
        return optimizers[0].step_count = INT64_MAX, INSTEP_BAD_STEP_COUNT;
    case 8:
        return optimizers[0].skipped_count = -1, INSTEP_BAD_STEP_COUNT;
    case 9:
        return optimizers[0].finite_count = INT64_MAX, INSTEP_BAD_STEP_COUNT;
    case 10:
        return instep_set(&optimizers[1], "lr", 1e300), INSTEP_OVERFLOWS;
    case 11:
        return instep_set(&optimizers[1], "clip_value", 1), INSTEP_CLIPPED_TWICE;
    case 12:
        return last->norms = NULL, INSTEP_NULL_ARGUMENT;
    case 13:
        last->norms = NULL;
        instep_set(&optimizers[1], "clip_norm", 0);
        instep_set(&optimizers[0], "statistics", 1);
        return instep_set(&optimizers[1], "statistics", 1), INSTEP_NULL_ARGUMENT;
    case 14:
        return last->formats.param = INSTEP_SPLIT, INSTEP_NULL_ARGUMENT; /* without the lower half */
    case 15:
        return last->formats.param = 255, INSTEP_BAD_FORMAT;
    case 16:
        return last->rows = descending, INSTEP_BAD_ROWS;
    case 17:
        return last->rows = repeated, INSTEP_BAD_ROWS;
    case 18:
        return last->rows = negative, INSTEP_BAD_ROWS;
    case 19:
        return last->rows = past, INSTEP_BAD_ROWS;
    case 20:
        return last->rows = good, last->row_size = 0, INSTEP_BAD_ROWS;
    case 21:
        return last->rows = good, last->row_size = 3, INSTEP_BAD_ROWS;
    case 22:
        return last->rows = good, last->row_count = 3, INSTEP_BAD_ROWS;
    case 23:
        return last->rows = good, last->formats.state[0] = INSTEP_BYTE, INSTEP_BAD_FORMAT;
    case 24:
        return last->group = 2, INSTEP_BAD_GROUP;
    case 25:
        return instep_set(&optimizers[1], "momentum", 0.5), INSTEP_BAD_GROUP; /* which is another state */
    case 26:
        return instep_set(&optimizers[1], "average_decay", 0), INSTEP_BAD_GROUP;
    case 27:
        instep_init(&optimizers[1], "lion", INSTEP_ABI_VERSION);
        return instep_set(&optimizers[1], "average_decay", 0.5), INSTEP_BAD_GROUP;
    case 28:
        return instep_set(&optimizers[1], "seed", 1), INSTEP_OF_ONE_GROUP;
    case 29:
        instep_set(&optimizers[0], "exact_rows", 1);
        return instep_set(&optimizers[1], "exact_rows", 1), INSTEP_ROWS_WOULD_MOVE;
    case 30:
    case 31:
    case 32:
        for (size_t g = 0; g < 2; g++) {
            instep_set(&optimizers[g], "average_decay", 0);
            instep_set(&optimizers[g], "exact_rows", 1);
        }
        if (fault == 30)
            return last->rows = good, INSTEP_NULL_ARGUMENT; /* without the last steps of its rows */
        last->row_steps = steps;
        if (fault == 31)
            return last->row_size = 3, INSTEP_BAD_ROWS;
        return last->formats.state[0] = INSTEP_BFLOAT16, INSTEP_BAD_FORMAT;
    case 33:
        return optimizers[1].abi_version = 0, INSTEP_BAD_OPTIMIZER;
    default:
        return INSTEP_OK;
    }
}

/* Every fault in the last of three arrays or in a group: what came before it is as it was. */
static void test_nothing_is_written(void)
{
    int status = 1;
    for (int fault = 0; status != INSTEP_OK; fault++) {
        instep_optimizer optimizers[2] = {made(), made()}, before[2];
        float p[3][4] = {{1, 2, 3, 4}, {3, 4, 5, 6}, {5, 6, 7, 8}}, g[4] = {1, 1, 1, 1}, v[3][8] = {{0}},
              a[3][4] = {{0}};
        float p_before[3][4], g_before[4];
        instep_norms norms[3];
        instep_array arrays[3];
        for (size_t k = 0; k < 2; k++) {
            instep_set(&optimizers[k], "average_decay", 0.5);
            instep_set(&optimizers[k], "zero_grads", 1);
            instep_set(&optimizers[k], "clip_norm", 1);
        }
        memset(norms, 0, sizeof norms);
        for (size_t k = 0; k < 3; k++)
            arrays[k] = (instep_array){
                .size = 4, .group = k == 2, .param = p[k], .grad = g, .state = {v[k], a[k]}, .norms = &norms[k]};
        status = spoil(fault, optimizers, &arrays[2]);
        memcpy(p_before, p, sizeof p);
        memcpy(g_before, g, sizeof g);
        memcpy(before, optimizers, sizeof before);
        int answer = instep_step_groups(optimizers, 2, arrays, 3);
        if (answer != status)
            fprintf(stderr, "fault %d: %s, expected: %s\n", fault, instep_message(answer), instep_message(status));
        EXPECT(answer == status);
        if (status == INSTEP_OK)
            break;
        if (status >= INSTEP_NOT_FINITE) {
            int is_named = 0;
            for (size_t k = 0; k < 2; k++) {
                const char *option;
                is_named |= instep_check(&optimizers[k], INSTEP_FLOAT32, &option) == status && option != NULL;
            }
            EXPECT(is_named == (status != INSTEP_OF_ONE_GROUP));
        }
        EXPECT(memcmp(optimizers, before, sizeof before) == 0);
        EXPECT(memcmp(p, p_before, sizeof p) == 0 && memcmp(g, g_before, sizeof g) == 0);
        for (size_t k = 0; k < 3; k++)
            EXPECT(v[k][0] == 0 && a[k][0] == 0 && norms[k].grad == 0 && (k == 2 || arrays[k].step_count == 0));
    }
    instep_optimizer optimizer = made();
    float p = 1, g = 1, v = 0;
    instep_array array = {.size = 1, .group = 1, .param = &p, .grad = &g, .state = {&v}};
    EXPECT(instep_step_groups(&optimizer, 0, &array, 1) == INSTEP_BAD_GROUP);
    EXPECT(instep_step_groups(NULL, 0, &array, 1) == INSTEP_BAD_GROUP);
    EXPECT(instep_step_groups(NULL, 1, &array, 1) == INSTEP_NULL_ARGUMENT);
    EXPECT(instep_step(&optimizer, &array, 1) == INSTEP_BAD_GROUP);
    EXPECT(instep_step_one(&optimizer, &array, 1, 0) == INSTEP_BAD_GROUP);
    EXPECT(p == 1 && g == 1 && v == 0 && array.step_count == 0 && optimizer.step_count == 0);
}

/* Which formats go together, all of them tried. */
static void test_formats(void)
{
    enum { UNKNOWN = INSTEP_SIGNED_BYTE + 1 };
    static const bool good[2][5][UNKNOWN + 1] = {
        /* as computed, bfloat16, float16, float, split, byte, signed byte */
        [INSTEP_FLOAT32] = {[PARAM] = {1, 1, 1, 0, 1, 0, 0, 0},
                            [GRAD] = {1, 1, 1, 0, 0, 0, 0, 0},
                            [COPY] = {0, 1, 1, 0, 0, 0, 0, 0},
                            [FIRST_STATE] = {1, 1, 0, 0, 0, 1, 1, 0}},
        [INSTEP_FLOAT64] = {[PARAM] = {1}, [GRAD] = {1, 1, 1, 1}, [FIRST_STATE] = {1}},
    };
    double memory[PLACES][4] = {{0}};
    for (uint32_t dtype = INSTEP_FLOAT32; dtype <= INSTEP_FLOAT64; dtype++)
        for (uint8_t format = 0; format <= UNKNOWN; format++)
            for (int place = PARAM; place < PLACES; place++) {
                instep_optimizer optimizer;
                EXPECT(instep_init(&optimizer, "adam", INSTEP_ABI_VERSION) == INSTEP_OK);
                EXPECT(instep_set(&optimizer, "average_decay", 0.5) == INSTEP_OK);
                instep_array array = {
                    .size = 2, .dtype = dtype, .param = memory[PARAM], .grad = memory[GRAD], .low = memory[LOW]};
                for (size_t s = 0; s < INSTEP_MAX_STATES; s++)
                    array.state[s] = memory[FIRST_STATE + s];
                bool taken = true;
                switch (place) {
                case PARAM:
                    array.formats.param = format;
                    taken = good[dtype][PARAM][format];
                    break;
                case LOW:
                    continue;
                case GRAD:
                    array.formats.grad = format;
                    taken = good[dtype][GRAD][format];
                    break;
                case COPY:
                    array.formats.copy = format;
                    array.copy = memory[COPY];
                    taken = good[dtype][COPY][format];
                    break;
                case FIRST_STATE: /* the average of gradients has a sign */
                    array.formats.state[0] = format;
                    taken = good[dtype][FIRST_STATE][format] && format != INSTEP_BYTE;
                    break;
                case FIRST_STATE + 1:
                    array.formats.state[1] = format;
                    taken = good[dtype][FIRST_STATE][format];
                    break;
                case FIRST_STATE + 2: /* that of the parameters */
                    array.formats.state[2] = format;
                    taken = format == INSTEP_AS_COMPUTED;
                    break;
                default: /* which is not looked at */
                    array.formats.state[3] = format;
                }
                EXPECT(instep_step(&optimizer, &array, 1) == (taken ? INSTEP_OK : INSTEP_BAD_FORMAT));
                EXPECT(array.step_count == taken && optimizer.step_count == taken);
            }
}

/* Many arrays, of which each may be as large as it says, but not all together: their lines would count to 0. */
static void test_sizes_that_wrap(void)
{
    enum { COUNT = 128 };
    static instep_array arrays[COUNT];
    double p = 1, g = 1, v = 0;
    instep_optimizer optimizer = made();

    for (size_t k = 0; k < COUNT; k++)
        arrays[k] = (instep_array){
            .size = PTRDIFF_MAX / sizeof p, .dtype = INSTEP_FLOAT64, .param = &p, .grad = &g, .state = {&v}};
    EXPECT(instep_step(&optimizer, arrays, COUNT) == INSTEP_BAD_SIZE);
    EXPECT(optimizer.step_count == 0 && arrays[0].step_count == 0 && arrays[COUNT - 1].step_count == 0);
}

/* ---- threads, floating-point mode ---- */

/* Sums, random numbers and all else: with any number of threads. */
static void test_threads(void)
{
    const size_t sizes[] = {flushes() ? 196608 + 77 : 4096 + 77, 999, flushes() ? 70000 : 300};

    EXPECT(instep_set_threads(-1) == INSTEP_BAD_THREADS);
    EXPECT(instep_set_threads(257) == INSTEP_BAD_THREADS);
    EXPECT(instep_set_threads(0) == INSTEP_OK && instep_get_threads() >= 1);
    for (size_t rule = 0; instep_rule_name(rule); rule++)
        for (size_t try = 0; try < 4; try++) {
            struct twins twins;
            instep_optimizer optimizer = made_of(rule);
            const size_t number = rule * 4 + try;
            EXPECT(instep_set_threads((int)try + 1) == INSTEP_OK && instep_get_threads() == (int)try + 1);
            surround(&optimizer, number % SURROUNDINGS);
            twins_begin(&twins, &optimizer, 1);
            for (size_t k = 0; k < 3; k++) {
                instep_array array = formed(&optimizer, &forms[(number * 5 + k) % FORMS], sizes[k]);
                twins_add(&twins, &array, 0, near_one, NULL);
            }
            compare_steps(&twins, near_one, __LINE__, "threads", try + 1);
            twins_end(&twins);
        }
}

static struct {
    int calls;
    unsigned threads, flags;
} seen_by_team;

/* A runtime whose threads come one after the other. */
static void team_of_one(void (*work)(void *context), void *context, unsigned threads, unsigned flags)
{
    seen_by_team.calls++;
    seen_by_team.threads = threads;
    seen_by_team.flags = flags;
    for (unsigned k = 0; k < threads; k++)
        work(context);
}

/* A runtime that has no thread but the caller's. */
static void team_of_none(void (*work)(void *context), void *context, unsigned threads, unsigned flags)
{
    (void)threads;
    (void)flags;
    seen_by_team.calls++;
    work(context);
}

static int calls_of_team(instep_team *team, int threads, struct twins *twins)
{
    memset(&seen_by_team, 0, sizeof seen_by_team);
    instep_lend_team(team, threads);
    compare_steps(twins, near_one, __LINE__, "team", (size_t)threads);
    instep_lend_team(NULL, 0);
    return seen_by_team.calls;
}

/* A team that is lent steps what is worth it, and nothing after it is taken back. */
static void test_team(void)
{
    struct twins twins;
    instep_optimizer optimizer = made();

    twins_begin(&twins, &optimizer, 1);
    instep_array array = formed(&optimizer, &forms[0], flushes() ? 400000 + 77 : 300);
    twins_add(&twins, &array, 0, near_one, NULL);
    instep_set_threads(3);
    int uses_teams = calls_of_team(team_of_one, 0, &twins) > 0; /* where there are threads */
    EXPECT(!uses_teams || (seen_by_team.threads == 3 && seen_by_team.flags == 0));
    EXPECT((calls_of_team(team_of_one, 2, &twins) > 0) == uses_teams);
    EXPECT(!uses_teams || seen_by_team.threads == 2);
    EXPECT((calls_of_team(team_of_none, 8, &twins) > 0) == uses_teams);
    EXPECT(calls_of_team(team_of_one, 1, &twins) == 0);
    EXPECT(calls_of_team(NULL, 2, &twins) == 0);
    instep_set_threads(1);
    EXPECT(calls_of_team(team_of_one, 2, &twins) == 0);
    twins_end(&twins);
}

/* Rows are cut among threads too. */
static void test_rows_among_threads(void)
{
    enum { ROWS = 40000, ROW = 6 };
    int64_t *rows = malloc(ROWS * sizeof *rows);
    for (int r = 0; r < ROWS; r++)
        rows[r] = 2 * r + r % 2;
    for (int threads = 1; threads <= 3; threads++) {
        struct twins twins;
        instep_optimizer optimizer = made();
        EXPECT(instep_set_threads(threads) == INSTEP_OK);
        surround(&optimizer, 7);
        twins_begin(&twins, &optimizer, 1);
        instep_array array = formed(&optimizer, &forms[7], (size_t)2 * ROWS * ROW);
        array.rows = rows;
        array.row_count = ROWS;
        array.row_size = ROW;
        twins_add(&twins, &array, 0, near_one, NULL);
        if (flushes())
            compare_steps(&twins, near_one, __LINE__, "rows among threads", (size_t)threads);
        twins_end(&twins);
    }
    free(rows);
}

/* Wherever a step is cut, also just before the block that is not full, each element is stepped once: equal elements
 * stay equal.  The lengths go through every remainder that a share can leave. */
static void test_every_cut(void)
{
    enum { LEAST = 4 * BLOCK, LENGTHS = 10, SIZE = (LEAST + LENGTHS) * BLOCK };
    float *p = malloc(SIZE * sizeof *p), *g = malloc(SIZE * sizeof *g), *v = malloc(SIZE * sizeof *v);

    for (size_t i = 0; i < SIZE; i++)
        g[i] = 1;
    for (int threads = 3; threads <= 4; threads++) {
        instep_set_threads(threads);
        for (size_t blocks = LEAST; blocks < LEAST + LENGTHS; blocks++) {
            size_t size = (blocks - 1) * BLOCK + 3, odd = 0;
            instep_optimizer optimizer = made();
            instep_array array = {.size = size, .dtype = INSTEP_FLOAT32, .param = p, .grad = g, .state = {v}};
            memset(p, 0, size * sizeof *p);
            memset(v, 0, size * sizeof *v);
            EXPECT(instep_step(&optimizer, &array, 1) == INSTEP_OK);
            for (size_t i = 0; i < size; i++)
                odd += p[i] != p[0] || v[i] != v[0];
            EXPECT(odd == 0);
        }
    }
    free(p);
    free(g);
    free(v);
}

static void test_floating_point_mode(void)
{
    static const int roundings[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (size_t k = 0; k < sizeof roundings / sizeof roundings[0]; k++) {
        float p[2][5], g[5], v[2][5];
        for (int i = 0; i < 5; i++) {
            p[0][i] = p[1][i] = (float)near_one(NULL);
            v[0][i] = v[1][i] = (float)fabs(near_one(NULL));
            g[i] = (float)near_one(NULL);
        }
        for (int changed = 0; changed < 2; changed++) {
            instep_optimizer optimizer = made();
            instep_array array = {
                .size = 5, .dtype = INSTEP_FLOAT32, .param = p[changed], .grad = g, .state = {v[changed]}};
            fesetround(changed ? roundings[k] : FE_TONEAREST);
            feclearexcept(FE_ALL_EXCEPT);
            EXPECT(instep_step(&optimizer, &array, 1) == INSTEP_OK);
            EXPECT(fegetround() == (changed ? roundings[k] : FE_TONEAREST));
            EXPECT(fetestexcept(FE_ALL_EXCEPT) == 0);
            fesetround(FE_TONEAREST);
        }
        EXPECT(memcmp(p[0], p[1], sizeof p[0]) == 0);
        EXPECT(memcmp(v[0], v[1], sizeof v[0]) == 0);
    }
}

int main(void)
{
    test_names();
    test_messages();
    test_states();
    test_values();
    test_contradictions();
    test_nulls();
    test_another_abi();
    test_steps();
    test_numbers_of_16_bits_stay();
    test_small_steps_add_up();
    test_sums();
    test_many_arrays();
    test_nothing_is_written();
    test_formats();
    test_sizes_that_wrap();
    test_threads();
    test_team();
    test_rows_among_threads();
    test_every_cut();
    test_floating_point_mode();
    printf("%d failures\n", failures);
    return failures != 0;
}
