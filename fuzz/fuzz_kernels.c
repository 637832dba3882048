/* Differential fuzzing of the loops: every instruction set against one plain loop, for any rule, options, values, sizes
 * and addresses.  The arrays are allocated to the byte, so that the address sanitizer sees one element too many. */
#define T float
#define NAME(name) name##_f32
#include "reference.h"
#define T double
#define NAME(name) name##_f64
#include "reference.h"

#include "input.h"

enum { ARRAYS = 2 + INSTEP_MAX_STATES, LARGEST_SIZE = 200 };

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
            if (choice < 64)
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

static bool same(const void *a, const void *b, size_t size, int dtype)
{
    if (dtype == INSTEP_FLOAT32) {
        float x, y;
        for (size_t i = 0; i < size; i++) {
            memcpy(&x, (const char *)a + i * sizeof x, sizeof x);
            memcpy(&y, (const char *)b + i * sizeof y, sizeof y);
            if (memcmp(&x, &y, sizeof x) != 0 && !(isnan(x) && isnan(y)))
                return false;
        }
    } else {
        double x, y;
        for (size_t i = 0; i < size; i++) {
            memcpy(&x, (const char *)a + i * sizeof x, sizeof x);
            memcpy(&y, (const char *)b + i * sizeof y, sizeof y);
            if (memcmp(&x, &y, sizeof x) != 0 && !(isnan(x) && isnan(y)))
                return false;
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {bytes, length};
    instep_optimizer optimizer = take_optimizer(&input);
    int dtype = take_byte(&input) & 1;
    size_t element = dtype == INSTEP_FLOAT32 ? sizeof(float) : sizeof(double);
    size_t size = take_byte(&input) % (LARGEST_SIZE + 1);
    size_t offset = take_byte(&input) % 8;
    bool any_bits = take_byte(&input) & 1;
    int64_t step_count = take_byte(&input);
    struct options options = options_of(&optimizer);
    void *start[ARRAYS], *expected[ARRAYS], *memory[ARRAYS], *place[ARRAYS];

    if (instep_check(&optimizer, dtype, NULL) != INSTEP_OK)
        return 0;
    for (size_t k = 0; k < ARRAYS; k++) {
        start[k] = calloc(size + 1, element);
        expected[k] = calloc(size + 1, element);
        memory[k] = malloc(offset + size * element);
        place[k] = (char *)memory[k] + offset;
        for (size_t i = 0; i < size; i++) {
            char *at = (char *)start[k] + i * element;
            if (any_bits) {
                take(&input, at, element);
            } else if (dtype == INSTEP_FLOAT32) {
                float value = (float)((int8_t)take_byte(&input) / 7.0 + (double)i / 3);
                memcpy(at, &value, element);
            } else {
                double value = (int8_t)take_byte(&input) / 7.0 + (double)i / 3;
                memcpy(at, &value, element);
            }
        }
        memcpy(expected[k], start[k], size * element);
    }
    if (dtype == INSTEP_FLOAT32)
        reference_f32(&options, step_count + 1, size, expected[0], expected[1], (float *const *)(expected + 2));
    else
        reference_f64(&options, step_count + 1, size, expected[0], expected[1], (double *const *)(expected + 2));

    for (size_t isa = 0; instep_isa_name(isa); isa++) {
        if (instep_set_isa(instep_isa_name(isa)) != INSTEP_OK)
            continue;
        instep_optimizer one = optimizer;
        instep_array array = {
            .size = size, .dtype = dtype, .param = place[0], .grad = place[1], .step_count = step_count};
        memcpy(array.state, place + 2, instep_state_count(&one) * sizeof(void *)); /* no other is looked at */
        for (size_t k = 0; k < ARRAYS; k++)
            memcpy(place[k], start[k], size * element);
        if (instep_step(&one, &array, 1) != INSTEP_OK || array.step_count != step_count + 1)
            abort();
        for (size_t k = 0; k < ARRAYS; k++) {
            if (same(place[k], expected[k], size, dtype))
                continue;
            fprintf(stderr, "%s: array %zu has other bits than the reference\n", instep_isa_name(isa), k);
            abort();
        }
    }
    for (size_t k = 0; k < ARRAYS; k++) {
        free(start[k]);
        free(expected[k]);
        free(memory[k]);
    }
    return 0;
}
