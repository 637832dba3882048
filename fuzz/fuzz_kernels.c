/* Differential fuzzing of the step: every instruction set against plain loops, for any rule, options, formats, values,
 * rows, sizes and addresses.  The arrays are allocated to the byte, so that the address sanitizer sees one element too
 * many. */
#define TWINS_GUARD 0
#include "twins.h"

#include "input.h"

enum { LARGEST_SIZE = 600, SOME_ROWS = 24, TRIED_STEPS = 2 };

static instep_optimizer take_optimizer(struct input *input)
{
    static const double numbers[] = {0, 0.5, 0.9, 0.99, 1e-3, 0.1, 1, 1e-8, 1e-38, 1e30, 0.999, 1.2};
    instep_optimizer optimizer;
    size_t rules = 0;

    while (instep_rule_name(rules))
        rules++;
    instep_init(&optimizer, instep_rule_name(take_byte(input) % rules), INSTEP_ABI_VERSION);
    for (size_t k = 0; instep_option_name(&optimizer, k); k++) {
        uint8_t choice = take_byte(input);
        double value = choice & 1;
        if (instep_option_range(&optimizer, k) != INSTEP_FLAG) {
            if (choice < 64 || (choice < 200 && instep_option_traits(&optimizer, k) & INSTEP_IS_AROUND))
                continue;
            if (choice < 250)
                value = numbers[choice % (sizeof numbers / sizeof numbers[0])];
            else
                take(input, &value, sizeof value);
        }
        instep_set(&optimizer, instep_option_name(&optimizer, k), value);
    }
    return optimizer;
}

/* Any bits, or near 1. */
static double next_of_any_bits(void *context)
{
    struct input *input = context;
    double value;
    if (take_byte(input) % 2 == 0) {
        uint32_t bits;
        take(input, &bits, sizeof bits);
        return (double)float_of_bits(bits);
    }
    take(input, &value, sizeof value);
    return value;
}

static double next_near_one(void *context)
{
    return (int8_t)take_byte(context) / 37.0;
}

/* An array in formats that each may have, which need not go together. */
static instep_array take_array(struct input *input, const instep_optimizer *optimizer, int64_t rows[SOME_ROWS])
{
    static const uint8_t of_param[] = {INSTEP_AS_COMPUTED, INSTEP_BFLOAT16, INSTEP_FLOAT16, INSTEP_SPLIT};
    static const uint8_t of_state[] = {INSTEP_AS_COMPUTED, INSTEP_BFLOAT16, INSTEP_BYTE, INSTEP_SIGNED_BYTE};
    static const char some_memory[1];
    static instep_norms some_norms;
    instep_array array = {
        .size = (take_byte(input) | (size_t)take_byte(input) << 8) % (LARGEST_SIZE + 1),
        .dtype = take_byte(input) % 2,
        .grad = some_memory,
        .step_count = take_byte(input),
        .norms = &some_norms,
    };
    take(input, &array.stream, sizeof array.stream);
    uint8_t narrow = take_byte(input);
    if (narrow & 1)
        array.formats.param = of_param[take_byte(input) % 4];
    if (narrow & 2)
        array.formats.grad = take_byte(input) % (INSTEP_FLOAT + 1);
    if (narrow & 4) {
        array.formats.copy = 1 + take_byte(input) % 2;
        array.copy = (void *)some_memory;
    }
    for (size_t s = 0; s < instep_state_count(optimizer); s++)
        if (narrow & 8)
            array.formats.state[s] = of_state[take_byte(input) % 4];
    if (narrow & 16) {
        array.rows = rows;
        array.row_size = 1 + take_byte(input) % 70;
        array.size -= array.size % array.row_size;
        for (size_t row = 0; row < array.size / array.row_size && array.row_count < SOME_ROWS; row++)
            if (take_byte(input) % 2)
                rows[array.row_count++] = (int64_t)row;
        array.row_steps = rows; /* as which it gets zeros */
    }
    return array;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const struct input whole = {bytes, length};

    for (size_t isa = 0; instep_isa_name(isa); isa++) {
        static struct twins twins;
        struct input input = whole;
        int64_t rows[SOME_ROWS];
        if (instep_set_isa(instep_isa_name(isa)) != INSTEP_OK)
            continue;
        instep_optimizer optimizer = take_optimizer(&input);
        instep_array array = take_array(&input, &optimizer, rows);
        size_t offset = take_byte(&input) % 8;
        next_number *next = take_byte(&input) % 2 ? next_of_any_bits : next_near_one;

        twins_begin(&twins, &optimizer, 1);
        twins_add(&twins, &array, offset, next, &input);
        for (int t = 0; t < TRIED_STEPS; t++) {
            if (instep_step(twins.optimizers[OURS], twins.arrays[OURS], 1) != INSTEP_OK)
                break; /* of what fuzz_arguments.c tries */
            reference_step(twins.optimizers[ITS_TWIN], 1, twins.arrays[ITS_TWIN], 1);
            const char *differs = twins_differ(&twins, true);
            if (differs != NULL) {
                fprintf(stderr, "%s: %s has other bits than the reference\n", instep_isa_name(isa), differs);
                abort();
            }
            twins_renew_gradients(&twins, next, &input);
        }
        twins_end(&twins);
    }
    return 0;
}
