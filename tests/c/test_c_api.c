/* Every function of csrc/instep.h, from C.  Prints what does not hold; the exit status is 1 if anything does not. */
#define T float
#define NAME(name) name##_f32
#include "reference.h"
#define T double
#define NAME(name) name##_f64
#include "reference.h"

#include <fenv.h>
#include <limits.h>

enum { GUARD = 64, STATES = INSTEP_MAX_STATES, LARGEST_SIZE = 300, STEPS = 4 };

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

/* What an option is tried with, in combination with all others: `values[0]`, and `values[1]` if the result is 2. */
static int tried_values(const instep_optimizer *optimizer, size_t option, double values[2])
{
    int range = instep_option_range(optimizer, option);
    double standard = optimizer->option[option];
    values[0] = range == INSTEP_ANY_SIZE && standard != 0 ? 0.07 : range == INSTEP_FLAG ? 0 : standard;
    values[1] = range == INSTEP_FLAG ? 1 : 0.3;
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
            EXPECT(instep_option_range(&optimizer, count) <= INSTEP_FLAG);
            EXPECT(instep_option_is_structural(&optimizer, count) <= 1);
        }
        EXPECT(count >= 1 && count <= INSTEP_MAX_OPTIONS);
        static const size_t past[] = {INSTEP_MAX_OPTIONS, SIZE_MAX};
        for (size_t k = 0; k < 2; k++) {
            EXPECT(instep_option_name(&optimizer, past[k]) == NULL);
            EXPECT(instep_option_range(&optimizer, past[k]) == INSTEP_ANY_NUMBER);
            EXPECT(instep_option_is_structural(&optimizer, past[k]) == 0);
        }
    }
    EXPECT(rules >= 1);
    EXPECT(instep_rule_name(rules) == NULL && instep_rule_name(SIZE_MAX) == NULL);
}

/* Every status has words of its own, and no other number has. */
static void test_messages(void)
{
    static const int groups[][2] = {{INSTEP_OK, INSTEP_ABI_MISMATCH},
                                    {INSTEP_NOT_FINITE, INSTEP_NOT_ABOVE_ONE},
                                    {INSTEP_OVERFLOWS, INSTEP_ROUNDS_TO_ONE},
                                    {INSTEP_NESTEROV_WITHOUT_MOMENTUM, INSTEP_STEPS_OUT_OF_ORDER}};
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
        {INSTEP_VANISHES, "adadelta", "eps", {{"eps", 1e-310}}},
        {INSTEP_STEPS_OUT_OF_ORDER, "rprop", "step_min", {{"step_min", 2}, {"step_max", 1}}},
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
        EXPECT(instep_option_is_structural(bad[k], 0) == 0);
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

/* What the arrays of one step hold, aligned, with a twin that the reference steps. */
struct arrays {
    double param[LARGEST_SIZE], grad[LARGEST_SIZE], state[STATES][LARGEST_SIZE];
};

static uint64_t random_state;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13; /* Marsaglia, Xorshift RNGs, 2003 */
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Of all results but NaN: FNV-1a, an element at a time.  The same on every processor. */
static uint64_t digest;

static void digest_element(const void *element, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, element, size);
    digest = (digest ^ bits) * 0x100000001b3u;
}

/* Values of every kind: mostly near 1, some tiny, some huge, some any bits at all. */
static void fill(void *array, size_t size, size_t element)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t bits = random_bits();
        double value = (double)(int64_t)random_bits() / 9e18;
        if (bits % 8 == 1)
            value *= 1e-39;
        if (bits % 8 == 2)
            value *= 1e30;
        if (element == sizeof(float)) {
            float narrow = (float)value;
            memcpy((char *)array + i * element, bits % 8 ? (void *)&narrow : (void *)&bits, element);
        } else {
            memcpy((char *)array + i * element, bits % 8 ? (void *)&value : (void *)&bits, element);
        }
    }
}

/* Both NaN, or the same bits, which go into the digest. */
static bool same_bits(const void *a, const void *b, size_t size, size_t element)
{
    for (size_t i = 0; i < size; i++) {
        const char *x = (const char *)a + i * element, *y = (const char *)b + i * element;
        bool both_nan;
        if (element == sizeof(float)) {
            float p, q;
            memcpy(&p, x, element);
            memcpy(&q, y, element);
            both_nan = isnan(p) && isnan(q);
        } else {
            double p, q;
            memcpy(&p, x, element);
            memcpy(&q, y, element);
            both_nan = isnan(p) && isnan(q);
        }
        if (!both_nan && memcmp(x, y, element) != 0)
            return false;
        if (!both_nan)
            digest_element(x, element);
    }
    return true;
}

static bool all_bytes(const unsigned char *bytes, size_t count, unsigned char value)
{
    for (size_t k = 0; k < count; k++)
        if (bytes[k] != value)
            return false;
    return true;
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

/* A few steps of one array at an odd address, between guards, beside the same steps of the reference. */
static void compare_steps(instep_optimizer optimizer, int dtype, size_t size, size_t offset)
{
    enum { ARRAYS = 2 + STATES };
    static unsigned char memory[ARRAYS][2 * GUARD + 8 + LARGEST_SIZE * sizeof(double)];
    static struct arrays expected;
    size_t element = dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
    void *place[ARRAYS], *twin[ARRAYS] = {expected.param, expected.grad};
    instep_array array = {.size = size, .dtype = dtype};
    struct options options = options_of(&optimizer);

    for (size_t k = 0; k < ARRAYS; k++) {
        memset(memory[k], 0xa5, sizeof memory[k]);
        place[k] = memory[k] + GUARD + offset;
        twin[k] = k < 2 ? twin[k] : expected.state[k - 2];
        fill(twin[k], size, element);
        memcpy(place[k], twin[k], size * element);
    }
    array.param = place[0];
    array.grad = place[1];
    memcpy(array.state, place + 2, instep_state_count(&optimizer) * sizeof(void *)); /* no other is looked at */

    for (int t = 1; t <= STEPS; t++) {
        EXPECT(instep_step(&optimizer, &array, 1) == INSTEP_OK);
        EXPECT(optimizer.step_count == t && array.step_count == t);
        if (dtype == INSTEP_FLOAT32)
            reference_f32(&options, t, size, twin[0], twin[1], (float *const *)(twin + 2));
        else
            reference_f64(&options, t, size, twin[0], twin[1], (double *const *)(twin + 2));
    }
    EXPECT(memcmp(place[1], twin[1], size * element) == 0);
    for (size_t k = 0; k < ARRAYS; k++) {
        EXPECT(same_bits(place[k], twin[k], size, element) || !flushes());
        EXPECT(all_bytes(memory[k], GUARD + offset, 0xa5));
        EXPECT(all_bytes((unsigned char *)place[k] + size * element, GUARD, 0xa5));
    }
}

static void compare_combination(instep_optimizer optimizer, size_t number)
{
    static const size_t sizes[] = {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, LARGEST_SIZE};
    size_t size = sizes[number % (sizeof sizes / sizeof sizes[0])], offset = number / 2 % 8;
    compare_steps(optimizer, INSTEP_FLOAT32, size, offset);
    compare_steps(optimizer, INSTEP_FLOAT64, size, offset);
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
        for (size_t rule = 0; instep_rule_name(rule); rule++)
            tried += for_every_combination(rule, compare_combination);
        printf("%s: %zu sets of options, digest %016llx\n", instep_isa_name(isa), tried, (unsigned long long)digest);
    }
    EXPECT(instep_set_isa("no such instruction set") == INSTEP_UNKNOWN_ISA);
    EXPECT(instep_set_isa(NULL) == INSTEP_OK);
    EXPECT(instep_isa_name(SIZE_MAX) == NULL && instep_isa_available(SIZE_MAX) == 0);
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

/* Every fault in the last of three arrays: what came before it is as it was. */
static void test_nothing_is_written(void)
{
    enum { FAULTS = 8 };
    static const int statuses[FAULTS] = {INSTEP_BAD_DTYPE,      INSTEP_BAD_STEP_COUNT, INSTEP_BAD_STEP_COUNT,
                                         INSTEP_BAD_SIZE,       INSTEP_NULL_ARGUMENT,  INSTEP_NULL_ARGUMENT,
                                         INSTEP_BAD_STEP_COUNT, INSTEP_OVERFLOWS};
    for (int fault = 0; fault < FAULTS; fault++) {
        instep_optimizer optimizer = made(), before;
        float p[3][2] = {{1, 2}, {3, 4}, {5, 6}}, g[2] = {1, 1}, v[3][2] = {{0}};
        float p_before[3][2], v_before[3][2];
        instep_array arrays[3];
        for (size_t k = 0; k < 3; k++)
            arrays[k] = (instep_array){.size = 2, .dtype = INSTEP_FLOAT32, .param = p[k], .grad = g, .state = {v[k]}};
        instep_array *last = &arrays[2];
        switch (fault) {
        case 0:
            last->dtype = 2;
            break;
        case 1:
            last->step_count = -1;
            break;
        case 2:
            last->step_count = INT64_MAX;
            break;
        case 3:
            last->size = SIZE_MAX;
            break;
        case 4:
            last->param = NULL;
            break;
        case 5:
            last->state[0] = NULL;
            break;
        case 6:
            optimizer.step_count = INT64_MAX;
            break;
        case 7:
            optimizer.option[0] = 1e300;
            break;
        }
        memcpy(p_before, p, sizeof p);
        memcpy(v_before, v, sizeof v);
        before = optimizer;
        EXPECT(instep_step(&optimizer, arrays, 3) == statuses[fault]);
        EXPECT(memcmp(&optimizer, &before, sizeof before) == 0);
        EXPECT(memcmp(p, p_before, sizeof p) == 0 && memcmp(v, v_before, sizeof v) == 0);
        EXPECT(arrays[0].step_count == 0 && arrays[1].step_count == 0);
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

static void test_threads(void)
{
    enum { SIZE = 1 << 19, THREADS = 4 };
    instep_optimizer optimizer = made();
    float *p[2], *g = malloc(SIZE * sizeof *g), *v[2];

    EXPECT(instep_set_threads(-1) == INSTEP_BAD_THREADS);
    EXPECT(instep_set_threads(257) == INSTEP_BAD_THREADS);
    EXPECT(instep_set_threads(0) == INSTEP_OK && instep_get_threads() >= 1);
    fill(g, SIZE, sizeof *g);
    for (int k = 0; k < 2; k++) {
        p[k] = calloc(SIZE, sizeof *p[k]);
        v[k] = calloc(SIZE, sizeof *v[k]);
        instep_array array = {.size = SIZE, .dtype = INSTEP_FLOAT32, .param = p[k], .grad = g, .state = {v[k]}};
        EXPECT(instep_set_threads(k ? THREADS : 1) == INSTEP_OK);
        EXPECT(instep_get_threads() == (k ? THREADS : 1));
        for (int t = 0; t < 10; t++)
            EXPECT(instep_step(&optimizer, &array, 1) == INSTEP_OK);
    }
    EXPECT(same_bits(p[0], p[1], SIZE, sizeof(float)));
    EXPECT(same_bits(v[0], v[1], SIZE, sizeof(float)));
    for (int k = 0; k < 2; k++) {
        free(p[k]);
        free(v[k]);
    }
    free(g);
}

/* Wherever a step is cut, also just before the line that is not full, each element is stepped once: equal elements stay
 * equal.  The lengths go through every remainder that a share can leave. */
static void test_every_cut(void)
{
    enum { LINE = 16, LEAST = 4 * 4096, LENGTHS = 140, SIZE = (LEAST + LENGTHS) * LINE };
    float *p = malloc(SIZE * sizeof *p), *g = malloc(SIZE * sizeof *g), *v = malloc(SIZE * sizeof *v);

    for (size_t i = 0; i < SIZE; i++)
        g[i] = 1;
    for (int threads = 3; threads <= 4; threads++) {
        instep_set_threads(threads);
        for (size_t lines = LEAST; lines < LEAST + LENGTHS; lines++) {
            size_t size = (lines - 1) * LINE + 3, odd = 0;
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
        fill(p[0], 5, sizeof(float));
        fill(g, 5, sizeof(float));
        fill(v[0], 5, sizeof(float));
        memcpy(p[1], p[0], sizeof p[0]);
        memcpy(v[1], v[0], sizeof v[0]);
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
        EXPECT(same_bits(p[0], p[1], 5, sizeof(float)));
        EXPECT(same_bits(v[0], v[1], 5, sizeof(float)));
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
    test_many_arrays();
    test_nothing_is_written();
    test_sizes_that_wrap();
    test_threads();
    test_every_cut();
    test_floating_point_mode();
    printf("%d failures\n", failures);
    return failures != 0;
}
